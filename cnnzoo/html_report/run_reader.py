"""What run folders tell of their runs, as far as it goes: a run that is not finished, or lost a file, tells less."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from cnnzoo.errors import CnnzooError, FileError
from cnnzoo.measure import CountReport
from cnnzoo.measure.counter import count_image
from cnnzoo.serialization import (
    CHECKPOINT_FILE,
    CONFIG_FILE,
    HISTORY_FILE,
    METADATA_KEY,
    METRICS_FILE,
    TRAIN_FILE,
    WEIGHTS_FILE,
    TensorInfo,
    exists,
    iter_tensors,
    read_aliases,
    read_header,
    read_json,
    weights_sha256,
)
from cnnzoo.train.run import summarize_history
from cnnzoo.train.run_dir import MAX_METRICS_BYTES, RunDir

_LARGEST = 64  # px of a filter; a larger tensor of four dimensions is something else
_MOST = 1e300  # above it stands infinity, in a float and in a whole number

Build = Callable[[Mapping[str, Any]], nn.Module]


def find_runs(path: Path) -> list[Path]:
    """The run folder that a path names, or those directly below it: what ``compare`` and ``seed_sweep`` leave.

    Raises:
        FileError: If there is none.
    """
    if not exists(path):
        raise FileError(f"{path} does not exist; name a folder that training left, such as runs/lenet")
    if exists(path / TRAIN_FILE):
        return [path]
    below = [folder for folder in path.iterdir() if exists(folder / TRAIN_FILE)] if path.is_dir() else []
    if not below:
        raise FileError(
            f"{path} holds no run: there is no {TRAIN_FILE} in it, nor in a folder directly below it; name a folder that "
            "training left, such as runs/lenet"
        )
    return sorted(below, key=lambda folder: _natural(folder.name))


def short_names(paths: Sequence[Path]) -> list[str]:
    """As many of the last parts of each path as tell it from the others."""
    parts = [path.resolve().parts for path in paths]
    names = []
    for own in parts:
        others = [other for other in parts if other != own]
        length = next(n for n in range(1, len(own) + 1) if all(other[-n:] != own[-n:] for other in others))
        names.append("/".join(own[-length:]))
    return names


def _natural(name: str) -> list[str | int]:
    """For sorting: seed-2 before seed-10."""
    return [int(part) if part.isdecimal() else part for part in re.split(r"(\d+)", name)]


@dataclass
class RunReader:
    """What the folder of a run tells.

    Attributes:
        path: The folder.
        build: Makes the module that a description (config.json) is of.
        notes: What could not be read, and why.
        told: What train.json says.
        description: What config.json says of the module.
        history: A mapping per epoch; what is no number is left out.
        finished: Whether the run came to its end.
        metrics: The figures at the end, or as far as the run came.
    """

    path: Path
    build: Build
    notes: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.told = RunDir.opened(self.path).told
        config = self.path / CONFIG_FILE
        self.description = self._read(lambda: read_json(config), {}) if exists(config) else {}
        self.description = self.description or self._file[3]  # a weights file describes itself
        self.history = self._history()
        self.finished = exists(self.path / METRICS_FILE)
        found = self._read(lambda: read_json(self.path / METRICS_FILE, MAX_METRICS_BYTES), {}) if self.finished else {}
        self.metrics: dict[str, Any] = {**summarize_history(self.history), **found}

    def _read(self, what: Callable[[], Any], otherwise: Any) -> Any:
        """What a file says; where it cannot be read, that is noted."""
        try:
            return what()
        except CnnzooError as problem:
            self.notes.append(str(problem))
            return otherwise

    def _history(self) -> list[dict[str, Any]]:
        file = self.path / HISTORY_FILE
        try:
            lines = [json.loads(line) for line in file.read_text().splitlines()] if exists(file) else []
        except (OSError, ValueError, RecursionError) as problem:
            self.notes.append(f"{file} cannot be read: {problem}")
            return []
        entries = [{key: v for key, v in line.items() if is_number(v)} for line in lines if isinstance(line, dict)]
        return [{"epoch": number, **entry} for number, entry in enumerate(entries, 1)]

    def part(self, name: str) -> dict[str, Any]:
        """A part of train.json (``config``, ``data``, ``began``), empty where it is not there."""
        found = self.told.get(name)
        return found if isinstance(found, dict) else {}

    @property
    def name(self) -> str:
        """What the network is called."""
        return str(self.description.get("architecture") or "a network")

    @property
    def data_name(self) -> str:
        """What the data is called; of a folder its name, since where it lay is no one else's business."""
        kind, _, place = str(self.part("data").get("name")).partition(":")
        return f"{kind}:{Path(place).name}" if place else kind

    @property
    def sessions(self) -> list[dict[str, Any]]:
        """How the run began, and how it went on: ``command``, ``machine``, and the step (0 for the beginning)."""
        resumed = self.told.get("resumed")
        later = [session for session in resumed if isinstance(session, dict)] if isinstance(resumed, list) else []
        return [{"step": 0, **self.part("began")}, *later]

    @property
    def epochs(self) -> str:
        """``10``, or ``3 of 10``."""
        wanted = self.part("config").get("epochs")
        return f"{len(self.history)}" if wanted in (None, len(self.history)) else f"{len(self.history)} of {wanted}"

    @property
    def state(self) -> str:
        """Whether the run is at its end, and what there is to go on with if it is not."""
        if self.finished:
            return "finished"
        return "not finished; a checkpoint is there" if exists(self.path / CHECKPOINT_FILE) else "not finished"

    @property
    def evaluations(self) -> dict[str, dict[str, Any]]:
        """What the last tests found, by name: ``test``, ``val``, ``test_ten_crop``."""
        found = self.metrics.get("evaluations")
        return {k: v for k, v in found.items() if isinstance(v, dict)} if isinstance(found, dict) else {}

    @cached_property
    def confusion(self) -> torch.Tensor | None:
        """int64 (classes, classes) of the test images: rows are the true classes, columns the given ones."""
        table = self.evaluations.get("test", {}).get("confusion")
        try:
            found = torch.tensor(table)
        except (TypeError, ValueError, RuntimeError, OverflowError):
            return None
        square = found.dim() == 2 and found.shape[0] == found.shape[1] > 0
        return found if square and found.dtype == torch.int64 and bool((found >= 0).all()) else None

    def classes(self, n: int) -> list[str]:
        """What each of ``n`` classes is called; its number where that is not known."""
        for names in (self.part("data").get("classes"), self.description.get("label_names")):
            if isinstance(names, list) and len(names) == n:
                return [str(name) for name in names]
        return [str(number) for number in range(n)]

    # --- the network ---

    @property
    def spec(self) -> Any:
        """The network as a value, where it is one that its files can build again; else None."""
        inner = self.description.get(METADATA_KEY)
        return inner.get("spec") if isinstance(inner, dict) else None

    @cached_property
    def module(self) -> nn.Module | None:
        """The network on the meta device, where its files can build it again."""
        if self.spec is None:
            return None
        with torch.device("meta"):
            return self._read(lambda: self.build(self.description), None)  # type: ignore[no-any-return]

    @cached_property
    def report(self) -> CountReport | None:
        """Its counts for one image, where its files can build it again."""
        module = self.module
        describe = getattr(module, "describe", None)
        if module is None or not callable(describe):
            return None
        size = describe()["pretrained_cfg"]["input_size"]
        return self._read(lambda: count_image(module, size, self.name), None)  # type: ignore[no-any-return]

    # --- the weights ---

    @cached_property
    def _file(self) -> tuple[Path, str, dict[str, TensorInfo], dict[str, Any]]:
        """The file of the weights (or of the last checkpoint), what their names begin with, and its header."""
        for name, prefix in ((WEIGHTS_FILE, ""), (CHECKPOINT_FILE, "model.")):
            file = self.path / name
            header = self._read(partial(read_header, file), None) if exists(file) else None
            if header is not None:
                return file, prefix, {k: kind for k, kind in header[0].items() if k.startswith(prefix)}, header[1]
        return self.path / WEIGHTS_FILE, "", {}, {}

    @property
    def weights(self) -> dict[str, tuple[int, ...]]:
        """Name -> shape of every tensor of the weights, or of those of the last checkpoint."""
        _, prefix, tensors, _ = self._file
        return {name.removeprefix(prefix): shape for name, (_, shape) in tensors.items()}

    @cached_property
    def checksum(self) -> tuple[str, str]:
        """SHA-256 of the weights, and whether the file holds them; empty where there are no weights."""
        file, prefix, _, about = self._file
        inner = about.get(METADATA_KEY)
        said = self.metrics.get("weights_sha256") or (inner.get("weights_sha256") if isinstance(inner, dict) else None)
        if prefix or not exists(file):
            return str(said or ""), "not there" if said else ""
        found = self._read(lambda: weights_sha256(iter_tensors(file, read_aliases(file, about))), "")
        if said in (None, found):
            return found, "computed now" if found else ""
        return str(said), f"the file holds others ({found})" if found else "the file cannot be read"

    @cached_property
    def filters(self) -> tuple[str, torch.Tensor] | None:
        """Name and weights (N, C, h, w) of the first convolution.

        Where the network does not say which it is, that is the first by name of the tensors with four dimensions.
        """
        file, prefix, *_ = self._file
        told = self.description.get("pretrained_cfg")
        first = f"{told.get('first_conv')}.weight" if isinstance(told, dict) else ""
        kernels = [name for name, shape in self.weights.items() if len(shape) == 4 and 0 not in shape]
        four = sorted((name for name in kernels if max(self.weights[name][2:]) <= _LARGEST), key=_natural)
        if not four:
            return None
        name = first if first in four else four[0]
        found = self._read(lambda: _one_tensor(file, prefix + name), None)
        return None if found is None else (name.removesuffix(".weight"), found)


def _one_tensor(file: Path, name: str) -> torch.Tensor:
    """One tensor of a file, the others left there."""
    return next(tensor for other, tensor in iter_tensors(file, {}, mmap=True) if other == name).clone()


def is_number(value: object) -> bool:
    """Whether a value is a finite number."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < _MOST
