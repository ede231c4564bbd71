"""Devices: resolution by name, random state, memory, and information about the machine."""

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
from cnnzoo.random_state import seed_python_and_numpy, states_of_cpu
from cnnzoo.version import __version__


def resolve_device(name: str) -> torch.device:
    """Returns the device of a name such as ``"cuda:1"``; ``"auto"`` is a GPU (CUDA, or Apple's) if there is one, else
    the CPU.

    Raises:
        InputError: If this machine has no such device.
    """
    if name == "auto":
        names = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
        return torch.device(next((name for name, available in names.items() if available), "cpu"))
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = next(iter(str(error).splitlines()), "").split(". ")[0].rstrip(".")
        raise InputError(f"no device {name!r} on this machine ({reason}); use 'auto' or 'cpu'") from None
    return device


def seed(device: torch.device, value: int) -> None:
    """Seeds the random generators of torch, of the CPU and of a device, and those of Python and NumPy.

    Cheaper than ``torch.manual_seed``, which records a stack trace if CUDA is not initialized yet.
    """
    torch.default_generator.manual_seed(value)
    seed_python_and_numpy(value)
    if device.type == "cuda":
        with torch.cuda.device(device):
            torch.cuda.manual_seed(value)
    elif device.type == "mps":
        torch.mps.manual_seed(value)


@contextmanager
def forked_rng(device: torch.device) -> Iterator[None]:
    """Restores the random states that ``seed`` changes at the end."""
    states = states_of_cpu()
    mps_state = torch.mps.get_rng_state() if device.type == "mps" else None
    try:
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            yield
    finally:
        for (_, restore), state in states.items():
            restore(state)
        if mps_state is not None:
            torch.mps.set_rng_state(mps_state)


def has_float64(device: torch.device) -> bool:
    """Returns whether a device computes in float64, which Apple's GPUs do not."""
    return device.type != "mps"


@contextmanager
def deterministic_algorithms(enabled: bool) -> Iterator[None]:
    """Makes torch refuse nondeterministic operators, if enabled, and restores its setting at the end."""
    was_enabled = torch.are_deterministic_algorithms_enabled()
    if enabled:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # required by cuBLAS
        torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(was_enabled)


def device_name(device: torch.device) -> str:
    """Returns a device with the name of its GPU: ``"cpu"``, ``"cuda:0 (NVIDIA H100)"``."""
    return f"{device} ({torch.cuda.get_device_name(device)})" if device.type == "cuda" else str(device)


def cpu_info() -> dict[str, str]:
    """Returns the fields of the first CPU in /proc/cpuinfo (``model name``, ...); empty without that file."""
    try:
        lines = Path("/proc/cpuinfo").read_text().split("\n\n")[0].splitlines()
    except OSError:
        return {}
    return {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}


def cpu_bf16_flag() -> str | None:
    """Returns the CPU flag of native bf16 arithmetic, ``"amx_bf16"`` or ``"avx512_bf16"``; None if there is none."""
    flags = cpu_info().get("flags", "").split()
    return next((flag for flag in ("amx_bf16", "avx512_bf16") if flag in flags), None)


def machine_info() -> dict[str, Any]:
    """Returns the properties of this machine that measurements depend on: hardware, threads and versions."""
    cpu = cpu_info()
    return {
        "cpu": cpu.get("model name") or platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "bf16": cpu_bf16_flag(),
        "gpus": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())],
        "system": platform.system(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "cnnzoo": __version__,
    }


_TRIM_THRESHOLD, _TOP_PAD, _MMAP_MAX = -1, -2, -4  # parameters of mallopt, from malloc.h


@contextmanager
def reuse_memory() -> Iterator[None]:
    """Lets glibc reuse the memory of large tensors, which it would otherwise return to the kernel when they are freed.

    The kernel zeroes each new page, which takes a fifth of an AlexNet training step on a CPU. At the end, free memory
    is returned and glibc's defaults are restored. Without glibc, nothing is changed.
    """
    try:
        glibc = ctypes.CDLL(None)
        mallopt, malloc_trim = glibc.mallopt, glibc.malloc_trim
    except (OSError, AttributeError, TypeError):
        yield
        return
    defaults = {_TRIM_THRESHOLD: 128 * 1024, _TOP_PAD: 0, _MMAP_MAX: 65536}  # mallopt(3)
    for option, value in {_TRIM_THRESHOLD: 2**31 - 1, _TOP_PAD: 64 * 1024**2, _MMAP_MAX: 0}.items():
        mallopt(option, value)
    try:
        yield
    finally:
        for option, value in defaults.items():
            mallopt(option, value)
        malloc_trim(0)
