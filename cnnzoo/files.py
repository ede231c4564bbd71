"""Files: their names in model and run folders, atomic writes, JSON, and local paths in text to be published."""

from __future__ import annotations

import glob
import json
import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from cnnzoo.errors import FileError

# The files of a model folder, and those that a training run adds.
CONFIG_FILE, WEIGHTS_FILE, CARD_FILE = "config.json", "model.safetensors", "README.md"
TRAIN_FILE, HISTORY_FILE, METRICS_FILE, CURVES_FILE = "train.json", "history.jsonl", "metrics.json", "curves.png"
CHECKPOINT_FILE, BEST_FILE = "checkpoint.safetensors", "best.safetensors"

# JSON is parsed before it can be checked, so its size is limited. The description of a thousand convolutions has
# 200 kB; JSON that is all brackets takes thirty times its size in memory.
MAX_DESCRIPTION_BYTES = 3 * 2**19  # of config.json, and of the JSON in the metadata of a weights file


@contextmanager
def atomic_write(path: Path) -> Iterator[IO[bytes]]:
    """Opens a file for writing that replaces ``path`` at the end, completely or not at all.

    Raises:
        FileError: If the file cannot be written.
    """
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
        temporary = Path(name)
        with os.fdopen(handle, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        mask = os.umask(0)
        os.umask(mask)
        temporary.chmod(0o666 & ~mask)
        os.replace(temporary, path)
    except (OSError, ValueError) as error:
        raise FileError(f"{path} cannot be written: {os_reason(error)}") from None
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def remove_partial_files(path: Path) -> None:
    """Removes what processes that were killed while they wrote ``path`` have left in its folder.

    Raises:
        FileError: If a file cannot be removed.
    """
    for file in path.parent.glob(f".{glob.escape(path.name)}.*.part"):
        remove_file(file)


def os_reason(error: Exception) -> object:
    """Returns the operating system's message for an error, without the number and the path."""
    return getattr(error, "strerror", None) or error


def exists(path: Path) -> bool:
    """Returns whether a file or folder exists.

    Raises:
        FileError: If the path is not valid: too long, or with characters that paths cannot have.
    """
    try:
        return path.exists()
    except (OSError, ValueError) as error:
        raise FileError(f"{str(path)[:200]!r} is not a valid path: {error}") from None


def remove_file(path: Path) -> None:
    """Removes a file if it exists.

    Raises:
        FileError: If the file cannot be removed.
    """
    try:
        if exists(path):
            path.unlink()
    except OSError as error:
        raise FileError(f"{path} cannot be removed: {os_reason(error)}") from None


def write_json(path: Path, value: Any) -> None:
    """Writes a value as JSON, completely or not at all.

    Raises:
        FileError: If the file cannot be written.
    """
    with atomic_write(path) as file:
        file.write((json.dumps(value, indent=2) + "\n").encode())


def read_json(path: Path, max_bytes: int = MAX_DESCRIPTION_BYTES) -> dict[str, Any]:
    """Returns the object in a JSON file.

    Args:
        path: The file.
        max_bytes: Maximum size of the file.

    Raises:
        FileError: If the file cannot be read, is too large, or does not hold a JSON object.
    """
    try:
        with path.open("rb") as file:
            text = file.read(max_bytes + 1)
        if len(text) > max_bytes:
            raise FileError(f"{path} has more than {max_bytes:,} bytes; cnnzoo does not write files of this size")
        value = json.loads(text)
    except FileError:
        raise
    except OSError as error:
        raise FileError(f"{path} cannot be read: {os_reason(error)}") from None
    except (ValueError, RecursionError) as error:
        raise FileError(f"{path} is not valid JSON: {error}") from None
    if not isinstance(value, dict):
        raise FileError(f"{path} must hold a JSON object, not a {type(value).__name__}")
    return value


def cache_folder() -> Path:
    """Returns the folder for what can be downloaded or computed again: ``~/.cache/cnnzoo``, or in XDG_CACHE_HOME."""
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "cnnzoo"


def strip_local_paths(text: str) -> str:
    """Returns text with paths from the root or the home folder cut to their last part.

    ``"folder:/home/ann/shoes"`` becomes ``"folder:shoes"``: published files must not name folders of this machine.
    """
    return text if "://" in text else re.sub(r"(^|[:=])(?:~|/)(?:[^:=]*/)?(?=[^/])", r"\1", text.rstrip("/"))
