"""Arguments with completion in the shell: models, recipes, data sets, settings. Nothing here imports torch."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import click
from click.shell_completion import CompletionItem

from cnnzoo.knobs import parse_value

# Choices, which the library checks too, and the data sets that it names; importing them would import torch.
VIEWS = ("single", "flip", "center", "five_crop", "ten_crop")
CROP_MODES = ("squash", "center", "border")
PRECISIONS = ("auto", "fp32", "bf16", "fp16")
OPTIMIZERS = ("sgd", "momentum", "adam", "adamw")
DATA_SETS = ("cifar10", "fashion_mnist", "fashion_mnist_sample", "mnist", "folder:", "csv:", "hf:")


class Suggested(click.ParamType):  # type: ignore[type-arg, unused-ignore]  # generic from click 8.2 on
    """Any text, for which the shell suggests values; and files where none of them fits.

    Args:
        name: What the help calls it.
        values: Returns the values, each with its meaning.
    """

    def __init__(self, name: str, values: Callable[[], Mapping[str, str]]) -> None:
        self.name, self._values = name, values

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """Returns the values that begin with a text."""
        values = self._values()
        items = [CompletionItem(value, help=text) for value, text in values.items() if value.startswith(incomplete)]
        return items or [CompletionItem(incomplete, type="file")]


class _Path(click.Path):  # type: ignore[type-arg, unused-ignore]
    """The path of a file or folder, which is completed here, and checked by the library."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        return value


def _named(values: Iterable[str]) -> Callable[[], Mapping[str, str]]:
    return lambda: dict.fromkeys(values, "")


def _models() -> Mapping[str, str]:
    from cnnzoo.registry import get_entry, list_models

    return {name: get_entry(name).text for name in list_models()}


def _recipes() -> Mapping[str, str]:
    from cnnzoo.stored_recipes import stored_recipes

    return stored_recipes().purposes


def _settings() -> Mapping[str, str]:
    from cnnzoo.stored_recipes import stored_recipes

    stored = stored_recipes()
    return {f"{name}={json.dumps(value)}": stored.help[name] for name, value in stored.values["quick"].items()}


MODEL = Suggested("text", _models)
RECIPE = Suggested("text", _recipes)
DATA = Suggested("text", _named(DATA_SETS))
DEVICE = Suggested("text", _named(("cpu", "cuda", "auto")))
OPTIMIZER = Suggested("text", _named(OPTIMIZERS))
FILE = _Path()
FOLDER = _Path(file_okay=False)


class Setting(Suggested):
    """An argument NAME=VALUE; the value is JSON if it parses as JSON, else a string."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, Any]:
        """Returns name and value."""
        key, equals, text = str(value).partition("=")
        if not (key and equals):
            self.fail(f"{value!r} is not of the form NAME=VALUE", param, ctx)
        return key, parse_value(text)


KNOB = OPTION = Setting("NAME=VALUE", dict)
SETTING = Setting("NAME=VALUE", _settings)


def examples(*lines: str) -> str:
    """Returns the text of examples below the help of a command, a line each."""
    return "\n".join(["\b", "Examples:", *(f"  {line}" for line in lines)])  # \b keeps the lines
