"""The folder of a run: what is written into it, and how a run is found in it again."""

from __future__ import annotations

import json
import shlex
import statistics
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from cnnzoo.device import machine
from cnnzoo.errors import FileError
from cnnzoo.measure.layer_plot import save_figure
from cnnzoo.serialization import (
    BEST_FILE,
    CHECKPOINT_FILE,
    CONFIG_FILE,
    CURVES_FILE,
    HISTORY_FILE,
    METRICS_FILE,
    TRAIN_FILE,
    WEIGHTS_FILE,
    atomic_write,
    exists,
    load_tensors,
    read_header,
    read_json,
    remove_file,
    save_model,
    save_tensors,
    write_json,
)
from cnnzoo.train.config import TrainConfig
from cnnzoo.train.run import curves, interval_95

MAX_METRICS_BYTES = 64 * 2**20  # bytes of metrics.json: a table of a thousand classes by a thousand has 14 MB
FILES = (CONFIG_FILE, WEIGHTS_FILE, BEST_FILE, TRAIN_FILE, HISTORY_FILE, METRICS_FILE, CURVES_FILE, CHECKPOINT_FILE)


class RunDir:
    """The files of a run.

    Attributes:
        path: Where they lie.
        told: What train.json says: ``config``, ``data``, ``began`` and ``resumed`` (command and machine each), and
            ``from`` (where the weights came from that it began with, if not from chance).
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.told: dict[str, Any] = {}

    @classmethod
    def opened(cls, path: Path) -> RunDir:
        """The folder of a run that is there.

        Raises:
            FileError: If there is none, or one that does not say what it is.
        """
        folder = cls(path)
        if not exists(path / TRAIN_FILE):
            raise FileError(f"{path} holds no run: there is no {TRAIN_FILE} in it")
        folder.told = read_json(path / TRAIN_FILE)
        data = folder.told.get("data")
        if not isinstance(data, dict) or not all(isinstance(data.get(key), str) for key in ("name", "sha256")):
            raise FileError(f"{path / TRAIN_FILE} is not that of a run: it does not say on what data it began")
        return folder

    def require_free(self, overwrite: bool) -> None:
        """Refuses a folder that holds a run already.

        Raises:
            FileError: If it does, unless that may be overwritten.
        """
        if exists(self.path) and not self.path.is_dir():
            raise FileError(f"out={str(self.path)!r} is a file; name a folder")
        held = [name for name in FILES if (self.path / name).exists()]
        if held and not overwrite:
            raise FileError(
                f"{self.path} holds a run already ({', '.join(held)}); go on with it (resume), name another folder, or "
                "say overwrite=True (--overwrite)"
            )

    def begin(
        self,
        config: TrainConfig,
        data: Mapping[str, Any],
        description: Mapping[str, Any],
        before: Mapping[str, Any] | None = None,
    ) -> None:
        """Says what the run is, before its first step; and where its weights come from, if not from chance."""
        for name in FILES:
            remove_file(self.path / name)
        self.told = {"config": config.to_dict(), "data": dict(data), "began": _session()}
        if before is not None:
            self.told["from"] = dict(before)
        write_json(self.path / TRAIN_FILE, self.told)
        write_json(self.path / CONFIG_FILE, description)

    def resume(self, step: int) -> None:
        """Says that the run goes on, and from where."""
        self.told.setdefault("resumed", []).append({"step": step, **_session()})
        write_json(self.path / TRAIN_FILE, self.told)

    def write_history(self, history: Sequence[Mapping[str, Any]]) -> None:
        """Writes a line of JSON for each epoch."""
        with atomic_write(self.path / HISTORY_FILE) as file:
            file.write("".join(json.dumps(entry) + "\n" for entry in history).encode())

    def has_checkpoint(self) -> bool:
        """Whether there is something to go on with."""
        return exists(self.path / CHECKPOINT_FILE)

    def save_checkpoint(self, tensors: Mapping[str, torch.Tensor], about: Mapping[str, Any]) -> None:
        """Writes a checkpoint in place of the one before, whole or not at all."""
        save_tensors(self.path / CHECKPOINT_FILE, tensors, {**about, "config": self.told["config"]})

    def load_checkpoint(self) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
        """The checkpoint, and what it says.

        Raises:
            FileError: If there is none, or something else in its place.
        """
        if not self.has_checkpoint():
            raise FileError(
                f"the run in {self.path} has no checkpoint: it is finished, or was stopped before its first"
            )
        file = self.path / CHECKPOINT_FILE
        _, about = read_header(file)
        if not {"step", "history", "seconds", "config"} <= set(about):
            raise FileError(f"{file} is no checkpoint of a run")
        return load_tensors(file), about

    def save_best(self, state: Mapping[str, torch.Tensor], description: Mapping[str, Any]) -> None:
        """Keeps the weights that did best on held-out images so far."""
        save_model(self.path / BEST_FILE, state, description)

    def finish(
        self, state: Mapping[str, torch.Tensor], description: Mapping[str, Any], metrics: Mapping[str, Any] | None
    ) -> None:
        """Writes the weights and, where the run is at its end, its metrics; then the checkpoint may go."""
        checksum = save_model(self.path, state, description)
        if metrics is not None:
            write_json(self.path / METRICS_FILE, {**metrics, "weights_sha256": checksum})
            remove_file(self.path / CHECKPOINT_FILE)


def _session() -> dict[str, Any]:
    return {"command": _command(), "machine": machine()}


def _command() -> str:
    """What was typed, without where the program lies."""
    program = Path(sys.argv[0]).name
    words = ["python", "-m", "cnnzoo"] if program == "__main__.py" else [program]
    return shlex.join([*words, *sys.argv[1:]])


def record(folders: Sequence[Path], path: Path) -> None:
    """Writes what is worth keeping of finished runs: what was done, where, and what came of it.

    Args:
        folders: The run folders: one, or several that differ in their seed alone.
        path: ``NAME`` or ``NAME.json``; the curves go into ``NAME.png`` beside it.

    Raises:
        FileError: If one holds no finished run, or a file cannot be written.
    """
    path = path.with_name(path.name.removesuffix(".json"))
    runs = [_recorded(folder) for folder in folders]
    first, histories = runs[0], [run["history"] for run in runs]
    kept: dict[str, Any] = {key: first[key] for key in ("architecture", "parameters", "config", "data", "began")}
    kept["runs"] = [{"seed": run["config"]["seed"], **{k: run[k] for k in ("metrics", "history")}} for run in runs]
    for run, entry in zip(runs, kept["runs"], strict=True):
        if "resumed" in run:
            entry["resumed"] = run["resumed"]
    accuracies = [run["metrics"]["test_acc"] for run in runs]
    kept["test_acc"] = statistics.fmean(accuracies)
    if len(runs) > 1:
        kept["test_acc_95"] = list(interval_95(accuracies))
    write_json(path.with_name(f"{path.name}.json"), kept)
    save_figure(curves(*histories), path.with_name(f"{path.name}.png"))


def _recorded(folder: Path) -> dict[str, Any]:
    told = RunDir.opened(folder).told
    if not exists(folder / METRICS_FILE):
        raise FileError(f"the run in {folder} is not finished: there is no {METRICS_FILE} in it")
    described = read_json(folder / CONFIG_FILE)
    return {
        "architecture": described.get("architecture"),
        "parameters": described.get("cnnzoo", {}).get("param_count"),
        **told,
        "metrics": read_json(folder / METRICS_FILE, MAX_METRICS_BYTES),
        "history": [json.loads(line) for line in (folder / HISTORY_FILE).read_text().splitlines()],
    }
