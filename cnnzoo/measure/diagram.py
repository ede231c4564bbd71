"""Diagrams of architectures: maps as cuboids, vectors as bars, branches side by side, in lines of a page's width."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Sequence
from os import PathLike

from cnnzoo.errors import InputError, unknown
from cnnzoo.fields import check_positive_int
from cnnzoo.measure.architecture import Node, layer_graph
from cnnzoo.measure.architecture_levels import block_graph, stage_graph
from cnnzoo.measure.diagram_layout import Layout
from cnnzoo.measure.diagram_tiles import LEAD, SHOWN, SIZE, Tile, count_towers, draw_joint
from cnnzoo.measure.drawing import DARK, LIGHT, TIMES, Drawing, Polygon, Text, text_width, wrap_text
from cnnzoo.measure.drawing_files import save_drawing, svg_text, tikz_text
from cnnzoo.measure.report import CountReport
from cnnzoo.measure.tables import human
from cnnzoo.text import printable

DETAILS = ("stage", "block", "layer")
PAGE_HEIGHT = 9 * 72  # points of a page: the maximum of a diagram whose detail is chosen
TITLE_SIZE = 8.0
SWATCH = 6.0
KIND_NAMES = {
    "conv": "convolution", "block": "several operations", "pool": "pooling", "norm": "normalization",
    "dense": "dense layer", "other": "other operation", "add": "sum", "concat": "concatenation",
    "join": "branches meet",
}  # fmt: skip


class Diagram:
    """The picture of an architecture, which notebooks display.

    Attributes:
        drawing: Its shapes.
        detail: Its level of detail.
    """

    def __init__(self, drawing: Drawing, detail: str) -> None:
        self.drawing, self.detail = drawing, detail

    @property
    def width(self) -> float:
        """Its width in inches."""
        return self.drawing.width / 72

    @property
    def height(self) -> float:
        """Its height in inches."""
        return self.drawing.height / 72

    def __repr__(self) -> str:
        return f"<Diagram of {self.drawing.title}: {self.width:.1f} x {self.height:.1f} in, detail={self.detail!r}>"

    def _repr_svg_(self) -> str:
        return svg_text(self.drawing)

    def to_svg(self) -> str:
        """Returns the picture as SVG with real text; the same network gives the same bytes."""
        return svg_text(self.drawing)

    def to_tikz(self) -> str:
        """Returns the picture as a standalone LaTeX document."""
        return tikz_text(self.drawing)

    def save(self, path: str | PathLike[str]) -> None:
        """Writes the picture to a file.

        Args:
            path: The file; its suffix is the format: ``.svg``, ``.tex`` (TikZ), ``.pdf``, ``.png``.

        Raises:
            FileError: If the file cannot be written.
        """
        save_drawing(self.drawing, path)


def draw(
    report: CountReport,
    path: str | PathLike[str] | None = None,
    *,
    detail: str | None = None,
    width: float = 5.5,
    columns: int | None = None,
    show: Sequence[str] = ("kernel", "activation"),
    legend: bool = True,
    dark: bool = False,
) -> Diagram:
    """Draws the network of a report.

    Args:
        report: A count of any module on one batch of images (N, C, H, W) or vectors (N, C).
        path: The file; its suffix is the format (``.svg``, ``.tex``, ``.pdf``, ``.png``). None writes none.
        detail: ``"layer"`` draws each layer, ``"block"`` a block with branches as one box, ``"stage"`` blocks in a row
            whose maps have one size as one box. None is the most detailed that fits on a page.
        width: Width of the picture in inches; text has its size in points at this width.
        columns: Maximum number of boxes in a line; None is as many as fit.
        show: What is written below a box, besides its name and shape: of ``SHOWN``.
        legend: Whether to write the title and the legend.
        dark: Whether to draw on a dark ground.

    Returns:
        The picture.

    Raises:
        InputError: If the network has another input, an argument has another value, or the width is too small.
        FileError: If the file cannot be written.
    """
    if detail is not None and detail not in DETAILS:
        raise unknown("detail", detail, DETAILS)
    for one in [show] if isinstance(show, str) else show:
        if one not in SHOWN:
            raise unknown("text in a diagram", one, SHOWN)
    if not (isinstance(width, (int, float)) and 1 <= width <= 200):
        raise InputError(f"width must be in inches, from 1 to 200, not {width!r}")
    if columns is not None:
        check_positive_int("columns", columns)
    layers = layer_graph(report)
    for level in (*reversed(DETAILS),) if detail is None else (detail,):
        is_last = level in (detail, DETAILS[0])
        try:
            drawing = _drawing(report, _NODES[level](layers), float(width) * 72, columns, show, legend, dark)
        except InputError:  # the width is too small
            if is_last:
                raise
            continue
        if is_last or drawing.height <= PAGE_HEIGHT:
            break
    diagram = Diagram(drawing, level)
    if path is not None:
        diagram.save(path)
    return diagram


_NODES: dict[str, Callable[[Sequence[Node]], Sequence[Node]]] = {
    "layer": lambda layers: layers,
    "block": block_graph,
    "stage": stage_graph,
}


def _drawing(
    report: CountReport,
    nodes: Sequence[Node],
    width: float,
    columns: int | None,
    show: Collection[str],
    legend: bool,
    dark: bool,
) -> Drawing:
    sides = [side for node in nodes for side in node.shape[1:]]
    towers = count_towers(nodes)
    tiles = [Tile(node, max(sides, default=1), one, show) for node, one in zip(nodes, towers, strict=True)]
    box = Layout(nodes, tiles, columns).build(width)
    if box.width > width + 0.01:
        raise InputError(
            f"the picture of {report.name} needs {math.ceil(box.width / 7.2) / 10} in, more than width={width / 72:g}; "
            "use a greater width, or a lower detail: 'block' or 'stage'"
        )
    drawing = Drawing(width, 0.0, printable(report.name), dict(DARK if dark else LIGHT))
    y = 2.0
    if legend:
        y = _write_title(drawing, report, width)
    y += box.above
    box.draw(drawing.shapes, (width - box.width) / 2, y)
    y += box.below + 4
    if legend:
        y = _write_legend(drawing, nodes, towers, show, y + 4)
    drawing.height = y
    return drawing


def _write_title(drawing: Drawing, report: CountReport, width: float) -> float:
    """Writes name and totals; returns the height below them."""
    size = TIMES.join(map(str, report.input_size[1:]))
    totals = f"input {size}, {human(report.params.total)} parameters, {human(report.macs)} multiply-adds"
    y = TITLE_SIZE + 1
    lines = wrap_text(printable(report.name), width - 4, TITLE_SIZE, bold=True)
    for line in lines:
        drawing.shapes.append(Text((2, y), line, TITLE_SIZE, bold=True))
        y += TITLE_SIZE * 1.25
    x = text_width(lines[-1], TITLE_SIZE, bold=True) + 8
    if x + text_width(totals, SIZE) < width - 2:
        drawing.shapes.append(Text((x, y - TITLE_SIZE * 1.25), totals, SIZE, color="muted"))
        return y
    for line in wrap_text(totals, width - 4, SIZE):
        drawing.shapes.append(Text((2, y), line, SIZE, color="muted"))
        y += LEAD
    return y


def _write_legend(
    drawing: Drawing, nodes: Sequence[Node], towers: Sequence[int], show: Collection[str], y: float
) -> float:
    """Writes the colors, and how sizes are scaled; returns the height below them."""
    kinds = {node.kind for node in nodes} | {"norm" for node in nodes if node.norm}
    x = 2.0
    y += SWATCH
    for kind, name in KIND_NAMES.items():
        if kind not in kinds:
            continue
        needed = SWATCH + 3 + text_width(name, SIZE) + 9
        if x > 2 and x + needed > drawing.width:
            x, y = 2.0, y + LEAD + 1
        _draw_swatch(drawing, kind, x, y)
        drawing.shapes.append(Text((x + SWATCH + 3, y - 0.6), name, SIZE, color="muted"))
        x += needed
    for line in wrap_text(_explanation(nodes, towers, show), drawing.width - 4, SIZE):
        y += LEAD
        drawing.shapes.append(Text((2, y), line, SIZE, color="muted"))
    return y + 3


def _draw_swatch(drawing: Drawing, kind: str, x: float, y: float) -> None:
    if kind in ("add", "concat", "join"):
        draw_joint(drawing.shapes, kind, (x + SWATCH / 2, y - SWATCH / 2), SWATCH / 2 if kind != "join" else 1.6)
        return
    corners = [(x, y), (x + SWATCH, y), (x + SWATCH, y - SWATCH), (x, y - SWATCH)]
    drawing.shapes.append(Polygon(corners, kind))


def _explanation(nodes: Sequence[Node], towers: Sequence[int], show: Collection[str]) -> str:
    """Returns what sizes and text mean, as far as they occur."""
    sentences = []
    if any(len(node.shape) > 1 for node in nodes):
        sentences.append("Cuboids: height and slant grow with the square root of the maps' sides, thickness with the "
                         "logarithm of their number.")  # fmt: skip
    if any(len(node.shape) == 1 for node in nodes):
        sentences.append("Bars: height grows with the logarithm of the number of units.")
    text = [f"maps@height{TIMES}width"] if any(len(node.shape) == 3 for node in nodes) else ["shape"]
    if "kernel" in show:
        text.append("window /stride")
    if "activation" in show and any(node.activation or node.norm for node in nodes):
        text.append("activation")
    text += [name for key, name in (("parameters", "parameters"), ("macs", "multiply-adds (MACs)")) if key in show]
    sentences.append(f"Below each: {', '.join(text)}.")
    if any(node.norm == "BN" for node in nodes) and "activation" in show:
        sentences.append("BN: batch normalization.")
    if max(towers) > 1:
        sentences.append(f"{max(towers)} towers: groups of maps, convolved separately; crossed arrows read both.")
    if any(node.repeats for node in nodes):
        sentences.append(f"{TIMES}n: n blocks in a row.")
    return " ".join(sentences)
