"""Writes what the library itself can say: a hook of the site, and a script for the README.

The site (`mkdocs build --strict -f .mkdocs.yml`) gets a page per lineage and per room, and each line
`<!-- made: WHAT -->` of a page is replaced by what the function WHAT makes. The README, which is read where it lies,
keeps its table:

    python docs/make_pages.py            # says whether the README would change, and exits with 1 if it would
    python docs/make_pages.py --write
"""

from __future__ import annotations

import ast
import inspect
import json
import re
import sys
import tempfile
import textwrap
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from importlib import import_module
from pathlib import Path
from statistics import fmean
from typing import Any

import click

import cnnzoo
import cnnzoo.cli
from cnnzoo.blocks import Block, Parallel, build_blocks
from cnnzoo.diff import align
from cnnzoo.measure import draw
from cnnzoo.measure.tables import Table, human, shape_text
from cnnzoo.registry import get_entry

ROOT = Path(__file__).parents[1]
RECORDS = ROOT / "docs" / "records"

MAX_DRAWN = 140  # layers of a net whose picture can still be looked at
MAX_SHOWN = 30  # rows of a table that is open from the start
MAX_CHANGES = 40  # rows of a difference that can still be read
MAX_FITTED = 1400  # points of width of a picture that can be read when it is made to fit the page
ROOMS = ("blocks", "weights", "data", "train", "measure", "errors")  # whose names beyond cnnzoo.* are public, too


# --- the lineages ---


@cache
def lineages() -> dict[str, list[str]]:
    """Name of a module of cnnzoo.models -> the models that it declares; both by year, then as they are written."""

    def when(name: str) -> tuple[int, int]:
        entry = get_entry(name)
        return entry.year or 9999, inspect.getsourcelines(entry.function)[1]

    found: dict[str, list[str]] = {}
    for name in sorted(cnnzoo.list_models(), key=when):
        module = get_entry(name).function.__module__
        if module.startswith("cnnzoo.models."):
            found.setdefault(module.rpartition(".")[2], []).append(name)
    return found


def title(lineage: str) -> str:
    """``GoogLeNet``: what the module of a lineage calls it."""
    return re.split("[:,]", about(import_module(f"cnnzoo.models.{lineage}")))[0]


def about(thing: object) -> str:
    """The first line of what it says of itself."""
    return (inspect.getdoc(thing) or "").partition("\n")[0]


@cache
def counted(name: str) -> cnnzoo.CountReport:
    """The count of a registered model."""
    return cnnzoo.count(name)


def table(names: Sequence[str], link: str = "`{name}`") -> str:
    """Some models: input, counts, and what each is."""
    lines = ["| model | images | parameters | multiply-adds | |", "| --- | --- | ---: | ---: | --- |"]
    for name in names:
        report = counted(name)
        lines.append(
            f"| {link.format(name=name)} | {shape_text(report.input_size[1:])} | {report.params.total:,} | "
            f"{report.macs:,} | {about(get_entry(name).function)} |"
        )
    return "\n".join(lines)


def models() -> str:
    """All lineages, a table each."""
    parts = []
    for lineage, names in lineages().items():
        page = f"models/{lineage}.md"
        parts += [f"## [{title(lineage)}]({page})", "", table(names, f"[`{{name}}`]({page}#{{name}})"), ""]
    return "\n".join(parts)


def lineage_page(lineage: str) -> str:
    """The page of one lineage: what its networks are, then each with picture, rows, figures, deviations, difference."""
    names = lineages()[lineage]
    module = import_module(f"cnnzoo.models.{lineage}")
    parts = [f"# {title(lineage)}", "", about(module), ""]
    parts += ["" if len(names) == 1 else table(names, "[`{name}`](#{name})"), "", how_to(names), ""]
    for i, name in enumerate(names):
        parts += [f"## `{name}` {{ #{name} }}", "", about(get_entry(name).function), ""]
        if is_drawn(name):
            parts += [f"![The architecture of {name}, drawn by cnnzoo.draw]({name}.svg){{ .{fitting(name)} }}", ""]
        parts += [rows_table(name), ""]
        for told in cnnzoo.verify(name).tables():
            what = told.title.partition(": ")[2]
            parts += [f"#### {what[0].upper()}{what[1:]} {{ #{name}-{slug(what)} }}", "", body(told), ""]
        if i:
            parts += [relative(name, names[:i]), ""]
        parts += [trained(name), ""]
    return "\n".join(parts)


def how_to(names: Sequence[str]) -> str:
    """How to create and to load a network of a lineage."""
    name = names[0]
    lines = [
        "```python",
        "import cnnzoo",
        "",
        f'model = cnnzoo.create("{name}")',
        f'print(cnnzoo.count("{name}"))  # {human(counted(name).params.total)} parameters, layer by layer',
        f'print(cnnzoo.verify("{name}"))  # printed figures beside exact ones',
        "```",
        "",
        f'`cnnzoo.save(model, "{name}.safetensors")` writes it, and `cnnzoo.load("{name}.safetensors")` reads it: the '
        "file says what it holds.",
    ]
    for pretrained, said in ((True, "Weights ship with cnnzoo for"), ("torchvision", "Weights of torchvision fit")):
        fit = [name for name in names if name in cnnzoo.list_models(pretrained=pretrained)]
        if fit:
            lines.append(f"{said} {listed(fit)}: `cnnzoo.create({fit[0]!r}, pretrained={pretrained!r})`.")
    return "\n".join(lines).replace("'", '"')


def listed(names: Sequence[str]) -> str:
    """```a`, `b` and `c```."""
    quoted = [f"`{name}`" for name in names]
    return " and ".join([", ".join(quoted[:-1]), quoted[-1]]) if len(quoted) > 1 else quoted[0]


def is_drawn(name: str) -> bool:
    """Whether its picture can be looked at."""
    return len(counted(name).layers) <= MAX_DRAWN


@cache
def drawn(name: str) -> str:
    """Its picture, as SVG."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "net.svg"
        draw(counted(name), file)
        return file.read_text()


def fitting(name: str) -> str:
    """How its picture is shown: as wide as the page, or, where that would be too small to read, as wide as it is."""
    wide = re.search(r'<svg [^>]*width="([\d.]+)pt"', drawn(name))
    assert wide is not None
    return "fitted" if float(wide[1]) <= MAX_FITTED else "natural"


def rows_table(name: str) -> str:
    """What each row gives, costs and is: rows as the paper's table has them, a branching one is one."""
    report, spec = counted(name), cnnzoo.get_spec(name)
    links = build_blocks(spec.features, spec.input, "features")
    links += build_blocks(spec.classifier, links[-1].shape if links else spec.input, "classifier")
    lines = ["| row | output | parameters | multiply-adds | field, px | |", "| --- | --- | ---: | ---: | ---: | --- |"]
    for link in links:
        calls = [call for call in report.layers if call.label.partition("/")[0] == link.row.label]
        params, macs = sum(call.params for call in calls), sum(call.macs for call in calls)
        field = max((call.receptive_field for call in calls), default="")
        lines.append(
            f"| {link.row.label} | {shape_text(link.shape)} | {params:,} | {macs:,} | {field} | {told_row(link.row)} |"
        )
    lines.append(f"| **total** | | **{report.params.total:,}** | **{report.macs:,}** | | |")
    heading = f"Layer by layer: {len(links)} rows"
    return folded(heading, "\n".join(lines), opened=len(links) <= MAX_SHOWN and name == lineage_of(name)[0])


def lineage_of(name: str) -> list[str]:
    """The networks of its lineage, in order."""
    return next(names for names in lineages().values() if name in names)


def told_row(row: Block) -> str:
    """A row in code, its initial weights left out; of a branching one each path."""
    if not isinstance(row, Parallel):
        return f"`{re.sub(r', (bias_)?init=[^,)]+', '', repr(row))}`"
    paths = [" → ".join(told_row(inner) for inner in path) or "identity" for path in row.paths]
    joined = "added" if row.merge == "add" else "concatenated"
    return "<br>".join([*paths, f"{joined}{f', then {row.activation}' if row.activation else ''}"])


def relative(name: str, others: Sequence[str]) -> str:
    """How a network differs from that of some others from which fewest rows differ."""
    spec = cnnzoo.get_spec(name)

    def differing(other: str) -> int:
        pairs = align(cnnzoo.get_spec(other), spec)
        return sum(not (old and new and old[1] == new[1]) for old, new in pairs)

    old = min(others, key=differing)
    if (rows := differing(old)) > MAX_CHANGES:
        return f"From `{old}` it differs in {rows} rows; `cnnzoo diff {old} {name}` shows them."
    changes = cnnzoo.diff(old, name).table()
    assert changes.total is not None
    return folded(f"From {old}: {changes.total[2]} parameters, {changes.total[3]} multiply-adds", body(changes))


def body(told: Table) -> str:
    """A table without its title, which a heading says; words such as <16 of them> are no HTML."""
    return told.markdown().partition("\n\n")[2].replace("<", "&lt;").strip()


def folded(heading: str, text: str, *, opened: bool = False) -> str:
    """What is shown when asked for."""
    return "\n".join(
        [f'???{"+" if opened else ""} note "{heading}"', "", *(f"    {line}" for line in text.split("\n"))]
    )


def trained(name: str) -> str:
    """The records of a network's training, with their curves."""
    files = [file for file in record_files() if json.loads(file.read_text())["architecture"] == name]
    if not files:
        return ""
    lines = [f"#### Trained {{ #{name}-trained }}", "", records_table(files, "../records"), ""]
    for file in files:
        if file.with_suffix(".png").is_file():
            lines.append(f"![Curves of {file.label_prefix}](../records/{file.label_prefix}.png)")
    return "\n".join(lines)


def slug(text: str) -> str:
    """A part of an anchor."""
    return re.sub(r"\W+", "-", text.lower()).strip("-")


def twins() -> str:
    """Our networks that are torchvision's, weight by weight."""
    lines = ["| cnnzoo | torchvision |", "| --- | --- |"]
    for name in (name for names in lineages().values() for name in names):
        if twin := get_entry(name).twin:
            lines.append(f"| `{name}` | `torchvision.models.{twin.name}` |")
    return "\n".join(lines)


# --- records ---


def record_files() -> list[Path]:
    """Every record."""
    return sorted(RECORDS.glob("*.json"))


def records() -> str:
    """What each record says, a row each, its command, its curves."""
    lines = [records_table(record_files(), "records"), ""]
    for file in record_files():
        began = json.loads(file.read_text())["began"]
        machine = began["machine"]
        where = f"{machine['cores']} cores of {machine['cpu']}, {', '.join(machine['gpus']) or machine['bf16']}"
        lines += [f"### {file.label_prefix}", "", f"On {where}, with torch {machine['torch']}:", ""]
        lines += ["```console", f"$ {began['command']}", "```", ""]
        if file.with_suffix(".png").is_file():
            lines += [
                f"![Loss and accuracy of {file.label_prefix}, epoch by epoch](records/{file.label_prefix}.png)",
                "",
            ]
    return "\n".join(lines)


def records_table(files: Sequence[Path], folder: str) -> str:
    """Some records, a row each."""
    lines = [
        "| record | net | test accuracy | seeds | train | loss | images/s, steps alone | wall clock |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for file in files:
        told = json.loads(file.read_text())
        metrics = [run["metrics"] for run in told["runs"]]
        mean = {key: fmean(m[key] for m in metrics) for key in metrics[0] if isinstance(metrics[0][key], float)}
        half = f" ± {told['test_acc_95'][1] - told['test_acc']:.4f}" if "test_acc_95" in told else ""
        lines.append(
            f"| [{file.label_prefix}]({folder}/{file.name}) | `{told['architecture']}` | {told['test_acc']:.4f}{half} | "
            f"{len(metrics)} | {mean['train_acc']:.4f} | {mean['loss']:.3f} | {mean['examples_per_sec']:,.0f} | "
            f"{mean['wall_examples_per_sec']:,.0f} |"
        )
    return "\n".join(lines)


# --- the command line, the examples, the changelog, the house ---


def commands() -> str:
    """Every command with its arguments and options, as they say themselves."""
    parts = []
    for name, command in cnnzoo.cli.main.commands.items():
        context = click.Context(command, info_name=f"cnnzoo {name}")
        usage = command.get_usage(context).removeprefix("Usage: ")
        said = inspect.cleandoc(command.help or "").replace("<", "&lt;")
        parts += [f"## cnnzoo {name}", "", said, "", "```text", " ".join(usage.split()), "```", ""]
        told = [option.get_help_record(context) for option in command.params]
        options = [(written, meaning) for written, meaning in filter(None, told) if meaning]
        if options:
            parts += ["| option | |", "| --- | --- |"]
            parts += [f"| `{cell(written)}` | {cell(meaning)} |" for written, meaning in options]
        parts.append("")
    return "\n".join(parts)


def cell(text: str) -> str:
    """Text that can stand in a table."""
    return " ".join(text.split()).replace("|", "\\|")


def examples() -> str:
    """Every script in examples/."""
    return scripts("examples")


def benchmarks() -> str:
    """Every script in tests/benchmarks/, with what it printed last where that was kept."""
    return scripts("tests/benchmarks", level=3)


def scripts(folder: str, level: int = 2) -> str:
    """Every script in a folder: what it says of itself, what it printed, and its text."""
    parts = []
    for file in sorted((ROOT / folder).rglob("*.py")):
        said = ast.get_docstring(ast.parse(file.read_text()))
        if said is None or file.name == "__init__.py":
            continue
        path = file.relative_to(ROOT)
        first, _, rest = said.partition("\n")
        parts += [f"{'#' * level} {path.relative_to(folder)}", "", first.replace("<", "&lt;"), ""]
        for paragraph in filter(str.strip, rest.split("\n\n")):
            paragraph = textwrap.dedent(paragraph.strip("\n"))
            is_shell = paragraph.startswith(("python ", "pip ", "torchrun ", "accelerate ", "hf "))
            parts += ["```text", paragraph, "```", ""] if is_shell else [paragraph.replace("<", "&lt;"), ""]
        if (printed := ROOT / "docs" / "records" / f"{file.label_prefix}.txt").exists():
            parts += ["It printed:", "", f"```text\n{printed.read_text().rstrip()}\n```", ""]
        parts += [folded(f"{path}", f"```python\n{file.read_text().strip()}\n```"), ""]
    return "\n".join(parts)


def changelog() -> str:
    """CHANGELOG.md, below the page's own title."""
    return (ROOT / "CHANGELOG.md").read_text().partition("\n")[2].strip()


@cache
def arrows() -> dict[str, set[str]]:
    """Room -> the rooms that its files import, read off the code; what all may import is left out."""
    found: dict[str, set[str]] = {}
    package = ROOT / "cnnzoo"
    for file in sorted(package.rglob("*.py")):
        room = file.relative_to(package).parts[0].removesuffix(".py")
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("cnnzoo"):
                first = (node.module or "").split(".")[1:2]
                found.setdefault(room, set()).update(first or [alias.name for alias in node.names])
            else:
                found.setdefault(room, set())
    everywhere = {"errors", "version"}
    hidden = {*everywhere, "__init__", "__main__"}
    return {room: (seen & set(found)) - {room, *hidden} for room, seen in found.items() if room not in hidden}


def rooms() -> str:
    """The rooms from top to bottom as a picture, and what each is for."""
    lines = [house(), "", "| room | what it is for | imports |", "| --- | --- | --- |"]
    for room in (room for level in levels() for room in level):
        names = ", ".join(f"`{name}`" for name in sorted(arrows()[room]))
        lines.append(f"| `{room}` | {cell(about(import_module(f'cnnzoo.{room}')))} | {names} |")
    return "\n".join(lines)


def levels() -> list[list[str]]:
    """The rooms, those that import most others first: every arrow goes down."""

    @cache
    def depth(room: str) -> int:
        return 1 + max((depth(below) for below in arrows()[room]), default=-1)

    found: dict[int, list[str]] = {}
    for room in sorted(arrows()):
        found.setdefault(depth(room), []).append(room)
    return [found[level] for level in sorted(found, reverse=True)]


def house() -> str:
    """The rooms as boxes, an arrow for every import that does not follow from the others."""
    wide, high, gap_x, gap_y = 96, 30, 14, 34
    width = max(len(level) for level in levels()) * (wide + gap_x) + gap_x
    places: dict[str, tuple[float, float]] = {}
    for down, level in enumerate(levels()):
        pitch = width / len(level)
        for across, room in enumerate(level):
            places[room] = (pitch * (across + 0.5), down * (high + gap_y) + 4)

    def below(room: str) -> set[str]:
        return {reached for seen in arrows()[room] for reached in (seen, *below(seen))}

    parts = []
    for room, seen in arrows().items():
        implied = {reached for other in seen for reached in below(other)}
        for target in sorted(seen - implied):
            (x, y), (to_x, to_y) = places[room], places[target]
            parts.append(f'<line x1="{x:.0f}" y1="{y + high:.0f}" x2="{to_x:.0f}" y2="{to_y - 3:.0f}"/>')
    for room, (x, y) in places.items():
        parts.append(f'<rect x="{x - wide / 2:.0f}" y="{y:.0f}" width="{wide}" height="{high}" rx="5"/>')
        parts.append(f'<text x="{x:.0f}" y="{y + high / 2 + 4:.0f}">{room}</text>')
    tall = len(levels()) * (high + gap_y) - gap_y + 8
    marker = '<marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
    return (
        f'<div class="house"><svg viewBox="0 0 {width} {tall}" role="img" aria-label="Which room imports which">'
        f'<defs>{marker}<path d="M0 0 8 4 0 8z"/></marker></defs>{"".join(parts)}</svg></div>'
    )


# --- loops of others ---


def loops() -> str:
    """The loops of Accelerate and of Lightning Fabric, as the example has them."""
    source = (ROOT / "examples" / "accelerate_and_lightning.py").read_text()
    functions = {node.name: node for node in ast.parse(source).body if isinstance(node, ast.FunctionDef)}
    wanted = (functions[name] for name in ("by_accelerate", "by_fabric"))
    return "\n\n".join(f"```python\n{ast.get_source_segment(source, function)}\n```" for function in wanted)


# --- the reference ---


def reference() -> str:
    """The public names of cnnzoo, by the room in which they live."""
    parts = []
    for room, names in cnnzoo._ROOMS.items():
        parts += [
            f"## From {room.removeprefix('cnnzoo.')} {{ #from-{slug(room)} }}",
            "",
            about(import_module(room)),
            "",
        ]
        parts += [f"::: cnnzoo.{name}\n" for name in names]
    return "\n".join(parts)


def room_page(room: str) -> str:
    """What a room offers beyond the names of cnnzoo."""
    module = import_module(f"cnnzoo.{room}")
    parts = [f"# cnnzoo.{room}", "", about(module), ""]
    parts += [f"::: cnnzoo.{room}.{name}\n" for name in room_names(room)]
    return "\n".join(parts)


def room_names(room: str) -> list[str]:
    """The public names of a room that are no names of cnnzoo."""
    module = import_module(f"cnnzoo.{room}")
    written = [
        name
        for name, value in vars(module).items()
        if inspect.isclass(value) and value.__module__ == module.__name__ and not name.startswith("_")
    ]
    names = getattr(module, "__all__", written)
    return [name for name in names if getattr(cnnzoo, name, None) is not getattr(module, name)]


# --- the site ---

MADE: dict[str, Callable[[], str]] = {
    "models": models,
    "twins": twins,
    "records": records,
    "commands": commands,
    "examples": examples,
    "loops": loops,
    "benchmarks": benchmarks,
    "changelog": changelog,
    "rooms": rooms,
    "reference": reference,
}


def filled(text: str) -> str:
    """A page with every mark replaced by what it stands for."""
    return re.sub(r"^<!-- made: (\w+) -->$", lambda mark: MADE[mark[1]](), text, flags=re.MULTILINE)


def pages() -> Iterator[tuple[str, str, str]]:
    """(section of the site, address, text) of every page that has no file in docs/."""
    for lineage in lineages():
        yield "Models", f"models/{lineage}.md", lineage_page(lineage)
    for room in ROOMS:
        yield "Python", f"reference/{room}.md", room_page(room)


def on_config(config: Any) -> None:
    """Puts the pages without a file into the site's contents."""

    def put(items: list[Any]) -> None:
        for item in items:
            for section, inner in item.items() if isinstance(item, dict) else ():
                if isinstance(inner, list):
                    inner += [{title(lineage): f"models/{lineage}.md"} for lineage in lineages() if section == "Models"]
                    inner += [{f"cnnzoo.{room}": f"reference/{room}.md"} for room in ROOMS if section == "Python"]
                    put(inner)

    put(config.nav)


def on_files(files: Any, config: Any) -> None:
    """Adds the pages without a file, and the pictures on them."""
    from mkdocs.structure.files import File

    for _, address, text in pages():
        files.append(File.generated(config, address, content=text))
    for name in (name for names in lineages().values() for name in names if is_drawn(name)):
        files.append(File.generated(config, f"models/{name}.svg", content=drawn(name)))


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Replaces the marks of a page."""
    return filled(markdown)


# --- the README ---


def readme() -> str:
    """README.md with its table of the two lineages that it is about."""
    made = table([*lineages()["lenet"], *lineages()["alexnet"]])
    begin, end = "<!-- lineages: made by docs/make_pages.py -->", "<!-- end of lineages -->"
    before, rest = (ROOT / "README.md").read_text().split(begin)
    return f"{before}{begin}\n{made}\n{end}{rest.split(end)[1]}"


def main() -> None:
    """Compares, and writes where told."""
    made = readme()
    if (ROOT / "README.md").read_text() == made:
        print("nothing to change")
    elif "--write" in sys.argv:
        (ROOT / "README.md").write_text(made)
    else:
        sys.exit("README.md would change")


if __name__ == "__main__":
    main()
