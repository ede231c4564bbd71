"""The result of an evaluation: accuracy, loss and metrics of each class."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from cnnzoo.errors import InputError
from cnnzoo.html_parts import heading, notebook_html
from cnnzoo.measure.tables import Printable, Table, Value, escape_markdown
from cnnzoo.text import printable
from cnnzoo.train import class_metrics
from cnnzoo.train.confusion_html import heat_map

MAX_ROWS = 20  # of printed classes
MAX_PAIRS = 5  # of printed confusions


@dataclass(frozen=True, eq=False)
class Evaluation(Printable):
    """The result of an evaluation.

    Attributes:
        top1: Fraction of images whose class has the highest score.
        top5: Fraction of images whose class is among the five highest scores; None with fewer than six classes.
        loss: Mean cross-entropy, in nats.
        confusion: int64 (classes, classes): a row per true class, a column per predicted class.
        n: Number of images, each counted once.
        views: The views of each image over which predictions were averaged: ``"single"``, ``"ten_crop"``, ...
        label_names: A name per class; by default the class numbers.

    Raises:
        InputError: If the confusion matrix is not square, or has another number of classes than there are names.
    """

    top1: float
    top5: float | None
    loss: float
    confusion: torch.Tensor
    n: int
    views: str = "single"
    label_names: Sequence[str] = ()

    def __post_init__(self) -> None:
        shape = tuple(self.confusion.shape)
        if len(shape) != 2 or shape[0] != shape[1]:
            raise InputError(f"confusion must be int64 (classes, classes), not of shape {shape}")
        names = tuple(map(str, self.label_names or range(len(self.confusion))))
        if len(names) != len(self.confusion):
            raise InputError(
                f"the confusion matrix has {len(self.confusion)} classes, but label_names has {len(names)} names; give "
                "one name per class"
            )
        object.__setattr__(self, "label_names", names)

    # --- metrics of each class ---

    @property
    def support(self) -> tuple[int, ...]:
        """Number of images of each class."""
        return class_metrics.support(self.confusion)

    @property
    def precision(self) -> tuple[float | None, ...]:
        """TP / (TP + FP) of each class: the correct fraction of its predictions; None without any."""
        return class_metrics.precision(self.confusion)

    @property
    def recall(self) -> tuple[float | None, ...]:
        """TP / (TP + FN) of each class: the correct fraction of its images; None without any."""
        return class_metrics.recall(self.confusion)

    @property
    def f1(self) -> tuple[float | None, ...]:
        """2 TP / (2 TP + FP + FN) of each class; None if it has no images and is never predicted."""
        return class_metrics.f1(self.confusion)

    @property
    def balanced_accuracy(self) -> float | None:
        """Mean recall of the classes that have images; None without images."""
        return class_metrics.balanced_accuracy(self.confusion)

    # --- tables ---

    @property
    def summary(self) -> str:
        """The results over all classes, on one line."""
        metrics = {
            "top-1": self.top1,
            "top-5": self.top5,
            "loss": self.loss,
            "balanced accuracy": self.balanced_accuracy,
        }
        text = ", ".join(f"{name} {value:.4f}" for name, value in metrics.items() if value is not None)
        text += f" on {self.n:,} {'image' if self.n == 1 else 'images'}"
        return text if self.views == "single" else f"{text}, views {self.views}"

    def tables(self) -> Sequence[Table]:
        """Returns a row per class, or the 20 classes with the lowest F1, and the most frequent confusions."""
        return self._tables([printable(name) for name in self.label_names])

    def _tables(self, names: Sequence[str]) -> list[Table]:
        pairs = class_metrics.most_frequent_confusions(self.confusion, MAX_PAIRS)
        rows: list[tuple[Value, ...]] = [
            (f"{names[pair.true]} as {names[pair.predicted]}", pair.images, _fraction(pair.share)) for pair in pairs
        ]
        headers = ("true class as predicted class", "images", "share of class")
        confusions = Table("Most frequent confusions", headers, rows, foldable=headers[:1])
        return [self._class_table(names), *([confusions] if rows else [])]

    def _class_table(self, names: Sequence[str]) -> Table:
        values = list(zip(self.support, self.precision, self.recall, self.f1, strict=True))
        shown: Sequence[int] = range(len(values))
        if len(values) > MAX_ROWS:  # an undefined F1 comes last
            shown = sorted(shown, key=lambda i: math.inf if (f1 := values[i][-1]) is None else f1)[:MAX_ROWS]
        headers = ("class", "images", "precision", "recall", "F1")
        rows: list[tuple[Value, ...]] = [(names[i], values[i][0], *map(_fraction, values[i][1:])) for i in shown]
        return Table(self.summary, headers, rows, notes=self._notes(len(rows)), foldable=headers[:1])

    def _notes(self, n_shown: int) -> list[str]:
        n, n_empty = len(self.label_names), self.support.count(0)
        notes: list[str] = []
        if n > n_shown:
            notes.append(
                f"{n - n_shown:,} of {n:,} classes are left out, none with a lower F1 than these; to_csv() and "
                "to_json() have all"
            )
        if any(None in values for values in (self.precision, self.recall, self.f1)):
            notes.append(
                "-: undefined (precision of a class that is never predicted, recall of a class without images, F1 if "
                "both)"
            )
        if 0 < n_empty < n:
            notes.append(
                f"{n_empty:,} of {n:,} classes {'has' if n_empty == 1 else 'have'} no images; balanced accuracy is the "
                "mean recall of the others"
            )
        return notes

    def _repr_html_(self) -> str:
        names = [printable(name) for name in self.label_names]
        classes, *others = self._tables(names)
        tables = "".join(table.html() for table in (replace(classes, title=""), *others))
        return notebook_html(heading("Evaluation", self.summary), heat_map(self.confusion, names), tables)

    # --- files ---

    def to_dict(self) -> dict[str, Any]:
        """Returns the evaluation as plain values; lists of metrics are in the order of the classes."""
        return {
            "top1": self.top1,
            "top5": self.top5,
            "loss": self.loss,
            "balanced_accuracy": self.balanced_accuracy,
            "n": self.n,
            "views": self.views,
            "label_names": list(self.label_names),
            "support": list(self.support),
            "precision": list(self.precision),
            "recall": list(self.recall),
            "f1": list(self.f1),
            "confusion": self.confusion.tolist(),
        }

    def to_json(self) -> str:
        """Returns ``to_dict`` as JSON."""
        return json.dumps(self.to_dict(), indent=2)

    def to_csv(self) -> str:
        """Returns the metrics of each class as CSV, a row per class."""
        rows = list(zip(self.label_names, self.support, self.precision, self.recall, self.f1, strict=True))
        return Table("", ("class", "support", "precision", "recall", "f1"), rows).csv()

    def to_markdown(self) -> str:
        """Returns the tables in GitHub's Markdown."""
        names = [escape_markdown(printable(name)) for name in self.label_names]
        return "\n".join(table.markdown() for table in self._tables(names))


def _fraction(value: float | None) -> str:
    """Returns a fraction with four decimals, None as ``-``."""
    return "-" if value is None else f"{value:.4f}"
