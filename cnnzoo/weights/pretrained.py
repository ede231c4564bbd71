"""The sources of pretrained weights: those that ship with cnnzoo, torchvision's, and timm's.

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


# the weights of timm 1.0 with the blocks of a network of the zoo, on the Hub as timm/MODEL.NAME; its default first
_TIMM = {
    "resnet18": "a1_in1k a2_in1k a3_in1k fb_ssl_yfcc100m_ft_in1k fb_swsl_ig1b_ft_in1k gluon_in1k tv_in1k",
    "resnet34": "a1_in1k a2_in1k a3_in1k bt_in1k gluon_in1k ra4_e3600_r224_in1k tv_in1k",
    "resnet50": "a1_in1k a1h_in1k a2_in1k a3_in1k am_in1k b1k_in1k b2k_in1k bt_in1k c1_in1k c2_in1k d_in1k "
    "fb_ssl_yfcc100m_ft_in1k fb_swsl_ig1b_ft_in1k gluon_in1k ra_in1k ram_in1k tv2_in1k tv_in1k",
    "resnet101": "a1_in1k a1h_in1k a2_in1k a3_in1k gluon_in1k tv2_in1k tv_in1k",
    "resnet152": "a1_in1k a1h_in1k a2_in1k a3_in1k gluon_in1k tv2_in1k tv_in1k",
    "densenet121": "ra_in1k tv_in1k",
    **dict.fromkeys(("densenet161", "densenet169", "densenet201"), "tv_in1k"),
    **dict.fromkeys((f"vgg{depth}{norm}" for depth in (11, 13, 16, 19) for norm in ("", "_bn")), "tv_in1k"),
}


@register_weights
def timm(model: str) -> list[PretrainedWeights]:
    """Returns the weights of timm that fit a model; they are read from the Hub, without timm."""
    return [
        PretrainedWeights(
            model,
            tag := f"timm/{model}.{name}",
            "from timm, ImageNet-1K",
            partial(_load_repository, f"hf://{tag}"),
            license=_timm_license(model, name),
            url=f"https://huggingface.co/{tag}",
        )
        for name in _TIMM.get(model, "").split()
    ]


def _timm_license(model: str, name: str) -> str:
    """Returns the license that timm states."""
    if name.startswith("fb_"):
        return "cc-by-nc-4.0"
    return "bsd-3-clause" if name.startswith("tv") and not model.startswith("densenet") else "apache-2.0"


def _load_repository(source: str, spec: Spec, seed: int | None) -> CNN:
    from cnnzoo.weights.sources import load

    return load(source)
