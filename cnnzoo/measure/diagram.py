"""Architecture diagrams as in textbooks: feature maps as boxes, dense layers as bars."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from os import PathLike
from typing import TYPE_CHECKING

from cnnzoo.errors import InputError
from cnnzoo.measure.figures import INK, literal, new_figure, save_figure
from cnnzoo.measure.report import CountReport
from cnnzoo.measure.tables import shape_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MAPS, DENSE, EDGE = "#9fc0dd", "#e0a08f", "#3d4a5c"  # colors
MAX_HEIGHT, MIN_HEIGHT = 2.6, 0.22  # of boxes, in inches
GAP, LANE_GAP = 0.62, 0.95  # between levels, between branches, in inches
SLANT = 0.28  # shift of a box's back face, relative to its height


@dataclass(frozen=True)
class Step:
    """One shape of the diagram.

    Attributes:
        name: The text below it.
        shape: (C, H, W) or (C,).
        inputs: Indices of the steps that it reads.
        level: Its place from left to right.
    """

    name: str
    shape: tuple[int, ...]
    inputs: tuple[int, ...] = ()
    level: int = 0

    @property
    def is_joint(self) -> bool:
        """Whether it is only the point where branches meet."""
        return len(self.inputs) > 1

    @property
    def slant(self) -> float:
        """Shift of its back face, relative to its height."""
        return 0.0 if self.is_joint or len(self.shape) == 1 else SLANT

    @property
    def caption(self) -> str:
        """Its shape as text: ``96 @ 54x54`` or ``4096``."""
        if len(self.shape) == 1:
            return f"{self.shape[0]}"
        return f"{self.shape[0]} @ {shape_text(self.shape[1:])}"


def draw(report: CountReport, path: str | PathLike[str]) -> None:
    """Draws the network of a report, branches side by side.

    Args:
        report: A count of any module on one batch of images (N, C, H, W) or vectors (N, C).
        path: The file; its suffix is the format (``.svg``, ``.png``, ``.pdf``).

    Raises:
        InputError: If the input is neither.
        FileError: If the file cannot be written.
    """
    steps = _steps(report)
    max_side = max((max(step.shape[1:]) for step in steps if len(step.shape) > 1), default=1)
    sizes = [_size(step, max_side) for step in steps]
    levels: dict[int, list[int]] = {}
    for i, step in enumerate(steps):
        levels.setdefault(step.level, []).append(i)
    positions: dict[int, tuple[float, float]] = {}  # x of the left edge, y of the center
    x = 0.0
    for level in sorted(levels):
        members = levels[level]
        pitch = max(sizes[i][1] * (1 + SLANT) for i in members) + LANE_GAP
        for lane, i in enumerate(members):
            positions[i] = (x, ((len(members) - 1) / 2 - lane) * pitch)
        x += max(sizes[i][0] + steps[i].slant * sizes[i][1] for i in members) + GAP
    low = min(positions[i][1] - sizes[i][1] / 2 for i in positions) - 0.75
    high = max(positions[i][1] + sizes[i][1] * (0.5 + SLANT) for i in positions) + 0.75

    figure = new_figure(x + 0.6, high - low, constrained=False)
    axis = figure.add_axes((0, 0, 1, 1))
    axis.set_xlim(-0.5, x + 0.1)
    axis.set_ylim(low, high)
    axis.set_aspect("equal")
    axis.set_axis_off()
    for i, step in enumerate(steps):
        for source in step.inputs:
            start = (
                positions[source][0] + sizes[source][0] + steps[source].slant * sizes[source][1] / 2,
                positions[source][1],
            )
            end = (positions[i][0] - 0.03, positions[i][1])
            skips = step.level - steps[source].level > 1 and start[1] == end[1]  # bend around the steps between
            style = {"arrowstyle": "->", "color": EDGE, "lw": 0.9}
            style |= {"connectionstyle": "arc3,rad=-0.35"} if skips else {}
            axis.annotate("", end, start, arrowprops=style)
    for i, step in enumerate(steps):
        _draw_step(axis, step, positions[i], sizes[i])
    axis.text(-0.35, high - 0.12, literal(report.name), fontsize=12, fontweight="bold", color=INK, va="top")
    save_figure(figure, path)


def _steps(report: CountReport) -> list[Step]:
    """Returns the steps; a layer with one input that keeps its shape (activation, norm) is part of the step before."""
    size = report.input_size
    if len(size) not in (2, 4) or not all(isinstance(n, int) for n in size):
        raise InputError(f"{report.name} at {report.input_text}: draw needs one input (N, C, H, W) or (N, C)")
    steps = [Step("input", tuple(size[1:]))]
    step_of: dict[int, int] = {}  # index of a layer -> index of its step
    joints: dict[tuple[int, ...], int] = {}  # inputs -> index of their joint
    for number, layer in enumerate(report.layers):
        inputs = tuple(dict.fromkeys(step_of[i] for i in layer.inputs if i in step_of)) or (0,)
        if len(inputs) > 1:
            if inputs not in joints:
                joints[inputs] = len(steps)
                steps.append(_joint(steps, inputs))
            inputs = (joints[inputs],)
        before = steps[inputs[0]]
        shape = layer.out_shape[1:]
        is_flatten = len(shape) == 1 and math.prod(before.shape) == shape[0] and not layer.params
        if inputs[0] > 0 and ((shape == before.shape and not layer.macs) or is_flatten):
            step_of[number] = inputs[0]
            continue
        step_of[number] = len(steps)
        name = layer.label.split("/")[-1] or ".".join(layer.name.split(".")[-2:])
        steps.append(Step(name, shape, inputs, before.level + 1))
    return steps


def _joint(steps: Sequence[Step], inputs: tuple[int, ...]) -> Step:
    """Returns the step where branches meet: a sum if their shapes are equal, else a concatenation."""
    shapes = [steps[i].shape for i in inputs]
    level = 1 + max(steps[i].level for i in inputs)
    if len(set(shapes)) == 1:
        return Step("", shapes[0], inputs, level)
    return Step("", (sum(shape[0] for shape in shapes if shape), *shapes[0][1:]), inputs, level)


def _size(step: Step, max_side: int) -> tuple[float, float]:
    """Returns (width, height) in inches: the height by the root of a map's side, other sizes by a logarithm."""
    if step.is_joint:
        return 0.16, 0.16
    if len(step.shape) == 1:
        return 0.16, 0.5 + 0.5 * math.log10(max(step.shape[0], 1))
    height = max(MAX_HEIGHT * math.sqrt(max(step.shape[1:]) / max_side), MIN_HEIGHT)
    return 0.08 + 0.09 * math.log2(step.shape[0] + 1), height


def _draw_step(axis: Axes, step: Step, position: tuple[float, float], size: tuple[float, float]) -> None:
    from matplotlib.patches import Circle, Polygon

    (x, y), (width, height) = position, size
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
    for corners, alpha in faces:
        axis.add_patch(Polygon(corners, closed=True, facecolor="white", edgecolor="none"))
        axis.add_patch(Polygon(corners, closed=True, facecolor=color, edgecolor=EDGE, linewidth=0.8, alpha=alpha))
    center = x + (width + shift) / 2
    axis.text(center, high + shift + 0.08, step.caption, ha="center", va="bottom", fontsize=7.5, color=INK)
    axis.text(
        x + width / 2, low - 0.08, literal(step.name), ha="center", va="top", fontsize=8, color=INK, fontweight="bold"
    )
