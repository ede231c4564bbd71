"""Chromium without a window, for tests of HTML pages."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

CHROMIUM = ["chromium", "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"]
CHROMIUM += ["--disable-background-networking", "--disable-component-update", "--disable-sync"]

needs_browser = pytest.mark.skipif(not shutil.which("chromium"), reason="needs Debian's chromium")


@contextmanager
def open_chromium() -> Iterator[Any]:
    """Yields Chromium as Playwright drives it; skips the test where Playwright is not installed."""
    playwright = pytest.importorskip("playwright.sync_api")
    with playwright.sync_playwright() as running:
        browser = running.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        yield browser
        browser.close()


def dump_dom(page: Path, profile: Path) -> str:
    """Returns the DOM of a page as HTML, after its scripts have run."""
    command = [*CHROMIUM, f"--user-data-dir={profile}", "--window-size=1300,900", "--dump-dom", page.as_uri()]
    result = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stderr[-2000:]
    return result.stdout
