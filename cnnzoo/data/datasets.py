"""Data sets: in memory, or read on demand."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, overload

import torch
from torch.utils.data import Dataset

from cnnzoo.data.data_html import data_html
from cnnzoo.data.decoding import Decoding
from cnnzoo.data.image_files import ImageFiles
from cnnzoo.data.parallel import parallel_map
from cnnzoo.data.seeding import derive_seed, seeded
from cnnzoo.data.statistics import CHUNK, compute_color_components, compute_mean_std
from cnnzoo.errors import DataError, InputError
from cnnzoo.progress_bar import progress_bar

_STATISTICS_IMAGES = 1000  # training images from which the statistics of a StreamData are estimated
_CHUNK = 32  # images that threads decode at a time
_SPLITS = ("train", "test", "val")


@dataclass(frozen=True, eq=False)
class Split(Dataset[tuple[torch.Tensor, int]]):
    """Images and their labels: a Dataset of pairs (image, label), of which a slice or a tensor selects several.

    Attributes:
        images: uint8 (N, C, H, W).
        labels: int64 (N,), each at least 0 and less than the number of classes.
        files: The files that the images were read from, to decode them in another way; None if there are none.
    """

    images: torch.Tensor
    labels: torch.Tensor
    files: ImageFiles | None = None

    def __len__(self) -> int:
        return len(self.labels)

    @overload
    def __getitem__(self, index: slice | Sequence[int] | torch.Tensor) -> Split: ...

    @overload
    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]: ...

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, (slice, Sequence)) or (isinstance(index, torch.Tensor) and index.dim() > 0):
            files = None if self.files is None else self.files[index]
            return Split(self.images[index], self.labels[index], files)
        return self.images[index], int(self.labels[index])


@dataclass(frozen=True, eq=False)
class ImageData:
    """A data set in memory.

    Attributes:
        name: Name of the data set.
        train: Images to train on.
        test: Images to evaluate on.
        classes: Name of each class.
        val: Images to choose settings and epochs with, if the data set has them.
        decoding: How the image files were decoded.
        skipped: Names of the image files that were left out, since they cannot be read.
        options: Arguments of ``load_data`` other than the name, with which the data set was loaded.

    Raises:
        DataError: If images or labels have the wrong type or shape, or a label is out of range.
    """

    name: str
    train: Split
    test: Split
    classes: tuple[str, ...]
    val: Split | None = None
    decoding: Decoding = Decoding()
    skipped: tuple[str, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for split_name, split in _existing_splits(self):
            where = f"{self.name}, {split_name}"
            if split.images.dtype != torch.uint8 or split.images.dim() != 4:
                raise DataError(
                    f"{where}: images must be uint8 (N, C, H, W), not {split.images.dtype} {tuple(split.images.shape)}"
                )
            if split.labels.dtype != torch.int64 or split.labels.shape != (len(split.images),):
                raise DataError(
                    f"{where}: labels must be int64 ({len(split.images)},), "
                    f"not {split.labels.dtype} {tuple(split.labels.shape)}"
                )
            if len(split) == 0:
                raise DataError(f"{where}: there are no images")
            low, high = int(split.labels.min()), int(split.labels.max())
            if low < 0 or high >= len(self.classes):
                raise DataError(
                    f"{where}: labels range from {low} to {high}, but there are {len(self.classes)} classes (0 to "
                    f"{len(self.classes) - 1})"
                )
            if split.images.shape[1:] != self.train.images.shape[1:]:
                raise DataError(
                    f"{self.name}: train and {split_name} images must have the same shape, not "
                    f"{tuple(self.train.images.shape[1:])} and {tuple(split.images.shape[1:])}"
                )

    def _repr_html_(self) -> str:
        return data_html(self)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Shape of one image, (C, H, W)."""
        channels, height, width = self.train.images.shape[1:]
        return channels, height, width

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of the images, uint8."""
        return self.train.images.dtype

    @cached_property
    def _mean_std(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        return compute_mean_std(torch.split(self.train.images, CHUNK))

    @property
    def mean(self) -> tuple[float, ...]:
        """Mean of each channel of the training images, values in [0, 1]."""
        return self._mean_std[0]

    @property
    def std(self) -> tuple[float, ...]:
        """Standard deviation of each channel of the training images, values in [0, 1]."""
        return self._mean_std[1]

    @cached_property
    def color_components(self) -> torch.Tensor:
        """Principal components of the training pixels' colors, each multiplied by its variance, float32 (C, C).

        One component per row, values of pixels in [0, 1]: the directions of the color noise in Krizhevsky, Sutskever,
        Hinton 2012, section 4.1.
        """
        return compute_color_components([self.train.images])

    @cached_property
    def sha256(self) -> str:
        """Checksum of all images and labels, independent of the files that they were read from."""
        digest = hashlib.sha256()
        for _, split in _existing_splits(self):
            digest.update(str(tuple(split.images.shape)).encode())
            digest.update(split.images.contiguous().numpy().tobytes())
            digest.update(split.labels.to(torch.uint8 if len(self.classes) <= 256 else torch.int64).numpy().tobytes())
        return digest.hexdigest()

    def hold_out(self, n: int, seed: int = 0) -> ImageData:
        """Returns the data set with ``n`` of its training images as the test images, and no ``val``.

        Settings are tuned on these validation images, so that the test images are used once, at the end.

        Args:
            n: Number of training images to hold out.
            seed: Seed of the random selection.

        Raises:
            InputError: If there are not more than ``n`` training images.
        """
        order = _hold_out_order(self, n, seed)
        return dataclasses.replace(self, train=self.train[order[n:]], test=self.train[order[:n]], val=None)

    def subset(self, indices: torch.Tensor) -> ImageData:
        """Returns the data set with some of its training images as both the training and the test images, no ``val``.

        Args:
            indices: int64 (N,): indices of these images.
        """
        return dataclasses.replace(self, train=self.train[indices], test=self.train[indices], val=None)


@dataclass(frozen=True, eq=False)
class StreamData:
    """A data set that is read on demand.

    ``train``, ``test`` and ``val`` are each a ``torch.utils.data.Dataset`` of samples (image (C, H, W), label), or any
    other iterable with a length that yields batches (images (N, C, H, W), labels (N,)), such as a DataLoader. Images
    of uint8 are augmented, resized and normalized like those of ``ImageData``; images of floats are used unchanged.

    Attributes:
        name: Name of the data set.
        train: Images to train on.
        test: Images to evaluate on.
        classes: Name of each class.
        mean: Mean of each channel, values in [0, 1]; by default estimated from about 1000 training images.
        std: Standard deviation of each channel, by default estimated likewise.
        sha256: A checksum, if there is one; a run can be resumed only on data with the same checksum.
        val: Images to choose settings and epochs with, if the data set has them.
        decoding: How the image files are decoded.
        skipped: Names of the image files that are left out, since they cannot be read.
        options: Arguments of ``load_data`` other than the name, with which the data set was loaded.

    Raises:
        DataError: If a split has no length, or no images.
    """

    name: str
    train: Any
    test: Any
    classes: tuple[str, ...]
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    sha256: str = ""
    val: Any = None
    decoding: Decoding = Decoding()
    skipped: tuple[str, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for split_name, split in _existing_splits(self):
            try:
                n = len(split)
            except TypeError:
                raise DataError(
                    f"{self.name}, {split_name}: a {type(split).__name__} has no length; give a Dataset, a DataLoader "
                    "or a list of batches"
                ) from None
            if n == 0:
                raise DataError(f"{self.name}, {split_name}: there are no images")
        channels = self.shape[0]
        if self.dtype != torch.uint8:
            mean, std = (0.0,) * channels, (1.0,) * channels
        elif not (self.mean and self.std):
            mean, std = compute_mean_std(self._statistics_images())
        else:
            return
        object.__setattr__(self, "mean", self.mean or mean)
        object.__setattr__(self, "std", self.std or std)

    @cached_property
    def _first_images(self) -> torch.Tensor:
        """The first training image, or the first batch, (N, C, H, W)."""
        with seeded(derive_seed("first")):  # a random sample is the same in each process
            if isinstance(self.train, Dataset):
                return self.train[0][0].unsqueeze(0)  # type: ignore[no-any-return]
            images: torch.Tensor = next(iter(self.train))[0]
            return images

    def _statistics_images(self) -> Iterator[torch.Tensor]:
        """Yields evenly spaced training images, or the first batch, (N, C, H, W) each."""
        if not isinstance(self.train, Dataset):
            yield self._first_images
            return
        n = len(self.train)  # type: ignore[arg-type]
        indices = range(0, n, max(1, n // _STATISTICS_IMAGES))
        if not isinstance(self.train, ImageFiles):
            for i in indices:
                with seeded(derive_seed("statistics", i)):
                    image = self.train[i][0]
                yield image.unsqueeze(0)
            return
        with progress_bar("estimating mean and std", len(indices)) as advance, parallel_map() as map_images:
            for first in range(0, len(indices), _CHUNK):  # bounds the images in memory
                for image, _ in map_images(self.train.__getitem__, indices[first : first + _CHUNK]):
                    yield image.unsqueeze(0)
                    advance(1)

    def _repr_html_(self) -> str:
        return data_html(self)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Shape of one image, (C, H, W)."""
        channels, height, width = self._first_images.shape[1:]
        return channels, height, width

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of the images."""
        return self._first_images.dtype

    @cached_property
    def color_components(self) -> torch.Tensor:
        """Principal components of color as in ``ImageData``, estimated from the same images as ``mean`` and ``std``."""
        return compute_color_components(self._statistics_images())

    def hold_out(self, n: int, seed: int = 0) -> StreamData:
        """Returns the data set with ``n`` of its training images as the test images, as in ``ImageData``.

        Raises:
            InputError: If there are not more than ``n`` training images, or they come in batches.
        """
        order = _hold_out_order(self, n, seed)
        return dataclasses.replace(self, train=self._select(order[n:]), test=self._select(order[:n]), val=None)

    def subset(self, indices: torch.Tensor) -> StreamData:
        """Returns the data set with some of its training images as both splits, as in ``ImageData``.

        Raises:
            InputError: If the training images come in batches.
        """
        return dataclasses.replace(self, train=self._select(indices), test=self._select(indices), val=None)

    def _select(self, indices: torch.Tensor) -> Dataset[Any]:
        if isinstance(self.train, (Split, ImageFiles)):
            return self.train[indices]
        if not isinstance(self.train, Dataset):
            raise InputError(
                f"{self.name} yields batches, from which no samples can be selected; give a Dataset of samples"
            )
        return torch.utils.data.Subset(self.train, indices.tolist())


Data = ImageData | StreamData


def _existing_splits(data: Data) -> list[tuple[str, Any]]:
    """Returns the name of each split that a data set has, and the split."""
    return [(name, split) for name in _SPLITS if (split := getattr(data, name)) is not None]


def _hold_out_order(data: Data, n: int, seed: int) -> torch.Tensor:
    """Returns the indices of the training images in random order, of which the first ``n`` are held out."""
    if not 0 < n < len(data.train):
        raise InputError(f"{data.name} has {len(data.train):,} training images; {n:,} cannot be held out")
    return torch.randperm(len(data.train), generator=torch.Generator().manual_seed(seed))
