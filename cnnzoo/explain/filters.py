"""The kernels of a convolution: of the first layer in color."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import nn

from cnnzoo.errors import InputError
from cnnzoo.explain.panels import WIDTH, Sheet, around_gray, mosaic, picture_of
from cnnzoo.explain.registry import register_explanation
from cnnzoo.explain.results import Explanation
from cnnzoo.explain.subject import Subject

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_MAX_FILTERS, _MAX_KERNELS = 256, 24  # on the sheet: of filters in color or gray; rows and columns of others


@dataclass(frozen=True, eq=False)
class Filters(Explanation):
    """The kernels of a convolution.

    Attributes:
        name: Name of the network.
        layer: The layer.
        weights: float32 (maps, channels of each kernel, height, width).
    """

    name: str
    layer: str
    weights: torch.Tensor

    @property
    def title(self) -> str:
        """Network, layer, and how many kernels are shown."""
        n, channels, height, width = self.weights.shape
        text = f"filters of {self.name} at {self.layer}: {n} of {channels}x{height}x{width}"
        if channels in (1, 3):
            return text if n <= _MAX_FILTERS else f"{text}, the first {_MAX_FILTERS}"
        rows, columns = min(n, _MAX_KERNELS), min(channels, _MAX_KERNELS)
        shown = f"maps 0 to {rows - 1}, channels 0 to {columns - 1}" if (rows, columns) != (n, channels) else "all"
        return f"{text}; rows are maps, columns are channels ({shown})"

    def draw(self) -> Figure:
        """Returns the sheet: kernels of three channels in color, of one in gray, of others a row of gray kernels each.

        The scale is the same for all kernels: 0 is mid-gray.
        """
        n, channels, height, width = self.weights.shape
        gray = around_gray(self.weights)
        if channels in (1, 3):
            tiles, columns = gray[:_MAX_FILTERS], _columns(n)
        else:
            kernels = gray[:_MAX_KERNELS, :_MAX_KERNELS]
            tiles, columns = kernels.reshape(-1, 1, height, width), kernels.shape[1]
        array = picture_of(mosaic(tiles, columns))
        side = min(5.6, 0.8 * columns)
        sheet_height = max(0.8, min(7.0, side * array.shape[0] / array.shape[1]))
        sheet = Sheet(self.title, sheet_height + 0.1)
        axis = sheet.show(array, 0.1, 0, side, sheet_height, framed=False)
        limit = float(self.weights.abs().max())
        left = axis.get_position().x1 * WIDTH + 0.08
        sheet.color_bar(left, 0, min(sheet_height, 2.0), (-limit, limit), "weight" + " of each color" * (channels == 3))
        return sheet.figure


def _columns(n: int) -> int:
    """Returns the number of columns for n kernels: about twice that of the rows, and all rows full if possible."""
    least = math.ceil(math.sqrt(2 * n))
    return n if n <= 8 else next((i for i in range(least, min(2 * least, 25)) if n % i == 0), min(least, 24))


@register_explanation("filters")
def filters(subject: Subject, layer: str | None = None) -> Filters:
    """Returns the kernels of a convolution; an image is not needed.

    Args:
        subject: The network.
        layer: The layer; by default the first convolution.

    Raises:
        UnknownNameError: If there is no such layer.
        InputError: If it has no kernels, or several convolutions.
    """
    network = subject.network
    modules = dict(network.module.named_modules())
    if layer is None:
        names = [name for name, module in modules.items() if _has_kernels(module)][:1]
        if not names:
            raise InputError(f"{network.name} has no convolution")
        shown = network.label_of(names[0])
    else:
        last, shown = network.module_name(layer), layer
        block = [name for name in modules if name and network.label_of(name) == network.label_of(last)]
        inside = block if layer in network.layers else []
        names = [
            name
            for name, module in modules.items()
            if _has_kernels(module) and (name in inside or name == last or name.startswith(f"{last}."))
        ]
        if not names:
            raise InputError(f"layer {layer!r} of {network.name} has no kernels; name a convolution")
        if len(names) > 1:
            raise InputError(f"layer {layer!r} of {network.name} has several convolutions; name one: {names}")
    weights = modules[names[0]].weight
    assert isinstance(weights, torch.Tensor)
    return Filters(network.name, shown, weights.detach().float().cpu())


def _has_kernels(module: nn.Module) -> bool:
    weight = getattr(module, "weight", None)
    return isinstance(weight, torch.Tensor) and weight.dim() == 4
