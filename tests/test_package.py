"""The package: what may import what, what is public, and what importing costs."""

from __future__ import annotations

import subprocess
import sys

import grimp
import pytest

import cnnzoo

# module or subpackage -> those of ours that it may import, besides BASICS and itself
BASICS = {"errors", "limits", "text", "version"}
ARROWS: dict[str, set[str]] = {
    "limits": set(),
    "text": {"limits"},
    "errors": {"text"},
    "version": set(),
    "lazy": set(),
    "modules": set(),
    "module_copy": set(),
    "random_state": set(),
    "progress_bar": {"random_state", "streams"},
    "device": {"random_state"},
    "plugins": set(),
    "fields": set(),
    "html_parts": set(),
    "knobs": set(),
    "initializers": {"plugins"},
    "blocks": {"fields", "initializers", "lazy", "plugins"},
    "spec": {"blocks", "fields", "html_parts", "measure"},
    "edits": {"blocks", "fields", "spec"},
    "image_sizes": {"blocks", "spec"},
    "replaced_layers": {"blocks", "spec"},
    "store": set(),
    "network": {
        "blocks", "edits", "html_parts", "image_sizes", "metadata", "random_state", "replaced_layers", "spec", "store",
    },
    "backbone": {"blocks", "measure", "module_copy", "modules", "network"},
    "published": set(),
    "registry": {"edits", "fields", "plugins", "published", "spec"},
    "models": {"blocks", "published", "registry", "spec"},
    "files": set(),
    "streams": set(),
    "serialization": {"files"},
    "measure": {"fields", "files", "html_parts", "lazy", "module_copy", "modules", "progress_bar", "random_state"},
    "data": {"device", "fields", "files", "html_parts", "plugins", "progress_bar", "random_state", "streams"},
    "preprocessing": {"data", "fields"},
    "metadata": {"fields", "preprocessing"},
    "train": {
        "data", "device", "fields", "files", "html_parts", "initializers", "measure", "metadata", "module_copy",
        "modules", "plugins", "preprocessing", "progress_bar", "random_state", "serialization", "streams",
    },
    "html_report": {"explain", "fields", "files", "measure", "metadata", "modules", "serialization", "train"},
    "diff": {"blocks", "measure", "network", "spec"},
    "stored_counts": {"measure", "spec"},
    "stored_recipes": set(),
    "quantities": {"image_sizes", "measure", "network", "registry", "spec", "stored_counts"},
    "verify": {"measure", "published", "quantities", "registry"},
    "timeline": {"measure", "published", "quantities", "registry"},
    "prediction": {"data", "html_parts", "measure", "metadata", "module_copy", "modules", "preprocessing"},
    "explain": {
        "backbone", "data", "fields", "lazy", "measure", "metadata", "module_copy", "modules", "network", "plugins",
        "preprocessing", "progress_bar",
    },
    "live": {
        "blocks", "data", "measure", "metadata", "module_copy", "network", "spec", "weights",
    },
    "weights": {
        "blocks", "device", "diff", "edits", "files", "initializers", "lazy", "measure", "metadata", "module_copy",
        "modules", "network", "plugins", "preprocessing", "progress_bar", "published", "random_state", "registry",
        "serialization", "spec",
    },
}  # fmt: skip
ABOVE = {
    "api": set(ARROWS),
    "cli": {*ARROWS, "api"},
    "__init__": {*ARROWS, "api"},  # provides the store
    "__main__": {"cli"},
}


@pytest.fixture(scope="module")
def graph() -> grimp.ImportGraph:
    return grimp.build_graph("cnnzoo", cache_dir=None)


def part_of(module: str) -> str:
    """``"train"`` of ``"cnnzoo.train.trainer"``."""
    return module.partition(".")[2].partition(".")[0] or "__init__"


def test_arrows(graph: grimp.ImportGraph) -> None:
    """Also imports inside functions and those for type checking: lazy imports hide no cycle."""
    arrows = {**ARROWS, **ABOVE}
    allowed = {part: {part, *others, *(set() if part in BASICS else BASICS)} for part, others in arrows.items()}
    wrong = [
        f"{module} may not import {imported}"
        for module in sorted(graph.modules)
        for imported in sorted(graph.find_modules_directly_imported_by(module))
        if part_of(imported) not in allowed[part_of(module)]
    ]
    assert wrong == []


def test_every_part_has_its_arrows(graph: grimp.ImportGraph) -> None:
    assert {part_of(module) for module in graph.modules} == {*ARROWS, *ABOVE}


def test_arrows_have_no_cycle() -> None:
    done: set[str] = set()
    while ready := {part for part, others in ARROWS.items() if part not in done and others <= done}:
        done |= ready
    assert done == set(ARROWS)


def test_imports_are_light() -> None:
    """Heavy packages are imported where they are needed, not when a package of ours is."""
    code = """
import importlib, sys
def loaded(*names):
    print([name for name in names if name in sys.modules])
import cnnzoo, cnnzoo.cli, cnnzoo.errors
loaded("torch", "torchvision", "matplotlib", "numpy", "rich")
for name in ("blocks", "measure", "data", "train", "html_report", "weights", "models", "api"):
    importlib.import_module(f"cnnzoo.{name}")
print(cnnzoo.count("lenet").macs)
loaded("torchvision", "matplotlib", "PIL", "huggingface_hub", "rich", "jinja2", "onnx")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["[]", "416520", "[]"]


def test_subpackages_are_attributes() -> None:
    """``import cnnzoo; cnnzoo.train.TensorBoard`` works, and functions are not hidden by modules of their name."""
    code = """
import cnnzoo
for name in ("train.TensorBoard", "data.Split", "measure.Bench", "errors.InputError", "blocks.Conv", "weights.adapt"):
    package, _, attribute = name.partition(".")
    getattr(getattr(cnnzoo, package), attribute)
import cnnzoo.diff, cnnzoo.explain, cnnzoo.timeline, cnnzoo.verify
from cnnzoo.diff import Difference
verbs = (getattr(cnnzoo, name) for name in ("diff", "explain", "timeline", "verify"))
print(*map(callable, verbs), cnnzoo.diff("lenet", "lenet").same)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["True", "True", "True", "True", "8"]


def test_all_is_the_public_surface() -> None:
    for name in cnnzoo.__all__:
        assert getattr(cnnzoo, name) is not None
    assert {*sum(cnnzoo._EXPORTS.values(), ()), *cnnzoo._SUBPACKAGES, "__version__"} == set(cnnzoo.__all__)
    with pytest.raises(AttributeError, match="no attribute 'creat'"):
        _ = cnnzoo.creat


def test_public_names_have_docstrings() -> None:
    assert [n for n in cnnzoo.__all__ if n != "__version__" and not getattr(cnnzoo, n).__doc__] == []
