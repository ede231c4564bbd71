"""Confusion matrix: the test images of each group, and the most frequent confusions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from cnnzoo.html_report.groups import RunGroup
from cnnzoo.measure.tables import Table
from cnnzoo.train.class_metrics import most_frequent_confusions, recall, shades

MAX_CLASSES = 40  # a larger matrix is not shown
MAX_PAIRS = 6
STRONG_SHADE = 0.6  # a darker cell needs light text


@dataclass(frozen=True)
class Cell:
    """One count of a confusion matrix.

    Attributes:
        count: Number of images.
        shade: Strength of the cell's color, 0 to 1.
        is_correct: Whether the cell is on the diagonal.
    """

    count: int
    shade: float
    is_correct: bool

    @property
    def is_strong(self) -> bool:
        """Whether the cell needs light text."""
        return self.shade > STRONG_SHADE


@dataclass(frozen=True)
class MatrixRow:
    """The images of one class: a cell per predicted class, and the recall as text (``""`` without images)."""

    name: str
    cells: Sequence[Cell]
    recall: str


@dataclass(frozen=True)
class ConfusionMatrix:
    """The confusion matrix of a group.

    Attributes:
        group: The group.
        classes: Names of the classes.
        n_seeds: Number of runs in the sum.
        rows: A row per true class; empty if there are too many classes.
        pairs: The most frequent confusions; None if there are none.
    """

    group: RunGroup
    classes: Sequence[str]
    n_seeds: int
    rows: Sequence[MatrixRow]
    pairs: Table | None


def build_confusion(groups: Sequence[RunGroup]) -> list[ConfusionMatrix]:
    """Returns the confusion matrix of each group that has one."""
    matrices = []
    for group in groups:
        matrix = group.confusion
        if matrix is not None:
            classes = group.first.classes(len(matrix))
            rows = _rows(matrix, classes) if len(classes) <= MAX_CLASSES else []
            matrices.append(
                ConfusionMatrix(group, classes, len(group.confusions), rows, _most_frequent(matrix, classes))
            )
    return matrices


def _rows(matrix: torch.Tensor, classes: Sequence[str]) -> list[MatrixRow]:
    rows = []
    for i, (name, counts, row_shades, share) in enumerate(
        zip(classes, matrix.tolist(), shades(matrix), recall(matrix), strict=True)
    ):
        cells = [Cell(n, shade, is_correct=i == j) for j, (n, shade) in enumerate(zip(counts, row_shades, strict=True))]
        rows.append(MatrixRow(name, cells, "" if share is None else f"{share:.1%}"))
    return rows


def _most_frequent(matrix: torch.Tensor, classes: Sequence[str]) -> Table | None:
    """Returns the largest counts off the diagonal."""
    rows = [
        [classes[pair.true], classes[pair.predicted], f"{pair.images:,}", f"{pair.share:.1%}"]
        for pair in most_frequent_confusions(matrix, MAX_PAIRS)
    ]
    return Table("Most frequent confusions", ("true", "predicted", "images", "share of class"), rows) if rows else None
