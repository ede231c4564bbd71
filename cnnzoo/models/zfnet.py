"""ZFNet: AlexNet with a smaller first layer."""

from __future__ import annotations

from typing import Any

from cnnzoo.blocks import LRN, Conv, Dense, Dropout, Flatten, Logits, MaxPool
from cnnzoo.published import TOP1_ERROR, TOP5_ERROR, TRAINING_RUN, Deviation, Published
from cnnzoo.registry import register
from cnnzoo.spec import Spec

ZEILER_2013 = "Zeiler, Fergus: Visualizing and Understanding Convolutional Networks, 2013"


@register(
    year=2013,
    published=(
        Published(TOP1_ERROR, "38.4", ZEILER_2013, note=TRAINING_RUN),
        Published(TOP5_ERROR, "16.5", ZEILER_2013, note=TRAINING_RUN),
    ),
    deviations=(
        Deviation("conv1", "padding not printed", "padding 1", "required for the 110x110 maps of figure 3"),
        Deviation(
            "pool1, pool2", "rounding not printed", "rounded up", "required for the 55x55 and 13x13 maps of figure 3"
        ),
        Deviation("norm1, norm2", "contrast normalization", "LRN as in AlexNet", "the constants are not printed"),
    ),
)
def zfnet(num_classes: int = 1000, in_channels: int = 3, image_size: int = 224) -> Spec:
    """ZFNet, AlexNet with a smaller first layer: one tower, 7x7 filters with stride 2."""
    small: dict[str, Any] = {"init": "normal:0.01", "bias_init": 0.0}
    return Spec(
        name="zfnet",
        input=(in_channels, image_size, image_size),
        features=(
            Conv(96, kernel_size=7, stride=2, padding=1, **small),  #  96 @ 110x110
            MaxPool(3, stride=2, ceil_mode=True),  #  96 @ 55x55
            LRN(),
            Conv(256, kernel_size=5, stride=2, **small),  # 256 @ 26x26
            MaxPool(3, stride=2, ceil_mode=True),  # 256 @ 13x13
            LRN(),
            Conv(384, kernel_size=3, padding=1, **small),  # 384 @ 13x13
            Conv(384, kernel_size=3, padding=1, **small),  # 384 @ 13x13
            Conv(256, kernel_size=3, padding=1, **small),  # 256 @ 13x13
            MaxPool(3, stride=2),  # 256 @ 6x6
            Flatten(),  # 9216
        ),
        classifier=(
            Dense(4096, **small),
            Dropout(0.5),
            Dense(4096, **small),
            Dropout(0.5),
            Logits(num_classes, **small),
        ),
    )
