"""ResNet: the columns of the paper's table 1, and the textbook's."""

from __future__ import annotations

from collections.abc import Sequence

from cnnzoo.blocks import AdaptiveAvgPool, Block, Conv, Flatten, Logits, MaxPool, Parallel
from cnnzoo.published import TEACHING, Deviation, Published, Twin, torchvision_figures
from cnnzoo.registry import register
from cnnzoo.spec import Spec

HE_2015 = "He, Zhang, Ren, Sun: Deep Residual Learning for Image Recognition, 2015, table 1"

INIT = "kaiming_normal_fan_out"

# torchvision's names for our layer1.0/conv1, layer1.0/downsample, fc, ...
KEYS = {
    r"downsample:conv": "downsample.0",
    r"downsample:norm": "downsample.1",
    r"conv(\d):conv": r"conv\1",
    r"conv(\d):norm": r"bn\1",
    r":linear": "",
    r"/": ".",
}


def _conv(maps: int, kernel_size: int, label: str, stride: int = 1, activation: str | None = "relu") -> Conv:
    return Conv(
        maps,
        kernel_size=kernel_size,
        stride=stride,
        padding=kernel_size // 2,
        bias=False,
        norm="batch",
        activation=activation,
        init=INIT,
        label=label,
    )


def _basic(maps: int, stride: int, project: bool, label: str) -> Parallel:
    """Returns a basic block: two 3x3 convolutions and a shortcut."""
    body = (_conv(maps, 3, "conv1", stride), _conv(maps, 3, "conv2", activation=None))
    shortcut = (_conv(maps, 1, "downsample", stride, activation=None),) if project else ()
    return Parallel((body, shortcut), merge="add", activation="relu", label=label)


def _bottleneck(maps: int, stride: int, project: bool, label: str, stride_in_1x1: bool) -> Parallel:
    """Returns a bottleneck: 1x1, 3x3 and 1x1 convolutions, the last with four times the maps, and a shortcut."""
    first, second = (stride, 1) if stride_in_1x1 else (1, stride)
    body = (
        _conv(maps, 1, "conv1", first),
        _conv(maps, 3, "conv2", second),
        _conv(4 * maps, 1, "conv3", activation=None),
    )
    shortcut = (_conv(4 * maps, 1, "downsample", stride, activation=None),) if project else ()
    return Parallel((body, shortcut), merge="add", activation="relu", label=label)


def _resnet(
    name: str,
    depths: Sequence[int],
    num_classes: int,
    in_channels: int,
    image_size: int,
    bottleneck: bool = False,
    stride_in_1x1: bool = False,
) -> Spec:
    blocks: list[Block] = []
    for stage, depth in enumerate(depths):
        for number in range(depth):
            maps, stride = 64 * 2**stage, 2 if stage and not number else 1
            label = f"layer{stage + 1}.{number}"
            if bottleneck:
                blocks.append(_bottleneck(maps, stride, not number, label, stride_in_1x1))
            else:
                blocks.append(_basic(maps, stride, bool(stage and not number), label))
    return Spec(
        name=name,
        input=(in_channels, image_size, image_size),
        features=(
            _conv(64, 7, "conv1", stride=2),  # 64 @ 112x112
            MaxPool(3, stride=2, padding=1, label="pool1"),  # 64 @ 56x56
            *blocks,  # 512 (or 2048) @ 7x7
            AdaptiveAvgPool(1, label="avgpool"),
            Flatten(),
        ),
        classifier=(Logits(num_classes, label="fc"),),
    )


def _printed(flops: str, knobs: dict[str, int] | None = None, note: str = "multiply-adds") -> Published:
    return Published("FLOPs", flops, HE_2015, "macs", knobs=knobs or {}, note=note)


PAPER_STRIDE: dict[str, int] = {"stride_in_1x1": True}
IN_3X3 = (
    Deviation(
        "layer[234].0",
        "stride in the first 1x1 convolution",
        "in the 3x3 convolution",
        "as in torchvision; stride_in_1x1=True gives the paper's",
    ),
)


@register(
    year=2015,
    twin=Twin("resnet18", KEYS),
    published=(
        _printed("1.8x10^9"),
        *torchvision_figures("11,689,512", "1.814", "69.758", "89.078", min_size="1"),
    ),
)
def resnet18(num_classes: int = 1000, in_channels: int = 3, image_size: int = 224) -> Spec:
    """ResNet with 18 weight layers: two basic blocks per stage."""
    return _resnet("resnet18", (2, 2, 2, 2), num_classes, in_channels, image_size)


@register(
    year=2015,
    twin=Twin("resnet34", KEYS),
    published=(
        _printed("3.6x10^9"),
        *torchvision_figures("21,797,672", "3.664", "73.314", "91.420", min_size="1"),
    ),
)
def resnet34(num_classes: int = 1000, in_channels: int = 3, image_size: int = 224) -> Spec:
    """ResNet with 34 weight layers: 3, 4, 6 and 3 basic blocks."""
    return _resnet("resnet34", (3, 4, 6, 3), num_classes, in_channels, image_size)


@register(
    year=2015,
    twin=Twin("resnet50", KEYS),
    published=(
        _printed("3.8x10^9", PAPER_STRIDE, "multiply-adds, with the paper's stride"),
        *torchvision_figures("25,557,032", "4.089", "76.130", "92.862", min_size="1"),
    ),
    deviations=IN_3X3,
)
def resnet50(num_classes: int = 1000, in_channels: int = 3, image_size: int = 224, stride_in_1x1: bool = False) -> Spec:
    """ResNet with 50 weight layers: 3, 4, 6 and 3 bottlenecks."""
    return _resnet("resnet50", (3, 4, 6, 3), num_classes, in_channels, image_size, True, stride_in_1x1)


@register(
    year=2015,
    twin=Twin("resnet101", KEYS),
    published=(
        _printed("7.6x10^9", PAPER_STRIDE, "multiply-adds, with the paper's stride"),
        *torchvision_figures("44,549,160", "7.801", "77.374", "93.546", min_size="1"),
    ),
    deviations=IN_3X3,
)
def resnet101(
    num_classes: int = 1000, in_channels: int = 3, image_size: int = 224, stride_in_1x1: bool = False
) -> Spec:
    """ResNet with 101 weight layers: 3, 4, 23 and 3 bottlenecks."""
    return _resnet("resnet101", (3, 4, 23, 3), num_classes, in_channels, image_size, True, stride_in_1x1)


@register(
    year=2015,
    twin=Twin("resnet152", KEYS),
    published=(
        _printed("11.3x10^9", PAPER_STRIDE, "multiply-adds, with the paper's stride"),
        *torchvision_figures("60,192,808", "11.514", "78.312", "94.046", min_size="1"),
    ),
    deviations=IN_3X3,
)
def resnet152(
    num_classes: int = 1000, in_channels: int = 3, image_size: int = 224, stride_in_1x1: bool = False
) -> Spec:
    """ResNet with 152 weight layers: 3, 8, 36 and 3 bottlenecks."""
    return _resnet("resnet152", (3, 8, 36, 3), num_classes, in_channels, image_size, True, stride_in_1x1)


def _residual_d2l(maps: int, stride: int, project: bool) -> Parallel:
    """Returns the textbook's Residual: convolutions with biases, no batch norm on the shortcut."""
    body = (
        Conv(maps, kernel_size=3, stride=stride, padding=1, norm="batch"),
        Conv(maps, kernel_size=3, padding=1, norm="batch", activation=None),
    )
    shortcut = (Conv(maps, kernel_size=1, stride=stride, activation=None),) if project else ()
    return Parallel((body, shortcut), merge="add", activation="relu")


@register(
    deviations=(
        TEACHING,
        Deviation("conv*, block*", "convolutions without biases", "with biases", "as in the textbook"),
        Deviation("block*", "batch norm on the projecting shortcuts", "none", "as in the textbook"),
    ),
)
def resnet18_d2l(num_classes: int = 10, in_channels: int = 1, image_size: int = 96) -> Spec:
    """ResNet-18 as taught in Dive into Deep Learning: one channel, ten classes, 96 px."""
    return Spec(
        name="resnet18_d2l",
        input=(in_channels, image_size, image_size),
        features=(
            Conv(64, kernel_size=7, stride=2, padding=3, norm="batch"),  #  64 @ 48x48
            MaxPool(3, stride=2, padding=1),  #  64 @ 24x24
            _residual_d2l(64, 1, False),
            _residual_d2l(64, 1, False),  #  64 @ 24x24
            _residual_d2l(128, 2, True),
            _residual_d2l(128, 1, False),  # 128 @ 12x12
            _residual_d2l(256, 2, True),
            _residual_d2l(256, 1, False),  # 256 @ 6x6
            _residual_d2l(512, 2, True),
            _residual_d2l(512, 1, False),  # 512 @ 3x3
            AdaptiveAvgPool(1),
            Flatten(),
        ),
        classifier=(Logits(num_classes),),
    )
