"""The AlexNets and LeNets, each compared with an independent computation from its paper; and their differences."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import cnnzoo
from cnnzoo.blocks import LRN, RBF, Conv, Flatten, Subsample, TableConv
from cnnzoo.errors import SpecError, UnknownNameError

# parameters and connections as printed in 1998, layer by layer (the RBF codes are fixed: no parameters)
LENET5 = {
    "C1": (156, 122_304), "S2": (12, 5_880), "C3": (1_516, 151_600), "S4": (32, 2_000), "C5": (48_120, 48_120),
    "F6": (10_164, 10_164), "output": (0, 840),
}  # fmt: skip


def test_lenet5_layer_by_layer() -> None:
    report = cnnzoo.count("lenet5_1998")
    blocks = {label: (v["params"], v["connections"]) for label, v in report.by("label").items() if label != "flatten"}
    assert blocks == LENET5
    assert (report.params.trainable, report.connections, report.macs) == (60_000, 340_908, 326_520)


def test_lenet5_in_float64() -> None:
    """Computes LeNet-5 as written in the paper: C3 as a masked dense convolution, explicit sums, squared distances."""
    model = cnnzoo.create("lenet5_1998", seed=0, dtype=torch.float64).eval()
    with torch.no_grad():
        for p in model.parameters():
            p.add_(torch.randn(p.shape, generator=torch.Generator().manual_seed(1), dtype=p.dtype) * 0.1)
    w = model.state_dict()
    x = torch.randn(2, 1, 32, 32, dtype=torch.float64)

    def squash(a: torch.Tensor) -> torch.Tensor:
        return 1.7159 * torch.tanh(2 * a / 3)

    def subsample(a: torch.Tensor, key: str) -> torch.Tensor:
        total = a[:, :, ::2, ::2] + a[:, :, 1::2, ::2] + a[:, :, ::2, 1::2] + a[:, :, 1::2, 1::2]
        return squash(total * w[f"{key}.weight"].view(1, -1, 1, 1) + w[f"{key}.bias"].view(1, -1, 1, 1))

    table = model.spec.features[2].table
    dense = torch.zeros(16, 6, 5, 5, dtype=torch.float64)
    kernels = torch.cat([w[f"features.4.convs.{i}.weight"].reshape(-1, 25) for i in range(3)])
    biases = torch.cat([w[f"features.4.convs.{i}.bias"] for i in range(3)])
    pairs = [(out_map, in_map) for out_map, in_maps in enumerate(table) for in_map in in_maps]
    assert len(pairs) == len(kernels) == 60
    for (out_map, in_map), kernel in zip(pairs, kernels, strict=True):
        dense[out_map, in_map] = kernel.view(5, 5)
    s2 = subsample(squash(F.conv2d(x, w["features.0.weight"], w["features.0.bias"])), "features.2")
    s4 = subsample(squash(F.conv2d(s2, dense, biases)), "features.6")
    c5 = squash(s4.flatten(1) @ w["features.8.weight"].flatten(1).T + w["features.8.bias"])
    f6 = squash(c5 @ w["classifier.0.weight"].T + w["classifier.0.bias"])
    codes = torch.tensor([[1.0 if s == "+" else -1.0 for s in code] for code in model.spec.classifier[-1].codes])
    scores = torch.stack([-0.5 * ((f6 - code) ** 2).sum(1) for code in codes.double()], dim=1)
    torch.testing.assert_close(model(x), scores, rtol=1e-12, atol=1e-12)
    # the score of a code is 0 for itself, and less for all others
    rbf = model.classifier[-1]
    assert torch.allclose(rbf(codes.double()).diagonal(), torch.zeros(10, dtype=torch.float64))
    assert rbf(codes.double()).argmax(1).tolist() == list(range(10))


def test_lenet5_initial_weights() -> None:
    model = cnnzoo.create("lenet5_1998", seed=0)
    weights = dict(model.named_parameters())
    for key, fan_in in (("features.0", 25), ("features.2", 4), ("features.4.convs.2", 150), ("classifier.0", 120)):
        weight = weights[f"{key}.weight"]
        assert weight.abs().max() <= 2.4 / fan_in and weight.abs().max() > 0.5 * 2.4 / fan_in


def test_digits_are_ten_different_drawings() -> None:
    codes = cnnzoo.get_spec("lenet5_1998").classifier[-1].codes
    assert len(codes) == 10 and {len(code) for code in codes} == {84}
    distances = [sum(a != b for a, b in zip(x, y, strict=True)) for i, x in enumerate(codes) for y in codes[:i]]
    assert min(distances) >= 6


def test_period_blocks_in_another_network() -> None:
    spec = cnnzoo.Spec(
        "mine",
        (3, 12, 12),
        (
            TableConv(((2,), (0, 1), (1,)), kernel_size=3, norm="batch", init="normal:0.1", bias_init=0.5),
            Subsample((2, 5), activation="tanh"),
            Flatten(),
        ),
        (RBF(("+" * 30, "-" * 30)),),
    )
    again = cnnzoo.Spec.from_json(spec.to_json())
    assert again == spec and again.num_classes == 2
    model = cnnzoo.create(again, seed=0).double()
    x = torch.randn(4, 3, 12, 12, dtype=torch.float64)
    conv = model.features[0]
    # output maps are in the order of the table, although 0 and 2 are computed together
    one, two = conv.convs
    expected = torch.stack(
        [
            F.conv2d(x[:, [2]], one.weight[:1], one.bias[:1])[:, 0],
            F.conv2d(x[:, [0, 1]], two.weight, two.bias)[:, 0],
            F.conv2d(x[:, [1]], one.weight[1:], one.bias[1:])[:, 0],
        ],
        dim=1,
    )
    torch.testing.assert_close(conv(x), expected)
    assert (one.bias == 0.5).all() and (two.bias == 0.5).all()
    pool = model.features[3]
    torch.testing.assert_close(pool(x[..., :10, :10]), F.avg_pool2d(x[..., :10, :10], (2, 5)))  # initially the mean
    assert model(x).shape == (4, 2)
    # no MACs and no weights for unconnected pairs of maps
    assert cnnzoo.count(again).by("label")["conv1"]["macs"] == 4 * 9 * 100
    assert conv(x).shape[1] == 3 and sum(c.weight.numel() for c in conv.convs) == 4 * 9


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: TableConv(((0, 0),), kernel_size=3),
            "table must be a tuple with, for each output map, a tuple",
        ),
        (lambda: TableConv([[0]], kernel_size=3), "table must be a tuple"),  # type: ignore[arg-type]
        (lambda: TableConv(((),), kernel_size=3), "table must be a tuple"),
        (lambda: RBF(("+-", "+")), "codes must be a tuple with one code per class, all of one length"),
        (lambda: RBF(("01",)), "each a string of '\\+' and '-'"),
        (lambda: cnnzoo.create("lenet5_1998", num_classes=7), "block 'output' has codes for 10 classes, not for"),
        (
            lambda: cnnzoo.create("lenet5_1998", width=0.5),
            "block 'C3' has a connection table, .*; width cannot scale it",
        ),
        (
            lambda: cnnzoo.create(cnnzoo.edit(cnnzoo.get_spec("lenet5_1998"), "C1", out_channels=4)),
            "its table names map 5, but the input has 4 maps, numbered from 0",
        ),
        (
            lambda: cnnzoo.create(cnnzoo.edit(cnnzoo.get_spec("lenet5_1998"), "F6", out_features=80)),
            "its codes have length 84, so it needs a vector of as many units",
        ),
    ],
)
def test_invalid_period_blocks_and_knobs(make, message: str) -> None:
    with pytest.raises(SpecError, match=message):
        make()


def test_knobs_of_lenet5() -> None:
    assert cnnzoo.create("lenet5_1998", num_classes=10, in_channels=3).spec.input == (3, 32, 32)
    report = cnnzoo.count("lenet5_1998", pooling="max")
    assert report.params.total == 60_000 - 44
    assert "MaxPool2d" in report.by("kind") and "Subsampling" not in report.by("kind")
    assert cnnzoo.count("lenet5_1998", (2, 1, 32, 32), norm="batch").by("kind")["BatchNorm2d"]["params"] == 2 * (
        6 + 16 + 120
    )


# --- AlexNet ---


@pytest.mark.parametrize(("k", "mean"), [(2.0, False), (1.0, True)])
def test_lrn_equals_the_papers_formula(k: float, mean: bool) -> None:
    """b = a / (k + alpha * sum of a_j^2 over j = max(0, i - n/2) ... min(N - 1, i + n/2)) ** beta, section 3.3."""
    a = torch.randn(2, 9, 3, 4, dtype=torch.float64) * 30  # large, so that alpha has an effect
    n, alpha, beta = 5, 1e-4, 0.75
    b = torch.empty_like(a)
    for i in range(9):
        neighbors = range(max(0, i - n // 2), min(9 - 1, i + n // 2) + 1)
        total = sum(a[:, j] ** 2 for j in neighbors) / (n if mean else 1)
        b[:, i] = a[:, i] / (k + alpha * total) ** beta
    (lrn,) = LRN(k=k, mean=mean).build((9, 3, 4))
    torch.testing.assert_close(lrn(a), b, rtol=1e-12, atol=1e-12)
    assert (a - b).abs().max() > 1


def test_alexnet_2012_in_float64() -> None:
    """Computes AlexNet with explicit towers, which LRN crosses."""
    spec = cnnzoo.get_spec("alexnet_2012", image_size=67, num_classes=10, width=1 / 16)
    model = cnnzoo.create(spec, seed=0, dtype=torch.float64).eval()
    with torch.no_grad():
        for p in model.parameters():
            p.copy_(torch.randn(p.shape, generator=torch.Generator().manual_seed(p.numel()), dtype=p.dtype) * 0.2)
    w = model.state_dict()
    x = torch.randn(2, 3, 67, 67, dtype=torch.float64) * 10

    def conv(a: torch.Tensor, key: str, towers: int, **kwargs: int) -> torch.Tensor:
        weight, bias = w[f"{key}.weight"], w[f"{key}.bias"]
        in_maps, out_maps = a.shape[1] // towers, weight.shape[0] // towers
        outs = [
            F.conv2d(a[:, t * in_maps : (t + 1) * in_maps], weight[t * out_maps : (t + 1) * out_maps], None, **kwargs)
            for t in range(towers)
        ]
        return F.relu(torch.cat(outs, 1) + bias.view(1, -1, 1, 1))

    def lrn(a: torch.Tensor) -> torch.Tensor:
        padded = F.pad(a.square(), (0, 0, 0, 0, 2, 2))
        total = sum(padded[:, d : d + a.shape[1]] for d in range(5))
        return a / (2 + 1e-4 * total) ** 0.75

    a = F.max_pool2d(lrn(conv(x, "features.0", 1, stride=4)), 3, 2)
    a = F.max_pool2d(lrn(conv(a, "features.4", 2, padding=2)), 3, 2)
    a = conv(conv(conv(a, "features.8", 1, padding=1), "features.10", 2, padding=1), "features.12", 2, padding=1)
    a = F.max_pool2d(a, 3, 2).flatten(1)
    for key in ("classifier.0", "classifier.3"):
        a = F.relu(a @ w[f"{key}.weight"].T + w[f"{key}.bias"])
    scores = a @ w["classifier.6.weight"].T + w["classifier.6.bias"]
    torch.testing.assert_close(model(x), scores, rtol=1e-12, atol=1e-12)


def test_alexnet_2012_initial_weights_and_biases() -> None:
    model = cnnzoo.create("alexnet_2012", seed=0)
    layers = [m for m in model.modules() if isinstance(m, (nn.Conv2d, nn.Linear))]
    assert [m.bias[0].item() for m in layers] == [0, 1, 0, 1, 1, 1, 1, 0]
    assert all((m.bias == m.bias[0]).all() for m in layers)
    for m in layers:
        assert m.weight.std().item() == pytest.approx(0.01, rel=0.02)
        assert abs(m.weight.mean().item()) < 5 * 0.01 / math.sqrt(m.weight.numel())


def test_alexnet_2012_units() -> None:
    report = cnnzoo.count("alexnet_2012")
    neurons = [v["neurons"] for v in report.by("label").values() if v["neurons"]]
    assert neurons == [290_400, 186_624, 64_896, 64_896, 43_264, 4096, 4096, 1000]
    assert report.neurons == 659_272
    assert (report.params.total, report.macs) == (60_965_224, 724_406_816)
    assert (cnnzoo.count("caffenet").params.total, cnnzoo.count("caffenet").macs) == (60_965_224, 724_406_816)


def test_lenet_caffe() -> None:
    report = cnnzoo.count("lenet_caffe")
    assert (report.params.total, report.macs) == (431_080, 2_293_000)
    bounds = {"conv1": 25, "conv2": 500, "ip1": 800, "ip2": 500}  # Caffe's xavier: uniform in +-sqrt(3 / fan_in)
    model = cnnzoo.create("lenet_caffe", seed=0)
    layers = [m for m in model.modules() if isinstance(m, (nn.Conv2d, nn.Linear))]
    for layer, fan_in in zip(layers, bounds.values(), strict=True):
        assert layer.weight.abs().max().item() == pytest.approx(math.sqrt(3 / fan_in), rel=0.02)
        assert (layer.bias == 0).all()


# --- differences ---


def test_changes_sum_to_the_difference_of_totals() -> None:
    for a, b in (("alexnet_2012", "alexnet_owt"), ("lenet5_1998", "lenet"), ("alexnet", "lenet_caffe")):
        diff = cnnzoo.diff(a, b)
        assert sum(c.params for c in diff.changes) == diff.b.params.total - diff.a.params.total
        assert sum(c.macs for c in diff.changes) == diff.b.macs - diff.a.macs
        reverse = cnnzoo.diff(b, a)
        assert sum(c.params for c in reverse.changes) == -sum(c.params for c in diff.changes)


def test_differences_between_2012_and_caffe() -> None:
    diff = cnnzoo.diff("alexnet_2012", "caffenet")
    assert [(c.label, c.what) for c in diff.changes] == [
        ("pool1", "moved: after conv1, not after norm1"),
        ("norm1", "k 2.0 → 1.0; mean False → True"),
        ("pool2", "moved: after conv2, not after norm2"),
        ("norm2", "k 2.0 → 1.0; mean False → True"),
        ("fc6", "init 'normal:0.01' → 'normal:0.005'"),
        ("fc7", "init 'normal:0.01' → 'normal:0.005'"),
    ]
    assert diff.same == 10


def test_differences_after_an_edit() -> None:
    spec = cnnzoo.get_spec("alexnet")
    edited = cnnzoo.remove(cnnzoo.edit(spec, "conv4", groups=2), "fc7", "drop7")
    diff = cnnzoo.diff(spec, edited)
    assert [(c.label, c.params) for c in diff.changes] == [
        ("conv4", -663_552),
        ("fc7", -16_781_312),
        ("drop7", 0),
    ]
    assert diff.changes[0].what == "groups 1 → 2"
    assert diff.changes[1].what == "only in alexnet: Dense(4096)"
    text = str(diff)
    assert "-663,552" in text and "-17,444,864" in text and "11 blocks are the same" in text
    assert diff.to_markdown().count("|") > 10 and '"label": "conv4"' in diff.to_json()


def test_no_difference() -> None:
    diff = cnnzoo.diff("lenet", cnnzoo.create("lenet"))
    assert diff.changes == [] and diff.same == 8
    assert "8 blocks are the same" in str(diff)


def test_consequences_of_a_change_are_listed() -> None:
    spec = cnnzoo.get_spec("alexnet")
    changes = {c.label: c for c in cnnzoo.diff(spec, cnnzoo.edit(spec, "conv1", out_channels=64)).changes}
    assert list(changes) == ["conv1", "pool1", "conv2"]
    assert changes["conv2"].what == "on 64x26x26 instead of 96x26x26" and changes["conv2"].params == -32 * 25 * 256
    larger = {c.label: c for c in cnnzoo.diff(spec, cnnzoo.get_spec("alexnet", image_size=256)).changes}
    assert larger["fc6"].what == "on 9216 instead of 6400" and larger["conv3"].params == 0 < larger["conv3"].macs


def test_differences_inside_branches(tiny_spec: cnnzoo.Spec) -> None:
    edited = cnnzoo.edit(tiny_spec, "block2/conv1", kernel_size=5, padding=2)
    (change,) = cnnzoo.diff(tiny_spec, edited).changes
    assert (change.label, change.what) == ("block2/conv1", "kernel_size 3 → 5; padding 1 → 2")
    assert change.params == 4 * 4 * 16
    (change,) = cnnzoo.diff(tiny_spec, cnnzoo.edit(tiny_spec, "block2", activation=None)).changes
    assert (change.label, change.what) == ("block2", "activation 'relu' → None")


def test_diff_of_an_unknown_model() -> None:
    with pytest.raises(UnknownNameError, match="unknown model 'alexnett'. Did you mean 'alexnet'"):
        cnnzoo.diff("alexnet", "alexnett")


def test_the_blocks_alone_define_a_network() -> None:
    """Rebuilds networks from the same blocks under another name."""
    lenets = [cnnzoo.get_spec(name) for name in cnnzoo.list_models("lenet*")]
    for spec in [*lenets, *(cnnzoo.get_spec(name, width=0.25) for name in ("alexnet_2012", "caffenet"))]:
        renamed = cnnzoo.Spec("other", spec.input, spec.features, spec.classifier)
        a, b = cnnzoo.create(spec, seed=0), cnnzoo.create(renamed, seed=0)
        assert all(torch.equal(x, y) for x, y in zip(a.parameters(), b.parameters(), strict=True))
    blocks = [block for _, block in cnnzoo.get_spec("alexnet_2012").blocks()]
    assert [block.groups for block in blocks if isinstance(block, Conv)] == [1, 2, 1, 2, 2]


def test_the_network_of_1989_in_float64() -> None:
    """Computes it as written in the paper: a background of -1 around maps, a bias per unit, 8 of 12 maps in H2."""
    model = cnnzoo.create("lenet_1989", seed=0, dtype=torch.float64).eval()
    with torch.no_grad():
        for p in model.parameters():
            p.add_(torch.randn(p.shape, generator=torch.Generator().manual_seed(1), dtype=p.dtype) * 0.1)
    w, table = model.state_dict(), model.spec.features[4].table
    images = torch.randn(2, 1, 16, 16, dtype=torch.float64)

    def squash(a: torch.Tensor) -> torch.Tensor:
        return 1.7159 * torch.tanh(2 * a / 3)

    def layer(
        maps: torch.Tensor, kernels: torch.Tensor, takes: list[tuple[int, ...]], biases: torch.Tensor
    ) -> torch.Tensor:
        side = maps.shape[-1]
        framed = torch.full((len(maps), maps.shape[1], side + 4, side + 4), -1.0, dtype=maps.dtype)
        framed[..., 2:-2, 2:-2] = maps
        out = torch.empty(len(maps), len(takes), side // 2, side // 2, dtype=maps.dtype)
        for unit in range(len(takes)):
            for i in range(side // 2):
                for j in range(side // 2):
                    window = framed[:, list(takes[unit]), 2 * i : 2 * i + 5, 2 * j : 2 * j + 5]
                    out[:, unit, i, j] = (window * kernels[unit]).sum((1, 2, 3)) + biases[unit, i, j]
        return squash(out)

    h1 = layer(images, w["features.1.weight"], [(0,)] * 12, w["features.2.bias"])
    h2 = layer(h1, w["features.5.convs.0.weight"], list(table), w["features.6.bias"])
    h3 = squash(h2.flatten(1) @ w["classifier.0.weight"].T + w["classifier.0.bias"])
    expected = h3 @ w["classifier.2.weight"].T + w["classifier.2.bias"]
    torch.testing.assert_close(model(images), expected, rtol=1e-12, atol=1e-12)
    assert [len(inputs) for inputs in table] == [8] * 12


@pytest.mark.parametrize(
    ("name", "parameters", "connections", "neurons"),
    [("lenet_1989", 9_760, 64_660, 1_000), ("lenet1", 2_578, 98_442, 3_082)],
)
def test_the_first_networks_as_printed(name: str, parameters: int, connections: int, neurons: int) -> None:
    report = cnnzoo.count(name)
    assert (report.params.total, report.connections, report.neurons) == (parameters, connections, neurons)
