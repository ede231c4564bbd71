"""Metrics of a run: metrics by name, sums and times of an epoch, the summary of a history, confidence intervals."""

from __future__ import annotations

import json
import math
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import torch

from cnnzoo.errors import InputError
from cnnzoo.fields import is_number
from cnnzoo.plugins import Registry
from cnnzoo.train.distributed import DistributedContext
from cnnzoo.train.evaluation import Evaluation

MetricFunction = Callable[[Evaluation], Any]  # returns a float, a list of floats, or None where it is undefined
Function = TypeVar("Function", bound=MetricFunction)


def _macro_f1(evaluation: Evaluation) -> float | None:
    values = [value for value in evaluation.f1 if value is not None]
    return statistics.fmean(values) if values else None


METRICS: Registry[MetricFunction] = Registry(
    "metric",
    {
        "balanced_accuracy": lambda evaluation: evaluation.balanced_accuracy,
        "macro_f1": _macro_f1,
        "recall": lambda evaluation: list(evaluation.recall),
    },
)


def register_metric(name: str) -> Callable[[Function], Function]:
    """Registers a metric, for ``metrics=`` of a TrainConfig.

    The function takes an ``Evaluation`` and returns a number, a list with a number per class, or None where the metric
    is undefined. It is recorded as ``val_NAME`` and ``test_NAME``.

        @register_metric("worst_recall")
        def worst_recall(evaluation):
            return min(value for value in evaluation.recall if value is not None)

    Args:
        name: The name, an identifier.

    Raises:
        InputError: If the name is not an identifier, or belongs to another metric.
    """

    def register(function: Function) -> Function:
        if name == "acc" or str(name).startswith("acc_"):
            raise InputError(f"metric {name!r} would be recorded under the name of the accuracy; choose another name")
        METRICS.register(name, function, str(function.__module__))
        return function

    return register


def compute_metrics(
    functions: Mapping[str, MetricFunction], evaluation: Evaluation, name: str
) -> dict[str, float | list[float | None] | None]:
    """Returns metrics of an evaluation by name, such as ``val_macro_f1``.

    Args:
        functions: The metrics by name.
        evaluation: The evaluation.
        name: Name of the evaluation.

    Raises:
        InputError: If a function returns something else than ``register_metric`` says.
    """
    values: dict[str, float | list[float | None] | None] = {}
    for metric, function in functions.items():
        value = function(evaluation)
        values[f"{name}_{metric}"] = plain = plain_value(value)
        if not all(number is None or is_number(number) for number in (plain if isinstance(plain, list) else [plain])):
            raise InputError(
                f"metric {metric!r} must return a finite number, a list of them, or None where it is undefined, not "
                f"{value!r}"
            )
    return values


def plain_value(value: Any) -> Any:
    """Returns numbers of tensors and arrays as Python's, and sequences as lists."""
    value = value.tolist() if hasattr(value, "tolist") else value
    return list(value) if isinstance(value, tuple) else value


def make_plain(entry: dict[str, Any]) -> None:
    """Replaces the tensors and arrays in an entry of a history, as callbacks add them, by plain values.

    Raises:
        InputError: If a value is none that JSON can hold.
    """
    for key, value in entry.items():
        entry[key] = plain_value(value)
        try:
            json.dumps(entry[key])
        except (TypeError, ValueError):
            raise InputError(
                f"a callback set {key!r} in the history to a {type(value).__name__}; a figure is a number, a list of "
                "numbers, or None"
            ) from None


def is_result(key: str) -> bool:
    """Returns whether a key of a history is a loss, an accuracy or another metric, rather than a time or a count."""
    return key == "loss" or key.startswith(("train_", "val_", "test_"))


class EpochMetrics:
    """Running sums of one epoch: loss, correct predictions, images and seconds.

    Args:
        device: Device of the network.
        distributed: The processes that train it together.

    Attributes:
        sums: Loss and number of correct predictions of this process, on the device.
        samples_seen: Number of images in the sums, over all processes.
        seconds: (in steps, waiting for data, in total), updated by ``read_clock``.
    """

    def __init__(self, device: torch.device, distributed: DistributedContext) -> None:
        self.sums = {
            "loss": torch.zeros((), device=device),
            "correct": torch.zeros((), dtype=torch.int64, device=device),
        }
        self.samples_seen = 0
        self.seconds = (0.0, 0.0, 0.0)
        self._distributed = distributed
        self._step_clock = StepClock(device)
        self._wait_seconds = 0.0
        self._start = time.perf_counter()

    @torch.no_grad()
    def update(self, loss: torch.Tensor, logits: torch.Tensor, labels: torch.Tensor) -> None:
        """Adds a micro-batch, without waiting for the device.

        Args:
            loss: Mean loss of its images.
            logits: (N, classes).
            labels: int64 (N,).
        """
        self.sums["loss"] += loss * len(labels)
        self.sums["correct"] += (logits.argmax(dim=1) == labels).sum()

    def total(self) -> dict[str, torch.Tensor]:
        """Returns the sums over all processes."""
        totals = {name: value.clone() for name, value in self.sums.items()}
        self._distributed.sum(*totals.values())
        return totals

    def gather_sums(self) -> dict[str, torch.Tensor]:
        """Returns the sums of each process, (processes,)."""
        gathered = {}
        for name, value in self.sums.items():
            gathered[name] = torch.zeros(self._distributed.size, dtype=value.dtype, device=value.device)
            gathered[name][self._distributed.rank] = value
        self._distributed.sum(*gathered.values())
        return gathered

    def load_sums(self, gathered: Mapping[str, torch.Tensor]) -> None:
        """Sets the sums to what ``gather_sums`` returned; with another number of processes, rank 0 gets the totals."""
        rank, size = self._distributed.rank, self._distributed.size
        for name, values in gathered.items():
            values = values if len(values) == size else torch.cat([values.sum()[None], values.new_zeros(size - 1)])
            self.sums[name].copy_(values[rank])

    def total_loss(self) -> float:
        """Returns the sum of the losses over all processes; waits for the device."""
        loss = self.sums["loss"].clone()
        self._distributed.sum(loss)
        return float(loss)

    def averages(self) -> dict[str, float]:
        """Returns mean loss and accuracy over the training images of the epoch."""
        totals = self.total()
        return {
            "loss": float(totals["loss"]) / self.samples_seen,
            "train_acc": int(totals["correct"]) / self.samples_seen,
        }

    def throughput(self) -> dict[str, float]:
        """Returns images per second, in steps and by wall clock, and the share of the time spent waiting for data."""
        steps, waiting, wall = self.seconds
        return {
            "examples_per_sec": self.samples_seen / steps,
            "wall_examples_per_sec": self.samples_seen / wall,
            "data_share": waiting / wall,
        }

    def reset(self) -> None:
        """Sets sums and times to zero, for the next epoch."""
        self.seconds, self.samples_seen = (0.0, 0.0, 0.0), 0
        for value in self.sums.values():
            value.zero_()

    # --- time ---

    def start_clock(self) -> None:
        """Starts to count wall-clock time; what came before, such as an evaluation, is not counted."""
        self._start = time.perf_counter()

    def read_clock(self) -> None:
        """Adds the time since the clock was started or read to ``seconds``; waits for the device."""
        now = time.perf_counter()
        elapsed = self._step_clock.read(), self._wait_seconds, now - self._start
        steps, waiting, wall = (total + new for total, new in zip(self.seconds, elapsed, strict=True))
        self.seconds = steps, waiting, wall
        self._start, self._wait_seconds = now, 0.0

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Counts the time within a ``with`` statement as waiting for data."""
        start = time.perf_counter()
        yield
        self._wait_seconds += time.perf_counter() - start

    @contextmanager
    def stepping(self) -> Iterator[None]:
        """Counts the time within a ``with`` statement as a training step."""
        self._step_clock.start()
        yield
        self._step_clock.stop()


class StepClock:
    """A clock of the time in steps, which uses CUDA events on a GPU so that no step waits for the device."""

    def __init__(self, device: torch.device) -> None:
        self._is_cuda = device.type == "cuda"
        self._events: list[tuple[Any, Any]] = []
        self._total = 0.0
        self._start = 0.0

    def start(self) -> None:
        """Starts an interval."""
        if self._is_cuda:
            first, last = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
            self._events.append((first, last))
            first.record()
        else:
            self._start = time.perf_counter()

    def stop(self) -> None:
        """Ends the interval."""
        if self._is_cuda:
            self._events[-1][1].record()
        else:
            self._total += time.perf_counter() - self._start

    def read(self) -> float:
        """Returns the seconds since the last call; waits for the device."""
        if self._events:
            self._events[-1][1].synchronize()
        total: float = self._total + sum(first.elapsed_time(last) for first, last in self._events) / 1000
        self._total, self._events = 0.0, []
        return total


THROUGHPUT = ("examples_per_sec", "wall_examples_per_sec", "data_share", "mfu")


def summarize_history(history: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Returns loss, accuracies and other figures of the last epoch, and throughput over all epochs."""
    last = history[-1] if history else {}
    summary = {key: last[key] for key in last if key not in ("epoch", "step", "lr", *THROUGHPUT)}
    for key in ("examples_per_sec", "wall_examples_per_sec"):
        if history and all(entry.get(key) for entry in history):
            # all images over all seconds: the harmonic mean, since epochs have equally many images
            summary[key] = len(history) / sum(1 / entry[key] for entry in history)
    if "mfu" in last and "examples_per_sec" in summary:
        summary["mfu"] = last["mfu"] * summary["examples_per_sec"] / last["examples_per_sec"]
    if history and all("data_share" in entry for entry in history):
        summary["data_share"] = sum(entry["data_share"] for entry in history) / len(history)
    return summary


# two-sided 95 % quantiles of Student's t for 1, 2, ... degrees of freedom; the normal quantile beyond
_T95 = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131)
_NORMAL95 = 1.96


def interval_95(values: Sequence[float]) -> tuple[float, float]:
    """Returns the 95 % confidence interval of the mean of some values, by Student's t; infinite for a single value."""
    if len(values) < 2:
        return -math.inf, math.inf
    t = _T95[len(values) - 2] if len(values) - 2 < len(_T95) else _NORMAL95
    half = t * statistics.stdev(values) / math.sqrt(len(values))
    mean = statistics.fmean(values)
    return mean - half, mean + half
