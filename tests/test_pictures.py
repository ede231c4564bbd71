"""Pictures, HTML pages and timings: their files and contents; pages in a real browser."""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ET
from importlib import import_module
from pathlib import Path

import pytest
import torch
from browser import dump_dom, needs_browser
from click.testing import CliRunner
from torch import nn

import cnnzoo
from cnnzoo.blocks import AdaptiveAvgPool, Conv, Flatten, Logits, Parallel
from cnnzoo.cli import main
from cnnzoo.errors import FileError, InputError
from cnnzoo.measure.diagram import _steps
from cnnzoo.measure.layer_plot import MAX_BARS, MIN_BARS, _group_layers


@pytest.fixture
def branchy() -> cnnzoo.Spec:
    path = (Conv(4, kernel_size=3, padding=1), Conv(4, kernel_size=3, padding=1, activation=None))
    blocks = (
        Conv(4, kernel_size=3, padding=1),
        Parallel(((), path), merge="add", activation="relu"),
        Parallel(((Conv(2, kernel_size=1),), (Conv(6, kernel_size=1),))),
        AdaptiveAvgPool(1),
        Flatten(),
    )
    return cnnzoo.Spec("branchy", (1, 16, 16), blocks, (Logits(3),))


# --- draw ---


def test_steps_of_a_chain() -> None:
    steps = _steps(cnnzoo.count("alexnet"))
    assert [step.name for step in steps] == "input conv1 pool1 conv2 pool2 conv3 conv4 conv5 pool5 fc6 fc7 fc8".split()
    captions = [step.caption for step in steps]
    assert captions[1] == "96 @ 54x54" and captions[-2:] == ["4096", "10"]
    assert [step.level for step in steps] == list(range(12))


def test_steps_of_branches(branchy: cnnzoo.Spec) -> None:
    steps = _steps(cnnzoo.count(branchy))
    assert [(step.name, step.caption, step.inputs, step.level) for step in steps] == [
        ("input", "1 @ 16x16", (), 0),
        ("conv1", "4 @ 16x16", (0,), 1),
        ("conv1", "4 @ 16x16", (1,), 2),
        ("conv2", "4 @ 16x16", (2,), 3),
        ("", "4 @ 16x16", (1, 3), 4),  # where the shortcut meets the path
        ("conv1", "2 @ 16x16", (4,), 5),
        ("conv2", "6 @ 16x16", (4,), 5),
        ("", "8 @ 16x16", (5, 6), 6),
        ("pool3", "8 @ 1x1", (7,), 7),
        ("fc4", "3", (8,), 8),
    ]


def test_draw_writes_an_svg(tmp_path: Path, branchy: cnnzoo.Spec) -> None:
    import torchvision

    with torch.device("meta"):
        resnet = torchvision.models.resnet18()
    for i, (source, size) in enumerate((("lenet", None), (branchy, None), (resnet, (1, 3, 224, 224)))):
        path = tmp_path / f"{i}.svg"
        cnnzoo.draw(source, path, size)
        assert ET.parse(path).getroot().tag.endswith("svg")
    with pytest.raises(InputError, match="draw needs one input"):
        cnnzoo.draw(nn.Linear(3, 2), tmp_path / "x.svg", (1, 2, 3))


def test_draw_from_the_shell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert CliRunner().invoke(main, ["draw", "lenet", "-o", "net.svg", "-k", "image_size=32"]).exit_code == 0
    assert "<svg" in (tmp_path / "net.svg").read_text()
    result = CliRunner().invoke(main, ["draw", "lenet", "-o", "net.nothing"])
    assert result.exit_code == 1 and "net.nothing cannot be written" in result.stderr
    assert [p.name for p in tmp_path.iterdir()] == ["net.svg"]


def test_names_are_not_parsed_as_math(tmp_path: Path) -> None:
    spec = cnnzoo.Spec("$x_{$", (1, 8, 8), (Conv(3, kernel_size=3, label="$a"), Flatten()), (Logits(2),))
    cnnzoo.draw(spec, tmp_path / "a.svg")
    cnnzoo.count(spec).plot(tmp_path / "b.svg")


# --- bars ---


def test_many_layers_are_summed_by_module() -> None:
    import torchvision

    with torch.device("meta"):
        nets = [torchvision.models.resnet152(), torchvision.models.vgg19(), torchvision.models.densenet121()]
    for net in nets:
        report = cnnzoo.count(net, (1, 3, 224, 224))
        bars = _group_layers(report)
        assert MIN_BARS <= len(bars) <= MAX_BARS
        totals = [sum(values[i] for values in bars.values()) for i in range(3)]
        assert totals == [report.params.total, report.macs, report.saved_bytes]


@pytest.mark.parametrize("suffix", ["png", "svg", "pdf"])
def test_bars_are_written(tmp_path: Path, suffix: str) -> None:
    cnnzoo.count("alexnet").plot(tmp_path / f"a.{suffix}")
    cnnzoo.compare("alexnet", "lenet").plot(tmp_path / f"b.{suffix}")
    assert all(path.stat().st_size > 5_000 for path in tmp_path.iterdir())


def test_a_picture_in_a_missing_folder(tmp_path: Path) -> None:
    with pytest.raises(FileError, match="cannot be written"):
        cnnzoo.count("lenet").plot(tmp_path / "none" / "net.png")


# --- pages ---


@pytest.fixture(scope="module")
def comparison_page() -> str:
    return cnnzoo.compare("alexnet", "lenet").to_page()


def test_a_page_loads_nothing_else(comparison_page: str) -> None:
    for text in (cnnzoo.count("lenet").to_page(), comparison_page):
        assert text.startswith("<!DOCTYPE html>") and "<svg" in text and "416,520" in text
        assert not re.search(r'(src|href)="?(https?:)?//', text)


@needs_browser
def test_a_page_in_a_browser(tmp_path: Path, comparison_page: str) -> None:
    path = tmp_path / "page.html"
    path.write_text(comparison_page)
    dom = dump_dom(path, tmp_path / "profile")
    assert "46M against 0.6M" in dom and dom.count("<table>") == 3 and "</svg>" in dom
    assert "<title>alexnet against lenet</title>" in dom


def test_pages_from_the_shell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for arguments in (["summary", "lenet"], ["compare", "lenet", "lenet_caffe"]):
        result = CliRunner().invoke(main, [*arguments, "--html", "page.html"])
        assert result.exit_code == 0 and "<svg" in (tmp_path / "page.html").read_text()
    result = CliRunner().invoke(main, ["summary", "lenet", "--html", "/proc/none/page.html"])
    assert result.exit_code == 1 and "/proc/none/page.html cannot be written" in result.stderr


# --- timings ---


@pytest.fixture
def quick_bench(monkeypatch: pytest.MonkeyPatch) -> None:
    """No warm-up and a small matrix product: in bf16 the usual one takes minutes on some CPUs."""
    module = import_module("cnnzoo.measure.bench")  # as an attribute it is the function
    monkeypatch.setattr(module, "WARM_UP", 0.0)
    monkeypatch.setattr(module, "PEAK_SECONDS", 0.05)
    monkeypatch.setattr(module, "MATRIX_SIZE", {"cpu": 256})


@pytest.mark.usefixtures("quick_bench")
def test_bench_measures() -> None:
    result = cnnzoo.bench("lenet", cnnzoo.get_spec("lenet", width=2.0), batch_size=4, seconds=0.05)
    first, second = result.timings
    assert first.flops == 2 * 4 * cnnzoo.count("lenet").macs
    assert 0 < first.quartiles[0] <= first.seconds <= first.quartiles[1] and first.calls >= 5
    assert first.images_per_sec == 4 / first.seconds and 0 < first.fraction < 1
    assert second.flops > first.flops and result.device == "cpu"
    assert max(map(len, str(result).splitlines())) <= 100


@pytest.mark.usefixtures("quick_bench")
def test_bench_trains_and_leaves_the_model_alone() -> None:
    model = cnnzoo.create("lenet", seed=0).eval()
    before = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    result = cnnzoo.bench(model, train=True, precision="bf16", seconds=0.05)
    assert result.timings[0].flops == 2 * cnnzoo.count("lenet").train_macs
    assert not model.training and all(torch.equal(before[k], v) for k, v in model.state_dict().items())


@pytest.mark.usefixtures("quick_bench")
def test_bench_from_the_shell() -> None:
    result = CliRunner().invoke(main, ["bench", "lenet", "--seconds", "0.05", "--json"])
    data = json.loads(result.stdout)
    assert data["timings"][0]["name"] == "lenet" and data["timings"][0]["ceiling"] > 1e9
    for arguments, text in (
        (["--precision", "fp8"], "precision must be one of fp32, bf16"),
        (["--batch-size", "0"], "batch_size must be an integer from 1"),
        (["--device", "gpu"], "no device 'gpu' on this machine"),
    ):
        result = CliRunner().invoke(main, ["bench", "lenet", *arguments])
        assert result.exit_code == 1 and text in result.stderr
