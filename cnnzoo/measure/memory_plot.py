"""A picture of the memory of a training step: what exists at each moment."""

from __future__ import annotations

from itertools import pairwise
from os import PathLike
from typing import TYPE_CHECKING

from cnnzoo.measure.figures import COLORS, FAINT, INK, despine, literal, new_figure, save_figure, svg_of
from cnnzoo.measure.memory import TrainingMemory
from cnnzoo.measure.tables import human

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_PASSES = ("forward", "backward", "update")


def plot_memory(memory: TrainingMemory, path: str | PathLike[str], available: int | None = None) -> None:
    """Draws what exists at each moment of a training step.

    Args:
        memory: The memory of the step.
        path: The file; its suffix is the format.
        available: Bytes of memory of the device, drawn as a line.

    Raises:
        FileError: If the file cannot be written.
    """
    save_figure(_memory_figure(memory, available), path)


def memory_svg(memory: TrainingMemory, available: int | None = None) -> str:
    """Returns the picture of ``plot_memory`` as SVG text for an HTML page."""
    return svg_of(_memory_figure(memory, available))


def _memory_figure(memory: TrainingMemory, available: int | None) -> Figure:
    from matplotlib.ticker import FuncFormatter

    moments, n = memory.moments, len(memory.moments)
    terms = {
        "parameters": [memory.parameters] * n,
        "optimizer": [memory.optimizer] * n,
        "gradients": [moment.gradients for moment in moments],
        "activations": [moment.activations for moment in moments],
        "temporaries": [moment.temporaries for moment in moments],
    }
    terms = {term: values for term, values in terms.items() if any(values)}
    figure = new_figure(10, 5)
    axis = figure.add_subplot()
    axis.stackplot(range(n), *terms.values(), labels=list(terms), colors=COLORS, step="mid", alpha=0.8)
    peak = moments.index(memory.peak)
    top = max(memory.total, available or 0)
    axis.annotate(
        literal(f"{human(memory.total)}B\n{memory.peak.name}"),
        (peak, memory.total),
        xytext=(min(max(peak, 0.12 * n), 0.88 * n), memory.total + 0.06 * top),
        ha="center",
        fontsize=9,
        color=INK,
        arrowprops={"arrowstyle": "-", "color": INK, "linewidth": 0.8},
    )
    if available is not None:
        axis.axhline(available, color=INK, linewidth=1, linestyle="--")
        axis.text(0, available, f" {human(available)}B", va="bottom", fontsize=9, color=INK)
    ends = [max(i for i, m in enumerate(moments) if m.name.startswith(start)) for start in _PASSES]
    begins = [-0.5, *(end + 0.5 for end in ends)]
    for begin in begins[1:-1]:
        axis.axvline(begin, color=FAINT, linewidth=1)
    centers = [(a + b) / 2 for a, b in pairwise(begins)]
    axis.set_xticks(centers, _PASSES)
    axis.set_xlim(-0.5, n - 0.5)
    axis.set_ylim(0, 1.22 * top)
    axis.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{human(value)}B" if value else "0"))
    axis.set_title(literal(f"{memory.name}: memory of a training step ({memory.settings})"), fontsize=11, color=INK)
    handles, labels = axis.get_legend_handles_labels()
    figure.legend(handles[::-1], labels[::-1], loc="outside right upper", frameon=False, fontsize=9)
    despine(axis)
    axis.yaxis.grid(True, color=FAINT, linewidth=0.6)
    return figure
