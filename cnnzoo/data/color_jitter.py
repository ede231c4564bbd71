"""Random brightness, contrast and saturation."""

from __future__ import annotations

import torch

from cnnzoo.data.augmentation_registry import ImageBatch, register_augmentation

_GRAY_WEIGHTS = (0.2989, 0.587, 0.114)  # of red, green and blue, as in torchvision


@register_augmentation("color_jitter", default=0.4, minimum=0, maximum=1)
def color_jitter(batch: ImageBatch, strength: float) -> torch.Tensor:
    """Multiplies brightness, then contrast, then (with three channels) saturation by factors around 1.

    The factors of each image are uniform from ``1 - strength`` to ``1 + strength``.
    """
    factors = 1 + strength * (2 * batch.uniform(3) - 1)
    images = adjust_contrast(adjust_brightness(batch.images, factors[:, 0]), factors[:, 1])
    return adjust_saturation(images, factors[:, 2]) if images.shape[1] == 3 else images


def adjust_brightness(images: torch.Tensor, factors: torch.Tensor) -> torch.Tensor:
    """Returns images, uint8 (N, C, H, W), between black and themselves, or beyond; with factors, float (N,)."""
    return _blend(images, torch.zeros_like(images[:, :1, :1, :1]), factors)


def adjust_contrast(images: torch.Tensor, factors: torch.Tensor) -> torch.Tensor:
    """Returns images, uint8 (N, C, H, W), between their mean gray and themselves, or beyond; with factors, (N,)."""
    gray = _to_gray(images) if images.shape[1] == 3 else images
    # integers, whose sum does not depend on the order
    mean = gray.sum(dim=(1, 2, 3), keepdim=True, dtype=torch.int64) / gray[0].numel()
    return _blend(images, mean, factors)


def adjust_saturation(images: torch.Tensor, factors: torch.Tensor) -> torch.Tensor:
    """Returns images, uint8 (N, 3, H, W), between their gray version and themselves, or beyond; with factors, (N,)."""
    return _blend(images, _to_gray(images), factors)


def _to_gray(images: torch.Tensor) -> torch.Tensor:
    """Returns uint8 (N, 1, H, W) for RGB images."""
    red, green, blue = (images[:, i : i + 1] * weight for i, weight in enumerate(_GRAY_WEIGHTS))
    return (red + green + blue).to(torch.uint8)


def _blend(images: torch.Tensor, others: torch.Tensor, factors: torch.Tensor) -> torch.Tensor:
    """Returns ``factors * images + (1 - factors) * others``, rounded down as in torchvision."""
    factors = factors[:, None, None, None]
    return (images * factors + others * (1 - factors)).clamp_(0, 255).to(torch.uint8)
