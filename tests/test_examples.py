"""Every example runs in a small mode, on the bundled sample, without a network."""

from __future__ import annotations

import json
import re
import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

import cnnzoo
from cnnzoo.train import record

ROOT = Path(__file__).parents[1]


def run(script: str, *arguments: str, cwd: Path) -> str:
    command = [sys.executable, str(ROOT / "examples" / script), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, cwd=cwd)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_ablations_of_lenet(tmp_path: Path) -> None:
    out = run("ablations.py", "lenet", "--epochs", "1", cwd=tmp_path)
    assert len(re.findall(r"0\.\d{3}\s+0\.\d{3}$", out, flags=re.MULTILINE)) == 7
    assert re.search(r"no hidden dense layers +6,582 +361,600", out)


def test_ablations_of_alexnet() -> None:
    """Each variant is what its name says; training them takes minutes."""
    variants = runpy.run_path(str(ROOT / "examples" / "ablations.py"))["alexnets"]()
    counts = {name: cnnzoo.count(spec) for name, spec in variants.items()}
    assert counts["2x2 pools"].params.total == counts["alexnet"].params.total + (6 * 6 - 5 * 5) * 256 * 4096
    assert counts["no hidden dense layers"].params.total == 3_723_968 + 64_010
    assert counts["on 28x28"].input_size == (1, 1, 28, 28)


@pytest.mark.slow
def test_all_ablations_of_alexnet(tmp_path: Path) -> None:
    out = run("ablations.py", "alexnet", "--epochs", "1", "--width", "0.125", cwd=tmp_path)
    assert len(re.findall(r"0\.\d{3}\s+0\.\d{3}$", out, flags=re.MULTILINE)) == 5


def test_sizes(tmp_path: Path) -> None:
    out = run("sizes.py", "--epochs", "1", cwd=tmp_path)
    assert len(re.findall(r"^(resize|crop|pad) +(0\.\d{4} *){5}$", out, flags=re.MULTILINE)) == 3


def test_pages_are_those_that_the_library_makes() -> None:
    done = subprocess.run([sys.executable, str(ROOT / "docs" / "make_pages.py")], capture_output=True, text=True)
    assert done.returncode == 0, f"run python docs/make_pages.py --write; it would change:\n{done.stdout}{done.stderr}"


# --- the lecture, and the exercises of the textbook ---


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """Runs an example in this process, where torch is loaded already, and gives what it prints."""

    def run_here(script: str, *arguments: str) -> str:
        monkeypatch.chdir(tmp_path)
        monkeypatch.syspath_prepend(str(ROOT / "examples"))
        monkeypatch.setattr(sys, "argv", [script, *arguments])
        runpy.run_path(str(ROOT / "examples" / script), run_name="__main__")
        return capsys.readouterr().out

    return run_here


def numbers_of(out: str, row: str) -> list[float]:
    """The numbers in the row of a printed table that begins with a word."""
    (line,) = [line for line in out.splitlines() if line.strip().startswith(row)]
    return [float(number.replace(",", "")) for number in re.findall(r"-?\d[\d,]*\.?\d*", line.strip()[len(row) :])]


def is_picture(path: Path) -> bool:
    return path.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n" and path.stat().st_size > 10_000


def test_memory_and_compute(shown, tmp_path: Path) -> None:
    out = shown("memory_and_compute.py", "--batch", "2")
    report = cnnzoo.count("alexnet")
    convs = [row for row in report.layers if row.kind == "Conv2d"]
    assert f"dense layers have {100 * (1 - sum(r.params for r in convs) / report.params.total):.1f} %" in out
    assert f"convolutions have {100 * sum(r.macs for r in convs) / report.macs:.1f} %" in out
    weights, _, moved, *_ = numbers_of(out, "dense layers  ")
    assert weights == 172 and moved >= weights  # 43.0 million floats, each read once
    assert is_picture(tmp_path / "memory_and_compute.png")


def test_roofline(shown, tmp_path: Path) -> None:
    out = shown("roofline.py", "lenet", "--batch", "32", "--seconds", "0.01")
    one, at_most_one, many, at_most_many = numbers_of(out, "fc3")
    # 400 x 120 weights are read once for an image or for a batch; what goes through, and through the sigmoid, N times
    n, weights, through = 48_000, 4 * 48_120, 4 * (400 + 120 + 2 * 120)
    assert one == round(2 * n / (weights + through), 1) and many == round(64 * n / (weights + 32 * through), 1)
    assert 0 <= at_most_one <= at_most_many <= 100
    assert is_picture(tmp_path / "roofline.png")


def test_batch_sizes(shown) -> None:
    out = shown("batch_sizes.py", "--sizes", "64", "500", "--epochs", "1", "--seconds", "0.01")
    small, large = numbers_of(out, "64 "), numbers_of(out, "500 ")
    assert (small[0], large[0]) == (94, 12)  # steps through 6,000 images
    assert small[-1] == small[-2]  # at the batch that the rate is meant for, nothing is scaled
    assert large[-1] != large[-2] and small[-1] > 0.3


def test_simpler_alexnet(shown) -> None:
    out = shown("simpler_alexnet.py", "--width", "0.0625", "--images", "64", "--epochs", "1")
    variants = runpy.run_path(str(ROOT / "examples" / "simpler_alexnet.py"))["simpler"]()
    for name, spec in variants.items():
        report = cnnzoo.count(spec, width=0.0625)
        assert numbers_of(out, f"{name}  ")[:2] == [report.params.total, report.train_macs]
    whole = [cnnzoo.count(spec).train_macs for spec in variants.values()]
    assert whole == sorted(whole, reverse=True) and whole[0] > 10 * whole[-1]


def test_net_for_28(shown, tmp_path: Path) -> None:
    out = shown("net_for_28.py", "--epochs", "1", "--width", "0.25")
    net = runpy.run_path(str(ROOT / "examples" / "net_for_28.py"))["net28"]()
    assert cnnzoo.count(net).params.total < 1.7 * cnnzoo.count("lenet").params.total
    accuracies = numbers_of(out, "test accuracy")
    assert len(accuracies) == 2 and all(0 < accuracy < 1 for accuracy in accuracies)
    again = cnnzoo.evaluate(tmp_path / "runs/net28/net28", cnnzoo.load_data("fashion_mnist_sample"))
    assert accuracies[0] == round(again.top1, 3)
    assert is_picture(tmp_path / "runs/net28/compare.png")


def test_overfit_alexnet(shown) -> None:
    out = shown("overfit_alexnet.py", "--width", "0.125", "--images", "32", "--epochs", "20")
    by_heart, new, gap = numbers_of(out, "no dropout  ")
    assert gap == pytest.approx(by_heart - new, abs=0.0011) and gap > 0
    assert numbers_of(out, "sigmoids instead of ReLU")[0] < by_heart


def test_activations(shown, tmp_path: Path) -> None:
    out = shown("activations.py")
    data, model = cnnzoo.load_data("fashion_mnist_sample"), cnnzoo.create("lenet", pretrained=True)
    coats = data.test.images[data.test.labels == data.classes.index("Coat")][:100]
    sure = [found.top(1)[0][1] for found in cnnzoo.predict(model, list(coats))]
    assert numbers_of(out, "Coat")[-1] == pytest.approx(sum(sure) / len(sure), abs=0.001)
    assert numbers_of(out, "noise")[-1] < numbers_of(out, "Coat")[-1]
    assert is_picture(tmp_path / "activations.png")


def test_features_first(shown) -> None:
    out = shown("features_first.py", "--epochs", "1")
    assert numbers_of(out, "together")[0] == cnnzoo.count("lenet").params.total
    after = {line.split(" learned ")[1].split("  ")[0]: line for line in out.splitlines() if " learned " in line}
    accuracy = {what: float(line.split()[-1]) for what, line in after.items()}
    assert all(f" {84 * 10 + 10} " in line for line in after.values())
    assert accuracy["nothing"] < accuracy["all classes"]


@pytest.fixture
def lecture(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What examples/alexnet_vs_lenet.py defines."""
    monkeypatch.syspath_prepend(str(ROOT / "examples"))
    return runpy.run_path(str(ROOT / "examples" / "alexnet_vs_lenet.py"))


def test_alexnet_vs_lenet(shown, lecture, tmp_path: Path) -> None:
    small = ("--images", "64", "--epochs", "1", "--width", "0.0625", "--out", "out")
    out = shown("alexnet_vs_lenet.py", *small)
    assert re.search(r"Total +46M +46,747,008 +agrees +0.6M +61,706 +contradicts", out)
    numbers = json.loads((tmp_path / "out" / "alexnet-vs-lenet.json").read_text())
    assert set(lecture["PARTS"]) == set(numbers) - {"classes"}
    for net, told, seen in zip(("alexnet", "lenet"), numbers["trained"], numbers["crops"]["rows"], strict=True):
        metrics = json.loads((tmp_path / "out" / net / "metrics.json").read_text())
        confusion = torch.tensor(told["confusion"])
        assert told["net"] == seen["net"] == net and told["history"][-1]["test_acc"] == told["test_acc"]
        assert told["test_acc"] == metrics["test_acc"] == int(confusion.trace()) / 64 == seen["whole"]
        assert f"{seen['ten']:.4f}" in out
    counts = {row["name"]: row["parameters"] for row in numbers["alexnet variants"]["rows"]}
    assert counts["alexnet"] == cnnzoo.count("alexnet", width=0.0625).params.total
    assert len(counts) == 5 and len(numbers["lenet variants"]["rows"]) == 7
    assert all(is_picture(path) for path in (tmp_path / "out" / "pictures").iterdir())

    before = (tmp_path / "out" / "alexnet-vs-lenet.json").read_text()
    page = tmp_path / "out" / "alexnet-vs-lenet.md"
    page.write_text("<!-- crops: made by examples/alexnet_vs_lenet.py -->\nold\n<!-- end of crops -->\nthe end\n")
    record([tmp_path / "out" / "lenet"], tmp_path / "lenet.json")
    shown("alexnet_vs_lenet.py", *small, "--parts", "trained", "--runs", "out/alexnet", "lenet.json")
    assert (tmp_path / "out" / "alexnet-vs-lenet.json").read_text() == before  # a record says what its run says
    with pytest.raises(SystemExit):  # a record has no weights to look at
        shown("alexnet_vs_lenet.py", "--parts", "crops", "--runs", "lenet.json")
    assert "old" not in page.read_text() and f"{seen['ten']:.4f}" in page.read_text()


def test_the_page_on_alexnet_against_lenet(lecture) -> None:
    """Its tables are those that its numbers and the library make; each cell of the slide is there with the truth."""
    page = (ROOT / "docs" / "alexnet-vs-lenet.md").read_text()
    shown = lecture["tables"](json.loads((ROOT / "docs" / "alexnet-vs-lenet.json").read_text()))
    assert lecture["written"](page, shown) == page, "run python examples/alexnet_vs_lenet.py --out docs --parts"
    assert re.findall("<!-- end of (.*) -->", page) == list(shown)
    cells = [f for net in ("alexnet", "lenet") for f in cnnzoo.verify(net).findings if "slide" in f.published.source]
    (made,) = re.findall("<!-- slide: .*?end of slide", page, flags=re.DOTALL)
    assert len(cells) == 24
    for cell in cells:
        exact = f"{cell.exact:,}" if isinstance(cell.exact, int) else f"{cell.exact:,.0f}x"
        assert f"| {cell.published.printed} | {exact} | {cell.verdict} |" in made
