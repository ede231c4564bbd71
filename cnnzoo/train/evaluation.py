"""How well a network does on images that it did not learn from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from cnnzoo.data import has_samples, make_loader, make_views, normalize
from cnnzoo.data.resize import CROP_MODES, VIEWS
from cnnzoo.device import cpu_info
from cnnzoo.errors import InputError, unknown
from cnnzoo.train.distributed import DistributedContext


@dataclass(frozen=True, eq=False)
class Evaluation:
    """What an evaluation found.

    Attributes:
        top1: Share of images whose class has the highest score.
        top5: Share of images whose class is among the five highest scores (all, where there are fewer).
        loss: Mean cross-entropy, in nats.
        confusion: int64 (classes, classes): rows are the true classes, columns the given ones.
        n: Number of images, each counted once.
        crops: What was shown of each image: ``"whole"``, ``"ten"``, ...
    """

    top1: float
    top5: float
    loss: float
    confusion: torch.Tensor
    n: int
    views: str = "whole"

    def __str__(self) -> str:
        return f"top-1 {self.top1:.4f}, top-5 {self.top5:.4f}, loss {self.loss:.4f} on {self.n:,} images" + (
            "" if self.views == "whole" else f", {self.views} crops each"
        )

    def to_dict(self) -> dict[str, object]:
        """The figures as plain values."""
        return {
            "top1": self.top1,
            "top5": self.top5,
            "loss": self.loss,
            "n": self.n,
            "views": self.views,
            "confusion": self.confusion.tolist(),
        }


def resolve_precision(name: str, device: torch.device) -> str:
    """``"bf16"``, ``"fp16"`` or ``"fp32"``; ``"auto"`` is bf16 where the hardware multiplies in it."""
    if name != "auto":
        return name
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported() else "fp32"
    if device.type == "cpu":  # torch's own capability string says AVX512 for both
        return "bf16" if {"amx_bf16", "avx512_bf16"} & set(cpu_info().get("flags", "").split()) else "fp32"
    return "fp32"


_LOW = {"bf16": torch.bfloat16, "fp16": torch.float16}


def compute_logits(model: nn.Module, x: torch.Tensor, precision: str, classes: int) -> torch.Tensor:
    """Class scores, float32 (N, classes), of images (N, C, H, W).

    A module whose weights are not float32 runs in their type; autocast is for those that are.

    Raises:
        InputError: If the module gives no score for each class.
    """
    dtype = next((p.dtype for p in model.parameters() if p.is_floating_point()), torch.float32)
    mixed = precision != "fp32" and dtype == torch.float32
    with torch.autocast(x.device.type, dtype=_LOW.get(precision, torch.bfloat16), enabled=mixed):
        scores: torch.Tensor = model(x.to(dtype))
    if scores.dim() != 2 or scores.shape[1] < classes:
        raise InputError(
            f"{type(model).__name__} gives {tuple(scores.shape)} for {len(x)} images of {classes} classes: "
            "it must give one score for each class"
        )
    return scores.float()


def evaluate(
    model: nn.Module,
    part: Any,
    *,
    classes: int,
    size: Sequence[int],
    mean: Sequence[float],
    std: Sequence[float],
    crop_mode: str = "resize",
    views: str = "whole",
    batch_size: int = 256,
    precision: str = "auto",
    workers: int = 0,
    distributed: DistributedContext | None = None,
) -> Evaluation:
    """Shows every image to the network once, in eval mode, and leaves its mode as it was.

    Args:
        model: Any module that gives class scores (N, classes).
        part: What to show: a Split, a Dataset of samples, or an iterable of batches.
        classes: Number of classes.
        size: (height, width) that the network takes.
        mean: Mean of each channel, values in [0, 1].
        std: Standard deviation of each channel, values in [0, 1].
        fit: How images of another size are made to fit: ``"squash"``, ``"center"`` or ``"border"``.
        crops: What is shown of each image: ``"whole"``, ``"flip"``, ``"center"``, ``"five"`` or ``"ten"`` (see
            ``cnnzoo.data.make_views``); the probabilities of several are averaged.
        batch_size: Views of images at a time.
        precision: ``"fp32"``, ``"bf16"``, ``"fp16"`` or ``"auto"``.
        workers: Processes that read a Dataset.
        distributed: The processes that share the images; each image is counted once.

    Raises:
        UnknownNameError: If ``fit`` or ``crops`` is not known.
    """
    for what, name, known in (("crop_mode", crop_mode, CROP_MODES), ("views", views, VIEWS)):
        if name not in known:
            raise unknown(what, name, known)
    at_once = max(batch_size // VIEWS[views], 1)
    # ready-made batches cannot be shared out: each process sees all of them
    distributed = distributed if distributed is not None and has_samples(part) else DistributedContext()
    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    precision = resolve_precision(precision, device)
    loss = torch.zeros((), device=device)
    top5 = torch.zeros((), dtype=torch.int64, device=device)
    confusion = torch.zeros(classes * classes, dtype=torch.int64, device=device)
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        with torch.inference_mode():
            for images, y in make_loader(part, classes, device, workers).batches(
                _shares(part, at_once, distributed), 0
            ):
                if images.dtype == torch.uint8:
                    shown = make_views(images, size, views, crop_mode)
                    x = normalize(shown.flatten(0, 1), mean, std)
                else:
                    x = images
                scores = compute_logits(model, x, precision, classes)
                if len(scores) > len(y):  # several crops of each image
                    p = scores.softmax(dim=1).reshape(len(y), -1, scores.shape[1]).mean(dim=1)
                    scores = p.clamp(min=1e-30).log()
                loss += nn.functional.cross_entropy(scores, y, reduction="sum")
                best = scores.topk(min(5, scores.shape[1]), dim=1).indices
                top5 += (best == y[:, None]).sum()
                confusion += torch.bincount(y * classes + best[:, 0].clamp(max=classes - 1), minlength=classes**2)
    finally:
        for module, mode in modes.items():
            module.training = mode
    distributed.add(loss, top5, confusion)
    table = confusion.reshape(classes, classes).cpu()
    n = int(table.sum())
    return Evaluation(
        top1=int(table.trace()) / n, top5=int(top5) / n, loss=float(loss) / n, confusion=table, n=n, views=views
    )  # fmt: skip


def _shares(part: Any, batch_size: int, distributed: DistributedContext) -> Sequence[torch.Tensor]:
    """Indices of this process's images, in batches; for ready-made batches, one of their numbers each."""
    mine, size = distributed.share(len(part)), batch_size if has_samples(part) else 1
    return [torch.arange(first, min(first + size, mine.stop)) for first in range(mine.start, mine.stop, size)]
