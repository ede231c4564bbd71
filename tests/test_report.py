"""The HTML page of runs: its numbers are those of the run, text is escaped, and missing or broken files leave gaps."""

from __future__ import annotations

import dataclasses
import html
import json
import math
import re
import shutil
from base64 import b64decode
from html.parser import HTMLParser
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
import torch
from browser import dump_dom, needs_browser
from click.testing import CliRunner
from PIL import Image
from torch import nn

import cnnzoo
from cnnzoo import weights
from cnnzoo.blocks import Conv, Flatten, Logits
from cnnzoo.cli import main
from cnnzoo.data import ImageData
from cnnzoo.errors import FileError, InputError, UnknownNameError
from cnnzoo.explain import Mistakes
from cnnzoo.html_report.groups import group_runs
from cnnzoo.html_report.run_reader import RunReader
from cnnzoo.html_report.sections.filters import GAP, TILE, draw_tiles
from cnnzoo.html_report.sections.mistakes import build_mistakes
from cnnzoo.measure.svg_chart import Line, line_chart, ticks
from cnnzoo.serialization import load_tensors, weights_sha256

CONFIG = cnnzoo.TrainConfig(epochs=3, batch_size=20, lr=0.05, momentum=0.9, views="ten_crop")


class Page(HTMLParser):
    """The content of a page: its text, its tables by caption (rows of cells), its tags with their attributes."""

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
        if tag not in ("meta", "img", "source"):
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

    def attributes(self, tag: str) -> list[dict[str, str | None]]:
        """The attributes of each element with that tag."""
        return [attributes for name, attributes in self.tags if name == tag]

    def captions(self, prefix: str) -> list[str]:
        """The captions that begin with a prefix."""
        return [caption for caption in self.tables if caption.startswith(prefix)]

    def confusion(self) -> list[list[str]]:
        """The rows of the one confusion matrix."""
        (caption,) = self.captions("Test images")
        return self.tables[caption]


def make_page(*runs: Path, out: Path | None = None) -> Page:
    return Page(cnnzoo.report(*runs, out=out, overwrite=True).read_text())


def read(run: cnnzoo.Run, name: str) -> dict[str, Any]:
    return json.loads((run.path / name).read_text())


def write(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content))


def write_confusion(run: cnnzoo.Run, matrix: list[list[int]]) -> None:
    metrics = read(run, "metrics.json")
    metrics["evaluations"]["test"]["confusion"] = matrix
    write(run.path / "metrics.json", metrics)


def train(model: nn.Module, data: ImageData, out: Path, **changes: Any) -> cnnzoo.Run:
    return cnnzoo.Trainer(model, data, CONFIG.replace(**changes), out=out, show=False).fit()


@pytest.fixture(scope="module", autouse=True)
def _without_pictures():
    """Training draws no pictures: pages do not read them, and drawing takes longer than the training here."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("matplotlib.figure.Figure.savefig", lambda *args, **kwargs: None)
        yield


@pytest.fixture(scope="module")
def trained() -> dict[str, cnnzoo.Run]:
    """The run that several tests share, once one of them has trained it."""
    return {}


@pytest.fixture
def run(
    trained: dict[str, cnnzoo.Run],
    tmp_path_factory: pytest.TempPathFactory,
    tmp_path: Path,
    tiny_spec: cnnzoo.Spec,
    tiny_data: ImageData,
) -> cnnzoo.Run:
    """A finished run, trained once, in a folder of its own for each test."""
    if "run" not in trained:
        folder = tmp_path_factory.mktemp("trained") / "run"
        trained["run"] = train(cnnzoo.create(tiny_spec, seed=0), tiny_data, folder)
    shutil.copytree(trained["run"].path, tmp_path / "run")
    return dataclasses.replace(trained["run"], path=tmp_path / "run")


class Killed(Exception):
    pass


class Kill:
    def on_step(self, trainer) -> None:
        if trainer.step == 8:
            raise Killed


def train_killed(model: nn.Module, data: ImageData, out: Path) -> Path:
    """Returns the folder of a run that was killed in its second epoch."""
    config = CONFIG.replace(checkpoint_every=2)
    with pytest.raises(Killed):
        cnnzoo.Trainer(model, data, config, out=out, callbacks=[Kill()], show=False).fit()
    return out


# --- one run ---


def test_numbers_are_those_of_the_run(run: cnnzoo.Run, tiny_spec: cnnzoo.Spec, tiny_data: ImageData) -> None:
    page = make_page(run.path)
    evaluations = read(run, "metrics.json")["evaluations"]
    test, ten_crop = evaluations["test"], evaluations["test_ten_crop"]
    report = cnnzoo.count(tiny_spec)
    assert page.column("Metrics") == {
        "": "run",
        "test accuracy": f"{run.metrics['test_acc']:.4f}",
        "test accuracy, ten crop": f"{run.metrics['test_acc_ten_crop']:.4f}",
        "training accuracy": f"{run.metrics['train_acc']:.4f}",
        "training loss": f"{run.metrics['loss']:.4f}",
        "examples/sec, training step": f"{run.metrics['examples_per_sec']:,.1f}",
        "examples/sec, wall clock": f"{run.metrics['wall_examples_per_sec']:,.1f}",
        "time spent waiting for data": f"{run.metrics['data_share']:.2%}",
        "share of the peak of matrix products (MFU)": f"{run.metrics['mfu']:.2%}",
        "device": "cpu",
        "precision": run.metrics["precision"],
        "processes": "1",
        "test loss": f"{test['loss']:.4f}",
        "test images": "30",
        "test ten crop loss": f"{ten_crop['loss']:.4f}",
        "test ten crop images": "30",
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
    head, *confusion = page.confusion()
    assert head == ["", *tiny_data.classes, "recall"] and [row[0] for row in confusion] == list(tiny_data.classes)
    assert [[int(cell or 0) for cell in row[1:-1]] for row in confusion] == test["confusion"]
    layers = page.tables["tiny at 1x1x8x8"]
    assert [row[4] for row in layers[1:-1]] == [f"{layer.params:,}" for layer in report.layers]
    assert layers[-1][4:6] == [f"{report.params.total:,}", f"{report.macs:,}"]
    assert page.column("Non-default settings") == {
        "": "value", "epochs": "3", "batch_size": "20", "lr": "0.05", "momentum": "0.9", "views": "ten_crop",
    }  # fmt: skip
    assert read(run, "train.json")["sessions"][0]["command"] in page.text
    assert page.column("Machine and versions")["torch"] == torch.__version__
    assert page.tables["Data"][1] == ["tiny", tiny_data.sha256]
    checksum = weights_sha256(load_tensors(run.path / "model.safetensors"))
    assert page.tables["Weights"][1] == ["run", checksum, "computed from the file"]
    architecture, filters = page.attributes("img")
    assert architecture["alt"] == "the architecture of tiny" and filters["alt"] == "4 filters of 3x3 px, features.0"
    light, dark = (
        b64decode(uri.partition(",")[2]).decode()
        for uri in (architecture["src"], page.attributes("source")[0]["srcset"])
    )
    assert light.startswith("<svg") and "#ffffff" in light and "#14161d" in dark and ">conv1</text>" in light
    charts = [attributes["aria-label"] for attributes in page.attributes("svg")]
    assert [label.partition(" by")[0] for label in charts] == [
        "Accuracy", "Training loss", "Examples per second", "Learning rate at the end of each epoch",
    ]  # fmt: skip
    assert f"run training from {run.history[0]['loss']:.4g} to {run.history[-1]['loss']:.4g}" in charts[1]


def test_most_frequent_confusions(run: cnnzoo.Run) -> None:
    write_confusion(run, [[7, 3, 0], [1, 9, 0], [0, 0, 10]])
    assert make_page(run.path).tables["Most frequent confusions"][1:] == [
        ["left", "middle", "3", "30.0%"],
        ["middle", "left", "1", "10.0%"],
    ]


def test_matrix_of_too_many_classes_is_not_shown(run: cnnzoo.Run) -> None:
    matrix = torch.eye(41, dtype=torch.int64) * 8
    matrix[40, 39] = 2
    write_confusion(run, matrix.tolist())
    page = make_page(run.path)
    assert "41 classes are too many" in page.text and not page.captions("Test images")
    # the data name three classes, not 41
    assert page.tables["Most frequent confusions"][1:] == [["40", "39", "2", "20.0%"]]


def test_text_is_escaped(tmp_path: Path, run: cnnzoo.Run) -> None:
    hostile = "<b onclick='x()'>&amp;\"</td>"
    folder = run.path.rename(tmp_path / "<img src=x>")
    run = dataclasses.replace(run, path=folder)
    info, config = read(run, "train.json"), read(run, "config.json")
    info["data"].update(name="<script>alert(1)</script>", classes=["<b>", hostile, "<!--"])
    info["sessions"] = [{"step": 0, "command": hostile, "machine": {hostile: hostile}}]
    config["cnnzoo"]["spec"]["name"] = config["architecture"] = "<i>net"
    write(folder / "train.json", info)
    write(folder / "config.json", config)
    page = make_page(folder)
    metrics = (folder / "metrics.json").read_text()
    (folder / "metrics.json").write_text(metrics[:-2])  # a note names the folder
    broken = make_page(folder)
    assert "note" in {attributes.get("class") for attributes in broken.attributes("p")}
    for each in (page, broken):
        assert "b" not in {tag for tag, attributes in each.tags if "onclick" in attributes}
        assert {"script", "i"}.isdisjoint(tag for tag, _ in each.tags)
        assert [str(attributes["src"])[:10] for attributes in each.attributes("img")] == ["data:image"] * 2
        assert "<script>alert(1)<" in each.text and "<img src=x>" in each.text and "<i>net" in each.text
    assert page.text.count(hostile) >= 3
    assert page.confusion()[0] == ["", "<b>", hostile, "<!--", "recall"]


# --- several runs ---


def test_seeds_are_grouped(tmp_path: Path, run: cnnzoo.Run, tiny_spec: cnnzoo.Spec, tiny_data: ImageData) -> None:
    sweep = cnnzoo.seed_sweep(tiny_spec, tiny_data, CONFIG, seeds=2, out=tmp_path / "seeds", show=False)
    slow = run.path.rename(tmp_path / "slow")
    info = json.loads((slow / "train.json").read_text())
    write(slow / "train.json", {**info, "config": {**info["config"], "lr": 0.01}})
    page = make_page(tmp_path / "seeds", slow, out=tmp_path / "page.html")
    assert page.tables["Metrics"][0] == ["", "seeds, mean", "seed-0", "seed-1", "slow"]
    for key, label in (("test_acc", "test accuracy"), ("loss", "training loss")):
        half = sweep.interval(key)[1] - sweep.mean(key)
        expected = [f"{sweep.mean(key):.4f} +-{half:.4f}", *(f"{one.metrics[key]:.4f}" for one in (*sweep.runs, run))]
        assert next(row for row in page.tables["Metrics"] if row[0] == label)[1:] == expected
    assert page.tables["Differences between the runs"][1:] == [
        ["lr", "0.05", "0.01", "0.01", cnnzoo.TrainConfig.describe("lr")],
        ["seed", "0, 1", "0", "0", cnnzoo.TrainConfig.describe("seed")],
    ]
    assert set(page.column("Non-default settings")) == {"", "epochs", "batch_size", "momentum", "views"}
    (caption,) = (caption for caption in page.tables if "summed over 2 seeds" in caption)
    matrices = [read(one, "metrics.json")["evaluations"]["test"]["confusion"] for one in sweep.runs]
    cells = [[int(cell or 0) for cell in row[1:-1]] for row in page.tables[caption][1:]]
    assert cells == torch.tensor(matrices).sum(0).tolist()
    assert page.captions("tiny at") == ["tiny at 1x1x8x8"]  # counted once


def test_runs_of_compare(tmp_path: Path, tiny_spec: cnnzoo.Spec, tiny_data: ImageData) -> None:
    tanh = cnnzoo.edit(tiny_spec, cnnzoo.blocks.Conv, activation="tanh")
    cnnzoo.compare(tiny_spec, tanh, train=tiny_data, settings={"epochs": 1}, out=tmp_path)
    page = Page(cnnzoo.report(tmp_path).read_text())
    assert (tmp_path / "report.html").exists()
    assert page.tables["Metrics"][0] == ["", "tiny", "tiny-2"]
    assert "tiny-2 against tiny" in page.tables or "tiny against tiny-2" in page.tables  # side by side
    assert any("tanh" in cell for row in page.tables["from tiny to tiny"] for cell in row)
    again = make_page(tmp_path, tmp_path / "tiny", out=tmp_path / "twice.html")  # names a run twice
    assert again.tables["Metrics"][0] == ["", "tiny", "tiny-2"]


def test_only_seeds_are_grouped(tmp_path: Path, run: cnnzoo.Run) -> None:
    info = read(run, "train.json")
    other = shutil.copytree(run.path, tmp_path / "other")

    def is_group(one: dict[str, Any], two: dict[str, Any]) -> bool:
        for folder, seed, changes in ((run.path, 0, one), (other, 1, two)):
            write(folder / "train.json", {**info, "config": {**info["config"], "seed": seed}, **changes})
        page = make_page(run.path, other, out=tmp_path / "page.html")
        return [head for head in page.tables["Metrics"][0] if head.endswith(", mean")] != []

    assert is_group({}, {})
    assert not is_group({}, {"initial_provenance": {"kind": "trained"}})  # other initial weights
    assert not is_group({}, {"config": info["config"]})  # the same seed again
    streams = [{"data": {**info["data"], "sha256": "", "name": name}} for name in ("a", "b")]
    assert is_group(streams[0], streams[0]) and not is_group(*streams)  # without a checksum the name decides


def test_seed_that_is_not_finished(tmp_path: Path, run: cnnzoo.Run) -> None:
    """It is in the group also before it has weights, and the finished run gives the accuracy."""
    unfinished = tmp_path / "unfinished"
    unfinished.mkdir()
    shutil.copy(run.path / "config.json", unfinished)
    info = read(run, "train.json")
    write(unfinished / "train.json", {**info, "config": {**info["config"], "seed": 1}})
    (unfinished / "history.jsonl").write_text('{"loss": 2.0, "test_acc": 0.0123}\n')
    text = cnnzoo.report(unfinished, run.path, out=tmp_path / "page.html").read_text()
    (card,) = re.findall("<li [^>]*><strong>.*?</li>", text, re.DOTALL)
    assert f"<b>{run.metrics['test_acc']:.4f}</b> test accuracy" in card and "2 seeds, not finished" in card


def test_batch_norm_of_one_position_is_counted(run: cnnzoo.Run) -> None:
    spec = cnnzoo.Spec("one", (1, 8, 8), (Conv(4, kernel_size=8, norm="batch"), Flatten()), (Logits(3),))
    cnnzoo.save(cnnzoo.create(spec, seed=0), run.path, overwrite=True)
    assert make_page(run.path).column("Metrics")["multiply-adds (MACs)"] == f"{4 * 8 * 8 + 4 * 3}"


# --- incomplete runs ---


def plain_net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 5, 3), nn.BatchNorm2d(5), nn.ReLU(), nn.Flatten(), nn.Linear(180, 3))


def test_any_module(tmp_path: Path, tiny_data: ImageData) -> None:
    net = plain_net()
    run = train(net, tiny_data, tmp_path / "run")
    page = make_page(run.path)
    metrics = page.column("Metrics")
    total = sum(tensor.numel() for tensor in net.state_dict().values())
    assert metrics["parameters"] == f"{total:,} with buffers" and "multiply-adds (MACs)" not in metrics
    assert page.column("Weights and buffers", 2)["total"] == f"{total:,}"
    assert page.confusion()[0] == ["", "left", "middle", "right", "recall"]
    assert [attributes["alt"] for attributes in page.attributes("img")] == ["5 filters of 3x3 px, 0"]
    assert "cannot be rebuilt from its files" in page.text


@pytest.mark.parametrize("zoo", [True, False])
def test_killed_run(tmp_path: Path, tiny_spec: cnnzoo.Spec, tiny_data: ImageData, zoo: bool) -> None:
    folder = train_killed(cnnzoo.create(tiny_spec, seed=0) if zoo else plain_net(), tiny_data, tmp_path / "run")
    page = make_page(folder)
    metrics = page.column("Metrics")
    assert metrics["epochs"] == "1 of 3" and metrics["state"] == "not finished, has a checkpoint"
    history = json.loads((folder / "history.jsonl").read_text())
    assert metrics["training loss"] == f"{history['loss']:.4f}"
    assert metrics["test accuracy"] == f"{history['test_acc']:.4f}"
    assert len(page.attributes("img")) == 1 + zoo  # filters from the checkpoint; a known network is drawn
    assert "Weights" not in page.tables and not page.captions("Test images")


@pytest.mark.parametrize("file", ["config.json", "model.safetensors", "history.jsonl", "metrics.json"])
@pytest.mark.parametrize("how", ["missing", "empty", "garbled"])
def test_file_is_missing_or_broken(run: cnnzoo.Run, file: str, how: str) -> None:
    path = run.path / file
    if how == "missing":
        path.unlink()
    else:
        path.write_text("" if how == "empty" else '{"spec": [\x00')
    page = make_page(run.path)
    notes = [attributes for _, attributes in page.tags if attributes.get("class") == "note"]
    assert bool(notes) == (how != "missing" and (file, how) != ("history.jsonl", "empty")), page.text
    assert "Non-default settings" in page.tables and f"{run.metrics['test_acc']:.4f}" in page.text
    assert "tiny at 1x1x8x8" in page.tables  # without config.json, from the header of the weights file


def test_fields_are_missing_or_of_another_type(run: cnnzoo.Run) -> None:
    data = read(run, "train.json")["data"]
    write(run.path / "train.json", {"data": {**data, "classes": 3}, "config": {"new": [1]}})
    evaluations = {"test": {"confusion": [[-1]]}}
    write(run.path / "metrics.json", {"test_acc": "high", "loss": math.inf, "device": None, "evaluations": evaluations})
    (run.path / "history.jsonl").write_text('{"loss": 1e999, "lr": 0.1}\n[]\n{"loss": "low", "test_acc": true}\n{}\n')
    write(run.path / "config.json", {**read(run, "config.json"), "pretrained_cfg": None})
    page = make_page(run.path)
    assert page.column("Metrics")["test accuracy"] == "high"
    assert page.column("Non-default settings")["new"] == "1"
    assert "No command is recorded" in page.text
    for sessions in (3, [4, {"step": 8}], [{"machine": []}]):
        write(run.path / "train.json", {"data": data, "sessions": sessions, "config": None})
        assert "No config is recorded" in make_page(run.path).text


def test_damaged_weights(run: cnnzoo.Run, tiny_spec: cnnzoo.Spec) -> None:
    recorded = read(run, "metrics.json")["weights_sha256"]
    cnnzoo.save(cnnzoo.create(tiny_spec, seed=9), run.path / "other.safetensors")
    (run.path / "other.safetensors").replace(run.path / "model.safetensors")
    _, checksum, status = make_page(run.path).tables["Weights"][1]
    assert checksum == recorded and status.startswith("the file differs")


def test_no_run(tmp_path: Path, run: cnnzoo.Run) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign" / "train.json").write_text("[1, 2]")
    for path, message in (
        (tmp_path / "none", "none does not exist; give the folder of a training run, such as runs/lenet"),
        (tmp_path / "empty", "empty holds no run: neither it nor a folder directly below it has a train.json"),
        (run.path / "config.json", "config.json holds no run"),
        (tmp_path / "foreign", "must hold a JSON object, not a list"),
    ):
        with pytest.raises(FileError, match=re.escape(message)):
            cnnzoo.report(path)
        with pytest.raises(FileError, match=re.escape(message)):
            cnnzoo.report(run.path, path, out=tmp_path / "page.html")
    with pytest.raises(InputError, match="at least one run folder"):
        cnnzoo.report()
    with pytest.raises(InputError, match="such as run.path, got Run"):
        cnnzoo.report(run)  # type: ignore[arg-type]
    with pytest.raises(FileError, match=r"is a folder; name a file, such as .*empty/report.html"):
        cnnzoo.report(run.path, out=tmp_path / "empty")
    assert not (tmp_path / "page.html").exists() and not (run.path / "report.html").exists()


def test_command_line(tmp_path: Path, run: cnnzoo.Run, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(run.path, tmp_path / "again")
    monkeypatch.chdir(tmp_path)

    def shell(*arguments: str):
        return CliRunner().invoke(main, ["report", *arguments])

    result = shell("run")
    assert result.exit_code == 0 and result.stdout == "run/report.html\n", result.stderr
    result = shell("run")
    assert result.exit_code == 1 and "run/report.html exists already; name another file (--out)" in result.stderr
    (tmp_path / "run" / "report.html").write_text("old")
    assert shell("run", "--overwrite").exit_code == 0
    assert (tmp_path / "run" / "report.html").read_text().startswith("<!DOCTYPE html>")
    assert shell("run", "again").stdout == "report.html\n" and (tmp_path / "report.html").exists()
    assert shell("run", "--out", "there/page.html").stdout == "there/page.html\n"
    assert shell().exit_code == 2
    result = shell("none")
    assert result.exit_code == 1 and result.stderr.startswith("error: none does not exist") and result.stdout == ""


# --- charts and pictures ---


def test_ticks_are_round_and_enclose() -> None:
    for low, high in ((0, 1), (0.81, 0.93), (2.3, 2.3), (0, 0), (-3, 1e6), (1e-9, 3e-9), (9e14, 9.1e14)):
        values = ticks(low, high, 5)
        assert values[0] <= low + 1e-12 and values[-1] >= high - 1e-12 and 2 <= len(values) <= 8, (low, high, values)
    assert ticks(0.81, 0.93, 5) == [0.8, 0.85, 0.9, 0.95]
    assert ticks(1, 10, 8, min_step=1) == [0, 2, 4, 6, 8, 10]


def test_chart_leaves_out_what_is_not_finite() -> None:
    nothing = Line("a", "#000", [(1, math.nan), (2, math.inf)])
    assert line_chart("x", [nothing]) == "" == line_chart("x", [])
    some = Line("b", "#000", [(1, 0.5), (2, math.nan), (3, 0.75)])
    assert line_chart("x", [nothing, some]).count("<circle") == 2


def test_tiles_show_each_filter() -> None:
    weights = torch.zeros(2, 1, 1, 2)
    weights[0, 0, 0] = torch.tensor([-4.0, 4.0])
    weights[1, 0, 0] = torch.tensor([0.0, math.nan])
    picture = draw_tiles(weights)
    kind, _, content = picture.source.partition(",")
    assert kind == "data:image/png;base64"
    image = Image.open(BytesIO(b64decode(content)))
    side = TILE // 2
    assert image.size == (2 * TILE + GAP, side) == (picture.width, picture.height) and image.mode == "RGBA"
    pixels = [image.getpixel((x, side // 2)) for x in (0, side, TILE + 1, TILE + GAP)]
    assert pixels == [(0, 0, 0, 255), (255, 255, 255, 255), (0, 0, 0, 0), (128, 128, 128, 255)]


def test_mistakes(run: cnnzoo.Run, tiny_data: ImageData) -> None:
    page = Page(cnnzoo.report(run.path, data=tiny_data, overwrite=True).read_text())
    mistakes = cnnzoo.mistakes(str(run.path), tiny_data, n=25)
    shown = [attributes for attributes in page.attributes("img") if str(attributes["alt"]).startswith("test image")]
    assert [attributes["alt"] for attributes in shown] == [f"test image {index}" for index in mistakes.indices]
    assert f"{mistakes.n_mistakes} of {mistakes.n_images} test images of tiny are misclassified" in page.text
    assert all(f"labeled {label}" in page.text for label in mistakes.labels)
    assert "Mistakes" not in Page(cnnzoo.report(run.path, overwrite=True).read_text()).text
    with pytest.raises(UnknownNameError, match="nosuch"):
        cnnzoo.report(run.path, data="nosuch", overwrite=True)


def test_suspicious_labels_are_marked(run: cnnzoo.Run) -> None:
    mistakes = Mistakes(
        name="tiny",
        data="tiny",
        images=torch.zeros(2, 3, 40, 200, dtype=torch.uint8),
        indices=(7, 3),
        labels=("<a>", "b"),
        predictions=("b", "c"),
        probabilities=torch.tensor([0.951, 0.949]),
        n_mistakes=30,
        n_images=90,
    )
    groups = group_runs([RunReader(run.path, weights.build_from_description)])
    (sheet,) = build_mistakes(groups, lambda path: mistakes)
    first, second = sheet.mistakes
    assert (first.is_suspicious, second.is_suspicious, first.probability) == (True, False, "95.1%")
    assert (first.picture.width, first.picture.height) == (96, 19)
    assert "the 2 with the highest probability" in sheet.summary


# --- in a browser ---

_SCRIPT = """
<script>
onload = () => {
  const frames = [...document.querySelectorAll("iframe")].map(({contentWindow: w, contentDocument: d}) => ({
    width: w.innerWidth, overflow: d.documentElement.scrollWidth - w.innerWidth,
    fetched: w.performance.getEntriesByType("resource").map(e => e.name).filter(n => !n.startsWith("data:")),
    pictures: [...d.images].filter(i => i.complete && i.naturalWidth > 0).length,
    scrollable: [...d.querySelectorAll(".wide")].filter(e => e.scrollWidth > e.clientWidth).length,
    charts: [...d.querySelectorAll("svg")].map(s => s.getBoundingClientRect().height),
    title: d.title,
  }));
  document.body.innerHTML = "<pre id=frames></pre>";
  document.getElementById("frames").textContent = JSON.stringify(frames);
};
</script>
"""


def measure_pages(folder: Path, *pages: tuple[str, int]) -> list[dict[str, Any]]:
    """Returns the layout of pages in a browser, each at a width in px (a frame can be narrower than any window)."""
    frames = "".join(
        f'<iframe style="border:0;width:{width}px;height:900px" srcdoc="{html.escape(text)}"></iframe>'
        for text, width in pages
    )
    (folder / "frames.html").write_text(f'<!DOCTYPE html><meta charset="utf-8"><body>{frames}{_SCRIPT}')
    dom = dump_dom(folder / "frames.html", folder / "profile")
    result = re.search(r'<pre id="frames">(.*?)</pre>', dom, re.DOTALL)
    assert result
    return json.loads(html.unescape(result[1]))


@needs_browser
def test_layout_in_a_browser(tmp_path: Path, run: cnnzoo.Run) -> None:
    other = tmp_path / ("a-very-long-name-without-a-place-to-break-it-" * 3)
    shutil.copytree(run.path, other)
    cnnzoo.save(cnnzoo.create("lenet", num_classes=3, image_size=28, seed=0), other, overwrite=True)
    text = cnnzoo.report(run.path, other, out=tmp_path / "page.html").read_text()
    assert not re.search(r'<script|<link|@import|url\(|https?:|src="(?!data:)', text)
    # the checks can fail: this page is too wide and fetches a file
    stylesheet = "http://127.0.0.1:9/style.css"
    bad_text = f'<!DOCTYPE html><link rel="stylesheet" href="{stylesheet}"><p style="width:500px">x'
    phone, desktop, bad = measure_pages(tmp_path, (text, 390), (text, 1280), (bad_text, 390))
    assert bad["overflow"] > 0 and bad["fetched"] == [stylesheet]
    assert (phone["width"], desktop["width"]) == (390, 1280)
    for layout in (phone, desktop):
        assert layout["overflow"] <= 0, "the page scrolls horizontally"
        assert layout["fetched"] == [] and layout["pictures"] == 4 and layout["title"] == "tiny and lenet on tiny"
        assert len(layout["charts"]) == 4 and min(layout["charts"]) > 100
    assert phone["scrollable"] > 0, "wide tables scroll within the page"
