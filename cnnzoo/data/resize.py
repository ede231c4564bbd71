"""Bilinear resizing of batches on any device, equal to PIL's bit for bit."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import torch

_PRECISION = 22  # bits of PIL's fixed-point coefficients


def resize(images: torch.Tensor, size: Sequence[int]) -> torch.Tensor:
    """Returns images resized bilinearly, to the same values as PIL's ``Image.resize``.

    Args:
        images: uint8 (N, C, H, W).
        size: (height, width) of the result.

    Returns:
        uint8 (N, C, height, width).
    """
    height, width = size
    # width first; Pillow (13.0) reverses the order if the height shrinks and the width grows
    if height < images.shape[-2] and width > images.shape[-1]:
        return _resize_width(_resize_height(images, height), width)
    return _resize_height(_resize_width(images, width), height)


def _resize_width(images: torch.Tensor, width: int) -> torch.Tensor:
    old_width = images.shape[-1]
    return images if old_width == width else _multiply(images, _coefficients(old_width, width, images.device))


def _resize_height(images: torch.Tensor, height: int) -> torch.Tensor:
    return _resize_width(images.transpose(-1, -2), height).transpose(-1, -2)


def _multiply(images: torch.Tensor, coefficients: torch.Tensor) -> torch.Tensor:
    """Returns images (..., W) times coefficients (W, W'), rounded as PIL does.

    The products need 30 bits, which float64 holds exactly; integers have no fast matrix product.
    """
    sums = images.double() @ coefficients
    return sums.add_(2 ** (_PRECISION - 1)).mul_(2.0**-_PRECISION).floor_().clamp_(0, 255).to(torch.uint8)


@lru_cache(maxsize=32)
def _coefficients(old_width: int, new_width: int, device: torch.device) -> torch.Tensor:
    """Returns (old_width, new_width): the weight of each old pixel in each new one, in units of 1 / 2**22."""
    scale = old_width / new_width
    radius = max(scale, 1.0)  # half the base of a triangular filter, which widens when shrinking
    matrix = torch.zeros(old_width, new_width, dtype=torch.float64)
    for new in range(new_width):
        center = (new + 0.5) * scale
        first = max(int(center - radius + 0.5), 0)
        last = min(int(center + radius + 0.5), old_width)
        weights = [max(1.0 - abs((old - center + 0.5) / radius), 0.0) for old in range(first, last)]
        total = sum(weights)
        for old, weight in zip(range(first, last), weights, strict=True):
            matrix[old, new] = int(weight / total * (1 << _PRECISION) + 0.5)
    return matrix.to(device)
