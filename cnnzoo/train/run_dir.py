"""The folder of a run: writing its files, and opening it again to resume or record the run."""

from __future__ import annotations

import dataclasses
import json
import os
import shlex
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn

from cnnzoo.data import Data, load_data
from cnnzoo.device import machine_info
from cnnzoo.errors import CnnzooError, FileError, InputError
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
    os_reason,
    read_json,
    remove_file,
    remove_partial_files,
    strip_local_paths,
    write_json,
)
from cnnzoo.measure.figures import save_figure
from cnnzoo.measure.learning_curves import history_figure
from cnnzoo.metadata import describe
from cnnzoo.serialization import (
    METADATA_KEY,
    load_verified,
    save_model,
)
from cnnzoo.text import printable
from cnnzoo.train.checkpoint_file import load_checkpoint, save_checkpoint
from cnnzoo.train.config import TrainConfig
from cnnzoo.train.lock import LOCK_FILE, FolderLock
from cnnzoo.train.results import read_history, write_metrics
from cnnzoo.train.setup import RunSetup

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
            resume), ``extended_from`` (the number of epochs before the run was trained longer), ``initial_provenance``
            if the initial weights were not random, ``recipe`` (``name``, ``reason``) if the config comes from one, and
            ``functions`` if the run needs some that its config does not name (see ``cnnzoo.train.functions``).
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.info: dict[str, Any] = {}
        self._lock: FolderLock | None = None
        self._train_file = self._read_train_file()  # as this object knows it

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

    def _read_train_file(self) -> bytes | None:
        file = self.path / TRAIN_FILE
        if not exists(file) or not file.is_file():
            return None
        try:
            return file.read_bytes()
        except OSError as error:
            raise FileError(f"{file} cannot be read: {os_reason(error)}") from None

    def holds_run(self) -> bool:
        """Returns whether there is a run in the folder."""
        return self._train_file is not None

    # --- writing ---

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keeps other processes from writing into the folder, within a ``with`` statement.

        Raises:
            FileError: If another process writes into it, or has done so since this object was built; or if a file of it
                is a link that leads out of it.
        """
        for name in (LOCK_FILE, *RUN_DIR_FILES):
            self._require_inside(name)
        with FolderLock(self.path, _command()) as self._lock:
            if self._read_train_file() != self._train_file:
                raise FileError(f"another process has trained in {self.path} meanwhile; run the command again")
            for name in RUN_DIR_FILES:
                remove_partial_files(self.path / name)
            try:
                yield
            finally:
                self._lock = None

    def _require_inside(self, name: str) -> None:
        """Raises FileError if a file is a link that leads out of the folder, where a run must not write."""
        file = self.path / name
        if file.is_symlink() and not Path(os.path.realpath(file)).is_relative_to(os.path.realpath(self.path)):
            raise FileError(f"{file} is a link to {os.readlink(file)}, out of the folder of the run; remove the link")

    def _writable(self, name: str = "") -> Path:
        """Returns the path of a file that is to be written or removed.

        Raises:
            FileError: If the folder is not the one that was locked.
        """
        if self._lock is not None and not self._lock.is_held():
            raise FileError(
                f"{self.path} was removed, moved or replaced while the run trained in it, or its {LOCK_FILE} was; "
                "nothing more is written there. Start the run again"
            )
        return self.path / name

    def require_free(self, overwrite: bool) -> None:
        """Raises FileError if the folder holds a run, unless it may be overwritten."""
        if exists(self.path) and not self.path.is_dir():
            raise FileError(f"out={str(self.path)!r} is a file; name a folder")
        files = [name for name in RUN_DIR_FILES if exists(self.path / name)]
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
        # a killed process leaves a run that starts anew: train.json is replaced, the checkpoint removed first
        for name in (CHECKPOINT_FILE, *RUN_DIR_FILES):
            if name != TRAIN_FILE:
                remove_file(self._writable(name))
        data = {**data, "options": _plain_or_none(data.get("options", {}))}
        self.info = {"config": config.to_dict(), "data": data, "sessions": [_session(0)]}
        if initial_provenance is not None:
            self.info["initial_provenance"] = dict(initial_provenance)
        self._write_info()
        write_json(self._writable(CONFIG_FILE), description)

    def add_info(self, **values: Any) -> None:
        """Adds values to train.json."""
        self.info |= values
        self._write_info()

    def _write_info(self) -> None:
        write_json(self._writable(TRAIN_FILE), self.info)
        self._train_file = self._read_train_file()

    def add_session(self, step: int, config: TrainConfig) -> None:
        """Adds a resume at a step to train.json; a finished run that is extended is not finished any more.

        Args:
            step: Number of steps done.
            config: The config, which may have more epochs than before.
        """
        if config.epochs != (epochs := self.read_config().epochs):
            self.info["extended_from"] = epochs
        self.info["config"] = config.to_dict()
        remove_file(self._writable(METRICS_FILE))
        self.info.setdefault("sessions", []).append(_session(step))
        self._write_info()

    def record_functions(self, functions: Mapping[str, Any]) -> None:
        """Writes to train.json the names of functions that the config does not name, if they have changed."""
        if functions != self.info.get("functions", {}):
            self.info["functions"] = dict(functions)
            self._write_info()

    def write_history(self, history: Sequence[Mapping[str, Any]]) -> None:
        """Writes a line of JSON per epoch."""
        with atomic_write(self._writable(HISTORY_FILE)) as file:
            file.write("".join(json.dumps(entry) + "\n" for entry in history).encode())

    def save_checkpoint(self, tensors: Mapping[str, torch.Tensor], values: Mapping[str, Any]) -> None:
        """Replaces the checkpoint, completely or not at all."""
        save_checkpoint(self._writable(CHECKPOINT_FILE), tensors, {**values, "config": self.info["config"]})

    def save_best(self, state: Mapping[str, torch.Tensor], description: Mapping[str, Any]) -> None:
        """Writes the weights with the best validation accuracy."""
        save_model(self._writable(BEST_FILE), state, description)

    def load_best(self) -> dict[str, torch.Tensor]:
        """Returns the weights with the best validation accuracy.

        Raises:
            FileError: If they cannot be read, or are damaged.
            WeightsError: If the file is not a complete safetensors file.
        """
        return load_verified(self.path / BEST_FILE)[0]

    def save_weights(self, state: Mapping[str, torch.Tensor], description: Mapping[str, Any]) -> str:
        """Writes the weights, and returns their checksum.

        Args:
            state: The weights.
            description: What ``cnnzoo.modules.describe`` returns of the model.
        """
        return save_model(self._writable(), state, description)

    def save_metrics(self, metrics: Mapping[str, Any], history: Sequence[Mapping[str, Any]]) -> None:
        """Writes the final metrics, which mark the run as finished."""
        write_metrics(self._writable(METRICS_FILE), metrics, history)

    def draw_curves(self, history: Sequence[Mapping[str, Any]]) -> None:
        """Draws the learning curves; if that fails, a warning says why."""
        file = self._writable(CURVES_FILE)
        try:
            save_figure(history_figure(history, title=self._title()), file)
        except Exception as error:  # such as a backend that matplotlib does not know
            warnings.warn(f"{file} was not drawn: {type(error).__name__}: {error}", stacklevel=3)

    def _title(self) -> str:
        """Returns which run it is: ``lenet on fashion_mnist, seed 0``."""
        network = read_json(self.path / CONFIG_FILE).get("architecture", "a network")
        data = strip_local_paths(str(self.info["data"]["name"]))
        return printable(f"{network} on {data}, seed {self.info['config']['seed']}")

    def remove_checkpoint(self) -> None:
        """Removes the checkpoint of a finished run, unless its config keeps it."""
        if not self._keeps_checkpoint:
            remove_file(self._writable(BEST_FILE))  # equal to the weights
            remove_file(self._writable(CHECKPOINT_FILE))

    @property
    def _keeps_checkpoint(self) -> bool:
        return bool(self.info["config"].get("keep_checkpoint"))

    def tidy(self) -> None:
        """Does what a finished run was killed before doing: draws the curves and removes the checkpoint.

        Raises:
            FileError: If another process writes into the folder.
        """
        has_curves = exists(self.path / CURVES_FILE)
        if self.has_checkpoint() and not (self._keeps_checkpoint and has_curves):
            with self.locked():
                if not has_curves:
                    self.draw_curves(read_history(self.path))
                self.remove_checkpoint()

    # --- resuming ---

    def is_finished(self) -> bool:
        """Returns whether the run reached its end."""
        return exists(self.path / METRICS_FILE) and exists(self.path / WEIGHTS_FILE)

    def has_checkpoint(self) -> bool:
        """Returns whether there is a checkpoint."""
        return exists(self.path / CHECKPOINT_FILE)

    def read_config(self, expected: TrainConfig | None = None) -> TrainConfig:
        """Returns the config of the run.

        Args:
            expected: The config that is expected, if any.

        Raises:
            FileError: If train.json is damaged.
            InputError: If the run has another one.
        """
        for key, kind in (("config", dict), ("sessions", list), ("functions", dict), ("initial_provenance", dict)):
            if not isinstance(self.info.get(key, kind()), kind):
                raise FileError(f"{self.path / TRAIN_FILE} is damaged: {key} must be a {kind.__name__}")
        try:
            config = TrainConfig.from_dict(self.info.get("config"))
        except CnnzooError as error:
            raise type(error)(f"{self.path / TRAIN_FILE}: {error}") from None
        if expected is not None:
            self._require_same_config(config, expected, "config=")
        return config

    def extends(self, setup: RunSetup) -> bool:
        """Returns whether a run trains this one for more epochs, from its checkpoint, at the same learning rates.

        Args:
            setup: The fixed values of the run.
        """
        own, config = self.read_config(), setup.config
        if own.replace(epochs=config.epochs) != config or config.epochs <= own.epochs or not self.has_checkpoint():
            return False
        history, before = read_history(self.path), dataclasses.replace(setup, config=own)
        steps = range(own.epochs * setup.steps_per_epoch)
        return all(setup.lr_at(step, history) == before.lr_at(step, history) for step in steps)

    def _require_same_config(self, config: TrainConfig, other: TrainConfig, source: str) -> None:
        if changes := config.diff(other):
            raise InputError(
                f"the run in {self.path} can only continue with the config that it started with, and {source} "
                f"differs: {changes}. Change that back, name another folder, or pass overwrite=True (--overwrite)"
            )

    def require_same(self, setup: RunSetup) -> None:
        """Raises InputError if the run has another config that does not extend it, other data or another network.

        Args:
            setup: The fixed values of the run that would continue it.
        """
        if not self.extends(setup):
            self._require_same_config(self.read_config(), setup.config, "this one")
        if setup.data_sha256 != self.info["data"]["sha256"]:
            raise InputError(
                f"{setup.data.name} is not the data of the run in {self.path}: its checksum differs. Name another "
                "folder, or pass overwrite=True (--overwrite)"
            )
        if not exists(self.path / CONFIG_FILE):  # killed between train.json and config.json
            return
        own, description = read_json(self.path / CONFIG_FILE), describe(setup.model)
        if _network(own) != _network(description):
            raise InputError(
                f"the run in {self.path} trains another network ({own.get('architecture')}) than this one "
                f"({description.get('architecture')}); name another folder, or pass overwrite=True (--overwrite)"
            )

    def load_checkpoint(self, setup: RunSetup) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
        """Returns the tensors of the checkpoint and its plain values.

        Args:
            setup: The fixed values of the run.

        Raises:
            FileError: If the file cannot be read, is damaged, or is not a checkpoint of the run.
            InputError: If its config is not that of train.json, or that before the run was extended.
        """
        file = self.path / CHECKPOINT_FILE
        tensors, values = load_checkpoint(file)
        config, own = TrainConfig.from_dict(values["config"]), self.read_config()
        if config.epochs == self.info.get("extended_from"):  # killed before the next checkpoint
            config = config.replace(epochs=own.epochs)
        self._require_same_config(config, own, "its train.json")
        step, epochs = values["step"], len(values["history"])
        missing = step - epochs * setup.steps_per_epoch  # that of the last epoch comes before its evaluation
        if not 0 <= missing <= setup.steps_per_epoch or step > own.epochs * setup.steps_per_epoch:
            raise FileError(
                f"{file} is not a checkpoint of the run: it says step {step} after {epochs} epochs, of {own.epochs} "
                f"epochs of {setup.steps_per_epoch} steps"
            )
        return tensors, values

    def load_model(self, build_model: Callable[[Mapping[str, Any]], nn.Module] | None) -> nn.Module:
        """Returns the model that config.json describes.

        Raises:
            InputError: If ``build_model`` is None, or the modules of the model were changed by hand.
        """
        description = read_json(self.path / CONFIG_FILE)
        inner = description.get(METADATA_KEY)
        if build_model is None or (isinstance(inner, dict) and "spec" not in inner):  # changed by hand
            raise InputError(f"the model of {self.path} cannot be built from its files alone; pass model=")
        return build_model(description)

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


def _network(description: Mapping[str, Any]) -> tuple[Any, Any]:
    """Returns what a description says of the network itself: its name, and its Spec if it has one."""
    inner = description.get(METADATA_KEY)
    return description.get("architecture"), inner.get("spec") if isinstance(inner, Mapping) else None


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
