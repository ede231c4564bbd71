"""The IDX format of MNIST: a big-endian header, then bytes, in four files for images and labels of two splits."""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from pathlib import Path

import torch

from cnnzoo.data.datasets import ImageData, Split
from cnnzoo.errors import DataError

IDX_FILES = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")
_UINT8 = 8  # the code of unsigned bytes in the header


def find_idx_file(folder: Path, name: str) -> Path | None:
    """Returns the path of an IDX file in a folder, gzipped (``name.gz``) or plain; None if there is none."""
    return next((path for path in (folder / f"{name}.gz", folder / name) if path.is_file()), None)


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
        raw = path.read_bytes()
        content = gzip.decompress(raw) if raw[:2] == b"\x1f\x8b" else raw
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path} cannot be read: {error}; it is damaged or truncated, download it again") from None
    header_size = 4 + 4 * dims
    if len(content) < header_size or content[:4] != bytes([0, 0, _UINT8, dims]):
        raise DataError(
            f"{path} is not an IDX file of bytes of {dims} dimensions; it starts with {content[:4].hex() or 'nothing'}"
        )
    shape = struct.unpack(f">{dims}I", content[4:header_size])
    if len(content) - header_size != math.prod(shape):
        raise DataError(
            f"{path} declares {' x '.join(map(str, shape))} = {math.prod(shape):,} bytes, but holds "
            f"{len(content) - header_size:,}; it is truncated or damaged, download it again"
        )
    return torch.frombuffer(bytearray(content[header_size:]), dtype=torch.uint8).reshape(shape)


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
