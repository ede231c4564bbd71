"""Modules as Python expressions: ``nn.Conv2d(1, 6, kernel_size=5, padding=2)``."""

from __future__ import annotations

import inspect
import keyword
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from cnnzoo.blocks import RBF, Block, TableConv
from cnnzoo.blocks.modules import Branches, RBFUnits, ScaledTanh, Subsampling, TableConv2d
from cnnzoo.errors import InputError

LINE_LENGTH = 120
OWN_MODULES = (ScaledTanh, Branches, TableConv2d, Subsampling, RBFUnits)  # their source is written too
INDENT = "    "


@dataclass(frozen=True)
class Name:
    """A name or expression that is written as it is."""

    text: str


class List(tuple[Any, ...]):
    """Values that are written as a list."""


@dataclass(frozen=True)
class Argument:
    """An argument of a call.

    Attributes:
        name: Its name.
        value: A number, string, tuple, ``List``, ``Name`` or ``Call``.
        default: The value with which it is not written.
        is_positional: Whether it is written without its name.
    """

    name: str
    value: Any
    default: Any = inspect.Parameter.empty
    is_positional: bool = False


@dataclass(frozen=True)
class Call:
    """A call that builds a module.

    Attributes:
        function: Name of the class or function.
        arguments: Its arguments.
        label: Label of the block that the module belongs to.
    """

    function: str
    arguments: tuple[Argument, ...]
    label: str = field(default="", compare=False)


def to_identifier(text: str) -> str:
    """Returns a text with underscores in place of the characters that a Python name cannot have."""
    name = re.sub(r"\W", "_", text, flags=re.ASCII)
    return f"_{name}" if not name or name[0].isdecimal() or keyword.iskeyword(name) else name


def write(value: Any, indent: int = 0, before: int = 0, after: int = 0) -> str:
    """Returns an expression as text: on one line if it fits, else with one argument per line.

    Args:
        value: As in ``Argument``.
        indent: Level of indentation of the line that it begins on.
        before: Number of characters before it on that line, besides the indentation.
        after: Number of characters after it on its last line.
    """
    flat = _flat(value)
    if len(INDENT) * indent + before + len(flat) + after <= LINE_LENGTH or not isinstance(value, (Call, List)):
        return flat
    if isinstance(value, Call):
        parts, opening, closing = list(_arguments(value)), f"{value.function}(", ")"
    else:
        parts, opening, closing = [("", one) for one in value], "[", "]"
    lines = (f"{prefix}{write(one, indent + 1, len(prefix), 1)}," for prefix, one in parts)
    return "\n".join([opening, *(INDENT * (indent + 1) + line for line in lines), INDENT * indent + closing])


def _flat(value: Any) -> str:
    if isinstance(value, Name):
        return value.text
    if isinstance(value, Call):
        return f"{value.function}({', '.join(prefix + _flat(one) for prefix, one in _arguments(value))})"
    if isinstance(value, List):
        return f"[{', '.join(map(_flat, value))}]"
    if isinstance(value, tuple):
        return f"({', '.join(map(_flat, value))}{',' if len(value) == 1 else ''})"
    return repr(value).replace("'", '"') if isinstance(value, str) else repr(value)


def _arguments(call: Call) -> Iterator[tuple[str, Any]]:
    """Yields (``"name="``, value) of the arguments that are written."""
    for argument in call.arguments:
        if argument.is_positional:
            yield "", argument.value
        elif argument.value != argument.default:
            yield f"{argument.name}=", argument.value


# --- modules ---


def module_calls(modules: Sequence[nn.Module], blocks: Sequence[Block], constants: dict[str, Any]) -> list[Call]:
    """Returns the calls that build modules.

    Args:
        modules: Modules that were built from blocks.
        blocks: The blocks.
        constants: Receives the values that are written once, as constants of the file.

    Raises:
        InputError: If the class of a module is neither torch's nor cnnzoo's.
    """
    by_label = {block.label: block for block in blocks}
    calls = []
    for module in modules:
        block = by_label[module.label]  # type: ignore[index]
        own = _OWN.get(type(module))
        arguments = _own_arguments(module, block) if own is None else own(module, block, constants)
        is_torch = type(module).__module__.startswith("torch.nn.")
        if not is_torch and type(module) not in OWN_MODULES:
            raise _refusal(block, f"a {type(module).__name__} of {type(module).__module__}")
        calls.append(Call(f"nn.{type(module).__name__}" if is_torch else type(module).__name__, arguments, block.label))
    return calls


def _refusal(block: Block, what: str) -> InputError:
    return InputError(
        f"block {block.label!r} has {what}, and source without cnnzoo can only use modules of torch.nn; replace the "
        f"block with cnnzoo.edit, or export to .onnx or .pt2"
    )


def _own_arguments(module: nn.Module, block: Block) -> tuple[Argument, ...]:
    """Returns the arguments of a module's class, from the attributes of the same names."""
    arguments: list[Argument] = []
    for name, parameter in inspect.signature(type(module)).parameters.items():
        if name in ("device", "dtype") or parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            continue
        if not hasattr(module, name):
            raise _refusal(block, f"a {type(module).__name__}, whose {name} is not known")
        value = getattr(module, name)
        if name == "bias":
            value = value is not None
        if isinstance(value, tuple) and len(set(value)) == 1:
            value = value[0]
        is_required = parameter.default is parameter.empty
        arguments.append(Argument(name, value, parameter.default, is_required and len(arguments) < 2))
    return tuple(arguments)


def _branches(module: Branches, block: Block, constants: dict[str, Any]) -> tuple[Argument, ...]:
    paths = List(
        Call(
            "nn.Sequential",
            tuple(
                Argument("", call, is_positional=True)
                for call in module_calls(list(path), blocks, constants)  # type: ignore[call-overload]
            ),
        )
        for path, blocks in zip(module, block.branches(), strict=True)
    )
    return Argument("", paths, is_positional=True), Argument("merge", module.merge)


def _table_conv(module: TableConv2d, block: TableConv, constants: dict[str, Any]) -> tuple[Argument, ...]:
    name = to_identifier(f"TABLE_{block.label}".upper())
    constants[name] = List(block.table)
    settings = [Argument(key, getattr(block, key)) for key in ("kernel_size", "stride", "padding", "bias")]
    defaults = {"stride": 1, "padding": 0, "bias": True}
    return Argument("table", Name(name), is_positional=True), *(
        Argument(one.name, one.value, defaults.get(one.name, inspect.Parameter.empty)) for one in settings
    )


def _subsampling(module: Subsampling, block: Block, constants: dict[str, Any]) -> tuple[Argument, ...]:
    return Argument("channels", module.weight.shape[0], is_positional=True), Argument("kernel_size", module.kernel_size)


def _rbf(module: RBFUnits, block: RBF, constants: dict[str, Any]) -> tuple[Argument, ...]:
    name = to_identifier(f"CODES_{block.label}".upper())
    constants[name] = List(block.codes)
    codes = Name(f'torch.tensor([[1.0 if sign == "+" else -1.0 for sign in code] for code in {name}])')
    return (Argument("codes", codes, is_positional=True),)


_OWN: Mapping[type[nn.Module], Callable[..., tuple[Argument, ...]]] = {
    Branches: _branches,
    TableConv2d: _table_conv,
    Subsampling: _subsampling,
    RBFUnits: _rbf,
    ScaledTanh: lambda module, block, constants: (),
}
