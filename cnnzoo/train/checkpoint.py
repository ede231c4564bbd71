"""The state of a run, saved to and restored from a checkpoint: all that a step changes and the next step needs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from cnnzoo.train.ema import ModelEMA
from cnnzoo.train.metrics import EpochMetrics


@dataclass(frozen=True, eq=False)
class TrainState:
    """Everything that a step changes, except ``step`` and ``history``.

    Random state is not part of it: every random draw of a step is seeded by its number.

    Attributes:
        model: The module.
        optimizer: Its optimizer.
        scaler: The gradient scaler, enabled for fp16.
        ema: The moving average of the weights, if there is one.
        metrics: Sums and times of the epoch.
    """

    model: nn.Module
    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    ema: ModelEMA | None
    metrics: EpochMetrics

    def collect(self, sums: Mapping[str, torch.Tensor]) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
        """Returns the state.

        Args:
            sums: The sums of ``metrics`` over all processes.

        Returns:
            The tensors, named ``model.NAME``, ``sums.NAME``, ``ema.NAME`` and ``optimizer.INDEX.NAME``; and the rest
            as plain values.
        """
        tensors = {f"model.{name}": tensor for name, tensor in self.model.state_dict().items()}
        tensors |= {f"sums.{name}": tensor for name, tensor in sums.items()}
        if self.ema is not None:
            tensors |= {f"ema.{name}": tensor for name, tensor in self.ema.values.items()}
        for index, values in self.optimizer.state_dict()["state"].items():
            for name, value in values.items():
                if value is not None:  # SGD without momentum stores None
                    tensors[f"optimizer.{index}.{name}"] = value
        return tensors, {
            "seconds": self.metrics.seconds,
            "samples_seen": self.metrics.samples_seen,
            "scaler": self.scaler.state_dict(),
        }

    def restore(self, tensors: Mapping[str, torch.Tensor], values: Mapping[str, Any], *, rank: int) -> None:
        """Sets the state to one that ``collect`` returned.

        Args:
            tensors: The tensors.
            values: The plain values.
            rank: Number of this process; the sums, which are those of all processes, go to rank 0.
        """
        parts: dict[str, dict[str, torch.Tensor]] = {"model": {}, "sums": {}, "ema": {}, "optimizer": {}}
        for name, tensor in tensors.items():
            part, _, rest = name.partition(".")
            parts[part][rest] = tensor
        self.model.load_state_dict(parts["model"])
        self.metrics.seconds, self.metrics.samples_seen = tuple(values["seconds"]), values["samples_seen"]
        if rank == 0:
            for name, tensor in parts["sums"].items():
                self.metrics.sums[name].copy_(tensor)
        if self.ema is not None:
            self.ema.load(parts["ema"])
        if values["scaler"]:
            self.scaler.load_state_dict(values["scaler"])
        self._restore_optimizer(parts["optimizer"])

    def _restore_optimizer(self, tensors: Mapping[str, torch.Tensor]) -> None:
        state: dict[int, dict[str, torch.Tensor]] = {}
        for name, tensor in tensors.items():
            index, _, key = name.partition(".")
            state.setdefault(int(index), {})[key] = tensor
        self.optimizer.load_state_dict({**self.optimizer.state_dict(), "state": state})
        for parameter, values in self.optimizer.state.items():
            for key, value in values.items():
                if value.shape == parameter.shape:  # fused optimizers assume the memory format of the parameter
                    values[key] = torch.empty_like(parameter).copy_(value)
