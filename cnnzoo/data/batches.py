"""Batches, made where the model lives: an order that depends on seed and epoch alone, scaling as PIL does it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from functools import lru_cache

import torch

from cnnzoo.data.images import Split

PRECISION = 22  # bits of PIL's integer coefficients


def mixed_seed(*parts: int | str) -> int:
    """A seed from several numbers or words: unlike parts give unrelated seeds."""
    digest = hashlib.sha256(repr(parts).encode()).digest()
    return int.from_bytes(digest[:8], "little") >> 1  # below 2**63


def epoch_order(n: int, seed: int, epoch: int) -> torch.Tensor:
    """The order of n samples in an epoch: a permutation that (seed, epoch) alone decide."""
    return torch.randperm(n, generator=torch.Generator().manual_seed(mixed_seed("order", seed, epoch)))


def prepare(
    images: torch.Tensor,
    size: Sequence[int],
    mean: Sequence[float],
    std: Sequence[float],
) -> torch.Tensor:
    """What a network takes, of images as they are stored.

    Args:
        images: uint8 (N, C, H, W).
        size: (height, width) that the network takes.
        mean: Mean of each channel, values in [0, 1].
        std: Standard deviation of each channel, values in [0, 1].

    Returns:
        float32 (N, C, height, width), on the device of ``images``.
    """
    x = resize(images, size).float()
    scale = torch.tensor([1 / (255 * s) for s in std], device=x.device).view(1, -1, 1, 1)
    shift = torch.tensor([-m / s for m, s in zip(mean, std, strict=True)], device=x.device).view(1, -1, 1, 1)
    return x.mul_(scale).add_(shift)


def resize(images: torch.Tensor, size: Sequence[int]) -> torch.Tensor:
    """Bilinear scaling that equals PIL's bit for bit, up and down.

    Args:
        images: uint8 (N, C, H, W).
        size: (height, width) to scale to.

    Returns:
        uint8 (N, C, height, width).
    """
    height, width = size
    # width first; Pillow (seen in 13.0) turns this round where the height shrinks and the width grows
    if height < images.shape[-2] and width > images.shape[-1]:
        return _scaled_width(_scaled_height(images, height), width)
    return _scaled_height(_scaled_width(images, width), height)


def _scaled_width(images: torch.Tensor, width: int) -> torch.Tensor:
    before = images.shape[-1]
    return images if before == width else _scaled(images, _coefficients(before, width))


def _scaled_height(images: torch.Tensor, height: int) -> torch.Tensor:
    return _scaled_width(images.transpose(-1, -2), height).transpose(-1, -2)


def _scaled(images: torch.Tensor, coefficients: torch.Tensor) -> torch.Tensor:
    """(..., W) times (W, W'), rounded as PIL rounds.

    The products need 30 bits: float64 holds them exactly, and unlike integers has a fast matrix product.
    """
    sums = images.double() @ coefficients.to(images.device)
    return sums.add_(2 ** (PRECISION - 1)).mul_(2.0**-PRECISION).floor_().clamp_(0, 255).to(torch.uint8)


@lru_cache(maxsize=32)
def _coefficients(before: int, after: int) -> torch.Tensor:
    """(before, after): how much each old pixel gives to each new one, in 1 / 2**22, as PIL computes it."""
    scale = before / after
    spread = max(scale, 1.0)  # a triangle of this half-width; wider when shrinking
    matrix = torch.zeros(before, after, dtype=torch.float64)
    for new in range(after):
        centre = (new + 0.5) * scale
        first = max(int(centre - spread + 0.5), 0)
        last = min(int(centre + spread + 0.5), before)
        weights = [max(1.0 - abs((old - centre + 0.5) / spread), 0.0) for old in range(first, last)]
        total = sum(weights)
        for old, weight in zip(range(first, last), weights, strict=True):
            matrix[old, new] = int(weight / total * (1 << PRECISION) + 0.5)
    return matrix


class Batches:
    """The batches of a split, on one device, scaled and normalised as a network takes them.

    Args:
        split: Images and labels; moved to the device once.
        batch_size: Images a batch; the last may have fewer.
        size: (height, width) that the network takes.
        mean: Mean of each channel, values in [0, 1].
        std: Standard deviation of each channel, values in [0, 1].
        device: Where the batches are made.
        channels_last: Whether images are laid out channels last.
    """

    def __init__(
        self,
        split: Split,
        batch_size: int,
        *,
        size: Sequence[int],
        mean: Sequence[float],
        std: Sequence[float],
        device: torch.device,
        channels_last: bool = False,
    ) -> None:
        self.images = split.images.to(device)
        self.labels = split.labels.to(device)
        self.batch_size = batch_size
        self.size = tuple(size)
        self.mean = tuple(mean)
        self.std = tuple(std)
        self.memory_format = torch.channels_last if channels_last else torch.contiguous_format

    def __len__(self) -> int:
        return -(-len(self.labels) // self.batch_size)

    def epoch(self, order: torch.Tensor | None = None, start: int = 0) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Batches (images float32 (N, C, H, W), labels int64 (N,)) in an order, from the ``start``-th on.

        Args:
            order: Indices of the samples, as ``epoch_order`` gives them; by default as stored.
            start: Number of batches to leave out, at no cost.
        """
        if order is not None:
            order = order.to(self.labels.device)
        for first in range(start * self.batch_size, len(self.labels), self.batch_size):
            chosen: torch.Tensor | slice = slice(first, first + self.batch_size)
            if order is not None:
                chosen = order[chosen]
            x = prepare(self.images[chosen], self.size, self.mean, self.std)
            yield x.to(memory_format=self.memory_format), self.labels[chosen]
