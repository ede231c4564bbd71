"""The counter on operators, checkpoints, autograd functions and quantized weights; saved bytes against real runs."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from calls import Calls, bytes_of_hooks
from torch import nn
from torch.nn import functional
from torch.nn.attention.flex_attention import flex_attention
from torch.nn.utils.rnn import pack_padded_sequence
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.checkpoint import (
    CheckpointPolicy,
    checkpoint,
    create_selective_checkpoint_contexts,
    set_checkpoint_early_stop,
)

import cnnzoo
from cnnzoo import register_count_rule
from cnnzoo.errors import InputError
from cnnzoo.measure import rules
from cnnzoo.measure.report import SUMMED

aten = torch.ops.aten


def zeros(*shape: int, **kwargs) -> torch.Tensor:
    return torch.zeros(shape, **kwargs)


# --- saved bytes ---


def attention(s, x, **kwargs):
    return functional.scaled_dot_product_attention(s.a(x), x, x, **kwargs)


def gate(s, x):
    return functional.max_pool2d(torch.relu(s.a(x)) * s.b(x).sigmoid(), 2) + 1


def one_checkpoint(s, x):
    return checkpoint(lambda y: s.b(s.a(y).relu()), s.c(x), use_reentrant=False)


def mask(s, x):
    return attention(s, x, attn_mask=torch.ones(5, 5, dtype=torch.bool, device=x.device))


SAVED = {
    "batch norm": (nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(inplace=True)), (2, 3, 8, 8)),
    "instance and group norm": (nn.Sequential(nn.InstanceNorm2d(4), nn.GroupNorm(2, 4), nn.SiLU()), (2, 4, 8, 8)),
    "encoder layer": (nn.TransformerEncoderLayer(16, 2, 32, dropout=0.0, batch_first=True), (2, 5, 16)),
    "attention with dropout": (nn.TransformerEncoderLayer(16, 2, 32, batch_first=True), (2, 5, 16)),
    "attention": (Calls(attention, a=nn.Linear(8, 8)), (2, 2, 5, 8)),
    "attention with a mask": (Calls(mask, a=nn.Linear(8, 8)), (2, 2, 5, 8)),
    "causal": (Calls(lambda s, x: attention(s, x, is_causal=True), a=nn.Linear(8, 8)), (2, 2, 5, 8)),
    "a bias that is learned": (
        Calls(lambda s, x: attention(s, x, attn_mask=s.b.weight), a=nn.Linear(8, 8), b=nn.Linear(5, 5)), (2, 2, 5, 8),
    ),
    "attention in 3-D": (Calls(attention, a=nn.Linear(8, 8)), (2, 5, 8)),
    "attention in 3-D with a bias that is learned": (
        Calls(lambda s, x: attention(s, x, attn_mask=s.b.weight), a=nn.Linear(8, 8), b=nn.Linear(5, 5)), (2, 5, 8),
    ),
    "functional": (Calls(gate, a=nn.Conv2d(3, 4, 3), b=nn.Conv2d(3, 4, 3)), (1, 3, 8, 8)),
    "checkpoint": (Calls(one_checkpoint, a=nn.Linear(8, 8), b=nn.Linear(8, 8), c=nn.Linear(8, 8)), (2, 8)),
}  # fmt: skip


@pytest.mark.parametrize("train", [True, False])
@pytest.mark.parametrize("case", SAVED)
def test_saved_bytes_are_those_of_a_real_run(case: str, train: bool) -> None:
    model, shape = SAVED[case]
    model.train(train)
    assert cnnzoo.count(model, shape).saved_bytes == bytes_of_hooks(model, torch.rand(shape))


# --- what a module computes itself, and its twin of modules ---


def lrn_and_pools(modules: bool) -> nn.Module:
    if modules:
        return nn.Sequential(nn.Conv2d(3, 8, 3), nn.LocalResponseNorm(5), nn.AvgPool2d(3, 2), nn.AdaptiveMaxPool2d(2))
    return Calls(
        lambda s, x: functional.adaptive_max_pool2d(
            functional.avg_pool2d(functional.local_response_norm(s.a(x), 5), 3, 2), 2
        ),
        a=nn.Conv2d(3, 8, 3),
    )


class Gate(nn.Module):
    def __init__(self, modules: bool) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 8, 1)
        self.norm = nn.BatchNorm2d(8)
        self.act = nn.Hardswish() if modules else functional.hardswish
        self.up = nn.Upsample(scale_factor=2) if modules else lambda x: functional.interpolate(x, scale_factor=2)
        self.scale = nn.Sigmoid() if modules else torch.sigmoid

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.act(self.norm(self.a(x)))
        return self.up(x * self.scale(self.b(x)))


def pairs(modules: bool) -> nn.Module:
    if modules:
        return nn.Sequential(nn.Linear(8, 8), nn.GELU(), nn.LayerNorm(8), nn.Softmax(-1))
    layers = nn.Linear(8, 8), nn.LayerNorm(8)
    return Calls(
        lambda s, x: functional.softmax(functional.layer_norm(functional.gelu(s.a(x)), (8,), s.b.weight, s.b.bias), -1),
        a=layers[0],
        b=layers[1],
    )


@pytest.mark.parametrize(("make", "shape"), [(lrn_and_pools, (2, 3, 20, 20)), (Gate, (2, 3, 8, 8)), (pairs, (2, 8))])
def test_totals_equal_those_of_the_twin_of_modules(make, shape: tuple[int, ...]) -> None:
    own, twin = (cnnzoo.count(make(modules), shape) for modules in (False, True))
    totals = [sum(getattr(layer, column) for layer in own.layers) for column in SUMMED]
    assert totals == [sum(getattr(layer, column) for layer in twin.layers) for column in SUMMED]
    assert own.peak_bytes == twin.peak_bytes and own.unknown_ops == twin.unknown_ops == ()


# --- rules ---

OPERATORS = {
    # name: (module, inputs, MACs, element-wise, pooling)
    "bilinear": (nn.Bilinear(4, 5, 6, bias=False), (zeros(2, 4), zeros(2, 5)), 2 * 6 * (4 * 5 + 5), 0, 0),
    "int8": (
        Calls(lambda s, a, b: torch._int_mm(a, b)), (zeros(32, 16).char(), zeros(16, 8).char()), 4096, 0, 0,
    ),
    "distances": (Calls(lambda s, a, b: torch.cdist(a, b)), (zeros(2, 4, 16), zeros(2, 3, 16)), 2 * 4 * 3 * 16, 0, 0),
    "distances of many": (
        Calls(lambda s, a, b: torch.cdist(a, b)), (zeros(2, 40, 16), zeros(2, 30, 16)), 2 * 1200 * 16, 0, 0,
    ),
    "outer product": (Calls(lambda s, m, a, b: torch.addr(m, a, b)), (zeros(4, 5), zeros(4), zeros(5)), 20, 0, 0),
    "antialiased": (
        Calls(lambda s, x: functional.interpolate(x, size=(4, 4), mode="bilinear", antialias=True)),
        (zeros(1, 4, 8, 8),), 0, 64, 0,
    ),
    "fold": (
        Calls(lambda s, x: functional.fold(functional.unfold(x, 2, stride=2), (8, 8), 2, stride=2)),
        (zeros(1, 4, 8, 8),), 0, 256, 0,
    ),
    "hardswish": (nn.Hardswish(), (zeros(2, 8),), 0, 16, 0),
    "dilated pool": (nn.MaxPool2d(2, stride=1, dilation=2), (zeros(1, 1, 6, 6),), 0, 0, 16 * 4),
    "overlapping adaptive pool": (nn.AdaptiveAvgPool2d(3), (zeros(1, 1, 8, 8),), 0, 0, (3 + 4 + 3) ** 2),
    "encoder": (
        nn.TransformerEncoder(nn.TransformerEncoderLayer(64, 4, 128, batch_first=True), 2).eval().requires_grad_(False),
        (zeros(1, 10, 64),), 680_960, None, 0,
    ),
}  # fmt: skip


@pytest.mark.parametrize("meta", [True, False])
@pytest.mark.parametrize("case", OPERATORS)
@pytest.mark.filterwarnings("ignore:enable_nested_tensor")
def test_operators(case: str, meta: bool) -> None:
    module, inputs, macs, elementwise, pooling = OPERATORS[case]
    report = cnnzoo.count(module, inputs=inputs, meta=meta)
    assert (report.macs, report.pooling, report.unknown_ops) == (macs, pooling, ())
    assert elementwise is None or report.elementwise == elementwise


def test_deformable_convolution() -> None:
    from torchvision.ops import DeformConv2d

    module = DeformConv2d(8, 16, 3, padding=1)
    report = cnnzoo.count(module, inputs=(zeros(1, 8, 10, 10), zeros(1, 18, 10, 10)))
    assert (report.macs, report.bias_adds) == (115_200, 1_600)
    assert report.train_macs == 3 * 115_200  # its backward computes the gradient of the input too, needed or not


def test_sparse_and_ragged_tensors() -> None:
    layer = nn.Linear(4, 3, bias=False)
    layer.register_buffer("graph", torch.eye(5).to_sparse())
    module = Calls(lambda s, x: torch.sparse.mm(s.layer.graph, s.layer(x)), layer=layer)
    assert cnnzoo.count(module, (5, 4), meta=False).macs == 5 * 12 + 5 * 3
    with pytest.raises(InputError, match=r"count\(..., meta=False\) computes them"):
        cnnzoo.count(module, (5, 4))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        jagged = torch.nested.nested_tensor([zeros(2, 4), zeros(3, 4)], layout=torch.jagged)
    assert cnnzoo.count(nn.Linear(4, 3), inputs=jagged).macs == 5 * 12
    packed = pack_padded_sequence(zeros(4, 3, 6), torch.tensor([4, 3, 1]), enforce_sorted=False)
    assert cnnzoo.count(nn.LSTM(6, 5), inputs=packed).macs == 8 * 220


def test_rules_of_ones_own() -> None:
    with torch.library._scoped_library("cnnzoo_test", "FRAGMENT") as library:
        library.define("scale_mm(Tensor x, Tensor w) -> Tensor")
        library.impl("scale_mm", lambda x, w: x.new_empty(x.shape[0], w.shape[1]), "CompositeExplicitAutograd")
        library.define("spike(Tensor x) -> Tensor")
        library.impl("spike", lambda x: torch.empty_like(x), "CompositeExplicitAutograd")
        ops = torch.ops.cnnzoo_test
        layer = nn.Linear(4, 3)
        module = nn.Sequential(Calls(lambda s, x: ops.spike(ops.spike(ops.scale_mm(x, s.a.weight.T))), a=layer))
        report = cnnzoo.count(module, (2, 4))
        assert [(op.name, op.calls, op.modules) for op in report.unknown_ops] == [
            ("cnnzoo_test.scale_mm", 1, ("0",)),
            ("cnnzoo_test.spike", 2, ("0",)),
        ]
        assert str(report.unknown_ops[1]) == "cnnzoo_test.spike (2x in 0)"

        @register_count_rule(ops.scale_mm, matrices=(0, 1))
        def scale_mm(out: torch.Tensor, x: torch.Tensor, weight: torch.Tensor) -> int:
            return x.numel() * weight.shape[1]

        spiking = Calls(lambda s, x: s.a(ops.spike(x)), a=nn.Conv2d(1, 1, 3))
        assert cnnzoo.count(spiking, (1, 1, 8, 8)).layers[-1].receptive_field_unknown == "cnnzoo_test.spike"
        register_count_rule(ops.spike, "elementwise")
        report = cnnzoo.count(module, (2, 4))
        assert (report.macs, report.train_macs, report.elementwise, report.unknown_ops) == (24, 48, 12, ())
        assert report.neurons == 6
        assert cnnzoo.count(spiking, (1, 1, 8, 8)).layers[-1].receptive_field == 3

        from torch.utils.flop_counter import flop_registry, register_flop_formula

        rules.PRODUCTS.pop(ops.scale_mm), rules._kinds.pop(ops.scale_mm), rules._kinds.pop(ops.spike)
        register_flop_formula(ops.scale_mm)(lambda x, w, *, out_shape=None, **kwargs: 2 * x[0] * x[1] * w[1])
        try:
            report = cnnzoo.count(module, (2, 4))
            assert (report.macs, report.train_macs) == (24, 48)
        finally:
            flop_registry.pop(ops.scale_mm)
    with pytest.raises(InputError, match=r"a rule is for an operator such as torch.ops.aten.mm, not for 'mm'"):
        register_count_rule("mm")
    with pytest.raises(InputError, match="a rule is of kind 'product', 'elementwise', 'reduction' or 'move', not 'ew'"):
        register_count_rule(aten.mm, "ew")


# --- backward ---


class Product(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, weight):
        ctx.save_for_backward(x, weight)
        return x @ weight

    @staticmethod
    def backward(ctx, gradient):
        x, weight = ctx.saved_tensors
        return gradient @ weight.T, x.T @ gradient


class HeavyGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, weight):
        ctx.save_for_backward(weight)
        return x.clone()

    @staticmethod
    def backward(ctx, gradient):
        (weight,) = ctx.saved_tensors
        return gradient @ weight @ weight, None


def keep_products(ctx, op, *args, **kwargs):
    return CheckpointPolicy.MUST_SAVE if op == aten.addmm.default else CheckpointPolicy.PREFER_RECOMPUTE


def two_of_three(s, x, **kwargs):
    return checkpoint(lambda y: s.c(s.b(y)), s.a(x), **kwargs)


def without_early_stop(s, x):
    with set_checkpoint_early_stop(False):
        return two_of_three(s, x, use_reentrant=False)


def nested(outer: bool, inner: bool):
    return lambda s, x: checkpoint(lambda y: checkpoint(s.c, s.b(y), use_reentrant=inner), s.a(x), use_reentrant=outer)


# name: (forward, MACs without recomputation, recomputed), of layers of 32 x 32 on 4 rows: 4,096 MACs each
BACKWARD = {
    "plain": (lambda s, x: s.c(s.b(s.a(x))), 32_768, 0),
    "re-entrant": (lambda s, x: two_of_three(s, x, use_reentrant=True), 32_768, 8_192),
    "not re-entrant": (lambda s, x: two_of_three(s, x, use_reentrant=False), 32_768, 4_096),  # stops before the last
    "without early stop": (without_early_stop, 32_768, 8_192),
    "selective": (
        lambda s, x: two_of_three(
            s, x, use_reentrant=False, context_fn=lambda: create_selective_checkpoint_contexts(keep_products)
        ),
        32_768, 0,
    ),
    "nested, re-entrant": (nested(True, True), 32_768, 12_288),
    "nested": (nested(False, False), 32_768, 4_096),
    "nested, mixed": (nested(False, True), 32_768, 12_288),
    "a function": (lambda s, x: Product.apply(s.a(x), s.b.weight), 20_480, 0),
    "a backward unlike the forward": (lambda s, x: HeavyGradient.apply(s.a(x), s.b.weight), 4_096 + 4_096 + 8_192, 0),
    "a function in a checkpoint": (
        lambda s, x: checkpoint(lambda y: Product.apply(y, s.b.weight), s.a(x), use_reentrant=True), 20_480, 4_096,
    ),
}  # fmt: skip


class Products(TorchDispatchMode):
    """Adds up the multiply-adds of what runs."""

    macs = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        matrices = {aten.mm: args[:2], aten.addmm: args[1:3]}.get(func._overloadpacket)
        self.macs += matrices[0].numel() * matrices[1].shape[1] if matrices else 0
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("case", BACKWARD)
@pytest.mark.filterwarnings("ignore")
def test_backward_of_checkpoints_and_functions(case: str) -> None:
    forward, train_macs, recomputed = BACKWARD[case]
    module = Calls(forward, **{name: nn.Linear(32, 32) for name in "abc"})
    module.a.register_full_backward_hook(lambda *_: pytest.fail("a hook ran"))
    report = cnnzoo.count(module, (4, 32))
    assert (report.train_macs, report.recompute_macs, report.unknown_ops) == (train_macs, recomputed, ())
    assert cnnzoo.count(module, (4, 32), meta=False).layers == report.layers
    module.a._backward_hooks.clear()
    with Products() as products:
        module(torch.randn(4, 32)).sum().backward()
    assert products.macs == train_macs + recomputed
    assert ("checkpoints" in str(report)) == (recomputed > 0)


def test_backward_is_attributed_to_the_layers() -> None:
    module = Calls(BACKWARD["re-entrant"][0], **{name: nn.Linear(32, 32) for name in "abc"})
    module.b.requires_grad_(False)
    layers = cnnzoo.count(module, (4, 32)).by("module")
    assert [(layers[n]["backward_macs"], layers[n]["recompute_macs"]) for n in "abc"] == [
        (4096, 0),
        (4096, 4096),
        (8192, 4096),
    ]


def test_measured_backward_equals_the_derived_one() -> None:
    """Convolutions, groups and attention: in a checkpoint the backward runs, else it is derived."""
    net = nn.Sequential(
        nn.Conv2d(4, 8, 3, groups=2), nn.ReLU(), nn.ConvTranspose2d(8, 4, 3, groups=2), nn.Flatten(2),
        nn.Linear(64, 16), nn.TransformerEncoderLayer(16, 2, 32, dropout=0.0, batch_first=True),
    )  # fmt: skip
    plain = cnnzoo.count(net, (2, 4, 8, 8))
    first = nn.Conv2d(4, 4, 1)
    inside = cnnzoo.count(
        Calls(lambda s, x: checkpoint(s.net, s.first(x), use_reentrant=True), net=net, first=first), (2, 4, 8, 8)
    )
    alone = cnnzoo.count(first, (2, 4, 8, 8))
    gradient_of_input = 8 * 2 * 9 * 36 * 2  # of the first convolution, which now has one
    assert inside.train_macs == plain.train_macs + alone.train_macs + gradient_of_input
    assert inside.recompute_macs == plain.macs


def test_backward_through_a_result_of_ones_own_class() -> None:
    @dataclass
    class Result:
        scores: torch.Tensor

    module = Calls(lambda s, x: Result(Product.apply(s.a(x), s.a.weight)), a=nn.Linear(8, 8))
    assert cnnzoo.count(module, (2, 8)).train_macs == 128 + 128 + 128 + 256
    frozen = Calls(BACKWARD["not re-entrant"][0], **{name: nn.Linear(32, 32) for name in "abc"}).requires_grad_(False)
    report = cnnzoo.count(frozen, (4, 32))
    assert (report.train_macs, report.recompute_macs, report.unknown_ops) == (12_288, 0, ())


def test_a_backward_that_cannot_be_counted_is_named() -> None:
    class Broken(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x.clone()

        @staticmethod
        def backward(ctx, gradient):
            raise ValueError("not today")

    report = cnnzoo.count(Calls(lambda s, x: Broken.apply(s.a(x)), a=nn.Linear(4, 4)), (2, 4))
    assert report.macs == 32
    assert "backward of checkpoints and autograd functions (ValueError: not today)" in report.unknown_ops[0].name


# --- quantized weights ---


@pytest.mark.filterwarnings("ignore")
def test_quantized_modules() -> None:
    if "fbgemm" not in torch.backends.quantized.supported_engines:
        pytest.skip("no kernels for int8")
    net = nn.Sequential(nn.Linear(8, 4), nn.ReLU(), nn.Linear(4, 2, bias=False))
    report = cnnzoo.count(torch.ao.quantization.quantize_dynamic(net, {nn.Linear}), (3, 8))
    assert (report.params.total, report.params.frozen, report.params.trainable) == (36 + 8, 44, 0)
    assert report.params.bytes == 32 + 4 * 4 + 8  # int8 weights, float biases
    assert (report.macs, report.bias_adds, report.neurons, report.unknown_ops) == (3 * 40, 12, 18, ())
    assert [layer.params for layer in report.layers if layer.params] == [36, 8]
    assert sum(layer.param_bytes for layer in report.layers) == report.params.bytes


def test_bytes_in_the_types_of_the_module() -> None:
    report = cnnzoo.count(nn.Sequential(nn.Linear(8, 4).half(), nn.Linear(4, 2).half()), (1, 8))
    assert report.params.bytes == 2 * report.params.total == sum(layer.param_bytes for layer in report.layers)


# --- bad input ---


def test_refusals_say_what_to_type() -> None:
    embedding = nn.Sequential(nn.Embedding(10, 4), nn.Linear(4, 2))
    with pytest.raises(InputError, match=r"count\(..., inputs=torch.zeros\(2, 3, dtype=torch.long\)\)"):
        cnnzoo.count(embedding, (2, 3))
    with pytest.raises(InputError, match=r"inputs=torch.zeros\(2, 3, dtype=torch.long\)"):
        cnnzoo.count(nn.EmbeddingBag(10, 4), (2, 3))
    assert cnnzoo.count(embedding, inputs=torch.zeros(2, 3, dtype=torch.long)).macs == 48
    attention = Calls(lambda s, x: flex_attention(x, x, x))
    with pytest.raises(InputError, match="count it with scaled_dot_product_attention in place of flex_attention"):
        cnnzoo.count(attention, (1, 2, 128, 16))
    gradient = Calls(lambda s, x: torch.autograd.grad(s.a(x).sum(), s.a.weight)[0], a=nn.Linear(4, 4))
    with pytest.raises(InputError, match=r"calls backward\(\) or torch.autograd.grad\(\); count the module whose"):
        cnnzoo.count(gradient, (2, 4))
    with pytest.raises(InputError, match="count the module whose gradient it computes"):
        cnnzoo.count(Calls(lambda s, x: torch.func.grad(lambda y: s.a(y).sum())(x), a=nn.Linear(4, 4)), (2, 4))
    assert cnnzoo.count(Calls(lambda s, x: torch.vmap(s.a)(x), a=nn.Linear(4, 4)), (2, 4)).macs == 32


@pytest.mark.filterwarnings("ignore:.torch.jit")
def test_scripted_modules_are_refused() -> None:
    scripted = torch.jit.script(nn.Linear(4, 4))
    with pytest.raises(InputError, match="0 of Sequential is a TorchScript module, .* count the module that it was"):
        cnnzoo.count(nn.Sequential(scripted), (2, 4))
    with pytest.raises(InputError, match="RecursiveScriptModule is a TorchScript module"):
        cnnzoo.count(scripted, (2, 4))


def test_example_of_the_page_on_counting() -> None:
    page = (Path(__file__).parents[1] / "docs" / "counting.md").read_text()
    code = page.split("## Adding rules")[1].split("```python\n")[1].split("```")[0]
    names: dict[str, object] = {}
    exec(code, names)
    names["library"]._destroy()  # type: ignore[attr-defined]
