"""The convolution block."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cnnzoo.blocks.activation import activation_field
from cnnzoo.blocks.base import Block, Shape, int_field, register_block, require_maps, round_width
from cnnzoo.blocks.layers import bias_init_field, init_field, make_layer, with_norm_and_activation
from cnnzoo.blocks.norm import norm_field
from cnnzoo.fields import bool_field

if TYPE_CHECKING:
    from torch import nn


@register_block
@dataclass(frozen=True, repr=False)
class Conv(Block):
    """A convolution, its normalization and its activation.

    Attributes:
        out_channels: Number of output maps.
        kernel_size: Side of the window, or (height, width).
        stride: Step of the window.
        padding: Number of zeros added on each side.
        dilation: Distance between neighboring positions of the window.
        groups: Number of groups of maps that are convolved separately (the two towers of AlexNet 2012).
        bias: Whether each map has a bias.
        norm: The normalization before the activation, see ``make_norm``, or None.
        activation: A key of ``ACTIVATIONS``, or None.
        init: The initializer of the weights, see ``cnnzoo.initializers``; None keeps torch's.
        bias_init: Initial value of the biases; None keeps torch's.
    """

    out_channels: int = int_field()
    kernel_size: int | tuple[int, int] = int_field(pair=True)
    stride: int | tuple[int, int] = int_field(1, pair=True)
    padding: int | tuple[int, int] = int_field(0, minimum=0, pair=True)
    dilation: int | tuple[int, int] = int_field(1, pair=True)
    groups: int = int_field(1)
    bias: bool = bool_field(True)
    norm: str | None = norm_field()
    activation: str | None = activation_field("relu")
    init: str | None = init_field()
    bias_init: float | None = bias_init_field()

    label_prefix = "conv"
    has_weights = True

    def build(self, shape: Shape) -> list[nn.Module]:
        from torch import nn

        require_maps(shape)
        conv = make_layer(
            nn.Conv2d,
            shape[0],
            self.out_channels,
            self.kernel_size,
            stride=self.stride,
            padding=self.padding,
            dilation=self.dilation,
            groups=self.groups,
            bias=self.bias,
            init=self.init,
            bias_init=self.bias_init,
        )
        return with_norm_and_activation(conv, self.out_channels, self.norm, self.activation)

    def scale_width(self, factor: float, multiple: int) -> Block:
        out_channels = round_width(self.out_channels, factor, multiple)
        depthwise = self.groups > 1 and self.groups == self.out_channels
        return dataclasses.replace(self, out_channels=out_channels, groups=out_channels if depthwise else self.groups)
