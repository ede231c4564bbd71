"""The counter against hand-derived values; reports and comparisons."""

from __future__ import annotations

import csv
import io
import json

import pytest
import torch
from torch import nn

import cnnzoo
from cnnzoo.errors import InputError
from cnnzoo.measure import Comparison
from cnnzoo.measure.tables import Table

# Hand-derived from the layer formula, batch 1: parameters, MACs, bias adds, (forward + backward) / forward
REFEREES = {
    "lenet": (61_706, 416_520, 6_518, 2.718),
    "alexnet": (46_764_746, 938_146_176, 608_650, 2.964),
}


@pytest.mark.parametrize("name", REFEREES)
def test_referees(name: str) -> None:
    report = cnnzoo.count(name)
    params, macs, bias_adds, ratio = REFEREES[name]
    assert (report.params.total, report.macs, report.bias_adds) == (params, macs, bias_adds)
    assert report.flops == 2 * macs
    assert round(report.train_macs / report.macs, 3) == ratio


@pytest.mark.parametrize(
    ("name", "params", "macs", "bias_adds", "ratio"),
    [("alexnet", 61_100_840, 714_188_480, 494_184, 2.902), ("resnet18", 11_689_512, 1_814_073_344, 1_000, 2.935)],
)
def test_referees_of_torchvision(name: str, params: int, macs: int, bias_adds: int, ratio: float) -> None:
    import torchvision

    with torch.device("meta"):
        model = getattr(torchvision.models, name)()
    report = cnnzoo.count(model, (1, 3, 224, 224))
    assert (report.params.total, report.macs, report.bias_adds) == (params, macs, bias_adds)
    assert round(report.train_macs / report.macs, 3) == ratio
    assert report.unknown_ops == ()


def test_three_channels_and_a_thousand_classes() -> None:
    report = cnnzoo.count("alexnet", in_channels=3, num_classes=1000)
    assert (report.params.total, report.macs) == (50_844_008, 1_009_945_728)


def test_batches_scale() -> None:
    one, eight = cnnzoo.count("lenet"), cnnzoo.count("lenet", (8, 1, 28, 28))
    assert eight.macs == 8 * one.macs and eight.params == one.params
    assert eight.layers[0].out_shape == (8, 6, 28, 28)


def test_nothing_is_allocated() -> None:
    model = nn.Linear(10**6, 10**6, bias=False, device="meta")
    assert cnnzoo.count(model, (2, 10**6)).macs == 2 * 10**12


def test_several_inputs() -> None:
    class Two(nn.Module):
        def forward(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
            return a @ b

    report = cnnzoo.count(Two(), inputs=(torch.zeros(3, 4), torch.zeros(4, 5)))
    assert report.macs == 60 and report.input_size == ((3, 4), (4, 5))
    assert "3x4, 4x5" in str(report)


def test_operators_without_a_rule_are_listed() -> None:
    class Inverse(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.linalg.inv(x)

    report = cnnzoo.count(Inverse(), (3, 3))
    assert [op.name for op in report.unknown_ops] == ["aten._linalg_check_errors", "aten.linalg_inv_ex"]
    assert "there is no rule for them: aten._linalg_check_errors (1x in the model itself)" in " ".join(
        str(report).split()
    )


def test_bad_input() -> None:
    for arguments, text in (
        ({}, r"count\(Linear\) needs either input_size=\(N, C, H, W\) or inputs="),
        ({"input_size": 3}, "input_size must be a tuple such as"),
        ({"input_size": (0, 2)}, "input_size must be a tuple such as"),
    ):
        with pytest.raises(InputError, match=text):
            cnnzoo.count(nn.Linear(2, 2), **arguments)
    with pytest.raises(InputError, match="width: knobs are for a name or a Spec"):
        cnnzoo.count(nn.Linear(2, 2), (1, 2), width=2)
    with pytest.raises(InputError, match="lenet expects images with 1 channel"):
        cnnzoo.count("lenet", (1, 3, 28, 28))


# --- reports ---


def test_report_in_every_format() -> None:
    report = cnnzoo.count("lenet")
    text = str(report)
    assert max(map(len, text.splitlines())) <= 100
    assert "61,706" in text and "416,520" in text and "\x1b" not in text
    assert "| conv1 | features.0 | Conv2d | 1x6x28x28 | 156 | 117,600 |" in report.to_markdown()
    rows = list(csv.DictReader(io.StringIO(report.to_csv())))
    assert sum(int(row["macs"]) for row in rows) == 416_520 and rows[0]["label"] == "conv1"
    data = json.loads(report.to_json())
    assert data["macs"] == 416_520 and data["layers"][0]["out_shape"] == [1, 6, 28, 28]
    assert "<td" in report.to_html() and report.to_html() in report._repr_html_()


def test_labels_reach_into_branches(tiny_spec: cnnzoo.Spec) -> None:
    by_label = cnnzoo.count(tiny_spec).by("label")
    assert by_label["conv1"]["macs"] == 8 * 8 * 9 * 4 and by_label["block2/conv1"]["macs"] == 8 * 8 * 9 * 16


# --- comparisons ---


def test_compare_checks_the_claims_of_the_slide() -> None:
    comparison = cnnzoo.compare("alexnet", "lenet")
    text = " ".join(str(comparison).split())
    assert "46,764,746 61,706 758x" in text
    assert "938,146,176 416,520 2,252x" in text
    assert "parameters: 46M against 0.6M." in text
    assert "46M holds for alexnet: exactly 46,747,008 (3 channels, without the output layer)." in text
    assert "0.6M does not hold for lenet: it is 61,706. The figure is ten times too large" in text
    assert "FLOP: 1G against 4M." in text
    assert "1G holds for alexnet" in text and "4M does not hold for lenet: it is 416,520." in text
    assert round(comparison.ratios(lambda report: report.params.total)[0], 1) == 757.9


def test_claims_follow_from_the_records_not_from_the_names() -> None:
    reversed_ = cnnzoo.compare("lenet", "alexnet")
    assert "parameters: 0.6M against 46M." in str(reversed_)
    assert "slide" not in str(cnnzoo.compare("lenet", cnnzoo.edit(cnnzoo.get_spec("lenet"), "pool*", kernel_size=3)))
    assert "slide" not in str(cnnzoo.compare("lenet", cnnzoo.count(nn.Linear(2, 2), (1, 2))))


def test_claims_are_of_the_registered_network_alone() -> None:
    edited = cnnzoo.edit(cnnzoo.get_spec("alexnet"), "fc6", out_features=10)
    assert cnnzoo.compare(edited, "lenet").notes == ()
    assert cnnzoo.compare(cnnzoo.create("lenet", width=2.0), "alexnet").notes == ()
    assert cnnzoo.compare(cnnzoo.get_spec("alexnet"), cnnzoo.create("lenet")).notes


def test_compare_formats_and_baseline() -> None:
    comparison = cnnzoo.compare("lenet", "alexnet", cnnzoo.count(nn.Linear(2, 2), (1, 2)), baseline=0)
    assert comparison.table().headers[:4] == ("network", "input", "parameters", "parameters / lenet")
    assert [row[0] for row in comparison.table().rows] == ["lenet", "alexnet", "Linear"]  # from three on, one per line
    data = json.loads(comparison.to_json())
    assert data["baseline"] == "lenet" and len(data["reports"]) == 3
    assert "| alexnet | 1x1x224x224 | 46,764,746 | 758x | 938,146,176 | 2,252x |" in comparison.to_markdown()
    assert "alexnet" in comparison.to_csv() and "<table>" in comparison.to_html()


def test_notes_are_lists_in_markdown() -> None:
    lines = cnnzoo.compare("alexnet", "lenet").to_markdown().splitlines()
    first = lines.index("- parameters: 46M against 0.6M.")
    assert lines[first + 2].startswith("    - 46M holds for alexnet")  # a nested item
    assert not any(line.startswith("  ") and not line.lstrip().startswith("- ") for line in lines)


def test_latex() -> None:
    text = cnnzoo.compare("alexnet", "lenet").to_latex()
    assert "\\begin{tabular}{lrrr}\n\\toprule\n & alexnet & lenet & alexnet / lenet \\\\\n\\midrule\n" in text
    assert "parameters & 46,764,746 & 61,706 & 758x \\\\\n" in text and text.index("% ") < text.index("\\begin")
    table = Table("a\nb", ("x_1 & y", "n"), [("50 % of #{~^\\", 1)], total=("sum", 1), notes=("a note",))
    assert table.latex() == (
        "% a\\nb\n\\begin{tabular}{lr}\n\\toprule\nx\\_1 \\& y & n \\\\\n\\midrule\n"
        "50 \\% of \\#\\{\\textasciitilde{}\\textasciicircum{}\\textbackslash{} & 1 \\\\\n\\midrule\nsum & 1 \\\\\n"
        "\\bottomrule\n\\end{tabular}\n% a note\n"
    )


def test_a_baseline_of_nothing() -> None:
    comparison = cnnzoo.compare("lenet", cnnzoo.count(nn.Identity(), (1, 2)))
    assert json.loads(comparison.to_json())["ratios"]["MACs"] == [None, None]
    assert " -\n" in str(comparison)


def test_a_compiled_network_counts() -> None:
    assert cnnzoo.count(torch.compile(cnnzoo.create("lenet"))) == cnnzoo.count("lenet")


def test_compare_refuses() -> None:
    with pytest.raises(InputError, match="at least two networks, not 1"):
        cnnzoo.compare("lenet")
    with pytest.raises(InputError, match="baseline must be an index of one of 2 networks, not 5"):
        cnnzoo.compare("lenet", "alexnet", baseline=5)
    with pytest.raises(InputError, match="out= is for training; give a data set in train="):
        cnnzoo.compare("lenet", "alexnet", out="runs")


def test_a_comparison_shows_results_of_training() -> None:
    reports = [cnnzoo.count("lenet"), cnnzoo.count("lenet", width=2.0)]
    result = {"loss": 0.5, "test_acc": 0.81234, "examples_per_sec": 1234.56, "epochs": 3, "history": []}
    text = str(Comparison(reports, results=[result, {}], trained_on="a set"))
    assert "trained on a set" in text and "0.812" in text and "1,234.6" in text
