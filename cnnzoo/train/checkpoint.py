"""The state of a run, saved to and restored from a checkpoint: all that a step changes and the next step needs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from cnnzoo.errors import TrainingError
from cnnzoo.train.buffers import UnsavedBuffers
from cnnzoo.train.ema import ModelEMA
from cnnzoo.train.metrics import EpochMetrics
from cnnzoo.train.plain import join_tensors, split_tensors
from cnnzoo.train.setup import RunSetup

_DEVICE_SETTINGS = ("foreach", "fused", "capturable")  # of a parameter group, which follow from the device


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
        buffers: Buffers that the state dict of the model lacks.
    """

    model: nn.Module
    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    ema: ModelEMA | None
    metrics: EpochMetrics
    buffers: UnsavedBuffers

    @classmethod
    def of(cls, setup: RunSetup) -> TrainState:
        """Returns the state before the first step."""
        model, decay, loss = setup.model, setup.config.ema, setup.functions.get("loss")
        return cls(
            model,
            setup.make_optimizer(),
            torch.amp.GradScaler(setup.device.type, enabled=setup.precision == "fp16"),
            ModelEMA(model, decay) if decay else None,
            EpochMetrics(setup.device, setup.distributed),
            UnsavedBuffers(model, {"loss": loss} if isinstance(loss, nn.Module) else {}),
        )

    def collect(self, sums: Mapping[str, torch.Tensor]) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
        """Returns the state.

        Args:
            sums: The sums of ``metrics`` of each process.

        Returns:
            The tensors, named ``model.NAME``, ``sums.NAME``, ``ema.NAME``, ``buffers.model.NAME`` and
            ``optimizer.state.INDEX.NAME``; and the rest as plain values.

        Raises:
            TrainingError: If the state of the optimizer has values of other types.
        """
        tensors = {f"model.{name}": tensor for name, tensor in self.model.state_dict().items()}
        tensors |= {f"sums.{name}": tensor for name, tensor in sums.items()}
        tensors |= {f"buffers.{name}": tensor for name, tensor in self.buffers.changed().items()}
        if self.ema is not None:
            tensors |= {f"ema.{name}": tensor for name, tensor in self.ema.values.items()}
        optimizer_tensors, optimizer = split_tensors(self.optimizer.state_dict(), "optimizer")
        tensors |= optimizer_tensors
        return tensors, {
            "seconds": self.metrics.seconds,
            "samples_seen": self.metrics.samples_seen,
            "scaler": self.scaler.state_dict(),
            "optimizer": optimizer,
        }

    def restore(self, tensors: Mapping[str, torch.Tensor], values: Mapping[str, Any]) -> None:
        """Sets the state to one that ``collect`` returned.

        Args:
            tensors: The tensors.
            values: The plain values.

        Raises:
            TrainingError: If it is the state of another model or optimizer.
        """
        try:
            self._restore(tensors, values)
        except (AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
            reason = " ".join(str(error).split())[:500]
            raise TrainingError(
                f"the checkpoint does not fit the model and its optimizer ({type(error).__name__}: {reason}); resume "
                "with the versions of torch and cnnzoo that wrote it, or start again with overwrite=True (--overwrite)"
            ) from error

    def _restore(self, tensors: Mapping[str, torch.Tensor], values: Mapping[str, Any]) -> None:
        parts: dict[str, dict[str, torch.Tensor]] = {
            "model": {}, "sums": {}, "ema": {}, "buffers": {}, "optimizer": {}
        }  # fmt: skip
        for name, tensor in tensors.items():
            part, _, rest = name.partition(".")
            parts[part][rest] = tensor
        self.model.load_state_dict(parts["model"])
        self.buffers.load(parts["buffers"])
        self.metrics.seconds, self.metrics.samples_seen = tuple(values["seconds"]), values["samples_seen"]
        self.metrics.load_sums(parts["sums"])
        if self.ema is not None:
            self.ema.load(parts["ema"])
        if values["scaler"]:
            self.scaler.load_state_dict(values["scaler"])
        self._restore_optimizer(join_tensors(values["optimizer"], tensors))

    def _restore_optimizer(self, state: dict[str, Any]) -> None:
        for group, current in zip(state["param_groups"], self.optimizer.param_groups, strict=True):
            group |= {key: current[key] for key in _DEVICE_SETTINGS if key in current}
        self.optimizer.load_state_dict(state)
        parameters = [parameter for group in self.optimizer.param_groups for parameter in group["params"]]
        for index, parameter in enumerate(parameters):
            current = self.optimizer.state[parameter] if index in state["state"] else {}
            for key, value in state["state"].get(index, {}).items():
                if not isinstance(value, torch.Tensor) or key not in current:
                    continue
                # load_state_dict converts to the dtype of the parameter; fused optimizers assume its memory format
                tensor = torch.empty_like(parameter if value.shape == parameter.shape else value, dtype=value.dtype)
                current[key] = tensor.to(current[key].device).copy_(value)
