"""The layers of a count as rows of a table: down to a depth, with repeated blocks folded into one row."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from cnnzoo.errors import InputError, unknown
from cnnzoo.measure.tables import Table, Value, human

if TYPE_CHECKING:
    from cnnzoo.measure.report import CountReport, LayerCount

AUTO = "auto"
MAX_ROWS = 40  # of a table that is printed: it fits one screen
MAX_FLAT_ROWS = 64  # of a network without a depth of about that many rows
MIN_ROWS = 10

Path = tuple[str, ...]


@dataclass(frozen=True)
class Row:
    """One or more layers that share a row.

    Attributes:
        path: Names of the blocks or modules around it, from the outside in, and its own.
        layers: The layers.
        kind: Their class, or that of the module that they are in.
        first: Index of the first layer in the report.
        copies: Number of equal blocks in this row.
        last: Name of the last of them.
    """

    path: Path
    layers: Sequence[LayerCount]
    kind: str
    first: int
    copies: int = 1
    last: str = ""

    def sum(self, column: str) -> int:
        """Returns the sum of a count over the layers."""
        return sum(getattr(layer, column) for layer in self.layers)

    def only(self, column: str) -> Value:
        """Returns the value of the one layer that has any; else nothing."""
        values = [value for layer in self.layers if (value := getattr(layer, column))]
        return values[0] if len(values) == 1 else None

    def text(self, names: Sequence[str]) -> str:
        """Returns a name of the row, a range if it has several copies: ``layer3.1-35``."""
        if self.copies == 1:
            return names[0] if len(set(names)) == 1 else ""
        return f"{'.'.join(self.path)}-{_number(self.last)}"


@dataclass(frozen=True)
class Rows:
    """The rows of a table of layers.

    Attributes:
        rows: The rows, in order of execution.
        depth: The depth that they go down to; None if they are layers.
        has_blocks: Whether the layers have labels, which the rows follow.
    """

    rows: Sequence[Row]
    depth: int | None
    has_blocks: bool


_SUMS = {
    "parameters": "params",
    "trainable": "trainable",
    "MACs": "macs",
    "backward MACs": "backward_macs",
    "recomputed MACs": "recompute_macs",
    "bias adds": "bias_adds",
    "element-wise": "elementwise",
    "pooling": "pooling",
    "connections": "connections",
    "neurons": "neurons",
}
_BYTES = {"bytes": "param_bytes", "saved": "saved_bytes", "moved": "moved_bytes"}
_SHARES = {"parameters %": "params", "MACs %": "macs"}
# fields of LayerCount that are the same in equal blocks; what the first of them saves may be saved before it
_SAME = (
    "kind", "in_shape", "out_shape", "kernel_size", "stride", "groups", "param_bytes", "moved_bytes", *_SUMS.values(),
)  # fmt: skip
COLUMNS = (
    "block", "layer", "kind", "input", "output", "kernel", "stride", "groups", "parameters", "parameters %",
    "trainable", "bytes", "MACs", "MACs %", "backward MACs", "recomputed MACs", "bias adds", "element-wise", "pooling",
    "connections", "neurons", "saved", "moved", "receptive field",
)  # fmt: skip
DEFAULT_COLUMNS = ("block", "layer", "kind", "output", "parameters", "MACs", "saved", "receptive field")
_OPTIONAL = ("layer", "receptive field", "saved", "kind", "output")  # left out of a narrow text, the first one first


def layer_table(
    report: CountReport,
    *,
    depth: int | str | None,
    fold: bool,
    columns: Sequence[str] | str | None,
    sort: str | None,
    notes: Sequence[str],
) -> Table:
    """Returns the table of ``CountReport.table``, with these notes below."""
    rows = make_rows(report, depth, fold)
    names = _column_names(columns, rows)
    ordered = list(rows.rows)
    if sort is not None:
        by = _values(_column_name(sort), report, rows)
        ordered.sort(key=lambda row: _sort_key(by(row)))
    functions = [_values(name, report, rows) for name in names]
    total = [_total(name, report) for name in names]
    labels = [i for i, name in enumerate(names) if name in ("block", "layer", "kind")]
    if labels and total[labels[0]] == "":
        total[labels[0]] = "total"
    shown = {layer.name for row in ordered if len(row.layers) == 1 for layer in row.layers}
    is_short = len(ordered) < len(report.layers)
    return Table(
        title=f"{report.name} at {report.input_text}",
        headers=names,
        rows=[[_shown(name, value(row)) for name, value in zip(names, functions, strict=True)] for row in ordered],
        total=total,
        notes=[*_folding_notes(report, rows), *notes] if is_short or not shown else list(notes),
        foldable=[name for name in ("block", "layer", "kind") if name in names],
        optional=[name for name in _OPTIONAL if name in names and (rows.has_blocks or name != "layer")]
        if columns is None
        else list(reversed(names[1:])),
        wraps_first=columns is not None,
    )


def make_rows(report: CountReport, depth: int | str | None, fold: bool) -> Rows:
    """Returns the rows of a report.

    Args:
        report: The report.
        depth: The number of names from the outside in, after which modules (of a network with labels: blocks) share a
            row; None for all layers; ``"auto"`` for what fits a screen.
        fold: Whether equal blocks that follow each other share a row.

    Raises:
        InputError: If the depth is not a positive number.
    """
    if depth is not None and depth != AUTO and (type(depth) is not int or depth < 1):
        raise InputError(f"depth must be a number from 1 on, None for all layers, or 'auto', not {depth!r}")
    tree = _Tree.of(report)
    if depth != AUTO:
        return Rows(tree.rows(depth if isinstance(depth, int) else None, fold), depth, tree.has_blocks)  # type: ignore[arg-type]
    whole = tree.rows(None, fold)
    if len(whole) <= MAX_ROWS:
        return Rows(whole, None, tree.has_blocks)
    result = Rows(tree.rows(1, fold), 1, tree.has_blocks)
    for deeper in range(2, tree.depth):
        rows = tree.rows(deeper, fold)
        if len(rows) > MAX_ROWS:
            break
        result = Rows(rows, deeper, tree.has_blocks)
    if len(result.rows) < MIN_ROWS and len(whole) <= MAX_FLAT_ROWS:
        return Rows(whole, None, tree.has_blocks)
    return result


@dataclass
class _Tree:
    """The layers of a report, by the modules or blocks that they are in.

    Attributes:
        report: The report.
        paths: Path of each layer.
        has_blocks: Whether paths are labels of blocks (and the number of the layer), not names of modules.
        kinds: Class of each module with children.
        parents: Paths of the modules that have layers inside.
    """

    report: CountReport
    paths: Sequence[Path]
    has_blocks: bool
    kinds: dict[Path, str]
    parents: set[Path] = field(default_factory=set)

    @classmethod
    def of(cls, report: CountReport) -> _Tree:
        """Returns the layers of a report."""
        layers = report.layers
        has_blocks = bool(layers) and all(layer.label for layer in layers)
        if has_blocks:
            paths: list[Path] = [(*re.split(r"[/.]", layer.label), f"#{i}") for i, layer in enumerate(layers)]
        else:
            paths = [tuple(layer.name.split(".")) if layer.name else () for layer in layers]
        kinds = {} if has_blocks else {tuple(name.split(".")): kind for name, kind in report.modules}
        return cls(report, paths, has_blocks, kinds, {path[:n] for path in paths for n in range(len(path))})

    @property
    def depth(self) -> int:
        """The length of the longest path."""
        return max(map(len, self.paths), default=0)

    def rows(self, depth: int | None, fold: bool) -> list[Row]:
        """Returns the rows down to a depth."""
        rows = self._expand((), list(range(len(self.paths))), depth, fold)
        return sorted(rows, key=lambda row: row.first)

    def _expand(self, parent: Path, layers: list[int], depth: int | None, fold: bool) -> list[Row]:
        """Returns the rows of the layers in a module."""
        n = len(parent) + 1
        children: dict[Path | int, list[int]] = {}  # modules with layers inside; or a layer
        for i in layers:
            path = self.paths[i][:n]
            children.setdefault(path if len(self.paths[i]) >= n and path in self.parents else i, []).append(i)
        rows: list[Row] = []
        for run in self._runs(children, fold):
            members = [i for child in run for i in children[child]]
            child = run[0]
            if isinstance(child, int):
                rows.append(Row(self.paths[child], [self.report.layers[child]], self.report.layers[child].kind, child))
            elif len(run) > 1 or (depth is not None and n >= depth):
                last = run[-1]
                assert not isinstance(last, int)
                layers_of = [self.report.layers[i] for i in members]
                rows.append(Row(child, layers_of, self._kind(child, members, len(run)), members[0], len(run), last[-1]))
            else:
                rows += self._expand(child, members, depth, fold)
        return rows

    def _runs(self, children: dict[Path | int, list[int]], fold: bool) -> list[list[Path | int]]:
        """Returns the children of a module, those that are equal and follow each other together."""
        runs: list[list[Path | int]] = []
        signature = None
        for child, layers in children.items():
            before, signature = signature, self._signature(child, layers) if fold else None
            if runs and signature is not None and signature == before and _follows(runs[-1][-1], child):
                runs[-1].append(child)
            else:
                runs.append([child])
        return runs

    def _signature(self, child: Path | int, layers: list[int]) -> object:
        """Returns what equal blocks have in common; None for what is not folded: a layer, a block of a table."""
        if isinstance(child, int) or len(layers) < 2:
            return None
        members = [self.report.layers[i] for i in layers]
        if self.has_blocks and len({layer.label for layer in members}) == 1:
            return None
        start = len(child)
        paths = [self.paths[i][start : -1 if self.has_blocks else None] for i in layers]
        return [(path, *(getattr(layer, name) for name in _SAME)) for path, layer in zip(paths, members, strict=True)]

    def _kind(self, child: Path, layers: list[int], copies: int) -> str:
        """Returns the class of a module with layers inside; without one, the classes of the layers, or their number."""
        kinds = list(dict.fromkeys(self.report.layers[i].kind for i in layers))
        number = len(layers) // copies
        kind = self.kinds.get(child) or (", ".join(kinds) if number <= 3 else f"{number} layers")
        return f"{copies} x {kind}" if copies > 1 else kind


def _follows(before: Path | int, after: Path | int) -> bool:
    """Returns whether two names are numbered one after the other: ``layer3.1``, ``layer3.2``."""
    if isinstance(before, int) or isinstance(after, int):
        return False
    first, second = _number(before[-1]), _number(after[-1])
    same_stem = before[-1].removesuffix(first) == after[-1].removesuffix(second)
    return bool(first and second) and same_stem and int(second) == int(first) + 1


def _number(name: str) -> str:
    """Returns the digits at the end of a name."""
    match = re.search(r"[0-9]+$", name)
    return match[0] if match else ""


def _column_names(columns: Sequence[str] | str | None, rows: Rows) -> list[str]:
    """Returns the columns of the table."""
    if columns is None:
        names: list[str] = list(DEFAULT_COLUMNS)
        has_names = any(len(row.layers) == 1 for row in rows.rows) or not rows.has_blocks
        return [name for name in names if (name != "block" or rows.has_blocks) and (name != "layer" or has_names)]
    if columns == "all":
        return [name for name in COLUMNS if name != "block" or rows.has_blocks]
    if isinstance(columns, str) or not isinstance(columns, Sequence) or not columns:
        raise InputError(f"columns must be a list of names, such as ['layer', 'output', 'MACs'], or 'all': {columns!r}")
    return list(dict.fromkeys(map(_column_name, columns)))


def _column_name(name: object) -> str:
    """Returns a column by its name, in any case, with spaces or underscores.

    Raises:
        UnknownNameError: If there is no such column.
    """
    key = str(name).strip().lower().replace("_", " ")
    if (column := next((column for column in COLUMNS if column.lower() == key), None)) is None:
        raise unknown("column", str(name), COLUMNS)
    return column


def _values(name: str, report: CountReport, rows: Rows) -> Callable[[Row], Value]:
    """Returns the function that returns the value of a column in a row."""
    totals = {"params": report.params.total, "macs": report.macs}

    def block(row: Row) -> Value:
        if row.copies > 1 and rows.has_blocks:
            return row.text(())
        labels = list(dict.fromkeys(layer.label for layer in row.layers))
        return labels[0] if len(labels) == 1 else ".".join(row.path)

    def layer(row: Row) -> Value:
        if len(row.layers) == 1:
            return row.layers[0].name
        return "" if rows.has_blocks else row.text([".".join(row.path)])

    texts: dict[str, Callable[[Row], Value]] = {
        "block": block,
        "layer": layer,
        "kind": lambda row: row.kind,
        "input": lambda row: row.layers[0].in_shape,
        "output": lambda row: row.layers[-1].out_shape,
        "kernel": lambda row: row.only("kernel_size"),
        "stride": lambda row: _stride(row.only("stride")),
        "groups": lambda row: row.only("groups"),
        "receptive field": lambda row: row.layers[-1].receptive_field,
    }
    if name in texts:
        return texts[name]
    if name in _SHARES:
        column = _SHARES[name]
        return lambda row: 100 * row.sum(column) / totals[column] if totals[column] else 0.0
    column = _SUMS.get(name) or _BYTES[name]
    return lambda row: row.sum(column)


def _stride(value: Value) -> Value:
    """Returns one number for equal strides along all axes."""
    return value[0] if isinstance(value, tuple) and len(set(value)) == 1 else value


def _shown(name: str, value: Value) -> Value:
    """Returns a value as it is printed."""
    if name in _BYTES:
        assert isinstance(value, int)
        return f"{human(value)}B" if value else ""
    if name in _SHARES:
        assert isinstance(value, float)
        return f"{value:.1f}" if value else ""
    return value


def _total(name: str, report: CountReport) -> Value:
    """Returns the total of a column; empty if it has none."""
    totals = {"params": report.params.total, "trainable": report.params.trainable, "param_bytes": report.params.bytes}
    if name in _SHARES:
        return "100.0" if totals.get(_SHARES[name], report.macs) else ""
    if name not in _SUMS and name not in _BYTES:
        return ""
    column = _SUMS.get(name) or _BYTES[name]
    value = totals[column] if column in totals else sum(getattr(layer, column) for layer in report.layers)
    return _shown(name, value)


def _sort_key(value: Value) -> tuple[int, float, str]:
    """Returns the key of a value: numbers first, the largest first; then texts, in their order."""
    if isinstance(value, tuple):
        return 0, -math.prod(value), ""
    return (0, -value, "") if isinstance(value, (int, float)) else (1, 0, value or "")


def _folding_notes(report: CountReport, rows: Rows) -> list[str]:
    """Returns what a table without a row for each layer says about it."""
    notes = []
    if copies := [row.copies for row in rows.rows if row.copies > 1]:
        notes.append(f"{max(copies)} x: equal blocks that follow each other share a row, with their sums")
    notes.append(
        f"{len(rows.rows):,} rows for {len(report.layers):,} layers"
        + (f", down to depth {rows.depth}" if rows.depth else "")
        + "; all of them: table(fold=False), in the shell --all"
    )
    return notes
