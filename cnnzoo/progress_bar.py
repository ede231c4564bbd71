"""Progress bars of loops that may take long."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

from cnnzoo.random_state import restored_random_state
from cnnzoo.streams import display_stream, result_stream

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

    def advance(n: int) -> None:
        nonlocal done, drawn, bar
        done += n
        if bar is not None:
            now = time.monotonic()
            bar.update(bar.task_ids[0], completed=done, refresh=now - drawn > _REFRESH_AFTER)
            drawn = now if now - drawn > _REFRESH_AFTER else drawn
        elif is_shown and time.monotonic() - start > _BAR_AFTER:
            # a thread that draws would disturb measurements
            bar = start_bar(description, total, done, auto_refresh=False)

    try:
        yield advance
    finally:
        if bar is not None:
            bar.stop()


def start_bar(description: str, total: int, done: int, *, unit: str = "", **options: Any) -> Any:
    """Returns a ``rich.progress.Progress`` with one task, which is shown on standard error.

    Args:
        description: The text before the bar.
        total: Number of steps.
        done: Number of steps done.
        unit: The text after the number of steps.
        options: Further arguments of ``Progress``.
    """
    with restored_random_state():  # rich draws from it when it is imported
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        *([TextColumn(unit)] if unit else []),
        TimeRemainingColumn(),
        console=Console(file=display_stream()),
        redirect_stdout=result_stream().isatty(),  # above the bar; into a file, it stays as it is
        **options,
    )
    bar.add_task(description, total=total, completed=done)
    bar.start()
    return bar
