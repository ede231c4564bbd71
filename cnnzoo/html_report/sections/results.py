"""Results: a card per group of runs, and a table of all metrics."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from cnnzoo.fields import is_number
from cnnzoo.html_report.groups import RunGroup
from cnnzoo.html_report.run_reader import RunReader
from cnnzoo.html_report.text import format_metric
from cnnzoo.measure.tables import Table
from cnnzoo.train import interval_95
from cnnzoo.train.metrics import is_result

METRICS: tuple[tuple[str, str, str], ...] = (  # label, key and format
    ("test accuracy", "test_acc", ".4f"),
    ("validation accuracy", "val_acc", ".4f"),
    ("training accuracy", "train_acc", ".4f"),
    ("training loss", "loss", ".4f"),
    ("examples/sec, training step", "examples_per_sec", ",.1f"),
    ("examples/sec, wall clock", "wall_examples_per_sec", ",.1f"),
    ("time spent waiting for data", "data_share", ".2%"),
    ("share of the peak of matrix products (MFU)", "mfu", ".2%"),
    ("device", "device", ""),
    ("precision", "precision", ""),
    ("processes", "processes", ""),
)
EVALUATION_NAMES = {"val": "validation"}  # all others are shown under their own name
EVALUATION_METRICS = (("top-5", "top5", ".4f"), ("loss", "loss", ".4f"), ("images", "n", ","))


@dataclass(frozen=True)
class Card:
    """The main result of a group of runs.

    Attributes:
        group: The group.
        accuracy: The accuracy as text, ``""`` before the first evaluation.
        half_interval: Half of the 95 % confidence interval as text; ``""`` for a single run.
        accuracy_name: What the accuracy is measured on.
        details: Network, size, epochs or seeds, and state.
    """

    group: RunGroup
    accuracy: str
    half_interval: str
    accuracy_name: str
    details: Sequence[str]


@dataclass(frozen=True)
class Results:
    """The values of the section."""

    cards: Sequence[Card]
    table: Table


def build_results(groups: Sequence[RunGroup]) -> Results:
    """Returns the results of all runs."""
    return Results([_card(group) for group in groups], _metrics_table(groups))


def _card(group: RunGroup) -> Card:
    run = next((run for run in group.runs.values() if run.finished), group.first)
    accuracies = group.values("test_acc")
    accuracy, half_interval, accuracy_name = "", "", ""
    if len(accuracies) > 1:
        accuracy, half_interval = f"{statistics.fmean(accuracies):.4f}", f"{_half_interval(accuracies):.4f}"
        accuracy_name = "test accuracy"
    elif is_number(value := run.metrics.get("test_acc")):
        accuracy, accuracy_name = f"{value:.4f}", "test accuracy"
    elif is_number(value := run.metrics.get("val_acc")):
        accuracy, accuracy_name = f"{value:.4f}", "validation accuracy"
    details = [run.name]
    if run.count is not None:
        details += [f"{run.count.params.total:,} parameters", f"{run.count.macs:,} MACs"]
    seeds, epochs = len(group.runs), run.epochs
    details.append(f"{seeds} seeds" if seeds > 1 else f"{epochs} epoch{'s' * (epochs != '1')}")
    if not all(run.finished for run in group.runs.values()):
        details.append("not finished")
    return Card(group, accuracy, half_interval, accuracy_name, details)


def _metrics_table(groups: Sequence[RunGroup]) -> Table:
    """Returns a table with a row per metric, a column per run, and a column for the mean of each group of seeds."""
    runs = [(label, run) for group in groups for label, run in group.runs.items()]
    with_mean = [group for group in groups if len(group.values("test_acc")) > 1]
    views = sorted({key for _, run in runs for key in run.metrics if key.startswith("test_acc_")})
    metrics = list(METRICS)
    keys = {key for _, run in runs for key in run.metrics if key.startswith(("test_", "val_"))}
    others_keys = sorted(keys - {*views, "test_acc", "val_acc"})
    metrics[2:2] = [(key.replace("_", " ").replace("val ", "validation ", 1), key, ".4f") for key in others_keys]
    metrics[1:1] = [(f"test accuracy, {key.removeprefix('test_acc_').replace('_', ' ')}", key, ".4f") for key in views]
    rows = [
        [
            label,
            *(_mean(group, key, format_spec) for group in with_mean),
            *(format_metric(run.metrics.get(key), format_spec) for _, run in runs),
        ]
        for label, key, format_spec in metrics
    ]
    others: list[tuple[str, Callable[[RunReader], str]]] = []
    for name in sorted({name for _, run in runs for name in run.evaluations}):
        data_name = EVALUATION_NAMES.get(name, name.replace("_", " "))
        for label, key, format_spec in EVALUATION_METRICS:
            text = partial(_evaluation_metric, name=name, key=key, format_spec=format_spec)
            others.append((f"{data_name} {label}", text))
    others += [("epochs", lambda run: run.epochs), ("state", lambda run: run.state)]
    others += [("parameters", _parameters), ("multiply-adds (MACs)", _macs)]
    rows += [[label, *[""] * len(with_mean), *(text(run) for _, run in runs)] for label, text in others]
    return Table(
        "Metrics",
        ["", *(f"{group.label}, mean" for group in with_mean), *(label for label, _ in runs)],
        [row for row in rows if any(row[1:])],
        notes=["Means are over finished runs, +- half of the 95 % confidence interval."] if with_mean else [],
    )


def _half_interval(values: Sequence[float]) -> float:
    low, high = interval_95(values)
    return (high - low) / 2


def _mean(group: RunGroup, key: str, format_spec: str) -> str:
    """Returns mean and half interval of an accuracy or loss, ``""`` for other metrics."""
    values = group.values(key) if is_result(key) else []
    if len(values) < 2:
        return ""
    return f"{statistics.fmean(values):{format_spec}} +-{_half_interval(values):{format_spec}}"


def _evaluation_metric(run: RunReader, *, name: str, key: str, format_spec: str) -> str:
    return format_metric(run.evaluations.get(name, {}).get(key), format_spec)


def _parameters(run: RunReader) -> str:
    if run.count is not None:
        return f"{run.count.params.total:,}"
    shapes = run.tensor_shapes.values()
    return f"{sum(map(math.prod, shapes)):,} with buffers" if shapes else ""


def _macs(run: RunReader) -> str:
    return "" if run.count is None else f"{run.count.macs:,}"
