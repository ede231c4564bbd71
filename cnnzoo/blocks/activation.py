"""Activations by name, and the activation block."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from cnnzoo.blocks.base import Block, Shape, register_block
from cnnzoo.fields import choice_field
from cnnzoo.plugins import Registry


class ScaledTanh(nn.Module):
    """``1.7159 * tanh(2 x / 3)``, the squashing function of LeCun, Bottou, Bengio, Haffner 1998 (appendix A)."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Applies the function to a tensor of any shape."""
        return 1.7159 * torch.tanh(x * (2 / 3))


ACTIVATIONS: Registry[Callable[[], nn.Module]] = Registry(
    "activation",
    {
        "relu": nn.ReLU,
        "relu6": nn.ReLU6,
        "leaky_relu": lambda: nn.LeakyReLU(0.01),
        "elu": nn.ELU,
        "gelu": nn.GELU,
        "silu": nn.SiLU,
        "hardswish": nn.Hardswish,
        "sigmoid": nn.Sigmoid,
        "tanh": nn.Tanh,
        "scaled_tanh": ScaledTanh,
    },
)


def register_activation(name: str, factory: Callable[[], nn.Module] | None = None) -> Any:
    """Registers an activation, for ``activation=`` of every block and network.

    Use it as ``register_activation("mish", nn.Mish)``, or as the decorator ``@register_activation("mine")`` above a
    module class or a function without arguments.

    Args:
        name: The name.
        factory: A class or function without arguments that returns the module.

    Raises:
        InputError: If the name is taken, or is not an identifier.
    """

    def add(factory: Callable[[], nn.Module]) -> Callable[[], nn.Module]:
        ACTIVATIONS[name] = factory
        return factory

    return add if factory is None else add(factory)


def activation_field(default: str | None = None, *, optional: bool = True) -> Any:
    """Returns a field for the name of an activation."""
    return choice_field(default, ACTIVATIONS, optional=optional)


def make_activation(name: str) -> nn.Module:
    """Builds an activation, in place if possible: only for inputs that have no other consumer."""
    module = ACTIVATIONS[name]()
    if hasattr(module, "inplace"):
        module.inplace = True  # type: ignore[assignment]
    return module


@register_block
@dataclass(frozen=True, repr=False)
class Activation(Block):
    """An activation as a block of its own.

    Attributes:
        activation: A key of ``ACTIVATIONS``.
    """

    activation: str = activation_field("relu", optional=False)

    label_prefix = "act"

    def build(self, shape: Shape) -> list[nn.Module]:
        return [ACTIVATIONS[self.activation]()]
