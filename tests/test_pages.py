"""The README and the pages: their code runs, the names they use exist, and the site builds without a warning."""

from __future__ import annotations

import inspect
import re
import runpy
import shlex
import subprocess
import sys
from html.parser import HTMLParser
from importlib import import_module
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from click import Option
from hub import TOKEN, LocalHub

import cnnzoo
from cnnzoo.cli import main
from sitegen import commands, lineages, packages, readme, reference, registry

ROOT = Path(__file__).parents[1]
BUILD = ROOT / "docs" / "build.py"
PAGES = {str(file.relative_to(ROOT)): file for file in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))}

# parts of what the code of some pages prints
PRINTS = {
    "README.md": ("46M against 0.6M", "examples/sec on cpu"),
    "docs/index.md": ("758x", "test acc"),
    "docs/adding-a-model.md": ("1.3 million", "agrees", "dw2"),
    "docs/training.md": ("views ten_crop", "the loss falls fastest at lr=", "95 %"),
}


def text_of(page: str) -> str:
    return PAGES[page].read_text()


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", text, flags=re.DOTALL | re.MULTILINE)


# --- promises ---


def test_each_promise_names_its_tests() -> None:
    bullets = re.findall(
        r"^- (?:.|\n  )+", text_of("docs/promises.md").partition("\n## Out of scope")[0], flags=re.MULTILINE
    )
    assert len(bullets) > 60
    for bullet in bullets:
        tests = re.findall(r"`(tests/\w+\.py)::(\w+)`", bullet)
        assert tests, bullet
        for file, name in tests:
            assert f"\ndef {name}(" in (ROOT / file).read_text(), (file, name)


# --- code ---


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """Runs the Python blocks of a page in order, in one namespace and an empty folder, with a Hub on this machine."""
    from huggingface_hub import constants

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_TOKEN", TOKEN)

    def run_all(name: str, text: str) -> str:
        with LocalHub("regular") as hub:
            monkeypatch.setattr(constants, "ENDPOINT", hub.url)
            namespace: dict = {"__name__": "page"}
            for block in blocks(text, "python"):
                exec(compile(block, name, "exec", dont_inherit=True), namespace)
        return capsys.readouterr().out

    return run_all


@pytest.mark.parametrize("page", [name for name in PAGES if blocks(text_of(name), "python")])
def test_code(page: str, run) -> None:
    out = run(page, text_of(page))
    assert [text for text in PRINTS.get(page, ()) if text not in out] == []


@pytest.mark.parametrize(
    "lineage", [pytest.param(n, marks=() if n == "lenet" else pytest.mark.slow) for n in registry.lineages()]
)
def test_code_of_lineages(lineage: str, run) -> None:
    out = run(lineage, lineages.page(lineage))
    assert f"{registry.count(registry.lineages()[lineage][0]).params.total:,}" in out


def test_the_table_of_the_readme_is_up_to_date(monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    monkeypatch.setattr(sys, "argv", [str(BUILD)])
    runpy.run_path(str(BUILD), run_name="__main__")  # exits with a message if it is not
    assert capsys.readouterr().out == "README.md is up to date\n"
    assert readme.BEGIN in readme.README.read_text()


def test_every_mark_has_a_generator() -> None:
    generators = runpy.run_path(str(BUILD))["GENERATORS"]
    marks = [mark for page in PAGES for mark in re.findall(r"^<!-- generated: (.+) -->$", text_of(page), re.MULTILINE)]
    assert sorted(marks) == sorted(generators)


@pytest.mark.parametrize("page", PAGES)
def test_every_block_has_a_language_that_is_checked_or_is_text(page: str) -> None:
    opened = re.findall(r"^```(.*)$", text_of(page), flags=re.MULTILINE)[::2]
    assert set(opened) <= {"python", "console", "bash", "text"}


# --- shell ---


def accepts(words: list[str]) -> None:
    """Parses a command line of cnnzoo without running it."""
    assert words and words[0] in main.commands, f"{' '.join(words)}: no such command"
    main.commands[words[0]].make_context(words[0], words[1:])  # raises an error for unknown options


def check_line(line: str) -> None:
    for part in re.split(r" && | ; ", line):
        words = shlex.split(part, comments=True)
        program = words[0].rpartition("/")[2] or words[0]
        if program == "torchrun":
            accepts([word for word in words[words.index("-m") + 2 :] if word != "..."])
        elif program == "cnnzoo":
            accepts(words[1:])
        elif program.startswith("python") and words[1] != "-m":
            assert (ROOT / words[1]).is_file(), part
        elif program.startswith("python"):
            assert words[2] in ("venv", "pytest", "http.server"), part
            assert all((ROOT / word).exists() for word in words[3:] if word.startswith("tests/")), part
        elif program == "pip":
            extras = re.findall(r"\[([\w,]+)\]", part)
            project = (ROOT / "pyproject.toml").read_text()
            assert words[1] == "install"
            assert all(re.search(rf"^{name} = \[", project, re.MULTILINE) for x in extras for name in x.split(","))
        else:
            assert program in ("ruff", "mypy", "mkdocs", ".", "cd"), f"unexpected program {program!r}: {part}"


@pytest.mark.parametrize("page", PAGES)
def test_shell_lines_are_commands_that_exist(page: str) -> None:
    text = text_of(page)
    for block in blocks(text, "console"):
        lines = [line.removeprefix("$ ") for line in block.splitlines() if line.startswith("$ ")]
        assert lines, f"a console block without a command:\n{block}"
        for line in lines:
            check_line(line)
    for block in blocks(text, "bash"):
        for line in block.replace("\\\n", " ").splitlines():
            if not line.startswith("#"):
                check_line(line)


def test_a_command_that_does_not_exist_is_an_error() -> None:
    for line in ("cnnzoo trian lenet", "cnnzoo train lenet --epochs 3", "python examples/none.py", "conda install x"):
        with pytest.raises(Exception, match=r"."):
            check_line(line)


# --- names ---


def test_every_recipe_is_listed() -> None:
    cells = re.findall(r"^\| (`[\w./`, -]+`) \|", text_of("docs/training.md"), flags=re.MULTILINE)
    assert set(cnnzoo.list_recipes()) <= {name.strip(" `") for cell in cells for name in cell.split(",")}


def look_up(name: str) -> object:
    parts = name.split(".")
    for length in range(len(parts), 0, -1):
        try:
            value: object = import_module(".".join(parts[:length]))
        except ModuleNotFoundError:
            continue
        for part in parts[length:]:
            value = getattr(value, part)
        return value
    raise AssertionError(f"there is no {name}")


@pytest.mark.parametrize("package", ["cnnzoo", "torch", "torchvision", "timm"])
def test_names_of_other_libraries_exist(package: str) -> None:
    pytest.importorskip(package)
    text = f"{text_of('docs/coming-from.md')}\n{registry.twins()}"
    names = set(re.findall(rf"`({package}(?:\.\w+)+)", text))
    assert names
    for name in sorted(names):
        look_up(name)


def test_the_reference_is_complete() -> None:
    """Every name in it has a docstring, and so has each public method."""
    values = [(f"cnnzoo.{name}", getattr(cnnzoo, name)) for names in cnnzoo._EXPORTS.values() for name in names]
    values += [
        (f"{m}.{name}", getattr(import_module(m), name)) for m, names in reference.RESULTS.items() for name in names
    ]
    for module in reference.MODULES:
        imported = import_module(f"cnnzoo.{module}")
        values += [(f"cnnzoo.{module}.{name}", getattr(imported, name)) for name in reference.public_names(module)]
    undocumented = []
    for name, value in values:
        members = vars(value).items() if inspect.isclass(value) else ()
        members = [(f"{name}.{key}", member) for key, member in members if not key.startswith("_")]
        for path, member in [(name, value), *members]:
            member = getattr(member, "__func__", member)
            needs_docstring = inspect.isclass(member) or inspect.isfunction(member) or isinstance(member, property)
            if needs_docstring and not inspect.getdoc(member):
                undocumented.append(path)
    assert not [name for name in undocumented if not inherits_docstring(name)]


def inherits_docstring(name: str) -> bool:
    """Returns whether a base class documents a method, as Block documents build."""
    owner, _, method = name.rpartition(".")
    cls = look_up(owner)
    return inspect.isclass(cls) and any(getattr(vars(base).get(method), "__doc__", None) for base in cls.__mro__)


def test_the_reference_of_the_command_line_is_complete() -> None:
    text = commands.all_commands()
    for name, command in main.commands.items():
        assert f"## cnnzoo {name}\n" in text and command.help
        for option in command.params:
            if isinstance(option, Option):
                assert option.help and option.opts[0] in text, f"{name} {option.opts[0]}"


def test_modules_import_only_from_levels_below() -> None:
    level_of = {module: i for i, level in enumerate(packages.levels()) for module in level}
    imports = packages.imports()
    assert all(level_of[module] < level_of[target] for module, targets in imports.items() for target in targets)
    assert level_of["cli"] == 0 and {"api", "train", "blocks"} < set(level_of)
    assert "blocks" in imports["spec"] and "api" in imports["cli"]


# --- the site ---


class Page(HTMLParser):
    """The anchors of a page, its links, and the files that it embeds."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.anchors: set[str] = set()
        self.links: list[str] = []
        self.embedded: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = dict(attrs)
        self.anchors |= {value for key in ("id", "name") if (value := attributes.get(key))}
        for key in ("href", "src"):
            if value := attributes.get(key):
                (self.links if tag == "a" else self.embedded).append(value)


def test_the_site_builds_and_every_link_resolves(tmp_path: Path) -> None:
    pytest.importorskip("mkdocs")
    pytest.importorskip("mkdocstrings")
    site = tmp_path / "site"
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "-f", str(ROOT / ".mkdocs.yml"), "-d", str(site)]
    process = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert process.returncode == 0, process.stderr
    pages = {file: Page(file.read_text()) for file in site.rglob("*.html")}
    assert {f"models/{lineage}.html" for lineage in registry.lineages()} < {str(f.relative_to(site)) for f in pages}
    broken = []
    for file, page in pages.items():
        if file.name == "404.html":
            continue  # its links are absolute: it is served at any address
        for link in (*page.links, *page.embedded):
            address = urlsplit(link)
            if address.scheme or address.netloc:
                assert link in page.links or address.scheme == "data", f"{file.name} fetches {link}"
                continue
            target = (file.parent / unquote(address.path)).resolve() if address.path else file
            if not target.exists():
                broken.append(f"{file.name}: {link}")
            elif address.fragment and target in pages and unquote(address.fragment) not in pages[target].anchors:
                broken.append(f"{file.name}: {link} (no such anchor)")
    assert not broken
