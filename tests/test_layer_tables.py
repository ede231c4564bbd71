"""Tables of the layers of a count: depth, folding, columns."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import nn

import cnnzoo
from cnnzoo.errors import InputError, UnknownNameError
from cnnzoo.measure import CountReport
from cnnzoo.measure.layer_table import COLUMNS, MAX_FLAT_ROWS, MAX_ROWS
from cnnzoo.measure.tables import Table
from cnnzoo.measure.text_layout import text_width


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


def test_wide_characters_are_aligned() -> None:
    lines = cnnzoo.count(nn.Sequential(nn.Linear(3, 3)), (1, 3), name="x").table().text(80).splitlines()
    net = nn.Sequential()
    net.add_module("網", nn.Linear(3, 3))
    wide = cnnzoo.count(net, (1, 3), name="x").table().text(80).splitlines()
    assert [text_width(a) for a in lines[:6]] == [text_width(b) for b in wide[:6]]
