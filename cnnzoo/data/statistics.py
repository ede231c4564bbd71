"""Statistics of a set of images: mean and standard deviation per channel, principal components of color."""

from __future__ import annotations

from collections.abc import Iterable

import torch

CHUNK = 64  # images converted to float64 at a time


def compute_mean_std(batches: Iterable[torch.Tensor]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Returns mean and standard deviation of each channel, values in [0, 1], rounded to six decimals.

    Args:
        batches: At least one batch of images, uint8 (N, C, H, W).
    """
    counts = torch.zeros(1, 256, dtype=torch.int64)
    for images in batches:
        channels = images.transpose(0, 1).flatten(1)
        counts = counts + torch.stack([torch.bincount(channel, minlength=256) for channel in channels])
    values = torch.arange(256, dtype=torch.float64) / 255
    frequencies = counts.double() / counts.sum(1, keepdim=True)
    mean = [float((f * values).sum()) for f in frequencies]
    mean_square = [float((f * values**2).sum()) for f in frequencies]
    # 1 for a constant channel, so that normalization does not divide by 0
    std = [max(s - m * m, 0.0) ** 0.5 or 1.0 for m, s in zip(mean, mean_square, strict=True)]
    return tuple(round(m, 6) for m in mean), tuple(round(s, 6) for s in std)


def compute_color_components(batches: Iterable[torch.Tensor]) -> torch.Tensor:
    """Returns the principal components of the pixels' colors, each multiplied by its variance.

    Args:
        batches: At least one batch of images, uint8 (N, C, H, W).

    Returns:
        float32 (C, C), one component per row, by increasing variance; values of pixels in [0, 1].
    """
    total, products, n = torch.zeros(1).double(), torch.zeros(1, 1).double(), 0
    for images in batches:
        for chunk in torch.split(images, CHUNK):
            pixels = chunk.transpose(0, 1).flatten(1).double()  # sums of integers are exact, in whatever order
            total, products, n = total + pixels.sum(1), products + pixels @ pixels.T, n + pixels.shape[1]
    mean = total / n / 255
    variances, vectors = torch.linalg.eigh(products / n / 255**2 - mean[:, None] * mean)
    components: torch.Tensor = variances[:, None] * vectors.T
    return components.float()
