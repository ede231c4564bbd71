"""The verbs of the library: each resolves a name, a Spec or a path, and calls the subpackage that does the work."""

from cnnzoo.api.comparing import compare
from cnnzoo.api.counting import bench, count, diff, draw, summary, write_page
from cnnzoo.api.inference import evaluate, export, load_test_data, predict, transforms
from cnnzoo.api.sources import create, is_saved, list_models, load_network, resolve, split_knobs
from cnnzoo.api.training import Trainer, recipe, report, seed_sweep

__all__ = [
    "Trainer",
    "bench",
    "compare",
    "count",
    "create",
    "diff",
    "draw",
    "evaluate",
    "export",
    "is_saved",
    "list_models",
    "load_network",
    "load_test_data",
    "predict",
    "recipe",
    "report",
    "resolve",
    "seed_sweep",
    "split_knobs",
    "summary",
    "transforms",
    "write_page",
]
