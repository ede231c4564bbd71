"""Runs that are killed at random moments; the long run is ``python tests/kills.py --kills 200``."""

from __future__ import annotations

from pathlib import Path

import pytest
from kills import kill


@pytest.mark.slow
def test_killed_runs_end_with_the_same_bytes(tmp_path: Path) -> None:
    figures, failures = kill(20, seed=0, folder=tmp_path)
    assert not failures, "\n".join(failures)
    assert figures["kills"] >= 20 and figures["kills of one of two processes"], figures
