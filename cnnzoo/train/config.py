"""Every setting of a training run as one value."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cnnzoo.data import Augmentation
from cnnzoo.data.augmentation_registry import parse_augmentation
from cnnzoo.errors import InputError
from cnnzoo.fields import (
    Mismatch,
    bool_field,
    check_fields,
    checked_field,
    choice_field,
    float_field,
    float_mapping_field,
    float_tuple_field,
    int_field,
    is_number,
    parsed_field,
    plain_mapping_field,
    require_field,
    str_tuple_field,
)
from cnnzoo.html_parts import details, heading, notebook_html
from cnnzoo.initializers import make_initializer
from cnnzoo.measure.tables import Table
from cnnzoo.measure.text_layout import wrap_text
from cnnzoo.preprocessing import CROP_MODES, VIEWS
from cnnzoo.train.callbacks import CALLBACKS
from cnnzoo.train.losses import find_loss
from cnnzoo.train.metrics import METRICS
from cnnzoo.train.optim import OPTIMIZERS, check_options
from cnnzoo.train.precision import PRECISIONS
from cnnzoo.train.schedules import SCHEDULES, learning_rate


def _check_class_weights(value: Any) -> str | tuple[float, ...]:
    if value == "balanced":
        return "balanced"
    if isinstance(value, (list, tuple)) and all(is_number(weight) and weight >= 0 for weight in value) and any(value):
        return tuple(map(float, value))
    raise Mismatch("'balanced' or a list of numbers of at least 0, one per class")


def _check_compile(value: Any) -> bool | str:
    if isinstance(value, bool) or value == "auto":
        return value  # type: ignore[no-any-return]
    raise Mismatch("True, False or 'auto'")


@dataclass(frozen=True)
class TrainConfig:
    """Every setting of a training run; frozen, JSON both ways. ``describe(name)`` returns what a field means."""

    epochs: int = int_field(10, help="number of epochs")
    batch_size: int = int_field(128, help="images per step, over all processes")
    drop_last: bool = bool_field(
        False, help="whether the last images of an epoch are left out if they are fewer than batch_size"
    )
    accumulation_steps: int = int_field(
        1, help="micro-batches per step, whose gradients are accumulated to save memory"
    )
    optimizer: str = choice_field(
        "sgd", OPTIMIZERS, help="'sgd', 'adam', 'adamw', 'muon', or the name of a registered one"
    )
    optimizer_options: Mapping[str, Any] = plain_mapping_field(
        help='further settings of the optimizer, such as {"betas": [0.9, 0.95]} of adam, adamw and muon'
    )
    lr: float = float_field(0.01, minimum=0, help="learning rate; its peak if there is a schedule")
    momentum: float = float_field(0.0, minimum=0, below=1, help="momentum of SGD; of Muon, where 0 stands for 0.95")
    nesterov: bool = bool_field(False, help="whether SGD uses Nesterov momentum")
    weight_decay: float = float_field(0.0, minimum=0, help="weight decay; not applied to biases and normalizations")
    schedule: str = choice_field(
        "constant",
        SCHEDULES,
        help="'constant', 'cosine' (to 0 at the last step), 'one_cycle' (rises linearly for warmup, or for three "
        "tenths of the run if there is none, then falls linearly to 0), 'step' (times gamma at each of milestones), "
        "'plateau' (times gamma whenever the validation accuracy, or else the training loss, stops improving), or the "
        "name of a registered one",
    )
    warmup: float = float_field(0.0, minimum=0, help="epochs in which the learning rate rises linearly from 0")
    milestones: tuple[float, ...] = float_tuple_field(
        help="epochs after which schedule 'step' multiplies the learning rate by gamma"
    )
    gamma: float = float_field(
        0.1,
        minimum=0,
        maximum=1,
        help="factor of the learning rate at each milestone of schedule 'step', or each plateau of 'plateau'",
    )
    plateau_patience: int = int_field(
        10, minimum=0, help="epochs without improvement after which schedule 'plateau' waits for one more, then reduces"
    )
    lr_multipliers: Mapping[str, float] = float_mapping_field(
        help='factors of the learning rate by label or name of parameters, such as {"conv*": 0.1}; the last match '
        "counts"
    )
    freeze: tuple[str, ...] = str_tuple_field(help='labels or names of parameters that are frozen, such as ["conv*"]')
    clip_norm: float = float_field(0.0, minimum=0, help="maximum norm of the gradient; 0 does not clip")
    ema: float = float_field(
        0.0,
        minimum=0,
        below=1,
        help="decay per step of the exponential moving average of the weights, which is evaluated and saved; 0: no "
        "average",
    )
    init: str | None = parsed_field(
        None,
        make_initializer,
        "the name of an initializer",
        optional=True,
        help="initializer of convolutions and dense layers, such as 'xavier_uniform'",
    )
    loss: str = parsed_field(
        "cross_entropy",
        find_loss,
        "the name of a loss",
        help="'cross_entropy', 'focal:2' (with its gamma), 'bce' (binary cross-entropy), or the name of a registered "
        "one",
    )
    label_smoothing: float = float_field(
        0.0, minimum=0, below=1, help="fraction of the target that is spread over all classes"
    )
    class_weights: str | tuple[float, ...] | None = checked_field(
        None,
        _check_class_weights,
        optional=True,
        help="factors of the loss of images of each class: a list, one per class, or 'balanced': number of images / "
        "(number of classes * images of the class)",
    )
    balanced_sampling: bool = bool_field(
        False,
        help="whether each class is drawn equally often; an epoch still has as many images as the data, so that images "
        "of rare classes come several times",
    )
    crop_mode: str = choice_field(
        "squash",
        CROP_MODES,
        help="how images of another size are brought to the network's: 'squash' (scaled, aspect ratio ignored), "
        "'center' (a crop: random in training, else central) or 'border' (padded with black)",
    )
    normalize: bool = bool_field(
        True, help="whether images are normalized to mean 0 and standard deviation 1 per channel; else values in [0, 1]"
    )
    flip: bool = bool_field(False, help="whether training images are flipped horizontally with probability 0.5")
    translate: int = int_field(
        0, minimum=0, help="largest random translation of training images, in px of the stored image; padded with black"
    )
    random_erasing: float = float_field(
        0.0, minimum=0, maximum=1, help="probability that a random rectangle of a training image is filled with noise"
    )
    mixup: float = float_field(0.0, minimum=0, help="alpha of the Beta distribution of mixup; 0: no mixup")
    pca_lighting: float = float_field(
        0.0,
        minimum=0,
        help="standard deviation of the noise along the principal components of color (0.1 in AlexNet 2012)",
    )
    augment: tuple[str, ...] = str_tuple_field(
        parse=parse_augmentation,
        help='registered augmentations, "name" or "name:number", which follow the others in this order, such as '
        '["rotate:15", "cutmix:1"]',
    )
    views: str = choice_field(
        "single",
        tuple(VIEWS),
        help="additional evaluation at the end, averaged over several views of each image: 'flip', 'center', "
        "'five_crop', 'ten_crop'; 'single': none",
    )
    precision: str = choice_field(
        "auto",
        PRECISIONS,
        help="'fp32', 'bf16' or 'fp16' (autocast), or 'auto': bf16 if the hardware supports it",
    )
    channels_last: bool = bool_field(True, help="whether images and weights use the channels-last memory format")
    compile: bool | str = checked_field(
        False,
        _check_compile,
        help="whether forward pass, loss and backward pass are compiled by torch.compile, which takes 10 to 60 s; "
        "'auto': if the run is long enough to save more than that",
    )
    deterministic: bool = bool_field(False, help="whether nondeterministic operators are refused")
    sync_batch_norm: bool = bool_field(
        False,
        help="whether batch norm uses the images of all processes (on GPUs), by SyncBatchNorm; with one process, the "
        "same",
    )
    compress_gradients: bool = bool_field(
        False, help="whether processes exchange gradients in bf16, which halves the traffic"
    )
    device: str = parsed_field("auto", str, "a string", help="'cpu', 'cuda', ..., or 'auto': a GPU if there is one")
    workers: int = int_field(2, minimum=0, help="worker processes that read images, for data that is read on demand")
    seed: int = int_field(
        0, minimum=0, help="seed of the order, augmentation, dropout and (with init) the initial weights"
    )
    val_size: int = int_field(
        0,
        minimum=0,
        help="number of training images held out for validation after each epoch; the test images are used at the end",
    )
    metrics: tuple[str, ...] = str_tuple_field(
        parse=METRICS.__getitem__,
        help="metrics besides the accuracy, after each evaluation: 'balanced_accuracy', 'macro_f1', 'recall' (of each "
        "class), or names of registered ones",
    )
    callbacks: tuple[str, ...] = str_tuple_field(
        parse=CALLBACKS.__getitem__,
        help="callbacks: 'tensorboard' (writes into the run folder), or names of registered ones",
    )
    save_best: bool = bool_field(False, help="whether the weights with the best validation accuracy are saved too")
    patience: int = int_field(
        0, minimum=0, help="epochs without a better validation accuracy after which a run ends; 0: never"
    )
    overfit_batches: int = int_field(
        0,
        minimum=0,
        help="sanity check: trains and tests on this many batches only, without augmentation; the network should reach "
        "100 %",
    )
    eval_every: int = int_field(1, minimum=0, help="epochs between evaluations; 0 evaluates only at the end")
    log_every: int = int_field(50, help="steps between readings of the loss")
    checkpoint_every: int = int_field(
        0, minimum=0, help="steps between checkpoints; 0 writes one at the end of each epoch"
    )
    keep_checkpoint: bool = bool_field(
        False, help="whether the last checkpoint of a finished run is kept, so that it can be trained for more epochs"
    )

    def __post_init__(self) -> None:
        check_fields(self, InputError)
        if self.nesterov and not self.momentum:
            raise InputError("nesterov needs momentum above 0, such as momentum=0.9")
        check_options(self.optimizer, self.optimizer_options)
        # a registered schedule may use milestones too
        without_milestones = ("constant", "cosine", "one_cycle", "plateau")
        if self.schedule in without_milestones if self.milestones else self.schedule == "step":
            raise InputError(
                "schedule='step' and milestones need each other: such as schedule='step', milestones=[30, 60, 80]"
            )
        if self.schedule == "plateau" and self.eval_every > 1:
            raise InputError(
                "schedule='plateau' needs the validation accuracy of every epoch: set eval_every=1, not "
                f"{self.eval_every}"
            )
        if list(self.milestones) != sorted(self.milestones):
            raise InputError(f"milestones must increase, not {list(self.milestones)}")
        if self.accumulation_steps > self.batch_size:
            raise InputError(
                f"a batch of {self.batch_size} images cannot be split into {self.accumulation_steps} micro-batches"
            )
        self._make_augmentation()  # checks the names together

    @property
    def recorded_metrics(self) -> tuple[str, ...]:
        """Names of the metrics: ``metrics``, and the recall of each class if classes are weighted or balanced."""
        is_imbalanced = self.class_weights is not None or self.balanced_sampling
        return tuple(dict.fromkeys((*self.metrics, *(["recall"] if is_imbalanced else []))))

    @property
    def augmentation(self) -> Augmentation:
        """The augmentation of training images."""
        return Augmentation() if self.overfit_batches else self._make_augmentation()

    def _make_augmentation(self) -> Augmentation:
        names = [field.name for field in dataclasses.fields(Augmentation)]
        return Augmentation(**{name: getattr(self, name) for name in names})

    def learning_rate(self, step: int, steps_per_epoch: int, history: Sequence[Mapping[str, Any]] = ()) -> float:
        """Returns the learning rate of a step, counted from 0, in a run with this history."""
        return learning_rate(self, step, steps_per_epoch, history)

    @classmethod
    def describe(cls, name: str) -> str:
        """Returns what a field means.

        Raises:
            UnknownNameError: If there is no such field.
        """
        return str(_field(name).metadata["help"])

    def replace(self, /, **changes: Any) -> TrainConfig:
        """Returns this config with other values.

        Raises:
            UnknownNameError: If a field is not known.
            InputError: If a field does not take a value.
        """
        for name in changes:
            _field(name)
        return dataclasses.replace(self, **changes)

    def diff(self, other: TrainConfig) -> str:
        """Returns what differs in another config, in words; empty if nothing does."""
        mine, others = self.to_dict(), other.to_dict()
        return ", ".join(
            f"{name} was {mine[name]!r} and is {others[name]!r}" for name in mine if mine[name] != others[name]
        )

    def _repr_html_(self) -> str:
        defaults, values = type(self)().to_dict(), self.to_dict()
        changed = {name: value for name, value in values.items() if value != defaults[name]}
        parts = [_settings_table(settings).html() for settings in (changed, values) if settings]
        whole = details(f"all {len(values)} settings", parts[-1])
        text = f"{len(changed)} of {len(values)} settings differ from their defaults"
        return notebook_html(heading("TrainConfig", text), *parts[:-1], whole)

    def __str__(self) -> str:
        return wrap_text(repr(self), indent=len("TrainConfig("))

    def to_dict(self) -> dict[str, Any]:
        """Returns the config as plain values."""
        values = dataclasses.asdict(self)
        return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}

    @classmethod
    def from_dict(cls, data: object) -> TrainConfig:
        """Returns the config that plain values describe; fields that are left out have their default.

        Raises:
            UnknownNameError: If a field is not known.
            InputError: If a field does not take a value.
        """
        if not isinstance(data, dict):
            raise InputError(f"the JSON of a TrainConfig must be an object of its fields, not {type(data).__name__}")
        return cls().replace(**data)


def _settings_table(values: Mapping[str, Any]) -> Table:
    rows = [(name, repr(value), TrainConfig.describe(name)) for name, value in values.items()]
    return Table("", ("setting", "value", "meaning"), rows, foldable=("value",))


def _field(name: str) -> dataclasses.Field[Any]:
    return require_field(TrainConfig, name, "field of TrainConfig")
