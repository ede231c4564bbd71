"""Which registered models have pretrained weights, and the files of those that ship with cnnzoo."""

from __future__ import annotations

from pathlib import Path

from cnnzoo.registry import get_entry

SHIPPED_DIR = Path(__file__).parent / "shipped"  # written by docs/make_weights.py
MAX_SHIPPED_BYTES = 500_000  # of one file


def shipped_file(name: str) -> Path:
    """Returns the path of the weights of a model that ship with cnnzoo, whether it exists or not."""
    return SHIPPED_DIR / f"{name}.safetensors"


def has_pretrained(name: str, pretrained: bool | str = True) -> bool:
    """Returns whether ``create(name, pretrained=...)`` has weights for a registered model.

    Args:
        name: The model.
        pretrained: True for weights that ship with cnnzoo, ``"torchvision"`` for those of its twin.
    """
    if pretrained is True:
        return shipped_file(name).is_file()
    return pretrained == "torchvision" and get_entry(name).twin is not None
