"""Augmentations that sample images at other places, bilinearly: rotation and random crops that are resized."""

from __future__ import annotations

import math

import torch

from cnnzoo.data.augmentation_registry import ImageBatch, register_augmentation

_MIN_RATIO, _MAX_RATIO = 3 / 4, 4 / 3  # width over height of a crop
_TRIES = 10


@register_augmentation("rotate", default=15, minimum=0, maximum=180)
def rotate(batch: ImageBatch, degrees: float) -> torch.Tensor:
    """Rotates each image about its center, by an angle from -degrees to +degrees; black outside of the image."""
    angles = (2 * torch.rand(batch.batch_size, generator=batch.generator, dtype=torch.float64) - 1) * degrees
    return rotate_by(batch.images, batch.select(_cos_sin(angles)))


def rotate_by(images: torch.Tensor, cos_sin: torch.Tensor) -> torch.Tensor:
    """Returns images, uint8 (N, C, H, W), rotated counterclockwise by angles of a cosine and sine, float (N, 2)."""
    cos, sin = (cos_sin[:, i, None, None] for i in range(2))
    height, width = images.shape[-2:]
    y, x = (torch.arange(side, device=images.device) - (side - 1) / 2 for side in (height, width))  # from the center
    y = y[:, None]
    return _sample(images, sin * x + cos * y + (height - 1) / 2, cos * x - sin * y + (width - 1) / 2)


def _cos_sin(angles: torch.Tensor) -> torch.Tensor:
    """Returns float (N, 2): cosine and sine of angles in degrees, float64 (N,)."""
    radians = angles * (math.pi / 180)
    return torch.stack([radians.cos(), radians.sin()], dim=1).float()


@register_augmentation("random_resized_crop", default=0.08, minimum=0, maximum=1)
def random_resized_crop(batch: ImageBatch, min_scale: float) -> torch.Tensor:
    """Crops a random box of each image and resizes it to the size of the image (Szegedy et al. 2015).

    The area of a box is uniform from ``min_scale`` to 1 of the image, its width over height log-uniform from 3/4 to
    4/3; boxes that do not fit are drawn again, as in torchvision.
    """
    height, width = batch.images.shape[-2:]
    boxes = sample_crop_boxes(batch.batch_size, (height, width), min_scale, batch.generator)
    return resized_crop(batch.images, batch.select(boxes))


def sample_crop_boxes(n: int, size: tuple[int, int], min_scale: float, generator: torch.Generator) -> torch.Tensor:
    """Returns int64 (n, 4): top, left, height and width of boxes in images of a size (height, width).

    If none of ten boxes fits, the largest central one of a valid ratio is taken.
    """
    height, width = size

    def uniform(*shape: int) -> torch.Tensor:
        return torch.rand(n, *shape, generator=generator, dtype=torch.float64)

    area = height * width * (min_scale + (1 - min_scale) * uniform(_TRIES))
    low, high = math.log(_MIN_RATIO), math.log(_MAX_RATIO)
    ratio = (low + (high - low) * uniform(_TRIES)).exp()
    widths, heights = ((area * ratio).sqrt().round(), (area / ratio).sqrt().round())
    fits = (widths > 0) & (widths <= width) & (heights > 0) & (heights <= height)
    first = fits.int().argmax(dim=1, keepdim=True)
    any_fits = fits.any(dim=1)
    box_width = torch.where(any_fits, widths.gather(1, first)[:, 0], min(width, round(height * _MAX_RATIO)))
    box_height = torch.where(any_fits, heights.gather(1, first)[:, 0], min(height, round(width / _MIN_RATIO)))
    corner = torch.where(any_fits[:, None], uniform(2), 0.5)
    top = (corner[:, 0] * (height - box_height + any_fits)).floor()
    left = (corner[:, 1] * (width - box_width + any_fits)).floor()
    return torch.stack([top, left, box_height, box_width], dim=1).long()


def resized_crop(images: torch.Tensor, boxes: torch.Tensor) -> torch.Tensor:
    """Returns the boxes of images, resized bilinearly to the size of the images.

    Args:
        images: uint8 (N, C, H, W).
        boxes: int64 (N, 4): top, left, height and width of each.
    """
    coordinates = []
    for i, side in enumerate(images.shape[-2:]):
        start, length = boxes[:, i, None], boxes[:, i + 2, None]
        inner = (torch.arange(side, device=images.device) + 0.5) * (length / side) - 0.5
        # pixels outside of the box have no influence
        coordinates.append(start + torch.minimum(inner.clamp(min=0), length - 1))
    y, x = coordinates
    return _sample(images, y[:, :, None], x[:, None, :])


def _sample(images: torch.Tensor, y: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """Returns images, uint8 (N, C, H, W), at places in px that broadcast to (N, H, W); black outside of the image."""
    n, _, height, width = images.shape
    coordinates = ((2 * x + 1) / width - 1, (2 * y + 1) / height - 1)
    grid = torch.stack([c.expand(n, height, width) for c in coordinates], dim=-1)
    samples = torch.nn.functional.grid_sample(images.float(), grid, align_corners=False)
    return samples.round_().clamp_(0, 255).to(torch.uint8)
