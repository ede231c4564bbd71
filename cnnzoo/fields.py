"""Checked fields of frozen dataclasses: type, range, choices and help text in one place, for blocks and configs.

Each field has a ``check`` in its metadata, which converts a value to the type of the field (a list becomes a tuple,
an integer a float), or raises ``Mismatch``. A dataclass calls ``check_fields`` in ``__post_init__``.
"""

from __future__ import annotations

import dataclasses
import json
import math
import operator
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any, SupportsIndex

from cnnzoo.errors import CnnzooError, InputError, UnknownNameError, unknown

Check = Callable[[Any], Any]

MISSING: Any = dataclasses.MISSING  # as a default: the field is required
MAX_INT = 2**63 - 1  # the maximum of int64


class Mismatch(Exception):
    """A value that a field does not take.

    Attributes:
        expected: What the field takes: ``"an integer of at least 1"``.
        choices: The valid names, if the field takes a name.
    """

    def __init__(self, expected: str, choices: Iterable[str] | None = None) -> None:
        super().__init__(expected)
        self.expected = expected
        self.choices = choices


def checked_field(default: Any, check: Check, *, help: str = "", optional: bool = False) -> Any:
    """Returns a dataclass field whose values ``check`` checks and converts.

    Args:
        default: The default; ``MISSING`` for a required field.
        check: Returns the converted value, or raises ``Mismatch``.
        help: The meaning of the field, in one clause.
        optional: Whether None is allowed.
    """

    def check_optional(value: Any) -> Any:
        try:
            return None if value is None else check(value)
        except Mismatch as mismatch:
            raise Mismatch(f"{mismatch.expected} or None", mismatch.choices) from None

    metadata = {"check": check_optional if optional else check, "help": help}
    if isinstance(default, dict):
        return dataclasses.field(default_factory=lambda: dict(default), hash=False, metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


def int_field(
    default: Any = MISSING,
    *,
    minimum: int = 1,
    maximum: int = MAX_INT,
    pair: bool = False,
    optional: bool = False,
    help: str = "",
) -> Any:
    """Returns a field for an integer from ``minimum`` to ``maximum``, or also for a pair of them (height, width)."""
    limits = f"of at least {minimum}" if maximum == MAX_INT else f"from {minimum} to {maximum}"
    expected = f"an integer {limits}" + (" or a pair of them" if pair else "")

    def is_valid(value: object) -> bool:
        return isinstance(value, int) and not isinstance(value, bool) and minimum <= value <= maximum

    def check(value: Any) -> Any:
        if is_valid(value):
            return value
        if pair and isinstance(value, (list, tuple)) and len(value) == 2 and all(map(is_valid, value)):
            return tuple(value)
        raise Mismatch(expected)

    return checked_field(default, check, help=help, optional=optional)


def float_field(
    default: Any = MISSING,
    *,
    minimum: float = -math.inf,
    maximum: float = math.inf,
    below: float = math.inf,
    optional: bool = False,
    help: str = "",
) -> Any:
    """Returns a field for a finite number from ``minimum`` to ``maximum`` that is less than ``below``."""
    expected = describe_range(minimum, maximum, below)

    def check(value: Any) -> float:
        if not is_number(value) or not minimum <= value <= maximum or not value < below:
            raise Mismatch(expected)
        return float(value)

    return checked_field(default, check, help=help, optional=optional)


def describe_range(minimum: float = -math.inf, maximum: float = math.inf, below: float = math.inf) -> str:
    """Returns the numbers of a range in words: ``"a number at least 0 and at most 1"``."""
    limits = [
        *([f"at least {minimum:g}"] if minimum > -math.inf else []),
        *([f"at most {maximum:g}"] if maximum < math.inf else []),
        *([f"less than {below:g}"] if below < math.inf else []),
    ]
    return f"a number {' and '.join(limits)}" if limits else "a finite number"


def is_number(value: object) -> bool:
    """Returns whether a value is a finite int or float."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < 1e300


def bool_field(default: bool, *, help: str = "") -> Any:
    """Returns a field for True or False."""

    def check(value: Any) -> bool:
        if not isinstance(value, bool):
            raise Mismatch("True or False")
        return value

    return checked_field(default, check, help=help)


def choice_field(default: Any, choices: Collection[str], *, optional: bool = False, help: str = "") -> Any:
    """Returns a field for one of the names in ``choices``, a tuple or a registry."""

    def check(value: Any) -> str:
        if not isinstance(value, str) or value not in choices:
            raise Mismatch("a known name", choices)
        return value

    return checked_field(default, check, help=help, optional=optional)


def parsed_field(
    default: Any, parse: Callable[[str], object], expected: str, *, optional: bool = False, help: str = ""
) -> Any:
    """Returns a field for a string that ``parse`` accepts; an error that ``parse`` raises is not replaced.

    Args:
        default: The default.
        parse: Called with the string.
        expected: What the field takes, for values that are not strings: ``"the name of a norm, such as 'batch'"``.
        optional: Whether None is allowed.
        help: The meaning of the field, in one clause.
    """

    def check(value: Any) -> str:
        if not isinstance(value, str):
            raise Mismatch(expected)
        parse(value)
        return value

    return checked_field(default, check, help=help, optional=optional)


def float_tuple_field(default: Any = (), *, minimum: float = 0, help: str = "") -> Any:
    """Returns a field for a tuple of numbers of at least ``minimum``."""
    limits = "" if minimum == -math.inf else f" of at least {minimum:g}"

    def check(value: Any) -> tuple[float, ...]:
        if not isinstance(value, (list, tuple)) or not all(is_number(v) and v >= minimum for v in value):
            raise Mismatch(f"a list of numbers{limits}")
        return tuple(map(float, value))

    return checked_field(default, check, help=help)


def str_tuple_field(default: tuple[str, ...] = (), *, parse: Callable[[str], object] = str, help: str = "") -> Any:
    """Returns a field for a tuple of strings that ``parse`` accepts; an error that ``parse`` raises is not replaced."""

    def check(value: Any) -> tuple[str, ...]:
        if not isinstance(value, (list, tuple)) or not all(isinstance(v, str) for v in value):
            raise Mismatch("a list of strings")
        for text in value:
            parse(text)
        return tuple(value)

    return checked_field(default, check, help=help)


def float_mapping_field(*, help: str = "") -> Any:
    """Returns a field for a mapping from strings to numbers of at least 0, empty by default."""

    def check(value: Any) -> dict[str, float]:
        if not isinstance(value, Mapping) or not all(
            isinstance(k, str) and is_number(v) and v >= 0 for k, v in value.items()
        ):
            raise Mismatch("an object of numbers of at least 0 by name")
        return {name: float(number) for name, number in value.items()}

    return checked_field({}, check, help=help)


def plain_mapping_field(*, help: str = "") -> Any:
    """Returns a field for a mapping from strings to values that JSON can hold, empty by default."""

    def check(value: Any) -> dict[str, Any]:
        try:
            if isinstance(value, Mapping) and all(isinstance(key, str) for key in value):
                return dict(json.loads(json.dumps(dict(value), allow_nan=False)))
        except (TypeError, ValueError):
            pass
        raise Mismatch("an object of numbers, strings or lists by name")

    return checked_field({}, check, help=help)


def check_fields(instance: Any, error: type[CnnzooError], context: str = "") -> None:
    """Checks and converts every field of a frozen dataclass.

    Args:
        instance: The dataclass.
        error: The exception to raise for a value of the wrong type or out of range.
        context: The beginning of the message, before the name of the field: ``"Conv (block 'conv1'): "``.

    Raises:
        UnknownNameError: If a name is not one of the choices of its field.
        CnnzooError: If another value is invalid; its class is ``error``.
    """
    for item in dataclasses.fields(instance):
        if "check" not in item.metadata:
            continue
        value = getattr(instance, item.name)
        try:
            object.__setattr__(instance, item.name, item.metadata["check"](value))
        except Mismatch as mismatch:
            if mismatch.choices is not None:
                raise UnknownNameError(f"{context}{unknown(item.name, value, mismatch.choices)}") from None
            help = f" ({item.metadata['help']})" if item.metadata["help"] else ""
            raise error(f"{context}{item.name} must be {mismatch.expected}, not {value!r}{help}") from None


def require_field(cls: Any, name: str, kind: str) -> dataclasses.Field[Any]:
    """Returns the field of a dataclass by its name.

    Args:
        cls: The dataclass.
        name: The name.
        kind: How the error calls the field: ``"field of TrainConfig"``.

    Raises:
        UnknownNameError: If there is no such field; the error suggests similar names.
    """
    known = {item.name: item for item in dataclasses.fields(cls)}
    if name not in known:
        raise unknown(kind, name, known)
    return known[name]


def check_positive_int(name: str, value: object, maximum: int = 2**24) -> int:
    """Returns an argument as an int if it is an integer from 1 to ``maximum``; numpy integers are accepted.

    Raises:
        InputError: If it is not.
    """
    if isinstance(value, bool) or not isinstance(value, SupportsIndex) or not 1 <= operator.index(value) <= maximum:
        raise InputError(f"{name} must be an integer from 1 to {maximum}, not {value!r}")
    return operator.index(value)
