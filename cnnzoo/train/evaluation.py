"""Accuracy, loss and metrics of each class of a network on images that it was not trained on."""

from __future__ import annotations

import json
import math
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from cnnzoo.data import has_samples, make_loader, make_views, normalize
from cnnzoo.data.preprocess import CROP_MODES, VIEWS
from cnnzoo.device import cpu_bf16_flag
from cnnzoo.errors import InputError, unknown
from cnnzoo.measure.tables import Printable, Table, Value, escape_markdown, printable
from cnnzoo.modules import eval_mode
from cnnzoo.train import class_metrics
from cnnzoo.train.confusion_html import heat_map
from cnnzoo.train.distributed import DistributedContext

MAX_ROWS = 20  # of printed classes
MAX_PAIRS = 5  # of printed confusions
_WIDTH = 80  # characters of a printed evaluation


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

    def text(self, width: int = _WIDTH) -> str:
        """Returns summary and tables as plain text, ``width`` characters wide; names of classes are wrapped."""
        first, *others = self.tables()
        lines = [self.summary] if len(self.summary) <= width else self.summary.replace(" on ", "\non ").splitlines()
        summary = "\n".join(textwrap.fill(line, width) for line in lines)
        # rich would wrap a title at the width of its table
        first_text, *other_texts = (table.text(width).rstrip() for table in (replace(first, title=""), *others))
        return "\n\n".join([f"{summary}\n{first_text}", *other_texts])

    def __str__(self) -> str:
        return self.text()

    def _repr_html_(self) -> str:
        return heat_map(self.confusion, [printable(name) for name in self.label_names]) + self.to_html()

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


def resolve_precision(name: str, device: torch.device) -> str:
    """Returns ``"bf16"``, ``"fp16"`` or ``"fp32"``; for ``"auto"``, bf16 if the hardware supports it, else fp32."""
    if name != "auto":
        return name
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported() else "fp32"
    if device.type == "cpu":  # get_cpu_capability() does not say whether AVX512 includes bf16
        return "bf16" if cpu_bf16_flag() else "fp32"
    return "fp32"


_AUTOCAST_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


def compute_logits(model: nn.Module, x: torch.Tensor, precision: str, num_classes: int) -> torch.Tensor:
    """Returns the class scores of images.

    Autocast applies to float32 weights; a module with other weights runs in their dtype.

    Args:
        model: Any module that returns class scores.
        x: (N, C, H, W).
        precision: ``"fp32"``, ``"bf16"`` or ``"fp16"``.
        num_classes: Number of classes of the data.

    Returns:
        float32 (N, K), K at least ``num_classes``.

    Raises:
        InputError: If the module does not return a score for each class.
    """
    dtype = next((p.dtype for p in model.parameters() if p.is_floating_point()), torch.float32)
    is_mixed = precision != "fp32" and dtype == torch.float32
    with torch.autocast(x.device.type, dtype=_AUTOCAST_DTYPES.get(precision, torch.bfloat16), enabled=is_mixed):
        logits: torch.Tensor = model(x.to(dtype))
    if logits.dim() != 2 or logits.shape[1] < num_classes:
        raise InputError(
            f"{type(model).__name__} returns {tuple(logits.shape)} for {len(x)} images of {num_classes} classes; "
            "it must return one score per class"
        )
    return logits.float()


def evaluate(
    model: nn.Module,
    split: Any,
    *,
    num_classes: int,
    size: Sequence[int],
    mean: Sequence[float],
    std: Sequence[float],
    crop_mode: str = "squash",
    views: str = "single",
    batch_size: int = 256,
    precision: str = "auto",
    workers: int = 0,
    distributed: DistributedContext | None = None,
) -> Evaluation:
    """Returns accuracy, loss and confusion matrix of a network in eval mode; its own mode is restored.

    Args:
        model: Any module that returns class scores (N, classes).
        split: The images and labels: a Split, a Dataset of samples, or an iterable of batches.
        num_classes: Number of classes of the data.
        size: (height, width) of the network's input.
        mean: Mean of each channel, values in [0, 1].
        std: Standard deviation of each channel, values in [0, 1].
        crop_mode: How images of another size are brought to ``size``: ``"squash"``, ``"center"`` or ``"border"``.
        views: Views of each image, over which probabilities are averaged: ``"single"``, ``"flip"``, ``"center"``,
            ``"five_crop"`` or ``"ten_crop"`` (see ``cnnzoo.data.make_views``).
        batch_size: Batch size, counted in views.
        precision: ``"fp32"``, ``"bf16"``, ``"fp16"`` or ``"auto"``.
        workers: Worker processes that read a Dataset.
        distributed: The processes that share the images; each image is counted once.

    Raises:
        UnknownNameError: If ``crop_mode`` or ``views`` is not known.
        InputError: If the module does not return a score for each class.
        DataError: If samples or batches have the wrong type or shape, or a label is out of range.
    """
    for argument, name, known in (("crop_mode", crop_mode, CROP_MODES), ("views", views, VIEWS)):
        if name not in known:
            raise unknown(argument, name, known)
    images_per_batch = max(batch_size // VIEWS[views], 1)
    # ready-made batches cannot be sharded: each process evaluates all of them
    distributed = distributed if distributed is not None and has_samples(split) else DistributedContext()
    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    precision = resolve_precision(precision, device)
    loss = torch.zeros((), device=device)
    top5 = torch.zeros((), dtype=torch.int64, device=device)
    confusion = torch.zeros(num_classes * num_classes, dtype=torch.int64, device=device)
    loader = make_loader(split, num_classes, device, workers)
    with eval_mode(model), torch.inference_mode():
        for images, y in loader.batches(_batch_indices(split, images_per_batch, distributed), 0):
            if images.dtype == torch.uint8:
                x = normalize(make_views(images, size, views, crop_mode).flatten(0, 1), mean, std)
            else:
                x = images
            logits = compute_logits(model, x, precision, num_classes)
            if len(logits) > len(y):  # several views of each image
                p = logits.softmax(dim=1).reshape(len(y), -1, logits.shape[1]).mean(dim=1)
                logits = p.clamp(min=1e-30).log()
            loss += nn.functional.cross_entropy(logits, y, reduction="sum")
            best = logits.topk(min(5, logits.shape[1]), dim=1).indices
            top5 += (best == y[:, None]).sum()
            predicted = best[:, 0].clamp(max=num_classes - 1)
            confusion += torch.bincount(y * num_classes + predicted, minlength=num_classes**2)
    distributed.sum(loss, top5, confusion)
    table = confusion.reshape(num_classes, num_classes).cpu()
    n = int(table.sum())
    return Evaluation(
        top1=int(table.trace()) / n,
        top5=int(top5) / n if num_classes > 5 else None,
        loss=float(loss) / n,
        confusion=table,
        n=n,
        views=views,
    )


def _batch_indices(split: Any, batch_size: int, distributed: DistributedContext) -> Sequence[torch.Tensor]:
    """Returns the indices of this process's images, batch by batch; for ready-made batches, the number of each."""
    shard, size = distributed.shard(len(split)), batch_size if has_samples(split) else 1
    return [torch.arange(first, min(first + size, shard.stop)) for first in range(shard.start, shard.stop, size)]
