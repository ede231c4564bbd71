"""The verbs of the library: each resolves a name, a Spec or a path, and calls the subpackage that does the work.

What needs torch is imported on first use.
"""

from typing import TYPE_CHECKING

from cnnzoo.lazy import lazy_names

if TYPE_CHECKING:
    from cnnzoo.api.catalog import catalog
    from cnnzoo.api.comparing import compare
    from cnnzoo.api.counting import bench, count, diff, draw, summary, write_page
    from cnnzoo.api.explaining import explain, mistakes, top_patches
    from cnnzoo.api.exporting import export, quantize
    from cnnzoo.api.inference import evaluate, load_test_data, predict, transforms
    from cnnzoo.api.page import LivePage, live
    from cnnzoo.api.sources import create, load_network
    from cnnzoo.api.specs import is_saved, list_models, resolve, split_knobs
    from cnnzoo.api.training import Trainer, recipe, report, seed_sweep

__getattr__ = lazy_names(
    __name__,
    {
        "cnnzoo.api.catalog": ("catalog",),
        "cnnzoo.api.comparing": ("compare",),
        "cnnzoo.api.counting": ("bench", "count", "diff", "draw", "summary", "write_page"),
        "cnnzoo.api.explaining": ("explain", "mistakes", "top_patches"),
        "cnnzoo.api.exporting": ("export", "quantize"),
        "cnnzoo.api.inference": ("evaluate", "load_test_data", "predict", "transforms"),
        "cnnzoo.api.page": ("LivePage", "live"),
        "cnnzoo.api.sources": ("create", "load_network"),
        "cnnzoo.api.specs": ("is_saved", "list_models", "resolve", "split_knobs"),
        "cnnzoo.api.training": ("Trainer", "recipe", "report", "seed_sweep"),
    },
)

__all__ = [
    "LivePage",
    "Trainer",
    "bench",
    "catalog",
    "compare",
    "count",
    "create",
    "diff",
    "draw",
    "evaluate",
    "explain",
    "export",
    "is_saved",
    "list_models",
    "live",
    "load_network",
    "load_test_data",
    "mistakes",
    "predict",
    "quantize",
    "recipe",
    "report",
    "resolve",
    "seed_sweep",
    "split_knobs",
    "summary",
    "top_patches",
    "transforms",
    "write_page",
]
