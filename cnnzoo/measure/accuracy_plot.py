"""One picture of many networks: accuracy against multiply-adds, and how many parameters each has."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from os import PathLike
from typing import TYPE_CHECKING

from cnnzoo.errors import InputError
from cnnzoo.measure.layer_plot import COLORS, FAINT, INK, despine, literal, save_figure
from cnnzoo.measure.tables import human

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.transforms import Bbox


@dataclass(frozen=True)
class Point:
    """One network in the picture.

    Attributes:
        name: Its name.
        family: Networks of one family share a color and are joined by a line.
        year: When it was published.
        params: Parameters.
        macs: MACs of one image.
        accuracy: In per cent; None where none was published, and it is named beside the picture.
    """

    name: str
    family: str
    year: int
    params: int
    macs: int
    accuracy: float | None


def plot_accuracy(points: Sequence[Point], path: str | PathLike[str], title: str) -> None:
    """Draws accuracy against MACs; a disc's area is the number of parameters.

    Args:
        points: The networks.
        path: Where to; the suffix says the format.
        title: What is shown.

    Raises:
        InputError: If none of them has an accuracy.
        FileError: If the picture cannot be written.
    """
    from matplotlib.figure import Figure

    if all(point.accuracy is None for point in points):
        names = ", ".join(point.name for point in points)
        raise InputError(f"there is nothing to draw: no ImageNet accuracy was published of {names}")
    figure = Figure(figsize=(11, 6.6), layout="constrained", facecolor="white")
    axis = figure.add_subplot()
    families = sorted(
        {point.family for point in points}, key=lambda f: (min(p.year for p in points if p.family == f), f)
    )
    colors = {family: COLORS[i % len(COLORS)] for i, family in enumerate(families)}
    placed = sorted((p for p in points if p.accuracy is not None), key=lambda p: p.macs)
    for family, color in colors.items():
        members = [point for point in placed if point.family == family]
        x, y = [p.macs for p in members], [p.accuracy or 0.0 for p in members]
        axis.plot(x, y, color=color, linewidth=0.9, alpha=0.45, zorder=1)
        axis.scatter(x, y, s=[_disc(p.params) for p in members], color=color, alpha=0.35, linewidth=0, zorder=2)
        axis.scatter(x, y, s=7, color=color, zorder=3)
    axis.set_xscale("log")
    axis.margins(x=0.12, y=0.08)
    axis.xaxis.set_major_formatter(lambda value, _: human(value))
    axis.xaxis.set_minor_formatter(lambda value, _: human(value) if f"{value:.0e}"[0] in "25" else "")
    axis.set_xlabel("multiply-adds of one image", fontsize=9.5, color=INK)
    axis.set_ylabel("ImageNet accuracy as published, top 1, %", fontsize=9.5, color=INK)
    axis.set_title(title, fontsize=12.5, color=INK, loc="left", fontweight="bold")
    for params in (1_000_000, 25_000_000, 140_000_000):
        axis.scatter([], [], s=_disc(params), color="#9a9aa5", alpha=0.5, linewidth=0, label=human(params))
    axis.legend(
        title="parameters", frameon=False, fontsize=8.5, title_fontsize=8.5, labelspacing=1.6, handletextpad=1.4,
        loc="upper left", borderpad=1.2,
    )  # fmt: skip
    others = [
        f"{_name(p)}: {human(p.macs)} multiply-adds, {human(p.params)} parameters" for p in points if not p.accuracy
    ]
    axis.text(
        0.99, 0.02, literal("\n".join([*(["before ImageNet, and so off the picture:"] if others else []), *others])),
        transform=axis.transAxes, ha="right", va="bottom", fontsize=8, color=INK,
    )  # fmt: skip
    despine(axis)
    axis.tick_params(which="minor", labelsize=8.5, length=0, colors=INK)
    axis.grid(True, color=FAINT, linewidth=0.6)
    figure.draw_without_rendering()  # places are known from here on
    taken = [_around(axis, point) for point in placed]
    for point in placed:
        taken.append(_write(axis, point, colors[point.family], taken))
    save_figure(figure, path)


def _disc(params: int) -> float:
    """Area of a disc, in square points."""
    return params / 1.2e5 + 12


def _name(point: Point) -> str:
    return f"{point.name} '{point.year % 100:02}"


def _around(axis: Axes, point: Point) -> Bbox:
    """The dot of a point, in pixels of the picture."""
    from matplotlib.transforms import Bbox

    x, y = axis.transData.transform((point.macs, point.accuracy or 0.0))
    return Bbox.from_extents(x - 4, y - 4, x + 4, y + 4)


def _write(axis: Axes, point: Point, color: str, taken: Sequence[Bbox]) -> Bbox:
    """Writes a name beside its dot, where it covers least of what is there already."""
    place = (point.macs, point.accuracy or 0.0)
    text = axis.annotate(
        literal(_name(point)), place, xytext=(0, 0), textcoords="offset points", fontsize=8, color=color
    )
    radius = math.sqrt(_disc(point.params)) / 2
    best = None
    for far in (radius + 2, radius + 9, radius + 18):
        for dx, dy in ((1, 0), (-1, 0), (0.7, 1), (0.7, -1), (-0.7, 1), (-0.7, -1), (0, 1), (0, -1)):
            text.set_position((far * dx, far * dy))
            text.set_horizontalalignment("left" if dx > 0 else "right" if dx < 0 else "center")
            text.set_verticalalignment("center" if not dy else "bottom" if dy > 0 else "top")
            box = text.get_window_extent()
            hidden = sum(box.overlaps(other) for other in taken)
            if best is None or hidden < best[0]:
                best = (hidden, box, text.get_position(), text.get_horizontalalignment(), text.get_verticalalignment())
    assert best is not None
    text.set_position(best[2])
    text.set_horizontalalignment(best[3])
    text.set_verticalalignment(best[4])
    return best[1]
