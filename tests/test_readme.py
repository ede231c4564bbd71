"""What the README alone promises; its code and its shell lines are run with those of the pages."""

from __future__ import annotations

import re
from pathlib import Path

from test_pages import blocks

from cnnzoo.cli import main

README = Path(__file__).parents[1] / "README.md"


def test_two_commands() -> None:
    commands, tests = (block.strip() for block in blocks(README.read_text(), "bash"))
    assert commands.endswith("cnnzoo compare alexnet lenet --train")
    assert tests.endswith("python -m pytest")


def test_every_command_is_named() -> None:
    named = re.search(r"`cnnzoo ([a-z |]+)`", README.read_text())
    assert named and set(named[1].split(" | ")) == set(main.commands)


def test_what_it_links_to_is_there() -> None:
    for path in re.findall(r"\]\((?!https?:)([^)#]+)", README.read_text()):
        assert (README.parent / path).exists(), path


def test_a_model_is_added_in_25_lines() -> None:
    (code,) = blocks((README.parent / "docs" / "adding-a-model.md").read_text(), "python")
    declared = code[code.index("@cnnzoo.register") : code.index("print(")].strip()
    assert len([line for line in declared.splitlines() if line.strip()]) <= 25
