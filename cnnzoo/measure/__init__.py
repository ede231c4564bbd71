"""Counts, comparisons, timings and pictures of any ``nn.Module``; independent of the zoo."""

from cnnzoo.measure.accuracy_plot import Point, plot_accuracy
from cnnzoo.measure.bench import Bench, bench
from cnnzoo.measure.comparison import Comparison
from cnnzoo.measure.counter import count
from cnnzoo.measure.diagram import draw
from cnnzoo.measure.report import CountReport, LayerCount, Params, UnknownOp
from cnnzoo.measure.rules import register_rule

__all__ = [
    "Bench",
    "Comparison",
    "CountReport",
    "LayerCount",
    "Params",
    "Point",
    "UnknownOp",
    "bench",
    "count",
    "draw",
    "plot_accuracy",
    "register_rule",
]
