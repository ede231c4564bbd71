"""Seeds of random samples, and the global random states that they are drawn from."""

from __future__ import annotations

import hashlib
import random
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch


def derive_seed(*parts: int | str) -> int:
    """Returns a seed derived from numbers and strings; different parts give unrelated seeds."""
    digest = hashlib.sha256(repr(parts).encode()).digest()
    return int.from_bytes(digest[:8], "little") >> 1  # below 2**63


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seeds the random states of torch, Python and NumPy, and restores them, except in a worker process."""
    numpy: Any = sys.modules.get("numpy")
    if torch.utils.data.get_worker_info() is not None:
        _seed_all(numpy, seed)
        yield
        return
    python_state, numpy_state = random.getstate(), numpy.random.get_state() if numpy else None
    with torch.random.fork_rng(devices=[]):
        _seed_all(numpy, seed)
        try:
            yield
        finally:
            random.setstate(python_state)
            if numpy:
                numpy.random.set_state(numpy_state)


def _seed_all(numpy: Any, seed: int) -> None:
    random.seed(seed)
    torch.default_generator.manual_seed(seed)
    if numpy:
        numpy.random.seed(seed % 2**32)
