"""Counts, reports and comparisons of any ``nn.Module``; nothing here knows the zoo."""

from cnnzoo.measure.bench import Bench, bench
from cnnzoo.measure.comparison import Comparison
from cnnzoo.measure.counter import count
from cnnzoo.measure.diagram import draw
from cnnzoo.measure.accuracy_plot import Point, draw_landscape
from cnnzoo.measure.report import Params, Report, Row

__all__ = ["Bench", "Comparison", "Params", "Point", "Report", "Row", "bench", "count", "draw", "draw_landscape"]
