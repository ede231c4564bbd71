"""The blocks of a classifier: flatten, dense layers, dropout and the class scores."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cnnzoo.blocks.activation import activation_field
from cnnzoo.blocks.base import Block, Shape, int_field, register_block, round_width
from cnnzoo.blocks.layers import bias_init_field, init_field, make_layer, with_norm_and_activation
from cnnzoo.errors import SpecError
from cnnzoo.fields import bool_field, float_field

if TYPE_CHECKING:
    from torch import nn


@register_block
@dataclass(frozen=True, repr=False)
class Flatten(Block):
    """Flattening of maps (C, H, W) to a vector (C * H * W,)."""

    label_prefix = "flatten"

    def build(self, shape: Shape) -> list[nn.Module]:
        from torch import nn

        return [nn.Flatten()]


@register_block
@dataclass(frozen=True, repr=False)
class Dense(Block):
    """A fully connected layer and its activation.

    Attributes:
        out_features: Number of units.
        bias: Whether each unit has a bias.
        activation: A key of ``ACTIVATIONS``, or None.
        init: The initializer of the weights, see ``cnnzoo.initializers``; None keeps torch's.
        bias_init: Initial value of the biases; None keeps torch's.
    """

    out_features: int = int_field()
    bias: bool = bool_field(True)
    activation: str | None = activation_field("relu")
    init: str | None = init_field()
    bias_init: float | None = bias_init_field()

    label_prefix = "fc"
    has_weights = True

    def build(self, shape: Shape) -> list[nn.Module]:
        from torch import nn

        if len(shape) != 1:
            raise SpecError("it needs a vector; put a Flatten() block before it")
        linear = make_layer(
            nn.Linear, shape[0], self.out_features, bias=self.bias, init=self.init, bias_init=self.bias_init
        )
        return with_norm_and_activation(linear, self.out_features, None, self.activation)

    def scale_width(self, factor: float, multiple: int) -> Block:
        return dataclasses.replace(self, out_features=round_width(self.out_features, factor, 1))


@register_block
@dataclass(frozen=True, repr=False)
class Dropout(Block):
    """Dropout; a separate block, because its position affects the state-dict keys.

    Attributes:
        p: Probability that a value is zeroed in training.
    """

    p: float = float_field(0.5, minimum=0.0, below=1.0)

    label_prefix = "drop"

    def build(self, shape: Shape) -> list[nn.Module]:
        from torch import nn

        return [nn.Dropout(self.p)]


@register_block
@dataclass(frozen=True, repr=False)
class Logits(Block):
    """The last layer, one score per class: a dense layer, or a 1x1 convolution if its input is maps.

    Attributes:
        num_classes: Number of classes.
        bias: Whether each class has a bias.
        init: The initializer of the weights, see ``cnnzoo.initializers``; None keeps torch's.
        bias_init: Initial value of the biases; None keeps torch's.
    """

    num_classes: int = int_field()
    bias: bool = bool_field(True)
    init: str | None = init_field()
    bias_init: float | None = bias_init_field()

    label_prefix = "fc"
    has_weights = True

    def with_num_classes(self, num_classes: int) -> Block:
        return dataclasses.replace(self, num_classes=num_classes)

    def build(self, shape: Shape) -> list[nn.Module]:
        from torch import nn

        is_vector = len(shape) == 1
        sizes = (shape[0], self.num_classes) if is_vector else (shape[0], self.num_classes, 1)
        kind = nn.Linear if is_vector else nn.Conv2d
        return [make_layer(kind, *sizes, bias=self.bias, init=self.init, bias_init=self.bias_init)]
