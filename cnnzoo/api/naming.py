"""Names that tell compared networks apart: ``lenet(activation=relu)`` beside ``lenet``."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Sequence
from os import PathLike
from typing import Any

from cnnzoo.blocks import AvgPool, MaxPool
from cnnzoo.edits import apply_knobs
from cnnzoo.errors import CnnzooError, InputError
from cnnzoo.knobs import format_name, parse_name
from cnnzoo.registry import get_spec, is_model
from cnnzoo.spec import Spec


def distinct_names(sources: Sequence[object], own_names: Sequence[str], names: Sequence[str] | None) -> list[str]:
    """Returns a name for each of several networks, all different.

    A name with knobs keeps them. Networks of one name get the knobs that lead from the registered model to them, if
    knobs do; of saved networks, the path; else a number.

    Args:
        sources: What the networks were given as.
        own_names: The name of each architecture.
        names: The names to use instead, or None.

    Raises:
        InputError: If ``names`` are not as many different strings as there are networks.
    """
    if names is not None:
        valid = not isinstance(names, str) and all(isinstance(name, str) and name.strip() for name in names)
        if not valid or len(names) != len(sources) or len(set(names)) < len(names):
            raise InputError(f"names must be {len(sources)} different strings, one per network, not {names!r}")
        return list(names)
    labels = [_written_name(source, name) for source, name in zip(sources, own_names, strict=True)]
    shared = {label for label, count in Counter(labels).items() if count > 1}
    labels = [
        _name_with_knobs(s, label) if label in shared else label for s, label in zip(sources, labels, strict=True)
    ]
    result: list[str] = []
    for label in labels:
        numbered = (label, *(f"{label}-{i}" for i in range(2, len(labels) + 2)))
        result.append(next(name for name in numbered if name not in result))
    return result


def spec_of(source: object) -> Spec | None:
    """Returns the Spec that a value is, or that it was built from, also inside a wrapper; None if it has none."""
    if isinstance(source, Spec):
        return source
    if isinstance(source, (str, PathLike)) or "torch" not in sys.modules:
        return None
    from torch import nn

    from cnnzoo.modules import unwrap
    from cnnzoo.network import CNN

    inner = unwrap(source) if isinstance(source, nn.Module) else source
    return inner.spec if isinstance(inner, CNN) else None


def _written_name(source: object, name: str) -> str:
    """Returns the name of an architecture, with the knobs that were written behind it."""
    if not isinstance(source, str):
        return name
    written, knobs = parse_name(source)
    return format_name(written, knobs) if knobs else name


def _name_with_knobs(source: object, name: str) -> str:
    """Returns a name with the knobs that lead from the registered model to a Spec; without them if none do."""
    if isinstance(source, (str, PathLike)) and not is_model(str(source)):
        return str(source)
    spec = spec_of(source)
    if spec is None or not is_model(spec.name):
        return name
    base = get_spec(spec.name)
    before, after = _observed_knobs(base), _observed_knobs(spec)
    knobs = {knob: value for knob, value in after.items() if before.get(knob) != value}
    try:
        return format_name(name, knobs) if apply_knobs(base, **knobs) == spec else name
    except CnnzooError:  # a block cannot follow a knob
        return name


def _observed_knobs(spec: Spec) -> dict[str, Any]:
    """Returns the values of generic knobs that can be read from the blocks of a Spec."""
    channels, height, width = spec.input
    knobs: dict[str, Any] = {"num_classes": spec.num_classes, "in_channels": channels}
    if height == width:
        knobs["image_size"] = height
    blocks = [block for _, block in spec.blocks()]
    seen: dict[str, list[Any]] = {
        "activation": [value for block in blocks if (value := getattr(block, "activation", None)) is not None],
        "norm": [value for block in blocks if (value := getattr(block, "norm", None)) is not None],
        "pooling": ["max" if isinstance(block, MaxPool) else "avg" for block in blocks if _is_pooling(block)],
        "dropout": [value for block in blocks if (value := getattr(block, "p", None)) is not None],
    }
    return knobs | {knob: values[0] for knob, values in seen.items() if len(set(values)) == 1}


def _is_pooling(block: object) -> bool:
    return isinstance(block, (AvgPool, MaxPool))
