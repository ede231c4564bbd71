"""Activations by name, and the activation block."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cnnzoo.blocks.base import Block, Shape, register_block
from cnnzoo.fields import choice_field
from cnnzoo.plugins import Registry

if TYPE_CHECKING:
    from torch import nn


def _from_torch(name: str, *arguments: float) -> Callable[[], nn.Module]:
    """Returns the function that builds a module of ``torch.nn``, which is imported by its first call."""

    def build() -> nn.Module:
        from torch import nn

        module: nn.Module = getattr(nn, name)(*arguments)
        return module

    return build


def _scaled_tanh() -> nn.Module:
    from cnnzoo.blocks.modules import ScaledTanh

    return ScaledTanh()


ACTIVATIONS: Registry[Callable[[], nn.Module]] = Registry(
    "activation",
    {
        "relu": _from_torch("ReLU"),
        "relu6": _from_torch("ReLU6"),
        "leaky_relu": _from_torch("LeakyReLU", 0.01),
        "elu": _from_torch("ELU"),
        "gelu": _from_torch("GELU"),
        "silu": _from_torch("SiLU"),
        "hardswish": _from_torch("Hardswish"),
        "sigmoid": _from_torch("Sigmoid"),
        "tanh": _from_torch("Tanh"),
        "scaled_tanh": _scaled_tanh,
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
