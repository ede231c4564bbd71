"""Work on many images in threads, with a progress bar."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

from cnnzoo.streams import display_stream

_BAR_AFTER = 2.0  # seconds until a progress bar appears


@contextmanager
def parallel_map() -> Iterator[Callable[[Callable[[int], Any], Sequence[int]], Iterator[Any]]]:
    """Yields a function like ``map`` that runs in threads, which end at once if the block is left by an exception."""
    pool = ThreadPoolExecutor(min(32, (os.cpu_count() or 1) + 1))
    try:
        yield pool.map
    finally:
        pool.shutdown(cancel_futures=True)


@contextmanager
def progress_bar(description: str, total: int) -> Iterator[Callable[[int], None]]:
    """Yields a function that counts steps; after two seconds, a bar on standard error shows them."""
    start, done = time.monotonic(), 0
    bar: Any = None
    task: Any = None

    def advance(n: int) -> None:
        nonlocal done, bar, task
        done += n
        if bar is not None:
            bar.update(task, completed=done)
        elif time.monotonic() - start > _BAR_AFTER and int(os.environ.get("RANK", "0")) == 0:
            bar, task = _start_bar(description, total)

    try:
        yield advance
    finally:
        if bar is not None:
            bar.stop()


def _start_bar(description: str, total: int) -> tuple[Any, Any]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=Console(file=display_stream()),
    )
    task = bar.add_task(description, total=total)
    bar.start()
    return bar, task
