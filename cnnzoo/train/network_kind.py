"""The kind of a network, by which a recipe is chosen: what its modules are, never what it is called."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from torch import nn

# parts of the names of classes of activations, those of torch and others: Hardsigmoid, ScaledTanh, LeakyReLU, ...
_SATURATING = ("sigmoid", "tanh", "softsign")
_RECTIFYING = ("relu", "elu", "silu", "swish", "mish", "softplus")
_NORMS = (nn.modules.batchnorm._NormBase, nn.GroupNorm, nn.LayerNorm, nn.RMSNorm)
KINDS = ("saturating", "normalized", "deep", "rectifying")
MAX_SHALLOW = 6  # layers that can be trained without normalization by a recipe for shallow networks


@dataclass(frozen=True)
class NetworkKind:
    """The kind of a network.

    Attributes:
        name: ``"saturating"`` (most activations are bounded, as sigmoid and tanh are), ``"normalized"`` (it has batch,
            group, layer or instance norm), ``"deep"`` (neither, and more than six layers with weights), or
            ``"rectifying"``.
        reason: The modules that decide it, in words.
    """

    name: str
    reason: str


def network_kind(model: nn.Module) -> NetworkKind:
    """Returns the kind of a network.

    Args:
        model: Any module, also one on the meta device. Activations that it calls as functions are not seen.
    """
    modules = list(model.modules())
    activations = [module for module in modules if _is_one_of(module, _SATURATING + _RECTIFYING)]
    saturating = [module for module in activations if _is_one_of(module, _SATURATING)]
    norms = [module for module in modules if isinstance(module, _NORMS)]
    layers = sum(isinstance(module, (nn.modules.conv._ConvNd, nn.Linear)) for module in modules)
    if 2 * len(saturating) > len(activations):
        share = f"{len(saturating)} of {len(activations)} activations"
        return NetworkKind("saturating", f"{share} saturate ({_classes(saturating)})")
    if norms:
        return NetworkKind("normalized", _count(norms, "normalization"))
    if layers > MAX_SHALLOW:
        return NetworkKind("deep", f"{layers} layers with weights, no normalization")
    if not activations:
        return NetworkKind("rectifying", f"{layers} layers with weights; no module is a known activation")
    return NetworkKind("rectifying", f"{_count(activations, 'activation')}, {layers} layers with weights")


def _is_one_of(module: nn.Module, words: tuple[str, ...]) -> bool:
    """Returns whether a module is an activation whose class's name has one of the words in it."""
    name = type(module).__name__.lower()
    return not module._modules and any(word in name for word in words)


def _classes(modules: Sequence[nn.Module]) -> str:
    """Returns the names of the most frequent classes: ``"ReLU, Sigmoid"``."""
    return ", ".join(name for name, _ in Counter(type(module).__name__ for module in modules).most_common(2))


def _count(modules: Sequence[nn.Module], what: str) -> str:
    """Returns ``"5 activations (ReLU)"``."""
    return f"{len(modules)} {what}{'s' * (len(modules) > 1)} ({_classes(modules)})"
