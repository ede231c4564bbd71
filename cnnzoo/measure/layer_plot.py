"""Bar charts of counts: parameters, MACs and saved bytes of each layer, on a logarithmic scale."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from os import PathLike
from typing import TYPE_CHECKING, Any, NamedTuple

from cnnzoo.measure.figures import COLORS, FAINT, INK, despine, literal, new_figure, save_figure, svg_of
from cnnzoo.measure.learning_curves import draw_accuracies
from cnnzoo.measure.report import CountReport
from cnnzoo.measure.tables import human, ratio_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MAX_BARS, MIN_BARS = 24, 5  # per report, its total not included
PANELS = ("parameters", "multiply-adds (MACs)", "bytes saved for backward")

Sums = tuple[int, int, int]  # parameters, MACs, saved bytes: one value per panel


class Bar(NamedTuple):
    """One bar in each panel.

    Attributes:
        report: Index of its report.
        values: Its length in each panel.
        is_total: Whether it is the report's total.
    """

    report: int
    values: Sums
    is_total: bool


def plot_layers(
    reports: Sequence[CountReport],
    path: str | PathLike[str],
    *,
    baseline: int = -1,
    results: Sequence[Mapping[str, Any]] = (),
) -> None:
    """Draws parameters, MACs and saved bytes per layer; with results, accuracy per epoch in place of the bytes.

    Args:
        reports: The counts, drawn from top to bottom.
        path: The file; its suffix is the format.
        baseline: Index of the report that the ratios refer to.
        results: Results of training, one mapping per report with ``history`` and ``examples_per_sec``; or empty.

    Raises:
        FileError: If the file cannot be written.
    """
    save_figure(_layer_figure(reports, baseline, results), path)


def layers_svg(reports: Sequence[CountReport], *, baseline: int = -1, results: Sequence[Mapping[str, Any]] = ()) -> str:
    """Returns the picture of ``plot_layers`` as SVG text for an HTML page."""
    return svg_of(_layer_figure(reports, baseline, results))


def _layer_figure(reports: Sequence[CountReport], baseline: int, results: Sequence[Mapping[str, Any]]) -> Figure:
    labels: list[str] = []
    bars: list[Bar] = []
    for i, report in enumerate(reports):
        groups = _group_layers(report)
        labels += [*groups, "total"]
        bars += [Bar(i, sums, False) for sums in groups.values()]
        bars.append(Bar(i, (report.params.total, report.macs, report.saved_bytes), True))

    has_history = any(result.get("history") for result in results)
    figure = new_figure(13.8, max(3.6, 0.27 * len(labels) + 0.35 * len(reports) + 1.6))
    axes = figure.subplots(1, 3, squeeze=False)[0]
    for panel, axis in enumerate(axes[: 2 if has_history else 3]):
        _draw_bars(axis, reports, bars, labels, panel, baseline)
    if has_history:
        pairs = enumerate(zip(reports, results, strict=True))
        draw_accuracies(
            axes[2],
            [
                (_accuracy_legend(report, result), COLORS[i % len(COLORS)], result.get("history") or [])
                for i, (report, result) in pairs
            ],
        )
    figure.suptitle(literal(_headline(reports, baseline)), color=INK, fontsize=13, fontweight="bold")
    return figure


def _accuracy_legend(report: CountReport, result: Mapping[str, Any]) -> str:
    """Returns the network's name, with its last test accuracy and its speed if it was tested."""
    accuracies = [entry["test_acc"] for entry in result.get("history") or [] if entry.get("test_acc") is not None]
    if not accuracies:
        return report.name
    return f"{report.name}: {accuracies[-1]:.3f}, {result['examples_per_sec']:,.0f} examples/s"


def _group_layers(report: CountReport) -> dict[str, Sums]:
    """Returns the sums of each bar: a layer with parameters or MACs, with the layers after it that have neither.

    Beyond ``MAX_BARS``, these are summed by module.
    """
    groups: dict[str, Sums] = {}
    last = ""
    for layer in report.layers:
        key = layer.label or layer.name
        if layer.params or layer.macs or not last:
            last = key
        key = key if key in groups else last
        groups[key] = _add(groups.get(key), (layer.params, layer.macs, layer.saved_bytes))
    return groups if len(groups) <= MAX_BARS else _merge_groups(groups)


def _merge_groups(groups: dict[str, Sums]) -> dict[str, Sums]:
    """Merges groups by module if that leaves MIN_BARS to MAX_BARS of them, else runs of neighbors."""
    names = list(groups)
    parts = {name: re.split(r"[./]", name) for name in names}
    for depth in range(max(map(len, parts.values())), 0, -1):
        merged_names = {name: ".".join(parts[name][:depth]) for name in names}
        if MIN_BARS <= len(set(merged_names.values())) <= MAX_BARS:
            break
    else:
        size = -(-len(names) // MAX_BARS)
        runs = [names[i : i + size] for i in range(0, len(names), size)]
        merged_names = {name: f"{run[0]} ... {run[-1]}" for run in runs for name in run}
    merged: dict[str, Sums] = {}
    for name, merged_name in merged_names.items():
        merged[merged_name] = _add(merged.get(merged_name), groups[name])
    return merged


def _add(a: Sums | None, b: Sums) -> Sums:
    return (a[0] + b[0], a[1] + b[1], a[2] + b[2]) if a else b


def _headline(reports: Sequence[CountReport], baseline: int) -> str:
    if len(reports) == 1:
        report = reports[0]
        return f"{report.name} at {report.input_text}"
    base = reports[baseline]
    if len(reports) == 2:
        other = reports[1] if base is reports[0] else reports[0]
        params, macs = (
            ratio_text(a / b) if b else ""
            for a, b in ((other.params.total, base.params.total), (other.macs, base.macs))
        )
        return f"{other.name} against {base.name}: {params} the parameters, {macs} the multiply-adds"
    return ", ".join(report.name for report in reports)


def _draw_bars(
    axis: Axes, reports: Sequence[CountReport], bars: Sequence[Bar], labels: Sequence[str], panel: int, baseline: int
) -> None:
    """Draws one panel: the bars of each report and, at the bottom, its total."""
    y_positions = [n + 1.3 * bar.report for n, bar in enumerate(bars)]  # a gap between reports
    values = [bar.values[panel] for bar in bars]
    colors = [COLORS[bar.report % len(COLORS)] for bar in bars]
    axis.barh(y_positions, [max(v, 0.5) for v in values], color=colors, height=0.72, left=0.5, log=True)
    for patch, bar in zip(axis.patches, bars, strict=True):
        patch.set_alpha(1.0 if bar.is_total else 0.62)
    axis.set_xlim(0.5 if min((v for v in values if v), default=1) < 100 else 10, max([*values, 100]) * 300)
    base = baseline % len(reports)
    base_total = next(bar.values[panel] for bar in bars if bar.is_total and bar.report == base)
    for y, value, bar in zip(y_positions, values, bars, strict=True):
        text = human(value)
        if bar.is_total and bar.report != base and base_total:
            text += f"  ({ratio_text(value / base_total)})"
        weight = "bold" if bar.is_total else "normal"
        axis.text(1.15 * max(value, axis.get_xlim()[0]), y, text, va="center", fontsize=8, color=INK, fontweight=weight)
    if panel == 0:
        for i, report in enumerate(reports):
            first = next(y for y, bar in zip(y_positions, bars, strict=True) if bar.report == i)
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
    axis.set_yticks(y_positions, [literal(label) if panel == 0 else "" for label in labels], fontsize=8.5)
    for tick, bar in zip(axis.get_yticklabels(), bars, strict=True):
        tick.set_fontweight("bold" if bar.is_total else "normal")
    axis.set_ylim(max(y_positions) + 0.7, -1.5)
    axis.set_title(PANELS[panel], fontsize=10.5, color=INK)
    despine(axis)
    axis.minorticks_off()
    axis.xaxis.grid(True, color=FAINT, linewidth=0.6)
