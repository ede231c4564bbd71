"""The models for parametrized tests: NAMES for fast tests, MODEL_PARAMS (most of them marked slow) for others."""

from __future__ import annotations

import functools
from typing import Any

import pytest

import cnnzoo
from cnnzoo.blocks import RBF, TableConv
from cnnzoo.image_sizes import min_image_size
from cnnzoo.registry import get_entry

NAMES = cnnzoo.list_models()


def _fast_names() -> set[str]:
    """Returns the shallowest model of each lineage, and all models for small images."""
    shallowest: dict[str, tuple[int, str]] = {}
    for name in NAMES:
        lineage, depth = get_entry(name).function.__module__, len(list(cnnzoo.get_spec(name).blocks()))
        shallowest[lineage] = min(shallowest.get(lineage, (depth, name)), (depth, name))
    return {name for _, name in shallowest.values()} | {n for n in NAMES if cnnzoo.get_spec(n).input[1] <= 32}


_FAST = _fast_names()
MODEL_PARAMS = [pytest.param(name, marks=() if name in _FAST else pytest.mark.slow) for name in NAMES]


def has_fixed_width(name: str) -> bool:
    """Returns whether a block lists its maps or classes, so that width and num_classes cannot change."""
    return any(isinstance(block, (TableConv, RBF)) for _, block in cnnzoo.get_spec(name).blocks())


@functools.cache
def small_knobs(name: str) -> dict[str, Any]:
    """Returns the knobs of a small version of a model, which runs fast."""
    spec = cnnzoo.get_spec(name)
    size = min(spec.input[1], max(32, min_image_size(spec) or 0))
    return {"image_size": size, **({} if has_fixed_width(name) else {"width": 0.25})}
