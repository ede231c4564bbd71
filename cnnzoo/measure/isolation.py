"""Isolates a forward: it runs on a copy of the module with substitutes for its tensors."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn
from torch.nn.parameter import is_lazy

from cnnzoo.errors import InputError
from cnnzoo.module_copy import clone, copy_module
from cnnzoo.random_state import preserved_random_state


def substitute(tensor: torch.Tensor, meta: bool) -> torch.Tensor:
    """Returns a tensor of the same kind, shape and dtype: on the meta device, or a copy.

    Raises:
        InputError: If it is a lazy parameter, which has no shape yet.
    """
    if is_lazy(tensor):
        raise InputError("the module has lazy layers without weights; call it once on an input, then count it")
    if not meta:
        return clone(tensor)
    replacement = torch.empty_like(tensor, device="meta", requires_grad=False)
    if isinstance(tensor, nn.Parameter):
        return nn.Parameter(replacement, requires_grad=tensor.requires_grad)
    return replacement.requires_grad_(tensor.requires_grad)


@contextmanager
def isolated(model: nn.Module, meta: bool) -> Iterator[tuple[nn.Module, set[int]]]:
    """Yields a copy of a module to run instead of it, so that nothing is set on the module, whatever a forward sets.

    Its tensors and its standard containers are copies too; other objects are shared. The random generators are
    restored, see ``preserved_random_state``.

    Args:
        model: Any module; other threads may use it meanwhile.
        meta: Whether the substitutes of its tensors are on the meta device; else they are copies.

    Yields:
        The copy, and the keys of the substitutes' storages (``storage._cdata``).

    Raises:
        InputError: If the module has lazy parameters, or scripted modules.
    """
    if any(isinstance(module, torch.jit.ScriptModule) for module in model.modules()):
        raise InputError(f"{type(model).__name__} has scripted modules; use it as it was before torch.jit.script")
    substitutes: list[torch.Tensor] = []

    def convert(tensor: torch.Tensor) -> torch.Tensor:
        substitutes.append(substitute(tensor, meta))
        return substitutes[-1]

    with preserved_random_state():
        copy = copy_module(model, convert)
        yield copy, {tensor.untyped_storage()._cdata for tensor in substitutes}


@contextmanager
def without_onednn(model: nn.Module) -> Iterator[None]:
    """Disables oneDNN, which runs a whole LSTM as one operator and so hides its products.

    Only for modules with one, since it is disabled in the whole process.
    """
    enabled = torch._C._get_mkldnn_enabled()
    if any(isinstance(module, nn.LSTM) for module in model.modules()):
        torch._C._set_mkldnn_enabled(False)
    try:
        yield
    finally:
        torch._C._set_mkldnn_enabled(enabled)
