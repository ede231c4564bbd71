"""First-layer filters: the weights of the first convolution of each run as a picture."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO

import torch

from cnnzoo.html_report.groups import RunGroup
from cnnzoo.measure.tables import shape_text

TILE, GAP = 72, 6  # px: longer side of a tile, space between two tiles
MAX_COLUMNS, MAX_TILES = 12, 256


@dataclass(frozen=True)
class Picture:
    """A PNG as a data URI, and its size in pixels."""

    source: str
    width: int
    height: int


@dataclass(frozen=True)
class FilterFigure:
    """The filters of a run.

    Attributes:
        label: Label of the run.
        color: Color of its group.
        description: Number, size and layer of the filters.
        picture: The filters side by side.
    """

    label: str
    color: str
    description: str
    picture: Picture


def build_filters(groups: Sequence[RunGroup]) -> list[FilterFigure]:
    """Returns the first-layer filters of each run that has weights."""
    figures = []
    for group in groups:
        for label, run in group.runs.items():
            if run.filters is None:
                continue
            layer, weights = run.filters
            n, channels, *size = weights.shape
            description = f"{n} filters of {shape_text(tuple(size))} px, {layer}"
            if channels not in (1, 3):
                description += f", mean of {channels} channels"
            if n > MAX_TILES:
                description += f", first {MAX_TILES} shown"
            figures.append(FilterFigure(label, group.color, description, draw_tiles(weights)))
    return figures


def draw_tiles(weights: torch.Tensor) -> Picture:
    """Draws filters side by side: gray is 0, black and white are minus and plus the filter's largest absolute weight.

    Args:
        weights: (N, C, height, width). Three channels are drawn in color; one, or the mean of several, in gray.
    """
    from PIL import Image

    weights = torch.nan_to_num(weights[:MAX_TILES].detach().float(), posinf=0.0, neginf=0.0)
    if weights.shape[1] not in (1, 3):
        weights = weights.mean(dim=1, keepdim=True)
    scale = weights.abs().amax(dim=(1, 2, 3), keepdim=True).clamp(min=1e-30)
    tiles = (127.5 + 127.5 * weights / scale).round().to(torch.uint8).expand(-1, 3, -1, -1)
    zoom = max(1, round(TILE / max(weights.shape[2:])))
    tiles = tiles.repeat_interleave(zoom, dim=2).repeat_interleave(zoom, dim=3)
    n, _, tile_height, tile_width = tiles.shape
    rows = -(-n // MAX_COLUMNS)
    columns = -(-n // rows)
    height, width = rows * (tile_height + GAP) - GAP, columns * (tile_width + GAP) - GAP
    image = torch.zeros(height, width, 4, dtype=torch.uint8)  # RGBA; the gaps stay transparent
    for i, tile in enumerate(tiles):
        top, left = i // columns * (tile_height + GAP), i % columns * (tile_width + GAP)
        image[top : top + tile_height, left : left + tile_width, :3] = tile.permute(1, 2, 0)
        image[top : top + tile_height, left : left + tile_width, 3] = 255
    file = BytesIO()
    Image.frombytes("RGBA", (width, height), image.numpy().tobytes()).save(file, format="png", optimize=True)
    return Picture(f"data:image/png;base64,{b64encode(file.getvalue()).decode()}", width, height)
