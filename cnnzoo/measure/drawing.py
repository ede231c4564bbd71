"""A drawing in points as a value: shapes, lines and text, without the file format that they are written in."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.ft2font import FT2Font

Point = tuple[float, float]  # x to the right, y downwards
TIMES, DASH = "\N{MULTIPLICATION SIGN}", "\N{EN DASH}"

# colors by role; those of operations differ in lightness, so that they are told apart in gray
LIGHT = {
    "background": "#ffffff", "ink": "#1f2330", "muted": "#596073", "line": "#3b4354", "faint": "#d8dbe3",
    "group": "#eff2f7", "input": "#ffffff", "norm": "#f3e5a9", "conv": "#abcdec", "other": "#b2b2bb",
    "block": "#7b9fd0", "dense": "#c5653f", "pool": "#2f5d46",
}  # fmt: skip
DARK = {
    **LIGHT, "background": "#14161d", "ink": "#f0f1f6", "muted": "#adb3c4", "line": "#c3c9d8", "faint": "#3a3f4d",
    "group": "#212531", "input": "#e9ebf1", "pool": "#3a7a5b",
}  # fmt: skip


@dataclass(frozen=True)
class Polygon:
    """A filled polygon.

    Attributes:
        points: Its corners.
        fill: The role of its color.
        shade: Lightness added to the color, from -1 (black) to 1 (white).
        stroke: The role of its outline's color; empty for none.
        width: Width of the outline.
    """

    points: Sequence[Point]
    fill: str
    shade: float = 0.0
    stroke: str = "line"
    width: float = 0.5


@dataclass(frozen=True)
class Line:
    """A line through points.

    Attributes:
        points: Its points.
        stroke: The role of its color.
        width: Its width.
        is_arrow: Whether an arrowhead is at its end.
    """

    points: Sequence[Point]
    stroke: str = "line"
    width: float = 0.7
    is_arrow: bool = False


@dataclass(frozen=True)
class Disc:
    """A filled disc with an outline.

    Attributes:
        center: Its center.
        radius: Its radius.
        fill: The role of its color.
        stroke: The role of its outline's color; empty for none.
        opacity: Of the fill.
    """

    center: Point
    radius: float
    fill: str
    stroke: str = "line"
    opacity: float = 1.0


@dataclass(frozen=True)
class Text:
    """One line of text.

    Attributes:
        position: Of its baseline.
        text: The text.
        size: Font size in points.
        bold: Whether it is bold.
        anchor: Which part of it is at the position: ``"start"``, ``"middle"`` or ``"end"``.
        color: The role of its color.
    """

    position: Point
    text: str
    size: float
    bold: bool = False
    anchor: str = "start"
    color: str = "ink"

    @property
    def width(self) -> float:
        """Its width in points."""
        return text_width(self.text, self.size, self.bold)


Shape = Polygon | Line | Disc | Text


@dataclass
class Drawing:
    """Shapes from back to front.

    Attributes:
        width: Width in points.
        height: Height in points.
        title: What it shows, for screen readers.
        colors: Color of each role: ``LIGHT`` or ``DARK``, with further roles of the picture's own.
        shapes: The shapes.
    """

    width: float
    height: float
    title: str
    colors: dict[str, str]
    shapes: list[Shape] = field(default_factory=list)

    def color(self, role: str, shade: float = 0.0) -> str:
        """Returns the color of a role, mixed with white, or with black if ``shade`` is negative."""
        color = self.colors[role]
        target = 255 if shade > 0 else 0
        parts = (int(color[i : i + 2], 16) for i in (1, 3, 5))
        return "#" + "".join(f"{round(part + (target - part) * abs(shade)):02x}" for part in parts)


ARROW_LENGTH, ARROW_WIDTH = 3.4, 2.8  # of an arrowhead, in points


def arrow_head(points: Sequence[Point]) -> list[Point]:
    """Returns the corners of the arrowhead at the end of a line."""
    (x0, y0), (x1, y1) = points[-2:]
    length = ((x1 - x0) ** 2 + (y1 - y0) ** 2) ** 0.5 or 1.0
    dx, dy = (x1 - x0) / length, (y1 - y0) / length
    x, y = x1 - dx * ARROW_LENGTH, y1 - dy * ARROW_LENGTH
    return [
        (x1, y1),
        (x - dy * ARROW_WIDTH / 2, y + dx * ARROW_WIDTH / 2),
        (x + dy * ARROW_WIDTH / 2, y - dx * ARROW_WIDTH / 2),
    ]


_font_lock = threading.Lock()  # FreeType loads one character of a font at a time


@cache
def _font(bold: bool) -> FT2Font:
    import matplotlib
    from matplotlib.ft2font import FT2Font

    name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"  # part of every matplotlib
    font = FT2Font(str(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / name))
    font.set_size(100, 72)
    return font


@lru_cache(maxsize=4096)
def _advance(character: str, bold: bool) -> float:
    """Returns the width of a character at font size 1; that of a square for one that the font lacks."""
    with _font_lock:
        if not _font(bold).get_char_index(ord(character)):
            return 1.0
        return float(_font(bold).load_char(ord(character)).linearHoriAdvance) / 65536 / 100


def text_width(text: str, size: float, bold: bool = False) -> float:
    """Returns the width of a text in points."""
    return sum(_advance(character, bold) for character in text) * size


def wrap_text(text: str, width: float, size: float, bold: bool = False) -> list[str]:
    """Returns a text in lines of at most a width, broken at spaces, else behind marks and letters."""
    lines: list[str] = []
    for word in text.split(" "):
        joined = f"{lines[-1]} {word}" if lines else word
        if lines and text_width(joined, size, bold) <= width:
            lines[-1] = joined
            continue
        lines.append(word)
        while text_width(lines[-1], size, bold) > width and len(lines[-1]) > 1:
            line = lines.pop()
            fits = max(1, max(i for i in range(len(line)) if text_width(line[:i], size, bold) <= width))
            marks = max((i + 1 for i, character in enumerate(line[:fits]) if character in f"._-/{DASH},"), default=0)
            at = marks if marks > 0 else fits
            lines += [line[:at], line[at:]]
    return lines
