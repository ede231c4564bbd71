"""Losses by name: a registry, and the loss of a run with label smoothing and class weights."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

import torch
from torch import nn
from torch.nn import functional

from cnnzoo.errors import InputError
from cnnzoo.plugins import Parametrized, Registry, bind_argument

if TYPE_CHECKING:
    from cnnzoo.train.config import TrainConfig

LossFunction = Callable[..., torch.Tensor]
Function = TypeVar("Function", bound=LossFunction)


def cross_entropy(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Returns the cross-entropy of each image, see ``register_loss``."""
    return functional.cross_entropy(logits, targets, reduction="none")


def focal(logits: torch.Tensor, targets: torch.Tensor, gamma: float) -> torch.Tensor:
    """Returns -(1 - p) ** gamma * log(p) of each image, p the probability of its class (Lin et al. 2017)."""
    log_p = logits.log_softmax(dim=1)
    factors = (-torch.expm1(log_p)).clamp(min=1e-12) ** gamma  # clamped, since the derivative at 0 may be infinite
    return -(one_hot(targets, logits.shape[1]) * factors * log_p).sum(dim=1)


def binary_cross_entropy(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Returns the mean binary cross-entropy of the scores of each image, as in Wightman, Touvron, Jegou 2021."""
    targets = one_hot(targets, logits.shape[1])
    return functional.binary_cross_entropy_with_logits(logits, targets, reduction="none").mean(dim=1)


def one_hot(targets: torch.Tensor, num_classes: int) -> torch.Tensor:
    """Returns targets as float (N, classes): int64 (N,) as one-hot vectors, other targets unchanged."""
    return targets if targets.is_floating_point() else functional.one_hot(targets, num_classes).float()


LOSSES: Registry[Parametrized[LossFunction]] = Registry(
    "loss",
    {
        "cross_entropy": Parametrized(cross_entropy, None),
        "focal": Parametrized(focal, 2.0, lambda gamma: 0 <= gamma < 1e3),
        "bce": Parametrized(binary_cross_entropy, None),
    },
)


def register_loss(name: str, *, default: float | None = None) -> Callable[[Function], Function]:
    """Registers a loss, for ``loss=`` of a TrainConfig.

    The function takes logits, float32 (N, classes), and targets: int64 (N,), or float (N, classes) with label smoothing
    or when images are mixed. It returns the loss of each image, (N,).

        @register_loss("brier")
        def brier(logits, targets):
            return (logits.softmax(dim=1) - one_hot(targets, logits.shape[1])).square().sum(dim=1)

    Args:
        name: The name, an identifier.
        default: If the loss takes a number, its third argument, as in ``"focal:2"``: the number if none is written.

    Raises:
        InputError: If the name is not an identifier, or belongs to another loss.
    """

    def register(function: Function) -> Function:
        LOSSES.register(name, Parametrized(function, default), str(function.__module__))
        return function

    return register


def find_loss(text: str) -> LossFunction:
    """Returns the function that ``"name"`` or ``"name:number"`` names.

    Raises:
        UnknownNameError: If the name is not registered.
        InputError: If the number is not valid.
    """
    return bind_argument(LOSSES, text)


class TrainLoss:
    """The mean loss of a batch, with label smoothing and class weights.

    Args:
        function: Returns the loss of each image, see ``register_loss``.
        label_smoothing: Fraction of the target that is spread over all classes.
        class_weights: float (classes,): factor of the loss of images of each class; None: 1. It is not smoothed, and
            mixed for mixed images. The mean is over images, not over weights, so that it is the same however a batch
            is shared by processes and micro-batches.
    """

    def __init__(
        self, function: LossFunction, label_smoothing: float = 0.0, class_weights: torch.Tensor | None = None
    ) -> None:
        self._function, self._label_smoothing, self._class_weights = function, label_smoothing, class_weights

    def __call__(self, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Returns the mean loss, ().

        Args:
            logits: float32 (N, classes).
            targets: int64 (N,), or float (N, classes).

        Raises:
            InputError: If the function does not return one loss per image.
        """
        smoothing, weights = self._label_smoothing, self._class_weights
        if self._function is cross_entropy and weights is None:  # one operator
            return functional.cross_entropy(logits, targets, label_smoothing=smoothing)
        n, num_classes = logits.shape
        smoothed = targets
        if smoothing:
            smoothed = one_hot(targets, num_classes) * (1 - smoothing) + smoothing / num_classes
        losses = self._function(logits, smoothed)
        if not isinstance(losses, torch.Tensor) or losses.shape not in ([(n,)] if weights is not None else [(n,), ()]):
            shape = tuple(losses.shape) if isinstance(losses, torch.Tensor) else type(losses).__name__
            raise InputError(
                f"the loss returns {shape} for {n} images; it must return one loss per image, ({n},), as with "
                "reduction='none'"
            )
        if not losses.is_floating_point():
            raise InputError(f"the loss returns values of {losses.dtype}, without a gradient; it must return floats")
        if weights is not None:
            losses = losses * (targets @ weights if targets.is_floating_point() else weights[targets])
        return losses.mean()


def make_loss(
    config: TrainConfig,
    device: torch.device,
    *,
    function: LossFunction | None = None,
    class_weights: torch.Tensor | None = None,
) -> TrainLoss:
    """Returns the loss of a run.

    Args:
        config: The settings.
        device: Device of the network.
        function: The loss of each image; None: the registered one that the config names.
        class_weights: float (classes,): see ``TrainLoss``.

    Raises:
        InputError: If the function is a module with parameters, which nothing would train.
    """
    if isinstance(function, nn.Module):
        if next(function.parameters(), None) is not None:
            raise InputError(
                f"the loss {type(function).__name__} has parameters, which would not be trained; make them part of the "
                "model"
            )
        function = function.to(device)
    weights = None if class_weights is None else class_weights.to(device)
    return TrainLoss(find_loss(config.loss) if function is None else function, config.label_smoothing, weights)
