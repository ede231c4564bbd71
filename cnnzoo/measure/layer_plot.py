"""Pictures of reports: where parameters, MACs and bytes sit, layer by layer, on one logarithmic scale."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from io import StringIO
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from cnnzoo.errors import FileError
from cnnzoo.measure.report import CountReport
from cnnzoo.measure.tables import human, ratio_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLORS = (
    "#c8553d",
    "#2f6690",
    "#588157",
    "#8d6a9f",
    "#b8862b",
    "#5c6b73",
    "#a34b6e",
    "#3a7d7c",
    "#7a5c3e",
)  # legible on white and in gray
INK, FAINT = "#22223b", "#d8d8de"
MAX_BARS, MIN_BARS = 24, 5  # more layers are too many to read, fewer tell too little


PANELS = ("parameters", "multiply-adds (MACs)", "bytes kept for the backward")


def plot_layers(
    reports: Sequence[CountReport],
    path: str | PathLike[str],
    *,
    baseline: int = -1,
    results: Sequence[Mapping[str, Any]] = (),
) -> None:
    """Draws bars of parameters, MACs and kept bytes per layer for each report; accuracy per epoch where trained.

    Args:
        reports: What to draw, from top to bottom.
        path: Where to; the suffix says the format.
        baseline: Index of the report that the ratios are against.
        results: What training gave, a mapping per report with ``history``, or empty.

    Raises:
        FileError: If the picture cannot be written.
    """
    save_figure(_layers(reports, baseline, results), path)


def literal(text: str) -> str:
    """Text that matplotlib must not read as mathematics."""
    return text.replace("$", r"\$")


def save_figure(figure: Figure, path: str | PathLike[str]) -> None:
    """Writes a picture; the suffix says the format.

    Raises:
        FileError: If it cannot be written.
    """
    try:
        if not Path(path).suffix:
            raise ValueError("its name must end in the format: .png, .svg, .pdf")
        figure.savefig(path, dpi=150)
    except (OSError, ValueError) as problem:
        raise FileError(f"the picture {path} cannot be written: {problem}") from None


def layers_svg(reports: Sequence[CountReport], *, baseline: int = -1, results: Sequence[Mapping[str, Any]] = ()) -> str:
    """The same picture as SVG text, to stand in a page."""
    out = StringIO()
    _layers(reports, baseline, results).savefig(out, format="svg", metadata={"Date": None})
    text = out.getvalue()
    return text[text.index("<svg") :]


class Bar(NamedTuple):
    """One bar: whose it is, its length in each panel, and whether it is a total."""

    owner: int
    values: tuple[int, int, int]
    total: bool


def _layers(reports: Sequence[CountReport], baseline: int, results: Sequence[Mapping[str, Any]]) -> Figure:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    labels: list[str] = []
    bars: list[Bar] = []
    for i, report in enumerate(reports):
        groups = _grouped(report)
        labels += [*groups, "total"]
        bars += [Bar(i, values, False) for values in groups.values()]
        bars.append(Bar(i, (report.params.total, report.macs, report.saved_bytes), True))

    trained = any(result.get("history") for result in results)
    height = max(3.6, 0.27 * len(labels) + 0.35 * len(reports) + 1.6)
    figure = Figure(figsize=(13.8, height), layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    axes = figure.subplots(1, 3, squeeze=False)[0]
    for which, axis in enumerate(axes[: 2 if trained else 3]):
        _draw_bars(axis, reports, bars, labels, which, baseline)
    if trained:
        _draw_curves(axes[2], reports, results)
    figure.suptitle(literal(_headline(reports, baseline)), color=INK, fontsize=13, fontweight="bold")
    return figure


def _grouped(report: CountReport) -> dict[str, tuple[int, int, int]]:
    """Layer -> (parameters, MACs, kept bytes); what has neither parameters nor MACs belongs to the layer before.

    Where there are too many layers to read, those of a module are summed.
    """
    groups: dict[str, tuple[int, int, int]] = {}
    last = ""
    for row in report.layers:
        key = row.label or row.name
        if row.params or row.macs or not last:
            last = key
        key = key if key in groups else last
        before = groups.get(key, (0, 0, 0))
        groups[key] = (before[0] + row.params, before[1] + row.macs, before[2] + row.saved_bytes)
    return groups if len(groups) <= MAX_BARS else _summed(groups)


def _summed(groups: dict[str, tuple[int, int, int]]) -> dict[str, tuple[int, int, int]]:
    """Fewer groups: whole modules where that leaves enough to see, else runs of neighbors."""
    names = list(groups)
    parts = {name: re.split(r"[./]", name) for name in names}
    for depth in range(max(map(len, parts.values())), 0, -1):
        owners = {name: ".".join(parts[name][:depth]) for name in names}
        if MIN_BARS <= len(set(owners.values())) <= MAX_BARS:
            break
    else:
        size = -(-len(names) // MAX_BARS)
        runs = [names[i : i + size] for i in range(0, len(names), size)]
        owners = {name: f"{run[0]} ... {run[-1]}" for run in runs for name in run}
    summed: dict[str, tuple[int, int, int]] = {}
    for name, owner in owners.items():
        before = summed.get(owner, (0, 0, 0))
        params, macs, kept = (a + b for a, b in zip(before, groups[name], strict=True))
        summed[owner] = (params, macs, kept)
    return summed


def _headline(reports: Sequence[CountReport], baseline: int) -> str:
    if len(reports) == 1:
        report = reports[0]
        return f"{report.name} at {report.input_text}"
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
    axis: Axes, reports: Sequence[CountReport], bars: Sequence[Bar], labels: Sequence[str], which: int, baseline: int
) -> None:
    """One bar a layer, a group a network with its total at the foot."""
    places = [n + 1.3 * bar.owner for n, bar in enumerate(bars)]  # a gap between the networks
    values = [bar.values[which] for bar in bars]
    colors = [COLORS[bar.owner % len(COLORS)] for bar in bars]
    axis.barh(places, [max(v, 0.5) for v in values], color=colors, height=0.72, left=0.5, log=True)
    for patch, bar in zip(axis.patches, bars, strict=True):
        patch.set_alpha(1.0 if bar.total else 0.62)
    axis.set_xlim(0.5 if min((v for v in values if v), default=1) < 100 else 10, max([*values, 100]) * 300)
    base = baseline % len(reports)
    base_total = next(bar.values[which] for bar in bars if bar.total and bar.owner == base)
    for place, value, bar in zip(places, values, bars, strict=True):
        text = f" {human(value)}"
        if bar.total and bar.owner != base and base_total:
            text += f"  ({ratio_text(value / base_total)})"
        weight = "bold" if bar.total else "normal"
        axis.text(max(value, axis.get_xlim()[0]), place, text, va="center", fontsize=8, color=INK, fontweight=weight)
    if which == 0:
        for i, report in enumerate(reports):
            first = next(place for place, bar in zip(places, bars, strict=True) if bar.owner == i)
            axis.text(
                0.0,
                first - 0.95,
                literal(f"{report.name}, {report.input_text}"),
                transform=axis.get_yaxis_transform(),
                color=COLORS[i % len(COLORS)],
                fontsize=10,
                fontweight="bold",
                va="center",
            )
    axis.set_yticks(places, [literal(label) for label in labels] if which == 0 else [""] * len(labels), fontsize=8.5)
    for tick, bar in zip(axis.get_yticklabels(), bars, strict=True):
        tick.set_fontweight("bold" if bar.total else "normal")
    axis.set_ylim(max(places) + 0.7, -1.5)
    axis.set_title(PANELS[which], fontsize=10.5, color=INK)
    despine(axis)
    axis.minorticks_off()
    axis.xaxis.grid(True, color=FAINT, linewidth=0.6)


def _draw_curves(axis: Axes, reports: Sequence[CountReport], results: Sequence[Mapping[str, Any]]) -> None:
    """Accuracy per epoch: training dashed, test solid."""
    from matplotlib.ticker import MaxNLocator

    longest = 1
    for i, (report, result) in enumerate(zip(reports, results, strict=True)):
        color = COLORS[i % len(COLORS)]
        history = result.get("history") or []
        epochs = [entry["epoch"] for entry in history]
        longest = max([longest, *epochs])
        axis.plot(epochs, [entry["train_acc"] for entry in history], "--", color=color, linewidth=1.2, alpha=0.7)
        tested = [(entry["epoch"], entry["test_acc"]) for entry in history if entry.get("test_acc") is not None]
        if tested:
            label = literal(f"{report.name}: {tested[-1][1]:.3f}, {result['examples_per_sec']:,.0f} examples/s")
            axis.plot(*zip(*tested, strict=True), "o-", color=color, linewidth=2, markersize=3.5, label=label)
    axis.set_ylim(0, 1)
    axis.set_xlim(0, longest * 1.02)
    axis.set_xlabel("epoch", fontsize=9, color=INK)
    axis.set_title("accuracy, test solid, train dashed", fontsize=10.5, color=INK)
    axis.legend(frameon=False, fontsize=8.5, loc="lower right")
    despine(axis)
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    axis.grid(True, color=FAINT, linewidth=0.6)


def despine(axis: Axes) -> None:
    """Takes away what is not read."""
    for side in ("top", "right", "left"):
        axis.spines[side].set_visible(False)
    axis.spines["bottom"].set_color(FAINT)
    axis.set_axisbelow(True)
    axis.tick_params(length=0, labelsize=8.5, colors=INK)
