"""Every knob of a training run as one value."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from cnnzoo.data import Augmentation
from cnnzoo.data.resize import CROPS, FITS
from cnnzoo.errors import InputError, unknown
from cnnzoo.initializers import initialiser

_WORDS = {
    "optimizer": ("sgd", "adamw"),
    "schedule": ("constant", "cosine", "one_cycle", "step"),
    "precision": ("auto", "fp32", "bf16", "fp16"),
    "fit": FITS,
    "crops": CROPS,
}
_LEAST = {
    "epochs": 1, "batch_size": 1, "lr": 0, "momentum": 0, "weight_decay": 0, "warmup": 0, "drop_factor": 0,
    "label_smoothing": 0, "shift": 0, "erase": 0, "mixup": 0, "colour": 0, "accumulate": 1, "clip_norm": 0, "ema": 0,
    "held_out": 0, "patience": 0, "overfit_batches": 0, "workers": 0, "eval_every": 0, "checkpoint_every": 0,
    "log_every": 1, "seed": 0,
}  # fmt: skip
_BELOW = {"momentum": 1, "label_smoothing": 1, "ema": 1}
_MOST = {"erase": 1, "drop_factor": 1}


def _knob(default: Any, about: str) -> Any:
    """A field whose meaning the command line shows too."""
    make = {"default_factory": lambda: dict(default)} if isinstance(default, dict) else {"default": default}
    return field(metadata={"about": about}, **make)


@dataclass(frozen=True)
class TrainConfig:
    """Every knob of a training run; frozen, JSON both ways. ``about(name)`` says what a field means."""

    epochs: int = _knob(10, "how often every training image is seen")
    batch_size: int = _knob(128, "images a step, of all processes together")
    accumulate: int = _knob(1, "parts into which the images of a step are cut, one after the other, to save memory")
    optimizer: str = _knob("sgd", "'sgd' or 'adamw'")
    lr: float = _knob(0.01, "learning rate, the highest one where there is a schedule")
    momentum: float = _knob(0.0, "momentum of sgd")
    nesterov: bool = _knob(False, "whether the momentum of sgd looks ahead (Nesterov)")
    weight_decay: float = _knob(0.0, "decay of weights, not of biases and normalisations")
    schedule: str = _knob(
        "constant",
        "'constant', 'cosine' down to 0 at the last step, 'one_cycle' (up in a straight line, for warmup or else for "
        "three tenths of the run, then down to 0 in another), 'step' (times drop_factor at each of drops)",
    )
    warmup: float = _knob(0.0, "epochs in which the learning rate rises linearly from 0")
    drops: tuple[float, ...] = _knob((), "epochs after which schedule 'step' lowers the learning rate")
    drop_factor: float = _knob(0.1, "what schedule 'step' multiplies the learning rate by")
    lr_scale: Mapping[str, float] = _knob(
        {}, 'factors of the learning rate by label or name of parameters, such as {"conv*": 0.1}; the last fits'
    )
    freeze: tuple[str, ...] = _knob((), 'labels or names of parameters that stay as they are, such as ["conv*"]')
    clip_norm: float = _knob(0.0, "most that the norm of the gradient may be; 0 leaves it")
    ema: float = _knob(0.0, "decay a step of the running mean of the weights, which is tested and kept; 0: no mean")
    init: str | None = _knob(None, "initial weights of convolutions and dense layers, such as 'xavier_uniform'")
    label_smoothing: float = _knob(0.0, "share of the target spread over all classes")
    fit: str = _knob(
        "resize",
        "how images of another size fit the net: 'resize', 'crop' (a window, anywhere in training, in the middle else) "
        "or 'pad' (black around)",
    )
    normalise: bool = _knob(
        True, "whether images have mean 0 and deviation 1 in each channel; else their values lie in [0, 1]"
    )
    flip: bool = _knob(False, "whether half of the training images are mirrored, left to right")
    shift: int = _knob(0, "most px (of the stored image) by which training images are moved; black comes in")
    erase: float = _knob(0.0, "share of training images in which a random rectangle is filled with noise")
    mixup: float = _knob(0.0, "parameter of the Beta distribution by which training images are mixed in pairs; 0: not")
    colour: float = _knob(0.0, "deviation of the noise along the principal components of colour (0.1 in 2012)")
    crops: str = _knob(
        "whole", "how the last test shows images besides whole: 'flip', 'centre', 'five', 'ten'; 'whole': no other way"
    )
    precision: str = _knob(
        "auto", "'fp32', 'bf16' or 'fp16' (autocast), or 'auto': bf16 where the hardware multiplies in it"
    )
    channels_last: bool = _knob(True, "whether images and weights are laid out channels last")
    compile: bool = _knob(False, "whether torch.compile compiles the net; a resumed run then ends only close by")
    deterministic: bool = _knob(False, "whether operators that may give other bits each time are refused")
    compress_gradients: bool = _knob(False, "whether processes exchange gradients in bf16, at half the traffic")
    device: str = _knob("auto", "'cpu', 'cuda', ..., or 'auto': a GPU where there is one")
    workers: int = _knob(2, "processes that read images, for data that is read as it is needed")
    seed: int = _knob(0, "decides order, augmentation, dropout and (with init) the initial weights")
    held_out: int = _knob(0, "training images held out to be tested on each epoch; the test images wait for the end")
    keep_best: bool = _knob(False, "whether the weights that did best on held-out images are kept too")
    patience: int = _knob(0, "epochs without a better result on held-out images after which a run ends; 0: never")
    overfit_batches: int = _knob(
        0, "trains and tests on this many batches alone, without augmentation: a net that works learns them by heart"
    )
    eval_every: int = _knob(1, "epochs between two tests; 0 tests only at the end")
    log_every: int = _knob(50, "steps between two readings of the loss")
    checkpoint_every: int = _knob(0, "steps between two checkpoints; 0 writes one at the end of each epoch")

    def __post_init__(self) -> None:
        for item in dataclasses.fields(self):
            value = _checked(item, getattr(self, item.name))
            object.__setattr__(self, item.name, value)
            if item.name in _LEAST and value < _LEAST[item.name]:
                raise InputError(f"{item.name} must be at least {_LEAST[item.name]}, not {value!r}")
            if item.name in _MOST and value > _MOST[item.name]:
                raise InputError(f"{item.name} must be at most {_MOST[item.name]}, not {value!r}")
            if item.name in _BELOW and value >= _BELOW[item.name]:
                raise InputError(f"{item.name} must be below {_BELOW[item.name]}, not {value!r}")
            if item.name in _WORDS and value not in _WORDS[item.name]:
                raise unknown(item.name, value, _WORDS[item.name])
        if self.init is not None:
            initialiser(self.init)
        if self.nesterov and not self.momentum:
            raise InputError("nesterov needs momentum above 0, such as momentum=0.9")
        if (self.schedule == "step") != bool(self.drops):
            raise InputError("schedule='step' and drops go together: such as schedule='step', drops=[30, 60, 80]")
        if list(self.drops) != sorted(self.drops):
            raise InputError(f"drops must rise, not {list(self.drops)}")
        if (self.patience or self.keep_best) and not self.held_out:
            raise InputError(
                "patience and keep_best judge by held-out images, so that the test images choose nothing: "
                "set held_out too, such as held_out=5000"
            )
        if self.accumulate > self.batch_size:
            raise InputError(f"a step of {self.batch_size} images cannot be cut into {self.accumulate} parts")

    @property
    def augmentation(self) -> Augmentation:
        """What is done to training images."""
        if self.overfit_batches:
            return Augmentation()
        return Augmentation(self.flip, self.shift, self.erase, self.mixup, self.colour)

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
        values = dataclasses.asdict(self)
        return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}

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

    def changed(self, other: TrainConfig) -> str:
        """What differs in another config, in words; empty where nothing does."""
        mine, theirs = self.to_dict(), other.to_dict()
        return ", ".join(
            f"{name} was {mine[name]!r} and is {theirs[name]!r}" for name in mine if mine[name] != theirs[name]
        )

    def learning_rate(self, step: int, steps_per_epoch: int) -> float:
        """The learning rate of a step (counted from 0): a function of the step alone."""
        total, warm = self.epochs * steps_per_epoch, self.warmup * steps_per_epoch
        if self.schedule == "one_cycle" and not self.warmup:
            warm = _RISE * total
        if step + 1 < warm:
            return self.lr * (step + 1) / warm
        if self.schedule == "constant":
            return self.lr
        if self.schedule == "step":
            return self.lr * self.drop_factor ** sum(step >= epoch * steps_per_epoch for epoch in self.drops)
        done = (step + 1 - warm) / max(total + 1 - warm, 1)
        return self.lr * (1 - done if self.schedule == "one_cycle" else 0.5 * (1 + math.cos(math.pi * done)))


_RISE = 0.3  # share of a one-cycle run in which the learning rate rises, where no warmup is given


def _checked(item: dataclasses.Field[Any], value: Any) -> Any:
    """The value of a field, in the field's type."""
    wanted: type
    if item.name in _KINDS:
        wanted, of = _KINDS[item.name]
        if isinstance(value, (list, tuple)) and wanted is tuple:
            value = tuple(value)
        inner = value.values() if isinstance(value, Mapping) else value
        numbers = of is float
        if (
            not isinstance(value, tuple if wanted is tuple else Mapping)
            or not all(isinstance(v, (int, float) if numbers else str) and not isinstance(v, bool) for v in inner)
            or (numbers and not all(math.isfinite(v) and v >= 0 for v in inner))
        ):
            raise InputError(f"{item.name} must be {_A_KIND[item.name]}, not {value!r} ({item.metadata['about']})")
        return value if wanted is tuple else dict(value)
    wanted = type(item.default)
    if type(value) is int and abs(value) >= 2**63:
        raise InputError(f"{item.name} must be a number below 2**63, not {value}")
    if wanted is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if item.name == "init":
        if not (value is None or isinstance(value, str)):
            raise InputError(f"init must be the name of a scheme or None, not {value!r}")
    elif type(value) is not wanted or (isinstance(value, float) and not math.isfinite(value)):
        raise InputError(f"{item.name} must be {_a(wanted)}, not {value!r} ({item.metadata['about']})")
    return value


_KINDS: dict[str, tuple[type, type]] = {"drops": (tuple, float), "freeze": (tuple, str), "lr_scale": (dict, float)}
_A_KIND = {
    "drops": "a list of numbers",
    "freeze": "a list of words",
    "lr_scale": "an object of numbers of at least 0 by word",
}


def _field(name: str) -> dataclasses.Field[Any]:
    known = {item.name: item for item in dataclasses.fields(TrainConfig)}
    if name not in known:
        raise unknown("field of TrainConfig", name, known)
    return known[name]


def _a(kind: type) -> str:
    return {int: "a whole number", float: "a number", bool: "true or false", str: "a word"}[kind]
