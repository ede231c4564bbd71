"""Data sets: in memory, or read on demand."""

from __future__ import annotations

import dataclasses
import hashlib
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch

from cnnzoo.data.statistics import compute_color_components, compute_mean_std
from cnnzoo.errors import DataError, InputError

_STATISTICS_IMAGES = 1000  # training images from which the statistics of a StreamData are estimated


@dataclass(frozen=True, eq=False)
class Split:
    """Images and their labels.

    Attributes:
        images: uint8 (N, C, H, W).
        labels: int64 (N,), each at least 0 and less than the number of classes.
    """

    images: torch.Tensor
    labels: torch.Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: torch.Tensor | slice) -> Split:
        return Split(self.images[index], self.labels[index])


@dataclass(frozen=True, eq=False)
class ImageData:
    """A data set in memory.

    Attributes:
        name: Name of the data set.
        train: Images to train on.
        test: Images to evaluate on.
        classes: Name of each class.

    Raises:
        DataError: If images or labels have the wrong type or shape, or a label is out of range.
    """

    name: str
    train: Split
    test: Split
    classes: tuple[str, ...]

    def __post_init__(self) -> None:
        for split_name in ("train", "test"):
            split: Split = getattr(self, split_name)
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
        if self.train.images.shape[1:] != self.test.images.shape[1:]:
            raise DataError(
                f"{self.name}: train and test images must have the same shape, not "
                f"{tuple(self.train.images.shape[1:])} and {tuple(self.test.images.shape[1:])}"
            )

    @property
    def shape(self) -> tuple[int, int, int]:
        """Shape of one image, (C, H, W)."""
        channels, height, width = self.train.images.shape[1:]
        return channels, height, width

    @cached_property
    def _mean_std(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        return compute_mean_std(self.train.images)

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
        return compute_color_components(self.train.images)

    @cached_property
    def sha256(self) -> str:
        """Checksum of all images and labels, independent of the files that they were read from."""
        digest = hashlib.sha256()
        for split in (self.train, self.test):
            digest.update(str(tuple(split.images.shape)).encode())
            digest.update(split.images.contiguous().numpy().tobytes())
            digest.update(split.labels.to(torch.uint8 if len(self.classes) <= 256 else torch.int64).numpy().tobytes())
        return digest.hexdigest()

    def hold_out(self, n: int, seed: int = 0) -> ImageData:
        """Returns the data set with ``n`` of its training images as the test images.

        Settings are tuned on these validation images, so that the test images are used once, at the end.

        Args:
            n: Number of training images to hold out.
            seed: Seed of the random selection.

        Raises:
            InputError: If there are not more than ``n`` training images.
        """
        order = _hold_out_order(self, n, seed)
        return dataclasses.replace(self, train=self.train[order[n:]], test=self.train[order[:n]])

    def subset(self, indices: torch.Tensor) -> ImageData:
        """Returns the data set with some of its training images as both the training and the test images.

        Args:
            indices: int64 (N,): indices of these images.
        """
        return dataclasses.replace(self, train=self.train[indices], test=self.train[indices])


@dataclass(frozen=True, eq=False)
class StreamData:
    """A data set that is read on demand.

    ``train`` and ``test`` are each a ``torch.utils.data.Dataset`` of samples (image (C, H, W), label), or any other
    iterable with a length that yields batches (images (N, C, H, W), labels (N,)), such as a DataLoader. Images of
    uint8 are augmented, resized and normalized like those of ``ImageData``; images of floats are used unchanged.

    Attributes:
        name: Name of the data set.
        train: Images to train on.
        test: Images to evaluate on.
        classes: Name of each class.
        mean: Mean of each channel, values in [0, 1]; by default estimated from about 1000 training images.
        std: Standard deviation of each channel, by default estimated likewise.
        sha256: A checksum, if there is one; a run can be resumed only on data with the same checksum.

    Raises:
        DataError: If ``train`` or ``test`` has no length, or no images.
    """

    name: str
    train: Any
    test: Any
    classes: tuple[str, ...]
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    sha256: str = ""

    def __post_init__(self) -> None:
        for split_name in ("train", "test"):
            split = getattr(self, split_name)
            try:
                n = len(split)
            except TypeError:
                raise DataError(
                    f"{self.name}, {split_name}: a {type(split).__name__} has no length; give a Dataset, a DataLoader "
                    "or a list of batches"
                ) from None
            if n == 0:
                raise DataError(f"{self.name}, {split_name}: there are no images")
        images = self._statistics_images
        if images.dtype != torch.uint8:
            object.__setattr__(self, "mean", self.mean or (0.0,) * images.shape[1])
            object.__setattr__(self, "std", self.std or (1.0,) * images.shape[1])
        elif not (self.mean and self.std):
            mean, std = compute_mean_std(images)
            object.__setattr__(self, "mean", self.mean or mean)
            object.__setattr__(self, "std", self.std or std)

    @cached_property
    def _statistics_images(self) -> torch.Tensor:
        """Evenly spaced training images, or the first batch, (N, C, H, W)."""
        if isinstance(self.train, torch.utils.data.Dataset):
            n = len(self.train)  # type: ignore[arg-type]
            samples = [self.train[i] for i in range(0, n, max(1, n // _STATISTICS_IMAGES))]
            return torch.stack([sample[0] for sample in samples])
        images: torch.Tensor = next(iter(self.train))[0]
        return images

    @property
    def shape(self) -> tuple[int, int, int]:
        """Shape of one image, (C, H, W)."""
        channels, height, width = self._statistics_images.shape[1:]
        return channels, height, width

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of the images."""
        return self._statistics_images.dtype

    @property
    def color_components(self) -> torch.Tensor:
        """Principal components of color as in ``ImageData``, estimated from the same images as ``mean`` and ``std``."""
        return compute_color_components(self._statistics_images)

    def hold_out(self, n: int, seed: int = 0) -> StreamData:
        """Returns the data set with ``n`` of its training images as the test images, as in ``ImageData``.

        Raises:
            InputError: If there are not more than ``n`` training images, or they come in batches.
        """
        order = _hold_out_order(self, n, seed)
        return dataclasses.replace(self, train=self._select(order[n:]), test=self._select(order[:n]))

    def subset(self, indices: torch.Tensor) -> StreamData:
        """Returns the data set with some of its training images as both splits, as in ``ImageData``.

        Raises:
            InputError: If the training images come in batches.
        """
        return dataclasses.replace(self, train=self._select(indices), test=self._select(indices))

    def _select(self, indices: torch.Tensor) -> torch.utils.data.Dataset[Any]:
        if not isinstance(self.train, torch.utils.data.Dataset):
            raise InputError(
                f"{self.name} yields batches, from which no samples can be selected; give a Dataset of samples"
            )
        return torch.utils.data.Subset(self.train, indices.tolist())


Data = ImageData | StreamData


def _hold_out_order(data: Data, n: int, seed: int) -> torch.Tensor:
    """Returns the indices of the training images in random order, of which the first ``n`` are held out."""
    if not 0 < n < len(data.train):
        raise InputError(f"{data.name} has {len(data.train):,} training images; {n:,} cannot be held out")
    return torch.randperm(len(data.train), generator=torch.Generator().manual_seed(seed))
