"""The deconvnet of Zeiler and Fergus 2013: what in the image a single unit responds to.

A unit's activation is projected back to the pixels: max pools put a value where their maximum was (the switches), ReLUs
set negative values to 0, convolutions and dense layers are transposed. This is the backward pass of autograd but for
the ReLUs (Simonyan, Vedaldi, Zisserman 2013, section 4), so that it runs on the graph of any module.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from cnnzoo.errors import InputError
from cnnzoo.explain.panels import Row, around_gray, inside, picture_of
from cnnzoo.explain.registry import register_explanation
from cnnzoo.explain.results import Explanation, describe_class
from cnnzoo.explain.subject import Network, Subject
from cnnzoo.measure.regions import Box, UnknownRegionError, find_regions

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Unit = tuple[int, ...]

_RECTIFIERS = {"Relu", "Hardtanh"}  # Hardtanh: ReLU6
_MAX_POOLS = {"MaxPool2DWithIndices", "MkldnnMaxPool2D", "AdaptiveMaxPool2D", "Amax"}
_LINEAR = {
    "AccumulateGrad", "AdaptiveAvgPool2D", "Add", "Alias", "AsStrided", "AvgPool2D", "AvgPool3D", "Cat", "Clone",
    "ConstantPadNd", "Expand", "Index", "IndexSelect", "Mean", "MkldnnReshape", "Neg", "Permute", "PixelShuffle",
    "ReflectionPad2D", "Repeat", "ReplicationPad2D", "ReshapeAlias", "Select", "Slice", "Split", "SplitWithSizes",
    "Squeeze", "Stack", "Sub", "Sum", "T", "ToCopy", "Transpose", "Unbind", "Unsafe", "UnsafeSplit", "UnsafeView",
    "Unsqueeze", "UpsampleBilinear2D", "UpsampleNearest2D", "View",
}  # fmt: skip
_PRODUCTS = {"Addmm", "Bmm", "Convolution", "MkldnnConvolution", "Mm", "Mul", "Mv"}  # linear if one factor is constant
_BATCH_NORMS = {"CudnnBatchNorm", "MiopenBatchNorm", "NativeBatchNorm"}


@dataclass(frozen=True, eq=False)
class Projection(Explanation):
    """The projection of a unit to the pixels.

    Attributes:
        name: Name of the network.
        image: The image as the network saw it, uint8 (C, H, W).
        label: The most probable class.
        probability: Its probability.
        layer: The layer of the unit.
        unit: Index of the unit in the layer: (map, row, column), or (index,) in a vector.
        activation: Its activation.
        values: The projection, float32 (C, H, W).
        box: (top, left, bottom, right) of the unit's receptive field in px, the last two exclusive; it reaches beyond
            the image where windows reach into the padding. The whole image if it is not known.
        box_unknown: Why the receptive field is not known; else empty.
    """

    name: str
    image: torch.Tensor
    label: str
    probability: float
    layer: str
    unit: Unit
    activation: float
    values: torch.Tensor
    box: Box
    box_unknown: str = ""

    @property
    def patch(self) -> torch.Tensor:
        """The image in the receptive field, float32 (C, h, w) in [0, 1]; NaN outside of the image."""
        return cut(self.image.float() / 255, self.box)

    @property
    def values_in_patch(self) -> torch.Tensor:
        """The projection in the receptive field, float32 (C, h, w); NaN outside of the image."""
        return cut(self.values, self.box)

    @property
    def title(self) -> str:
        """Network, unit, its activation, and the class."""
        unit = f"unit {self.unit[0]}" if len(self.unit) == 1 else f"map {self.unit[0]} at {self.unit[1:]}"
        text = f"deconvnet of {self.name} at {self.layer}, {unit}, activation {self.activation:.3g}"
        text += f": {describe_class(self.label, self.probability)}"
        return f"{text}; receptive field unknown: {self.box_unknown}" if self.box_unknown else text

    def draw(self) -> Figure:
        """Returns the picture: the image with the receptive field, and both image and projection in it."""
        top, left, bottom, right = self.box
        patch, values = inside(self.patch), inside(self.values_in_patch)
        ratio = max(self.image.shape[1] / self.image.shape[2], patch.shape[1] / patch.shape[2])
        row = Row(self.title, ratio, bar=2)
        outline(row.show(0, "image and receptive field", picture_of(self.image)), self.box)
        size = f"{bottom - top}x{right - left} px"
        if patch.shape[1:] != (bottom - top, right - left):
            size += f", {patch.shape[1]}x{patch.shape[2]} in the image"
        row.show(1, size, picture_of(patch))
        limit = float(values.abs().max())
        row.show(2, "projection", picture_of(around_gray(values)))
        row.color_bar((-limit, limit), "projection" + " of each color" * (len(values) == 3))
        return row.sheet.figure


def outline(axis: Axes, box: Box) -> None:
    """Draws a box in black and white, which is visible on any ground."""
    from matplotlib.patches import Rectangle

    top, left, bottom, right = box
    for color, line in (("white", "-"), ("black", (0, (3, 3)))):
        corner = (left - 0.5, top - 0.5)
        axis.add_patch(Rectangle(corner, right - left, bottom - top, fill=False, color=color, linestyle=line))


def cut(values: torch.Tensor, box: Box) -> torch.Tensor:
    """Returns the part of (C, H, W) in a box, with NaN outside of the image."""
    top, left, bottom, right = box
    height, width = values.shape[1:]
    padded = nn.functional.pad(
        values, (max(-left, 0), max(right - width, 0), max(-top, 0), max(bottom - height, 0)), value=torch.nan
    )
    top, left = max(top, 0), max(left, 0)
    return padded[:, top : top + box[2] - box[0], left : left + box[3] - box[1]]


@register_explanation("deconvnet")
def deconvnet(subject: Subject, layer: str | None = None, unit: int | Unit | None = None) -> Projection:
    """Returns the projection of a unit to the pixels.

    Args:
        subject: Network and image.
        layer: The layer; by default the one with the last maps larger than 1x1.
        unit: (map, row, column); or the index of a map, for its strongest unit; by default the strongest unit of all.

    Raises:
        UnknownNameError: If there is no such layer.
        InputError: If there is no such unit, no unit is active, or a layer below cannot be projected through.
    """
    network = subject.network
    layer = subject.last_maps() if layer is None else layer
    x = subject.x.detach().requires_grad_()
    out = network.run(x, [layer])[1][layer][0].detach()
    position = _find_unit(out, unit, layer)
    values = project(network, x, layer, position)
    box, reason = find_box(network, layer, x, position)
    index = subject.class_index(None)
    return Projection(
        name=network.name,
        image=subject.image,
        label=subject.classes[index],
        probability=float(subject.probabilities[index]),
        layer=layer,
        unit=position,
        activation=float(out[position]),
        values=values,
        box=box,
        box_unknown=reason,
    )


def _find_unit(out: torch.Tensor, unit: int | Unit | None, layer: str) -> Unit:
    """Returns the index of a unit in the output of a layer."""
    if out.dim() not in (1, 3):
        raise InputError(f"layer {layer!r} returns {(1, *out.shape)}, neither maps nor a vector")
    fixed = () if unit is None else (unit,) if isinstance(unit, int) else tuple(unit)
    is_valid = len(fixed) in (0, 1, out.dim()) and all(
        type(i) is int and 0 <= i < n for i, n in zip(fixed, out.shape, strict=False)
    )
    if not is_valid:
        expected = "an index" if out.dim() == 1 else "(map, row, column) or the index of a map"
        raise InputError(f"unit must be {expected} in the output {tuple(out.shape)} of {layer!r}, not {unit!r}")
    rest = out[fixed] if fixed else out
    position = (*fixed, *(int(i) for i in torch.unravel_index(rest.argmax(), rest.shape)))
    if len(fixed) < out.dim() and out[position] <= 0:
        where = f"map {fixed[0]} of layer" if fixed else "layer"
        raise InputError(f"no unit of {where} {layer!r} is active for this image: the largest output is not positive")
    return position


def find_box(network: Network, layer: str, x: torch.Tensor, unit: Unit) -> tuple[Box, str]:
    """Returns the receptive field of a unit; if it is not known, the whole image, and why."""
    try:
        return find_regions(network.module, network.module_name(layer), x.shape).box(unit), ""
    except UnknownRegionError as error:
        return (0, 0, *x.shape[2:]), str(error)


def project(network: Network, x: torch.Tensor, layer: str, unit: Unit) -> torch.Tensor:
    """Returns the projection of a unit to the input, float32 (C, H, W).

    Args:
        network: The network.
        x: The input, (1, C, H, W), a leaf that requires a gradient.
        layer: The layer of the unit.
        unit: Index of the unit in the layer's output.

    Raises:
        InputError: If a layer below cannot be projected through.
    """
    names = {name: network.label_of(name) for name, m in network.module.named_modules() if name and not m._modules}
    target = network.module_name(layer)
    _, calls = network.run_all(x, [*names, target])
    # of each operator that ends a layer, the layer
    ends = {out.grad_fn: names[name] for name, out in calls if name in names and out.grad_fn is not None}
    activation = next(out for name, out in calls if name == target)[0][unit]
    if activation.requires_grad:
        _replace_backward(activation.grad_fn, x, ends, network.name)
        values = torch.autograd.grad(activation, x, activation.detach(), allow_unused=True)[0]
        if values is not None:
            return values[0].float().cpu()
    raise InputError(f"layer {layer!r} of {network.name} has no gradient with respect to the image")


def _replace_backward(root: Any, x: torch.Tensor, ends: Mapping[Any, str], name: str) -> None:
    """Lets the backward pass from an operator to the image be that of the deconvnet.

    Raises:
        InputError: If an operator on the way has no transpose.
    """
    reaching = _nodes_to(root, x)
    layers = {root: ends.get(root, "")}
    pending = [root]
    while pending:
        node = pending.pop()
        layer = layers[node]
        inputs = [following for following, _ in node.next_functions if following in reaching]
        op = re.sub(r"Backward\d*$", "", type(node).__name__)
        if op in _RECTIFIERS:
            node.register_hook(_rectify)
        elif op == "Div" and node.next_functions[0][0] in reaching:
            inputs = inputs[:1]
            node.register_hook(_keep_divisor)
        elif not (
            op in _LINEAR
            or op in _MAX_POOLS
            or (op in _PRODUCTS and len(inputs) == 1)
            or (op in _BATCH_NORMS and not node._saved_training)
        ):
            where = f" in layer {layer!r}" if layer else ""
            raise InputError(
                f"the deconvnet cannot go through {op or type(node).__name__}{where} of {name}: it inverts "
                "convolutions, dense layers, ReLU, pools, LRN and batch norm with fixed statistics; use a layer "
                "below, or method='saliency'"
            )
        for following in inputs:
            if following not in layers:
                layers[following] = ends.get(following, layer)
                pending.append(following)


def _nodes_to(root: Any, x: torch.Tensor) -> set[Any]:
    """Returns the operators of a graph from which the gradient reaches a leaf."""
    order: list[Any] = []
    seen: set[Any] = set()
    pending: list[tuple[Any, Iterator[Any]]] = [(root, iter(root.next_functions))]
    seen.add(root)
    while pending:
        node, following = pending[-1]
        for other, _ in following:
            if other is not None and other not in seen:
                seen.add(other)
                pending.append((other, iter(other.next_functions)))
                break
        else:
            order.append(node)
            pending.pop()
    reaching: set[Any] = set()
    for node in order:  # inputs first
        if getattr(node, "variable", None) is x or any(other in reaching for other, _ in node.next_functions):
            reaching.add(node)
    return reaching


def _rectify(grad_inputs: tuple[Any, ...], grad_outputs: tuple[Any, ...]) -> tuple[Any, ...]:
    """Returns the positive part of what comes from above, whatever the input of the ReLU was."""
    return (grad_outputs[0].clamp(min=0), *grad_inputs[1:])


def _keep_divisor(grad_inputs: tuple[Any, ...], grad_outputs: tuple[Any, ...]) -> tuple[Any, ...]:
    """Returns the gradient of a quotient for a constant divisor, as of LRN."""
    return (grad_inputs[0], *(None if grad is None else torch.zeros_like(grad) for grad in grad_inputs[1:]))
