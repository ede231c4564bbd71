"""Augmentation of a whole batch at once, with different random parameters for each image, on the images' device.

Stored images are augmented before they are resized for the network, since there are fewer pixels: for 28 px, a
sixty-fourth of those for 224 px.
The random parameters depend on a seed and on the position of an image in its batch, so that they are the same
whichever process augments which images of the batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from cnnzoo.data.crop import gather_windows

# Zhong et al. 2017, "Random Erasing Data Augmentation"
_ERASED_AREA = (0.02, 0.33)  # fraction of the image
_ERASED_ASPECT = (0.3, 3.3)  # height over width


@dataclass(frozen=True)
class Augmentation:
    """The settings of augmentation; ``Augmentation()`` leaves images unchanged, and is falsy.

    Attributes:
        flip: Whether images are flipped horizontally with probability 0.5.
        translate: Largest translation, in px, in both directions; padded with black.
        random_erasing: Probability that a random rectangle of an image is filled with noise.
        mixup: Alpha of the Beta distribution of mixup; 0: no mixup.
        pca_lighting: Standard deviation of the noise along the principal components of color.
    """

    flip: bool = False
    translate: int = 0
    random_erasing: float = 0.0
    mixup: float = 0.0
    pca_lighting: float = 0.0

    def __bool__(self) -> bool:
        return self != Augmentation()


@dataclass(frozen=True)
class AugmentParams:
    """The random parameters of the images of one batch.

    Attributes:
        flip: bool (N,).
        translate: int64 (N, 2): down and right, px.
        erase_box: float (N, 4): top, left, height and width of the erased rectangle, as fractions of the image.
        mixup_weight: float (N,): weight of the image itself in the mixture with its partner.
        pca_lighting: float (N, C): coefficient of each principal component.
        crop_positions: float (N, 2): where each image is cropped with ``crop_mode="center"``.
        noise: uint8 (N, C, H, W): fills erased rectangles; the same for all images of a batch.
    """

    flip: torch.Tensor
    translate: torch.Tensor
    erase_box: torch.Tensor
    mixup_weight: torch.Tensor
    pca_lighting: torch.Tensor
    crop_positions: torch.Tensor
    noise: torch.Tensor

    def select(self, positions: slice) -> AugmentParams:
        """Returns the parameters of the images at some positions of the batch."""
        return AugmentParams(**{name: value[positions] for name, value in vars(self).items()})


def sample_params(augmentation: Augmentation, n: int, shape: Sequence[int], seed: int) -> AugmentParams:
    """Samples the parameters of a batch, on the CPU, so that they do not depend on the device.

    Args:
        augmentation: The settings.
        n: Number of images.
        shape: (C, H, W) of each.
        seed: Seed of the parameters.
    """
    generator = torch.Generator().manual_seed(seed)

    def uniform(*size: int) -> torch.Tensor:
        return torch.rand(*size, generator=generator)

    minimum, maximum = _ERASED_AREA
    area = minimum + (maximum - minimum) * uniform(n)
    low, high = (torch.tensor(bound).log() for bound in _ERASED_ASPECT)
    aspect = (low + (high - low) * uniform(n)).exp()
    height, width = ((area * aspect).sqrt().clamp(max=1), (area / aspect).sqrt().clamp(max=1))
    corner = uniform(n, 2) * torch.stack([1 - height, 1 - width], dim=1)
    is_erased = uniform(n) < augmentation.random_erasing
    erase_box = torch.cat([corner, torch.stack([height, width], dim=1) * is_erased[:, None]], dim=1)
    mixup_weight = torch.ones(n)
    if augmentation.mixup:
        # Beta(a, a) as a ratio of gammas, since torch.distributions takes no generator
        gammas = torch._standard_gamma(torch.full((n, 2), augmentation.mixup), generator=generator)
        mixup_weight = gammas[:, 0] / gammas.sum(dim=1).clamp(min=1e-30)
    return AugmentParams(
        flip=(uniform(n) < 0.5) & augmentation.flip,
        translate=torch.randint(-augmentation.translate, augmentation.translate + 1, (n, 2), generator=generator),
        erase_box=erase_box,
        mixup_weight=mixup_weight,
        pca_lighting=torch.randn(n, shape[0], generator=generator) * augmentation.pca_lighting,
        crop_positions=uniform(n, 2),
        noise=torch.randint(256, (1, *shape), generator=generator, dtype=torch.uint8).expand(n, *shape),
    )


def augment(
    images: torch.Tensor,
    augmentation: Augmentation,
    params: AugmentParams,
    *,
    partners: torch.Tensor | None = None,
    color_components: torch.Tensor | None = None,
) -> torch.Tensor:
    """Returns augmented images.

    Args:
        images: uint8 (N, C, H, W).
        augmentation: The settings.
        params: The random parameters of these images.
        partners: uint8 (N, C, H, W): the image that each is mixed with; None for no mixup.
        color_components: float (C, C): the principal components of the colors of the data set, each multiplied by its
            variance, as rows; None for no ``pca_lighting``.

    Returns:
        uint8 (N, C, H, W).
    """
    device = images.device
    if augmentation.flip:
        images = torch.where(params.flip.to(device)[:, None, None, None], images.flip(-1), images)
    if augmentation.translate:
        images = _translate(images, params.translate.to(device), augmentation.translate)
    if augmentation.pca_lighting and color_components is not None:
        # Krizhevsky, Sutskever, Hinton 2012, section 4.1: [p1 p2 p3] [a1 l1, a2 l2, a3 l3]
        offset = 255 * params.pca_lighting.to(device) @ color_components.to(device)
        images = (images + offset[:, :, None, None]).round_().clamp_(0, 255).to(torch.uint8)
    if augmentation.mixup and partners is not None:
        weight = params.mixup_weight.to(device)[:, None, None, None]
        images = (images * weight + partners * (1 - weight)).round_().to(torch.uint8)
    if augmentation.random_erasing:
        images = _erase(images, params.erase_box.to(device), params.noise.to(device))
    return images


def _translate(images: torch.Tensor, offsets: torch.Tensor, maximum: int) -> torch.Tensor:
    """Returns images moved by offsets, int64 (N, 2), of at most ``maximum`` px, padded with black."""
    height, width = images.shape[-2:]
    corner = maximum - offsets
    return gather_windows(
        torch.nn.functional.pad(images, (maximum,) * 4),
        corner[:, :1] + torch.arange(height, device=images.device),
        corner[:, 1:] + torch.arange(width, device=images.device),
    )


def _erase(images: torch.Tensor, boxes: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
    """Returns images with boxes, (N, 4) as fractions of the image, filled with noise."""
    top, left, box_height, box_width = (boxes[:, i, None] for i in range(4))
    y, x = ((torch.arange(side, device=images.device) + 0.5) / side for side in images.shape[-2:])
    rows, columns = (y >= top) & (y < top + box_height), (x >= left) & (x < left + box_width)  # (N, H), (N, W)
    is_inside = (rows[:, :, None] & columns[:, None, :])[:, None]
    return torch.where(is_inside, noise, images)
