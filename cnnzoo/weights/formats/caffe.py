"""Reads the layers and weights of a Caffe model (.caffemodel), of the first format (2013) and of the second (2015).

The numbers of the fields are those of caffe.proto: https://github.com/BVLC/caffe/blob/master/src/caffe/proto/caffe.proto
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from cnnzoo.errors import WeightsError
from cnnzoo.weights.formats.layers import Layer, scaled, sliding
from cnnzoo.weights.formats.protobuf import BYTES, FIXED32, VARINT, Field, ProtobufError, ProtobufReader, read_protobuf

_NET_LAYERS_V1, _NET_LAYERS = 2, 100  # NetParameter
_LAYER = {"name": 1, "type": 2, "bottom": 3, "top": 4, "blobs": 7}  # LayerParameter
_LAYER_V1 = {"name": 4, "type": 5, "bottom": 2, "top": 3, "blobs": 6}  # V1LayerParameter
_SETTINGS = {
    100: "transform", 104: "concat", 106: "convolution", 110: "eltwise", 117: "inner_product", 118: "lrn",
    121: "pooling", 123: "relu", 139: "batch_norm", 142: "scale",
}  # fmt: skip
_SETTINGS_V1 = {
    9: "concat", 10: "convolution", 17: "inner_product", 18: "lrn", 19: "pooling", 24: "eltwise", 30: "relu",
    36: "transform",
}  # fmt: skip
_BLOB_DATA, _BLOB_DOUBLE_DATA, _BLOB_SHAPE = 5, 8, 7  # BlobProto; its fields 1 to 4 are an older shape

# V1LayerParameter.LayerType, in the words of the second format
_TYPES_V1 = {
    1: "Accuracy", 3: "Concat", 4: "Convolution", 5: "Data", 6: "Dropout", 8: "Flatten", 12: "ImageData",
    14: "InnerProduct", 15: "LRN", 17: "Pooling", 18: "ReLU", 19: "Sigmoid", 20: "Softmax", 21: "SoftmaxWithLoss",
    22: "Split", 23: "TanH", 25: "Eltwise", 33: "Slice",
}  # fmt: skip

# name of a setting -> number of its field; a second one is the vertical, a third one the horizontal size
_FIELDS: dict[str, dict[str, tuple[int, ...]]] = {
    "transform": {"scale": (1,), "mean_file": (4,), "mean_value": (5,)},
    "concat": {"concat_dim": (1,), "axis": (2,)},
    "convolution": {"padding": (3, 9, 10), "groups": (5,), "stride": (6, 13, 14), "dilation": (18,)},
    "eltwise": {"operation": (1,), "coeff": (2,)},
    "inner_product": {"transpose": (6,)},
    "lrn": {"size": (1,), "alpha": (2,), "beta": (3,), "norm_region": (4,), "k": (5,)},
    "pooling": {
        "pool": (1,), "kernel_size": (2, 5, 6), "stride": (3, 7, 8), "padding": (4, 9, 10), "global_pooling": (12,),
        "round_mode": (13,),
    },
    "relu": {"negative_slope": (1,)},
    "batch_norm": {"eps": (3,)},
    "scale": {"axis": (1,)},
}  # fmt: skip
_DEFAULTS: dict[str, dict[str, Any]] = {
    "transform": {"scale": 1.0, "mean_value": ()},
    "concat": {"concat_dim": 1, "axis": 1},
    "convolution": {"padding": (0, 0), "groups": 1, "stride": (1, 1), "dilation": (1, 1)},
    "eltwise": {"operation": 1, "coeff": ()},
    "inner_product": {"transpose": 0},
    "lrn": {"size": 5, "alpha": 1.0, "beta": 0.75, "norm_region": 0, "k": 1.0},
    "pooling": {
        "pool": 0, "kernel_size": None, "stride": (1, 1), "padding": (0, 0), "global_pooling": 0, "round_mode": 0,
    },
    "relu": {"negative_slope": 0.0},
    "batch_norm": {"eps": 1e-5},
    "scale": {"axis": 1},
}  # fmt: skip
_LISTS, _PAIRS = {"mean_value", "coeff"}, {"padding", "kernel_size", "stride", "dilation"}

_KINDS = {
    "Dropout": "dropout", "Flatten": "flatten", "Split": "identity", "Sigmoid": "sigmoid", "TanH": "tanh",
    "Softmax": "softmax", "SoftmaxWithLoss": "loss", "Accuracy": "accuracy",
}  # fmt: skip
_MAX_LAYERS = 5000
_MAX_LINKS = 20_000  # inputs of all layers


@dataclass(frozen=True)
class CaffeModel:
    """What a .caffemodel file holds.

    Attributes:
        outputs: The last layers of the network.
        transform: How its training prepared images: ``scale``, ``mean_value`` (BGR), ``mean_file``; None if the file
            does not say.
    """

    outputs: tuple[Layer, ...]
    transform: Mapping[str, Any] | None


@dataclass(frozen=True)
class _CaffeLayer:
    """A layer as the file has it: ``type`` in the words of the second format, ``settings`` with Caffe's defaults."""

    name: str
    type: str
    bottoms: list[str]
    tops: list[str]
    blobs: list[torch.Tensor]
    settings: dict[str, dict[str, Any]] = field(default_factory=dict)


def read_caffemodel(path: Path) -> CaffeModel:
    """Returns the network that a .caffemodel file holds, with its weights.

    Raises:
        FileError: If the file cannot be read.
        WeightsError: If it is damaged, or is no Caffe model.
    """
    with read_protobuf(path, "a Caffe model") as reader:
        layers = list(_read_layers(reader))
        model = _connect(layers)
    if not any(layer.blobs for layer in layers):
        raise WeightsError(f"{path} is not a Caffe model with weights: no layer of it has any")
    return model


# --- from the file to layers ---


def _read_layers(reader: ProtobufReader) -> Iterator[_CaffeLayer]:
    count = 0
    for entry in reader.fields():
        if entry.number not in (_NET_LAYERS, _NET_LAYERS_V1):
            continue
        count += 1
        if count > _MAX_LAYERS:
            raise ProtobufError(f"it has more than {_MAX_LAYERS:,} layers")
        yield _read_layer(reader, entry, is_v1=entry.number == _NET_LAYERS_V1)


def _read_layer(reader: ProtobufReader, message: Field, *, is_v1: bool) -> _CaffeLayer:
    numbers, kinds = (_LAYER_V1, _SETTINGS_V1) if is_v1 else (_LAYER, _SETTINGS)
    layer, texts = {number: name for name, number in numbers.items()}, {"name": "", "type": ""}
    links: dict[str, list[str]] = {"bottom": [], "top": []}
    blobs: list[torch.Tensor] = []
    settings: dict[str, dict[str, Any]] = {}
    for entry in reader.message(message):
        what = layer.get(entry.number)
        if what == "blobs":
            blobs.append(_read_blob(reader, entry, texts["name"]))
        elif what == "type" and is_v1:
            if entry.wire_type != VARINT:
                raise ProtobufError(f"layer {texts['name']!r} has no type")
            texts["type"] = _TYPES_V1.get(entry.value, f"type {entry.value}")
        elif what in texts:
            texts[what] = reader.text(entry)
        elif what is not None:
            links[what].append(reader.text(entry))
        elif entry.number in kinds:
            settings[kinds[entry.number]] = _read_settings(reader, entry, kinds[entry.number])
    return _CaffeLayer(texts["name"], texts["type"], links["bottom"], links["top"], blobs, settings)


def _read_blob(reader: ProtobufReader, blob: Field, layer: str) -> torch.Tensor:
    old_shape: dict[int, int] = {}
    shape: list[int] | None = None
    data: list[torch.Tensor] = []
    for entry in reader.message(blob):
        if entry.number in (1, 2, 3, 4) and entry.wire_type == VARINT:  # num, channels, height, width
            old_shape[entry.number] = entry.value
        elif entry.number == _BLOB_SHAPE:
            dims = (n for dim in reader.message(entry) if dim.number == 1 for n in reader.varints(dim))
            shape = [*(shape or []), *dims]
        elif entry.number == _BLOB_DATA and entry.wire_type == FIXED32:  # not packed, as in very old files
            data.append(torch.tensor([entry.as_float()]))
        elif entry.number == _BLOB_DATA:
            data.append(reader.floats(entry))
        elif entry.number == _BLOB_DOUBLE_DATA and entry.wire_type == BYTES:
            data.append(reader.floats(entry, torch.float64).float())
    values = data[0] if len(data) == 1 else torch.cat([torch.empty(0), *data])
    if shape is None:
        shape = [old_shape.get(i, 1) for i in (1, 2, 3, 4)] if old_shape else [len(values)]
    if len(shape) > 8 or math.prod(shape) != len(values):
        raise ProtobufError(f"the weights of {layer!r} have the shape {tuple(shape)[:8]} and {len(values):,} values")
    return values.reshape(shape)


def _read_settings(reader: ProtobufReader, message: Field, kind: str) -> dict[str, Any]:
    """Returns the settings in a message, with Caffe's defaults; sizes are (vertical, horizontal)."""
    by_number: dict[int, list[Any]] = {}
    known = {number for numbers in _FIELDS[kind].values() for number in numbers}
    for entry in reader.message(message):
        if entry.number in known:
            values: list[Any]
            if entry.wire_type == FIXED32:
                values = [entry.as_float()]
            elif kind == "transform" and entry.wire_type == BYTES and entry.number != 5:
                values = [reader.text(entry)]
            elif kind in ("transform", "eltwise") and entry.wire_type == BYTES:
                values = reader.floats(entry).tolist()
            else:
                values = list(reader.varints(entry))
            by_number.setdefault(entry.number, []).extend(values)
    settings = dict(_DEFAULTS[kind])
    for name, (number, *sides) in _FIELDS[kind].items():
        values = by_number.get(number, [])
        if name in _LISTS:
            settings[name] = tuple(values)
        elif name not in _PAIRS:
            settings[name] = values[-1] if values else settings.get(name)
        else:
            pair = [values[0], values[-1]] if values else settings[name]
            for i, side in enumerate(sides):
                if side in by_number:
                    pair = list(pair or (0, 0))
                    pair[i] = by_number[side][-1]
            settings[name] = None if pair is None else (int(pair[0]), int(pair[1]))
    return settings


# --- from layers to a graph ---


def _connect(layers: list[_CaffeLayer]) -> CaffeModel:
    """Returns the network in which layers are connected by the names of what they take and return."""
    current: dict[str, Layer] = {}  # name of a blob -> the layer that wrote it last
    used: set[Layer] = set()
    added: list[Layer] = []
    transform = None
    links = 0
    for layer in layers:
        links += len(layer.bottoms)
        if links > _MAX_LINKS:
            raise ProtobufError(f"its layers have more than {_MAX_LINKS:,} inputs")
        transform = transform or layer.settings.get("transform")
        inputs = tuple(current.setdefault(name, Layer("input", name)) for name in layer.bottoms)
        used.update(inputs)
        node = _convert(layer, inputs)
        added.append(node)
        current |= dict.fromkeys(layer.tops or [layer.name], node)
    return CaffeModel(tuple(node for node in added if node not in used), transform)


def _convert(layer: _CaffeLayer, inputs: tuple[Layer, ...]) -> Layer:
    """Returns the layer in the words of ``cnnzoo.weights.formats.layers``."""
    settings = layer.settings
    if not inputs:
        return Layer("input", layer.name)
    if layer.type in ("Convolution", "InnerProduct") and layer.blobs:
        weight, *biases = layer.blobs
        tensors = {"weight": weight, **({"bias": biases[0].reshape(-1)} if biases else {})}
        if layer.type == "InnerProduct":
            if weight.dim() > 2 and weight.shape[:-2].numel() == 1:  # (1, 1, out, in) in the first format
                weight = weight.reshape(weight.shape[-2:])
            is_transposed = settings.get("inner_product", {}).get("transpose")
            return Layer("linear", layer.name, inputs, {**tensors, "weight": weight.T if is_transposed else weight})
        values = dict(settings.get("convolution", {}))
        return Layer("conv", layer.name, inputs, tensors, values and {**values, "padding": values["padding"] * 2})
    if layer.type == "BatchNorm" and len(layer.blobs) == 3:
        mean, variance, factor = (blob.reshape(-1) for blob in layer.blobs)
        scale = 0.0 if not len(factor) or factor[0] == 0 else 1 / float(factor[0])
        tensors = {
            "weight": torch.ones(len(mean)), "bias": torch.zeros(len(mean)), "running_mean": mean * scale,
            "running_var": variance * scale,
        }  # fmt: skip
        eps = float(settings.get("batch_norm", _DEFAULTS["batch_norm"])["eps"])
        return Layer("norm", layer.name, inputs, tensors, {"eps": eps})
    if layer.type == "Scale" and layer.blobs and settings.get("scale", {"axis": 1})["axis"] == 1:
        weight, *biases = (blob.reshape(-1) for blob in layer.blobs)
        return scaled(layer.name, inputs[0], weight, biases[0] if biases else None)
    if layer.type == "Pooling":
        return _pool(layer, inputs, settings.get("pooling", _DEFAULTS["pooling"]))
    if layer.type == "LRN":
        values = dict(settings.get("lrn", _DEFAULTS["lrn"]))
        return Layer("lrn" if not values.pop("norm_region") else "lrn within maps", layer.name, inputs, {}, values)
    if layer.type == "ReLU":
        if slope := float(settings.get("relu", _DEFAULTS["relu"])["negative_slope"]):
            return Layer("leaky_relu", layer.name, inputs, {}, {"negative_slope": slope})
        return Layer("relu", layer.name, inputs)
    if layer.type == "Concat":
        values = settings.get("concat", _DEFAULTS["concat"])
        return Layer("concat" if values["axis"] == values["concat_dim"] == 1 else "Concat", layer.name, inputs)
    if layer.type == "Eltwise":
        values = settings.get("eltwise", _DEFAULTS["eltwise"])
        is_sum = values["operation"] == 1 and set(values["coeff"]) <= {1.0}
        return Layer("add" if is_sum else "Eltwise", layer.name, inputs)
    return Layer(_KINDS.get(layer.type, layer.type or "layer without a type"), layer.name, inputs)


def _pool(layer: _CaffeLayer, inputs: tuple[Layer, ...], values: Mapping[str, Any]) -> Layer:
    kind = {0: "max_pool", 1: "avg_pool"}.get(values["pool"], "stochastic pool")
    if values["global_pooling"]:
        return Layer(kind, layer.name, inputs, {}, {"kernel_size": None})
    size, stride, padding = values["kernel_size"] or (0, 0), values["stride"], values["padding"] * 2
    return Layer(kind, layer.name, inputs, {}, sliding(size, stride, padding, ceil_mode=not values["round_mode"]))
