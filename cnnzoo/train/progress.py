"""What a person sees of a run: a live bar on a terminal, curves that grow in a notebook, else a line per epoch."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from os import PathLike
from typing import TYPE_CHECKING, Any

from cnnzoo.errors import InputError
from cnnzoo.train.run import curves

if TYPE_CHECKING:
    from cnnzoo.train.run import Run
    from cnnzoo.train.trainer import Trainer


def epoch_line(name: str, epochs: int, entry: Mapping[str, Any]) -> str:
    """One epoch in one line."""
    tested = [f"{key.removesuffix('_acc')} acc {entry[key]:.3f}" for key in ("val_acc", "test_acc") if key in entry]
    return (
        f"{name} epoch {entry['epoch']}/{epochs}: loss {entry['loss']:.3f}, "
        + ", ".join([f"train acc {entry['train_acc']:.3f}", *tested])
        + f", {entry['examples_per_sec']:,.1f} examples/sec"
    )


class ProgressDisplay:
    """A callback that shows progress: on standard error, or in the notebook that the run was started in."""

    def __init__(self) -> None:
        self._bar: Any = None
        self._cell: Any = None

    def on_start(self, trainer: Trainer) -> None:
        """Opens the bar, on a terminal."""
        if not sys.stderr.isatty():
            return
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("steps"),
            TimeRemainingColumn(),
            console=Console(stderr=True),
            transient=True,
        )
        self._task = self._bar.add_task(trainer.name, total=trainer.total_steps, completed=trainer.step)
        self._bar.start()

    def on_step(self, trainer: Trainer) -> None:
        """Moves the bar."""
        if self._bar is not None:
            self._bar.update(self._task, completed=trainer.step)

    def on_epoch(self, trainer: Trainer, entry: Mapping[str, Any]) -> None:
        """Prints the epoch's line, above the bar where there is one; draws the curves anew in a notebook."""
        line = epoch_line(trainer.name, trainer.config.epochs, entry)
        if self._bar is not None:
            self._bar.console.print(line, highlight=False)
        else:
            print(line, file=sys.stderr, flush=True)
        if _in_notebook():
            from IPython.display import display

            figure = curves(trainer.history)
            if self._cell is None:
                self._cell = display(figure, display_id=True)
            else:
                self._cell.update(figure)

    def on_end(self, trainer: Trainer, run: Run | None) -> None:
        """Closes the bar."""
        if self._bar is not None:
            self._bar.stop()


def _in_notebook() -> bool:
    """Whether this runs in a kernel that can show pictures."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return hasattr(shell, "kernel")


class TensorBoard:
    """A callback that writes each epoch's figures for TensorBoard, which must be installed.

    Args:
        folder: Where to; ``tensorboard --logdir`` takes it.

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
        """Writes the epoch's figures under their names."""
        for name, value in entry.items():
            if name not in ("epoch", "step"):
                self._writer.add_scalar(name, value, entry["step"])

    def on_end(self, trainer: Trainer, run: Run | None) -> None:
        """Closes the file."""
        self._writer.close()
