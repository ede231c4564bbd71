"""Callbacks: objects that are called at the events of a run."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from os import PathLike
from typing import TYPE_CHECKING, Any

from cnnzoo.errors import InputError

if TYPE_CHECKING:
    from cnnzoo.train.evaluation import Evaluation
    from cnnzoo.train.run import Run
    from cnnzoo.train.trainer import Trainer


class Callback:
    """The hooks of a callback; each does nothing.

    An object need not derive from this class: any object with some of these methods is a callback.
    """

    def on_start(self, trainer: Trainer) -> None:
        """Called when training starts or continues, before its first step."""

    def on_step(self, trainer: Trainer) -> None:
        """Called after each step; ``trainer.step`` counts it."""

    def on_eval(self, trainer: Trainer, evaluation: Evaluation) -> None:
        """Called after each evaluation."""

    def on_epoch(self, trainer: Trainer, entry: Mapping[str, Any]) -> None:
        """Called after each epoch with its entry of the history."""

    def on_end(self, trainer: Trainer, run: Run | None) -> None:
        """Called when training ends or is interrupted; ``run`` is None after an error."""


def run_callbacks(callbacks: Iterable[object], hook: str, trainer: Trainer, *args: object) -> None:
    """Calls a hook of each callback that has it."""
    for callback in callbacks:
        if (method := getattr(callback, hook, None)) is not None:
            method(trainer, *args)


class TensorBoard(Callback):
    """A callback that writes each epoch's metrics for TensorBoard, which must be installed.

    Args:
        folder: The log directory, for ``tensorboard --logdir``.

    Raises:
        InputError: If tensorboard is not installed.
    """

    def __init__(self, folder: str | PathLike[str]) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            raise InputError("tensorboard is not installed; pip install tensorboard") from None
        self._writer = SummaryWriter(str(folder))

    def on_epoch(self, trainer: Trainer, entry: Mapping[str, Any]) -> None:
        """Writes the epoch's metrics under their names; lists, such as of recalls, under ``NAME/CLASS``."""
        for name, value in entry.items():
            values = value if isinstance(value, list) else [value]
            tags = [f"{name}/{label}" for label in trainer.label_names] if isinstance(value, list) else [name]
            for tag, number in zip(tags, values, strict=False):
                if name not in ("epoch", "step") and number is not None:
                    self._writer.add_scalar(tag, number, entry["step"])

    def on_end(self, trainer: Trainer, run: Run | None) -> None:
        """Closes the event file."""
        self._writer.close()
