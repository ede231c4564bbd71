"""Two networks row by row: what differs, and what each difference does to parameters and multiply-adds."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from cnnzoo.blocks import Block, Shape, chain
from cnnzoo.measure import Report, count
from cnnzoo.measure.tables import Shown, Table, shape_text
from cnnzoo.network import CNN
from cnnzoo.spec import Spec, align, changed_fields


@dataclass(frozen=True)
class Change:
    """One row of two networks, and what differs.

    Attributes:
        label: The row's label; ``"C1 → conv1"`` where the two networks call it differently.
        what: What differs, in words.
        before: The row of the first network, or None.
        after: The row of the second network, or None.
        params: Parameters that the second network has more here (less, if negative).
        macs: MACs that it has more here, for one image.
    """

    label: str
    what: str
    before: Block | None
    after: Block | None
    params: int
    macs: int


@dataclass(frozen=True)
class Difference(Shown):
    """What it takes to come from one network to another.

    Attributes:
        a: The first network's count.
        b: The second network's count.
        changes: The rows that differ, in order; those that are the same but are given another input, too.
        same: How many rows are the same in every respect.
    """

    a: Report
    b: Report
    changes: Sequence[Change]
    same: int

    def table(self) -> Table:
        """The changes as a table; its columns sum up to the difference of the totals."""
        notes = [f"{self.same} rows are the same"]
        for report in (self.a, self.b):
            notes.append(f"{report.name}: {report.params.total:,} parameters, {report.macs:,} MACs")
        return Table(
            title=f"from {self.a.name} to {self.b.name}",
            headers=("row", "what differs", "parameters", "MACs"),
            rows=[(c.label, c.what, _signed(c.params), _signed(c.macs)) for c in self.changes],
            total=(
                "total",
                "",
                _signed(self.b.params.total - self.a.params.total),
                _signed(self.b.macs - self.a.macs),
            ),
            notes=notes,
        )

    def tables(self) -> Sequence[Table]:
        """The one table."""
        return [self.table()]

    def to_json(self) -> str:
        """The changes as JSON."""
        changes: list[dict[str, Any]] = [
            {
                "label": c.label,
                "what": c.what,
                "before": None if c.before is None else repr(c.before),
                "after": None if c.after is None else repr(c.after),
                "params": c.params,
                "macs": c.macs,
            }
            for c in self.changes
        ]
        return json.dumps({"a": self.a.name, "b": self.b.name, "changes": changes, "same": self.same}, indent=2)


def difference(a: Spec, b: Spec) -> Difference:
    """Sets two networks side by side, row by row.

    Rows are matched by label where both networks have it, else by what they are (a convolution, a pool, ...) and
    where they stand.

    Args:
        a: The first network.
        b: The second.

    Raises:
        SpecError: If one of them cannot be built.
    """
    sides = (_Side(a), _Side(b))
    pairs = align(a, b)
    gone = {old[0] for old, new in pairs if old and not new}
    come = {new[0] for old, new in pairs if new and not old}
    moved = {
        label
        for label in gone & come
        if type(sides[0].rows[label]) is type(sides[1].rows[label])  # the same row at another place
    }
    changes: list[Change] = []
    same = 0
    if a.input != b.input:
        changes.append(Change("input", f"{shape_text(a.input)} → {shape_text(b.input)}", None, None, 0, 0))
    for old, new in pairs:
        if new is None and old is not None and old[0] in moved:
            continue  # told where it now stands
        before, after = (old[1] if old else None), (new[1] if new else None)
        was, now = (old[0] if old else ""), (new[0] if new else "")
        said = []
        if now in moved and before is None and after is not None:
            was, before = now, sides[0].rows[now]
            said.append(f"moved: after {sides[1].follows[now]}, not after {sides[0].follows[now]}")
        if before is None or after is None:
            said.append(f"only in {(a if after is None else b).name}: {after or before}")
        else:
            said += _told(before, after)
        params = sides[1].params.get(now, 0) - sides[0].params.get(was, 0)
        macs = sides[1].macs.get(now, 0) - sides[0].macs.get(was, 0)
        if before is not None and after is not None and (not said or params or macs):
            said += _inputs(sides[0].inputs.get(was), sides[1].inputs.get(now))
        if not said and not params and not macs:
            same += 1
            continue
        label = was if was == now or not now else now if not was else f"{was} → {now}"
        changes.append(Change(label, "; ".join(said) or "the same row on another input", before, after, params, macs))
    return Difference(sides[0].report, sides[1].report, changes, same)


class _Side:
    """One of the two networks: its rows, what each counts, what goes into each, and what each follows."""

    def __init__(self, spec: Spec) -> None:
        with torch.device("meta"):
            self.report = count(CNN(spec), (1, *spec.input), name=spec.name)
            links = chain(spec.features, spec.input, "features")
            links += chain(spec.classifier, links[-1].shape if links else spec.input, "classifier")
        self.rows = dict(spec.rows())
        sums = self.report.by("label")
        self.params = {label: values["params"] for label, values in sums.items()}
        self.macs = {label: values["macs"] for label, values in sums.items()}
        shapes = [spec.input, *(link.shape for link in links)]
        self.inputs = {link.row.label: shape for link, shape in zip(links, shapes, strict=False)}
        labels = list(self.rows)
        self.follows = dict(zip(labels, ["the input", *labels], strict=False))


def _told(before: Block, after: Block) -> list[str]:
    """How one row differs from the other, in words."""
    if type(before) is not type(after):
        return [f"{before} → {after}"]
    return [f"{name} {old!r} → {new!r}" for name, old, new in changed_fields(before, after)]


def _inputs(old: Shape | None, new: Shape | None) -> list[str]:
    if old is None or new is None or old == new:
        return []
    return [f"on {shape_text(new)} instead of {shape_text(old)}"]


def _signed(change: int) -> str:
    return f"{change:+,}" if change else "0"
