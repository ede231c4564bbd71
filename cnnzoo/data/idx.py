"""The IDX format of MNIST: a big-endian header, then bytes, in four files for images and labels of two splits."""

from __future__ import annotations

import gzip
import math
import os
import struct
import zlib
from pathlib import Path
from typing import IO

import torch

from cnnzoo.data.datasets import ImageData, Split
from cnnzoo.errors import DataError
from cnnzoo.files import open_regular, os_reason
from cnnzoo.limits import MAX_IDX_COMPRESSION, MIN_IDX_BYTES_REFUSED

IDX_FILES = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")
_UINT8 = 8  # the code of unsigned bytes in the header
_CHUNK_BYTES = 2**20


def find_idx_file(folder: Path, name: str) -> Path | None:
    """Returns the path of an IDX file in a folder, gzipped (``name.gz``) or plain; None if there is none."""
    return next((path for path in (folder / f"{name}.gz", folder / name) if os.path.isfile(path)), None)


def read_idx_folder(name: str, folder: Path, classes: tuple[str, ...]) -> ImageData:
    """Returns the data set in the four files ``IDX_FILES`` of a folder.

    Args:
        name: Name of the data set.
        folder: The folder.
        classes: Name of each class.

    Raises:
        DataError: If a file is missing or damaged, or images and labels differ in number.
    """
    splits = []
    for images_name, labels_name in (IDX_FILES[:2], IDX_FILES[2:]):
        images_path, labels_path = find_idx_file(folder, images_name), find_idx_file(folder, labels_name)
        if images_path is None or labels_path is None:
            raise DataError(f"{name}: {folder} lacks {images_name} or {labels_name} (.gz)")
        images = read_idx(images_path, dims=3).unsqueeze(1)
        labels = read_idx(labels_path, dims=1).long()
        if len(images) != len(labels):
            raise DataError(f"{images_path} holds {len(images)} images, but {labels_path.name} {len(labels)} labels")
        splits.append(Split(images, labels))
    return ImageData(name, splits[0], splits[1], classes)


def read_idx(path: Path, dims: int) -> torch.Tensor:
    """Returns the content of an IDX file, plain or gzipped, as uint8.

    Args:
        path: The file.
        dims: Number of dimensions that it must have.

    Raises:
        DataError: If the file cannot be read, is truncated, or is not an IDX file of bytes of ``dims`` dimensions.
    """
    try:
        with _open(path) as file:
            header = file.read(4 + 4 * dims)
            if len(header) < 4 + 4 * dims or header[:4] != bytes([0, 0, _UINT8, dims]):
                raise DataError(
                    f"{path} is not an IDX file of bytes of {dims} dimensions; it starts with "
                    f"{header[:4].hex() or 'nothing'}"
                )
            shape = struct.unpack(f">{dims}I", header[4:])
            size, declared = math.prod(shape), " x ".join(map(str, shape))
            if not size:
                raise DataError(f"{path} declares {declared} bytes: it holds no {'images' if dims > 1 else 'labels'}")
            stored = path.stat().st_size
            if size > max(MIN_IDX_BYTES_REFUSED, MAX_IDX_COMPRESSION * stored):
                raise DataError(
                    f"{path} declares {declared} = {size:,} bytes, more than {MAX_IDX_COMPRESSION} times its size of "
                    f"{stored:,}; it is damaged, download it again"
                )
            content = torch.empty(size, dtype=torch.uint8, device="cpu")
            length = _read_into(file, content.numpy().data)
            if length != size or file.read(1):
                holds = f"{length:,}" if length < size else "more"
                raise DataError(
                    f"{path} declares {declared} = {size:,} bytes, but holds {holds}; it is truncated or damaged, "
                    "download it again"
                )
    except (OSError, EOFError, zlib.error) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(
            f"{path} cannot be read: {os_reason(error)}; it is damaged or truncated, download it again"
        ) from None
    return content.reshape(shape)


def _open(path: Path) -> IO[bytes]:
    """Opens a regular file, gzipped or plain."""
    with open_regular(path) as file:
        is_gzipped = file.read(2) == b"\x1f\x8b"
    return gzip.open(path) if is_gzipped else path.open("rb")  # type: ignore[return-value]


def _read_into(file: IO[bytes], buffer: memoryview) -> int:
    """Fills a buffer from a file; returns the number of bytes."""
    length = 0
    while number := file.readinto(buffer[length : length + _CHUNK_BYTES]):  # type: ignore[attr-defined]
        length += number
    return length


def write_idx_folder(data: ImageData, folder: Path, compresslevel: int = 9) -> None:
    """Writes a data set of images of one channel as the four files ``IDX_FILES``, gzipped reproducibly.

    Args:
        data: The data set.
        folder: The folder, which is created if necessary.
        compresslevel: Compression level of gzip, from 0 to 9.
    """
    folder.mkdir(parents=True, exist_ok=True)
    tensors = (data.train.images.squeeze(1), data.train.labels, data.test.images.squeeze(1), data.test.labels)
    for name, tensor in zip(IDX_FILES, tensors, strict=True):
        header = bytes([0, 0, _UINT8, tensor.dim()]) + struct.pack(f">{tensor.dim()}I", *tensor.shape)
        content = header + tensor.to(torch.uint8).contiguous().numpy().tobytes()
        (folder / f"{name}.gz").write_bytes(gzip.compress(content, compresslevel=compresslevel, mtime=0))
