"""GoogLeNet: the paper's table 1, torchvision's, and the textbook's."""

from __future__ import annotations

from typing import Any

from cnnzoo.blocks import LRN, AdaptiveAvgPool, Block, Conv, Dropout, Flatten, Logits, MaxPool, Parallel
from cnnzoo.published import TEACHING, TOP1, TOP5, TRAINING_RUN, Deviation, Published, Twin, torchvision_figures
from cnnzoo.registry import register
from cnnzoo.spec import Spec

SZEGEDY_2014 = "Szegedy et al.: Going Deeper with Convolutions, 2014, table 1"
CAFFE_README = "Caffe, models/bvlc_googlenet/readme.md"

# torchvision's names for our inception3a/3x3_reduce, ...
KEYS = {
    r"/1x1:": ".branch1:",
    r"/3x3_reduce:": ".branch2.0:",
    r"/3x3:": ".branch2.1:",
    r"/5x5_reduce:": ".branch3.0:",
    r"/5x5:": ".branch3.1:",
    r"/pool_proj:": ".branch4.1:",
    r":conv": ".conv",
    r":norm": ".bn",
    r":linear": "",
}

# rows of table 1: #1x1, #3x3 reduce, #3x3, #5x5 reduce, #5x5, pool proj
TABLE_1 = {
    "inception3a": (64, 96, 128, 16, 32, 32),
    "inception3b": (128, 128, 192, 32, 96, 64),
    "inception4a": (192, 96, 208, 16, 48, 64),
    "inception4b": (160, 112, 224, 24, 64, 64),
    "inception4c": (128, 128, 256, 24, 64, 64),
    "inception4d": (112, 144, 288, 32, 64, 64),
    "inception4e": (256, 160, 320, 32, 128, 128),
    "inception5a": (256, 160, 320, 32, 128, 128),
    "inception5b": (384, 192, 384, 48, 128, 128),
}

Settings = dict[str, Any]  # arguments shared by all convolutions of a network


def _inceptions(stage: int, kernel_size_5x5: int, ceil_mode: bool, shared: Settings) -> tuple[Block, ...]:
    """Returns the Inception modules of a stage.

    Args:
        stage: Number of the stage in table 1.
        kernel_size_5x5: Kernel size of the branch that the paper calls 5x5.
        ceil_mode: Whether the pools round output sizes up.
        shared: Arguments of all convolutions.
    """

    def conv(maps: int, kernel_size: int, label: str) -> Conv:
        return Conv(maps, kernel_size=kernel_size, padding=kernel_size // 2, label=label, **shared)

    return tuple(
        Parallel(
            (
                (conv(ones, 1, "1x1"),),
                (conv(reduce3, 1, "3x3_reduce"), conv(threes, 3, "3x3")),
                (conv(reduce5, 1, "5x5_reduce"), conv(fives, kernel_size_5x5, "5x5")),
                (MaxPool(3, stride=1, padding=1, ceil_mode=ceil_mode, label="pool"), conv(proj, 1, "pool_proj")),
            ),
            label=label,
        )
        for label, (ones, reduce3, threes, reduce5, fives, proj) in TABLE_1.items()
        if label.startswith(f"inception{stage}")
    )


@register(
    twin=Twin("googlenet", KEYS, skipped=("aux1", "aux2"), mean_std=(0.5, 0.5)),
    published=torchvision_figures(
        "6,624,904", "1.498", "69.778", "89.530", min_size="15", min_size_note="without the auxiliary heads"
    ),
    deviations=(
        Deviation("inception*/5x5", "5x5", "3x3", "as in torchvision, where it is a known error"),
        Deviation("conv*, inception*", "no batch norm (it came in 2015)", "batch norm", "as in torchvision"),
        Deviation("norm1, norm2", "local response normalization", "none", "as in torchvision"),
        Deviation("drop5", "dropout 0.4", "0.2", "as in torchvision"),
        Deviation("pool4", "3x3", "2x2", "as in torchvision"),
        Deviation(
            "inception4a, inception4d",
            "auxiliary heads in training",
            "none",
            "a chain of blocks has one output",
        ),
    ),
)
def googlenet(num_classes: int = 1000, in_channels: int = 3, image_size: int = 224) -> Spec:
    """GoogLeNet as in torchvision, without auxiliary heads: batch norm, 3x3 instead of 5x5 convolutions."""
    shared: Settings = {"bias": False, "norm": "batch:0.001", "init": "normal:0.01"}
    return Spec(
        name="googlenet",
        input=(in_channels, image_size, image_size),
        features=(
            Conv(64, kernel_size=7, stride=2, padding=3, label="conv1", **shared),  # 64 @ 112x112
            MaxPool(3, stride=2, ceil_mode=True, label="pool1"),  #   64 @ 56x56
            Conv(64, kernel_size=1, label="conv2", **shared),
            Conv(192, kernel_size=3, padding=1, label="conv3", **shared),  # 192 @ 56x56
            MaxPool(3, stride=2, ceil_mode=True, label="pool2"),  #  192 @ 28x28
            *_inceptions(3, 3, True, shared),  #  480 @ 28x28
            MaxPool(3, stride=2, ceil_mode=True, label="pool3"),  #  480 @ 14x14
            *_inceptions(4, 3, True, shared),  #  832 @ 14x14
            MaxPool(2, stride=2, ceil_mode=True, label="pool4"),  #  832 @ 7x7
            *_inceptions(5, 3, True, shared),  # 1024 @ 7x7
            AdaptiveAvgPool(1, label="pool5"),
            Flatten(),
            Dropout(0.2, label="drop5"),
        ),
        classifier=(Logits(num_classes, init="normal:0.01", label="fc"),),
    )


# the column "ops" of table 1
_OPS = {
    "conv1": "34M", "conv[23]": "360M", "inception3a*": "128M", "inception3b*": "304M", "inception4a*": "73M",
    "inception4b*": "88M", "inception4c*": "100M", "inception4d*": "119M", "inception4e*": "170M",
    "inception5a*": "54M", "inception5b*": "71M", "fc": "1M",
}  # fmt: skip
_OPS_NOTES = {
    "conv1": "64 filters of 7x7x3 at 112x112 positions are 118 million",
    "inception5a*": "the row's numbers give 51 million: 1,042,432 weights at 7x7 positions",
}


@register(
    year=2014,
    published=(
        *(
            Published(
                f"{blocks.rstrip('*')} ops",
                printed,
                SZEGEDY_2014,
                "macs",
                (blocks,),
                note=_OPS_NOTES.get(blocks, "multiply-adds"),
            )
            for blocks, printed in _OPS.items()
        ),
        Published(TOP1, "68.7", CAFFE_README, note=TRAINING_RUN),
        Published(TOP5, "88.9", CAFFE_README, note=TRAINING_RUN),
    ),
    deviations=(
        Deviation(
            "inception4a, inception4d",
            "auxiliary heads in training",
            "none",
            "a chain of blocks has one output",
        ),
        Deviation(
            "norm1, norm2", "constants of the local response normalization not printed", "Caffe's", "known to train"
        ),
        Deviation("conv*, inception*, fc", "initial weights not printed", "Caffe's", "known to train"),
    ),
)
def googlenet_2014(num_classes: int = 1000, in_channels: int = 3, image_size: int = 224) -> Spec:
    """GoogLeNet as printed in 2014: 5x5 convolutions, local response normalization, no batch norm."""
    shared: Settings = {"init": "kaiming_uniform:1", "bias_init": 0.2}  # Caffe's "xavier": +-sqrt(3 / fan_in)
    return Spec(
        name="googlenet_2014",
        input=(in_channels, image_size, image_size),
        features=(
            Conv(64, kernel_size=7, stride=2, padding=3, label="conv1", **shared),  # 64 @ 112x112
            MaxPool(3, stride=2, ceil_mode=True, label="pool1"),  #   64 @ 56x56
            LRN(k=1.0, mean=True, label="norm1"),
            Conv(64, kernel_size=1, label="conv2", **shared),
            Conv(192, kernel_size=3, padding=1, label="conv3", **shared),  # 192 @ 56x56
            LRN(k=1.0, mean=True, label="norm2"),
            MaxPool(3, stride=2, ceil_mode=True, label="pool2"),  #  192 @ 28x28
            *_inceptions(3, 5, False, shared),  #  480 @ 28x28
            MaxPool(3, stride=2, ceil_mode=True, label="pool3"),  #  480 @ 14x14
            *_inceptions(4, 5, False, shared),  #  832 @ 14x14
            MaxPool(3, stride=2, ceil_mode=True, label="pool4"),  #  832 @ 7x7
            *_inceptions(5, 5, False, shared),  # 1024 @ 7x7
            AdaptiveAvgPool(1, label="pool5"),
            Flatten(),
            Dropout(0.4, label="drop5"),
        ),
        classifier=(Logits(num_classes, init="kaiming_uniform:1", bias_init=0.0, label="fc"),),
    )


@register(
    deviations=(
        TEACHING,
        Deviation("norm1, norm2, drop5", "local response normalization and dropout", "none", "as in the textbook"),
        Deviation("pool*", "output sizes rounded up", "padding 1", "as in the textbook"),
    ),
)
def googlenet_d2l(num_classes: int = 10, in_channels: int = 1, image_size: int = 96) -> Spec:
    """GoogLeNet as taught in Dive into Deep Learning: one channel, ten classes, 96 px."""

    def pool(number: int) -> MaxPool:
        return MaxPool(3, stride=2, padding=1, label=f"pool{number}")

    return Spec(
        name="googlenet_d2l",
        input=(in_channels, image_size, image_size),
        features=(
            Conv(64, kernel_size=7, stride=2, padding=3, label="conv1"),  #   64 @ 48x48
            pool(1),  #   64 @ 24x24
            Conv(64, kernel_size=1, label="conv2"),
            Conv(192, kernel_size=3, padding=1, label="conv3"),  #  192 @ 24x24
            pool(2),  #  192 @ 12x12
            *_inceptions(3, 5, False, {}),  #  480 @ 12x12
            pool(3),  #  480 @ 6x6
            *_inceptions(4, 5, False, {}),  #  832 @ 6x6
            pool(4),  #  832 @ 3x3
            *_inceptions(5, 5, False, {}),  # 1024 @ 3x3
            AdaptiveAvgPool(1, label="pool5"),
            Flatten(),
        ),
        classifier=(Logits(num_classes, label="fc"),),
    )
