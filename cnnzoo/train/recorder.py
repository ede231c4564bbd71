"""What a run writes: its folder, from the start to the results, and the metadata of the model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from cnnzoo.metadata import Metadata, describe, set_metadata
from cnnzoo.serialization import require_storable
from cnnzoo.train import checks, provenance
from cnnzoo.train.checkpoint import TrainState
from cnnzoo.train.evaluation import Evaluation
from cnnzoo.train.functions import describe_functions
from cnnzoo.train.run import Run
from cnnzoo.train.run_dir import RunDir
from cnnzoo.train.setup import RunSetup

History = Sequence[Mapping[str, Any]]


class RunRecorder:
    """Writes the files of a run, if it has a folder, on rank 0; and sets the metadata of the model.

    Args:
        setup: The fixed values of the run.
        run_dir: The folder of the run; None writes nothing.
        initial_provenance: Where the initial weights come from, None if they are random.
    """

    def __init__(self, setup: RunSetup, run_dir: RunDir | None, initial_provenance: Mapping[str, Any] | None) -> None:
        self._setup, self._run_dir, self._initial_provenance = setup, run_dir, initial_provenance
        self._model, self._config = setup.model, setup.config

    @property
    def _writable(self) -> RunDir | None:
        return self._run_dir if self._setup.distributed.rank == 0 else None

    def locked(self) -> AbstractContextManager[None]:
        """Keeps other processes from writing into the folder; see ``RunDir.locked``."""
        return nullcontext() if self._writable is None else self._writable.locked()

    def tidy(self) -> None:
        """Does what a finished run was killed before doing; see ``RunDir.tidy``."""
        if self._writable is not None:
            self._writable.tidy()

    def start(self, step: int, history: History, *, resumed: bool) -> None:
        """Writes train.json and the history; for a resumed run, adds a session to train.json.

        Args:
            step: Number of steps done.
            history: The epochs so far.
            resumed: Whether the run continues from a checkpoint.

        Raises:
            WeightsError: If the state dict of the model holds what a checkpoint cannot.
        """
        if (run_dir := self._writable) is None:
            return
        require_storable(self._model.state_dict())
        if resumed:
            run_dir.add_session(step, self._config)
        else:
            data = self._setup.data
            info = {
                "name": data.name,
                "sha256": self._setup.data_sha256,
                "classes": list(map(str, data.classes)),
                "options": data.options,
                "skipped": list(data.skipped),
            }
            description = describe(self._model)
            provenance.warn_about_missing_spec(self._model, description, self._setup.name, run_dir.path)
            run_dir.create(self._config, info, description, self._initial_provenance)
        run_dir.record_functions(describe_functions(self._setup.functions))
        run_dir.write_history(history)

    def write_history(self, history: History) -> None:
        """Writes the epochs so far."""
        if self._writable is not None:
            self._writable.write_history(history)

    def save_checkpoint(self, state: TrainState, step: int, history: History) -> None:
        """Replaces the checkpoint; all processes must call this.

        Args:
            state: The state of the run.
            step: Number of steps done.
            history: The epochs so far.

        Raises:
            TrainingError: If a weight is infinite or NaN.
        """
        state.metrics.read_clock()
        if self._run_dir is None:
            return
        sums = state.metrics.gather_sums()
        if (run_dir := self._writable) is None:
            return
        checks.require_finite_weights(self._model, self._setup.name, step, self._setup.lr_at(step - 1, history))
        tensors, values = state.collect(sums)
        run_dir.save_checkpoint(tensors, {"step": step, "history": history, **values})

    def save_best(self, entry: Mapping[str, Any]) -> None:
        """Writes the weights with the best validation accuracy so far, those of ``entry`` of the history."""
        if self._writable is not None:
            self.update_metadata(entry, entry["step"])
            self._writable.save_best(self._model.state_dict(), describe(self._model))

    def update_metadata(self, metrics: Mapping[str, Any], step: int) -> None:
        """Replaces the metadata of the model, if it has any.

        Args:
            metrics: Metrics of its weights.
            step: Number of steps of its training.
        """
        setup = self._setup
        origin = provenance.training_provenance(
            self._config, setup.data.name, setup.data_sha256, step, metrics, self._initial_provenance
        )
        set_metadata(self._model, Metadata(setup.label_names, setup.preprocessing, origin))

    def finish(self, run: Run, evaluations: Mapping[str, Evaluation]) -> None:
        """Writes the weights, of a run that reached its end also the metrics, and then draws the learning curves."""
        if (run_dir := self._writable) is None:
            return
        checksum = run_dir.save_weights(self._model.state_dict(), describe(self._model))
        if not run.interrupted:
            values = {name: evaluation.to_dict() for name, evaluation in evaluations.items()}
            run_dir.save_metrics({**run.metrics, "evaluations": values, "weights_sha256": checksum}, run.history)
        run_dir.draw_curves(run.history)
        if not run.interrupted:
            run_dir.remove_checkpoint()
