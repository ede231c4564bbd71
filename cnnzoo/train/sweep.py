"""Training runs that differ only in their seed."""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path
from typing import Any

from torch import nn

from cnnzoo.data import Data
from cnnzoo.errors import FileError, InputError
from cnnzoo.fields import is_number
from cnnzoo.files import exists, write_json
from cnnzoo.html_parts import notebook_html
from cnnzoo.measure.tables import Printable, Table
from cnnzoo.train.config import TrainConfig
from cnnzoo.train.metrics import interval_95, is_result
from cnnzoo.train.run import Run
from cnnzoo.train.trainer import Trainer

SWEEP_FILE = "sweep.json"


@dataclass(frozen=True)
class SeedSweep(Printable):
    """The results of training runs that differ only in their seed.

    Attributes:
        name: Name of the network.
        seeds: The seeds.
        runs: The run of each seed.
    """

    name: str
    seeds: Sequence[int] = field(hash=False)
    runs: Sequence[Run] = field(hash=False)

    def values(self, metric: str = "test_acc") -> list[float]:
        """Returns a metric of every run that was not interrupted."""
        return [run.metrics[metric] for run in self.runs if is_number(run.metrics.get(metric)) and not run.interrupted]

    def mean(self, metric: str = "test_acc") -> float:
        """Returns the mean of a metric over the seeds."""
        return statistics.fmean(self.values(metric))

    def interval(self, metric: str = "test_acc") -> tuple[float, float]:
        """Returns the 95 % confidence interval of the mean, by Student's t; infinite for a single run."""
        return interval_95(self.values(metric))

    def tables(self) -> Sequence[Table]:
        """Returns a table with a row per run, and their mean."""
        keys = [key for key, value in self.runs[0].metrics.items() if is_result(key) and is_number(value)]
        rows: list[tuple[str, ...]] = [
            (str(seed), *(f"{run.metrics[key]:.4f}" if is_number(run.metrics.get(key)) else "" for key in keys))
            for seed, run in zip(self.seeds, self.runs, strict=True)
        ]
        if len(self.values()) > 1:
            rows.append(("mean", *(f"{self.mean(key):.4f}" for key in keys)))
            halves = (self.interval(key)[1] - self.mean(key) for key in keys)
            rows.append(("95 %", *(f"+-{half:.4f}" for half in halves)))
        title, optional = f"{self.name}, {len(self.runs)} seeds", [key for key in reversed(keys) if key != "test_acc"]
        return [Table(title, ("seed", *keys), rows, optional=optional)]

    def _repr_html_(self) -> str:
        from cnnzoo.measure.history_html import history_html

        return notebook_html(self.to_html(), history_html(*(run.history for run in self.runs)))

    def to_dict(self) -> dict[str, Any]:
        """Returns the metrics of every run, mean and interval of the test accuracy, as plain values."""
        runs = [
            {"seed": seed, **run.metrics, "history": list(run.history)}
            for seed, run in zip(self.seeds, self.runs, strict=True)
        ]
        result: dict[str, Any] = {"name": self.name, "runs": runs}
        if len(self.values()) > 1:
            result |= {"mean_test_acc": self.mean(), "interval_95": list(self.interval())}
        return result

    def to_json(self) -> str:
        """Returns ``to_dict`` as JSON."""
        return json.dumps(self.to_dict(), indent=2)


def seed_sweep(
    build: Callable[[int], nn.Module],
    data: Data,
    config: TrainConfig | None = None,
    *,
    seeds: int | Sequence[int] = 5,
    out: str | PathLike[str] | None = None,
    overwrite: bool = False,
    resume: str | None = None,
    callbacks: Sequence[object] = (),
    show: bool = True,
) -> SeedSweep:
    """Trains a network from its initial weights with each of several seeds.

    Ctrl-C saves the current run and ends the sweep.

    Args:
        build: Builds the module for a seed.
        data: The data set.
        config: The settings, by default ``TrainConfig()``; the seed is replaced.
        seeds: The seeds, or their number: 0, 1, 2, ...
        out: A folder for the runs, ``seed-0``, ``seed-1``, ..., and ``sweep.json``.
        overwrite: Whether existing runs may be replaced.
        resume: ``"auto"`` completes an interrupted sweep in ``out``: finished runs are not trained again.
        callbacks: As for ``Trainer``, for each run.
        show: Whether progress is shown on standard error.

    Raises:
        InputError: If there are no seeds or equal ones, or model and data do not match.
        FileError: If ``out`` holds runs already, or cannot be written.
    """
    seed_list = list(range(seeds)) if isinstance(seeds, int) else list(seeds)
    if not seed_list or len(set(seed_list)) < len(seed_list):
        raise InputError(f"seeds must be a number of at least 1, or different seeds, not {seeds!r}")
    base = config or TrainConfig()
    trainers = [
        Trainer(
            build(seed),
            data,
            base.replace(seed=seed),
            out=None if out is None else Path(out) / f"seed-{seed}",
            overwrite=overwrite,
            resume=resume,
            callbacks=callbacks,
            show=show,
        )
        for seed in seed_list
    ]
    summary = None if out is None else Path(out) / SWEEP_FILE
    if summary is not None and exists(summary) and not overwrite and resume is None:
        raise FileError(f"{summary} exists already; name another folder, or pass overwrite=True (--overwrite)")
    name, rank = trainers[0].name, trainers[0].distributed.rank
    runs: list[Run] = []
    while trainers and not (runs and runs[-1].interrupted):
        runs.append(trainers.pop(0).fit())  # popped, so that its memory is freed before the next run
    sweep = SeedSweep(name, seed_list[: len(runs)], runs)
    if summary is not None and rank == 0:
        write_json(summary, sweep.to_dict())
    return sweep
