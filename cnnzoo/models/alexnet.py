"""AlexNet."""

from __future__ import annotations

from cnnzoo.blocks import Conv, Dense, Dropout, Flatten, Logits, MaxPool
from cnnzoo.published import D2L_SLIDE, Deviation, Published
from cnnzoo.registry import register
from cnnzoo.spec import Spec

RGB = {"in_channels": 3}
BODY = ("conv*", "fc6", "fc7")  # all but the output layer


@register(
    published=(
        Published("Conv1 parameters", "35K", D2L_SLIDE, "parameters", ("conv1",), RGB, note="3 channels, with biases"),
        Published("Conv2 parameters", "614K", D2L_SLIDE, "parameters", ("conv2",), RGB, note="with biases"),
        Published("Conv3-5 parameters", "3M", D2L_SLIDE, "parameters", ("conv[345]",), RGB, note="with biases"),
        Published("Dense1 parameters", "26M", D2L_SLIDE, "parameters", ("fc6",), RGB, note="with biases"),
        Published("Dense2 parameters", "16M", D2L_SLIDE, "parameters", ("fc7",), RGB, note="with biases"),
        Published(
            "parameters",
            "46M",
            D2L_SLIDE,
            "parameters",
            BODY,
            RGB,
            note="3 channels, without the output layer",
            headline=True,
        ),
        Published("Conv1 FLOP", "101M", D2L_SLIDE, "macs", ("conv1",), RGB, note="multiply-adds, 3 channels"),
        Published("Conv2 FLOP", "415M", D2L_SLIDE, "macs", ("conv2",), RGB, note="multiply-adds"),
        Published("Conv3-5 FLOP", "445M", D2L_SLIDE, "macs", ("conv[345]",), RGB, note="multiply-adds"),
        Published("Dense1 FLOP", "26M", D2L_SLIDE, "macs", ("fc6",), RGB, note="multiply-adds"),
        Published("Dense2 FLOP", "16M", D2L_SLIDE, "macs", ("fc7",), RGB, note="multiply-adds"),
        Published(
            "FLOP",
            "1G",
            D2L_SLIDE,
            "macs",
            BODY,
            RGB,
            note="multiply-adds, 3 channels, without the output layer",
            headline=True,
        ),
    ),
    deviations=(
        Deviation("input", "3 channels", "1 channel", "the lecture trains on Fashion-MNIST, which is grey"),
        Deviation(
            "conv1",
            "kernel 11, stride 4, no padding, maps of 55x55",
            "padding 1, maps of 54x54",
            "as in the lecture; a 224 px image does not give 55x55 without padding",
        ),
        Deviation("conv2, conv4, conv5", "two towers (groups of 2)", "one tower", "one GPU holds the whole net today"),
        Deviation("conv1, conv2", "local response normalisation", "none", "as in the lecture"),
        Deviation("fc6", "9,216 inputs (256 maps of 6x6)", "6,400 inputs (256 maps of 5x5)", "follows from conv1"),
        Deviation("fc8", "1000 classes", "10 classes", "Fashion-MNIST has ten"),
    ),
)
def alexnet(num_classes: int = 10, in_channels: int = 1, image_size: int = 224) -> Spec:
    """AlexNet as taught in Dive into Deep Learning: one column, no LRN, 224 px with padding 1."""
    return Spec(
        name="alexnet",
        input=(in_channels, image_size, image_size),
        features=(
            Conv(96, kernel=11, stride=4, padding=1),  #  96 @ 54x54
            MaxPool(3, stride=2),  #  96 @ 26x26
            Conv(256, kernel=5, padding=2),  # 256 @ 26x26
            MaxPool(3, stride=2),  # 256 @ 12x12
            Conv(384, kernel=3, padding=1),  # 384 @ 12x12
            Conv(384, kernel=3, padding=1),  # 384 @ 12x12
            Conv(256, kernel=3, padding=1),  # 256 @ 12x12
            MaxPool(3, stride=2),  # 256 @ 5x5
            Flatten(),  # 6400
        ),
        classifier=(
            Dense(4096),
            Dropout(0.5),
            Dense(4096),
            Dropout(0.5),
            Logits(num_classes),
        ),
    )
