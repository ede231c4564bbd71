"""A real browser without a window: what it makes of a page."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

CHROMIUM = ["chromium", "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"]
CHROMIUM += ["--disable-background-networking", "--disable-component-update", "--disable-sync"]

needs_browser = pytest.mark.skipif(not shutil.which("chromium"), reason="needs Debian's chromium")


def dom_of(page: Path, profile: Path) -> str:
    """The page as the browser holds it, once its scripts (a test's own) have run."""
    command = [*CHROMIUM, f"--user-data-dir={profile}", "--window-size=1300,900", "--dump-dom", page.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout
