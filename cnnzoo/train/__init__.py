"""Training of any ``nn.Module`` on images held as tensors; nothing here knows the zoo."""

from cnnzoo.train.config import TrainConfig, list_recipes, recipe
from cnnzoo.train.evaluation import Evaluation, evaluate
from cnnzoo.train.run import Run
from cnnzoo.train.trainer import Trainer, require_kind

__all__ = [
    "Evaluation",
    "Run",
    "TrainConfig",
    "Trainer",
    "evaluate",
    "list_recipes",
    "recipe",
    "require_kind",
]
