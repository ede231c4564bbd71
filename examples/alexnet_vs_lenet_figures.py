"""The figures of alexnet_vs_lenet.py: learning curves, confusion matrices, filters."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from alexnet_vs_lenet_tables import MODELS, Numbers
from matplotlib.figure import Figure

import cnnzoo
from cnnzoo.measure.figures import COLORS, FAINT, INK, despine, save_figure


def plot_curves(runs: Sequence[Numbers], path: Path) -> None:
    """Plots loss and accuracy per epoch, and the final figures that the lecture prints."""
    printed = {f.published.what: f.published.printed for f in cnnzoo.verify("alexnet").findings}
    figure = Figure(figsize=(11, 4.2), layout="constrained", facecolor="white")
    loss, accuracy = figure.subplots(1, 2)
    for run, color in zip(runs, COLORS, strict=False):
        epochs, label = [entry["epoch"] for entry in run["history"]], f"{run['model']}, {run['recipe'].split(',')[0]}"
        loss.plot(epochs, [entry["loss"] for entry in run["history"]], "o-", color=color, markersize=3, label=label)
        accuracy.plot(epochs, [entry["train_acc"] for entry in run["history"]], "--", color=color, linewidth=1.1)
        test_acc = {entry["epoch"]: entry["test_acc"] for entry in run["history"] if "test_acc" in entry}
        accuracy.plot(list(test_acc), list(test_acc.values()), "o-", color=color, markersize=3)
    for axis, title, what in ((loss, "training loss", "training loss"), (accuracy, "accuracy", "test accuracy")):
        axis.plot(10, float(printed[what]), "*", color=INK, markersize=11, label="alexnet, the lecture's")
        axis.set_title(title + (": test solid, train dashed" if axis is accuracy else ""), fontsize=10.5, color=INK)
        axis.set_xlabel("epoch", fontsize=9, color=INK)
        despine(axis)
        axis.grid(True, color=FAINT, linewidth=0.6)
    accuracy.set_ylim(top=1)
    loss.legend(frameon=False, fontsize=8.5)
    save_figure(figure, path)


def plot_confusions(runs: Sequence[Numbers], classes: Sequence[str], path: Path) -> None:
    """Plots a confusion matrix per model: rows are the true classes, colors show the errors only."""
    figure = Figure(figsize=(5.6 * len(runs), 5.4), layout="constrained", facecolor="white")
    for axis, run in zip(figure.subplots(1, len(runs), squeeze=False)[0], runs, strict=True):
        counts = torch.tensor(run["confusion"], dtype=torch.float64)
        shares = counts / counts.sum(1, keepdim=True)
        errors = shares.clone().fill_diagonal_(0)
        axis.imshow(errors.numpy(), cmap="Reds", vmin=0, vmax=0.2)
        for i in range(len(classes)):
            for j in range(len(classes)):
                if counts[i, j] >= 1:
                    ink = "white" if errors[i, j] > 0.12 else INK
                    weight = "bold" if i == j else "normal"
                    text = f"{counts[i, j]:.0f}"
                    axis.text(j, i, text, ha="center", va="center", color=ink, fontsize=7, weight=weight)
        axis.set_xticks(range(len(classes)), classes, rotation=50, ha="right")
        axis.set_yticks(range(len(classes)), classes)
        despine(axis)
        axis.spines["bottom"].set_visible(False)
        title = f"{run['model']}, {run['recipe'].split(',')[0]}: {counts.trace() / counts.sum():.4f}"
        axis.set_title(title, fontsize=11, color=COLORS[MODELS.index(run["model"])], weight="bold")
    figure.supxlabel("predicted class", fontsize=9, color=INK)
    save_figure(figure, path)


def plot_filters(filters: dict[str, tuple[torch.Tensor, torch.Tensor]], path: Path) -> None:
    """Plots the filters of the first layer of each model, and their learned part."""
    figure = Figure(figsize=(8.4, 4.3), layout="constrained", facecolor="white")
    grid = figure.subplots(len(filters), 2, squeeze=False, height_ratios=[4, 1][: len(filters)])
    for line, (model, parts) in zip(grid, filters.items(), strict=True):
        for axis, part, what in zip(line, parts, ("trained", "learned part"), strict=True):
            axis.imshow(mosaic(part).numpy(), cmap="RdBu_r", vmin=-1, vmax=1)
            axis.set_axis_off()
            title = f"{model}, {len(part)} of {'x'.join(map(str, part.shape[1:]))}: {what}"
            axis.set_title(title, color=COLORS[MODELS.index(model)], fontsize=10.5, weight="bold")
    save_figure(figure, path)


def mosaic(filters: torch.Tensor) -> torch.Tensor:
    """Returns filters (N, H, W) in one image, each scaled to its own range, with NaN between them."""
    columns = 12 if len(filters) > 12 else 6
    scaled = filters / filters.abs().amax((1, 2), keepdim=True).clamp(min=1e-12)
    padded = torch.nn.functional.pad(scaled, (1, 1, 1, 1), value=float("nan"))
    missing = -len(padded) % columns
    padded = torch.cat([padded, padded.new_full((missing, *padded.shape[1:]), float("nan"))])
    rows = padded.unflatten(0, (-1, columns))
    return rows.transpose(1, 2).flatten(2).flatten(0, 1)
