"""The weights with the best validation accuracy: the result of a run with ``save_best`` or ``patience``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from cnnzoo.train.metrics import is_result
from cnnzoo.train.run_dir import RunDir


class BestWeights:
    """The best weights so far, in memory; those of a resumed run are read from its folder.

    Args:
        model: The model.
        history: The epochs so far.
        run_dir: The folder of the run, if there is one.

    Attributes:
        entry: The entry of the history of their epoch; None before the first validation.
    """

    def __init__(self, model: nn.Module, history: Sequence[Mapping[str, Any]], run_dir: RunDir | None) -> None:
        validated = [entry for entry in history if "val_acc" in entry]
        self.entry: Mapping[str, Any] | None = max(validated, key=lambda entry: entry["val_acc"], default=None)
        self._model, self._state = model, dict[str, torch.Tensor]()
        if self.entry is not None and run_dir is not None:
            self._state = run_dir.load_best()

    def update(self, entry: Mapping[str, Any]) -> bool:
        """Keeps the weights of an epoch if its validation accuracy is the best; returns whether it is.

        Args:
            entry: The entry of the history.
        """
        if self.entry is not None and entry["val_acc"] <= self.entry["val_acc"]:
            return False
        self.entry = entry
        self._state = {name: tensor.clone() for name, tensor in self._model.state_dict().items()}
        return True

    def epochs_since(self, epoch: int) -> int:
        """Returns the number of epochs from the best one to ``epoch``."""
        return 0 if self.entry is None else epoch - int(self.entry["epoch"])

    def restore(self) -> dict[str, Any]:
        """Makes the best weights those of the model; returns the metrics of their epoch."""
        if self.entry is None:  # stopped before the first validation
            return {}
        self._model.load_state_dict(self._state)
        return {"best_epoch": self.entry["epoch"], **{key: v for key, v in self.entry.items() if is_result(key)}}
