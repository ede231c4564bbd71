"""Which models the tests take: every one where it is cheap, else one of each lineage (the others are slow)."""

from __future__ import annotations

from typing import Any

import pytest

import cnnzoo
from cnnzoo.blocks import RBF, TableConv
from cnnzoo.network import min_image_size
from cnnzoo.registry import get_entry

NAMES = cnnzoo.list_models()


def _first_of_each() -> set[str]:
    """The shallowest of each lineage, and all that take small images."""
    shallowest: dict[str, tuple[int, str]] = {}
    for name in NAMES:
        lineage, rows = get_entry(name).function.__module__, len(list(cnnzoo.get_spec(name).blocks()))
        shallowest[lineage] = min(shallowest.get(lineage, (rows, name)), (rows, name))
    return {name for _, name in shallowest.values()} | {n for n in NAMES if cnnzoo.get_spec(n).input[1] <= 32}


_QUICK = _first_of_each()
FAMILIES = [pytest.param(name, marks=() if name in _QUICK else pytest.mark.slow) for name in NAMES]


def row_by_row(name: str) -> bool:
    """Whether rows name their maps or classes one by one, so that width and num_classes cannot change."""
    return any(isinstance(row, (TableConv, RBF)) for _, row in cnnzoo.get_spec(name).blocks())


def small(name: str) -> dict[str, Any]:
    """Knobs of a small version that runs in no time."""
    spec = cnnzoo.get_spec(name)
    size = min(spec.input[1], max(32, min_image_size(spec) or 0))
    return {"image_size": size, **({} if row_by_row(name) else {"width": 0.25})}
