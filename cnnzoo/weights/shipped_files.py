"""The files of pretrained weights that ship with cnnzoo."""

from __future__ import annotations

from pathlib import Path

SHIPPED_DIR = Path(__file__).parent / "shipped"  # written by docs/make_weights.py
MAX_SHIPPED_BYTES = 500_000  # of one file


def shipped_file(name: str) -> Path:
    """Returns the path of the weights of a model that ship with cnnzoo, whether it exists or not."""
    return SHIPPED_DIR / f"{name}.safetensors"
