"""How fast a module really runs here, beside what was counted and what this machine can do at most."""

from __future__ import annotations

import ctypes
import dataclasses
import json
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from cnnzoo.errors import InputError
from cnnzoo.measure.counter import count
from cnnzoo.measure.tables import Printable, Table, human

WARM_UP = 0.5  # seconds
FEWEST, MOST = 5, 200  # timed calls
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


@dataclass(frozen=True)
class Timing:
    """One module, measured.

    Attributes:
        name: What was measured.
        input_size: Shape of the input, batch included.
        train: Whether a call was a forward and a backward.
        seconds: Median of a call.
        quartiles: A quarter of the calls took less than the first, a quarter more than the second.
        calls: How many calls were timed.
        flops: FLOPs of a call, as counted (2 x MACs).
        intensity: FLOPs per byte that the operators read and write, as counted; with ``flops_per_sec`` the
            module's point in a roofline.
        peak_bytes: Memory that a call took at most beyond what was held before; None where it cannot be measured.
        ceiling: FLOPs per second of this machine's matrix product, measured in the same run.
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
        """Throughput."""
        return self.input_size[0] / self.seconds

    @property
    def flops_per_sec(self) -> float:
        """Counted FLOPs over measured time."""
        return self.flops / self.seconds

    @property
    def fraction(self) -> float:
        """Share of the ceiling."""
        return self.flops_per_sec / self.ceiling


@dataclass(frozen=True)
class Bench(Printable):
    """Timings side by side.

    Attributes:
        timings: One per module.
        device: Where they ran.
        precision: ``"fp32"`` or ``"bf16"``.
        threads: CPU threads that torch used.
    """

    timings: Sequence[Timing]
    device: str
    precision: str
    threads: int

    def table(self) -> Table:
        """The timings as a table."""
        first = self.timings[0]
        what = "forward and backward" if first.train else "forward"
        return Table(
            title=f"{what}, batch {first.input_size[0]}, {self.precision}, {self.device}, {self.threads} threads",
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
                f"medians of {min(t.calls for t in self.timings)} calls or more, after a warm-up; spread: the middle "
                "half of the calls",
                f"peak: a matrix product in {self.precision} on this machine, {first.ceiling / 1e9:.4g} "
                "GFLOP/s, measured in the same run",
            ],
        )

    def tables(self) -> Sequence[Table]:
        """The one table."""
        return [self.table()]

    def to_json(self) -> str:
        """The timings as JSON."""
        rows = [
            {
                **dataclasses.asdict(t),
                "images_per_sec": t.images_per_sec,
                "flops_per_sec": t.flops_per_sec,
                "fraction": t.fraction,
            }
            for t in self.timings
        ]
        about = {"device": self.device, "precision": self.precision, "threads": self.threads}
        return json.dumps({**about, "timings": rows}, indent=2)


def bench(
    modules: Sequence[tuple[str, nn.Module, Sequence[int]]],
    *,
    train: bool = False,
    device: torch.device | None = None,
    precision: str = "fp32",
    seconds: float = 2.0,
) -> Bench:
    """Times modules one after the other, each warmed up first.

    Args:
        modules: Name, module and input size (N, C, H, W) of each; the modules are moved to the device and type.
        train: Whether a call is a forward and a backward, in train mode; else a forward in inference, eval mode.
        device: Where to; the CPU by default.
        precision: ``"fp32"`` or ``"bf16"``; weights and input are of that type.
        seconds: How long each module is timed, about.

    Raises:
        InputError: If the precision is not known, or there is nothing to time.
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
    ceiling = _ceiling(device, dtype)
    timings = []
    for name, module, input_size in modules:
        module = module.to(device, dtype).train(train)
        x = torch.randn(tuple(input_size), device=device, dtype=dtype)
        report = count(module, input_size, name=name)
        call = _training(module, x) if train else _inference(module, x)
        peak = _peak(call, device)
        times = _times(call, device, seconds)
        quarters = statistics.quantiles(times, n=4)
        timings.append(
            Timing(
                name=name,
                input_size=tuple(input_size),
                train=train,
                seconds=statistics.median(times),
                quartiles=(quarters[0], quarters[2]),
                calls=len(times),
                flops=2 * (report.train_macs if train else report.macs),
                intensity=report.intensity,
                peak_bytes=peak,
                ceiling=ceiling,
            )
        )
        module.zero_grad(set_to_none=True)
    where = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    return Bench(timings, where, precision, torch.get_num_threads())


def _inference(module: nn.Module, x: torch.Tensor) -> Callable[[], None]:
    def call() -> None:
        with torch.inference_mode():
            module(x)

    return call


def _training(module: nn.Module, x: torch.Tensor) -> Callable[[], None]:
    def call() -> None:
        module.zero_grad(set_to_none=True)
        module(x).float().sum().backward()

    return call


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _times(call: Callable[[], object], device: torch.device, seconds: float) -> list[float]:
    """Seconds of each call, after a warm-up, until the time is spent."""
    begin = time.perf_counter()
    while time.perf_counter() - begin < WARM_UP:
        call()
        _wait(device)
    times: list[float] = []
    while len(times) < FEWEST or (sum(times) < seconds and len(times) < MOST):
        start = time.perf_counter()
        call()
        _wait(device)
        times.append(time.perf_counter() - start)
    return times


def _ceiling(device: torch.device, dtype: torch.dtype) -> float:
    """FLOPs per second of a large square matrix product."""
    n = 8192 if device.type == "cuda" else 2048
    a, b = (torch.randn(n, n, device=device).to(dtype) for _ in range(2))
    return 2 * n**3 / min(_times(lambda: a @ b, device, 1.0))


def _peak(call: Callable[[], None], device: torch.device) -> int | None:
    """Most memory that one call takes beyond what is held before."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        call()
        _wait(device)
        return torch.cuda.max_memory_allocated(device) - before
    try:
        ctypes.CDLL(None).malloc_trim(0)  # what an earlier call freed must not be taken from again unseen (glibc)
        Path("/proc/self/clear_refs").write_text("5")  # the high-water mark begins anew (Linux)
        before = _status("VmRSS")
        call()
        return max(_status("VmHWM") - before, 0)
    except (OSError, LookupError, AttributeError):
        call()
        return None


def _status(key: str) -> int:
    """A size from /proc/self/status, in bytes."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{key}:"):
            return 1024 * int(line.split()[1])
    raise LookupError(key)
