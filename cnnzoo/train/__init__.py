"""Training of any ``nn.Module`` on images; nothing here knows the zoo."""

from cnnzoo.train.config import TrainConfig
from cnnzoo.train.progress import TensorBoard
from cnnzoo.train.evaluation import Evaluation, evaluate
from cnnzoo.train.run_dir import record
from cnnzoo.html_report.page import report
from cnnzoo.train.recipes import list_recipes, recipe
from cnnzoo.train.run import Run, interval_95
from cnnzoo.train.sweep import RateSearch, Repeat, lr_find, repeat
from cnnzoo.train.trainer import Trainer, require_kind

__all__ = [
    "Evaluation",
    "RateSearch",
    "Repeat",
    "Run",
    "TensorBoard",
    "TrainConfig",
    "Trainer",
    "evaluate",
    "interval_95",
    "list_recipes",
    "lr_find",
    "recipe",
    "record",
    "repeat",
    "report",
    "require_kind",
]
