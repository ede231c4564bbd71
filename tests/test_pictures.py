"""Pictures, HTML pages and timings: their files and contents; pages in a real browser."""

from __future__ import annotations

import json
import re
from importlib import import_module
from pathlib import Path

import pytest
import torch
from browser import dump_dom, needs_browser
from click.testing import CliRunner

import cnnzoo
from cnnzoo.blocks import Conv, Flatten, Logits
from cnnzoo.cli import main
from cnnzoo.errors import FileError, InputError
from cnnzoo.measure import Point, plot_accuracy
from cnnzoo.measure.accuracy_plot import accuracy_drawing, spread
from cnnzoo.measure.drawing import Disc, Polygon, Text
from cnnzoo.measure.layer_plot import MAX_BARS, MIN_BARS, _group_layers
from cnnzoo.measure.learning_curves import history_figure

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


def test_names_are_not_parsed_as_math(tmp_path: Path) -> None:
    spec = cnnzoo.Spec("$x_{$", (1, 8, 8), (Conv(3, kernel_size=3, label="$a"), Flatten()), (Logits(2),))
    cnnzoo.count(spec).plot(tmp_path / "b.svg")


@pytest.mark.parametrize("suffix", ["png", "svg", "pdf"])
def test_a_figure_has_the_same_bytes_each_time(tmp_path: Path, suffix: str) -> None:
    for name in "ab":
        cnnzoo.count("lenet").plot(tmp_path / f"{name}.{suffix}")
    first, second = (path.read_bytes() for path in sorted(tmp_path.iterdir()))
    assert first == second and b"<dc:date>" not in first and b"CreationDate" not in first


def test_a_picture_in_a_missing_folder(tmp_path: Path) -> None:
    with pytest.raises(FileError, match="cannot be written"):
        cnnzoo.count("lenet").plot(tmp_path / "none" / "net.png")


# --- accuracy over the years ---


def test_names_cover_nothing() -> None:
    drawing = accuracy_drawing(cnnzoo.timeline().points, "Classic CNNs")
    names = [shape for shape in drawing.shapes if isinstance(shape, Text) and shape.bold and shape.color != "ink"]
    assert len(names) == len(cnnzoo.timeline().points)
    boxes = [(x, x + name.width, y - 6, y + 2) for name in names for x, y in [name.position]]
    for i, (left, right, top, low) in enumerate(boxes):
        assert right <= drawing.width
        for other in boxes[:i]:
            assert right <= other[0] or other[1] <= left or low <= other[2] or other[3] <= top
        for disc in (shape for shape in drawing.shapes if isinstance(shape, Disc)):
            x, y = disc.center
            nearest = (min(max(x, left), right), min(max(y, top), low))
            assert (x - nearest[0]) ** 2 + (y - nearest[1]) ** 2 >= disc.radius**2
    grounds = [shape for shape in drawing.shapes if isinstance(shape, Polygon) and shape.fill == "background"]
    assert len(grounds) == len(names)  # no grid line crosses a name


def test_years_are_on_the_axis() -> None:
    drawing = accuracy_drawing(cnnzoo.timeline().points, "Classic CNNs")
    years = [s for s in drawing.shapes if isinstance(s, Text) and s.text.isdigit() and len(s.text) == 4]
    assert [year.text for year in years] == ["1989", "1990", "1998", "2012", "2013", "2014", "2015", "2016"]
    assert [year.position[0] for year in years] == sorted(year.position[0] for year in years)


def test_spread_keeps_the_distance() -> None:
    assert spread([0, 100, 200], 10, 300) == [0, 100, 200]
    assert spread([100, 100], 10, 300) == [95, 105]
    assert spread([100, 104, 290, 295], 10, 300) == pytest.approx([97, 107, 287.5, 297.5])
    assert spread([299, 300], 10, 300) == [290, 300]


def test_a_plot_without_accuracies(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there is nothing to draw: no ImageNet accuracy was published for a"):
        plot_accuracy([Point("a", "f", 2000, 1, 1, None)], tmp_path / "a.svg", "")
    plot_accuracy([Point("a", "f", 2000, 1, 1, 50.0)], tmp_path / "a.svg", "<one>")
    assert "&lt;one&gt;" in (tmp_path / "a.svg").read_text()


# --- learning curves ---


def test_curves_of_a_run() -> None:
    history = [{"epoch": e, "loss": 1 / e, "train_acc": 0.5, "test_acc": 0.4} for e in (1, 2)]
    figure = history_figure(history, title="lenet on $x")
    accuracy, loss = figure.axes
    assert [axis.get_title(loc="left") for axis in figure.axes] == ["Accuracy", "Training loss"]
    assert [line.get_label() for line in accuracy.lines] == ["test", "training"] and len(loss.lines) == 1
    assert figure.get_suptitle() == r"lenet on \$x"
    assert len(history_figure(history, history).axes[0].collections) == 2  # bands
    assert list(history_figure([]).axes[0].lines) == []


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
    for arguments in (["summary", "lenet"], ["compare", "lenet", "lenet_caffe", "--overwrite"]):
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
        (["--precision", "fp8"], "'fp8' is not one of 'fp32', 'bf16'"),
        (["--batch-size", "0"], "batch_size must be an integer from 1"),
        (["--device", "gpu"], "no device 'gpu' on this machine"),
    ):
        result = CliRunner().invoke(main, ["bench", "lenet", *arguments])
        assert result.exit_code in (1, 2) and text in result.stderr
