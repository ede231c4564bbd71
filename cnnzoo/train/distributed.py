"""The processes that train one network together (torchrun and DistributedDataParallel)."""

from __future__ import annotations

import atexit
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import distributed
from torch.distributed import PrefixStore, Store, TCPStore  # type: ignore[attr-defined]

from cnnzoo.device import resolve_device
from cnnzoo.errors import CnnzooError, InputError, TrainingError


@dataclass(frozen=True)
class DistributedContext:
    """The place of this process among those that train one network together.

    Attributes:
        rank: Number of this process; rank 0 writes.
        size: Number of processes.
        local_rank: Number of this process among those on this machine.
    """

    rank: int = 0
    size: int = 1
    local_rank: int = 0

    @classmethod
    def current(cls) -> DistributedContext:
        """Returns the context of the process group, if there is one, else of torchrun's environment variables."""
        rank, size, local_rank = (
            int(os.environ.get(name, default)) for name, default in (("RANK", 0), ("WORLD_SIZE", 1), ("LOCAL_RANK", 0))
        )
        if distributed.is_available() and distributed.is_initialized():
            return cls(distributed.get_rank(), distributed.get_world_size(), local_rank)
        return cls(rank, size, local_rank)

    def resolve_device(self, name: str) -> torch.device:
        """Returns the device of a name; for ``"cuda"``, each of several processes gets its own GPU.

        Raises:
            InputError: If there is no such device, or it is the meta device, which holds no values to train.
        """
        device = resolve_device(name)
        if device.type == "meta":
            raise InputError("nothing can be trained on the meta device; use device='auto'")
        if device.type == "mps" and self.size > 1:
            if name != "auto":
                raise InputError(
                    f"{self.size} processes cannot train on one Apple GPU; use device='cpu', or one process"
                )
            device = torch.device("cpu")
        needs_index = str(device) == "cuda" and self.size > 1
        return torch.device("cuda", self.local_rank) if needs_index else device

    def join(self, device: torch.device) -> None:
        """Initializes the process group, unless there is one; it is destroyed when the process exits.

        Destroying it earlier is not safe: a second group at the same address can wait forever.
        """
        if self.size > 1 and not distributed.is_initialized():
            backend = "nccl" if device.type == "cuda" else "gloo"
            restarts = int(os.environ.get("TORCHELASTIC_RESTART_COUNT", 0))
            if restarts:
                # torchrun keeps its store for a restart, with the addresses of the processes that died
                store = PrefixStore(f"restart-{restarts}", _connect_store(self.size))
                distributed.init_process_group(backend, store=store, rank=self.rank, world_size=self.size)
            else:
                distributed.init_process_group(backend)
            atexit.register(_destroy_process_group)

    @contextmanager
    def explained(self) -> Iterator[None]:
        """Explains the error that a process gets when another one has ended, within a ``with`` statement.

        Raises:
            TrainingError: Instead of that error.
        """
        try:
            yield
        except RuntimeError as error:
            text = " ".join(str(error).split())
            is_network = isinstance(error, distributed.DistError) or any(w in text.lower() for w in ("gloo", "nccl"))
            if self.size == 1 or isinstance(error, CnnzooError) or not is_network:
                raise
            raise TrainingError(
                f"rank {self.rank} has lost the other processes of the run, whose messages say why ({text[:200]}); "
                "start all of them again: the run continues from its last checkpoint"
            ) from error

    def shard(self, n: int) -> slice:
        """Returns the contiguous shard of ``n`` samples that belongs to this process; it may be empty."""
        return slice(self.rank * n // self.size, (self.rank + 1) * n // self.size)

    def sum(self, *tensors: torch.Tensor) -> None:
        """Sums each tensor over all processes, in place."""
        if self.size > 1:
            for tensor in tensors:
                distributed.all_reduce(tensor)

    def copy_from_rank_0(self, *tensors: torch.Tensor) -> None:
        """Replaces the values of each tensor by those that it has in rank 0."""
        if self.size > 1:
            for tensor in tensors:
                distributed.broadcast(tensor, 0)

    def any(self, flag: bool, device: torch.device) -> bool:
        """Returns whether the flag is True in any process."""
        if self.size == 1:
            return flag
        tensor = torch.tensor(int(flag), device=device)
        distributed.all_reduce(tensor, distributed.ReduceOp.MAX)
        return bool(tensor)


def _connect_store(size: int) -> Store:
    """Returns the store through which the processes of torchrun find each other."""
    is_master = os.environ.get("RANK") == "0" and os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True"
    return TCPStore(os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]), size, is_master, multi_tenant=True)


def _destroy_process_group() -> None:
    if distributed.is_initialized():
        distributed.destroy_process_group()
