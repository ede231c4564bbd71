"""Every example runs in a small mode, on the bundled sample, without a network."""

from __future__ import annotations

import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def run(script: str, *arguments: str, cwd: Path) -> str:
    command = [sys.executable, str(ROOT / "examples" / script), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, cwd=cwd)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_ablations_of_lenet(tmp_path: Path) -> None:
    out = run("ablations.py", "lenet", "--epochs", "1", cwd=tmp_path)
    assert len(re.findall(r"0\.\d{3}\s+0\.\d{3}$", out, flags=re.MULTILINE)) == 7
    assert re.search(r"no hidden dense layers +6,582 +361,600", out)


def test_ablations_of_alexnet() -> None:
    """Each variant is what its name says; training them takes minutes."""
    import cnnzoo

    variants = runpy.run_path(str(ROOT / "examples" / "ablations.py"))["alexnets"]()
    counts = {name: cnnzoo.count(spec) for name, spec in variants.items()}
    assert counts["2x2 pools"].params.total == counts["alexnet"].params.total + (6 * 6 - 5 * 5) * 256 * 4096
    assert counts["no hidden dense layers"].params.total == 3_723_968 + 64_010
    assert counts["on 28x28"].input_size == (1, 1, 28, 28)


@pytest.mark.slow
def test_all_ablations_of_alexnet(tmp_path: Path) -> None:
    out = run("ablations.py", "alexnet", "--epochs", "1", "--width", "0.125", cwd=tmp_path)
    assert len(re.findall(r"0\.\d{3}\s+0\.\d{3}$", out, flags=re.MULTILINE)) == 5


def test_sizes(tmp_path: Path) -> None:
    out = run("sizes.py", "--epochs", "1", cwd=tmp_path)
    assert len(re.findall(r"^(resize|crop|pad) +(0\.\d{4} *){5}$", out, flags=re.MULTILINE)) == 3


def test_pages_are_those_that_the_library_makes() -> None:
    done = subprocess.run([sys.executable, str(ROOT / "docs" / "make_pages.py")], capture_output=True, text=True)
    assert done.returncode == 0, f"run python docs/make_pages.py --write; it would change:\n{done.stdout}{done.stderr}"
