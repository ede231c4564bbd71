"""Tests of every registered model."""

from __future__ import annotations

import inspect
import itertools
from pathlib import Path

import pytest
import torch
from torchvision.models.feature_extraction import create_feature_extractor, get_graph_node_names
from zoo import MODEL_PARAMS, NAMES, fixed_knobs, small_knobs

import cnnzoo
from cnnzoo.data import resize
from cnnzoo.errors import SpecError
from cnnzoo.registry import get_entry
from cnnzoo.verify import verify


@pytest.mark.parametrize("name", NAMES)
def test_golden(name: str, golden) -> None:
    """Compares keys, shapes, counts and published figures with the golden file."""
    model = cnnzoo.create(name, device="meta")
    report, audit = cnnzoo.count(model), verify(name)
    golden(
        name,
        {
            "input": list(model.spec.input),
            "blocks": [label for label, _ in model.spec.blocks()],
            "parameters": report.params.total,
            "macs": report.macs,
            "train_macs": report.train_macs,
            "bias_adds": report.bias_adds,
            "state_dict": {key: "x".join(map(str, tensor.shape)) for key, tensor in model.state_dict().items()},
            "published": {f.published.what: [f.published.printed, f.exact, f.verdict] for f in audit.findings},
        },
    )
    # contradictions, and figures that cannot be recomputed, have a note
    assert audit.unexplained == []
    assert all(f.published.note for f in audit.findings if f.exact is None)
    assert report.params.total == sum(p.numel() for p in model.parameters())
    assert report.unknown_ops == ()
    assert report == cnnzoo.count(name)


@pytest.mark.parametrize("name", NAMES)
def test_json_round_trip(name: str) -> None:
    spec = cnnzoo.get_spec(name)
    for variant in (spec, cnnzoo.get_spec(name, norm="batch", dropout=0.1, activation="gelu")):
        assert cnnzoo.Spec.from_json(variant.to_json()) == variant
    assert spec.name == name
    assert inspect.getdoc(get_entry(name).function)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    "knobs",
    [
        {"num_classes": 7},
        {"in_channels": 2},
        {"norm": "group", "width": 0.25},
        {"dropout": 0.5, "activation": "silu", "norm": None},
        {"pooling": "avg"},
    ],
    ids=lambda knobs: "+".join(knobs),
)
def test_knobs(name: str, knobs: dict) -> None:
    if fixed_knobs(name) & set(knobs):
        with pytest.raises(SpecError, match=r"block '(C3|H2|H3|output)' has (codes|a connection table)"):
            cnnzoo.create(name, **knobs)
        return
    model = cnnzoo.create(name, device="meta", **knobs)
    assert model(torch.empty(2, *model.spec.input, device="meta")).shape == (2, model.spec.num_classes)
    kinds = {type(module).__name__ for module in model.modules()}
    if "activation" in knobs:
        assert "SiLU" in kinds and not kinds & {"ReLU", "Sigmoid", "ScaledTanh", "BatchNorm2d"} and "Dropout" in kinds
    if "pooling" in knobs:
        assert "MaxPool2d" not in kinds


@pytest.mark.parametrize("name", NAMES)
def test_small_images(name: str) -> None:
    model = cnnzoo.create(name, device="meta", **small_knobs(name))
    assert model(torch.empty(2, *model.spec.input, device="meta")).shape == (2, model.spec.num_classes)


@pytest.mark.parametrize("name", MODEL_PARAMS)
def test_too_small_images_are_accepted_or_the_minimum_is_named(name: str) -> None:
    try:
        cnnzoo.create(name, image_size=4, device="meta")
    except SpecError as error:
        assert "needs images of at least" in str(error)


@pytest.mark.parametrize("name", MODEL_PARAMS)
def test_trains_on_real_images(name: str) -> None:
    """Trains on the bundled sample: every parameter gets a gradient, and the loss falls."""
    data = cnnzoo.load_data("fashion_mnist_sample").train
    model = cnnzoo.create(name, seed=0, in_channels=1, num_classes=10, dropout=0.0, **small_knobs(name))
    x = resize(data.images[:16], model.spec.input[1:]).float() / 255 * 2 - 1
    y = data.labels[:16]
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    losses = []
    for _ in range(12):
        loss = torch.nn.functional.cross_entropy(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
        optimizer.step()
        losses.append(loss.item())
    assert min(losses[-3:]) < 0.995 * losses[0]


@pytest.mark.parametrize("name", MODEL_PARAMS)
def test_tracing_export_and_compiling(name: str) -> None:
    model = cnnzoo.create(name, seed=0, **small_knobs(name)).eval()
    x = torch.randn(1, *model.spec.input)
    with torch.no_grad():
        expected = model(x)
        assert expected.isfinite().all()
        assert torch.equal(torch.fx.symbolic_trace(model)(x), expected)
        nodes = get_graph_node_names(model)[1]
        maps = create_feature_extractor(model, {nodes[len(nodes) // 2]: "maps", nodes[-1]: "scores"})(x)
        assert torch.equal(maps["scores"], expected) and maps["maps"].isfinite().all()
        torch._dynamo.reset()  # all networks share one forward function, which is compiled for each
        exported = torch.export.export(model, (x,))
        torch.testing.assert_close(exported.module()(x), expected)
        torch.testing.assert_close(torch.compile(model, backend="eager", fullgraph=True)(x), expected)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_compiles_with_autograd(name: str) -> None:
    model = cnnzoo.create(name, seed=0, dropout=0.0, **small_knobs(name)).eval()
    x = torch.randn(2, *model.spec.input)
    model(x).square().sum().backward()
    expected = [p.grad.clone() for p in model.parameters()]
    model.zero_grad()
    torch._dynamo.reset()
    torch.compile(model, backend="aot_eager", fullgraph=True)(x).square().sum().backward()
    for p, grad in zip(model.parameters(), expected, strict=True):
        torch.testing.assert_close(p.grad, grad, rtol=1e-4, atol=1e-4 * grad.abs().max().item())


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.filterwarnings("ignore")
def test_onnx(name: str, tmp_path: Path) -> None:
    pytest.importorskip("onnxscript")
    runtime = pytest.importorskip("onnxruntime")
    model = cnnzoo.create(name, seed=0, **small_knobs(name)).eval()
    x = torch.randn(3, *model.spec.input)
    batch = {"x": {0: torch.export.Dim("n", min=1, max=64)}}
    torch.onnx.export(model, (x[:2],), tmp_path / "net.onnx", dynamic_shapes=batch, dynamo=True, verbose=False)
    session = runtime.InferenceSession(str(tmp_path / "net.onnx"))
    (scores,) = session.run(None, {session.get_inputs()[0].name: x.numpy()})
    with torch.no_grad():
        torch.testing.assert_close(
            torch.from_numpy(scores), (expected := model(x)), rtol=1e-3, atol=1e-4 * expected.abs().max().item()
        )


def test_lineages_do_not_define_modules() -> None:
    """Lineages consist of blocks and functions that return blocks; modules are defined in cnnzoo.blocks."""
    import cnnzoo.models

    for file in Path(cnnzoo.models.__file__).parent.glob("*.py"):
        text = file.read_text()
        assert "nn.Module" not in text and "import torch" not in text and "\nclass " not in text, file.name


def test_members_of_a_lineage_differ_as_documented() -> None:
    for shallow, deep in itertools.pairwise(("resnet50", "resnet101", "resnet152")):
        changes = cnnzoo.diff(shallow, deep).changes
        assert {c.label.split(".")[0] for c in changes if c.before is None} <= {"layer2", "layer3"}
    stride = cnnzoo.diff(cnnzoo.get_spec("resnet50"), cnnzoo.get_spec("resnet50", stride_in_1x1=True)).changes
    assert {c.label for c in stride if c.what.startswith("stride")} == {
        f"layer{stage}.0/conv{i}" for stage in (2, 3, 4) for i in (1, 2)
    }
    bn = cnnzoo.diff("vgg16", "vgg16_bn").changes
    assert [c.what for c in bn] == ["norm None → 'batch'"] * 13
