"""Learning-rate schedules: each a function of the step alone, so that a resumed run needs no state for it."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cnnzoo.train.config import TrainConfig

SCHEDULES = ("constant", "cosine", "one_cycle", "step")

_ONE_CYCLE_RISE = 0.3  # fraction of a one-cycle run in which the learning rate rises if warmup is 0


def learning_rate(config: TrainConfig, step: int, steps_per_epoch: int) -> float:
    """Returns the learning rate of a step, counted from 0."""
    total_steps, warmup_steps = config.epochs * steps_per_epoch, config.warmup * steps_per_epoch
    if config.schedule == "one_cycle" and not config.warmup:
        warmup_steps = _ONE_CYCLE_RISE * total_steps
    if step + 1 < warmup_steps:
        return config.lr * (step + 1) / warmup_steps
    if config.schedule == "constant":
        return config.lr
    if config.schedule == "step":
        return config.lr * config.gamma ** sum(step >= epoch * steps_per_epoch for epoch in config.milestones)
    progress = (step + 1 - warmup_steps) / max(total_steps + 1 - warmup_steps, 1)
    return config.lr * (1 - progress if config.schedule == "one_cycle" else 0.5 * (1 + math.cos(math.pi * progress)))
