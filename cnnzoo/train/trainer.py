"""The training loop, for any ``nn.Module``.

The order of the images depends on (seed, epoch) alone, augmentation and dropout on (seed, step), the learning rate on
the step. So a checkpoint holds weights, optimizer state and sums, but no random state, and no step is replayed.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import partial
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import nn

from cnnzoo.data import Data
from cnnzoo.device import deterministic_algorithms, device_name, forked_rng, reuse_memory
from cnnzoo.errors import CnnzooError, FileError, InputError, TrainingError
from cnnzoo.train import checks
from cnnzoo.train.batches import PreparedBatch, TrainBatches
from cnnzoo.train.best import BestWeights
from cnnzoo.train.callbacks import end_callbacks, make_callbacks, run_callbacks
from cnnzoo.train.checkpoint import TrainState
from cnnzoo.train.compilation import should_compile
from cnnzoo.train.config import TrainConfig
from cnnzoo.train.evaluator import Evaluator
from cnnzoo.train.functions import require_functions, resolve_arguments
from cnnzoo.train.losses import LossFunction
from cnnzoo.train.metrics import MetricFunction, make_plain, summarize_history
from cnnzoo.train.optim import OptimizerFunction
from cnnzoo.train.preparation import initialize_weights, prepare_model, try_model
from cnnzoo.train.progress import ProgressDisplay
from cnnzoo.train.provenance import initial_provenance
from cnnzoo.train.recorder import RunRecorder
from cnnzoo.train.results import load_run, read_history
from cnnzoo.train.run import Run
from cnnzoo.train.run_dir import RunDir
from cnnzoo.train.schedules import ScheduleFunction
from cnnzoo.train.setup import RunSetup
from cnnzoo.train.signals import DeferredInterrupt
from cnnzoo.train.step import TrainStep
from cnnzoo.train.utilization import Utilization

if TYPE_CHECKING:
    from typing import Self


class Trainer:
    """Trains a module on a data set and leaves a run folder.

    The description of a ``cnnzoo.metadata.DescribedModule`` is written to the folder; label names, preprocessing and
    provenance become its metadata, so that the weights can be used alone.

    The processes of torchrun train one network together: each takes its share of every batch, and rank 0 writes.

    Args:
        model: Any module that returns class scores (N, classes) for images (N, C, H, W). Of a compiled module, or one
            in ``nn.DataParallel`` or ``nn.parallel.DistributedDataParallel``, the module inside is trained.
        data: The data set; its images are resized to the network's input.
        config: The settings; by default ``TrainConfig()``.
        out: The run folder; None writes nothing.
        overwrite: Whether a run in the folder may be replaced.
        resume: ``"auto"`` continues the run in the folder, if it has the same config, data and network: from its last
            checkpoint, or from the start if there is none. ``fit`` returns a finished run as it is.
        loss: Instead of ``config.loss``: a registered name, or a function as for ``register_loss``.
        optimizer: Instead of ``config.optimizer``: a registered name, or a function as for ``register_optimizer``.
        schedule: Instead of ``config.schedule``: a registered name, or a function as for ``register_schedule``.
        metrics: Besides ``config.metrics``: registered names, or functions as for ``register_metric``. To resume,
            functions must be passed again.
        callbacks: Besides ``config.callbacks``: registered names, or objects with some of the hooks of
            ``cnnzoo.train.Callback``.
        show: Whether progress is shown on standard error.

    Attributes:
        name: Name of the network, for messages.
        step: Number of steps done.
        total_steps: Number of steps of the whole run.
        steps_per_epoch: Number of steps of an epoch.
        history: One mapping per completed epoch.
        is_finished: Whether the folder holds the finished run, so that ``fit`` trains nothing.
        batch: The micro-batches of the current step, from ``on_batch`` to ``on_step``.
        device: Device of the network.
        precision: ``"bf16"``, ``"fp16"`` or ``"fp32"``.
        size: (height, width) of the network's input.
        preprocessing: How an image becomes the network's input; None for images of floats, which are used unchanged.
        label_names: Name of each class, in the order of the scores.
        distributed: The processes that train together.
        run_dir: The run folder, if there is one.

    Raises:
        InputError: If model and data do not match, or the config asks for what they do not support.
        UnknownNameError: If a pattern of ``config.freeze`` matches no parameter.
        FileError: If the folder holds another run, or cannot be written.
        UnknownNameError: If a callback has a method ``on_...`` that is no hook.
    """

    # builds the module that a config.json describes, for resume(); None: model= must be passed
    build_model: ClassVar[staticmethod[[Mapping[str, Any]], nn.Module] | None] = None

    # set by fit()
    _frozen: Sequence[nn.Parameter]
    _recorder: RunRecorder
    _state: TrainState
    _train_step: TrainStep
    _batches: TrainBatches
    _evaluator: Evaluator
    _utilization: Utilization

    def __init__(
        self,
        model: nn.Module,
        data: Data,
        config: TrainConfig | None = None,
        *,
        out: str | PathLike[str] | None = None,
        overwrite: bool = False,
        resume: str | None = None,
        loss: str | LossFunction | None = None,
        optimizer: str | OptimizerFunction | None = None,
        schedule: str | ScheduleFunction | None = None,
        metrics: Sequence[str | MetricFunction] = (),
        callbacks: Sequence[object] = (),
        show: bool = True,
    ) -> None:
        config = TrainConfig() if config is None else config
        for argument, value in (("model", model), ("data", data), ("config", config)):
            checks.require_type(argument, value)
        if resume not in (None, "auto"):
            raise InputError(f"resume must be 'auto' or None, not {resume!r}; Trainer.resume(out) continues a run")
        config, functions = resolve_arguments(
            config, loss=loss, optimizer=optimizer, schedule=schedule, metrics=metrics, callbacks=callbacks
        )
        self.config = config
        self.callbacks = make_callbacks(config.callbacks, callbacks)
        self._setup = setup = RunSetup.of(model, data, config, functions)
        self.model, self.data, self.name, self.size = setup.model, setup.data, setup.name, setup.size
        self.preprocessing, self.label_names = setup.preprocessing, setup.label_names
        self.distributed, self.device, self.precision = setup.distributed, setup.device, setup.precision
        self.steps_per_epoch, self.total_steps = setup.steps_per_epoch, setup.steps_per_epoch * config.epochs
        if show and self.distributed.rank == 0:
            self.callbacks.append(ProgressDisplay())  # last, since it shows the figures that others add
        self.step, self.history = 0, list[dict[str, Any]]()
        self.batch: Sequence[PreparedBatch] = ()
        self._is_prepared = self._should_stop = False
        self._is_complete = True  # whether the model is as after the last step
        self._checkpoint: dict[str, Any] | None = None  # plain values of the checkpoint to start from
        self._initial_provenance = None if config.init else initial_provenance(self.model)
        self.run_dir, self.is_finished = None if out is None else RunDir(Path(out)), False
        if self.run_dir is not None and resume == "auto" and not overwrite and self.run_dir.holds_run():
            self._continue(RunDir.open(self.run_dir.path))
        elif self.run_dir is not None and self.distributed.rank == 0:
            self.run_dir.require_free(overwrite)

    @classmethod
    def resume(
        cls,
        out: str | PathLike[str],
        *,
        model: nn.Module | None = None,
        data: Data | None = None,
        config: TrainConfig | None = None,
        loss: str | LossFunction | None = None,
        optimizer: str | OptimizerFunction | None = None,
        schedule: str | ScheduleFunction | None = None,
        metrics: Sequence[str | MetricFunction] = (),
        callbacks: Sequence[object] = (),
        show: bool = True,
    ) -> Self:
        """Returns a trainer that continues an interrupted run, with bitwise the same results as without interruption.

        Args:
            out: The run folder.
            model: The module, if it cannot be built from the folder's config.json; its weights are replaced.
            data: The data set, if it cannot be loaded by its name.
            config: The config that the run is expected to have.
            loss: As for a new run, like the arguments that follow.
            optimizer: As for a new run.
            schedule: As for a new run.
            metrics: As for a new run.
            callbacks: As for a new run.
            show: As for a new run.

        Raises:
            FileError: If the folder holds no run, or a finished one.
            InputError: If the model, the data or a function is missing, or the data or config is not that of the run.
        """
        run_dir = RunDir.open(Path(out))
        run_config = run_dir.read_config(config)
        if not run_dir.has_checkpoint():
            raise FileError(
                f"the run in {run_dir.path} has no checkpoint: it is finished, or was stopped before its first one; "
                f"to train its weights further, start another run: cnnzoo train {shlex.quote(str(run_dir.path))}"
            )
        model = run_dir.load_model(cls.build_model) if model is None else model
        data = run_dir.load_data() if data is None else data
        functions: dict[str, Any] = {"loss": loss, "optimizer": optimizer, "schedule": schedule, "metrics": metrics}
        trainer = cls(model, data, run_config, **functions, callbacks=callbacks, show=show)
        trainer._continue(run_dir)
        return trainer

    def _continue(self, run_dir: RunDir) -> None:
        """Takes over the run in a folder: finished, with a checkpoint, or killed before its first one.

        Raises:
            InputError: If it has another config that does not extend it, other data or another network, or needs other
                functions.
        """
        run_dir.require_same(self._setup)
        require_functions(run_dir.path, run_dir.info.get("functions", {}), self._setup.functions)
        is_extended = run_dir.read_config() != self.config
        self.run_dir, self.is_finished = run_dir, run_dir.is_finished() and not is_extended
        if self.is_finished:
            self.history = read_history(run_dir.path)
            self.step = self.history[-1]["step"] if self.history else 0
        elif run_dir.has_checkpoint():
            _, self._checkpoint = run_dir.load_checkpoint(self._setup)
            self.step, self.history = self._checkpoint["step"], self._checkpoint["history"]
            self._initial_provenance = run_dir.info.get("initial_provenance")

    @property
    def optimizer(self) -> torch.optim.Optimizer:
        """The optimizer, from ``on_start`` on."""
        return self._state.optimizer

    @property
    def last_loss(self) -> torch.Tensor:
        """Loss of the last micro-batch, on the device, from ``on_start`` on."""
        return self._train_step.last_loss

    def lr_at(self, step: int) -> float:
        """Returns the learning rate of a step, counted from 0."""
        return self._setup.lr_at(step, self.history)

    @property
    def is_compiled(self) -> bool:
        """Whether forward, loss and backward are compiled; for ``compile="auto"``, whether the run is long enough."""
        return should_compile(self._setup)

    def stop(self) -> None:
        """Ends the run after the current epoch, as if it were the last."""
        self._should_stop = True

    def fit(self) -> Run:
        """Trains to the last epoch, or until Ctrl-C, which finishes the current step and saves everything.

        Called again after an interruption, it continues. The caller's random state is restored.

        Raises:
            FileError: If another process writes into the folder, or has changed it since this trainer was built.
            TrainingError: If the loss becomes infinite or NaN.
            UnknownNameError: If a pattern of ``config.lr_multipliers`` matches no parameter.
        """
        self._recorder = RunRecorder(self._setup, self.run_dir, self._initial_provenance)
        if self.is_finished:
            assert self.run_dir is not None
            self._recorder.tidy()
            return load_run(self.run_dir.path, self.model, self.build_model)
        with (
            self.distributed.explained(),
            forked_rng(self.device),
            deterministic_algorithms(self.config.deterministic),
            reuse_memory(),
            DeferredInterrupt() as interrupt,
        ):
            self.distributed.join(self.device)
            self._frozen = prepare_model(self._setup)
            if not self._is_prepared:
                try_model(self._setup)
            with self._recorder.locked():
                self._prepare()
                return self._fit(interrupt)

    def _prepare(self) -> None:
        """Initializes the weights, or restores the checkpoint, and builds what the loop needs; once."""
        if self._is_prepared:
            if self._state.ema is not None:
                self._state.ema.restore()  # _finish has left the average in the model
            return
        setup, checkpoint = self._setup, self._checkpoint
        tensors: Mapping[str, torch.Tensor] = {}
        if checkpoint is not None:
            assert self.run_dir is not None
            tensors, checkpoint = self.run_dir.load_checkpoint(setup)
        else:
            self._recorder.start(self.step, self.history, resumed=False)
            initialize_weights(setup, self._initial_provenance)
        self._state = TrainState.of(setup)
        if checkpoint is not None:
            self._state.restore(tensors, checkpoint)
        self._train_step = TrainStep(setup, self._state, partial(self._call, "on_backward"))
        self._batches = setup.make_batches()
        keeps_best = self.config.save_best or self.config.patience
        best = BestWeights(setup, self._recorder, self.history, self.run_dir) if keeps_best else None
        on_eval = partial(self._call, "on_eval")
        self._evaluator = Evaluator(setup, self._state.ema, best, on_eval)
        self._utilization = Utilization(setup)
        if checkpoint is not None:  # written when all has been read
            self._recorder.start(self.step, self.history, resumed=True)
            self._checkpoint = None
        self._is_prepared = True

    # --- the loop ---

    def _fit(self, interrupt: DeferredInterrupt) -> Run:
        """Trains to the end of the run, or to an interruption, and writes the results."""
        self._call("on_start")
        run = None
        try:
            if len(self.history) < self.step // self.steps_per_epoch:  # a failure during the evaluation
                self._end_epoch()
            while self.step < self.total_steps and not self._should_stop and not self._stop_requested(interrupt):
                self._run_epoch(interrupt)
            if self.step == 0:  # interrupted before the first step; resuming needs a checkpoint
                self._save_checkpoint()
            run = self._finish(self.step < self.total_steps and not self._should_stop)
        except Exception as error:
            # with several processes, the others wait elsewhere
            is_savable = self._is_complete and self.distributed.size == 1 and not isinstance(error, TrainingError)
            # if the epoch is in the history, the checkpoint before its evaluation is kept, so that this is repeated
            if is_savable and (not self.history or self.history[-1]["step"] < self.step):
                with suppress(CnnzooError):  # the error itself is raised
                    self._save_checkpoint()
            raise
        finally:
            self._batches.close()
            self._evaluator.close()
            end_callbacks(self.callbacks, self, run)
        return run

    def _run_epoch(self, interrupt: DeferredInterrupt) -> None:
        """Trains to the end of the epoch, or to an interruption."""
        config, metrics = self.config, self._state.metrics
        batches = self._batches.steps(self.step)
        metrics.start_clock()
        for _ in range(self.steps_per_epoch - self.step % self.steps_per_epoch):
            with metrics.waiting():
                self.batch = next(batches)
            self._call("on_batch")
            self._is_complete = False
            with metrics.stepping():
                self._train_step(self.batch, self.step, self.lr_at(self.step))
            self._is_complete = True
            metrics.samples_seen += self.batch[0].batch_size
            self.step += 1
            self._call("on_step")
            is_log_step = self.step % config.log_every == 0
            # several processes agree by an all-reduce, so they check less often
            stop = (is_log_step or self.distributed.size == 1) and self._stop_requested(interrupt)
            if is_log_step or stop:
                self._require_finite_loss()
            if stop:
                break
            # the checkpoint at the end of an epoch is saved below
            if config.checkpoint_every and self.step % config.checkpoint_every == 0 < self.step % self.steps_per_epoch:
                self._save_checkpoint()
        batches.close()
        self._save_checkpoint()  # before the evaluation, which may fail
        if self.step % self.steps_per_epoch == 0:
            self._end_epoch()

    def _end_epoch(self) -> None:
        """Evaluates if an evaluation is due, and adds the epoch to the history."""
        metrics, epoch = self._state.metrics, self.step // self.steps_per_epoch
        entry: dict[str, Any] = {"epoch": epoch, "step": self.step, "lr": self.lr_at(self.step - 1)}
        entry |= metrics.averages()
        entry |= self._evaluator.after_epoch(entry, is_last=self._should_stop or epoch == self.config.epochs)
        self._should_stop |= self._evaluator.should_stop
        entry |= metrics.throughput()
        if (fraction := self._utilization.fraction(entry["examples_per_sec"])) is not None:
            entry["mfu"] = fraction
        metrics.reset()
        self.history.append(entry)
        self._call("on_epoch", entry)
        make_plain(entry)
        self._recorder.write_history(self.history)

    def _finish(self, interrupted: bool) -> Run:
        """Restores the best weights, runs missing evaluations, undoes changes of the model, and writes the results."""
        metrics: dict[str, Any] = {"epochs": len(self.history), "device": device_name(self.device)}
        metrics |= {"precision": self.precision, "processes": self.distributed.size}
        metrics |= summarize_history(self.history)
        self._is_complete = False  # the model gets other weights, which no checkpoint must have
        if self._state.ema is not None:
            self._state.ema.apply()
        if not interrupted:
            metrics |= self._evaluator.at_end()
        for parameter in self._frozen:
            parameter.requires_grad_(True)
        self._recorder.update_metadata(metrics, self.step)
        # another memory format would change the last digits of the scores, compared with the saved weights
        self.model.to(memory_format=torch.contiguous_format)
        path = None if self.run_dir is None else self.run_dir.path
        run = Run(path, tuple(self.history), metrics, interrupted, self.model)
        self._recorder.finish(run, self._evaluator.evaluations)
        return run

    def _save_checkpoint(self) -> None:
        """Saves the state, unless it is infinite or NaN."""
        self._require_finite_loss()
        self._recorder.save_checkpoint(self._state, self.step, self.history)

    def _require_finite_loss(self) -> None:
        """Waits for the device and raises TrainingError if the loss is infinite or NaN."""
        loss, lr = self._state.metrics.total_loss(), self.lr_at(max(self.step - 1, 0))
        folder = self.run_dir.path if self.run_dir is not None and self.run_dir.has_checkpoint() else None
        checks.require_finite_loss(loss, self.name, self.step, lr, self.config.log_every, folder)

    def _stop_requested(self, interrupt: DeferredInterrupt) -> bool:
        return self.distributed.any(interrupt.requested, self.device)

    def _call(self, hook: str, *args: object) -> None:
        run_callbacks(self.callbacks, hook, self, *args)
