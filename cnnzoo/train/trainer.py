"""The training loop: exact to resume, quiet, and for any ``nn.Module``.

The order of the images is a function of (seed, epoch), dropout of (seed, step), the learning rate of the step:
a checkpoint holds weights, optimizer state and sums, and needs neither random state nor replay.
"""

from __future__ import annotations

import json
import math
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from os import PathLike
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from torch import nn

from cnnzoo.data import Batches, ImageData, epoch_order, load_data
from cnnzoo.data.batches import mixed_seed
from cnnzoo.device import pick_device
from cnnzoo.errors import FileError, InputError, TrainingError
from cnnzoo.init import initialise
from cnnzoo.tensorfiles import (
    CONFIG,
    WEIGHTS,
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
from cnnzoo.train.display import Display
from cnnzoo.train.evaluation import evaluate, pick_precision, scores_of
from cnnzoo.train.run import Run

TRAIN, HISTORY, CURVES, CHECKPOINT = "train.json", "history.jsonl", "curves.png", "checkpoint.safetensors"
FILES = (CONFIG, WEIGHTS, TRAIN, HISTORY, CURVES, CHECKPOINT)


class Trainer:
    """Trains a module on a data set and leaves a run folder.

    Where the module offers ``describe()``, what it says goes into the folder's files; where it has a mapping
    ``notes``, class names, mean, std and provenance are entered there, so that the weights can be used alone.

    Args:
        model: Any module that gives class scores (N, classes) of images (N, C, H, W).
        data: The data set; its images are scaled to what the module takes.
        config: Every knob; the default is ``TrainConfig()``.
        out: The run folder; None writes nothing.
        overwrite: Whether a run that is in the folder already may be replaced.
        callbacks: Objects with any of ``on_start(trainer)``, ``on_step(trainer)``, ``on_epoch(trainer, entry)``,
            ``on_end(trainer, run)``.
        show: Whether progress is shown on standard error.

    Attributes:
        step: Number of steps done.
        total_steps: Number of steps of the whole run.
        name: What the run is called in its lines.

    Raises:
        InputError: If data and module do not fit.
        FileError: If the folder holds another run, or cannot be written.
    """

    def __init__(
        self,
        model: nn.Module,
        data: ImageData,
        config: TrainConfig | None = None,
        *,
        out: str | PathLike[str] | None = None,
        overwrite: bool = False,
        callbacks: Sequence[object] = (),
        show: bool = True,
    ) -> None:
        self.model, self.data, self.config = model, data, TrainConfig() if config is None else config
        for what in ("model", "data", "config"):
            require_kind(what, getattr(self, what))
        _require_trainable(model)
        self.out = None if out is None else Path(out)
        self.device = pick_device(self.config.device)
        if self.device.type == "meta":
            raise InputError("nothing can be trained on the meta device; use device='auto'")
        self.precision = pick_precision(self.config.precision, self.device)
        self.callbacks = [*([Display()] if show else []), *callbacks]
        self.history: list[dict[str, Any]] = []
        self.step = 0
        self._checkpoint: dict[str, torch.Tensor] | None = None
        self._begun = False
        described = self._described()
        self.name = described.get("architecture", type(model).__name__)
        self.size = _input_size(described, data)
        self._require_fit(described)
        self._learn = data.held_out(self.config.held_out, self.config.seed) if self.config.held_out else data
        self.steps_per_epoch = -(-len(self._learn.train) // self.config.batch_size)
        self.total_steps = self.steps_per_epoch * self.config.epochs
        if self.out is not None:
            _require_free(self.out, overwrite)

    @classmethod
    def resume(
        cls,
        out: str | PathLike[str],
        *,
        model: nn.Module | None = None,
        data: ImageData | None = None,
        build: Callable[[Mapping[str, Any]], nn.Module] | None = None,
        callbacks: Sequence[object] = (),
        show: bool = True,
    ) -> Trainer:
        """A trainer that goes on where a run was stopped, to the same bytes as if it had not been.

        Args:
            out: The run folder.
            model: The module, where the folder's config.json cannot say it; its weights are replaced.
            data: The data set, where it is not a named one.
            build: Makes the module of what config.json says.
            callbacks: As for a new run.
            show: As for a new run.

        Raises:
            FileError: If the folder holds no run, or one that is finished.
            InputError: If the model or the data cannot be had, or the data is not that of the run.
        """
        folder = Path(out)
        if not exists(folder / TRAIN):
            raise FileError(f"{folder} holds no run: there is no {TRAIN} in it")
        told = read_json(folder / TRAIN)
        began = told.get("data")
        if not isinstance(began, dict) or not all(isinstance(began.get(key), str) for key in ("name", "sha256")):
            raise FileError(f"{folder / TRAIN} is not that of a run: it does not say on what data it began")
        if not (folder / CHECKPOINT).exists():
            raise FileError(f"the run in {folder} has no checkpoint: it is finished, or was stopped before its first")
        if model is None:
            if build is None:
                raise InputError(f"the model of {folder} cannot be built from its files alone; give model=")
            model = build(read_json(folder / CONFIG))
        data = data if data is not None else load_data(began["name"])
        if data.sha256 != began["sha256"]:
            raise InputError(f"{data.name} is not the data that the run in {folder} began with (its checksum differs)")
        trainer = cls(model, data, TrainConfig.from_dict(told.get("config")), callbacks=callbacks, show=show)
        trainer.out = folder
        _, about = read_header(folder / CHECKPOINT)
        if not {"step", "history", "seconds"} <= set(about):
            raise FileError(f"{folder / CHECKPOINT} is no checkpoint of a run")
        trainer._checkpoint = load_tensors(folder / CHECKPOINT)
        trainer.step, trainer.history = about["step"], about["history"]
        trainer._seconds = tuple(about["seconds"])
        return trainer

    # --- the loop ---

    def fit(self) -> Run:
        """Trains to the last epoch, or until Ctrl-C; then the step is finished and everything saved.

        Called again after a stop, it goes on. The caller's random state is left as it was.

        Raises:
            TrainingError: If the loss is no longer a number.
        """
        config = self.config
        if not self._begun:
            self._begin_folder()
        with _forked_random(self.device), _Interrupt() as interrupt:
            self._begin()
            self._call("on_start")
            run = None
            try:
                while self.step < self.total_steps and not interrupt.asked():
                    epoch = self.step // self.steps_per_epoch
                    order = epoch_order(len(self._learn.train), config.seed, epoch)
                    start = self.step % self.steps_per_epoch
                    began = time.perf_counter()
                    for x, y in self._batches.epoch(order, start):
                        self._clock.start()
                        self._train_step(x, y)
                        self._clock.stop()
                        self.step += 1
                        self._call("on_step")
                        if self.step % config.log_every == 0 or interrupt.asked():
                            self._require_finite()
                        if interrupt.asked():
                            break
                        if config.checkpoint_every and self.step % config.checkpoint_every == 0:
                            self._require_finite()
                            self._save_checkpoint()
                    self._require_finite()  # waits for the device, so that the clock below is true
                    wall = time.perf_counter() - began
                    self._seconds = (self._seconds[0] + self._clock.seconds(), self._seconds[1] + wall)
                    if self.step % self.steps_per_epoch == 0:
                        self._end_epoch()
                    if self.step < self.total_steps:
                        self._save_checkpoint()
                if self.step == 0:  # stopped before the first step: even so there is something to go on with
                    self._save_checkpoint()
                run = self._finish(interrupted=self.step < self.total_steps)
            finally:
                self._call("on_end", run)
        return run

    def _begin(self) -> None:
        """Weights, optimizer and sums as they stand at ``self.step``."""
        config = self.config
        layout = torch.channels_last if config.channels_last else torch.contiguous_format
        self.model.to(self.device, memory_format=layout)  # type: ignore[call-overload]
        self.model.train()
        if self._begun:
            return
        if config.init is not None and self._checkpoint is None:
            torch.manual_seed(mixed_seed("init", config.seed))
            initialise(self.model, config.init)
        decayed = [p for p in self.model.parameters() if p.requires_grad and p.dim() > 1]
        others = [p for p in self.model.parameters() if p.requires_grad and p.dim() <= 1]
        groups = [{"params": decayed, "weight_decay": config.weight_decay}, {"params": others, "weight_decay": 0.0}]
        self._optimizer: torch.optim.Optimizer
        if config.optimizer == "sgd":
            self._optimizer = torch.optim.SGD(groups, lr=config.lr, momentum=config.momentum, nesterov=config.nesterov)
        else:
            self._optimizer = torch.optim.AdamW(groups, lr=config.lr)
        self._clock = _Clock(self.device)
        self._sums = {
            "loss": torch.zeros((), device=self.device),
            "right": torch.zeros((), dtype=torch.int64, device=self.device),
            "seen": torch.zeros((), dtype=torch.int64, device=self.device),
        }
        if self._checkpoint is not None:
            self._load_checkpoint(self._checkpoint)
            self._checkpoint = None
        self._batches = Batches(
            self._learn.train,
            config.batch_size,
            size=self.size,
            mean=self.data.mean,
            std=self.data.std,
            device=self.device,
            channels_last=config.channels_last,
        )
        self._begun = True

    def _train_step(self, x: torch.Tensor, y: torch.Tensor) -> None:
        """One step on images (N, C, H, W) and labels (N,); nothing is read back from the device."""
        config = self.config
        torch.manual_seed(mixed_seed("step", config.seed, self.step))  # dropout
        rate = config.learning_rate(self.step, self.steps_per_epoch)
        for group in self._optimizer.param_groups:
            group["lr"] = rate
        try:
            scores = scores_of(self.model, x, self.precision, len(self.data.classes))
        except ValueError as problem:
            if "more than 1 value per channel" not in str(problem):
                raise
            raise TrainingError(
                f"{self.name}: batch norm of a single value in a batch of {len(y)}, the last one of an epoch of "
                f"{len(self._learn.train)} images; choose a batch_size that leaves more for it"
            ) from None
        loss = nn.functional.cross_entropy(scores, y, label_smoothing=config.label_smoothing)
        self._optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        self._optimizer.step()
        with torch.no_grad():
            self._sums["loss"] += loss * len(y)
            self._sums["right"] += (scores.argmax(dim=1) == y).sum()
            self._sums["seen"] += len(y)

    def _end_epoch(self) -> None:
        """Reads the sums, tests where it is time, and enters the epoch in the history."""
        config = self.config
        epoch = self.step // self.steps_per_epoch
        seen = int(self._sums["seen"])
        step_seconds, wall_seconds = self._seconds
        entry: dict[str, Any] = {
            "epoch": epoch,
            "step": self.step,
            "lr": config.learning_rate(self.step - 1, self.steps_per_epoch),
            "loss": float(self._sums["loss"]) / seen,
            "train_acc": int(self._sums["right"]) / seen,
        }
        last = epoch == config.epochs
        if config.held_out and (last or (config.eval_every and epoch % config.eval_every == 0)):
            entry["held_out_acc"] = self._accuracy(self._learn)
        if last or (not config.held_out and config.eval_every and epoch % config.eval_every == 0):
            entry["test_acc"] = self._accuracy(self.data)
        entry["examples_per_sec"] = seen / step_seconds
        entry["wall_examples_per_sec"] = seen / wall_seconds
        self._seconds = (0.0, 0.0)
        for total in self._sums.values():
            total.zero_()
        self.history.append(entry)
        self._write_history()
        self._call("on_epoch", entry)

    def _accuracy(self, data: ImageData) -> float:
        return evaluate(
            self.model,
            data.test,
            classes=len(data.classes),
            size=self.size,
            mean=self.data.mean,
            std=self.data.std,
            batch_size=max(self.config.batch_size, 256),
            precision=self.precision,
        ).top1

    def _require_finite(self) -> None:
        """Reads the loss back from the device, and stops the run if it is no longer a number."""
        if math.isfinite(float(self._sums["loss"])):
            return
        rate = self.config.learning_rate(self.step - 1, self.steps_per_epoch)
        kept = "no checkpoint was written yet"
        if self.out is not None and (self.out / CHECKPOINT).exists():
            kept = f"the last good checkpoint is {self.out / CHECKPOINT}"
        raise TrainingError(
            f"{self.name}: the loss became {float(self._sums['loss'])} within the {self.config.log_every} steps before "
            f"step {self.step} (learning rate {rate:g}); {kept}. Try a lower lr, such as {rate / 10:g}, or more warmup."
        )

    # --- files ---

    _seconds: tuple[float, float] = (0.0, 0.0)  # of this epoch: in steps, and in all

    def _begin_folder(self) -> None:
        if self.out is None:
            return
        if self._checkpoint is None:
            for name in FILES:
                remove_file(self.out / name)
            data = {"name": self.data.name, "sha256": self.data.sha256}
            write_json(self.out / TRAIN, {"config": self.config.to_dict(), "data": data})
            write_json(self.out / CONFIG, self._described())
        self._write_history()

    def _write_history(self) -> None:
        if self.out is not None:
            with atomic_write(self.out / HISTORY) as file:
                file.write("".join(json.dumps(entry) + "\n" for entry in self.history).encode())

    def _save_checkpoint(self) -> None:
        if self.out is None:
            return
        tensors: dict[str, torch.Tensor] = {f"model.{name}": t for name, t in self.model.state_dict().items()}
        tensors |= {f"sums.{name}": tensor for name, tensor in self._sums.items()}
        for index, state in self._optimizer.state_dict()["state"].items():
            for name, value in state.items():
                if value is not None:  # sgd without momentum keeps None
                    tensors[f"optimizer.{index}.{name}"] = value
        about = {"step": self.step, "history": self.history, "seconds": self._seconds}
        save_tensors(self.out / CHECKPOINT, tensors, about)

    def _load_checkpoint(self, tensors: Mapping[str, torch.Tensor]) -> None:
        parts: dict[str, dict[str, torch.Tensor]] = {"model": {}, "sums": {}, "optimizer": {}}
        for name, tensor in tensors.items():
            part, _, rest = name.partition(".")
            parts[part][rest] = tensor
        self.model.load_state_dict(parts["model"])
        self._sums = {name: tensor.to(self.device) for name, tensor in parts["sums"].items()}
        state: dict[int, dict[str, torch.Tensor]] = {}
        for name, tensor in parts["optimizer"].items():
            index, _, key = name.partition(".")
            state.setdefault(int(index), {})[key] = tensor
        self._optimizer.load_state_dict({**self._optimizer.state_dict(), "state": state})

    def _finish(self, interrupted: bool) -> Run:
        metrics: dict[str, Any] = {"epochs": len(self.history), "device": _device_name(self.device)}
        metrics["precision"] = self.precision
        if self.history:
            last = self.history[-1]
            metrics |= {key: last[key] for key in ("loss", "train_acc", "held_out_acc", "test_acc") if key in last}
            for key in ("examples_per_sec", "wall_examples_per_sec"):
                # all examples over all seconds: the harmonic mean, since epochs are equally long
                metrics[key] = len(self.history) / sum(1 / entry[key] for entry in self.history)
        self._note_on_model(metrics)
        # a layout of its own would change the last digits of the scores, against those of the saved weights
        self.model.to(memory_format=torch.contiguous_format)
        run = Run(self.out, tuple(self.history), metrics, interrupted, self.model)
        if self.out is not None:
            save_model(self.out, self.model.state_dict(), self._described())
            run.plot(self.out / CURVES)
            if not interrupted:
                remove_file(self.out / CHECKPOINT)
        return run

    def _note_on_model(self, metrics: Mapping[str, Any]) -> None:
        """Enters on the model what its weights need to be used alone, and where they come from."""
        notes = getattr(self.model, "notes", None)
        if not isinstance(notes, dict):
            return
        kind, _, place = self.data.name.partition(":")
        provenance: dict[str, Any] = {
            "kind": "trained",
            "data": f"{kind}:{Path(place).name}" if place else kind,  # where it lay is no one else's business
            "data_sha256": self.data.sha256,
            "config": self.config.to_dict(),
            "steps": self.step,
        }
        provenance |= {key: metrics[key] for key in ("loss", "train_acc", "test_acc") if key in metrics}
        notes["label_names"] = list(self.data.classes)
        notes["mean"], notes["std"] = list(self.data.mean), list(self.data.std)
        notes["provenance"] = provenance

    # --- small things ---

    def _described(self) -> dict[str, Any]:
        describe = getattr(self.model, "describe", None)
        return dict(describe()) if callable(describe) else {"architecture": type(self.model).__name__}

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


_KINDS: dict[str, tuple[str, type, str]] = {
    "model": ("an nn.Module", nn.Module, "cnnzoo.create({!r}) makes one"),
    "data": ("an ImageData", ImageData, "cnnzoo.load_data({!r}) loads one"),
    "config": ("a TrainConfig", TrainConfig, "cnnzoo.recipe({!r}) gives one"),
}


def require_kind(what: str, given: object) -> None:
    """What is given by a name here has to be made first, and the error says how.

    Raises:
        InputError: If ``given`` is no ``what`` (``"model"``, ``"data"``, ``"config"``).
    """
    wanted, kind, how = _KINDS[what]
    if not isinstance(given, kind):
        hint = f"; {how.format(given)}" if isinstance(given, str) else ""
        raise InputError(f"{what} must be {wanted}, not {type(given).__name__}{hint}")


def _require_trainable(model: nn.Module) -> None:
    parameters = list(model.parameters())
    if any(p.is_meta for p in parameters):
        raise InputError("the model is on the meta device and has no weights; create it on another")
    if not any(p.requires_grad for p in parameters):
        raise InputError("no parameter of the model wants a gradient, so there is nothing to train")


def _input_size(described: Mapping[str, Any], data: ImageData) -> tuple[int, int]:
    """(height, width) that the module takes: what it says of itself, else what the data has."""
    size = described.get("pretrained_cfg", {}).get("input_size") or data.shape
    return int(size[1]), int(size[2])


def _require_free(folder: Path, overwrite: bool) -> None:
    if exists(folder) and not folder.is_dir():
        raise FileError(f"out={str(folder)!r} is a file; name a folder")
    held = [name for name in FILES if (folder / name).exists()]
    if held and not overwrite:
        raise FileError(
            f"{folder} holds a run already ({', '.join(held)}); go on with it (resume), name another folder, or say "
            "overwrite=True (--overwrite)"
        )


def _device_name(device: torch.device) -> str:
    if device.type == "cuda":
        return f"{device} ({torch.cuda.get_device_name(device)})"
    return str(device)


@contextmanager
def _forked_random(device: torch.device) -> Iterator[None]:
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        yield


class _Clock:
    """Seconds spent between start and stop, without waiting for the device in between."""

    def __init__(self, device: torch.device) -> None:
        self._cuda = device.type == "cuda"
        self._pairs: list[tuple[Any, Any]] = []
        self._total = 0.0

    def start(self) -> None:
        """Begins an interval."""
        if self._cuda:
            first, last = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
            self._pairs.append((first, last))
            self._pairs[-1][0].record()
        else:
            self._began = time.perf_counter()

    def stop(self) -> None:
        """Ends the interval."""
        if self._cuda:
            self._pairs[-1][1].record()
        else:
            self._total += time.perf_counter() - self._began

    def seconds(self) -> float:
        """The sum since it was last asked for; the device must have finished."""
        total: float = self._total + sum(a.elapsed_time(b) for a, b in self._pairs) / 1000
        self._total, self._pairs = 0.0, []
        return total


class _Interrupt:
    """Turns the first Ctrl-C into a wish that the loop fulfils after its step; the second one stops at once."""

    def __init__(self) -> None:
        self._asked = False

    def asked(self) -> bool:
        """Whether Ctrl-C was pressed."""
        return self._asked

    def __enter__(self) -> _Interrupt:
        self._main = threading.current_thread() is threading.main_thread()
        if self._main:
            self._before = signal.signal(signal.SIGINT, self._ask)
        return self

    def _ask(self, number: int, frame: FrameType | None) -> None:
        self._asked = True
        signal.signal(signal.SIGINT, self._before)

    def __exit__(self, *exception: object) -> None:
        if self._main:
            signal.signal(signal.SIGINT, self._before)
