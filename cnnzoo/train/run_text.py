"""The setup of a run as text, before its first step."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING

from cnnzoo.data import Data
from cnnzoo.device import device_name
from cnnzoo.measure.text_layout import wrap_text
from cnnzoo.metadata import get_metadata
from cnnzoo.train.optim import frozen_parameters
from cnnzoo.train.recipes import RecipeChoice

if TYPE_CHECKING:
    from cnnzoo.train.trainer import Trainer


def describe_setup(trainer: Trainer, choice: RecipeChoice | None = None, *, runs: int = 1) -> str:
    """Returns the setup of a run: data, images, network, recipe, training, device and folder, a line each.

    Args:
        trainer: The trainer, before its first step.
        choice: The recipe of its settings.
        runs: Number of runs with this setup.
    """
    config, out = trainer.config, None if trainer.run_dir is None else trainer.run_dir.path
    steps = f"{config.epochs} epoch{'s' * (config.epochs > 1)} of {trainer.steps_per_epoch} steps"
    lines = {
        "data": _data_line(trainer.data),
        "images": _images_line(trainer),
        "network": _network_line(trainer),
        "recipe": None if choice is None else str(choice),
        "training": f"{steps}, batch_size {config.batch_size}, {config.optimizer}, lr {config.lr:g}, {config.schedule}"
        + (f", {runs} seeds" if runs > 1 else ""),
        "device": f"{device_name(trainer.device)}, {trainer.precision}, "
        + ("compiled steps" if trainer.is_compiled else "steps not compiled")
        + (f", {trainer.distributed.size} processes" if trainer.distributed.size > 1 else ""),
        "writes": "nothing" if out is None else f"{out}/",
    }
    return wrap_text("\n".join(f"{name:9}{text}" for name, text in lines.items() if text is not None), indent=9)


def _data_line(data: Data) -> str:
    splits = {"training": data.train, "validation": data.val, "test": data.test}
    counts = [f"{len(split):,} {name}" for name, split in splits.items() if split is not None]
    return f"{data.name}: {', '.join(counts)} images, {len(data.classes)} classes"


def _images_line(trainer: Trainer) -> str:
    """Returns the shape of stored images and inputs, their preparation, and the augmentation."""
    preprocessing, augmentation = trainer.preprocessing, trainer.config.augmentation
    stored, size = trainer.data.shape, trainer.size
    parts = ["x".join(map(str, stored))]
    if stored[1:] != size:
        parts[0] += f" to {size[0]}x{size[1]} px ({trainer.config.crop_mode})"
    if preprocessing is None:
        parts.append("floats, used unchanged")
    elif trainer.config.normalize:
        mean, std = (" ".join(f"{value:.3g}" for value in values) for values in (preprocessing.mean, preprocessing.std))
        parts.append(f"normalized by mean {mean}, std {std}")
    else:
        parts.append("values in [0, 1]")
    used = {
        item.name: value for item in dataclasses.fields(augmentation) if (value := getattr(augmentation, item.name))
    }
    parts += [name if value is True else f"{name} {_plain(value)}" for name, value in used.items()]
    return ", ".join(parts)


def _plain(value: object) -> str:
    return " ".join(map(str, value)) if isinstance(value, Sequence) and not isinstance(value, str) else str(value)


def _network_line(trainer: Trainer) -> str:
    """Returns name and parameters of the network, and where its weights come from."""
    parameters = list(trainer.model.parameters())
    total = sum(parameter.numel() for parameter in parameters)
    frozen = frozen_parameters(trainer.model, trainer.config)
    fixed = sum(p.numel() for name, p in trainer.model.named_parameters() if name in frozen or not p.requires_grad)
    frozen_text = f" ({fixed:,} frozen)" if fixed else ""
    init = trainer.config.init
    weights = f"new, {init}" if init is not None else "; ".join(get_metadata(trainer.model).origin_texts()) or "new"
    return f"{trainer.name}, {total:,} parameters{frozen_text}; weights: {weights}"
