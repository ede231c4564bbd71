"""The examples on the lecture and on the exercises of the textbook: each runs small, on the bundled sample, offline."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import torch
from scripts import EXAMPLES, ROOT, load_example, run_example

import cnnzoo
from cnnzoo.train import record


def numbers_of(out: str, name: str) -> list[float]:
    """Returns the numbers in the line of a printed table that begins with a name."""
    (line,) = [line for line in out.splitlines() if line.strip().startswith(name)]
    return [float(number.replace(",", "")) for number in re.findall(r"-?\d[\d,]*\.?\d*", line.strip()[len(name) :])]


def is_picture(path: Path) -> bool:
    return path.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n" and path.stat().st_size > 10_000


# --- ablations ---


def test_ablations_of_lenet(tmp_path: Path) -> None:
    out = run_example("ablations.py", "lenet", "--epochs", "1", "--images", "500", cwd=tmp_path)
    assert len(re.findall(r"0\.\d{3}\s+0\.\d{3}$", out, flags=re.MULTILINE)) == 7
    assert re.search(r"no hidden dense layers +6,582 +361,600", out)


def test_ablations_of_alexnet() -> None:
    """Each variant is what its name says; training them takes minutes."""
    variants = load_example("ablations.py")["alexnet_variants"]()
    counts = {name: cnnzoo.count(spec) for name, spec in variants.items()}
    assert counts["2x2 pools"].params.total == counts["alexnet"].params.total + (6 * 6 - 5 * 5) * 256 * 4096
    assert counts["no hidden dense layers"].params.total == 3_723_968 + 64_010
    assert counts["on 28x28"].input_size == (1, 1, 28, 28)


@pytest.mark.slow
def test_all_ablations_of_alexnet(tmp_path: Path) -> None:
    out = run_example("ablations.py", "alexnet", "--epochs", "1", "--width", "0.125", cwd=tmp_path)
    assert len(re.findall(r"0\.\d{3}\s+0\.\d{3}$", out, flags=re.MULTILINE)) == 5


def test_sizes(tmp_path: Path) -> None:
    out = run_example("sizes.py", "--epochs", "1", "--images", "500", cwd=tmp_path)
    assert len(re.findall(r"^(squash|center|border) +(0\.\d{4} *){5}$", out, flags=re.MULTILINE)) == 3


# --- the exercises of the textbook ---


def test_memory_and_compute(tmp_path: Path) -> None:
    out = run_example("memory_and_compute.py", "--batch", "2", cwd=tmp_path)
    report = cnnzoo.count("alexnet")
    convs = [layer for layer in report.layers if layer.kind == "Conv2d"]
    assert f"dense layers have {100 * (1 - sum(c.params for c in convs) / report.params.total):.1f} %" in out
    assert f"convolutions have {100 * sum(c.macs for c in convs) / report.macs:.1f} %" in out
    weights, _, moved, *_ = numbers_of(out, "dense layers  ")
    assert weights == 172 and moved >= weights  # 43.0 million floats, each read once
    assert is_picture(tmp_path / "memory_and_compute.png")


@pytest.mark.slow
def test_roofline(tmp_path: Path) -> None:
    out = run_example("roofline.py", "lenet", "--batch", "32", "--seconds", "0.01", cwd=tmp_path)
    one, at_most_one, many, at_most_many = numbers_of(out, "fc3")
    # 400 x 120 weights are read once per batch; inputs, outputs, and those of the sigmoid N times
    n, weights, activations = 48_000, 4 * 48_120, 4 * (400 + 120 + 2 * 120)
    assert one == round(2 * n / (weights + activations), 1)
    assert many == round(64 * n / (weights + 32 * activations), 1)
    assert 0 <= at_most_one <= at_most_many <= 100
    assert is_picture(tmp_path / "roofline.png")


@pytest.mark.slow
def test_batch_sizes(tmp_path: Path) -> None:
    out = run_example("batch_sizes.py", "--sizes", "64", "500", "--epochs", "1", "--seconds", "0.01", cwd=tmp_path)
    small, large = numbers_of(out, "64 "), numbers_of(out, "500 ")
    assert (small[0], large[0]) == (94, 12)  # steps through 6,000 images
    assert small[-1] == small[-2]  # at the batch size that the rate is for, nothing is scaled
    assert large[-1] != large[-2] and small[-1] > 0.3


def test_simpler_alexnet(tmp_path: Path) -> None:
    out = run_example("simpler_alexnet.py", "--width", "0.0625", "--images", "64", "--epochs", "1", cwd=tmp_path)
    variants = load_example("simpler_alexnet.py")["variants"]()
    for name, spec in variants.items():
        report = cnnzoo.count(spec, width=0.0625)
        assert numbers_of(out, f"{name}  ")[:2] == [report.params.total, report.train_macs]
    macs = [cnnzoo.count(spec).train_macs for spec in variants.values()]
    assert macs == sorted(macs, reverse=True) and macs[0] > 10 * macs[-1]


@pytest.mark.slow
def test_net_for_28(tmp_path: Path) -> None:
    out = run_example("net_for_28.py", "--epochs", "1", "--width", "0.25", cwd=tmp_path)
    spec = load_example("net_for_28.py")["net28"]()
    assert cnnzoo.count(spec).params.total < 1.7 * cnnzoo.count("lenet").params.total
    accuracies = numbers_of(out, "test accuracy")
    assert len(accuracies) == 2 and all(0 < accuracy < 1 for accuracy in accuracies)
    evaluation = cnnzoo.evaluate(tmp_path / "runs/net28/net28", cnnzoo.load_data("fashion_mnist_sample"))
    assert accuracies[0] == round(evaluation.top1, 3)
    assert is_picture(tmp_path / "runs/net28/compare.png")


@pytest.mark.slow
def test_overfit_alexnet(tmp_path: Path) -> None:
    out = run_example("overfit_alexnet.py", "--width", "0.125", "--images", "16", "--epochs", "16", cwd=tmp_path)
    train_acc, test_acc, gap = numbers_of(out, "no dropout  ")
    assert gap == pytest.approx(train_acc - test_acc, abs=0.0011) and gap > 0
    assert numbers_of(out, "sigmoids instead of ReLU")[0] < train_acc


def test_activations(tmp_path: Path) -> None:
    out = run_example("activations.py", cwd=tmp_path)
    data, model = cnnzoo.load_data("fashion_mnist_sample"), cnnzoo.create("lenet", pretrained=True)
    coats = data.test.images[data.test.labels == data.classes.index("Coat")][:100]
    confidences = [prediction.top(1)[0][1] for prediction in cnnzoo.predict(model, list(coats))]
    assert numbers_of(out, "Coat")[-1] == pytest.approx(sum(confidences) / len(confidences), abs=0.001)
    assert numbers_of(out, "noise")[-1] < numbers_of(out, "Coat")[-1]
    assert is_picture(tmp_path / "activations.png")


@pytest.mark.slow
def test_features_first(tmp_path: Path) -> None:
    out = run_example("features_first.py", "--epochs", "1", cwd=tmp_path)
    assert numbers_of(out, "jointly")[0] == cnnzoo.count("lenet").params.total
    lines = {line.split(" from ")[1].split("  ")[0]: line for line in out.splitlines() if " from " in line}
    accuracy = {features: float(line.split()[-1]) for features, line in lines.items()}
    assert all(f" {84 * 10 + 10} " in line for line in lines.values())
    assert accuracy["random weights"] < accuracy["all classes"]


# --- the lecture ---


@pytest.mark.slow
def test_alexnet_vs_lenet(tmp_path: Path) -> None:
    small = ("--images", "64", "--epochs", "1", "--width", "0.0625", "--out", "out")
    out = run_example("alexnet_vs_lenet.py", *small, cwd=tmp_path)
    assert re.search(r"Total +46M +46,747,008 +agrees +0.6M +61,706 +contradicts", out)
    numbers = json.loads((tmp_path / "out" / "alexnet-vs-lenet.json").read_text())
    assert set(load_example("alexnet_vs_lenet.py")["PARTS"]) == set(numbers) - {"classes"}
    for model, run, views in zip(("alexnet", "lenet"), numbers["runs"], numbers["views"]["rows"], strict=True):
        metrics = json.loads((tmp_path / "out" / model / "metrics.json").read_text())
        confusion = torch.tensor(run["confusion"])
        assert run["model"] == views["model"] == model and run["history"][-1]["test_acc"] == run["test_acc"]
        assert run["test_acc"] == metrics["test_acc"] == int(confusion.trace()) / 64 == views["single"]
        assert f"{views['ten_crop']:.4f}" in out
    counts = {row["name"]: row["parameters"] for row in numbers["alexnet variants"]["rows"]}
    assert counts["alexnet"] == cnnzoo.count("alexnet", width=0.0625).params.total
    assert len(counts) == 5 and len(numbers["lenet variants"]["rows"]) == 7
    assert all(is_picture(path) for path in (tmp_path / "out" / "pictures").iterdir())

    before = (tmp_path / "out" / "alexnet-vs-lenet.json").read_text()
    page = tmp_path / "out" / "alexnet-vs-lenet.md"
    page.write_text("<!-- views: generated by examples/alexnet_vs_lenet.py -->\nold\n<!-- end of views -->\nthe end\n")
    record([tmp_path / "out" / "lenet"], tmp_path / "lenet.json")
    runs = ("--runs", "out/alexnet", "lenet.json")
    run_example("alexnet_vs_lenet.py", *small, "--parts", "runs", *runs, cwd=tmp_path)
    assert (tmp_path / "out" / "alexnet-vs-lenet.json").read_text() == before  # a record contains what its run does
    with pytest.raises(SystemExit):  # a record contains no weights
        run_example("alexnet_vs_lenet.py", "--parts", "views", "--runs", "lenet.json", cwd=tmp_path)
    assert "old" not in page.read_text() and f"{views['ten_crop']:.4f}" in page.read_text()


def test_the_page_on_alexnet_against_lenet() -> None:
    """Its tables are those of its numbers and of the library; it has each cell of the slide with the exact figure."""
    page = (ROOT / "docs" / "alexnet-vs-lenet.md").read_text()
    example = load_example("alexnet_vs_lenet_tables.py")
    tables = example["all_tables"](json.loads((ROOT / "docs" / "alexnet-vs-lenet.json").read_text()))
    assert example["update_page"](page, tables) == page, "run python examples/alexnet_vs_lenet.py --out docs --parts"
    assert re.findall("<!-- end of (.*) -->", page) == list(tables)
    cells = [f for name in ("alexnet", "lenet") for f in cnnzoo.verify(name).findings if "slide" in f.published.source]
    (slide,) = re.findall("<!-- slide: .*?end of slide", page, flags=re.DOTALL)
    assert len(cells) == 24
    for cell in cells:
        exact = f"{cell.exact:,}" if isinstance(cell.exact, int) else f"{cell.exact:,.0f}x"
        assert f"| {cell.published.printed} | {exact} | {cell.verdict} |" in slide


# --- the table of examples ---


def test_the_table_of_examples() -> None:
    """It lists exactly the scripts of the folder, each with the first line of its docstring."""
    paths = [path for path in (*EXAMPLES.glob("*.py"), *EXAMPLES.glob("*/*.py")) if path.parent.name != "notebooks"]
    paths.sort()
    files = {path.relative_to(EXAMPLES).as_posix(): path for path in paths}
    rows = [f"| [{name}]({name}) | {path.read_text().splitlines()[0].strip(chr(34))} |" for name, path in files.items()]
    table = ["| example | what it shows |", "| --- | --- |", *rows]
    lines = [line for line in (EXAMPLES / "README.md").read_text().splitlines() if line.startswith("|")]
    assert lines == table, "the table in examples/README.md should be:\n" + "\n".join(table)
