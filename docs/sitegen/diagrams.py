"""The pictures of the architectures."""

from __future__ import annotations

from cnnzoo.measure import draw
from sitegen.registry import count

WIDTH = 7.5  # inches


def svg(name: str, *, dark: bool = False) -> str:
    """Returns the picture of a model as SVG."""
    return draw(count(name), width=WIDTH, dark=dark).to_svg()


def images(name: str) -> str:
    """Returns the Markdown of the picture, for the light and for the dark scheme of the site."""
    text = f"The architecture of {name}, drawn by cnnzoo.draw"
    return f"![{text}]({name}.svg#only-light)\n![{text}]({name}-dark.svg#only-dark)"
