"""Saved networks: files, folders and the Hub; pretrained weights, and weights for other classes or formats.

What needs torch is imported on first use: names of saved networks do not.
"""

from typing import TYPE_CHECKING

from cnnzoo.lazy import lazy_names
from cnnzoo.weights.repository import is_source, is_state_file
from cnnzoo.weights.tags import PretrainedWeights, find_pretrained, has_pretrained, list_pretrained, register_weights

if TYPE_CHECKING:
    from cnnzoo.weights.adapt import adapt
    from cnnzoo.weights.description import build_from_description
    from cnnzoo.weights.export import export
    from cnnzoo.weights.files import read_spec, save
    from cnnzoo.weights.foreign import load_foreign_file, load_state_dict
    from cnnzoo.weights.hub import pull
    from cnnzoo.weights.hub_push import push
    from cnnzoo.weights.sources import load, load_bare, locate
    from cnnzoo.weights.torchvision import fetch_torchvision, load_torchvision
    from cnnzoo.weights.ungroup import ungroup

__getattr__ = lazy_names(
    __name__,
    {
        "cnnzoo.weights.adapt": ("adapt",),
        "cnnzoo.weights.description": ("build_from_description",),
        "cnnzoo.weights.export": ("export",),
        "cnnzoo.weights.files": ("read_spec", "save"),
        "cnnzoo.weights.foreign": ("load_foreign_file", "load_state_dict"),
        "cnnzoo.weights.hub": ("pull",),
        "cnnzoo.weights.hub_push": ("push",),
        "cnnzoo.weights.sources": ("load", "load_bare", "locate"),
        "cnnzoo.weights.torchvision": ("fetch_torchvision", "load_torchvision"),
        "cnnzoo.weights.ungroup": ("ungroup",),
    },
)

__all__ = [
    "PretrainedWeights",
    "adapt",
    "build_from_description",
    "export",
    "fetch_torchvision",
    "find_pretrained",
    "has_pretrained",
    "is_source",
    "is_state_file",
    "list_pretrained",
    "load",
    "load_bare",
    "load_foreign_file",
    "load_state_dict",
    "load_torchvision",
    "locate",
    "pull",
    "push",
    "read_spec",
    "register_weights",
    "save",
    "ungroup",
]
