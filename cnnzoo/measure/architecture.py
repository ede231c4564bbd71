"""The architecture of a counted network as a graph of operations: what a diagram shows, without its geometry."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from cnnzoo.errors import InputError
from cnnzoo.measure.drawing import TIMES
from cnnzoo.measure.report import CountReport, LayerCount

# operations of torch by their class, as a diagram writes them
_SHORT_NAMES = {
    "Conv2d": "", "Linear": "", "MaxPool2d": "max", "AvgPool2d": "mean", "AdaptiveAvgPool2d": "mean",
    "AdaptiveMaxPool2d": "max", "BatchNorm2d": "BN", "LocalResponseNorm": "LRN", "LayerNorm": "LN", "GroupNorm": "GN",
    "InstanceNorm2d": "IN", "TableConv2d": "connection table",
}  # fmt: skip


@dataclass(frozen=True)
class Node:
    """One operation of the graph, with the normalization and activation that follow it.

    Attributes:
        kind: ``"input"``, ``"conv"``, ``"pool"``, ``"dense"``, ``"norm"``, ``"other"``; ``"block"`` for several
            operations; ``"add"``, ``"concat"``, ``"join"`` where branches meet (``"join"``: by another operation).
        name: Its full label or module name, in parts: ``("layer1.0", "conv1")``.
        shape: Shape of its output, one sample.
        inputs: Indices of the nodes that it reads.
        op: The operation in words: ``"max"``; empty for the plain one of its kind.
        kernel: Its windows: ``"3x3"``; of several operations the distinct ones.
        stride: Its stride, empty if it is 1.
        norm: Its normalization.
        activation: Its activation.
        params: Its number of parameters.
        macs: Its MACs.
        groups: Groups of maps that are convolved separately.
        repeats: How many blocks it stands for; 0 for one.
        in_block: Whether ``name`` is the label of a block of a Spec.
    """

    kind: str
    name: tuple[str, ...]
    shape: tuple[int, ...]
    inputs: tuple[int, ...] = ()
    op: str = ""
    kernel: str = ""
    stride: str = ""
    norm: str = ""
    activation: str = ""
    params: int = 0
    macs: int = 0
    groups: int = 1
    repeats: int = 0
    in_block: bool = False

    @property
    def is_joint(self) -> bool:
        """Whether it is only the point where branches meet."""
        return self.kind in ("add", "concat", "join")

    @property
    def shape_text(self) -> str:
        """Its shape: ``96@54x54``, ``4096``."""
        if len(self.shape) < 2:
            return str(self.shape[0]) if self.shape else "scalar"
        if len(self.shape) == 2:
            return TIMES.join(map(str, self.shape))
        return f"{self.shape[0]}@{TIMES.join(map(str, self.shape[1:]))}"


def layer_graph(report: CountReport) -> list[Node]:
    """Returns the operations of a report in order, the input first.

    The layers of one block of a Spec are one node. Dropout and flattening are no nodes; a normalization or an
    activation is part of the node that it follows, if nothing else reads that node.

    Raises:
        InputError: If the input of the network is neither (N, C, H, W) nor (N, C).
    """
    size = report.input_size
    if len(size) not in (2, 4) or not all(isinstance(n, int) for n in size):
        raise InputError(f"{report.name} at {report.input_text}: draw needs one input (N, C, H, W) or (N, C)")
    containers = {name for name, _ in report.modules}
    if any(layer.name for layer in report.layers):
        containers.add("")
    steps = list(_steps(report))
    readers: dict[int, set[int]] = {}  # step -> the steps that read it
    for number, step in enumerate(steps):
        for source in step.inputs:
            readers.setdefault(source, set()).add(number)

    nodes = [Node("input", ("input",), tuple(size[1:]))]
    node_of: dict[int, int] = {}  # step -> index of its node
    for number, step in enumerate(steps):
        inputs = tuple(dict.fromkeys(node_of[source] for source in step.inputs)) or (0,)
        node = dataclasses.replace(_node(step.layers, containers, nodes[inputs[0]].shape, inputs), inputs=inputs)
        source = inputs[0]
        before = nodes[source]
        is_sole_reader = all(len(readers.get(one, ())) == 1 for one in step.inputs)
        if len(inputs) == 1 and not node.kind:
            node_of[number] = source
        elif node.kind == "activation" and source and is_sole_reader and not before.activation:
            nodes[source] = dataclasses.replace(before, activation=node.op, params=before.params + node.params)
            node_of[number] = source
        elif _follows(node, before) and not step.layers[0].label and is_sole_reader:
            nodes[source] = dataclasses.replace(before, norm=node.op, params=before.params + node.params)
            node_of[number] = source
        else:
            if len(inputs) > 1 and not node.is_joint:  # the branches meet before it
                nodes.append(Node("join", node.name[:-1], before.shape, inputs))
                node = dataclasses.replace(node, inputs=(len(nodes) - 1,))
            kind = {"": "other", "activation": "other"}.get(node.kind, node.kind)
            node_of[number] = len(nodes)
            nodes.append(dataclasses.replace(node, kind=kind))
    return nodes


def _follows(norm: Node, before: Node) -> bool:
    """Returns whether a normalization can be written with the node before it."""
    return norm.kind == "norm" and before.kind in ("conv", "dense") and not before.norm and not before.activation


# --- steps: what becomes one node ---


@dataclass
class _Step:
    """Layers that are one node: those of one block, or a single layer without a block."""

    layers: list[LayerCount]
    inputs: tuple[int, ...]  # indices of the steps that it reads


def _steps(report: CountReport) -> Iterator[_Step]:
    """Yields the steps of a report, each before those that read it."""
    groups: list[list[int]] = []
    group_of: dict[int, int] = {}
    for number, layer in enumerate(report.layers):
        last = report.layers[number - 1].label if number else ""
        if not layer.label or layer.label != last:
            groups.append([])
        groups[-1].append(number)
        group_of[number] = len(groups) - 1
    for index, members in enumerate(groups):
        sources = (group_of[i] for number in members for i in report.layers[number].inputs)
        inputs = tuple(dict.fromkeys(source for source in sources if source != index))
        yield _Step([report.layers[number] for number in members], inputs)


def _node(
    layers: Sequence[LayerCount], containers: Iterable[str], shape: tuple[int, ...], inputs: Sequence[int]
) -> Node:
    """Returns the node of a step; its kind is empty if it computes nothing that is drawn.

    Args:
        layers: The layers of the step.
        containers: Names of modules with children: a layer of that name is what the module itself computes.
        shape: Shape of its first input.
        inputs: Indices of its inputs.
    """
    kinds = [_kind(layer, layer.name in containers) for layer in layers]
    order = ("conv", "dense", "pool", "other", "add", "concat", "join", "norm", "activation", "")
    main = min(range(len(layers)), key=lambda i: order.index(kinds[i]))
    kind, layer, out_shape = kinds[main], layers[main], layers[-1].out_shape[1:]
    if any(one in ("add", "concat", "join") for one in kinds) and kind != "conv" and kind != "dense":
        kind = _joint_kind(layers, shape, out_shape, len(inputs), containers)
    convs = [one for one, its_kind in zip(layers, kinds, strict=True) if its_kind == "conv"]
    owner = next((one.kind for one in layers if one.name in containers), "")
    op = _SHORT_NAMES.get(layer.kind, layer.kind)
    if len(convs) > 1:  # a block that is made of convolutions, such as one with a connection table
        op = _SHORT_NAMES.get(owner, owner)
    kernel, stride = _window(layer), _side(layer.stride)
    if kind == "pool" and math.prod(out_shape[1:]) == 1 and layer.kind.startswith("Adaptive"):
        op, kernel, stride = f"global {op}", "", ""
    if len(convs) > 1:
        kernel = ", ".join(dict.fromkeys(map(_window, convs)))
    if kind == "norm" or kind in ("add", "concat", "join"):
        kernel = stride = ""
    label, name = layers[0].label, layers[0].name
    return Node(
        kind=kind,
        name=tuple(label.split("/")) if label else tuple(name.split(".")) if name else (layer.kind,),
        shape=out_shape,
        op="" if kind in ("add", "concat", "join") or (kind == "other" and op == (name or layer.kind)) else op,
        kernel=kernel,
        stride="" if stride == "1" else stride,
        norm=_first(layers, kinds, "norm") if kind in ("conv", "dense") else "",
        activation=_first(layers, kinds, "activation") if kind != "activation" else "",
        params=sum(one.params for one in layers),
        macs=sum(one.macs for one in layers),
        groups=layer.groups if len(convs) == 1 else 1,
        in_block=bool(label),
    )


def _kind(layer: LayerCount, is_container: bool) -> str:
    """Returns the kind of a layer: that of a node, or ``"activation"``, or empty for one that is not drawn."""
    before, after = layer.in_shape[1:], layer.out_shape[1:]
    if layer.groups:
        return "conv"
    if "pool" in layer.kind.lower() or layer.pooling or (layer.kernel_size and before != after):
        return "pool" if before != after or set(layer.kernel_size) - {1} else ""
    if "norm" in layer.kind.lower() and not layer.macs:
        return "norm"
    if layer.kind in ("Linear", "RBFUnits") or (layer.macs and len(after) == 1):
        return "dense"
    if len(set(layer.inputs)) > 1 and not layer.macs:
        return "join"
    if layer.macs or math.prod(before) != math.prod(after):
        return "join" if is_container and not layer.macs and _is_concatenated(before, after) else "other"
    if before != after:
        return "" if len(after) == 1 else "other"  # flattened
    if "drop" in layer.kind.lower() or not layer.elementwise:
        return ""
    if is_container:  # an addition to itself, or an operation that has no name
        return "join" if layer.label else ""
    return "activation"


def _is_concatenated(before: tuple[int, ...], after: tuple[int, ...]) -> bool:
    return bool(before) and len(before) == len(after) and before[1:] == after[1:] and after[0] % before[0] == 0


def _joint_kind(
    layers: Sequence[LayerCount],
    shape: tuple[int, ...],
    out_shape: tuple[int, ...],
    inputs: int,
    containers: Iterable[str],
) -> str:
    """Returns how branches meet; an addition is known for the blocks of a Spec, else it could be a product."""
    own = next((one for one in layers if one.name in containers), layers[0])
    if not own.elementwise and out_shape[:1] != shape[:1]:
        return "concat"
    if own.label and own.elementwise:
        return "add"
    return "concat" if inputs > 1 and not own.elementwise else "join"


def _first(layers: Sequence[LayerCount], kinds: Sequence[str], kind: str) -> str:
    """Returns the name of the first layer of a kind."""
    match = next((one for one, its_kind in zip(layers, kinds, strict=True) if its_kind == kind), None)
    return "" if match is None else _SHORT_NAMES.get(match.kind, match.kind)


def _window(layer: LayerCount) -> str:
    return TIMES.join(map(str, layer.kernel_size))


def _side(sides: Sequence[int]) -> str:
    return str(sides[0]) if len(set(sides)) == 1 else TIMES.join(map(str, sides))
