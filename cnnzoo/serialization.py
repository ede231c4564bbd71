"""A state dict as a safetensors file and back: canonical (same tensors, same bytes) and atomic."""

from __future__ import annotations

import hashlib
import json
import os
import struct
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import torch

from cnnzoo.errors import CnnzooError, FileError, WeightsError
from cnnzoo.files import CONFIG_FILE, WEIGHTS_FILE, atomic_write, open_regular, os_reason, write_json
from cnnzoo.limits import MAX_DESCRIPTION_BYTES, MAX_HEADER_BYTES
from cnnzoo.text import check_depth, parse_json
from cnnzoo.version import __version__

METADATA_KEY = "cnnzoo"  # our one key in the metadata of a safetensors file

_CHUNK_BYTES = 8 * 2**20  # of one chunk of a tensor, which is hashed on its own

DTYPES = {  # the names of torch's dtypes in safetensors
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.float8_e4m3fn: "F8_E4M3",
    torch.float8_e5m2: "F8_E5M2",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}

_DTYPE_OF_NAME = {name: dtype for dtype, name in DTYPES.items()}

TensorInfo = tuple[str, tuple[int, ...]]  # dtype and shape of a tensor, as in the header of a file


# --- checksums ---


def weights_sha256(state: Mapping[str, torch.Tensor] | Iterable[tuple[str, torch.Tensor]]) -> str:
    """Returns a checksum of names, dtypes, shapes and values, without the metadata.

    It is the SHA-256 of a JSON list without white space: for each tensor, sorted by name, ``[name, dtype, shape,
    [SHA-256 of each 8 MiB chunk of its bytes]]``. Chunks are hashed in parallel.

    Args:
        state: The tensors by name; or pairs (name, tensor) sorted by name, which are read while those before them are
            hashed.

    Raises:
        WeightsError: If a tensor has a dtype that is not stored, or is on the meta device.
    """
    entries: list[tuple[str, str, list[int], list[Future[str]]]] = []
    with ThreadPoolExecutor() as pool:  # hashlib releases the GIL
        for name, tensor in sorted(state.items()) if isinstance(state, Mapping) else state:
            dtype, content = _dtype_name(name, tensor), _byte_view(tensor)
            chunks = [content[start : start + _CHUNK_BYTES] for start in range(0, len(content), _CHUNK_BYTES)]
            digests = [pool.submit(_sha256, chunk) for chunk in chunks]
            entries.append((name, dtype, list(tensor.shape), digests))
    values = [[name, dtype, shape, [digest.result() for digest in digests]] for name, dtype, shape, digests in entries]
    return _sha256(json.dumps(values, separators=(",", ":")).encode())


def _sha256(content: bytes | memoryview) -> str:
    return hashlib.sha256(content).hexdigest()


def _byte_view(tensor: torch.Tensor) -> memoryview:
    flat = tensor.detach().to("cpu").contiguous().reshape(-1)
    return flat.view(torch.uint8).numpy().data if flat.numel() else memoryview(b"")


def require_storable(state: Mapping[str, Any]) -> None:
    """Raises WeightsError if a state dict holds what a file cannot."""
    for name, value in state.items():
        _dtype_name(name, value)


def _dtype_name(name: str, tensor: Any) -> str:
    if not isinstance(tensor, torch.Tensor):
        raise WeightsError(
            f"{name!r} in the state dict is a {type(tensor).__name__}, and cnnzoo stores tensors; keep what changes in "
            "a buffer (register_buffer) instead of get_extra_state"
        )
    if tensor.layout != torch.strided:
        raise WeightsError(f"tensor {name!r} is sparse, which cnnzoo does not store; convert it with tensor.to_dense()")
    if tensor.dtype not in DTYPES:
        raise WeightsError(
            f"tensor {name!r} has the dtype {tensor.dtype}, which cnnzoo does not store; convert it, such as with "
            "tensor.float()"
        )
    if tensor.device.type == "meta":
        raise WeightsError(
            f"tensor {name!r} is on the meta device and holds no values; create the network on another device"
        )
    return DTYPES[tensor.dtype]


# --- writing ---


def save_tensors(
    path: Path, state: Mapping[str, torch.Tensor], metadata: Mapping[str, Any] | None = None, *, checksum: bool = False
) -> str | None:
    """Writes tensors and metadata as one safetensors file.

    A tensor that has several names is stored once, under the first of them; the others are listed as ``aliases`` in the
    metadata.

    Args:
        path: The file; an existing one is replaced, completely or not at all.
        state: The tensors by name.
        metadata: Plain values, stored as JSON under the key ``cnnzoo`` of the file's metadata.
        checksum: Whether ``weights_sha256`` of the tensors is stored in ``metadata["cnnzoo"]``.

    Returns:
        The checksum, None without ``checksum``.

    Raises:
        WeightsError: If a tensor or the metadata cannot be stored.
        FileError: If the file cannot be written.
    """
    first_names: dict[tuple[int, tuple[int, ...], tuple[int, ...], torch.dtype], str] = {}
    tensors: dict[str, torch.Tensor] = {}
    aliases: dict[str, str] = {}
    for name in sorted(state):
        tensor = state[name]
        _dtype_name(name, tensor)
        identity = (tensor.data_ptr(), tuple(tensor.shape), tensor.stride(), tensor.dtype)
        if tensor.numel() and identity in first_names:
            aliases[name] = first_names[identity]
            tensors[name] = tensors[first_names[identity]]
        else:
            first_names.setdefault(identity, name)
            tensors[name] = tensor.detach().to("cpu").contiguous()
    values = {**(metadata or {}), **({"aliases": aliases} if aliases else {})}
    if checksum:
        values[METADATA_KEY] = {**values.get(METADATA_KEY, {}), "weights_sha256": "0" * 64}
    # the order of safetensors' own writer: wide dtypes first, so that every tensor is aligned
    names = sorted(tensors.keys() - aliases.keys(), key=lambda name: (-tensors[name].element_size(), name))
    header = _make_header(path, {name: tensors[name] for name in names}, values)
    with atomic_write(path) as file, ThreadPoolExecutor(max_workers=1) as pool:
        future = pool.submit(weights_sha256, tensors) if checksum else None  # hashed while the tensors are written
        file.write(header)
        for name in names:
            file.write(_byte_view(tensors[name]))
        if future is None:
            return None
        file.flush()
        os.fsync(file.fileno())  # the disk writes while the rest is hashed
        digest = values[METADATA_KEY]["weights_sha256"] = future.result()
        file.seek(0)
        file.write(_make_header(path, {name: tensors[name] for name in names}, values))
    return digest


def _make_header(path: Path, tensors: Mapping[str, torch.Tensor], metadata: Mapping[str, Any]) -> bytes:
    """Returns what precedes the tensors of a safetensors file: the length of the header, and the header."""
    try:
        metadata_text = json.dumps(metadata, sort_keys=True)
        check_depth(metadata)
    except (TypeError, ValueError) as error:
        raise WeightsError(
            f"{path}: the metadata cannot be stored as JSON ({error}); the provenance may hold numbers, strings, lists "
            "and dicts"
        ) from None
    header: dict[str, Any] = {"__metadata__": {METADATA_KEY: metadata_text, "format": "pt"}}
    offset = 0
    for name, tensor in tensors.items():
        end = offset + tensor.numel() * tensor.element_size()
        header[name] = {"dtype": DTYPES[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [offset, end]}
        offset = end
    text = json.dumps(header, separators=(",", ":")).encode()
    if len(metadata_text) > MAX_DESCRIPTION_BYTES or len(text) > MAX_HEADER_BYTES:
        raise WeightsError(
            f"{path}: the metadata would have {len(metadata_text):,} bytes and the header {len(text):,}, more than the "
            f"maximum of {MAX_DESCRIPTION_BYTES:,} and {MAX_HEADER_BYTES:,}; save the state dict with "
            "safetensors.torch.save_file instead"
        )
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text


def save_model(path: Path, state: Mapping[str, torch.Tensor], description: Mapping[str, Any]) -> str:
    """Writes a model as one file (``.safetensors``) or as a folder (config.json and model.safetensors).

    The weights are written first: if the process is killed before config.json is, the weights file is complete and
    describes itself.

    Args:
        path: A file name that ends in ``.safetensors``, or a folder.
        state: The weights.
        description: What ``model.describe()`` returns; it goes into the weights file and, in a folder, config.json.

    Returns:
        The checksum of the weights.

    Raises:
        WeightsError: If a tensor or the description cannot be stored.
        FileError: If a file cannot be written.
    """
    is_file = path.suffix == ".safetensors"
    checksum = save_tensors(path if is_file else path / WEIGHTS_FILE, state, description, checksum=True)
    assert checksum is not None
    if not is_file:
        # config.json alone has the version: the weights file must not change with it
        inner = {**description.get(METADATA_KEY, {}), "weights_sha256": checksum, "version": __version__}
        write_json(path / CONFIG_FILE, {**description, METADATA_KEY: inner})
    return checksum


# --- reading ---


def read_header(path: Path) -> tuple[dict[str, TensorInfo], dict[str, Any]]:
    """Returns what a safetensors file holds, without reading its tensors.

    Returns:
        name -> (dtype, shape) of each tensor, and the metadata that ``save_tensors`` stored (empty if another program
        wrote the file).

    Raises:
        FileError: If the file does not exist.
        WeightsError: If it is not a complete safetensors file, or its metadata is not JSON.
    """
    with _open_safetensors(path) as file:
        slices = ((name, file.get_slice(name)) for name in file.keys())  # noqa: SIM118, safe_open is not a dict
        infos = {name: (part.get_dtype(), tuple(part.get_shape())) for name, part in slices}
        text = (file.metadata() or {}).get(METADATA_KEY, "{}")
    try:
        metadata = parse_json(text, MAX_DESCRIPTION_BYTES)
    except ValueError as error:
        raise WeightsError(f"{path}: its metadata under {METADATA_KEY!r} {error}") from None
    if not isinstance(metadata, dict):
        raise WeightsError(f"{path}: its metadata under {METADATA_KEY!r} must be a JSON object")
    return infos, metadata


def load_tensors(path: Path, *, mmap: bool = False) -> dict[str, torch.Tensor]:
    """Returns the tensors of a safetensors file by name, aliases included.

    Args:
        path: The file.
        mmap: Whether the tensors stay in the file and are read on first use, instead of being copied. Writing to them
            does not change the file; truncating the file kills the process.

    Raises:
        FileError: If the file does not exist.
        WeightsError: If it is not a complete safetensors file.
    """
    _, metadata = read_header(path)
    return dict(iter_tensors(path, read_aliases(path, metadata), mmap=mmap))


def load_verified(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """Returns the tensors of a file that ``save_tensors`` wrote with a checksum, and its metadata.

    Raises:
        FileError: If the file does not exist.
        WeightsError: If it is not a complete safetensors file, or the checksum differs.
    """
    _, metadata = read_header(path)
    tensors = dict(iter_tensors(path, read_aliases(path, metadata)))
    inner = metadata.get(METADATA_KEY)
    if not isinstance(inner, dict) or "weights_sha256" not in inner:
        raise WeightsError(f"{path} has no checksum of its tensors")
    if weights_sha256(tensors) != inner["weights_sha256"]:
        raise WeightsError(f"{path} is damaged: its tensors do not have the checksum that it states")
    return tensors, metadata


def read_aliases(path: Path, metadata: Mapping[str, Any]) -> dict[str, str]:
    """Returns alias -> name of a stored tensor, from the metadata of a file.

    Args:
        path: The file, for the error.
        metadata: What ``read_header`` returns of it.

    Raises:
        WeightsError: If the aliases are not names.
    """
    aliases = metadata.get("aliases", {})
    if not isinstance(aliases, dict) or not all(isinstance(name, str) for name in aliases.values()):
        raise WeightsError(f"{path}: the aliases in its metadata must be names of tensors")
    return aliases


def iter_tensors(path: Path, aliases: Mapping[str, str], *, mmap: bool = False) -> Iterator[tuple[str, torch.Tensor]]:
    """Yields (name, tensor) of a safetensors file, sorted by name; see ``load_tensors`` for arguments and errors."""
    tensors: dict[str, torch.Tensor] = {}
    with _open_safetensors(path) as file, ExitStack() as stack:
        read = file.get_tensor if mmap else stack.enter_context(_TensorReader(path)).read
        stored_names = set(file.keys())
        for name in sorted({*stored_names, *aliases}):
            stored_name = aliases.get(name, name)
            if stored_name not in stored_names:
                raise WeightsError(f"{path}: {name!r} is an alias of {stored_name!r}, which is not in the file")
            if stored_name not in tensors:
                tensors[stored_name] = read(stored_name)
            yield name, tensors[stored_name]


class _TensorReader:
    """Reads the tensors of a file into memory without mapping it, whose truncation would then kill the process.

    Args:
        path: A safetensors file, whose header has been checked.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> _TensorReader:
        self._file = open_regular(self._path)
        length = int.from_bytes(self._file.read(8), "little")
        header = self._file.read(min(length, MAX_HEADER_BYTES))
        try:
            self._entries = parse_json(header, MAX_HEADER_BYTES)
        except ValueError as error:  # the file has changed since it was checked
            self._file.close()
            raise WeightsError(f"{self._path} is not a complete safetensors file: its header {error}") from None
        self._start = 8 + length
        return self

    def __exit__(self, *exception: object) -> None:
        self._file.close()

    def read(self, name: str) -> torch.Tensor:
        """Returns a tensor by its stored name."""
        entry = self._entries[name]
        if entry["dtype"] not in _DTYPE_OF_NAME:
            raise WeightsError(
                f"{self._path}: tensor {name!r} has the dtype {entry['dtype']}, which cnnzoo does not read"
            )
        tensor = torch.empty(entry["shape"], dtype=_DTYPE_OF_NAME[entry["dtype"]], device="cpu")
        self._file.seek(self._start + entry["data_offsets"][0])
        content, length = _byte_view(tensor), 0
        while length < len(content) and (number := self._file.readinto(content[length:])):  # type: ignore[attr-defined]
            length += number
        if length < len(content):
            raise WeightsError(f"{self._path} is not a complete safetensors file: it became shorter while it was read")
        return tensor


@contextmanager
def _open_safetensors(path: Path) -> Iterator[Any]:
    from safetensors import SafetensorError, safe_open

    try:
        with open_regular(path) as raw:
            length = int.from_bytes(raw.read(8), "little")
        if MAX_HEADER_BYTES < length <= path.stat().st_size:
            raise WeightsError(
                f"{path} has a header of {length:,} bytes, more than the maximum of {MAX_HEADER_BYTES:,}; cnnzoo does "
                "not write such headers"
            )
        with safe_open(path, framework="pt") as file:
            yield file
    except CnnzooError:
        raise
    except FileNotFoundError:
        raise FileError(f"{path} does not exist") from None
    except (OSError, ValueError) as error:
        raise FileError(f"{path} cannot be read: {os_reason(error)}") from None
    except SafetensorError as error:
        raise WeightsError(f"{path} is not a complete safetensors file: {error}; save or download it again") from None
