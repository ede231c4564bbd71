"""Training of any ``nn.Module`` on images; nothing here imports the zoo."""

from cnnzoo.train.callbacks import TensorBoard
from cnnzoo.train.checks import require_matching, require_type
from cnnzoo.train.config import TrainConfig
from cnnzoo.train.evaluation import Evaluation
from cnnzoo.train.inference import evaluate
from cnnzoo.train.lr_finder import LRFinderResult, lr_find
from cnnzoo.train.metrics import interval_95
from cnnzoo.train.recipes import RecipeChoice, RecipeRecord, choose_recipe, list_recipes, recipe
from cnnzoo.train.run import Run
from cnnzoo.train.run_dir import RunDir, record
from cnnzoo.train.run_text import describe_setup
from cnnzoo.train.sweep import SeedSweep, seed_sweep
from cnnzoo.train.trainer import Trainer

__all__ = [
    "Evaluation",
    "LRFinderResult",
    "RecipeChoice",
    "RecipeRecord",
    "Run",
    "RunDir",
    "SeedSweep",
    "TensorBoard",
    "TrainConfig",
    "Trainer",
    "choose_recipe",
    "describe_setup",
    "evaluate",
    "interval_95",
    "list_recipes",
    "lr_find",
    "recipe",
    "record",
    "require_matching",
    "require_type",
    "seed_sweep",
]
