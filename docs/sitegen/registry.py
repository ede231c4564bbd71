"""The registered models by lineage, with their counts."""

from __future__ import annotations

import inspect
import re
from collections.abc import Sequence
from functools import cache
from importlib import import_module

import cnnzoo
from cnnzoo.measure.tables import shape_text
from cnnzoo.registry import get_entry
from sitegen.markdown import first_line


@cache
def lineages() -> dict[str, list[str]]:
    """Returns the models of each module of cnnzoo.models; modules and models are sorted by year, then by line."""

    def year_and_line(name: str) -> tuple[int, int]:
        entry = get_entry(name)
        return entry.year or 9999, inspect.getsourcelines(entry.function)[1]

    models: dict[str, list[str]] = {}
    for name in sorted(cnnzoo.list_models(), key=year_and_line):
        module = get_entry(name).function.__module__
        if module.startswith("cnnzoo.models."):
            models.setdefault(module.rpartition(".")[2], []).append(name)
    return models


def all_models() -> list[str]:
    """Returns the names of all models, lineage by lineage."""
    return [name for names in lineages().values() for name in names]


def title(lineage: str) -> str:
    """Returns the title of a lineage, the beginning of its module's docstring: ``GoogLeNet``."""
    return re.split("[:,]", first_line(import_module(f"cnnzoo.models.{lineage}")))[0]


@cache
def count(name: str) -> cnnzoo.CountReport:
    """Returns the count of a registered model."""
    return cnnzoo.count(name)


def table(names: Sequence[str], link: str = "`{name}`") -> str:
    """Returns a table of models: name, input, counts, description.

    Args:
        names: Names of registered models.
        link: Format of the first column, with ``{name}`` for the name.
    """
    lines = ["| model | input | parameters | multiply-adds | |", "| --- | --- | ---: | ---: | --- |"]
    for name in names:
        report = count(name)
        lines.append(
            f"| {link.format(name=name)} | {shape_text(report.input_size[1:])} | {report.params.total:,} | "
            f"{report.macs:,} | {first_line(get_entry(name).function)} |"
        )
    return "\n".join(lines)


def first_lineages() -> str:
    """Returns a table of the lineages of LeNet and AlexNet."""
    return table([*lineages()["lenet"], *lineages()["alexnet"]])


def overview() -> str:
    """Returns a table per lineage, with links to the files of the lineages."""
    parts = []
    for lineage, names in lineages().items():
        page = f"../cnnzoo/models/{lineage}.py"
        parts += [f"## [{title(lineage)}]({page})", "", table(names, f"[`{{name}}`]({page}#{{name}})"), ""]
    return "\n".join(parts)


def twins() -> str:
    """Returns a table of the models that have torchvision's weights."""
    lines = ["| cnnzoo | torchvision |", "| --- | --- |"]
    for name in all_models():
        if twin := get_entry(name).twin:
            lines.append(f"| `{name}` | `torchvision.models.{twin.name}` |")
    return "\n".join(lines)
