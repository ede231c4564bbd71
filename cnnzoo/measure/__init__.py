"""Counts, comparisons, timings and pictures of any ``nn.Module``; independent of the zoo.

What needs torch is imported on first use: reports and tables do not.
"""

from typing import TYPE_CHECKING

from cnnzoo.lazy import lazy_names
from cnnzoo.measure.accuracy_plot import Point, plot_accuracy
from cnnzoo.measure.comparison import Comparison
from cnnzoo.measure.diagram import Diagram, draw
from cnnzoo.measure.memory import TrainingMemory
from cnnzoo.measure.report import CountReport, LayerCount, Params, UnknownOp

if TYPE_CHECKING:
    from cnnzoo.measure.bench import Bench, bench
    from cnnzoo.measure.counter import count
    from cnnzoo.measure.rules import register_count_rule

__getattr__ = lazy_names(
    __name__,
    {
        "cnnzoo.measure.bench": ("Bench", "bench"),
        "cnnzoo.measure.counter": ("count",),
        "cnnzoo.measure.rules": ("register_count_rule",),
    },
)

__all__ = [
    "Bench",
    "Comparison",
    "CountReport",
    "Diagram",
    "LayerCount",
    "Params",
    "Point",
    "TrainingMemory",
    "UnknownOp",
    "bench",
    "count",
    "draw",
    "plot_accuracy",
    "register_count_rule",
]
