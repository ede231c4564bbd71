"""How well a network does on images that it did not learn from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from cnnzoo.data import Batches, Split
from cnnzoo.errors import InputError


@dataclass(frozen=True, eq=False)
class Evaluation:
    """What an evaluation found.

    Attributes:
        top1: Share of images whose class has the highest score.
        top5: Share of images whose class is among the five highest scores (all, where there are fewer).
        loss: Mean cross-entropy, in nats.
        confusion: int64 (classes, classes): rows are the true classes, columns the given ones.
        n: Number of images, each counted once.
        crops: What was shown of each image: ``"whole"``.
    """

    top1: float
    top5: float
    loss: float
    confusion: torch.Tensor
    n: int
    crops: str = "whole"

    def __str__(self) -> str:
        return f"top-1 {self.top1:.4f}, top-5 {self.top5:.4f}, loss {self.loss:.4f} on {self.n:,} images"

    def to_dict(self) -> dict[str, object]:
        """The figures as plain values."""
        return {
            "top1": self.top1,
            "top5": self.top5,
            "loss": self.loss,
            "n": self.n,
            "crops": self.crops,
            "confusion": self.confusion.tolist(),
        }


def pick_precision(name: str, device: torch.device) -> str:
    """``"bf16"`` or ``"fp32"``; ``"auto"`` is bf16 where the hardware multiplies in it."""
    if name != "auto":
        return name
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported() else "fp32"
    if device.type == "cpu":
        try:  # torch's own capability string says AVX512 for all of these
            flags = Path("/proc/cpuinfo").read_text()
        except OSError:
            return "fp32"
        return "bf16" if "amx_bf16" in flags or "avx512_bf16" in flags else "fp32"
    return "fp32"


def scores_of(model: nn.Module, x: torch.Tensor, precision: str, classes: int) -> torch.Tensor:
    """Class scores, float32 (N, classes), of images (N, C, H, W).

    A module whose weights are not float32 runs in their type; autocast is for those that are.

    Raises:
        InputError: If the module gives no score for each class.
    """
    dtype = next((p.dtype for p in model.parameters() if p.is_floating_point()), torch.float32)
    mixed = precision == "bf16" and dtype == torch.float32
    with torch.autocast(x.device.type, dtype=torch.bfloat16, enabled=mixed):
        scores: torch.Tensor = model(x.to(dtype))
    if scores.dim() != 2 or scores.shape[1] < classes:
        raise InputError(
            f"{type(model).__name__} gives {tuple(scores.shape)} for {len(x)} images of {classes} classes: "
            "it must give one score for each class"
        )
    return scores.float()


def evaluate(
    model: nn.Module,
    split: Split,
    *,
    classes: int,
    size: Sequence[int],
    mean: Sequence[float],
    std: Sequence[float],
    batch_size: int = 256,
    precision: str = "auto",
) -> Evaluation:
    """Shows every image to the network once, in eval mode, and leaves its mode as it was.

    Args:
        model: Any module that gives class scores (N, classes).
        split: Images and labels.
        classes: Number of classes.
        size: (height, width) that the network takes.
        mean: Mean of each channel, values in [0, 1].
        std: Standard deviation of each channel, values in [0, 1].
        batch_size: Images at a time.
        precision: ``"fp32"``, ``"bf16"`` or ``"auto"``.
    """
    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    precision = pick_precision(precision, device)
    batches = Batches(split, batch_size, size=size, mean=mean, std=std, device=device)
    loss = torch.zeros((), device=device)
    top5 = torch.zeros((), dtype=torch.int64, device=device)
    confusion = torch.zeros(classes * classes, dtype=torch.int64, device=device)
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        with torch.inference_mode():
            for x, y in batches.epoch():
                scores = scores_of(model, x, precision, classes)
                loss += nn.functional.cross_entropy(scores, y, reduction="sum")
                best = scores.topk(min(5, scores.shape[1]), dim=1).indices
                top5 += (best == y[:, None]).sum()
                confusion += torch.bincount(y * classes + best[:, 0].clamp(max=classes - 1), minlength=classes**2)
    finally:
        for module, mode in modes.items():
            module.training = mode
    table = confusion.reshape(classes, classes).cpu()
    n = len(split)
    return Evaluation(
        top1=int(table.trace()) / n, top5=int(top5) / n, loss=float(loss) / n, confusion=table, n=n
    )  # fmt: skip
