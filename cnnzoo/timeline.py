"""The registered networks by year: their cost, and the accuracy that their sources print."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass
from os import PathLike

import torch

from cnnzoo.errors import unknown
from cnnzoo.measure import Point, count, plot_accuracy
from cnnzoo.measure.tables import Printable, Table
from cnnzoo.network import CNN
from cnnzoo.published import TOP1, TOP1_ERROR
from cnnzoo.registry import get_entry, get_spec, list_models


@dataclass(frozen=True)
class Timeline(Printable):
    """Networks through the years: what each costs, and what accuracy was published of it.

    Attributes:
        points: One per network, by year and name.
    """

    points: Sequence[Point]

    def table(self) -> Table:
        """The networks as a table."""
        return Table(
            title="networks through the years",
            headers=("year", "model", "parameters", "MACs", TOP1),
            rows=[
                (str(p.year), p.name, p.params, p.macs, "" if p.accuracy is None else f"{p.accuracy:.1f}")
                for p in self.points
            ],
            notes=["as published: each with its own training and crops, or 100 less the error that a source prints"],
        )

    def tables(self) -> Sequence[Table]:
        """The one table."""
        return [self.table()]

    def to_json(self) -> str:
        """The networks as JSON."""
        return json.dumps([dataclasses.asdict(point) for point in self.points], indent=2)

    def plot(self, path: str | PathLike[str]) -> None:
        """Draws accuracy against MACs; a disc's area is the number of parameters.

        Args:
            path: Where to; the suffix says the format (``.png``, ``.svg``, ``.pdf``).
        """
        years = [point.year for point in self.points]
        plot_accuracy(self.points, path, f"Classic CNNs, {min(years)} to {max(years)}")


def timeline(pattern: str = "*") -> Timeline:
    """The registered networks through the years, with the ImageNet accuracies that their sources print.

    Args:
        pattern: A wildcard over names, such as ``"res*"``; networks without a year are left out.

    Raises:
        UnknownNameError: If no network of that pattern has a year.
    """
    points = []
    for name in list_models(pattern):
        entry = get_entry(name)
        if entry.year is None:
            continue
        printed = {figure.what: float(figure.value) for figure in entry.published if figure.what in (TOP1, TOP1_ERROR)}
        accuracy = printed.get(TOP1, 100 - printed[TOP1_ERROR] if TOP1_ERROR in printed else None)
        with torch.device("meta"):
            model = CNN(get_spec(name))
        report = count(model, (1, *model.spec.input))
        family = entry.function.__module__.rpartition(".")[2]
        points.append(Point(name, family, entry.year, report.params.total, report.macs, accuracy))
    if not points:
        raise unknown("model with a year", pattern, [name for name in list_models() if get_entry(name).year])
    return Timeline(sorted(points, key=lambda point: (point.year, point.name)))
