"""AlexNet: the textbook's, the paper's of 2012, Caffe's two, and torchvision's with one tower."""

from __future__ import annotations

from typing import Any

from cnnzoo.blocks import LRN, AdaptiveAvgPool, Conv, Dense, Dropout, Flatten, Logits, MaxPool
from cnnzoo.published import (
    D2L_SLIDE,
    TOP1,
    TOP1_ERROR,
    TOP5,
    TOP5_ERROR,
    TRAINING_RUN,
    Deviation,
    Published,
    Twin,
    torchvision_figures,
)
from cnnzoo.registry import register
from cnnzoo.spec import Spec

KRIZHEVSKY_2012 = "Krizhevsky, Sutskever, Hinton: ImageNet Classification with Deep Convolutional Neural Networks, 2012"
D2L_NOTES = "Dive into Deep Learning, notes of lecture 24"
D2L_ALEXNET = "Dive into Deep Learning, chapter AlexNet"
BVLC_README = "Caffe, models/bvlc_alexnet/readme.md"
CAFFENET_README = "Caffe, models/bvlc_reference_caffenet/readme.md"
HAN_2015 = "Han, Pool, Tran, Dally: Learning both Weights and Connections for Efficient Neural Networks, 2015"

RGB = {"in_channels": 3}
BODY = ("conv*", "fc6", "fc7")  # all but the output layer
HIDDEN = ("fc6", "fc7")


def _slide(what: str, printed: str, quantity: str, blocks: tuple[str, ...], note: str) -> Published:
    """Returns a figure of the lecture's slide; those of the network without its output layer are headlines."""
    return Published(what, printed, D2L_SLIDE, quantity, blocks, RGB, note=note, headline=blocks == BODY)


@register(
    published=(
        _slide("Conv1 parameters", "35K", "parameters", ("conv1",), "3 channels, with biases"),
        _slide("Conv2 parameters", "614K", "parameters", ("conv2",), "with biases"),
        _slide("Conv3-5 parameters", "3M", "parameters", ("conv[345]",), "with biases"),
        _slide("Dense1 parameters", "26M", "parameters", ("fc6",), "with biases"),
        _slide("Dense2 parameters", "16M", "parameters", ("fc7",), "with biases"),
        _slide("parameters", "46M", "parameters", BODY, "3 channels, without the output layer"),
        Published(
            "increase of parameters",
            "11x",
            D2L_SLIDE,
            "parameters",
            BODY,
            RGB,
            "lenet",
            note="not even 46M / 0.6M, its own totals, which is 77x; LeNet has 0.06M",
        ),
        _slide("Conv1 FLOP", "101M", "macs", ("conv1",), "multiply-adds, 3 channels"),
        _slide("Conv2 FLOP", "415M", "macs", ("conv2",), "multiply-adds"),
        _slide("Conv3-5 FLOP", "445M", "macs", ("conv[345]",), "multiply-adds"),
        _slide("Dense1 FLOP", "26M", "macs", ("fc6",), "multiply-adds"),
        _slide("Dense2 FLOP", "16M", "macs", ("fc7",), "multiply-adds"),
        _slide("FLOP", "1G", "macs", BODY, "multiply-adds, 3 channels, without the output layer"),
        Published(
            "increase of FLOP",
            "250x",
            D2L_SLIDE,
            "macs",
            BODY,
            RGB,
            "lenet",
            note="1G / 4M, its own totals, and LeNet's is ten times too large",
        ),
        Published("training loss", "0.326", D2L_NOTES, note=TRAINING_RUN),
        Published("training accuracy", "0.880", D2L_NOTES, note=TRAINING_RUN),
        Published("test accuracy", "0.882", D2L_NOTES, note=TRAINING_RUN),
        Published(
            "examples/sec on one GPU", "1419.0", D2L_NOTES, note="depends on the machine; of the training step alone"
        ),
        Published(
            "memory of the hidden dense layers",
            "1GB",
            D2L_ALEXNET,
            "bytes",
            HIDDEN,
            note="six times too large: 43.0 million parameters of 4 bytes",
        ),
        Published(
            "FLOPs of the hidden dense layers",
            "81 MFLOPs",
            D2L_ALEXNET,
            "flops",
            HIDDEN,
            note="a little too small: two for each of 43.0 million weights",
        ),
    ),
    deviations=(
        Deviation("input", "3 channels", "1 channel", "the lecture trains on Fashion-MNIST, which is gray"),
        Deviation(
            "conv1",
            "kernel 11, stride 4, no padding, maps of 55x55",
            "padding 1, maps of 54x54",
            "as in the lecture; a 224 px image does not give 55x55 without padding",
        ),
        Deviation(
            "conv2, conv4, conv5", "two towers (groups of 2)", "one tower", "one GPU holds the whole network today"
        ),
        Deviation("conv1, conv2", "local response normalization", "none", "as in the lecture"),
        Deviation("fc6", "9,216 inputs (256 maps of 6x6)", "6,400 inputs (256 maps of 5x5)", "follows from conv1"),
        Deviation("fc8", "1000 classes", "10 classes", "Fashion-MNIST has ten"),
    ),
)
def alexnet(num_classes: int = 10, in_channels: int = 1, image_size: int = 224) -> Spec:
    """AlexNet as taught in Dive into Deep Learning: one tower, no LRN, 224 px with padding 1."""
    return Spec(
        name="alexnet",
        input=(in_channels, image_size, image_size),
        features=(
            Conv(96, kernel_size=11, stride=4, padding=1),  #  96 @ 54x54
            MaxPool(3, stride=2),  #  96 @ 26x26
            Conv(256, kernel_size=5, padding=2),  # 256 @ 26x26
            MaxPool(3, stride=2),  # 256 @ 12x12
            Conv(384, kernel_size=3, padding=1),  # 384 @ 12x12
            Conv(384, kernel_size=3, padding=1),  # 384 @ 12x12
            Conv(256, kernel_size=3, padding=1),  # 256 @ 12x12
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


# --- 2012 ---

# figure 2: "the number of neurons in the network's remaining layers is given by 253,440-186,624-..."
_NEURONS_2012 = {
    "conv1": "253,440", "conv2": "186,624", "conv3": "64,896", "conv4": "64,896", "conv5": "43,264",
    "fc6": "4096", "fc7": "4096", "fc8": "1000",
}  # fmt: skip
_NEURONS_NOTES = {"conv1": "55 x 48 x 96; the 96 maps of 55x55 in the text have 290,400"}


@register(
    year=2012,
    published=(
        Published("parameters", "60 million", KRIZHEVSKY_2012, "parameters", note="truncated"),
        Published("neurons", "650,000", KRIZHEVSKY_2012, "neurons", digits=2, note="truncated to two digits"),
        Published(
            "neurons (abstract page of the proceedings)",
            "500,000",
            KRIZHEVSKY_2012,
            "neurons",
            digits=1,
            note="of an earlier version; the paper says 650,000",
        ),
        Published(
            "values of the input",
            "150,528",
            KRIZHEVSKY_2012,
            "inputs",
            note="3x224x224, which does not give 55x55 maps with kernel 11, stride 4 and no padding; 3x227x227 does",
        ),
        *(
            Published(
                f"{block} neurons", printed, KRIZHEVSKY_2012, "neurons", (block,), note=_NEURONS_NOTES.get(block, "")
            )
            for block, printed in _NEURONS_2012.items()
        ),
        Published("ILSVRC-2010 test error, top 1, %", "37.5", KRIZHEVSKY_2012, note=TRAINING_RUN),
        Published("ILSVRC-2010 test error, top 5, %", "17.0", KRIZHEVSKY_2012, note=TRAINING_RUN),
        Published("the same, abstract page of the proceedings, top 1, %", "39.7", KRIZHEVSKY_2012, note=TRAINING_RUN),
        Published("the same, abstract page of the proceedings, top 5, %", "18.9", KRIZHEVSKY_2012, note=TRAINING_RUN),
        Published(TOP1_ERROR, "40.7", KRIZHEVSKY_2012, note=f"{TRAINING_RUN}; mean of ten crops"),
        Published(TOP5_ERROR, "18.2", KRIZHEVSKY_2012, note=f"{TRAINING_RUN}; mean of ten crops"),
    ),
    deviations=(
        Deviation("input", "224 px", "227 px", "required for the 55x55 maps that the paper prints"),
        Deviation(
            "conv2, conv4, conv5", "two GPUs that exchange maps before conv3", "groups of 2", "the same arithmetic"
        ),
    ),
)
def alexnet_2012(num_classes: int = 1000, in_channels: int = 3, image_size: int = 227) -> Spec:
    """AlexNet as printed in 2012: two towers, LRN before the pools, the paper's initial weights and biases."""
    zeros: dict[str, Any] = {"init": "normal:0.01", "bias_init": 0.0}
    ones: dict[str, Any] = {"init": "normal:0.01", "bias_init": 1.0}
    return Spec(
        name="alexnet_2012",
        input=(in_channels, image_size, image_size),
        features=(
            Conv(96, kernel_size=11, stride=4, **zeros),  #  96 @ 55x55
            LRN(),
            MaxPool(3, stride=2),  #  96 @ 27x27
            Conv(256, kernel_size=5, padding=2, groups=2, **ones),  # 256 @ 27x27
            LRN(),
            MaxPool(3, stride=2),  # 256 @ 13x13
            Conv(384, kernel_size=3, padding=1, **zeros),  # 384 @ 13x13
            Conv(384, kernel_size=3, padding=1, groups=2, **ones),  # 384 @ 13x13
            Conv(256, kernel_size=3, padding=1, groups=2, **ones),  # 256 @ 13x13
            MaxPool(3, stride=2),  # 256 @ 6x6
            Flatten(),  # 9216
        ),
        classifier=(
            Dense(4096, **ones),
            Dropout(0.5),
            Dense(4096, **ones),
            Dropout(0.5),
            Logits(num_classes, **zeros),
        ),
    )


@register(
    year=2014,
    published=(
        Published(TOP1, "57.1", BVLC_README, note=TRAINING_RUN),
        Published(TOP5, "80.2", BVLC_README, note=TRAINING_RUN),
    ),
    deviations=(
        Deviation("norm1, norm2", "k = 2, the sum of squares", "k = 1, their mean", "Caffe's defaults"),
        Deviation("conv2, conv4, conv5, fc6, fc7", "initial biases 1", "0.1", "with 1, Caffe's readme saw no progress"),
        Deviation("fc6, fc7", "initial weights N(0, 0.01)", "N(0, 0.005)", "as in Caffe"),
    ),
)
def bvlc_alexnet(num_classes: int = 1000, in_channels: int = 3, image_size: int = 227) -> Spec:
    """AlexNet of Caffe (bvlc_alexnet): the network of 2012, LRN with Caffe's constants, other initial values."""
    zeros: dict[str, Any] = {"init": "normal:0.01", "bias_init": 0.0}
    tenths: dict[str, Any] = {"init": "normal:0.01", "bias_init": 0.1}
    dense: dict[str, Any] = {"init": "normal:0.005", "bias_init": 0.1}
    return Spec(
        name="bvlc_alexnet",
        input=(in_channels, image_size, image_size),
        features=(
            Conv(96, kernel_size=11, stride=4, **zeros),  #  96 @ 55x55
            LRN(k=1.0, mean=True),
            MaxPool(3, stride=2),  #  96 @ 27x27
            Conv(256, kernel_size=5, padding=2, groups=2, **tenths),  # 256 @ 27x27
            LRN(k=1.0, mean=True),
            MaxPool(3, stride=2),  # 256 @ 13x13
            Conv(384, kernel_size=3, padding=1, **zeros),  # 384 @ 13x13
            Conv(384, kernel_size=3, padding=1, groups=2, **tenths),  # 384 @ 13x13
            Conv(256, kernel_size=3, padding=1, groups=2, **tenths),  # 256 @ 13x13
            MaxPool(3, stride=2),  # 256 @ 6x6
            Flatten(),  # 9216
        ),
        classifier=(
            Dense(4096, **dense),
            Dropout(0.5),
            Dense(4096, **dense),
            Dropout(0.5),
            Logits(num_classes, **zeros),
        ),
    )


@register(
    year=2014,
    published=(
        Published(
            "parameters", "61 million", HAN_2015, "parameters", note="of Caffe's AlexNet, which has the same layers"
        ),
        Published(TOP1, "57.4", CAFFENET_README, note=TRAINING_RUN),
        Published(TOP5, "80.4", CAFFENET_README, note=TRAINING_RUN),
    ),
    deviations=(
        Deviation("norm1, norm2", "before the pool", "after the pool", "as in Caffe, whose readme names the change"),
        Deviation("norm1, norm2", "k = 2, the sum of squares", "k = 1, their mean", "Caffe's defaults"),
        Deviation("fc6, fc7", "initial weights N(0, 0.01)", "N(0, 0.005)", "as in Caffe"),
    ),
)
def caffenet(num_classes: int = 1000, in_channels: int = 3, image_size: int = 227) -> Spec:
    """CaffeNet, Caffe's variant of AlexNet: pools before LRN, and LRN with Caffe's constants."""
    zeros: dict[str, Any] = {"init": "normal:0.01", "bias_init": 0.0}
    ones: dict[str, Any] = {"init": "normal:0.01", "bias_init": 1.0}
    dense: dict[str, Any] = {"init": "normal:0.005", "bias_init": 1.0}
    return Spec(
        name="caffenet",
        input=(in_channels, image_size, image_size),
        features=(
            Conv(96, kernel_size=11, stride=4, **zeros),  #  96 @ 55x55
            MaxPool(3, stride=2),  #  96 @ 27x27
            LRN(k=1.0, mean=True),
            Conv(256, kernel_size=5, padding=2, groups=2, **ones),  # 256 @ 27x27
            MaxPool(3, stride=2),  # 256 @ 13x13
            LRN(k=1.0, mean=True),
            Conv(384, kernel_size=3, padding=1, **zeros),  # 384 @ 13x13
            Conv(384, kernel_size=3, padding=1, groups=2, **ones),  # 384 @ 13x13
            Conv(256, kernel_size=3, padding=1, groups=2, **ones),  # 256 @ 13x13
            MaxPool(3, stride=2),  # 256 @ 6x6
            Flatten(),  # 9216
        ),
        classifier=(
            Dense(4096, **dense),
            Dropout(0.5),
            Dense(4096, **dense),
            Dropout(0.5),
            Logits(num_classes, **zeros),
        ),
    )


# --- one tower ---


@register(
    twin=Twin("alexnet"),
    year=2014,
    published=torchvision_figures("61,100,840", "0.714", "56.522", "79.066", min_size="63"),
    deviations=(
        Deviation("conv4", "384 maps (Krizhevsky 2014, probably)", "256 maps", "as in torchvision"),
        Deviation(
            "drop5, drop6",
            "2012: after the hidden dense layers",
            "before them",
            "as in torchvision; required for its keys",
        ),
        Deviation("pool5b", "none: images of one size", "maps pooled to 6x6", "as in torchvision, for any image size"),
    ),
)
def alexnet_owt(num_classes: int = 1000, in_channels: int = 3, image_size: int = 224) -> Spec:
    """AlexNet of torchvision: one tower ("One weird trick for parallelizing convolutional neural networks", 2014)."""
    return Spec(
        name="alexnet_owt",
        input=(in_channels, image_size, image_size),
        features=(
            Conv(64, kernel_size=11, stride=4, padding=2),  #  64 @ 55x55
            MaxPool(3, stride=2),  #  64 @ 27x27
            Conv(192, kernel_size=5, padding=2),  # 192 @ 27x27
            MaxPool(3, stride=2),  # 192 @ 13x13
            Conv(384, kernel_size=3, padding=1),  # 384 @ 13x13
            Conv(256, kernel_size=3, padding=1),  # 256 @ 13x13
            Conv(256, kernel_size=3, padding=1),  # 256 @ 13x13
            MaxPool(3, stride=2),  # 256 @ 6x6
            AdaptiveAvgPool(6),  # 256 @ 6x6
            Flatten(),  # 9216
        ),
        classifier=(
            Dropout(0.5),
            Dense(4096),
            Dropout(0.5),
            Dense(4096),
            Logits(num_classes),
        ),
    )
