"""The folder of a run: writing its files, and opening it again to resume or record the run."""

from __future__ import annotations

import json
import shlex
import statistics
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from cnnzoo.data import Data, load_data
from cnnzoo.device import machine_info
from cnnzoo.errors import FileError, InputError
from cnnzoo.files import (
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
    read_json,
    remove_file,
    write_json,
)
from cnnzoo.measure.figures import save_figure
from cnnzoo.measure.learning_curves import history_figure
from cnnzoo.serialization import METADATA_KEY, load_tensors, read_header, save_model, save_tensors
from cnnzoo.train.config import TrainConfig
from cnnzoo.train.metrics import interval_95

MAX_METRICS_BYTES = 64 * 2**20  # of metrics.json: a confusion matrix of a thousand classes takes 14 MB
RUN_DIR_FILES = (
    CONFIG_FILE,
    WEIGHTS_FILE,
    BEST_FILE,
    TRAIN_FILE,
    HISTORY_FILE,
    METRICS_FILE,
    CURVES_FILE,
    CHECKPOINT_FILE,
)


class RunDir:
    """The files of a run.

    Args:
        path: The folder.

    Attributes:
        path: The folder.
        info: The content of train.json: ``config``, ``data`` (``name``, ``sha256``, ``classes``, ``options``,
            ``skipped``), ``sessions`` (``step``, ``command`` and ``machine`` of the start, at step 0, and of each
            resume), ``initial_provenance`` if the initial weights were not random, and ``recipe`` (``name``,
            ``reason``) if the config comes from one.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.info: dict[str, Any] = {}

    @classmethod
    def open(cls, path: Path) -> RunDir:
        """Returns the folder of an existing run.

        Raises:
            FileError: If the folder holds no run, or its train.json does not name the data.
        """
        run_dir = cls(path)
        if not exists(path / TRAIN_FILE):
            raise FileError(f"{path} holds no run: there is no {TRAIN_FILE} in it")
        run_dir.info = read_json(path / TRAIN_FILE)
        data = run_dir.info.get("data")
        if not isinstance(data, dict) or not all(isinstance(data.get(key), str) for key in ("name", "sha256")):
            raise FileError(f"{path / TRAIN_FILE} is not that of a run: it lacks name and sha256 of the data")
        return run_dir

    # --- writing ---

    def require_free(self, overwrite: bool) -> None:
        """Raises FileError if the folder holds a run, unless it may be overwritten."""
        if exists(self.path) and not self.path.is_dir():
            raise FileError(f"out={str(self.path)!r} is a file; name a folder")
        files = [name for name in RUN_DIR_FILES if (self.path / name).exists()]
        if files and not overwrite:
            raise FileError(
                f"{self.path} holds a run already ({', '.join(files)}); resume it, name another folder, or pass "
                "overwrite=True (--overwrite)"
            )

    def create(
        self,
        config: TrainConfig,
        data: Mapping[str, Any],
        description: Mapping[str, Any],
        initial_provenance: Mapping[str, Any] | None = None,
    ) -> None:
        """Removes the files of an earlier run and writes train.json and config.json.

        Args:
            config: The settings.
            data: Name, checksum, classes, options and skipped images of the data.
            description: What ``cnnzoo.modules.describe`` returns of the model.
            initial_provenance: Where the initial weights come from, None if they are random.
        """
        for name in RUN_DIR_FILES:
            remove_file(self.path / name)
        data = {**data, "options": _plain_or_none(data.get("options", {}))}
        self.info = {"config": config.to_dict(), "data": data, "sessions": [_session(0)]}
        if initial_provenance is not None:
            self.info["initial_provenance"] = dict(initial_provenance)
        write_json(self.path / TRAIN_FILE, self.info)
        write_json(self.path / CONFIG_FILE, description)

    def add_info(self, **values: Any) -> None:
        """Adds values to train.json."""
        self.info |= values
        write_json(self.path / TRAIN_FILE, self.info)

    def add_session(self, step: int) -> None:
        """Adds a resume at a step to train.json."""
        self.info.setdefault("sessions", []).append(_session(step))
        write_json(self.path / TRAIN_FILE, self.info)

    def write_history(self, history: Sequence[Mapping[str, Any]]) -> None:
        """Writes a line of JSON per epoch."""
        with atomic_write(self.path / HISTORY_FILE) as file:
            file.write("".join(json.dumps(entry) + "\n" for entry in history).encode())

    def save_checkpoint(self, tensors: Mapping[str, torch.Tensor], values: Mapping[str, Any]) -> None:
        """Replaces the checkpoint, completely or not at all."""
        save_tensors(self.path / CHECKPOINT_FILE, tensors, {**values, "config": self.info["config"]})

    def save_best(self, state: Mapping[str, torch.Tensor], description: Mapping[str, Any]) -> None:
        """Writes the weights with the best validation accuracy."""
        save_model(self.path / BEST_FILE, state, description)

    def finish(
        self, state: Mapping[str, torch.Tensor], description: Mapping[str, Any], metrics: Mapping[str, Any] | None
    ) -> None:
        """Writes the weights; at the end of the run also its metrics, and removes the checkpoint.

        Args:
            state: The weights.
            description: What ``cnnzoo.modules.describe`` returns of the model.
            metrics: The final metrics; None if the run was interrupted.
        """
        checksum = save_model(self.path, state, description)
        if metrics is not None:
            write_json(self.path / METRICS_FILE, {**metrics, "weights_sha256": checksum})
            remove_file(self.path / CHECKPOINT_FILE)

    # --- resuming ---

    def has_checkpoint(self) -> bool:
        """Returns whether there is a checkpoint."""
        return exists(self.path / CHECKPOINT_FILE)

    def load_checkpoint(
        self, config: TrainConfig | None = None
    ) -> tuple[TrainConfig, dict[str, torch.Tensor], dict[str, Any]]:
        """Returns config, tensors and plain values of the checkpoint.

        Args:
            config: The config that is expected, if any.

        Raises:
            FileError: If there is no checkpoint, or the file is not one.
            InputError: If its config is neither that of train.json nor the expected one.
        """
        if not self.has_checkpoint():
            raise FileError(
                f"the run in {self.path} has no checkpoint: it is finished, or was stopped before its first one"
            )
        file = self.path / CHECKPOINT_FILE
        _, values = read_header(file)
        if not {"step", "history", "seconds", "config"} <= set(values):
            raise FileError(f"{file} is not the checkpoint of a run")
        tensors = load_tensors(file)
        run_config = TrainConfig.from_dict(values["config"])
        for other, source in ((TrainConfig.from_dict(self.info.get("config")), "its train.json"), (config, "config=")):
            if other is not None and (changes := run_config.diff(other)):
                raise InputError(
                    f"the run in {self.path} can only continue with the config that it started with, and {source} "
                    f"differs: {changes}. Change that back, or start another run from its weights"
                )
        return run_config, tensors, values

    def load_model(self, build_model: Callable[[Mapping[str, Any]], nn.Module] | None) -> nn.Module:
        """Returns the model that config.json describes.

        Raises:
            InputError: If ``build_model`` is None.
        """
        if build_model is None:
            raise InputError(f"the model of {self.path} cannot be built from its files alone; pass model=")
        return build_model(read_json(self.path / CONFIG_FILE))

    def load_data(self) -> Data:
        """Returns the data of the run, loaded by its name with the options that it was loaded with.

        Raises:
            InputError: If the options could not be written to train.json.
        """
        data = self.info["data"]
        options = data.get("options", {})
        if not isinstance(options, dict):
            raise InputError(f"{data['name']} was loaded with options that train.json cannot hold; pass data=")
        return load_data(data["name"], **options)

    def require_same_data(self, data: Data) -> None:
        """Raises InputError if a data set has another checksum than that of the run."""
        if data.sha256 != self.info["data"]["sha256"]:
            raise InputError(f"{data.name} is not the data of the run in {self.path}: its checksum differs")


def _plain_or_none(options: Mapping[str, Any]) -> dict[str, Any] | None:
    """Returns options as they are read from JSON; None if JSON cannot hold them."""
    try:
        plain: dict[str, Any] = json.loads(json.dumps(dict(options)))
    except (TypeError, ValueError):
        return None
    return plain if plain == options else None


def _session(step: int) -> dict[str, Any]:
    """Returns the entry in train.json of a session that starts now, at ``step``."""
    return {"step": step, "command": _command(), "machine": machine_info()}


def _command() -> str:
    """Returns the command line of this process, without the path of the program."""
    program = Path(sys.argv[0]).name
    words = ["python", "-m", "cnnzoo"] if program == "__main__.py" else [program]
    return shlex.join([*words, *sys.argv[1:]])


def record(folders: Sequence[Path], path: Path) -> None:
    """Writes a record of finished runs: config, data, commands, machines and results as JSON, and the curves.

    Args:
        folders: The run folders: one, or several that differ in their seed only.
        path: ``NAME`` or ``NAME.json``; the curves are written to ``NAME.png`` beside it.

    Raises:
        FileError: If a folder holds no finished run, or a file cannot be written.
    """
    path = path.with_name(path.name.removesuffix(".json"))
    runs = [_read_finished(folder) for folder in folders]
    content: dict[str, Any] = {
        key: runs[0][key] for key in ("architecture", "parameters", "config", "data", "sessions")
    }
    content["runs"] = [
        {"seed": run["config"]["seed"], "metrics": run["metrics"], "history": run["history"]} for run in runs
    ]
    for run, entry in zip(runs[1:], content["runs"][1:], strict=True):
        if len(run["sessions"]) > 1:  # resumed; the sessions of the first run are in ``content``
            entry["sessions"] = run["sessions"]
    accuracies = [run["metrics"]["test_acc"] for run in runs]
    content["test_acc"] = statistics.fmean(accuracies)
    if len(runs) > 1:
        content["test_acc_95"] = list(interval_95(accuracies))
    write_json(path.with_name(f"{path.name}.json"), content)
    save_figure(history_figure(*(run["history"] for run in runs)), path.with_name(f"{path.name}.png"))


def _read_finished(folder: Path) -> dict[str, Any]:
    """Returns train.json of a finished run, and its architecture, number of parameters, metrics and history."""
    info = RunDir.open(folder).info
    if not exists(folder / METRICS_FILE):
        raise FileError(f"the run in {folder} is not finished: there is no {METRICS_FILE} in it")
    description = read_json(folder / CONFIG_FILE)
    return {
        "architecture": description.get("architecture"),
        "parameters": description.get(METADATA_KEY, {}).get("param_count"),
        **info,
        "metrics": read_json(folder / METRICS_FILE, MAX_METRICS_BYTES),
        "history": [json.loads(line) for line in (folder / HISTORY_FILE).read_text().splitlines()],
    }
