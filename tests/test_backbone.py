"""Outputs of blocks: features of one batch, and backbones; compared with hooks on the whole network."""

from __future__ import annotations

import copy
import functools
import io
import threading

import pytest
import torch
from torch import nn
from torchvision.ops import FeaturePyramidNetwork
from zoo import MODEL_PARAMS, small_knobs

import cnnzoo
from cnnzoo.backbone import Backbone, labeled_modules
from cnnzoo.blocks import (
    Activation,
    AvgPool,
    Conv,
    Dropout,
    MaxPool,
    Parallel,
    UnitBias,
    register_activation,
)
from cnnzoo.errors import InputError, UnknownNameError


def _hooked(model: nn.Module, labels: list[str], x: torch.Tensor) -> dict[str, torch.Tensor]:
    """Returns the outputs of blocks in a run of the whole network, before a later module can overwrite them."""
    outs: dict[str, torch.Tensor] = {}
    names = labeled_modules(model)
    hooks = [
        model.get_submodule(names[label]).register_forward_hook(
            lambda module, args, out, label=label: outs.update({label: out.clone()})
        )
        for label in labels
    ]
    model(x)
    for hook in hooks:
        hook.remove()
    return {label: outs[label] for label in labels}


def _require_equal(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> None:
    assert list(a) == list(b)
    assert [label for label in a if not torch.equal(a[label], b[label])] == []


def _images(model: nn.Module, *sides: int, n: int = 2) -> torch.Tensor:
    assert isinstance(model, cnnzoo.CNN)
    return torch.randn(n, model.spec.input[0], *(sides or model.spec.input[1:]))


def _spec(*features, input_shape: tuple[int, int, int] = (2, 16, 16)) -> cnnzoo.Spec:
    return cnnzoo.Spec("n", input_shape, features, ())


@pytest.fixture
def alexnet() -> cnnzoo.CNN:
    return cnnzoo.create("alexnet", in_channels=3, width=0.125, seed=0).eval()


# --- what is returned ---


@pytest.mark.parametrize("name", MODEL_PARAMS)
def test_every_block_of_every_model(name: str) -> None:
    """All labels at once, also inside branches, to the bit; then the shapes, which a count tells too."""
    model = cnnzoo.create(name, seed=0, **small_knobs(name)).eval()
    labels = [label for label, _ in model.spec.blocks()]
    x = _images(model)
    with torch.no_grad():
        maps = cnnzoo.features(model, labels, x)
        _require_equal(maps, _hooked(model, labels, x))
    out_shapes = {layer.label: layer.out_shape for layer in cnnzoo.count(model).layers}
    assert all(tuple(maps[label].shape[1:]) == shape[1:] for label, shape in out_shapes.items())
    assert maps.channels == {label: maps[label].shape[1] for label in labels}
    assert not any(m._forward_hooks for m in model.modules())


@pytest.mark.parametrize("name", ["googlenet", "squeezenet1_0", "resnet18", "densenet_d2l", "lenet5_1998"])
def test_each_block_alone(name: str) -> None:
    """Cut after any block, in the middle of branches too."""
    model = cnnzoo.create(name, seed=0, **small_knobs(name)).eval()
    labels = list(labeled_modules(model))[::5]
    x = _images(model)
    with torch.no_grad():
        expected = _hooked(model, labels, x)
        for label in labels:
            _require_equal(cnnzoo.backbone(model, label)(x), {label: expected[label]})


def test_outputs_have_the_order_of_the_labels(alexnet: cnnzoo.CNN) -> None:
    x = _images(alexnet, 65, 65)
    maps = cnnzoo.features(alexnet, ["pool5", "conv1"], x)
    assert list(maps) == list(maps.channels) == list(maps.strides) == ["pool5", "conv1"]
    assert torch.equal(maps["conv1"], torch.relu(alexnet.features[0](x)))
    assert torch.equal(maps["pool5"], alexnet.features[:13](x))
    assert list(cnnzoo.features(alexnet, "conv1", x)) == ["conv1"]
    outs = cnnzoo.backbone(alexnet, ("pool5", "conv1"))(x)
    assert type(outs) is dict
    _require_equal(outs, maps)


@pytest.mark.parametrize("sides", [(320, 480), (97, 70), (224, 224)])
def test_any_image_size_that_the_blocks_can_take(alexnet: cnnzoo.CNN, sides: tuple[int, int]) -> None:
    x = _images(alexnet, *sides)
    maps = cnnzoo.features(alexnet, ["conv3", "conv5"], x)
    assert torch.equal(maps["conv3"], alexnet.features[:8](x))
    assert torch.equal(maps["conv5"], alexnet.features[:12](x))
    assert maps.channels == {"conv3": 48, "conv5": 32}
    assert maps.strides == {"conv3": 16, "conv5": 16}


def test_runs_nothing_after_the_last_block(alexnet: cnnzoo.CNN) -> None:
    calls: list[str] = []
    for name, module in alexnet.named_modules():
        module.register_forward_hook(lambda module, args, out, name=name: calls.append(name))
    cnnzoo.features(alexnet, ["conv3", "conv1"], _images(alexnet))
    assert calls == [f"features.{i}" for i in range(8)]
    calls.clear()
    googlenet = cnnzoo.create("googlenet", width=0.125, image_size=64)
    modules = list(googlenet.named_modules())
    backbone = cnnzoo.backbone(googlenet, ["inception3a/3x3"])
    last = [name for name, _ in modules].index(labeled_modules(googlenet)["inception3a/3x3"])
    assert [name for name, _ in backbone.named_modules()] == [name for name, _ in modules[: last + 1]]


def test_mode_of_the_model_is_respected(tiny_spec: cnnzoo.Spec) -> None:
    """Of a backbone: dropout drops in train mode, and batch norm counts one batch."""
    model = cnnzoo.create(tiny_spec, seed=0)
    drop = model.spec.classifier[1].label
    statistics = model.features[1]
    x = _images(model)
    expected = cnnzoo.backbone(copy.deepcopy(model).eval(), [drop, "conv1"])(x)
    _require_equal(cnnzoo.features(model, [drop, "conv1"], x), expected)  # as in eval mode
    assert model.training and statistics.num_batches_tracked == 0
    maps = cnnzoo.backbone(model, [drop, "conv1"])(x)
    assert model.training and (maps[drop] == 0).float().mean() > 0.4
    assert statistics.num_batches_tracked == 1 and not torch.equal(statistics.running_mean, torch.zeros(4))
    before = copy.deepcopy(model.state_dict())
    backbone = cnnzoo.backbone(model, ["conv1"]).eval()
    assert not model.features[1].training  # its modules are the network's
    _require_equal(backbone(x), cnnzoo.features(model, ["conv1"], x))
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())
    assert backbone.train().features[1].training


def test_gradients_flow_as_in_a_plain_call(alexnet: cnnzoo.CNN) -> None:
    x = _images(alexnet, 96, 128).requires_grad_()
    inputs = [x, *alexnet.features[:8].parameters()]
    plain = torch.autograd.grad(alexnet.features[:8](x).square().sum(), inputs)
    for maps in (cnnzoo.features(alexnet, ["conv3"], x), cnnzoo.backbone(alexnet, "conv3")(x)):
        gradients = torch.autograd.grad(maps["conv3"].square().sum(), inputs)
        assert all(torch.equal(a, b) for a, b in zip(gradients, plain, strict=True))
    with torch.inference_mode():
        assert not cnnzoo.features(alexnet, ["conv3"], x)["conv3"].requires_grad


# --- outputs that a later module overwrites ---


@pytest.mark.parametrize("between", [(), (Dropout(0.5),), (Parallel(((), (Dropout(0.5),)), merge="concat"),)])
def test_an_activation_in_place_does_not_overwrite_a_map(between: tuple[Dropout, ...]) -> None:
    register_activation("in_place", lambda: nn.ReLU(inplace=True))
    model = cnnzoo.create(_spec(Conv(3, kernel_size=3, activation=None), *between, Activation("in_place")), seed=0)
    x = _images(model.eval()).requires_grad_()
    expected = model.features[0](x)
    assert expected.min() < 0
    labels = [label for label, _ in model.spec.blocks() if "/" not in label]
    backbone = cnnzoo.backbone(model, labels)
    maps = backbone(x)
    _require_equal(dict(maps), _hooked(model, labels, x))
    assert torch.equal(maps["conv1"], expected) and maps[labels[-1]].min() >= 0
    (gradient,) = torch.autograd.grad(maps["conv1"].square().sum(), x)
    assert torch.equal(gradient, torch.autograd.grad(expected.square().sum(), x)[0])
    assert model.features[-1].inplace and backbone.features[-1] is model.features[-1]


def test_what_the_network_overwrites_itself_stays_so() -> None:
    """A path in place changes the input of the other path: the map is that before, the sum is the network's."""
    register_activation("in_place", lambda: nn.ReLU(inplace=True))
    paths = ((), (Activation("in_place"), Conv(3, kernel_size=1, activation=None)))
    spec = _spec(Conv(3, kernel_size=3, activation=None), Parallel(paths, merge="add", label="sum"))
    model = cnnzoo.create(spec, seed=0)
    x = _images(model)
    labels = list(labeled_modules(model))
    maps = cnnzoo.features(model, labels, x)
    _require_equal(dict(maps), _hooked(model, labels, x))
    assert torch.equal(maps["sum"], model(x)) and maps["conv1"].min() < 0


def test_a_module_that_writes_in_place_without_saying_so() -> None:
    class Double(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.mul_(2)

    model = cnnzoo.create(_spec(Conv(3, kernel_size=3), Conv(2, kernel_size=1)), seed=0)
    model.features.insert(2, Double())
    x = _images(model)
    maps = cnnzoo.features(model, ["conv1", "conv2"], x)
    _require_equal(dict(maps), _hooked(model, ["conv1", "conv2"], x))
    assert torch.equal(maps["conv1"], torch.relu(model.features[0](x)))


def test_a_module_used_twice_runs_twice() -> None:
    model = cnnzoo.create(_spec(*[Conv(2, kernel_size=3, padding=1)] * 3, Activation("tanh")), seed=0)
    model.features[2], model.features[3] = model.features[0], model.features[1]
    x = _images(model)
    _require_equal(cnnzoo.features(model, ["conv3", "act3"], x), _hooked(model, ["conv3", "act3"], x))
    assert torch.equal(cnnzoo.backbone(model, ["act3"])(x)["act3"], model(x))


# --- channels and strides ---


@pytest.mark.parametrize("name", MODEL_PARAMS)
def test_strides_of_every_model(name: str) -> None:
    """Compares strides with the sizes of all maps for two images of hundreds of pixels, in the whole network."""
    model = cnnzoo.create(name, device="meta").eval()
    labels = [label for label in labeled_modules(model.features) if "/" not in label]
    strides = cnnzoo.backbone(model, labels).strides
    if any(isinstance(block, UnitBias) for block in model.spec.features):  # images of one size only
        assert {label for label in labels if strides[label] is not None} == {"H1_border", "H1"}
        with pytest.raises(InputError, match="a network with a bias per unit takes images of one size"):
            model(_images(model, 352, 352, n=1).to("meta"))
        return
    with torch.device("meta"), torch.no_grad():
        small, large = (_hooked(model.features, labels, _images(model, side, side, n=1)) for side in (352, 448))
    for label in labels:
        stride, sizes = strides[label], (small[label].shape[2:], large[label].shape[2:])
        growth = {after - before for before, after in zip(*sizes, strict=True)}
        if stride is None:  # a vector, or an adaptive pool
            assert growth <= {0}, label
        else:
            assert isinstance(stride, int) and growth == {96 // stride} and 96 % stride == 0, label


SPECS = {
    "alexnet": cnnzoo.get_spec("alexnet_owt", width=0.0625),
    "rectangle": _spec(Conv(4, (3, 5), stride=(2, 3)), MaxPool((2, 1)), Conv(4, 3, dilation=2, padding=2)),
    "ceil": _spec(Conv(4, 3), MaxPool(3, 2, ceil_mode=True), Conv(4, 3, stride=3), AvgPool(2, ceil_mode=True)),
    "paths": _spec(
        Parallel(((Conv(3, 3, stride=2, padding=1),), (MaxPool(2), Conv(2, 5, padding=2)))),
        Parallel(((Conv(5, 1),), (Conv(5, 3, padding=1, activation=None),)), merge="add"),
        AvgPool(5),
    ),
}


@pytest.mark.parametrize("name", SPECS)
def test_a_shift_by_the_stride_moves_the_map_by_one(name: str) -> None:
    """Runs parts of an image that lie some pixels apart; no shift by a divisor of the stride moves the map by one."""
    model = cnnzoo.create(SPECS[name], seed=0, dtype=torch.float64).eval()
    backbone = cnnzoo.backbone(model, [label for label in labeled_modules(model) if "/" not in label][:8])
    image = _images(model, 480, 480, n=1).double()
    side = 448

    @functools.cache
    def maps(row: int, column: int) -> dict[str, torch.Tensor]:
        with torch.no_grad():
            return backbone(image[..., row : row + side, column : column + side])

    def moves_by_one(label: str, axis: int, shift: int) -> bool:
        at_zero, shifted = maps(0, 0)[label], maps(*((shift, 0) if axis == 0 else (0, shift)))[label]
        start, end = (n // 3 for n in at_zero.shape[2:]), (n - n // 3 for n in at_zero.shape[2:])
        inner = [slice(a, b) for a, b in zip(start, end, strict=True)]  # positions that see no padding
        moved = [slice(one.start + (axis == i), one.stop + (axis == i)) for i, one in enumerate(inner)]
        assert shifted[:, :, *inner].numel() > 100
        return torch.allclose(at_zero[:, :, *moved], shifted[:, :, *inner], atol=1e-12)

    for label, value in backbone.strides.items():
        strides = value if isinstance(value, tuple) else (value, value)
        for axis, stride in enumerate(strides):
            assert type(stride) is int
            shifts = [shift for shift in range(1, stride + 1) if stride % shift == 0]
            assert [shift for shift in shifts if moves_by_one(label, axis, shift)] == [stride], (label, axis)


def test_strides_by_hand() -> None:
    rectangle = cnnzoo.backbone(cnnzoo.create(SPECS["rectangle"]), ["conv1", "pool1", "conv2"])
    assert rectangle.strides == {"conv1": (2, 3), "pool1": (4, 3), "conv2": (4, 3)}
    model = cnnzoo.create("alexnet_owt", width=0.0625)
    assert cnnzoo.backbone(model, ["pool5", "pool5b", "fc6"]).strides == {"pool5": 32, "pool5b": None, "fc6": None}
    primes = _spec(Conv(1, 1, stride=13), Conv(1, 1, stride=17), input_shape=(1, 300, 300))
    assert cnnzoo.backbone(cnnzoo.create(primes), ["conv1", "conv2"]).strides == {"conv1": 13, "conv2": 221}


def test_strides_of_modules_put_in_by_hand() -> None:
    class Fixed(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x + torch.ones(14, 14, device=x.device)

    model = cnnzoo.create(_spec(Conv(3, kernel_size=3), Conv(3, kernel_size=1), Conv(3, kernel_size=1)), seed=0)
    model.features[2], model.features[4] = nn.ConvTranspose2d(3, 5, 2, stride=2), Fixed()
    model.features[5] = nn.ConvTranspose2d(5, 4, 3, stride=2)
    model.features[2].label, model.features[4].label, model.features[5].label = "up", "fixed", "last"
    backbone = cnnzoo.backbone(model, ["conv1", "up"])
    assert backbone.strides == {"conv1": 1, "up": 0.5} and backbone.channels == {"conv1": 3, "up": 5}
    with pytest.raises(InputError) as error:
        cnnzoo.backbone(model, ["last"])
    assert str(error.value).startswith(
        "channels and strides of n are unknown, since it does not run on the meta device for an input of "
        "(2, 2, 16, 16): RuntimeError: "
    )
    model.features[2] = nn.Conv2d(3, 5, 1)
    assert cnnzoo.backbone(model, ["conv1", "fixed", "last"]).strides == {"conv1": 1, "fixed": None, "last": None}


# --- as a module ---


def test_state_dict_is_a_subset_of_the_networks() -> None:
    model = cnnzoo.create("googlenet", width=0.125, image_size=64, seed=0)
    backbone = cnnzoo.backbone(model, ["inception3a/3x3", "inception4e"])
    state, whole = backbone.state_dict(), model.state_dict()
    assert list(state) == [key for key in whole if key in state] and 0 < len(state) < len(whole)
    assert not any(key.startswith("classifier") for key in state)
    assert all(a is b for a, b in zip(backbone.parameters(), model.parameters(), strict=False))
    other = cnnzoo.create("googlenet", width=0.125, image_size=64, seed=1)
    missing, unexpected = backbone.load_state_dict(other.state_dict(), strict=False)
    assert missing == [] and set(unexpected) == set(whole) - set(state)
    x = _images(model.eval(), 64, 80)
    _require_equal(cnnzoo.backbone(other.eval(), ["inception4e"])(x), cnnzoo.features(model, ["inception4e"], x))


def test_network_stays_as_it_is(alexnet: cnnzoo.CNN) -> None:
    before, modules = repr(alexnet), dict(alexnet.named_modules())
    backbone = cnnzoo.backbone(alexnet, ["conv3"])
    assert repr(alexnet) == before and dict(alexnet.named_modules()) == modules
    assert backbone.features[0] is alexnet.features[0] and len(backbone.features) == 8
    assert not backbone.features.training
    assert "labels=['conv3']" in repr(backbone)
    assert not alexnet.changed_modules()


def test_deep_copies_are_independent(alexnet: cnnzoo.CNN) -> None:
    x = _images(alexnet, 96, 128)
    backbone = cnnzoo.backbone(alexnet, ["conv3", "pool1"])
    expected = backbone(x)
    file = io.BytesIO()
    torch.save(backbone, file)
    file.seek(0)
    for other in (copy.deepcopy(backbone), torch.load(file, weights_only=False)):
        _require_equal(other(x), expected)
        assert other.channels == backbone.channels and other.strides == backbone.strides
        with torch.no_grad():
            other.features[0].weight.zero_()
        other.train()
        _require_equal(backbone(x), expected)
        assert not alexnet.training and not alexnet.features[0].training


def test_dtype_and_device() -> None:
    model = cnnzoo.create("resnet18", width=0.125, image_size=64, seed=0).eval()
    backbone = cnnzoo.backbone(model, ["layer2.1"]).to(torch.float64)
    assert backbone(_images(model).double())["layer2.1"].dtype == torch.float64
    assert all(t.dtype == torch.float64 for t in backbone.state_dict().values() if t.is_floating_point())
    assert model.features[0].weight.dtype == torch.float64 and model.classifier[-1].weight.dtype == torch.float32
    half = cnnzoo.create("resnet18", width=0.125, image_size=64, dtype=torch.bfloat16)
    assert cnnzoo.features(half, "layer2.1", _images(half).bfloat16())["layer2.1"].dtype == torch.bfloat16
    meta = cnnzoo.create("lenet", device="meta")
    assert cnnzoo.features(meta, ["pool2"], torch.empty(3, 1, 40, 60, device="meta"))["pool2"].shape == (3, 16, 8, 13)


LABELS = {"alexnet": ["conv3", "conv5"], "resnet18": ["layer1.0"], "googlenet": ["inception3a/3x3", "inception3a"]}


@pytest.mark.parametrize("name", LABELS)
def test_compile_and_export(name: str) -> None:
    labels = {"alexnet": ["conv3", "conv5"], "resnet18": ["layer2.1", "layer3.1"]}.get(
        name, ["inception3a/3x3", "pool3"]
    )
    model = cnnzoo.create(name, seed=0, width=0.125).eval()
    backbone = cnnzoo.backbone(torch.compile(model), labels)
    x = _images(model, 128, 192)
    expected = backbone(x)
    torch._dynamo.reset()
    compiled = torch.compile(backbone, backend="aot_eager", fullgraph=True)
    _require_equal(compiled(x), expected)
    _require_equal(torch.fx.symbolic_trace(backbone)(x), expected)

    dynamic = {0: torch.export.Dim.DYNAMIC, 2: torch.export.Dim.DYNAMIC, 3: torch.export.Dim.DYNAMIC}
    program = torch.export.export(backbone, (x,), dynamic_shapes=(dynamic,))
    for other in (x, _images(model, 161, 95, n=3)):
        outs, expected = program.module()(other), backbone(other)
        assert list(outs) == labels
        for label in labels:
            torch.testing.assert_close(outs[label], expected[label])


def test_exports_to_onnx(tmp_path) -> None:
    pytest.importorskip("onnxscript")
    runtime = pytest.importorskip("onnxruntime")
    backbone = cnnzoo.backbone(cnnzoo.create("lenet", seed=0).eval(), ["pool1", "pool2"])
    x = torch.randn(2, 1, 32, 40)
    torch.onnx.export(backbone, (x,), tmp_path / "net.onnx", dynamo=True, verbose=False)
    session = runtime.InferenceSession(str(tmp_path / "net.onnx"))
    outs = session.run(None, {session.get_inputs()[0].name: x.numpy()})
    for out, expected in zip(outs, backbone(x).values(), strict=True):
        torch.testing.assert_close(torch.from_numpy(out), expected, rtol=1e-3, atol=1e-5)


def test_a_feature_pyramid_trains() -> None:
    model = cnnzoo.create("resnet18", in_channels=3, width=0.125, seed=0)
    backbone = cnnzoo.backbone(model, ["layer2.1", "layer3.1", "layer4.1"])
    assert list(backbone.strides.values()) == [8, 16, 32]
    pyramid = FeaturePyramidNetwork(list(backbone.channels.values()), 16)
    detector = nn.Sequential(backbone, pyramid)
    maps = detector(torch.randn(2, 3, 96, 160))
    assert {label: tuple(x.shape) for label, x in maps.items()} == {
        "layer2.1": (2, 16, 12, 20),
        "layer3.1": (2, 16, 6, 10),
        "layer4.1": (2, 16, 3, 5),
    }
    sum(x.square().mean() for x in maps.values()).backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in backbone.parameters())
    assert all(p.grad is None for p in model.classifier.parameters())


def test_counts_as_any_module(alexnet: cnnzoo.CNN) -> None:
    report = cnnzoo.count(cnnzoo.backbone(alexnet, ["conv3"]), (1, 3, 224, 224))
    assert report.macs == sum(layer.macs for layer in cnnzoo.count(alexnet).layers if layer.label <= "conv3")


def test_hooks_of_the_user_run_only_with_the_images(alexnet: cnnzoo.CNN) -> None:
    devices: list[str] = []
    alexnet.features[0].register_forward_hook(lambda module, args, out: devices.append(out.device.type))
    cnnzoo.features(alexnet, ["conv1", "pool1"], _images(alexnet))
    assert devices == ["cpu"]


def test_threads_may_build_and_run_at_once() -> None:
    """Building a backbone changes nothing that a run of the network in another thread could see."""
    model = cnnzoo.create("squeezenet1_1", width=0.125, image_size=64, seed=0).eval()
    x, label = _images(model), "fire2"
    with torch.no_grad():
        expected, maps = model(x), cnnzoo.features(model, label, x)[label]
    wrong: list[str] = []

    @torch.no_grad()
    def work(number: int) -> None:
        for _ in range(15):
            try:
                if number % 2:
                    same = torch.equal(model(x), expected)
                else:
                    same = torch.equal(cnnzoo.features(model, label, x)[label], maps)
                wrong.extend([] if same else ["other values"])
            except Exception as error:
                wrong.append(repr(error))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


# --- errors ---


def test_labels_are_checked(alexnet: cnnzoo.CNN) -> None:
    for call in (cnnzoo.backbone, lambda model, labels: cnnzoo.features(model, labels, _images(model))):
        with pytest.raises(UnknownNameError, match="unknown block 'conv9'. Did you mean 'conv1' or 'conv2' or 'conv3'"):
            call(alexnet, ["conv1", "conv9"])
        with pytest.raises(InputError) as error:
            call(alexnet, [])
        assert str(error.value) == "labels is empty; name blocks of alexnet, such as ['conv1', 'pool1', 'conv2']"
        with pytest.raises(InputError, match="labels has 'conv1' twice; each block has one output"):
            call(alexnet, ["conv1", "conv2", "conv1"])


@pytest.mark.parametrize(("model", "kind"), [(nn.Sequential(nn.Conv2d(1, 1, 1)), "Sequential"), ("alexnet", "str")])
def test_other_modules_are_refused(model: nn.Module, kind: str) -> None:
    with pytest.raises(InputError) as error:
        cnnzoo.backbone(model, ["conv1"])
    assert str(error.value) == (
        f"expected a network of cnnzoo, which cnnzoo.create returns, got {kind}; for other modules use "
        "torchvision.models.feature_extraction.create_feature_extractor"
    )


def test_images_are_checked(alexnet: cnnzoo.CNN) -> None:
    backbone = cnnzoo.backbone(alexnet, ["conv1"])
    with pytest.raises(InputError, match=r"alexnet expects images with 3 channels.* got \(2, 1, 90, 90\)"):
        backbone(torch.randn(2, 1, 90, 90))
    with pytest.raises(InputError, match=r"for one image add the batch dimension with x.unsqueeze\(0\)"):
        backbone(torch.randn(3, 90, 90))
    with pytest.raises(InputError, match="x is a tensor of uint8, which no preprocessing has prepared"):
        cnnzoo.features(alexnet, "conv1", torch.zeros(2, 3, 224, 224, dtype=torch.uint8))
    with pytest.raises(InputError, match=r"alexnet was built for images of 224x224 px \(800 features\)"):
        cnnzoo.features(alexnet, ["conv1", "fc6"], _images(alexnet, 320, 480))


def test_blocks_inside_a_module_that_only_runs_as_a_whole() -> None:
    class Gate(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 3, 1)
            self.conv.label, self.label = "a", "gate"

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x * self.conv(x) if x.shape[2] > 5 else x

    class Whole(nn.Sequential):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return super().forward(2 * x)

    model = cnnzoo.create(_spec(Conv(3, kernel_size=3), Conv(2, kernel_size=1)), seed=0)
    model.features.insert(2, Gate())
    x = _images(model)
    _require_equal(cnnzoo.features(model, ["gate", "conv2"], x), _hooked(model, ["gate", "conv2"], x))
    with pytest.raises(InputError) as error:
        cnnzoo.backbone(model, ["gate/a"])
    assert str(error.value) == (
        "block 'gate/a' is inside a Gate, which only runs as a whole; use the label 'gate', or Parallel for that block"
    )
    model.features = Whole(*model.features)
    with pytest.raises(InputError, match="block 'conv1' is inside a Whole, .*; features must be an nn.Sequential"):
        cnnzoo.backbone(model, ["conv1"])


def test_names_of_the_package() -> None:
    import cnnzoo.backbone

    assert callable(cnnzoo.backbone) and callable(cnnzoo.features)
    assert isinstance(cnnzoo.backbone(cnnzoo.create("lenet"), "conv1"), Backbone)
