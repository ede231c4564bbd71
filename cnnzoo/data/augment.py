"""Augmentation of a whole batch at once, each image by its own draw, on the device where the images are.

It works on images as they are stored, before they are scaled to the network: 28 px are changed at a sixty-fourth of
the cost of 224. What is drawn depends on a seed and on the place of an image in its batch, so that it is the same
whoever makes which part of the batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from cnnzoo.data.resize import windows

_ERASED = (0.02, 0.33)  # share of the area, and
_ASPECT = (0.3, 3.3)  # height over width of what is erased (Zhong et al. 2017, "Random Erasing Data Augmentation")


@dataclass(frozen=True)
class Augmentation:
    """What is done to training images.

    Attributes:
        flip: Whether half of the images are mirrored, left to right.
        translate: Most pixels by which an image is moved, up or down and left or right; black comes in.
        random_erasing: Share of images in which a rectangle of random size is filled with random values.
        mixup: The parameter of the Beta distribution by which each image is mixed with another; 0 mixes none.
        pca_lighting: Deviation of the noise along the principal components of the training set's colors.
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
    """What was drawn for the images of one batch, of which ``at`` picks some.

    Attributes:
        flip: bool (N,).
        translate: int64 (N, 2), down and right, px.
        box: float (N, 4): top, left, height and width of what is erased, as shares of the image.
        share: float (N,): how much of the image itself stays in the mixture.
        pca_lighting: float (N, C): what is added along each principal component.
        place: float (N, 2): where a window is cut, for ``crop_mode="center"``.
        noise: uint8 (N, C, H, W): what fills an erased place, the same for all images of a batch.
    """

    flip: torch.Tensor
    translate: torch.Tensor
    box: torch.Tensor
    share: torch.Tensor
    pca_lighting: torch.Tensor
    place: torch.Tensor
    noise: torch.Tensor

    def at(self, chosen: slice) -> AugmentParams:
        """The draws of some images of the batch."""
        return AugmentParams(**{name: value[chosen] for name, value in vars(self).items()})


def sample_params(augmentation: Augmentation, n: int, shape: Sequence[int], seed: int) -> AugmentParams:
    """Draws for a batch of ``n`` images of one (C, H, W), on the CPU: the same whatever the device."""
    generator = torch.Generator().manual_seed(seed)

    def uniform(*shape: int) -> torch.Tensor:
        return torch.rand(*shape, generator=generator)

    least, most = _ERASED
    area = least + (most - least) * uniform(n)
    low, high = (torch.tensor(bound).log() for bound in _ASPECT)
    aspect = (low + (high - low) * uniform(n)).exp()
    height, width = ((area * aspect).sqrt().clamp(max=1), (area / aspect).sqrt().clamp(max=1))
    corner = uniform(n, 2) * torch.stack([1 - height, 1 - width], dim=1)
    erased = uniform(n) < augmentation.random_erasing
    box = torch.cat([corner, torch.stack([height, width], dim=1) * erased[:, None]], dim=1)
    share = torch.ones(n)
    if augmentation.mixup:
        # Beta(a, a) as a quotient of gammas: the generator is ours, which torch.distributions does not take
        gammas = torch._standard_gamma(torch.full((n, 2), augmentation.mixup), generator=generator)
        share = gammas[:, 0] / gammas.sum(dim=1).clamp(min=1e-30)
    return AugmentParams(
        flip=(uniform(n) < 0.5) & augmentation.flip,
        translate=torch.randint(-augmentation.translate, augmentation.translate + 1, (n, 2), generator=generator),
        box=box,
        share=share,
        pca_lighting=torch.randn(n, shape[0], generator=generator) * augmentation.pca_lighting,
        place=uniform(n, 2),
        noise=torch.randint(256, (1, *shape), generator=generator, dtype=torch.uint8).expand(n, *shape),
    )


def augment(
    images: torch.Tensor,
    augmentation: Augmentation,
    draws: AugmentParams,
    *,
    partners: torch.Tensor | None = None,
    components: torch.Tensor | None = None,
) -> torch.Tensor:
    """Images changed as drawn.

    Args:
        images: uint8 (N, C, H, W).
        augmentation: What is done.
        draws: What was drawn for these images.
        partners: uint8 (N, C, H, W): what each image is mixed with.
        components: float (C, C): the principal components of the set's colors, each times its variance, as rows.

    Returns:
        uint8 (N, C, H, W).
    """
    device = images.device
    height, width = images.shape[-2:]
    if augmentation.flip:
        images = torch.where(draws.flip.to(device)[:, None, None, None], images.flip(-1), images)
    if augmentation.translate:
        most = augmentation.translate
        corner = most - draws.translate.to(device)
        images = windows(
            torch.nn.functional.pad(images, (most,) * 4),
            corner[:, :1] + torch.arange(height, device=device),
            corner[:, 1:] + torch.arange(width, device=device),
        )
    if augmentation.pca_lighting and components is not None:
        # Krizhevsky, Sutskever, Hinton 2012, section 4.1: [p1 p2 p3] [a1 l1, a2 l2, a3 l3]
        added = 255 * draws.pca_lighting.to(device) @ components.to(device)
        images = (images + added[:, :, None, None]).round_().clamp_(0, 255).to(torch.uint8)
    if augmentation.mixup and partners is not None:
        share = draws.share.to(device)[:, None, None, None]
        images = (images * share + partners * (1 - share)).round_().to(torch.uint8)
    if augmentation.random_erasing:
        top, left, tall, wide = (draws.box.to(device)[:, i, None] for i in range(4))
        y, x = ((torch.arange(side, device=device) + 0.5) / side for side in (height, width))
        rows, columns = (y >= top) & (y < top + tall), (x >= left) & (x < left + wide)  # (N, H), (N, W)
        inside = (rows[:, :, None] & columns[:, None, :])[:, None]
        images = torch.where(inside, draws.noise.to(device), images)
    return images
