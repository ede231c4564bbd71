"""Tables of counts and of everything else that is printed: depth, folding, columns, and every width."""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence

import pytest
import torch
from torch import nn

import cnnzoo
from cnnzoo.errors import InputError, UnknownNameError
from cnnzoo.measure import CountReport
from cnnzoo.measure.layer_table import COLUMNS, MAX_FLAT_ROWS, MAX_ROWS
from cnnzoo.measure.tables import Table
from cnnzoo.measure.text_layout import text_width
from cnnzoo.train import Evaluation

WIDTHS = (60, 80, 100, 160)


class Stages(nn.Module):
    """Numbered blocks, of which some are equal; one module is called twice."""

    def __init__(self, *widths: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, widths[0], 1)
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.Conv2d(a, b, 3, padding=1, groups=2), nn.ReLU()) for a, b in itertools.pairwise(widths)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.first(x)
        for block in self.blocks:
            x = block(x)
        return self.blocks[-1](x) + x


def count(*widths: int) -> CountReport:
    return cnnzoo.count(Stages(*widths), (1, 3, 9, 9))


def column(table: Table, name: str) -> list[object]:
    return [row[table.headers.index(name)] for row in table.rows]


# --- depth and folding ---


def test_equal_blocks_share_a_row() -> None:
    table = count(4, 4, 4, 4, 8, 8).table("auto")
    # the last block is called twice, so that it does not equal the one before
    assert column(table, "layer") == [
        "first", "blocks.0-2", "blocks.3.0", "blocks.3.1", "blocks.4.0", "blocks.4.1", "blocks.4.0", "blocks.4.1", ""
    ]  # fmt: skip
    assert column(table, "kind")[1] == "3 x Sequential"
    assert column(table, "parameters")[1] == 3 * (4 * 2 * 9 + 4)
    assert table.total is not None and table.total[table.headers.index("MACs")] == sum(column(table, "MACs"))
    assert "3 x: equal blocks that follow each other share a row, with their sums" in table.notes[0]
    assert "9 rows for 14 layers; all of them: table(fold=False), in the shell --all" in table.notes[1]
    assert column(count(4, 4, 4).table(fold=False), "layer")[:3] == ["first", "blocks.0.0", "blocks.0.1"]


def test_single_layers_and_blocks_of_papers_are_not_folded() -> None:
    equal = nn.Sequential(*(nn.Linear(3, 3) for _ in range(4)))
    assert len(cnnzoo.count(equal, (1, 3)).table().rows) == 4
    assert column(cnnzoo.count("vgg16").table(1), "block")[7:9] == ["conv3_2", "conv3_3"]


@pytest.mark.parametrize("name", ["resnet152", "densenet201", "googlenet", "vgg19_bn", "alexnet", "lenet5_1998"])
def test_networks_fit_a_screen(name: str) -> None:
    report = cnnzoo.count(name)
    assert len(str(report).splitlines()) <= MAX_ROWS + 15
    for depth, fold in itertools.product((1, 2, 3, None, "auto"), (True, False)):
        table = report.table(depth, fold)
        assert sum(column(table, "MACs")) == report.macs and sum(column(table, "parameters")) == report.params.total
        assert table.total is not None and report.macs in table.total and report.params.total in table.total
    assert len(report.table(fold=False).rows) == len(report.layers)
    assert len(report.table(1).rows) <= len(report.table(2).rows) <= len(report.table().rows)


def test_names_of_folded_blocks() -> None:
    assert {"layer2.1-7", "layer3.1-35"} <= set(column(cnnzoo.count("resnet152").table(2), "block"))


def test_a_flat_network_is_printed_whole() -> None:
    flat = nn.Sequential(nn.Sequential(*(layer for _ in range(30) for layer in (nn.Linear(3, 3), nn.ReLU()))))
    assert len(cnnzoo.count(flat, (1, 3)).table("auto").rows) == 60 <= MAX_FLAT_ROWS


def test_html_has_all_layers_to_unfold() -> None:
    report = cnnzoo.count("resnet50")
    html = report.to_html()
    assert f"<details><summary>all {len(report.layers)} layers</summary>" in html and html.count("<table>") == 2
    assert cnnzoo.count("lenet").to_html().count("<table>") == 1


# --- columns ---


def test_columns() -> None:
    model = Stages(4, 4).half()
    model.first.requires_grad_(False)
    report = cnnzoo.count(model, (1, 3, 9, 9))
    columns = ["layer", "Input", "kernel", "stride", "groups", "trainable", "bytes", "macs_%", "parameters %"]
    table = report.table(columns=columns)
    assert table.headers[1:] == ["input", "kernel", "stride", "groups", "trainable", "bytes", "MACs %", "parameters %"]
    assert list(table.rows[0]) == ["first", (1, 3, 9, 9), (1, 1), 1, 1, 0, "32B", "7.7", "17.4"]
    assert list(table.rows[1]) == ["blocks.0.0", (1, 4, 9, 9), (3, 3), 1, 2, 76, "152B", "46.2", "82.6"]
    assert table.total == ["total", "", "", "", "", 76, "184B", "100.0", "100.0"]
    assert "92 (184B in float16), trainable 76" in " ".join(table.notes)
    assert sorted(report.table(columns="all").headers) == sorted(set(COLUMNS) - {"block"})


def test_sort() -> None:
    table = cnnzoo.count("alexnet").table(1, sort="parameters")
    assert column(table, "block")[:3] == ["fc6", "fc7", "conv4"]
    assert column(cnnzoo.count("lenet").table(sort="kind"), "kind")[0] == "AvgPool2d"
    assert column(cnnzoo.count("lenet").table(1, sort="output", columns=["block"]), "block")[0] == "conv1"


def test_what_tables_refuse() -> None:
    report = cnnzoo.count("lenet")
    with pytest.raises(UnknownNameError, match="unknown column 'param'. Did you mean 'parameters'"):
        report.table(columns=["param"])
    with pytest.raises(UnknownNameError, match="unknown column 'size'"):
        report.table(sort="size")
    for columns in ("layer", [], 3):
        with pytest.raises(InputError, match="columns must be a list of names, such as .'layer', 'output', 'MACs'."):
            report.table(columns=columns)  # type: ignore[arg-type]
    for depth in (0, True, "1"):
        with pytest.raises(InputError, match="depth must be a number from 1 on, None for all layers, or 'auto', not"):
            report.table(depth)  # type: ignore[arg-type]


# --- every report at every width ---


def long_names() -> CountReport:
    """Returns the count of a network with long names, and names in wide characters."""
    net = nn.Sequential()
    net.add_module("畳み込み層の名前がとても長い場合の例", nn.Conv2d(3, 8, 3))
    net.add_module("a_name_without_any_place_to_break_it_" + "x" * 60, nn.ReLU())
    net.add_module("é" * 30, nn.Flatten())
    return cnnzoo.count(nn.Sequential(net, nn.Linear(8 * 36, 10**5)), (1, 3, 8, 8), name="網" * 30)


def tables_of(kind: str) -> Sequence[Table]:
    if kind == "counts":
        reports = [cnnzoo.count(name) for name in ("alexnet", "resnet50", "densenet121")]
        return [cnnzoo.count("resnet50").table(), *(report.table("auto") for report in [*reports, long_names()])]
    if kind == "columns":
        report = cnnzoo.count("resnet18")
        return [report.table(columns="all"), report.table(2, columns=["block", "output", "trainable", "neurons"])]
    if kind == "comparisons":
        many = cnnzoo.compare("alexnet", "lenet(activation=relu,pooling=max)", "vgg16", "resnet152", long_names())
        result = {"recipe": "quick/saturating", "epochs": 5, "test_acc": 0.8123, "examples_per_sec": 12345678.9}
        trained = cnnzoo.Comparison(many.reports, 1, many.notes, [result] * 5, "fashion_mnist_sample")
        return [*cnnzoo.compare("alexnet", "lenet").tables(), *trained.tables()]
    if kind == "audits":
        return cnnzoo.verify().tables()
    if kind == "timeline":
        return cnnzoo.timeline().tables()
    if kind == "differences":
        return cnnzoo.diff("alexnet", "alexnet_2012").tables()
    confusion = torch.full((10, 10), 123_456).long()
    names = [f"a class with a long name {i}" for i in range(10)]
    return Evaluation(0.5, 0.9, 1.25, confusion, int(confusion.sum()), label_names=names).tables()


@pytest.mark.parametrize(
    "kind", ["counts", "columns", "comparisons", "audits", "timeline", "differences", "evaluations"]
)
def test_nothing_is_cut_off(kind: str) -> None:
    """At every width: each value of each column that is shown is in the text, whole if it is a number."""
    for table, width in itertools.product(tables_of(kind), WIDTHS):
        text = table.text(width)
        note = re.search(rf"left out, to fit {width} columns: (.*)", " ".join(text.split()), re.DOTALL)
        left_out = note[1].split("; ") if note else []
        assert set(left_out) <= set(table.headers)
        for i, header in enumerate(table.headers):
            words = re.split(r" |(?<=,)|(?=\()", header)
            assert header in left_out or all(word in text for word in words), (width, header)
            for row in [*table.rows, *([table.total] if table.total else [])] if header not in left_out else []:
                value = row[i]
                if isinstance(value, int):
                    assert re.search(rf"(?<![\d,.]){value:,}(?![\d,])", text), (width, header, value)
                elif isinstance(value, tuple):
                    assert "x".join(map(str, value)) in text
                elif isinstance(value, str) and re.fullmatch(r"[\d.,]+x?", value):
                    assert value in text
        for line in text.splitlines():  # only a name or a number that has no smaller form may stick out
            assert text_width(line) <= width or width < 80 or "  " not in line.strip(), (kind, width, line)


def test_wide_characters_are_aligned() -> None:
    lines = cnnzoo.count(nn.Sequential(nn.Linear(3, 3)), (1, 3), name="x").table().text(80).splitlines()
    net = nn.Sequential()
    net.add_module("網", nn.Linear(3, 3))
    wide = cnnzoo.count(net, (1, 3), name="x").table().text(80).splitlines()
    assert [text_width(a) for a in lines[:6]] == [text_width(b) for b in wide[:6]]
