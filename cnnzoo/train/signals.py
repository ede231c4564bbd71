"""Signals that stop a run at the end of a step, not in its middle."""

from __future__ import annotations

import signal
import threading
import time
from types import FrameType
from typing import Any

_NAMES = ("SIGINT", "SIGTERM", "SIGHUP")  # Ctrl-C, kill, a closed terminal
_REPEATED_SECONDS = 1.0  # a shell or torchrun may send a signal again to processes that have got it


class DeferredInterrupt:
    """Defers the first SIGINT, SIGTERM or SIGHUP to the end of the step; one that comes a second later stops at once.

    A context manager; it does nothing in threads other than the main one. It replaces the handlers that Python has by
    default, and restores them at the end: a handler of another library stays, and a signal that is ignored, as SIGHUP
    under nohup, stays ignored.

    Attributes:
        requested: Whether a signal arrived.
    """

    def __init__(self) -> None:
        self.requested = False
        self._time = 0.0  # of the first signal
        self._handlers: dict[signal.Signals, Any] = {}

    def __enter__(self) -> DeferredInterrupt:
        if threading.current_thread() is threading.main_thread():
            numbers = [getattr(signal, name) for name in _NAMES if hasattr(signal, name)]
            self._handlers = {s: signal.signal(s, self._handle) for s in numbers if _is_deferrable(s)}
        return self

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if not self.requested:
            self.requested, self._time = True, time.monotonic()
        elif time.monotonic() - self._time > _REPEATED_SECONDS:
            self._restore()
            signal.raise_signal(number)

    def _restore(self) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler)

    def __exit__(self, *exception: object) -> None:
        self._restore()


def _is_deferrable(number: signal.Signals) -> bool:
    return signal.getsignal(number) in (signal.SIG_DFL, signal.default_int_handler)
