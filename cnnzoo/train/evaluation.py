"""Accuracy and loss of a network on images that it was not trained on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from cnnzoo.data import has_samples, make_loader, make_views, normalize
from cnnzoo.data.preprocess import CROP_MODES, VIEWS
from cnnzoo.device import cpu_bf16_flag
from cnnzoo.errors import InputError, unknown
from cnnzoo.modules import eval_mode
from cnnzoo.train.distributed import DistributedContext


@dataclass(frozen=True, eq=False)
class Evaluation:
    """The result of an evaluation.

    Attributes:
        top1: Fraction of images whose class has the highest score.
        top5: Fraction of images whose class is among the five highest scores (all, with fewer than five classes).
        loss: Mean cross-entropy, in nats.
        confusion: int64 (classes, classes): a row per true class, a column per predicted class.
        n: Number of images, each counted once.
        views: The views of each image over which predictions were averaged: ``"single"``, ``"ten_crop"``, ...
    """

    top1: float
    top5: float
    loss: float
    confusion: torch.Tensor
    n: int
    views: str = "single"

    def __str__(self) -> str:
        return f"top-1 {self.top1:.4f}, top-5 {self.top5:.4f}, loss {self.loss:.4f} on {self.n:,} images" + (
            "" if self.views == "single" else f", views {self.views}"
        )

    def to_dict(self) -> dict[str, object]:
        """Returns the evaluation as plain values."""
        return {
            "top1": self.top1,
            "top5": self.top5,
            "loss": self.loss,
            "n": self.n,
            "views": self.views,
            "confusion": self.confusion.tolist(),
        }


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
        top1=int(table.trace()) / n, top5=int(top5) / n, loss=float(loss) / n, confusion=table, n=n, views=views
    )  # fmt: skip


def _batch_indices(split: Any, batch_size: int, distributed: DistributedContext) -> Sequence[torch.Tensor]:
    """Returns the indices of this process's images, batch by batch; for ready-made batches, the number of each."""
    shard, size = distributed.shard(len(split)), batch_size if has_samples(split) else 1
    return [torch.arange(first, min(first + size, shard.stop)) for first in range(shard.start, shard.stop, size)]
