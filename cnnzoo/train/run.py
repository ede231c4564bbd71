"""The result of training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

from torch import nn

from cnnzoo.html_parts import heading, notebook_html, paragraph
from cnnzoo.measure.figures import save_figure
from cnnzoo.measure.learning_curves import history_figure
from cnnzoo.measure.text_layout import wrap_text


@dataclass(frozen=True, eq=False)
class Run:
    """The result of training: the trained module, its history, and the folder with its files.

    Attributes:
        path: The folder: config.json, model.safetensors, train.json, history.jsonl, metrics.json, curves.png; None
            if nothing was written.
        history: One mapping per epoch: ``epoch, step, lr, loss, train_acc, test_acc`` (or ``val_acc``), those of
            ``config.metrics``, ``examples_per_sec, wall_examples_per_sec, data_share, mfu``.
        metrics: The final metrics: ``epochs, loss, train_acc, test_acc`` (and ``test_acc_ten_crop``, ... if the config
            has other ``views``), ``examples_per_sec`` (training steps only, as in Dive into Deep Learning),
            ``wall_examples_per_sec`` (including data loading), ``data_share`` (share of the time spent waiting
            for data), ``device``, ``precision``, ``processes``.
        interrupted: Whether the run was stopped before its last epoch.
        model: The trained module.
    """

    path: Path | None
    history: Sequence[Mapping[str, Any]]
    metrics: Mapping[str, Any]
    interrupted: bool
    model: nn.Module

    def __str__(self) -> str:
        metrics = self.metrics
        if "loss" not in metrics:
            return "stopped before the end of the first epoch"
        accuracy = f"test acc {metrics['test_acc']:.3f}" if metrics.get("test_acc") is not None else "not tested yet"
        prefix = "test_acc_"
        others = [f", {key.removeprefix(prefix)} {metrics[key]:.3f}" for key in metrics if key.startswith(prefix)]
        return wrap_text(
            f"loss {metrics['loss']:.3f}, train acc {metrics['train_acc']:.3f}, {accuracy}{''.join(others)}\n"
            f"{metrics['examples_per_sec']:.1f} examples/sec on {metrics['device']}, "
            f"{metrics['wall_examples_per_sec']:.1f} wall clock, "
            f"{100 * metrics['data_share']:.0f} % of it waiting for data"
        )

    def _repr_html_(self) -> str:
        from cnnzoo.measure.history_html import history_html

        name = "Run" if self.path is None else str(self.path)
        state = ", interrupted" if self.interrupted else ""
        return notebook_html(heading(name, state), paragraph(str(self)), history_html(self.history))

    def plot(self, path: str | PathLike[str]) -> None:
        """Draws loss and accuracy per epoch.

        Args:
            path: The file; its suffix is the format (``.png``, ``.svg``, ``.pdf``).

        Raises:
            FileError: If the file cannot be written.
        """
        save_figure(history_figure(self.history, title=self.path.name if self.path else ""), path)
