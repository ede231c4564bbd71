"""Loads the weights of files of other frameworks into networks."""

from __future__ import annotations

from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from typing import Any

from cnnzoo.errors import InputError, unknown, warn
from cnnzoo.metadata import Metadata
from cnnzoo.network import CNN
from cnnzoo.preprocessing import Preprocessing
from cnnzoo.weights.formats.caffe import read_caffemodel
from cnnzoo.weights.formats.layers import Layer
from cnnzoo.weights.formats.matching import Pairs, match_layers
from cnnzoo.weights.formats.network import network_layers
from cnnzoo.weights.formats.onnx import read_onnx

CHANNEL_ORDERS = ("bgr", "rgb")


def load_caffemodel(
    model: CNN,
    path: str | PathLike[str],
    *,
    preprocessing: Preprocessing | None = None,
    channel_order: str = "bgr",
) -> None:
    """Loads the weights of a Caffe model into a network that computes the same.

    Layers are matched by their names (see ``register_key_map``) and positions. Kernels, strides, padding, groups,
    pooling, rounding, normalization and the order of all operations are compared with the file's. Layers that the
    network does not have, such as auxiliary heads, are named in a warning.

    Args:
        model: The network; it is changed.
        path: A .caffemodel file, of the first format or the second.
        preprocessing: How an image becomes the input of the network; by default what the file says: the mean and scale
            of its training, and the whole image.
        channel_order: ``"bgr"``, in which Caffe reads images, or ``"rgb"``; the network takes RGB.

    Raises:
        InputError: If the network has blocks that Caffe has not, or an argument is not valid.
        FileError: If the file cannot be read.
        WeightsError: If it is damaged, or does not fit the network; the error lists everything that does not.
        UnknownNameError: If ``channel_order`` is not known.
    """
    network = _require_network(model, "a Caffe model", preprocessing, channel_order)
    path = Path(path)
    caffe = read_caffemodel(path)
    pairs = match_layers(str(path), network, caffe.outputs)
    if preprocessing is None and caffe.transform is not None:
        preprocessing = _caffe_preprocessing(model, caffe.transform, channel_order)
    _load(model, pairs, path, "caffe", preprocessing, channel_order)


def load_onnx(
    model: CNN,
    path: str | PathLike[str],
    *,
    preprocessing: Preprocessing | None = None,
    channel_order: str = "rgb",
) -> None:
    """Loads the weights of an ONNX file into a network that computes the same.

    The file is matched and compared with the network as by ``load_caffemodel``.

    Args:
        model: The network; it is changed.
        path: An .onnx file that holds its weights.
        preprocessing: How an image becomes the input of the network, which the file does not say.
        channel_order: ``"rgb"``, or ``"bgr"`` for files that were converted from Caffe; the network takes RGB.

    Raises:
        InputError: If the network has blocks that such files have not, or an argument is not valid.
        FileError: If the file cannot be read.
        WeightsError: If it is damaged, or does not fit the network; the error lists everything that does not.
        UnknownNameError: If ``channel_order`` is not known.
    """
    network = _require_network(model, "an ONNX model", preprocessing, channel_order)
    path = Path(path)
    pairs = match_layers(str(path), network, read_onnx(path))
    _load(model, pairs, path, "onnx", preprocessing, channel_order)


def _require_network(model: CNN, kind: str, preprocessing: Preprocessing | None, channel_order: str) -> Layer:
    if not isinstance(model, CNN):
        raise InputError(f"expected a cnnzoo network, not {type(model).__name__}; build it with cnnzoo.create")
    if channel_order not in CHANNEL_ORDERS:
        raise unknown("channel_order", channel_order, CHANNEL_ORDERS)
    if preprocessing is not None:
        Metadata(preprocessing=preprocessing)
    if any(tensor.is_meta for tensor in model.parameters()):
        raise InputError(f"{model.spec.name} is on the meta device, which holds no weights")
    if changed := model.changed_modules():
        raise InputError(f"{model.spec.name}: these modules were changed by hand: {', '.join(changed[:5])}")
    return network_layers(model, kind)


def _load(
    model: CNN, pairs: Pairs, path: Path, kind: str, preprocessing: Preprocessing | None, channel_order: str
) -> None:
    """Copies the weights into the network, and sets its metadata."""
    state = model.state_dict()
    for layer, one in pairs.items():
        values = dict(one.tensors)
        if channel_order == "bgr" and _takes_rgb(layer):
            values["weight"] = values["weight"].flip(1)
        before = layer.inputs[0]
        if (
            layer.kind == "norm"
            and before in pairs
            and "bias" not in before.tensors
            and "bias" in pairs[before].tensors
        ):
            values["running_mean"] = values["running_mean"] - pairs[before].tensors["bias"]
        for name, tensor in values.items():
            if f"{layer.path}.{name}" in state:
                state[f"{layer.path}.{name}"] = tensor.reshape(layer.tensors[name].shape)
    if not_finite := [layer.name for layer, one in pairs.items() if not _is_finite(one)]:
        warn(f"{path}: these layers have NaN or infinite values: {', '.join(not_finite)}", stacklevel=3)
    if preprocessing is None:
        warn(
            f"{path} does not say how images are prepared for it; pass preprocessing=, or set model.metadata = "
            "model.metadata.replace(preprocessing=cnnzoo.Preprocessing(size, mean, std))",
            stacklevel=3,
        )
    model.load_state_dict(state)
    model.metadata = Metadata(None, preprocessing, {"kind": kind, "file": path.name})


def _takes_rgb(layer: Layer) -> bool:
    """Returns whether a layer is a convolution of RGB images."""
    if layer.kind != "conv" or layer.tensors["weight"].shape[1] != 3:
        return False
    stack = list(layer.inputs)
    while stack:
        before = stack.pop()
        if before.kind == "input":
            return True
        stack += before.inputs if not before.tensors else ()
    return False


def _is_finite(layer: Layer) -> bool:
    # the sum is fast; it can be infinite where all values are finite
    return all(bool(one.sum().isfinite()) or bool(one.isfinite().all()) for one in layer.tensors.values())


def _caffe_preprocessing(model: CNN, transform: Mapping[str, Any], channel_order: str) -> Preprocessing | None:
    """Returns the preprocessing that subtracts the mean and multiplies by the scale of a Caffe model's training."""
    channels, scale, mean = model.spec.input[0], transform["scale"], transform["mean_value"]
    if transform["mean_file"] is not None or len(mean) not in (0, 1, channels) or not 0 < scale < 1e3:
        return None  # a mean image, which is another file
    mean = mean * channels if len(mean) == 1 else mean or (0.0,) * channels
    if channel_order == "bgr" and channels == 3:
        mean = mean[::-1]
    return Preprocessing(model.spec.input[1:], tuple(value / 255 for value in mean), (1 / (255 * scale),) * channels)
