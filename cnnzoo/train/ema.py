"""The exponential moving average of a module's weights."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import nn


class ModelEMA:
    """The exponential moving average of a module's floating-point parameters and buffers.

    Args:
        model: The module.
        decay: Decay per step; smaller in the first steps, so that the initial weights are soon forgotten.

    Attributes:
        values: State-dict name -> average; while the average is applied, -> weight. Only the first of several
            names of one tensor (tied weights).
        is_applied: Whether the module holds the average instead of its weights.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self._model, self._decay = model, decay
        self.values = {name: tensor.detach().clone() for name, tensor in self._tensors().items()}
        self.is_applied = False

    def _tensors(self) -> dict[str, torch.Tensor]:
        names: dict[int, str] = {}  # of each tensor, which may have several
        tensors = {}
        for name, tensor in self._model.state_dict(keep_vars=True).items():
            if tensor.is_floating_point() and names.setdefault(id(tensor), name) == name:
                tensors[name] = tensor.detach()
        return tensors

    def update(self, step: int) -> None:
        """Updates the average with the weights after a step, counted from 0."""
        decay = min(self._decay, (1 + step) / (10 + step))
        torch._foreach_lerp_(list(self.values.values()), list(self._tensors().values()), 1 - decay)

    def apply(self) -> None:
        """Swaps the average into the module, unless it is applied already."""
        if not self.is_applied:
            self._swap()

    def restore(self) -> None:
        """Swaps the weights back into the module, if the average is applied."""
        if self.is_applied:
            self._swap()

    @torch.no_grad()
    def _swap(self) -> None:
        for name, tensor in self._tensors().items():
            weight = tensor.clone()
            tensor.copy_(self.values[name])
            self.values[name].copy_(weight)
        self.is_applied = not self.is_applied

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Applies the average within a ``with`` statement."""
        self.apply()
        try:
            yield
        finally:
            self.restore()

    def load(self, values: Mapping[str, torch.Tensor]) -> None:
        """Copies the averages from a checkpoint."""
        for name, tensor in self.values.items():
            tensor.copy_(values[name])
