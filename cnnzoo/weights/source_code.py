"""Plain PyTorch source of a network: a module that a student can read, without cnnzoo."""

from __future__ import annotations

import inspect
import itertools
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from cnnzoo.blocks import Shape, build_blocks
from cnnzoo.blocks.build import BuiltBlock
from cnnzoo.network import CNN
from cnnzoo.registry import get_entry, is_model
from cnnzoo.version import __version__
from cnnzoo.weights.source_expressions import INDENT, LINE_LENGTH, OWN_MODULES, Call, module_calls, to_identifier, write
from cnnzoo.weights.source_helpers import escape_docstring, make_helpers
from cnnzoo.weights.source_initial import make_initialization


@dataclass(frozen=True)
class _Item:
    """The modules of a block in a section of the network."""

    calls: list[Call]
    label: str
    shape: Shape


def make_source(model: CNN) -> str:
    """Returns a Python module with a class that computes the same scores, with the same keys in its state dict.

    Blocks of the same structure become one function. The initial weights are drawn from the same distributions.

    Args:
        model: The network; only its Spec and metadata matter.

    Raises:
        InputError: If a block has modules or initializers that are neither torch's nor cnnzoo's.
        ChangedModuleError: If modules were changed by hand.
    """
    model.describe()
    spec = model.spec
    constants: dict[str, Any] = {}
    with torch.device("meta"):
        features = build_blocks(spec.features, spec.input, "features")
        classifier = build_blocks(spec.classifier, features[-1].shape if features else spec.input, "classifier")
    sections = {"features": _items(features, constants), "classifier": _items(classifier, constants)}
    helpers = make_helpers(
        [call for items in sections.values() for item in items for call in item.calls if call.function == "Branches"]
    )
    replacements = {id(old): new for helper in helpers for old, new in helper.calls}
    initialization = make_initialization({"features": features, "classifier": classifier})
    body = [
        f"class {class_name(spec.name)}(nn.Module):",
        *_indented(_docstring(model)),
        "",
        f"{INDENT}def __init__(self) -> None:",
        f"{INDENT * 2}super().__init__()",
    ]
    for section, items in sections.items():
        short = [
            _Item([replacements.get(id(call), call) for call in item.calls], item.label, item.shape) for item in items
        ]
        body += [f"{INDENT * 2}self.{section} = nn.Sequential(", *_write_section(short), f"{INDENT * 2})"]
    if initialization:
        body += [f"{INDENT * 2}self.reset_parameters()"]
    channels, height, width = spec.input
    body += [
        "",
        f"{INDENT}def forward(self, x: torch.Tensor) -> torch.Tensor:",
        f'{INDENT * 2}"""Returns the scores (N, {spec.num_classes}) of images (N, {channels}, {height}, {width})."""',
        f"{INDENT * 2}return self.classifier(self.features(x))",
        *(["", *_indented(initialization)] if initialization else []),
    ]
    used = {type(module) for one in (*features, *classifier) for outer in one.modules for module in outer.modules()}
    parts = [
        *(_own_source(module) for module in OWN_MODULES if module in used),
        *(f"{name} = {write(value, 0, len(name) + 3)}" for name, value in constants.items()),
        *(helper.source for helper in helpers),
        "\n".join(body),
    ]
    code = "\n\n\n".join(parts)
    typing = [name for name in ("Callable", "Sequence") if re.search(rf"\b{name}\b", code)]
    imports = [
        *([f"from collections.abc import {', '.join(typing)}"] if typing else []),
        *(["from typing import Any"] if re.search(r"\bAny\b", code) else []),
        *([""] if typing else []),
        "import torch",
        "from torch import nn",
    ]
    return "\n".join((f'"""{_title(model)}"""', "", *imports, "", "", code)) + "\n"


def class_name(name: str) -> str:
    """Returns the name of the class of a network: ``"AlexnetOwt"``, ``"Squeezenet1_0"``."""
    words = re.sub(r"[\W_]+([a-zA-Z])", lambda match: match[1].upper(), name, flags=re.ASCII)
    return to_identifier(words[:1].upper() + words[1:])


# --- text ---


def _title(model: CNN) -> str:
    return f"{escape_docstring(model.spec.name)} in plain PyTorch, written by cnnzoo {__version__}."


def _docstring(model: CNN) -> Iterator[str]:
    """Yields the lines of the docstring of the class."""
    spec, preprocessing = model.spec, model.metadata.preprocessing
    entry = get_entry(spec.name) if is_model(spec.name) else None
    summary = (entry.function.__doc__ or "").strip().splitlines()[0] if entry and entry.spec() == spec else ""
    yield f'"""{escape_docstring(summary) or f"The network {escape_docstring(spec.name)}."}'
    yield ""
    yield "Its state dict has the keys of cnnzoo's, so that it loads the weights that cnnzoo saves:"
    yield f'``{class_name(spec.name)}().load_state_dict(safetensors.torch.load_file("model.safetensors"))``.'
    if preprocessing is not None:
        yield ""
        yield f"Images: {escape_docstring(str(preprocessing))}."
    yield '"""'


def _own_source(module: type[nn.Module]) -> str:
    return re.sub(r"  # type: ignore\S*", "", inspect.getsource(module)).rstrip()


def _indented(lines: Iterable[str]) -> Iterator[str]:
    return (INDENT + line if line else "" for line in lines)


def shape_text(shape: Shape) -> str:
    """Returns the shape of maps as in papers, ``"96 @ 54x54"``, or the number of values."""
    return f"{shape[0]} @ {'x'.join(map(str, shape[1:]))}" if len(shape) > 1 else str(shape[0])


# --- blocks ---


def _items(built: Sequence[BuiltBlock], constants: dict[str, Any]) -> list[_Item]:
    return [_Item(module_calls(one.modules, [one.block], constants), one.block.label, one.shape) for one in built]


def _write_section(items: Sequence[_Item]) -> Iterator[str]:
    """Yields the lines inside ``nn.Sequential(...)``; successive blocks of one helper become a comprehension."""
    position = 0
    while position < len(items):
        number, loop = _loop(items[position:])
        last = items[position + number - 1]
        labels = last.label if number == 1 else f"{items[position].label} to {last.label}"
        lines = [loop] if loop else [write(call, 3, 0, 1) for call in last.calls]
        yield from _commented(lines, f"# {labels}: {shape_text(last.shape)}")
        position += number


def _commented(expressions: Sequence[str], comment: str) -> Iterator[str]:
    """Yields arguments, with a comment behind the first one if it fits, else in front."""
    first, *others = (f"{INDENT * 3}{one}," for one in expressions)
    if "\n" not in first and len(first) + len(comment) + 2 <= LINE_LENGTH:
        yield f"{first}  {comment}"
    else:
        yield INDENT * 3 + comment
        yield first
    yield from others


def _loop(items: Sequence[_Item]) -> tuple[int, str]:
    """Returns the number of blocks at the beginning that a comprehension builds, and the comprehension; (1, "")."""
    first = items[0].calls[0]
    if first.function.startswith("nn.") or first.function in {module.__name__ for module in OWN_MODULES}:
        return 1, ""
    same = list(
        itertools.takewhile(
            lambda item: item.calls[0].function == first.function and item.calls[1:] == items[0].calls[1:], items
        )
    )
    rows = [[argument.value for argument in item.calls[0].arguments] for item in same]
    equal = sum(1 for _ in itertools.takewhile(lambda row: row == rows[0], rows))
    if equal > 2:
        return equal, _comprehension([write(call) for call in items[0].calls], "_", f"range({equal})")
    steps = [second[0] - start[0] for start, second in itertools.pairwise(rows)] if len(rows[0]) == 1 else []
    regular = 1 + sum(1 for _ in itertools.takewhile(lambda step: step == steps[0], steps))
    if regular > 2 and steps[0] > 0:
        name, start = first.arguments[0].name, rows[0][0]
        numbers = f"range({start}, {start + regular * steps[0]}, {steps[0]})"
        calls = [f"{first.function}({name})", *(write(call) for call in items[0].calls[1:])]
        return regular, _comprehension(calls, name, numbers)
    return 1, ""


def _comprehension(calls: Sequence[str], name: str, numbers: str) -> str:
    if len(calls) == 1:
        return f"*[{calls[0]} for {name} in {numbers}]"
    return f"*[layer for {name} in {numbers} for layer in ({', '.join(calls)})]"
