"""The difference between two networks, block by block, and its effect on parameters and multiply-adds."""

from __future__ import annotations

import dataclasses
import difflib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from cnnzoo.blocks import Block, Shape, build_blocks
from cnnzoo.measure import CountReport, count
from cnnzoo.measure.tables import Printable, Table, shape_text
from cnnzoo.network import CNN
from cnnzoo.spec import Spec

LabeledBlock = tuple[str, Block]  # a block with its full label


@dataclass(frozen=True)
class Change:
    """One block in which two networks differ.

    Attributes:
        label: The block's label; ``"C1 → conv1"`` if it has different labels in the two networks.
        what: What differs, in words.
        before: The block of the first network, or None.
        after: The block of the second network, or None.
        params: Parameters of the second network in this block, minus those of the first.
        macs: MACs of the second network in this block, minus those of the first, for one image.
    """

    label: str
    what: str
    before: Block | None
    after: Block | None
    params: int
    macs: int

    @property
    def color(self) -> str:
        """Green for a block of the second network only, red for one of the first only, else yellow."""
        return "green" if self.before is None else "red" if self.after is None else "yellow"


@dataclass(frozen=True)
class Difference(Printable):
    """The changes that turn one network into another.

    Attributes:
        a: The first network's count.
        b: The second network's count.
        changes: The blocks that differ, in order; also equal blocks on different inputs.
        same: Number of blocks without a difference.
    """

    a: CountReport
    b: CountReport
    changes: Sequence[Change] = field(hash=False)
    same: int

    def table(self) -> Table:
        """Returns the changes as a table; its columns add up to the difference of the totals."""
        notes = [f"{self.same} blocks are the same"]
        for report in (self.a, self.b):
            notes.append(f"{report.name}: {report.params.total:,} parameters, {report.macs:,} MACs")
        return Table(
            title=f"from {self.a.name} to {self.b.name}",
            headers=("block", "what differs", "parameters", "MACs"),
            rows=[(c.label, c.what, _signed(c.params), _signed(c.macs)) for c in self.changes],
            total=(
                "total",
                "",
                _signed(self.b.params.total - self.a.params.total),
                _signed(self.b.macs - self.a.macs),
            ),
            notes=notes,
            colors={"block": [c.color for c in self.changes]},
        )

    def tables(self) -> Sequence[Table]:
        """Returns the one table."""
        return [self.table()]

    def to_json(self) -> str:
        """Returns the changes as JSON."""
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


def compare_specs(a: Spec, b: Spec) -> Difference:
    """Compares two networks block by block.

    Blocks are matched as by ``align``.

    Args:
        a: The first network.
        b: The second network.

    Raises:
        SpecError: If one of them cannot be built.
    """
    first, second = _CountedSpec(a), _CountedSpec(b)
    pairs = align(a, b)
    removed = {old[0] for old, new in pairs if old and not new}
    added = {new[0] for old, new in pairs if new and not old}
    moved = {
        label
        for label in removed & added
        if type(first.blocks[label]) is type(second.blocks[label])  # the same block at another position
    }
    changes: list[Change] = []
    same = 0
    if a.input != b.input:
        changes.append(Change("input", f"{shape_text(a.input)} → {shape_text(b.input)}", None, None, 0, 0))
    for old, new in pairs:
        if new is None and old is not None and old[0] in moved:
            continue  # listed at its new position
        before, after = (old[1] if old else None), (new[1] if new else None)
        old_label, new_label = (old[0] if old else ""), (new[0] if new else "")
        differences = []
        if new_label in moved and before is None and after is not None:
            old_label, before = new_label, first.blocks[new_label]
            differences.append(
                f"moved: after {second.predecessors[new_label]}, not after {first.predecessors[new_label]}"
            )
        if before is None or after is None:
            differences.append(f"only in {(a if after is None else b).name}: {after or before}")
        else:
            differences += _describe_change(before, after)
        params = second.params.get(new_label, 0) - first.params.get(old_label, 0)
        macs = second.macs.get(new_label, 0) - first.macs.get(old_label, 0)
        if before is not None and after is not None and (not differences or params or macs):
            differences += _describe_inputs(first.inputs.get(old_label), second.inputs.get(new_label))
        if not differences and not params and not macs:
            same += 1
            continue
        label = f"{old_label} → {new_label}" if old_label and new_label and old_label != new_label else ""
        changes.append(
            Change(
                label or new_label or old_label,
                "; ".join(differences) or "the same block on another input",
                before,
                after,
                params,
                macs,
            )
        )
    return Difference(first.report, second.report, changes, same)


class _CountedSpec:
    """One of the two networks: its blocks, with their counts, input shapes and predecessors."""

    def __init__(self, spec: Spec) -> None:
        with torch.device("meta"):
            self.report = count(CNN(spec), (1, *spec.input), name=spec.name)
            built = build_blocks(spec.features, spec.input, "features")
            built += build_blocks(spec.classifier, built[-1].shape if built else spec.input, "classifier")
        self.blocks = dict(spec.blocks())
        sums = self.report.by("label")
        self.params = {label: values["params"] for label, values in sums.items()}
        self.macs = {label: values["macs"] for label, values in sums.items()}
        shapes = [spec.input, *(one.shape for one in built)]
        self.inputs = {one.block.label: shape for one, shape in zip(built, shapes, strict=False)}
        labels = list(self.blocks)
        self.predecessors = dict(zip(labels, ["the input", *labels], strict=False))


def _describe_change(before: Block, after: Block) -> list[str]:
    """Returns the differences between two blocks, in words."""
    if type(before) is not type(after):
        return [f"{before} → {after}"]
    return [f"{name} {old!r} → {new!r}" for name, old, new in changed_fields(before, after)]


def _describe_inputs(old: Shape | None, new: Shape | None) -> list[str]:
    if old is None or new is None or old == new:
        return []
    return [f"on {shape_text(new)} instead of {shape_text(old)}"]


def _signed(change: int) -> str:
    return f"{change:+,}" if change else "0"


def align(a: Spec, b: Spec) -> list[tuple[LabeledBlock | None, LabeledBlock | None]]:
    """Returns the blocks of two networks in pairs, in order; a block without a counterpart is paired with None.

    Blocks are matched by label if both networks have a block with that label and kind, else by kind and size, else by
    kind alone; matches keep the order of both networks.
    """
    blocks_a, blocks_b = list(a.blocks()), list(b.blocks())
    keys = [[(label, block.label_prefix) for label, block in blocks] for blocks in (blocks_a, blocks_b)]
    shared = set(keys[0]).intersection(keys[1])

    def size(block: Block) -> object:
        values = (getattr(block, item.name) for item in dataclasses.fields(block) if item.name != "label")
        return next(values, None)

    # for blocks whose label the other network lacks: (kind, size), or the kind alone if the other lacks that too
    sized = [
        {i: (block.label_prefix, size(block)) for i, (_, block) in enumerate(blocks) if own[i] not in shared}
        for blocks, own in zip((blocks_a, blocks_b), keys, strict=True)
    ]
    shared_sizes = set(sized[0].values()).intersection(sized[1].values())
    tokens = [
        [
            key if key in shared else by_size[i] if by_size[i] in shared_sizes else by_size[i][0]
            for i, key in enumerate(own)
        ]
        for own, by_size in zip(keys, sized, strict=True)
    ]
    pairs: list[tuple[LabeledBlock | None, LabeledBlock | None]] = []
    for what, i, j, k, m in difflib.SequenceMatcher(None, tokens[0], tokens[1], autojunk=False).get_opcodes():
        if what == "equal":
            pairs += zip(blocks_a[i:j], blocks_b[k:m], strict=True)
        else:
            pairs += [(block, None) for block in blocks_a[i:j]]
            pairs += [(None, block) for block in blocks_b[k:m]]
    return pairs


def changed_fields(before: Block, after: Block) -> list[tuple[str, Any, Any]]:
    """Returns (field, old value, new value) where two blocks of one kind differ; labels and paths are not compared."""
    values = [(item.name, getattr(before, item.name), getattr(after, item.name)) for item in dataclasses.fields(before)]
    return [
        (name, old, new)
        for name, old, new in values
        if old != new and name != "label" and not (before.branches() and old == before.branches())
    ]
