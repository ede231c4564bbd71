"""LeNet: the network of 1989, LeNet-1 of 1990, LeNet-5 as printed in 1998, the textbook's, and Caffe's."""

from __future__ import annotations

from typing import Any

from cnnzoo.blocks import RBF, AvgPool, Conv, Dense, Flatten, Logits, MaxPool, Pad, Subsample, TableConv, UnitBias
from cnnzoo.published import D2L_SLIDE, TRAINING_RUN, Deviation, Published
from cnnzoo.registry import register
from cnnzoo.spec import Spec

LECUN_1989 = "LeCun et al.: Backpropagation Applied to Handwritten Zip Code Recognition, 1989"
LECUN_1990 = "LeCun et al.: Handwritten Digit Recognition with a Back-Propagation Network, 1990"
LECUN_1998 = "LeCun, Bottou, Bengio, Haffner: Gradient-Based Learning Applied to Document Recognition, 1998"
CAFFE_MNIST = "Caffe, tutorial 'Training LeNet on MNIST with Caffe' (examples/mnist/readme.md)"

TEN_TIMES = "ten times too large"


@register(
    published=(
        Published("Conv1 parameters", "150", D2L_SLIDE, "weights", ("conv1",), note="without biases"),
        Published("Conv2 parameters", "2.4K", D2L_SLIDE, "weights", ("conv2",), note="without biases"),
        Published(
            "Dense1 parameters", "0.48M", D2L_SLIDE, "weights", ("fc3",), note=f"{TEN_TIMES}: 400 x 120 = 48,000"
        ),
        Published("Dense2 parameters", "0.1M", D2L_SLIDE, "weights", ("fc4",), note=f"{TEN_TIMES}: 120 x 84 = 10,080"),
        Published(
            "parameters",
            "0.6M",
            D2L_SLIDE,
            "parameters",
            note=f"{TEN_TIMES}, like its rows of the dense layers: 400 x 120 = 48,000, not 0.48M",
            headline=True,
        ),
        Published("Conv1 FLOP", "1.2M", D2L_SLIDE, "macs", ("conv1",), note=TEN_TIMES),
        Published("Conv2 FLOP", "2.4M", D2L_SLIDE, "macs", ("conv2",), note=TEN_TIMES),
        Published("Dense1 FLOP", "0.48M", D2L_SLIDE, "macs", ("fc3",), note=TEN_TIMES),
        Published("Dense2 FLOP", "0.1M", D2L_SLIDE, "macs", ("fc4",), note=TEN_TIMES),
        Published("FLOP", "4M", D2L_SLIDE, "macs", note=f"{TEN_TIMES}, like each of its rows", headline=True),
    ),
    deviations=(
        Deviation("input", "1x32x32", "1x28x28, and padding 2 in conv1", "the same maps without larger images"),
        Deviation("conv1 ... fc4", "1.7159 tanh(2x/3)", "sigmoid", "as in the textbook"),
        Deviation("pool1, pool2", "trainable coefficient and bias, then squashing", "the mean", "as in the textbook"),
        Deviation("conv2", "a connection table: 60 of 96 pairs of maps", "all pairs", "as in the textbook"),
        Deviation(
            "fc5",
            "Euclidean RBF units with fixed codes",
            "a dense layer",
            "as in the textbook, which calls this the only difference; the four above are differences too",
        ),
    ),
)
def lenet(num_classes: int = 10, in_channels: int = 1, image_size: int = 28) -> Spec:
    """LeNet as taught in Dive into Deep Learning: LeNet-5 with full connections, sigmoids and average pooling."""
    return Spec(
        name="lenet",
        input=(in_channels, image_size, image_size),
        features=(
            Conv(6, kernel_size=5, padding=2, activation="sigmoid"),  #  6 @ 28x28
            AvgPool(2, stride=2),  #  6 @ 14x14
            Conv(16, kernel_size=5, activation="sigmoid"),  # 16 @ 10x10
            AvgPool(2, stride=2),  # 16 @ 5x5
            Flatten(),  # 400
        ),
        classifier=(
            Dense(120, activation="sigmoid"),
            Dense(84, activation="sigmoid"),
            Logits(num_classes),
        ),
    )


# --- 1989, 1990 ---

_SQUASH: dict[str, Any] = {"activation": "scaled_tanh"}
_SMALL: dict[str, Any] = {"init": "uniform_over_fan_in:2.4"}

# the maps of H1 that each map of H2 takes: eight of twelve; the paper does not print which
H2_TABLE = (tuple(range(8)),) * 4 + (tuple(range(4, 12)),) * 4 + ((*range(4), *range(8, 12)),) * 4


def _printed_1989(layer: str, blocks: str, units: str, connections: str, parameters: str) -> tuple[Published, ...]:
    """Returns the figures of a layer of the network of 1989, section 3.3."""
    figures = (("units", units, "neurons"), ("connections", connections, "connections"))
    return tuple(
        Published(f"{layer} {what}", printed, LECUN_1989, quantity, (blocks,))
        for what, printed, quantity in (*figures, ("free parameters", parameters, "parameters"))
    )


@register(
    year=1989,
    published=(
        *_printed_1989("H1", "H1*", "768", "19,968", "1,068"),
        *_printed_1989("H2", "H2*", "192", "38,592", "2,592"),
        *_printed_1989("H3", "H3", "30", "5,790", "5,790"),
        *_printed_1989("output", "output", "10", "310", "310"),
        Published("units", "1256", LECUN_1989, "units", note="1,000, and the 256 pixels of the image"),
        Published("connections", "64,660", LECUN_1989, "connections"),
        Published("independent parameters", "9760", LECUN_1989, "parameters"),
        Published("test error, %", "5.0", LECUN_1989, note=f"{TRAINING_RUN}; of zip codes, 7,291 for training"),
    ),
    deviations=(
        Deviation("H2", "takes 8 of 12 maps by a scheme that is not printed", "two of three groups of 4", "as simple"),
        Deviation("output", "scaled tanh, mean squared error", "class scores", "any loss for logits can train them"),
    ),
)
def lenet_1989(num_classes: int = 10, in_channels: int = 1, image_size: int = 16) -> Spec:
    """The network of 1989 for zip codes: strided 5x5 convolutions, a bias per unit, scaled tanh, no pooling."""
    settings: dict[str, Any] = {"kernel_size": 5, "stride": 2, "bias": False, "activation": None, **_SMALL}
    return Spec(
        name="lenet_1989",
        input=(in_channels, image_size, image_size),
        features=(
            Pad(2, value=-1.0, label="H1_border"),
            Conv(12, label="H1", **settings),  # 12 @ 8x8
            UnitBias(label="H1_bias", **_SQUASH),
            Pad(2, value=-1.0, label="H2_border"),
            TableConv(H2_TABLE, label="H2", **settings),  # 12 @ 4x4
            UnitBias(label="H2_bias", **_SQUASH),
            Flatten(),  # 192
        ),
        classifier=(
            Dense(30, label="H3", bias_init=0.0, **_SQUASH, **_SMALL),
            Logits(num_classes, label="output", bias_init=0.0, **_SMALL),
        ),
    )


# the maps of H2 that each map of H3 takes
H3_TABLE = ((0,), (0, 1), (0, 1), (1,), (0, 1), (0, 1), (2,), (2, 3), (2, 3), (3,), (2, 3), (2, 3))


@register(
    year=1990,
    published=(
        Published("connections", "98442", LECUN_1990, "connections"),
        Published("independent parameters", "2578", LECUN_1990, "parameters"),
        Published(
            "units",
            "4635",
            LECUN_1990,
            note="pixels and averages are units too: 784 + 2,304 + 576 + 768 + 192 + 10 are 4,634",
        ),
        Published("MNIST test error, %", "1.7", LECUN_1998, note=TRAINING_RUN),
    ),
    deviations=(
        Deviation("H2, H4", "averages, with a coefficient and a bias per map", "then squashed", "as in LeNet-5"),
        Deviation("output", "scaled tanh, mean squared error", "class scores", "any loss for logits can train them"),
    ),
)
def lenet1(num_classes: int = 10, in_channels: int = 1, image_size: int = 28) -> Spec:
    """LeNet-1 of 1990: two convolutions with trainable subsampling, a connection table, no hidden dense layer."""
    settings: dict[str, Any] = {**_SQUASH, **_SMALL}
    return Spec(
        name="lenet1",
        input=(in_channels, image_size, image_size),
        features=(
            Conv(4, kernel_size=5, label="H1", **settings),  #  4 @ 24x24
            Subsample(2, label="H2", **settings),  #  4 @ 12x12
            TableConv(H3_TABLE, kernel_size=5, label="H3", **settings),  # 12 @ 8x8
            Subsample(2, label="H4", **settings),  # 12 @ 4x4
            Flatten(),  # 192
        ),
        classifier=(Logits(num_classes, label="output", **_SMALL),),
    )


# --- 1998 ---

# the maps of S2 that each map of C3 is connected to (table I)
C3_TABLE = (
    (0, 1, 2), (1, 2, 3), (2, 3, 4), (3, 4, 5), (4, 5, 0), (5, 0, 1),
    (0, 1, 2, 3), (1, 2, 3, 4), (2, 3, 4, 5), (3, 4, 5, 0), (4, 5, 0, 1), (5, 0, 1, 2),
    (0, 1, 3, 4), (1, 2, 4, 5), (0, 2, 3, 5),
    (0, 1, 2, 3, 4, 5),
)  # fmt: skip

# ten digits of 7x12 dots, redrawn from the bitmaps in the paper's figure 3
_DOTS = """
.#####. ...#... .#####. .#####. ....##. ####### ..####. ####### .#####. .#####.
##...## ..##... ##...## ##...## ...###. ##..... .##.... ##...## ##...## ##...##
##...## .###... ##...## .....## ..####. ##..... ##..... .....## ##...## ##...##
##..### #.##... .....## .....## .##.##. ##..... ##..... ....##. ##...## ##...##
##.#### ..##... ....##. ....##. ##..##. ######. ######. ....##. .##.##. ##...##
##.#.## ..##... ...##.. ..###.. ##..##. .....## ##...## ...##.. ..###.. .######
####.## ..##... ..##... ....##. ####### .....## ##...## ...##.. .##.##. .....##
###..## ..##... .##.... .....## ....##. .....## ##...## ..##... ##...## .....##
##...## ..##... ##..... .....## ....##. .....## ##...## ..##... ##...## .....##
##...## ..##... ##..... .....## ....##. ##...## ##...## .##.... ##...## ....##.
##...## ..##... ##...## ##...## ....##. ##...## ##...## .##.... ##...## ...##..
.#####. ######. ####### .#####. ....##. .#####. .#####. .##.... .#####. .###...
"""
DIGITS = tuple(
    "".join(line.split()[digit] for line in _DOTS.split("\n") if line).replace("#", "+").replace(".", "-")
    for digit in range(10)
)


def _printed_1998(block: str, parameters: str, connections: str) -> tuple[Published, ...]:
    """Returns the figures of a block of LeNet-5 from section II.B; those that it does not print are empty."""
    figures = (("trainable parameters", parameters), ("connections", connections))
    quantities = {"trainable parameters": "parameters", "connections": "connections"}
    return tuple(
        Published(f"{block} {what}", printed, LECUN_1998, quantities[what], (block,))
        for what, printed in figures
        if printed
    )


@register(
    year=1998,
    published=(
        *_printed_1998("C1", "156", "122,304"),
        *_printed_1998("S2", "12", "5,880"),
        *_printed_1998("C3", "1,516", "151,600"),
        *_printed_1998("S4", "32", "2,000"),
        *_printed_1998("C5", "", "48,120"),  # "48,120 trainable connections"
        *_printed_1998("F6", "10,164", ""),
        Published("connections", "340,908", LECUN_1998, "connections"),
        Published("trainable parameters", "60,000", LECUN_1998, "parameters"),
        Published("MNIST test error, %", "0.95", LECUN_1998, note=TRAINING_RUN),
        Published("MNIST test error with distortions, %", "0.8", LECUN_1998, note=TRAINING_RUN),
    ),
    deviations=(
        Deviation(
            "output",
            "codes drawn as in figure 3",
            "ten digits of 7x12 dots, redrawn",
            "the paper prints them as pictures only",
        ),
        Deviation(
            "output",
            "squared distances, with a special loss (equation 9)",
            "minus half the squared distances",
            "these are logits, which any loss for logits can train",
        ),
    ),
)
def lenet5_1998(in_channels: int = 1, image_size: int = 32) -> Spec:
    """LeNet-5 as printed in 1998: connection table, trainable subsampling, scaled tanh, RBF output for ten digits."""
    squash: dict[str, Any] = {"activation": "scaled_tanh", "init": "uniform_over_fan_in:2.4"}
    return Spec(
        name="lenet5_1998",
        input=(in_channels, image_size, image_size),
        features=(
            Conv(6, kernel_size=5, label="C1", **squash),  #   6 @ 28x28
            Subsample(2, label="S2", **squash),  #   6 @ 14x14
            TableConv(C3_TABLE, kernel_size=5, label="C3", **squash),  #  16 @ 10x10
            Subsample(2, label="S4", **squash),  #  16 @ 5x5
            Conv(120, kernel_size=5, label="C5", **squash),  # 120 @ 1x1
            Flatten(),
        ),
        classifier=(
            Dense(84, label="F6", **squash),
            RBF(DIGITS, label="output"),
        ),
    )


# --- Caffe ---


@register(
    published=(Published("MNIST test accuracy", "0.9897", CAFFE_MNIST, note=TRAINING_RUN),),
    deviations=(
        Deviation(
            "conv1, conv2",
            "the tutorial: sigmoids replaced by rectified linear units",
            "no activation",
            "the network that the tutorial trains has one activation, after ip1",
        ),
    ),
)
def lenet_caffe(num_classes: int = 10, in_channels: int = 1, image_size: int = 28) -> Spec:
    """Caffe's LeNet (examples/mnist): wider, max pooling, one ReLU; the "LeNet-5" of the pruning literature."""
    xavier: dict[str, Any] = {"init": "kaiming_uniform:1", "bias_init": 0.0}  # +-sqrt(3 / fan_in), Caffe's "xavier"
    return Spec(
        name="lenet_caffe",
        input=(in_channels, image_size, image_size),
        features=(
            Conv(20, kernel_size=5, activation=None, **xavier),  # 20 @ 24x24
            MaxPool(2, stride=2),  # 20 @ 12x12
            Conv(50, kernel_size=5, activation=None, **xavier),  # 50 @ 8x8
            MaxPool(2, stride=2),  # 50 @ 4x4
            Flatten(),  # 800
        ),
        classifier=(
            Dense(500, label="ip1", **xavier),
            Logits(num_classes, label="ip2", **xavier),
        ),
    )
