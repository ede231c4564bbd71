"""Specs of names, Specs, files and repositories. Nothing here needs torch for the name of a registered network."""

from __future__ import annotations

from collections.abc import Mapping
from os import PathLike
from typing import Any, TypeGuard

from cnnzoo import registry, weights
from cnnzoo.edits import apply_knobs
from cnnzoo.errors import InputError
from cnnzoo.knobs import parse_name
from cnnzoo.registry import get_spec, is_model
from cnnzoo.spec import Spec

Source = str | PathLike[str] | Spec


def resolve(source: Source, **knobs: Any) -> Spec:
    """Returns the Spec of a name, a Spec or a saved network, with knobs applied.

    Raises:
        UnknownNameError: If the name, or a knob, is not known.
        InputError: If ``source`` is something else.
    """
    source, knobs = split_knobs(source, knobs)
    if isinstance(source, Spec):
        return apply_knobs(source, **knobs)
    if is_saved(source):
        return apply_knobs(weights.read_spec(weights.locate(source)), **knobs)
    if not isinstance(source, str):
        raise InputError(f"expected the name of a network, a Spec or a path, got {type(source).__name__}")
    return get_spec(source, **knobs)


def split_knobs(source: Source, knobs: Mapping[str, Any]) -> tuple[Source, dict[str, Any]]:
    """Returns the source without knobs written behind its name, ``"lenet(activation=relu)"``, and all knobs.

    Raises:
        InputError: If a knob is set twice.
    """
    if not isinstance(source, str) or is_saved(source):
        return source, dict(knobs)
    name, written = parse_name(source)
    if both := [knob for knob in written if knob in knobs]:
        values = ", ".join(f"{knob}={knobs[knob]!r}" for knob in both)
        raise InputError(f"{source!r} and {values} set the same; set {' and '.join(both)} once")
    return name, {**written, **knobs}


def is_saved(source: object) -> TypeGuard[str | PathLike[str]]:
    """Returns whether ``source`` is a saved network; a registered name is not a path (``./alexnet`` is)."""
    return not (isinstance(source, str) and is_model(source)) and weights.is_source(source)


def list_models(pattern: str = "*", *, pretrained: bool | str = False) -> list[str]:
    """Returns the names of the registered models, sorted.

    Args:
        pattern: A wildcard such as ``"alex*"``.
        pretrained: Lists only models for which ``create(name, pretrained=...)`` has weights: True for weights that ship
            with cnnzoo, or a tag, such as ``"torchvision"``.

    Raises:
        InputError: If ``pretrained`` is neither.
        UnknownNameError: If no source has the name in the tag.
    """
    names = registry.list_models(pattern)
    return [name for name in names if weights.has_pretrained(name, pretrained)] if pretrained else names
