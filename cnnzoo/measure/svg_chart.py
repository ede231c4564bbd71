"""Line charts as SVG elements: in the colors of the page, which its style sheet may change."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from cnnzoo.measure.tables import human

WIDTH, HEIGHT = 440, 250  # px
LEFT, RIGHT, TOP, BOTTOM = 50, 12, 10, 38  # px of the margins
MAX_MARKERS = 40  # a longer line has a marker at its end only
MAX_VALUE = 1e15  # larger values and NaN are not drawn

Point = tuple[float, float]


@dataclass(frozen=True)
class Line:
    """One line of a chart.

    Attributes:
        name: Its name.
        color: Its color on a white page.
        points: (x, y), x ascending.
        dash: Lengths of dashes and gaps (SVG's ``stroke-dasharray``); empty for a solid line.
        band: (x, low, high) of a shaded band around the line.
    """

    name: str
    color: str
    points: Sequence[Point]
    dash: str = ""
    band: Sequence[tuple[float, float, float]] = ()


@dataclass(frozen=True)
class _Axes:
    """The ranges of both axes, and their mapping to pixels."""

    x_range: tuple[float, float]
    y_range: tuple[float, float]

    def pixel(self, x: float, y: float) -> Point:
        (left, right), (low, high) = self.x_range, self.y_range
        pixel_x = LEFT + (WIDTH - LEFT - RIGHT) * (x - left) / (right - left)
        return round(pixel_x, 1), round(HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * (y - low) / (high - low), 1)

    def path(self, points: Iterable[Point]) -> str:
        return " ".join("{},{}".format(*self.pixel(x, y)) for x, y in points)


def line_chart(title: str, lines: Sequence[Line], *, x_label: str = "epoch") -> Markup:
    """Returns a line chart as an SVG element; each marker has its values as tooltip.

    Args:
        title: What the chart shows, for the accessible name.
        lines: The lines; values that are not finite are left out.
        x_label: Label of the x axis, whose values are integers.

    Returns:
        The SVG element, or ``""`` if no line has a point.
    """
    drawable = [(line, [(x, y) for x, y in line.points if abs(x) < MAX_VALUE and abs(y) < MAX_VALUE]) for line in lines]
    drawable = [(line, points) for line, points in drawable if points]
    if not drawable:
        return Markup("")
    xs = [x for _, points in drawable for x, _ in points]
    ys = [y for line, points in drawable for y in (*(y for _, y in points), *(y for b in line.band for y in b[1:]))]
    x_ticks, y_ticks = ticks(min(xs), max(xs), 8, min_step=1), ticks(min(ys), max(ys), 5)
    axes = _Axes((min(xs), max(max(xs), min(xs) + 1)), (y_ticks[0], y_ticks[-1]))
    ends = "; ".join(f"{line.name} from {points[0][1]:.4g} to {points[-1][1]:.4g}" for line, points in drawable)
    content = _draw_axes(axes, x_ticks, y_ticks, x_label)
    content += Markup("").join(_draw_line(axes, line, points, x_label) for line, points in drawable)
    return Markup(
        '<svg class="chart" viewBox="0 0 {} {}" role="img" aria-label="{}" fill="currentColor" '
        'font-family="system-ui, sans-serif" font-size="11">{}</svg>'
    ).format(WIDTH, HEIGHT, f"{title} by {x_label}: {ends}", content)


def ticks(low: float, high: float, max_steps: int, min_step: float = 0.0) -> list[float]:
    """Returns at most ``max_steps`` + 1 round numbers, the first at most ``low``, the last at least ``high``."""
    spread = high - low
    if spread < 1e-9 * max(abs(high), 1e-3):
        spread = max(abs(high), 1e-3)
    power = 10.0 ** math.floor(math.log10(spread / max_steps))
    step = max(min_step, next(n * power for n in (1, 2, 5, 10, 20) if n * power * max_steps >= spread * 0.999))
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [float(f"{n * step:.12g}") for n in range(first, max(last, first + 1) + 1)]


def _draw_axes(axes: _Axes, x_ticks: Sequence[float], y_ticks: Sequence[float], x_label: str) -> Markup:
    """Returns grid lines and labels of both axes."""
    left, right = axes.x_range
    elements = []
    for tick in y_ticks:
        x, y = axes.pixel(left, tick)
        text = human(tick) if abs(tick) >= 1e6 else f"{tick:,g}"
        elements.append(
            Markup('<path class="grid" d="M{} {}H{}" stroke="#8888" stroke-width=".7"/>').format(x, y, WIDTH - RIGHT)
        )
        elements.append(Markup('<text x="{}" y="{}" text-anchor="end">{}</text>').format(x - 7, y + 4, text))
    for tick in x_ticks:
        if left <= tick <= right:
            x, y = axes.pixel(tick, axes.y_range[0])
            elements.append(Markup('<text x="{}" y="{}" text-anchor="middle">{:g}</text>').format(x, y + 16, tick))
    middle = (LEFT + WIDTH - RIGHT) / 2
    elements.append(Markup('<text x="{}" y="{}" text-anchor="middle">{}</text>').format(middle, HEIGHT - 5, x_label))
    return Markup("").join(elements)


def _draw_line(axes: _Axes, line: Line, points: Sequence[Point], x_label: str) -> Markup:
    """Returns a line with its band and markers."""
    elements = []
    if line.band:
        outline = [(x, high) for x, _, high in line.band] + [(x, low) for x, low, _ in reversed(line.band)]
        elements.append(Markup('<polygon points="{}" opacity=".16"/>').format(axes.path(outline)))
    dash = line.dash or "none"
    elements.append(
        Markup(
            '<polyline points="{}" fill="none" stroke="currentColor" stroke-width="2" stroke-linejoin="round" '
            'stroke-dasharray="{}"/>'
        ).format(axes.path(points), dash)
    )
    for x, y in points if len(points) <= MAX_MARKERS else points[-1:]:
        tooltip = f"{line.name}, {x_label} {x:g}: {y:.6g}"
        elements.append(
            Markup('<circle cx="{}" cy="{}" r="2.6"><title>{}</title></circle>').format(*axes.pixel(x, y), tooltip)
        )
    content = Markup("").join(elements)
    return Markup('<g class="series" fill="currentColor" color="{}" style="--color:{}">{}</g>').format(
        line.color, line.color, content
    )
