"""How files of other frameworks name the layers of a network; other packages can add such names."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import TypeVar

from cnnzoo.plugins import Registry

KeyMap = Callable[[str, str], Iterable[str]]  # label of a block, "conv", "linear" or "norm" -> possible names
KeyMapFunction = TypeVar("KeyMapFunction", bound=KeyMap)


KEY_MAPS: Registry[KeyMap] = Registry("key map")


def register_key_map(function: KeyMapFunction) -> KeyMapFunction:
    """Registers names that files of other frameworks have for layers, under the name of the function.

    Use it as ``@register_key_map`` above a function that takes the label of a block and the kind of its layer
    (``"conv"``, ``"linear"`` or ``"norm"``), and returns the names that the layer may have in a file, if any.

    Raises:
        InputError: If the name is taken by another module.
    """
    KEY_MAPS.register(function.__name__, function, function.__module__)
    return function


def possible_names(label: str, kind: str) -> list[str]:
    """Returns the names that a layer may have in a file: the label itself, then those of the registered key maps."""
    return [label, *(name for key_map in KEY_MAPS.values() for name in key_map(label, kind))]


@register_key_map
def googlenet(label: str, kind: str) -> list[str]:
    """Returns the names of BVLC's GoogLeNet: ``inception_3a/1x1``, ``loss3/classifier``."""
    stem = {"conv1": "conv1/7x7_s2", "conv2": "conv2/3x3_reduce", "conv3": "conv2/3x3", "fc": "loss3/classifier"}
    return [stem.get(label, label.replace("inception", "inception_", 1))]


@register_key_map
def squeezenet(label: str, kind: str) -> list[str]:
    """Returns the names of SqueezeNet's authors: ``fire2/squeeze1x1``, ``fire2/expand1x1``."""
    return [label.replace("_squeeze", "/squeeze1x1")]


@register_key_map
def resnet(label: str, kind: str) -> list[str]:
    """Returns the names of ResNet's authors, such as ``res2a_branch2a``, and Caffe2's, such as ``res2_0_branch1``."""
    if label == "conv1" and kind == "norm":
        return ["bn_conv1", "res_conv1_bn"]
    if label == "fc":
        return ["fc1000", "pred"]
    match = re.fullmatch(r"layer(\d)\.(\d+)/(?:conv([123])|downsample)", label)
    if match is None:
        return []
    stage, number = int(match[1]) + 1, int(match[2])
    branch = f"branch2{'abc'[int(match[3]) - 1]}" if match[3] else "branch1"
    prefix, suffix = ("bn", "_bn") if kind == "norm" else ("res", "")
    blocks = [f"b{number}"] if number >= 26 else [chr(ord("a") + number), f"b{number}"]
    return [*(f"{prefix}{stage}{block}_{branch}" for block in blocks), f"res{stage}_{number}_{branch}{suffix}"]


@register_key_map
def densenet(label: str, kind: str) -> list[str]:
    """Returns the names of the DenseNets for Caffe: ``conv2_1/x1``, ``conv2_1/x1/bn``, ``conv2_blk``."""
    if label in ("conv0", "norm5", "classifier"):
        return [{"conv0": "conv1/bn" if kind == "norm" else "conv1", "norm5": "conv5_blk/bn"}.get(label, "fc6")]
    if match := re.fullmatch(r"transition(\d)_(?:norm|conv)", label):
        return [f"conv{int(match[1]) + 1}_blk{'/bn' if kind == 'norm' else ''}"]
    if match := re.fullmatch(r"denseblock(\d)\.denselayer(\d+)/(norm1|conv1|conv2)", label):
        part = {("norm1", "norm"): "x1/bn", ("conv1", "conv"): "x1", ("conv1", "norm"): "x2/bn"}
        return [f"conv{int(match[1]) + 1}_{match[2]}/{part.get((match[3], kind), 'x2')}"]
    return []
