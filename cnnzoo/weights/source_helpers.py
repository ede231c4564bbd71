"""Functions in place of equal calls: one ``inception(...)`` for all Inception modules of a network."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from cnnzoo.weights.source_expressions import INDENT, LINE_LENGTH, Argument, Call, List, Name, to_identifier, write

_INPUTS = ("in_channels", "num_features", "num_channels")  # arguments that are the number of maps of the input
_OUTPUT = "out_channels"


@dataclass(frozen=True)
class Helper:
    """A function that returns what some calls return, which differ in numbers only.

    Attributes:
        source: Its definition.
        calls: Pairs of a call that it replaces, and the call of the function.
    """

    source: str
    calls: list[tuple[Call, Call]]


@dataclass(frozen=True)
class _Number:
    """A number, or pair of numbers, in a call: where it is, and its value in each of the similar calls."""

    path: int  # of the branches
    label: str
    argument: str
    values: tuple[Any, ...]


def make_helpers(calls: Sequence[Call]) -> list[Helper]:
    """Returns the functions for those of some calls of ``Branches`` that have similar ones."""
    groups: dict[Any, list[Call]] = {}
    for call in calls:
        groups.setdefault(map_numbers(call, lambda number: None), []).append(call)
    names: set[str] = set()
    helpers = []
    for group in groups.values():
        if len(group) > 1:
            names.add(name := _unique(_name(group[0]), names))
            helpers.append(_make_helper(name, group))
    return helpers


def map_numbers(call: Call, function: Callable[[Any], Any]) -> Call:
    """Returns a call, without labels, with every integer and every tuple of integers replaced."""

    def convert(value: Any) -> Any:
        if isinstance(value, Call):
            return map_numbers(value, function)
        if isinstance(value, List):
            return List(map(convert, value))
        return function(value) if type(value) in (int, tuple) else value

    return Call(call.function, tuple(replace(one, value=convert(one.value)) for one in call.arguments))


def _numbers(call: Call) -> Iterator[tuple[int, str, str, Any]]:
    """Yields (branch, label, argument, value) of the numbers in the order of ``map_numbers``."""

    def walk(inner: Call, path: int) -> Iterator[tuple[int, str, str, Any]]:
        for argument in inner.arguments:
            for one in argument.value if isinstance(argument.value, List) else [argument.value]:
                if isinstance(one, Call):
                    yield from walk(one, path)
                elif type(one) in (int, tuple):
                    yield path, inner.label, argument.name, one

    for path, branch in enumerate(call.arguments[0].value):
        yield from walk(branch, path)


def _make_helper(name: str, group: Sequence[Call]) -> Helper:
    is_sum = group[0].arguments[1].value == "add"
    numbers = [
        _Number(first[0], first[1], first[2], tuple(one[3] for one in same))
        for same in zip(*map(_numbers, group), strict=True)
        for first in [same[0]]
    ]
    parameters: dict[str, tuple[Any, ...]] = {}
    texts: list[str | None] = []
    for number in numbers:
        texts.append(_text(number, list(zip(numbers, texts, strict=False)), parameters, is_sum))
    aliases = _shorten_names(parameters) if is_sum else {}
    texts = [None if text is None else aliases.get(text, text) for text in texts]
    signature = [aliases.get(parameter, parameter) for parameter in parameters]
    named = {new: values for new, values in zip(signature, parameters.values(), strict=True) if new.isidentifier()}
    parameters = dict(
        sorted(named.items(), key=lambda item: "channels" not in item[0])
    )  # stable: numbers of maps first
    remaining = iter(texts)
    body = map_numbers(group[0], lambda number: number if (text := next(remaining)) is None else Name(text))
    labels = f"{group[0].label} to {group[-1].label}" if len(group) > 2 else " and ".join(call.label for call in group)
    head = f"def {name}({', '.join(f'{parameter}: int' for parameter in parameters)}) -> nn.Module:"
    if len(head) > LINE_LENGTH:
        head = "\n".join(
            (f"def {name}(", *(f"{INDENT}{parameter}: int," for parameter in parameters), ") -> nn.Module:")
        )
    source = "\n".join(
        (
            head,
            f'{INDENT}"""Returns one of the blocks {escape_docstring(labels)}."""',
            f"{INDENT}return {write(body, 1, len('return '))}",
        )
    )
    replaced = [
        Call(
            name,
            tuple(
                Argument(parameter, values[i], is_positional="channels" in parameter)
                for parameter, values in parameters.items()
            ),
            call.label,
        )
        for i, call in enumerate(group)
    ]
    return Helper(source, list(zip(group, replaced, strict=True)))


def _text(
    number: _Number, before: Sequence[tuple[_Number, str | None]], parameters: dict[str, tuple[Any, ...]], is_sum: bool
) -> str | None:
    """Returns the name of the parameter that a number becomes; None if it is the same in all calls.

    In a sum, equal numbers of maps are one parameter; in a concatenation, each convolution has its own.

    Args:
        number: The number.
        before: The numbers before it, and their names.
        parameters: Name and values of the parameters; a new one is added.
        is_sum: Whether the branches are added.
    """
    if len(set(number.values)) == 1:
        return None
    known = {values: name for name, values in reversed(parameters.items())}
    name = number.argument
    if name == _OUTPUT:
        name = f"channels_{to_identifier(number.label).lstrip('_')}"
        known = known if is_sum else {}
    elif name in _INPUTS:
        name = "in_channels"
        outputs = [(one, text) for one, text in before if one.path == number.path and one.argument == _OUTPUT]
        if outputs and outputs[-1][0].values == number.values:  # of the convolution before
            return outputs[-1][1]
    if number.values in known:
        return known[number.values]
    name = _unique(name, parameters)
    parameters[name] = number.values
    return name


def _shorten_names(parameters: dict[str, tuple[Any, ...]]) -> dict[str, str]:
    """Returns shorter names, and multiples of others: ``4 * channels`` in a bottleneck."""
    channels = {name: values for name, values in parameters.items() if "channels" in name}
    multiples: dict[str, tuple[int, str]] = {}
    for name, values in channels.items():
        for other, others in channels.items():
            factor = values[0] // others[0]
            if factor > 1 and other not in multiples and values == tuple(factor * one for one in others):
                multiples[name] = (factor, other)
    bases = [name for name in channels if name not in multiples]
    aliases = {}
    if len(widths := [name for name in bases if name != "in_channels"] or bases) == 1:
        aliases[widths[0]] = "channels"
    for name, (factor, other) in multiples.items():
        aliases[name] = f"{factor} * {aliases.get(other, other)}"
    return aliases


def _name(call: Call) -> str:
    """Returns the name of a function: ``"residual"`` of a sum, else that in the label, such as ``"inception"``."""
    paths, merge = (argument.value for argument in call.arguments)
    has_identity = any(not path.arguments for path in paths)
    if merge == "add":
        return "residual" if has_identity else "projected_residual"
    if has_identity:
        return "dense_layer"
    letters = re.match(r"[a-z_]+", call.label.rpartition(".")[2].lower(), re.ASCII)
    return to_identifier(letters[0].strip("_")) if letters else "parallel"


def _unique(name: str, taken: Any) -> str:
    return next(one for one in (name, *(f"{name}_{n}" for n in range(2, len(taken) + 3))) if one not in taken)


def escape_docstring(text: str) -> str:
    """Returns a text that cannot end the docstring that it is in."""
    return text.replace("\\", "\\\\").replace('"', '\\"')
