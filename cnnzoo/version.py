"""The version of cnnzoo."""

__version__ = "0.1.0"
