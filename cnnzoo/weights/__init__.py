"""Models as files, as folders and on the Hub; each describes itself."""

from cnnzoo.weights.adapt import adapt, fetch_torchvision, load_torchvision, ungroup
from cnnzoo.weights.export import export
from cnnzoo.weights.files import build, read_spec, save
from cnnzoo.weights.hub import pull, push
from cnnzoo.weights.pretrained import has_pretrained, pretrained_model
from cnnzoo.weights.sources import is_source, load, locate

__all__ = [
    "adapt",
    "build",
    "export",
    "fetch_torchvision",
    "has_pretrained",
    "is_source",
    "load",
    "load_torchvision",
    "locate",
    "pretrained_model",
    "pull",
    "push",
    "read_spec",
    "save",
    "ungroup",
]
