"""The modules and subpackages of cnnzoo with their imports: a table and a picture."""

from __future__ import annotations

from functools import cache
from importlib import import_module

import grimp

from sitegen.markdown import cell, first_line

HIDDEN = {"errors", "version", "__main__"}  # the first two are imported from everywhere
BOX_WIDTH, BOX_HEIGHT, GAP_X, GAP_Y = 96, 30, 14, 34  # px of the picture


@cache
def imports() -> dict[str, set[str]]:
    """Returns the imports of each module or subpackage of cnnzoo, also lazy ones and those for type checking."""
    graph = grimp.build_graph("cnnzoo", cache_dir=None)
    children = graph.find_children("cnnzoo")
    for child in children:
        if graph.find_children(child):
            graph.squash_module(child)
    names = {child: child.removeprefix("cnnzoo.") for child in sorted(children)}
    return {
        name: {
            names[module]
            for module in graph.find_modules_directly_imported_by(child)
            if module in names and module != child and names[module] not in HIDDEN
        }
        for child, name in names.items()
        if name not in HIDDEN
    }


def levels() -> list[list[str]]:
    """Returns the modules from top to bottom: each imports only from levels below its own."""

    @cache
    def depth(module: str) -> int:
        return 1 + max(map(depth, imports()[module]), default=-1)

    modules: dict[int, list[str]] = {}
    for module in imports():
        modules.setdefault(depth(module), []).append(module)
    return [modules[level] for level in sorted(modules, reverse=True)]


def picture_and_table() -> str:
    """Returns the picture of the imports, and the table."""
    return f"{picture()}\n\n{table()}"


def table() -> str:
    """Returns a table of the modules: responsibility and imports."""
    lines = ["| module | responsibility | imports |", "| --- | --- | --- |"]
    for module in (module for level in levels() for module in level):
        names = ", ".join(f"`{name}`" for name in sorted(imports()[module]))
        lines.append(f"| `{module}` | {cell(first_line(import_module(f'cnnzoo.{module}')))} | {names} |")
    return "\n".join(lines)


def picture() -> str:
    """Returns the modules as boxes (SVG in HTML), with an arrow for each import that does not follow from others."""
    rows = levels()
    width = max(map(len, rows)) * (BOX_WIDTH + GAP_X) + GAP_X
    height = len(rows) * (BOX_HEIGHT + GAP_Y) - GAP_Y + 8
    places: dict[str, tuple[float, float]] = {}  # top center of each box
    for i, row in enumerate(rows):
        for j, module in enumerate(row):
            places[module] = (width / len(row) * (j + 0.5), i * (BOX_HEIGHT + GAP_Y) + 4)

    @cache
    def below(module: str) -> frozenset[str]:
        return frozenset().union(*({target, *below(target)} for target in imports()[module]))

    parts = []
    for module, targets in imports().items():
        implied = set().union(*map(below, targets))
        for target in sorted(targets - implied):
            (x, y), (to_x, to_y) = places[module], places[target]
            parts.append(f'<line x1="{x:.0f}" y1="{y + BOX_HEIGHT:.0f}" x2="{to_x:.0f}" y2="{to_y - 3:.0f}"/>')
    for module, (x, y) in places.items():
        size = f'width="{BOX_WIDTH}" height="{BOX_HEIGHT}"'
        parts.append(f'<rect x="{x - BOX_WIDTH / 2:.0f}" y="{y:.0f}" {size} rx="5"/>')
        parts.append(f'<text x="{x:.0f}" y="{y + BOX_HEIGHT / 2 + 4:.0f}">{module}</text>')
    marker = '<marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
    return (
        f'<div class="imports"><svg viewBox="0 0 {width} {height}" role="img" aria-label="The imports between modules">'
        f'<defs>{marker}<path d="M0 0 8 4 0 8z"/></marker></defs>{"".join(parts)}</svg></div>'
    )
