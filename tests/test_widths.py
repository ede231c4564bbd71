"""Every report of every kind fits the terminal: numbers are whole, and a line names columns that are left out."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

import pytest
import torch
from torch import nn

import cnnzoo
from cnnzoo.api import catalog
from cnnzoo.measure import CountReport
from cnnzoo.measure.bench import Bench, Timing
from cnnzoo.measure.tables import Table
from cnnzoo.measure.text_layout import terminal_width, text_width
from cnnzoo.prediction import Prediction
from cnnzoo.train import Evaluation, Run, SeedSweep, describe_setup
from cnnzoo.train.lr_finder import LRFinderResult

WIDTHS = (60, 80, 100, 160)
LONG = [f"a class with quite a long name, number {i} of one hundred" for i in range(100)]
METRICS = {
    "epochs": 10, "loss": 0.34567, "train_acc": 0.91234, "test_acc": 0.87654, "test_acc_ten_crop": 0.88765,
    "examples_per_sec": 1234567.8, "wall_examples_per_sec": 1200000.1, "data_share": 0.0123, "macro_f1": 0.81234,
    "device": "NVIDIA H100 80GB HBM3", "precision": "bf16",
}  # fmt: skip
NAMES = ("alexnet", "lenet(activation=relu,pooling=max)", "vgg16", "resnet152", "nin", "googlenet", "zfnet", "lenet")


def long_names() -> CountReport:
    """Returns the count of a network with long names, and names in wide characters."""
    net = nn.Sequential()
    net.add_module("畳み込み層の名前がとても長い場合の例", nn.Conv2d(3, 8, 3))
    net.add_module("a_name_without_any_place_to_break_it_" + "x" * 60, nn.ReLU())
    net.add_module("é" * 30, nn.Flatten())
    return cnnzoo.count(nn.Sequential(net, nn.Linear(8 * 36, 10**5)), (1, 3, 8, 8), name="網" * 30)


def counts() -> list[CountReport]:
    return [cnnzoo.count(name) for name in cnnzoo.list_models()]


def modules() -> list[CountReport]:
    """Returns counts of networks of torchvision, and of others."""
    models = pytest.importorskip("torchvision").models
    with torch.device("meta"):
        networks = [models.mobilenet_v3_small(), models.shufflenet_v2_x0_5()]
    recurrent = cnnzoo.count(nn.LSTM(12, 34, 2), (5, 6, 12))
    return [*(cnnzoo.count(network, (7, 3, 224, 224)) for network in networks), recurrent, long_names()]


def comparison(n: int, trained: bool) -> cnnzoo.Comparison:
    result = cnnzoo.compare(*NAMES[:n])
    results = [{**METRICS, "recipe": "quick/saturating"}] * n if trained else []
    return cnnzoo.Comparison(result.reports, -1, result.notes, results, "fashion_mnist_sample")


def evaluation(names: Sequence[str]) -> Evaluation:
    confusion = torch.full((len(names), len(names)), 123_456).long()
    return Evaluation(0.5, 0.9, 1.25, confusion, int(confusion.sum()), label_names=names)


def bench() -> Bench:
    names = ("lenet", "torchvision:mobilenet_v3_small", "a_network_of_mine(activation=relu,pooling=max,width=0.25)")
    timing = (True, 0.0123, (0.0111, 0.0144), 33, 123_456_789, 12.3, 123_456_789, 1.5e12)
    return Bench([Timing(name, (16, 3, 224, 224), *timing) for name in names], "cpu", "fp32", 2)


def sweep() -> SeedSweep:
    runs = [Run(None, [], {**METRICS, "test_acc": 0.8 + 0.01 * seed}, False, nn.Identity()) for seed in range(3)]
    return SeedSweep("lenet", range(3), runs)


TABLES: dict[str, Callable[[], Sequence[Table]]] = {
    "networks": lambda: [table for report in counts() for table in report.tables()],
    "modules": lambda: [table for report in modules() for table in report.tables()],
    "layers": lambda: [cnnzoo.count("resnet50").table(), cnnzoo.count("densenet121").table(2)],
    "all columns": lambda: [cnnzoo.count("resnet18").table(columns="all")],
    "columns": lambda: [cnnzoo.count("resnet18").table(columns=["block", "output", "trainable", "neurons"])],
    "training memory": lambda: [report.training_memory("adamw", 128).table() for report in [*counts(), long_names()]],
    **{
        f"{n} networks{', trained' * trained}": lambda n=n, trained=trained: comparison(n, trained).tables()
        for n in (2, 3, 4, 8)
        for trained in (False, True)
    },
    "a comparison of any networks": lambda: cnnzoo.compare(long_names(), "lenet", long_names()).tables(),
    "differences": lambda: cnnzoo.diff("alexnet", "alexnet_2012").tables(),
    "list": lambda: catalog().tables(),
    "audits": lambda: cnnzoo.verify().tables(),
    "timeline": lambda: cnnzoo.timeline().tables(),
    "timings": lambda: bench().tables(),
    "ten classes": lambda: evaluation([f"class {i}" for i in range(10)]).tables(),
    "a hundred classes": lambda: evaluation(LONG).tables(),
    "seeds": lambda: sweep().tables(),
}


@pytest.mark.parametrize("kind", TABLES)
def test_tables(kind: str) -> None:
    """Each value of each column that is shown is in the text: numbers, shapes and words whole, in their order."""
    for table in TABLES[kind]():
        for width in WIDTHS:
            check(table, table.text(width), width)


def check(table: Table, text: str, width: int) -> None:
    note = re.search(rf"left out, to fit {width} columns: (.*)", " ".join(text.split()))
    left_out = note[1].split("; ") if note else []
    assert set(left_out) <= set(table.optional) and len(left_out) < len(table.headers)
    rows = [*table.rows, *([table.total] if table.total else [])]
    body = text.split("─\n", 1)[1]
    for i, header in enumerate(table.headers):
        if header in left_out:
            continue
        assert all(word in text for word in re.split(r" |(?<=,)|(?=\()", header)), (width, header)
        for row in rows:
            value = row[i]
            if isinstance(value, int):
                assert re.search(rf"(?<![\d,.]){value:,}(?![\d,])", body), (width, header, value)
            elif isinstance(value, tuple):
                assert "x".join(map(str, value)) in body
            elif isinstance(value, str) and re.fullmatch(r"[+-]?[\d.,]+( ?[%xKMGTB]+)?", value):
                assert value in body, (width, header, value)
            elif isinstance(value, str) and header not in table.foldable:
                assert all(word in body for word in value.split()), (width, header, value)
    for line in text.splitlines():  # only a name or a number that has no smaller form may stick out
        assert text_width(line) <= width or "  " not in line.strip(), (width, line)


def setup() -> str:
    data = cnnzoo.load_data("fashion_mnist_sample")
    return describe_setup(cnnzoo.Trainer(cnnzoo.create("lenet"), data, cnnzoo.TrainConfig(flip=True), out=None))


TEXTS: dict[str, Callable[[], str]] = {
    "run": lambda: str(Run(None, [], METRICS, False, nn.Identity())),
    "setup": setup,
    "config": lambda: str(cnnzoo.TrainConfig(lr_multipliers={"conv*": 0.125}, milestones=(30, 60), schedule="step")),
    "learning rates": lambda: str(LRFinderResult([0.001, 0.01], [2.3, 2.1], 0.00123)),
    "prediction": lambda: str(Prediction(torch.arange(100.0).softmax(0), [name * 2 for name in LONG])),
}


@pytest.mark.parametrize("kind", TEXTS)
def test_texts(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lines end between words, so that no number is broken."""
    texts = {}
    for width in (10_000, *WIDTHS):
        monkeypatch.setenv("COLUMNS", str(width))
        texts[width] = TEXTS[kind]()
        assert max(map(text_width, texts[width].splitlines())) <= width == terminal_width()
    assert len({tuple(text.split()) for text in texts.values()}) == 1
