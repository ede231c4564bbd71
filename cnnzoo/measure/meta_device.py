"""The meta device as context, on which attention runs as the same fused operator as on the CPU."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, lru_cache
from types import FunctionType
from typing import Any

import torch
from torch.nn import functional
from torch.utils._device import DeviceContext
from torch.utils._python_dispatch import _disable_current_modes

from cnnzoo.measure.meta_cache import UncacheableError, from_signature, signature

_FLASH = 1  # torch.nn.attention.SDPBackend.FLASH_ATTENTION


class MetaDevice(DeviceContext):
    """``torch.device("meta")`` with the attention of the CPU.

    On meta, torch runs ``scaled_dot_product_attention`` as two products and a softmax, which save all scores for the
    backward. On the CPU and on GPUs it is one operator, which saves none.
    """

    def __init__(self) -> None:
        super().__init__("meta")

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is functional.scaled_dot_product_attention:
            return _attention(*args, **(kwargs or {}))
        if func is functional.multi_head_attention_forward:
            return _multi_head_attention()(*args, **(kwargs or {}))
        return super().__torch_function__(func, types, args, kwargs)  # type: ignore[no-untyped-call]


def _attention(
    query: Any,
    key: Any,
    value: Any,
    attn_mask: Any = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Any:
    needs_gradient = attn_mask is not None and attn_mask.requires_grad
    options = (dropout_p, is_causal, enable_gqa, needs_gradient)
    try:
        is_fused = _cpu_backend(tuple([signature(x) for x in (query, key, value, attn_mask)]), *options) == _FLASH
    except (UncacheableError, RuntimeError):  # another kind of tensors, or shapes that do not fit: torch says why
        is_fused = False
    if not is_fused:
        return functional.scaled_dot_product_attention(
            query, key, value, attn_mask, dropout_p, is_causal, scale=scale, enable_gqa=enable_gqa
        )
    if query.dim() == 3:  # torch adds a dimension, and then decides
        query, key, value = query.unsqueeze(0), key.unsqueeze(0), value.unsqueeze(0)
        if attn_mask is not None and attn_mask.dim() == 3:
            attn_mask = attn_mask.unsqueeze(0)
        return _attention(query, key, value, attn_mask, dropout_p, is_causal, scale, enable_gqa).squeeze(0)
    if attn_mask is not None and attn_mask.dtype == torch.bool:
        attn_mask = torch.zeros_like(attn_mask, dtype=query.dtype).masked_fill_(attn_mask.logical_not(), -torch.inf)
    flash = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
    return flash(query, key, value, dropout_p, is_causal, attn_mask=attn_mask, scale=scale)[0]


@cache
def _multi_head_attention() -> Callable[..., Any]:
    """Returns a copy of torch's function that calls ``_attention``: modes do not see what it calls itself."""
    original = functional.multi_head_attention_forward
    names = {
        **original.__globals__,
        "scaled_dot_product_attention": _attention,
        "has_torch_function": lambda _: False,
    }
    copy = FunctionType(original.__code__, names, original.__name__, original.__defaults__, original.__closure__)
    copy.__kwdefaults__ = original.__kwdefaults__
    return copy


@lru_cache(maxsize=1024)
def _cpu_backend(
    signatures: tuple[Any, ...], dropout_p: float, is_causal: bool, enable_gqa: bool, needs_gradient: bool
) -> int:
    """Returns torch's choice for tensors on the CPU, which are allocated and never written."""
    with _disable_current_modes():
        query, key, value, mask = [from_signature(x, "cpu") for x in signatures]
        if needs_gradient:
            mask.requires_grad_()
        return int(torch._fused_sdp_choice(query, key, value, mask, dropout_p, is_causal, enable_gqa=enable_gqa))
