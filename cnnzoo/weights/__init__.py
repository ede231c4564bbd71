"""Models as files and folders that describe themselves."""

from cnnzoo.weights.conversions import adapted, fetch_torchvision, load_torchvision, ungrouped
from cnnzoo.weights.files import build, load, save

__all__ = ["adapted", "build", "fetch_torchvision", "load", "load_torchvision", "save", "ungrouped"]
