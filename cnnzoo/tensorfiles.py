"""A state dict as a safetensors file and back: canonical (same tensors, same bytes) and atomic."""

from __future__ import annotations

import hashlib
import json
import os
import struct
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import torch

from cnnzoo.errors import FileError, WeightsError
from cnnzoo.version import __version__

CONFIG = "config.json"
WEIGHTS = "model.safetensors"
KEY = "cnnzoo"  # our one key in the metadata of a safetensors file

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


def read_json(path: Path) -> dict[str, Any]:
    """Reads a JSON file that holds an object.

    Raises:
        FileError: If it is not there, or holds no JSON object.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
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


def weights_sha256(state: Mapping[str, torch.Tensor]) -> str:
    """Checksum of names, types, shapes and values, whatever stands in a file beside them."""
    digest = hashlib.sha256()
    for name in sorted(state):
        tensor = state[name]
        digest.update(json.dumps([name, _dtype_name(name, tensor), list(tensor.shape)]).encode())
        digest.update(_bytes_of(tensor))
    return digest.hexdigest()


def save_tensors(path: Path, state: Mapping[str, torch.Tensor], about: Mapping[str, Any] | None = None) -> None:
    """Writes tensors and what is to be said about them as one safetensors file.

    Tensors that are the same object under several names are stored once, under the first; the others stand
    as ``aliases`` in what is said.

    Args:
        path: Where to; an existing file is replaced at once and whole.
        state: The tensors by name.
        about: Plain values, kept under the metadata key ``cnnzoo`` as JSON.

    Raises:
        WeightsError: If a tensor cannot be stored.
        FileError: If the file cannot be written.
    """
    first: dict[tuple[int, tuple[int, ...], torch.dtype], str] = {}
    stored: dict[str, torch.Tensor] = {}
    aliases: dict[str, str] = {}
    for name in sorted(state):
        tensor = state[name]
        _dtype_name(name, tensor)
        same = (tensor.data_ptr(), tuple(tensor.shape), tensor.dtype)
        if tensor.numel() and same in first and state[first[same]].stride() == tensor.stride():
            aliases[name] = first[same]
        else:
            first.setdefault(same, name)
            stored[name] = tensor
    told = {**(about or {}), **({"aliases": aliases} if aliases else {})}
    header: dict[str, Any] = {"__metadata__": {KEY: json.dumps(told, sort_keys=True), "format": "pt"}}
    # the order of the stock writer: wide types first keeps every tensor aligned
    names = sorted(stored, key=lambda name: (-stored[name].element_size(), name))
    offset = 0
    for name in names:
        tensor = stored[name]
        size = tensor.numel() * tensor.element_size()
        header[name] = {
            "dtype": DTYPES[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [offset, offset + size],
        }
        offset += size
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with atomic_write(path) as file:
        file.write(struct.pack("<Q", len(text)))
        file.write(text)
        for name in names:
            file.write(_bytes_of(stored[name]))


def read_header(path: Path) -> tuple[dict[str, tuple[str, tuple[int, ...]]], dict[str, Any]]:
    """What a safetensors file holds, without reading its tensors.

    Returns:
        name -> (type, shape) of each tensor, and what is said about them (empty where the file is not ours).

    Raises:
        FileError: If the file is not there.
        WeightsError: If it is no whole safetensors file, or what is said in it is no JSON.
    """
    with _opened(path) as file:
        slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118, safe_open is no dict
        tensors = {name: (part.get_dtype(), tuple(part.get_shape())) for name, part in slices.items()}
        metadata = file.metadata() or {}
    try:
        about = json.loads(metadata.get(KEY, "{}"))
    except (ValueError, RecursionError) as problem:
        raise WeightsError(f"{path}: what the file says under {KEY!r} is no JSON: {problem}") from None
    if not isinstance(about, dict):
        raise WeightsError(f"{path}: what the file says under {KEY!r} is no object")
    return tensors, about


def load_tensors(path: Path) -> dict[str, torch.Tensor]:
    """The tensors of a safetensors file by name, aliases included, as copies in memory.

    Raises:
        FileError: If the file is not there.
        WeightsError: If it is no whole safetensors file.
    """
    _, about = read_header(path)
    with _opened(path) as file:
        state = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118, safe_open is no dict
    aliases = about.get("aliases", {})
    for name, of in aliases.items() if isinstance(aliases, dict) else ():
        if of not in state:
            raise WeightsError(f"{path}: {name!r} is an alias of {of!r}, which the file lacks")
        state[name] = state[of]
    return state


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            yield file
    except FileNotFoundError:
        raise FileError(f"{path} does not exist") from None
    except OSError as problem:
        raise FileError(f"{path} cannot be read: {problem}") from None
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
    checksum = weights_sha256(state)
    inner = {**description.get(KEY, {}), "weights_sha256": checksum}
    about = {**description, KEY: inner}
    if path.suffix == ".safetensors":
        save_tensors(path, state, about)
    else:
        save_tensors(path / WEIGHTS, state, about)
        # the version stands here alone: the weights file must not change with it
        write_json(path / CONFIG, {**about, KEY: {**inner, "version": __version__}})
    return checksum
