"""The learning curves of a training history as HTML, for notebooks."""

from __future__ import annotations

import html
import statistics

from cnnzoo.html_parts import BLUE, beside
from cnnzoo.measure.learning_curves import SERIES, History, values_by_epoch
from cnnzoo.measure.svg_chart import Line, line_chart

RED = "#d4694a"  # visible on white and on black
_CHARTS = {"Training loss": ("loss",), "Accuracy": ("test_acc", "val_acc", "train_acc")}
_LINES = {"loss": (BLUE, ""), "test_acc": (RED, ""), "val_acc": (RED, "2 3"), "train_acc": (BLUE, "6 4")}  # color, dash


def history_html(*histories: History) -> str:
    """Returns loss and accuracy per epoch as two charts.

    Args:
        histories: The history of one run; or of several with different seeds, which are drawn as their mean and a
            band from the lowest value to the highest.
    """
    return beside(*(_chart(title, keys, histories) for title, keys in _CHARTS.items()))


def _chart(title: str, keys: tuple[str, ...], histories: tuple[History, ...]) -> str:
    """Returns a chart with its title and legend; empty without values."""
    lines, legend = [], []
    for key in keys:
        color, dash = _LINES[key]
        values = values_by_epoch(histories, key)
        values = {epoch: known for epoch, all_ in values.items() if (known := [v for v in all_ if v is not None])}
        if not values:
            continue
        points = [(epoch, statistics.fmean(at_epoch)) for epoch, at_epoch in values.items()]
        band = [(epoch, min(at_epoch), max(at_epoch)) for epoch, at_epoch in values.items()]
        name = SERIES[key].name
        lines.append(Line(name, color, points, dash, band if len(histories) > 1 else ()))
        legend.append(f'<span style="color:{color}">{name} {points[-1][1]:.3f}</span>')
    if not lines:
        return ""
    chart = line_chart(title, lines)
    return f'<div style="width:30em;max-width:100%"><b>{html.escape(title)}</b>: {", ".join(legend)}{chart}</div>'
