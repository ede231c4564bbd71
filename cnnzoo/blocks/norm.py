"""Normalizations by name, and the normalization blocks."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cnnzoo.blocks.activation import activation_field, make_activation
from cnnzoo.blocks.base import Block, Shape, int_field, register_block, require_maps
from cnnzoo.fields import bool_field, float_field, parsed_field
from cnnzoo.limits import MAX_VALUE
from cnnzoo.plugins import Parametrized, Registry, bind_argument

NormFactory = Callable[[int, float], "nn.Module"]  # channels, number -> module


def _batch(channels: int, eps: float) -> nn.Module:
    from torch import nn

    return nn.BatchNorm2d(channels, eps=eps)


def _instance(channels: int, eps: float) -> nn.Module:
    from torch import nn

    return nn.InstanceNorm2d(channels, eps=eps, affine=True)


def _group(channels: int, groups: float) -> nn.Module:
    from torch import nn

    return nn.GroupNorm(math.gcd(int(groups), channels), channels)


def _layer(channels: int, eps: float) -> nn.Module:
    from torch import nn

    return nn.GroupNorm(1, channels, eps=eps)


def _is_epsilon(number: float) -> bool:
    return 0 < number < MAX_VALUE


def _is_group_count(number: float) -> bool:
    return _is_epsilon(number) and number == int(number)


NORMS: Registry[Parametrized[NormFactory]] = Registry(
    "norm",
    {
        "batch": Parametrized(_batch, 1e-5, _is_epsilon),
        "instance": Parametrized(_instance, 1e-5, _is_epsilon),
        "group": Parametrized(_group, 32, _is_group_count),
        "layer": Parametrized(_layer, 1e-5, _is_epsilon),
    },
)

if TYPE_CHECKING:
    from torch import nn


def register_norm(name: str, factory: NormFactory | None = None, *, default: float = 1e-5) -> Any:
    """Registers a normalization, for ``norm=`` of every block and network.

    Use it as ``register_norm("name", factory)`` or as the decorator ``@register_norm("name")``.

    Args:
        name: The name.
        factory: Takes the number of channels and the number after the colon; returns the module.
        default: The number if none is written.

    Raises:
        InputError: If the name is taken, or is not an identifier.
    """

    def add(factory: NormFactory) -> NormFactory:
        NORMS.register(name, Parametrized(factory, default), str(getattr(factory, "__module__", None)))
        return factory

    return add if factory is None else add(factory)


def make_norm(text: str) -> Callable[[int], nn.Module]:
    """Returns the function that builds a normalization for a number of channels.

    Args:
        text: A registered name, optionally with its number after a colon: ``"batch"``, ``"batch:0.001"`` (eps),
            ``"group:8"`` (number of groups).

    Raises:
        UnknownNameError: If the name is not registered.
        InputError: If the number is not valid.
    """
    return bind_argument(NORMS, text)


def norm_field(default: str | None = None, *, optional: bool = True) -> Any:
    """Returns a field for the name of a normalization (see ``make_norm``)."""
    return parsed_field(default, make_norm, "the name of a norm, such as 'batch'", optional=optional)


@register_block
@dataclass(frozen=True, repr=False)
class Norm(Block):
    """A normalization, optionally followed by an activation.

    Attributes:
        norm: ``"batch"``, ``"instance"``, ``"group"`` or ``"layer"``, see ``make_norm``.
        activation: A key of ``ACTIVATIONS``, or None.
    """

    norm: str = norm_field("batch", optional=False)
    activation: str | None = activation_field()

    label_prefix = "norm"

    def build(self, shape: Shape) -> list[nn.Module]:
        require_maps(shape)
        norm = make_norm(self.norm)(shape[0])
        return [norm] if self.activation is None else [norm, make_activation(self.activation)]


@register_block
@dataclass(frozen=True, repr=False)
class LRN(Block):
    """Local response normalization across neighboring maps (Krizhevsky, Sutskever, Hinton 2012, section 3.3).

    Each value is divided by ``(k + alpha * S) ** beta``, where S is the sum of the squares of ``size`` neighboring maps
    at the same position. The defaults are the paper's.

    Attributes:
        size: Number of neighboring maps, n in the paper.
        alpha: Factor of the sum.
        beta: The exponent.
        k: The constant term.
        mean: Whether S is divided by ``size`` (torch and Caffe divide, the paper does not).
    """

    size: int = int_field(5)
    alpha: float = float_field(1e-4)
    beta: float = float_field(0.75)
    k: float = float_field(2.0)
    mean: bool = bool_field(False)

    label_prefix = "norm"

    def build(self, shape: Shape) -> list[nn.Module]:
        from torch import nn

        require_maps(shape)
        alpha = self.alpha if self.mean else self.alpha * self.size  # torch divides the sum by size
        return [nn.LocalResponseNorm(self.size, alpha=alpha, beta=self.beta, k=self.k)]
