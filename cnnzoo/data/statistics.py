"""Statistics of a set of images: mean and standard deviation per channel, principal components of color."""

from __future__ import annotations

import torch

_CHUNK = 4096  # images converted to float64 at a time


def compute_mean_std(images: torch.Tensor) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Returns mean and standard deviation of each channel, values in [0, 1], rounded to six decimals.

    Args:
        images: uint8 (N, C, H, W).
    """
    mean, mean_square = [], []
    for channel in range(images.shape[1]):
        counts = torch.bincount(images[:, channel].reshape(-1), minlength=256).to(torch.float64)
        values = torch.arange(256, dtype=torch.float64) / 255
        frequencies = counts / counts.sum()
        mean.append(float((frequencies * values).sum()))
        mean_square.append(float((frequencies * values**2).sum()))
    # 1 for a constant channel, so that normalization does not divide by 0
    std = [max(s - m * m, 0.0) ** 0.5 or 1.0 for m, s in zip(mean, mean_square, strict=True)]
    return tuple(round(m, 6) for m in mean), tuple(round(s, 6) for s in std)


def compute_color_components(images: torch.Tensor) -> torch.Tensor:
    """Returns the principal components of the pixels' colors, each multiplied by its variance.

    Args:
        images: uint8 (N, C, H, W).

    Returns:
        float32 (C, C), one component per row, by increasing variance; values of pixels in [0, 1].
    """
    channels = images.shape[1]
    total, products, n = torch.zeros(channels).double(), torch.zeros(channels, channels).double(), 0
    for first in range(0, len(images), _CHUNK):
        chunk = images[first : first + _CHUNK]
        pixels = chunk.transpose(0, 1).reshape(channels, -1).double() / 255
        total, products, n = total + pixels.sum(1), products + pixels @ pixels.T, n + pixels.shape[1]
    mean = total / n
    variances, vectors = torch.linalg.eigh(products / n - mean[:, None] * mean)
    components: torch.Tensor = variances[:, None] * vectors.T
    return components.float()
