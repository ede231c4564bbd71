"""The initial weights of a network as Python source."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

from cnnzoo.blocks import Block
from cnnzoo.blocks.build import BuiltBlock
from cnnzoo.blocks.modules import Branches, Subsampling, TableConv2d
from cnnzoo.errors import InputError
from cnnzoo.initializers import INITIALIZERS
from cnnzoo.weights.source_expressions import INDENT, LINE_LENGTH, write

# initializer -> the call that fills {w}; {n} is the number after the colon
_CALLS = {
    "xavier_uniform": "nn.init.xavier_uniform_({w}, gain={n})",
    "xavier_normal": "nn.init.xavier_normal_({w}, gain={n})",
    "kaiming_uniform": "nn.init.kaiming_uniform_({w}, a={n})",
    "kaiming_normal": "nn.init.kaiming_normal_({w}, a={n})",
    "kaiming_normal_fan_out": 'nn.init.kaiming_normal_({w}, a={n}, mode="fan_out")',
    "normal": "nn.init.normal_({w}, std={n})",
    "uniform": "nn.init.uniform_({w}, -{n}, {n})",
    "uniform_over_fan_in": "nn.init.uniform_({w}, -{n} / {w}[0].numel(), {n} / {w}[0].numel())",
    "constant": "nn.init.constant_({w}, {n})",
}
_DEFAULTS = (", gain=1.0", ", a=0.0")  # of torch's functions

_Statements = tuple[str, ...]


@dataclass(frozen=True)
class _Layer:
    """A layer with weights.

    Attributes:
        name: Its name in the network.
        label: Label of its block.
        kind: Name of its class.
        statements: What fills the weights of ``layer``; empty if they are those of torch.
    """

    name: str
    label: str
    kind: str
    statements: _Statements


def make_initialization(sections: Mapping[str, Sequence[BuiltBlock]]) -> list[str]:
    """Returns the lines of a method that draws the initial weights; none if all are those of torch.

    Raises:
        InputError: If an initializer is not cnnzoo's.
    """
    layers = [
        layer
        for section, built in sections.items()
        for layer in _layers([module for one in built for module in one.modules], [one.block for one in built], section)
    ]
    by_kind: dict[str, dict[_Statements, list[_Layer]]] = {}  # of the modules
    for layer in layers:
        by_kind.setdefault(layer.kind, {}).setdefault(layer.statements, []).append(layer)
    uniform: dict[_Statements, list[str]] = {}  # kinds whose modules all have the same
    lines = []
    for kind, groups in by_kind.items():
        if len(groups) == 1 and len(same := next(iter(groups.values()))) > 1 and same[0].statements:
            uniform.setdefault(same[0].statements, []).append(f"nn.{kind}" if hasattr(nn, kind) else kind)
        else:
            lines += [line for group in groups.values() if group[0].statements for line in _for_each(group)]
    for statements, kinds in uniform.items():
        classes = kinds[0] if len(kinds) == 1 else f"({', '.join(kinds)})"
        head = ["for layer in self.modules():", f"{INDENT}if isinstance(layer, {classes}):"]
        lines += [*head, *_indented(_indented(statements))]
    if not lines:
        return []
    return ["def reset_parameters(self) -> None:", f'{INDENT}"""Draws the initial weights."""', *_indented(lines)]


def _for_each(layers: Sequence[_Layer]) -> list[str]:
    """Returns the statements for some layers, by their names."""
    labels = ", ".join(dict.fromkeys(layer.label for layer in layers))
    if len(labels) > 80:
        labels = f"{layers[0].label} to {layers[-1].label}, {len(layers)} layers"
    if len(layers) == 1:
        return [f'layer = self.get_submodule("{layers[0].name}")  # {labels}', *layers[0].statements]
    names = write(tuple(layer.name for layer in layers))
    lines = [f"for name in {names}:  # {labels}"]
    if len(lines[0]) > LINE_LENGTH - 2 * len(INDENT):
        lines = [f"# {labels}", "for name in (", *(f'{INDENT}"{layer.name}",' for layer in layers), "):"]
    return [*lines, f"{INDENT}layer = self.get_submodule(name)", *_indented(layers[0].statements)]


def _indented(lines: Iterable[str]) -> Iterator[str]:
    return (INDENT + line for line in lines)


def _layers(modules: Sequence[nn.Module], blocks: Sequence[Block], prefix: str) -> Iterator[_Layer]:
    """Yields the layers with weights of their own."""
    by_label = {block.label: block for block in blocks}
    for position, module in enumerate(modules):
        name, block = f"{prefix}.{position}", by_label[module.label]  # type: ignore[index]
        if isinstance(module, Branches):
            for path, (inner, inside) in enumerate(zip(module, block.branches(), strict=True)):
                yield from _layers(list(inner), inside, f"{name}.{path}")  # type: ignore[call-overload]
        elif isinstance(module, TableConv2d):
            for number, conv in enumerate(module.convs):
                yield _Layer(f"{name}.convs.{number}", block.label, "Conv2d", _statements(block, conv))
        elif isinstance(module, (nn.Conv2d, nn.Linear, Subsampling)):
            yield _Layer(name, block.label, type(module).__name__, _statements(block, module))


def _statements(block: Block, module: nn.Module) -> _Statements:
    """Returns the statements that fill the weights of a layer."""
    init, bias_init = getattr(block, "init", None), getattr(block, "bias_init", None)
    lines = []
    if init is not None and isinstance(module, Subsampling):  # one coefficient per map stands for a window
        sides: Any = module.kernel_size if isinstance(module.kernel_size, tuple) else (module.kernel_size,) * 2
        lines += [f"windows = torch.empty({module.weight.shape[0]}, 1, {sides[0]}, {sides[1]})"]
        lines += [_call(init, "windows", block), "layer.weight.data.copy_(windows[:, :, 0, :1])"]
    elif init is not None:
        lines += [_call(init, "layer.weight", block)]
    if bias_init is not None and getattr(module, "bias", None) is not None:
        lines += [f"nn.init.constant_(layer.bias, {float(bias_init)})"]
    return tuple(lines)


def _call(init: str, weight: str, block: Block) -> str:
    name, _, number = init.partition(":")
    if name not in _CALLS:
        raise InputError(
            f"block {block.label!r} has init={init!r}, which is not an initializer of cnnzoo, and cannot be written as "
            f"plain PyTorch; use one of {', '.join(_CALLS)}, or init=None"
        )
    text = _CALLS[name].format(w=weight, n=float(number or INITIALIZERS[name].default or 0.0))
    for default in _DEFAULTS:
        text = text.replace(default, "")
    return text
