"""Helpers for any ``nn.Module``: its weights and mode, the module inside a compiled one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn

from cnnzoo.errors import InputError


def unwrap(model: nn.Module) -> nn.Module:
    """Returns the module inside a module that ``torch.compile`` returned, else the module itself."""
    inner = getattr(model, "_orig_mod", model)
    assert isinstance(inner, nn.Module)
    return inner


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
