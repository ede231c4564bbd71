"""Helpers for any ``nn.Module``: its kind, weights and mode, the module inside a compiled one."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn

from cnnzoo.errors import InputError


def unwrap(model: nn.Module) -> nn.Module:
    """Returns the module inside a module that ``torch.compile`` returned, else the module itself."""
    inner = getattr(model, "_orig_mod", model)
    assert isinstance(inner, nn.Module)
    return inner


def is_norm(module: nn.Module) -> bool:
    """Returns whether a module is a normalization: one of torch's, or of a class named so, such as ``LayerNorm2d``."""
    torch_norms = (nn.modules.batchnorm._NormBase, nn.GroupNorm, nn.LayerNorm, nn.RMSNorm)
    return isinstance(module, torch_norms) or re.search(r"Norm(\dd)?$", type(module).__name__) is not None


def require_weights(model: nn.Module, name: str) -> None:
    """Raises InputError if a module is on the meta device, which holds no weights.

    Args:
        model: Any module.
        name: Name of the module in the error.
    """
    if any(parameter.is_meta for parameter in model.parameters()):
        raise InputError(f"{name} is on the meta device and has no weights; create it on another device")


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
