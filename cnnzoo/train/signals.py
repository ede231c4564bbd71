"""Signals that stop a run at the end of a step, not in its middle."""

from __future__ import annotations

import signal
import threading
from types import FrameType
from typing import Any


class DeferredInterrupt:
    """Defers the first SIGINT or SIGTERM to the end of the step; a second one stops at once.

    A context manager; it does nothing in threads other than the main one, and restores the handlers at the end.

    Attributes:
        requested: Whether a signal arrived.
    """

    def __init__(self) -> None:
        self.requested = False
        self._handlers: dict[signal.Signals, Any] = {}

    def __enter__(self) -> DeferredInterrupt:
        if threading.current_thread() is threading.main_thread():
            self._handlers = {s: signal.signal(s, self._handle) for s in (signal.SIGINT, signal.SIGTERM)}
        return self

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self.requested = True
        self._restore()

    def _restore(self) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler)

    def __exit__(self, *exception: object) -> None:
        self._restore()
