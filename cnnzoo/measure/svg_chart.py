"""Charts and tiles for a page: the charts take their colors from it, and their text can be read and searched."""

from __future__ import annotations

import html
import math
from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO

import torch

from cnnzoo.measure.tables import human

STYLE = """
:root { --ink: #22223b; --soft: #5f5f75; --line: #d8d8de; --ground: #ffffff; --card: #f5f5f8; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6e6ee; --soft: #a3a3b5; --line: #3a3a48; --ground: #15151c; --card: #1f1f29; }
}
.of { color: var(--of); }
@media (prefers-color-scheme: dark) { .of { color: color-mix(in srgb, var(--of) 58%, white); } }
svg.chart { display: block; width: 100%; height: auto; }
svg.chart text { font: 11px system-ui, sans-serif; fill: var(--soft); }
svg.chart .grid { stroke: var(--line); stroke-width: .7; }
svg.chart polyline { fill: none; stroke: currentColor; stroke-width: 2; stroke-linejoin: round; }
svg.chart polygon { fill: currentColor; opacity: .16; }
svg.chart circle { fill: currentColor; }
"""  # the colors of pictures are for white paper: .of makes them lighter on a dark page

WIDTH, HEIGHT = 440, 250
LEFT, RIGHT, TOP, BOTTOM = 50, 12, 10, 38
MAX_DOTS = 40  # of a line; more hide it
MOST = 1e15  # what is larger, or no number, is not drawn

TILE, GAP = 44, 4  # px of a tile's longer side, between two tiles
MAX_COLUMNS, MAX_TILES = 16, 256


@dataclass(frozen=True)
class Line:
    """One line of a chart.

    Attributes:
        name: What it shows.
        color: Its color on white.
        points: (x, y), x rising.
        dash: Lengths of dashes and gaps, as SVG writes them; empty for a solid line.
        band: (x, low, high) of what is shaded around it.
    """

    name: str
    color: str
    points: Sequence[tuple[float, float]]
    dash: str = ""
    band: Sequence[tuple[float, float, float]] = ()


def line_chart(what: str, lines: Sequence[Line], *, across: str = "epoch") -> str:
    """A chart as SVG text for a page with ``STYLE``; the points say their values where a mouse rests on them.

    Args:
        what: What is shown, for those who do not see it.
        lines: The lines; what is no number is left out.
        across: What runs from left to right, in whole numbers.

    Returns:
        The SVG, or nothing where there is nothing to draw.
    """
    drawn = [(line, [(x, y) for x, y in line.points if abs(x) < MOST and abs(y) < MOST]) for line in lines]
    drawn = [(line, points) for line, points in drawn if points]
    if not drawn:
        return ""
    xs = [x for _, points in drawn for x, _ in points]
    ys = [y for line, points in drawn for y in (*(y for _, y in points), *(y for b in line.band for y in b[1:]))]
    x_ticks = _ticks(min(xs), max(xs), 8, least=1)
    y_ticks = _ticks(min(ys), max(ys), 5)
    left, right = min(xs), max(max(xs), min(xs) + 1)
    low, high = y_ticks[0], y_ticks[-1]

    def place(x: float, y: float) -> tuple[float, float]:
        across_ = LEFT + (WIDTH - LEFT - RIGHT) * (x - left) / (right - left)
        return round(across_, 1), round(HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * (y - low) / (high - low), 1)

    def path(points: Sequence[tuple[float, float]]) -> str:
        return " ".join("{},{}".format(*place(x, y)) for x, y in points)

    parts = []
    for tick in y_ticks:
        x, y = place(left, tick)
        text = human(tick) if abs(tick) >= 1e6 else f"{tick:,g}"
        parts.append(f'<path class="grid" d="M{x} {y}H{WIDTH - RIGHT}"/>')
        parts.append(f'<text x="{x - 7}" y="{y + 4}" text-anchor="end">{text}</text>')
    for tick in x_ticks:
        if left <= tick <= right:
            x, y = place(tick, low)
            parts.append(f'<text x="{x}" y="{y + 16}" text-anchor="middle">{tick:g}</text>')
    middle = (LEFT + WIDTH - RIGHT) / 2
    parts.append(f'<text x="{middle}" y="{HEIGHT - 5}" text-anchor="middle">{html.escape(across)}</text>')
    for line, points in drawn:
        body = f'<polyline points="{path(points)}" stroke-dasharray="{line.dash or "none"}"/>'
        if line.band:
            around = [(x, high) for x, _, high in line.band] + [(x, low) for x, low, _ in reversed(line.band)]
            body = f'<polygon points="{path(around)}"/>{body}'
        for x, y in points if len(points) <= MAX_DOTS else points[-1:]:
            cx, cy = place(x, y)
            said = html.escape(f"{line.name}, {across} {x:g}: {y:.6g}")
            body += f'<circle cx="{cx}" cy="{cy}" r="2.6"><title>{said}</title></circle>'
        parts.append(f'<g class="of" style="--of:{line.color}">{body}</g>')
    ends = "; ".join(f"{line.name} from {points[0][1]:.4g} to {points[-1][1]:.4g}" for line, points in drawn)
    about = html.escape(f"{what} by {across}: {ends}")
    return f'<svg class="chart" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{about}">{"".join(parts)}</svg>'


def _ticks(low: float, high: float, most: int, least: float = 0.0) -> list[float]:
    """At most ``most`` + 1 round numbers, the first not above ``low`` and the last not below ``high``."""
    spread = high - low
    if spread < 1e-9 * max(abs(high), 1e-3):
        spread = max(abs(high), 1e-3)
    power = 10.0 ** math.floor(math.log10(spread / most))
    step = max(least, next(n * power for n in (1, 2, 5, 10, 20) if n * power * most >= spread * 0.999))
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [float(f"{n * step:.12g}") for n in range(first, max(last, first + 1) + 1)]


def tiles(weights: torch.Tensor, about: str) -> str:
    """Filters side by side as a picture for a page: gray is 0, black and white the largest weight of each.

    Args:
        weights: (N, C, h, w); of three channels they are shown in color, of others than one and three by their mean.
        about: What they are, for those who do not see them.
    """
    from PIL import Image

    weights = torch.nan_to_num(weights[:MAX_TILES].detach().float(), posinf=0.0, neginf=0.0)
    if weights.shape[1] not in (1, 3):
        weights = weights.mean(dim=1, keepdim=True)
    most = weights.abs().amax(dim=(1, 2, 3), keepdim=True).clamp(min=1e-30)
    shades = (127.5 + 127.5 * weights / most).round().to(torch.uint8).expand(-1, 3, -1, -1)
    times = max(1, round(TILE / max(weights.shape[2:])))
    shades = shades.repeat_interleave(times, dim=2).repeat_interleave(times, dim=3)
    n, _, height, width = shades.shape
    rows = -(-n // MAX_COLUMNS)
    columns = -(-n // rows)
    sheet = torch.zeros(rows * (height + GAP) - GAP, columns * (width + GAP) - GAP, 4, dtype=torch.uint8)
    for i, shade in enumerate(shades):
        top, left = i // columns * (height + GAP), i % columns * (width + GAP)
        sheet[top : top + height, left : left + width, :3] = shade.permute(1, 2, 0)
        sheet[top : top + height, left : left + width, 3] = 255  # what lies between lets the page through
    file = BytesIO()
    size = (sheet.shape[1], sheet.shape[0])
    Image.frombytes("RGBA", size, sheet.numpy().tobytes()).save(file, format="png", optimize=True)
    source = f"data:image/png;base64,{b64encode(file.getvalue()).decode()}"
    return f'<img src="{source}" width="{size[0]}" height="{size[1]}" alt="{html.escape(about)}">'
