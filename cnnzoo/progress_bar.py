"""Progress bars of loops that may take long."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

from cnnzoo.random_state import restored_random_state
from cnnzoo.streams import display_stream

_BAR_AFTER = 2.0  # seconds until a progress bar appears
_REFRESH_AFTER = 0.1  # seconds from one drawing to the next

_Item = TypeVar("_Item")


def track(items: Sequence[_Item], description: str) -> Iterator[_Item]:
    """Yields items, with a progress bar as ``progress_bar`` shows it."""
    with progress_bar(description, len(items)) as advance:
        for item in items:
            yield item
            advance(1)


@contextmanager
def progress_bar(description: str, total: int) -> Iterator[Callable[[int], None]]:
    """Yields a function that counts steps; after two seconds, a bar on standard error shows them.

    Only in the main thread, and in the first of several processes.
    """
    is_shown = threading.current_thread() is threading.main_thread() and int(os.environ.get("RANK", "0")) == 0
    start, done, drawn = time.monotonic(), 0, 0.0
    bar: Any = None
    task: Any = None

    def advance(n: int) -> None:
        nonlocal done, drawn, bar, task
        done += n
        if bar is not None:
            now = time.monotonic()
            bar.update(task, completed=done, refresh=now - drawn > _REFRESH_AFTER)
            drawn = now if now - drawn > _REFRESH_AFTER else drawn
        elif is_shown and time.monotonic() - start > _BAR_AFTER:
            bar, task = _start_bar(description, total, done)

    try:
        yield advance
    finally:
        if bar is not None:
            bar.stop()


def _start_bar(description: str, total: int, done: int) -> tuple[Any, Any]:
    with restored_random_state():  # rich draws from it when it is imported
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=Console(file=display_stream()),
        auto_refresh=False,  # by a thread, which would disturb measurements
    )
    task = bar.add_task(description, total=total, completed=done)
    bar.start()
    return bar, task
