"""What training leaves."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import nn

from cnnzoo.measure.layer_plot import save_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True, eq=False)
class Run:
    """What training leaves: the trained module, its history, and the folder with its files.

    Attributes:
        path: The folder: config.json, model.safetensors, train.json, history.jsonl, metrics.json, curves.png; None
            where nothing was written.
        history: One mapping per epoch: ``epoch, step, lr, loss, train_acc, test_acc`` (or ``val_acc``),
            ``examples_per_sec, wall_examples_per_sec, data_share``.
        metrics: The figures at the end: ``epochs, loss, train_acc, test_acc`` (and ``test_acc_ten_crop``, ... where other
            crops were asked for), ``examples_per_sec`` (the training steps alone, as the lecture counts),
            ``wall_examples_per_sec`` (with the making of batches), ``data_share`` (of the time, spent waiting for
            data), ``device``, ``precision``, ``processes``.
        interrupted: Whether it was stopped before its last epoch.
        model: The module, trained.
    """

    path: Path | None
    history: Sequence[Mapping[str, Any]]
    metrics: Mapping[str, Any]
    interrupted: bool
    model: nn.Module

    def __str__(self) -> str:
        m = self.metrics
        if "loss" not in m:
            return "stopped before the end of the first epoch"
        accuracy = f"test acc {m['test_acc']:.3f}" if m.get("test_acc") is not None else "not tested yet"
        others = [f", {key[9:]} crops {m[key]:.3f}" for key in m if key.startswith("test_acc_")]
        return (
            f"loss {m['loss']:.3f}, train acc {m['train_acc']:.3f}, {accuracy}{''.join(others)}\n"
            f"{m['examples_per_sec']:.1f} examples/sec on {m['device']}, {m['wall_examples_per_sec']:.1f} wall clock, "
            f"{100 * m['data_share']:.0f} % of it waiting for data"
        )

    def plot(self, path: str | PathLike[str]) -> None:
        """Draws loss and accuracy per epoch into a picture file; the suffix says the format.

        Raises:
            FileError: If the picture cannot be written.
        """
        save_figure(curves(self.history), path)


def summarize_history(history: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The figures of a history: those of its last epoch, and rates and share of waiting over all of it."""
    last = history[-1] if history else {}
    found = {key: last[key] for key in last if key == "loss" or "_acc" in key}
    for key in ("examples_per_sec", "wall_examples_per_sec"):
        if history and all(entry.get(key) for entry in history):
            # all examples over all seconds: the harmonic mean, since epochs are equally long
            found[key] = len(history) / sum(1 / entry[key] for entry in history)
    if history and all("data_share" in entry for entry in history):
        found["data_share"] = sum(entry["data_share"] for entry in history) / len(history)
    return found


def curves(*histories: Sequence[Mapping[str, Any]]) -> Figure:
    """The figure of loss and accuracy per epoch, of one run or of several with different seeds (their means)."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    figure = Figure(figsize=(5.6, 3.6), layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    axis = figure.subplots()
    for key, color, style, label in (
        ("loss", "C0", "-", "train loss"),
        ("train_acc", "m", "--", "train acc"),
        ("val_acc", "c", "-.", "held-out acc"),
        ("test_acc", "g", "-.", "test acc"),
    ):
        values: dict[int, list[float]] = {}
        for history in histories:
            for entry in history:
                if key in entry:
                    values.setdefault(entry["epoch"], []).append(entry[key])
        if values:
            means = [statistics.fmean(of) for of in values.values()]
            axis.plot(list(values), means, style, color=color, label=label, marker="o", markersize=3)
            if len(histories) > 1:
                lowest, highest = ([pick(of) for of in values.values()] for pick in (min, max))
                axis.fill_between(list(values), lowest, highest, color=color, alpha=0.15, linewidth=0)
    axis.set_xlabel("epoch")
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    axis.grid(True, linewidth=0.5, alpha=0.5)
    if any(histories):
        axis.legend()
    return figure


# two-sided 95 % quantiles of Student's t for 1, 2, ... degrees of freedom; beyond, the normal one is near enough
_T95 = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131)
_NORMAL95 = 1.96


def interval_95(values: Sequence[float]) -> tuple[float, float]:
    """The 95 % confidence interval of the mean of some values, by Student's t; infinite for a single one."""
    if len(values) < 2:
        return -math.inf, math.inf
    t = _T95[len(values) - 2] if len(values) - 2 < len(_T95) else _NORMAL95
    half = t * statistics.stdev(values) / math.sqrt(len(values))
    mean = statistics.fmean(values)
    return mean - half, mean + half
