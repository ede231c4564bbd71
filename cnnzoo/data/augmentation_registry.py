"""Augmentations by name: a registry that users and plugins can add to, and what an augmentation is called with."""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

import torch

from cnnzoo.errors import InputError
from cnnzoo.fields import describe_range
from cnnzoo.plugins import Parametrized, Registry, bind_argument


class ImageBatch:
    """The images that an augmentation is called with, and their random numbers.

    A step has one batch, of which these images are all or a part: processes and micro-batches share it. Random numbers
    are therefore drawn for the whole batch, on the CPU, and those of these images are selected: an image is augmented
    in the same way wherever this happens.

    Args:
        images: uint8 (N, C, H, W).
        positions: int64 (N,), on the CPU: where the images are in the batch of the step.
        batch_size: Number of images in the batch of the step.
        seed: Seed of the random numbers.
        partners: uint8 (N, C, H, W): the next image in the batch of the step for each image; None if they are not
            needed.

    Attributes:
        images: uint8 (N, C, H, W), not to be changed in place.
        batch_size: Number of images in the batch of the step.
        generator: Generator of random numbers, on the CPU. Numbers that differ between images must be drawn for
            ``batch_size`` images and be selected with ``select``.
    """

    def __init__(
        self,
        images: torch.Tensor,
        positions: torch.Tensor,
        batch_size: int,
        seed: int,
        partners: torch.Tensor | None = None,
    ) -> None:
        self.images, self.batch_size = images, batch_size
        self.generator = torch.Generator().manual_seed(seed)
        self._positions, self._partners = positions, partners

    @property
    def partners(self) -> torch.Tensor:
        """uint8 (N, C, H, W): the next image in the batch of the step for each image; after the last, the first.

        Raises:
            InputError: If the augmentation is not registered with ``mixes=True``.
        """
        if self._partners is None:
            raise InputError("an augmentation that uses partners must be registered with mixes=True")
        return self._partners

    def select(self, values: torch.Tensor) -> torch.Tensor:
        """Returns the values of these images, (N, ...), on their device.

        Args:
            values: (batch_size, ...), on the CPU: a value for each image in the batch of the step.

        Raises:
            InputError: If there is another number of values.
        """
        if len(values) != self.batch_size:
            raise InputError(
                f"an augmentation of a batch of {self.batch_size} images must select from as many values, not from "
                f"{len(values)}; draw batch.batch_size of them"
            )
        return values[self._positions].to(self.images.device, non_blocking=True)

    def uniform(self, *shape: int) -> torch.Tensor:
        """Returns numbers from 0 to 1, float (N, *shape)."""
        return self.select(torch.rand(self.batch_size, *shape, generator=self.generator))

    def normal(self, *shape: int) -> torch.Tensor:
        """Returns normally distributed numbers of mean 0 and standard deviation 1, float (N, *shape)."""
        return self.select(torch.randn(self.batch_size, *shape, generator=self.generator))


AugmentFunction = TypeVar("AugmentFunction", bound=Callable[[ImageBatch, float], Any])


@dataclass(frozen=True)
class RegisteredAugmentation(Parametrized[Callable[[ImageBatch, float], Any]]):
    """An augmentation in the registry.

    Attributes:
        mixes: Whether it mixes each image with its partner.
    """

    mixes: bool = False


def _import_augmentations() -> None:
    """Imports the modules that register the augmentations of cnnzoo."""
    for module in ("color_jitter", "mixing", "warp"):
        importlib.import_module(f"cnnzoo.data.{module}")


AUGMENTATIONS: Registry[RegisteredAugmentation] = Registry("augmentation", load_builtins=_import_augmentations)


def register_augmentation(
    name: str,
    *,
    default: float = 1.0,
    minimum: float = -math.inf,
    maximum: float = math.inf,
    mixes: bool = False,
) -> Callable[[AugmentFunction], AugmentFunction]:
    """Registers an augmentation, for ``augment=["name", "name:number"]`` of a ``TrainConfig``.

    The function takes an ``ImageBatch`` and the number after the colon. It returns the augmented images,
    uint8 (N, C, H, W); with ``mixes``, also the weight of each image's own label, float (N,): the rest of the weight is
    that of the partner's label.

        @register_augmentation("invert", default=0.5)
        def invert(batch, probability):
            is_inverted = batch.uniform() < probability
            return torch.where(is_inverted[:, None, None, None], 255 - batch.images, batch.images)

    Args:
        name: The name, an identifier.
        default: The number if none is written.
        minimum: The smallest valid number.
        maximum: The largest valid number.
        mixes: Whether it mixes each image with its partner, ``batch.partners``.

    Raises:
        InputError: If the name is not an identifier, or belongs to another augmentation.
    """

    def is_valid(number: float) -> bool:
        return math.isfinite(number) and minimum <= number <= maximum

    def register(function: AugmentFunction) -> AugmentFunction:
        expected = describe_range(minimum, maximum)
        entry = RegisteredAugmentation(function, default, is_valid, expected, mixes=mixes)
        AUGMENTATIONS.register(name, entry, str(function.__module__))
        return function

    return register


class BoundAugmentation(NamedTuple):
    """An augmentation with its number.

    Attributes:
        name: The registered name.
        mixes: Whether it mixes each image with its partner.
        function: Augments a batch; for what it returns, see ``register_augmentation``.
    """

    name: str
    mixes: bool
    function: Callable[[ImageBatch], Any]


def parse_augmentation(text: str) -> BoundAugmentation:
    """Returns the augmentation that ``"name"`` or ``"name:number"`` names.

    Raises:
        UnknownNameError: If the name is not registered.
        InputError: If the number is not valid.
    """
    function = bind_argument(AUGMENTATIONS, text)
    name = text.partition(":")[0]
    return BoundAugmentation(name, AUGMENTATIONS[name].mixes, function)
