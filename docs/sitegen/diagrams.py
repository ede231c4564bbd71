"""The pictures of the architectures."""

from __future__ import annotations

import re
import tempfile
from functools import cache
from pathlib import Path

from cnnzoo.measure import draw
from sitegen.registry import count

MAX_LAYERS = 140  # in a legible picture
MAX_WIDTH = 1400  # points, in a picture that is legible when it is scaled to the width of the page


def has_diagram(name: str) -> bool:
    """Returns whether the picture of a model is legible."""
    return len(count(name).layers) <= MAX_LAYERS


@cache
def svg(name: str) -> str:
    """Returns the picture of a model as SVG."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "diagram.svg"
        draw(count(name), file)
        return file.read_text()


def css_class(name: str) -> str:
    """Returns the class for docs/site.css: ``fitted`` to the width of the page, or ``natural`` width."""
    width = re.search(r'<svg [^>]*width="([\d.]+)pt"', svg(name))
    assert width is not None
    return "fitted" if float(width[1]) <= MAX_WIDTH else "natural"
