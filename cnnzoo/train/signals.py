"""Stopping at a good moment, and the time that steps take."""

from __future__ import annotations

import signal
import threading
import time
from types import FrameType
from typing import Any

import torch


class DeferredInterrupt:
    """Turns the first Ctrl-C (or SIGTERM) into a wish that the loop fulfils after its step; a second stops at once."""

    def __init__(self) -> None:
        self._asked = False
        self._before: dict[signal.Signals, Any] = {}

    def asked(self) -> bool:
        """Whether it was asked for."""
        return self._asked

    def __enter__(self) -> DeferredInterrupt:
        if threading.current_thread() is threading.main_thread():
            self._before = {s: signal.signal(s, self._ask) for s in (signal.SIGINT, signal.SIGTERM)}
        return self

    def _ask(self, number: int, frame: FrameType | None) -> None:
        self._asked = True
        self._restore()

    def _restore(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def __exit__(self, *exception: object) -> None:
        self._restore()


class StepClock:
    """Seconds spent between start and stop, without waiting for the device in between."""

    def __init__(self, device: torch.device) -> None:
        self._cuda = device.type == "cuda"
        self._pairs: list[tuple[Any, Any]] = []
        self._total = 0.0

    def start(self) -> None:
        """Begins an interval."""
        if self._cuda:
            first, last = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
            self._pairs.append((first, last))
            self._pairs[-1][0].record()
        else:
            self._began = time.perf_counter()

    def stop(self) -> None:
        """Ends the interval."""
        if self._cuda:
            self._pairs[-1][1].record()
        else:
            self._total += time.perf_counter() - self._began

    def seconds(self) -> float:
        """The sum since it was last asked for; the device must have finished."""
        total: float = self._total + sum(a.elapsed_time(b) for a, b in self._pairs) / 1000
        self._total, self._pairs = 0.0, []
        return total
