"""Training of any ``nn.Module`` on images; nothing here knows the zoo."""

from cnnzoo.train.config import TrainConfig
from cnnzoo.train.display import TensorBoard
from cnnzoo.train.evaluation import Evaluation, evaluate
from cnnzoo.train.folder import record
from cnnzoo.train.page import report
from cnnzoo.train.recipes import list_recipes, recipe
from cnnzoo.train.run import Run, interval_95
from cnnzoo.train.studies import RateSearch, Repeat, lr_find, repeat
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
