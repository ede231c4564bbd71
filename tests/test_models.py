"""Every registered model is enrolled here by being registered."""

from __future__ import annotations

import pytest
import torch

import cnnzoo
from cnnzoo.audit import verify
from cnnzoo.blocks import RBF, TableConv
from cnnzoo.errors import SpecError

NAMES = cnnzoo.list_models()


@pytest.mark.parametrize("name", NAMES)
def test_golden(name: str, golden) -> None:
    """Keys and shapes of the weights, and the counts, change only on purpose."""
    model = cnnzoo.create(name, device="meta")
    report = cnnzoo.count(name)
    golden(
        name,
        {
            "input": list(model.spec.input),
            "rows": [label for label, _ in model.spec.rows()],
            "parameters": report.params.total,
            "macs": report.macs,
            "train_macs": report.train_macs,
            "bias_adds": report.bias_adds,
            "state_dict": {key: list(tensor.shape) for key, tensor in model.state_dict().items()},
            "published": {f.published.what: [f.published.printed, f.exact, f.verdict] for f in verify(name).findings},
        },
    )


@pytest.mark.parametrize("name", NAMES)
def test_json_round_trip(name: str) -> None:
    spec = cnnzoo.get_spec(name)
    for one in (spec, cnnzoo.get_spec(name, norm="batch", dropout=0.1, activation="gelu")):
        assert cnnzoo.Spec.from_json(one.to_json()) == one
    assert spec.name == name


@pytest.mark.parametrize("name", NAMES)
def test_counts_are_those_of_the_built_network(name: str) -> None:
    model = cnnzoo.create(name)
    report = cnnzoo.count(name)
    assert report == cnnzoo.count(model)
    assert report.params.total == sum(p.numel() for p in model.parameters())
    assert report.unknown_ops == ()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    "knobs", [{"num_classes": 7}, {"in_channels": 2}, {"norm": "batch", "width": 0.25}, {"dropout": 0.5}]
)
def test_knobs_build_and_run(name: str, knobs: dict) -> None:
    row_by_row = any(isinstance(row, (TableConv, RBF)) for _, row in cnnzoo.get_spec(name).rows())
    if row_by_row and {"width", "num_classes"} & set(knobs):
        with pytest.raises(SpecError, match=r"row '(C3|output)' has (codes|a connection table)"):
            cnnzoo.create(name, **knobs)
        return
    model = cnnzoo.create(name, **knobs).eval()
    scores = model(torch.zeros(1, *model.spec.input))
    assert scores.shape == (1, model.spec.num_classes) and scores.isfinite().all()


@pytest.mark.parametrize("name", NAMES)
def test_every_parameter_gets_a_gradient_and_the_loss_falls(name: str) -> None:
    model = cnnzoo.create(name, seed=0, width=0.25 if cnnzoo.count(name).params.total > 10**6 else 1.0)
    model.eval()  # the same loss for the same weights
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(4, *model.spec.input, generator=generator), torch.arange(4) % model.spec.num_classes
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    losses = []
    for _ in range(6):
        loss = torch.nn.functional.cross_entropy(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]


@pytest.mark.parametrize("name", NAMES)
def test_tracing_and_export(name: str) -> None:
    model = cnnzoo.create(name).eval()
    x = torch.randn(1, *model.spec.input)
    with torch.no_grad():
        expected = model(x)
        assert torch.equal(torch.fx.symbolic_trace(model)(x), expected)
        exported = torch.export.export(model, (x,))
        torch.testing.assert_close(exported.module()(x), expected)


@pytest.mark.parametrize("name", NAMES)
def test_compiles(name: str) -> None:
    model = cnnzoo.create(name).eval()
    x = torch.randn(1, *model.spec.input)
    with torch.no_grad():
        torch.testing.assert_close(torch.compile(model, backend="eager", fullgraph=True)(x), model(x))


@pytest.mark.parametrize("name", NAMES)
def test_published_figures(name: str) -> None:
    """Every contradiction is explained; verdicts themselves are in the golden files."""
    assert verify(name).unexplained == []
