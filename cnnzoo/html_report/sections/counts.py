"""Counts: parameters and MACs of each network, side by side and layer by layer."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import nn

from cnnzoo.html_report.groups import RunGroup
from cnnzoo.html_report.sections.architecture import distinct_networks
from cnnzoo.measure import Comparison, CountReport
from cnnzoo.measure.tables import Printable, Table

MAX_OPEN_ROWS = 40  # a longer table is folded

DiffModules = Callable[[nn.Module, nn.Module], Printable | None]


@dataclass(frozen=True)
class Details:
    """Tables that can be folded.

    Attributes:
        title: The title, also if folded.
        tables: The tables.
        is_open: Whether they are unfolded at first.
    """

    title: str
    tables: Sequence[Table]
    is_open: bool = False


@dataclass(frozen=True)
class UncountedNetwork:
    """A network that cannot be rebuilt from its files.

    Attributes:
        name: Its name.
        label: Label of its group.
        tensors: Its weights and buffers; None if the run has no weights.
    """

    name: str
    label: str
    tensors: Details | None


@dataclass(frozen=True)
class Counts:
    """The values of the section.

    Attributes:
        comparison: The networks side by side; None for a single network.
        differences: The differences of networks of the same name.
        layers: The layers of each network.
        uncounted: The networks that cannot be counted.
    """

    comparison: Table | None
    differences: Sequence[Details]
    layers: Sequence[Details]
    uncounted: Sequence[UncountedNetwork]


def build_counts(groups: Sequence[RunGroup], diff: DiffModules) -> Counts:
    """Returns the counts of each distinct network.

    Args:
        groups: The groups of runs.
        diff: Compares two modules; returns None if it cannot.
    """
    distinct = distinct_networks(groups)
    counted = [(group, count) for group in distinct if (count := group.first.count) is not None]
    return Counts(
        comparison=_comparison(counted),
        differences=_differences([group for group, _ in counted], diff),
        layers=[_layers(group, count) for group, count in counted],
        uncounted=[
            UncountedNetwork(group.first.name, group.label, _tensors(group))
            for group in distinct
            if group.first.count is None
        ],
    )


def _comparison(counted: Sequence[tuple[RunGroup, CountReport]]) -> Table | None:
    if len(counted) < 2:
        return None
    reports = [dataclasses.replace(count, name=group.label) for group, count in counted]
    smallest = min(range(len(reports)), key=lambda i: reports[i].macs)
    return Comparison(reports, smallest).table()


def _differences(groups: Sequence[RunGroup], diff: DiffModules) -> list[Details]:
    differences = []
    for i, b in enumerate(groups):
        for a in groups[:i]:
            if a.first.name != b.first.name or a.first.module is None or b.first.module is None:
                continue
            if difference := diff(a.first.module, b.first.module):
                differences.append(Details(f"Difference from {a.label} to {b.label}", difference.tables()))
    return differences


def _layers(group: RunGroup, count: CountReport) -> Details:
    name = group.first.name
    title = f"Layers of {name}" + (f" ({group.label})" if group.label != name else "")
    return Details(title, count.tables(), is_open=len(count.layers) <= MAX_OPEN_ROWS)


def _tensors(group: RunGroup) -> Details | None:
    tensors = [(name, shape, math.prod(shape)) for name, shape in group.first.tensor_shapes.items()]
    if not tensors:
        return None
    total = ("total", "", sum(n for *_, n in tensors))
    table = Table("Weights and buffers", ("tensor", "shape", "values"), tensors, total=total)
    return Details(f"Tensors of {group.label}", [table], is_open=len(tensors) <= MAX_OPEN_ROWS)
