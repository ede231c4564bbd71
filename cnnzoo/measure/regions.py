"""The pixels that single units of a layer depend on: where their receptive fields are in the image."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from cnnzoo.errors import InputError
from cnnzoo.measure.counter import run_forward
from cnnzoo.measure.isolation import isolated
from cnnzoo.measure.operator_counter import OperatorCounter
from cnnzoo.measure.positions import View
from cnnzoo.measure.receptive_field import Axis, Known, Positions

Box = tuple[int, int, int, int]


class UnknownRegionError(InputError):
    """Raised where the pixels that a unit depends on are not known; the text says why."""


class Regions:
    """Where the receptive fields of a layer's units are.

    Args:
        positions: The positions of the layer's output.
        size: (height, width) of the image.
    """

    def __init__(self, positions: Known, size: tuple[int, int]) -> None:
        if not isinstance(positions, Positions):
            raise UnknownRegionError(positions or "the layer does not depend on the image")
        self._views: list[View | None] = []
        self._size = size
        for dim in (2, 3):
            view = positions.views.get(Axis(0, dim, size[dim - 2]))
            if isinstance(view, str):
                raise UnknownRegionError(view)
            self._views.append(view)

    def box(self, unit: Sequence[int]) -> Box:
        """Returns (top, left, bottom, right) in px of the receptive field of a unit; the last two are exclusive.

        Where a window reaches into the padding, the box reaches beyond the image.

        Args:
            unit: Index of the unit in the output of one image, (map, row, column) or (index,).
        """
        ends = []
        for view, side in zip(self._views, self._size, strict=True):
            first, last = (0, side - 1) if view is None else view.at([0, *unit])
            ends.append((int(first), int(last) + 1) if last >= first else (0, side))
        (top, bottom), (left, right) = ends
        return top, left, bottom, right


def find_regions(model: nn.Module, layer: str, shape: Sequence[int]) -> Regions:
    """Returns where the receptive fields of a layer's units are, by the same run on the meta device as ``count``.

    Args:
        model: Any module; it stays as it is.
        layer: Name of a module in it.
        shape: Shape of the images, (N, C, H, W).

    Raises:
        UnknownRegionError: If the positions of the layer's output are not known, or the module does not run on the meta
            device.
    """
    results: list[Known] = []
    try:
        with torch.inference_mode(False), isolated(model, meta=True) as (copy, weights):
            counter = OperatorCounter({module: name for name, module in copy.named_modules()}, weights, True)

            def record(module: nn.Module, args: Any, out: Any) -> None:
                if isinstance(out, torch.Tensor):
                    with torch._C.DisableTorchFunction():  # the mode of the meta device, which is slow
                        results.append(counter.tracker.positions(out))

            copy.get_submodule(layer).register_forward_hook(record)
            dtype = next((p.dtype for p in copy.parameters() if p.is_floating_point()), torch.get_default_dtype())
            x = torch.empty(tuple(shape), dtype=dtype, device="meta")
            counter.register_input(x)
            run_forward(copy, (x,), {}, counter)
            counter.release_modules()
    except Exception as error:
        reason = next(iter(str(error).strip().splitlines()), "")
        raise UnknownRegionError(f"it does not run on the meta device: {type(error).__name__}: {reason}") from error
    if not results:
        raise UnknownRegionError(f"{layer} did not run, or returned no tensor")
    return Regions(results[0], (shape[2], shape[3]))
