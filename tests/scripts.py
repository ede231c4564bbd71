"""Runs the scripts of examples/ in this process, which has imported torch already."""

from __future__ import annotations

import contextlib
import io
import runpy
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
EXAMPLES = ROOT / "examples"


def run_example(script: str, *arguments: str, cwd: Path) -> str:
    """Runs a script as ``python examples/SCRIPT ARGUMENTS`` does, in a folder, and returns its output."""
    output = io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(output):
        patch.chdir(cwd)
        patch.syspath_prepend(EXAMPLES)
        patch.setattr(sys, "argv", [str(EXAMPLES / script), *arguments])
        runpy.run_path(str(EXAMPLES / script), run_name="__main__")
    return output.getvalue()


def load_example(script: str) -> dict:
    """Returns the names that a script defines."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(EXAMPLES)
        return runpy.run_path(str(EXAMPLES / script))
