"""Initial weights by name: ``"xavier_uniform"``, ``"xavier_uniform:4"``, ``"normal:0.01"``.

Blocks, recipes and the command line accept the same names. The number after the colon is the argument of the
initializer: a gain, a bound, a standard deviation, ...
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.nn.utils import parametrize

from cnnzoo.errors import InputError
from cnnzoo.plugins import Parametrized, Registry, bind_argument

Initializer = Callable[[torch.Tensor, float], object]  # fills the tensor in place


def _not_negative(number: float) -> bool:
    return 0 <= number < math.inf


def _uniform_over_fan_in(weight: torch.Tensor, scale: float) -> None:
    """Fills with values uniform in +-scale/fan_in (LeCun, Bottou, Bengio, Haffner 1998 use a scale of 2.4)."""
    bound = scale / nn.init._calculate_fan_in_and_fan_out(weight)[0]
    nn.init.uniform_(weight, -bound, bound)


INITIALIZERS: Registry[Parametrized[Initializer]] = Registry(
    "initializer",
    {
        name: Parametrized(function, default, math.isfinite if name == "constant" else _not_negative)
        for name, function, default in (
            ("xavier_uniform", lambda weight, gain: nn.init.xavier_uniform_(weight, gain=gain), 1.0),
            ("xavier_normal", lambda weight, gain: nn.init.xavier_normal_(weight, gain=gain), 1.0),
            ("kaiming_uniform", lambda weight, slope: nn.init.kaiming_uniform_(weight, a=slope), 0.0),
            ("kaiming_normal", lambda weight, slope: nn.init.kaiming_normal_(weight, a=slope), 0.0),
            (
                "kaiming_normal_fan_out",
                lambda weight, slope: nn.init.kaiming_normal_(weight, a=slope, mode="fan_out"),
                0.0,
            ),
            ("normal", lambda weight, std: nn.init.normal_(weight, std=std), 0.01),
            ("uniform", lambda weight, bound: nn.init.uniform_(weight, -bound, bound), 0.01),
            ("uniform_over_fan_in", _uniform_over_fan_in, 2.4),
            ("constant", lambda weight, value: nn.init.constant_(weight, value), 0.0),
        )
    },
)


def register_initializer(name: str, function: Initializer | None = None, *, default: float = 1.0) -> Any:
    """Registers a function that fills a weight in place, for ``init=`` of blocks and of a TrainConfig.

    Use it as ``register_initializer("name", function)`` or as a decorator, ``@register_initializer("name")``.

    Args:
        name: The name.
        function: Takes the weight and the number after the colon.
        default: The number if none is written.

    Raises:
        InputError: If the name is taken, or is not an identifier.
    """

    def add(function: Initializer) -> Initializer:
        INITIALIZERS.register(name, Parametrized(function, default), function.__module__)
        return function

    return add if function is None else add(function)


def make_initializer(text: str) -> Callable[[torch.Tensor], object]:
    """Returns the function that fills a weight in place.

    Args:
        text: A registered name, optionally with its number after a colon.

    Returns:
        A function of one tensor of at least two dimensions (of any shape for ``normal``, ``uniform``, ``constant``).

    Raises:
        UnknownNameError: If the name is not registered.
        InputError: If the number is not valid.
    """
    return bind_argument(INITIALIZERS, text)


def initialize(model: nn.Module, text: str) -> None:
    """Fills the weights of every convolution and dense layer; biases are left unchanged.

    Args:
        model: Any module.
        text: As for ``make_initializer``.

    Raises:
        UnknownNameError: If the name is not registered.
        InputError: If the number is not valid.
    """
    fill = make_initializer(text)
    for module in model.modules():
        if isinstance(module, (nn.modules.conv._ConvNd, nn.Linear)):
            if "weight" in module._parameters:
                fill(module.weight)
            elif parametrize.is_parametrized(module, "weight"):
                weight = module.weight.detach().clone()
                fill(weight)
                module.weight = weight  # a property, which sets what it is computed from
            else:
                raise InputError(
                    f"init={text!r} cannot fill the weight of a {type(module).__name__} that a hook computes; use "
                    "torch.nn.utils.parametrizations instead of torch.nn.utils.weight_norm and spectral_norm"
                )
