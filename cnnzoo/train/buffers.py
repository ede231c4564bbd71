"""Buffers that training changes and that the state dict of the model lacks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from torch import nn


class UnsavedBuffers:
    """The buffers of some modules that a checkpoint needs because training changes them.

    Buffers that stay as they were built, such as tables of positions, are not saved.

    Args:
        model: The model, of which a state dict holds the persistent buffers.
        others: Other modules by name, of which nothing is saved elsewhere.
    """

    def __init__(self, model: nn.Module, others: Mapping[str, nn.Module]) -> None:
        self._modules = {"model": model, **others}
        self._initial = {name: (buffer, _version(buffer)) for name, _, _, buffer in self._buffers()}

    def _buffers(self) -> Iterator[tuple[str, nn.Module, str, torch.Tensor]]:
        """Yields (name, module, key, buffer) of each buffer that no state dict saves."""
        for root, owner in self._modules.items():
            for prefix, module in owner.named_modules(prefix=root):
                for key, buffer in module._buffers.items():
                    is_saved = root == "model" and key not in module._non_persistent_buffers_set
                    if buffer is not None and not is_saved:
                        yield f"{prefix}.{key}", module, key, buffer

    def changed(self) -> dict[str, torch.Tensor]:
        """Returns the buffers that have changed, by name."""
        return {name: buffer for name, _, _, buffer in self._buffers() if self._has_changed(name, buffer)}

    def _has_changed(self, name: str, buffer: torch.Tensor) -> bool:
        initial, version = self._initial.get(name, (None, 0))
        return buffer is not initial or _version(buffer) != version

    def load(self, values: Mapping[str, torch.Tensor]) -> None:
        """Sets buffers to what ``changed`` returned."""
        for name, module, key, buffer in list(self._buffers()):
            if name in values:
                module._buffers[key] = values[name].to(buffer.device)


def _version(buffer: torch.Tensor) -> int:
    """Returns a number that grows with each change in place."""
    return 0 if buffer.is_inference() else buffer._version
