"""Files: their names in model and run folders, atomic writes, JSON, and local paths in text to be published."""

from __future__ import annotations

import errno
import glob
import json
import os
import re
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from cnnzoo.errors import CnnzooError, FileError
from cnnzoo.limits import MAX_DESCRIPTION_BYTES
from cnnzoo.text import parse_json

# The files of a model folder, and those that a training run adds.
CONFIG_FILE, WEIGHTS_FILE, CARD_FILE = "config.json", "model.safetensors", "README.md"
PREPROCESSOR_FILE = "preprocessor_config.json"  # of transformers
TRAIN_FILE, HISTORY_FILE, METRICS_FILE, CURVES_FILE = "train.json", "history.jsonl", "metrics.json", "curves.png"
CHECKPOINT_FILE, BEST_FILE = "checkpoint.safetensors", "best.safetensors"

_IS_WINDOWS = os.name == "nt"


@contextmanager
def atomic_write(path: Path) -> Iterator[IO[bytes]]:
    """Opens a file for writing that replaces ``path`` at the end, completely or not at all.

    An existing file keeps its permissions, and a link remains a link. What processes that were killed while they wrote
    the same file have left is removed.

    Raises:
        FileError: If the file cannot be written.
    """
    temporary = None
    try:
        target = Path(os.path.realpath(path))
        target.parent.mkdir(parents=True, exist_ok=True)
        remove_partial_files(target)
        mode = _permissions(target)
        file, temporary = _create_partial_file(target, is_private=mode is not None)
        with file:
            yield file
            file.flush()
            if mode is not None:
                os.chmod(temporary, mode)
            os.fsync(file.fileno())
            if _IS_WINDOWS:  # an open file cannot be renamed
                file.close()
            os.replace(temporary, target)
            temporary = None
    except CnnzooError:
        raise
    except (OSError, ValueError) as error:
        raise FileError(f"{path} cannot be written: {os_reason(error)}") from None
    finally:
        if temporary is not None:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)


def remove_partial_files(path: Path) -> None:
    """Removes what processes that were killed while they wrote ``path`` have left in its folder.

    What another process writes now remains, and what cannot be removed.
    """
    path = Path(os.path.realpath(path))
    for file in path.parent.glob(f".{glob.escape(path.name)}.*.part"):
        with suppress(OSError):
            with file.open("rb") as partial:
                _lock(partial)
                if not _IS_WINDOWS:  # an open file cannot be removed
                    file.unlink()
            file.unlink(missing_ok=True)


def _create_partial_file(target: Path, is_private: bool) -> tuple[IO[bytes], Path]:
    """Creates a file beside ``target`` that is locked while it is open; returns it, and its path.

    The system applies the umask, which Python cannot read without changing it for all threads.
    """
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
    while True:
        path = target.with_name(f".{target.name}.{secrets.token_hex(4)}.part")
        with suppress(FileExistsError):
            file = os.fdopen(os.open(path, flags, 0o600 if is_private else 0o666), "w+b")
            with suppress(OSError):  # such as a file system without locks
                _lock(file)
                if os.fstat(file.fileno()).st_nlink == 0:  # another process took it for one that was left
                    file.close()
            if not file.closed:
                return file, path


def _lock(file: IO[bytes]) -> None:
    """Locks an open file.

    Raises:
        OSError: If another process has locked it, or the file system has no locks.
    """
    if not _IS_WINDOWS:
        import fcntl

        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _permissions(path: Path) -> int | None:
    """Returns the permissions of a file; None if it does not exist.

    Raises:
        OSError: If it is something else than a file.
    """
    try:
        mode = os.stat(path).st_mode
    except FileNotFoundError:
        return None
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    if not stat.S_ISREG(mode):
        raise OSError("it is not a regular file")
    return stat.S_IMODE(mode)


def os_reason(error: Exception) -> object:
    """Returns the operating system's message for an error, without the number and the path."""
    return getattr(error, "strerror", None) or error


def exists(path: Path) -> bool:
    """Returns whether a file or folder exists.

    Raises:
        FileError: If the path is not valid: too long, or with characters that paths cannot have; or if its folder
            cannot be read.
    """
    try:
        path.stat()
        return True
    except (FileNotFoundError, NotADirectoryError):
        return False
    except (OSError, ValueError) as error:
        if getattr(error, "errno", None) == errno.ELOOP:  # a link to itself
            return False
        if isinstance(error, ValueError) or error.errno == errno.ENAMETOOLONG:
            raise FileError(f"{str(path)[:200]!r} is not a valid path: {error}") from None
        raise FileError(f"{path} cannot be read: {os_reason(error)}") from None


def require_new(path: Path, overwrite: bool) -> None:
    """Raises FileError if a file exists, and may not be replaced; of a folder, writing it says what is wrong."""
    if not overwrite and exists(path) and not path.is_dir():
        raise FileError(f"{path} exists already; name another file, or pass overwrite=True (--overwrite)")


def remove_file(path: Path) -> None:
    """Removes a file if it exists.

    Raises:
        FileError: If the file cannot be removed.
    """
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise FileError(f"{path} cannot be removed: {os_reason(error)}") from None


def write_json(path: Path, value: Any) -> None:
    """Writes a value as JSON, completely or not at all.

    Raises:
        FileError: If the file cannot be written.
    """
    with atomic_write(path) as file:
        file.write((json.dumps(value, indent=2) + "\n").encode())


def open_regular(path: Path) -> IO[bytes]:
    """Opens a regular file for reading; reading a pipe or a device could wait forever.

    Raises:
        OSError: If it cannot be opened, or is something else.
    """
    mode = path.stat().st_mode
    if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):  # open has an error for folders
        raise OSError("it is not a regular file")
    return path.open("rb")


def read_json(path: Path, max_bytes: int = MAX_DESCRIPTION_BYTES) -> dict[str, Any]:
    """Returns the object in a JSON file.

    Args:
        path: The file.
        max_bytes: Maximum size of the file.

    Raises:
        FileError: If the file cannot be read, is too large, or does not hold a JSON object.
    """
    try:
        with open_regular(path) as file:
            text = file.read(max_bytes + 1)
        value = parse_json(text, max_bytes)
    except FileError:
        raise
    except OSError as error:
        raise FileError(f"{path} cannot be read: {os_reason(error)}") from None
    except ValueError as error:
        raise FileError(f"{path} {error}") from None
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
