"""The training loop, for any ``nn.Module``.

The order of the images depends on (seed, epoch) alone, augmentation and dropout on (seed, step), the learning rate on
the step. So a checkpoint holds weights, optimizer state and sums, but no random state, and no step is replayed.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext, suppress
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import nn

from cnnzoo.data import Data, derive_seed, has_samples
from cnnzoo.device import deterministic_algorithms, device_name, forked_rng, reuse_memory, seed
from cnnzoo.errors import CnnzooError, FileError, InputError, TrainingError
from cnnzoo.initializers import initialize
from cnnzoo.metadata import describe
from cnnzoo.modules import eval_mode, explain_forward_error
from cnnzoo.train import checks, provenance
from cnnzoo.train.batches import PreparedBatch, TrainBatches
from cnnzoo.train.best import BestWeights
from cnnzoo.train.callbacks import require_known_hooks, run_callbacks
from cnnzoo.train.checkpoint import TrainState
from cnnzoo.train.config import TrainConfig
from cnnzoo.train.distributed import DistributedContext
from cnnzoo.train.ema import ModelEMA
from cnnzoo.train.evaluator import Evaluator
from cnnzoo.train.functions import describe_functions, require_functions, resolve_arguments
from cnnzoo.train.inference import compute_logits
from cnnzoo.train.losses import LossFunction, TrainLoss, make_loss
from cnnzoo.train.metrics import EpochMetrics, MetricFunction, summarize_history
from cnnzoo.train.optim import OptimizerFunction, freeze_parameters, make_optimizer, set_learning_rate
from cnnzoo.train.precision import resolve_precision
from cnnzoo.train.progress import ProgressDisplay
from cnnzoo.train.recorder import RunRecorder
from cnnzoo.train.run import Run
from cnnzoo.train.run_dir import RunDir
from cnnzoo.train.setup import RunSetup
from cnnzoo.train.signals import DeferredInterrupt
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
        metrics: Besides ``config.metrics``: registered names, or functions as for ``register_metric``. To resume,
            functions must be passed again.
        callbacks: Objects with some of the hooks of ``cnnzoo.train.callbacks.Callback``.
        show: Whether progress is shown on standard error.

    Attributes:
        name: Name of the network, for messages.
        step: Number of steps done.
        total_steps: Number of steps of the whole run.
        steps_per_epoch: Number of steps of an epoch.
        history: One mapping per completed epoch.
        is_finished: Whether the folder holds the finished run, so that ``fit`` trains nothing.
        last_loss: Loss of the last micro-batch, on the device.
        batch: The micro-batches of the current step, from ``on_batch`` to ``on_step``.
        optimizer: The optimizer; it exists from ``on_start`` on.
        lr_at: Returns the learning rate of a step; by default that of the config. To resume a run in which it was set,
            it must be set again.
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

    # set by the first fit()
    _state: TrainState
    _network: Any  # the model, wrapped in DistributedDataParallel and compiled where the run needs it
    _batches: TrainBatches
    _evaluator: Evaluator
    _best: BestWeights | None
    _utilization: Utilization
    _loss: TrainLoss
    optimizer: torch.optim.Optimizer

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
        metrics: Sequence[str | MetricFunction] = (),
        callbacks: Sequence[object] = (),
        show: bool = True,
    ) -> None:
        config = TrainConfig() if config is None else config
        for argument, value in (("model", model), ("data", data), ("config", config)):
            checks.require_type(argument, value)
        self.config, self._functions = resolve_arguments(config, loss=loss, optimizer=optimizer, metrics=metrics)
        self.model = model = checks.unwrap_trainable(model, self.config)
        require_known_hooks(callbacks)
        if resume not in (None, "auto"):
            raise InputError(f"resume must be 'auto' or None, not {resume!r}; Trainer.resume(out) continues a run")
        self.distributed = DistributedContext.current()
        self.device = self.distributed.resolve_device(self.config.device)
        self.precision = resolve_precision(self.config.precision, self.device)
        checks.require_sync_batch_norm(model, self.config, self.device, self.distributed.size)
        # the display is last, since it shows the figures that others add
        self.callbacks = [*callbacks, *([ProgressDisplay()] if show and self.distributed.rank == 0 else [])]
        self.step, self.history = 0, list[dict[str, Any]]()
        self.batch: Sequence[PreparedBatch] = ()
        self.last_loss = torch.zeros(())
        self._initialized = self._should_stop = False
        self._tested_step = -1
        self._is_complete = True
        self._checkpoint: dict[str, Any] | None = None  # plain values of the checkpoint to start from

        self._setup = setup = RunSetup.of(model, data, self.config, self.distributed.size)
        self.name, self.data, self.size = setup.name, setup.data, setup.size
        self.preprocessing, self.label_names = setup.preprocessing, setup.label_names
        self.steps_per_epoch = setup.steps_per_epoch
        self.total_steps = self.steps_per_epoch * self.config.epochs
        self._initial_provenance = None if self.config.init else provenance.initial_provenance(model)
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
            loss: As for a new run.
            optimizer: As for a new run.
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
        functions: dict[str, Any] = {"loss": loss, "optimizer": optimizer, "metrics": metrics}
        trainer = cls(model, data, run_config, **functions, callbacks=callbacks, show=show)
        trainer._continue(run_dir)
        return trainer

    def _continue(self, run_dir: RunDir) -> None:
        """Takes over the run in a folder: finished, with a checkpoint, or killed before its first one.

        Raises:
            InputError: If it has another config that does not extend it, other data or another network, or needs other
                functions.
        """
        setup = self._setup
        run_dir.require_same(
            self.config, setup.steps_per_epoch, setup.data.name, setup.data_sha256, describe(self.model)
        )
        require_functions(run_dir.path, run_dir.info.get("functions", {}), self._functions)
        is_extended = run_dir.read_config() != self.config
        self.run_dir, self.is_finished = run_dir, run_dir.is_finished() and not is_extended
        if self.is_finished:
            self.history = run_dir.read_history()
            self.step = self.history[-1]["step"] if self.history else 0
        elif run_dir.has_checkpoint():
            self._checkpoint = run_dir.read_checkpoint()
            self.step, self.history = self._checkpoint["step"], self._checkpoint["history"]
            self._initial_provenance = run_dir.info.get("initial_provenance")

    def fit(self) -> Run:
        """Trains to the last epoch, or until Ctrl-C, which finishes the current step and saves everything.

        Called again after an interruption, it continues. The caller's random state is restored.

        Raises:
            FileError: If another process writes into the folder, or has changed it since this trainer was built.
            TrainingError: If the loss becomes infinite or NaN.
            UnknownNameError: If a pattern of ``config.lr_multipliers`` matches no parameter.
        """
        if self.is_finished:
            assert self.run_dir is not None
            self._recorder.tidy()
            return self.run_dir.load_run(self.model, self.build_model)
        self.distributed.join(self.device)
        with (
            forked_rng(self.device),
            deterministic_algorithms(self.config.deterministic),
            reuse_memory(),
            DeferredInterrupt() as interrupt,
        ):
            self._prepare_model()
            if not self._initialized:
                self._try_model()
            with self._recorder.locked():
                if not self._initialized:
                    self._recorder.start(self.step, self.history, resumed=self._checkpoint is not None)
                    self._initialize()
                return self._fit(interrupt)

    def _fit(self, interrupt: DeferredInterrupt) -> Run:
        """Trains to the end of the run, or to an interruption, and writes the results."""
        run_callbacks(self.callbacks, "on_start", self)
        self._record_functions()
        run = None
        try:
            if len(self.history) < self.step // self.steps_per_epoch:  # a failure during the evaluation
                self._end_epoch()
            while self.step < self.total_steps and not self._should_stop and not self._stop_requested(interrupt):
                self._run_epoch(interrupt)
            if self.step == 0:  # interrupted before the first step; resuming needs a checkpoint
                self._save_checkpoint()
            run = self._finish(interrupted=self.step < self.total_steps and not self._should_stop)
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
            run_callbacks(self.callbacks, "on_end", self, run)
        return run

    def stop(self) -> None:
        """Ends the run after the current epoch, as if it were the last."""
        self._should_stop = True

    @property
    def lr_at(self) -> Callable[[int], float]:
        """Returns the learning rate of a step."""
        return self._functions.get("lr_at", self._scheduled_lr)  # type: ignore[no-any-return]

    @lr_at.setter
    def lr_at(self, function: Callable[[int], float]) -> None:
        self._functions["lr_at"] = function
        if self._initialized:
            self._record_functions()

    def _scheduled_lr(self, step: int) -> float:
        return self.config.learning_rate(step, self.steps_per_epoch, self.history)

    def _record_functions(self) -> None:
        """Writes to train.json the names of functions that the config does not name.

        Raises:
            InputError: If ``lr_at`` was set when the run was interrupted, and is not now.
        """
        if self.run_dir is None:
            return
        recorded = self.run_dir.info.get("functions", {})
        if "lr_at" in recorded:
            require_functions(self.run_dir.path, recorded, self._functions, ("lr_at",))
        if self.distributed.rank == 0:
            self.run_dir.record_functions(describe_functions(self._functions))

    # --- the loop ---

    def _run_epoch(self, interrupt: DeferredInterrupt) -> None:
        """Trains to the end of the epoch, or to an interruption."""
        config, metrics = self.config, self._state.metrics
        batches = self._batches.steps(self.step)
        metrics.start_clock()
        for _ in range(self.steps_per_epoch - self.step % self.steps_per_epoch):
            with metrics.waiting():
                self.batch = next(batches)
            run_callbacks(self.callbacks, "on_batch", self)
            self._is_complete = False
            with metrics.stepping():
                self._train_step(self.batch)
            self._is_complete = True
            metrics.samples_seen += self.batch[0].batch_size
            self.step += 1
            run_callbacks(self.callbacks, "on_step", self)
            is_log_step = self.step % config.log_every == 0
            # several processes agree by an all-reduce, so they check less often
            stop = (is_log_step or self.distributed.size == 1) and self._stop_requested(interrupt)
            if is_log_step or stop:
                self._require_finite_loss()
            if stop:
                break
            # the checkpoint at the end of an epoch is saved below
            if config.checkpoint_every and self.step % config.checkpoint_every == 0 < self.step % self.steps_per_epoch:
                self._require_finite_loss()
                self._save_checkpoint()
        batches.close()
        self._require_finite_loss()
        self._save_checkpoint()  # before the evaluation, which may fail
        if self.step % self.steps_per_epoch == 0:
            self._end_epoch()

    def _train_step(self, micro_batches: Sequence[PreparedBatch]) -> None:
        """Updates the weights once, without waiting for the device."""
        config, state = self.config, self._state
        optimizer, scaler = state.optimizer, state.scaler
        rank = [self.distributed.rank] if self.distributed.rank else []
        seed(self.device, derive_seed("step", config.seed, self.step, *rank))  # for dropout
        set_learning_rate(optimizer, self.lr_at(self.step))
        optimizer.zero_grad(set_to_none=True)
        for i, batch in enumerate(micro_batches, 1):
            # processes exchange gradients in the last backward pass
            is_local = i < len(micro_batches) and self.distributed.size > 1
            with self._network.no_sync() if is_local else nullcontext():
                logits, loss = self._forward(batch)
                scaler.scale(loss if batch.weight == 1 else loss * batch.weight).backward()  # type: ignore[no-untyped-call]
            if batch.weight:
                self.last_loss = loss.detach()
                state.metrics.update(loss, logits, batch.labels)
        run_callbacks(self.callbacks, "on_backward", self)
        if config.clip_norm:
            scaler.unscale_(optimizer)
            nn.utils.clip_grad_norm_(self.model.parameters(), config.clip_norm)
        scaler.step(optimizer)
        scaler.update()
        if state.ema is not None:
            state.ema.update(self.step)

    def _forward(self, batch: PreparedBatch) -> tuple[torch.Tensor, torch.Tensor]:
        """Returns logits, (N, classes), and mean loss of a micro-batch."""
        with checks.explain_batch_norm_error(self.name, len(batch.labels)):
            logits = compute_logits(self._network, batch.x, self.precision, len(self.data.classes))
        labels = batch.labels if batch.targets is None else batch.targets
        return logits, self._loss(logits, labels)

    def _stop_requested(self, interrupt: DeferredInterrupt) -> bool:
        return self.distributed.any(interrupt.requested, self.device)

    def _require_finite_loss(self) -> None:
        """Waits for the device and raises TrainingError if the loss is infinite or NaN."""
        loss, lr = self._state.metrics.total_loss(), self.lr_at(self.step - 1)
        checks.require_finite_loss(loss, self.name, self.step, lr, self.config.log_every, self.run_dir)

    # --- before the first step ---

    def _try_model(self) -> None:
        """Raises InputError if model, loss and optimizer do not fit, before anything is written."""
        image = torch.zeros(1, self.data.shape[0], *self.size, device=self.device)
        self._loss = make_loss(
            self.config, self.device, function=self._functions.get("loss"), class_weights=self._setup.class_weights
        )
        with eval_mode(self.model), torch.no_grad():
            with explain_forward_error(self.name, image):
                logits = compute_logits(self.model, image, "fp32", len(self.data.classes))
            self._loss(logits, torch.zeros(1, dtype=torch.int64, device=self.device))
        make_optimizer(self.model, self.config, self._functions.get("optimizer"))
        if has_samples(train := self._setup.train_data.train):
            shape, processes = (self.data.shape[0], *self.size), self.distributed.size
            checks.require_batch_norm_values(self.model, self.name, shape, len(train), self.config, processes)

    def _prepare_model(self) -> None:
        """Moves the model to the device, sets it to train mode and freezes parameters.

        If ``fit`` is called again, the weights replace their average, which ``_finish`` left in the model.
        """
        memory_format = torch.channels_last if self.config.channels_last else torch.contiguous_format
        self.model.to(self.device, memory_format=memory_format)  # type: ignore[call-overload]
        self.model.train()
        self._frozen = freeze_parameters(self.model, self.config)
        if self._initialized and self._state.ema is not None:
            self._state.ema.restore()

    def _initialize(self) -> None:
        """Initializes the weights, builds optimizer and batches, restores the checkpoint."""
        config, device = self.config, self.device
        if config.init is not None and self._checkpoint is None:
            if provenance.initial_provenance(self.model) is not None:
                provenance.warn_about_replaced_weights(self.name, config.init)
            seed(device, derive_seed("init", config.seed))
            initialize(self.model, config.init)
        elif self._initial_provenance is not None and self._checkpoint is None:
            provenance.warn_about_other_classes(self.model, self.name, self.data.classes, self.data.name)
        self.optimizer = make_optimizer(self.model, config, self._functions.get("optimizer"))
        self._state = TrainState(
            self.model,
            self.optimizer,
            torch.amp.GradScaler(device.type, enabled=self.precision == "fp16"),
            ModelEMA(self.model, config.ema) if config.ema else None,
            EpochMetrics(device, self.distributed),
        )
        if self._checkpoint is not None:
            assert self.run_dir is not None
            self._state.restore(self.run_dir.load_checkpoint(), self._checkpoint)
            self._checkpoint = None
        self._network = self.distributed.wrap(
            self.model,
            device,
            accumulation_steps=config.accumulation_steps,
            compress=config.compress_gradients,
            sync_batch_norm=config.sync_batch_norm,
        )
        if config.compile:
            self._network = torch.compile(self._network)
        self._batches = TrainBatches(
            self._setup.train_data,
            config,
            preprocessing=self.preprocessing,
            label_map=self._setup.label_map,
            color_components=self.data.color_components if config.augmentation.pca_lighting else None,
            device=device,
            distributed=self.distributed,
        )
        self._evaluator = Evaluator(
            self.model,
            self._setup,
            config,
            precision=self.precision,
            metrics=self._functions.get("metrics", {}),
            distributed=self.distributed,
            on_eval=lambda evaluation: run_callbacks(self.callbacks, "on_eval", self, evaluation),
        )
        size = (self.data.shape[0], *self.size)
        self._utilization = Utilization(self.model, size, self.precision, device, self.distributed.size)
        keeps_best = config.save_best or config.patience
        self._best = BestWeights(self.model, self.history, self.run_dir) if keeps_best else None
        self._initialized = True

    # --- the end of an epoch and of the run ---

    def _end_epoch(self) -> None:
        """Evaluates if an evaluation is due, and adds the epoch to the history."""
        config, ema, metrics = self.config, self._state.ema, self._state.metrics
        epoch = self.step // self.steps_per_epoch
        entry: dict[str, Any] = {"epoch": epoch, "step": self.step, "lr": self.lr_at(self.step - 1)}
        entry |= metrics.averages()
        with nullcontext() if ema is None else ema.applied():
            is_due = config.eval_every and epoch % config.eval_every == 0
            if self._evaluator.has_val and (is_due or epoch == config.epochs):
                entry |= self._evaluator.validate()
                self._update_best(entry)
            is_last = epoch == config.epochs or self._should_stop
            if is_last and self._best is None:
                entry |= self._test()
            elif is_due and not self._evaluator.has_val:
                entry |= self._evaluator.validate()
        entry |= metrics.throughput()
        if (fraction := self._utilization.fraction(entry["examples_per_sec"])) is not None:
            entry["mfu"] = fraction
        metrics.reset()
        self.history.append(entry)
        run_callbacks(self.callbacks, "on_epoch", self, entry)
        self._recorder.write_history(self.history)

    def _update_best(self, entry: Mapping[str, Any]) -> None:
        """Saves the weights if they are the best so far; stops after ``patience`` epochs without a better accuracy."""
        if self._best is None:
            return
        if self._best.update(entry):
            self._recorder.save_best(entry)
        if self.config.patience and self._best.epochs_since(entry["epoch"]) >= self.config.patience:
            self._should_stop = True

    def _test(self) -> dict[str, Any]:
        """Returns the final accuracies and metrics by name."""
        self._tested_step = self.step
        return self._evaluator.test()

    def _finish(self, interrupted: bool) -> Run:
        """Restores the best weights, runs missing evaluations, undoes changes of the model, and writes the results."""
        metrics: dict[str, Any] = {"epochs": len(self.history), "device": device_name(self.device)}
        metrics |= {"precision": self.precision, "processes": self.distributed.size}
        metrics |= summarize_history(self.history)
        self._is_complete = False  # the model gets other weights, which no checkpoint must have
        if self._state.ema is not None:
            self._state.ema.apply()
        if not interrupted and self._best is not None:
            metrics |= self._best.restore()
        if not interrupted and self._tested_step != self.step:
            metrics |= self._test()
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
        self._state.metrics.read_clock()
        self._recorder.save_checkpoint(self._state, self.step, self.history, self.lr_at(self.step - 1))

    @property
    def _recorder(self) -> RunRecorder:
        return RunRecorder(
            self.run_dir, self.model, self._setup, self.config, self.distributed, self._initial_provenance
        )
