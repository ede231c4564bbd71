"""Models as files and folders that describe themselves."""

from cnnzoo.weights.conversions import fetch_torchvision, load_torchvision, ungrouped
from cnnzoo.weights.files import build, load, save

__all__ = ["build", "fetch_torchvision", "load", "load_torchvision", "save", "ungrouped"]
