"""Learning curves: the series of a training history, and their drawing with matplotlib."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cnnzoo.measure.figures import FAINT, INK, despine, literal, new_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

History = Sequence[Mapping[str, Any]]  # one mapping per epoch: "epoch" and the keys of SERIES


@dataclass(frozen=True)
class Series:
    """One value of a history over the epochs, and how it is drawn.

    Attributes:
        label: Its name in a legend: ``"test acc"``.
        name: Its name in a chart of one quantity: ``"test"``.
        line: Its line where color stands for the network: ``"solid"``, ``"dashed"`` or ``"dotted"``.
        run_line: Its matplotlib line style in the figure of a single run; empty if it is not part of it.
        run_color: Its color in the figure of a single run.
    """

    label: str
    name: str
    line: str = "solid"
    run_line: str = ""
    run_color: str = ""


# key of a history's entries -> series, in the order of a legend
SERIES = {
    "loss": Series("train loss", "training", "solid", "-", "C0"),
    "train_acc": Series("train acc", "training", "dashed", "--", "m"),
    "val_acc": Series("val acc", "validation", "dotted", "-.", "c"),
    "test_acc": Series("test acc", "test", "solid", "-.", "g"),
    "examples_per_sec": Series("examples/sec, training step", "training step", "solid"),
    "wall_examples_per_sec": Series("examples/sec, wall clock", "wall clock", "dashed"),
    "lr": Series("learning rate", "learning rate", "solid"),
}


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


def history_figure(*histories: History) -> Figure:
    """Returns the figure of loss and accuracy per epoch.

    Args:
        histories: The history of one run; or of several with different seeds, which are drawn as their mean and a
            band from the lowest value to the highest.
    """
    from matplotlib.ticker import MaxNLocator

    figure = new_figure(5.6, 3.6)
    axis = figure.subplots()
    for key, series in SERIES.items():
        values = values_by_epoch(histories, key)
        if not values or not series.run_line:
            continue
        means = [statistics.fmean(at_epoch) for at_epoch in values.values()]
        axis.plot(
            list(values), means, series.run_line, color=series.run_color, label=series.label, marker="o", markersize=3
        )
        if len(histories) > 1:
            lowest, highest = ([pick(at_epoch) for at_epoch in values.values()] for pick in (min, max))
            axis.fill_between(list(values), lowest, highest, color=series.run_color, alpha=0.15, linewidth=0)
    axis.set_xlabel("epoch")
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    axis.grid(True, linewidth=0.5, alpha=0.5)
    if any(histories):
        axis.legend()
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
