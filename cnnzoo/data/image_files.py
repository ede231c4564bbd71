"""Image files as a Dataset: each is decoded on demand."""

from __future__ import annotations

import copy
import os
import stat
from array import array
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Self, overload

import torch
from torch.utils.data import Dataset

from cnnzoo.data.decoding import Decoding
from cnnzoo.errors import DataError
from cnnzoo.files import os_reason

Transform = Callable[[torch.Tensor], torch.Tensor]


class ImageFiles(Dataset[tuple[torch.Tensor, int]]):
    """A Dataset of image files: pairs (uint8 (C, H, W), label); a slice or a tensor selects several.

    Subclasses say where the files are. They are decoded as RGB with ``Decoding()``, until ``with_decoding`` is called.

    Args:
        labels: The label of each file.

    Attributes:
        labels: Integers (N,).
        decoding: How the images are decoded.
        channels: 1 for gray, 3 for RGB.
        transform: Applied to each decoded image; None leaves it as it is.
    """

    _columns: tuple[str, ...] = ("labels",)  # the attributes with an element per image

    def __init__(self, labels: Sequence[int]) -> None:
        self.labels = compact_ints(labels)
        self.decoding, self.channels = Decoding(), 3
        self.transform: Transform | None = None

    def name(self, i: int) -> str:
        """Returns the name of an image, for messages."""
        raise NotImplementedError

    def stamp(self, i: int) -> str:
        """Returns a string that changes whenever the content of an image changes; empty if it cannot be known."""
        raise NotImplementedError

    def source(self, i: int) -> str | bytes:
        """Returns the path of an image file, or its content."""
        raise NotImplementedError

    def read(self, i: int) -> bytes:
        """Returns the content of an image file.

        Raises:
            DataError: If it cannot be read; the message is the reason alone.
        """
        source = self.source(i)
        return source if isinstance(source, bytes) else _read_file(source)

    def with_decoding(self, decoding: Decoding, channels: int, transform: Transform | None = None) -> Self:
        """Returns the same images, decoded in another way.

        Args:
            decoding: How the images are decoded.
            channels: 1 for gray, 3 for RGB.
            transform: Applied to each decoded image, uint8 (C, H, W), in the worker process that decodes it.
        """
        other = copy.copy(self)
        other.decoding, other.channels, other.transform = decoding, channels, transform
        return other

    def __len__(self) -> int:
        return len(self.labels)

    @overload
    def __getitem__(self, index: slice | Sequence[int] | torch.Tensor) -> Self: ...

    @overload
    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]: ...

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, (slice, Sequence)) or (isinstance(index, torch.Tensor) and index.dim() > 0):
            other = copy.copy(self)
            for column in self._columns:
                setattr(other, column, getattr(self, column)[index])
            return other
        label = int(self.labels[index])
        source = self.source(index)
        try:
            image = self.decoding.decode(source, self.channels)
        except DataError as error:
            if isinstance(source, bytes):
                raise DataError(f"{self.name(index)}: {error}") from error
            raise
        return (image if self.transform is None else self.transform(image)), label


class LocalFiles(ImageFiles):
    """Image files in a folder, whose names take little more memory than their characters.

    Args:
        root: The folder that names are relative to.
        names: The path of each file, relative to ``root``, with ``/``.
        labels: The label of each file.

    Attributes:
        root: The folder.
    """

    _columns = ("labels", "_folders", "_starts", "_lengths")

    def __init__(self, root: str | os.PathLike[str], names: Iterable[str], labels: Sequence[int]) -> None:
        super().__init__(labels)
        self.root = os.fspath(root)
        content, folders = bytearray(), dict[str, int]()
        folder_indices, starts, lengths = array("q"), array("q"), array("q")
        for name in names:
            folder, slash, base = name.rpartition("/")
            folder_indices.append(folders.setdefault(folder + slash, len(folders)))
            encoded = os.fsencode(base)
            starts.append(len(content))
            lengths.append(len(encoded))
            content += encoded
        self._content, self._folder_names = bytes(content), tuple(folders)
        self._folders, self._starts, self._lengths = map(compact_ints, (folder_indices, starts, lengths))

    def name(self, i: int) -> str:
        """Returns the path of a file, relative to ``root``."""
        start = int(self._starts[i])
        return self._folder_names[self._folders[i]] + os.fsdecode(self._content[start : start + int(self._lengths[i])])

    def path(self, i: int) -> Path:
        """Returns the path of a file."""
        return Path(self.root, self.name(i))

    def source(self, i: int) -> str:
        """Returns the path of a file, as a string."""
        return os.path.join(self.root, self.name(i))

    def stamp(self, i: int) -> str:
        """Returns size, times and inode of a file."""
        try:
            info = os.stat(self.source(i))
        except (OSError, ValueError):
            return ""
        return f"{info.st_size} {info.st_mtime_ns} {info.st_ctime_ns} {info.st_ino}"


def compact_ints(values: Sequence[int]) -> torch.Tensor:
    """Returns integers of at least 0 as a tensor of the smallest signed type that holds them."""
    if not values:
        return torch.zeros(0, dtype=torch.int16)
    highest = max(values)
    dtype = next(t for t in (torch.int16, torch.int32, torch.int64) if highest <= torch.iinfo(t).max)
    return torch.frombuffer(array("q", values), dtype=torch.int64).to(dtype, copy=True)


def _read_file(path: str) -> bytes:
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):  # reading a pipe would wait forever
            raise DataError("it is not a regular file")
        with open(path, "rb") as file:
            return file.read()
    except FileNotFoundError:
        raise DataError(
            "it is a link to a file that does not exist" if os.path.islink(path) else "no such file"
        ) from None
    except (OSError, ValueError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(str(os_reason(error))) from None
