"""The result of a count: per layer and in total."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from os import PathLike
from typing import Any

from cnnzoo.errors import unknown
from cnnzoo.measure.html_page import html_page, scrolling_part, svg_part
from cnnzoo.measure.tables import Printable, Table, human, shape_text


@dataclass(frozen=True)
class Params:
    """Numbers of parameters; a shared parameter counts once.

    Attributes:
        total: All parameters.
        trainable: Those that require a gradient.
        frozen: Those that do not.
        buffers: Values of buffers (batch-norm statistics); not part of ``total``.
        bytes: Bytes of all parameters in their own types, with the scales of torchao's quantized weights.
    """

    total: int
    trainable: int
    frozen: int
    buffers: int
    bytes: int = 0


@dataclass(frozen=True)
class UnknownOp:
    """An operator without a rule (see ``register_rule``).

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
    """

    name: str
    input_size: tuple[Any, ...]
    params: Params
    layers: tuple[LayerCount, ...]
    peak_bytes: int = 0
    unknown_ops: tuple[UnknownOp, ...] = ()

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

    def table(self) -> Table:
        """Returns the table of the layers, with a column for the blocks if there are labels."""
        with_blocks = any(layer.label for layer in self.layers)
        headers = ("layer", "kind", "output", "parameters", "MACs", "saved", "receptive field")
        return Table(
            title=f"{self.name} at {self.input_text}",
            headers=("block", *headers) if with_blocks else headers,
            rows=[
                (
                    *([layer.label] if with_blocks else []),
                    *(layer.name, layer.kind, layer.out_shape, layer.params, layer.macs),
                    f"{human(layer.saved_bytes)}B" if layer.saved_bytes else "",
                    layer.receptive_field,
                )
                for layer in self.layers
            ],
            total=(
                "total",
                *[""] * (3 if with_blocks else 2),
                self.params.total,
                self.macs,
                f"{human(self.saved_bytes)}B",
                "",
            ),
            notes=self._notes(),
        )

    def _notes(self) -> list[str]:
        notes = [
            f"parameters {self.params.total:,} ({human(4 * self.params.total)}B in float32), "
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
        return notes

    @property
    def input_text(self) -> str:
        """The shape of the input as printed: ``1x3x224x224``."""
        has_several_inputs = bool(self.input_size) and isinstance(self.input_size[0], tuple)
        return ", ".join(map(shape_text, self.input_size)) if has_several_inputs else shape_text(self.input_size)

    def tables(self) -> Sequence[Table]:
        """Returns the one table."""
        return [self.table()]

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

    def to_page(self) -> str:
        """Returns a self-contained HTML page with the table and the picture."""
        from cnnzoo.measure.layer_plot import layers_svg

        return html_page(self.name, [svg_part(layers_svg([self])), scrolling_part(self.to_html(), "layers")])

    def plot(self, path: str | PathLike[str]) -> None:
        """Draws parameters, MACs and saved bytes per layer.

        Args:
            path: The file; its suffix is the format (``.png``, ``.svg``, ``.pdf``).

        Raises:
            FileError: If the file cannot be written.
        """
        from cnnzoo.measure.layer_plot import plot_layers

        plot_layers([self], path)
