"""Memoized shape inference on the meta device.

Most of the time of a run on meta is spent on working out the same output shapes in Python again and again. The
shapes are torch's own: each operator is run once per set of shapes and dtypes.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

# Batch norms whose sixth argument is the mode.
_BATCH_NORMS = (torch.ops.aten.native_batch_norm, torch.ops.aten.cudnn_batch_norm)


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
            outputs = _infer_outputs(func, tuple([signature(x) for x in args]))
        except UncacheableError:
            return func(*args)
        if outputs is not None:
            is_single, signatures = outputs
            tensors = [
                torch.empty_strided(size, stride, dtype=dtype, device="meta") for size, stride, dtype in signatures
            ]
            return tensors[0] if is_single else tuple(tensors)
    if not kwargs and _is_in_place(func):
        try:
            _infer_outputs(func, tuple([signature(x) for x in args]))  # raises if the shapes do not fit
        except UncacheableError:
            return func(*args)
        return args[0]
    return func(*args, **kwargs)


class UncacheableError(Exception):
    """An argument that cannot be part of a key of the cache."""


@lru_cache(maxsize=1024)
def _is_functional(func: Any) -> bool:
    """Returns whether an operator returns new tensors and changes none."""
    schema = getattr(func, "_schema", None)
    return schema is not None and not any(x.alias_info for x in (*schema.arguments, *schema.returns))


@lru_cache(maxsize=1024)
def _is_in_place(func: Any) -> bool:
    """Returns whether an operator changes the values of its first argument, and nothing else."""
    schema = getattr(func, "_schema", None)
    if schema is None or torch.Tag.pointwise not in func.tags or len(schema.returns) != 1:
        return False
    changed = [x.alias_info is not None for x in schema.arguments]
    return schema.name.endswith("_") and changed[0] and not any(changed[1:])


def signature(x: Any) -> Any:
    """Returns the hashable description of an argument from which ``from_signature`` makes an equivalent one."""
    kind = type(x)
    if kind is torch.Tensor or kind is torch.nn.Parameter:
        if x.device.type != "meta" or x.layout is not torch.strided:
            raise UncacheableError
        return torch.Tensor, tuple(x.shape), x.stride(), x.dtype
    if kind is list or kind is tuple:
        return list, tuple([signature(item) for item in x])
    if x is None or kind in (int, float, bool, str, torch.dtype):
        return kind, x  # with the type, since 1 == True == 1.0
    raise UncacheableError


def from_signature(description: Any, device: str = "meta") -> Any:
    """Returns an argument with the signature; a tensor has no values."""
    kind, *values = description
    if kind is torch.Tensor:
        size, stride, dtype = values
        return torch.empty_strided(size, stride, dtype=dtype, device=device)
    return [from_signature(item, device) for item in values[0]] if kind is list else values[0]


@lru_cache(maxsize=4096)
def _infer_outputs(func: Any, signatures: tuple[Any, ...]) -> tuple[bool, list[Any]] | None:
    """Runs an operator once on meta.

    Returns:
        Whether its result is a single tensor; shape, stride and dtype of each. None if it returns anything but tensors.
    """
    arguments = [from_signature(x) for x in signatures]
    out = func(*arguments)
    outs = [out] if isinstance(out, torch.Tensor) else out
    if not isinstance(outs, (list, tuple)) or not all(isinstance(x, torch.Tensor) and x.is_meta for x in outs):
        return None
    results = [(tuple(x.shape), x.stride(), x.dtype) for x in outs]
    if func._overloadpacket in _BATCH_NORMS and arguments[5] is False:
        results[1:] = [((0,), (1,), dtype) for _, _, dtype in results[1:]]  # as on devices: no statistics saved
    return outs is not out, results
