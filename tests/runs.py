"""What the tests of training share: a plain network, and callbacks that act at a step."""

from __future__ import annotations

import signal
from collections.abc import Callable

import torch
from torch import nn

import cnnzoo


def plain_model() -> nn.Module:
    """Returns a network for images of 64 values, three classes."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, 3))


def parameters(model: nn.Module) -> torch.Tensor:
    """Returns all parameters as one vector."""
    return torch.cat([p.detach().flatten() for p in model.parameters()])


class At:
    """Calls a function after a step."""

    def __init__(self, step: int | None, function: Callable[[], object]) -> None:
        self.step, self.function = step, function

    def on_step(self, trainer: cnnzoo.Trainer) -> None:
        if trainer.step == self.step:
            self.function()


class StopAt(At):
    """Sends a signal to this process after a step; by default that of Ctrl-C."""

    def __init__(self, step: int | None, number: int = signal.SIGINT) -> None:
        super().__init__(step, lambda: signal.raise_signal(number))
