"""Initial weights by name: ``"xavier_uniform"``, ``"xavier_uniform:4"``, ``"normal:0.01"``.

A scheme is a word, so that it can stand in a row of a Spec, in a recipe and on a command line alike.
The number behind the colon is the one argument that the scheme takes (a gain, a bound, a deviation).
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import nn

from cnnzoo.errors import InputError, unknown


def _uniform_over_fan_in(weight: torch.Tensor, scale: float) -> None:
    """Uniform in +-scale/fan_in (LeCun, Bottou, Bengio, Haffner 1998 use 2.4)."""
    bound = scale / nn.init._calculate_fan_in_and_fan_out(weight)[0]
    nn.init.uniform_(weight, -bound, bound)


# name -> (what fills the weight, the argument where none is written)
_SCHEMES: dict[str, tuple[Callable[[torch.Tensor, float], object], float]] = {
    "xavier_uniform": (lambda weight, gain: nn.init.xavier_uniform_(weight, gain=gain), 1.0),
    "xavier_normal": (lambda weight, gain: nn.init.xavier_normal_(weight, gain=gain), 1.0),
    "kaiming_uniform": (lambda weight, slope: nn.init.kaiming_uniform_(weight, a=slope), 0.0),
    "kaiming_normal": (lambda weight, slope: nn.init.kaiming_normal_(weight, a=slope), 0.0),
    "kaiming_normal_fan_out": (lambda weight, slope: nn.init.kaiming_normal_(weight, a=slope, mode="fan_out"), 0.0),
    "normal": (lambda weight, std: nn.init.normal_(weight, std=std), 0.01),
    "uniform": (lambda weight, bound: nn.init.uniform_(weight, -bound, bound), 0.01),
    "uniform_over_fan_in": (_uniform_over_fan_in, 2.4),
    "constant": (lambda weight, value: nn.init.constant_(weight, value), 0.0),
}


def initialiser(scheme: str) -> Callable[[torch.Tensor], object]:
    """The function that fills a weight in place.

    Args:
        scheme: A known word, with its argument behind a colon where it takes one.

    Returns:
        A function of one tensor of at least two dimensions (of any for ``normal``, ``uniform``, ``constant``).

    Raises:
        UnknownNameError: If the word is not known.
        InputError: If what stands behind the colon is no number.
    """
    word, _, argument = scheme.partition(":")
    if word not in _SCHEMES:
        raise unknown("initial weights", word, _SCHEMES)
    fill, default = _SCHEMES[word]
    try:
        value = float(argument) if argument else default
        if not 0 <= value < math.inf and word != "constant":
            raise ValueError
    except ValueError:
        raise InputError(
            f"initial weights {scheme!r}: {argument!r} is no number of at least 0; write {word}:{default:g}"
        ) from None
    return lambda weight: fill(weight, value)


def initialise(model: nn.Module, scheme: str) -> None:
    """Fills the weights of every convolution and dense layer; biases stay.

    Args:
        model: Any module.
        scheme: Initial weights by name.
    """
    fill = initialiser(scheme)
    for module in model.modules():
        if isinstance(module, (nn.modules.conv._ConvNd, nn.Linear)):
            fill(module.weight)
