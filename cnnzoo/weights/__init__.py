"""Models as files and folders that describe themselves."""

from cnnzoo.weights.files import build, load, save

__all__ = ["build", "load", "save"]
