"""What a count found: per layer and in total."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from dataclasses import dataclass
from os import PathLike
from typing import Any

from cnnzoo.measure.tables import Table, human, shape_text


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
class Row:
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
    """

    name: str
    label: str
    kind: str
    out_shape: tuple[int, ...]
    params: int
    macs: int
    backward_macs: int
    bias_adds: int


@dataclass(frozen=True)
class Report:
    """What a count found.

    Attributes:
        name: What was counted.
        input_size: Shape of the input, batch included (several where there are several inputs).
        params: Numbers of parameters.
        rows: One per call of a layer, in order.
        unknown_ops: Operators that no rule was known for; they are not part of the counts.
    """

    name: str
    input_size: tuple[Any, ...]
    params: Params
    rows: tuple[Row, ...]
    unknown_ops: tuple[str, ...] = ()

    @property
    def macs(self) -> int:
        """Multiply-adds of one forward: convolutions and matrix products, biases not counted."""
        return sum(row.macs for row in self.rows)

    @property
    def flops(self) -> int:
        """2 x MACs."""
        return 2 * self.macs

    @property
    def train_macs(self) -> int:
        """Multiply-adds of one forward and one backward."""
        return self.macs + sum(row.backward_macs for row in self.rows)

    @property
    def bias_adds(self) -> int:
        """Additions of a bias in one forward."""
        return sum(row.bias_adds for row in self.rows)

    def by_label(self, value: Callable[[Row], int]) -> dict[str, int]:
        """A sum for each row of the paper's table (each module, where it carries no label)."""
        sums: dict[str, int] = {}
        for row in self.rows:
            key = row.label or row.name
            sums[key] = sums.get(key, 0) + value(row)
        return sums

    def table(self) -> Table:
        """The layers as a table."""
        labelled = any(row.label for row in self.rows)
        notes = [
            f"parameters {self.params.total:,} ({human(4 * self.params.total)}B in float32), "
            f"trainable {self.params.trainable:,}, buffers {self.params.buffers:,}",
            f"MACs {self.macs:,} (FLOPs = 2 x MACs = {self.flops:,}), forward and backward {self.train_macs:,}",
        ]
        if self.unknown_ops:
            notes.append(f"not counted, because no rule is known for them: {', '.join(self.unknown_ops)}")
        return Table(
            title=f"{self.name} at {self._input_text()}",
            headers=(*(["row"] if labelled else []), "layer", "kind", "output", "parameters", "MACs"),
            rows=[
                (*([row.label] if labelled else []), row.name, row.kind, row.out_shape, row.params, row.macs)
                for row in self.rows
            ],
            total=("total", *([""] if labelled else []), "", "", self.params.total, self.macs),
            notes=notes,
        )

    def _input_text(self) -> str:
        several = self.input_size and isinstance(self.input_size[0], tuple)
        return ", ".join(map(shape_text, self.input_size)) if several else shape_text(self.input_size)

    def __str__(self) -> str:
        return self.table().text()

    def _repr_html_(self) -> str:
        return self.to_html()

    def to_dict(self) -> dict[str, Any]:
        """Totals and rows as plain values."""
        return {
            "name": self.name,
            "input_size": list(self.input_size),
            "params": dataclasses.asdict(self.params),
            "macs": self.macs,
            "flops": self.flops,
            "train_macs": self.train_macs,
            "bias_adds": self.bias_adds,
            "unknown_ops": list(self.unknown_ops),
            "rows": [dataclasses.asdict(row) for row in self.rows],
        }

    def to_json(self) -> str:
        """Totals and rows as JSON."""
        return json.dumps(self.to_dict(), indent=2)

    def to_markdown(self) -> str:
        """The layers as a Markdown table."""
        return self.table().markdown()

    def to_csv(self) -> str:
        """Every field of every row as CSV."""
        names = [item.name for item in dataclasses.fields(Row)]
        return Table("", names, [[getattr(row, name) for name in names] for row in self.rows]).csv()

    def to_html(self) -> str:
        """The layers as an HTML table."""
        return self.table().html()

    def plot(self, path: str | PathLike[str]) -> None:
        """Draws where parameters and MACs sit, layer by layer, into a picture file.

        Args:
            path: Where to; the suffix says the format (``.png``, ``.svg``, ``.pdf``).
        """
        from cnnzoo.measure.pictures import draw_layers

        draw_layers([self], path)
