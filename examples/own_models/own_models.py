"""A plugin: a package that adds a network to cnnzoo wherever it is installed.

    pip install -e examples/own_models
    cnnzoo summary cifar10_quick
    cnnzoo diff cifar10_quick lenet_caffe
    cnnzoo train cifar10_quick --data cifar10 --out runs/cifar10_quick

The entry point in pyproject.toml registers the package. A weights file contains the Spec of its network, so that it can
be loaded without this package.
"""

from cnnzoo import Spec, register
from cnnzoo.blocks import AvgPool, Conv, Dense, Flatten, Logits, MaxPool


@register(year=2013)
def cifar10_quick(num_classes: int = 10, in_channels: int = 3, image_size: int = 32) -> Spec:
    """Caffe's first network for CIFAR-10 (examples/cifar10, after Krizhevsky's cuda-convnet)."""
    return Spec(
        name="cifar10_quick",
        input=(in_channels, image_size, image_size),
        features=(
            Conv(32, kernel_size=5, padding=2),  # 32 @ 32x32; ReLU and max pool commute: Caffe has them swapped
            MaxPool(3, stride=2, ceil_mode=True),  # 32 @ 16x16
            Conv(32, kernel_size=5, padding=2),
            AvgPool(3, stride=2, ceil_mode=True),  # 32 @ 8x8
            Conv(64, kernel_size=5, padding=2),
            AvgPool(3, stride=2, ceil_mode=True),  # 64 @ 4x4
            Flatten(),
        ),
        classifier=(Dense(64, activation=None), Logits(num_classes)),  # no activation in between
    )
