"""The precision in which a network runs."""

from __future__ import annotations

import torch

from cnnzoo.device import cpu_bf16_flag
from cnnzoo.errors import unknown

PRECISIONS = ("auto", "fp32", "bf16", "fp16")


def resolve_precision(name: str, device: torch.device) -> str:
    """Returns ``"bf16"``, ``"fp16"`` or ``"fp32"``; for ``"auto"``, bf16 if the hardware supports it, else fp32.

    Raises:
        UnknownNameError: If ``name`` is not one of ``PRECISIONS``.
    """
    if name not in PRECISIONS:
        raise unknown("precision", name, PRECISIONS)
    if name != "auto":
        return name
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported() else "fp32"
    if device.type == "cpu":  # get_cpu_capability() does not say whether AVX512 includes bf16
        return "bf16" if cpu_bf16_flag() else "fp32"
    return "fp32"
