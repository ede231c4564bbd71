"""The README and the pages: what they show runs, what they name exists, and the site builds without a warning."""

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
from types import SimpleNamespace
from urllib.parse import unquote, urlsplit

import pytest
from click import Option
from hub import TOKEN, LocalHub

import cnnzoo
from cnnzoo.cli import main

ROOT = Path(__file__).parents[1]
make_pages = SimpleNamespace(**runpy.run_path(str(ROOT / "docs" / "make_pages.py")))
PAGES = {str(file.relative_to(ROOT)): file for file in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))}

# what the code of some pages must have printed
PRINTS = {
    "README.md": ("46M against 0.6M", "examples/sec on cpu"),
    "docs/index.md": ("758x", "test acc"),
    "docs/adding-a-model.md": ("1.3 million", "agrees"),
    "docs/training.md": ("ten crops each", "the loss falls fastest at lr=", "95 %"),
}


def text_of(page: str) -> str:
    return PAGES[page].read_text()


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", text, flags=re.DOTALL | re.MULTILINE)


# --- code ---


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """Runs the Python blocks of a page in order, in one namespace and an empty folder; the Hub is one of the tests'."""
    from cnnzoo.weights import hub as room

    reach = room._api
    monkeypatch.chdir(tmp_path)

    def run_all(name: str, text: str) -> str:
        with LocalHub("regular") as hub:
            monkeypatch.setattr(room, "_api", lambda token, endpoint: reach(TOKEN, hub.url))
            namespace: dict = {"__name__": "page"}
            for block in blocks(text, "python"):
                exec(compile(block, name, "exec"), namespace)
        return capsys.readouterr().out

    return run_all


@pytest.mark.parametrize("page", [name for name in PAGES if blocks(text_of(name), "python")])
def test_code(page: str, run) -> None:
    out = run(page, text_of(page))
    assert [text for text in PRINTS.get(page, ()) if text not in out] == []


@pytest.mark.parametrize(
    "lineage", [pytest.param(n, marks=() if n == "lenet" else pytest.mark.slow) for n in make_pages.lineages()]
)
def test_code_of_lineages(lineage: str, run) -> None:
    out = run(lineage, make_pages.lineage_page(lineage))
    assert f"{make_pages.counted(make_pages.lineages()[lineage][0]).params.total:,}" in out


@pytest.mark.parametrize("page", PAGES)
def test_every_block_has_a_language_that_is_checked_or_is_text(page: str) -> None:
    opened = re.findall(r"^```(.*)$", text_of(page), flags=re.MULTILINE)[::2]
    assert set(opened) <= {"python", "console", "bash", "text"}


# --- shell ---


def accepts(words: list[str]) -> None:
    """Parses a command line of ours, as a shell would hand it on, without running it."""
    assert words and words[0] in main.commands, f"{' '.join(words)}: no such command"
    chosen = main.commands[words[0]]
    chosen.make_context(words[0], words[1:])  # complains about options that do not exist


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
            told = (ROOT / "pyproject.toml").read_text()
            assert words[1] == "install"
            assert all(re.search(rf"^{extra} = \[", told, re.MULTILINE) for some in extras for extra in some.split(","))
        else:
            assert program in ("ruff", "mypy", "mkdocs", ".", "cd"), f"no test knows the program {program!r}: {part}"


@pytest.mark.parametrize("page", PAGES)
def test_shell_lines_are_commands_that_exist(page: str) -> None:
    text = text_of(page)
    for block in blocks(text, "console"):
        lines = [line.removeprefix("$ ") for line in block.splitlines() if line.startswith("$ ")]
        assert lines, f"a block of console without a command:\n{block}"
        for line in lines:
            check_line(line)
    for block in blocks(text, "bash"):
        for line in block.splitlines():
            check_line(line)


def test_a_command_that_does_not_exist_is_seen() -> None:
    for line in ("cnnzoo trian lenet", "cnnzoo train lenet --epochs 3", "python examples/none.py", "conda install x"):
        with pytest.raises(Exception, match=r"."):
            check_line(line)


# --- names ---


def test_every_recipe_is_told() -> None:
    told = re.findall(r"^\| (`[\w./`, -]+`) \|", text_of("docs/training.md"), flags=re.MULTILINE)
    assert set(cnnzoo.list_recipes()) <= {word.strip(" `") for row in told for word in row.split(",")}


def looked_up(name: str) -> object:
    parts = name.split(".")
    for length in range(len(parts), 0, -1):
        try:
            found: object = import_module(".".join(parts[:length]))
        except ModuleNotFoundError:
            continue
        for part in parts[length:]:
            found = getattr(found, part)
        return found
    raise AssertionError(f"there is no {name}")


@pytest.mark.parametrize("package", ["cnnzoo", "torch", "torchvision", "timm"])
def test_names_of_others_exist(package: str) -> None:
    pytest.importorskip(package)
    text = make_pages.filled(text_of("docs/coming-from.md"))
    names = set(re.findall(rf"`({package}(?:\.\w+)+)", text))
    assert names
    for name in sorted(names):
        looked_up(name)


def test_every_public_name_is_told_in_full() -> None:
    """Whatever the reference shows says what it does, and so does each of its public methods."""
    shown = [(f"cnnzoo.{name}", getattr(cnnzoo, name)) for names in cnnzoo._ROOMS.values() for name in names]
    for room in make_pages.ROOMS:
        module = import_module(f"cnnzoo.{room}")
        shown += [(f"cnnzoo.{room}.{name}", getattr(module, name)) for name in make_pages.room_names(room)]
    silent = []
    for name, value in shown:
        own = vars(value).items() if inspect.isclass(value) else ()
        members = [(f"{name}.{key}", inner) for key, inner in own if not key.startswith("_")]
        for where, thing in [(name, value), *members]:
            thing = getattr(thing, "__func__", thing)
            told = inspect.isclass(thing) or inspect.isfunction(thing) or isinstance(thing, property)
            if told and not inspect.getdoc(thing):
                silent.append(where)
    assert not [name for name in silent if not inherited(name)]


def inherited(name: str) -> bool:
    """Whether a method is told by the class that it comes from (Block says what build is)."""
    owner, _, method = name.rpartition(".")
    found = looked_up(owner)
    return inspect.isclass(found) and any(getattr(vars(base).get(method), "__doc__", None) for base in found.__mro__)


def test_the_command_line_is_told_in_full() -> None:
    text = make_pages.commands()
    for name, command in main.commands.items():
        assert f"## cnnzoo {name}\n" in text and command.help
        for option in command.params:
            if isinstance(option, Option):
                assert option.help and option.opts[0] in text, f"{name} {option.opts[0]}"


def test_every_arrow_of_the_house_goes_down() -> None:
    levels = make_pages.levels()
    place = {room: down for down, level in enumerate(levels) for room in level}
    assert all(place[room] < place[below] for room, seen in make_pages.arrows().items() for below in seen)
    assert place["cli"] == 0 and {"api", "train", "blocks"} < set(place)


# --- the site ---


class Page(HTMLParser):
    """The anchors of a page, and what it points to."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.anchors: set[str] = set()
        self.links: list[str] = []
        self.fetched: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        told = dict(attrs)
        self.anchors |= {value for key in ("id", "name") if (value := told.get(key))}
        for key in ("href", "src"):
            if value := told.get(key):
                (self.links if tag == "a" else self.fetched).append(value)


def test_the_site_builds_and_every_link_leads_somewhere(tmp_path: Path) -> None:
    pytest.importorskip("mkdocs")
    pytest.importorskip("mkdocstrings")
    site = tmp_path / "site"
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "-f", str(ROOT / ".mkdocs.yml"), "-d", str(site)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    pages = {file: Page(file.read_text()) for file in site.rglob("*.html")}
    assert {f"models/{lineage}.html" for lineage in make_pages.lineages()} < {str(f.relative_to(site)) for f in pages}
    broken = []
    for file, page in pages.items():
        if file.name == "404.html":
            continue  # its links are absolute: it is shown anywhere
        for link in (*page.links, *page.fetched):
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
