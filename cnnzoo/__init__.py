"""cnnzoo: the classic convolutional networks as values, counted, compared, trained and shared.

    import cnnzoo

    model = cnnzoo.create("alexnet", num_classes=10)
    print(cnnzoo.count("alexnet"))
    print(cnnzoo.compare("alexnet", "lenet"))

Names are imported on first use: ``import cnnzoo`` does not import torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from cnnzoo.lazy import lazy_names
from cnnzoo.store import Store, provide_store
from cnnzoo.version import __version__

if TYPE_CHECKING:
    from cnnzoo import blocks, data, errors, html_report, initializers, measure, train, weights
    from cnnzoo.api import (
        Trainer,
        bench,
        compare,
        count,
        create,
        diff,
        draw,
        evaluate,
        explain,
        export,
        list_models,
        live,
        mistakes,
        predict,
        quantize,
        recipe,
        report,
        seed_sweep,
        summary,
        top_patches,
        transforms,
    )
    from cnnzoo.backbone import backbone, features
    from cnnzoo.data import ImageData, StreamData, list_data, load_data, register_augmentation, register_data
    from cnnzoo.edits import edit, insert, remove
    from cnnzoo.errors import CnnzooError
    from cnnzoo.explain.registry import register_explanation
    from cnnzoo.measure import Comparison, CountReport, register_count_rule
    from cnnzoo.metadata import Metadata
    from cnnzoo.network import CNN
    from cnnzoo.preprocessing import Preprocessing
    from cnnzoo.published import Deviation, Published
    from cnnzoo.registry import get_spec, register
    from cnnzoo.spec import Spec
    from cnnzoo.timeline import timeline
    from cnnzoo.train import (
        Run,
        TrainConfig,
        list_recipes,
        lr_find,
        register_callback,
        register_loss,
        register_metric,
        register_optimizer,
        register_schedule,
    )
    from cnnzoo.verify import verify
    from cnnzoo.weights import list_pretrained, load, pull, push, save

_SUBPACKAGES = ("blocks", "data", "errors", "html_report", "initializers", "measure", "train", "weights")
_EXPORTS = {
    "cnnzoo.api": (
        "Trainer",
        "bench",
        "compare",
        "count",
        "create",
        "diff",
        "draw",
        "evaluate",
        "explain",
        "export",
        "list_models",
        "live",
        "mistakes",
        "predict",
        "quantize",
        "recipe",
        "report",
        "seed_sweep",
        "summary",
        "top_patches",
        "transforms",
    ),
    "cnnzoo.backbone": ("backbone", "features"),
    "cnnzoo.data": ("ImageData", "StreamData", "list_data", "load_data", "register_augmentation", "register_data"),
    "cnnzoo.edits": ("edit", "insert", "remove"),
    "cnnzoo.errors": ("CnnzooError",),
    "cnnzoo.explain.registry": ("register_explanation",),
    "cnnzoo.measure": ("Comparison", "CountReport", "register_count_rule"),
    "cnnzoo.metadata": ("Metadata",),
    "cnnzoo.network": ("CNN",),
    "cnnzoo.preprocessing": ("Preprocessing",),
    "cnnzoo.published": ("Deviation", "Published"),
    "cnnzoo.registry": ("get_spec", "register"),
    "cnnzoo.spec": ("Spec",),
    "cnnzoo.timeline": ("timeline",),
    "cnnzoo.train": (
        "Run",
        "TrainConfig",
        "list_recipes",
        "lr_find",
        "register_callback",
        "register_loss",
        "register_metric",
        "register_optimizer",
        "register_schedule",
    ),
    "cnnzoo.verify": ("verify",),
    "cnnzoo.weights": ("list_pretrained", "load", "pull", "push", "save"),
}

__all__ = [
    "CNN",
    "CnnzooError",
    "Comparison",
    "CountReport",
    "Deviation",
    "ImageData",
    "Metadata",
    "Preprocessing",
    "Published",
    "Run",
    "Spec",
    "StreamData",
    "TrainConfig",
    "Trainer",
    "__version__",
    "backbone",
    "bench",
    "blocks",
    "compare",
    "count",
    "create",
    "data",
    "diff",
    "draw",
    "edit",
    "errors",
    "evaluate",
    "explain",
    "export",
    "features",
    "get_spec",
    "html_report",
    "initializers",
    "insert",
    "list_data",
    "list_models",
    "list_pretrained",
    "list_recipes",
    "live",
    "load",
    "load_data",
    "lr_find",
    "measure",
    "mistakes",
    "predict",
    "pull",
    "push",
    "quantize",
    "recipe",
    "register",
    "register_augmentation",
    "register_callback",
    "register_count_rule",
    "register_data",
    "register_explanation",
    "register_loss",
    "register_metric",
    "register_optimizer",
    "register_schedule",
    "remove",
    "report",
    "save",
    "seed_sweep",
    "summary",
    "timeline",
    "top_patches",
    "train",
    "transforms",
    "verify",
    "weights",
]


_get = lazy_names(__name__, _EXPORTS)


def __getattr__(name: str) -> Any:
    return import_module(f"cnnzoo.{name}") if name in _SUBPACKAGES else _get(name)


def _make_store() -> Store:
    from cnnzoo import weights

    return Store(weights.save, weights.load_bare, weights.push)


provide_store(_make_store)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
