"""The README: its commands, links and pictures. Its code and shell lines are run by test_pages.py."""

from __future__ import annotations

import re
from pathlib import Path

from test_pages import blocks

from cnnzoo.cli import main

README = Path(__file__).parents[1] / "README.md"


def test_two_commands() -> None:
    commands, tests = (block.strip() for block in blocks(README.read_text(), "bash"))
    assert commands.endswith("cnnzoo compare alexnet lenet --train")
    assert tests.endswith("python -m pytest -n auto")


def test_every_command_is_named() -> None:
    named = re.search(r"`cnnzoo ([a-z |]+)`", README.read_text())
    assert named and set(named[1].split(" | ")) == set(main.commands)


def test_its_links_resolve() -> None:
    for path in re.findall(r"\]\((?!https?:)([^)#]+)", README.read_text()):
        assert (README.parent / path).exists(), path


def test_its_picture_is_described() -> None:
    """A package index renders the README without the repository's files: it shows the description instead."""
    text = README.read_text()
    pictures = re.findall(r"!\[([^\]]+)\]\(([^)]+)\)", text)
    assert [path for _, path in pictures] == ["docs/pictures/alexnet-vs-lenet.svg"] and "<img" not in text
    assert "758x the parameters" in pictures[0][0] and "2,252x the multiply-adds" in pictures[0][0]


def test_a_model_is_added_in_25_lines() -> None:
    code, *_ = blocks((README.parent / "docs" / "adding-a-model.md").read_text(), "python")
    declaration = code[code.index("@cnnzoo.register") : code.index("print(")].strip()
    assert len([line for line in declaration.splitlines() if line.strip()]) <= 25


def test_a_block_is_added_in_ten_lines() -> None:
    _, code, *_ = blocks((README.parent / "docs" / "adding-a-model.md").read_text(), "python")
    declaration = code[code.index("@cnnzoo.blocks.register_block") : code.index("spec = ")].strip()
    assert len([line for line in declaration.splitlines() if line.strip()]) <= 10
