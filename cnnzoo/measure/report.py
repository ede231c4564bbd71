"""The result of a count: per layer and in total."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from os import PathLike
from typing import TYPE_CHECKING, Any

from cnnzoo.errors import unknown
from cnnzoo.measure.html_page import html_page, scrolling_part, svg_part
from cnnzoo.measure.tables import Printable, Table, human, shape_text

if TYPE_CHECKING:
    from cnnzoo.measure.memory import TrainingMemory


@dataclass(frozen=True)
class Params:
    """Numbers of parameters; a shared parameter counts once.

    Attributes:
        total: All parameters.
        trainable: Those that require a gradient.
        frozen: Those that do not.
        buffers: Values of buffers (batch-norm statistics); not part of ``total``.
        bytes: Bytes of all parameters in their own types, with the scales of torchao's quantized weights.
        dtypes: Names of these types: ``("float32",)``.
    """

    total: int
    trainable: int
    frozen: int
    buffers: int
    bytes: int = 0
    dtypes: tuple[str, ...] = ()

    @property
    def size_text(self) -> str:
        """Their bytes, as printed: ``187 MB in float32``."""
        return f"{human(self.bytes)}B" + (f" in {', '.join(self.dtypes)}" if self.dtypes else "")


@dataclass(frozen=True)
class UnknownOp:
    """An operator without a rule (see ``register_count_rule``).

    Attributes:
        name: Its name: ``aten.linalg_qr``.
        calls: How often it ran.
        modules: Names of the modules that ran it; empty for the model itself.
    """

    name: str
    calls: int
    modules: tuple[str, ...]

    def __str__(self) -> str:
        names = [name or "the model itself" for name in self.modules]
        more = f" and {len(names) - 3} more" if len(names) > 3 else ""
        return f"{self.name} ({self.calls}x in {', '.join(names[:3])}{more})"


@dataclass(frozen=True)
class LayerCount:
    """The counts of one call of one layer: a module without children.

    What a module with children computes itself (functional calls, sums, concatenations) is a layer too, with the name
    and class of that module: one for each run of operators between two calls of its children.

    Attributes:
        name: The module's name in the model: ``features.0``; empty for the model itself.
        label: The label of its block: ``conv1``; empty if it has none.
        kind: The module's class.
        out_shape: Shape of its output, batch included; of such a run, of its last result.
        params: Its own parameters, at the first call that uses them.
        param_bytes: Their bytes in their own types.
        macs: Multiply-adds of one forward.
        backward_macs: Multiply-adds of one backward.
        recompute_macs: Multiply-adds that checkpoints compute again in the backward.
        bias_adds: Additions of a bias.
        elementwise: Output values of element-wise operators (activations, sums, normalizations, dropout).
        pooling: Values that the windows of pools read.
        connections: As in LeCun, Bottou, Bengio, Haffner 1998: MACs, bias adds, and the values that the windows of
            average pools read.
        neurons: As in Krizhevsky, Sutskever, Hinton 2012: output values of convolutions and of matrix products with
            weights.
        saved_bytes: Bytes of activations that autograd saves for backward, unless an earlier layer saves them.
        moved_bytes: Bytes that its operators read and write.
        receptive_field: Side in px of the input region that one output position depends on (the longer side); None if
            the input has no positions, or if they are unknown.
        receptive_field_unknown: Operator from which on the positions are unknown, and why; else empty.
        inputs: Indices in the report of the layers whose outputs it reads; empty if it reads the input alone.
        in_shape: Shape of its input, batch included; of several, of the first.
        kernel_size: Of its convolution or the window of its pool; empty if it has neither.
        stride: Of its convolution or pool.
        groups: Of its convolution; 0 if it has none.
        trainable: The part of ``params`` that requires a gradient.
    """

    name: str
    label: str
    kind: str
    out_shape: tuple[int, ...]
    params: int
    param_bytes: int
    macs: int
    backward_macs: int
    recompute_macs: int
    bias_adds: int
    elementwise: int
    pooling: int
    connections: int
    neurons: int
    saved_bytes: int
    moved_bytes: int
    receptive_field: int | None
    receptive_field_unknown: str
    inputs: tuple[int, ...]
    in_shape: tuple[int, ...] = ()
    kernel_size: tuple[int, ...] = ()
    stride: tuple[int, ...] = ()
    groups: int = 0
    trainable: int = 0


# fields of LayerCount that add up to totals
SUMMED = (
    "params", "param_bytes", "macs", "backward_macs", "recompute_macs", "bias_adds", "elementwise", "pooling",
    "connections", "neurons", "saved_bytes", "moved_bytes",
)  # fmt: skip


@dataclass(frozen=True)
class CountReport(Printable):
    """The result of a count.

    Attributes:
        name: Name of the model.
        input_size: Shape of the input, batch included; a tuple of shapes if there are several inputs.
        params: Numbers of parameters.
        layers: One ``LayerCount`` per call of a layer, in order.
        peak_bytes: Maximum of the bytes of activations that exist at once in inference; pooling indices are included,
            weights and input are not.
        unknown_ops: Operators without a rule, which are not part of the counts: how often they ran, and where.
        modules: Name and class of each module with children, the model itself left out.
    """

    name: str
    input_size: tuple[Any, ...]
    params: Params
    layers: tuple[LayerCount, ...]
    peak_bytes: int = 0
    unknown_ops: tuple[UnknownOp, ...] = ()
    modules: tuple[tuple[str, str], ...] = ()

    def _sum(self, column: str) -> int:
        return sum(getattr(layer, column) for layer in self.layers)

    @property
    def macs(self) -> int:
        """Multiply-adds of one forward: convolutions and matrix products, biases not counted."""
        return self._sum("macs")

    @property
    def flops(self) -> int:
        """2 x MACs."""
        return 2 * self.macs

    @property
    def train_macs(self) -> int:
        """Multiply-adds of one forward and one backward; those that checkpoints compute again are not included."""
        return self.macs + self._sum("backward_macs")

    @property
    def recompute_macs(self) -> int:
        """Multiply-adds that checkpoints compute again in the backward: a step runs ``train_macs`` and these."""
        return self._sum("recompute_macs")

    @property
    def bias_adds(self) -> int:
        """Additions of a bias in one forward."""
        return self._sum("bias_adds")

    @property
    def elementwise(self) -> int:
        """Output values of element-wise operators in one forward."""
        return self._sum("elementwise")

    @property
    def pooling(self) -> int:
        """Values that the windows of pools read in one forward."""
        return self._sum("pooling")

    @property
    def connections(self) -> int:
        """Connections as in 1998: MACs, bias adds, and the values that the windows of average pools read."""
        return self._sum("connections")

    @property
    def neurons(self) -> int:
        """Neurons as in 2012: output values of convolutions and of matrix products with weights."""
        return self._sum("neurons")

    @property
    def saved_bytes(self) -> int:
        """Bytes of activations that autograd saves for backward."""
        return self._sum("saved_bytes")

    @property
    def moved_bytes(self) -> int:
        """Bytes that the operators of one forward read and write."""
        return self._sum("moved_bytes")

    @property
    def intensity(self) -> float:
        """Arithmetic intensity: FLOPs per byte that the operators read and write."""
        return self.flops / self.moved_bytes if self.moved_bytes else 0.0

    def by(self, key: str, depth: int = 1) -> dict[str, dict[str, int]]:
        """Returns the sums of every column over groups of layers, in order.

        Args:
            key: ``"label"`` (blocks; the module where there is no label), ``"kind"`` (classes) or ``"module"``
                (subtrees of the model, named by the first ``depth`` parts of their names).
            depth: For ``"module"``: the number of parts.

        Returns:
            Group -> column -> sum.

        Raises:
            UnknownNameError: If the key is unknown.
        """
        keys: dict[str, Callable[[LayerCount], str]] = {
            "label": lambda layer: layer.label or layer.name,
            "kind": lambda layer: layer.kind,
            "module": lambda layer: ".".join(layer.name.split(".")[:depth]),
        }
        if key not in keys:
            raise unknown("grouping", key, keys)
        groups: dict[str, dict[str, int]] = {}
        for layer in self.layers:
            sums = groups.setdefault(keys[key](layer), dict.fromkeys(SUMMED, 0))
            for column in SUMMED:
                sums[column] += getattr(layer, column)
        return groups

    def table(
        self,
        depth: int | str | None = None,
        fold: bool = True,
        columns: Sequence[str] | str | None = None,
        sort: str | None = None,
    ) -> Table:
        """Returns the table of the layers. ``print(report)`` prints that of depth ``"auto"``.

        Args:
            depth: Number of names, from the outside in, after which the layers of a module share a row: 1 for
                ``layer3``, 2 for ``layer3.1``. Networks of the zoo have blocks instead of modules, as their tables
                do. None: a row per layer; ``"auto"``: the deepest table that fits a screen.
            fold: Whether equal modules that follow each other share a row, ``layer3.1-35``, with their sums.
            columns: Names of the columns, or ``"all"``: ``"block"``, ``"layer"``, ``"kind"``, ``"input"``,
                ``"output"``, ``"kernel"``, ``"stride"``, ``"groups"``, ``"parameters"``, ``"parameters %"``,
                ``"trainable"``, ``"bytes"`` (of parameters, in their own types), ``"MACs"``, ``"MACs %"``, ``"backward
                MACs"``, ``"recomputed MACs"``, ``"bias adds"``, ``"element-wise"``, ``"pooling"``,
                ``"connections"``, ``"neurons"``, ``"saved"``, ``"moved"``, ``"receptive field"``.
            sort: Name of a column: the largest values first.

        Raises:
            InputError: If the depth is not a positive number.
            UnknownNameError: If there is no such column.
        """
        from cnnzoo.measure.layer_table import layer_table

        return layer_table(self, depth=depth, fold=fold, columns=columns, sort=sort, notes=self._notes())

    def _notes(self) -> list[str]:
        notes = [
            f"parameters {self.params.total:,} ({self.params.size_text}), "
            f"trainable {self.params.trainable:,}, buffers {self.params.buffers:,}",
            f"MACs {self.macs:,} (FLOPs = 2 x MACs = {self.flops:,}), forward and backward {self.train_macs:,}, "
            f"bias adds {self.bias_adds:,}"
            + (f"; checkpoints compute {self.recompute_macs:,} again" if self.recompute_macs else ""),
            f"activations: {human(self.saved_bytes)}B saved for backward, {human(self.peak_bytes)}B at peak in "
            f"inference; {self.intensity:.3g} FLOPs per byte moved",
        ]
        kinds = self.by("kind")
        for column, label, total in (("macs", "MACs", self.macs), ("params", "parameters", self.params.total)):
            shares = sorted(((sums[column], kind) for kind, sums in kinds.items() if sums[column]), reverse=True)[:3]
            if total:
                notes.append(f"{label}: " + ", ".join(f"{kind} {100 * n / total:.1f} %" for n, kind in shares))
        if self.unknown_ops:
            notes.append(f"not counted, since there is no rule for them: {', '.join(map(str, self.unknown_ops))}")
        first: dict[str, str] = {}  # reason -> first layer
        for layer in self.layers:
            if layer.receptive_field_unknown:
                first.setdefault(layer.receptive_field_unknown, layer.name or self.name)
        if first:
            reasons = "; ".join(f"from {layer} on ({reason})" for reason, layer in first.items())
            notes.append(f"receptive field: unknown {reasons}")
        return notes

    @property
    def input_text(self) -> str:
        """The shape of the input as printed: ``1x3x224x224``."""
        has_several_inputs = bool(self.input_size) and isinstance(self.input_size[0], tuple)
        return ", ".join(map(shape_text, self.input_size)) if has_several_inputs else shape_text(self.input_size)

    @property
    def batch_size(self) -> int:
        """Number of samples of the input: the length of the first axis of the first input."""
        first = self.input_size[0] if self.input_size else ()
        return (first[0] if first else 1) if isinstance(first, tuple) else first

    @property
    def input_values(self) -> int:
        """Number of values of the input, batch included."""
        shapes = self.input_size if self.input_size and isinstance(self.input_size[0], tuple) else [self.input_size]
        return sum(math.prod(shape) for shape in shapes)

    def training_memory(
        self,
        optimizer: str | int = "sgd",
        batch_size: int | None = None,
        precision: str = "fp32",
        frozen: str | Sequence[str] = (),
    ) -> TrainingMemory:
        """Computes the memory of a training step: parameters, gradients, optimizer, activations, temporaries.

        The step is that of cnnzoo's ``Trainer`` and of most loops: gradients of the former step are freed before the
        forward pass, and the optimizer is a fused one, which needs no memory of its own for the update. Workspaces of
        kernels are not included. Count in train mode: what the report says was saved in the mode of the count.

        Args:
            optimizer: ``"sgd"``, ``"momentum"`` (SGD with momentum), ``"adam"``, ``"adamw"``, or the number of values
                that another optimizer keeps per parameter.
            batch_size: By default, that of the count.
            precision: ``"fp32"``, or ``"bf16"`` or ``"fp16"`` for autocast: activations have two bytes per value, and
                the weights of convolutions and dense layers are copied.
            frozen: Patterns of labels or modules without gradients, besides those frozen in the count: ``"conv*"``.

        Raises:
            InputError: If the state of the optimizer is not known, or the batch size is not a positive number.
            UnknownNameError: If there is no such precision, or a pattern matches no layer with parameters.
        """
        from cnnzoo.measure.memory import training_memory

        return training_memory(self, optimizer, batch_size, precision, frozen)

    def max_batch_size(
        self,
        memory: int | str,
        optimizer: str | int = "sgd",
        precision: str = "fp32",
        frozen: str | Sequence[str] = (),
    ) -> int:
        """Computes the largest batch size whose training step fits into memory; 0 if one image does not.

        Args:
            memory: Bytes, or a text: ``"8 GB"`` (10**9 bytes each) or ``"8 GiB"`` (2**30).
            optimizer: As for ``training_memory``.
            precision: As for ``training_memory``.
            frozen: As for ``training_memory``.

        Raises:
            InputError: If an argument is not valid.
            UnknownNameError: If there is no such precision, or a pattern matches no layer with parameters.
        """
        from cnnzoo.measure.memory import max_batch_size

        return max_batch_size(self, memory, optimizer, precision, frozen)

    def tables(self) -> Sequence[Table]:
        """Returns the one table, of depth ``"auto"``."""
        return [self.table("auto")]

    def to_html(self) -> str:
        """Returns the table of depth ``"auto"`` as an HTML fragment, with one of all layers to unfold."""
        table, whole = self.table("auto"), self.table(fold=False)
        if len(table.rows) == len(whole.rows):
            return table.html()
        whole = dataclasses.replace(whole, notes=())
        return f"{table.html()}<details><summary>all {len(whole.rows):,} layers</summary>{whole.html()}</details>"

    def to_dict(self) -> dict[str, Any]:
        """Returns totals and layers as plain values."""
        totals = (
            "macs", "flops", "train_macs", "recompute_macs", "bias_adds", "elementwise", "pooling", "connections",
            "neurons", "saved_bytes", "moved_bytes", "peak_bytes", "intensity",
        )  # fmt: skip
        return {
            "name": self.name,
            "input_size": list(self.input_size),
            "params": dataclasses.asdict(self.params),
            **{total: getattr(self, total) for total in totals},
            "unknown_ops": [dataclasses.asdict(op) for op in self.unknown_ops],
            "layers": [dataclasses.asdict(layer) for layer in self.layers],
        }

    def to_json(self) -> str:
        """Returns totals and layers as JSON."""
        return json.dumps(self.to_dict(), indent=2)

    def to_csv(self) -> str:
        """Returns every field of every layer as CSV."""
        names = [item.name for item in dataclasses.fields(LayerCount)]
        return Table("", names, [[getattr(layer, name) for name in names] for layer in self.layers]).csv()

    def to_page(self, memory: TrainingMemory | None = None) -> str:
        """Returns a self-contained HTML page with the table and the picture.

        Args:
            memory: The memory of a training step, whose table and picture follow.
        """
        from cnnzoo.measure.layer_plot import layers_svg

        parts = [svg_part(layers_svg([self])), scrolling_part(self.to_html(), "layers")]
        return html_page(self.name, [*parts, *(memory.page_parts() if memory else ())])

    def plot(self, path: str | PathLike[str]) -> None:
        """Draws parameters, MACs and saved bytes per layer.

        Args:
            path: The file; its suffix is the format (``.png``, ``.svg``, ``.pdf``).

        Raises:
            FileError: If the file cannot be written.
        """
        from cnnzoo.measure.layer_plot import plot_layers

        plot_layers([self], path)
