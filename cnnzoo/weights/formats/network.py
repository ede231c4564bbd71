"""The layers of a cnnzoo network, as the graph that is compared with a file's."""

from __future__ import annotations

import torch
from torch import nn

from cnnzoo.blocks.modules import Branches
from cnnzoo.errors import InputError
from cnnzoo.network import CNN
from cnnzoo.weights.formats.layers import Layer, Shape, is_identity, sliding

_KINDS: dict[type[nn.Module], str] = {
    nn.Conv2d: "conv", nn.Linear: "linear", nn.BatchNorm2d: "norm", nn.SyncBatchNorm: "norm",
    nn.LocalResponseNorm: "lrn", nn.ReLU: "relu", nn.Sigmoid: "sigmoid", nn.Tanh: "tanh", nn.LeakyReLU: "leaky_relu",
    nn.MaxPool2d: "max_pool", nn.AvgPool2d: "avg_pool", nn.AdaptiveMaxPool2d: "max_pool",
    nn.AdaptiveAvgPool2d: "avg_pool", nn.Flatten: "flatten", nn.Dropout: "dropout", nn.Identity: "identity",
}  # fmt: skip


def network_layers(model: CNN, file_format: str) -> Layer:
    """Returns the last layer of a network.

    Args:
        model: The network.
        file_format: What is to be loaded, for the error: ``"a Caffe model"``.

    Raises:
        InputError: If a block with weights has no counterpart in files of other frameworks.
    """
    layer, error = Layer("input", "images", shape=model.spec.input), f"{model.spec.name} cannot load {file_format}"
    for section in ("features", "classifier"):
        layer = _append(layer, model.get_submodule(section), section, "", error)
    return layer


def _append(layer: Layer, module: nn.Module, path: str, label: str, error: str) -> Layer:
    """Returns the last layer of a module that takes the output of another layer."""
    label = "/".join(filter(None, (label, getattr(module, "label", ""))))
    if isinstance(module, nn.Sequential):
        for name, child in module.named_children():
            layer = _append(layer, child, f"{path}.{name}", label, error)
        return layer
    if isinstance(module, Branches):
        paths = [_append(layer, child, f"{path}.{name}", label, error) for name, child in module.named_children()]
        channels = sum(one.shape[0] for one in paths) if module.merge == "concat" else paths[0].shape[0]
        return Layer(module.merge, label, tuple(paths), shape=(channels, *paths[0].shape[1:]))
    kind = _KINDS.get(type(module), type(module).__name__)
    if kind not in _KINDS.values() and module.state_dict():
        raise InputError(f"{error}: its block {label!r} ({kind}) has weights of a kind that such files do not have")
    settings, shape = _settings(module), _output_shape(module, layer.shape)
    appended = Layer(kind, label, (layer,), module.state_dict(), settings, path, shape)
    return layer if kind.endswith("_pool") and is_identity(appended, layer.shape[1:]) else appended


def _pair(value: int | tuple[int, ...]) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else (value[0], value[1])


def _settings(module: nn.Module) -> dict[str, object]:
    if isinstance(module, nn.Conv2d):
        assert not isinstance(module.padding, str)
        return {
            "stride": module.stride, "padding": module.padding * 2, "dilation": module.dilation,
            "groups": module.groups,
        }  # fmt: skip
    if isinstance(module, (nn.MaxPool2d, nn.AvgPool2d)):
        kernel_size, stride, padding = map(_pair, (module.kernel_size, module.stride, module.padding))
        return sliding(kernel_size, stride, padding * 2, ceil_mode=module.ceil_mode)
    if isinstance(module, (nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d)):
        return {"output_size": _pair(module.output_size)}  # type: ignore[arg-type]
    if isinstance(module, nn.LocalResponseNorm):
        return {"size": module.size, "alpha": module.alpha, "beta": module.beta, "k": module.k}
    if isinstance(module, (nn.BatchNorm2d, nn.SyncBatchNorm)):
        return {"eps": module.eps}
    return {"negative_slope": module.negative_slope} if isinstance(module, nn.LeakyReLU) else {}


def _output_shape(module: nn.Module, shape: Shape) -> Shape:
    if isinstance(module, (nn.BatchNorm2d, nn.SyncBatchNorm)):  # needs images in train mode
        return shape
    weight = getattr(module, "weight", torch.empty(0))
    with torch.no_grad():
        return tuple(module(torch.empty(0, *shape, device=weight.device, dtype=weight.dtype)).shape[1:])
