"""The names of a network's weights in the state dicts of others, and how they are recognized."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

from torch import nn

from cnnzoo.network import CNN, label_of
from cnnzoo.published import Twin
from cnnzoo.registry import get_entry, is_model

OWN = "cnnzoo"  # the key map of a network's own names

# regular expressions that lead from the names of a library to those of torchvision, applied in order
KEY_MAPS: dict[str, dict[str, str]] = {
    "torchvision": {r"(\.denselayer\d+\.(?:norm|conv))\.(\d)\.": r"\1\2."},  # of its files of DenseNets, from 2017
    "timm": {  # VGG; ResNet and DenseNet have torchvision's names
        r"^pre_logits\.fc1\.": "classifier.0.",
        r"^pre_logits\.fc2\.": "classifier.3.",
        r"^head\.fc\.": "classifier.6.",
    },
    "transformers": {  # ResNet
        r"^(resnet\.)?embedder\.embedder\.convolution\.": "conv1.",
        r"^(resnet\.)?embedder\.embedder\.normalization\.": "bn1.",
        r"^(resnet\.)?encoder\.stages\.0\.layers\.": "layer1.",
        r"^(resnet\.)?encoder\.stages\.1\.layers\.": "layer2.",
        r"^(resnet\.)?encoder\.stages\.2\.layers\.": "layer3.",
        r"^(resnet\.)?encoder\.stages\.3\.layers\.": "layer4.",
        r"\.shortcut\.convolution\.": ".downsample.0.",
        r"\.shortcut\.normalization\.": ".downsample.1.",
        r"\.layer\.0\.convolution\.": ".conv1.",
        r"\.layer\.1\.convolution\.": ".conv2.",
        r"\.layer\.2\.convolution\.": ".conv3.",
        r"\.layer\.0\.normalization\.": ".bn1.",
        r"\.layer\.1\.normalization\.": ".bn2.",
        r"\.layer\.2\.normalization\.": ".bn3.",
        r"^classifier\.1\.": "fc.",
    },
}

# the names of layers with weights in the patterns of Twin.keys
_LAYER_NAMES = ((nn.Conv2d, "conv"), (nn.Linear, "linear"), (nn.BatchNorm2d, "norm"))


@dataclass(frozen=True)
class KeyMatch:
    """How the names in a state dict correspond to those of a network.

    Attributes:
        key_map: ``"cnnzoo"``, or the key of ``KEY_MAPS``.
        prefix: What precedes the names, such as ``"module."``.
        keys: Name in the state dict -> name in the network, for names that both have.
    """

    key_map: str
    prefix: str
    keys: Mapping[str, str]


def match_keys(model: CNN, names: Collection[str]) -> KeyMatch:
    """Returns the key map and the prefix by which most names in a state dict are those of weights of a network."""
    own = {key: key for key in model.state_dict()}
    torchvision = {torchvision_key: key for key, torchvision_key in twin_keys(model).items()}
    best = KeyMatch(OWN, "", {})
    for prefix in _prefixes(names):
        stripped = {name: name.removeprefix(prefix) for name in names if name.startswith(prefix)}
        for key_map, patterns in {OWN: {}, **KEY_MAPS}.items():
            targets = own if key_map == OWN else torchvision
            renamed = {name: _rename(key, patterns) for name, key in stripped.items()} if targets else {}
            keys = {name: targets[key] for name, key in renamed.items() if key in targets}
            if len(set(keys.values())) > len(best.keys):
                best = KeyMatch(key_map, prefix, keys)
    return best


def _prefixes(names: Collection[str]) -> Iterator[str]:
    """Yields prefixes that end with a dot and precede at least half of the names, the empty one first."""
    yield ""
    for depth in (1, 2, 3):
        parts = (name.split(".") for name in names)
        counts = Counter(".".join(part[:depth]) + "." for part in parts if len(part) > depth)
        yield from (prefix for prefix, count in counts.items() if 2 * count >= len(names))


def _rename(key: str, patterns: Mapping[str, str]) -> str:
    for pattern, replacement in patterns.items():
        key = re.sub(pattern, replacement, key)
    return key


def find_twin(model: CNN) -> Twin | None:
    """Returns the twin of a network in torchvision, from the registry; None if it has none."""
    name = model.spec.name
    return get_entry(name).twin if is_model(name) else None


def twin_keys(model: CNN) -> dict[str, str]:
    """Returns the state-dict keys of a network and those of its twin in torchvision; empty without a twin."""
    twin = find_twin(model)
    return {} if twin is None else {key: _twin_key(model, key, twin.keys) for key in model.state_dict()}


def _twin_key(model: CNN, key: str, patterns: Mapping[str, str]) -> str:
    if not patterns:
        return key
    module_name, _, attribute = key.rpartition(".")
    module = model.get_submodule(module_name)
    layer = next((name for cls, name in _LAYER_NAMES if isinstance(module, cls)), type(module).__name__)
    return _rename(f"{label_of(model, key)}:{layer}.{attribute}", patterns)
