"""Resizing of batches on any device, equal to PIL's bit for bit."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache

import torch

_PRECISION = 22  # bits of PIL's fixed-point coefficients
_LARGE = 128 * 128  # px; PIL is faster on the CPU for images that are larger


def _triangle(x: float) -> float:
    return max(1.0 - abs(x), 0.0)


def _cubic(x: float) -> float:
    """Returns the cubic convolution kernel with a = -0.5 (Keys 1981)."""
    x = abs(x)
    if x < 1:
        return (1.5 * x - 2.5) * x * x + 1
    return (((x - 5) * x + 8) * x - 4) * -0.5 if x < 2 else 0.0


# name -> (filter, half of its base in px of the result)
_FILTERS: dict[str, tuple[Callable[[float], float], float]] = {"bilinear": (_triangle, 1.0), "bicubic": (_cubic, 2.0)}
INTERPOLATIONS = tuple(_FILTERS)


def resize(images: torch.Tensor, size: Sequence[int], interpolation: str = "bilinear") -> torch.Tensor:
    """Returns images resized, to the same values as PIL's ``Image.resize``.

    Args:
        images: uint8 (N, C, H, W).
        size: (height, width) of the result.
        interpolation: ``"bilinear"`` or ``"bicubic"``.

    Returns:
        uint8 (N, C, height, width).
    """
    height, width = size
    old_height, old_width = images.shape[-2:]
    if (height, width) == (old_height, old_width):
        return images
    # the order of Pillow 13: height first if it shrinks by more than twice as many px as the width
    height_first = old_height - height > max(2 * (old_width - width), 0)
    if images.device.type == "cpu" and old_height * old_width > _LARGE:
        between = (height, old_width) if height_first else (old_height, width)
        return _resize_with_pil(images, (between, (height, width)), interpolation)
    if height_first:
        return _resize_width(_resize_height(images, height, interpolation), width, interpolation)
    return _resize_height(_resize_width(images, width, interpolation), height, interpolation)


def _resize_with_pil(images: torch.Tensor, sizes: Sequence[tuple[int, int]], interpolation: str) -> torch.Tensor:
    """Returns images that PIL resized to one size after the other, each (height, width)."""
    from PIL import Image
    from torchvision.transforms.functional import pil_to_tensor

    result = images.new_empty(*images.shape[:2], *sizes[-1])
    for pixels, target in zip(images.flatten(0, 1), result.flatten(0, 1), strict=True):
        image = Image.fromarray(pixels.contiguous().numpy())
        for height, width in sizes:
            image = image.resize((width, height), Image.Resampling[interpolation.upper()])
        target.copy_(pil_to_tensor(image)[0])
    return result


def _resize_width(images: torch.Tensor, width: int, interpolation: str) -> torch.Tensor:
    old_width = images.shape[-1]
    if old_width == width:
        return images
    return _multiply(images, _coefficients(old_width, width, interpolation, images.device))


def _resize_height(images: torch.Tensor, height: int, interpolation: str) -> torch.Tensor:
    return _resize_width(images.transpose(-1, -2), height, interpolation).transpose(-1, -2)


def _multiply(images: torch.Tensor, coefficients: torch.Tensor) -> torch.Tensor:
    """Returns images (..., W) times coefficients (W, W'), rounded as PIL does.

    The products need 31 bits, which float64 holds exactly; integers have no fast matrix product.
    """
    sums = images.double() @ coefficients
    return sums.add_(2 ** (_PRECISION - 1)).mul_(2.0**-_PRECISION).floor_().clamp_(0, 255).to(torch.uint8)


@lru_cache(maxsize=32)
def _coefficients(old_width: int, new_width: int, interpolation: str, device: torch.device) -> torch.Tensor:
    """Returns (old_width, new_width): the weight of each old pixel in each new one, in units of 1 / 2**22."""
    function, half_base = _FILTERS[interpolation]
    scale = old_width / new_width
    stretch = max(scale, 1.0)  # filters widen when shrinking
    radius = half_base * stretch
    matrix = torch.zeros(old_width, new_width, dtype=torch.float64)
    for new in range(new_width):
        center = (new + 0.5) * scale
        first = max(int(center - radius + 0.5), 0)
        last = min(int(center + radius + 0.5), old_width)
        weights = [function((old - center + 0.5) * (1.0 / stretch)) for old in range(first, last)]
        total = sum(weights)
        for old, weight in zip(range(first, last), weights, strict=True):
            matrix[old, new] = int(weight / total * (1 << _PRECISION) + (0.5 if weight >= 0 else -0.5))
    return matrix.to(device)
