"""Counts, reports and comparisons of any ``nn.Module``; nothing here knows the zoo."""

from cnnzoo.measure.bench import Bench, bench
from cnnzoo.measure.comparison import Comparison
from cnnzoo.measure.counter import count
from cnnzoo.measure.drawing import draw
from cnnzoo.measure.landscape import Point, draw_landscape
from cnnzoo.measure.report import Params, Report, Row

__all__ = ["Bench", "Comparison", "Params", "Point", "Report", "Row", "bench", "count", "draw", "draw_landscape"]
