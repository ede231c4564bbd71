"""Drawings as SVG, as TikZ, and through matplotlib (PNG, PDF)."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape
from os import PathLike
from pathlib import Path
from typing import Any

from cnnzoo.errors import FileError
from cnnzoo.files import atomic_write
from cnnzoo.measure.drawing import DASH, TIMES, Disc, Drawing, Line, Point, Polygon, Shape, arrow_head
from cnnzoo.measure.figures import literal, new_figure, save_figure

SVG_FONT = "DejaVu Sans, Verdana, sans-serif"
DISC_LINE = 0.6  # width of the outline of a disc


def save_drawing(drawing: Drawing, path: str | PathLike[str]) -> None:
    """Writes a drawing to a file.

    Args:
        drawing: The drawing.
        path: The file; its suffix is the format: ``.svg``, ``.tex``, or one of matplotlib's (``.png``, ``.pdf``).

    Raises:
        FileError: If the file cannot be written.
    """
    suffix = Path(path).suffix.lower()
    if not suffix:
        raise FileError(
            f"the picture {path} cannot be written: its name must end in the format: .svg, .tex, .pdf, .png"
        )
    if suffix not in (".svg", ".tex"):
        _save_figure(drawing, path)
        return
    try:
        if not Path(path).parent.is_dir():
            raise FileError(f"{path} cannot be written: its folder does not exist")
        with atomic_write(Path(path)) as file:
            file.write((svg_text(drawing) if suffix == ".svg" else tikz_text(drawing)).encode())
    except FileError as error:
        raise FileError(f"the picture {error}") from None


def _number(value: float) -> str:
    """Returns a number with at most two decimals."""
    return f"{round(value, 2) + 0.0:.2f}".rstrip("0").rstrip(".")


# --- SVG ---


def svg_text(drawing: Drawing) -> str:
    """Returns a drawing as SVG with real text, each as wide as it was measured, whatever the font."""
    width, height = _number(drawing.width), _number(drawing.height)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}pt" height="{height}pt" '
        f'viewBox="0 0 {width} {height}" font-family="{SVG_FONT}" role="img">',
        f"<title>{escape(drawing.title)}</title>",
        f'<rect width="{width}" height="{height}" fill="{drawing.color("background")}"/>',
    ]
    for shape in drawing.shapes:
        parts += _svg_parts(drawing, shape)
    return "\n".join([*parts, "</svg>\n"])


def _svg_points(points: Iterable[Point]) -> str:
    return " ".join(f"{_number(x)},{_number(y)}" for x, y in points)


def _svg_parts(drawing: Drawing, shape: Shape) -> Iterable[str]:
    """Yields the elements of a shape."""
    if isinstance(shape, Polygon):
        fill = drawing.color(shape.fill, shape.shade)
        stroke = _svg_stroke(drawing, shape.stroke, shape.width) if shape.stroke else ""
        yield f'<polygon points="{_svg_points(shape.points)}" fill="{fill}"{stroke}/>'
    elif isinstance(shape, Line):
        stroke = _svg_stroke(drawing, shape.stroke, shape.width)
        yield f'<polyline points="{_svg_points(shape.points)}" fill="none"{stroke}/>'
        if shape.is_arrow:
            yield f'<polygon points="{_svg_points(arrow_head(shape.points))}" fill="{drawing.color(shape.stroke)}"/>'
    elif isinstance(shape, Disc):
        x, y, radius = map(_number, (*shape.center, shape.radius))
        stroke = _svg_stroke(drawing, shape.stroke, DISC_LINE) if shape.stroke else ""
        opacity = f' fill-opacity="{_number(shape.opacity)}"' if shape.opacity < 1 else ""
        yield f'<circle cx="{x}" cy="{y}" r="{radius}" fill="{drawing.color(shape.fill)}"{opacity}{stroke}/>'
    else:
        x, y, size, width = map(_number, (*shape.position, shape.size, shape.width))
        bold = ' font-weight="bold"' if shape.bold else ""
        anchor = f' text-anchor="{shape.anchor}"' if shape.anchor != "start" else ""
        length = f' textLength="{width}" lengthAdjust="spacingAndGlyphs"'
        attributes = f'x="{x}" y="{y}" font-size="{size}"{bold}{anchor} fill="{drawing.color(shape.color)}"{length}'
        yield f"<text {attributes}>{escape(shape.text, quote=False)}</text>"


def _svg_stroke(drawing: Drawing, role: str, width: float) -> str:
    return f' stroke="{drawing.color(role)}" stroke-width="{_number(width)}" stroke-linejoin="round"'


# --- matplotlib ---


def _save_figure(drawing: Drawing, path: str | PathLike[str]) -> None:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Circle
    from matplotlib.patches import Polygon as Patch

    figure = new_figure(drawing.width / 72, drawing.height / 72, constrained=False)
    figure.set_facecolor(drawing.color("background"))
    axis = figure.add_axes((0, 0, 1, 1))
    axis.set_xlim(0, drawing.width)
    axis.set_ylim(drawing.height, 0)
    axis.set_axis_off()
    for order, shape in enumerate(drawing.shapes):
        if isinstance(shape, Polygon):
            fill = drawing.color(shape.fill, shape.shade)
            line = drawing.color(shape.stroke) if shape.stroke else "none"
            style: Any = {"facecolor": fill, "edgecolor": line, "linewidth": shape.width, "joinstyle": "round"}
            axis.add_patch(Patch(list(shape.points), zorder=order, **style))
        elif isinstance(shape, Line):
            color = drawing.color(shape.stroke)
            xs, ys = zip(*shape.points, strict=True)
            axis.add_line(Line2D(xs, ys, color=color, linewidth=shape.width, solid_joinstyle="round", zorder=order))
            if shape.is_arrow:
                axis.add_patch(Patch(arrow_head(shape.points), facecolor=color, edgecolor="none", zorder=order))
        elif isinstance(shape, Disc):
            line = drawing.color(shape.stroke) if shape.stroke else "none"
            style = {"facecolor": (drawing.color(shape.fill), shape.opacity), "edgecolor": line, "linewidth": DISC_LINE}
            axis.add_patch(Circle(shape.center, shape.radius, zorder=order, **style))
        else:
            style = {"fontsize": shape.size, "family": "DejaVu Sans", "weight": "bold" if shape.bold else "normal"}
            anchor = {"start": "left", "middle": "center", "end": "right"}[shape.anchor]
            color, text = drawing.color(shape.color), literal(shape.text)
            axis.text(*shape.position, text, ha=anchor, va="baseline", color=color, zorder=order, **style)
    save_figure(figure, path)


# --- TikZ ---


_TEX = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "$": r"\$", "&": r"\&", "#": r"\#", "%": r"\%", "_": r"\_",
    "^": r"\textasciicircum{}", "~": r"\textasciitilde{}", "<": r"$<$", ">": r"$>$", "|": r"$|$", '"': "''",
    TIMES: r"$\times$", DASH: "--",
}  # fmt: skip


def tex_text(text: str) -> str:
    """Returns a text for TeX; a character that pdflatex has no font for is written as its number: ``U+4E2D``."""
    return "".join(_TEX.get(c, c if c.isascii() else f"U+{ord(c):04X}") for c in text)


def tikz_text(drawing: Drawing) -> str:
    """Returns a drawing as a standalone LaTeX document: ``pdflatex`` makes a PDF of its size."""
    width, height = _number(drawing.width), _number(drawing.height)
    lines = [
        r"\documentclass{article}",
        rf"\usepackage[papersize={{{width}bp,{height}bp}}, margin=0pt]{{geometry}}",
        r"\usepackage{fix-cm, tikz}",
        *(rf"\definecolor{{{role}}}{{HTML}}{{{color[1:].upper()}}}" for role, color in drawing.colors.items()),
        r"\pagestyle{empty}",
        r"\setlength{\parindent}{0pt}",
        r"\setlength{\topskip}{0pt}",
        r"\begin{document}",
        r"\sffamily",
        r"\begin{tikzpicture}[x=1bp, y=-1bp, line join=round, every node/.style={inner sep=0pt, outer sep=0pt}]",
        rf"\useasboundingbox (0,0) rectangle ({width},{height});",
        rf"\fill[background] (0,0) rectangle ({width},{height});",
    ]
    for shape in drawing.shapes:
        lines += _tikz_parts(shape)
    return "\n".join([*lines, r"\end{tikzpicture}", r"\end{document}", ""])


def _tikz_points(points: Iterable[Point]) -> str:
    return " -- ".join(f"({_number(x)},{_number(y)})" for x, y in points)


def _tikz_parts(shape: Shape) -> Iterable[str]:
    """Yields the commands of a shape."""
    if isinstance(shape, Polygon):
        share, target = round(100 * (1 - abs(shape.shade))), "white" if shape.shade > 0 else "black"
        fill = f"{shape.fill}!{share}!{target}" if shape.shade else shape.fill
        line = f"draw={shape.stroke}, line width={_number(shape.width)}bp" if shape.stroke else "draw=none"
        yield rf"\path[fill={fill}, {line}] {_tikz_points(shape.points)} -- cycle;"
    elif isinstance(shape, Line):
        yield rf"\draw[{shape.stroke}, line width={_number(shape.width)}bp] {_tikz_points(shape.points)};"
        if shape.is_arrow:
            yield rf"\fill[{shape.stroke}] {_tikz_points(arrow_head(shape.points))} -- cycle;"
    elif isinstance(shape, Disc):
        x, y, radius = map(_number, (*shape.center, shape.radius))
        line = f"draw={shape.stroke}, line width={DISC_LINE}bp" if shape.stroke else "draw=none"
        style = f"fill={shape.fill}, fill opacity={_number(shape.opacity)}, {line}"
        yield rf"\path[{style}] ({x},{y}) circle[radius={radius}bp];"
    else:
        x, y, size, lead = map(_number, (*shape.position, shape.size, 1.2 * shape.size))
        anchor = {"start": "base west", "middle": "base", "end": "base east"}[shape.anchor]
        font = rf"\fontsize{{{size}bp}}{{{lead}bp}}\selectfont" + (r"\bfseries" if shape.bold else "")
        yield rf"\node[anchor={anchor}, text={shape.color}, font={font}] at ({x},{y}) {{{tex_text(shape.text)}}};"
