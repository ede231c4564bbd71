"""Helpers for any ``nn.Module``: its description and notes, its weights and mode, the module inside a compiled one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol

from torch import nn

from cnnzoo.errors import InputError


class DescribedModule(Protocol):
    """The interface that training, evaluation and reports use besides ``nn.Module``; a module may lack either part.

    Attributes:
        notes: What goes with the weights: ``label_names``, ``mean``, ``std``, ``crop_mode``, ``provenance``.
    """

    notes: dict[str, Any]

    def describe(self) -> dict[str, Any]:
        """Returns the content of config.json: ``architecture``, ``num_classes``, ``pretrained_cfg``, ..."""


def describe(model: nn.Module) -> dict[str, Any]:
    """Returns the description of a ``DescribedModule``; of any other module, its class name as ``architecture``."""
    method = getattr(model, "describe", None)
    return dict(method()) if callable(method) else {"architecture": type(model).__name__}


def get_notes(model: nn.Module) -> dict[str, Any] | None:
    """Returns the notes of a ``DescribedModule``, None for a module without them."""
    notes = getattr(model, "notes", None)
    return notes if isinstance(notes, dict) else None


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
