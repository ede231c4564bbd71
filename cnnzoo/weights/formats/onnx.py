"""Reads the layers and weights of an ONNX file, without the package onnx.

The numbers of the fields are those of onnx.proto: https://github.com/onnx/onnx/blob/main/onnx/onnx.proto
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from cnnzoo.errors import WeightsError
from cnnzoo.weights.formats.layers import Layer, scaled, sliding
from cnnzoo.weights.formats.protobuf import BYTES, FIXED32, VARINT, Field, ProtobufError, ProtobufReader, read_protobuf

_GRAPH = 7  # ModelProto
_NODE, _INITIALIZER, _OUTPUT = 1, 5, 12  # GraphProto
_EXTERNAL = 14  # TensorProto.data_location
_DTYPES = {1: torch.float32, 7: torch.int64, 10: torch.float16, 11: torch.float64, 16: torch.bfloat16}
_MAX_NODES, _MAX_LINKS = 20_000, 100_000
_MAX_INTS = 64  # of an attribute: longer ones do not matter here

_KINDS = {
    "Relu": "relu", "Sigmoid": "sigmoid", "Tanh": "tanh", "Softmax": "softmax", "LogSoftmax": "softmax",
    "Dropout": "dropout", "Identity": "identity", "Cast": "identity",
}  # fmt: skip

# what follows the name of the layer in the names of its weights: conv1_w_0, conv1/bn_scale_0, features.0.weight
_SUFFIX = re.compile(r"[_./](?:w|weights?|s|scale|gamma)(?:_\d+)?$")
_PREFIX = re.compile(r"^gpu_\d+/")  # of Caffe2

Constant = torch.Tensor


@dataclass(frozen=True)
class _Node:
    """A node of the graph, as the file has it."""

    op: str
    name: str
    inputs: list[str]
    outputs: list[str]
    attributes: dict[str, Any]

    def ints(self, name: str, default: Sequence[int]) -> tuple[int, ...]:
        """Returns an attribute that is a list of integers."""
        value = self.attributes.get(name, default)
        return tuple(value) if isinstance(value, (list, tuple)) and all(type(n) is int for n in value) else (-1,)

    def number(self, name: str, default: float) -> float:
        """Returns an attribute that is a number."""
        value = self.attributes.get(name, default)
        return value if isinstance(value, (int, float)) else math.nan


def read_onnx(path: Path) -> tuple[Layer, ...]:
    """Returns the outputs of the network that an ONNX file holds, with its weights.

    Raises:
        FileError: If the file cannot be read.
        WeightsError: If it is damaged, is no ONNX model, or keeps its weights in other files.
    """
    with read_protobuf(path, "an ONNX model") as reader:
        graphs = [entry for entry in reader.fields() if entry.number == _GRAPH]
        if len(graphs) != 1:
            raise ProtobufError("it has no graph" if not graphs else "it has several graphs")
        nodes, constants, outputs = _read_graph(reader, graphs[0])
        layers = _connect(nodes, constants, outputs)
    if not layers:
        raise WeightsError(f"{path} is not an ONNX model of a network: its graph computes no output")
    return layers


# --- from the file to nodes ---


def _read_graph(reader: ProtobufReader, graph: Field) -> tuple[list[_Node], dict[str, Constant], list[str]]:
    nodes, constants, outputs = [], {}, []
    for entry in reader.message(graph):
        if entry.number == _NODE:
            nodes.append(_read_node(reader, entry))
            if len(nodes) > _MAX_NODES:
                raise ProtobufError(f"it has more than {_MAX_NODES:,} nodes")
        elif entry.number == _INITIALIZER:
            name, tensor = _read_tensor(reader, entry)
            if tensor is not None:
                constants[name] = tensor
        elif entry.number == _OUTPUT:
            outputs += [reader.text(one) for one in reader.message(entry) if one.number == 1]
    return nodes, constants, outputs


def _read_node(reader: ProtobufReader, message: Field) -> _Node:
    node = _Node("", "", [], [], {})
    texts = {"op": "", "name": ""}
    for entry in reader.message(message):
        if entry.number in (1, 2):
            (node.inputs if entry.number == 1 else node.outputs).append(reader.text(entry))
        elif entry.number in (3, 4):
            texts["name" if entry.number == 3 else "op"] = reader.text(entry)
        elif entry.number == 5:
            name, value = _read_attribute(reader, entry)
            node.attributes[name] = value
    return _Node(texts["op"], texts["name"], node.inputs, node.outputs, node.attributes)


def _read_attribute(reader: ProtobufReader, message: Field) -> tuple[str, Any]:
    name, ints = "", list[int]()
    value: Any = None
    for entry in reader.message(message):
        if entry.number == 1:
            name = reader.text(entry)
        elif entry.number == 2 and entry.wire_type == FIXED32:
            value = entry.as_float()
        elif entry.number == 3 and entry.wire_type == VARINT:
            value = _signed(entry.value)
        elif entry.number == 4 and entry.wire_type == BYTES and entry.value < 100:
            value = reader.text(entry)
        elif entry.number == 5:
            value = _read_tensor(reader, entry)[1]
        elif entry.number == 8 and len(ints) <= _MAX_INTS:
            ints += map(_signed, reader.varints(entry))
    return name, ints or value


def _read_tensor(reader: ProtobufReader, message: Field) -> tuple[str, Constant | None]:
    """Returns name and values of a tensor; None for types of which no weights are."""
    name, dtype, shape, values = "", torch.float32, [], None
    fields = list(reader.message(message))
    for entry in fields:
        if entry.number == 1:
            shape += reader.varints(entry)
        elif entry.number == 2 and entry.wire_type == VARINT:
            if entry.value not in _DTYPES:
                return name, None
            dtype = _DTYPES[entry.value]
        elif entry.number == 8:
            name = reader.text(entry)
        elif entry.number == _EXTERNAL and entry.value == 1:
            raise ProtobufError(
                "it keeps weights in other files; write them into one: onnx.save_model(onnx.load(path), new_path)"
            )
    for entry in fields:
        if entry.number == 9:
            values = reader.floats(entry, dtype)
        elif entry.number in (4, 10) and entry.wire_type == BYTES:
            values = reader.floats(entry, torch.float32 if entry.number == 4 else torch.float64)
        elif entry.number == 7 and dtype == torch.int64:
            values = torch.tensor([*([] if values is None else values.tolist()), *map(_signed, reader.varints(entry))])
    if values is None:
        values = torch.empty(0, dtype=dtype)
    if len(shape) > 8 or math.prod(shape) != len(values):
        raise ProtobufError(f"the tensor {name!r} has the shape {tuple(shape)[:8]} and {len(values):,} values")
    values = values if dtype == torch.int64 else values.float()
    return name, values.reshape(shape)


def _signed(number: int) -> int:
    return number - 2**64 if number >= 2**63 else number


# --- from nodes to a graph ---


def _connect(nodes: Sequence[_Node], constants: dict[str, Constant], outputs: Sequence[str]) -> tuple[Layer, ...]:
    """Returns the outputs of the graph; ``constants`` are the values that do not depend on the images."""
    layers: dict[str, Layer] = {}
    origins: dict[str, str] = {}  # name of a computed constant -> that of the one it is computed from
    links = 0
    for node in nodes:
        links += len(node.inputs)
        if links > _MAX_LINKS:
            raise ProtobufError(f"its nodes have more than {_MAX_LINKS:,} inputs")
        if node.op == "Constant" or (node.inputs and all(name in constants for name in node.inputs if name)):
            value = _compute(node, [constants[name] for name in node.inputs if name])
            if value is not None and node.outputs:
                constants[node.outputs[0]] = value
                if node.inputs:
                    origins[node.outputs[0]] = origins.get(node.inputs[0], node.inputs[0])
            continue
        values = [constants.get(name) for name in node.inputs]
        taken = [name for name in node.inputs if name and name not in constants]
        inputs = tuple(layers.setdefault(name, Layer("input", name)) for name in taken)
        weight = next((name for name in node.inputs if name in constants), node.name)
        layer = _convert(node, _SUFFIX.sub("", _PREFIX.sub("", origins.get(weight, weight))), inputs, values)
        layers |= dict.fromkeys(node.outputs, layer)
    return tuple(layers[name] for name in outputs if name in layers)


def _compute(node: _Node, values: Sequence[Constant]) -> Constant | None:
    """Returns the result of a node on constants; None if it is not known, or not valid."""
    try:
        if node.op == "Constant":
            value = node.attributes.get("value")
            return value if isinstance(value, torch.Tensor) else None
        if node.op == "Reshape":
            return values[0].reshape([int(n) for n in values[1].tolist()])
        if node.op in ("Unsqueeze", "Squeeze"):
            value, axes = values[0], values[1].tolist() if len(values) > 1 else list(node.ints("axes", ()))
            for axis in sorted(axes, reverse=node.op == "Squeeze"):
                value = value.unsqueeze(axis) if node.op == "Unsqueeze" else value.squeeze(axis)
            return value
        if node.op == "Transpose":
            return values[0].permute(node.ints("perm", tuple(reversed(range(values[0].dim())))))
        return values[0] if node.op == "Identity" else None
    except (RuntimeError, IndexError, TypeError, ValueError):
        return None


def _convert(node: _Node, name: str, inputs: tuple[Layer, ...], values: Sequence[Constant | None]) -> Layer:
    """Returns the layer in the words of ``cnnzoo.weights.formats.layers``.

    Args:
        node: The node.
        name: Name of the layer.
        inputs: Those of its inputs that are layers.
        values: Its inputs that are constants; None for those that are not.
    """
    constants = [value for value in values if value is not None]
    sides = len(inputs) == 1 and len(values) == len(constants) + 1
    if node.op == "Conv" and sides and constants and constants[0].dim() == 4 and _has_padding(node):
        padding = node.ints("pads", (0, 0, 0, 0))
        settings = {
            "stride": node.ints("strides", (1, 1)), "padding": padding, "dilation": node.ints("dilations", (1, 1)),
            "groups": node.number("group", 1),
        }  # fmt: skip
        return Layer("conv", name, inputs, _weights(constants), settings)
    if node.op == "Gemm" and sides and constants and constants[0].dim() == 2 and _is_plain_gemm(node):
        weight = constants[0] if node.number("transB", 0) else constants[0].T
        return Layer("linear", name, inputs, _weights([weight, *constants[1:]]))
    if node.op == "MatMul" and sides and values[0] is None and constants[0].dim() == 2:
        return Layer("linear", name, inputs, {"weight": constants[0].T})
    if node.op == "BatchNormalization" and sides and len({value.shape for value in constants}) == 1:
        tensors = dict(zip(("weight", "bias", "running_mean", "running_var"), constants, strict=False))
        if len(tensors) == 4:
            return Layer("norm", name, inputs, tensors, {"eps": node.number("epsilon", 1e-5)})
    if node.op in ("Mul", "Add") and sides and len(constants) == 1:
        channels = constants[0].squeeze()
        channels = channels.reshape(1) if channels.dim() == 0 else channels
        return scaled(name, inputs[0], *((channels, None) if node.op == "Mul" else (None, channels)))
    if "Pool" in node.op and sides:
        return _pool(node, name, inputs)
    if node.op == "ReduceMean" and sides and {axis % 4 for axis in _axes(node, constants)} == {2, 3}:
        return Layer("avg_pool", name, inputs, {}, {"kernel_size": None})
    if node.op == "LRN":
        defaults = {"alpha": ("alpha", 1e-4), "beta": ("beta", 0.75), "k": ("bias", 1.0)}
        values_of = {key: float(node.number(*default)) for key, default in defaults.items()}
        return Layer("lrn", name, inputs, {}, {"size": node.number("size", -1), **values_of})
    if node.op == "LeakyRelu":
        return Layer("leaky_relu", name, inputs, {}, {"negative_slope": float(node.number("alpha", 0.01))})
    if node.op in ("Add", "Sum") and not constants:
        return Layer("add", name, inputs)
    if node.op == "Concat" and not constants and node.number("axis", -1) == 1:
        return Layer("concat", name, inputs)
    is_flat = node.op == "Reshape" and constants and constants[-1].numel() == 2
    if is_flat or (node.op == "Flatten" and node.number("axis", 1) == 1):
        return Layer("flatten", name, inputs)
    return Layer(_KINDS.get(node.op, node.op or "node without an operator"), node.name or name, inputs)


def _weights(constants: Sequence[Constant]) -> dict[str, torch.Tensor]:
    return dict(zip(("weight", "bias"), constants, strict=False))


def _is_plain_gemm(node: _Node) -> bool:
    return not node.number("transA", 0) and node.number("alpha", 1.0) == 1 and node.number("beta", 1.0) == 1


def _has_padding(node: _Node) -> bool:
    """Returns whether padding is written down, not computed from the size of the images."""
    return bool(node.attributes.get("auto_pad", "NOTSET") == "NOTSET")


def _axes(node: _Node, constants: Sequence[Constant]) -> tuple[int, ...]:
    return tuple(map(int, constants[0].reshape(-1).tolist())) if constants else node.ints("axes", ())


def _pool(node: _Node, name: str, inputs: tuple[Layer, ...]) -> Layer:
    kind = {"MaxPool": "max_pool", "AveragePool": "avg_pool", "GlobalAveragePool": "avg_pool",
            "GlobalMaxPool": "max_pool"}.get(node.op)  # fmt: skip
    kernel_size, stride = node.ints("kernel_shape", ()), node.ints("strides", (1, 1))
    padding = node.ints("pads", (0, 0, 0, 0))
    if kind is not None and node.op.startswith("Global"):
        return Layer(kind, name, inputs, {}, {"kernel_size": None})
    is_plain = _has_padding(node) and node.ints("dilations", (1, 1)) == (1, 1)
    if kind is None or not is_plain or (len(kernel_size), len(stride), len(padding)) != (2, 2, 4):
        return Layer(node.op, name, inputs)
    settings = sliding(
        kernel_size,
        stride,
        padding,
        ceil_mode=bool(node.number("ceil_mode", 0)),
        counts_padding=bool(node.number("count_include_pad", 0)),
    )
    return Layer(kind, name, inputs, {}, settings)
