"""A plot of networks: accuracy over the years, with the number of parameters as the area of a disc."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from os import PathLike

from cnnzoo.errors import InputError
from cnnzoo.measure.drawing import LIGHT, Disc, Drawing, Line, Polygon, Shape, Text, text_width
from cnnzoo.measure.drawing_files import save_drawing
from cnnzoo.measure.figures import COLORS
from cnnzoo.measure.tables import human
from cnnzoo.text import printable

SIZE, TITLE_SIZE = 8.0, 11.0  # of text, in points
LEAD = 10.0  # least distance of labels
PLOT_HEIGHT = 300.0
LEFT, TOP = 44.0, 34.0  # of the plot
LEGEND_PARAMS = (1_000_000, 25_000_000, 140_000_000)


@dataclass(frozen=True)
class Point:
    """One network in the plot.

    Attributes:
        name: Its name.
        family: Networks of one family have one color.
        year: The year of publication.
        params: Its number of parameters.
        macs: MACs of one image.
        accuracy: In percent; None if none was published: the network is drawn below the axis of accuracies.
    """

    name: str
    family: str
    year: int
    params: int
    macs: int
    accuracy: float | None


def plot_accuracy(points: Sequence[Point], path: str | PathLike[str], title: str) -> None:
    """Draws accuracy over the years; the area of a disc grows with the number of parameters.

    Args:
        points: The networks.
        path: The file; its suffix is the format.
        title: The title.

    Raises:
        InputError: If no network has an accuracy.
        FileError: If the file cannot be written.
    """
    save_drawing(accuracy_drawing(points, title), path)


def accuracy_drawing(points: Sequence[Point], title: str) -> Drawing:
    """Returns the picture of ``plot_accuracy``."""
    accuracies = [point.accuracy for point in points if point.accuracy is not None]
    if not accuracies:
        names = ", ".join(point.name for point in points)
        raise InputError(f"there is nothing to draw: no ImageNet accuracy was published for {names}")
    families = list(dict.fromkeys(point.family for point in sorted(points, key=lambda p: (p.year, p.name))))
    colors = {f"family{i}": COLORS[i % len(COLORS)] for i in range(len(families))}
    drawing = Drawing(0.0, 0.0, title, {**LIGHT, **colors})
    low, high = math.floor(min(accuracies)) - 1, math.ceil(max(accuracies)) + 1
    bottom = TOP + PLOT_HEIGHT
    has_unknown = len(accuracies) < len(points)
    axis = bottom + (2 * LEAD if has_unknown else 0.0)

    def height(accuracy: float | None) -> float:
        return axis - LEAD / 2 if accuracy is None else bottom - (accuracy - low) / (high - low) * PLOT_HEIGHT

    years = sorted({point.year for point in points})
    columns = [[point for point in points if point.year == year] for year in years]
    x = LEFT + 12
    labels: list[Shape] = []
    for year, before, column in zip(years, [None, *years], columns, strict=False):
        if before is not None and year > before + 1:  # the axis leaves years out
            drawing.shapes += [Line([(x + i, axis + 4), (x + i + 4, axis - 4)], "muted") for i in (0, 3)]
            x += 16
        radius = max(_radius(point.params) for point in column)
        center, label_x = x + radius, x + 2 * radius + 9
        drawing.shapes.append(Line([(center, axis), (center, axis + 3)], "muted"))
        drawing.shapes.append(Text((center, axis + 12), str(year), SIZE, bold=True, anchor="middle"))
        column.sort(key=lambda point: height(point.accuracy))
        wanted = [height(point.accuracy) for point in column]
        for point, y, label_y in zip(column, wanted, spread(wanted, LEAD, axis - LEAD / 2 - 0.5), strict=True):
            color = f"family{families.index(point.family)}"
            drawing.shapes.append(Disc((center, y), _radius(point.params), color, "", opacity=0.4))
            labels.append(Disc((center, y), 1.6, color, ""))
            labels.append(Line([(center, y), (center + radius, label_y), (label_x - 2, label_y)], color, 0.5))
            name = Text((label_x, label_y + SIZE * 0.36), printable(point.name), SIZE, bold=True, color=color)
            right, top, low_edge = label_x + name.width, label_y - LEAD / 2, label_y + LEAD / 2
            ground = [(label_x - 1, top), (right + 1, top), (right + 1, low_edge), (label_x - 1, low_edge)]
            labels += [Polygon(ground, "background", stroke=""), name]  # no grid line crosses a name
            x = max(x, right)
        x += 16
    drawing.width = max(x, LEFT + text_width(title, TITLE_SIZE, bold=True) + 10)
    _draw_axes(drawing, low, high, bottom, axis, x, has_unknown)
    drawing.shapes += labels
    drawing.shapes.insert(0, Text((6, 16), title, TITLE_SIZE, bold=True))
    drawing.height = _write_legend(drawing, axis + 26)
    return drawing


def _radius(params: int) -> float:
    """Returns the radius of a disc in points: its area grows with the parameters."""
    return math.sqrt(params / 3.6e5) + 1.5


def _draw_axes(
    drawing: Drawing, low: int, high: int, bottom: float, axis: float, right: float, has_unknown: bool
) -> None:
    """Draws the axis of the years, and the lines and numbers of the accuracies, behind all else."""
    step = next(step for step in (1, 2, 5, 10, 20) if (high - low) / step <= 8)
    grid: list[Line | Text] = []
    for value in range(-(-low // step) * step, high + 1, step):
        y = bottom - (value - low) / (high - low) * PLOT_HEIGHT
        grid.append(Line([(LEFT, y), (right - 6, y)], "faint", 0.5))
        grid.append(Text((LEFT - 5, y + SIZE * 0.36), f"{value} %", SIZE, anchor="end", color="muted"))
    if has_unknown:
        grid.append(Text((LEFT - 5, axis - LEAD / 2 + SIZE * 0.36), "none", SIZE, anchor="end", color="muted"))
    grid.append(Line([(LEFT, axis), (right - 6, axis)], "muted"))
    subtitle = "ImageNet accuracy as published, top 1, with different training and crops"
    subtitle += "; none: not published" if has_unknown else ""
    grid.append(Text((6, 27), subtitle, SIZE, color="muted"))
    drawing.shapes[:0] = grid
    drawing.width = max(drawing.width, 12 + text_width(subtitle, SIZE))


def _write_legend(drawing: Drawing, y: float) -> float:
    """Writes what discs and labels mean; returns the height below."""
    radius = _radius(LEGEND_PARAMS[-1])
    middle = y + radius
    x = 6.0
    for text, params in (("Area of a disc: parameters", None), *((human(n), n) for n in LEGEND_PARAMS)):
        if params is not None:
            drawing.shapes.append(Disc((x + _radius(params), middle), _radius(params), "muted", "", opacity=0.4))
            x += 2 * _radius(params) + 3
        drawing.shapes.append(Text((x, middle + SIZE * 0.36), text, SIZE, color="muted"))
        x += text_width(text, SIZE) + 8
    return middle + radius + 6


def spread(wanted: Sequence[float], distance: float, last: float) -> list[float]:
    """Returns positions in order, at least a distance apart and at most ``last``, close to the wanted ones.

    Args:
        wanted: The wanted positions, ascending.
        distance: The least distance of neighbors.
        last: The maximum of the last position.
    """
    groups: list[tuple[float, int]] = []  # mean of (wanted - offset in the group), number of members
    for position in wanted:
        mean, number = position, 1
        while groups and groups[-1][0] + groups[-1][1] * distance > mean:
            before, members = groups.pop()
            mean = (before * members + (mean - members * distance) * number) / (members + number)
            number += members
        groups.append((mean, number))
    positions = [mean + i * distance for mean, number in groups for i in range(number)]
    for i in reversed(range(len(positions))):
        positions[i] = min(positions[i], last)
        last = positions[i] - distance
    return positions
