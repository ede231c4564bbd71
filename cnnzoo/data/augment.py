"""Augmentation of a whole batch at once, with different random parameters for each image, on the images' device.

Stored images are augmented before they are resized for the network, since there are fewer pixels: for 28 px, a
sixty-fourth of those for 224 px.
The random parameters depend on a seed and on the position of an image in its batch, so that they are the same
whichever process augments which images of the batch. Those of the fields come from one stream of random numbers; each
registered augmentation has a stream of its own, so that none changes the others.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch

from cnnzoo.data.augmentation_registry import BoundAugmentation, ImageBatch, parse_augmentation
from cnnzoo.data.crop import gather_windows
from cnnzoo.data.mixing import mixup, sample_beta
from cnnzoo.data.seeding import derive_seed
from cnnzoo.errors import InputError

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
        augment: Registered augmentations, ``"name"`` or ``"name:number"``, which follow the others in this order.

    Raises:
        UnknownNameError: If an augmentation is not registered.
        InputError: If its number is not valid, it is named twice, or images would be mixed twice.
    """

    flip: bool = False
    translate: int = 0
    random_erasing: float = 0.0
    mixup: float = 0.0
    pca_lighting: float = 0.0
    augment: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        names = [augmentation.name for augmentation in self.registered]
        if repeated := [name for i, name in enumerate(names) if name in names[:i]]:
            raise InputError(f"augment names {repeated[0]!r} twice; remove one of {list(self.augment)}")
        mixing = [
            *(["mixup"] if self.mixup else []),
            *(augmentation.name for augmentation in self.registered if augmentation.mixes),
        ]
        if len(mixing) > 1:
            raise InputError(
                f"images are mixed once per batch, but {' and '.join(mixing)} mix them; choose one of these"
            )

    def __bool__(self) -> bool:
        return self != Augmentation()

    @property
    def registered(self) -> list[BoundAugmentation]:
        """The registered augmentations, in their order."""
        return [parse_augmentation(text) for text in self.augment]

    @property
    def mixes(self) -> bool:
        """Whether each image is mixed with the next of its batch."""
        return self.mixup > 0 or any(augmentation.mixes for augmentation in self.registered)


class AugmentedImages(NamedTuple):
    """The result of ``augment``.

    Attributes:
        images: uint8 (N, C, H, W).
        weights: float (N,): weight of each image's own label, if images are mixed; the rest is that of the next image.
        crop_positions: float (N, 2): where each image is cropped with ``crop_mode="center"``.
    """

    images: torch.Tensor
    weights: torch.Tensor | None
    crop_positions: torch.Tensor


@dataclass(frozen=True)
class FieldParams:
    """The random parameters of the fields of ``Augmentation``, for all images of a batch, on the CPU.

    Attributes:
        flip: bool (N,).
        translate: int64 (N, 2): down and right, px.
        erase_box: float (N, 4): top, left, height and width of the erased rectangle, as fractions of the image.
        mixup_weight: float (N,): weight of the image itself in the mixture with its partner.
        pca_lighting: float (N, C): coefficient of each principal component.
        crop_positions: float (N, 2): where each image is cropped with ``crop_mode="center"``.
        noise: uint8 (1, C, H, W): fills erased rectangles; the same for all images of a batch. None if none is erased.
    """

    flip: torch.Tensor
    translate: torch.Tensor
    erase_box: torch.Tensor
    mixup_weight: torch.Tensor
    pca_lighting: torch.Tensor
    crop_positions: torch.Tensor
    noise: torch.Tensor | None


def sample_params(augmentation: Augmentation, n: int, shape: Sequence[int], generator: torch.Generator) -> FieldParams:
    """Samples the parameters of a batch, on the CPU, so that they do not depend on the device.

    Args:
        augmentation: The settings.
        n: Number of images.
        shape: (C, H, W) of each.
        generator: Generator of random numbers.
    """

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
    # the order of the draws is that of the arguments
    return FieldParams(
        erase_box=erase_box,
        mixup_weight=sample_beta(n, augmentation.mixup, generator) if augmentation.mixup else torch.ones(n),
        flip=(uniform(n) < 0.5) & augmentation.flip,
        translate=torch.randint(-augmentation.translate, augmentation.translate + 1, (n, 2), generator=generator),
        pca_lighting=torch.randn(n, shape[0], generator=generator) * augmentation.pca_lighting,
        crop_positions=uniform(n, 2),
        noise=torch.randint(256, (1, *shape), generator=generator, dtype=torch.uint8)
        if augmentation.random_erasing
        else None,
    )


def augment(
    images: torch.Tensor,
    augmentation: Augmentation,
    *,
    positions: torch.Tensor,
    batch_size: int,
    seed: int,
    step: int,
    color_components: torch.Tensor | None = None,
) -> AugmentedImages:
    """Returns augmented images: first the fields of the settings, then the registered augmentations in their order.

    Args:
        images: uint8 (N, C, H, W); if the settings mix images, (N + 1, C, H, W): the image after the last follows.
        augmentation: The settings.
        positions: int64, on the CPU: the position of each of these images in the batch of the step.
        batch_size: Number of images in the batch of the step.
        seed: Seed of the run.
        step: Number of the step.
        color_components: float (C, C): the principal components of the colors of the data set, each multiplied by its
            variance, as rows; None for no ``pca_lighting``.

    Raises:
        InputError: If a registered augmentation does not return what it should.
    """

    def make_batch(mixes: bool, *name: str) -> ImageBatch:
        n = len(images) - mixes
        partners = images[1:] if mixes else None
        return ImageBatch(images[:n], positions[:n], batch_size, derive_seed("augment", seed, step, *name), partners)

    weights = None
    batch = make_batch(augmentation.mixup > 0)
    params = sample_params(augmentation, batch_size, images.shape[1:], batch.generator)
    images = _apply_fields(batch, augmentation, params, color_components)
    if augmentation.mixup:
        weights = batch.select(params.mixup_weight)
    for registered in augmentation.registered:
        images, new_weights = _call(registered, make_batch(registered.mixes, registered.name))
        weights = new_weights if registered.mixes else weights
    positions = positions[: len(images)]
    return AugmentedImages(images, weights, params.crop_positions[positions].to(images.device))


def _apply_fields(
    batch: ImageBatch, augmentation: Augmentation, params: FieldParams, color_components: torch.Tensor | None
) -> torch.Tensor:
    images = batch.images
    if augmentation.flip:
        images = torch.where(batch.select(params.flip)[:, None, None, None], images.flip(-1), images)
    if augmentation.translate:
        images = _translate(images, batch.select(params.translate), augmentation.translate)
    if augmentation.pca_lighting and color_components is not None:
        # Krizhevsky, Sutskever, Hinton 2012, section 4.1: [p1 p2 p3] [a1 l1, a2 l2, a3 l3]
        offset = 255 * batch.select(params.pca_lighting) @ color_components.to(images.device)
        images = (images + offset[:, :, None, None]).round_().clamp_(0, 255).to(torch.uint8)
    if augmentation.mixup:
        images = mixup(images, batch.partners, batch.select(params.mixup_weight))
    if params.noise is not None:
        images = _erase(images, batch.select(params.erase_box), params.noise.to(images.device))
    return images


def _call(augmentation: BoundAugmentation, batch: ImageBatch) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Returns what a registered augmentation returns: the images and, if it mixes them, the weights.

    Raises:
        InputError: If it returns something else.
    """
    shape = tuple(batch.images.shape)
    name, mixes, function = augmentation
    result = function(batch)
    images, weights = result if mixes and isinstance(result, tuple) and len(result) == 2 else (result, None)
    if not isinstance(images, torch.Tensor) or images.shape != shape or images.dtype != torch.uint8:
        raise InputError(f"augmentation {name!r} must return images, uint8 {shape}, not {_describe(images)}")
    if not mixes:
        return images, None
    if not isinstance(weights, torch.Tensor) or weights.shape != shape[:1] or not weights.is_floating_point():
        raise InputError(
            f"augmentation {name!r} mixes images, and must return (images, weights) with the weight of each image's "
            f"own label, float ({shape[0]},), not {_describe(weights)}"
        )
    return images, weights


def _describe(value: object) -> str:
    """Returns dtype and shape of a tensor, or the type of another value, for messages."""
    if isinstance(value, torch.Tensor):
        return f"{str(value.dtype).removeprefix('torch.')} {tuple(value.shape)}"
    return type(value).__name__


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
