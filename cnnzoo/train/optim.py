"""The optimizer of a config: parameter groups with their learning rate and weight decay, and frozen parameters."""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import nn

from cnnzoo.errors import unknown
from cnnzoo.train.config import TrainConfig


def parameter_names(model: nn.Module) -> dict[str, tuple[str, ...]]:
    """Returns the names by which patterns can match each parameter.

    Args:
        model: Any module.

    Returns:
        State-dict name -> itself, the names of the modules that contain it, and their labels joined by ``/``.
    """
    names = {}
    for name, _ in model.named_parameters():
        module, paths, labels = model, [name], []
        for part in name.split(".")[:-1]:
            module = module.get_submodule(part)
            paths.append(f"{paths[-1]}.{part}" if len(paths) > 1 else part)
            if label := getattr(module, "label", None):
                labels.append(str(label))
        names[name] = (*paths, *("/".join(labels[: i + 1]) for i in range(len(labels))))
    return names


def _matching_parameters(model: nn.Module, pattern: str) -> set[str]:
    """Returns the state-dict names of the parameters that a pattern matches.

    Raises:
        UnknownNameError: If there are none.
    """
    names = parameter_names(model)
    matches = {name for name, aliases in names.items() if any(fnmatchcase(alias, pattern) for alias in aliases)}
    if not matches:
        modules_and_labels = {alias for aliases in names.values() for alias in aliases[1:]}
        raise unknown("label or parameter", pattern, modules_and_labels or names)
    return matches


def frozen_parameters(model: nn.Module, config: TrainConfig) -> set[str]:
    """Returns the state-dict names of the parameters that the config freezes.

    Raises:
        UnknownNameError: If a pattern matches no parameter.
    """
    return set().union(*(_matching_parameters(model, pattern) for pattern in config.freeze))


def freeze_parameters(model: nn.Module, config: TrainConfig) -> list[nn.Parameter]:
    """Freezes the parameters that the config names, and sets modules whose own parameters are all frozen to eval mode.

    Returns:
        The newly frozen parameters, without those that were frozen before.
    """
    names = frozen_parameters(model, config)
    parameters = [p for name, p in model.named_parameters() if name in names and p.requires_grad]
    for parameter in parameters:
        parameter.requires_grad_(False)
    for prefix, module in model.named_modules():
        own = {f"{prefix}.{name}" for name, _ in module.named_parameters(recurse=False)}
        if own and own <= names:
            module.eval()  # its running statistics are frozen too
    return parameters


def make_optimizer(model: nn.Module, config: TrainConfig) -> torch.optim.Optimizer:
    """Returns the optimizer for the parameters that require a gradient.

    Each parameter group has an ``lr_multiplier`` besides torch's own settings. Biases and normalizations have groups
    without weight decay.

    Raises:
        UnknownNameError: If a pattern of the config matches no parameter.
    """
    multipliers = {name: 1.0 for name, _ in model.named_parameters()}
    for pattern, value in config.lr_multipliers.items():
        multipliers |= dict.fromkeys(_matching_parameters(model, pattern), float(value))
    members: dict[tuple[float, float], list[nn.Parameter]] = {}
    for has_decay in (True, False):
        for name, parameter in model.named_parameters():
            if parameter.requires_grad and (parameter.dim() > 1) == has_decay:
                decay = config.weight_decay if has_decay else 0.0
                members.setdefault((multipliers[name], decay), []).append(parameter)
    groups: list[dict[str, Any]] = [
        {"params": parameters, "weight_decay": decay, "lr_multiplier": multiplier}
        for (multiplier, decay), parameters in members.items()
    ]
    # one pass over weights, gradients and state instead of several: five times faster on a CPU
    fused = all(p.device.type in ("cpu", "cuda") for parameters in members.values() for p in parameters) or None
    if config.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=config.lr, momentum=config.momentum, nesterov=config.nesterov, fused=fused)
    return torch.optim.AdamW(groups, lr=config.lr, fused=fused)


def set_learning_rate(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """Sets the learning rate of each group to ``lr`` times the multiplier of the group."""
    for group in optimizer.param_groups:
        group["lr"] = lr * group["lr_multiplier"]
