"""Nested values, such as the state of an optimizer, as tensors by name and values that JSON can hold."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from cnnzoo.errors import TrainingError

_TYPE = "type"  # the key of what JSON cannot hold as it is


def split_tensors(value: Any, name: str) -> tuple[dict[str, torch.Tensor], Any]:
    """Returns the tensors in a nested value by name, and the rest as plain values.

    Args:
        value: Tensors, numbers, strings, booleans and None, in lists, tuples and dicts.
        name: Name of the value: ``"optimizer"``; a tensor in it is called ``"optimizer.state.0.exp_avg"``.

    Raises:
        TrainingError: If there is a value of another type.
    """
    tensors: dict[str, torch.Tensor] = {}

    def split(value: Any, name: str) -> Any:
        if isinstance(value, torch.Tensor):
            tensors[name] = value
            return {_TYPE: "tensor", "name": name}
        if isinstance(value, dict):
            items = [[key, split(item, f"{name}.{key}")] for key, item in value.items()]
            if all(isinstance(key, str) and key != _TYPE for key in value):
                return dict(items)
            return {_TYPE: "dict", "items": items}
        if isinstance(value, (list, tuple)):
            items = [split(item, f"{name}.{i}") for i, item in enumerate(value)]
            return items if isinstance(value, list) else {_TYPE: "tuple", "items": items}
        if value is None or isinstance(value, (bool, int, float, str)):
            return value
        raise TrainingError(
            f"{name} is a {type(value).__name__}, which a checkpoint cannot hold; it can hold tensors, numbers, "
            "strings, lists, tuples and dicts"
        )

    return tensors, split(value, name)


def join_tensors(plain: Any, tensors: Mapping[str, torch.Tensor]) -> Any:
    """Returns the nested value from what ``split_tensors`` returned.

    Args:
        plain: The plain values.
        tensors: The tensors by name.
    """
    if isinstance(plain, list):
        return [join_tensors(item, tensors) for item in plain]
    if not isinstance(plain, dict):
        return plain
    match plain.get(_TYPE):
        case "tensor":
            return tensors[plain["name"]]
        case "tuple":
            return tuple(join_tensors(item, tensors) for item in plain["items"])
        case "dict":
            return {key: join_tensors(item, tensors) for key, item in plain["items"]}
    return {key: join_tensors(item, tensors) for key, item in plain.items()}
