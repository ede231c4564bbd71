"""ZFNet: AlexNet with a smaller first layer."""

from __future__ import annotations

from typing import Any

from cnnzoo.blocks import LRN, Conv, Dense, Dropout, Flatten, Logits, MaxPool
from cnnzoo.published import TOP1_ERROR, TOP5_ERROR, Deviation, Published
from cnnzoo.registry import register
from cnnzoo.spec import Spec

ZEILER_2013 = "Zeiler, Fergus: Visualizing and Understanding Convolutional Networks, 2013"


@register(
    year=2013,
    published=(
        Published(TOP1_ERROR, "38.4", ZEILER_2013, note="a training run"),
        Published(TOP5_ERROR, "16.5", ZEILER_2013, note="a training run"),
    ),
    deviations=(
        Deviation("conv1", "no padding printed", "padding 1", "figure 3: 110x110 needs it"),
        Deviation("pool1, pool2", "no rounding printed", "up", "figure 3: 55x55 and 13x13 need it"),
        Deviation("norm1, norm2", "contrast normalization", "LRN as in AlexNet", "no constants are printed"),
    ),
)
def zfnet(num_classes: int = 1000, in_channels: int = 3, image_size: int = 224) -> Spec:
    """ZFNet: AlexNet in one tower with a first layer of 7x7 and stride 2."""
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
