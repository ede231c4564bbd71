"""What the README shows is run here, in order, in one namespace."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hub import TOKEN, LocalHub

README = Path(__file__).parents[1] / "README.md"


def blocks(language: str, page: Path = README) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", page.read_text(), flags=re.DOTALL)


def test_python_snippets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    namespace: dict = {"__name__": "readme"}
    for block in blocks("python"):
        exec(compile(block, "README.md", "exec"), namespace)
    out = capsys.readouterr().out
    assert "46M against 0.6M" in out and "examples/sec on cpu" in out
    assert {"alexnet.png", "lenet.safetensors", "runs"} == {p.name for p in tmp_path.iterdir()}


def test_adding_a_model(capsys) -> None:
    """The page's model is added in at most 25 lines, and its published figure holds."""
    text = (README.parent / "docs" / "adding-a-model.md").read_text()
    (code,) = re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)
    declared = code[code.index("@cnnzoo.register") : code.index("print(")].strip()
    assert len([line for line in declared.splitlines() if line.strip()]) <= 25
    exec(compile(code, "adding-a-model.md", "exec"), {"__name__": "page"})
    out = capsys.readouterr().out
    assert re.search(r"1.3 million\s+1,3\d\d,\d\d\d\s+agrees", out)


def test_the_page_on_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    namespace: dict = {"__name__": "page"}
    text = (README.parent / "docs" / "training.md").read_text()
    for block in re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL):
        exec(compile(block, "training.md", "exec"), namespace)
    out = capsys.readouterr().out
    assert "ten crops each" in out and "the loss falls fastest at lr=" in out and "95 %" in out
    named = re.findall(r"^\| `([\w./`, -]+)` \|", text, flags=re.MULTILINE)
    recipes = {word.strip(" `") for row in named if "/" in row or "2012" in row for word in row.split(",")}
    import cnnzoo

    assert recipes | {"quick"} == set(cnnzoo.list_recipes())


def test_the_page_on_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from cnnzoo.weights import hub as room

    monkeypatch.chdir(tmp_path)
    reach = room._api
    with LocalHub("regular") as hub:
        monkeypatch.setattr(room, "_api", lambda token, endpoint: reach(TOKEN, hub.url))
        namespace: dict = {"__name__": "page"}
        for block in blocks("python", README.parent / "docs" / "weights.md"):
            exec(compile(block, "weights.md", "exec"), namespace)


def test_two_commands() -> None:
    main, tests = (block.strip() for block in blocks("bash"))
    assert main.endswith("cnnzoo compare alexnet lenet --train")
    assert tests.endswith("python -m pytest")


def test_shell_lines_are_commands_that_exist() -> None:
    from click.testing import CliRunner

    from cnnzoo.cli import main

    (block,) = blocks("console")
    for line in block.splitlines():
        command = line.removeprefix("$ cnnzoo ").split()
        assert CliRunner().invoke(main, [command[0], "--help"]).exit_code == 0
    named = re.search(r"`cnnzoo ([a-z |]+)`", README.read_text())
    assert named and set(named[1].split(" | ")) == set(main.commands)


def test_the_picture_is_there() -> None:
    for path in re.findall(r"!\[.*?\]\((.*?)\)", README.read_text()):
        assert (README.parent / path).is_file()
