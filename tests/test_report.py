"""The page of runs: every number is the run's, nothing is taken for HTML, and what is missing is left out."""

from __future__ import annotations

import dataclasses
import html
import json
import math
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import torch
from browser import dom_of, needs_browser
from click.testing import CliRunner
from torch import nn

import cnnzoo
from cnnzoo.blocks import Conv, Flatten, Logits
from cnnzoo.cli import main
from cnnzoo.data import ImageData
from cnnzoo.errors import FileError, InputError
from cnnzoo.measure import charts
from cnnzoo.serialization import load_tensors, weights_sha256

CONFIG = cnnzoo.TrainConfig(epochs=3, batch_size=20, lr=0.05, momentum=0.9, views="ten_crop")


class Page(HTMLParser):
    """What a page says: its text, its tables by caption (rows of cells), its tags with their attributes."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.text, self.tags = "", []
        self.tables: dict[str, list[list[str]]] = {}
        self._rows: list[list[str]] = []
        self._caption = ""
        self._open: list[str] = []
        self.feed(text)
        assert self._open == [], "every element is closed"

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attributes)))
        if tag not in ("meta", "img"):
            self._open.append(tag)
        if tag == "table":
            self._rows, self._caption = [], ""
        if tag == "tr":
            self._rows.append([])
        if tag in ("td", "th"):
            self._rows[-1].append("")

    def handle_startendtag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attributes)))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag, "elements are closed in order"
        if tag == "table":
            assert len({len(row) for row in self._rows}) == 1, "rows are as long as their header"
            self.tables[self._caption] = self._rows

    def handle_data(self, data: str) -> None:
        if "style" in self._open:
            return
        self.text += data
        if self._open and self._open[-1] == "caption":
            self._caption += data
        if "td" in self._open or "th" in self._open:
            self._rows[-1][-1] += data

    def column(self, caption: str, which: int = 1) -> dict[str, str]:
        """First cell -> another of each row."""
        return {row[0]: row[which] for row in self.tables[caption]}


def written(*runs: Path, out: Path) -> Page:
    return Page(cnnzoo.report(*runs, out=out, overwrite=True).read_text())


def train(model: nn.Module, data: ImageData, out: Path, **changes: Any) -> cnnzoo.Run:
    return cnnzoo.Trainer(model, data, CONFIG.replace(**changes), out=out, show=False).fit()


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What was trained once for all tests, and where it lies."""
    return {"folder": tmp_path_factory.mktemp("kept") / "run"}


@pytest.fixture
def run(kept: dict[str, Any], tmp_path: Path, tiny_spec: cnnzoo.Spec, tiny_data: ImageData) -> cnnzoo.Run:
    """A finished run, in a folder of its own for each test."""
    if "run" not in kept:
        kept["run"] = train(cnnzoo.create(tiny_spec, seed=0), tiny_data, kept["folder"])
    shutil.copytree(kept["folder"], tmp_path / "run")
    return dataclasses.replace(kept["run"], path=tmp_path / "run")


class Killed(Exception):
    pass


class Kill:
    def on_step(self, trainer) -> None:
        if trainer.step == 8:
            raise Killed


def killed(model: nn.Module, data: ImageData, out: Path) -> Path:
    """The folder of a run that was killed in its second epoch."""
    config = CONFIG.replace(checkpoint_every=2)
    with pytest.raises(Killed):
        cnnzoo.Trainer(model, data, config, out=out, callbacks=[Kill()], show=False).fit()
    return out


# --- one run ---


def test_every_number_is_the_runs(run: cnnzoo.Run, tiny_spec: cnnzoo.Spec, tiny_data: ImageData) -> None:
    page = Page(cnnzoo.report(run.path).read_text())
    told = json.loads((run.path / "metrics.json").read_text())
    test = told["evaluations"]["test"]
    report = cnnzoo.count(tiny_spec)
    assert page.column("At the end") == {
        "": "run",
        "test accuracy": f"{run.metrics['test_acc']:.4f}",
        "test accuracy, ten crops": f"{run.metrics['test_acc_ten_crop']:.4f}",
        "training accuracy": f"{run.metrics['train_acc']:.4f}",
        "training loss": f"{run.metrics['loss']:.4f}",
        "examples/sec, training step": f"{run.metrics['examples_per_sec']:,.1f}",
        "examples/sec, wall clock": f"{run.metrics['wall_examples_per_sec']:,.1f}",
        "share of that spent waiting for data": f"{run.metrics['data_share']:.2%}",
        "device": "cpu",
        "precision": run.metrics["precision"],
        "processes": "1",
        "test top-5": f"{test['top5']:.4f}",
        "test loss": f"{test['loss']:.4f}",
        "test images": "30",
        "test ten top-5": f"{told['evaluations']['test_ten_crop']['top5']:.4f}",
        "test ten loss": f"{told['evaluations']['test_ten_crop']['loss']:.4f}",
        "test ten images": "30",
        "epochs": "3",
        "state": "finished",
        "parameters": f"{report.params.total:,}",
        "multiply-adds (MACs)": f"{report.macs:,}",
    }
    keys, *rows = page.tables["run"]
    assert keys == [key.replace("_", " ") for key in run.history[-1]]
    assert [[float(cell) for cell in row if cell] for row in rows] == [
        [float(f"{value:.6g}") for value in entry.values()] for entry in run.history
    ]
    (caption,) = (caption for caption in page.tables if caption.startswith("Test images"))
    head, *confusion = page.tables[caption]
    assert head == ["", *tiny_data.classes, "right"] and [row[0] for row in confusion] == list(tiny_data.classes)
    assert [[int(cell or 0) for cell in row[1:-1]] for row in confusion] == test["confusion"]
    layers = page.tables["tiny at 1x1x8x8"]
    assert [row[4] for row in layers[1:-1]] == [f"{row.params:,}" for row in report.layers]
    assert layers[-1][4:6] == [f"{report.params.total:,}", f"{report.macs:,}"]
    settings = page.column("Other than the default")
    assert settings == {"": "here", "epochs": "3", "batch_size": "20", "lr": "0.05", "momentum": "0.9", "views": "ten"}
    began = json.loads((run.path / "train.json").read_text())["began"]
    assert began["command"] in page.text
    assert page.column("Machine and versions")["torch"] == torch.__version__
    assert page.tables["Data"][1] == ["tiny", tiny_data.sha256]
    assert page.tables["Weights"][1] == [
        "run",
        weights_sha256(load_tensors(run.path / "model.safetensors")),
        "computed now",
    ]
    (picture,) = (attributes for tag, attributes in page.tags if tag == "img")
    assert picture["alt"] == "4 filters of 3x3 px, features.0"
    charts_ = [attributes["aria-label"] for tag, attributes in page.tags if tag == "svg"]
    assert [label.partition(" by")[0] for label in charts_] == [
        "Accuracy", "Training loss", "Examples per second", "Learning rate at the end of each epoch",
    ]  # fmt: skip
    assert f"run training from {run.history[0]['loss']:.4g} to {run.history[-1]['loss']:.4g}" in charts_[1]


def test_the_most_confused_are_named(run: cnnzoo.Run) -> None:
    told = json.loads((run.path / "metrics.json").read_text())
    told["evaluations"]["test"]["confusion"] = [[7, 3, 0], [1, 9, 0], [0, 0, 10]]
    (run.path / "metrics.json").write_text(json.dumps(told))
    page = Page(cnnzoo.report(run.path).read_text())
    assert page.tables["Most often confused"][1:] == [
        ["left", "middle", "3", "30.0%"],
        ["middle", "left", "1", "10.0%"],
    ]


def test_a_table_of_too_many_classes_is_not_shown(run: cnnzoo.Run) -> None:
    told = json.loads((run.path / "metrics.json").read_text())
    table = torch.eye(41, dtype=torch.int64) * 8
    table[40, 39] = 2
    told["evaluations"]["test"]["confusion"] = table.tolist()
    (run.path / "metrics.json").write_text(json.dumps(told))
    page = Page(cnnzoo.report(run.path).read_text())
    assert "41 classes are too many" in page.text and not any(c.startswith("Test images") for c in page.tables)
    assert page.tables["Most often confused"][1:] == [["40", "39", "2", "20.0%"]]  # numbers, as 41 names are not known


def test_nothing_is_taken_for_html(tmp_path: Path, tiny_spec: cnnzoo.Spec, tiny_data: ImageData) -> None:
    hostile = "<b onclick='x()'>&amp;\"</td>"
    data = dataclasses.replace(tiny_data, name="<script>alert(1)</script>", classes=("<b>", hostile, "<!--"))
    spec = dataclasses.replace(tiny_spec, name="<i>net")
    folder = tmp_path / "<img src=x>"
    run = train(cnnzoo.create(spec, seed=0), data, folder)
    for file, key, value in (("train.json", "began", {"command": hostile, "machine": {hostile: hostile}}),):
        told = json.loads((folder / file).read_text())
        (folder / file).write_text(json.dumps({**told, key: value}))
    page = Page(cnnzoo.report(run.path).read_text())
    assert "b" not in {tag for tag, attributes in page.tags if "onclick" in attributes}
    assert {"script", "i"}.isdisjoint(tag for tag, _ in page.tags)
    assert [attributes["src"][:10] for tag, attributes in page.tags if tag == "img"] == ["data:image"]
    assert page.text.count(hostile) >= 3 and "<script>alert(1)<" in page.text and "<img src=x>" in page.text
    (caption,) = (caption for caption in page.tables if caption.startswith("Test images"))
    assert page.tables[caption][0] == ["", "<b>", hostile, "<!--", "right"]


# --- several runs ---


def test_seeds_are_told_together(tmp_path: Path, tiny_spec: cnnzoo.Spec, tiny_data: ImageData) -> None:
    found = cnnzoo.seed_sweep(tiny_spec, tiny_data, CONFIG, seeds=2, out=tmp_path / "seeds", show=False)
    other = train(cnnzoo.create(tiny_spec, seed=0), tiny_data, tmp_path / "slow", lr=0.01)
    page = written(tmp_path / "seeds", other.path, out=tmp_path / "page.html")
    assert page.tables["At the end"][0] == ["", "seeds, mean", "seed-0", "seed-1", "slow"]
    for key, what in (("test_acc", "test accuracy"), ("loss", "training loss")):
        half = found.interval(key)[1] - found.mean(key)
        expected = [f"{found.mean(key):.4f} +-{half:.4f}", *(f"{run.metrics[key]:.4f}" for run in (*found.runs, other))]
        assert next(row for row in page.tables["At the end"] if row[0] == what)[1:] == expected
    assert page.tables["What differs between the runs"][1:] == [
        ["lr", "0.05", "0.01", "0.01", cnnzoo.TrainConfig.describe("lr")],
        ["seed", "0, 1", "0", "0", cnnzoo.TrainConfig.describe("seed")],
    ]
    assert set(page.column("Other than the default")) == {"", "epochs", "batch_size", "momentum", "crops"}
    (summed,) = (caption for caption in page.tables if "summed over 2 seeds" in caption)
    tables = [
        json.loads((run.path / "metrics.json").read_text())["evaluations"]["test"]["confusion"] for run in found.runs
    ]
    cells = [[int(cell or 0) for cell in row[1:-1]] for row in page.tables[summed][1:]]
    assert cells == torch.tensor(tables).sum(0).tolist()
    assert [caption for caption in page.tables if caption.startswith("tiny at")] == ["tiny at 1x1x8x8"]  # counted once


def test_what_compare_leaves(tmp_path: Path, tiny_spec: cnnzoo.Spec, tiny_data: ImageData) -> None:
    relu = cnnzoo.edit(tiny_spec, cnnzoo.blocks.Conv, activation="tanh")
    cnnzoo.compare(tiny_spec, relu, train=tiny_data, settings={"epochs": 1}, out=tmp_path)
    page = Page(cnnzoo.report(tmp_path).read_text())
    assert (tmp_path / "report.html").exists()
    assert page.tables["At the end"][0] == ["", "tiny", "tiny-2"]
    assert "tiny-2 against tiny" in page.tables or "tiny against tiny-2" in page.tables  # side by side
    (differs,) = (rows for caption, rows in page.tables.items() if caption == "from tiny to tiny")
    assert any("tanh" in cell for row in differs for cell in row)
    again = written(tmp_path, tmp_path / "tiny", out=tmp_path / "twice.html")  # a run is told once
    assert again.tables["At the end"][0] == ["", "tiny", "tiny-2"]


def test_only_seeds_are_told_together(tmp_path: Path, run: cnnzoo.Run) -> None:
    told = json.loads((run.path / "train.json").read_text())
    other = shutil.copytree(run.path, tmp_path / "other")

    def together(one: dict[str, Any], two: dict[str, Any]) -> bool:
        for folder, seed, changes in ((run.path, 0, one), (other, 1, two)):
            changed = {**told, "config": {**told["config"], "seed": seed}, **changes}
            (folder / "train.json").write_text(json.dumps(changed))
        page = written(run.path, other, out=tmp_path / "page.html")
        return [head for head in page.tables["At the end"][0] if head.endswith(", mean")] != []

    assert together({}, {})
    assert not together({}, {"from": {"kind": "trained"}})  # it began with other weights
    assert not together({}, {"config": told["config"]})  # the same seed again
    streams = [{"data": {**told["data"], "sha256": "", "name": name}} for name in ("a", "b")]
    assert together(streams[0], streams[0]) and not together(*streams)  # without a checksum the name tells


def test_a_seed_that_is_not_finished(tmp_path: Path, run: cnnzoo.Run) -> None:
    """It is told with the others, also before it has weights, and the finished one gives the accuracy."""
    begun = tmp_path / "begun"
    begun.mkdir()
    shutil.copy(run.path / "config.json", begun)
    told = json.loads((run.path / "train.json").read_text())
    (begun / "train.json").write_text(json.dumps({**told, "config": {**told["config"], "seed": 1}}))
    (begun / "history.jsonl").write_text('{"loss": 2.0, "test_acc": 0.0123}\n')
    text = cnnzoo.report(begun, run.path, out=tmp_path / "page.html").read_text()
    (card,) = re.findall("<li [^>]*><strong>.*?</li>", text)
    assert f"<b>{run.metrics['test_acc']:.4f}</b> test accuracy" in card and "2 seeds, not finished" in card


def test_batch_norm_of_one_place_is_counted(tmp_path: Path, tiny_data: ImageData) -> None:
    spec = cnnzoo.Spec("one", (1, 8, 8), (Conv(4, kernel_size=8, norm="batch"), Flatten()), (Logits(3),))
    done = train(cnnzoo.create(spec, seed=0), tiny_data, tmp_path / "run", epochs=1)
    page = Page(cnnzoo.report(done.path).read_text())
    assert page.column("At the end")["multiply-adds (MACs)"] == f"{4 * 8 * 8 + 4 * 3}"


# --- what is not whole ---


def plain_net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 5, 3), nn.BatchNorm2d(5), nn.ReLU(), nn.Flatten(), nn.Linear(180, 3))


def test_any_module(tmp_path: Path, tiny_data: ImageData) -> None:
    net = plain_net()
    run = train(net, tiny_data, tmp_path / "run")
    page = Page(cnnzoo.report(run.path).read_text())
    end = page.column("At the end")
    total = sum(tensor.numel() for tensor in net.state_dict().values())
    assert end["parameters"] == f"{total:,} with buffers" and "multiply-adds (MACs)" not in end
    assert page.column("Weights and buffers", 2)["total"] == f"{total:,}"
    (caption,) = (caption for caption in page.tables if caption.startswith("Test images"))
    assert page.tables[caption][0] == ["", "left", "middle", "right", "right"]
    assert [a["alt"] for tag, a in page.tags if tag == "img"] == ["5 filters of 3x3 px, 0"]
    assert "no network that its files can build again" in page.text


@pytest.mark.parametrize("zoo", [True, False])
def test_a_run_that_was_killed(tmp_path: Path, tiny_spec: cnnzoo.Spec, tiny_data: ImageData, zoo: bool) -> None:
    folder = killed(cnnzoo.create(tiny_spec, seed=0) if zoo else plain_net(), tiny_data, tmp_path / "run")
    page = Page(cnnzoo.report(folder).read_text())
    end = page.column("At the end")
    assert end["epochs"] == "1 of 3" and end["state"] == "not finished; a checkpoint is there"
    history = json.loads((folder / "history.jsonl").read_text())
    assert end["training loss"] == f"{history['loss']:.4f}" and end["test accuracy"] == f"{history['test_acc']:.4f}"
    assert [tag for tag, _ in page.tags].count("img") == 1  # from the checkpoint
    assert "Weights" not in page.tables and not any(caption.startswith("Test images") for caption in page.tables)


@pytest.mark.parametrize("file", ["config.json", "model.safetensors", "history.jsonl", "metrics.json"])
@pytest.mark.parametrize("how", ["gone", "empty", "garbled"])
def test_a_file_is_missing_or_broken(run: cnnzoo.Run, file: str, how: str) -> None:
    path = run.path / file
    if how == "gone":
        path.unlink()
    else:
        path.write_text("" if how == "empty" else '{"spec": [\x00')
    page = Page(cnnzoo.report(run.path).read_text())
    notes = [attributes for tag, attributes in page.tags if attributes.get("class") == "note"]
    assert bool(notes) == (how != "gone" and (file, how) != ("history.jsonl", "empty")), page.text
    assert "Other than the default" in page.tables and f"{run.metrics['test_acc']:.4f}" in page.text
    assert "tiny at 1x1x8x8" in page.tables  # without config.json the weights file says it


def test_fields_are_missing_or_odd(run: cnnzoo.Run) -> None:
    told = json.loads((run.path / "train.json").read_text())
    (run.path / "train.json").write_text(json.dumps({"data": {**told["data"], "classes": 3}, "config": {"new": [1]}}))
    (run.path / "metrics.json").write_text(
        json.dumps(
            {"test_acc": "high", "loss": math.inf, "device": None, "evaluations": {"test": {"confusion": [[-1]]}}}
        )
    )
    (run.path / "history.jsonl").write_text('{"loss": 1e999, "lr": 0.1}\n[]\n{"loss": "low", "test_acc": true}\n{}\n')
    config = json.loads((run.path / "config.json").read_text())
    (run.path / "config.json").write_text(json.dumps({**config, "pretrained_cfg": None}))
    page = Page(cnnzoo.report(run.path).read_text())
    assert page.column("At the end")["test accuracy"] == "high"
    assert page.column("Other than the default")["new"] == "1"
    (run.path / "train.json").write_text(json.dumps({"data": told["data"], "resumed": 3, "began": [], "config": None}))
    assert "No config was left" in Page(cnnzoo.report(run.path, overwrite=True).read_text()).text


def test_damaged_weights_are_told(run: cnnzoo.Run, tiny_spec: cnnzoo.Spec) -> None:
    said = json.loads((run.path / "metrics.json").read_text())["weights_sha256"]
    cnnzoo.save(cnnzoo.create(tiny_spec, seed=9), run.path / "other.safetensors")
    (run.path / "other.safetensors").replace(run.path / "model.safetensors")
    page = Page(cnnzoo.report(run.path).read_text())
    assert page.tables["Weights"][1][1] == said and page.tables["Weights"][1][2].startswith("the file holds others")


def test_no_run(tmp_path: Path, run: cnnzoo.Run) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign" / "train.json").write_text("[1, 2]")
    for path, says in (
        (tmp_path / "none", "none does not exist; name a folder that training left"),
        (tmp_path / "empty", "empty holds no run: there is no train.json in it, nor in a folder directly below it"),
        (run.path / "config.json", "config.json holds no run"),
        (tmp_path / "foreign", "holds no JSON object, but a list"),
    ):
        with pytest.raises(FileError, match=re.escape(says)):
            cnnzoo.report(path)
        with pytest.raises(FileError, match=re.escape(says)):
            cnnzoo.report(run.path, path, out=tmp_path / "page.html")
    with pytest.raises(InputError, match="at least one run folder"):
        cnnzoo.report()
    with pytest.raises(InputError, match="such as run.path, not by Run"):
        cnnzoo.report(run)  # type: ignore[arg-type]
    with pytest.raises(FileError, match=r"is a folder; name a file, such as .*empty/report.html"):
        cnnzoo.report(run.path, out=tmp_path / "empty")
    assert not (tmp_path / "page.html").exists() and not (run.path / "report.html").exists()


def test_from_the_shell(tmp_path: Path, run: cnnzoo.Run, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(run.path, tmp_path / "again")
    monkeypatch.chdir(tmp_path)

    def shell(*arguments: str):
        return CliRunner().invoke(main, ["report", *arguments])

    done = shell("run")
    assert done.exit_code == 0 and done.stdout == "run/report.html\n", done.stderr
    refused = shell("run")
    assert refused.exit_code == 1 and "run/report.html exists already; name another file (--out)" in refused.stderr
    (tmp_path / "run" / "report.html").write_text("old")
    assert shell("run", "--overwrite").exit_code == 0
    assert (tmp_path / "run" / "report.html").read_text().startswith("<!DOCTYPE html>")
    assert shell("run", "again").stdout == "report.html\n" and (tmp_path / "report.html").exists()
    assert shell("run", "--out", "there/page.html").stdout == "there/page.html\n"
    assert shell().exit_code == 2
    done = shell("none")
    assert done.exit_code == 1 and done.stderr.startswith("error: none does not exist") and done.stdout == ""


# --- charts ---


def test_ticks_are_round_and_enclose() -> None:
    for low, high in ((0, 1), (0.81, 0.93), (2.3, 2.3), (0, 0), (-3, 1e6), (1e-9, 3e-9), (9e14, 9.1e14)):
        ticks = charts._ticks(low, high, 5)
        assert ticks[0] <= low + 1e-12 and ticks[-1] >= high - 1e-12 and 2 <= len(ticks) <= 8, (low, high, ticks)
    assert charts._ticks(0.81, 0.93, 5) == [0.8, 0.85, 0.9, 0.95]
    assert charts._ticks(1, 10, 8, least=1) == [0, 2, 4, 6, 8, 10]


def test_what_cannot_be_drawn_is_left_out() -> None:
    nothing = charts.Line("a", "#000", [(1, math.nan), (2, math.inf)])
    assert charts.line_chart("x", [nothing]) == "" == charts.line_chart("x", [])
    some = charts.Line("b", "#000", [(1, 0.5), (2, math.nan), (3, 0.75)])
    assert charts.line_chart("x", [nothing, some]).count("<circle") == 2


def test_tiles_show_each_filter() -> None:
    from base64 import b64decode
    from io import BytesIO

    from PIL import Image

    weights = torch.zeros(2, 1, 1, 2)
    weights[0, 0, 0] = torch.tensor([-4.0, 4.0])
    weights[1, 0, 0] = torch.tensor([0.0, math.nan])
    source = re.search(r'base64,([^"]+)', charts.tiles(weights, "two"))
    assert source
    picture = Image.open(BytesIO(b64decode(source[1])))
    side = charts.TILE // 2
    assert picture.size == (2 * charts.TILE + charts.GAP, side) and picture.mode == "RGBA"
    at = [picture.getpixel((x, side // 2)) for x in (0, side, charts.TILE + 1, charts.TILE + charts.GAP)]
    assert at == [(0, 0, 0, 255), (255, 255, 255, 255), (0, 0, 0, 0), (128, 128, 128, 255)]


# --- in a browser ---

_ASKED = """
<script>
onload = () => {
  const told = [...document.querySelectorAll("iframe")].map(({contentWindow: w, contentDocument: d}) => ({
    width: w.innerWidth, over: d.documentElement.scrollWidth - w.innerWidth,
    fetched: w.performance.getEntriesByType("resource").map(e => e.name).filter(n => !n.startsWith("data:")),
    pictures: [...d.images].filter(i => i.complete && i.naturalWidth > 0).length,
    wide: [...d.querySelectorAll(".wide")].filter(e => e.scrollWidth > e.clientWidth).length,
    charts: [...d.querySelectorAll("svg")].map(s => s.getBoundingClientRect().height),
    title: d.title,
  }));
  document.body.innerHTML = "<pre id=told></pre>";
  document.getElementById("told").textContent = JSON.stringify(told);
};
</script>
"""


def looked_at(text: str, folder: Path, *widths: int) -> list[dict[str, Any]]:
    """What a real browser makes of a page at some widths (a frame may be narrower than any window)."""
    frames = "".join(
        f'<iframe style="border:0;width:{width}px;height:900px" srcdoc="{html.escape(text)}"></iframe>'
        for width in widths
    )
    (folder / "frames.html").write_text(f'<!DOCTYPE html><meta charset="utf-8"><body>{frames}{_ASKED}')
    told = re.search(r'<pre id="told">(.*?)</pre>', dom_of(folder / "frames.html", folder / "profile"), re.DOTALL)
    assert told
    return json.loads(html.unescape(told[1]))


@needs_browser
def test_the_page_in_a_browser(tmp_path: Path, run: cnnzoo.Run, tiny_data: ImageData) -> None:
    long = "a-very-long-name-without-a-place-to-break-it-" * 3
    other = train(cnnzoo.create("lenet", num_classes=3, image_size=28, seed=0), tiny_data, tmp_path / long, epochs=2)
    text = cnnzoo.report(run.path, other.path, out=tmp_path / "page.html").read_text()
    assert not re.search(r'<script|<link|@import|url\(|https?:|src="(?!data:)', text)
    phone, desk = looked_at(text, tmp_path, 390, 1280)
    assert (phone["width"], desk["width"]) == (390, 1280)
    for seen in (phone, desk):
        assert seen["over"] <= 0, "the page scrolls from left to right"
        assert seen["fetched"] == [] and seen["pictures"] == 2 and seen["title"] == "tiny and lenet on tiny"
        assert len(seen["charts"]) == 4 and min(seen["charts"]) > 100
    assert phone["wide"] > 0, "wide tables scroll inside"


@needs_browser
def test_the_browser_would_tell(tmp_path: Path) -> None:
    """What is asked of the browser can fail: a page that is too wide and fetches something is found out."""
    away = "http://127.0.0.1:9/style.css"
    (seen,) = looked_at(f'<!DOCTYPE html><link rel="stylesheet" href="{away}"><p style="width:500px">x', tmp_path, 390)
    assert seen["over"] > 0 and seen["fetched"] == [away]
