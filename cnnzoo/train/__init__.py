"""Training of any ``nn.Module`` on images; nothing here knows the zoo."""

from cnnzoo.train.config import TrainConfig
from cnnzoo.train.evaluation import Evaluation, evaluate
from cnnzoo.train.progress import TensorBoard
from cnnzoo.train.recipes import list_recipes, recipe
from cnnzoo.train.run import Run, interval_95
from cnnzoo.train.run_dir import record
from cnnzoo.train.sweep import LRFinderResult, SeedSweep, lr_find, seed_sweep
from cnnzoo.train.trainer import Trainer, require_type

__all__ = [
    "Evaluation",
    "LRFinderResult",
    "Run",
    "SeedSweep",
    "TensorBoard",
    "TrainConfig",
    "Trainer",
    "evaluate",
    "interval_95",
    "list_recipes",
    "lr_find",
    "recipe",
    "record",
    "require_type",
    "seed_sweep",
]
