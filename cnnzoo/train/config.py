"""Every knob of a training run as one value, and the named ones: recipes."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path
from typing import Any

from cnnzoo.errors import InputError, unknown
from cnnzoo.init import initialiser
from cnnzoo.tensorfiles import read_json

_WORDS = {
    "optimizer": ("sgd", "adamw"),
    "schedule": ("constant", "cosine"),
    "precision": ("auto", "fp32", "bf16"),
}
_LEAST = {
    "epochs": 1, "batch_size": 1, "lr": 0, "momentum": 0, "weight_decay": 0, "warmup": 0, "label_smoothing": 0,
    "held_out": 0, "eval_every": 0, "checkpoint_every": 0, "log_every": 1, "seed": 0,
}  # fmt: skip


def _knob(default: Any, about: str) -> Any:
    """A field whose meaning the command line shows too."""
    return field(default=default, metadata={"about": about})


@dataclass(frozen=True)
class TrainConfig:
    """Every knob of a training run; frozen, JSON both ways. ``about(name)`` says what a field means."""

    epochs: int = _knob(10, "how often every training image is seen")
    batch_size: int = _knob(128, "images a step")
    optimizer: str = _knob("sgd", "'sgd' or 'adamw'")
    lr: float = _knob(0.01, "learning rate, the highest one where there is a schedule")
    momentum: float = _knob(0.0, "momentum of sgd")
    nesterov: bool = _knob(False, "whether the momentum of sgd looks ahead (Nesterov)")
    weight_decay: float = _knob(0.0, "decay of weights, not of biases and normalisations")
    schedule: str = _knob("constant", "'constant', or 'cosine' down to 0 at the last step")
    warmup: float = _knob(0.0, "epochs in which the learning rate rises linearly from 0")
    init: str | None = _knob(None, "initial weights of convolutions and dense layers, such as 'xavier_uniform'")
    label_smoothing: float = _knob(0.0, "share of the target spread over all classes")
    precision: str = _knob("auto", "'fp32', 'bf16' (autocast), or 'auto': bf16 where the hardware multiplies in it")
    channels_last: bool = _knob(True, "whether images and weights are laid out channels last")
    device: str = _knob("auto", "'cpu', 'cuda', ..., or 'auto': a GPU where there is one")
    seed: int = _knob(0, "decides order, dropout and (with init) the initial weights")
    held_out: int = _knob(0, "training images held out to be tested on each epoch; the test images wait for the end")
    eval_every: int = _knob(1, "epochs between two tests; 0 tests only at the end")
    log_every: int = _knob(50, "steps between two readings of the loss")
    checkpoint_every: int = _knob(0, "steps between two checkpoints; 0 writes one at the end of each epoch")

    def __post_init__(self) -> None:
        for item in dataclasses.fields(self):
            value: Any = getattr(self, item.name)
            wanted = type(item.default)
            if type(value) is int and abs(value) >= 2**63:
                raise InputError(f"{item.name} must be a number below 2**63, not {value}")
            if wanted is float and isinstance(value, int) and not isinstance(value, bool):
                value = float(value)
                object.__setattr__(self, item.name, value)
            if item.name == "init":
                if not (value is None or isinstance(value, str)):
                    raise InputError(f"init must be the name of a scheme or None, not {value!r}")
            elif type(value) is not wanted or (isinstance(value, float) and not math.isfinite(value)):
                raise InputError(f"{item.name} must be {_a(wanted)}, not {value!r} ({item.metadata['about']})")
            if item.name in _LEAST and value < _LEAST[item.name]:
                raise InputError(f"{item.name} must be at least {_LEAST[item.name]}, not {value!r}")
            if item.name in _WORDS and value not in _WORDS[item.name]:
                raise unknown(item.name, value, _WORDS[item.name])
        if self.init is not None:
            initialiser(self.init)
        if self.nesterov and not self.momentum:
            raise InputError("nesterov needs momentum above 0, such as momentum=0.9")
        if self.label_smoothing >= 1:
            raise InputError(f"label_smoothing must be below 1, not {self.label_smoothing!r}")

    @classmethod
    def about(cls, name: str) -> str:
        """What a field means."""
        return str(_field(name).metadata["about"])

    def edited(self, /, **changes: Any) -> TrainConfig:
        """This config with other values.

        Raises:
            UnknownNameError: If a field is not known.
            InputError: If a value is not one that a field takes.
        """
        for name in changes:
            _field(name)
        return dataclasses.replace(self, **changes)

    def to_dict(self) -> dict[str, Any]:
        """The config as plain values."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, data: object) -> TrainConfig:
        """A config from plain values; fields that are left out take their default.

        Raises:
            UnknownNameError: If a field is not known.
            InputError: If a value is not one that a field takes.
        """
        if not isinstance(data, dict):
            raise InputError(f"a TrainConfig in JSON is an object of its fields, not {type(data).__name__}")
        return cls().edited(**data)

    def learning_rate(self, step: int, steps_per_epoch: int) -> float:
        """The learning rate of a step (counted from 0): a function of the step alone."""
        total, warm = self.epochs * steps_per_epoch, self.warmup * steps_per_epoch
        if step + 1 < warm:
            return self.lr * (step + 1) / warm
        if self.schedule == "constant":
            return self.lr
        return self.lr * 0.5 * (1 + math.cos(math.pi * (step + 1 - warm) / max(total + 1 - warm, 1)))


def _field(name: str) -> dataclasses.Field[Any]:
    known = {item.name: item for item in dataclasses.fields(TrainConfig)}
    if name not in known:
        raise unknown("field of TrainConfig", name, known)
    return known[name]


def _a(kind: type) -> str:
    return {int: "a whole number", float: "a number", bool: "true or false", str: "a word"}[kind]


_RECIPES = {
    # Dive into Deep Learning, chapters LeNet and AlexNet: plain SGD, Xavier weights, float32.
    "d2l/alexnet": TrainConfig(
        epochs=10, batch_size=128, lr=0.01, init="xavier_uniform", precision="fp32", channels_last=False
    ),
    "d2l/lenet": TrainConfig(
        epochs=10, batch_size=256, lr=0.9, init="xavier_uniform", precision="fp32", channels_last=False
    ),
    # A few minutes on two cores with the sample that ships with cnnzoo; chosen on held-out training images.
    "quick": TrainConfig(
        epochs=5, batch_size=64, optimizer="adamw", lr=1e-3, weight_decay=0.05, schedule="cosine", warmup=0.5
    ),
    "quick/alexnet": TrainConfig(
        epochs=3, batch_size=64, lr=0.02, momentum=0.9, nesterov=True, weight_decay=5e-4, schedule="cosine",
        warmup=0.5, init="kaiming_normal",
    ),
    # Sigmoids shrink what passes: they want initial weights four times as large.
    "quick/lenet": TrainConfig(
        epochs=20, batch_size=64, optimizer="adamw", lr=0.01, schedule="cosine", warmup=1.0, init="xavier_uniform:4"
    ),
}  # fmt: skip


def list_recipes() -> list[str]:
    """The names that ``recipe`` knows, sorted."""
    return sorted(_RECIPES)


def recipe(name: str | PathLike[str], model: str | None = None) -> TrainConfig:
    """A TrainConfig by name, or from a JSON file.

    Args:
        name: A known name (``"d2l/alexnet"``), or the path of a JSON file; a run's train.json will do.
        model: The architecture that it is for: where there is a recipe ``name/model``, that one is meant.

    Raises:
        UnknownNameError: If the name is not known, or the file has a field that is not known.
        FileError: If the file cannot be read.
    """
    name = str(name)
    if model is not None and f"{name}/{model}" in _RECIPES:
        return _RECIPES[f"{name}/{model}"]
    if name in _RECIPES:
        return _RECIPES[name]
    if name.endswith(".json"):
        data = read_json(Path(name))
        return TrainConfig.from_dict(data.get("config", data))
    raise unknown("recipe", name, [*_RECIPES, "a path that ends in .json"])
