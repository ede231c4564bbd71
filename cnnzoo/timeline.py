"""The registered models by year, with their counts and published accuracy."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from os import PathLike

from cnnzoo.errors import unknown
from cnnzoo.measure import Point, plot_accuracy
from cnnzoo.measure.tables import Printable, Table
from cnnzoo.published import TOP1, TOP1_ERROR
from cnnzoo.quantities import get_quantity
from cnnzoo.registry import get_entry, get_spec, list_models


@dataclass(frozen=True)
class Timeline(Printable):
    """Models by year, with their parameters, MACs and published accuracy.

    Attributes:
        points: One per model, in order of year and name.
    """

    points: Sequence[Point] = field(hash=False)

    def table(self) -> Table:
        """Returns the models as a table."""
        return Table(
            title="models by year",
            headers=("year", "model", "parameters", "MACs", TOP1),
            rows=[
                (str(p.year), p.name, p.params, p.macs, "" if p.accuracy is None else f"{p.accuracy:.1f}")
                for p in self.points
            ],
            notes=[
                "accuracy as published: with different training and crops; 100 minus the error if a source prints that"
            ],
        )

    def tables(self) -> Sequence[Table]:
        """Returns the one table."""
        return [self.table()]

    def to_json(self) -> str:
        """Returns the models as JSON."""
        return json.dumps([dataclasses.asdict(point) for point in self.points], indent=2)

    @property
    def _years(self) -> str:
        years = sorted({point.year for point in self.points})
        return f"{years[0]} to {years[-1]}" if len(years) > 1 else f"{years[0]}"

    def plot(self, path: str | PathLike[str]) -> None:
        """Plots accuracy over the years; the area of a disc grows with the number of parameters.

        Args:
            path: File to write; its suffix sets the format (``.svg``, ``.pdf``, ``.png``, ``.tex``).

        Raises:
            InputError: If no model has an accuracy.
            FileError: If the file cannot be written.
        """
        plot_accuracy(self.points, path, f"Classic CNNs, {self._years}")


def timeline(pattern: str = "*") -> Timeline:
    """Returns the registered models by year, with their counts and their published accuracy on ImageNet.

    Args:
        pattern: A wildcard over names, such as ``"res*"``; models without a year are left out.

    Raises:
        UnknownNameError: If no matching model has a year.
    """
    points = []
    for name in list_models(pattern):
        entry = get_entry(name)
        if entry.year is None:
            continue
        figures = {figure.what: float(figure.value) for figure in entry.published if figure.what in (TOP1, TOP1_ERROR)}
        accuracy = figures.get(TOP1, 100 - figures[TOP1_ERROR] if TOP1_ERROR in figures else None)
        spec = get_spec(name)
        params, macs = get_quantity(spec, "parameters"), get_quantity(spec, "macs")
        family = entry.function.__module__.rpartition(".")[2]
        points.append(Point(name, family, entry.year, params, macs, accuracy))
    if not points:
        raise unknown("model with a year", pattern, [name for name in list_models() if get_entry(name).year])
    return Timeline(sorted(points, key=lambda point: (point.year, point.name)))
