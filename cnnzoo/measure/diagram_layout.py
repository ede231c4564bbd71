"""The geometry of a diagram: boxes in lines of a width, branches side by side, arrows from edges."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from cnnzoo.measure.architecture import Node
from cnnzoo.measure.architecture_levels import common_name
from cnnzoo.measure.diagram_tiles import LEAD, SIZE, Tile
from cnnzoo.measure.drawing import Line, Point, Polygon, Shape, Text, text_width
from cnnzoo.measure.series_parallel import Item, Split, Tangle, decompose, drawn_edges, nodes_of
from cnnzoo.text import printable

GAP = 4.0  # between the boxes of a line
LANE_GAP = 7.0  # between branches
LINE_GAP = 11.0  # between lines
BUS = 7.0  # on each side of branches, for the lines that lead to them
MARGIN = 8.0  # on each side of several lines, for the arrow from one to the next
TOWER_STEP = 3.0  # between the lines of towers that go on in the next line
PAD = 4.0  # between branches and the ground behind them


@dataclass(frozen=True)
class Ports:
    """Where arrows end and begin: several heights if maps are drawn in towers."""

    left: float
    entries: tuple[float, ...]
    right: float
    exits: tuple[float, ...]
    mixes: bool = True  # whether each output map depends on every tower
    is_arrow: bool = True  # whether an arrow ends here, or a line goes on


class Box:
    """What has a place in a line: its extents to the right, above and below the line's axis."""

    width: float
    above: float
    below: float
    is_linked: bool = True  # whether it reads the box before it

    def draw(self, shapes: list[Shape], x: float, y: float) -> Ports:
        """Draws it with its left edge at x and its axis at y."""
        raise NotImplementedError


class TileBox(Box):
    """A single node."""

    def __init__(self, tile: Tile, is_linked: bool = True) -> None:
        self.tile, self.is_linked = tile, is_linked
        self.width = tile.width
        self.text_top = tile.bottom  # of the text, below the axis; a line lowers it to that of its lowest box

    @property
    def above(self) -> float:  # type: ignore[override]
        """Extent above the axis."""
        return self.tile.above

    @property
    def below(self) -> float:  # type: ignore[override]
        """Extent below the axis."""
        return self.text_top + self.tile.text_height

    def draw(self, shapes: list[Shape], x: float, y: float) -> Ports:
        """Draws it with its left edge at x and its axis at y."""
        left, right, heights = self.tile.draw(shapes, x, y, self.text_top)
        return Ports(left, heights, right, heights, self.tile.mixes)


class LineBox(Box):
    """Boxes in a row."""

    def __init__(self, boxes: Sequence[Box], gap: float = GAP) -> None:
        self.boxes, self.gap = boxes, gap
        tiles = [box for box in boxes if isinstance(box, TileBox) and not box.tile.node.is_joint]
        pitch = max([box.tile.pitch for box in tiles if box.tile.towers > 1], default=0.0)
        for box in tiles:
            box.tile.pitch = max(pitch, box.tile.pitch)  # towers go straight on
        for box in tiles:
            box.text_top = max(one.tile.bottom for one in tiles)
        self.is_linked = boxes[0].is_linked
        self.width = sum(box.width for box in boxes) + gap * (len(boxes) - 1)
        self.above = max(box.above for box in boxes)
        self.below = max(box.below for box in boxes)

    def draw(self, shapes: list[Shape], x: float, y: float) -> Ports:
        """Draws it with its left edge at x and its axis at y."""
        ports: list[Ports] = []
        for box in self.boxes:
            ports.append(box.draw(shapes, x, y))
            x += box.width + self.gap
            if len(ports) > 1 and box.is_linked:
                connect(shapes, ports[-2], ports[-1])
        return Ports(
            ports[0].left, ports[0].entries, ports[-1].right, ports[-1].exits, ports[0].mixes, ports[0].is_arrow
        )


class StackBox(Box):
    """Lines below each other, with an arrow from the end of one to the beginning of the next."""

    def __init__(self, lines: Sequence[Box]) -> None:
        self.lines = lines
        self.width = max(line.width for line in lines) + 2 * MARGIN
        self.above = lines[0].above
        self.axes = [0.0]
        for line, following in pairwise(lines):
            self.axes.append(self.axes[-1] + line.below + LINE_GAP + following.above)
        self.below = self.axes[-1] + lines[-1].below

    def draw(self, shapes: list[Shape], x: float, y: float) -> Ports:
        """Draws it with its left edge at x and its axis at y."""
        ports = []
        for line, axis in zip(self.lines, self.axes, strict=True):
            ports.append(line.draw(shapes, x + MARGIN, y + axis))
        for i, (line, axis) in enumerate(zip(self.lines[:-1], self.axes, strict=False)):
            right = max(x + MARGIN + line.width, ports[i].right) + MARGIN / 2
            between = y + axis + line.below + LINE_GAP / 2
            if self.lines[i + 1].is_linked:
                _wrap(shapes, ports[i], ports[i + 1], right, between, x + MARGIN / 2)
        return Ports(
            ports[0].left, ports[0].entries, ports[-1].right, ports[-1].exits, ports[0].mixes, ports[0].is_arrow
        )


class SplitBox(Box):
    """Branches side by side, with the joint behind them, on a ground with their block's name."""

    def __init__(self, lanes: Sequence[Box | None], joint: TileBox | None, meets: bool, name: str) -> None:
        self.lanes, self.joint, self.meets, self.name = lanes, joint, meets, name
        lane_width = max([lane.width for lane in lanes if lane] + [text_width(name, SIZE, True) - 2 * BUS])
        self.lane_width = lane_width
        heights = [(lane.above, lane.below) if lane else (2.0, 0.0) for lane in lanes]
        axes = [heights[0][0]]
        for (_, below), (above, _) in pairwise(heights):
            axes.append(axes[-1] + below + LANE_GAP + above)
        # the axis of the whole: that of the longest of two branches, else the middle
        longest = max(range(len(lanes)), key=lambda i: lane.width if (lane := lanes[i]) else 0.0)
        axis = axes[longest] if len(lanes) < 3 else (axes[0] + axes[-1]) / 2
        self.axes = [one - axis for one in axes]
        top = PAD + (LEAD if name else 0.0)
        self.above = axis + top
        self.below = axes[-1] + heights[-1][1] - axis + PAD
        self.inner_width = lane_width + 2 * BUS
        self.width = self.inner_width + (GAP + joint.width if joint else 0.0)
        if joint:
            self.above, self.below = max(self.above, joint.above + top), max(self.below, joint.below + PAD)

    def draw(self, shapes: list[Shape], x: float, y: float) -> Ports:
        """Draws it with its left edge at x and its axis at y."""
        if self.name:
            left, right, top, low = x - 1, x + self.width + 1, y - self.above, y + self.below
            shapes.append(Polygon([(left, top), (right, top), (right, low), (left, low)], "group", stroke=""))
            shapes.append(Text((x + 2, top + SIZE + 1), self.name, SIZE, bold=True, color="muted"))
        fork, meeting = x + BUS / 2, x + self.inner_width - BUS / 2
        for lane, axis in zip(self.lanes, self.axes, strict=True):
            if lane is None:
                shapes.append(Line([(fork, y), (fork, y + axis), (meeting, y + axis), (meeting, y)]))
                continue
            ports = lane.draw(shapes, x + BUS + (self.lane_width - lane.width) / 2, y + axis)
            for height in ports.entries:
                shapes.append(Line([(fork, y), (fork, height), (ports.left, height)], is_arrow=ports.is_arrow))
            for height in ports.exits if self.meets else ():
                shapes.append(Line([(ports.right, height), (meeting, height), (meeting, y)]))
        if self.joint is None:
            return Ports(fork, (y,), meeting, (y,), is_arrow=False)
        after = self.joint.draw(shapes, x + self.inner_width + GAP, y)
        connect(shapes, Ports(fork, (y,), meeting, (y,)), after)
        return Ports(fork, (y,), after.right, after.exits, is_arrow=False)


def _wrap(shapes: list[Shape], a: Ports, b: Ports, right: float, between: float, left: float) -> None:
    """Draws the arrows from the end of a line to the beginning of the next.

    Args:
        shapes: The shapes, to which they are added.
        a: The end.
        b: The beginning.
        right: Where they go down.
        between: Where they go back to the left.
        left: Where they go down again.
    """
    number = len(a.exits)
    if number > 1 and number == len(b.entries) and not b.mixes:  # towers stay apart, and do not cross
        for i, (start, end) in enumerate(zip(a.exits, b.entries, strict=True)):
            step = (i - (number - 1) / 2) * TOWER_STEP
            corners = [(right - step, start), (right - step, between - step), (left - step, between - step)]
            shapes.append(Line([(a.right, start), *corners, (left - step, end), (b.left, end)], is_arrow=b.is_arrow))
        return
    start, end = _mean(a.exits), _mean(b.entries)
    for height in a.exits:
        shapes.append(Line([(a.right, height), (right, height), (right, start)]))
    shapes.append(Line([(right, start), (right, between), (left, between), (left, end)]))
    for height in b.entries:
        shapes.append(Line([(left, end), (left, height), (b.left, height)], is_arrow=b.is_arrow))


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def connect(shapes: list[Shape], a: Ports, b: Ports) -> None:
    """Draws the arrows from one box to the next: between towers straight, or crossed if each reads all of them."""
    if len(a.exits) == len(b.entries) and not (b.mixes and len(b.entries) > 1):
        pairs = list(zip(a.exits, b.entries, strict=True))
    else:
        pairs = [(start, end) for start in a.exits for end in b.entries]
    for start, end in pairs:
        points: list[Point] = [(a.right, start), (b.left, end)]
        shapes.append(Line(points, is_arrow=b.is_arrow))


# --- from nodes to boxes ---


class Layout:
    """Builds the boxes of a graph.

    Args:
        nodes: The nodes.
        tiles: One per node.
        columns: Maximum number of boxes in a line; None is as many as fit.
    """

    def __init__(self, nodes: Sequence[Node], tiles: Sequence[Tile], columns: int | None) -> None:
        self.nodes, self.tiles, self.columns = nodes, tiles, columns

    def build(self, width: float) -> Box:
        """Returns the whole graph in lines of at most a width."""
        items = decompose([node.inputs for node in self.nodes])
        drawn = drawn_edges(items)
        for index, node in enumerate(self.nodes):
            for source in node.inputs:
                if (source, index) not in drawn:  # no arrow leads from there to here
                    self.tiles[index].add_line(f"reads {self._label(source, self._parent(index))}")
        self.unlinked = {b for a, b in drawn if a not in self.nodes[b].inputs}
        return self._stack(self._boxes(items, width, (), meets=False), width, self.columns, justify=True)

    def _boxes(self, items: Sequence[Item], width: float, group: tuple[str, ...], meets: bool) -> list[Box]:
        """Returns the boxes of a chain.

        Args:
            items: The items of the chain.
            width: The width that they may take.
            group: The name of the block that they are in.
            meets: Whether a joint follows the chain.
        """
        boxes: list[Box] = []
        position = 0
        while position < len(items):
            item = items[position]
            position += 1
            if isinstance(item, int):
                boxes.append(self._tile(item, group))
            elif isinstance(item, Tangle):
                boxes += [self._tile(index, group) for index in item.nodes]
            else:
                following = items[position] if position < len(items) else None
                joint = following if isinstance(following, int) and self.nodes[following].is_joint else None
                position += joint is not None
                boxes.append(
                    self._split(item, joint, width, group, meets or position < len(items) or joint is not None)
                )
        return boxes

    def _tile(self, index: int, group: tuple[str, ...]) -> TileBox:
        tile = self.tiles[index]
        tile.set_name(self._label(index, group))
        return TileBox(tile, is_linked=index not in self.unlinked)

    def _parent(self, index: int) -> tuple[str, ...]:
        return self.nodes[index].name[:-1]

    def _label(self, index: int, group: tuple[str, ...]) -> str:
        """Returns the name of a node, without that of the block that it is in."""
        node = self.nodes[index]
        name = node.name[len(group) :] if node.name[: len(group)] == group else node.name
        return ("/" if node.in_block else ".").join(name or node.name[-1:])

    def _split(self, item: Split, joint: int | None, width: float, group: tuple[str, ...], meets: bool) -> SplitBox:
        members = [*nodes_of(item), *([] if joint is None else [joint])]
        name = common_name([self.nodes[i].name for i in members])
        if len(name) <= len(group):
            name = group
        joint_box = None if joint is None else self._tile(joint, name)
        inner = width - 2 * BUS - (GAP + joint_box.width if joint_box else 0.0)
        lanes: list[Box | None] = []
        for lane in item.lanes:
            boxes = self._boxes(lane, inner, name, meets)
            lanes.append(self._stack(boxes, inner, None) if boxes else None)
        separator = "/" if self.nodes[members[0]].in_block else "."
        return SplitBox(lanes, joint_box, meets, printable(separator.join(name[len(group) :])))

    def _stack(self, boxes: Sequence[Box], width: float, columns: int | None, justify: bool = False) -> Box:
        """Returns boxes in a line, or in several if they are wider than the width or more than the columns."""
        if sum(box.width + GAP for box in boxes) - GAP <= width and len(boxes) <= (columns or len(boxes)):
            gap = min((width - sum(box.width for box in boxes)) / (len(boxes) - 1), 3 * GAP) if len(boxes) > 1 else GAP
            return LineBox(boxes, gap if justify else GAP)
        inner = width - 2 * MARGIN
        rows = _balance([box.width for box in boxes], inner, columns)
        lines: list[Box] = []
        first = 0
        gaps = []
        for number in rows:
            row = boxes[first : first + number]
            free = inner - sum(box.width for box in row)
            gaps.append(min(free / (number - 1), 3 * GAP) if number > 1 else GAP)
            first += number
        first = 0
        shared = min(gaps) if justify else GAP
        for number, gap in zip(rows, gaps, strict=True):
            lines.append(LineBox(boxes[first : first + number], max(GAP, min(gap, shared * 1.6)) if justify else GAP))
            first += number
        return StackBox(lines)


def _balance(widths: Sequence[float], width: float, columns: int | None) -> list[int]:
    """Returns the number of boxes of each line: as few lines as possible, about equally full."""

    def fill(limit: float) -> list[int]:
        rows: list[int] = []
        used = math.inf
        for one in widths:
            if used + GAP + one > limit or rows[-1] == columns:
                rows.append(0)
                used = -GAP
            rows[-1] += 1
            used += GAP + one
        return rows

    fewest = fill(width)
    low, high = max(widths), width
    for _ in range(20):  # the least width that needs no more lines
        middle = (low + high) / 2
        if len(fill(middle)) > len(fewest):
            low = middle
        else:
            high = middle
    return fill(high)
