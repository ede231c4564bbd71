"""Learning-rate schedules by name.

Each is a function of the step and the history alone, so that a resumed run needs no state for it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from cnnzoo.errors import InputError
from cnnzoo.fields import is_number
from cnnzoo.plugins import Registry

if TYPE_CHECKING:
    from cnnzoo.train.config import TrainConfig

_ONE_CYCLE_RISE = 0.3  # fraction of a one-cycle run in which the learning rate rises if warmup is 0
_PLATEAU_THRESHOLD = 1e-4  # relative change that is an improvement, as in torch's ReduceLROnPlateau


@dataclass(frozen=True)
class Progress:
    """How far a run is when a step begins.

    Attributes:
        step: Number of the step, counted from 0.
        steps_per_epoch: Number of steps of an epoch.
        history: One mapping per epoch that was completed before the step: ``loss``, ``train_acc``, ``val_acc``, ...
    """

    step: int
    steps_per_epoch: int
    history: Sequence[Mapping[str, Any]] = ()

    @property
    def epochs(self) -> float:
        """Number of epochs before the step, with the fraction of the current one."""
        return self.step / self.steps_per_epoch


ScheduleFunction = Callable[["TrainConfig", Progress], float]
Function = TypeVar("Function", bound=ScheduleFunction)


def _constant(config: TrainConfig, progress: Progress) -> float:
    return config.lr


def _step(config: TrainConfig, progress: Progress) -> float:
    return config.lr * config.gamma ** sum(
        progress.step >= epoch * progress.steps_per_epoch for epoch in config.milestones
    )


def _cosine(config: TrainConfig, progress: Progress) -> float:
    fraction = _fraction(config, progress, config.warmup * progress.steps_per_epoch)
    return config.lr * (0.5 * (1 + math.cos(math.pi * fraction)))


def _one_cycle(config: TrainConfig, progress: Progress) -> float:
    steps_per_epoch = progress.steps_per_epoch
    rise = config.warmup * steps_per_epoch or _ONE_CYCLE_RISE * (config.epochs * steps_per_epoch)
    if progress.step + 1 < rise:
        return config.lr * (progress.step + 1) / rise
    return config.lr * (1 - _fraction(config, progress, rise))


def _fraction(config: TrainConfig, progress: Progress, warmup_steps: float) -> float:
    """Returns which fraction of the steps after the warmup is done with the next step."""
    total_steps = config.epochs * progress.steps_per_epoch
    return (progress.step + 1 - warmup_steps) / max(total_steps + 1 - warmup_steps, 1)


def _plateau(config: TrainConfig, progress: Progress) -> float:
    """Returns what torch's ReduceLROnPlateau sets after it has seen the metric of each epoch of the history."""
    by_accuracy = any("val_acc" in entry for entry in progress.history)
    best, bad_epochs, reductions = 0.0 if by_accuracy else math.inf, 0, 0
    for entry in progress.history:
        if by_accuracy:
            value, is_better = entry["val_acc"], entry["val_acc"] > best * (1 + _PLATEAU_THRESHOLD)
        else:
            value, is_better = entry["loss"], entry["loss"] < best * (1 - _PLATEAU_THRESHOLD)
        best, bad_epochs = (value, 0) if is_better else (best, bad_epochs + 1)
        if bad_epochs > config.plateau_patience:
            reductions, bad_epochs = reductions + 1, 0
    return config.lr * config.gamma**reductions


SCHEDULES: Registry[ScheduleFunction] = Registry(
    "schedule",
    {"constant": _constant, "cosine": _cosine, "one_cycle": _one_cycle, "plateau": _plateau, "step": _step},
)


def register_schedule(name: str) -> Callable[[Function], Function]:
    """Registers a learning-rate schedule, for ``schedule=`` of a TrainConfig.

    The function takes the config and the ``Progress`` of the run, and returns the learning rate of the step. It must
    depend on these alone, so that a run resumes exactly. It is called after the warmup of the config.

        @register_schedule("inverse_sqrt")
        def inverse_sqrt(config, progress):
            return config.lr / (1 + progress.epochs) ** 0.5

    Args:
        name: The name, an identifier.

    Raises:
        InputError: If the name is not an identifier, or belongs to another schedule.
    """

    def register(function: Function) -> Function:
        SCHEDULES.register(name, function, str(function.__module__))
        return function

    return register


def learning_rate(
    config: TrainConfig,
    step: int,
    steps_per_epoch: int,
    history: Sequence[Mapping[str, Any]] = (),
    schedule: ScheduleFunction | None = None,
) -> float:
    """Returns the learning rate of a step.

    Args:
        config: The settings.
        step: Number of the step, counted from 0.
        steps_per_epoch: Number of steps of an epoch.
        history: One mapping per epoch; those after the step are ignored.
        schedule: The schedule; None: the registered one that the config names.

    Raises:
        InputError: If the schedule does not return a number of at least 0.
    """
    warmup_steps = config.warmup * steps_per_epoch
    if step + 1 < warmup_steps:
        return config.lr * (step + 1) / warmup_steps
    progress = Progress(step, steps_per_epoch, history[: step // steps_per_epoch])
    function = SCHEDULES[config.schedule] if schedule is None else schedule
    lr = function(config, progress)
    if not is_number(lr) or lr < 0:
        name = config.schedule if schedule is None else getattr(schedule, "__name__", type(schedule).__name__)
        raise InputError(f"schedule {name!r} must return a number of at least 0, not {lr!r} (step {step})")
    return lr
