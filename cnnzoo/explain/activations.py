"""The outputs of all layers for one image, on one sheet."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from cnnzoo.errors import InputError
from cnnzoo.explain.panels import Sheet, mosaic, picture_of
from cnnzoo.explain.registry import register_explanation
from cnnzoo.explain.results import Explanation, describe_class
from cnnzoo.explain.subject import Network, Subject

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MAX_LAYERS = 40  # on a sheet; of a larger network, modules that hold layers are shown
_MAX_MAPS = 12  # of a layer on the sheet
_MAX_UNITS = 120  # of a vector in one line
_LEFT, _MAPS_WIDTH, _RIGHT, _GAP, _TEXT_HEIGHT = 1.25, 4.2, 5.53, 0.1, 0.28  # inches
_UNCHANGED = ("Dropout", "Dropout2d", "Identity", "Flatten")  # layers that return the values of another


@dataclass(frozen=True, eq=False)
class Activations(Explanation):
    """The outputs of layers for one image.

    Attributes:
        name: Name of the network.
        image: The image as the network saw it, uint8 (C, H, W).
        label: The most probable class.
        probability: Its probability.
        layers: Output of each layer, in the order in which they ran: float32 maps (C, h, w), or a vector (C,).
        omitted: Names of layers that return something else, such as tokens.
    """

    name: str
    image: torch.Tensor
    label: str
    probability: float
    layers: Mapping[str, torch.Tensor]
    omitted: Sequence[str] = ()

    @property
    def title(self) -> str:
        """Network, class and probability; the number of layers that are not shown."""
        n = len(self.omitted)
        others = f" ({n} layer{'s' * (n > 1)} without maps or a vector not shown)" if n else ""
        return f"activations of {self.name}{others}: {describe_class(self.label, self.probability)}"

    def draw(self) -> Figure:
        """Returns the sheet: a row per layer, its strongest maps first, from black (lowest) to white (highest)."""
        rows = [_row_of(values) for values in self.layers.values()]
        heights = [min(_MAPS_WIDTH * row.shape[1] / row.shape[2], 1.2) for row in rows]
        sheet = Sheet(self.title, 1.3 + sum(max(height, _TEXT_HEIGHT) + _GAP for height in heights))
        sheet.show(picture_of(self.image), _LEFT, 0, 1.2, 1.0)
        sheet.text(_LEFT - 0.08, 0.5, f"image\n{len(self.image)} @ {_size(self.image)}", ha="right")
        sheet.text(_LEFT, 1.12, "strongest maps first")
        sheet.text(_RIGHT, 1.12, "black to white")
        top = 1.25
        for row, height, (layer, values) in zip(rows, heights, self.layers.items(), strict=True):
            middle = top + max(height, _TEXT_HEIGHT) / 2
            is_vector = values.dim() == 1
            sheet.show(picture_of(row), _LEFT, middle - height / 2, _MAPS_WIDTH, height, framed=is_vector)
            sheet.text(_LEFT - 0.08, middle, f"{layer}\n{_describe(values)}", ha="right")
            sheet.text(_RIGHT, middle, f"{float(values.min()):.3g} to {float(values.max()):.3g}")
            top += max(height, _TEXT_HEIGHT) + _GAP
        return sheet.figure


def _size(values: torch.Tensor) -> str:
    return "x".join(map(str, values.shape[-2:]))


def _describe(values: torch.Tensor) -> str:
    """Returns the shape of an output, and how many of its maps are shown."""
    if values.dim() == 1:
        return f"{len(values)} units"
    shown = f"{_MAX_MAPS} of " if len(values) > _MAX_MAPS else ""
    return f"{shown}{len(values)} @ {_size(values)}"


def _row_of(values: torch.Tensor) -> torch.Tensor:
    """Returns the maps of a layer in a row, or a vector in lines, as gray values (1, H, W)."""
    low, high = float(values.min()), float(values.max())
    gray = (values - low) / (high - low) if high > low else torch.full_like(values, 0.5)
    if values.dim() == 1:
        columns = min(len(gray), _MAX_UNITS)
        sheet = mosaic(gray.view(-1, 1, 1, 1), columns, gap=0)
        return sheet.repeat_interleave(max(1, round(_MAX_UNITS / 24 / len(sheet[0]))), dim=1).repeat_interleave(
            max(1, _MAX_UNITS // columns), dim=2
        )
    order = values.amax(dim=(1, 2)).sort(descending=True, stable=True).indices[:_MAX_MAPS]
    row = torch.ones(_MAX_MAPS, 1, *values.shape[1:])  # rows of fewer maps have the same scale
    row[: len(order), 0] = gray[order]
    return mosaic(row, _MAX_MAPS, gap=max(1, round(values.shape[-1] / 14)))


@register_explanation("activations")
def activations(subject: Subject, layers: Sequence[str] | None = None) -> Activations:
    """Returns the outputs of layers for an image.

    Args:
        subject: Network and image.
        layers: Names of layers. By default those of all blocks, or of all layers of another module; if there are more
            than 40, the outputs of the modules that hold them. Layers that return their input, such as dropout, are
            left out.

    Raises:
        UnknownNameError: If there is no such layer.
        InputError: If a layer returns no maps or vector, or there are no layers.
    """
    network = subject.network
    omitted: list[str] = []
    with torch.no_grad():
        if layers is not None:
            outs = network.run(subject.x, [layers] if isinstance(layers, str) else layers)[1]
        else:
            chosen = {name: layer for layer, name in _default_layers(network).items()}
            calls = network.run_all(subject.x, chosen)[1]
            times = Counter(name for name, _ in calls)
            numbers: Counter[str] = Counter()
            outs = {}
            for name, out in calls:
                numbers[name] += 1
                call = f" (call {numbers[name]})" if times[name] > 1 else ""
                if out.dim() in (2, 4):
                    outs[f"{chosen[name]}{call}"] = out
                else:
                    omitted.append(f"{chosen[name]}{call}")
    values = {layer: out[0].float().cpu() for layer, out in outs.items()}
    for layer, out in values.items():
        if out.dim() not in (1, 3):
            raise InputError(f"layer {layer!r} returns {tuple(outs[layer].shape)}, neither maps nor a vector")
    if not values:
        raise InputError(f"{network.name} has no layers that return maps or vectors; name layers=[...]")
    index = subject.class_index(None)
    label, probability = subject.classes[index], float(subject.probabilities[index])
    return Activations(network.name, subject.image, label, probability, values, tuple(omitted))


def _default_layers(network: Network) -> dict[str, str]:
    """Returns the layers of the sheet: names and names of modules."""
    is_zoo = network.layers != {name: name for name in network.layers}

    def is_shown(layer: str, name: str) -> bool:
        module = network.module.get_submodule(name)
        return type(module).__name__ not in _UNCHANGED and (is_zoo or not module._modules)

    shown = {layer: name for layer, name in network.layers.items() if is_shown(layer, name)}
    if len(shown) <= MAX_LAYERS:
        return shown
    separator = "/" if is_zoo else "."
    depth = max(layer.count(separator) for layer in network.layers)
    while len(shown) > MAX_LAYERS and depth > 0:
        depth -= 1
        at_depth = {layer: name for layer, name in network.layers.items() if layer.count(separator) <= depth}
        inner = {layer.rpartition(separator)[0] for layer in at_depth}
        shown = {layer: name for layer, name in at_depth.items() if layer not in inner}
    return shown
