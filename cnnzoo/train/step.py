"""One step of training: forward and backward passes, and the update of the weights."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Any

import torch
from torch import nn

from cnnzoo.data import derive_seed
from cnnzoo.device import seed
from cnnzoo.errors import TrainingError
from cnnzoo.train import checks
from cnnzoo.train.batches import PreparedBatch
from cnnzoo.train.checkpoint import TrainState
from cnnzoo.train.compilation import CompiledForward, Forward, should_compile
from cnnzoo.train.inference import compute_logits
from cnnzoo.train.optim import set_learning_rate
from cnnzoo.train.setup import RunSetup


class TrainStep:
    """The step of a run. It never waits for the device.

    Args:
        setup: The fixed values of the run.
        state: What a step changes.
        on_backward: Called after the backward passes, when the gradients are complete, before they are clipped.

    Attributes:
        last_loss: Loss of the last micro-batch, on the device.
    """

    def __init__(self, setup: RunSetup, state: TrainState, on_backward: Callable[[], None]) -> None:
        self._setup, self._config, self._state, self._on_backward = setup, setup.config, state, on_backward
        self.last_loss = torch.zeros(())
        self._network: Any = distribute(setup)
        self._forward = make_forward(setup, self._network)
        is_required = self._config.compile is True
        self._compiled_forward = (
            CompiledForward(self._forward, is_required=is_required) if should_compile(setup) else None
        )

    def __call__(self, micro_batches: Sequence[PreparedBatch], step: int, lr: float) -> None:
        """Updates the weights once.

        Args:
            micro_batches: The images of the step.
            step: Its number, counted from 0, which seeds dropout.
            lr: Its learning rate.
        """
        config, state, distributed = self._config, self._state, self._setup.distributed
        rank = [distributed.rank] if distributed.rank else []
        seed(self._setup.device, derive_seed("step", config.seed, step, *rank))
        set_learning_rate(state.optimizer, lr)
        state.optimizer.zero_grad(set_to_none=True)
        for i, batch in enumerate(micro_batches, 1):
            # processes exchange gradients in the last backward pass
            is_local = i < len(micro_batches) and distributed.size > 1
            with self._network.no_sync() if is_local else nullcontext():
                logits, loss = self._compute_loss(batch)
                if not loss.requires_grad:
                    raise TrainingError(
                        f"{self._setup.name}: the loss does not depend on a parameter that requires a gradient; "
                        "neither the model nor the loss may detach() it, and callbacks must leave requires_grad alone"
                    )
                state.scaler.scale(loss if batch.weight == 1 else loss * batch.weight).backward()  # type: ignore[no-untyped-call]
            if batch.weight:
                self.last_loss = loss.detach()
                state.metrics.update(loss, logits, batch.labels)
        self._on_backward()
        self._update(step)

    def _compute_loss(self, batch: PreparedBatch) -> tuple[torch.Tensor, torch.Tensor]:
        """Returns logits, (N, classes), and mean loss of a micro-batch."""
        # the last, smaller batch of an epoch is not worth another compilation
        is_full = batch.batch_size == self._config.batch_size
        forward = self._compiled_forward if self._compiled_forward is not None and is_full else self._forward
        with checks.explain_batch_norm_error(self._setup.name, len(batch.labels)):
            return forward(batch.x, batch.labels if batch.targets is None else batch.targets)

    def _update(self, step: int) -> None:
        """Updates weights and their average with the gradients."""
        state, clip_norm = self._state, self._config.clip_norm
        if clip_norm:
            state.scaler.unscale_(state.optimizer)
            nn.utils.clip_grad_norm_(state.model.parameters(), clip_norm)
        with checks.explain_sparse_gradients(state.model, state.optimizer):
            state.scaler.step(state.optimizer)
        state.scaler.update()
        if state.ema is not None:
            state.ema.update(step)


def make_forward(setup: RunSetup, network: nn.Module) -> Forward:
    """Returns the function from inputs and targets to logits and mean loss."""
    loss, precision, num_classes = setup.make_loss(), setup.precision, len(setup.data.classes)

    def forward(x: torch.Tensor, targets: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        logits = compute_logits(network, x, precision, num_classes)
        return logits, loss(logits, targets)

    return forward


def distribute(setup: RunSetup) -> nn.Module:
    """Returns the model, of which several processes average the gradients.

    With ``sync_batch_norm``, its modules of batch norm are replaced by SyncBatchNorm with the same tensors.
    """
    model, config = setup.model, setup.config
    if setup.distributed.size == 1:
        return model
    if config.sync_batch_norm:
        model = nn.SyncBatchNorm.convert_sync_batchnorm(model)  # type: ignore[no-untyped-call]
    wrapper = nn.parallel.DistributedDataParallel(
        model,
        device_ids=[setup.device.index] if setup.device.type == "cuda" else None,
        gradient_as_bucket_view=True,
        static_graph=config.accumulation_steps == 1,  # incompatible with no_sync
    )
    if config.compress_gradients:
        from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import bf16_compress_hook

        wrapper.register_comm_hook(None, bf16_compress_hook)
    return wrapper
