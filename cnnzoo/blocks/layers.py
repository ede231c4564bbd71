"""Helpers that several blocks share: a layer with its initial weights, followed by norm and activation."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cnnzoo.blocks.activation import make_activation
from cnnzoo.blocks.norm import make_norm
from cnnzoo.fields import float_field, parsed_field
from cnnzoo.initializers import make_initializer

if TYPE_CHECKING:
    from torch import nn


def init_field() -> Any:
    """Returns a field for the name of an initializer (see ``cnnzoo.initializers``); None keeps torch's weights."""
    return parsed_field(None, make_initializer, "the name of an initializer, such as 'xavier_uniform'", optional=True)


def bias_init_field() -> Any:
    """Returns a field for the initial value of biases; None keeps torch's."""
    return float_field(None, optional=True)


def make_layer(
    kind: type[nn.Module], *sizes: Any, init: str | None, bias_init: float | None, **settings: Any
) -> nn.Module:
    """Builds a layer with its initial weights; values that would be overwritten are not drawn.

    Args:
        kind: The class of the layer.
        *sizes: Its positional arguments, inputs and outputs first.
        init: The initializer of the weight by name, or None.
        bias_init: The initial value of the bias, or None.
        **settings: Its other arguments.
    """
    import torch
    from torch import nn

    device = torch.empty(0).device  # torch.get_default_device ignores "with torch.device(...)" in torch 2.6
    if device.type == "meta":  # there are no values, and skip_init would import sympy
        return kind(*sizes, **settings)
    keeps_torch_values = init is None or (bias_init is None and settings.get("bias", True))
    if keeps_torch_values or sizes[0] * sizes[1] < 2**15:  # drawing few weights twice is faster than skip_init
        module = kind(*sizes, **settings)
    else:
        module = nn.utils.skip_init(kind, *sizes, **settings, device=device)  # type: ignore[no-untyped-call]
    if init is not None:
        make_initializer(init)(module.get_parameter("weight"))
    if bias_init is not None and getattr(module, "bias", None) is not None:
        nn.init.constant_(module.get_parameter("bias"), bias_init)
    return module


def with_norm_and_activation(
    module: nn.Module, channels: int, norm: str | None, activation: str | None
) -> list[nn.Module]:
    """Returns a module followed by the norm and the activation of its block, if it has them."""
    modules = [module] if norm is None else [module, make_norm(norm)(channels)]
    return modules if activation is None else [*modules, make_activation(activation)]
