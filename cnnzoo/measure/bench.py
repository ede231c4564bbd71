"""Times modules on this machine, next to their counted FLOPs and the machine's peak."""

from __future__ import annotations

import ctypes
import dataclasses
import json
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import nn

from cnnzoo.errors import InputError
from cnnzoo.measure.counter import count
from cnnzoo.measure.tables import Printable, Table, human
from cnnzoo.module_copy import clone, copy_module
from cnnzoo.progress_bar import track
from cnnzoo.random_state import preserved_random_state

WARM_UP = 0.5  # seconds
MIN_CALLS, MAX_CALLS = 5, 200  # timed calls
MATRIX_SIZE = {"cpu": 2048, "cuda": 8192}  # of the matrix product that measures the peak
PEAK_SECONDS = 1.0  # about how long it is timed
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


@dataclass(frozen=True)
class Timing:
    """The times of one module.

    Attributes:
        name: Name of the module.
        input_size: Shape of the input, batch included.
        train: Whether a call is a forward and a backward, instead of a forward alone.
        seconds: Median time of a call.
        quartiles: First and third quartile of the times.
        calls: The number of timed calls.
        flops: FLOPs of a call, as counted (2 x MACs).
        intensity: FLOPs per byte that the operators read and write, as counted; with ``flops_per_sec`` the
            module's point in a roofline.
        peak_bytes: The most memory of a call beyond that in use before; None if it cannot be measured.
        ceiling: FLOPs per second of a matrix product on this machine, measured in the same run.
    """

    name: str
    input_size: tuple[int, ...]
    train: bool
    seconds: float
    quartiles: tuple[float, float]
    calls: int
    flops: int
    intensity: float
    peak_bytes: int | None
    ceiling: float

    @property
    def images_per_sec(self) -> float:
        """Images per second."""
        return self.input_size[0] / self.seconds

    @property
    def flops_per_sec(self) -> float:
        """Counted FLOPs per second of measured time."""
        return self.flops / self.seconds

    @property
    def fraction(self) -> float:
        """``flops_per_sec`` as a fraction of the ceiling."""
        return self.flops_per_sec / self.ceiling


@dataclass(frozen=True)
class Bench(Printable):
    """Timings side by side.

    Attributes:
        timings: One ``Timing`` per module.
        device: Name of the device.
        precision: ``"fp32"`` or ``"bf16"``.
        threads: The number of CPU threads of torch.
    """

    timings: Sequence[Timing] = field(hash=False)
    device: str
    precision: str
    threads: int

    def table(self) -> Table:
        """Returns the table of the timings."""
        first = self.timings[0]
        call = "forward and backward" if first.train else "forward"
        return Table(
            title=f"{call}, batch {first.input_size[0]}, {self.precision}, {self.device}, {self.threads} threads",
            headers=("model", "ms", "spread", "images/s", "GFLOP", "GFLOP/s", "of peak", "FLOP/B", "memory"),
            rows=[
                (
                    t.name,
                    f"{1e3 * t.seconds:.3g}",
                    f"{1e3 * t.quartiles[0]:.3g}-{1e3 * t.quartiles[1]:.3g}",
                    f"{t.images_per_sec:,.1f}",
                    f"{t.flops / 1e9:.3g}",
                    f"{t.flops_per_sec / 1e9:.3g}",
                    f"{100 * t.fraction:.1f} %",
                    f"{t.intensity:.3g}",
                    "" if t.peak_bytes is None else f"{human(t.peak_bytes)}B",
                )
                for t in self.timings
            ],
            notes=[
                f"medians of {min(t.calls for t in self.timings)} calls or more, after a warm-up; spread: first to "
                "third quartile",
                f"peak: a matrix product in {self.precision} on this machine, {first.ceiling / 1e9:.4g} "
                "GFLOP/s, measured in the same run",
            ],
            foldable=("model",),
            optional=("memory", "FLOP/B", "GFLOP", "spread", "of peak"),
        )

    def tables(self) -> Sequence[Table]:
        """Returns the one table."""
        return [self.table()]

    def to_json(self) -> str:
        """Returns the timings as JSON."""
        timings = [
            {
                **dataclasses.asdict(t),
                "images_per_sec": t.images_per_sec,
                "flops_per_sec": t.flops_per_sec,
                "fraction": t.fraction,
            }
            for t in self.timings
        ]
        machine = {"device": self.device, "precision": self.precision, "threads": self.threads}
        return json.dumps({**machine, "timings": timings}, indent=2)


def bench(
    modules: Sequence[tuple[str, nn.Module, Sequence[int]]],
    *,
    train: bool = False,
    device: torch.device | None = None,
    precision: str = "fp32",
    seconds: float = 2.0,
) -> Bench:
    """Times modules one after the other, each after a warm-up.

    Args:
        modules: Name, module and input size (N, C, H, W) of each; copies of the modules are timed.
        train: Whether a call is a forward and a backward in train mode, instead of a forward in eval mode under
            ``torch.inference_mode``.
        device: The device; by default the CPU.
        precision: ``"fp32"`` or ``"bf16"``: the dtype of weights and input.
        seconds: About how long each module is timed.

    Raises:
        InputError: If an argument is out of range, or there is no module.
    """
    if precision not in DTYPES:
        raise InputError(f"precision must be one of {', '.join(DTYPES)}, not {precision!r}")
    if not 0 < seconds < 3600:
        raise InputError(f"seconds must be above 0 and below an hour, not {seconds!r}")
    if device is not None and device.type == "meta":
        raise InputError("nothing runs on the meta device; name another")
    if not modules:
        raise InputError("bench needs at least one network")
    device, dtype = device or torch.device("cpu"), DTYPES[precision]
    ceiling = peak_flops_per_sec(device, dtype)
    timings: list[Timing] = []
    for name, module, input_size in track(modules, "timing"):
        module = copy_module(module, clone).to(device, dtype).train(train)
        x = torch.randn(tuple(input_size), generator=torch.Generator().manual_seed(0)).to(device, dtype)
        report = count(module, input_size, name=name)
        call = _train_call(module, x) if train else _inference_call(module, x)
        with preserved_random_state():  # dropout draws from it
            peak_bytes = measure_peak_bytes(call, device)
            times = _time_calls(call, device, seconds)
        quartiles = statistics.quantiles(times, n=4)
        timings.append(
            Timing(
                name=name,
                input_size=tuple(input_size),
                train=train,
                seconds=statistics.median(times),
                quartiles=(quartiles[0], quartiles[2]),
                calls=len(times),
                flops=2 * (report.train_macs if train else report.macs),
                intensity=report.intensity,
                peak_bytes=peak_bytes,
                ceiling=ceiling,
            )
        )
    device_name = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    return Bench(timings, device_name, precision, torch.get_num_threads())


def _inference_call(module: nn.Module, x: torch.Tensor) -> Callable[[], None]:
    def call() -> None:
        with torch.inference_mode():
            module(x)

    return call


def _train_call(module: nn.Module, x: torch.Tensor) -> Callable[[], None]:
    def call() -> None:
        module.zero_grad(set_to_none=True)
        module(x).float().sum().backward()

    return call


def _synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _time_calls(
    call: Callable[[], object], device: torch.device, seconds: float, warm_up: float = WARM_UP
) -> list[float]:
    """Returns the seconds of each call after a warm-up; the calls take about ``seconds`` in all."""
    begin = time.perf_counter()
    while time.perf_counter() - begin < warm_up:
        call()
        _synchronize(device)
    times: list[float] = []
    while len(times) < MIN_CALLS or (sum(times) < seconds and len(times) < MAX_CALLS):
        start = time.perf_counter()
        call()
        _synchronize(device)
        times.append(time.perf_counter() - start)
    return times


def peak_flops_per_sec(
    device: torch.device, dtype: torch.dtype, seconds: float = PEAK_SECONDS, n: int | None = None
) -> float:
    """Measures the FLOPs per second of a large square matrix product.

    Args:
        device: The device.
        dtype: The dtype of the matrices.
        seconds: About how long it is timed.
        n: Number of rows; by default 2048 on a CPU, 8192 on a GPU.
    """
    n = n or MATRIX_SIZE["cuda" if device.type == "cuda" else "cpu"]
    a, b = (torch.full((n, n), 0.5, device=device, dtype=dtype) for _ in range(2))
    return 2 * n**3 / min(_time_calls(lambda: a @ b, device, seconds, min(WARM_UP, seconds)))


def measure_peak_bytes(call: Callable[[], object], device: torch.device) -> int | None:
    """Returns the most memory of one call beyond that in use before; None if it cannot be measured.

    On a CPU it is the resident memory of the process, which Linux reports. Freed memory is returned to the system first
    (glibc), since a call that reuses it would not raise the peak.
    """
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        call()
        _synchronize(device)
        return torch.cuda.max_memory_allocated(device) - before
    try:
        ctypes.CDLL(None).malloc_trim(0)
        Path("/proc/self/clear_refs").write_text("5")  # resets the peak
        before = _process_bytes("VmRSS")
        call()
        return max(_process_bytes("VmHWM") - before, 0)
    except (OSError, LookupError, AttributeError):
        call()
        return None


def _process_bytes(key: str) -> int:
    """Returns a size in /proc/self/status, in bytes."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{key}:"):
            return 1024 * int(line.split()[1])
    raise LookupError(key)
