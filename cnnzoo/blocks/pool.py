"""The pooling blocks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from cnnzoo.blocks.base import Block, Shape, int_field, register_block, require_maps
from cnnzoo.fields import bool_field

if TYPE_CHECKING:
    from torch import nn


@register_block
@dataclass(frozen=True, repr=False)
class MaxPool(Block):
    """Max pooling: the largest value of each window.

    Attributes:
        kernel_size: Side of the window, or (height, width).
        stride: Step of the window; None is ``kernel_size``.
        padding: Number of rows and columns of minus infinity added on each side.
        ceil_mode: Whether output sizes are rounded up, as in Caffe.
    """

    kernel_size: int | tuple[int, int] = int_field(pair=True)
    stride: int | tuple[int, int] | None = int_field(None, pair=True, optional=True)
    padding: int | tuple[int, int] = int_field(0, minimum=0, pair=True)
    ceil_mode: bool = bool_field(False)

    label_prefix = "pool"

    def build(self, shape: Shape) -> list[nn.Module]:
        from torch import nn

        require_maps(shape)
        return [nn.MaxPool2d(self.kernel_size, self.stride, self.padding, ceil_mode=self.ceil_mode)]


@register_block
@dataclass(frozen=True, repr=False)
class AvgPool(Block):
    """Average pooling: the mean of each window.

    Attributes:
        kernel_size: Side of the window, or (height, width).
        stride: Step of the window; None is ``kernel_size``.
        padding: Number of zeros added on each side.
        ceil_mode: Whether output sizes are rounded up, as in Caffe.
    """

    kernel_size: int | tuple[int, int] = int_field(pair=True)
    stride: int | tuple[int, int] | None = int_field(None, pair=True, optional=True)
    padding: int | tuple[int, int] = int_field(0, minimum=0, pair=True)
    ceil_mode: bool = bool_field(False)

    label_prefix = "pool"

    def build(self, shape: Shape) -> list[nn.Module]:
        from torch import nn

        require_maps(shape)
        return [nn.AvgPool2d(self.kernel_size, self.stride, self.padding, ceil_mode=self.ceil_mode)]


@register_block
@dataclass(frozen=True, repr=False)
class AdaptiveAvgPool(Block):
    """Average pooling to a fixed output size, whatever the input; ``AdaptiveAvgPool(1)`` is global average pooling.

    Attributes:
        output_size: Side of the output maps, or (height, width).
    """

    output_size: int | tuple[int, int] = int_field(pair=True)

    label_prefix = "pool"

    def build(self, shape: Shape) -> list[nn.Module]:
        from torch import nn

        require_maps(shape)
        return [nn.AdaptiveAvgPool2d(self.output_size)]


@register_block
@dataclass(frozen=True, repr=False)
class AdaptiveMaxPool(Block):
    """Max pooling to a fixed output size, whatever the input.

    Attributes:
        output_size: Side of the output maps, or (height, width).
    """

    output_size: int | tuple[int, int] = int_field(pair=True)

    label_prefix = "pool"

    def build(self, shape: Shape) -> list[nn.Module]:
        from torch import nn

        require_maps(shape)
        return [nn.AdaptiveMaxPool2d(self.output_size)]
