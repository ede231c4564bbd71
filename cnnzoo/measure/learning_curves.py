"""Learning curves: the series of a training history, and their drawing with matplotlib."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cnnzoo.measure.figures import COLORS, FAINT, INK, despine, literal, new_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MAX_MARKERS = 40  # a longer line has none

History = Sequence[Mapping[str, Any]]  # one mapping per epoch: "epoch" and the keys of SERIES


@dataclass(frozen=True)
class Series:
    """One value of a history over the epochs, and how it is drawn.

    Attributes:
        label: Its name in a legend: ``"test acc"``.
        name: Its name in a chart of one quantity: ``"test"``.
        line: Its line, where color stands for the network: ``"solid"``, ``"dashed"`` or ``"dotted"``.
    """

    label: str
    name: str
    line: str = "solid"


# key of a history's entries -> series, in the order of a legend
SERIES = {
    "loss": Series("train loss", "training"),
    "train_acc": Series("train acc", "training", "dashed"),
    "val_acc": Series("val acc", "validation", "dotted"),
    "test_acc": Series("test acc", "test"),
    "examples_per_sec": Series("examples/sec, training step", "training step"),
    "wall_examples_per_sec": Series("examples/sec, wall clock", "wall clock", "dashed"),
    "lr": Series("learning rate", "learning rate"),
}
PANELS = (("Accuracy", ("test_acc", "train_acc", "val_acc")), ("Training loss", ("loss",)))  # as on the page of a run


def values_by_epoch(histories: Sequence[History], key: str) -> dict[int, list[float]]:
    """Returns the values of one series at each epoch, one per history that has it.

    Args:
        histories: Histories of one run, or of several with different seeds.
        key: A key of ``SERIES``.
    """
    values: dict[int, list[float]] = {}
    for history in histories:
        for entry in history:
            if key in entry:
                values.setdefault(entry["epoch"], []).append(entry[key])
    return values


def history_figure(*histories: History, title: str = "") -> Figure:
    """Returns the figure of accuracy and loss per epoch.

    Args:
        histories: The history of one run; or of several with different seeds, which are drawn as their mean and a
            band from the lowest value to the highest.
        title: Which run it shows.
    """
    from matplotlib.ticker import MaxNLocator

    figure = new_figure(7.4, 3.0)
    for axis, (panel, keys) in zip(figure.subplots(1, 2), PANELS, strict=True):
        lines = {key: values for key in keys if (values := values_by_epoch(histories, key))}
        for key, values in lines.items():
            epochs = list(values)
            means = [statistics.fmean(at_epoch) for at_epoch in values.values()]
            marker = "o" if len(epochs) <= MAX_MARKERS else None
            axis.plot(
                epochs, means, linestyle=SERIES[key].line, color=COLORS[0], linewidth=1.8, marker=marker, markersize=3,
                label=SERIES[key].name,
            )  # fmt: skip
            if len(histories) > 1:
                lowest, highest = ([pick(at_epoch) for at_epoch in values.values()] for pick in (min, max))
                axis.fill_between(epochs, lowest, highest, color=COLORS[0], alpha=0.15, linewidth=0)
        axis.set_title(panel, fontsize=10, color=INK, loc="left", fontweight="bold")
        axis.set_xlabel("epoch", fontsize=9, color=INK)
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
        despine(axis)
        axis.yaxis.grid(True, color=FAINT, linewidth=0.6)
        if len(lines) > 1:
            axis.legend(frameon=False, fontsize=8.5)
    if title:
        figure.suptitle(literal(title), color=INK, fontsize=11, fontweight="bold", x=0.01, ha="left")
    return figure


def draw_accuracies(axis: Axes, networks: Sequence[tuple[str, str, History]]) -> None:
    """Draws the accuracy per epoch of several networks.

    Args:
        axis: Where to draw.
        networks: Legend, color and history of each; a network without test accuracies is not in the legend.
    """
    from matplotlib.ticker import MaxNLocator

    last_epoch = 1
    for legend, color, history in networks:
        epochs = [entry["epoch"] for entry in history]
        last_epoch = max([last_epoch, *epochs])
        train = [entry["train_acc"] for entry in history]
        axis.plot(epochs, train, linestyle=SERIES["train_acc"].line, color=color, linewidth=1.2, alpha=0.7)
        test = [(entry["epoch"], entry["test_acc"]) for entry in history if entry.get("test_acc") is not None]
        if test:
            line = SERIES["test_acc"].line
            axis.plot(
                *zip(*test, strict=True), linestyle=line, marker="o", color=color, linewidth=2, markersize=3.5,
                label=literal(legend),
            )  # fmt: skip
    axis.set_ylim(0, 1)
    axis.set_xlim(0, last_epoch * 1.02)
    axis.set_xlabel("epoch", fontsize=9, color=INK)
    lines = f"test {SERIES['test_acc'].line}, train {SERIES['train_acc'].line}"
    axis.set_title(f"accuracy, {lines}", fontsize=10.5, color=INK)
    axis.legend(frameon=False, fontsize=8.5, loc="lower right")
    despine(axis)
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    axis.grid(True, color=FAINT, linewidth=0.6)
