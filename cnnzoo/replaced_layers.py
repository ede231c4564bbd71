"""Layers that were replaced by hand: where they differ from a Spec, and the Spec that describes them."""

from __future__ import annotations

import dataclasses
from typing import Any

from torch import nn

from cnnzoo.blocks import Block
from cnnzoo.errors import SpecError
from cnnzoo.spec import Spec


def different_modules(model: nn.Module, expected: nn.Module) -> list[str]:
    """Returns the names of the modules in which a network differs from another; of nested ones, only the outermost.

    SyncBatchNorm does not differ from BatchNorm, since it has the same weights and, in eval mode, the same output.
    """
    before, after = _module_reprs(expected), _module_reprs(model)
    changed = [name for name in {**before, **after} if before.get(name) != after.get(name)]
    return [name for name in changed if not any(name.startswith(f"{outer}.") for outer in changed)]


def _module_reprs(model: nn.Module) -> dict[str, str]:
    """Returns a dict from module names to class, settings (of modules without children) and shapes of own tensors."""
    reprs = {}
    for name, module in model.named_modules():
        text = type(module).__name__ if module._modules else repr(module).replace("\n", "")
        if isinstance(module, nn.SyncBatchNorm):
            text = text.replace("SyncBatchNorm", "BatchNorm2d", 1)
        tensors = {**module._parameters, **module._buffers}
        shapes = {key: tuple(tensor.shape) for key, tensor in tensors.items() if tensor is not None}
        reprs[name] = f"{text} {shapes}"
    return reprs


def spec_of_layers(model: nn.Module, expected: nn.Module, spec: Spec) -> Spec:
    """Returns a Spec with the settings of layers that were replaced, such as class scores for other classes.

    Only layers in ``features`` and ``classifier`` themselves are read, each in place of the first module of its block;
    the network may differ from the result all the same.

    Args:
        model: A network.
        expected: The network of its Spec.
        spec: That Spec.
    """
    layers: dict[str, nn.Module] = {}  # label of a block -> the module in place of its first
    for section in ("features", "classifier"):
        pairs = zip(expected.get_submodule(section).children(), model.get_submodule(section).children(), strict=False)
        for before, after in pairs:
            layers.setdefault(str(before.label), after)
    first = next(iter(layers.values()), None)
    channels = getattr(first, "in_channels", spec.input[0])
    try:
        spec = spec.map_blocks(
            lambda block, label: (_with_settings(block, layers[label]) if label in layers else block,)
        )
        return dataclasses.replace(spec, input=(channels, *spec.input[1:]))
    except SpecError:  # a setting that blocks do not have, such as padding="same"
        return spec


def _with_settings(block: Block, module: nn.Module) -> Block:
    """Returns a block with the settings of a module: its attributes of the names that the block's fields have."""
    if not type(module).__module__.startswith("torch.nn."):
        return block
    settings: dict[str, Any] = {}
    for item in dataclasses.fields(block):
        value = getattr(module, item.name, None)
        if item.name == "bias":
            settings["bias"] = value is not None
        elif isinstance(value, tuple) and len(set(value)) == 1:  # (3, 3)
            settings[item.name] = value[0]
        elif isinstance(value, (bool, int, float, tuple)):
            settings[item.name] = value
    scores = getattr(module, "out_features", getattr(module, "out_channels", None))
    block = block if scores is None else block.with_num_classes(scores)
    return dataclasses.replace(block, **settings)
