"""Optimizers by name: a registry, the parameter groups of a model, and frozen parameters."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import nn

from cnnzoo.errors import InputError, unknown
from cnnzoo.modules import is_norm
from cnnzoo.plugins import Registry
from cnnzoo.train.muon import Muon

if TYPE_CHECKING:
    from cnnzoo.train.config import TrainConfig

Groups = list[dict[str, Any]]
OptimizerFunction = Callable[..., torch.optim.Optimizer]
Function = TypeVar("Function", bound=OptimizerFunction)


def _is_fused(groups: Groups) -> bool | None:
    """Returns whether one pass over weights, gradients and state is possible: five times faster on a CPU."""
    parameters = [p for group in groups for p in group["params"]]
    return all(p.device.type in ("cpu", "cuda") and p.is_floating_point() for p in parameters) or None


def _complete_momentum(optimizer: torch.optim.Optimizer, args: object, kwargs: object) -> None:
    """Adds the momentum of weights that get their first gradient, since fused kernels need that of all or none."""
    for group in optimizer.param_groups:
        parameters = [p for p in group["params"] if p.grad is not None]
        missing = [p for p in parameters if optimizer.state[p].get("momentum_buffer") is None]
        if 0 < len(missing) < len(parameters):
            for p in missing:
                optimizer.state[p]["momentum_buffer"] = torch.zeros_like(p)


def _sgd(groups: Groups, config: TrainConfig) -> torch.optim.Optimizer:
    fused = _is_fused(groups)
    optimizer = torch.optim.SGD(groups, lr=config.lr, momentum=config.momentum, nesterov=config.nesterov, fused=fused)
    if fused and config.momentum:
        optimizer.register_step_pre_hook(_complete_momentum)
    return optimizer


def _adam(
    groups: Groups, config: TrainConfig, *, betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-8
) -> torch.optim.Optimizer:
    return torch.optim.Adam(groups, lr=config.lr, betas=betas, eps=eps, fused=_is_fused(groups))


def _adamw(
    groups: Groups, config: TrainConfig, *, betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-8
) -> torch.optim.Optimizer:
    return torch.optim.AdamW(groups, lr=config.lr, betas=betas, eps=eps, fused=_is_fused(groups))


def _muon(
    groups: Groups, config: TrainConfig, *, betas: tuple[float, float] = (0.9, 0.95), eps: float = 1e-8
) -> torch.optim.Optimizer:
    if not any(group["is_hidden"] for group in groups):
        raise InputError(
            "optimizer='muon' is for hidden layers, and the model has no trainable weight between its first and its "
            "last layer; choose optimizer='adamw'"
        )
    return Muon(groups, lr=config.lr, momentum=config.momentum or 0.95, betas=betas, eps=eps)


OPTIMIZERS: Registry[OptimizerFunction] = Registry(
    "optimizer", {"sgd": _sgd, "adam": _adam, "adamw": _adamw, "muon": _muon}
)


def register_optimizer(name: str) -> Callable[[Function], Function]:
    """Registers a function that builds an optimizer, for ``optimizer=`` of a TrainConfig.

    The function takes the parameter groups and the config. Each group has ``params``, ``weight_decay``,
    ``lr_multiplier``, which the optimizer must keep, and ``is_hidden``: whether its parameters are matrices or
    convolution kernels, except the first and the last of the model. Its keyword-only arguments are set by
    ``optimizer_options`` of the config.

        @register_optimizer("rmsprop")
        def rmsprop(groups, config, *, alpha=0.99):
            return torch.optim.RMSprop(groups, lr=config.lr, alpha=alpha)

    All that changes from step to step must be in the ``state_dict`` of the optimizer, as tensors, numbers, strings,
    lists, tuples and dicts, so that a run resumes exactly.

    Args:
        name: The name, an identifier.

    Raises:
        InputError: If the name is not an identifier, or belongs to another optimizer.
    """

    def register(function: Function) -> Function:
        OPTIMIZERS.register(name, function, str(function.__module__))
        return function

    return register


def check_options(name: str, options: Mapping[str, Any]) -> None:
    """Raises InputError if an optimizer does not take one of the options.

    Args:
        name: A registered name.
        options: Values by name.
    """
    parameters = inspect.signature(OPTIMIZERS[name]).parameters.values()
    known = [parameter.name for parameter in parameters if parameter.kind is parameter.KEYWORD_ONLY]
    wrong = [option for option in options if option not in known]
    if wrong and not any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
        raise InputError(
            f"optimizer {name!r} has no option {', '.join(map(repr, wrong))}; optimizer_options may set: "
            f"{', '.join(known) or 'none'}"
        )


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


def make_optimizer(
    model: nn.Module, config: TrainConfig, function: OptimizerFunction | None = None
) -> torch.optim.Optimizer:
    """Returns the optimizer for the parameters that require a gradient.

    Args:
        model: The module.
        config: The settings.
        function: Builds the optimizer from parameter groups and config; None: the registered one that the config names.

    Raises:
        UnknownNameError: If a pattern of the config matches no parameter.
        InputError: If the optimizer does not accept its settings or the parameters, or leaves some of them out.
    """
    groups = parameter_groups(model, config)
    name = repr(config.optimizer) if function is None else getattr(function, "__name__", repr(function))
    function = OPTIMIZERS[config.optimizer] if function is None else function
    trainable = [parameter for group in groups for parameter in group["params"]]
    try:
        optimizer = function(groups, config, **config.optimizer_options)
    except (TypeError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"optimizer {name} cannot be built: {error}") from error
    if not isinstance(optimizer, torch.optim.Optimizer):
        raise InputError(f"optimizer {name} must return a torch.optim.Optimizer, not {type(optimizer).__name__}")
    closure = inspect.signature(optimizer.step).parameters.get("closure")
    if closure is not None and closure.default is closure.empty:
        raise InputError(f"optimizer {name} needs a closure that computes the loss again, and a run computes it once")
    updated = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
    if updated != set(map(id, trainable)) or not all("lr_multiplier" in group for group in optimizer.param_groups):
        raise InputError(
            f"optimizer {name} must be built from the groups that it is called with: all of their parameters, and each "
            "group with its lr_multiplier"
        )
    return optimizer


def parameter_groups(model: nn.Module, config: TrainConfig) -> Groups:
    """Returns the parameters that require a gradient in groups with equal settings, see ``register_optimizer``.

    Biases and normalizations have no weight decay, whatever their shape, nor have other parameters of one dimension.

    Raises:
        UnknownNameError: If a pattern of the config matches no parameter.
    """
    multipliers = {name: 1.0 for name, _ in model.named_parameters()}
    for pattern, value in config.lr_multipliers.items():
        multipliers |= dict.fromkeys(_matching_parameters(model, pattern), float(value))
    is_weight = {
        name: parameter.dim() > 1 and not _is_bias_or_norm(model, name) for name, parameter in model.named_parameters()
    }
    matrices = [
        name for name, parameter in model.named_parameters() if is_weight[name] and min(parameter.flatten(1).shape) > 1
    ]
    hidden = set(matrices[1:-1])
    members: dict[tuple[bool, float, bool], list[nn.Parameter]] = {}
    for has_decay in (True, False):
        for name, parameter in model.named_parameters():
            if parameter.requires_grad and is_weight[name] == has_decay:
                members.setdefault((has_decay, multipliers[name], name in hidden), []).append(parameter)
    return [
        {
            "params": parameters,
            "weight_decay": config.weight_decay if has_decay else 0.0,
            "lr_multiplier": multiplier,
            "is_hidden": is_hidden,
        }
        for (has_decay, multiplier, is_hidden), parameters in members.items()
    ]


def _is_bias_or_norm(model: nn.Module, name: str) -> bool:
    """Returns whether a parameter is a bias by its name, such as ``bias`` or ``in_proj_bias``, or belongs to a norm.

    Args:
        model: The module.
        name: State-dict name of the parameter; that of a parametrization is ``parametrizations.bias.original``.
    """
    path, _, own = name.rpartition(".")
    if ".parametrizations." in f".{path}":
        path, _, own = f".{path}".rpartition(".parametrizations.")
    return "bias" in own.split("_") or is_norm(model.get_submodule(path.removeprefix(".")))


def set_learning_rate(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """Sets the learning rate of each group to ``lr`` times the multiplier of the group."""
    for group in optimizer.param_groups:
        group["lr"] = lr * group["lr_multiplier"]
