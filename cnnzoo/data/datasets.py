"""Data sets: held as tensors, or read as they are needed."""

from __future__ import annotations

import dataclasses
import hashlib
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch

from cnnzoo.errors import DataError, InputError


@dataclass(frozen=True, eq=False)
class Split:
    """Images and their labels.

    Attributes:
        images: uint8 (N, C, H, W).
        labels: int64 (N,), each at least 0 and below the number of classes.
    """

    images: torch.Tensor
    labels: torch.Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: torch.Tensor | slice) -> Split:
        return Split(self.images[index], self.labels[index])


@dataclass(frozen=True, eq=False)
class ImageData:
    """A data set: images to learn from, images to be tested on, and what the labels mean.

    Attributes:
        name: What the set is called.
        train: The images to learn from.
        test: The images to be tested on.
        classes: What each label means.
    """

    name: str
    train: Split
    test: Split
    classes: tuple[str, ...]

    def __post_init__(self) -> None:
        for part in ("train", "test"):
            split: Split = getattr(self, part)
            where = f"{self.name}, {part}"
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
                    f"{where}: labels run from {low} to {high}, but there are {len(self.classes)} classes (0 to "
                    f"{len(self.classes) - 1})"
                )
        if self.train.images.shape[1:] != self.test.images.shape[1:]:
            raise DataError(
                f"{self.name}: images of train are {tuple(self.train.images.shape[1:])}, "
                f"of test {tuple(self.test.images.shape[1:])}"
            )

    @property
    def shape(self) -> tuple[int, int, int]:
        """One image: (C, H, W)."""
        channels, height, width = self.train.images.shape[1:]
        return channels, height, width

    @cached_property
    def _moments(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        return channel_mean_std(self.train.images)

    @property
    def mean(self) -> tuple[float, ...]:
        """Mean of each channel of the training images, values in [0, 1]."""
        return self._moments[0]

    @property
    def std(self) -> tuple[float, ...]:
        """Standard deviation of each channel of the training images, values in [0, 1]."""
        return self._moments[1]

    @cached_property
    def color_components(self) -> torch.Tensor:
        """float32 (C, C): principal components of the training pixels' colors, each times its variance, as rows.

        Values in [0, 1]. What the color noise of Krizhevsky, Sutskever, Hinton 2012 (section 4.1) is made of.
        """
        return principal_components(self.train.images)

    @cached_property
    def sha256(self) -> str:
        """Checksum of all images and labels, whatever file they came from."""
        digest = hashlib.sha256()
        for split in (self.train, self.test):
            digest.update(str(tuple(split.images.shape)).encode())
            digest.update(split.images.contiguous().numpy().tobytes())
            digest.update(split.labels.to(torch.uint8 if len(self.classes) <= 256 else torch.int64).numpy().tobytes())
        return digest.hexdigest()

    def hold_out(self, n: int, seed: int = 0) -> ImageData:
        """The same training images, ``n`` of them taken away and put in place of the test images.

        What is tuned is tuned on these, so that the test images are seen once, at the end.

        Args:
            n: How many training images to hold out.
            seed: Which ones.

        Raises:
            InputError: If there are not more than ``n`` training images.
        """
        order = _held_out_order(self, n, seed)
        return dataclasses.replace(self, train=self.train[order[n:]], test=self.train[order[:n]])

    def only(self, chosen: torch.Tensor) -> ImageData:
        """The same set with some of its training images alone, to learn from and to be tested on.

        Args:
            chosen: int64 (N,): their indices.
        """
        return dataclasses.replace(self, train=self.train[chosen], test=self.train[chosen])


@dataclass(frozen=True, eq=False)
class StreamData:
    """A data set that is read as it is needed.

    Each part is a ``torch.utils.data.Dataset`` of samples (image (C, H, W), label), or any other iterable with a
    length that gives batches (images (N, C, H, W), labels (N,)), such as a DataLoader. Images of bytes (uint8) are
    augmented, made to fit and normalized like those of ``ImageData``; images of floats are taken as they are.

    Attributes:
        name: What the set is called.
        train: The images to learn from.
        test: The images to be tested on.
        classes: What each label means.
        mean: Mean of each channel, values in [0, 1]; by default estimated from a thousand training images.
        std: Standard deviation of each channel, likewise.
        sha256: A checksum, where there is one: a run is only resumed on data that has the same.
    """

    name: str
    train: Any
    test: Any
    classes: tuple[str, ...]
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    sha256: str = ""

    def __post_init__(self) -> None:
        for part in ("train", "test"):
            try:
                n = len(getattr(self, part))
            except TypeError:
                raise DataError(
                    f"{self.name}, {part}: a {type(getattr(self, part)).__name__} has no length; give a Dataset, a "
                    "DataLoader or a list of batches"
                ) from None
            if n == 0:
                raise DataError(f"{self.name}, {part}: there are no images")
        few = self._few
        if few.dtype != torch.uint8:
            object.__setattr__(self, "mean", self.mean or (0.0,) * few.shape[1])
            object.__setattr__(self, "std", self.std or (1.0,) * few.shape[1])
        elif not (self.mean and self.std):
            mean, std = channel_mean_std(few)
            object.__setattr__(self, "mean", self.mean or mean)
            object.__setattr__(self, "std", self.std or std)

    @cached_property
    def _few(self) -> torch.Tensor:
        """(N, C, H, W): some training images, at equal distances."""
        if isinstance(self.train, torch.utils.data.Dataset):
            n = len(self.train)  # type: ignore[arg-type]
            picked = [self.train[i] for i in range(0, n, max(1, n // _ESTIMATED_FROM))]
            return torch.stack([sample[0] for sample in picked])
        images: torch.Tensor = next(iter(self.train))[0]
        return images

    @property
    def shape(self) -> tuple[int, int, int]:
        """One image: (C, H, W)."""
        channels, height, width = self._few.shape[1:]
        return channels, height, width

    @property
    def dtype(self) -> torch.dtype:
        """What the values of an image are."""
        return self._few.dtype

    @property
    def color_components(self) -> torch.Tensor:
        """As for ``ImageData``, of the same images as mean and deviation."""
        return principal_components(self._few)

    def hold_out(self, n: int, seed: int = 0) -> StreamData:
        """As for ``ImageData``, where samples can be picked.

        Raises:
            InputError: If there are not more than ``n`` training images, or they come in batches.
        """
        order = _held_out_order(self, n, seed)
        return dataclasses.replace(self, train=self._subset(order[n:]), test=self._subset(order[:n]))

    def only(self, chosen: torch.Tensor) -> StreamData:
        """As for ``ImageData``, where samples can be picked.

        Raises:
            InputError: If the training images come in batches.
        """
        return dataclasses.replace(self, train=self._subset(chosen), test=self._subset(chosen))

    def _subset(self, chosen: torch.Tensor) -> torch.utils.data.Dataset[Any]:
        if not isinstance(self.train, torch.utils.data.Dataset):
            raise InputError(
                f"{self.name} gives batches, from which no samples can be picked; give a Dataset of samples"
            )
        return torch.utils.data.Subset(self.train, chosen.tolist())


Data = ImageData | StreamData
_ESTIMATED_FROM = 1000  # training images


def channel_mean_std(images: torch.Tensor) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of each channel of uint8 (N, C, H, W), values in [0, 1]."""
    mean, square = [], []
    for channel in range(images.shape[1]):
        counts = torch.bincount(images[:, channel].reshape(-1), minlength=256).to(torch.float64)
        values = torch.arange(256, dtype=torch.float64) / 255
        share = counts / counts.sum()
        mean.append(float((share * values).sum()))
        square.append(float((share * values**2).sum()))
    std = [max(s - m * m, 0.0) ** 0.5 or 1.0 for m, s in zip(mean, square, strict=True)]
    return tuple(round(m, 6) for m in mean), tuple(round(s, 6) for s in std)


def principal_components(images: torch.Tensor) -> torch.Tensor:
    """float32 (C, C): see ``ImageData.color_components``."""
    channels = images.shape[1]
    total, products, n = torch.zeros(channels).double(), torch.zeros(channels, channels).double(), 0
    for first in range(0, len(images), 4096):
        some = images[first : first + 4096]
        pixels = some.transpose(0, 1).reshape(channels, -1).double() / 255
        total, products, n = total + pixels.sum(1), products + pixels @ pixels.T, n + pixels.shape[1]
    mean = total / n
    variances, vectors = torch.linalg.eigh(products / n - mean[:, None] * mean)
    rows: torch.Tensor = variances[:, None] * vectors.T
    return rows.float()


def _held_out_order(data: Data, n: int, seed: int) -> torch.Tensor:
    if not 0 < n < len(data.train):
        raise InputError(f"{data.name} has {len(data.train):,} training images; {n:,} cannot be held out")
    return torch.randperm(len(data.train), generator=torch.Generator().manual_seed(seed))
