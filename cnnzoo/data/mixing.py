"""What mixes pairs of images and their labels: mixup and CutMix."""

from __future__ import annotations

import torch

from cnnzoo.data.augmentation_registry import ImageBatch, register_augmentation


def sample_beta(n: int, alpha: float, generator: torch.Generator) -> torch.Tensor:
    """Returns numbers of the distribution Beta(alpha, alpha), float (n,)."""
    # a ratio of gammas, since torch.distributions takes no generator
    gammas = torch._standard_gamma(torch.full((n, 2), alpha), generator=generator)
    return gammas[:, 0] / gammas.sum(dim=1).clamp(min=1e-30)


def mixup(images: torch.Tensor, partners: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Returns weighted means of pairs of images (Zhang, Cisse, Dauphin, Lopez-Paz 2017).

    Args:
        images: uint8 (N, C, H, W).
        partners: uint8 (N, C, H, W).
        weights: float (N,): weight of each image.
    """
    weights = weights[:, None, None, None]
    return (images * weights + partners * (1 - weights)).round_().to(torch.uint8)


@register_augmentation("cutmix", default=1.0, minimum=0.01, mixes=True)
def cutmix(batch: ImageBatch, alpha: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Replaces a box of each image by that of its partner (Yun, Han, Oh, Chun, Choe, Yoo 2019).

    The area of the box before it is clipped to the image is 1 - lambda, lambda of Beta(alpha, alpha); the weight of the
    image's own label is the share of its pixels that remain. Each image has a box of its own.
    """
    height, width = batch.images.shape[-2:]
    boxes = batch.select(sample_cutmix_boxes(batch.batch_size, (height, width), alpha, batch.generator))
    top, bottom, left, right = (boxes[:, i, None] for i in range(4))
    y, x = (torch.arange(side, device=boxes.device) for side in (height, width))
    rows, columns = (y >= top) & (y < bottom), (x >= left) & (x < right)  # (N, H), (N, W)
    is_inside = (rows[:, :, None] & columns[:, None, :])[:, None]
    area = (boxes[:, 1] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 2])
    return torch.where(is_inside, batch.partners, batch.images), 1 - area / (height * width)


def sample_cutmix_boxes(n: int, size: tuple[int, int], alpha: float, generator: torch.Generator) -> torch.Tensor:
    """Returns int64 (n, 4): top, bottom, left and right of boxes, clipped to images of a size (height, width)."""
    ratio = (1 - sample_beta(n, alpha, generator)).sqrt()
    bounds = []
    for side in size:
        half = (side * ratio).long() // 2
        center = torch.randint(side, (n,), generator=generator)
        bounds += [(center - half).clamp(0, side), (center + half).clamp(0, side)]
    return torch.stack(bounds, dim=1)


def mix_targets(labels: torch.Tensor, weights: torch.Tensor, num_classes: int) -> torch.Tensor:
    """Returns the target of each image that is mixed with the next, float (N, classes).

    Args:
        labels: int64 (N + 1,): of the images, and of the one after the last.
        weights: float (N,): weight of each image's own label.
        num_classes: Number of classes.
    """
    one_hot = torch.nn.functional.one_hot(labels, num_classes)
    return one_hot[:-1] * weights[:, None] + one_hot[1:] * (1 - weights[:, None])
