"""The house: what may import what, what is public, and what importing costs."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import cnnzoo

PACKAGE = Path(cnnzoo.__file__).parent

HEAVY = {"torch", "torchvision", "matplotlib", "rich", "safetensors", "click", "PIL", "huggingface_hub"}
BASICS = {"errors", "version"}

# room -> (rooms of ours that it may import, packages that it may import at its top)
ARROWS: dict[str, tuple[set[str], set[str]]] = {
    "errors": (set(), set()),
    "version": (set(), set()),
    "init": (set(), {"torch"}),
    "device": (set(), {"torch"}),
    "blocks": ({"init"}, {"torch"}),
    "spec": ({"blocks"}, set()),
    "network": ({"spec", "blocks"}, {"torch"}),
    "published": (set(), set()),
    "registry": ({"spec", "published"}, set()),
    "models": ({"blocks", "spec", "published", "registry"}, set()),
    "measure": (set(), {"torch"}),
    "tensorfiles": (set(), {"torch"}),
    "data": (set(), {"torch"}),
    "train": ({"data", "measure", "tensorfiles", "init", "device"}, {"torch"}),
    "difference": ({"blocks", "spec", "network", "measure"}, {"torch"}),
    "audit": ({"registry", "network", "spec", "measure", "published"}, {"torch"}),
    "prediction": ({"network", "data"}, {"torch"}),
    "weights": ({"network", "spec", "blocks", "registry", "published", "measure", "tensorfiles", "device"}, {"torch"}),
}
ABOVE = {"api": set(ARROWS), "cli": {*ARROWS, "api"}, "__init__": {*ARROWS, "api"}, "__main__": {"cli"}}


def room_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports(path: Path) -> list[tuple[str, bool]]:
    """(module, whether it is imported when the file is) of every import of a file."""
    tree = ast.parse(path.read_text())
    inside = {
        id(node)
        for outer in ast.walk(tree)
        if isinstance(outer, (ast.FunctionDef, ast.AsyncFunctionDef))
        or (isinstance(outer, ast.If) and "TYPE_CHECKING" in ast.dump(outer.test))
        for node in ast.walk(outer)
    }
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [(alias.name, id(node) not in inside) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are written in full"
            names = [f"cnnzoo.{a.name}" for a in node.names] if node.module == "cnnzoo" else [node.module or ""]
            found += [(name, id(node) not in inside) for name in names]
    return found


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_arrows(path: Path) -> None:
    room = room_of(path)
    may, packages = ARROWS.get(room, (ABOVE.get(room, set()), {"torch", "click"}))
    for module, at_top in imports(path):
        first, *rest = module.split(".")
        if first == "cnnzoo":
            target = rest[0] if rest else "__init__"
            assert target in may | BASICS | {room} or (room in ABOVE and target in ABOVE[room] | BASICS), (
                f"{room} may not import {target}"
            )
        elif at_top and first in HEAVY:
            assert first in packages, f"{path.name} imports {first} at its top"


def test_every_room_has_its_arrows() -> None:
    assert {room_of(path) for path in PACKAGE.rglob("*.py")} == {*ARROWS, *ABOVE}


def test_import_is_light() -> None:
    code = (
        "import sys, cnnzoo, cnnzoo.cli, cnnzoo.errors\n"
        "print([m for m in ('torch', 'torchvision', 'matplotlib', 'numpy', 'rich') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_counting_imports_neither_torchvision_nor_matplotlib() -> None:
    code = (
        "import sys, cnnzoo\n"
        "print(cnnzoo.count('lenet').macs, [m for m in ('torchvision', 'matplotlib') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "416520 []"


def test_all_is_the_public_surface() -> None:
    for name in cnnzoo.__all__:
        assert getattr(cnnzoo, name) is not None
    assert {name for names in cnnzoo._ROOMS.values() for name in names} | {"blocks", "weights", "__version__"} == set(
        cnnzoo.__all__
    )
    with pytest.raises(AttributeError, match="no attribute 'creat'"):
        _ = cnnzoo.creat


def test_public_names_have_docstrings() -> None:
    assert [n for n in cnnzoo.__all__ if n != "__version__" and not getattr(cnnzoo, n).__doc__] == []


def test_no_public_function_bears_the_name_of_a_room() -> None:
    rooms = {*ARROWS, *ABOVE} - {"blocks", "weights"}
    assert rooms.isdisjoint(cnnzoo.__all__)
