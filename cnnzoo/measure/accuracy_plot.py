"""A scatter plot of networks: accuracy against MACs, with the number of parameters as the area of a marker."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from os import PathLike
from typing import TYPE_CHECKING

from cnnzoo.errors import InputError
from cnnzoo.measure.figures import COLORS, FAINT, INK, despine, literal, new_figure, save_figure
from cnnzoo.measure.tables import human

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.transforms import Bbox


@dataclass(frozen=True)
class Point:
    """One network in the plot.

    Attributes:
        name: Its name.
        family: Networks of one family have one color and are joined by a line.
        year: The year of publication.
        params: Its number of parameters.
        macs: MACs of one image.
        accuracy: In percent; None if none was published: the network is listed in a corner instead.
    """

    name: str
    family: str
    year: int
    params: int
    macs: int
    accuracy: float | None


def plot_accuracy(points: Sequence[Point], path: str | PathLike[str], title: str) -> None:
    """Draws accuracy against MACs; the area of a marker grows with the number of parameters.

    Args:
        points: The networks.
        path: The file; its suffix is the format.
        title: The title.

    Raises:
        InputError: If no network has an accuracy.
        FileError: If the file cannot be written.
    """
    if all(point.accuracy is None for point in points):
        names = ", ".join(point.name for point in points)
        raise InputError(f"there is nothing to draw: no ImageNet accuracy was published for {names}")
    figure = new_figure(11, 6.6)
    axis = figure.add_subplot()
    families = sorted(
        {point.family for point in points}, key=lambda f: (min(p.year for p in points if p.family == f), f)
    )
    colors = {family: COLORS[i % len(COLORS)] for i, family in enumerate(families)}
    plotted = sorted((p for p in points if p.accuracy is not None), key=lambda p: p.macs)
    for family, color in colors.items():
        members = [point for point in plotted if point.family == family]
        x, y = [p.macs for p in members], [p.accuracy or 0.0 for p in members]
        axis.plot(x, y, color=color, linewidth=0.9, alpha=0.45, zorder=1)
        axis.scatter(x, y, s=[_marker_area(p.params) for p in members], color=color, alpha=0.35, linewidth=0, zorder=2)
        axis.scatter(x, y, s=7, color=color, zorder=3)
    axis.set_xscale("log")
    axis.margins(x=0.12, y=0.08)
    axis.xaxis.set_major_formatter(lambda value, _: human(value))
    axis.xaxis.set_minor_formatter(lambda value, _: human(value) if f"{value:.0e}"[0] in "25" else "")
    axis.set_xlabel("multiply-adds of one image", fontsize=9.5, color=INK)
    axis.set_ylabel("ImageNet accuracy as published, top 1, %", fontsize=9.5, color=INK)
    axis.set_title(title, fontsize=12.5, color=INK, loc="left", fontweight="bold")
    for params in (1_000_000, 25_000_000, 140_000_000):
        axis.scatter([], [], s=_marker_area(params), color="#9a9aa5", alpha=0.5, linewidth=0, label=human(params))
    axis.legend(
        title="parameters", frameon=False, fontsize=8.5, title_fontsize=8.5, labelspacing=1.6, handletextpad=1.4,
        loc="upper left", borderpad=1.2,
    )  # fmt: skip
    unplotted = [
        f"{_name(p)}: {human(p.macs)} multiply-adds, {human(p.params)} parameters" for p in points if p.accuracy is None
    ]
    if unplotted:
        unplotted.insert(0, "before ImageNet, and so off the picture:")
    axis.text(
        0.99, 0.02, literal("\n".join(unplotted)),
        transform=axis.transAxes, ha="right", va="bottom", fontsize=8, color=INK,
    )  # fmt: skip
    despine(axis)
    axis.tick_params(which="minor", labelsize=8.5, length=0, colors=INK)
    axis.grid(True, color=FAINT, linewidth=0.6)
    figure.draw_without_rendering()  # fixes the layout, which the positions of the names need
    occupied = [_dot_box(axis, point) for point in plotted]
    for point in plotted:
        occupied.append(_write_name(axis, point, colors[point.family], occupied))
    save_figure(figure, path)


def _marker_area(params: int) -> float:
    """Returns the area of a marker in square points, as ``scatter`` takes it."""
    return params / 1.2e5 + 12


def _name(point: Point) -> str:
    return f"{point.name} '{point.year % 100:02}"


def _dot_box(axis: Axes, point: Point) -> Bbox:
    """Returns the box of a point's dot, in pixels of the figure."""
    from matplotlib.transforms import Bbox

    x, y = axis.transData.transform((point.macs, point.accuracy or 0.0))
    return Bbox.from_extents(x - 4, y - 4, x + 4, y + 4)


def _write_name(axis: Axes, point: Point, color: str, occupied: Sequence[Bbox]) -> Bbox:
    """Writes a name next to its dot, where it overlaps the fewest boxes; returns its box."""
    position = (point.macs, point.accuracy or 0.0)
    text = axis.annotate(
        literal(_name(point)), position, xytext=(0, 0), textcoords="offset points", fontsize=8, color=color
    )
    radius = math.sqrt(_marker_area(point.params)) / 2
    best = None
    for distance in (radius + 2, radius + 9, radius + 18):
        for dx, dy in ((1, 0), (-1, 0), (0.7, 1), (0.7, -1), (-0.7, 1), (-0.7, -1), (0, 1), (0, -1)):
            text.set_position((distance * dx, distance * dy))
            text.set_horizontalalignment("left" if dx > 0 else "right" if dx < 0 else "center")
            text.set_verticalalignment("center" if not dy else "bottom" if dy > 0 else "top")
            box = text.get_window_extent()
            overlaps = sum(box.overlaps(other) for other in occupied)
            if best is None or overlaps < best[0]:
                best = (
                    overlaps,
                    box,
                    text.get_position(),
                    text.get_horizontalalignment(),
                    text.get_verticalalignment(),
                )
    assert best is not None
    text.set_position(best[2])
    text.set_horizontalalignment(best[3])
    text.set_verticalalignment(best[4])
    return best[1]
