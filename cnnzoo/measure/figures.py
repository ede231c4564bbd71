"""Helpers of all pictures: colors, text, axes and files."""

from __future__ import annotations

from io import StringIO
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cnnzoo.errors import FileError
from cnnzoo.files import atomic_write

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLORS = (
    "#c8553d",
    "#2f6690",
    "#588157",
    "#8d6a9f",
    "#b8862b",
    "#5c6b73",
    "#a34b6e",
    "#3a7d7c",
    "#7a5c3e",
)  # legible on white and in gray
INK, FAINT = "#22223b", "#d8d8de"  # of text, of grid lines


def new_figure(width: float, height: float, *, constrained: bool = True) -> Figure:
    """Returns an empty white figure that needs no display.

    Args:
        width: In inches.
        height: In inches.
        constrained: Whether matplotlib makes room for labels and titles.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained" if constrained else None, facecolor="white")
    FigureCanvasAgg(figure)
    return figure


# metadata without a date: the same picture has the same bytes
_METADATA: dict[str, dict[str, Any]] = {
    ".svg": {"Date": None},
    ".pdf": {"CreationDate": None},
    ".ps": {"CreationDate": None},
    ".eps": {"CreationDate": None},
}
_SETTINGS: Any = {"svg.hashsalt": "cnnzoo", "svg.fonttype": "none", "pdf.fonttype": 42}  # fixed names; real text


def svg_of(figure: Figure) -> str:
    """Returns a figure as SVG text for an HTML page."""
    from matplotlib import rc_context

    file = StringIO()
    with rc_context(_SETTINGS):
        figure.savefig(file, format="svg", metadata=_METADATA[".svg"])
    text = file.getvalue()
    return text[text.index("<svg") :]


def save_figure(figure: Figure, path: str | PathLike[str]) -> None:
    """Writes a figure to a file; the same figure gives the same bytes.

    Args:
        figure: Any matplotlib figure.
        path: The file; its suffix is the format (``.png``, ``.svg``, ``.pdf``).

    Raises:
        FileError: If the file cannot be written.
    """
    from matplotlib import rc_context

    try:
        if not Path(path).suffix:
            raise ValueError("its name must end in the format: .png, .svg, .pdf")
        if not Path(path).parent.is_dir():
            raise ValueError("its folder does not exist")
        suffix = Path(path).suffix.lower()
        with atomic_write(Path(path)) as file, rc_context(_SETTINGS):
            figure.savefig(file, dpi=200, format=suffix[1:], metadata=_METADATA.get(suffix))
    except FileError as error:
        raise FileError(f"the picture {error}") from None
    except ValueError as error:
        raise FileError(f"the picture {path} cannot be written: {error}") from None


def literal(text: str) -> str:
    """Returns text that matplotlib does not parse as math."""
    return text.replace("$", r"\$")


def despine(axis: Axes) -> None:
    """Removes spines and ticks, except the bottom spine, and puts the grid behind the data."""
    for side in ("top", "right", "left"):
        axis.spines[side].set_visible(False)
    axis.spines["bottom"].set_color(FAINT)
    axis.set_axisbelow(True)
    axis.tick_params(length=0, labelsize=8.5, colors=INK)
