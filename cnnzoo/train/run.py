"""What training leaves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

from torch import nn

from cnnzoo.measure.pictures import save_figure


@dataclass(frozen=True, eq=False)
class Run:
    """What training leaves: the trained module, its history, and the folder with its files.

    Attributes:
        path: The folder: config.json, model.safetensors, train.json, history.jsonl, curves.png; None where
            nothing was written.
        history: One mapping per epoch: ``epoch, step, lr, loss, train_acc, test_acc`` (or ``held_out_acc``),
            ``examples_per_sec, wall_examples_per_sec``.
        metrics: The figures at the end: ``epochs, loss, train_acc, test_acc, examples_per_sec`` (the training
            steps alone, as the lecture counts), ``wall_examples_per_sec`` (with the making of batches), ``device``,
            ``precision``.
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
        return (
            f"loss {m['loss']:.3f}, train acc {m['train_acc']:.3f}, {accuracy}\n"
            f"{m['examples_per_sec']:.1f} examples/sec on {m['device']}, {m['wall_examples_per_sec']:.1f} wall clock"
        )

    def plot(self, path: str | PathLike[str]) -> None:
        """Draws loss and accuracy per epoch into a picture file; the suffix says the format.

        Raises:
            FileError: If the picture cannot be written.
        """
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
        from matplotlib.ticker import MaxNLocator

        figure = Figure(figsize=(5.6, 3.6), layout="constrained", facecolor="white")
        FigureCanvasAgg(figure)
        axis = figure.subplots()
        epochs = [entry["epoch"] for entry in self.history]
        for key, style, label in (
            ("loss", "-", "train loss"),
            ("train_acc", "m--", "train acc"),
            ("held_out_acc", "c-.", "held-out acc"),
            ("test_acc", "g-.", "test acc"),
        ):
            points = [(e, entry[key]) for e, entry in zip(epochs, self.history, strict=True) if key in entry]
            if points:
                axis.plot(*zip(*points, strict=True), style, label=label, marker="o", markersize=3)
        axis.set_xlabel("epoch")
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
        axis.grid(True, linewidth=0.5, alpha=0.5)
        if epochs:
            axis.legend()
        save_figure(figure, path)
