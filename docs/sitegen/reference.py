"""The reference of the Python names, as directives for mkdocstrings."""

from __future__ import annotations

import inspect
from importlib import import_module
from importlib.util import find_spec

import cnnzoo
from sitegen.markdown import cell, escape, first_line, slug

MODULES = ("blocks", "initializers", "weights", "data", "train", "measure", "errors")  # with names beyond cnnzoo.*


# classes of what functions return, which cnnzoo itself does not have
RESULTS = {
    "cnnzoo.backbone": ("Backbone", "FeatureMaps"),
    "cnnzoo.diff": ("Difference", "Change"),
    "cnnzoo.explain": (
        "Explanation",
        "Attribution",
        "Projection",
        "Activations",
        "Filters",
        "TopPatches",
        "Mistakes",
        "Subject",
        "Network",
    ),
    "cnnzoo.prediction": ("Prediction",),
    "cnnzoo.timeline": ("Timeline",),
    "cnnzoo.verify": ("Audit", "Finding"),
}


def top_level() -> str:
    """Returns the public names of cnnzoo, by the module that defines them."""
    parts = []
    for module in dict.fromkeys((*cnnzoo._EXPORTS, *RESULTS)):
        anchor = slug(module.removeprefix("cnnzoo."))
        parts += [f"## From {module} {{ #from-{anchor} }}", "", first_line(import_module(module)), ""]
        parts += [_directive(module, name) for name in cnnzoo._EXPORTS.get(module, ())]
        parts += [f"::: {module}.{name}\n" for name in RESULTS.get(module, ())]
    return "\n".join(parts)


def names() -> str:
    """Returns the public names of cnnzoo, each with the first line of its docstring."""
    lines = ["| name | |", "| --- | --- |"]
    for names in cnnzoo._EXPORTS.values():
        for name in names:
            value = getattr(cnnzoo, name)
            meaning = first_line(value) if callable(value) or inspect.ismodule(value) else ""
            lines.append(f"| `cnnzoo.{name}` | {cell(escape(meaning))} |")
    return "\n".join(lines)


def _directive(module: str, name: str) -> str:
    """Returns the directive of a public name; of a function, not of the module that has the same name."""
    if find_spec(f"cnnzoo.{name}") is None or inspect.ismodule(getattr(cnnzoo, name)):
        return f"::: cnnzoo.{name}\n"
    return f"::: {module}.{name}\n    options:\n      heading: cnnzoo.{name}\n      toc_label: cnnzoo.{name}\n"


def page(module: str) -> str:
    """Returns the page of a module or subpackage: its public names that cnnzoo itself does not have."""
    parts = [f"# cnnzoo.{module}", "", first_line(import_module(f"cnnzoo.{module}")), ""]
    parts += [f"::: cnnzoo.{module}.{name}\n" for name in public_names(module)]
    return "\n".join(parts)


def public_names(module: str) -> list[str]:
    """Returns the public names of a module that cnnzoo itself does not have."""
    imported = import_module(f"cnnzoo.{module}")
    defined = [
        name
        for name, value in vars(imported).items()
        if (inspect.isclass(value) or inspect.isfunction(value))
        and value.__module__ == imported.__name__
        and not name.startswith("_")
    ]
    names = getattr(imported, "__all__", defined)
    return [name for name in names if getattr(cnnzoo, name, None) is not getattr(imported, name)]
