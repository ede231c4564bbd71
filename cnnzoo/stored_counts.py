"""Counts that ship with cnnzoo, so that a registered network is counted without importing torch.

``python docs/make_stored.py`` writes them. They are found by the Spec: a network that differs in anything is counted
anew. The tests count every registered network, and compare.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from cnnzoo.errors import SpecError
from cnnzoo.measure.report import CountReport, LayerCount, Params
from cnnzoo.spec import Spec

STORED_FILE = Path(__file__).parent / "stored_counts.jsonl"
_LAYER_FIELDS = [item.name for item in dataclasses.fields(LayerCount)]


def key_of(spec: Spec) -> str:
    """Returns the key of a Spec: a digest of its JSON; empty if a block of its has none."""
    try:
        values = spec.to_dict()
    except SpecError:  # a kind of block that is not registered
        return ""
    return hashlib.sha256(json.dumps(values, separators=(",", ":")).encode()).hexdigest()[:24]


def figure_name(quantity: str, patterns: Sequence[str] = ()) -> str:
    """Returns the name of a figure: ``"macs"``, ``"parameters of conv*, fc*"``."""
    return f"{quantity} of {', '.join(patterns)}" if patterns else quantity


def stored_figures(spec: Spec) -> Mapping[str, int]:
    """Returns the stored figures of a network by name, see ``figure_name``; none if it is not stored."""
    return _figures().get(key_of(spec), {})


def stored_report(spec: Spec) -> CountReport | None:
    """Returns the count of one image, as ``cnnzoo.measure.count`` returns it; None if it is not stored.

    The bytes are those of float32: with another default dtype of torch, nothing is.
    """
    torch = sys.modules.get("torch")
    if torch is not None and torch.get_default_dtype() != torch.float32:
        return None
    start = f'["{key_of(spec)}"'
    line = next((line for line in _lines()[1:] if line.startswith(start)), None)
    if line is None:
        return None
    _, values = json.loads(line)
    layers = [LayerCount(**dict(zip(_LAYER_FIELDS, map(_frozen, row), strict=True))) for row in values.pop("layers")]
    params = Params(**{name: _frozen(value) for name, value in values.pop("params").items()})
    return CountReport(layers=tuple(layers), params=params, **{name: _frozen(value) for name, value in values.items()})


def write_counts(
    file: Path, figures: Mapping[str, Mapping[str, int]], reports: Iterable[tuple[str, CountReport]]
) -> None:
    """Writes counts: a line of figures, and a line per report.

    Args:
        file: The file.
        figures: Key of the Spec -> name of a figure -> its value.
        reports: Keys of Specs, with their reports.
    """
    lines: list[Any] = [{"fields": _LAYER_FIELDS, "figures": figures}]
    for key, report in reports:
        values = dataclasses.asdict(report)
        layers = [[layer[name] for name in _LAYER_FIELDS] for layer in values.pop("layers")]
        lines.append([key, {**values, "layers": layers}])
    file.write_text("".join(json.dumps(line, separators=(",", ":")) + "\n" for line in lines))


@lru_cache(maxsize=1)
def _lines() -> list[str]:
    """Returns the lines of the file; none if it holds other columns than reports have now."""
    try:
        lines = STORED_FILE.read_text().splitlines()
    except OSError:
        return [""]
    return lines if lines and json.loads(lines[0])["fields"] == _LAYER_FIELDS else [""]


@lru_cache(maxsize=1)
def _figures() -> dict[str, dict[str, int]]:
    first = _lines()[0]
    figures: dict[str, dict[str, int]] = json.loads(first)["figures"] if first else {}
    return figures


def _frozen(value: Any) -> Any:
    """Returns a value of JSON with tuples for lists."""
    return tuple(map(_frozen, value)) if isinstance(value, list) else value
