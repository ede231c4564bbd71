"""cnnzoo: the classic convolutional networks as values, counted, compared, trained and shared.

    import cnnzoo

    model = cnnzoo.create("alexnet", num_classes=10)
    print(cnnzoo.count("alexnet"))
    print(cnnzoo.compare("alexnet", "lenet"))

Names are loaded when they are first used: ``import cnnzoo`` does not import torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from cnnzoo.version import __version__

if TYPE_CHECKING:
    from cnnzoo import blocks, weights
    from cnnzoo.api import (
        Trainer,
        bench,
        compare,
        count,
        create,
        diff,
        draw,
        evaluate,
        export,
        list_models,
        predict,
        repeat,
        report,
        summary,
    )
    from cnnzoo.verify import timeline, verify
    from cnnzoo.data import ImageData, StreamData, list_data, load_data
    from cnnzoo.errors import CnnzooError
    from cnnzoo.measure import Comparison, Report
    from cnnzoo.network import CNN, features
    from cnnzoo.prediction import transforms
    from cnnzoo.published import Deviation, Published
    from cnnzoo.registry import get_spec, register
    from cnnzoo.spec import Spec, edit, insert, remove
    from cnnzoo.train import Run, TrainConfig, list_recipes, lr_find, recipe
    from cnnzoo.weights import load, pull, push, save

_ROOMS = {
    "cnnzoo.api": (
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
        "predict",
        "repeat",
        "report",
        "summary",
    ),
    "cnnzoo.verify": ("timeline", "verify"),
    "cnnzoo.data": ("ImageData", "StreamData", "list_data", "load_data"),
    "cnnzoo.errors": ("CnnzooError",),
    "cnnzoo.measure": ("Comparison", "Report"),
    "cnnzoo.network": ("CNN", "features"),
    "cnnzoo.published": ("Deviation", "Published"),
    "cnnzoo.prediction": ("transforms",),
    "cnnzoo.registry": ("get_spec", "register"),
    "cnnzoo.spec": ("Spec", "edit", "insert", "remove"),
    "cnnzoo.train": ("Run", "TrainConfig", "list_recipes", "lr_find", "recipe"),
    "cnnzoo.weights": ("load", "pull", "push", "save"),
}
_HOMES = {name: room for room, names in _ROOMS.items() for name in names}

__all__ = [
    "CNN",
    "CnnzooError",
    "Comparison",
    "Deviation",
    "ImageData",
    "Published",
    "Report",
    "Run",
    "Spec",
    "StreamData",
    "TrainConfig",
    "Trainer",
    "__version__",
    "bench",
    "blocks",
    "compare",
    "count",
    "create",
    "diff",
    "draw",
    "edit",
    "evaluate",
    "export",
    "features",
    "get_spec",
    "insert",
    "list_data",
    "list_models",
    "list_recipes",
    "load",
    "load_data",
    "lr_find",
    "predict",
    "pull",
    "push",
    "recipe",
    "register",
    "remove",
    "repeat",
    "report",
    "save",
    "summary",
    "timeline",
    "transforms",
    "verify",
    "weights",
]


def __getattr__(name: str) -> Any:
    if name in ("blocks", "weights"):
        return import_module(f"cnnzoo.{name}")
    if name not in _HOMES:
        raise AttributeError(f"module 'cnnzoo' has no attribute {name!r}")
    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
