"""Damaged weights files; the long run is ``python tests/fuzz.py --files 10000``."""

from __future__ import annotations

from pathlib import Path

from fuzz import fuzz


def test_damaged_files_load_as_noted_or_are_refused(tmp_path: Path) -> None:
    found = fuzz(300, seed=0, folder=tmp_path)
    assert found["WeightsError"] > 150 and found["loaded"] > 10, found
