"""Metrics of each class, computed from a confusion matrix.

A confusion matrix is int64 (classes, classes), with a row per true class and a column per predicted class. For a class,
TP is the number of its images that are predicted as it, FP the number of other images that are, and FN the number of
its images that are not. The metrics have the names and definitions of scikit-learn; one whose denominator is 0 is None.
"""

from __future__ import annotations

import statistics
from typing import NamedTuple

import torch


def support(confusion: torch.Tensor) -> tuple[int, ...]:
    """Returns the number of images of each class: TP + FN."""
    return tuple(confusion.sum(dim=1).tolist())


def precision(confusion: torch.Tensor) -> tuple[float | None, ...]:
    """Returns TP / (TP + FP) of each class; None for one that is never predicted."""
    return _ratios(confusion.diagonal(), confusion.sum(dim=0))


def recall(confusion: torch.Tensor) -> tuple[float | None, ...]:
    """Returns TP / (TP + FN) of each class; None for one without images."""
    return _ratios(confusion.diagonal(), confusion.sum(dim=1))


def f1(confusion: torch.Tensor) -> tuple[float | None, ...]:
    """Returns 2 TP / (2 TP + FP + FN) of each class; None for one without images that is never predicted."""
    return _ratios(2 * confusion.diagonal(), confusion.sum(dim=0) + confusion.sum(dim=1))


def balanced_accuracy(confusion: torch.Tensor) -> float | None:
    """Returns the mean recall of the classes that have images; None without images."""
    recalls = [value for value in recall(confusion) if value is not None]
    return statistics.fmean(recalls) if recalls else None


class Confusion(NamedTuple):
    """The images of one class that are predicted as another.

    Attributes:
        true: Number of the true class.
        predicted: Number of the predicted class.
        images: Number of these images.
        share: Their share of the images of the true class.
    """

    true: int
    predicted: int
    images: int
    share: float


def most_frequent_confusions(confusion: torch.Tensor, max_pairs: int) -> list[Confusion]:
    """Returns the largest counts off the diagonal, the largest first; equal ones in the order of the classes."""
    wrong = confusion.clone().fill_diagonal_(0)
    pairs = wrong.nonzero()
    largest = wrong[tuple(pairs.T)].argsort(descending=True, stable=True)[:max_pairs]
    totals = support(confusion)
    return [
        Confusion(true, predicted, n := int(confusion[true, predicted]), n / totals[true])
        for true, predicted in pairs[largest].tolist()
    ]


def shades(confusion: torch.Tensor) -> list[list[float]]:
    """Returns the strength of each cell's color, 0 to 1: the square root of its share of the row.

    The square root makes a few percent visible.
    """
    shares = confusion.double() / confusion.sum(dim=1, keepdim=True).clamp(min=1)
    rows: list[list[float]] = shares.sqrt().tolist()
    return rows


def _ratios(numerators: torch.Tensor, denominators: torch.Tensor) -> tuple[float | None, ...]:
    """Returns the quotients of integers; None where the denominator is 0."""
    return tuple(n / d if d else None for n, d in zip(numerators.tolist(), denominators.tolist(), strict=True))
