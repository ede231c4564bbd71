"""The learning-rate range test: the loss while the learning rate rises from step to step."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import pairwise
from os import PathLike

from torch import nn

from cnnzoo.data import Data
from cnnzoo.errors import InputError, TrainingError
from cnnzoo.measure.figures import new_figure, save_figure
from cnnzoo.measure.text_layout import wrap_text
from cnnzoo.modules import unwrap
from cnnzoo.progress_bar import progress_bar
from cnnzoo.train.callbacks import Callback
from cnnzoo.train.config import TrainConfig
from cnnzoo.train.schedules import Progress
from cnnzoo.train.trainer import Trainer


@dataclass(frozen=True)
class LRFinderResult:
    """The result of ``lr_find``.

    Attributes:
        rates: Learning rate of each step.
        losses: Smoothed loss after each step.
        suggestion: The learning rate at which the loss fell fastest.
    """

    rates: Sequence[float] = field(hash=False)
    losses: Sequence[float] = field(hash=False)
    suggestion: float

    def __str__(self) -> str:
        lowest = self.rates[self.losses.index(min(self.losses))]
        return wrap_text(f"the loss falls fastest at lr={self.suggestion:.2g}; it was lowest at {lowest:.2g}")

    def plot(self, path: str | PathLike[str]) -> None:
        """Draws the loss against the learning rate.

        Args:
            path: The file; its suffix is the format (``.png``, ``.svg``, ``.pdf``).

        Raises:
            FileError: If the file cannot be written.
        """
        figure = new_figure(5.6, 3.6)
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
    """Runs a learning-rate range test (Smith 2017, "Cyclical Learning Rates").

    The learning rate rises exponentially from ``low`` to ``high``; the suggestion is where the loss falls fastest.

    Args:
        model: The module; a copy of it is trained.
        data: The data set.
        config: The other settings; by default ``TrainConfig()``.
        low: The first learning rate.
        high: The last learning rate; the test ends earlier once the loss exceeds four times the lowest.
        steps: Maximum number of steps.

    Raises:
        InputError: If ``low`` is not below ``high``, or there are fewer than ten steps.
        TrainingError: If the loss diverges from the first step on.
    """
    if not 0 < low < high or steps < 10:
        raise InputError(f"0 < low < high and steps >= 10 are needed, not low={low}, high={high}, steps={steps}")
    recorder = _LossRecorder(steps)
    config = (config or TrainConfig()).replace(eval_every=0, checkpoint_every=0, ema=0.0, warmup=0.0)
    # more epochs than needed: the test ends within an epoch, before any evaluation
    config = config.replace(epochs=steps + 1)

    def schedule(config: TrainConfig, progress: Progress) -> float:
        return float(low * (high / low) ** (progress.step / (steps - 1)))

    trainer = Trainer(copy.deepcopy(unwrap(model)), data, config, schedule=schedule, callbacks=[recorder], show=False)
    with progress_bar("searching a learning rate", steps) as recorder.advance, suppress(_Done, TrainingError):
        if trainer.fit().interrupted:
            raise KeyboardInterrupt
    if len(recorder.losses) < 2:
        raise TrainingError(f"at lr={low:g} the loss diverges at once; pass a smaller low, or check the data")
    rates = [trainer.lr_at(step) for step in range(len(recorder.losses))]
    slopes = [after - before for before, after in pairwise(recorder.losses)]
    return LRFinderResult(rates, recorder.losses, rates[slopes.index(min(slopes))])


class _Done(Exception):
    """The exception that ends the training of ``lr_find``."""


class _LossRecorder(Callback):
    """A callback that records the smoothed loss, and ends the test when it diverges or all steps are done."""

    def __init__(self, steps: int) -> None:
        self.losses: list[float] = []
        self.advance: Callable[[int], None] = lambda n: None  # of a progress bar
        self._steps, self._average = steps, 0.0

    def on_step(self, trainer: Trainer) -> None:
        """Records the loss."""
        self._average = 0.9 * self._average + 0.1 * float(trainer.last_loss)
        smoothed = self._average / (1 - 0.9 ** (len(self.losses) + 1))
        if not math.isfinite(smoothed) or (self.losses and smoothed > 4 * min(self.losses)):
            raise _Done
        self.losses.append(smoothed)
        self.advance(1)
        if len(self.losses) == self._steps:
            raise _Done
