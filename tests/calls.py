"""Helpers for tests of the counter: a module with any function as its forward, and what a real forward saves."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn


class Calls(nn.Module):
    """A module with any function, of itself and the inputs, as its forward."""

    def __init__(self, function: Callable[..., Any], **attributes: Any) -> None:
        super().__init__()
        self.function = function
        for name, value in attributes.items():
            setattr(self, name, value)

    def forward(self, *inputs: torch.Tensor) -> Any:
        return self.function(self, *inputs)


def bytes_of_hooks(model: nn.Module, *inputs: Any) -> int:
    """Returns the bytes of the distinct storages that autograd saves in a real forward, weights not included."""
    weights = {x.untyped_storage().data_ptr() for x in (*model.parameters(), *model.buffers())}
    saved: dict[int, torch.UntypedStorage] = {}

    def save(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            saved[storage.data_ptr()] = storage
        return tensor.detach()  # the tensor itself would be kept alive by its own graph

    with torch.autograd.graph.saved_tensors_hooks(save, lambda saved: saved):
        model(*inputs)
    return sum(storage.nbytes() for storage in saved.values())
