"""Work on many images in threads."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any


@contextmanager
def parallel_map() -> Iterator[Callable[[Callable[[int], Any], Sequence[int]], Iterator[Any]]]:
    """Yields a function like ``map`` that runs in threads, which end at once if the block is left by an exception."""
    pool = ThreadPoolExecutor(min(32, (os.cpu_count() or 1) + 1))
    try:
        yield pool.map
    finally:
        pool.shutdown(cancel_futures=True)
