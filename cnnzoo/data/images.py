"""A data set held as tensors."""

from __future__ import annotations

import dataclasses
import hashlib
from dataclasses import dataclass
from functools import cached_property

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
        images = self.train.images
        mean, square = [], []
        for channel in range(images.shape[1]):
            counts = torch.bincount(images[:, channel].reshape(-1), minlength=256).to(torch.float64)
            values = torch.arange(256, dtype=torch.float64) / 255
            share = counts / counts.sum()
            mean.append(float((share * values).sum()))
            square.append(float((share * values**2).sum()))
        std = [max(s - m * m, 0.0) ** 0.5 or 1.0 for m, s in zip(mean, square, strict=True)]
        return tuple(round(m, 6) for m in mean), tuple(round(s, 6) for s in std)

    @property
    def mean(self) -> tuple[float, ...]:
        """Mean of each channel of the training images, values in [0, 1]."""
        return self._moments[0]

    @property
    def std(self) -> tuple[float, ...]:
        """Standard deviation of each channel of the training images, values in [0, 1]."""
        return self._moments[1]

    @cached_property
    def sha256(self) -> str:
        """Checksum of all images and labels, whatever file they came from."""
        digest = hashlib.sha256()
        for split in (self.train, self.test):
            digest.update(str(tuple(split.images.shape)).encode())
            digest.update(split.images.contiguous().numpy().tobytes())
            digest.update(split.labels.to(torch.uint8 if len(self.classes) <= 256 else torch.int64).numpy().tobytes())
        return digest.hexdigest()

    def held_out(self, n: int, seed: int = 0) -> ImageData:
        """The same training images, ``n`` of them taken away and put in place of the test images.

        What is tuned is tuned on these, so that the test images are seen once, at the end.

        Args:
            n: How many training images to hold out.
            seed: Which ones.

        Raises:
            InputError: If there are not more than ``n`` training images.
        """
        if not 0 < n < len(self.train):
            raise InputError(f"{self.name} has {len(self.train):,} training images; {n:,} cannot be held out")
        order = torch.randperm(len(self.train), generator=torch.Generator().manual_seed(seed))
        return dataclasses.replace(self, train=self.train[order[n:]], test=self.train[order[:n]])
