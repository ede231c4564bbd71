"""The layers of a network as a graph: what a file of another framework and a network of cnnzoo are both turned into."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch

Shape = tuple[int, ...]
MERGES = ("concat", "add")
_MAX_OPERANDS = 200  # of concatenations of concatenations; DenseNet-201 has 49


@dataclass(frozen=True, eq=False, repr=False)
class Layer:
    """One layer, with the layers whose outputs it takes.

    Attributes:
        kind: ``"conv"``, ``"linear"``, ``"norm"`` (batch norm), ``"relu"``, ``"max_pool"``, ``"avg_pool"``, ``"lrn"``,
            ``"concat"``, ``"add"``, ``"input"``, ...; a word of the file for a kind that cnnzoo does not know.
        name: Its name in the file; of a network, the label of its block.
        inputs: The layers whose outputs it takes.
        tensors: Its weights: ``weight``, ``bias``, ``running_mean``, ``running_var``.
        settings: ``stride``, ``padding``, ...
        path: Of a network: the name of its module.
        shape: Of a network: shape of its output, one sample.
    """

    kind: str
    name: str
    inputs: tuple[Layer, ...] = ()
    tensors: Mapping[str, torch.Tensor] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    path: str = ""
    shape: Shape = ()

    depth: int = field(init=False, default=0)  # layers with weights on the longest path to its output

    def __post_init__(self) -> None:
        depth = bool(self.tensors) + max((layer.depth for layer in self.inputs), default=0)
        object.__setattr__(self, "depth", depth)

    def __repr__(self) -> str:
        return f"Layer({self.kind!r}, {self.name!r})"  # without its inputs, and theirs

    @cached_property
    def operands(self) -> tuple[Layer, ...]:
        """The inputs that matter, in an order that does not depend on how the network was written.

        Concatenations of concatenations are one, and so are sums of sums; of a sum, the shortest path is the first.
        """
        if self.kind not in MERGES:
            return tuple(map(skip, self.inputs))
        operands: list[Layer] = []
        stack = list(reversed(self.inputs))
        while stack and len(operands) < _MAX_OPERANDS:
            layer = skip(stack.pop())
            if layer.kind == self.kind:
                stack += reversed(layer.inputs)
            else:
                operands.append(layer)
        return tuple(sorted(operands, key=lambda layer: layer.depth) if self.kind == "add" else operands)


# layers that change no values, or not in eval mode
_TRANSPARENT = {"identity", "dropout", "flatten"}


def skip(layer: Layer, kinds: set[str] = _TRANSPARENT) -> Layer:
    """Returns the layer whose output this one passes on; itself, if it computes something."""
    while layer.kind in kinds and layer.inputs:
        layer = layer.inputs[0]
    return layer


def inputs_first(output: Layer) -> list[Layer]:
    """Returns the layers that an output depends on, each after its inputs, and the layer of the output itself."""
    order: dict[Layer, None] = {}
    stack = [(output, False)]
    while stack:
        layer, is_ready = stack.pop()
        if is_ready:
            order[layer] = None
        elif layer not in order:
            stack.append((layer, True))
            stack += [(one, False) for one in reversed(layer.operands)]
    return list(order)


def shape_text(layer: Layer) -> str:
    """Returns the shape of a layer's weights."""
    return str(tuple(layer.tensors["weight"].shape))


def sliding(
    kernel_size: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    *,
    ceil_mode: bool = False,
    counts_padding: bool = True,
) -> dict[str, Any]:
    """Returns the settings of a pooling layer with sliding windows.

    Args:
        kernel_size: (height, width).
        stride: (height, width).
        padding: (top, left, bottom, right).
        ceil_mode: Whether the output size is rounded up.
        counts_padding: Whether a mean divides by the size of the window with its padding.
    """
    return {
        "kernel_size": tuple(kernel_size), "stride": tuple(stride), "padding": tuple(padding), "ceil_mode": ceil_mode,
        "counts_padding": counts_padding,
    }  # fmt: skip


def windows(pool: Layer, size: Shape, axis: int) -> list[tuple[int, int, int]] | None:
    """Returns the windows of a pooling layer along an axis: first position, last + 1, and what a mean divides by.

    Args:
        pool: The layer; without ``kernel_size`` it pools to ``output_size``, (1, 1) by default.
        size: (height, width) of its input.
        axis: 0 for the height, 1 for the width.

    Returns:
        The windows; None if the settings are not valid.
    """
    settings, n = pool.settings, size[axis]
    if settings.get("kernel_size") is None:
        out = settings.get("output_size", (1, 1))[axis]
        bounds = [(i * n // out, -(-(i + 1) * n // out)) for i in range(out)]
        return [(first, last, last - first) for first, last in bounds]
    kernel, stride = settings["kernel_size"][axis], settings["stride"][axis]
    begin, end = settings["padding"][axis], settings["padding"][axis + 2]
    if not (kernel > 0 and stride > 0 and 0 <= begin < kernel and 0 <= end < kernel):
        return None
    steps = n + begin + end - kernel
    out = (-(-steps // stride) if settings["ceil_mode"] else steps // stride) + 1
    if settings["ceil_mode"] and (out - 1) * stride >= n + begin:  # the last window must begin in the image
        out -= 1
    found = []
    for start in range(-begin, out * stride - begin, stride):
        first, last = max(start, 0), min(start + kernel, n)
        divisor = min(start + kernel, n + end) - start if settings["counts_padding"] else last - first
        found.append((first, last, divisor))
    return found


def is_identity(pool: Layer, size: Shape) -> bool:
    """Returns whether a pooling layer returns its input."""
    return all(windows(pool, size, axis) == [(i, i + 1, 1) for i in range(side)] for axis, side in enumerate(size))


def scaled(name: str, layer: Layer, factor: torch.Tensor | None, shift: torch.Tensor | None) -> Layer:
    """Returns a layer whose output is multiplied by a factor and shifted, per channel.

    The two are folded into a batch norm, and a shift into a layer without biases.

    Args:
        name: Name of the operation in the file.
        layer: The layer.
        factor: (channels,) or None.
        shift: (channels,) or None.
    """
    tensors = dict(layer.tensors)
    shape = tensors["weight"].shape[:1] if tensors else None
    if any(one is not None and one.shape != shape for one in (factor, shift)):
        return Layer("scale", name, (layer,))
    if layer.kind != "norm" and (factor is not None or "bias" in tensors):
        return Layer("scale", name, (layer,))
    if factor is not None:
        tensors |= {"weight": tensors["weight"] * factor, "bias": tensors["bias"] * factor}
    if shift is not None:
        tensors["bias"] = tensors["bias"] + shift if "bias" in tensors else shift
    return Layer(layer.kind, layer.name, layer.inputs, tensors, layer.settings)
