"""VGG: the columns of the paper's table 1, and the textbook's."""

from __future__ import annotations

from cnnzoo.blocks import AdaptiveAvgPool, Block, Conv, Dense, Dropout, Flatten, Logits, MaxPool
from cnnzoo.published import TEACHING, Deviation, Published, Twin, torchvision_figures
from cnnzoo.registry import register
from cnnzoo.spec import Spec

SIMONYAN_2014 = "Simonyan, Zisserman: Very Deep Convolutional Networks for Large-Scale Image Recognition, 2014, table 2"

# columns A, B, D and E: numbers of convolutions with 64, 128, 256, 512 and 512 maps, each group followed by a pool
A, B, D, E = (1, 1, 2, 2, 2), (2, 2, 2, 2, 2), (2, 2, 3, 3, 3), (2, 2, 4, 4, 4)

DEVIATIONS = (
    Deviation("pool5b", "none: images of one size", "maps pooled to 7x7", "as in torchvision, for any image size"),
    Deviation(
        "conv*, fc*",
        "initial weights N(0, 0.01), deep networks initialized from column A",
        "Kaiming initialization of convolutions, N(0, 0.01) for dense layers",
        "as in torchvision; trains deep networks from scratch",
    ),
)


def _columns(column: tuple[int, ...], norm: str | None, init: str | None) -> tuple[Block, ...]:
    blocks: list[Block] = []
    for stage, (depth, maps) in enumerate(zip(column, (64, 128, 256, 512, 512), strict=True), start=1):
        blocks += [
            Conv(
                maps,
                kernel_size=3,
                padding=1,
                norm=norm,
                init=init,
                bias_init=None if init is None else 0.0,
                label=f"conv{stage}_{i}",
            )
            for i in range(1, depth + 1)
        ]
        blocks.append(MaxPool(2, stride=2, label=f"pool{stage}"))
    return tuple(blocks)


def _vgg(
    name: str, column: tuple[int, ...], num_classes: int, in_channels: int, image_size: int, norm: str | None = None
) -> Spec:
    return Spec(
        name=name,
        input=(in_channels, image_size, image_size),
        features=(
            *_columns(column, norm, "kaiming_normal_fan_out"),  # 512 @ 7x7
            AdaptiveAvgPool(7, label="pool5b"),
            Flatten(),
        ),
        classifier=(
            Dense(4096, init="normal:0.01", bias_init=0.0, label="fc6"),
            Dropout(0.5, label="drop6"),
            Dense(4096, init="normal:0.01", bias_init=0.0, label="fc7"),
            Dropout(0.5, label="drop7"),
            Logits(num_classes, init="normal:0.01", bias_init=0.0, label="fc8"),
        ),
    )


def _printed(column: str, parameters: str, note: str = "") -> Published:
    return Published(f"parameters of column {column}", parameters, SIMONYAN_2014, "parameters", note=note)


@register(
    year=2014,
    twin=Twin("vgg11"),
    published=(
        _printed("A", "133 million"),
        *torchvision_figures("132,863,336", "7.609", "69.020", "88.628", min_size="32"),
    ),
    deviations=DEVIATIONS,
)
def vgg11(num_classes: int = 1000, in_channels: int = 3, image_size: int = 224) -> Spec:
    """VGG with 11 weight layers (column A)."""
    return _vgg("vgg11", A, num_classes, in_channels, image_size)


@register(
    year=2014,
    twin=Twin("vgg13"),
    published=(
        _printed("B", "133 million"),
        *torchvision_figures("133,047,848", "11.308", "69.928", "89.246", min_size="32"),
    ),
    deviations=DEVIATIONS,
)
def vgg13(num_classes: int = 1000, in_channels: int = 3, image_size: int = 224) -> Spec:
    """VGG with 13 weight layers (column B)."""
    return _vgg("vgg13", B, num_classes, in_channels, image_size)


@register(
    year=2014,
    twin=Twin("vgg16"),
    published=(
        _printed("D", "138 million"),
        *torchvision_figures("138,357,544", "15.470", "71.592", "90.382", min_size="32"),
    ),
    deviations=DEVIATIONS,
)
def vgg16(num_classes: int = 1000, in_channels: int = 3, image_size: int = 224) -> Spec:
    """VGG with 16 weight layers (column D)."""
    return _vgg("vgg16", D, num_classes, in_channels, image_size)


@register(
    year=2014,
    twin=Twin("vgg19"),
    published=(
        _printed("E", "144 million"),
        *torchvision_figures("143,667,240", "19.632", "72.376", "90.876", min_size="32"),
    ),
    deviations=DEVIATIONS,
)
def vgg19(num_classes: int = 1000, in_channels: int = 3, image_size: int = 224) -> Spec:
    """VGG with 19 weight layers (column E)."""
    return _vgg("vgg19", E, num_classes, in_channels, image_size)


BN = (*DEVIATIONS, Deviation("conv*", "no batch norm (it came in 2015)", "batch norm", "as in torchvision"))


@register(
    twin=Twin("vgg11_bn"),
    published=torchvision_figures("132,868,840", "7.609", "70.370", "89.810", min_size="32"),
    deviations=BN,
)
def vgg11_bn(num_classes: int = 1000, in_channels: int = 3, image_size: int = 224) -> Spec:
    """VGG with 11 weight layers and batch norm."""
    return _vgg("vgg11_bn", A, num_classes, in_channels, image_size, norm="batch")


@register(
    twin=Twin("vgg13_bn"),
    published=torchvision_figures("133,053,736", "11.308", "71.586", "90.374", min_size="32"),
    deviations=BN,
)
def vgg13_bn(num_classes: int = 1000, in_channels: int = 3, image_size: int = 224) -> Spec:
    """VGG with 13 weight layers and batch norm."""
    return _vgg("vgg13_bn", B, num_classes, in_channels, image_size, norm="batch")


@register(
    twin=Twin("vgg16_bn"),
    published=torchvision_figures("138,365,992", "15.470", "73.360", "91.516", min_size="32"),
    deviations=BN,
)
def vgg16_bn(num_classes: int = 1000, in_channels: int = 3, image_size: int = 224) -> Spec:
    """VGG with 16 weight layers and batch norm."""
    return _vgg("vgg16_bn", D, num_classes, in_channels, image_size, norm="batch")


@register(
    twin=Twin("vgg19_bn"),
    published=torchvision_figures("143,678,248", "19.632", "74.218", "91.842", min_size="32"),
    deviations=BN,
)
def vgg19_bn(num_classes: int = 1000, in_channels: int = 3, image_size: int = 224) -> Spec:
    """VGG with 19 weight layers and batch norm."""
    return _vgg("vgg19_bn", E, num_classes, in_channels, image_size, norm="batch")


@register(
    deviations=(TEACHING,),
)
def vgg11_d2l(num_classes: int = 10, in_channels: int = 1, image_size: int = 224) -> Spec:
    """VGG-11 as taught in Dive into Deep Learning: no adaptive pooling, torch's initial weights."""
    return Spec(
        name="vgg11_d2l",
        input=(in_channels, image_size, image_size),
        features=(*_columns(A, None, None), Flatten()),  # 512 @ 7x7
        classifier=(
            Dense(4096, label="fc6"),
            Dropout(0.5, label="drop6"),
            Dense(4096, label="fc7"),
            Dropout(0.5, label="drop7"),
            Logits(num_classes, label="fc8"),
        ),
    )
