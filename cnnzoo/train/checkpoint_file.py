"""The file of a checkpoint: tensors and plain values under one checksum, all of which is checked before it is used."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from cnnzoo.errors import FileError, WeightsError
from cnnzoo.serialization import load_verified, save_tensors

_VALUES = "values"  # name of the tensor with the plain values as JSON: a history may be too long for a header
_TYPES = {
    "step": int,
    "history": list,
    "seconds": list,
    "samples_seen": int,
    "scaler": dict,
    "optimizer": dict,
    "config": dict,
}
_HINT = "restore the file from a copy, or start the run again with overwrite=True (--overwrite)"


def save_checkpoint(path: Path, tensors: Mapping[str, torch.Tensor], values: Mapping[str, Any]) -> None:
    """Replaces a checkpoint, completely or not at all.

    Args:
        path: The file.
        tensors: The tensors by name.
        values: Plain values: ``step``, ``history``, ``config`` and what ``TrainState.collect`` returns.

    Raises:
        FileError: If the file cannot be written.
    """
    content = torch.frombuffer(bytearray(json.dumps(values).encode()), dtype=torch.uint8)
    save_tensors(path, {**tensors, _VALUES: content}, checksum=True)


def load_checkpoint(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """Returns the tensors of a checkpoint and its plain values.

    Raises:
        FileError: If the file cannot be read, is damaged, or is not a checkpoint.
    """
    try:
        tensors, _ = load_verified(path)
    except WeightsError as error:
        raise FileError(f"{error}; {_HINT}") from None
    try:
        values = json.loads(tensors.pop(_VALUES).numpy().tobytes())
    except (KeyError, ValueError, RecursionError):
        values = None
    if not isinstance(values, dict) or not all(_is(values.get(key), kind) for key, kind in _TYPES.items()):
        raise FileError(f"{path} is not the checkpoint of a run; {_HINT}")
    return tensors, values


def _is(value: object, kind: type) -> bool:
    return isinstance(value, kind) and not isinstance(value, bool)
