"""Weights of other frameworks: Caffe models and ONNX files, loaded into networks that then compute the same."""

from __future__ import annotations

import hashlib
import math
import re
import sys
from collections.abc import Callable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import caffe
import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

import cnnzoo
from cnnzoo.errors import FileError, InputError, UnknownNameError, WeightsError
from cnnzoo.weights.formats import downloads, load_caffemodel, load_onnx, register_key_map
from cnnzoo.weights.formats.key_maps import KEY_MAPS

NO_PREPROCESSING = "does not say how images are prepared for it"
pytestmark = pytest.mark.filterwarnings(f"ignore:.*{NO_PREPROCESSING}")


def get_spec(name: str, *edits: tuple[str, dict[str, Any]], **knobs: Any) -> cnnzoo.Spec:
    spec = cnnzoo.get_spec(name, **knobs)
    for label, fields in edits:
        spec = cnnzoo.edit(spec, label, **fields)
    return spec


def save(net: caffe.CaffeNet, path: Path, **options: Any) -> Path:
    path.write_bytes(net.to_bytes(**options))
    return path


def require_same_scores(model: cnnzoo.CNN, net: caffe.CaffeNet) -> None:
    images = torch.randn(1, *model.spec.input, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        scores, expected = model.eval()(images), net.run(images.flip(1))  # BGR
    assert (scores - expected).abs().max() < 1e-4 * expected.abs().max()


# --- Caffe ---

DENSE = ("fc[67]", {"out_features": 32})
CAFFE_POOL = ("pool1", {"padding": 0, "ceil_mode": True})

DENSENET_POOLS = (("pool0", {"ceil_mode": True}), ("transition*_pool", {"ceil_mode": True}))

CAFFE_NETS: list[Any] = [
    ("lenet_caffe", caffe.lenet, lambda: get_spec("lenet_caffe")),
    ("squeezenet1_1", caffe.squeezenet, lambda: get_spec("squeezenet1_1")),
    (
        "vgg16",
        lambda: caffe.vgg(width=8, dense=32, classes=10),
        lambda: get_spec("vgg16", DENSE, width=1 / 8, num_classes=10),
    ),
    (
        "resnet50",
        lambda: caffe.resnet(width=8, classes=10),
        lambda: get_spec("resnet50", CAFFE_POOL, stride_in_1x1=True, width=1 / 8, num_classes=10),
    ),
    (
        "densenet121",
        lambda: caffe.densenet(growth=4, first=8, classes=10),
        lambda: get_spec("densenet121", *DENSENET_POOLS, width=1 / 8, num_classes=10),
    ),
    (
        "bvlc_alexnet",
        lambda: caffe.alexnet(10, dense=32),
        lambda: get_spec("bvlc_alexnet", DENSE, num_classes=10),
    ),
    (
        "caffenet",
        lambda: caffe.alexnet(10, pool_first=True, dense=32),
        lambda: get_spec("caffenet", DENSE, num_classes=10),
    ),
    ("googlenet_2014", lambda: caffe.googlenet(), lambda: get_spec("googlenet_2014")),
]
SLOW_NETS: list[Any] = [
    ("bvlc_alexnet", caffe.alexnet, lambda: get_spec("bvlc_alexnet")),
    ("vgg16", caffe.vgg, lambda: get_spec("vgg16")),
    ("resnet50", caffe.resnet, lambda: get_spec("resnet50", CAFFE_POOL, stride_in_1x1=True)),
    ("densenet121", caffe.densenet, lambda: get_spec("densenet121", *DENSENET_POOLS)),
    (
        "alexnet_2012",
        lambda: caffe.alexnet(alpha=5e-4, k=2.0),
        lambda: get_spec("alexnet_2012"),
    ),
]
LARGE = ("bvlc_alexnet", "caffenet", "googlenet_2014", "vgg16")


@pytest.mark.parametrize(
    ("net", "spec"),
    [
        *(pytest.param(*fs, id=name, marks=[pytest.mark.slow] if name in LARGE else []) for name, *fs in CAFFE_NETS),
        *(pytest.param(*functions, id=f"{name} whole", marks=pytest.mark.slow) for name, *functions in SLOW_NETS),
    ],
)
def test_caffe_models(net: Callable[[], caffe.CaffeNet], spec: Callable[[], cnnzoo.Spec], tmp_path: Path) -> None:
    """Networks with the layers and names of their prototxt files, computed independently."""
    caffe_net, model = net(), cnnzoo.create(spec())
    load_caffemodel(model, save(caffe_net, tmp_path / "m.caffemodel"))
    require_same_scores(model, caffe_net)
    assert model.metadata.provenance == {"kind": "caffe", "file": "m.caffemodel"}


def test_the_first_format(tmp_path: Path) -> None:
    """V1 layers: numbers for types, shapes of four sides, (1, 1, out, in) for dense layers."""
    net, model = caffe.lenet(), cnnzoo.create("lenet_caffe")
    load_caffemodel(model, save(net, tmp_path / "m.caffemodel", version=1))
    require_same_scores(model, net)


def test_batch_norm_is_folded_exactly(tmp_path: Path) -> None:
    """The blobs are statistics times a factor; a Scale layer has weight and bias; biases before it move the mean."""
    net = caffe.CaffeNet()
    net.conv("conv1", 4, 3, relu=False)  # with biases, which the network has not
    net.norm("bn_conv1", "scale_conv1", factor=999.98)
    net.add("ReLU", "relu")
    net.dense("fc", 4 * 36, 3, relu=False)
    spec = cnnzoo.Spec(
        "mine",
        (3, 8, 8),
        (cnnzoo.blocks.Conv(4, 3, bias=False, norm="batch"), cnnzoo.blocks.Flatten()),
        (cnnzoo.blocks.Logits(3, label="fc"),),
    )
    model = cnnzoo.create(spec)
    load_caffemodel(model, save(net, tmp_path / "m.caffemodel"))
    require_same_scores(model, net)
    blobs = {layer["name"]: layer["blobs"] for layer in net.layers}
    mean, variance, factor = blobs["bn_conv1"]
    state = model.state_dict()
    torch.testing.assert_close(state["features.1.running_mean"], mean / factor - blobs["conv1"][1])
    torch.testing.assert_close(state["features.1.running_var"], variance / factor)
    torch.testing.assert_close(state["features.1.weight"], blobs["scale_conv1"][0])
    torch.testing.assert_close(state["features.1.bias"], blobs["scale_conv1"][1])


def test_images_are_rgb(tmp_path: Path) -> None:
    net, model = caffe.squeezenet(), cnnzoo.create("squeezenet1_1")
    file = save(net, tmp_path / "m.caffemodel")
    load_caffemodel(model, file)
    weight = net.layers[0]["blobs"][0]
    assert torch.equal(model.features[0].weight, weight.flip(1))
    load_caffemodel(model, file, channel_order="rgb")
    assert torch.equal(model.features[0].weight, weight)


def test_preprocessing_of_the_training(tmp_path: Path) -> None:
    """What a data layer says, (x - mean) * scale of values to 255, is the preprocessing."""
    model = cnnzoo.create("lenet_caffe")
    load_caffemodel(model, save(caffe.lenet(), tmp_path / "a.caffemodel", data={"scale": 1 / 256}))
    images = torch.randint(256, (2, 1, 28, 28), dtype=torch.uint8)
    assert model.metadata.preprocessing is not None
    torch.testing.assert_close(model.metadata.preprocessing.apply(images), images / 256)
    model = cnnzoo.create("squeezenet1_1", image_size=64)
    data = {"mean_value": [104.0, 117.0, 123.0], "scale": 0.5}
    load_caffemodel(model, save(caffe.squeezenet(), tmp_path / "b.caffemodel", version=1, data=data))
    images = torch.randint(256, (2, 3, 64, 64), dtype=torch.uint8)
    expected = (images - torch.tensor([123.0, 117.0, 104.0]).view(3, 1, 1)) * 0.5
    assert model.metadata.preprocessing is not None
    torch.testing.assert_close(model.metadata.preprocessing.apply(images), expected)


@pytest.mark.filterwarnings("default")
def test_unknown_preprocessing_is_said(tmp_path: Path) -> None:
    model = cnnzoo.create("lenet_caffe")
    model.metadata = model.metadata.replace(
        preprocessing=cnnzoo.Preprocessing(28, [0.5], [0.5]), label_names=list("abcdefghij")
    )
    for data in (None, {"mean_file": "imagenet_mean.binaryproto"}):
        file = save(caffe.lenet(), tmp_path / "m.caffemodel", data=data)
        with pytest.warns(
            UserWarning, match=f"m.caffemodel {NO_PREPROCESSING}; pass preprocessing=, or set model.metadata"
        ):
            load_caffemodel(model, file)
        assert model.metadata.preprocessing is model.metadata.label_names is None  # those of the weights before
    preprocessing = cnnzoo.Preprocessing(28, [0.0], [1.0])
    load_caffemodel(model, file, preprocessing=preprocessing)
    assert model.metadata.preprocessing == preprocessing


def test_auxiliary_heads_are_named(tmp_path: Path) -> None:
    """In a small GoogLeNet: heads that the output does not depend on are not loaded."""
    net = caffe.CaffeNet(channels=1)
    net.conv("conv1", 20, 5, relu=False)
    net.pool("pool1", kernel_size=2, stride=2)
    main = net.last
    net.dense("loss1/classifier", 20 * 144, 10, relu=False)
    net.add("SoftmaxWithLoss", "loss1/loss", net.last, "label")
    net.last = main
    net.conv("conv2", 50, 5, relu=False)
    net.pool("pool2", kernel_size=2, stride=2)
    net.dense("ip1", 800, 500)
    net.dense("ip2", 500, 10, relu=False)
    net.add("SoftmaxWithLoss", "loss", net.last, "label")
    model = cnnzoo.create("lenet_caffe")
    with pytest.warns(UserWarning, match="the network has no loss1/classifier; they are not loaded"):
        load_caffemodel(model, save(net, tmp_path / "m.caffemodel"))
    net.layers = [layer for layer in net.layers if not layer["name"].startswith("loss1")]
    require_same_scores(model, net)


def test_layers_without_a_known_name_are_matched_by_position(tmp_path: Path) -> None:
    net, model = caffe.lenet(), cnnzoo.create("lenet_caffe")
    for layer in net.layers:
        if layer["name"] in ("conv2", "ip2"):
            layer["name"] += "_flickr"
    load_caffemodel(model, save(net, tmp_path / "m.caffemodel"))
    require_same_scores(model, net)


def test_names_of_your_own(tmp_path: Path) -> None:
    net, model = caffe.lenet(), cnnzoo.create("lenet_caffe")
    for layer in net.layers:
        layer["name"] = f"my_{layer['name']}"
    net.layers = net.layers[:-1]  # so that positions do not fit either
    file = save(net, tmp_path / "m.caffemodel")
    message = r"4 layers .*: conv1 \(conv\): file none, model \(20, 1, 5, 5\); .*see register_key_map"
    with pytest.raises(WeightsError, match=message.replace("4", "7")):
        load_caffemodel(model, file)

    @register_key_map
    def my_names(label: str, kind: str) -> list[str]:
        return [f"my_{label}"]

    try:
        with pytest.raises(
            WeightsError, match=r"1 layers do not fit the network: ip2 \(linear\): file none, model \(10, 500\)$"
        ):
            load_caffemodel(model, file)
    finally:
        del KEY_MAPS["my_names"]


MISMATCHES: list[Any] = [
    (
        lambda: caffe.vgg((1, 1, 2, 2, 2), width=8, dense=32, classes=10),
        lambda: get_spec("vgg13", DENSE, width=1 / 8, num_classes=5),
        r"3 layers do not fit the network: conv1_2 \(conv\): file none, model \(8, 8, 3, 3\); "
        r"conv2_2 \(conv\): file none, model \(16, 16, 3, 3\); fc8: file \(10, 32\), model \(5, 32\)$",
    ),
    (
        lambda: caffe.resnet(width=8, classes=10),
        lambda: get_spec("resnet50", width=1 / 8, num_classes=10),
        r"computes something else than the network: pool1: file padding 0, ceil_mode True, model padding 1, ceil_mode "
        r"False; layer2.0/conv1: file stride 2, model stride 1; layer2.0/conv2: file stride 1, model stride 2; .*"
        r"spec = model.spec; spec = cnnzoo.edit\(spec, 'pool1', padding=0, ceil_mode=True\); spec = cnnzoo.edit\(spec, "
        r"'layer2.0/conv1', stride=2\);",
    ),
    (
        lambda: caffe.alexnet(10, dense=32),
        lambda: get_spec("alexnet_2012", DENSE, num_classes=10),
        r"norm1: file alpha 0.0001, k 1, model alpha 0.0005, k 2; norm2: .*spec = cnnzoo.edit\(spec, 'norm1', size=5, "
        r"alpha=0.0001, beta=0.75, k=1.0, mean=True\)",
    ),
    (
        lambda: caffe.alexnet(10, dense=32, pool_first=True),
        lambda: get_spec("bvlc_alexnet", DENSE, num_classes=10),
        r"pool1: file lrn \(size 5, alpha 0.0001, beta 0.75, k 1\), model max_pool \(kernel_size 3, stride 2, padding "
        r"0\); pool2: ",
    ),
    (
        caffe.lenet,
        lambda: get_spec("lenet_caffe", activation="sigmoid"),
        r"ip1: file relu, model sigmoid$",
    ),
    (
        lambda: caffe.vgg(width=8, dense=32, classes=10),
        lambda: get_spec("vgg16_bn", DENSE, width=1 / 8, num_classes=10),
        r"13 layers do not fit the network: conv1_1 \(norm\): file none, model \(8,\);",
    ),
]


@pytest.mark.parametrize(("net", "spec", "message"), MISMATCHES)
def test_what_differs_is_listed(net: Callable[[], Any], spec: Callable[[], Any], message: str, tmp_path: Path) -> None:
    model = cnnzoo.create(spec(), seed=0)
    before = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    with pytest.raises(WeightsError, match=message):
        load_caffemodel(model, save(net(), tmp_path / "m.caffemodel"))
    assert all(torch.equal(tensor, before[key]) for key, tensor in model.state_dict().items())
    assert model.metadata.provenance == {"kind": "random"}


def test_the_edits_of_an_error_build_the_network_of_the_file(tmp_path: Path) -> None:
    net = caffe.resnet((1, 1, 1, 1), width=4, classes=3)
    spec = get_spec("resnet50", width=1 / 16, num_classes=3)
    spec = cnnzoo.remove(spec, *(f"layer{stage}.[1-9]" for stage in (1, 2, 3, 4)))
    file = save(net, tmp_path / "m.caffemodel")
    with pytest.raises(WeightsError) as caught:
        load_caffemodel(cnnzoo.create(spec), file)
    code = str(caught.value).partition("To build the file's network: ")[2]
    namespace = {"cnnzoo": cnnzoo, "model": cnnzoo.create(spec)}
    exec(code, namespace)
    load_caffemodel(namespace["model"], file)
    require_same_scores(namespace["model"], net)


def test_settings_that_the_file_does_not_say(tmp_path: Path) -> None:
    net, model = caffe.lenet(), cnnzoo.create("lenet_caffe")
    for layer in net.layers:
        if layer["type"] == "Convolution":
            layer["params"] = {}
    with pytest.warns(UserWarning, match="does not say stride and padding of conv1, conv2; they are not compared"):
        load_caffemodel(model, save(net, tmp_path / "m.caffemodel"))


def test_values_that_are_not_finite(tmp_path: Path) -> None:
    net = caffe.lenet()
    net.layers[0]["blobs"][0][0] = math.nan
    with pytest.warns(UserWarning, match="these layers have NaN or infinite values: conv1$"):
        load_caffemodel(cnnzoo.create("lenet_caffe"), save(net, tmp_path / "m.caffemodel"))


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda f: load_caffemodel(torch.nn.Linear(1, 1), f), InputError, "expected a cnnzoo network, not Linear"),
        (
            lambda f: load_caffemodel(cnnzoo.create("lenet5_1998"), f),
            InputError,
            r"lenet5_1998 cannot load a Caffe model: its block 'S2' \(Subsampling\) has weights of a kind that such",
        ),
        (
            lambda f: load_onnx(cnnzoo.create("lenet_caffe"), f, channel_order="grb"),
            UnknownNameError,
            "unknown channel_order 'grb'",
        ),
        (lambda f: load_onnx(cnnzoo.create("lenet_caffe"), f, preprocessing=28), InputError, "preprocessing must be a"),
        (lambda f: load_caffemodel(cnnzoo.create("lenet_caffe"), f), FileError, "No such file"),
        (lambda f: load_onnx(cnnzoo.create("lenet_caffe"), f.parent), FileError, "Is a directory"),
        (
            lambda f: load_caffemodel(cnnzoo.CNN(cnnzoo.get_spec("lenet_caffe")).to("meta"), f),
            InputError,
            "meta device",
        ),
    ],
)
def test_wrong_arguments(call: Callable[[Path], None], error: type[Exception], message: str, tmp_path: Path) -> None:
    with pytest.raises(error, match=message):
        call(tmp_path / "m.caffemodel")


def test_networks_changed_by_hand_are_refused(tmp_path: Path) -> None:
    model = cnnzoo.create("lenet_caffe")
    model.classifier[0] = torch.nn.Linear(800, 300)
    with pytest.raises(InputError, match=r"these modules were changed by hand: classifier.0"):
        load_caffemodel(model, tmp_path / "m.caffemodel")


# --- damaged files ---


def test_a_file_that_is_not_what_its_suffix_says(tmp_path: Path) -> None:
    model = cnnzoo.create("lenet_caffe")
    torch.save(model.state_dict(), tmp_path / "pickle.caffemodel")
    cnnzoo.save(model, tmp_path / "own.safetensors")
    (tmp_path / "own.safetensors").rename(tmp_path / "own.onnx")
    (tmp_path / "empty.caffemodel").write_bytes(b"")
    (tmp_path / "empty.onnx").write_bytes(b"")
    (tmp_path / "text.caffemodel").write_text("name: 'LeNet'\nlayer {\n")
    for name, load in (
        ("pickle.caffemodel", load_caffemodel), ("own.onnx", load_onnx), ("empty.caffemodel", load_caffemodel),
        ("empty.onnx", load_onnx), ("text.caffemodel", load_caffemodel),
    ):  # fmt: skip
        with pytest.raises(WeightsError, match=rf"{name} is (damaged, or is )?not an? (Caffe|ONNX) model"):
            load(model, tmp_path / name)


def test_truncated_files_are_refused(tmp_path: Path) -> None:
    model, file = cnnzoo.create("lenet_caffe"), tmp_path / "m.caffemodel"
    raw = caffe.lenet().to_bytes()
    for size in (1, 10, 100, 3000, len(raw) // 2, len(raw) - 1):
        file.write_bytes(raw[:size])
        with pytest.raises(WeightsError, match=r"m.caffemodel (is damaged|is not a Caffe model|: \d layers)"):
            load_caffemodel(model, file)


# --- ONNX ---

LIGHT = Path(onnx.__file__).parent / "backend" / "test" / "data" / "light"
_LIGHT_NETS: list[Any] = [
    ("squeezenet", lambda: get_spec("squeezenet1_1")),
    ("densenet121", lambda: get_spec("densenet121")),
    ("resnet50", lambda: get_spec("resnet50")),
    ("inception_v1", lambda: get_spec("googlenet_2014", ("pool[1234]", {"ceil_mode": False}))),
    ("bvlc_alexnet", lambda: get_spec("bvlc_alexnet", ("pool5", {"ceil_mode": True}), image_size=224)),
    ("zfnet512", lambda: get_spec("zfnet512")),
    ("vgg19", lambda: get_spec("vgg19")),
]  # fmt: skip


def light_model(name: str) -> onnx.ModelProto:
    """A network of the ONNX model zoo, which the package onnx ships without weights, with random ones."""
    model = onnx.load(LIGHT / f"light_{name}.onnx")
    graph, rng = model.graph, np.random.default_rng(0)
    values = {one.name: numpy_helper.to_array(one) for one in graph.initializer}
    nodes = [node for node in graph.node if node.op_type != "ConstantOfShape"]
    for node in graph.node:
        if node.op_type == "ConstantOfShape":
            values[node.output[0]] = _random_weights(rng, node.output[0], [int(n) for n in values[node.input[0]]])
    used = {name for node in nodes for name in node.input}
    inputs = [one for one in graph.input if one.name in used and one.name not in values]
    for entries, new in ((graph.node, nodes), (graph.input, inputs), (graph.initializer, [])):
        del entries[:]
        entries.extend(new)
    graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in values.items() if name in used)
    return model


def _random_weights(rng: np.random.Generator, name: str, shape: list[int]) -> np.ndarray:
    if len(shape) > 1:
        fan_in = shape[-1] if shape[0] == 1 else math.prod(shape[1:])
        return rng.normal(0, math.sqrt(1 / fan_in), shape).astype("float32")
    is_scale = re.search(r"bn_(var|riv|s|scale|w)_0$", name)
    return (rng.uniform(0.5, 1.0, shape) if is_scale else rng.normal(0, 0.1, shape)).astype("float32")


def require_onnxruntime_scores(model: cnnzoo.CNN, file: Path) -> None:
    session = onnxruntime.InferenceSession(file)
    images = np.random.default_rng(1).normal(size=(1, *model.spec.input)).astype("float32")
    expected = torch.from_numpy(session.run(None, {session.get_inputs()[0].name: images})[0]).flatten(1)
    with torch.no_grad():
        scores = model.eval()(torch.from_numpy(images))
    if expected.sum().isclose(torch.tensor(1.0)) and expected.min() >= 0:
        scores = scores.softmax(1)
    assert (scores - expected).abs().max() < 1e-4 * expected.abs().max() and expected.std() > 1e-6


@pytest.mark.parametrize(
    ("name", "spec"),
    [pytest.param(*one, id=one[0], marks=[] if one[0] == "squeezenet" else pytest.mark.slow) for one in _LIGHT_NETS],
)
def test_networks_of_the_onnx_model_zoo(name: str, spec: Callable[[], cnnzoo.Spec], tmp_path: Path) -> None:
    file, model = tmp_path / "m.onnx", cnnzoo.create(spec())
    onnx.save(light_model(name), file)
    load_onnx(model, file)
    require_onnxruntime_scores(model, file)
    assert model.metadata.provenance == {"kind": "onnx", "file": "m.onnx"}


def test_the_zoos_googlenet_rounds_pools_down(tmp_path: Path) -> None:
    onnx.save(light_model("inception_v1"), tmp_path / "m.onnx")
    with pytest.raises(WeightsError) as caught:
        load_onnx(cnnzoo.create("googlenet_2014"), tmp_path / "m.onnx")
    differences = str(caught.value).partition(". To build")[0].partition("network: ")[2]
    assert differences == "; ".join(f"pool{i}: file ceil_mode False, model ceil_mode True" for i in (1, 2, 3, 4))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["lenet", "googlenet_d2l"])
def test_exported_networks_are_loaded_again(name: str, tmp_path: Path) -> None:
    """What ``cnnzoo.export`` writes, with the names of our own keys or without any."""
    model = cnnzoo.create(name, seed=0)
    file = cnnzoo.export(model, tmp_path / "m.onnx")
    other = cnnzoo.create(name, seed=1)
    load_onnx(other, file)
    require_onnxruntime_scores(other, Path(file))


def tiny_onnx(*nodes: onnx.NodeProto, **tensors: np.ndarray) -> onnx.ModelProto:
    graph = helper.make_graph(
        list(nodes),
        "tiny",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 1, 8, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(array, name) for name, array in tensors.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])


def tiny_spec(**conv: Any) -> cnnzoo.Spec:
    conv = {"kernel_size": 3, **conv}
    features = (cnnzoo.blocks.Conv(4, **conv), cnnzoo.blocks.AvgPool(3, stride=2), cnnzoo.blocks.Flatten())
    return cnnzoo.Spec("tiny", (1, 8, 8), features, (cnnzoo.blocks.Logits(3, label="fc"),))


def tiny_weights() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {
        "conv1.weight": rng.normal(size=(4, 1, 3, 3)).astype("float32"),
        "conv1.bias": rng.normal(size=4).astype("float32"),
        "fc.weight": rng.normal(size=(16, 3)).astype("float32"),
        "fc.bias": rng.normal(size=3).astype("float32"),
    }


def tiny_nodes(conv: dict[str, Any] | None = None, pool: dict[str, Any] | None = None) -> list[onnx.NodeProto]:
    node = helper.make_node
    return [
        node("Conv", ["x", "conv1.weight", "conv1.bias"], ["a"], **(conv or {})),
        node("Relu", ["a"], ["b"]),
        node("AveragePool", ["b"], ["c"], **{"kernel_shape": [3, 3], "strides": [2, 2], **(pool or {})}),
        node("Flatten", ["c"], ["d"]),
        node("MatMul", ["d", "fc.weight"], ["e"]),
        node("Add", ["e", "fc.bias"], ["y"]),
    ]


def test_matrix_products_constants_and_half_precision(tmp_path: Path) -> None:
    """MatMul and Add instead of Gemm, a computed constant, weights in float16 and float64."""
    model, file, weights = cnnzoo.create(tiny_spec()), tmp_path / "m.onnx", tiny_weights()
    nodes = tiny_nodes()
    nodes[4].input[1] = "transposed"
    nodes.insert(0, helper.make_node("Transpose", ["fc.weight"], ["transposed"], perm=[1, 0]))
    weights["fc.weight"] = np.ascontiguousarray(weights["fc.weight"].T)
    onnx.save(tiny_onnx(*nodes, **weights), file)
    load_onnx(model, file)
    require_onnxruntime_scores(model, file)
    for dtype in ("float16", "float64"):
        onnx.save(tiny_onnx(*nodes, **{name: array.astype(dtype) for name, array in weights.items()}), file)
        load_onnx(model, file)
        expected = torch.from_numpy(weights["conv1.weight"].astype(dtype)).float()
        assert torch.equal(model.features[0].weight, expected)


@pytest.mark.parametrize(
    ("conv", "pool", "message"),
    [
        ({"pads": [1, 1, 1, 1]}, {}, "conv1: file padding 1, model padding 0.*'conv1', padding=1"),
        ({"pads": [0, 0, 1, 1]}, {}, r"conv1: file padding \(0, 0, 1, 1\), model padding 0"),
        ({"dilations": [2, 2]}, {}, "conv1: file dilation 2, model dilation 1.*'conv1', dilation=2"),
        ({"auto_pad": "SAME_UPPER"}, {}, r"conv1 \(conv\): file none"),
        (
            {},
            {"pads": [1, 1, 1, 1]},
            r"pool1: file padding 1, counts_padding False, model padding 0, counts_padding True",
        ),
        ({}, {"strides": [1, 1]}, "pool1: file stride 1, "),
        ({}, {"kernel_shape": [2, 2]}, "pool1: file kernel_size 2, "),
    ],
)
def test_onnx_settings_are_compared(conv: dict[str, Any], pool: dict[str, Any], message: str, tmp_path: Path) -> None:
    onnx.save(tiny_onnx(*tiny_nodes(conv, pool), **tiny_weights()), tmp_path / "m.onnx")
    with pytest.raises(WeightsError, match=message):
        load_onnx(cnnzoo.create(tiny_spec()), tmp_path / "m.onnx")


def test_weights_in_other_files_are_refused(tmp_path: Path) -> None:
    model = tiny_onnx(*tiny_nodes(), **tiny_weights())
    onnx.save_model(model, tmp_path / "m.onnx", save_as_external_data=True, size_threshold=0)
    with pytest.raises(WeightsError, match=r"keeps weights in other files; write them into one: onnx.save_model\("):
        load_onnx(cnnzoo.create(tiny_spec()), tmp_path / "m.onnx")


def test_onnx_needs_no_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The reader works as installed without the extra."""
    onnx.save(tiny_onnx(*tiny_nodes(), **tiny_weights()), tmp_path / "m.onnx")
    for name in ("onnx", "google.protobuf"):
        monkeypatch.setitem(sys.modules, name, None)
    load_onnx(cnnzoo.create(tiny_spec()), tmp_path / "m.onnx")


# --- downloads ---


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, Path]]:
    """A local server in place of the publishers': its address, and the folder that it serves."""
    folder = tmp_path / "served"
    folder.mkdir()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    handler = partial(QuietHandler, directory=str(folder))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as http:
        Thread(target=http.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{http.server_address[1]}", folder
        http.shutdown()


class QuietHandler(SimpleHTTPRequestHandler):
    def log_message(self, *arguments: object) -> None:
        pass


def test_what_bvlc_trained(server: tuple[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    url, folder = server
    net = caffe.squeezenet()  # the other files have 240 MB
    raw = save(net, folder / "net.caffemodel").read_bytes()
    checksum = f"sha1:{hashlib.sha1(raw).hexdigest()}"
    monkeypatch.setitem(downloads.BVLC, "squeezenet1_1", downloads.Download(f"{url}/net.caffemodel", checksum))
    spec = cnnzoo.get_spec("squeezenet1_1")
    model = downloads.fetch_bvlc("squeezenet1_1", spec)
    assert torch.equal(model.features[0].weight, net.layers[0]["blobs"][0].flip(1))
    assert model.metadata.provenance == {"kind": "bvlc", "url": f"{url}/net.caffemodel", "checksum": checksum}
    assert model.metadata.label_names is not None and model.metadata.label_names[0] == "tench"
    preprocessing = model.metadata.preprocessing
    assert preprocessing is not None and (preprocessing.crop_mode, preprocessing.crop_pct) == ("squash", 224 / 256)
    images = torch.randint(256, (1, 3, 224, 224), dtype=torch.uint8)
    expected = images - torch.tensor([122.67892, 116.66877, 104.00699]).view(3, 1, 1)
    torch.testing.assert_close(preprocessing.normalize(images), expected)
    (folder / "net.caffemodel").unlink()
    downloads.fetch_bvlc("squeezenet1_1", spec)  # from the cache


def test_what_the_onnx_zoo_has(server: tuple[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """Its blocks are those of the file: here, as for its GoogLeNet, pools that round down."""
    url, folder = server
    file = folder / "net.onnx"
    onnx.save(light_model("squeezenet"), file)
    checksum = f"sha256:{hashlib.sha256(file.read_bytes()).hexdigest()}"
    edits = {"pool[135]": {"ceil_mode": False}}
    monkeypatch.setitem(downloads.ONNX, "squeezenet1_1", downloads.Download(f"{url}/net.onnx", checksum, edits=edits))
    model = downloads.fetch_onnx("squeezenet1_1", cnnzoo.get_spec("squeezenet1_1"))
    assert torch.equal(model.features[0].weight, _initializer(file, "conv1_w_0").flip(1))
    assert [
        block.ceil_mode for label, block in model.spec.blocks() if label.startswith("pool") and label != "pool10"
    ] == [False] * 3


def _initializer(file: Path, name: str) -> torch.Tensor:
    return next(
        torch.from_numpy(numpy_helper.to_array(one).copy())
        for one in onnx.load(file).graph.initializer
        if one.name == name
    )


def test_downloads_that_fail(server: tuple[str, Path], tmp_path: Path) -> None:
    url, folder = server
    (folder / "a.bin").write_bytes(b"damaged")
    with pytest.raises(
        WeightsError, match=r"the download of .*/a.bin is damaged: its sha1 is [0-9a-f]{40}, not 00; try again"
    ):
        downloads.download_file(f"{url}/a.bin", "sha1:00")
    with pytest.raises(
        FileError, match=r"/b.bin could not be downloaded \(.*File not found.*\); check the network connection"
    ):
        downloads.download_file(f"{url}/b.bin", "sha1:00")
    with pytest.raises(
        FileError, match=r"could not be downloaded \(.*refused.*\); .* put the file at .*/weights/c.bin"
    ):
        downloads.download_file("http://127.0.0.1:1/c.bin", "sha1:00")
    cached = tmp_path / "cache" / "cnnzoo" / "weights"
    assert not cached.exists() or not list(cached.iterdir())  # nothing damaged is kept
    cached.mkdir(parents=True, exist_ok=True)
    (cached / "a.bin").write_bytes(b"damaged")
    with pytest.raises(
        WeightsError, match=r"a.bin is damaged: its sha1 is not 00; delete it, and it is downloaded again"
    ):
        downloads.download_file(f"{url}/a.bin", "sha1:00")


def test_published_checksums_and_blocks() -> None:
    """The networks of all downloads can be built, and each has a checksum."""
    for name, download in [*downloads.BVLC.items(), *downloads.ONNX.items()]:
        algorithm, _, digest = download.checksum.partition(":")
        assert len(digest) == {"sha1": 40, "sha256": 64}[algorithm] and download.url.startswith("http")
        spec = get_spec(
            name, *download.edits.items(), **({"image_size": download.image_size} if download.image_size else {})
        )
        assert cnnzoo.create(spec, device="meta").spec == spec
