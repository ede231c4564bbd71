"""The results of a finished run: its metrics, history and weights, which must belong together."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from cnnzoo.errors import FileError, WeightsError
from cnnzoo.files import CONFIG_FILE, HISTORY_FILE, METRICS_FILE, WEIGHTS_FILE, os_reason, read_json, write_json
from cnnzoo.limits import MAX_METRICS_BYTES
from cnnzoo.metadata import get_metadata, set_metadata
from cnnzoo.serialization import METADATA_KEY, load_verified
from cnnzoo.train.run import Run


def write_metrics(file: Path, metrics: Mapping[str, Any], history: Sequence[Mapping[str, Any]]) -> None:
    """Writes metrics.json, with a checksum of the metrics and the history.

    Raises:
        FileError: If the file cannot be written.
    """
    write_json(file, {**metrics, "sha256": _sha256(metrics, history)})


def read_history(folder: Path) -> list[dict[str, Any]]:
    """Returns one mapping per epoch.

    Args:
        folder: The run folder.

    Raises:
        FileError: If history.jsonl cannot be read.
    """
    file = folder / HISTORY_FILE
    try:
        entries = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    except (OSError, ValueError, RecursionError) as error:
        raise FileError(f"{file} cannot be read: {os_reason(error)}") from None
    for number, entry in enumerate(entries, 1):
        if not (isinstance(entry, dict) and entry.get("epoch") == number and isinstance(entry.get("step"), int)):
            raise FileError(f"{file} is damaged: line {number} is not epoch {number} of a run")
    return entries


def load_run(folder: Path, model: nn.Module, build_model: Callable[[Mapping[str, Any]], nn.Module] | None) -> Run:
    """Returns a finished run.

    Args:
        folder: The run folder.
        model: The module, which gets the weights, and the metadata if it has any.
        build_model: Builds the module that config.json describes.

    Raises:
        FileError: If a file cannot be read, or has been changed since the run wrote it.
        WeightsError: If the weights are damaged, or do not fit the module.
    """
    metrics, history = read_json(folder / METRICS_FILE, MAX_METRICS_BYTES), read_history(folder)
    if metrics.pop("sha256", None) != _sha256(metrics, history):
        raise _changed(folder, METRICS_FILE, HISTORY_FILE)
    state, stored = load_verified(folder / WEIGHTS_FILE)
    if stored[METADATA_KEY]["weights_sha256"] != metrics.pop("weights_sha256", None):
        raise _changed(folder, METRICS_FILE, WEIGHTS_FILE)
    description = read_json(folder / CONFIG_FILE)
    if _common_part(description) != _common_part(stored):
        raise _changed(folder, CONFIG_FILE, WEIGHTS_FILE)
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:500]
        raise WeightsError(f"{folder / WEIGHTS_FILE} does not fit the network: {reason}") from None
    if build_model is not None and stored[METADATA_KEY].get("spec") is not None:
        with torch.device("meta"):
            set_metadata(model, get_metadata(build_model(description)))
    metrics.pop("evaluations", None)
    return Run(folder, tuple(history), metrics, False, model)


def _changed(folder: Path, *names: str) -> FileError:
    return FileError(
        f"{' or '.join(names)} in {folder} was changed or damaged after the run had finished, since they do not belong "
        "together; restore it from a copy, or train again with overwrite=True (--overwrite)"
    )


def _sha256(metrics: Mapping[str, Any], history: Sequence[Mapping[str, Any]]) -> str:
    plain = json.loads(json.dumps([metrics, history]))  # with keys that are strings, as they are read
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()


def _common_part(description: Mapping[str, Any]) -> dict[str, Any]:
    """Returns what both config.json and the metadata of the weights file contain."""
    inner = description.get(METADATA_KEY)
    inner = inner if isinstance(inner, Mapping) else {}
    inner = {key: value for key, value in inner.items() if key not in ("weights_sha256", "version")}
    return {**description, METADATA_KEY: inner, "aliases": None}
