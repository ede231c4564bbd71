"""Where tensors live, by name, and what there is to compute with."""

from __future__ import annotations

import ctypes
import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from cnnzoo.errors import InputError
from cnnzoo.version import __version__


def resolve_device(name: str) -> torch.device:
    """The device of that name; ``"auto"`` is a GPU where there is one, else the CPU.

    Raises:
        InputError: If there is no such device here.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as problem:
        reason = next(iter(str(problem).splitlines()), "")
        raise InputError(f"there is no device {name!r} here ({reason}); use 'auto' or 'cpu'") from None
    return device


def seed(device: torch.device, value: int) -> None:
    """Seeds what is drawn on the CPU and on a device.

    ``torch.manual_seed`` also notes down, with a stack trace each time, to seed GPUs that are not there yet.
    """
    torch.default_generator.manual_seed(value)
    if device.type == "cuda":
        with torch.cuda.device(device):
            torch.cuda.manual_seed(value)


def cpu_info() -> dict[str, str]:
    """What the kernel says of the first CPU (``model name``, ``flags``, ...); empty where it does not say."""
    try:
        lines = Path("/proc/cpuinfo").read_text().split("\n\n")[0].splitlines()
    except OSError:
        return {}
    return {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}


def machine() -> dict[str, Any]:
    """What a measured number was measured on: processor, cores, threads, GPUs, and the versions of the software."""
    cpu = cpu_info()
    flags = set(cpu.get("flags", "").split())
    return {
        "cpu": cpu.get("model name") or platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "bf16": next((flag for flag in ("amx_bf16", "avx512_bf16") if flag in flags), None),
        "gpus": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())],
        "system": platform.system(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "cnnzoo": __version__,
    }


@contextmanager
def reused_memory() -> Iterator[None]:
    """Lets glibc keep freed memory for the next step, where it would give every large tensor back to the kernel.

    Fresh pages are zeroed on first touch, which takes a fifth of an AlexNet step on a CPU. On leaving, what is free is
    given back and glibc's own settings hold again. Elsewhere than on Linux with glibc, nothing is changed.
    """
    try:
        glibc = ctypes.CDLL(None)
        mallopt, trim = glibc.mallopt, glibc.malloc_trim
    except (OSError, AttributeError, TypeError):
        yield
        return
    before = {_TRIM_THRESHOLD: 128 * 1024, _TOP_PAD: 0, _MMAP_MAX: 65536}  # mallopt(3)
    for option, value in {_TRIM_THRESHOLD: 2**31 - 1, _TOP_PAD: 64 * 1024**2, _MMAP_MAX: 0}.items():
        mallopt(option, value)
    try:
        yield
    finally:
        for option, value in before.items():
            mallopt(option, value)
        trim(0)


_TRIM_THRESHOLD, _TOP_PAD, _MMAP_MAX = -1, -2, -4  # of malloc.h
