"""The training loop: exact to resume, quiet, and for any ``nn.Module``.

The order of the images is a function of (seed, epoch), augmentation and dropout of (seed, step), the learning rate of
the step: a checkpoint holds weights, optimizer state and sums, and needs neither random state nor replay.
"""

from __future__ import annotations

import math
import os
import time
import warnings
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from itertools import pairwise
from os import PathLike
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn

from cnnzoo.data import (
    Data,
    ImageData,
    StreamData,
    derive_seed,
    epoch_order,
    has_samples,
    load_data,
    make_loader,
    normalize,
    resize_and_crop,
)
from cnnzoo.data.augment import augment, sample_params
from cnnzoo.data.loaders import Batch
from cnnzoo.device import resolve_device, reused_memory, seed
from cnnzoo.errors import InputError, TrainingError
from cnnzoo.initializers import initialize
from cnnzoo.serialization import CONFIG_FILE, CURVES_FILE, read_json
from cnnzoo.train.config import TrainConfig
from cnnzoo.train.distributed import DistributedContext
from cnnzoo.train.evaluation import Evaluation, compute_logits, evaluate, resolve_precision
from cnnzoo.train.optim import ModelEMA, frozen, optimizer
from cnnzoo.train.progress import ProgressDisplay
from cnnzoo.train.run import Run, summarize_history
from cnnzoo.train.run_dir import RunDir
from cnnzoo.train.signals import DeferredInterrupt, StepClock


class Part(NamedTuple):
    """The images that one process takes at a time; a step has one part, or several one after the other.

    Attributes:
        indices: int64 (N,), or (2 N,) where each image has a partner to be mixed with.
        at: Which images of the step's batch these are.
        batch: Number of images in the step's batch, over all processes.
        weight: What the mean loss of these images counts in the step.
    """

    indices: torch.Tensor
    at: slice
    batch: int
    weight: float


class Trainer:
    """Trains a module on a data set and leaves a run folder.

    Where the module offers ``describe()``, what it says goes into the folder's files; where it has a mapping
    ``notes``, class names, mean, std, fit and provenance are entered there, so that the weights can be used alone.

    Several processes that torchrun starts train together: each takes its share of every batch, and rank 0 writes.

    Args:
        model: Any module that gives class scores (N, classes) of images (N, C, H, W).
        data: The data set; its images are made to fit what the module takes.
        config: Every knob; the default is ``TrainConfig()``.
        out: The run folder; None writes nothing.
        overwrite: Whether a run that is in the folder already may be replaced.
        callbacks: Objects with any of ``on_start(trainer)``, ``on_step(trainer)``, ``on_eval(trainer, evaluation)``,
            ``on_epoch(trainer, entry)``, ``on_end(trainer, run)``.
        show: Whether progress is shown on standard error.

    Attributes:
        step: Number of steps done.
        total_steps: Number of steps of the whole run.
        history: What each epoch gave.
        last_loss: The loss of the last step (of its last part), on the device.
        lr_at: The learning rate of a step; by default what the config says.
        mean: What is subtracted from each channel of the images, values in [0, 1].
        std: What each channel is divided by.
        name: What the run is called in its lines.
        world: Which of how many processes this is.

    Raises:
        InputError: If data and module do not fit.
        FileError: If the folder holds another run, or cannot be written.
    """

    def __init__(
        self,
        model: nn.Module,
        data: Data,
        config: TrainConfig | None = None,
        *,
        out: str | PathLike[str] | None = None,
        overwrite: bool = False,
        callbacks: Sequence[object] = (),
        show: bool = True,
    ) -> None:
        self.model, self.data, self.config = model, data, TrainConfig() if config is None else config
        for what in ("model", "data", "config"):
            require_type(what, getattr(self, what))
        _require_trainable(model, self.config)
        self.distributed = DistributedContext.current()
        self.device = resolve_device(self.config.device)
        if str(self.device) == "cuda" and self.distributed.size > 1:
            self.device = torch.device("cuda", self.distributed.local_rank)
        if self.device.type == "meta":
            raise InputError("nothing can be trained on the meta device; use device='auto'")
        self.precision = resolve_precision(self.config.precision, self.device)
        self.callbacks = [*([ProgressDisplay()] if show and self.distributed.rank == 0 else []), *callbacks]
        self.history: list[dict[str, Any]] = []
        self.step = 0
        self.lr_at: Callable[[int], float] = self._planned_rate
        self.last_loss = torch.zeros(())
        self._checkpoint: tuple[dict[str, torch.Tensor], dict[str, Any]] | None = None
        self._begun = self._enough = False
        self._mean: ModelEMA | None = None
        self._shows_mean = False
        self._seconds = (0.0, 0.0, 0.0)  # of this epoch: in steps, waiting for data, in all
        self._seen = 0  # images of this epoch
        self._tested: dict[str, Evaluation] = {}
        self._before = None if self.config.init else self._told_origin()  # where the weights to go on with come from
        described = self._described()
        self.name = described.get("architecture", type(model).__name__)
        self.size = _input_size(described, data)
        self._sha256 = data.sha256  # of all of it, also where some of its batches alone are learned from
        self._require_fit(described)
        plain = (0.0,) * data.shape[0], (1.0,) * data.shape[0]
        self.mean, self.std = (data.mean, data.std) if self.config.normalize else plain
        self._learn = self._learned_from()
        self._samples = has_samples(self._learn.train)
        self._require_possible()
        n = len(self._learn.train)
        self.steps_per_epoch = -(-n // self.config.batch_size) if self._samples else n
        self.total_steps = self.steps_per_epoch * self.config.epochs
        self.folder = None if out is None else RunDir(Path(out))
        if self.folder is not None and self.distributed.rank == 0:
            self.folder.require_free(overwrite)

    @classmethod
    def resume(
        cls,
        out: str | PathLike[str],
        *,
        model: nn.Module | None = None,
        data: Data | None = None,
        config: TrainConfig | None = None,
        build: Callable[[Mapping[str, Any]], nn.Module] | None = None,
        callbacks: Sequence[object] = (),
        show: bool = True,
    ) -> Trainer:
        """A trainer that goes on where a run was stopped, to the same bytes as if it had not been.

        Args:
            out: The run folder.
            model: The module, where the folder's config.json cannot say it; its weights are replaced.
            data: The data set, where it is not a named one.
            config: The config, if it is to be made sure that it is the run's.
            build: Makes the module of what config.json says.
            callbacks: As for a new run.
            show: As for a new run.

        Raises:
            FileError: If the folder holds no run, or one that is finished.
            InputError: If the model or the data cannot be had, or the data or config is not that of the run.
        """
        folder = RunDir.opened(Path(out))
        began = folder.told["data"]
        tensors, about = folder.load_checkpoint()
        of_run = TrainConfig.from_dict(about["config"])
        for other, where in ((TrainConfig.from_dict(folder.told.get("config")), "its train.json"), (config, "config=")):
            if other is not None and (changes := of_run.diff(other)):
                raise InputError(
                    f"the run in {folder.path} goes on as it began, and {where} says otherwise: {changes}. Put that "
                    "back, or begin another run from its weights"
                )
        if model is None:
            if build is None:
                raise InputError(f"the model of {folder.path} cannot be built from its files alone; give model=")
            model = build(read_json(folder.path / CONFIG_FILE))
        data = data if data is not None else load_data(began["name"])
        if data.sha256 != began["sha256"]:
            raise InputError(
                f"{data.name} is not the data that the run in {folder.path} began with (its checksum differs)"
            )
        trainer = cls(model, data, of_run, callbacks=callbacks, show=show)
        trainer.folder = folder
        trainer._before = folder.told.get("from")
        trainer._checkpoint = tensors, about
        trainer.step, trainer.history = about["step"], about["history"]
        return trainer

    # --- the loop ---

    def fit(self) -> Run:
        """Trains to the last epoch, or until Ctrl-C; then the step is finished and everything saved.

        Called again after a stop, it goes on. The caller's random state is left as it was.

        Raises:
            TrainingError: If the loss is no longer a number.
        """
        self.distributed.join(self.device)
        with ExitStack() as stack:
            for surrounding in (
                _forked_random(self.device),
                _deterministic(self.config.deterministic),
                reused_memory(),
            ):
                stack.enter_context(surrounding)
            interrupt = stack.enter_context(DeferredInterrupt())
            if not self._begun:
                self._begin_folder()
            self._begin()
            self._call("on_start")
            run = None
            try:
                while self.step < self.total_steps and not self._enough and not self._asked(interrupt):
                    self._epoch(interrupt)
                if self.step == 0:  # stopped before the first step: even so there is something to go on with
                    self._save_checkpoint()
                run = self._finish(interrupted=self.step < self.total_steps and not self._enough)
            finally:
                self._call("on_end", run)
        return run

    def stop(self) -> None:
        """Ends the run after the epoch that is under way, as if it had been the last."""
        self._enough = True

    def _epoch(self, interrupt: DeferredInterrupt) -> None:
        """The rest of an epoch, or as much of it as there is time for."""
        config = self.config
        epoch, start = divmod(self.step, self.steps_per_epoch)
        began = time.perf_counter()
        waited, batches = 0.0, self._batches(epoch, start)

        def account() -> None:
            nonlocal began, waited
            now = time.perf_counter()
            passed = self._clock.seconds(), waited, now - began
            self._seconds = tuple(a + b for a, b in zip(self._seconds, passed, strict=True))  # type: ignore[assignment]
            began, waited = now, 0.0

        for parts in self._plan(epoch, start):
            asked = time.perf_counter()
            made = [self._made(part, next(batches)) for part in parts]
            waited += time.perf_counter() - asked
            self._clock.start()
            self._train_step(made, [part.weight for part in parts])
            self._clock.stop()
            self._seen += parts[0].batch if self._samples else sum(len(y) for _, y, _ in made)
            self.step += 1
            self._call("on_step")
            logs = self.step % config.log_every == 0
            # several processes must agree, which costs a message: they ask each other less often
            wanted = self._asked(interrupt) if logs or self.distributed.size == 1 else False
            if logs or wanted:
                self._require_finite()
            if wanted:
                break
            # at the end of an epoch it is saved below, with the epoch's figures
            if config.checkpoint_every and self.step % config.checkpoint_every == 0 < self.step % self.steps_per_epoch:
                self._require_finite()
                account()
                self._save_checkpoint()
        batches.close()
        self._require_finite()  # waits for the device, so that the clock below is true
        account()
        if self.step % self.steps_per_epoch == 0:
            self._end_epoch()
        if self.step < self.total_steps and not self._enough:
            self._save_checkpoint()

    def _asked(self, interrupt: DeferredInterrupt) -> bool:
        return self.distributed.any(interrupt.asked(), self.device)

    def _plan(self, epoch: int, start: int) -> Iterator[list[Part]]:
        """The parts of each step of an epoch, from the ``start``-th step on."""
        if not self._samples:
            yield from ([Part(torch.tensor([i]), slice(None), 0, 1.0)] for i in range(start, self.steps_per_epoch))
            return
        n = len(self._learn.train)
        order = epoch_order(n, self.config.seed, epoch)
        for first in range(start * self.config.batch_size, n, self.config.batch_size):
            chosen = order[first : first + self.config.batch_size]
            size = len(chosen)
            mine = self.distributed.share(size)
            count = mine.stop - mine.start
            bounds = [
                mine.start + i * count // self.config.accumulation_steps
                for i in range(self.config.accumulation_steps + 1)
            ]
            pieces = [slice(a, b) for a, b in pairwise(bounds) if b > a]
            partners = chosen.roll(-1) if self.config.augmentation.mixup else None
            yield [
                Part(
                    chosen[at] if partners is None else torch.cat([chosen[at], partners[at]]),
                    at,
                    size,
                    (at.stop - at.start) * self.distributed.size / size if count else 0.0,
                )
                for at in pieces or [slice(0, 1)]  # a process without a sample joins all the same, for nothing
            ]

    def _batches(self, epoch: int, start: int) -> Generator[Batch, None, None]:
        """Images as they are stored, and labels, for every part of the plan."""
        wanted = (part.indices for parts in self._plan(epoch, start) for part in parts)
        yield from self._feed.batches(wanted, derive_seed("data", self.config.seed, epoch))

    def _made(self, part: Part, batch: Batch) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]:
        """What the network takes of a part: images, labels, and (N, classes) targets where images are mixed."""
        images, labels = batch
        augmentation, crop_mode = self.config.augmentation, self.config.crop_mode
        target = place = partners = None
        if images.dtype == torch.uint8:
            if augmentation or crop_mode == "center":
                n = part.batch or len(labels)
                draws = sample_params(
                    augmentation, n, images.shape[1:], derive_seed("augment", self.config.seed, self.step)
                ).at(part.at)
                place = draws.place
                if augmentation.mixup:
                    half = len(draws.share)
                    others, partners = labels[half:], images[half:]
                    if not self._samples:
                        half, others, partners = len(labels), labels.roll(-1), images.roll(-1, 0)
                    images, labels = images[:half], labels[:half]
                    share = draws.share.to(self.device)[:, None]
                    one_hot = [nn.functional.one_hot(y, len(self.data.classes)) for y in (labels, others)]
                    target = one_hot[0] * share + one_hot[1] * (1 - share)
                images = augment(images, augmentation, draws, partners=partners, components=self._colors)
            x = normalize(resize_and_crop(images, self.size, crop_mode, place), self.mean, self.std)
        else:
            x = images
        return x.to(memory_format=self._layout), labels, target

    def _train_step(
        self, parts: Sequence[tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]], weights: Sequence[float]
    ) -> None:
        """One step; nothing is read back from the device."""
        config = self.config
        own = [self.distributed.rank] if self.distributed.rank else []
        seed(self.device, derive_seed("step", config.seed, self.step, *own))  # dropout
        rate = self.lr_at(self.step)
        for group, factor in zip(self._optimizer.param_groups, self._factors, strict=True):
            group["lr"] = rate * factor
        self._optimizer.zero_grad(set_to_none=True)
        for i, ((x, y, target), weight) in enumerate(zip(parts, weights, strict=True)):
            with nullcontext() if i == len(parts) - 1 or self.distributed.size == 1 else self._net.no_sync():
                scores = self._scores(x, len(y))
                if target is not None and scores.shape[1] > target.shape[1]:
                    target = nn.functional.pad(target, (0, scores.shape[1] - target.shape[1]))
                loss = nn.functional.cross_entropy(
                    scores, y if target is None else target, label_smoothing=config.label_smoothing
                )
                self._scaler.scale(loss if weight == 1 else loss * weight).backward()  # type: ignore[no-untyped-call]
            if weight:
                with torch.no_grad():
                    self.last_loss = loss.detach()
                    self._sums["loss"] += loss * len(y)
                    self._sums["right"] += (scores.argmax(dim=1) == y).sum()
        if config.clip_norm:
            self._scaler.unscale_(self._optimizer)
            nn.utils.clip_grad_norm_(self.model.parameters(), config.clip_norm)
        self._scaler.step(self._optimizer)
        self._scaler.update()
        if self._mean is not None:
            self._mean.update(self.step)

    def _scores(self, x: torch.Tensor, n: int) -> torch.Tensor:
        try:
            return compute_logits(self._net, x, self.precision, len(self.data.classes))
        except ValueError as problem:
            if "more than 1 value per channel" not in str(problem):
                raise
            raise TrainingError(
                f"{self.name}: batch norm of a single value in a batch of {n}, the last one of an epoch of "
                f"{len(self._learn.train)} images; choose a batch_size that leaves more for it"
            ) from None

    def _planned_rate(self, step: int) -> float:
        return self.config.learning_rate(step, self.steps_per_epoch)

    def _begin(self) -> None:
        """Weights, optimizer and sums as they stand at ``self.step``."""
        config = self.config
        self._layout = torch.channels_last if config.channels_last else torch.contiguous_format
        self.model.to(self.device, memory_format=self._layout)  # type: ignore[call-overload]
        self.model.train()
        names = frozen(self.model, config)
        self._still = [p for name, p in self.model.named_parameters() if name in names and p.requires_grad]
        for parameter in self._still:
            parameter.requires_grad_(False)
        for module in _frozen_modules(self.model, names):
            module.eval()  # its statistics stay as they are, too
        if self._begun:
            if self._mean is not None and self._shows_mean:
                self._mean.swap()
                self._shows_mean = False
            return
        if config.init is not None and self._checkpoint is None:
            if self._told_origin() is not None:
                warnings.warn(
                    f"{self.name}: init={config.init!r} draws the weights anew, so that those it has are "
                    "not used; config.replace(init=None) goes on with them",
                    stacklevel=3,
                )
            seed(self.device, derive_seed("init", config.seed))
            initialize(self.model, config.init)
        elif self._before is not None and self._checkpoint is None:
            self._tell_of_other_classes()
        self._optimizer, self._factors = optimizer(self.model, config)
        self._clock = StepClock(self.device)
        self._scaler = torch.amp.GradScaler(self.device.type, enabled=self.precision == "fp16")
        self._mean = ModelEMA(self.model, config.ema) if config.ema else None
        self._sums = {
            "loss": torch.zeros((), device=self.device),
            "right": torch.zeros((), dtype=torch.int64, device=self.device),
        }
        if self._checkpoint is not None:
            self._load_checkpoint(*self._checkpoint)
            self._checkpoint = None
        self._net: Any = self.distributed.wrapped(
            self.model, self.device, parts=config.accumulation_steps, compress=config.compress_gradients
        )
        if config.compile:
            self._net = torch.compile(self._net)
        self._feed = make_loader(self._learn.train, len(self.data.classes), self.device, config.workers)
        self._colors = self.data.color_components if config.augmentation.pca_lighting else None
        self._begun = True

    # --- tests ---

    def _end_epoch(self) -> None:
        """Reads the sums, tests where it is time, and enters the epoch in the history."""
        config = self.config
        epoch = self.step // self.steps_per_epoch
        self.distributed.add(*self._sums.values())
        steps, waited, wall = self._seconds
        entry: dict[str, Any] = {
            "epoch": epoch,
            "step": self.step,
            "lr": self.lr_at(self.step - 1),
            "loss": float(self._sums["loss"]) / self._seen,
            "train_acc": int(self._sums["right"]) / self._seen,
        }
        with nullcontext() if self._mean is None else self._mean.shown():
            due = config.eval_every and epoch % config.eval_every == 0
            if config.val_size and (due or epoch == config.epochs):
                entry["val_acc"] = self._test("val", self._learn).top1
                self._judge(entry)
            last = epoch == config.epochs or self._enough
            if last or (due and not config.val_size):
                entry["test_acc"] = self._test("test", self.data).top1
            if last and config.views != "whole":
                entry[f"test_acc_{config.views}"] = self._test(f"test_{config.views}", self.data, config.views).top1
        entry["examples_per_sec"] = self._seen / steps
        entry["wall_examples_per_sec"] = self._seen / wall
        entry["data_share"] = waited / wall
        self._seconds, self._seen = (0.0, 0.0, 0.0), 0
        for total in self._sums.values():
            total.zero_()
        self.history.append(entry)
        if self.folder is not None and self.distributed.rank == 0:
            self.folder.write_history(self.history)
        self._call("on_epoch", entry)

    def _judge(self, entry: Mapping[str, Any]) -> None:
        """Keeps the weights if they are the best so far on held-out images; ends the run if that was long ago."""
        results = [each.get("val_acc", 0) for each in (*self.history, entry)]
        best = results.index(max(results))
        if (
            self.config.save_best
            and best == len(results) - 1
            and self.folder is not None
            and self.distributed.rank == 0
        ):
            self._note_on_model(entry)
            self.folder.save_best(self.model.state_dict(), self._described())
        if self.config.patience and len(results) - 1 - best >= self.config.patience:
            self._enough = True

    def _test(self, name: str, data: Data, views: str = "whole") -> Evaluation:
        found = evaluate(
            self.model,
            data.test,
            classes=len(data.classes),
            size=self.size,
            mean=self.mean,
            std=self.std,
            crop_mode=self.config.crop_mode,
            views=views,
            batch_size=max(self.config.batch_size, 256),
            precision=self.precision,
            workers=self.config.workers,
            distributed=self.distributed,
        )
        self._tested[name] = found
        self._call("on_eval", found)
        return found

    def _require_finite(self) -> None:
        """Reads the loss back from the device, and stops the run if it is no longer a number."""
        loss = self._sums["loss"].clone()
        self.distributed.add(loss)
        if math.isfinite(float(loss)):
            return
        rate = self.lr_at(self.step - 1)
        kept = "no checkpoint was written yet"
        if self.folder is not None and self.folder.has_checkpoint():
            kept = f"the last good checkpoint is in {self.folder.path}"
        raise TrainingError(
            f"{self.name}: the loss became {float(loss)} within the {self.config.log_every} steps before "
            f"step {self.step} (learning rate {rate:g}); {kept}. Try a lower lr, such as {rate / 10:g}, or more warmup."
        )

    # --- files ---

    def _begin_folder(self) -> None:
        if self.folder is None or self.distributed.rank != 0:
            return
        if self._checkpoint is None:
            data = {"name": self.data.name, "sha256": self._sha256, "classes": list(map(str, self.data.classes))}
            self.folder.begin(self.config, data, self._described(), self._before)
        else:
            self.folder.resume(self.step)
        self.folder.write_history(self.history)

    def _save_checkpoint(self) -> None:
        if self.folder is None:
            return
        sums = {name: tensor.clone() for name, tensor in self._sums.items()}
        self.distributed.add(*sums.values())
        if self.distributed.rank != 0:
            return
        state = self.model.state_dict()
        if bad := [name for name, t in state.items() if t.is_floating_point() and not bool(torch.isfinite(t).all())]:
            raise TrainingError(
                f"{self.name}: at step {self.step} (learning rate {self.lr_at(self.step - 1):g}) the weights are no "
                f"longer numbers ({bad[0]}, ...); the checkpoint before stays as it is. Try a lower lr, or clip_norm=1"
            )
        tensors: dict[str, torch.Tensor] = {f"model.{name}": t for name, t in state.items()}
        tensors |= {f"sums.{name}": tensor for name, tensor in sums.items()}
        if self._mean is not None:
            tensors |= {f"mean.{name}": tensor for name, tensor in self._mean.values.items()}
        for index, values in self._optimizer.state_dict()["state"].items():
            for name, value in values.items():
                if value is not None:  # sgd without momentum keeps None
                    tensors[f"optimizer.{index}.{name}"] = value
        about = {
            "step": self.step,
            "history": self.history,
            "seconds": self._seconds,
            "seen": self._seen,
            "scaler": self._scaler.state_dict(),
        }
        self.folder.save_checkpoint(tensors, about)

    def _load_checkpoint(self, tensors: Mapping[str, torch.Tensor], about: Mapping[str, Any]) -> None:
        parts: dict[str, dict[str, torch.Tensor]] = {"model": {}, "sums": {}, "mean": {}, "optimizer": {}}
        for name, tensor in tensors.items():
            part, _, rest = name.partition(".")
            parts[part][rest] = tensor
        self.model.load_state_dict(parts["model"])
        self._seconds, self._seen = tuple(about["seconds"]), about["seen"]
        if self.distributed.rank == 0:  # the sums are those of all processes together
            self._sums = {name: tensor.to(self.device) for name, tensor in parts["sums"].items()}
        if self._mean is not None:
            self._mean.load(parts["mean"])
        if about["scaler"]:
            self._scaler.load_state_dict(about["scaler"])
        state: dict[int, dict[str, torch.Tensor]] = {}
        for name, tensor in parts["optimizer"].items():
            index, _, key = name.partition(".")
            state.setdefault(int(index), {})[key] = tensor
        self._optimizer.load_state_dict({**self._optimizer.state_dict(), "state": state})
        for parameter, values in self._optimizer.state.items():
            for key, value in values.items():
                if value.shape == parameter.shape:  # a fused optimizer takes layouts to be equal, and does not look
                    values[key] = torch.empty_like(parameter).copy_(value)

    def _finish(self, interrupted: bool) -> Run:
        metrics: dict[str, Any] = {"epochs": len(self.history), "device": _device_name(self.device)}
        metrics["precision"], metrics["processes"] = self.precision, self.distributed.size
        metrics |= summarize_history(self.history)
        if self._mean is not None and not self._shows_mean:
            self._mean.swap()
            self._shows_mean = True
        for crops in dict.fromkeys(("whole", self.config.views)):
            name = "test" if crops == "whole" else f"test_{crops}"
            key = name.replace("test", "test_acc", 1)
            if not interrupted and key not in metrics:  # a callback ended the run
                metrics[key] = self._test(name, self.data, crops).top1
        for parameter in self._still:
            parameter.requires_grad_(True)
        self._note_on_model(metrics)
        # a layout of its own would change the last digits of the scores, against those of the saved weights
        self.model.to(memory_format=torch.contiguous_format)
        path = None if self.folder is None else self.folder.path
        run = Run(path, tuple(self.history), metrics, interrupted, self.model)
        if self.folder is not None and self.distributed.rank == 0:
            tested = {name: evaluation.to_dict() for name, evaluation in self._tested.items()}
            at_end = None if interrupted else {**metrics, "evaluations": tested}
            run.plot(self.folder.path / CURVES_FILE)
            self.folder.finish(self.model.state_dict(), self._described(), at_end)
        return run

    def _notes(self) -> dict[str, Any] | None:
        notes = getattr(self.model, "notes", None)
        return notes if isinstance(notes, dict) else None

    def _told_origin(self) -> Any:
        """What the model says of where its weights come from; None where they were drawn at random."""
        origin = (self._notes() or {}).get("provenance")
        return None if not isinstance(origin, dict) or origin.get("kind") == "random" else dict(origin)

    def _tell_of_other_classes(self) -> None:
        """A last layer for as many classes as the data has fits, whichever they are."""
        known, ours = (self._notes() or {}).get("label_names"), [str(name) for name in self.data.classes]
        if known and list(known) != ours:
            warnings.warn(
                f"{self.name}: the last layer was trained for other classes ({', '.join(known[:3])}, ...) than those "
                f"of {self.data.name} ({', '.join(ours[:3])}, ...), and goes on from there; for a new one call its "
                "reset_parameters() before",
                stacklevel=4,
            )

    def _note_on_model(self, metrics: Mapping[str, Any]) -> None:
        """Enters on the model what its weights need to be used alone, and where they come from."""
        notes = self._notes()
        if notes is None:
            return
        kind, _, place = self.data.name.partition(":")
        provenance: dict[str, Any] = {
            "kind": "trained",
            "data": f"{kind}:{Path(place).name}" if place else kind,  # where it lay is no one else's business
            "data_sha256": self._sha256,
            "config": self.config.to_dict(),
            "steps": self.step,
        }
        provenance |= {key: metrics[key] for key in ("loss", "train_acc", "test_acc") if key in metrics}
        if self._before is not None:
            provenance["from"] = self._before
        notes["label_names"] = [str(name) for name in self.data.classes]
        notes["mean"], notes["std"], notes["crop_mode"] = list(self.mean), list(self.std), self.config.crop_mode
        notes["provenance"] = provenance

    # --- small things ---

    def _described(self) -> dict[str, Any]:
        describe = getattr(self.model, "describe", None)
        return dict(describe()) if callable(describe) else {"architecture": type(self.model).__name__}

    def _learned_from(self) -> Data:
        """The data set whose training images are learned from, and whose test images are watched meanwhile."""
        config, data = self.config, self.data
        if config.overfit_batches:
            few = epoch_order(len(data.train), config.seed, 0)[: config.overfit_batches * config.batch_size]
            self.data = data.only(few)
            return self.data
        return data.hold_out(config.val_size, config.seed) if config.val_size else data

    def _require_possible(self) -> None:
        """What the kind of data does not allow is said before the first step."""
        config, name = self.config, self.data.name
        stored = self.data.train.images.dtype if isinstance(self.data, ImageData) else self.data.dtype
        if stored != torch.uint8 and (config.augmentation or config.crop_mode == "center"):
            raise InputError(
                f"{name} gives images of {stored}, which are taken as they are; augmentation and crop_mode='center' are for "
                "images of bytes (uint8)"
            )
        if stored != torch.uint8 and self.data.shape[1:] != self.size:
            raise InputError(
                f"{self.name} takes images of {self.size[0]}x{self.size[1]} px, and {name} gives "
                f"{self.data.shape[1]}x{self.data.shape[2]} ({stored}, which are taken as they are)"
            )
        if not self._samples and (self.distributed.size > 1 or config.accumulation_steps > 1):
            raise InputError(
                f"{name} gives batches, which cannot be shared out among {self.distributed.size} processes nor cut into "
                f"{config.accumulation_steps} parts; give a Dataset of samples"
            )

    def _require_fit(self, described: Mapping[str, Any]) -> None:
        channels, has = described.get("in_channels"), self.data.shape[0]
        if channels is not None and channels != has:
            raise InputError(
                f"{self.name} takes images of {channels} channels, and {self.data.name} has {has}; "
                f"build it with in_channels={has}"
            )
        classes, wanted = described.get("num_classes"), len(self.data.classes)
        if classes is not None and classes != wanted:
            raise InputError(
                f"{self.name} tells {classes} classes apart, and {self.data.name} has {wanted}; "
                f"build it with num_classes={wanted}"
            )

    def _call(self, event: str, *args: object) -> None:
        for callback in self.callbacks:
            if (told := getattr(callback, event, None)) is not None:
                told(self, *args)


_KINDS: dict[str, tuple[str, Any, str]] = {
    "model": ("an nn.Module", nn.Module, "cnnzoo.create({!r}) makes one"),
    "data": ("an ImageData or StreamData", (ImageData, StreamData), "cnnzoo.load_data({!r}) loads one"),
    "config": ("a TrainConfig", TrainConfig, "cnnzoo.recipe({!r}) gives one"),
}


def require_type(what: str, given: object) -> None:
    """What is given by a name here has to be made first, and the error says how.

    Raises:
        InputError: If ``given`` is no ``what`` (``"model"``, ``"data"``, ``"config"``).
    """
    wanted, kind, how = _KINDS[what]
    if not isinstance(given, kind):
        hint = f"; {how.format(given)}" if isinstance(given, str) else ""
        raise InputError(f"{what} must be {wanted}, not {type(given).__name__}{hint}")


def _require_trainable(model: nn.Module, config: TrainConfig) -> None:
    if hasattr(model, "_orig_mod"):
        raise InputError("the model is compiled already; give the module itself, and compile=True in the config")
    parameters = dict(model.named_parameters())
    if any(p.is_meta for p in parameters.values()):
        raise InputError("the model is on the meta device and has no weights; create it on another")
    if not any(p.requires_grad for p in parameters.values()):
        raise InputError("no parameter of the model wants a gradient, so there is nothing to train")
    still = frozen(model, config)
    if not any(p.requires_grad for name, p in parameters.items() if name not in still):
        raise InputError(f"freeze={list(config.freeze)} leaves nothing to train")


def _frozen_modules(model: nn.Module, names: set[str]) -> list[nn.Module]:
    """Modules of which every parameter stays as it is."""
    return [
        module
        for prefix, module in model.named_modules()
        if (own := [f"{prefix}.{name}" for name, _ in module.named_parameters(recurse=False)]) and names.issuperset(own)
    ]


def _input_size(described: Mapping[str, Any], data: Data) -> tuple[int, int]:
    """(height, width) that the module takes: what it says of itself, else what the data has."""
    size = described.get("pretrained_cfg", {}).get("input_size") or data.shape
    return int(size[1]), int(size[2])


def _device_name(device: torch.device) -> str:
    if device.type == "cuda":
        return f"{device} ({torch.cuda.get_device_name(device)})"
    return str(device)


@contextmanager
def _forked_random(device: torch.device) -> Iterator[None]:
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        yield


@contextmanager
def _deterministic(wanted: bool) -> Iterator[None]:
    before = torch.are_deterministic_algorithms_enabled()
    if wanted:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # what cuBLAS asks for
        torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before)
