"""Seeds of random samples, and the global random states that they are drawn from."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import torch

from cnnzoo.random_state import restored_random_state, seed_python_and_numpy


def derive_seed(*parts: int | str) -> int:
    """Returns a seed derived from numbers and strings; different parts give unrelated seeds."""
    digest = hashlib.sha256(repr(parts).encode()).digest()
    return int.from_bytes(digest[:8], "little") >> 1  # below 2**63


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seeds the random states of torch, Python and NumPy, and restores them, except in a worker process.

    One thread at a time.
    """
    is_worker = torch.utils.data.get_worker_info() is not None
    with nullcontext() if is_worker else restored_random_state():
        torch.default_generator.manual_seed(seed)
        seed_python_and_numpy(seed)
        yield
