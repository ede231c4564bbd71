"""Network in Network: the authors' ImageNet model for Caffe, and the textbook's."""

from __future__ import annotations

from cnnzoo.blocks import Activation, AdaptiveAvgPool, Block, Conv, Dropout, Flatten, Logits, MaxPool
from cnnzoo.published import TEACHING, TOP1, TRAINING_RUN, Deviation, Published
from cnnzoo.registry import register
from cnnzoo.spec import Spec

MODEL_ZOO = "Caffe Model Zoo, Network in Network model of its authors"


def _mlpconv(number: int, maps: int, kernel_size: int, stride: int = 1, padding: int = 0) -> tuple[Block, ...]:
    """Returns a convolution and two 1x1 convolutions: a small perceptron applied at each position."""
    return (
        Conv(maps, kernel_size=kernel_size, stride=stride, padding=padding, label=f"conv{number}"),
        Conv(maps, kernel_size=1, label=f"cccp{2 * number - 1}"),
        Conv(maps, kernel_size=1, label=f"cccp{2 * number}"),
    )


@register(
    year=2013,
    published=(Published(TOP1, "59.36", MODEL_ZOO, note=TRAINING_RUN),),
    deviations=(
        Deviation("conv*", "networks for CIFAR and MNIST only", "the authors' network for ImageNet", "as in Caffe"),
    ),
)
def nin(num_classes: int = 1000, in_channels: int = 3, image_size: int = 224) -> Spec:
    """Network in Network for ImageNet: 1x1 convolutions, and global average pooling instead of dense layers."""
    return Spec(
        name="nin",
        input=(in_channels, image_size, image_size),
        features=(
            *_mlpconv(1, 96, kernel_size=11, stride=4),  #   96 @ 54x54
            MaxPool(3, stride=2, ceil_mode=True, label="pool1"),  #   96 @ 27x27
            *_mlpconv(2, 256, kernel_size=5, padding=2),
            MaxPool(3, stride=2, ceil_mode=True, label="pool2"),  #  256 @ 13x13
            *_mlpconv(3, 384, kernel_size=3, padding=1),
            MaxPool(3, stride=2, ceil_mode=True, label="pool3"),  #  384 @ 6x6
            Dropout(0.5, label="drop3"),
            Conv(1024, kernel_size=3, padding=1, label="conv4"),
            Conv(1024, kernel_size=1, label="cccp7"),  # 1024 @ 6x6
        ),
        classifier=(
            Logits(num_classes, label="cccp8"),
            Activation("relu", label="relu8"),
            AdaptiveAvgPool(1, label="pool4"),
            Flatten(),
        ),
    )


@register(
    deviations=(
        TEACHING,
        Deviation("conv4, cccp7", "1024 maps", "as many as classes", "as in the textbook"),
    ),
)
def nin_d2l(num_classes: int = 10, in_channels: int = 1, image_size: int = 224) -> Spec:
    """Network in Network as taught in Dive into Deep Learning: one channel, ten classes."""
    return Spec(
        name="nin_d2l",
        input=(in_channels, image_size, image_size),
        features=(
            *_mlpconv(1, 96, kernel_size=11, stride=4),  #  96 @ 54x54
            MaxPool(3, stride=2, label="pool1"),  #  96 @ 26x26
            *_mlpconv(2, 256, kernel_size=5, padding=2),
            MaxPool(3, stride=2, label="pool2"),  # 256 @ 12x12
            *_mlpconv(3, 384, kernel_size=3, padding=1),
            MaxPool(3, stride=2, label="pool3"),  # 384 @ 5x5
            Dropout(0.5, label="drop3"),
            Conv(num_classes, kernel_size=3, padding=1, label="conv4"),
            Conv(num_classes, kernel_size=1, label="cccp7"),  #  10 @ 5x5
        ),
        classifier=(
            Logits(num_classes, label="cccp8"),
            Activation("relu", label="relu8"),
            AdaptiveAvgPool(1, label="pool4"),
            Flatten(),
        ),
    )
