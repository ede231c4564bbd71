"""Initial weights by name: ``"xavier_uniform"``, ``"xavier_uniform:4"``, ``"normal:0.01"``.

Blocks, recipes and the command line accept the same names. The number after the colon is the argument of the
initializer: a gain, a bound, a standard deviation, ...
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from cnnzoo.errors import InputError
from cnnzoo.plugins import Parametrized, Registry, bind_argument

if TYPE_CHECKING:
    import torch
    from torch import nn

Initializer = Callable[["torch.Tensor", float], object]  # fills the tensor in place


def _not_negative(number: float) -> bool:
    return 0 <= number < math.inf


def _from_torch(name: str, argument: str, **settings: Any) -> Initializer:
    """Returns a function of ``torch.nn.init``, which is imported by its first call, with the number as an argument."""

    def fill(weight: torch.Tensor, number: float) -> object:
        from torch.nn import init

        return getattr(init, name)(weight, **{argument: number}, **settings)

    return fill


def _uniform(weight: torch.Tensor, bound: float) -> object:
    """Fills with values uniform in +-bound."""
    from torch.nn import init

    return init.uniform_(weight, -bound, bound)


def _uniform_over_fan_in(weight: torch.Tensor, scale: float) -> object:
    """Fills with values uniform in +-scale/fan_in (LeCun, Bottou, Bengio, Haffner 1998 use a scale of 2.4)."""
    from torch.nn import init

    return _uniform(weight, scale / init._calculate_fan_in_and_fan_out(weight)[0])


INITIALIZERS: Registry[Parametrized[Initializer]] = Registry(
    "initializer",
    {
        name: Parametrized(function, default, math.isfinite if name == "constant" else _not_negative)
        for name, function, default in (
            ("xavier_uniform", _from_torch("xavier_uniform_", "gain"), 1.0),
            ("xavier_normal", _from_torch("xavier_normal_", "gain"), 1.0),
            ("kaiming_uniform", _from_torch("kaiming_uniform_", "a"), 0.0),
            ("kaiming_normal", _from_torch("kaiming_normal_", "a"), 0.0),
            ("kaiming_normal_fan_out", _from_torch("kaiming_normal_", "a", mode="fan_out"), 0.0),
            ("normal", _from_torch("normal_", "std"), 0.01),
            ("uniform", _uniform, 0.01),
            ("uniform_over_fan_in", _uniform_over_fan_in, 2.4),
            ("constant", _from_torch("constant_", "val"), 0.0),
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
    from torch import nn
    from torch.nn.utils import parametrize

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
