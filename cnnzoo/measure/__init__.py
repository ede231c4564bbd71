"""Counts, reports and comparisons of any ``nn.Module``; nothing here knows the zoo."""

from cnnzoo.measure.comparison import Comparison
from cnnzoo.measure.counter import count
from cnnzoo.measure.report import Params, Report, Row

__all__ = ["Comparison", "Params", "Report", "Row", "count"]
