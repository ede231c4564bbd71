"""The verbs of the library: each resolves a name, a Spec or a path, and calls the subpackage that does the work."""

from cnnzoo.api.comparing import compare
from cnnzoo.api.counting import bench, count, diff, draw, summary, write_page
from cnnzoo.api.inference import evaluate, export, load_test_data, predict, transforms
from cnnzoo.api.sources import create, list_models, load_network, resolve
from cnnzoo.api.training import Trainer, report, seed_sweep

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
    "list_models",
    "load_network",
    "load_test_data",
    "predict",
    "report",
    "resolve",
    "seed_sweep",
    "summary",
    "transforms",
    "write_page",
]
