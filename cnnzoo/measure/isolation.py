"""Isolates a forward: substitutes replace the module's tensors, and the module is restored at the end."""

from __future__ import annotations

import random
import sys
from collections import OrderedDict, defaultdict, deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.nn.parameter import is_lazy
from torch.utils._python_dispatch import is_traceable_wrapper_subclass

from cnnzoo.errors import InputError
from cnnzoo.measure.quantized import inner_tensors

# containers whose contents are restored; subclasses may refuse to be changed
_CONTAINERS = (dict, OrderedDict, defaultdict, list, deque, set)


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
def isolated(model: nn.Module, meta: bool) -> Iterator[set[int]]:
    """Replaces all tensors of a module with substitutes, and puts the same tensors back at the end.

    What a forward sets on its modules (a counter, batch-norm statistics, a cache) is undone too, and the random
    generators are restored.

    Args:
        model: Any module.
        meta: Whether the substitutes are on the meta device; else they are copies.

    Yields:
        The keys of the substitutes' storages (``storage._cdata``).

    Raises:
        InputError: If the module has lazy parameters.
    """
    attributes = [vars(module) for module in dict.fromkeys(model.modules())]
    originals = [dict(namespace) for namespace in attributes]
    # containers among the attributes, which include the dictionaries of parameters and buffers
    containers = [value for namespace in attributes for value in namespace.values() if type(value) in _CONTAINERS]
    contents = [dict(container) if isinstance(container, dict) else list(container) for container in containers]
    substitutes: dict[int, torch.Tensor] = {}  # by id: a shared tensor has one substitute
    with _preserved_random_state():
        try:
            for holder in (*attributes, *(container for container in containers if not isinstance(container, set))):
                items = enumerate(holder) if isinstance(holder, (list, deque)) else list(holder.items())
                for key, value in items:
                    if isinstance(value, torch.Tensor):
                        if id(value) not in substitutes:
                            substitutes[id(value)] = substitute(value, meta)
                        holder[key] = substitutes[id(value)]
            yield {
                inner.untyped_storage()._cdata
                for tensor in substitutes.values()
                for inner in inner_tensors(tensor)
                if inner.layout is torch.strided
            }
        finally:
            for namespace, original in zip(attributes, originals, strict=True):
                namespace.clear()
                namespace.update(original)
            for container, content in zip(containers, contents, strict=True):
                container.clear()
                container.extend(content) if isinstance(container, (list, deque)) else container.update(content)


@contextmanager
def without_fused_kernels() -> Iterator[None]:
    """Disables kernels that run a whole LSTM or transformer layer as one operator and so hide its products."""
    is_onednn, is_fast = torch._C._get_mkldnn_enabled(), torch.backends.mha.get_fastpath_enabled()
    torch._C._set_mkldnn_enabled(False)
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch._C._set_mkldnn_enabled(is_onednn)
        torch.backends.mha.set_fastpath_enabled(is_fast)


@contextmanager
def _preserved_random_state() -> Iterator[None]:
    """Restores the random generators of torch, Python and NumPy at the end."""
    numpy: Any = sys.modules.get("numpy")
    python_state, numpy_state = random.getstate(), numpy.random.get_state() if numpy else None
    cuda = list(range(torch.cuda.device_count())) if torch.cuda.is_initialized() else []  # type: ignore[no-untyped-call]
    with torch.random.fork_rng(devices=cuda):
        try:
            yield
        finally:
            random.setstate(python_state)
            if numpy:
                numpy.random.set_state(numpy_state)
