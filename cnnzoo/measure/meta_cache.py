"""What torch answers on the meta device, remembered: an operator is asked once for each set of shapes and types.

Most of the time of a run on meta goes into working out shapes in Python, over and over the same. The answers are
torch's own; nothing here knows what an operator does.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import torch


def run_on_meta(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """What ``func(*args, **kwargs)`` gives, all tensors being on the meta device."""
    if not kwargs and _makes_new(func):
        try:
            shapes = _asked(func, tuple([_signature(x) for x in args]))
        except _NotPlain:
            return func(*args)
        if shapes is not None:
            made = [torch.empty_strided(size, stride, dtype=dtype, device="meta") for size, stride, dtype in shapes[1]]
            return made[0] if shapes[0] else tuple(made)
    return func(*args, **kwargs)


class _NotPlain(Exception):
    """An argument that cannot be remembered."""


@lru_cache(maxsize=1024)
def _makes_new(func: Any) -> bool:
    """Whether an operator gives new tensors and changes none."""
    schema = getattr(func, "_schema", None)
    return schema is not None and not any(x.alias_info for x in (*schema.arguments, *schema.returns))


def _signature(x: Any) -> Any:
    kind = type(x)
    if kind is torch.Tensor or kind is torch.nn.Parameter:
        if x.device.type != "meta" or x.layout is not torch.strided:
            raise _NotPlain
        return torch.Tensor, tuple(x.shape), x.stride(), x.dtype
    if kind is list or kind is tuple:
        return list, tuple([_signature(one) for one in x])
    if x is None or kind in (int, float, bool, str, torch.dtype):
        return kind, x  # the kind too, since 1 == True == 1.0
    raise _NotPlain


def _like(signature: Any) -> Any:
    """An argument of that signature."""
    if signature[0] is torch.Tensor:
        return torch.empty_strided(signature[1], signature[2], dtype=signature[3], device="meta")
    return [_like(one) for one in signature[1]] if signature[0] is list else signature[1]


@lru_cache(maxsize=4096)
def _asked(func: Any, signatures: tuple[Any, ...]) -> tuple[bool, list[Any]] | None:
    """(whether it is one tensor, shape, stride and type of each), or None where it gives anything else."""
    out = func(*map(_like, signatures))
    outs = [out] if isinstance(out, torch.Tensor) else out
    if not isinstance(outs, (list, tuple)) or not all(isinstance(x, torch.Tensor) and x.is_meta for x in outs):
        return None
    return outs is not out, [(tuple(x.shape), x.stride(), x.dtype) for x in outs]
