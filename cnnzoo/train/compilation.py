"""Compiled training steps: when they are worth their time, and what happens if the compiler fails."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from contextlib import suppress

import torch

from cnnzoo.errors import CnnzooError, InputError
from cnnzoo.train.setup import RunSetup
from cnnzoo.train.utilization import count_flops

Forward = Callable[[torch.Tensor, torch.Tensor], tuple[torch.Tensor, torch.Tensor]]

# "auto" compiles a run that takes longer than this. Compiled steps save 5 to 20 % of it, compilation takes 10 to 60 s.
_MIN_SECONDS = 600
# FLOPs per second of typical training steps, in float32 on one CPU core and in bf16 on a GPU, and seconds of launching
# the kernels of a step. The estimate must not be measured: processes, and a resumed run, must decide alike.
_CPU_CORE_FLOPS_PER_SEC, _GPU_FLOPS_PER_SEC, _STEP_SECONDS = 20e9, 50e12, 2e-3


def should_compile(setup: RunSetup) -> bool:
    """Returns whether the steps of a run are compiled; for ``"auto"``, whether the run is estimated to take minutes.

    Args:
        setup: The fixed values of the run.
    """
    config = setup.config
    if isinstance(config.compile, bool):
        return config.compile
    with suppress(CnnzooError):
        flops = count_flops(setup)
        cpu_flops_per_sec = torch.get_num_threads() * _CPU_CORE_FLOPS_PER_SEC
        flops_per_sec = cpu_flops_per_sec if setup.device.type == "cpu" else _GPU_FLOPS_PER_SEC
        steps, images = config.epochs * setup.steps_per_epoch, config.batch_size / setup.distributed.size
        return steps * (images * flops / flops_per_sec + _STEP_SECONDS) > _MIN_SECONDS
    return False  # the model cannot be counted


class CompiledForward:
    """Forward pass and loss as one graph, with its backward pass, compiled at the first call.

    Args:
        forward: The function from inputs and targets to logits and loss.
        is_required: Whether a failure of the compiler is an error; else ``forward`` runs uncompiled, with a warning.
    """

    def __init__(self, forward: Forward, *, is_required: bool) -> None:
        self._forward, self._is_required, self._is_tried = forward, is_required, False
        self._compiled: Forward = torch.compile(forward, dynamic=False)

    def __call__(self, x: torch.Tensor, targets: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Returns logits and loss.

        Args:
            x: (N, C, H, W).
            targets: int64 (N,), or float (N, classes).

        Raises:
            InputError: If the function cannot be compiled, and must be.
        """
        if self._is_tried:
            return self._compiled(x, targets)
        try:
            result = self._compiled(x, targets)
        except CnnzooError:
            raise
        except Exception as error:
            result = self._forward(x, targets)  # raises if the compiler is not the reason
            reason = " ".join(str(error).split("\n")[:2]).strip()
            if self._is_required:
                raise InputError(f"torch.compile cannot compile the network: {reason}; set compile=False") from error
            warnings.warn(f"the network is not compiled, since torch.compile cannot: {reason}", stacklevel=2)
            self._compiled = self._forward
        self._is_tried = True
        return result
