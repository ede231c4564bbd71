"""Isolates a forward: it runs on a copy of the module with substitutes for its tensors."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.nn.parameter import is_lazy
from torch.utils._python_dispatch import is_traceable_wrapper_subclass

from cnnzoo.errors import InputError
from cnnzoo.measure.quantized import inner_tensors
from cnnzoo.measure.traces import refuse_sharded, undone_traces
from cnnzoo.module_copy import copy_module
from cnnzoo.random_state import preserved_random_state


def substitute(tensor: torch.Tensor, meta: bool) -> torch.Tensor:
    """Returns a tensor of the same kind, shape and dtype: on the meta device, or a copy.

    Raises:
        InputError: If it is a lazy parameter, which has no shape yet.
    """
    if is_lazy(tensor):
        raise InputError("the module has lazy layers without weights; call it once on an input, then count it")
    replacement = _empty_on_meta(tensor) if meta else tensor.detach().clone()
    if isinstance(tensor, nn.Parameter):
        return nn.Parameter(replacement, requires_grad=tensor.requires_grad)
    return replacement.requires_grad_(tensor.requires_grad)


def _empty_on_meta(tensor: torch.Tensor) -> torch.Tensor:
    if type(tensor) in (torch.Tensor, nn.Parameter) and tensor.is_contiguous():  # faster than empty_like
        return torch.empty(tensor.shape, dtype=tensor.dtype, device="meta")
    subclass: Any = tensor
    if not is_traceable_wrapper_subclass(subclass):
        return torch.empty_like(tensor, device="meta", requires_grad=False)
    names, context = subclass.__tensor_flatten__()  # of torchao, or jagged
    inner = {name: _empty_on_meta(getattr(subclass, name)) for name in names}
    empty: torch.Tensor = type(subclass).__tensor_unflatten__(inner, context, tensor.size(), tensor.stride())
    return empty


@contextmanager
def isolated(model: nn.Module, meta: bool) -> Iterator[tuple[nn.Module, set[int]]]:
    """Yields a copy of a module to run instead of it, so that nothing is set on the module, whatever a forward sets.

    Its tensors and its standard containers are copies too; other objects are shared, and restored as ``undone_traces``
    says. The random generators are restored, see ``preserved_random_state``.

    Args:
        model: Any module; other threads may use it meanwhile.
        meta: Whether the substitutes of its tensors are on the meta device; else they are copies.

    Yields:
        The copy, and the keys of the substitutes' storages (``storage._cdata``).

    Raises:
        InputError: If the module has lazy parameters, or is sharded.
    """
    substitutes: list[torch.Tensor] = []

    def convert(tensor: torch.Tensor) -> torch.Tensor:
        substitutes.append(substitute(tensor, meta))
        return substitutes[-1]

    refuse_sharded(model)
    with preserved_random_state(), undone_traces(model):
        copy = copy_module(model, convert)
        inner = [x for tensor in substitutes for x in inner_tensors(tensor) if x.layout is torch.strided]
        yield copy, {x.untyped_storage()._cdata for x in inner}


@contextmanager
def without_fused_kernels(model: nn.Module) -> Iterator[None]:
    """Disables kernels that run a whole LSTM or transformer layer as one operator and so hide its products.

    Only for models with such a layer, since they are disabled in the whole process.
    """
    layers = (nn.RNNBase, nn.MultiheadAttention, nn.TransformerEncoder, nn.TransformerEncoderLayer)
    if not any(isinstance(module, layers) for module in model.modules()):
        yield
        return
    is_onednn, is_fast = torch.backends.mkldnn.enabled, torch.backends.mha.get_fastpath_enabled()
    torch.backends.mkldnn.enabled = False  # type: ignore[assignment]
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mkldnn.enabled = is_onednn
        torch.backends.mha.set_fastpath_enabled(is_fast)
