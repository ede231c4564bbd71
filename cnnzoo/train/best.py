"""The weights with the best validation accuracy: the result of a run with ``save_best`` or ``patience``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from cnnzoo.train.metrics import is_result
from cnnzoo.train.recorder import RunRecorder
from cnnzoo.train.run_dir import RunDir
from cnnzoo.train.setup import RunSetup


class BestWeights:
    """The best weights so far, in memory and in the run folder; those of a resumed run are read from it.

    Args:
        setup: The fixed values of the run.
        recorder: Writes them.
        history: The epochs so far.
        run_dir: The folder of the run, if there is one.
    """

    def __init__(
        self, setup: RunSetup, recorder: RunRecorder, history: Sequence[Mapping[str, Any]], run_dir: RunDir | None
    ) -> None:
        validated = [entry for entry in history if "val_acc" in entry]
        self._entry: Mapping[str, Any] | None = max(validated, key=lambda entry: entry["val_acc"], default=None)
        self._model, self._patience, self._recorder = setup.model, setup.config.patience, recorder
        self._state = dict[str, torch.Tensor]()
        if self._entry is not None and run_dir is not None:
            self._state = run_dir.load_best()

    def update(self, entry: Mapping[str, Any]) -> bool:
        """Keeps the weights of an epoch if its validation accuracy is the best.

        Args:
            entry: The epoch, as in the history.

        Returns:
            Whether the run should end, after ``patience`` epochs without a better accuracy.
        """
        if self._entry is not None and entry["val_acc"] <= self._entry["val_acc"]:
            return 0 < self._patience <= int(entry["epoch"]) - int(self._entry["epoch"])
        self._entry = entry
        self._state = {name: tensor.clone() for name, tensor in self._model.state_dict().items()}
        self._recorder.save_best(entry)
        return False

    def restore(self) -> dict[str, Any]:
        """Makes the best weights those of the model; returns the metrics of their epoch."""
        if self._entry is None:  # stopped before the first validation
            return {}
        self._model.load_state_dict(self._state)
        return {"best_epoch": self._entry["epoch"], **{key: v for key, v in self._entry.items() if is_result(key)}}
