"""Damaged files of every kind; the long run is ``python tests/fuzz.py --minutes 20 --seed 1``."""

from __future__ import annotations

from pathlib import Path

import pytest
from fuzz import KINDS, Fuzzer, report

SLACK = 5.0  # factor of the budgets: other tests run beside


@pytest.mark.parametrize("kind", sorted(set(KINDS) - {"hub"}))
def test_damaged_files_are_refused_or_read_exactly(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    fuzzer = Fuzzer(tmp_path, 0, [kind], SLACK)
    if kind not in ("config", "images"):  # those are in test_hostile.py and test_folders.py
        fuzzer.run_corpus()
    for number in range(12):
        fuzzer.run(kind, number)
    result = fuzzer.results[kind]
    assert not result.failures and result.refused > 2, report(fuzzer.results)


@pytest.mark.slow
def test_damaged_files_of_all_kinds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    fuzzer = Fuzzer(tmp_path, 1, sorted(KINDS), SLACK)
    fuzzer.run_corpus()
    for number in range(200):
        for kind in fuzzer.kinds:
            fuzzer.run(kind, number)
    assert not any(result.failures for result in fuzzer.results.values()), report(fuzzer.results)
