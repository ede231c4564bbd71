"""Checks of a run: of model, data and config before the first step, of loss and weights while it trains."""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel

from cnnzoo.data import Data, ImageData, StreamData, has_samples
from cnnzoo.errors import InputError, TrainingError
from cnnzoo.measure.isolation import isolated
from cnnzoo.module_copy import copy_module
from cnnzoo.modules import require_weights, unwrap, wrappers
from cnnzoo.train.batches import find_batch_of_one
from cnnzoo.train.config import TrainConfig
from cnnzoo.train.optim import frozen_parameters

# argument -> (type in words, type, how to get one by its name)
_ARGUMENT_TYPES: dict[str, tuple[str, Any, str]] = {
    "model": ("an nn.Module", nn.Module, "cnnzoo.create({!r}) builds one"),
    "data": ("an ImageData or StreamData", (ImageData, StreamData), "cnnzoo.load_data({!r}) loads one"),
    "config": ("a TrainConfig", TrainConfig, "cnnzoo.recipe({!r}) returns one"),
}


def require_type(argument: str, value: object) -> None:
    """Raises InputError if an argument has another type than expected; for a name, the error says what to call.

    Args:
        argument: ``"model"``, ``"data"`` or ``"config"``.
        value: Its value.
    """
    expected, types, hint = _ARGUMENT_TYPES[argument]
    if not isinstance(value, types):
        suffix = f"; {hint.format(value)}" if isinstance(value, str) else ""
        raise InputError(f"{argument} must be {expected}, not {type(value).__name__}{suffix}")


def unwrap_trainable(model: nn.Module, config: TrainConfig) -> nn.Module:
    """Returns the module to train: the one inside wrappers, which the Trainer replaces by its own; warns what is lost.

    Raises:
        InputError: If the module is sharded or scripted, has no weights, or has no parameter left to train.
        UnknownNameError: If a pattern of ``config.freeze`` matches no parameter.
    """
    for outer in wrappers(model):
        if hint := _hint_instead_of(outer, config):
            warnings.warn(
                f"the module inside {type(outer).__name__} is trained without {type(outer).__name__}; {hint}",
                stacklevel=3,
            )
    model = unwrap(model)
    _require_trainable(model, config)
    return model


def _hint_instead_of(outer: nn.Module, config: TrainConfig) -> str:
    """Returns what replaces a wrapper in training; empty if nothing is lost."""
    if isinstance(outer, nn.DataParallel):
        return "torchrun --nproc-per-node N trains on N GPUs" if len(outer.device_ids) > 1 else ""
    if isinstance(outer, AveragedModel):
        return "ema=0.999 in the config averages the weights"
    if isinstance(outer, nn.parallel.DistributedDataParallel) or config.compile:
        return ""
    return "compile=True in the config compiles it"


def _require_trainable(model: nn.Module, config: TrainConfig) -> None:
    classes = {type(value).__name__ for value in (*model.modules(), *model.parameters())}
    if sharded := {"FullyShardedDataParallel", "DTensor"} & classes:  # not imported: that takes a second
        raise InputError(
            f"the model is sharded over processes ({', '.join(sharded)}), and each process of the Trainer has all "
            "weights; pass the module as it was before fully_shard or FullyShardedDataParallel"
        )
    if scripted := next((m for m in model.modules() if isinstance(m, torch.jit.ScriptModule)), None):
        raise InputError(
            f"{scripted.original_name} is a TorchScript module; train the module that it was scripted or traced from"
        )
    require_weights(model, "the model")
    trainable = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    if not trainable:
        raise InputError("no parameter of the model requires a gradient, so there is nothing to train")
    if not trainable - frozen_parameters(model, config):
        raise InputError(f"freeze={list(config.freeze)} leaves nothing to train")


def warn_about_frozen_norms(model: nn.Module, config: TrainConfig, name: str) -> None:
    """Warns about normalizations whose parameters were frozen by hand, since their running statistics still change.

    Args:
        model: The module.
        config: The settings; parts that ``config.freeze`` names are in eval mode, where statistics do not change.
        name: Name of the network.
    """
    frozen = {key for key, parameter in model.named_parameters() if not parameter.requires_grad}
    in_eval_mode = frozen_parameters(model, config)
    outermost: list[str] = []
    for prefix, module in model.named_modules():
        keys = {f"{prefix}.{key}" for key, _ in module.named_parameters()}
        is_inside = any(prefix.startswith(f"{outer}.") for outer in outermost)
        if keys and keys <= frozen and not is_inside and _has_moving_statistics(module, prefix, in_eval_mode):
            outermost.append(prefix)
    if outermost:
        warnings.warn(
            f"{name}: the parameters of {', '.join(outermost[:5])}{', ...' if len(outermost) > 5 else ''} do not "
            "require gradients, but the running statistics of batch norm there change in training; to freeze both, use "
            f"freeze={json.dumps(outermost)} in the config",
            stacklevel=3,
        )


def _has_moving_statistics(part: nn.Module, prefix: str, in_eval_mode: set[str]) -> bool:
    """Returns whether a part of a model has running statistics, except in modules whose parameters are all named."""
    for name, module in part.named_modules(prefix=prefix):
        if isinstance(module, nn.modules.batchnorm._NormBase) and module.running_mean is not None:
            keys = {f"{name}.{key}" for key, _ in module.named_parameters()}
            if not keys or not keys <= in_eval_mode:
                return True
    return False


def require_matching(name: str, in_channels: int | None, num_classes: int | None, data: Data) -> None:
    """Raises InputError if a network has another number of channels or classes than the data.

    Args:
        name: Name of the network.
        in_channels: Its number of channels; None if it is not known.
        num_classes: Its number of classes; None if it is not known.
        data: The data set.
    """
    channels, n = data.shape[0], len(data.classes)
    if in_channels is not None and in_channels != channels:
        raise InputError(
            f"{name} expects images with {in_channels} channels, but {data.name} has {channels}; "
            f"build it with in_channels={channels}"
        )
    if num_classes is not None and num_classes != n:
        raise InputError(f"{name} has {num_classes} classes, but {data.name} has {n}; build it with num_classes={n}")


def require_supported(data: Data, config: TrainConfig, *, name: str, size: tuple[int, int], processes: int) -> None:
    """Raises InputError if the config asks for what this kind of data does not support.

    Args:
        data: The data set.
        config: The settings.
        name: Name of the network.
        size: (height, width) of the network's input.
        processes: Number of processes that train together.
    """
    dtype = data.dtype
    if dtype != torch.uint8 and (config.augmentation or config.crop_mode == "center"):
        raise InputError(
            f"{data.name} has images of {dtype}, which are used unchanged; augmentation and crop_mode='center' need "
            "uint8 images"
        )
    if dtype != torch.uint8 and data.shape[1:] != size:
        raise InputError(
            f"{name} expects images of {size[0]}x{size[1]} px, but {data.name} has {data.shape[1]}x{data.shape[2]} "
            f"({dtype}, which are used unchanged)"
        )
    has_val = config.val_size or config.overfit_batches or data.val is not None
    if (config.patience or config.save_best) and not has_val:
        raise InputError(
            "patience and save_best need validation images, because the test images must not select anything: set "
            f"val_size too, such as val_size=5000, or give {data.name} validation images (val/)"
        )
    if not has_samples(data.train) and config.drop_last:
        raise InputError(f"{data.name} yields batches, which are used as they come; leave out drop_last=True")
    if not has_samples(data.train) and (processes > 1 or config.accumulation_steps > 1):
        raise InputError(
            f"{data.name} yields batches, which can neither be shared by several processes nor be split into "
            f"micro-batches (processes={processes}, accumulation_steps={config.accumulation_steps}); give a Dataset of "
            "samples"
        )


def require_finite_loss(loss: float, name: str, step: int, lr: float, log_every: int, folder: Path | None) -> None:
    """Raises TrainingError if the loss is infinite or NaN.

    Args:
        loss: The loss.
        name: Name of the network.
        step: Number of steps done.
        lr: Learning rate of the last step.
        log_every: Number of steps between two checks.
        folder: The run folder, if there is a checkpoint.
    """
    if math.isfinite(loss):
        return
    checkpoint = "no checkpoint was written yet" if folder is None else f"the last good checkpoint is in {folder}"
    raise TrainingError(
        f"{name}: the loss became {loss} within the {log_every} steps before step {step} (learning rate {lr:g}); "
        f"{checkpoint}. Try a lower lr, such as {lr / 10:g}, or more warmup."
    )


def require_finite_weights(model: nn.Module, name: str, step: int, lr: float) -> None:
    """Raises TrainingError if a weight or buffer is infinite or NaN; for the arguments, see ``require_finite_loss``."""
    for key, tensor in model.state_dict().items():
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise TrainingError(
                f"{name}: at step {step} (learning rate {lr:g}) weights became infinite or NaN ({key}, ...); the "
                "previous checkpoint is kept. Try a lower lr, or clip_norm=1"
            )


def require_batch_norm_values(
    model: nn.Module, name: str, shape: tuple[int, int, int], n: int, config: TrainConfig, processes: int
) -> None:
    """Raises InputError if batch norm will get a single value per channel, from a batch of one image.

    That depends on the size of the maps at each batch norm, so one image is tried; the model is left unchanged.

    Args:
        model: The module, in the mode in which it is trained.
        name: Its name.
        shape: (C, H, W) of its input.
        n: Number of images of an epoch.
        config: The settings.
        processes: Number of processes that train together.
    """
    size = find_batch_of_one(n, config, processes)
    has_batch_norm = any(isinstance(m, nn.modules.batchnorm._BatchNorm) and m.training for m in model.modules())
    if size is None or not has_batch_norm or not _batch_norm_fails(model, shape):
        return
    if size == n % config.batch_size:
        batch, remedy = f"the last batch of an epoch of {n} images has {size}", " or drop_last=True"
    else:
        batch, remedy = f"a batch has {size}", ""
    if size > 1:
        batch += f", of which a process runs one alone ({processes=}, accumulation_steps={config.accumulation_steps})"
    sizes = range(config.accumulation_steps, min(2 * config.batch_size, n) + 1)
    nearest_first = sorted(sizes, key=lambda other: (abs(other - config.batch_size), -other))
    fits = (other for other in nearest_first if not find_batch_of_one(n, config.replace(batch_size=other), processes))
    other = "fewer accumulation_steps" if config.accumulation_steps > 1 else "another batch_size"
    hint = f"batch_size={better}" if (better := next(fits, None)) else other
    raise InputError(f"{name}: batch norm needs more than one value per channel, and {batch}; choose {hint}{remedy}")


def _batch_norm_fails(model: nn.Module, shape: tuple[int, int, int]) -> bool:
    """Returns whether batch norm refuses one image, by a trial on the meta device or, if that fails, on copies."""
    parameter = next(model.parameters())
    for meta in (True, False):
        device = torch.device("meta") if meta else parameter.device
        try:
            with isolated(copy_module(model, user_hooks=False), meta) as (copy, _), torch.no_grad():
                copy(torch.zeros(1, *shape, device=device, dtype=parameter.dtype))
        except Exception as error:  # another error is raised again by the first step
            if "more than 1 value per channel" in str(error):
                return True
        else:
            return False
    return False


def require_sync_batch_norm(model: nn.Module, config: TrainConfig, device: torch.device, processes: int) -> None:
    """Raises InputError if several processes would run SyncBatchNorm on a device that it does not support."""
    norms = nn.modules.batchnorm._BatchNorm if config.sync_batch_norm else nn.SyncBatchNorm
    if processes > 1 and device.type in ("cpu", "mps") and any(isinstance(module, norms) for module in model.modules()):
        raise InputError(
            f"SyncBatchNorm runs on GPUs only, and {processes} processes train on {device}; leave out "
            "sync_batch_norm=True and build the network with BatchNorm"
        )


@contextmanager
def explain_batch_norm_error(name: str, batch_size: int) -> Iterator[None]:
    """Turns torch's error about batch norm of a single value into a TrainingError, for ready-made batches.

    Args:
        name: Name of the network.
        batch_size: Number of images in the batch.
    """
    try:
        yield
    except ValueError as error:
        if "more than 1 value per channel" not in str(error):
            raise
        raise TrainingError(
            f"{name}: batch norm needs more than one value per channel, and a batch has {batch_size} image; leave it "
            "out, such as with drop_last=True of its DataLoader"
        ) from None


@contextmanager
def explain_sparse_gradients(model: nn.Module, optimizer: torch.optim.Optimizer) -> Iterator[None]:
    """Turns the error of an optimizer that does not take sparse gradients, or takes no others, into a TrainingError."""
    try:
        yield
    except RuntimeError as error:
        sparse = [key for key, p in model.named_parameters() if p.grad is not None and p.grad.layout != torch.strided]
        if not sparse and "dense gradients" not in str(error):
            raise
        raise TrainingError(
            f"{type(optimizer).__name__} does not take the gradients of the model ({error}); sparse ones have: "
            f"{', '.join(sparse) or 'none'}. Build embeddings with sparse=False, or choose another optimizer"
        ) from None
