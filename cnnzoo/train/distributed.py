"""Which of how many processes this is, and what they tell each other (torchrun and DistributedDataParallel)."""

from __future__ import annotations

import atexit
import os
from dataclasses import dataclass

import torch
from torch import distributed, nn


@dataclass(frozen=True)
class DistributedContext:
    """The processes that train one network together.

    Attributes:
        rank: Which of them this is; rank 0 writes.
        size: How many there are.
        local_rank: Which of those on this machine this is.
    """

    rank: int = 0
    size: int = 1
    local_rank: int = 0

    @classmethod
    def current(cls) -> DistributedContext:
        """The world that torchrun, or whoever started the process group, says this process is in."""
        told = {name: int(os.environ.get(name, default)) for name, default in _TOLD.items()}
        if distributed.is_available() and distributed.is_initialized():
            return cls(distributed.get_rank(), distributed.get_world_size(), told["LOCAL_RANK"])
        return cls(told["RANK"], told["WORLD_SIZE"], told["LOCAL_RANK"])

    def join(self, device: torch.device) -> None:
        """Makes the process group where nobody has made it yet; it lasts until the process ends.

        One that is left and made again waits, now and then for ever, at the address of the one before.
        """
        if self.size > 1 and not distributed.is_initialized():
            distributed.init_process_group("nccl" if device.type == "cuda" else "gloo")
            atexit.register(_leave)

    def share(self, n: int) -> slice:
        """This process's share of n samples in a row; it may be empty."""
        return slice(self.rank * n // self.size, (self.rank + 1) * n // self.size)

    def add(self, *tensors: torch.Tensor) -> None:
        """Adds up each tensor over all processes, in place."""
        if self.size > 1:
            for tensor in tensors:
                distributed.all_reduce(tensor)

    def any(self, here: bool, device: torch.device) -> bool:
        """Whether it is so in any process."""
        if self.size == 1:
            return here
        flag = torch.tensor(int(here), device=device)
        distributed.all_reduce(flag, distributed.ReduceOp.MAX)
        return bool(flag)

    def wrapped(self, model: nn.Module, device: torch.device, *, parts: int, compress: bool) -> nn.Module:
        """The module with its gradients averaged over all processes.

        Args:
            model: The module.
            device: Where it lives.
            parts: How many backward passes a step has; only the last one is averaged.
            compress: Whether gradients travel in bf16.
        """
        if self.size == 1:
            return model
        wrapped = nn.parallel.DistributedDataParallel(
            model,
            device_ids=[device.index] if device.type == "cuda" else None,
            gradient_as_bucket_view=True,
            static_graph=parts == 1,  # it does not go with no_sync,
        )
        if compress:
            from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import bf16_compress_hook

            wrapped.register_comm_hook(None, bf16_compress_hook)
        return wrapped


def _leave() -> None:
    if distributed.is_initialized():
        distributed.destroy_process_group()


_TOLD = {"RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0"}
