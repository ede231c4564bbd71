"""Network inputs from stored images: crop modes, views and normalization."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import torch

from cnnzoo.data.resize import resize

CROP_MODES = ("squash", "center", "border")
VIEWS = {"single": 1, "flip": 2, "center": 1, "five_crop": 5, "ten_crop": 10}  # number of views of each image
_MARGIN = 8 / 7  # side of the image over side of the crop: 256 px for 224 (Krizhevsky, Sutskever, Hinton 2012)


def prepare(
    images: torch.Tensor, size: Sequence[int], mean: Sequence[float], std: Sequence[float], crop_mode: str = "squash"
) -> torch.Tensor:
    """Returns the network input for stored images: brought to a size and normalized.

    Args:
        images: uint8 (N, C, H, W).
        size: (height, width) of the network's input.
        mean: Mean of each channel, values in [0, 1].
        std: Standard deviation of each channel, values in [0, 1].
        crop_mode: How images of another size are brought to ``size``, see ``resize_and_crop``.

    Returns:
        float32 (N, C, height, width), on the device of ``images``.
    """
    return normalize(resize_and_crop(images, size, crop_mode), mean, std)


def normalize(images: torch.Tensor, mean: Sequence[float], std: Sequence[float]) -> torch.Tensor:
    """Returns images normalized per channel: (value / 255 - mean) / std.

    Args:
        images: uint8 (N, C, H, W).
        mean: Mean of each channel, values in [0, 1].
        std: Standard deviation of each channel, values in [0, 1].

    Returns:
        float32 (N, C, H, W).
    """
    scale, shift = _scale_and_shift(tuple(mean), tuple(std), images.device)
    return images.float().mul_(scale).add_(shift)


@lru_cache(maxsize=32)
def _scale_and_shift(
    mean: tuple[float, ...], std: tuple[float, ...], device: torch.device
) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns the scale and shift of each channel, (1, C, 1, 1) each."""
    scale = torch.tensor([1 / (255 * s) for s in std], device=device)
    shift = torch.tensor([-m / s for m, s in zip(mean, std, strict=True)], device=device)
    return scale.view(1, -1, 1, 1), shift.view(1, -1, 1, 1)


def resize_and_crop(
    images: torch.Tensor, size: Sequence[int], crop_mode: str, crop_positions: torch.Tensor | None = None
) -> torch.Tensor:
    """Returns images brought to a size.

    Args:
        images: uint8 (N, C, H, W).
        size: (height, width) of the result.
        crop_mode: ``"squash"`` resizes height and width, each by its own factor; ``"center"`` resizes to cover 8/7 of
            ``size``, aspect ratio kept, and crops; ``"border"`` shrinks larger images, aspect ratio kept, and pads
            with black.
        crop_positions: (N, 2) in [0, 1]: for ``"center"``, where each image is cropped, down and right: 0 is the top
            left. By default the center.

    Returns:
        uint8 (N, C, height, width).
    """
    height, width = size
    if crop_mode == "squash":
        return resize(images, size)
    if crop_mode == "border":
        factor = min(1.0, height / images.shape[-2], width / images.shape[-1])
        inner = resize(images, [max(1, round(side * factor)) for side in images.shape[-2:]])
        top, left = (height - inner.shape[-2]) // 2, (width - inner.shape[-1]) // 2
        padding = (left, width - inner.shape[-1] - left, top, height - inner.shape[-2] - top)
        return torch.nn.functional.pad(inner, padding)
    images = _resize_with_margin(images, size)
    down, right = images.shape[-2] - height, images.shape[-1] - width
    if crop_positions is None:
        return images[..., down // 2 : down // 2 + height, right // 2 : right // 2 + width]
    max_corner = torch.tensor([down, right], device=images.device)
    corners = (crop_positions.to(images.device) * (max_corner + 1)).floor().long().minimum(max_corner)  # (N, 2)
    rows = corners[:, :1] + torch.arange(height, device=images.device)  # (N, height)
    columns = corners[:, 1:] + torch.arange(width, device=images.device)
    return gather_windows(images, rows, columns)


def gather_windows(images: torch.Tensor, rows: torch.Tensor, columns: torch.Tensor) -> torch.Tensor:
    """Returns a window of each image.

    Args:
        images: (N, C, H, W).
        rows: int64 (N, h): the rows of each window.
        columns: int64 (N, w): the columns of each window.

    Returns:
        (N, C, h, w).
    """
    n, channels = (torch.arange(size, device=images.device) for size in images.shape[:2])
    return images[n[:, None, None, None], channels[:, None, None], rows[:, None, :, None], columns[:, None, None, :]]


def _resize_with_margin(images: torch.Tensor, size: Sequence[int]) -> torch.Tensor:
    """Returns images resized to cover 8/7 of a size, aspect ratio kept, and cropped to exactly that at the center."""
    target = [round(side * _MARGIN) for side in size]
    factor = max(new / old for new, old in zip(target, images.shape[-2:], strict=True))
    resized = resize(
        images, [max(round(old * factor), new) for old, new in zip(images.shape[-2:], target, strict=True)]
    )
    top, left = ((side - new) // 2 for side, new in zip(resized.shape[-2:], target, strict=True))
    return resized[..., top : top + target[0], left : left + target[1]]


def make_views(images: torch.Tensor, size: Sequence[int], views: str, crop_mode: str = "squash") -> torch.Tensor:
    """Returns the views of each image over which predictions are averaged.

    Args:
        images: uint8 (N, C, H, W).
        size: (height, width) of each view.
        views: ``"single"``: the image, brought to ``size``; ``"flip"``: also its mirror image. Of the image resized to
            cover 8/7 of ``size`` (256 px for 224): ``"center"``: the center; ``"five_crop"``: also the four corners;
            ``"ten_crop"``: also the mirror images of all five (Krizhevsky, Sutskever, Hinton 2012).
        crop_mode: How images are brought to ``size`` for ``"single"`` and ``"flip"``, see ``resize_and_crop``.

    Returns:
        uint8 (N, K, C, height, width), K as in ``VIEWS``.
    """
    if views in ("single", "flip"):
        crops = [resize_and_crop(images, size, crop_mode)]
    else:
        height, width = size
        images = _resize_with_margin(images, size)
        down, right = images.shape[-2] - height, images.shape[-1] - width
        corners = [(0, 0), (0, right), (down, 0), (down, right)] if views != "center" else []
        crops = [
            images[..., top : top + height, left : left + width] for top, left in [(down // 2, right // 2), *corners]
        ]
    if views in ("flip", "ten_crop"):
        crops += [crop.flip(-1) for crop in crops]
    return torch.stack(crops, dim=1)
