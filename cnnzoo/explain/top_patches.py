"""The patches that the maps of a layer respond to most strongly, with their projections (Zeiler, Fergus 2013)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from cnnzoo.errors import InputError
from cnnzoo.explain.deconvnet import Unit, cut, find_box, project
from cnnzoo.explain.images import PreparedImages
from cnnzoo.explain.panels import Sheet, around_gray, inside, mosaic, picture_of
from cnnzoo.explain.results import Explanation
from cnnzoo.explain.subject import Network
from cnnzoo.measure.regions import Box
from cnnzoo.progress_bar import progress_bar

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_MAPS_IN_ROW = 3


@dataclass(frozen=True, eq=False)
class TopPatches(Explanation):
    """The strongest patches of some maps of a layer: M maps, n patches each, at most one of each image.

    Attributes:
        name: Name of the network.
        data: Name of the data set.
        layer: The layer.
        maps: Index of each map; of a vector, of each unit.
        indices: Index of each image in the test images of the data set, int64 (M, n), the strongest first.
        activations: Activation of each unit, float32 (M, n).
        units: Index of each unit in the layer, M tuples of n.
        boxes: Receptive field of each unit in px, (top, left, bottom, right), M tuples of n; see ``Projection.box``.
        patches: The images in the receptive fields, float32 (M, n, C, h, w) in [0, 1]; NaN outside of an image.
        projections: The projections in the receptive fields, float32 (M, n, C, h, w); None if the deconvnet cannot go
            through a layer.
        note: Why projections or receptive fields are not known; else empty.
    """

    name: str
    data: str
    layer: str
    maps: Sequence[int]
    indices: torch.Tensor
    activations: torch.Tensor
    units: Sequence[Sequence[Unit]]
    boxes: Sequence[Sequence[Box]]
    patches: torch.Tensor
    projections: torch.Tensor | None
    note: str = ""

    @property
    def title(self) -> str:
        """Network, layer and data set."""
        height, width = self.patches.shape[-2:]
        text = f"top {self.indices.shape[1]} patches of {self.name} at {self.layer} in {self.data}: {height}x{width} px"
        return f"{text}; {self.note}" if self.note else text

    def draw(self) -> Figure:
        """Returns the sheet: for each map the projections, if there are any, beside the patches."""
        n_maps, n = self.indices.shape
        columns = max(1, round(n**0.5))
        per_row = _MAPS_IN_ROW if self.projections is not None else 2 * _MAPS_IN_ROW
        width = (6.3 + 0.12) / per_row - 0.12
        side = width if self.projections is None else (width - 0.06) / 2
        images = [mosaic([inside(tile) for tile in tiles], columns, _gap(tiles)) for tiles in self.patches]
        height = side * max(image.shape[1] / image.shape[2] for image in images)
        sheet = Sheet(self.title, -(-n_maps // per_row) * (height + 0.3))
        for i, index in enumerate(self.maps):
            left, top = 0.1 + i % per_row * (width + 0.12), i // per_row * (height + 0.3)
            high, low = float(self.activations[i].max()), float(self.activations[i].min())
            sheet.text(left, top + 0.1, f"map {index}: {high:.3g} to {low:.3g}", fontsize=7)
            if self.projections is not None:
                tiles = [around_gray(inside(tile)) for tile in self.projections[i]]
                gray = mosaic(tiles, columns, _gap(self.projections[i]))
                sheet.show(picture_of(gray), left, top + 0.2, side, height, framed=False)
            sheet.show(picture_of(images[i]), left + width - side, top + 0.2, side, height, framed=False)
        return sheet.figure


def _gap(tiles: torch.Tensor) -> int:
    return max(1, round(max(inside(tile).shape[2] for tile in tiles) / 16))


def find_top_patches(
    network: Network,
    images: PreparedImages,
    layer: str,
    *,
    data: str,
    n: int,
    maps: int | Sequence[int],
    batch_size: int,
) -> TopPatches:
    """Returns the n strongest patches of some maps of a layer; see ``cnnzoo.top_patches``."""
    parameter = next(network.module.parameters(), torch.zeros(()))  # for device and dtype

    def prepare(batch: torch.Tensor) -> torch.Tensor:
        return images.preprocessing.normalize(batch).to(parameter)

    n = min(n, len(images))
    activations, indices = _strongest(network, images, layer, prepare, n, batch_size)
    chosen = _choose_maps(maps, activations, layer)
    units: list[list[Unit]] = []
    boxes: list[list[Box]] = []
    patches: list[torch.Tensor] = []
    projections: list[torch.Tensor] = []
    note = reason = ""
    for index in chosen:
        units.append([])
        boxes.append([])
        batch = images.read(indices[index].tolist())[0]
        for image in batch:
            x = prepare(image[None]).detach().requires_grad_()
            with torch.no_grad():
                out = network.run(x, [layer])[1][layer][0]
            unit: Unit = (index,)
            if out.dim() == 3:
                unit = (index, *(int(i) for i in torch.unravel_index(out[index].argmax(), out.shape[1:])))
            box, reason = find_box(network, layer, x, unit)
            units[-1].append(unit)
            boxes[-1].append(box)
            patches.append(cut(image.float() / 255, box))
            if not note:
                try:
                    projections.append(cut(project(network, x, layer, unit), box))
                except InputError as error:
                    note = f"no projections: {str(error).partition(':')[0]}"
    if reason:
        note = "; ".join(filter(None, (note, f"receptive fields unknown: {reason}")))
    shape = len(chosen), n
    has_projections = len(projections) == len(patches)
    return TopPatches(
        name=network.name,
        data=data,
        layer=layer,
        maps=tuple(chosen),
        indices=indices[chosen],
        activations=activations[chosen],
        units=units,
        boxes=boxes,
        patches=_stack(patches, shape),
        projections=_stack(projections, shape) if has_projections else None,
        note=note,
    )


def _stack(tiles: list[torch.Tensor], shape: tuple[int, int]) -> torch.Tensor:
    """Returns M x n tiles (C, h, w) as one tensor; smaller ones are padded with NaN."""
    channels, height, width = (max(tile.shape[d] for tile in tiles) for d in range(3))
    stacked = torch.full((*shape, channels, height, width), torch.nan)
    for place, tile in zip(stacked.flatten(0, 1), tiles, strict=True):
        place[:, : tile.shape[1], : tile.shape[2]] = tile
    return stacked


def _strongest(
    network: Network,
    images: PreparedImages,
    layer: str,
    prepare: Callable[[torch.Tensor], torch.Tensor],
    n: int,
    batch_size: int,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns the n highest activations of each map, one per image, and the indices of the images: (maps, n) each."""
    best, where = torch.zeros(0), torch.zeros(0, dtype=torch.int64)
    with torch.no_grad(), progress_bar("searching", len(images)) as advance:
        for indices, batch, _ in images.batches(batch_size):
            out = network.run(prepare(batch), [layer])[1][layer].float().cpu()
            if out.dim() not in (2, 4):
                raise InputError(f"layer {layer!r} returns {tuple(out.shape)}, neither maps nor vectors")
            peaks = out.flatten(2).amax(dim=2) if out.dim() == 4 else out  # (N, maps)
            places = torch.tensor(indices).expand(peaks.shape[1], -1)
            peaks = peaks.T if not len(best) else torch.cat([best, peaks.T], dim=1)
            places = places if not len(where) else torch.cat([where, places], dim=1)
            order = peaks.sort(dim=1, descending=True, stable=True).indices[:, :n]
            best, where = peaks.gather(1, order), places.gather(1, order)
            advance(len(indices))
    return best, where


def _choose_maps(maps: int | Sequence[int], activations: torch.Tensor, layer: str) -> list[int]:
    """Returns the indices of the maps that are shown."""
    n = len(activations)
    if isinstance(maps, int):
        return [int(i) for i in activations[:, 0].sort(descending=True, stable=True).indices[:maps]]
    if not maps or not all(type(i) is int and 0 <= i < n for i in maps):
        raise InputError(f"maps must be a number of maps, or a list of their indices from 0 to {n - 1} in {layer!r}")
    return list(maps)
