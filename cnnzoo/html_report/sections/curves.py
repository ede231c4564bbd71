"""Curves: accuracy, loss, speed and learning rate by epoch."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from cnnzoo.html_report.groups import RunGroup
from cnnzoo.html_report.run_reader import RunReader
from cnnzoo.html_report.text import format_value
from cnnzoo.measure.learning_curves import SERIES, values_by_epoch
from cnnzoo.measure.svg_chart import Line, line_chart
from cnnzoo.measure.tables import Table

DASHES = {"solid": "", "dashed": "6 4", "dotted": "1 3"}
CHARTS = (  # title and history keys of each
    ("Accuracy", ("test_acc", "train_acc", "val_acc")),
    ("Training loss", ("loss",)),
    ("Examples per second", ("examples_per_sec", "wall_examples_per_sec")),
    ("Learning rate at the end of each epoch", ("lr",)),
)


@dataclass(frozen=True)
class Chart:
    """A chart with its caption.

    Attributes:
        title: What it shows.
        styles: Name and style of its lines (``"test solid"``); empty if they have one style.
        svg: The chart.
    """

    title: str
    styles: Sequence[str]
    svg: Markup


@dataclass(frozen=True)
class Curves:
    """The values of the section.

    Attributes:
        groups: The groups, for the legend.
        charts: The charts; empty before the end of the first epoch.
        has_bands: Whether a group has several seeds.
        histories: A table per run, one row per epoch.
    """

    groups: Sequence[RunGroup]
    charts: Sequence[Chart]
    has_bands: bool
    histories: Sequence[Table]


def build_curves(groups: Sequence[RunGroup]) -> Curves:
    """Returns the learning curves of all runs."""
    charts = []
    for title, keys in CHARTS:
        lines, styles = [], []
        for key in keys:
            series = SERIES[key]
            group_lines = [line for group in groups if (line := _line(group, key, series.name, DASHES[series.line]))]
            lines += group_lines
            if group_lines and len(keys) > 1:
                styles.append(f"{series.name} {series.line}")
        if svg := line_chart(title, lines):
            charts.append(Chart(title, styles, svg))
    return Curves(
        groups,
        charts,
        has_bands=any(len(group.runs) > 1 for group in groups),
        histories=[_history_table(label, run) for group in groups for label, run in group.runs.items() if run.history],
    )


def _line(group: RunGroup, key: str, name: str, dash: str) -> Line | None:
    """Returns a metric by epoch, the mean over the seeds in a band from minimum to maximum; None without values."""
    values = values_by_epoch([run.history for run in group.runs.values()], key)
    if not values:
        return None
    by_epoch = sorted(values.items())
    points = [(epoch, statistics.fmean(seeds)) for epoch, seeds in by_epoch]
    band = [(epoch, min(seeds), max(seeds)) for epoch, seeds in by_epoch] if len(group.runs) > 1 else []
    return Line(f"{group.label} {name}", group.color, points, dash, band)


def _history_table(label: str, run: RunReader) -> Table:
    # in the order of the last entry, which has the most keys
    keys = list(dict.fromkeys(key for entry in reversed(run.history) for key in entry))
    rows = [[format_value(entry.get(key, "")) for key in keys] for entry in run.history]
    return Table(label, [key.replace("_", " ") for key in keys], rows)
