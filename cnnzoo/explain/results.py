"""What explanations have in common: a picture, in files and in notebooks; and the values of pixels."""

from __future__ import annotations

import base64
import html
import io
from dataclasses import dataclass
from os import PathLike
from typing import TYPE_CHECKING

import torch
from torch.nn import functional

from cnnzoo.explain.panels import HEAT, Row, fold, picture_of
from cnnzoo.measure.figures import save_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class Explanation:
    """A result with a picture; ``print`` shows its title, a notebook the picture."""

    @property
    def title(self) -> str:
        """The title of the picture."""
        raise NotImplementedError

    def draw(self) -> Figure:
        """Returns the picture, with its title."""
        raise NotImplementedError

    def plot(self, path: str | PathLike[str] | None = None) -> Figure:
        """Returns the picture, 6.5 inches wide, and writes it to a file if one is named.

        Args:
            path: The file; its suffix is the format (``.png``, ``.svg``, ``.pdf``).

        Raises:
            FileError: If the file cannot be written.
        """
        figure = self.draw()
        if path is not None:
            save_figure(figure, path)
        return figure

    def __str__(self) -> str:
        return self.title

    def _repr_html_(self) -> str:
        file = io.BytesIO()
        self.draw().savefig(file, format="png", dpi=110)
        data = base64.b64encode(file.getvalue()).decode()
        return f'<img alt="{html.escape(self.title)}" src="data:image/png;base64,{data}">'


def describe_class(label: str, probability: float) -> str:
    """Returns a class with its probability: ``"sandal, 97.3 %"``."""
    return f"{fold(label)}, {probability:.1%}".replace("%", " %")


@dataclass(frozen=True, eq=False)
class Attribution(Explanation):
    """How much each pixel matters for the score of a class.

    Attributes:
        name: Name of the network.
        image: The image as the network saw it, uint8 (C, H, W).
        label: The class.
        probability: Its probability.
        method: Name of the method.
        values: What the method computed, float32: (C, H, W) per channel, or (h, w), which may be a smaller map.
        quantity: What the values are.
        layer: The layer that they come from; None if they come from the input.
    """

    name: str
    image: torch.Tensor
    label: str
    probability: float
    method: str
    values: torch.Tensor
    quantity: str
    layer: str | None = None

    @property
    def heat(self) -> torch.Tensor:
        """One value per pixel, float32 (H, W).

        Of values per channel it is the largest absolute one; values on a smaller map are interpolated bilinearly.
        """
        values = self.values.abs().amax(dim=0) if self.values.dim() == 3 else self.values
        size = self.image.shape[1:]
        if values.shape == size:
            return values
        return functional.interpolate(values[None, None], list(size), mode="bilinear", align_corners=False)[0, 0]

    @property
    def title(self) -> str:
        """Method, network, layer, class and probability."""
        layer = f" at {self.layer}" if self.layer else ""
        return f"{self.method} of {self.name}{layer}: {describe_class(self.label, self.probability)}"

    def draw(self) -> Figure:
        """Returns the picture: the image, the values with a color bar, and the image, gray where values are low."""
        heat = self.heat
        low, high = float(heat.min()), float(heat.max())
        share = (heat - low) / (high - low) if high > low else torch.zeros_like(heat)
        title = self.title if high > low else f"{self.title} (all values are {low:.3g})"
        row = Row(title, self.image.shape[1] / self.image.shape[2], bar=1)
        row.show(0, "image", picture_of(self.image))
        row.show(1, "values", heat.numpy(), cmap=HEAT, vmin=low, vmax=high)
        row.color_bar((low, high), self.quantity, HEAT)
        row.show(2, "image, gray where values are low", picture_of(self.image, 0.1 + 0.9 * share))
        return row.sheet.figure
