"""Parts of the pictures: images, maps and kernels as arrays, and the axes that show them."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch

from cnnzoo.measure.figures import FAINT, INK, literal, new_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes

WIDTH = 6.5  # inches: the text of a page
HEAT = "viridis"  # its lightness grows with the value, so that it can be printed in gray
_TITLE_WIDTH = 84  # characters in a line of a title
_MAX_NAME = 60  # characters of the name of a class
OUTSIDE = 1.0  # what lies outside of an image is white


def fold(text: str) -> str:
    """Returns a name of at most 60 characters, its middle replaced by dots if it is longer."""
    return text if len(text) <= _MAX_NAME else f"{text[: _MAX_NAME - 21]} ... {text[-16:]}"


def picture_of(image: torch.Tensor, contrast: torch.Tensor | None = None) -> Any:
    """Returns an image as the array that ``imshow`` takes, values in [0, 1].

    Args:
        image: uint8 (C, H, W), or float in [0, 1], with NaN outside of the image; one or three channels are shown as
            gray or RGB, of others their mean.
        contrast: Contrast of each pixel in [0, 1], (H, W): at 0 it is mid-gray.
    """
    values = image.float() / 255 if image.dtype == torch.uint8 else image
    if contrast is not None:
        values = 0.5 + (values - 0.5) * contrast
    values = values.nan_to_num(OUTSIDE).clamp(0, 1)
    return values.permute(1, 2, 0).numpy() if len(values) == 3 else values.mean(dim=0).numpy()


def around_gray(values: torch.Tensor) -> torch.Tensor:
    """Returns signed values as gray values in [0, 1], in which 0 is 0.5; NaN stays."""
    largest = float(values.nan_to_num().abs().max())
    return 0.5 + values / (2 * largest) if largest > 0 else values + 0.5


def inside(tile: torch.Tensor) -> torch.Tensor:
    """Returns the part of a tile (C, h, w) that is inside of the image: not NaN."""
    is_inside = ~tile[0].isnan()
    rows, columns = (is_inside.any(dim=d).nonzero()[:, 0] for d in (1, 0))
    return tile[:, rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1] if len(rows) else tile


def mosaic(tiles: Sequence[torch.Tensor] | torch.Tensor, columns: int, gap: int = 1) -> torch.Tensor:
    """Returns tiles in rows, with white gaps.

    Args:
        tiles: Each (C, h, w), values in [0, 1].
        columns: Number of tiles in a row.
        gap: Width of the gaps in px.

    Returns:
        (C, H, W).
    """
    channels, height, width = (max(tile.shape[d] for tile in tiles) for d in range(3))
    rows = math.ceil(len(tiles) / columns)
    sheet = torch.full((channels, rows * (height + gap) - gap, columns * (width + gap) - gap), OUTSIDE)
    for i, tile in enumerate(tiles):
        top, left = i // columns * (height + gap), i % columns * (width + gap)
        sheet[:, top : top + tile.shape[1], left : left + tile.shape[2]] = tile.nan_to_num(OUTSIDE)
    return sheet


class Sheet:
    """A figure 6.5 inches wide with a title, on which axes are placed in inches from its top left corner.

    Args:
        title: The title.
        height: Height in inches of what lies below the title.
    """

    def __init__(self, title: str, height: float) -> None:
        lines = textwrap.wrap(title, _TITLE_WIDTH)
        self.top = 0.12 + 0.19 * len(lines)  # of what lies below the title
        self.height = height + self.top
        self.figure = new_figure(WIDTH, self.height, constrained=False)
        text = literal("\n".join(lines))
        self.figure.text(0.5, 1 - 0.08 / self.height, text, ha="center", va="top", fontsize=10, color=INK)

    def axes(self, left: float, top: float, width: float, height: float, *, framed: bool = True) -> Axes:
        """Returns axes without ticks, at a place below the title."""
        top = self.height - self.top - top - height
        axis = self.figure.add_axes((left / WIDTH, top / self.height, width / WIDTH, height / self.height))
        axis.set_xticks([])
        axis.set_yticks([])
        for spine in axis.spines.values():
            spine.set_color(FAINT)
            spine.set_visible(framed)
        return axis

    def show(
        self, array: Any, left: float, top: float, width: float, height: float, *, framed: bool = True, **options: Any
    ) -> Axes:
        """Shows an array as large as a place allows, at the top left of it; of gray values, 0 is black and 1 is white.

        Args:
            array: (H, W) or (H, W, 3).
            left: The place.
            top: The place.
            width: The place.
            height: The place.
            framed: Whether it has a frame.
            **options: Arguments of ``imshow``.
        """
        factor = min(width / array.shape[1], height / array.shape[0])
        axis = self.axes(left, top, factor * array.shape[1], factor * array.shape[0], framed=framed)
        axis.imshow(array, aspect="auto", **{"cmap": "gray", "vmin": 0, "vmax": 1, **options})
        return axis

    def text(self, left: float, top: float, text: str, **options: Any) -> None:
        """Writes text at a place below the title."""
        options = {"fontsize": 7.5, "color": INK, "va": "center", **options}
        self.figure.text(left / WIDTH, 1 - (self.top + top) / self.height, literal(text), **options)

    def color_bar(
        self, left: float, top: float, height: float, limits: tuple[float, float], quantity: str, cmap: str = "gray"
    ) -> None:
        """Draws a color bar, with what its values are."""
        from matplotlib.cm import ScalarMappable
        from matplotlib.colors import Normalize

        place = self.axes(left, top, 0.1, height)
        low, high = limits if limits[0] < limits[1] else (limits[0], limits[0] + 1)
        bar = self.figure.colorbar(ScalarMappable(Normalize(low, high), cmap), cax=place)
        bar.set_label(literal(quantity), fontsize=7.5, color=INK)
        bar.ax.tick_params(labelsize=7, length=2, colors=INK)
        bar.formatter.set_powerlimits((-2, 3))  # type: ignore[attr-defined]
        bar.ax.yaxis.get_offset_text().set(fontsize=7, ha="left")
        bar.outline.set_edgecolor(FAINT)  # a Spine


class Row:
    """Three panels of equal size in a row with a color bar beside one of them.

    Args:
        title: Title of the figure.
        ratio: Largest height of what is shown, relative to its width.
        bar: Index of the panel with the color bar.
    """

    def __init__(self, title: str, ratio: float, bar: int) -> None:
        self.side = 1.72
        self.sheet = Sheet(title, self.side * min(ratio, 2.0) + 0.35)
        self._bar, self._height = bar, self.side * min(ratio, 2.0)

    def show(self, i: int, name: str, array: Any, **options: Any) -> Axes:
        """Shows an array in a panel."""
        left = 0.1 + i * (self.side + 0.16) + (0.72 if i > self._bar else 0)
        self.sheet.text(left, 0.1, name)
        return self.sheet.show(array, left, 0.22, self.side, self._height, **options)

    def color_bar(self, limits: tuple[float, float], quantity: str, cmap: str = "gray") -> None:
        """Draws the color bar."""
        left = 0.1 + self._bar * (self.side + 0.16) + self.side + 0.06
        self.sheet.color_bar(left, 0.22, min(self.side, self._height), limits, quantity, cmap)
