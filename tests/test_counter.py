"""The counter on cases that other tools get wrong, against values derived by hand; and that it leaves no trace."""

from __future__ import annotations

import contextlib
import random
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from calls import Calls
from torch import nn
from torch.nn import functional
from torch.nn.utils import parametrizations
from torch.utils.flop_counter import FlopCounterMode
from zoo import MODEL_PARAMS, small_knobs

import cnnzoo
from cnnzoo.blocks import TableConv
from cnnzoo.errors import InputError
from cnnzoo.measure.report import SUMMED


class MyConv(nn.Conv2d):
    pass


def old_weight_norm() -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return nn.utils.weight_norm(nn.Linear(8, 5))


def tied() -> nn.Module:
    first, second = nn.Linear(6, 6, bias=False), nn.Linear(6, 6)
    second.weight = first.weight
    return nn.Sequential(first, second)


def shared() -> nn.Module:
    layer = nn.Linear(6, 6)
    return nn.Sequential(layer, layer)


def half_frozen() -> nn.Module:
    net = nn.Sequential(nn.Linear(6, 5), nn.Linear(5, 4), nn.Linear(4, 3))
    net[1].requires_grad_(False)
    return net


with_grad = lambda *shape: torch.zeros(shape, requires_grad=True)  # noqa: E731

# name: (module, input shape or inputs, parameters, MACs, backward MACs, bias adds)
CASES = {
    # 2-D and 3-D input; subclass; groups, dilation, other dimensions
    "linear": (nn.Linear(8, 5), (2, 8), 45, 2 * 40, 2 * 40, 2 * 5),
    "linear on 3-D input": (nn.Linear(8, 5), (2, 7, 8), 45, 14 * 40, 14 * 40, 14 * 5),
    "subclass": (MyConv(3, 4, 3), (1, 3, 8, 8), 112, 27 * 4 * 36, 27 * 4 * 36, 4 * 36),
    "grouped": (nn.Conv2d(8, 4, 3, groups=4), (1, 8, 6, 6), 76, 18 * 4 * 16, 18 * 4 * 16, 4 * 16),
    "depthwise": (nn.Conv2d(8, 8, 3, groups=8, bias=False), (1, 8, 6, 6), 72, 9 * 8 * 16, 9 * 8 * 16, 0),
    "dilated": (nn.Conv2d(3, 4, 3, dilation=2), (1, 3, 9, 9), 112, 27 * 4 * 25, 27 * 4 * 25, 100),
    "transposed": (nn.ConvTranspose2d(3, 4, 3, stride=2), (1, 3, 5, 5), 112, 27 * 4 * 25, 27 * 4 * 25, 4 * 121),
    "conv1d": (nn.Conv1d(3, 4, 3), (2, 3, 10), 40, 2 * 9 * 4 * 8, 2 * 9 * 4 * 8, 2 * 4 * 8),
    "conv3d": (nn.Conv3d(3, 4, 3), (1, 3, 5, 5, 5), 328, 81 * 4 * 27, 81 * 4 * 27, 4 * 27),
    # gradients that the forward stops
    "detach": (
        Calls(lambda s, x: s.b(s.a(x).detach()), a=nn.Linear(6, 6, bias=False), b=nn.Linear(6, 5, bias=False)),
        (2, 6), 66, 72 + 60, 60, 0,
    ),
    "detached beside": (
        Calls(
            lambda s, x: s.b((y := s.a(x)) + y.round().detach()),
            a=nn.Linear(6, 6, bias=False), b=nn.Linear(6, 5, bias=False),
        ),
        (2, 6), 66, 72 + 60, 72 + 120, 0,
    ),
    # functional calls
    "F.linear": (
        Calls(lambda s, x: functional.linear(x, s.layer.weight), layer=nn.Linear(4, 3)), (2, 4), 15, 24, 24, 0,
    ),
    "F.conv2d": (
        Calls(lambda s, x: functional.conv2d(x, s.layer.weight), layer=nn.Conv2d(3, 4, 3)),
        (1, 3, 8, 8), 112, 27 * 4 * 36, 27 * 4 * 36, 0,
    ),
    "@": (Calls(lambda s, x: x @ x.transpose(-1, -2)), (2, 3, 4, 5), 0, 6 * 16 * 5, 0, 0),
    "@ with a gradient": (Calls(lambda s, x: x @ x), (with_grad(4, 4),), 0, 64, 128, 0),
    "@ of a vector": (Calls(lambda s, x: x @ torch.ones(4)), (3, 4), 0, 12, 0, 0),
    "bmm": (Calls(lambda s, x: torch.bmm(x, x)), (2, 4, 4), 0, 128, 0, 0),
    "einsum": (Calls(lambda s, x: torch.einsum("bij,bjk->bik", x, x)), (2, 4, 4), 0, 128, 0, 0),
    "dot": (Calls(lambda s, x: torch.dot(x, x)), (4,), 0, 4, 0, 0),
    "a bias added by hand": (
        Calls(lambda s, x: x + s.layer.bias, layer=nn.Linear(4, 4)), (2, 4), 20, 0, 0, 8,
    ),
    "sub.forward()": (Calls(lambda s, x: s.layer.forward(x), layer=nn.Linear(4, 3)), (2, 4), 15, 24, 24, 6),
    # recurrent: 4 or 3 gates of (6 + 5) x 5 at 7 x 2 steps, two biases; the backward has gradients of the weights and
    # of all states but the first
    "lstm": (nn.LSTM(6, 5), (7, 2, 6), 260, 14 * 220, 14 * 220 + 12 * 100, 14 * 40),
    "gru": (nn.GRU(6, 5), (7, 2, 6), 195, 14 * 165, 14 * 165 + 12 * 75, 14 * 30),
    # attention, 2 heads of 4 on 7 positions, batch 2: in and out projections, scores and weighted sums
    "attention": (
        nn.MultiheadAttention(8, 2, batch_first=True), (torch.zeros(2, 7, 8),) * 3, 288,
        14 * 4 * 64 + 2 * 784, 14 * 3 * 64 + 2 * 14 * 64 + 4 * 784, 14 * 32,
    ),
    "fused attention": (
        Calls(lambda s, *x: functional.scaled_dot_product_attention(*x)),
        tuple(with_grad(2, 4, 7, 8) for _ in range(3)),
        0, 2 * 8 * 49 * 8, 4 * 8 * 49 * 8, 0,
    ),
    # sharing and freezing
    "tied weights": (tied(), (2, 6), 42, 144, 72 + 144, 12),
    "a shared module": (shared(), (2, 6), 42, 144, 72 + 144, 24),
    "frozen middle": (half_frozen(), (1, 6), 30 + 5 + 20 + 4 + 15, 62, 30 + 20 + 24, 12),
    "all frozen": (nn.Sequential(nn.Linear(6, 5), nn.Linear(5, 4)).requires_grad_(False), (1, 6), 59, 50, 0, 9),
    # weights that are computed
    "weight norm": (parametrizations.weight_norm(nn.Linear(8, 5)), (2, 8), 50, 80, 80, 10),
    "old weight norm": (old_weight_norm(), (2, 8), 50, 80, 80, 10),
    # types and modes
    "float64": (nn.Linear(4, 4).double(), (2, 4), 20, 32, 32, 8),
    "bfloat16": (nn.Conv2d(3, 4, 3).bfloat16(), (1, 3, 8, 8), 112, 27 * 4 * 36, 27 * 4 * 36, 144),
    "meta": (nn.Linear(4, 4, device="meta"), (2, 4), 20, 32, 32, 8),
    "embedding": (nn.Embedding(10, 4), (torch.zeros(2, 3, dtype=torch.long),), 40, 0, 0, 0),
    "without gradients": (
        Calls(lambda s, x: s.layer(x) + torch.no_grad()(s.layer)(x), layer=nn.Linear(4, 3)), (2, 4), 15, 48, 24, 12,
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("meta", [True, False])
def test_cases(case: str, meta: bool) -> None:
    module, shape_or_inputs, params, macs, backward, bias_adds = CASES[case]
    if not meta and case == "meta":
        pytest.skip("a module on meta has no weights to compute with")
    is_inputs = isinstance(shape_or_inputs[0], torch.Tensor)
    arguments = {"inputs" if is_inputs else "input_size": shape_or_inputs}
    before = _state(module)
    report = cnnzoo.count(module, **arguments, meta=meta)
    if not (case == "@ of a vector" or "attention" in case) or meta:  # kernels of the CPU fuse attention
        assert (report.macs, report.train_macs - report.macs) == (macs, backward)
    assert report.params.total == params and report.bias_adds == bias_adds
    assert report.flops == 2 * macs
    assert report.unknown_ops == ()
    assert sum(layer.params for layer in report.layers) == params
    assert _same(before, _state(module))


@pytest.mark.parametrize("name", MODEL_PARAMS)
def test_forward_and_backward_equal_a_real_run(name: str) -> None:
    """Compares with torch's own counter (whose backward is wrong for groups) on a real forward and backward."""
    if any(getattr(b, "groups", 1) > 1 or isinstance(b, TableConv) for _, b in cnnzoo.get_spec(name).blocks()):
        pytest.skip("groups")
    model = cnnzoo.create(name, **small_knobs(name))
    with FlopCounterMode(display=False) as counter:
        model(torch.randn(2, *model.spec.input)).sum().backward()
    report = cnnzoo.count(model.spec, (2, *model.spec.input))
    assert 2 * report.train_macs == counter.get_total_flops()


@pytest.mark.parametrize(
    "name", ["densenet121", "mobilenet_v3_small", "efficientnet_b0", "vit_b_16", "convnext_tiny", "shufflenet_v2_x1_0"]
)
def test_nets_that_are_not_ours(name: str) -> None:
    """Compares with the GMACs (there called GFLOPS) that torchvision publishes with its weights."""
    import torchvision

    weights = torchvision.models.get_model_weights(name).DEFAULT
    with torch.device("meta"):
        model = torchvision.models.get_model(name).eval()
    report = cnnzoo.count(model, (1, 3, 224, 224))
    assert report.params.total == weights.meta["num_params"]
    assert round(report.macs / 1e9, 3) == weights.meta["_ops"]
    assert report.unknown_ops == ()


# --- the other columns ---


def test_saved_and_peak_bytes() -> None:
    import torchvision

    lenet, alexnet = cnnzoo.count("lenet"), cnnzoo.count("alexnet")
    assert (lenet.saved_bytes, lenet.peak_bytes) == (35_472, 37_632)
    assert alexnet.saved_bytes == 3_998_720
    with torch.device("meta"):
        model = torchvision.models.alexnet()
    train, test = (cnnzoo.count(model.train(mode), (1, 3, 224, 224)) for mode in (True, False))
    assert (train.saved_bytes, test.saved_bytes) == (3_741_184, 3_671_552)
    assert train.peak_bytes == test.peak_bytes == 1_334_272
    assert [layer.receptive_field for layer in train.layers if layer.kind == "AdaptiveAvgPool2d"] == [195]
    assert cnnzoo.count("lenet").by("label")["pool2"]["params"] == 0
    assert [layer.receptive_field for layer in lenet.layers if layer.label == "flatten"] == [16]


def test_bytes_scale_with_the_dtype_and_the_batch() -> None:
    net = lambda: nn.Sequential(nn.Linear(4, 4), nn.Sigmoid(), nn.Linear(4, 2))  # noqa: E731
    one = cnnzoo.count(net(), (1, 4))
    assert one.saved_bytes == 4 * (4 + 4)  # the input and the output of the sigmoid, which the second Linear saves too
    assert cnnzoo.count(net().double(), (3, 4)).saved_bytes == 6 * one.saved_bytes
    assert one.peak_bytes == 4 * (4 + 4)  # input and output of the sigmoid


def test_connections_and_neurons() -> None:
    lenet = cnnzoo.count("lenet")
    assert lenet.neurons == 6 * 28**2 + 16 * 10**2 + 120 + 84 + 10 == 6_518
    assert lenet.connections == lenet.macs + lenet.bias_adds + 4 * (6 * 14**2 + 16 * 5**2)
    assert lenet.pooling == 4 * (6 * 14**2 + 16 * 5**2)
    assert lenet.elementwise == 6 * 28**2 + 16 * 10**2 + 120 + 84
    max_pools = cnnzoo.count("lenet", pooling="max")
    assert max_pools.pooling == lenet.pooling and max_pools.connections == lenet.macs + lenet.bias_adds


def test_receptive_fields() -> None:
    def field(*layers: nn.Module) -> list[int]:
        return [layer.receptive_field for layer in cnnzoo.count(nn.Sequential(*layers), (1, 2, 64, 64)).layers]

    def conv(kernel_size, **kwargs) -> nn.Module:
        return nn.Conv2d(2, 2, kernel_size, **kwargs)

    assert field(conv(3), conv(3), conv(3)) == [3, 5, 7]
    assert field(conv(3, stride=2), conv(3, dilation=2), nn.MaxPool2d(2), conv(3)) == [3, 11, 13, 21]
    assert field(conv((3, 7)), conv(1)) == [7, 7]
    flat = nn.AvgPool2d(4), nn.Flatten(), nn.ReLU(), nn.Linear(512, 3), nn.Linear(3, 3)
    assert field(*flat) == [4, 4, 4, 64, 64]  # a dense layer on flattened maps sees all positions
    assert field(nn.AvgPool2d(4), nn.Flatten(2), nn.Linear(256, 3)) == [4, 4, 64]
    assert field(nn.Flatten(), nn.Linear(2 * 64 * 64, 3)) == [1, 64]
    assert field(conv(3), nn.AdaptiveAvgPool2d(1)) == [3, 64]
    assert field(conv(3, stride=2), nn.ConvTranspose2d(2, 2, 2, stride=2), conv(3)) == [3, 3, 5]
    assert field(nn.LocalResponseNorm(2), conv(3)) == [1, 3]
    branches = Calls(lambda s, x: s.a(x) + s.b(x), a=conv(3, padding=1), b=conv(7, padding=3))
    assert field(branches, conv(3))[-1] == 9


def test_inputs_of_layers() -> None:
    class Residual(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second, self.last = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = self.first(x)
            return self.last(torch.relu(x + self.second(x)))

    layers = cnnzoo.count(Residual(), (1, 4)).layers
    assert [layer.name for layer in layers] == ["first", "second", "", "last"]
    assert [layer.inputs for layer in layers] == [(), (0,), (0, 1), (2,)]
    layers = cnnzoo.count("alexnet").layers
    assert [layer.inputs for layer in layers] == [(), *((i,) for i in range(len(layers) - 1))]


def test_sums_over_groups() -> None:
    report = cnnzoo.count("alexnet")
    kinds = report.by("kind")
    assert round(100 * kinds["Conv2d"]["macs"] / report.macs, 1) == 95.4
    assert round(100 * kinds["Linear"]["params"] / report.params.total, 1) == 92.0
    modules = report.by("module")
    assert list(modules) == ["features", "classifier"]
    assert modules["features"]["macs"] + modules["classifier"]["macs"] == report.macs
    assert report.by("label")["conv2"]["macs"] == 415_334_400
    assert "MACs: Conv2d 95.4 %, Linear 4.6 %" in str(report)
    with pytest.raises(LookupError, match="unknown grouping 'layer'. Did you mean 'label'"):
        report.by("layer")


def test_intensity() -> None:
    report = cnnzoo.count(nn.Linear(8, 4, bias=False), (2, 8))
    assert report.intensity == 2 * 64 / (4 * (16 + 32 + 8))


# --- what modules with children compute themselves ---


class Functional(nn.Module):
    """Activations and pools as functions, or as modules."""

    def __init__(self, modules: bool) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Conv2d(1, 8, 3), nn.Conv2d(8, 8, 3), nn.Linear(200, 10)
        self.relu = nn.ReLU() if modules else functional.relu
        self.pool = nn.MaxPool2d(2) if modules else lambda x: functional.max_pool2d(x, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.pool(self.relu(self.a(x)))
        return self.c(self.pool(self.relu(self.b(x))).flatten(1))


def test_functional_calls_equal_modules() -> None:
    own, twin = (cnnzoo.count(Functional(modules), (1, 1, 28, 28)) for modules in (False, True))
    assert (own.saved_bytes, own.elementwise, own.pooling) == (47_264, 6_376, 6_208)
    for column in SUMMED:
        assert getattr(own, column, None) == getattr(twin, column, None)
        assert own.by("module")["a"][column] == twin.by("module")["a"][column]
    names = [(layer.name, layer.kind, layer.out_shape) for layer in own.layers]
    assert names == [
        ("a", "Conv2d", (1, 8, 26, 26)),
        ("", "Functional", (1, 8, 13, 13)),  # a line for what runs between two calls of children
        ("b", "Conv2d", (1, 8, 11, 11)),
        ("", "Functional", (1, 200)),
        ("c", "Linear", (1, 10)),
    ]
    assert [layer.inputs for layer in own.layers] == [(), (0,), (1,), (2,), (3,)]


def test_sums_and_concatenations_between_layers() -> None:
    import torchvision

    with torch.device("meta"):
        resnet = torchvision.models.resnet18()
    report = cnnzoo.count(resnet, (1, 3, 224, 224))
    sums = [layer for layer in report.layers if layer.kind == "BasicBlock"]
    assert len(sums) == 8 and sum(layer.elementwise for layer in sums) == 752_640
    assert report.elementwise == cnnzoo.count("resnet18").elementwise == 5_569_536
    assert cnnzoo.count("densenet201").moved_bytes == 762_247_120


def test_parameters_of_modules_with_children() -> None:
    """Also if it computes nothing itself, or its child fails and is caught."""

    class Scale(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale, self.layer, self.unused = nn.Parameter(torch.ones(3)), nn.Linear(2, 3), nn.Linear(4, 5)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            with contextlib.suppress(RuntimeError):
                self.unused(x)
            return self.layer(x)

    layers = cnnzoo.count(Scale(), (1, 2)).layers
    assert [(layer.name, layer.kind, layer.params) for layer in layers] == [
        ("unused", "Linear", 25),
        ("layer", "Linear", 9),
        ("", "Scale", 3),
    ]


# --- no trace ---


def _state(model: nn.Module) -> tuple:
    return (
        {name: id(p) for name, p in model.named_parameters(remove_duplicate=False)},
        {name: id(b) for name, b in model.named_buffers(remove_duplicate=False)},
        {name: t if t.is_meta else t.clone() for name, t in model.state_dict().items()},
        {name: m.training for name, m in model.named_modules()},
        {name: [(key, id(value)) for key, value in vars(m).items()] for name, m in model.named_modules()},
        [[list(h) for h in (m._forward_hooks, m._forward_pre_hooks, m._backward_hooks)] for m in model.modules()],
        torch.get_rng_state(),
        random.getstate(),
        repr(np.random.get_state()),
        [len(h) for h in vars(torch.nn.modules.module).values() if isinstance(h, dict)],
        {name: id(f) for name, f in vars(torch).items() if type(f).__name__.endswith("function_or_method")},
        {name: id(f) for name, f in vars(functional).items()},
        torch.is_grad_enabled(),
    )


def _same(a: object, b: object) -> bool:
    if isinstance(a, torch.Tensor):
        return (a.is_meta and b.is_meta) or torch.equal(a, b)
    if isinstance(a, dict):
        return list(a) == list(b) and all(_same(a[k], b[k]) for k in a)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(_same, a, b))
    return a == b


class Frozen(dict):
    """A mapping that cannot be changed."""

    def clear(self) -> None:
        raise TypeError("frozen")


class Stateful(nn.Module):
    """Everything that leaves traces: random numbers, statistics, counters, caches, a module under two names."""

    def __init__(self, fails: bool = False) -> None:
        super().__init__()
        self.first = nn.Linear(6, 6, bias=False)
        self.second = nn.Linear(6, 6)
        self.second.weight = self.first.weight
        self.again = self.second
        self.norm = nn.BatchNorm1d(6)
        self.drop = nn.Dropout(0.5)
        self.register_buffer("count", torch.zeros(()), persistent=False)
        self.plain = torch.arange(6.0)
        self.calls, self.log, self.list, self.fails = 0, {}, [], fails
        self.frozen = Frozen(a=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        self.log["x"] = x
        self.list.append(x)
        self.cache = x
        self.count = self.count + 1
        self.plain += 1
        self.train(not self.training)
        x = self.drop(self.norm(self.second(self.first(x)) + self.plain + random.random() + float(np.random.rand())))
        if self.fails:
            raise RuntimeError("no")
        return self.again(x + torch.rand(()))


@pytest.mark.parametrize("meta", [True, False])
@pytest.mark.parametrize("train", [True, False])
@pytest.mark.parametrize("fails", [True, False])
def test_no_trace_is_left(meta: bool, train: bool, fails: bool) -> None:
    model = Stateful(fails).train(train)
    model.norm.eval()
    model.first.register_forward_hook(lambda module, args, out: out)
    x = torch.randn(4, 6)
    plain, copy = model.plain.clone(), x.clone()
    before = _state(model)
    if fails:
        with pytest.raises(InputError, match=r"Stateful cannot run on an input of \(4, 6\): RuntimeError: no"):
            cnnzoo.count(model, inputs=x, meta=meta)
    else:
        report = cnnzoo.count(model, inputs=x, meta=meta)
        assert report.macs == 3 * 4 * 36 and report.params.total == 36 + 6 + 12
        assert report.params.buffers == 6 + 6 + 1 + 1
    assert [_same(a, b) for a, b in zip(before, _state(model), strict=True)] == [True] * len(before)
    assert torch.equal(model.plain, plain) and torch.equal(x, copy)
    assert (model.calls, model.log, model.list, model.frozen) == (0, {}, [], {"a": 1}) and not hasattr(model, "cache")


def test_layers_sum_to_the_total() -> None:
    """Also if the weights of a layer are used without calling it."""
    for module, size in (
        (nn.MultiheadAttention(8, 2), None),
        (Calls(lambda s, x: functional.linear(x, s.layer.weight), layer=nn.Linear(4, 3)), (2, 4)),
        (Stateful(), (4, 6)),
    ):
        arguments = {"input_size": size} if size else {"inputs": (torch.zeros(2, 7, 8),) * 3}
        report = cnnzoo.count(module, **arguments)
        assert sum(layer.params for layer in report.layers) == report.params.total


def test_hooks_on_the_whole_module() -> None:
    module = nn.Sequential(nn.Linear(4, 4))
    module.register_full_backward_hook(lambda *_: None)
    module.register_forward_hook(lambda m, args, out: out * 2)
    assert cnnzoo.count(module, (1, 4)).macs == 16


def test_in_and_around_inference_mode() -> None:
    with torch.inference_mode():
        assert cnnzoo.count("lenet") == cnnzoo.count(cnnzoo.create("lenet"))
    inside = Calls(lambda s, x: torch.inference_mode()(s.layer)(x), layer=nn.Conv2d(3, 4, 3))
    report = cnnzoo.count(inside, (1, 3, 8, 8))
    assert (report.macs, report.unknown_ops) == (27 * 4 * 36, ())


def test_other_threads_do_not_disturb() -> None:
    stop = threading.Event()
    net = nn.Sequential(*(nn.Linear(4, 4) for _ in range(20)))

    def busy() -> None:
        while not stop.is_set():
            net(torch.zeros(1, 4))

    thread = threading.Thread(target=busy)
    thread.start()
    try:
        assert {len(cnnzoo.count("lenet").layers) for _ in range(20)} == {12}
    finally:
        stop.set()
        thread.join()


# --- bad input ---


def test_a_forward_that_starts_threads() -> None:
    def forward(net, x):
        with ThreadPoolExecutor(1) as pool:
            return net.a(x) + pool.submit(net.b, x).result()

    with pytest.raises(InputError, match="b runs in a thread that the forward starts, .* let it run in the thread of"):
        cnnzoo.count(Calls(forward, a=nn.Linear(4, 4), b=nn.Linear(4, 4)), (2, 4))


def test_control_flow_that_depends_on_values() -> None:
    module = Calls(lambda s, x: s.layer(x) if x.sum() > 0 else x, layer=nn.Linear(4, 4))
    with pytest.raises(InputError, match=r"count\(..., meta=False\) computes them"):
        cnnzoo.count(module, (2, 4))
    assert cnnzoo.count(module, (2, 4), meta=False).macs == 32
    assert cnnzoo.count(module, inputs=-torch.ones(2, 4), meta=False).macs == 0
    outside = torch.ones(4)
    assert cnnzoo.count(Calls(lambda s, x: x * outside), (2, 4)).elementwise == 8


def test_inputs_by_name() -> None:
    class Named(nn.Module):
        def forward(self, *, left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
            return left @ right

    report = cnnzoo.count(Named(), inputs={"left": torch.zeros(3, 4), "right": torch.zeros(4, 5)})
    assert report.macs == 60


def test_batch_norm_of_one_value_in_train_mode() -> None:
    with pytest.raises(InputError, match=r"count two images \(N=2\), or call model.eval\(\) first"):
        cnnzoo.count(nn.BatchNorm1d(4), (1, 4))
    assert cnnzoo.count(nn.BatchNorm1d(4), (2, 4)).params.buffers == 9


def test_what_cannot_be_counted() -> None:
    with pytest.raises(InputError, match="count expects a name, a Spec or an nn.Module, got int"):
        cnnzoo.count(3, (1, 2))  # type: ignore[arg-type]
    with pytest.raises(InputError, match="lazy layers"):
        cnnzoo.count(nn.LazyLinear(2), (1, 2))
