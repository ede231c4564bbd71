"""Published figures: agreement with exact values, and verification."""

from __future__ import annotations

import json

import pytest

import cnnzoo
from cnnzoo.published import D2L_SLIDE, Published
from cnnzoo.registry import get_entry


@pytest.mark.parametrize(
    ("printed", "exact", "agrees"),
    [
        ("46M", 46_764_746, True),  # truncated
        ("47M", 46_764_746, True),  # rounded
        ("46.8M", 46_764_746, True),
        ("46.8M", 46_850_000, True),  # truncated to one decimal
        ("46.9M", 46_764_746, False),
        ("0.6M", 61_706, False),
        ("0.06M", 61_706, True),
        ("35K", 34_944, True),
        ("150", 150, True),
        ("150", 151, False),
        ("1G", 1_005_849_728, True),
        ("60,000", 60_000, True),
        ("60,000", 60_001, False),
        ("138 M", 138_357_544, True),
        ("1.5B", 1_498_000_000, True),
        ("60 million", 60_965_224, True),
        ("81 MFLOPs", 85_983_232, False),
        ("1GB", 171_999_232, False),
        ("11x", 757.6, False),
        ("757x", 757.6, True),
        ("63 px", 63, True),
    ],
)
def test_agreement_to_the_printed_digits(printed: str, exact: int, agrees: bool) -> None:
    assert Published("x", printed, "s").agrees(exact) is agrees


def test_significant_digits() -> None:
    assert not Published("neurons", "650,000", "s").agrees(659_272)
    assert Published("neurons", "650,000", "s", digits=2).agrees(659_272)
    assert not Published("neurons", "650,000", "s", digits=2).agrees(661_000)


def test_an_invalid_figure() -> None:
    with pytest.raises(ValueError, match="'many' is not a figure such as '46M'"):
        Published("x", "many", "s").agrees(3)


def test_the_slide_cell_by_cell() -> None:
    on_slide = {name for name in cnnzoo.list_models() if any(p.source == D2L_SLIDE for p in get_entry(name).published)}
    assert on_slide == {"alexnet", "lenet"}
    findings = [f for name in on_slide for f in cnnzoo.verify(name).findings if f.published.source == D2L_SLIDE]
    verdicts = {(f.model, f.published.what): f.verdict for f in findings}
    assert len(verdicts) == len(findings) == 12 + 10 + 2
    alexnet = [v for (model, _), v in verdicts.items() if model == "alexnet"]
    assert alexnet.count("agrees") == 12 and len(alexnet) == 14
    assert verdicts["alexnet", "increase of parameters"] == verdicts["alexnet", "increase of FLOP"] == "contradicts"
    assert verdicts["lenet", "Conv1 parameters"] == verdicts["lenet", "Conv2 parameters"] == "agrees"
    contradicted = [what for (model, what), v in verdicts.items() if model == "lenet" and v == "contradicts"]
    assert contradicted == [
        "Dense1 parameters", "Dense2 parameters", "parameters", "Conv1 FLOP", "Conv2 FLOP", "Dense1 FLOP",
        "Dense2 FLOP", "FLOP",
    ]  # fmt: skip


def test_figures_that_cannot_be_recomputed() -> None:
    def accnet() -> cnnzoo.Spec:
        return cnnzoo.get_spec("lenet")

    cnnzoo.register(published=[Published("ImageNet top-1 error", "40.7", "a paper")])(accnet)
    audit = cnnzoo.verify("accnet")
    assert [f.verdict for f in audit.findings] == ["not recomputable"]
    assert json.loads(audit.to_json())["published"][0]["exact"] is None
    assert "not recomputable" in str(audit) and "40.7" in audit.to_markdown()
