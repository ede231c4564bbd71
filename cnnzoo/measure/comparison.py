"""Two or more counts side by side, with ratios, and the results of training."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from os import PathLike
from typing import Any

from cnnzoo.errors import InputError
from cnnzoo.measure.html_page import html_page, scrolling_part, svg_part
from cnnzoo.measure.report import CountReport
from cnnzoo.measure.tables import Printable, Table, Value, human, ratio_text

_COUNTS: tuple[tuple[str, Callable[[CountReport], int]], ...] = (
    ("parameters", lambda report: report.params.total),
    ("MACs", lambda report: report.macs),
    ("FLOPs (2 x MACs)", lambda report: report.flops),
    ("MACs of a training step", lambda report: report.train_macs),
    ("bytes saved for backward", lambda report: report.saved_bytes),
    ("peak bytes in inference", lambda report: report.peak_bytes),
)
_RESULTS = (
    ("recipe", "recipe"),
    ("epochs", "epochs"),
    ("loss", "loss"),
    ("train accuracy", "train_acc"),
    ("test accuracy", "test_acc"),
    ("examples/sec, training step", "examples_per_sec"),
    ("examples/sec, wall clock", "wall_examples_per_sec"),
    ("device", "device"),
    ("precision", "precision"),
)


@dataclass(frozen=True)
class Comparison(Printable):
    """Counts side by side.

    Attributes:
        reports: The counts.
        baseline: Index of the report that the ratios refer to.
        notes: Lines below the table.
        results: Results of training, one mapping per report: ``loss``, ``train_acc``, ``test_acc``,
            ``examples_per_sec``, ``wall_examples_per_sec``, ``history`` (a mapping per epoch); an empty mapping for a
            network that was not trained. Empty if none was.
        trained_on: The data set that they were trained on.

    Raises:
        InputError: If there are fewer than two reports, or the baseline is not the index of one.
    """

    reports: Sequence[CountReport] = field(hash=False)
    baseline: int = -1
    notes: Sequence[str] = field(default=(), hash=False)
    results: Sequence[Mapping[str, Any]] = field(default=(), hash=False)
    trained_on: str = ""

    def __post_init__(self) -> None:
        if len(self.reports) < 2:
            raise InputError(f"compare needs at least two networks, not {len(self.reports)}")
        if not -len(self.reports) <= self.baseline < len(self.reports):
            raise InputError(f"baseline must be an index of one of {len(self.reports)} networks, not {self.baseline}")

    def ratios(self, value: Callable[[CountReport], int]) -> list[float]:
        """Returns a value of each report over that of the baseline; NaN if the latter is 0."""
        base = value(self.reports[self.baseline])
        return [value(report) / base if base else float("nan") for report in self.reports]

    def table(self) -> Table:
        """Returns the counts and their ratios to the baseline: two networks side by side, more one per line."""
        names = [report.name for report in self.reports]
        base = self.baseline % len(self.reports)
        if len(names) > 2:
            return self._lines(names, base)
        other = 1 - base
        rows: list[list[Value]] = [["input", *(report.input_size for report in self.reports), ""]]
        for label, value in _COUNTS:
            rows.append([label, *map(value, self.reports), ratio_text(self.ratios(value)[other])])
        rows.append([self._size_label, *(f"{human(report.params.bytes)}B" for report in self.reports), ""])
        return Table(
            title=" against ".join(names),
            headers=("", *names, f"{names[other]} / {names[base]}"),
            rows=rows,
            notes=self.notes,
        )

    def _lines(self, names: Sequence[str], base: int) -> Table:
        """Returns the table with a line per network."""
        ratios = [f"{label} / {names[base]}" for label in ("parameters", "MACs")]
        headers = ("network", "input", "parameters", ratios[0], "MACs", ratios[1], "training MACs", "saved", "peak")
        columns = (
            names,
            [report.input_size for report in self.reports],
            [report.params.total for report in self.reports],
            [ratio_text(ratio) for ratio in self.ratios(lambda report: report.params.total)],
            [report.macs for report in self.reports],
            [ratio_text(ratio) for ratio in self.ratios(lambda report: report.macs)],
            [report.train_macs for report in self.reports],
            [report.saved_bytes for report in self.reports],
            [report.peak_bytes for report in self.reports],
        )
        return Table(
            title=", ".join(names),
            headers=headers,
            rows=list(zip(*columns, strict=True)),
            notes=[
                "training MACs: of one forward and backward; saved: bytes saved for backward; peak: bytes of "
                "activations at once in inference",
                *self.notes,
            ],
            foldable=("network",),
            optional=("peak", "saved", "training MACs", "input", ratios[1], ratios[0]),
        )

    @property
    def _size_label(self) -> str:
        dtypes = {report.params.dtypes for report in self.reports if report.params.dtypes}
        return f"weights in {', '.join(min(dtypes))}" if len(dtypes) == 1 else "weights in their own types"

    def results_table(self) -> Table:
        """Returns the results of training: a column per network; of three and more, a line."""

        def cell(result: Mapping[str, Any], key: str) -> Value:
            value = result.get(key)
            if isinstance(value, float):
                return f"{value:,.1f}" if key.endswith("per_sec") else f"{value:.3f}"
            return value

        names, title = [report.name for report in self.reports], f"trained on {self.trained_on}"
        if len(names) > 2:
            labels = [label for label, _ in _RESULTS]
            return Table(
                title=title,
                headers=("network", *labels),
                rows=[
                    [name, *(cell(result, key) for _, key in _RESULTS)]
                    for name, result in zip(names, self.results, strict=True)
                ],
                foldable=("network", "recipe"),
                optional=[label for label in reversed(labels) if label != "test accuracy"],
            )
        return Table(
            title=title,
            headers=("", *names),
            rows=[[label, *(cell(result, key) for result in self.results)] for label, key in _RESULTS],
        )

    def tables(self) -> Sequence[Table]:
        """Returns the counts and, if there are any, the results of training."""
        return [self.table(), *([self.results_table()] if self.results else [])]

    def to_dict(self) -> dict[str, Any]:
        """Returns reports, ratios and results as plain values."""
        return {
            "baseline": self.reports[self.baseline].name,
            "ratios": {label: [r if r == r else None for r in self.ratios(value)] for label, value in _COUNTS},
            "notes": list(self.notes),
            "results": [dict(result) for result in self.results],
            "reports": [report.to_dict() for report in self.reports],
        }

    def to_json(self) -> str:
        """Returns reports, ratios and results as JSON."""
        return json.dumps(self.to_dict(), indent=2)

    def to_csv(self) -> str:
        """Returns the counts as CSV."""
        return self.table().csv()

    def to_page(self) -> str:
        """Returns a self-contained HTML page with the tables and the picture."""
        from cnnzoo.measure.layer_plot import layers_svg

        picture = layers_svg(self.reports, baseline=self.baseline, results=self.results)
        layers = [scrolling_part(report.to_html(), f"layers of {report.name}") for report in self.reports]
        return html_page(
            self.table().title, [svg_part(picture), scrolling_part(self.to_html(), "side by side"), *layers]
        )

    def plot(self, path: str | PathLike[str]) -> None:
        """Draws the layers of all networks on one logarithmic scale, and the learning curves of trained ones.

        Args:
            path: The file; its suffix is the format (``.png``, ``.svg``, ``.pdf``).

        Raises:
            FileError: If the file cannot be written.
        """
        from cnnzoo.measure.layer_plot import plot_layers

        plot_layers(self.reports, path, baseline=self.baseline, results=self.results)
