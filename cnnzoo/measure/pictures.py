"""Pictures of reports: where parameters and MACs sit, layer by layer, on one logarithmic scale."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from os import PathLike
from typing import TYPE_CHECKING, Any

from cnnzoo.errors import FileError
from cnnzoo.measure.report import Report
from cnnzoo.measure.tables import human, ratio_text, shape_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLOURS = ("#c8553d", "#2f6690", "#588157", "#8d6a9f", "#d9a441", "#5c6b73")  # legible on white and in grey
INK, FAINT = "#22223b", "#d8d8de"
MOST_BARS = 24  # more layers than this are too many to read: neighbours are summed


def draw_layers(
    reports: Sequence[Report],
    path: str | PathLike[str],
    *,
    baseline: int = -1,
    results: Sequence[Mapping[str, Any]] = (),
) -> None:
    """Draws bars of parameters and of MACs per layer for each report, and accuracy per epoch where trained.

    Args:
        reports: What to draw, from top to bottom.
        path: Where to; the suffix says the format.
        baseline: Index of the report that the ratios are against.
        results: What training gave, a mapping per report with ``history``, or empty.

    Raises:
        FileError: If the picture cannot be written.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    labels, owners = [], []
    for i, report in enumerate(reports):
        bars = _bars(report)
        labels += [label for label, _, _ in bars] + ["total"]
        owners += [(i, params, macs) for _, params, macs in bars]
        owners.append((i, report.params.total, report.macs))

    curves = [result["history"] for result in results if result.get("history")]
    columns = 3 if curves else 2
    height = max(3.6, 0.27 * len(labels) + 0.35 * len(reports) + 1.6)
    figure = Figure(figsize=(4.6 * columns, height), layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    axes = figure.subplots(1, columns, squeeze=False)[0]
    for axis, which, title in ((axes[0], 1, "parameters"), (axes[1], 2, "multiply-adds (MACs) of one image")):
        _draw_bars(axis, reports, owners, labels, which, title, baseline, named=axis is axes[0])
    if curves:
        _draw_curves(axes[2], reports, results)
    figure.suptitle(_headline(reports, baseline), color=INK, fontsize=13, fontweight="bold")
    try:
        figure.savefig(path, dpi=150)
    except (OSError, ValueError) as problem:
        raise FileError(f"the picture {path} cannot be written: {problem}") from None


def _bars(report: Report) -> list[tuple[str, int, int]]:
    """(label, parameters, MACs) of each layer that has either, neighbours summed where there are too many."""
    params, macs = report.by_label(lambda row: row.params), report.by_label(lambda row: row.macs)
    bars = [(label, params[label], macs[label]) for label in params if params[label] or macs[label]]
    size = -(-len(bars) // MOST_BARS)
    if size <= 1:
        return bars
    grouped = [bars[i : i + size] for i in range(0, len(bars), size)]
    return [
        (f"{group[0][0]} ... {group[-1][0]}", sum(p for _, p, _ in group), sum(m for _, _, m in group))
        for group in grouped
    ]


def _headline(reports: Sequence[Report], baseline: int) -> str:
    if len(reports) == 1:
        report = reports[0]
        return f"{report.name} at {shape_text(report.input_size)}"
    base = reports[baseline]
    if len(reports) == 2:
        other = reports[1] if base is reports[0] else reports[0]
        times = [
            ratio_text(a / b) if b else ""
            for a, b in ((other.params.total, base.params.total), (other.macs, base.macs))
        ]
        return f"{other.name} against {base.name}: {times[0]} the parameters, {times[1]} the multiply-adds"
    return ", ".join(report.name for report in reports)


def _draw_bars(
    axis: Axes,
    reports: Sequence[Report],
    owners: Sequence[tuple[int, int, int]],
    labels: Sequence[str],
    which: int,
    title: str,
    baseline: int,
    named: bool,
) -> None:
    """One bar a layer, a group a network with its total at the foot."""
    places = [n + 1.3 * owner[0] for n, owner in enumerate(owners)]  # a gap between the networks
    values = [owner[which] for owner in owners]
    colours = [COLOURS[owner[0] % len(COLOURS)] for owner in owners]
    strong = [label == "total" for label in labels]
    axis.barh(
        places, [max(v, 0.5) for v in values], color=colours, alpha=0.62, height=0.72, left=0.5, log=True, zorder=2
    )
    for bar, total in zip(axis.patches, strong, strict=True):
        bar.set_alpha(1.0 if total else 0.62)
    largest = max(values)
    axis.set_xlim(0.5 if min(v for v in values if v) < 100 else 10, largest * 300)
    base = reports[baseline]
    for place, value, owner, total in zip(places, values, owners, strong, strict=True):
        text = f" {human(value)}" if value else " 0"
        report = reports[owner[0]]
        if total and report is not base:
            times = report.params.total / base.params.total if which == 1 and base.params.total else 0
            times = report.macs / base.macs if which == 2 and base.macs else times
            text += f"  ({ratio_text(times)})" if times else ""
        axis.text(value or 0.5, place, text, va="center", fontsize=8, color=INK, fontweight="bold" if total else None)
    for i, report in enumerate(reports):
        first = next(place for place, owner in zip(places, owners, strict=True) if owner[0] == i)
        axis.text(
            0.0,
            first - 0.95,
            f"{report.name}, {shape_text(report.input_size)}" if named else "",
            transform=axis.get_yaxis_transform(),
            color=COLOURS[i % len(COLOURS)],
            fontsize=10,
            fontweight="bold",
            va="center",
        )
    axis.set_yticks(places, labels if named else [""] * len(labels), fontsize=8.5)
    for text_, total in zip(axis.get_yticklabels(), strong, strict=True):
        text_.set_fontweight("bold" if total else "normal")
    axis.set_ylim(max(places) + 0.7, -1.5)
    axis.set_title(title, fontsize=10.5, color=INK)
    _calm(axis)
    axis.minorticks_off()
    axis.xaxis.grid(True, color=FAINT, linewidth=0.6)


def _draw_curves(axis: Axes, reports: Sequence[Report], results: Sequence[Mapping[str, Any]]) -> None:
    """Accuracy per epoch: training dashed, test solid."""
    from matplotlib.ticker import MaxNLocator

    longest = 1
    for i, (report, result) in enumerate(zip(reports, results, strict=True)):
        colour = COLOURS[i % len(COLOURS)]
        history = result.get("history") or []
        epochs = [entry["epoch"] for entry in history]
        longest = max([longest, *epochs])
        axis.plot(epochs, [entry["train_acc"] for entry in history], "--", color=colour, linewidth=1.2, alpha=0.7)
        tested = [(entry["epoch"], entry["test_acc"]) for entry in history if entry.get("test_acc") is not None]
        if tested:
            label = f"{report.name}: {tested[-1][1]:.3f}, {result['examples_per_sec']:,.0f} examples/s"
            axis.plot(*zip(*tested, strict=True), "o-", color=colour, linewidth=2, markersize=3.5, label=label)
    axis.set_ylim(0, 1)
    axis.set_xlim(0, longest * 1.02)
    axis.set_xlabel("epoch", fontsize=9, color=INK)
    axis.set_title("accuracy, test solid, train dashed", fontsize=10.5, color=INK)
    axis.legend(frameon=False, fontsize=8.5, loc="lower right")
    _calm(axis)
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    axis.grid(True, color=FAINT, linewidth=0.6)


def _calm(axis: Axes) -> None:
    for side in ("top", "right", "left"):
        axis.spines[side].set_visible(False)
    axis.spines["bottom"].set_color(FAINT)
    axis.set_axisbelow(True)
    axis.tick_params(length=0, labelsize=8.5, colors=INK)
