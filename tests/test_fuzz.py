"""Damaged weights files; the long run is ``python tests/fuzz.py --files 10000``."""

from __future__ import annotations

from pathlib import Path

from fuzz import fuzz


def test_damaged_files_load_to_their_checksum_or_are_refused(tmp_path: Path) -> None:
    outcomes = fuzz(300, seed=0, folder=tmp_path)
    assert outcomes["WeightsError"] > 150 and outcomes["loaded"] > 10, outcomes
