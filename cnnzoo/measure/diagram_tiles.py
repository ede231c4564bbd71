"""The boxes of a diagram: maps as cuboids, vectors as bars, joints as discs, each with its text below."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence

from cnnzoo.measure.architecture import Node
from cnnzoo.measure.drawing import TIMES, Disc, Line, Point, Polygon, Shape, Text, text_width, wrap_text
from cnnzoo.measure.tables import human
from cnnzoo.text import printable

SIZE, LEAD = 6.5, 8.0  # of text, in points
MAX_HEIGHT, MIN_HEIGHT = 46.0, 3.0  # of the largest maps, of the smallest
SLANT = 0.32  # of the maps' width to the back
MAX_NAME_WIDTH = 58.0
JOINT_RADIUS = 4.5
TOWER_GAP = 5.0
ARROW_SPACE = 6.0  # beside a cuboid, beyond the gap between boxes
TEXT_GAP = 2.5
MAX_TOWERS = 4  # more groups of maps are written as a number


class Tile:
    """One node with its text.

    Args:
        node: The node.
        max_side: Side of the largest maps of the network.
        towers: In how many towers its maps are drawn.
        show: What is written below it: of ``SHOWN``.

    Attributes:
        width: Width with the text.
        pitch: Distance from one tower to the next.
    """

    def __init__(self, node: Node, max_side: int, towers: int, show: Collection[str]) -> None:
        self.node, self.towers = node, towers
        self.mixes = node.kind in ("conv", "dense", "block", "other") and node.groups != towers
        self.lines = _text_lines(node, show)
        self.name_lines: list[str] = []
        self._measure(max_side)
        self._update_width()

    def set_name(self, name: str) -> None:
        """Sets the name that is written below it; a joint has none."""
        text = printable(name)
        if self.node.repeats:
            text += f" {TIMES}{self.node.repeats}"
        self.name_lines = [] if self.node.is_joint else wrap_text(text, MAX_NAME_WIDTH, SIZE, bold=True)
        self._update_width()

    def add_line(self, text: str) -> None:
        """Adds a line of text."""
        self.lines += wrap_text(printable(text), MAX_NAME_WIDTH, SIZE)
        self._update_width()

    @property
    def text_height(self) -> float:
        """Height of the text, with the space above it."""
        lines = len(self.name_lines) + len(self.lines)
        return TEXT_GAP + LEAD * lines if lines else 0.0

    def _update_width(self) -> None:
        texts = [text_width(line, SIZE, True) for line in self.name_lines]
        texts += [text_width(line, SIZE) for line in self.lines]
        self.width = max([self.depth + self.shift_x + ARROW_SPACE, *(width + 1 for width in texts)])

    def _measure(self, max_side: int) -> None:
        """Sets the sizes of the cuboid, bar or disc."""
        shape = self.node.shape
        self.shift_x = self.shift_y = 0.0
        if self.node.is_joint:
            radius = JOINT_RADIUS if self.node.kind != "join" else 2.0
            self.side = self.depth = 2 * radius
        elif len(shape) < 2:
            self.side, self.depth = 5 + 8 * math.log10(max(shape[0] if shape else 1, 1)), 5.0
        else:
            self.side = max(MIN_HEIGHT, MAX_HEIGHT * math.sqrt(shape[1] / max_side))
            if len(shape) > 2:
                shift = SLANT * max(MIN_HEIGHT, MAX_HEIGHT * math.sqrt(shape[2] / max_side))
                self.shift_x, self.shift_y = shift, 0.7 * shift
            self.depth = 3.0 if self.node.kind == "norm" else 2 + 1.7 * math.log2(shape[0] / self.towers + 1)
        self.pitch = self.side + self.shift_y + TOWER_GAP  # from one tower to the next

    @property
    def bottom(self) -> float:
        """Extent of the cuboids below the axis."""
        return ((self.towers - 1) * self.pitch + self.side) / 2

    @property
    def above(self) -> float:
        """Extent above the axis."""
        return self.bottom + self.shift_y

    def draw(self, shapes: list[Shape], x: float, y: float, text_top: float) -> tuple[float, float, tuple[float, ...]]:
        """Draws the node with its left edge at x and its axis at y; returns where arrows end, begin, and their heights.

        Args:
            shapes: The shapes, to which those of the node are added.
            x: The left edge.
            y: The axis.
            text_top: Where the text begins, below the axis.
        """
        left = x + (self.width - self.depth - self.shift_x) / 2
        heights = tuple(y + (i - (self.towers - 1) / 2) * self.pitch for i in range(self.towers))
        for height in heights:
            if self.node.is_joint:
                draw_joint(shapes, self.node.kind, (left + self.depth / 2, height), self.depth / 2)
            else:
                self._draw_cuboid(shapes, left, height)
        baseline = y + text_top + TEXT_GAP + SIZE * 0.85
        for i, line in enumerate((*self.name_lines, *self.lines)):
            is_name = i < len(self.name_lines)
            color = "ink" if is_name else "muted"
            position = (x + self.width / 2, baseline + i * LEAD)
            shapes.append(Text(position, line, SIZE, bold=is_name, anchor="middle", color=color))
        return left, left + self.depth + self.shift_x, heights

    def _draw_cuboid(self, shapes: list[Shape], x: float, y: float) -> None:
        low, high, right = y + self.side / 2, y - self.side / 2, x + self.depth
        dx, dy = self.shift_x, self.shift_y
        kind = self.node.kind
        if dx:
            shapes.append(
                Polygon([(right, low), (right + dx, low - dy), (right + dx, high - dy), (right, high)], kind, -0.18)
            )
            shapes.append(Polygon([(x, high), (right, high), (right + dx, high - dy), (x + dx, high - dy)], kind, 0.35))
        shapes.append(Polygon([(x, low), (right, low), (right, high), (x, high)], kind))
        if self.node.norm and kind != "block":
            band = min(2.5, self.depth / 3)
            shapes.append(Polygon([(right - band, low), (right, low), (right, high), (right - band, high)], "norm"))
        if kind == "block":  # a line inside: it stands for several operations
            inset = min(1.6, self.side / 4, self.depth / 4)
            corners = [
                (x + inset, low - inset),
                (right - inset, low - inset),
                (right - inset, high + inset),
                (x + inset, high + inset),
            ]
            shapes.append(Line([*corners, corners[0]], "background", 0.6))


def draw_joint(shapes: list[Shape], kind: str, center: Point, radius: float) -> None:
    """Draws the point where branches meet: a plus for a sum, two bars for a concatenation, else a dot."""
    x, y = center
    if kind == "join":
        shapes.append(Disc(center, radius, "line", ""))
        return
    shapes.append(Disc(center, radius, "background", "line"))
    arm = radius * 0.55
    if kind == "add":
        shapes.append(Line([(x - arm, y), (x + arm, y)], width=0.9))
        shapes.append(Line([(x, y - arm), (x, y + arm)], width=0.9))
    else:
        for shift in (-0.3 * radius, 0.3 * radius):
            shapes.append(Line([(x + shift, y - arm), (x + shift, y + arm)], width=0.9))


SHOWN = ("kernel", "activation", "parameters", "macs")


def _text_lines(node: Node, show: Collection[str]) -> list[str]:
    """Returns the lines below the name."""
    lines = [node.shape_text]
    is_norm = node.kind == "norm"
    if "kernel" in show:
        lines += _fitted("" if is_norm else node.op, f"{node.kernel} /{node.stride}" if node.stride else node.kernel)
        if node.kind == "conv" and node.groups == node.shape[0] > 1:
            lines.append("depthwise")
        elif node.groups > MAX_TOWERS:
            lines.append(f"{node.groups} groups")
    if "activation" in show:
        norm = node.op if is_norm else node.norm
        lines += _fitted(f"{norm}," if norm and node.activation else norm, node.activation)
    if "parameters" in show and node.params:
        lines.append(human(node.params))
    if "macs" in show and node.macs:
        lines.append(f"{human(node.macs)} MACs")
    return lines


def _fitted(*parts: str) -> list[str]:
    """Returns parts of a text in one line if they fit, else each in lines of its own."""
    text = printable(" ".join(filter(None, parts)))
    if text_width(text, SIZE) <= MAX_NAME_WIDTH:
        return [text] if text else []
    return [line for part in parts for line in wrap_text(printable(part), MAX_NAME_WIDTH, SIZE) if line]


def count_towers(nodes: Sequence[Node]) -> list[int]:
    """Returns in how many towers the maps of each node are drawn.

    A convolution with 2 to ``MAX_TOWERS`` groups of several maps has as many towers; so have the maps that it reads and
    the pools and normalizations after it, up to the next operation that mixes them.
    """
    towers = [1] * len(nodes)
    readers: list[list[int]] = [[] for _ in nodes]
    for i, node in enumerate(nodes):
        for source in node.inputs:
            readers[source].append(i)
        is_grouped = node.kind == "conv" and 2 <= node.groups <= MAX_TOWERS and node.shape[0] > node.groups
        if is_grouped:
            towers[i] = node.groups
        elif node.kind in ("pool", "norm") and len(node.inputs) == 1 and len(node.shape) == 3:
            towers[i] = towers[node.inputs[0]]
    for i in reversed(range(len(nodes))):
        node = nodes[i]
        needs = {
            towers[reader]
            for reader in readers[i]
            if nodes[reader].groups > 1 or nodes[reader].kind in ("pool", "norm")
        }
        is_split = len(needs) == 1 and len(readers[i]) == 1 and node.kind in ("conv", "pool", "norm")
        if towers[i] == 1 and is_split and node.shape[0] % max(needs) == 0:
            towers[i] = max(needs)
    return towers
