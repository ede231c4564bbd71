"""Reads run folders, also those of unfinished runs and those with missing or broken files."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import torch
from torch import nn

from cnnzoo.errors import CnnzooError, FileError, InputError
from cnnzoo.fields import is_number
from cnnzoo.files import (
    CHECKPOINT_FILE,
    CONFIG_FILE,
    HISTORY_FILE,
    METRICS_FILE,
    TRAIN_FILE,
    WEIGHTS_FILE,
    exists,
    read_json,
    strip_local_paths,
)
from cnnzoo.limits import MAX_DESCRIPTION_BYTES, MAX_METRICS_BYTES
from cnnzoo.measure import CountReport
from cnnzoo.measure.counter import count_image
from cnnzoo.metadata import describe
from cnnzoo.serialization import METADATA_KEY, TensorInfo, iter_tensors, read_aliases, read_header, weights_sha256
from cnnzoo.train.metrics import summarize_history
from cnnzoo.train.run_dir import RunDir

MAX_FILTER_SIZE = 64  # px; larger kernels are not shown

T = TypeVar("T")
BuildModel = Callable[[Mapping[str, Any]], nn.Module]


def find_runs(path: Path) -> list[Path]:
    """Returns the run folder at a path, or the run folders directly below it (as ``seed_sweep`` writes them).

    Raises:
        FileError: If there is none.
    """
    if not exists(path):
        raise FileError(f"{path} does not exist; give the folder of a training run, such as runs/lenet")
    if exists(path / TRAIN_FILE):
        return [path]
    folders = [folder for folder in path.iterdir() if exists(folder / TRAIN_FILE)] if path.is_dir() else []
    if not folders:
        raise FileError(
            f"{path} holds no run: neither it nor a folder directly below it has a {TRAIN_FILE}; give the folder of a "
            "training run, such as runs/lenet"
        )
    return sorted(folders, key=lambda folder: _natural_key(folder.name))


class Checksum(NamedTuple):
    """The SHA-256 of the weights and the result of its check; both empty if the run has no weights."""

    sha256: str
    status: str


class Filters(NamedTuple):
    """The name and weights (N, C, height, width) of a convolution."""

    layer: str
    weights: torch.Tensor


class _WeightsFile(NamedTuple):
    path: Path
    prefix: str  # of the names of the weights in a checkpoint, which holds other tensors too
    tensors: dict[str, TensorInfo]
    description: dict[str, Any]


@dataclass
class RunReader:
    """The contents of a run folder.

    Attributes:
        path: The folder.
        build: Builds the module from the description in config.json.
        problems: Error messages about files that could not be read.
        info: Contents of train.json.
        description: Contents of config.json: the description of the module.
        history: One mapping per epoch; only finite numbers are kept.
        finished: Whether the run reached its last epoch.
        metrics: Final metrics; those of the last epoch if the run is not finished.
    """

    path: Path
    build: BuildModel
    problems: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.info = RunDir.open(self.path).info
        self.description = self._try_read_json(CONFIG_FILE) or self._weights_file.description
        self.history = self._read_history()
        self.finished = exists(self.path / METRICS_FILE)
        self.metrics = {**summarize_history(self.history), **self._try_read_json(METRICS_FILE, MAX_METRICS_BYTES)}

    def _try_read(self, read: Callable[[], T], default: T) -> T:
        """Returns what ``read`` returns; if it fails, adds a note and returns the default."""
        try:
            return read()
        except CnnzooError as error:
            self.problems.append(str(error))
            return default

    def _try_read_json(self, name: str, max_bytes: int = MAX_DESCRIPTION_BYTES) -> dict[str, Any]:
        """Returns the content of a JSON file; ``{}`` if it is missing or broken."""
        file = self.path / name
        return self._try_read(lambda: read_json(file, max_bytes), {}) if exists(file) else {}

    def _read_history(self) -> list[dict[str, Any]]:
        file = self.path / HISTORY_FILE
        try:
            lines = [json.loads(line) for line in file.read_text().splitlines()] if exists(file) else []
        except (OSError, ValueError, RecursionError) as error:
            self.problems.append(f"{file} cannot be read: {error}")
            return []
        entries = [{key: v for key, v in line.items() if is_number(v)} for line in lines if isinstance(line, dict)]
        return [{"epoch": epoch, **entry} for epoch, entry in enumerate(entries, 1)]

    # --- train.json and metrics.json ---

    @property
    def config(self) -> dict[str, Any]:
        """The training config; empty if missing."""
        return _dict(self.info.get("config"))

    @property
    def data(self) -> dict[str, Any]:
        """Name, checksum and classes of the data set; empty if missing."""
        return _dict(self.info.get("data"))

    @property
    def sessions(self) -> list[dict[str, Any]]:
        """The processes that trained the run: first ``step``, ``command`` and ``machine`` of each."""
        sessions = self.info.get("sessions")
        return [session for session in sessions if isinstance(session, dict)] if isinstance(sessions, list) else []

    @property
    def name(self) -> str:
        """Name of the network."""
        return str(self.description.get("architecture") or "unnamed network")

    @property
    def data_name(self) -> str:
        """Name of the data set, without local paths."""
        return strip_local_paths(str(self.data.get("name")))

    @property
    def epochs(self) -> str:
        """Number of epochs: ``"10"``, or ``"3 of 10"``."""
        total = self.config.get("epochs")
        return f"{len(self.history)}" if total in (None, len(self.history)) else f"{len(self.history)} of {total}"

    @property
    def state(self) -> str:
        """Whether the run is finished, and whether it can be resumed."""
        if self.finished:
            return "finished"
        return "not finished, has a checkpoint" if exists(self.path / CHECKPOINT_FILE) else "not finished"

    @property
    def evaluations(self) -> dict[str, dict[str, Any]]:
        """The final evaluations by name: ``test``, ``val``, ``test_ten_crop``."""
        return {
            name: value for name, value in _dict(self.metrics.get("evaluations")).items() if isinstance(value, dict)
        }

    @cached_property
    def confusion(self) -> torch.Tensor | None:
        """Confusion matrix of the test images, int64 (classes, classes); row: true class, column: predicted class."""
        try:
            matrix = torch.tensor(self.evaluations.get("test", {}).get("confusion"))
        except (TypeError, ValueError, RuntimeError, OverflowError):
            return None
        is_square = matrix.dim() == 2 and matrix.shape[0] == matrix.shape[1] > 0
        return matrix if is_square and matrix.dtype == torch.int64 and bool((matrix >= 0).all()) else None

    def classes(self, n: int) -> list[str]:
        """Returns the names of ``n`` classes; their numbers if the names are unknown."""
        for names in (self.data.get("classes"), self.description.get("label_names")):
            if isinstance(names, list) and len(names) == n:
                return [str(name) for name in names]
        return [str(number) for number in range(n)]

    # --- the network ---

    @property
    def spec(self) -> Any:
        """The network's Spec as JSON; None if it cannot be rebuilt from its description."""
        return _dict(self.description.get(METADATA_KEY)).get("spec")

    @cached_property
    def module(self) -> nn.Module | None:
        """The network on the meta device; None if it cannot be rebuilt."""
        if self.spec is None:
            return None
        with torch.device("meta"):
            return self._try_read(lambda: self.build(self.description), None)

    @cached_property
    def count(self) -> CountReport | None:
        """Counts of the network for one image; None if it cannot be rebuilt."""
        module = self.module
        size = None if module is None else _dict(describe(module).get("pretrained_cfg")).get("input_size")
        if module is None or size is None:
            return None
        return self._try_read(lambda: count_image(module, size, self.name), None)

    def find_mistakes(self, find: Callable[[Path], T]) -> T | None:
        """Returns what a function finds in the folder; None if it cannot, or if the run has no final weights.

        Raises:
            DataError: If the data cannot be loaded.
            UnknownNameError: If the name of the data, or a class of it, is not known.
        """
        if not exists(self.path / WEIGHTS_FILE):
            return None
        try:
            return find(self.path)
        except (FileError, InputError) as error:
            self.problems.append(str(error))
            return None

    # --- the weights ---

    @cached_property
    def _weights_file(self) -> _WeightsFile:
        """The final weights; those of the checkpoint if the run is not finished."""
        for name, prefix in ((WEIGHTS_FILE, ""), (CHECKPOINT_FILE, "model.")):
            file = self.path / name
            header = self._try_read(partial(read_header, file), None) if exists(file) else None
            if header is not None:
                tensors = {key: info for key, info in header[0].items() if key.startswith(prefix)}
                return _WeightsFile(file, prefix, tensors, header[1])
        return _WeightsFile(self.path / WEIGHTS_FILE, "", {}, {})

    @property
    def tensor_shapes(self) -> dict[str, tuple[int, ...]]:
        """Shape of every parameter and buffer, by name."""
        prefix = self._weights_file.prefix
        return {name.removeprefix(prefix): shape for name, (_, shape) in self._weights_file.tensors.items()}

    @cached_property
    def checksum(self) -> Checksum:
        """The recorded checksum of the final weights, compared with the file; computed if none is recorded."""
        file, prefix, _, description = self._weights_file
        stored = {} if prefix else _dict(description.get(METADATA_KEY))  # a checkpoint's covers more than the weights
        recorded = self.metrics.get("weights_sha256") or stored.get("weights_sha256")
        if prefix or not exists(file):  # no final weights
            return Checksum(str(recorded or ""), "file missing" if recorded else "")
        computed = self._try_read(lambda: weights_sha256(iter_tensors(file, read_aliases(file, description))), "")
        if recorded in (None, computed):
            return Checksum(computed, "computed from the file" if computed else "")
        return Checksum(str(recorded), f"the file differs: {computed}" if computed else "the file cannot be read")

    @cached_property
    def filters(self) -> Filters | None:
        """The filters of the first convolution; None if there is no convolution.

        If the description does not name the first convolution, it is the first 4-D tensor in natural order of names.
        """
        file, prefix, *_ = self._weights_file
        first = f"{_dict(self.description.get('pretrained_cfg')).get('first_conv')}.weight"
        candidates = [
            name
            for name, shape in self.tensor_shapes.items()
            if len(shape) == 4 and 0 not in shape and max(shape[2:]) <= MAX_FILTER_SIZE
        ]
        if not candidates:
            return None
        name = first if first in candidates else min(candidates, key=_natural_key)
        weights = self._try_read(lambda: _read_tensor(file, prefix + name), None)
        return None if weights is None else Filters(name.removesuffix(".weight"), weights)


def _dict(value: object) -> dict[str, Any]:
    """Returns a value if it is a dict, else an empty dict."""
    return value if isinstance(value, dict) else {}


def _natural_key(name: str) -> list[str | int]:
    """Returns a sort key that puts seed-2 before seed-10."""
    return [int(part) if part.isdecimal() else part for part in re.split(r"(\d+)", name)]


def _read_tensor(file: Path, name: str) -> torch.Tensor:
    """Returns one tensor of a file, without reading the others."""
    return next(tensor for other, tensor in iter_tensors(file, {}, mmap=True) if other == name).clone()
