"""Runs functions in processes of their own, forked from a server that has imported the slow modules already."""

from __future__ import annotations

import contextlib
import io
import multiprocessing
import os
import traceback
from collections.abc import Callable, Mapping, Sequence
from multiprocessing.connection import Connection, wait
from typing import Any, NamedTuple

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(
    [
        "cnnzoo.api",
        "torch._dynamo",
        "torch.distributed",
        "matplotlib.backends.backend_agg",
        "matplotlib.ticker",
        "pytest",
    ]
)


class Outcome(NamedTuple):
    """How a process ended: its exit code (minus the signal that killed it), what the function returned, its stderr."""

    code: int
    result: Any
    stderr: str


def run_together(
    function: Callable[..., Any],
    calls: Sequence[tuple[Any, ...]],
    environments: Sequence[Mapping[str, str]] | None = None,
    timeout: float = 200,
) -> list[Outcome]:
    """Calls a function of a module once per process, all at the same time.

    Args:
        function: The function.
        calls: Its arguments in each process.
        environments: Environment variables of each process.
        timeout: Seconds until a process is given up.
    """
    started = []
    for arguments, environment in zip(calls, environments or [{}] * len(calls), strict=True):
        receiver, sender = CONTEXT.Pipe(duplex=False)
        process = CONTEXT.Process(target=_call, args=(sender, environment, function, arguments))
        process.start()
        sender.close()
        started.append((process, receiver))
    outcomes = []
    for process, receiver in started:
        result, stderr = None, ""
        wait([receiver, process.sentinel], timeout)  # processes that a killed one has started may keep the pipe open
        with contextlib.suppress(EOFError):  # a killed process sends nothing
            if receiver.poll():
                result, stderr = receiver.recv()
        process.join(10)
        if process.exitcode is None:
            process.kill()
            process.join()
        outcomes.append(Outcome(process.exitcode, result, stderr))
        receiver.close()
        process.close()
    return outcomes


def _call(
    sender: Connection, environment: Mapping[str, str], function: Callable[..., Any], arguments: tuple[Any, ...]
) -> None:
    os.environ.update(environment)
    stderr = io.StringIO()
    with contextlib.redirect_stderr(stderr):
        try:
            result = function(*arguments)
        except BaseException:
            sender.send((None, stderr.getvalue() + traceback.format_exc()))
            raise SystemExit(1) from None
    sender.send((result, stderr.getvalue()))
