"""HTML fragments for notebooks: in fonts and colors of the page, light or dark, without style sheet or script."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Mapping, Sequence
from typing import Any

BLUE = "#3f86c4"  # visible on white and on black
_CELL = "border:0;padding:.1em 1em .1em 0;text-align:left;vertical-align:top"


def notebook_html(*parts: str) -> str:
    """Returns fragments as one, which scrolls if it is wider than the page."""
    return f'<div style="overflow-x:auto">{"".join(parts)}</div>'


def heading(name: str, text: str = "") -> str:
    """Returns a name, and what it is."""
    return f'<p style="margin:.3em 0"><b>{html.escape(name)}</b> {html.escape(text)}</p>'


def paragraph(text: str) -> str:
    """Returns a text, with its line breaks."""
    return f'<p style="margin:.3em 0;white-space:pre-wrap">{html.escape(text)}</p>'


def facts(values: Mapping[str, str]) -> str:
    """Returns names and values as a table; empty values are left out."""
    rows = "".join(
        f'<tr><th scope="row" style="{_CELL};font-weight:normal;opacity:.7">{html.escape(name)}</th>'
        f'<td style="{_CELL};white-space:pre-wrap">{html.escape(value)}</td></tr>'
        for name, value in values.items()
        if value
    )
    return f'<table style="border-collapse:collapse;margin:.3em 0"><tbody>{rows}</tbody></table>'


def bars(values: Sequence[tuple[str, float]]) -> str:
    """Returns fractions of 1 as a bar each.

    Args:
        values: Names and fractions.
    """
    rows = "".join(
        f'<tr><td style="{_CELL}">{html.escape(name)}</td><td style="{_CELL};text-align:right">{value:.2%}</td>'
        f'<td style="{_CELL};width:12em;vertical-align:middle"><div style="background:{BLUE};height:.8em;min-width:1px;'
        f'width:{value:.2%}"></div></td></tr>'
        for name, value in values
    )
    return f'<table style="border-collapse:collapse;margin:.3em 0"><tbody>{rows}</tbody></table>'


def details(summary: str, fragment: str) -> str:
    """Returns a fragment to unfold."""
    return f'<details style="margin:.3em 0"><summary>{html.escape(summary)}</summary>{fragment}</details>'


def beside(*fragments: str) -> str:
    """Returns fragments beside each other, where there is room."""
    parts = "".join(f"<div>{fragment}</div>" for fragment in fragments if fragment)
    return f'<div style="align-items:flex-start;display:flex;flex-wrap:wrap;gap:.5em 2em">{parts}</div>'


def picture(pixels: Any, side: int, text: str = "") -> str:
    """Returns an image as a fragment that contains its pixels.

    Args:
        pixels: uint8 (C, H, W), with any number of channels: of two or more than three, the first is shown.
        side: Pixels of the longer side on the page. A larger image is made smaller, a smaller one keeps its pixels.
        text: What it shows.
    """
    from PIL import Image

    array = (pixels if pixels.shape[0] in (1, 3) else pixels[:1]).cpu().numpy()
    image = Image.fromarray(array[0] if len(array) == 1 else array.transpose(1, 2, 0))
    width, height = (max(1, round(side * size / max(image.size))) for size in image.size)
    image.thumbnail((2 * side, 2 * side))  # two pixels of the image per pixel of the page: sharp on any screen
    file = io.BytesIO()
    image.save(file, "PNG")
    data = base64.b64encode(file.getvalue()).decode()
    rendering = ";image-rendering:pixelated" if max(image.size) < side else ""
    escaped = html.escape(text)
    return (
        f'<img src="data:image/png;base64,{data}" alt="{escaped}" title="{escaped}" width="{width}" height="{height}" '
        f'style="display:inline-block;margin:0{rendering}">'
    )


def gallery(images: Sequence[tuple[Any, str]], side: int = 56) -> str:
    """Returns images with a caption each.

    Args:
        images: Pixels, uint8 (C, H, W), and captions.
        side: Pixels of the longer side on the page.
    """
    figures = "".join(
        f'<figure style="margin:0;max-width:6em;overflow-wrap:anywhere;text-align:center">{picture(pixels, side, text)}'
        f'<figcaption style="font-size:.75em;line-height:1.2">{html.escape(text)}</figcaption></figure>'
        for pixels, text in images
    )
    return (
        f'<div style="display:grid;gap:.6em;grid-template-columns:repeat(auto-fill,minmax(5.5em,1fr));max-width:60em">'
        f"{figures}</div>"
    )
