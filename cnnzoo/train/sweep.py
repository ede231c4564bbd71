"""Runs about runs: the same with several seeds, and a search for the learning rate."""

from __future__ import annotations

import contextlib
import copy
import json
import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

from torch import nn

from cnnzoo.data import Data
from cnnzoo.errors import FileError, InputError, TrainingError
from cnnzoo.measure.layer_plot import save_figure
from cnnzoo.measure.tables import Printable, Table
from cnnzoo.serialization import exists, write_json
from cnnzoo.train.config import TrainConfig
from cnnzoo.train.run import Run, interval_95
from cnnzoo.train.trainer import Trainer


@dataclass(frozen=True)
class SeedSweep(Printable):
    """The same training with several seeds.

    Attributes:
        name: What was trained.
        seeds: The seeds.
        runs: What each gave.
    """

    name: str
    seeds: Sequence[int]
    runs: Sequence[Run]

    def values(self, metric: str = "test_acc") -> list[float]:
        """A figure of every run that came to its end."""
        return [run.metrics[metric] for run in self.runs if metric in run.metrics and not run.interrupted]

    def mean(self, metric: str = "test_acc") -> float:
        """The mean of a figure over the seeds."""
        return statistics.fmean(self.values(metric))

    def interval(self, metric: str = "test_acc") -> tuple[float, float]:
        """The 95 % confidence interval of the mean, by Student's t; infinite for a single run."""
        return interval_95(self.values(metric))

    def tables(self) -> Sequence[Table]:
        """The runs, a row each, and their mean."""
        keys = [key for key in self.runs[0].metrics if "_acc" in key or key == "loss"]
        rows: list[tuple[str, ...]] = [
            (str(seed), *(f"{run.metrics[key]:.4f}" if key in run.metrics else "" for key in keys))
            for seed, run in zip(self.seeds, self.runs, strict=True)
        ]
        if len(self.values()) > 1:
            rows.append(("mean", *(f"{self.mean(key):.4f}" for key in keys)))
            halves = (self.interval(key)[1] - self.mean(key) for key in keys)
            rows.append(("95 %", *(f"+-{half:.4f}" for half in halves)))
        return [Table(title=f"{self.name}, {len(self.runs)} seeds", headers=("seed", *keys), rows=rows)]

    def to_dict(self) -> dict[str, Any]:
        """Every run's figures, the mean and the interval of the test accuracy, as plain values."""
        runs = [
            {"seed": seed, **run.metrics, "history": list(run.history)}
            for seed, run in zip(self.seeds, self.runs, strict=True)
        ]
        found: dict[str, Any] = {"name": self.name, "runs": runs}
        if len(self.values()) > 1:
            found |= {"mean_test_acc": self.mean(), "interval_95": list(self.interval())}
        return found

    def to_json(self) -> str:
        """The same as JSON."""
        return json.dumps(self.to_dict(), indent=2)


def seed_sweep(
    build: Callable[[int], nn.Module],
    data: Data,
    config: TrainConfig | None = None,
    *,
    seeds: int | Sequence[int] = 5,
    out: str | PathLike[str] | None = None,
    overwrite: bool = False,
    show: bool = True,
) -> SeedSweep:
    """Trains anew with each seed; Ctrl-C ends it after the run that is under way was saved.

    Args:
        build: Makes the module from a seed.
        data: The data set.
        config: Every knob; its seed is replaced.
        seeds: The seeds, or how many: 0, 1, 2, ...
        out: A folder for the runs: ``seed-0``, ``seed-1``, ... and ``sweep.json``.
        overwrite: Whether runs that are there already may be replaced.
        show: Whether progress is shown on standard error.

    Raises:
        InputError: If there are no seeds, or data and module do not fit.
        FileError: If ``out`` holds runs already, or cannot be written.
    """
    listed = list(range(seeds)) if isinstance(seeds, int) else list(seeds)
    if not listed or len(set(listed)) < len(listed):
        raise InputError(f"seeds must be a number of at least 1, or different seeds, not {seeds!r}")
    base = config or TrainConfig()
    trainers = [
        Trainer(
            build(seed),
            data,
            base.replace(seed=seed),
            out=None if out is None else Path(out) / f"seed-{seed}",
            overwrite=overwrite,
            show=show,
        )
        for seed in listed
    ]
    summary = None if out is None else Path(out) / "sweep.json"
    if summary is not None and exists(summary) and not overwrite:
        raise FileError(f"{summary} exists already; name another folder, or say overwrite=True (--overwrite)")
    name, writes = trainers[0].name, trainers[0].distributed.rank == 0
    runs: list[Run] = []
    while trainers and not (runs and runs[-1].interrupted):
        runs.append(trainers.pop(0).fit())  # and what it held may go
    found = SeedSweep(name, listed[: len(runs)], runs)
    if summary is not None and writes:
        write_json(summary, found.to_dict())
    return found


@dataclass(frozen=True)
class LRFinderResult:
    """What a search for the learning rate found.

    Attributes:
        rates: Learning rate of each step.
        losses: Smoothed loss after each step.
        suggestion: The rate at which the loss fell fastest.
    """

    rates: Sequence[float]
    losses: Sequence[float]
    suggestion: float

    def __str__(self) -> str:
        return f"the loss falls fastest at lr={self.suggestion:.2g}; it was lowest at {self._lowest():.2g}"

    def _lowest(self) -> float:
        return self.rates[self.losses.index(min(self.losses))]

    def plot(self, path: str | PathLike[str]) -> None:
        """Draws loss against learning rate into a picture file; the suffix says the format.

        Raises:
            FileError: If the picture cannot be written.
        """
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

        figure = Figure(figsize=(5.6, 3.6), layout="constrained", facecolor="white")
        FigureCanvasAgg(figure)
        axis = figure.subplots()
        axis.semilogx(self.rates, self.losses)
        axis.axvline(self.suggestion, linestyle=":", color="gray")
        axis.set_xlabel("learning rate")
        axis.set_ylabel("loss, smoothed")
        axis.grid(True, linewidth=0.5, alpha=0.5)
        save_figure(figure, path)


def lr_find(
    model: nn.Module,
    data: Data,
    config: TrainConfig | None = None,
    *,
    low: float = 1e-6,
    high: float = 10.0,
    steps: int = 100,
) -> LRFinderResult:
    """Lets the learning rate rise step by step and watches the loss (Smith 2017); the module stays as it was.

    Args:
        model: The module; a copy of it is trained.
        data: The data set.
        config: Every other knob.
        low: The first learning rate.
        high: The last; it ends before, once the loss is four times the lowest.
        steps: How many steps there are at most.

    Raises:
        InputError: If the rates do not rise, or there are too few steps to see anything.
        TrainingError: If the loss is no number from the first step on, or grows at once.
    """
    if not 0 < low < high or steps < 10:
        raise InputError(f"0 < low < high and steps >= 10 are needed, not low={low}, high={high}, steps={steps}")
    watch = _Watch(steps)
    base = (config or TrainConfig()).replace(eval_every=0, checkpoint_every=0, ema=0.0)
    # more epochs than are needed: the search ends in the middle of one, before any test
    trainer = Trainer(copy.deepcopy(model), data, base.replace(epochs=steps + 1), callbacks=[watch], show=False)
    trainer.lr_at = lambda step: low * (high / low) ** (step / (steps - 1))
    with contextlib.suppress(_Done, TrainingError):
        trainer.fit()
    if len(watch.losses) < 2:
        raise TrainingError(
            f"at lr={low:g} the loss is no number, or grows at once; give a lower low, or look at the data"
        )
    rates = [trainer.lr_at(step) for step in range(len(watch.losses))]
    falls = [b - a for a, b in zip(watch.losses, watch.losses[1:], strict=False)]
    return LRFinderResult(rates, watch.losses, rates[falls.index(min(falls))])


class _Done(Exception):
    """Enough was seen."""


class _Watch:
    """Notes the loss of each step, smoothed, until it has risen fourfold."""

    def __init__(self, steps: int) -> None:
        self.losses: list[float] = []
        self._steps, self._mean = steps, 0.0

    def on_step(self, trainer: Trainer) -> None:
        """Notes the loss."""
        loss = float(trainer.last_loss)
        self._mean = 0.9 * self._mean + 0.1 * loss
        smooth = self._mean / (1 - 0.9 ** (len(self.losses) + 1))
        if not math.isfinite(smooth) or (self.losses and smooth > 4 * min(self.losses)):
            raise _Done
        self.losses.append(smooth)
        if len(self.losses) == self._steps:
            raise _Done
