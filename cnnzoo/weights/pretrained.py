"""The sources of pretrained weights: those that ship with cnnzoo, and torchvision's.

What needs torch is imported by the functions, so that names of models and sources are listed without it.
"""

from __future__ import annotations

import math
from functools import partial
from typing import TYPE_CHECKING

from cnnzoo.registry import get_entry
from cnnzoo.spec import Spec
from cnnzoo.weights.shipped_files import shipped_file
from cnnzoo.weights.tags import SHIPPED, PretrainedWeights, register_weights

if TYPE_CHECKING:
    from cnnzoo.network import CNN


@register_weights
def shipped(model: str) -> list[PretrainedWeights]:
    """Returns the weights of a model that ship with cnnzoo."""
    if not shipped_file(model).is_file():
        return []
    from cnnzoo.serialization import METADATA_KEY, read_header

    provenance = read_header(shipped_file(model))[1][METADATA_KEY]["provenance"]
    return [
        PretrainedWeights(
            model,
            SHIPPED,
            f"trained by cnnzoo on {provenance['data']}",
            _load_shipped,
            metrics={"top1": 100 * provenance["test_acc"]},
            license="apache-2.0",
        )
    ]


def _load_shipped(spec: Spec, seed: int | None) -> CNN:
    from cnnzoo.weights.files import read_model

    return read_model(shipped_file(spec.name))


@register_weights
def torchvision(model: str) -> list[PretrainedWeights]:
    """Returns the weights that torchvision offers for the twin of a model."""
    twin = get_entry(model).twin
    if twin is None:
        return []
    from torchvision.models import get_model_weights

    found = []
    for weights in get_model_weights(twin.name):
        ((data, published),) = weights.meta["_metrics"].items()
        metrics = {name: published[key] for name, key in (("top1", "acc@1"), ("top5", "acc@5"))}
        found.append(
            PretrainedWeights(
                model,
                f"torchvision.{weights.name}",
                f"trained on {data}" if weights.meta["categories"] else "features only, without a classifier",
                partial(_load_torchvision, weights.name),
                metrics={name: value for name, value in metrics.items() if math.isfinite(value)},
                url=weights.url,
            )
        )
    return found


def _load_torchvision(weights: str, spec: Spec, seed: int | None) -> CNN:
    from cnnzoo.network import build_network
    from cnnzoo.weights.torchvision import fetch_torchvision

    model = build_network(spec, seed)
    fetch_torchvision(model, weights)
    return model
