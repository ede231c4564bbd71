"""SqueezeNet, versions 1.0 and 1.1."""

from __future__ import annotations

from collections.abc import Sequence

from cnnzoo.blocks import Activation, AdaptiveAvgPool, Block, Conv, Dropout, Flatten, Logits, MaxPool, Parallel
from cnnzoo.published import Deviation, Published, Twin, torchvision_figures
from cnnzoo.registry import register
from cnnzoo.spec import Spec

IANDOLA_2016 = "Iandola et al.: SqueezeNet: AlexNet-level accuracy with 50x fewer parameters, 2016, table 1"

INIT = "kaiming_uniform"


def _keys(fires: Sequence[int]) -> dict[str, str]:
    """Returns torchvision's names for our layers; ``fires`` are the positions of fire2, fire3, ... in its features."""
    keys = {r"^conv1:conv": "features.0", r"^conv10:conv": "classifier.1"}
    for number, position in enumerate(fires, start=2):
        keys[rf"^fire{number}_squeeze:conv"] = f"features.{position}.squeeze"
        keys[rf"^fire{number}/(\w+):conv"] = rf"features.{position}.\1"
    return keys


def _fire(number: int, squeeze: int, expand: int) -> tuple[Block, ...]:
    """Returns a fire module: a 1x1 convolution to few maps, then 1x1 and 3x3 convolutions, concatenated."""
    return (
        Conv(squeeze, kernel_size=1, init=INIT, bias_init=0.0, label=f"fire{number}_squeeze"),
        Parallel(
            (
                (Conv(expand, kernel_size=1, init=INIT, bias_init=0.0, label="expand1x1"),),
                (Conv(expand, kernel_size=3, padding=1, init=INIT, bias_init=0.0, label="expand3x3"),),
            ),
            label=f"fire{number}",
        ),
    )


def _pool(number: int) -> MaxPool:
    return MaxPool(3, stride=2, ceil_mode=True, label=f"pool{number}")


def _classifier(num_classes: int) -> tuple[Block, ...]:
    return (
        Dropout(0.5, label="drop9"),
        Logits(num_classes, init="normal:0.01", bias_init=0.0, label="conv10"),
        Activation("relu", label="relu10"),
        AdaptiveAvgPool(1, label="pool10"),
        Flatten(),
    )


@register(
    year=2016,
    twin=Twin("squeezenet1_0", _keys((3, 4, 5, 7, 8, 9, 10, 12))),
    published=(
        Published("parameters", "1,248,424", IANDOLA_2016, "parameters"),
        *torchvision_figures("1,248,424", "0.819", "58.092", "80.420", min_size="21"),
    ),
    deviations=(Deviation("input", "maps of 111x111 after conv1", "109x109", "as in torchvision"),),
)
def squeezenet1_0(num_classes: int = 1000, in_channels: int = 3, image_size: int = 224) -> Spec:
    """SqueezeNet 1.0, of fire modules, without a dense layer."""
    return Spec(
        name="squeezenet1_0",
        input=(in_channels, image_size, image_size),
        features=(
            Conv(96, kernel_size=7, stride=2, init=INIT, bias_init=0.0, label="conv1"),  #  96 @ 109x109
            _pool(1),  #  96 @ 54x54
            *_fire(2, 16, 64),
            *_fire(3, 16, 64),
            *_fire(4, 32, 128),
            _pool(4),  # 256 @ 27x27
            *_fire(5, 32, 128),
            *_fire(6, 48, 192),
            *_fire(7, 48, 192),
            *_fire(8, 64, 256),
            _pool(8),  # 512 @ 13x13
            *_fire(9, 64, 256),
        ),
        classifier=_classifier(num_classes),
    )


@register(
    year=2016,
    twin=Twin("squeezenet1_1", _keys((3, 4, 6, 7, 9, 10, 11, 12))),
    published=torchvision_figures("1,235,496", "0.349", "58.178", "80.624", min_size="17"),
)
def squeezenet1_1(num_classes: int = 1000, in_channels: int = 3, image_size: int = 224) -> Spec:
    """SqueezeNet 1.1, 2.3 times fewer operations than 1.0: earlier pools and a smaller first layer."""
    return Spec(
        name="squeezenet1_1",
        input=(in_channels, image_size, image_size),
        features=(
            Conv(64, kernel_size=3, stride=2, init=INIT, bias_init=0.0, label="conv1"),  #  64 @ 111x111
            _pool(1),  #  64 @ 55x55
            *_fire(2, 16, 64),
            *_fire(3, 16, 64),
            _pool(3),  # 128 @ 27x27
            *_fire(4, 32, 128),
            *_fire(5, 32, 128),
            _pool(5),  # 256 @ 13x13
            *_fire(6, 48, 192),
            *_fire(7, 48, 192),
            *_fire(8, 64, 256),
            *_fire(9, 64, 256),
        ),
        classifier=_classifier(num_classes),
    )
