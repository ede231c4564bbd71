"""DenseNet: the columns of the paper's table 1, and the textbook's."""

from __future__ import annotations

from collections.abc import Sequence

from cnnzoo.blocks import AdaptiveAvgPool, AvgPool, Block, Conv, Flatten, Logits, MaxPool, Norm, Parallel
from cnnzoo.published import TEACHING, Deviation, Twin, torchvision_figures
from cnnzoo.registry import register
from cnnzoo.spec import Spec

INIT = "kaiming_normal"

# torchvision's names for our denseblock1.denselayer1/conv1, transition1_conv, norm5, ...
KEYS = {
    r"^classifier:linear": "classifier",
    r"^(?!classifier)": "features.",
    r"conv0:norm": "norm0",
    r"/conv1:norm": "/norm2",
    r"transition(\d)_(\w+):\w+": r"transition\1.\2",
    r":\w+": "",
    r"/": ".",
}


def _layer(growth: int, label: str) -> Parallel:
    """Returns a layer that appends ``growth`` maps to its input, by a 1x1 and a 3x3 convolution."""
    new_maps = (
        Norm("batch", activation="relu", label="norm1"),
        Conv(4 * growth, kernel_size=1, bias=False, norm="batch", init=INIT, label="conv1"),
        Conv(growth, kernel_size=3, padding=1, bias=False, activation=None, init=INIT, label="conv2"),
    )
    return Parallel(((), new_maps), merge="concat", label=label)


def _densenet(
    name: str, growth: int, first_maps: int, depths: Sequence[int], num_classes: int, in_channels: int, image_size: int
) -> Spec:
    blocks: list[Block] = []
    maps = first_maps
    for number, depth in enumerate(depths, start=1):
        blocks += [_layer(growth, f"denseblock{number}.denselayer{i}") for i in range(1, depth + 1)]
        maps += depth * growth
        if number < len(depths):
            maps //= 2
            blocks += [
                Norm("batch", activation="relu", label=f"transition{number}_norm"),
                Conv(maps, kernel_size=1, bias=False, activation=None, init=INIT, label=f"transition{number}_conv"),
                AvgPool(2, stride=2, label=f"transition{number}_pool"),
            ]
    return Spec(
        name=name,
        input=(in_channels, image_size, image_size),
        features=(
            Conv(
                first_maps, kernel_size=7, stride=2, padding=3, bias=False, norm="batch", init=INIT, label="conv0"
            ),  # 112x112
            MaxPool(3, stride=2, padding=1, label="pool0"),  # 56x56
            *blocks,  # 7x7
            Norm("batch", activation="relu", label="norm5"),
            AdaptiveAvgPool(1, label="pool5"),
            Flatten(),
        ),
        classifier=(Logits(num_classes, bias_init=0.0, label="classifier"),),
    )


@register(
    year=2016,
    twin=Twin("densenet121", KEYS),
    published=torchvision_figures("7,978,856", "2.834", "74.434", "91.972", min_size="29"),
)
def densenet121(num_classes: int = 1000, in_channels: int = 3, image_size: int = 224) -> Spec:
    """DenseNet with 121 weight layers and growth rate 32."""
    return _densenet("densenet121", 32, 64, (6, 12, 24, 16), num_classes, in_channels, image_size)


@register(
    year=2016,
    twin=Twin("densenet161", KEYS),
    published=torchvision_figures("28,681,000", "7.728", "77.138", "93.560", min_size="29"),
)
def densenet161(num_classes: int = 1000, in_channels: int = 3, image_size: int = 224) -> Spec:
    """DenseNet with 161 weight layers and growth rate 48."""
    return _densenet("densenet161", 48, 96, (6, 12, 36, 24), num_classes, in_channels, image_size)


@register(
    year=2016,
    twin=Twin("densenet169", KEYS),
    published=torchvision_figures("14,149,480", "3.360", "75.600", "92.806", min_size="29"),
)
def densenet169(num_classes: int = 1000, in_channels: int = 3, image_size: int = 224) -> Spec:
    """DenseNet with 169 weight layers and growth rate 32."""
    return _densenet("densenet169", 32, 64, (6, 12, 32, 32), num_classes, in_channels, image_size)


@register(
    year=2016,
    twin=Twin("densenet201", KEYS),
    published=torchvision_figures("20,013,928", "4.291", "76.896", "93.370", min_size="29"),
)
def densenet201(num_classes: int = 1000, in_channels: int = 3, image_size: int = 224) -> Spec:
    """DenseNet with 201 weight layers and growth rate 32."""
    return _densenet("densenet201", 32, 64, (6, 12, 48, 32), num_classes, in_channels, image_size)


def _dense_d2l(layers: int, growth: int = 32) -> tuple[Block, ...]:
    new_maps = (Norm("batch", activation="relu"), Conv(growth, kernel_size=3, padding=1, activation=None))
    return (Parallel(((), new_maps), merge="concat"),) * layers


def _transition_d2l(maps: int) -> tuple[Block, ...]:
    return (Norm("batch", activation="relu"), Conv(maps, kernel_size=1, activation=None), AvgPool(2, stride=2))


@register(
    deviations=(
        TEACHING,
        Deviation("block*", "a 1x1 convolution before each 3x3", "none", "as in the textbook"),
        Deviation("block*", "6, 12, 24 and 16 layers", "four times 4", "as in the textbook"),
    ),
)
def densenet_d2l(num_classes: int = 10, in_channels: int = 1, image_size: int = 96) -> Spec:
    """DenseNet as taught in Dive into Deep Learning: four blocks of four 3x3 convolutions, growth rate 32, 96 px."""
    return Spec(
        name="densenet_d2l",
        input=(in_channels, image_size, image_size),
        features=(
            Conv(64, kernel_size=7, stride=2, padding=3, norm="batch"),  #  64 @ 48x48
            MaxPool(3, stride=2, padding=1),  #  64 @ 24x24
            *_dense_d2l(4),  # 192
            *_transition_d2l(96),  #  96 @ 12x12
            *_dense_d2l(4),  # 224
            *_transition_d2l(112),  # 112 @ 6x6
            *_dense_d2l(4),  # 240
            *_transition_d2l(120),  # 120 @ 3x3
            *_dense_d2l(4),  # 248
            Norm("batch", activation="relu"),
            AdaptiveAvgPool(1),
            Flatten(),
        ),
        classifier=(Logits(num_classes),),
    )
