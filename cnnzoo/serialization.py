"""A state dict as a safetensors file and back: canonical (same tensors, same bytes) and atomic."""

from __future__ import annotations

import hashlib
import json
import os
import re
import struct
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import torch

from cnnzoo.errors import CnnzooError, FileError, WeightsError
from cnnzoo.version import __version__

# The files of a model folder, and those that a training run leaves beside them.
CONFIG_FILE, WEIGHTS_FILE = "config.json", "model.safetensors"
TRAIN_FILE, HISTORY_FILE, METRICS_FILE, CURVES_FILE = "train.json", "history.jsonl", "metrics.json", "curves.png"
CHECKPOINT_FILE, BEST_FILE = "checkpoint.safetensors", "best.safetensors"

METADATA_KEY = "cnnzoo"  # our one key in the metadata of a safetensors file

# What is said in a file is read before anything of it can be judged. A thousand convolutions say 200 kB of
# themselves, and JSON that is all brackets takes thirty times its size in memory.
MAX_DESCRIPTION_BYTES = 3 * 2**19  # bytes of JSON: of config.json, or under our key
MAX_HEADER_BYTES = 4 * 2**20  # bytes of JSON before the tensors of a safetensors file

DTYPES = {  # torch's types, as safetensors calls them
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}


@contextmanager
def atomic_write(path: Path) -> Iterator[IO[bytes]]:
    """A file that appears under its name whole, or not at all.

    Raises:
        FileError: If it cannot be written.
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
    except (OSError, ValueError) as problem:
        raise FileError(f"{path} cannot be written: {getattr(problem, 'strerror', None) or problem}") from None
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def exists(path: Path) -> bool:
    """Whether there is something at a path.

    Raises:
        FileError: If the path is none (too long, or with characters that no path has).
    """
    try:
        return path.exists()
    except (OSError, ValueError) as problem:
        raise FileError(f"{str(path)[:200]!r} is no path: {problem}") from None


def remove_file(path: Path) -> None:
    """Removes a file, if it is there.

    Raises:
        FileError: If it cannot be removed.
    """
    try:
        if exists(path):
            path.unlink()
    except OSError as problem:
        raise FileError(f"{path} cannot be removed: {problem.strerror or problem}") from None


def write_json(path: Path, value: Any) -> None:
    """Writes a value as JSON, whole or not at all."""
    with atomic_write(path) as file:
        file.write((json.dumps(value, indent=2) + "\n").encode())


def read_json(path: Path, most: int = MAX_DESCRIPTION_BYTES) -> dict[str, Any]:
    """Reads a JSON file that holds an object.

    Args:
        path: The file.
        most: How many bytes are read at most; by default what a description of a network may have.

    Raises:
        FileError: If it is not there, is too large to be one of ours, or holds no JSON object.
    """
    try:
        with path.open("rb") as file:
            text = file.read(most + 1)
        if len(text) > most:
            raise FileError(f"{path} has more than {most:,} bytes, and is none of ours")
        value = json.loads(text)
    except FileError:
        raise
    except OSError as problem:
        raise FileError(f"{path} cannot be read: {problem.strerror or problem}") from None
    except (ValueError, RecursionError) as problem:
        raise FileError(f"{path} is no JSON: {problem}") from None
    if not isinstance(value, dict):
        raise FileError(f"{path} holds no JSON object, but a {type(value).__name__}")
    return value


def _bytes_of(tensor: torch.Tensor) -> memoryview:
    flat = tensor.detach().to("cpu").contiguous().reshape(-1)
    return flat.view(torch.uint8).numpy().data if flat.numel() else memoryview(b"")


def _dtype_name(name: str, tensor: torch.Tensor) -> str:
    if tensor.dtype not in DTYPES:
        raise WeightsError(f"tensor {name!r} is of {tensor.dtype}, which is not stored; convert it first")
    if tensor.device.type == "meta":
        raise WeightsError(f"tensor {name!r} is on the meta device and holds no values")
    return DTYPES[tensor.dtype]


def weights_sha256(state: Mapping[str, torch.Tensor] | Iterable[tuple[str, torch.Tensor]]) -> str:
    """Checksum of names, types, shapes and values, whatever stands in a file beside them.

    The SHA-256 of a JSON list without white space: for each tensor, sorted by name, ``[name, type, shape, [SHA-256 of
    each 8 MiB of its bytes]]``. Pieces are added up on all cores at once.

    Args:
        state: The tensors by name; or pairs of both, sorted by name, of which each is asked for while those before it
            are added up.
    """
    told: list[tuple[str, str, list[int], list[Future[str]]]] = []
    with ThreadPoolExecutor() as pool:  # hashlib lets go of the interpreter
        for name, tensor in sorted(state.items()) if isinstance(state, Mapping) else state:
            dtype, content = _dtype_name(name, tensor), _bytes_of(tensor)
            pieces = [content[at : at + _PIECE] for at in range(0, len(content), _PIECE)]
            sums = [pool.submit(_sha256, piece) for piece in pieces]
            told.append((name, dtype, list(tensor.shape), sums))
    listed = [[name, dtype, shape, [one.result() for one in sums]] for name, dtype, shape, sums in told]
    return _sha256(json.dumps(listed, separators=(",", ":")).encode())


_PIECE = 8 * 2**20  # bytes


def _sha256(content: bytes | memoryview) -> str:
    return hashlib.sha256(content).hexdigest()


def save_tensors(
    path: Path, state: Mapping[str, torch.Tensor], about: Mapping[str, Any] | None = None, *, checksum: bool = False
) -> str | None:
    """Writes tensors and what is to be said about them as one safetensors file.

    Tensors that are the same object under several names are stored once, under the first; the others stand
    as ``aliases`` in what is said.

    Args:
        path: Where to; an existing file is replaced at once and whole.
        state: The tensors by name.
        about: Plain values, kept under the metadata key ``cnnzoo`` as JSON.
        checksum: Whether ``weights_sha256`` of the tensors is put into ``about["cnnzoo"]``.

    Returns:
        The checksum, where it is asked for.

    Raises:
        WeightsError: If a tensor, or what is to be said, cannot be stored.
        FileError: If the file cannot be written.
    """
    first: dict[tuple[int, tuple[int, ...], tuple[int, ...], torch.dtype], str] = {}
    plain: dict[str, torch.Tensor] = {}
    aliases: dict[str, str] = {}
    for name in sorted(state):
        tensor = state[name]
        _dtype_name(name, tensor)
        same = (tensor.data_ptr(), tuple(tensor.shape), tensor.stride(), tensor.dtype)
        if tensor.numel() and same in first:
            aliases[name] = first[same]
            plain[name] = plain[first[same]]
        else:
            first.setdefault(same, name)
            plain[name] = tensor.detach().to("cpu").contiguous()
    told = {**(about or {}), **({"aliases": aliases} if aliases else {})}
    if checksum:
        told[METADATA_KEY] = {**told.get(METADATA_KEY, {}), "weights_sha256": "0" * 64}
    # the order of the stock writer: wide types first keeps every tensor aligned
    names = sorted(plain.keys() - aliases.keys(), key=lambda name: (-plain[name].element_size(), name))
    head = _head(path, {name: plain[name] for name in names}, told)
    with atomic_write(path) as file, ThreadPoolExecutor(max_workers=1) as pool:
        sum_up = pool.submit(weights_sha256, plain) if checksum else None  # while the tensors are written
        file.write(head)
        for name in names:
            file.write(_bytes_of(plain[name]))
        if sum_up is None:
            return None
        file.flush()
        os.fsync(file.fileno())  # the disk is busy while the sum is finished
        found = told[METADATA_KEY]["weights_sha256"] = sum_up.result()
        file.seek(0)
        file.write(_head(path, {name: plain[name] for name in names}, told))
    return found


def _head(path: Path, tensors: Mapping[str, torch.Tensor], told: Mapping[str, Any]) -> bytes:
    """What stands before the tensors of a safetensors file: its length, and what they are."""
    try:
        said = json.dumps(told, sort_keys=True)
    except (TypeError, ValueError) as problem:
        raise WeightsError(
            f"{path} cannot say what its network's notes hold ({problem}); keep to numbers, words, lists and dicts"
        ) from None
    header: dict[str, Any] = {"__metadata__": {METADATA_KEY: said, "format": "pt"}}
    offset = 0
    for name, tensor in tensors.items():
        end = offset + tensor.numel() * tensor.element_size()
        header[name] = {"dtype": DTYPES[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [offset, end]}
        offset = end
    text = json.dumps(header, separators=(",", ":")).encode()
    if len(said) > MAX_DESCRIPTION_BYTES or len(text) > MAX_HEADER_BYTES:
        raise WeightsError(
            f"{path} would say {len(said):,} bytes of the network and {len(text):,} in all, more than the "
            f"{MAX_DESCRIPTION_BYTES:,} and {MAX_HEADER_BYTES:,} that are read back; save its tensors with safetensors alone"
        )
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text


TensorInfo = tuple[str, tuple[int, ...]]  # type and shape of a tensor, as in a header


def read_header(path: Path) -> tuple[dict[str, TensorInfo], dict[str, Any]]:
    """What a safetensors file holds, without reading its tensors.

    Returns:
        name -> (type, shape) of each tensor, and what is said about them (empty where the file is not ours).

    Raises:
        FileError: If the file is not there.
        WeightsError: If it is no whole safetensors file, or what is said in it is no JSON.
    """
    with _opened(path) as file:
        slices = ((name, file.get_slice(name)) for name in file.keys())  # noqa: SIM118, safe_open is no dict
        tensors = {name: (part.get_dtype(), tuple(part.get_shape())) for name, part in slices}
        said = (file.metadata() or {}).get(METADATA_KEY, "{}")
    try:
        about = json.loads(said) if len(said) <= MAX_DESCRIPTION_BYTES else None
    except (ValueError, RecursionError) as problem:
        raise WeightsError(f"{path}: what the file says under {METADATA_KEY!r} is no JSON: {problem}") from None
    if not isinstance(about, dict):
        raise WeightsError(
            f"{path}: what the file says under {METADATA_KEY!r} is no object of at most {MAX_DESCRIPTION_BYTES:,} bytes"
        )
    return tensors, about


def load_tensors(path: Path, *, mmap: bool = False) -> dict[str, torch.Tensor]:
    """The tensors of a safetensors file by name, aliases included.

    Args:
        path: The file.
        mmap: Whether they stay in the file, and are read when they are used, instead of being copied. What is written
            into them does not go to the file; who cuts the file short kills the process.

    Raises:
        FileError: If the file is not there.
        WeightsError: If it is no whole safetensors file.
    """
    _, about = read_header(path)
    return dict(iter_tensors(path, read_aliases(path, about), mmap=mmap))


def read_aliases(path: Path, about: Mapping[str, Any]) -> dict[str, str]:
    """The names that stand for other names, as what is said in a file tells them.

    Raises:
        WeightsError: If they are none.
    """
    aliases = about.get("aliases", {})
    if not isinstance(aliases, dict) or not all(isinstance(of, str) for of in aliases.values()):
        raise WeightsError(f"{path}: the aliases in its header are not names of tensors")
    return aliases


def iter_tensors(path: Path, aliases: Mapping[str, str], *, mmap: bool = False) -> Iterator[tuple[str, torch.Tensor]]:
    """The tensors of a safetensors file one after the other, sorted by name; see ``load_tensors``."""
    held: dict[str, torch.Tensor] = {}
    with _opened(path) as file:
        stored = set(file.keys())
        for name in sorted({*stored, *aliases}):
            of = aliases.get(name, name)
            if of not in stored:
                raise WeightsError(f"{path}: {name!r} is an alias of {of!r}, which the file lacks")
            if of not in held:
                held[of] = file.get_tensor(of) if mmap else file.get_tensor(of).clone()
            yield name, held[of]


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    from safetensors import SafetensorError, safe_open

    try:
        with path.open("rb") as begin:
            length = int.from_bytes(begin.read(8), "little")
        if MAX_HEADER_BYTES < length <= path.stat().st_size:
            raise WeightsError(
                f"{path} has a header of {length:,} bytes, and at most {MAX_HEADER_BYTES:,} are read; no network of the zoo "
                "says so much"
            )
        with safe_open(path, framework="pt") as file:
            yield file
    except CnnzooError:
        raise
    except FileNotFoundError:
        raise FileError(f"{path} does not exist") from None
    except (OSError, ValueError) as problem:
        raise FileError(f"{path} cannot be read: {getattr(problem, 'strerror', None) or problem}") from None
    except SafetensorError as problem:
        raise WeightsError(f"{path} is no whole safetensors file: {problem}; save or fetch it again") from None


def save_model(path: Path, state: Mapping[str, torch.Tensor], description: Mapping[str, Any]) -> str:
    """Writes a model as one file (``.safetensors``) or as a folder (config.json and model.safetensors).

    Weights first, config last: a kill between the two leaves a whole weights file that describes itself.

    Args:
        path: A file name that ends in ``.safetensors``, or a folder.
        state: The weights.
        description: What ``model.describe()`` says; it goes into the file and, in a folder, into config.json.

    Returns:
        The checksum of the weights.
    """
    single = path.suffix == ".safetensors"
    checksum = save_tensors(path if single else path / WEIGHTS_FILE, state, description, checksum=True)
    assert checksum is not None
    if not single:
        # the version stands here alone: the weights file must not change with it
        told = {**description.get(METADATA_KEY, {}), "weights_sha256": checksum, "version": __version__}
        write_json(path / CONFIG_FILE, {**description, METADATA_KEY: told})
    return checksum


def strip_local_paths(text: str) -> str:
    """Returns text with paths from the root or the home folder cut to their last part.

    ``"folder:/home/ann/shoes"`` becomes ``"folder:shoes"``: published files must not name folders of this machine.
    """
    return text if "://" in text else re.sub(r"(^|[:=])(?:~|/)(?:[^:=]*/)?(?=[^/])", r"\1", text.rstrip("/"))
