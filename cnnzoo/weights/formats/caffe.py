"""Reads the layers and weights of a Caffe model (.caffemodel), of the first format (2013) and of the second (2015).

The numbers of the fields are those of caffe.proto: https://github.com/BVLC/caffe/blob/master/src/caffe/proto/caffe.proto
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path

import torch

from cnnzoo.errors import FileError, WeightsError
from cnnzoo.files import os_reason
from cnnzoo.weights.formats.protobuf import BYTES, FIXED32, FIXED64, VARINT, Field, ProtobufError, ProtobufReader

_NET_LAYERS_V1, _NET_LAYERS = 2, 100  # NetParameter
_LAYER = {"name": 1, "type": 2, "bottom": 3, "blobs": 7}  # LayerParameter
_LAYER_V1 = {"name": 4, "type": 5, "bottom": 2, "blobs": 6}  # V1LayerParameter
_SETTINGS = {106: "convolution", 117: "inner_product", 118: "lrn", 121: "pooling", 139: "batch_norm"}
_SETTINGS_V1 = {10: "convolution", 17: "inner_product", 18: "lrn", 19: "pooling"}
_BLOB_DATA, _BLOB_DOUBLE_DATA, _BLOB_SHAPE = 5, 8, 7  # BlobProto; its fields 1 to 4 are an older shape

# V1LayerParameter.LayerType, in the words of the second format
_TYPES_V1 = {
    1: "Accuracy", 3: "Concat", 4: "Convolution", 5: "Data", 6: "Dropout", 8: "Flatten", 14: "InnerProduct", 15: "LRN",
    17: "Pooling", 18: "ReLU", 19: "Sigmoid", 20: "Softmax", 21: "SoftmaxWithLoss", 22: "Split", 23: "TanH",
    25: "Eltwise", 33: "Slice",
}  # fmt: skip

# name of a setting -> number of its field; a second one is the vertical, a third one the horizontal size
_FIELDS: dict[str, dict[str, tuple[int, ...]]] = {
    "convolution": {
        "num_output": (1,), "pad": (3, 9, 10), "kernel_size": (4, 11, 12), "group": (5,), "stride": (6, 13, 14),
        "dilation": (18,),
    },
    "inner_product": {"num_output": (1,), "transpose": (6,)},
    "lrn": {"size": (1,), "alpha": (2,), "beta": (3,), "norm_region": (4,), "k": (5,)},
    "pooling": {
        "pool": (1,), "kernel_size": (2, 5, 6), "stride": (3, 7, 8), "pad": (4, 9, 10), "global_pooling": (12,),
        "round_mode": (13,),
    },
    "batch_norm": {"eps": (3,)},
}  # fmt: skip
_DEFAULTS: dict[str, dict[str, float]] = {
    "convolution": {"pad": 0, "group": 1, "stride": 1, "dilation": 1},
    "inner_product": {"transpose": 0},
    "lrn": {"size": 5, "alpha": 1.0, "beta": 0.75, "norm_region": 0, "k": 1.0},
    "pooling": {"pool": 0, "stride": 1, "pad": 0, "global_pooling": 0, "round_mode": 0},
    "batch_norm": {"eps": 1e-5},
}

_MAX_LAYERS = 5000
_MAX_VALUES = 2**31  # of a blob


@dataclass(frozen=True)
class CaffeLayer:
    """A layer of a Caffe model.

    Attributes:
        name: Its name, such as ``"conv1"``.
        type: Its type, such as ``"Convolution"``.
        blobs: Its weights: of a convolution (out, in / groups, H, W) and (out,), of a dense layer (out, in) and (out,).
        settings: What the file says of it, with Caffe's defaults: ``{"kernel_size": (11, 11), "stride": (4, 4)}``.
    """

    name: str
    type: str
    blobs: tuple[torch.Tensor, ...]
    settings: Mapping[str, float | tuple[int, int]] = field(default_factory=dict)


def read_caffemodel(path: str | PathLike[str]) -> tuple[CaffeLayer, ...]:
    """Returns the layers of a .caffemodel file, in its order.

    Args:
        path: The file.

    Raises:
        FileError: If it cannot be read.
        WeightsError: If it is damaged, or is no Caffe model.
    """
    path = Path(path)
    try:
        if not path.is_file():
            raise FileError(f"{path} is not a file" if path.exists() else f"{path} does not exist")
        with path.open("rb") as file:
            layers = tuple(_read_layers(ProtobufReader(file, path.stat().st_size)))
    except ProtobufError as error:
        raise WeightsError(f"{path} is damaged, or is not a Caffe model: {error}") from None
    except (OSError, ValueError) as error:
        if isinstance(error, FileError):
            raise
        raise FileError(f"{path} cannot be read: {os_reason(error)}") from None
    if not any(layer.blobs for layer in layers):
        raise WeightsError(f"{path} is not a Caffe model with weights: no layer of it has any")
    return layers


def _read_layers(reader: ProtobufReader) -> Iterator[CaffeLayer]:
    count = 0
    for entry in reader.fields():
        if entry.number not in (_NET_LAYERS, _NET_LAYERS_V1):
            continue
        count += 1
        if count > _MAX_LAYERS:
            raise ProtobufError(f"it has more than {_MAX_LAYERS:,} layers")
        if entry.wire_type != BYTES:
            raise ProtobufError(f"layer {count} is a number")
        yield _read_layer(reader, entry, is_v1=entry.number == _NET_LAYERS_V1)


def _read_layer(reader: ProtobufReader, layer: Field, *, is_v1: bool) -> CaffeLayer:
    numbers, known_settings = (_LAYER_V1, _SETTINGS_V1) if is_v1 else (_LAYER, _SETTINGS)
    name, kind = "", ""
    blobs: list[torch.Tensor] = []
    settings: dict[str, float | tuple[int, int]] = {}
    for entry in reader.fields(layer.start, layer.end):
        if entry.number == numbers["name"]:
            name = reader.text(entry)
        elif entry.number == numbers["type"]:
            if is_v1 and entry.wire_type != VARINT:
                raise ProtobufError(f"layer {name} has no type")
            kind = _TYPES_V1.get(entry.value, f"type {entry.value}") if is_v1 else reader.text(entry)
        elif entry.number == numbers["blobs"]:
            blobs.append(_read_blob(reader, entry, name))
        elif entry.number in known_settings and entry.wire_type == BYTES:
            settings |= _read_settings(reader, entry, known_settings[entry.number])
    return CaffeLayer(name, kind, tuple(blobs), settings)


def _read_blob(reader: ProtobufReader, blob: Field, layer: str) -> torch.Tensor:
    if blob.wire_type != BYTES:
        raise ProtobufError(f"the weights of {layer} are a number")
    old_shape: dict[int, int] = {}
    shape: list[int] | None = None
    data: list[torch.Tensor] = []
    for entry in reader.fields(blob.start, blob.end):
        if entry.number in (1, 2, 3, 4) and entry.wire_type == VARINT:  # num, channels, height, width
            old_shape[entry.number] = entry.value
        elif entry.number == _BLOB_SHAPE and entry.wire_type == BYTES:
            shape = [n for dim in reader.fields(entry.start, entry.end) if dim.number == 1 for n in reader.varints(dim)]
        elif entry.number == _BLOB_DATA and entry.wire_type == FIXED32:  # not packed, as in very old files
            data.append(torch.tensor([entry.as_float()]))
        elif entry.number == _BLOB_DATA:
            data.append(reader.floats(entry))
        elif entry.number == _BLOB_DOUBLE_DATA and entry.wire_type != FIXED64:
            data.append(reader.floats(entry, torch.float64).float())
    values = data[0] if len(data) == 1 else torch.cat([torch.empty(0), *data])
    if shape is None:
        shape = [old_shape.get(i, 1) for i in (1, 2, 3, 4)] if old_shape else [len(values)]
    if len(shape) > 8 or math.prod(shape) != len(values) or len(values) > _MAX_VALUES:
        raise ProtobufError(f"the weights of {layer} have the shape {tuple(shape)} and {len(values):,} values")
    return values.reshape(shape)


def _read_settings(reader: ProtobufReader, message: Field, kind: str) -> dict[str, float | tuple[int, int]]:
    """Returns the settings of a layer, with Caffe's defaults; of sizes (vertical, horizontal)."""
    by_number: dict[int, list[float]] = {}
    for entry in reader.fields(message.start, message.end):
        if any(entry.number in numbers for numbers in _FIELDS[kind].values()):
            values = [entry.as_float()] if entry.wire_type == FIXED32 else list(map(float, reader.varints(entry)))
            by_number.setdefault(entry.number, []).extend(values)
    settings: dict[str, float | tuple[int, int]] = {}
    for name, numbers in _FIELDS[kind].items():
        values = by_number.get(numbers[0], [])
        default = _DEFAULTS[kind].get(name)
        if len(numbers) == 1 and (values or default is not None):
            settings[name] = values[-1] if values else default  # type: ignore[assignment]
        elif len(numbers) == 3:
            both = [*values[:2], *values[-1:]][:2] or ([default, default] if default is not None else [])
            for i, number in enumerate(numbers[1:]):
                if number in by_number:
                    both = (both or [0.0, 0.0])[:i] + by_number[number][-1:] + (both or [0.0, 0.0])[i + 1 :]
            if both:
                settings[name] = int(both[0]), int(both[1])
    return settings
