"""Memoized shape inference on the meta device.

Most of the time of a run on meta is spent on working out the same output shapes in Python again and again. The
shapes are torch's own: each operator is run once per set of shapes and dtypes.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode


class MemoizedMeta(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """A mode in which operators on the meta device are memoized."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return run_on_meta(func, args, kwargs or {})


def run_on_meta(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Returns ``func(*args, **kwargs)``, from the cache if possible.

    Args:
        func: An operator.
        args: Its arguments; all tensors are on the meta device.
        kwargs: Its arguments by name; an operator that has some is not cached.
    """
    if not kwargs and _is_functional(func):
        try:
            outputs = _infer_outputs(func, tuple([_signature(x) for x in args]))
        except _UncacheableError:
            return func(*args)
        if outputs is not None:
            is_single, signatures = outputs
            tensors = [
                torch.empty_strided(size, stride, dtype=dtype, device="meta") for size, stride, dtype in signatures
            ]
            return tensors[0] if is_single else tuple(tensors)
    return func(*args, **kwargs)


class _UncacheableError(Exception):
    """An argument that cannot be part of a key of the cache."""


@lru_cache(maxsize=1024)
def _is_functional(func: Any) -> bool:
    """Returns whether an operator returns new tensors and changes none."""
    schema = getattr(func, "_schema", None)
    return schema is not None and not any(x.alias_info for x in (*schema.arguments, *schema.returns))


def _signature(x: Any) -> Any:
    """Returns the hashable description of an argument from which ``_from_signature`` makes an equivalent one."""
    kind = type(x)
    if kind is torch.Tensor or kind is torch.nn.Parameter:
        if x.device.type != "meta" or x.layout is not torch.strided:
            raise _UncacheableError
        return torch.Tensor, tuple(x.shape), x.stride(), x.dtype
    if kind is list or kind is tuple:
        return list, tuple([_signature(item) for item in x])
    if x is None or kind in (int, float, bool, str, torch.dtype):
        return kind, x  # with the type, since 1 == True == 1.0
    raise _UncacheableError


def _from_signature(signature: Any) -> Any:
    if signature[0] is torch.Tensor:
        return torch.empty_strided(signature[1], signature[2], dtype=signature[3], device="meta")
    return [_from_signature(item) for item in signature[1]] if signature[0] is list else signature[1]


@lru_cache(maxsize=4096)
def _infer_outputs(func: Any, signatures: tuple[Any, ...]) -> tuple[bool, list[Any]] | None:
    """Runs an operator once on meta.

    Returns:
        Whether its result is a single tensor; shape, stride and dtype of each. None if it returns anything but tensors.
    """
    out = func(*map(_from_signature, signatures))
    outs = [out] if isinstance(out, torch.Tensor) else out
    if not isinstance(outs, (list, tuple)) or not all(isinstance(x, torch.Tensor) and x.is_meta for x in outs):
        return None
    return outs is not out, [(tuple(x.shape), x.stride(), x.dtype) for x in outs]
