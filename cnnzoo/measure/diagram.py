"""The architecture as a picture in the manner of the textbooks: maps as blocks, dense layers as bars."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from os import PathLike
from typing import TYPE_CHECKING

from cnnzoo.errors import InputError
from cnnzoo.measure.layer_plot import INK, literal, save_figure
from cnnzoo.measure.report import CountReport

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MAPS, DENSE, EDGE = "#9fc0dd", "#e0a08f", "#3d4a5c"
TALLEST, THINNEST = 2.6, 0.22  # inches of a map of the input's size, of the smallest
GAP, LANE_GAP = 0.62, 0.95
SLANT = 0.28  # of a block's height, how far its back is shifted


@dataclass(frozen=True)
class _Step:
    """What is drawn: a shape, the steps that feed it, and how far along it stands."""

    name: str
    shape: tuple[int, ...]
    inputs: tuple[int, ...] = ()
    level: int = 0

    @property
    def is_joint(self) -> bool:
        """Whether this is only where branches meet."""
        return len(self.inputs) > 1

    @property
    def slant(self) -> float:
        """How far its back is shifted, of its height."""
        return 0.0 if self.is_joint or len(self.shape) == 1 else SLANT

    @property
    def caption(self) -> str:
        """``96 @ 54x54``, or ``4096``."""
        if len(self.shape) == 1:
            return f"{self.shape[0]}"
        return f"{self.shape[0]} @ {'x'.join(map(str, self.shape[1:]))}"


def draw(report: CountReport, path: str | PathLike[str]) -> None:
    """Draws the network that a report describes, branches side by side.

    Args:
        report: A count of any module on one batch of images (N, C, H, W) or vectors (N, C).
        path: Where to; the suffix says the format (``.svg``, ``.png``, ``.pdf``).

    Raises:
        InputError: If the report is of several inputs, or of no images.
        FileError: If the picture cannot be written.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    steps = _steps(report)
    tallest = max((max(step.shape[1:]) for step in steps if len(step.shape) > 1), default=1)
    sizes = [_size(step, tallest) for step in steps]
    levels: dict[int, list[int]] = {}
    for i, step in enumerate(steps):
        levels.setdefault(step.level, []).append(i)
    places: dict[int, tuple[float, float]] = {}  # the left end and the middle of each step
    x = 0.0
    for level in sorted(levels):
        members = levels[level]
        pitch = max(sizes[i][1] * (1 + SLANT) for i in members) + LANE_GAP
        for lane, i in enumerate(members):
            places[i] = (x, ((len(members) - 1) / 2 - lane) * pitch)
        x += max(sizes[i][0] + steps[i].slant * sizes[i][1] for i in members) + GAP
    low = min(places[i][1] - sizes[i][1] / 2 for i in places) - 0.75
    high = max(places[i][1] + sizes[i][1] * (0.5 + SLANT) for i in places) + 0.75

    figure = Figure(figsize=(x + 0.6, high - low), facecolor="white")
    FigureCanvasAgg(figure)
    axis = figure.add_axes((0, 0, 1, 1))
    axis.set_xlim(-0.5, x + 0.1)
    axis.set_ylim(low, high)
    axis.set_aspect("equal")
    axis.set_axis_off()
    for i, step in enumerate(steps):
        for source in step.inputs:
            start = (
                places[source][0] + sizes[source][0] + steps[source].slant * sizes[source][1] / 2,
                places[source][1],
            )
            end = (places[i][0] - 0.03, places[i][1])
            skips = step.level - steps[source].level > 1 and start[1] == end[1]  # goes around what lies between
            look = {"arrowstyle": "->", "color": EDGE, "lw": 0.9}
            look |= {"connectionstyle": "arc3,rad=-0.35"} if skips else {}
            axis.annotate("", end, start, arrowprops=look)
    for i, step in enumerate(steps):
        _draw_step(axis, step, places[i], sizes[i])
    axis.text(-0.35, high - 0.12, literal(report.name), fontsize=12, fontweight="bold", color=INK, va="top")
    save_figure(figure, path)


def _steps(report: CountReport) -> list[_Step]:
    """Layers that keep the shape and have one input (activations, normalizations) belong to the step before."""
    size = report.input_size
    if len(size) not in (2, 4) or not all(isinstance(n, int) for n in size):
        raise InputError(f"{report.name} at {report.input_text}: draw needs one input (N, C, H, W) or (N, C)")
    steps = [_Step("input", tuple(size[1:]))]
    step_of: dict[int, int] = {}
    joints: dict[tuple[int, ...], int] = {}
    for number, row in enumerate(report.layers):
        inputs = tuple(dict.fromkeys(step_of[i] for i in row.inputs if i in step_of)) or (0,)
        if len(inputs) > 1:
            if inputs not in joints:
                joints[inputs] = len(steps)
                steps.append(_joint(steps, inputs))
            inputs = (joints[inputs],)
        before = steps[inputs[0]]
        shape = row.out_shape[1:]
        flattened = len(shape) == 1 and math.prod(before.shape) == shape[0] and not row.params
        if inputs[0] > 0 and ((shape == before.shape and not row.macs) or flattened):
            step_of[number] = inputs[0]
            continue
        step_of[number] = len(steps)
        name = row.label.split("/")[-1] or ".".join(row.name.split(".")[-2:])
        steps.append(_Step(name, shape, inputs, before.level + 1))
    return steps


def _joint(steps: Sequence[_Step], inputs: tuple[int, ...]) -> _Step:
    """Where branches meet: a sum, where all have one shape, else a concatenation."""
    shapes = [steps[i].shape for i in inputs]
    level = 1 + max(steps[i].level for i in inputs)
    if len(set(shapes)) == 1:
        return _Step("", shapes[0], inputs, level)
    return _Step("", (sum(shape[0] for shape in shapes if shape), *shapes[0][1:]), inputs, level)


def _size(step: _Step, tallest: int) -> tuple[float, float]:
    """(width, height) in inches: maps by the root of their side, thickness and bars by the log of their number."""
    if step.is_joint:
        return 0.16, 0.16
    if len(step.shape) == 1:
        return 0.16, 0.5 + 0.5 * math.log10(max(step.shape[0], 1))
    height = max(TALLEST * math.sqrt(max(step.shape[1:]) / tallest), THINNEST)
    return 0.08 + 0.09 * math.log2(step.shape[0] + 1), height


def _draw_step(axis: Axes, step: _Step, place: tuple[float, float], size: tuple[float, float]) -> None:
    from matplotlib.patches import Circle, Polygon

    (x, y), (width, height) = place, size
    if step.is_joint:
        axis.add_patch(Circle((x + width / 2, y), width / 2, facecolor=EDGE))
        return
    low, high = y - height / 2, y + height / 2
    shift = step.slant * height
    color = DENSE if len(step.shape) == 1 else MAPS
    faces: list[tuple[Sequence[tuple[float, float]], float]] = [
        ([(x, low), (x + width, low), (x + width, high), (x, high)], 1.0)
    ]
    if shift:
        back = [(x + width + shift, low + shift), (x + width + shift, high + shift)]
        faces.append(([(x + width, low), back[0], back[1], (x + width, high)], 0.75))
        faces.append(([(x, high), (x + width, high), back[1], (x + shift, high + shift)], 0.5))
    for corners, strength in faces:
        axis.add_patch(Polygon(corners, closed=True, facecolor="white", edgecolor="none"))
        axis.add_patch(Polygon(corners, closed=True, facecolor=color, edgecolor=EDGE, linewidth=0.8, alpha=strength))
    middle = x + (width + shift) / 2
    axis.text(middle, high + shift + 0.08, step.caption, ha="center", va="bottom", fontsize=7.5, color=INK)
    axis.text(
        x + width / 2, low - 0.08, literal(step.name), ha="center", va="top", fontsize=8, color=INK, fontweight="bold"
    )
