"""Saved networks: files, folders and the Hub; pretrained weights, and weights for other classes or formats."""

from cnnzoo.weights.adapt import adapt
from cnnzoo.weights.description import build_from_description
from cnnzoo.weights.export import export
from cnnzoo.weights.files import read_spec, save
from cnnzoo.weights.hub import pull
from cnnzoo.weights.hub_push import push
from cnnzoo.weights.pretrained import has_pretrained, load_pretrained
from cnnzoo.weights.sources import is_source, load, locate
from cnnzoo.weights.torchvision import fetch_torchvision, load_torchvision
from cnnzoo.weights.ungroup import ungroup

__all__ = [
    "adapt",
    "build_from_description",
    "export",
    "fetch_torchvision",
    "has_pretrained",
    "is_source",
    "load",
    "load_pretrained",
    "load_torchvision",
    "locate",
    "pull",
    "push",
    "read_spec",
    "save",
    "ungroup",
]
