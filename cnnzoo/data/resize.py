"""From images as they are stored to images as a network takes them: scaled as PIL does it, cut, padded, normalized."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import torch

CROP_MODES = ("resize", "crop", "pad")
VIEWS = {"whole": 1, "center": 1, "five": 5, "ten": 10, "flip": 2}  # how many views of an image each is
PRECISION = 22  # bits of PIL's integer coefficients
_MARGIN = 8 / 7  # what crops are cut from, against their size: 256 px for 224 (Krizhevsky, Sutskever, Hinton 2012)


def prepare(
    images: torch.Tensor, size: Sequence[int], mean: Sequence[float], std: Sequence[float], crop_mode: str = "resize"
) -> torch.Tensor:
    """What a network takes, of images as they are stored.

    Args:
        images: uint8 (N, C, H, W).
        size: (height, width) that the network takes.
        mean: Mean of each channel, values in [0, 1].
        std: Standard deviation of each channel, values in [0, 1].
        fit: How images of another size are made to fit: see ``fitted``.

    Returns:
        float32 (N, C, height, width), on the device of ``images``.
    """
    return normalize(resize_and_crop(images, size, crop_mode), mean, std)


def normalize(images: torch.Tensor, mean: Sequence[float], std: Sequence[float]) -> torch.Tensor:
    """float32 (N, C, H, W) of mean 0 and deviation 1 in each channel, of uint8 (N, C, H, W)."""
    scale, shift = _scale_and_shift(tuple(mean), tuple(std), images.device)
    return images.float().mul_(scale).add_(shift)


@lru_cache(maxsize=32)
def _scale_and_shift(
    mean: tuple[float, ...], std: tuple[float, ...], device: torch.device
) -> tuple[torch.Tensor, torch.Tensor]:
    """Factor and summand of each channel, (1, C, 1, 1)."""
    scale = torch.tensor([1 / (255 * s) for s in std], device=device)
    shift = torch.tensor([-m / s for m, s in zip(mean, std, strict=True)], device=device)
    return scale.view(1, -1, 1, 1), shift.view(1, -1, 1, 1)


def resize_and_crop(
    images: torch.Tensor, size: Sequence[int], crop_mode: str, place: torch.Tensor | None = None
) -> torch.Tensor:
    """Images made to fit a size.

    Args:
        images: uint8 (N, C, H, W).
        size: (height, width) that the network takes.
        fit: ``"resize"`` scales height and width, each by its own factor; ``"crop"`` scales the image so that it
            covers 8/7 of the size and cuts a window; ``"pad"`` scales down what is larger, by one factor, and puts
            black around.
        place: (N, 2) in [0, 1]: for ``"crop"``, how far down and right each window lies; by default in the middle.

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
        around = (left, width - inner.shape[-1] - left, top, height - inner.shape[-2] - top)
        return torch.nn.functional.pad(inner, around)
    box = _covering(images, size)
    down, right = box.shape[-2] - height, box.shape[-1] - width
    if place is None:
        return box[..., down // 2 : down // 2 + height, right // 2 : right // 2 + width]
    spare = torch.tensor([down, right], device=images.device)
    corner = (place.to(images.device) * (spare + 1)).floor().long().minimum(spare)  # (N, 2)
    rows = corner[:, :1] + torch.arange(height, device=images.device)  # (N, height)
    columns = corner[:, 1:] + torch.arange(width, device=images.device)
    return windows(box, rows, columns)


def windows(images: torch.Tensor, rows: torch.Tensor, columns: torch.Tensor) -> torch.Tensor:
    """Of each image its own rows and columns: (N, C, H, W), (N, h), (N, w) give (N, C, h, w)."""
    n, channels = (torch.arange(size, device=images.device) for size in images.shape[:2])
    return images[n[:, None, None, None], channels[:, None, None], rows[:, None, :, None], columns[:, None, None, :]]


def _covering(images: torch.Tensor, size: Sequence[int]) -> torch.Tensor:
    """Images scaled by one factor until they cover 8/7 of a size, and their middle of just that size."""
    wanted = [round(side * _MARGIN) for side in size]
    factor = max(side / before for side, before in zip(wanted, images.shape[-2:], strict=True))
    scaled = resize(images, [max(round(b * factor), w) for b, w in zip(images.shape[-2:], wanted, strict=True)])
    top, left = ((s - w) // 2 for s, w in zip(scaled.shape[-2:], wanted, strict=True))
    return scaled[..., top : top + wanted[0], left : left + wanted[1]]


def make_views(images: torch.Tensor, size: Sequence[int], views: str, crop_mode: str = "resize") -> torch.Tensor:
    """What is shown of each image when it is classified; the predictions for one image are averaged.

    Args:
        images: uint8 (N, C, H, W).
        size: (height, width) that the network takes.
        crops: ``"whole"``: the image, made to fit. ``"flip"``: also its mirror image. Of the image scaled to cover
            8/7 of the size (256 px for 224): ``"center"``: the middle; ``"five"``: also the four corners;
            ``"ten"``: also the mirror images of all five (Krizhevsky, Sutskever, Hinton 2012).
        fit: How the whole image is made to fit.

    Returns:
        uint8 (N, K, C, height, width) with K = 1, 2, 1, 5, 10.
    """
    if views in ("whole", "flip"):
        shown = [resize_and_crop(images, size, crop_mode)]
    else:
        height, width = size
        box = _covering(images, size)
        down, right = box.shape[-2] - height, box.shape[-1] - width
        corners = [(0, 0), (0, right), (down, 0), (down, right)] if views != "center" else []
        shown = [box[..., t : t + height, left : left + width] for t, left in [(down // 2, right // 2), *corners]]
    if views in ("flip", "ten"):
        shown += [image.flip(-1) for image in shown]
    return torch.stack(shown, dim=1)


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
    return images if before == width else _scaled(images, _coefficients(before, width, images.device))


def _scaled_height(images: torch.Tensor, height: int) -> torch.Tensor:
    return _scaled_width(images.transpose(-1, -2), height).transpose(-1, -2)


def _scaled(images: torch.Tensor, coefficients: torch.Tensor) -> torch.Tensor:
    """(..., W) times (W, W'), rounded as PIL rounds.

    The products need 30 bits: float64 holds them exactly, and unlike integers has a fast matrix product.
    """
    sums = images.double() @ coefficients
    return sums.add_(2 ** (PRECISION - 1)).mul_(2.0**-PRECISION).floor_().clamp_(0, 255).to(torch.uint8)


@lru_cache(maxsize=32)
def _coefficients(before: int, after: int, device: torch.device) -> torch.Tensor:
    """(before, after): how much each old pixel gives to each new one, in 1 / 2**22, as PIL computes it."""
    scale = before / after
    spread = max(scale, 1.0)  # a triangle of this half-width; wider when shrinking
    matrix = torch.zeros(before, after, dtype=torch.float64)
    for new in range(after):
        center = (new + 0.5) * scale
        first = max(int(center - spread + 0.5), 0)
        last = min(int(center + spread + 0.5), before)
        weights = [max(1.0 - abs((old - center + 0.5) / spread), 0.0) for old in range(first, last)]
        total = sum(weights)
        for old, weight in zip(range(first, last), weights, strict=True):
            matrix[old, new] = int(weight / total * (1 << PRECISION) + 0.5)
    return matrix.to(device)
