"""Training of any ``nn.Module`` on images; nothing here imports the zoo."""

from cnnzoo.train.callbacks import CALLBACKS, Callback, TensorBoard, register_callback
from cnnzoo.train.checks import require_matching, require_type
from cnnzoo.train.config import TrainConfig
from cnnzoo.train.evaluation import Evaluation
from cnnzoo.train.inference import evaluate
from cnnzoo.train.losses import LOSSES, one_hot, register_loss
from cnnzoo.train.lr_finder import LRFinderResult, lr_find
from cnnzoo.train.metrics import METRICS, interval_95, register_metric
from cnnzoo.train.optim import OPTIMIZERS, register_optimizer
from cnnzoo.train.recipes import RecipeChoice, RecipeRecord, choose_recipe, list_recipes, recipe
from cnnzoo.train.records import record, record_files
from cnnzoo.train.run import Run
from cnnzoo.train.run_dir import RunDir
from cnnzoo.train.run_text import describe_setup
from cnnzoo.train.schedules import SCHEDULES, Progress, register_schedule
from cnnzoo.train.sweep import SeedSweep, seed_sweep
from cnnzoo.train.trainer import Trainer

__all__ = [
    "CALLBACKS",
    "LOSSES",
    "METRICS",
    "OPTIMIZERS",
    "SCHEDULES",
    "Callback",
    "Evaluation",
    "LRFinderResult",
    "Progress",
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
    "one_hot",
    "recipe",
    "record",
    "record_files",
    "register_callback",
    "register_loss",
    "register_metric",
    "register_optimizer",
    "register_schedule",
    "require_matching",
    "require_type",
    "seed_sweep",
]
