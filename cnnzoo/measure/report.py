"""What a count found: per layer and in total."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from os import PathLike
from typing import Any

from cnnzoo.errors import unknown
from cnnzoo.measure.tables import Printable, Table, human, page, paper, shape_text, wide


@dataclass(frozen=True)
class Params:
    """Numbers of parameters, each shared or tied one once.

    Attributes:
        total: All of them.
        trainable: Those that want a gradient.
        frozen: Those that do not.
        buffers: Values that are part of the state but no parameters (batch-norm statistics).
    """

    total: int
    trainable: int
    frozen: int
    buffers: int


@dataclass(frozen=True)
class LayerCount:
    """One call of one layer.

    Attributes:
        name: The module's name in the model: ``features.0``.
        label: The row of the paper's table that it belongs to: ``conv1``; empty where there is none.
        kind: The module's class.
        out_shape: What leaves it, batch included.
        params: Its own parameters, at the first call that uses them.
        macs: Multiply-adds of one forward.
        backward_macs: Multiply-adds of one backward.
        bias_adds: Additions of a bias.
        elementwise: Values that come out of element-wise operators (activations, sums, normalizations, dropout).
        pooling: Values that the windows of pools read.
        connections: In the sense of LeCun, Bottou, Bengio, Haffner 1998: MACs, bias adds, and what the windows of
            averaging pools read.
        neurons: In the sense of Krizhevsky, Sutskever, Hinton 2012: outputs of convolutions and of matrix products
            with weights.
        saved_bytes: Bytes of activations kept for the backward that no earlier row keeps already.
        moved_bytes: Bytes that its operators read and write.
        receptive_field: Side, in px of the input, of what one place of the output sees (the longer one).
        inputs: Places in the report of the rows that feed this one; empty where only the input does.
    """

    name: str
    label: str
    kind: str
    out_shape: tuple[int, ...]
    params: int
    macs: int
    backward_macs: int
    bias_adds: int
    elementwise: int
    pooling: int
    connections: int
    neurons: int
    saved_bytes: int
    moved_bytes: int
    receptive_field: int
    inputs: tuple[int, ...]


SUMMED = (
    "params", "macs", "backward_macs", "bias_adds", "elementwise", "pooling", "connections", "neurons", "saved_bytes",
    "moved_bytes",
)  # fmt: skip


@dataclass(frozen=True)
class CountReport(Printable):
    """What a count found.

    Attributes:
        name: What was counted.
        input_size: Shape of the input, batch included (several where there are several inputs).
        params: Numbers of parameters.
        rows: One per call of a layer, in order.
        peak_bytes: Most bytes of activations that live at once in inference, pooling indices included, weights and
            input not.
        unknown_ops: Operators that no rule was known for; they are not part of the counts.
    """

    name: str
    input_size: tuple[Any, ...]
    params: Params
    layers: tuple[LayerCount, ...]
    peak_bytes: int = 0
    unknown_ops: tuple[str, ...] = ()

    def _sum(self, column: str) -> int:
        return sum(getattr(row, column) for row in self.layers)

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
        """Multiply-adds of one forward and one backward."""
        return self.macs + self._sum("backward_macs")

    @property
    def bias_adds(self) -> int:
        """Additions of a bias in one forward."""
        return self._sum("bias_adds")

    @property
    def elementwise(self) -> int:
        """Values that come out of element-wise operators in one forward."""
        return self._sum("elementwise")

    @property
    def pooling(self) -> int:
        """Values that the windows of pools read in one forward."""
        return self._sum("pooling")

    @property
    def connections(self) -> int:
        """Connections in the sense of 1998: MACs, bias adds, and what averaging pools read."""
        return self._sum("connections")

    @property
    def neurons(self) -> int:
        """Neurons in the sense of 2012: outputs of convolutions and of matrix products with weights."""
        return self._sum("neurons")

    @property
    def saved_bytes(self) -> int:
        """Bytes of activations kept for the backward, the input included, weights not."""
        return self._sum("saved_bytes")

    @property
    def intensity(self) -> float:
        """Arithmetic intensity: FLOPs per byte that the operators read and write."""
        moved = self._sum("moved_bytes")
        return self.flops / moved if moved else 0.0

    def by(self, key: str, depth: int = 1) -> dict[str, dict[str, int]]:
        """Sums of every column over groups of rows, in order.

        Args:
            key: ``"label"`` (rows of the paper's table; the module, where it has none), ``"kind"`` (classes) or
                ``"module"`` (subtrees of the module, by the first ``depth`` parts of their names).
            depth: How many parts of a name make a subtree.

        Returns:
            Group -> column -> sum.

        Raises:
            UnknownNameError: If the key is not known.
        """
        keys: dict[str, Callable[[LayerCount], str]] = {
            "label": lambda row: row.label or row.name,
            "kind": lambda row: row.kind,
            "module": lambda row: ".".join(row.name.split(".")[:depth]),
        }
        if key not in keys:
            raise unknown("grouping", key, keys)
        groups: dict[str, dict[str, int]] = {}
        for row in self.layers:
            sums = groups.setdefault(keys[key](row), dict.fromkeys(SUMMED, 0))
            for column in SUMMED:
                sums[column] += getattr(row, column)
        return groups

    def table(self) -> Table:
        """The layers as a table."""
        labeled = any(row.label for row in self.layers)
        headers = (*(["row"] if labeled else []), "layer", "kind", "output", "parameters", "MACs", "kept", "field")
        return Table(
            title=f"{self.name} at {self.input_text}",
            headers=headers,
            rows=[
                (
                    *([row.label] if labeled else []),
                    *(row.name, row.kind, row.out_shape, row.params, row.macs),
                    f"{human(row.saved_bytes)}B" if row.saved_bytes else "",
                    row.receptive_field,
                )
                for row in self.layers
            ],
            total=(
                "total",
                *[""] * (len(headers) - 5),
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
            f"bias adds {self.bias_adds:,}",
            f"activations: {human(self.saved_bytes)}B kept for the backward, {human(self.peak_bytes)}B at once in "
            f"inference; {self.intensity:.3g} FLOPs per byte moved",
        ]
        kinds = self.by("kind")
        for column, what, total in (("macs", "MACs", self.macs), ("params", "parameters", self.params.total)):
            shares = sorted(((sums[column], kind) for kind, sums in kinds.items() if sums[column]), reverse=True)[:3]
            if total:
                notes.append(f"{what}: " + ", ".join(f"{kind} {100 * n / total:.1f} %" for n, kind in shares))
        if self.unknown_ops:
            notes.append(f"not counted, because no rule is known for them: {', '.join(self.unknown_ops)}")
        return notes

    @property
    def input_text(self) -> str:
        """Shape of the input as it is printed: ``1x3x224x224``."""
        several = bool(self.input_size) and isinstance(self.input_size[0], tuple)
        return ", ".join(map(shape_text, self.input_size)) if several else shape_text(self.input_size)

    def tables(self) -> Sequence[Table]:
        """The one table."""
        return [self.table()]

    def to_dict(self) -> dict[str, Any]:
        """Totals and rows as plain values."""
        totals = ("macs", "flops", "train_macs", "bias_adds", "elementwise", "pooling", "connections", "neurons")
        return {
            "name": self.name,
            "input_size": list(self.input_size),
            "params": dataclasses.asdict(self.params),
            **{name: getattr(self, name) for name in (*totals, "saved_bytes", "peak_bytes", "intensity")},
            "unknown_ops": list(self.unknown_ops),
            "layers": [dataclasses.asdict(row) for row in self.layers],
        }

    def to_json(self) -> str:
        """Totals and rows as JSON."""
        return json.dumps(self.to_dict(), indent=2)

    def to_csv(self) -> str:
        """Every field of every row as CSV."""
        names = [item.name for item in dataclasses.fields(LayerCount)]
        return Table("", names, [[getattr(row, name) for name in names] for row in self.layers]).csv()

    def to_page(self) -> str:
        """A whole HTML page with table and picture, which needs nothing else to be viewed."""
        from cnnzoo.measure.layer_plot import layers_svg

        return page(self.name, [paper(layers_svg([self])), wide(self.to_html(), "layers")])

    def plot(self, path: str | PathLike[str]) -> None:
        """Draws where parameters, MACs and activation bytes sit, layer by layer, into a picture file.

        Args:
            path: Where to; the suffix says the format (``.png``, ``.svg``, ``.pdf``).
        """
        from cnnzoo.measure.layer_plot import plot_layers

        plot_layers([self], path)
