"""Weights of quantized modules, which are packed for a kernel or are tensors of a class of their own."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import is_traceable_wrapper_subclass

SPARSE = (torch.sparse_coo, torch.sparse_csr, torch.sparse_csc, torch.sparse_bsr, torch.sparse_bsc)  # layouts


def is_packed(module: nn.Module) -> bool:
    """Returns whether a module (of ``torch.ao.nn.quantized``) holds weights packed for a kernel of the CPU."""
    return isinstance(module.__dict__.get("_packed_params"), torch.ScriptObject)


def packed_weights(module: nn.Module) -> list[torch.Tensor]:
    """Returns weight and bias of a module that holds them packed."""
    return unpack(module.__dict__["_packed_params"])


def unpack(packed: Any) -> list[torch.Tensor]:
    """Returns the weight, and the bias if there is one, of packed parameters."""
    return [x for x in packed.unpack() if x is not None]


def inner_tensors(tensor: torch.Tensor) -> list[torch.Tensor]:
    """Returns the plain tensors of which a tensor consists: itself, or those of torchao's int8 and int4 weights."""
    subclass: Any = tensor
    if not is_traceable_wrapper_subclass(subclass):
        return [tensor]
    names, _ = subclass.__tensor_flatten__()
    return [inner for name in names for inner in inner_tensors(getattr(subclass, name))]


def nbytes(tensor: torch.Tensor) -> int:
    """Returns the bytes of the values of a tensor, with the scales of a quantized one of torchao."""
    return sum([_values(x).numel() * x.element_size() for x in inner_tensors(tensor)])


def _values(tensor: torch.Tensor) -> torch.Tensor:
    if tensor.layout is torch.sparse_coo:
        return tensor._values()
    return tensor.values() if tensor.layout in SPARSE else tensor


def packed_macs(out: torch.Tensor, x: torch.Tensor, packed: Any, *_: Any) -> int:
    """Returns the multiply-adds of a convolution or dense layer with packed parameters."""
    weight = unpack(packed)[0]
    return out.numel() * weight[0].numel()


def packed_transposed_macs(out: torch.Tensor, x: torch.Tensor, packed: Any, *_: Any) -> int:
    """Returns the multiply-adds of a transposed convolution with packed parameters."""
    weight = unpack(packed)[0]
    return x.numel() * weight[0].numel()
