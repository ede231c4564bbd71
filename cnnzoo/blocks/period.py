"""The blocks of 1989 and 1998: connection tables, a bias per unit, borders, trainable subsampling, RBF output."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from cnnzoo.blocks.activation import activation_field
from cnnzoo.blocks.base import Block, Shape, int_field, register_block, require_maps
from cnnzoo.blocks.layers import bias_init_field, init_field, make_layer, with_norm_and_activation
from cnnzoo.blocks.norm import norm_field
from cnnzoo.errors import SpecError
from cnnzoo.fields import MISSING, Mismatch, bool_field, checked_field, float_field
from cnnzoo.initializers import make_initializer
from cnnzoo.limits import MAX_VALUE

if TYPE_CHECKING:
    from torch import nn


def _check_table(table: object) -> object:
    def is_valid(inputs: object) -> bool:
        if not isinstance(inputs, tuple) or not inputs or len(set(inputs)) < len(inputs):
            return False
        return all(type(i) is int and 0 <= i <= MAX_VALUE for i in inputs)

    if isinstance(table, tuple) and table and all(map(is_valid, table)):
        return table
    raise Mismatch("a tuple with, for each output map, a tuple of the indices of its input maps")


@register_block
@dataclass(frozen=True, repr=False)
class TableConv(Block):
    """A convolution with a connection table: each output map is connected to some input maps (C3 of LeNet-5).

    Attributes:
        table: For each output map, the indices of its input maps, from 0.
        kernel_size: Side of the window, or (height, width).
        stride: Step of the window.
        padding: Number of zeros added on each side.
        bias: Whether each map has a bias.
        norm: The normalization before the activation, see ``make_norm``, or None.
        activation: A key of ``ACTIVATIONS``, or None.
        init: The initializer of the weights, see ``cnnzoo.initializers``; None keeps torch's.
        bias_init: Initial value of the biases; None keeps torch's.
    """

    table: tuple[tuple[int, ...], ...] = checked_field(MISSING, _check_table)
    kernel_size: int | tuple[int, int] = int_field(pair=True)
    stride: int | tuple[int, int] = int_field(1, pair=True)
    padding: int | tuple[int, int] = int_field(0, minimum=0, pair=True)
    bias: bool = bool_field(True)
    norm: str | None = norm_field()
    activation: str | None = activation_field("relu")
    init: str | None = init_field()
    bias_init: float | None = bias_init_field()

    label_prefix = "conv"
    has_weights = True

    def build(self, shape: Shape) -> list[nn.Module]:
        from torch import nn

        from cnnzoo.blocks.modules import TableConv2d

        require_maps(shape)
        if (last := max(i for inputs in self.table for i in inputs)) >= shape[0]:
            raise SpecError(f"its table names map {last}, but the input has {shape[0]} maps, numbered from 0")
        conv = TableConv2d(
            self.table,
            kernel_size=self.kernel_size,
            stride=self.stride,
            padding=self.padding,
            bias=self.bias,
            make_conv=partial(make_layer, nn.Conv2d, init=self.init, bias_init=self.bias_init),
        )
        return with_norm_and_activation(conv, len(self.table), self.norm, self.activation)

    def scale_width(self, factor: float, multiple: int) -> Block:
        if factor == 1:
            return self
        raise SpecError(
            f"block {self.label!r} has a connection table, which names its maps one by one; width cannot scale it: "
            f"replace it by Conv({len(self.table)}, kernel_size={self.kernel_size}) first"
        )


@register_block
@dataclass(frozen=True, repr=False)
class UnitBias(Block):
    """One bias per unit, not per map, and the activation (the network of 1989); follows a convolution without biases.

    Attributes:
        activation: A key of ``ACTIVATIONS``, or None.
        bias_init: Initial value of the biases.
    """

    activation: str | None = activation_field("relu")
    bias_init: float = float_field(0.0)

    label_prefix = "bias"

    def build(self, shape: Shape) -> list[nn.Module]:
        from torch import nn

        from cnnzoo.blocks.modules import UnitBiases

        module = UnitBiases(shape)
        nn.init.constant_(module.bias, self.bias_init)
        return with_norm_and_activation(module, shape[0], None, self.activation)


@register_block
@dataclass(frozen=True, repr=False)
class Pad(Block):
    """A border of one value around the maps (the background of -1 around the images of 1989).

    Attributes:
        size: Number of rows and columns added on each side.
        value: Their value.
    """

    size: int = int_field()
    value: float = float_field(0.0)

    label_prefix = "pad"

    def build(self, shape: Shape) -> list[nn.Module]:
        from torch import nn

        require_maps(shape)
        return [nn.ConstantPad2d(self.size, self.value)]


@register_block
@dataclass(frozen=True, repr=False)
class Subsample(Block):
    """Trainable pooling: the window's sum times a coefficient, plus a bias, then the activation (S2 of LeNet-5).

    Attributes:
        kernel_size: Side of the window and stride, or (height, width); windows do not overlap.
        activation: A key of ``ACTIVATIONS``, or None.
        init: The initializer of the coefficients, see ``cnnzoo.initializers`` (the fan-in of a unit is its window);
            None starts from the mean of the window.
        bias_init: Initial value of the biases; None is 0.
    """

    kernel_size: int | tuple[int, int] = int_field(pair=True)
    activation: str | None = activation_field()
    init: str | None = init_field()
    bias_init: float | None = bias_init_field()

    label_prefix = "pool"

    def build(self, shape: Shape) -> list[nn.Module]:
        import torch
        from torch import nn

        from cnnzoo.blocks.modules import Subsampling

        require_maps(shape)
        module = Subsampling(shape[0], self.kernel_size)
        if self.init is not None:
            sides = (self.kernel_size, self.kernel_size) if isinstance(self.kernel_size, int) else self.kernel_size
            if (number := shape[0] * math.prod(sides)) > MAX_VALUE:
                raise SpecError(f"its initializer would draw {number:,} values, more than the maximum of {MAX_VALUE:,}")
            windows = torch.empty(shape[0], 1, *sides)  # one coefficient per map stands for the whole window
            make_initializer(self.init)(windows)
            with torch.no_grad():
                module.weight.copy_(windows[:, :, 0, :1])
        if self.bias_init is not None:
            nn.init.constant_(module.bias, self.bias_init)
        return with_norm_and_activation(module, shape[0], None, self.activation)


def _check_codes(codes: object) -> object:
    if (
        isinstance(codes, tuple)
        and codes
        and all(isinstance(code, str) and code and set(code) <= {"+", "-"} for code in codes)
        and len({len(code) for code in codes}) == 1
    ):
        return codes
    raise Mismatch("a tuple with one code per class, all of one length, each a string of '+' and '-'")


@register_block
@dataclass(frozen=True, repr=False)
class RBF(Block):
    """Euclidean radial basis units with fixed codes, one per class (the output of LeNet-5).

    The score of a class is minus half the squared distance between the input and its code. Up to a constant, it is the
    log-likelihood of a unit Gaussian around the code, so softmax and cross-entropy take the scores as logits.

    Attributes:
        codes: For each class a string of ``+`` (1) and ``-`` (-1), as long as the input vector.
    """

    codes: tuple[str, ...] = checked_field(MISSING, _check_codes)

    label_prefix = "rbf"
    has_weights = True

    @property
    def num_classes(self) -> int:
        """Number of classes."""
        return len(self.codes)

    def build(self, shape: Shape) -> list[nn.Module]:
        import torch

        from cnnzoo.blocks.modules import RBFUnits

        if shape != (len(self.codes[0]),):
            raise SpecError(f"its codes have length {len(self.codes[0])}, so it needs a vector of as many units")
        signs = torch.frombuffer(bytearray("".join(self.codes).encode()), dtype=torch.uint8) == ord("+")
        codes = signs.view(len(self.codes), -1).to(torch.get_default_dtype()) * 2 - 1  # on the CPU
        return [RBFUnits(codes.to(torch.empty(0).device))]

    def with_num_classes(self, num_classes: int) -> Block:
        if num_classes == self.num_classes:
            return self
        raise SpecError(
            f"block {self.label!r} has codes for {self.num_classes} classes, not for num_classes={num_classes}; give "
            f"it other codes=, or replace it by Logits({num_classes})"
        )
