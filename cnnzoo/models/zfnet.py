"""ZFNet: AlexNet with a smaller first layer; and the wider network of the ONNX model zoo."""

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


@register(
    year=2013,
    published=(
        Published(
            TOP1_ERROR,
            "37.5",
            ZEILER_2013,
            note=f"{TRAINING_RUN}; of the paper's own with 512, 1024 and 512 maps in conv3 to conv5",
        ),
        Published(TOP5_ERROR, "16.0", ZEILER_2013, note=f"{TRAINING_RUN}; of the same"),
    ),
    deviations=(
        Deviation("conv1", "maps of 110x110 (figure 3)", "no padding, maps of 109x109", "as in the ONNX model zoo"),
        Deviation("conv4", "1024 maps (table 2)", "512", "as in the ONNX model zoo"),
        Deviation("pool5", "3x3", "2x2", "as in the ONNX model zoo"),
        Deviation("fc7", "4096 units", "1024, and no dropout", "as in the ONNX model zoo"),
        Deviation("norm1, norm2", "contrast normalization, before the pool", "LRN as in AlexNet", "as in the zoo"),
    ),
)
def zfnet512(num_classes: int = 1000, in_channels: int = 3, image_size: int = 224) -> Spec:
    """ZFNet-512 of the ONNX model zoo: 512 maps in conv3, conv4 and conv5, and two dense layers of 4096 and 1024."""
    small: dict[str, Any] = {"init": "normal:0.01", "bias_init": 0.0}
    return Spec(
        name="zfnet512",
        input=(in_channels, image_size, image_size),
        features=(
            Conv(96, kernel_size=7, stride=2, **small),  #  96 @ 109x109
            LRN(),
            MaxPool(3, stride=2),  #  96 @ 54x54
            Conv(256, kernel_size=5, stride=2, **small),  # 256 @ 25x25
            LRN(),
            MaxPool(3, stride=2),  # 256 @ 12x12
            Conv(512, kernel_size=3, padding=1, **small),  # 512 @ 12x12
            Conv(512, kernel_size=3, padding=1, **small),  # 512 @ 12x12
            Conv(512, kernel_size=3, padding=1, **small),  # 512 @ 12x12
            MaxPool(2, stride=2),  # 512 @ 6x6
            Flatten(),  # 18432
        ),
        classifier=(
            Dense(4096, **small),
            Dense(1024, **small),
            Logits(num_classes, **small),
        ),
    )
