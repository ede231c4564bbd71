"""Display of a run's progress: a bar on a terminal, curves in a notebook, else a line per epoch."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from cnnzoo.fields import is_number
from cnnzoo.html_parts import notebook_html, paragraph
from cnnzoo.progress_bar import start_bar
from cnnzoo.streams import display_stream
from cnnzoo.train.callbacks import Callback
from cnnzoo.train.metrics import THROUGHPUT

if TYPE_CHECKING:
    from cnnzoo.train.run import Run
    from cnnzoo.train.trainer import Trainer


def epoch_line(name: str, epochs: int, entry: Mapping[str, Any]) -> str:
    """Returns one epoch as one line of text.

    Args:
        name: Name of the network.
        epochs: Number of epochs of the run.
        entry: The epoch's entry of the history.
    """
    known = ("epoch", "step", "lr", "loss", "train_acc", *THROUGHPUT)
    results = [
        f"{key.replace('_', ' ')} {value:.3f}"
        for key, value in entry.items()
        if key not in known and not key.startswith("test_acc_") and is_number(value)
    ]
    return (
        f"{name} epoch {entry['epoch']}/{epochs}: loss {entry['loss']:.3f}, "
        + ", ".join([f"train acc {entry['train_acc']:.3f}", *results])
        + f", {entry['examples_per_sec']:,.1f} examples/sec"
        + (f" ({100 * entry['mfu']:.0f} % of peak)" if "mfu" in entry else "")
    )


class ProgressDisplay(Callback):
    """A callback that shows progress on standard error, and in a notebook draws the learning curves.

    What cannot be shown does not end the run: a closed terminal, a broken pipe, curves that cannot be drawn.
    """

    def __init__(self) -> None:
        self._stream = display_stream()
        self._bar: Any = None
        self._output: Any = None  # the curves in the notebook cell

    def on_start(self, trainer: Trainer) -> None:
        """Opens the bar, on a terminal."""
        self._stream = display_stream()
        if self._stream.isatty():
            self._bar = start_bar(trainer.name, trainer.total_steps, trainer.step, unit="steps", transient=True)

    def on_step(self, trainer: Trainer) -> None:
        """Moves the bar."""
        if self._bar is not None:
            self._bar.update(self._bar.task_ids[0], completed=trainer.step)

    def on_epoch(self, trainer: Trainer, entry: Mapping[str, Any]) -> None:
        """Prints the epoch's line, above the bar if there is one; draws the curves again, in a notebook."""
        line = epoch_line(trainer.name, trainer.config.epochs, entry)
        if _in_notebook():
            with suppress(Exception):  # of IPython
                self._show_curves(trainer, line)
                return
        if self._bar is not None:
            self._bar.console.print(line, highlight=False, markup=False)
        else:
            print(line, file=self._stream, flush=True)

    def _show_curves(self, trainer: Trainer, line: str) -> None:
        from IPython.display import HTML, display

        from cnnzoo.measure.history_html import history_html

        content = HTML(notebook_html(paragraph(line), history_html(trainer.history)))
        if self._output is None:
            self._output = display(content, display_id=True)
        else:
            self._output.update(content)

    def on_end(self, trainer: Trainer, run: Run | None) -> None:
        """Closes the bar."""
        if self._bar is not None:
            self._bar.stop()


def _in_notebook() -> bool:
    """Returns whether the interpreter is a Jupyter kernel, which can display figures."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return hasattr(shell, "kernel")
