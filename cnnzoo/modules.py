"""Helpers for any ``nn.Module``: its kind, weights and mode, the module inside a wrapper."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn
from torch.nn.parameter import is_lazy
from torch.optim.swa_utils import AveragedModel

from cnnzoo.errors import InputError, is_out_of_memory

_WRAPPERS = (nn.DataParallel, nn.parallel.DistributedDataParallel, AveragedModel)  # the module inside is ``.module``


def wrappers(model: nn.Module) -> list[nn.Module]:
    """Returns the wrappers around a module, the outermost first; empty for a module without one.

    Wrappers compute what the module inside computes: compiled modules, ``nn.DataParallel``,
    ``nn.parallel.DistributedDataParallel`` and ``torch.optim.swa_utils.AveragedModel``.
    """
    outer: list[nn.Module] = []
    while (inner := _inner(model)) is not None:
        outer.append(model)
        model = inner
    return outer


def unwrap(model: nn.Module) -> nn.Module:
    """Returns the module inside all its wrappers (see ``wrappers``), or the module itself."""
    while (inner := _inner(model)) is not None:
        model = inner
    return model


def _inner(model: nn.Module) -> nn.Module | None:
    """Returns the module inside a wrapper; None if a module is not a wrapper."""
    inner = model.module if isinstance(model, _WRAPPERS) else getattr(model, "_orig_mod", None)
    return inner if isinstance(inner, nn.Module) else None


def for_inference(model: nn.Module) -> nn.Module:
    """Returns the module to evaluate: without DistributedDataParallel, in which every process must take part."""
    is_distributed = any(isinstance(outer, nn.parallel.DistributedDataParallel) for outer in wrappers(model))
    return unwrap(model) if is_distributed else model


def is_norm(module: nn.Module) -> bool:
    """Returns whether a module is a normalization: one of torch's, or of a class named so, such as ``LayerNorm2d``."""
    torch_norms = (nn.modules.batchnorm._NormBase, nn.GroupNorm, nn.LayerNorm, nn.RMSNorm)
    return isinstance(module, torch_norms) or re.search(r"Norm(\dd)?$", type(module).__name__) is not None


def require_weights(model: nn.Module, name: str) -> None:
    """Raises InputError if a module has no weights yet: lazy ones, or on the meta device.

    Args:
        model: Any module.
        name: Name of the module in the error.
    """
    if any(map(is_lazy, model.parameters())):
        raise InputError(f"{name} has lazy modules without weights; call it on an input first")
    if any(parameter.is_meta for parameter in model.parameters()):
        raise InputError(f"{name} is on the meta device and has no weights; create it on another device")


@contextmanager
def explain_forward_error(name: str, x: torch.Tensor) -> Iterator[None]:
    """Turns a RuntimeError of a forward pass, such as that of another number of channels, into an InputError.

    Args:
        name: Name of the module in the error.
        x: Its input, (N, C, H, W).
    """
    try:
        yield
    except RuntimeError as error:
        if type(error) is not RuntimeError or is_out_of_memory(error):
            raise
        reason = next(iter(str(error).strip().splitlines()), "")[:500]
        raise InputError(f"{name} cannot run on images (C, H, W) = {tuple(x.shape[1:])}: {reason}") from error


@contextmanager
def eval_mode(model: nn.Module) -> Iterator[None]:
    """Sets a module to eval mode, and restores the mode of each of its modules at the end."""
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode
