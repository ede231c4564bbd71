"""Page "Does it resume?": cnnzoo resumes exactly, and each library as its record says."""

from __future__ import annotations

import json
import sys
from importlib.metadata import version
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from types import ModuleType

import pytest

from sitegen import resuming

RECORD = json.loads(resuming.RECORD.read_text())


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = spec_from_file_location("resuming_benchmark", resuming.SCRIPT)
    assert spec is not None and spec.loader is not None
    module = sys.modules[spec.name] = module_from_spec(spec)  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def test_the_page_shows_every_case(script: ModuleType) -> None:
    assert list(RECORD["cases"]) == list(script.CASES) and not RECORD["missing"]
    table, code = resuming.table(), resuming.code()
    for name, case in script.CASES.items():
        recorded = RECORD["cases"][name]
        assert (recorded["library"], recorded["settings"]) == (case.library, case.settings)
        assert f"| {case.library} | {case.settings} |" in table and f"<summary>{case.library}</summary>" in code
        assert all(f"{package} {recorded['versions'][package]}" in table for package in case.packages)


@pytest.mark.slow
def test_cnnzoo_resumes_exactly(script: ModuleType) -> None:
    result = script.measure("cnnzoo")
    assert result["continued_from"] == 150 and result["repeatable"] and result["same_bytes"]
    assert (result["seen_twice"], result["never_seen"], result["same_order"]) == (0, 0, [True, True])
    assert result["largest_difference"] == 0 and result["test_acc"][0] == result["test_acc"][1] > 0.5


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in RECORD["cases"] if name != "cnnzoo"])
def test_another_library_resumes_as_recorded(script: ModuleType, name: str) -> None:
    recorded = RECORD["cases"][name]
    for package, recorded_version in recorded["versions"].items():
        if find_spec(package) is None:  # not importorskip, since Keras would import TensorFlow
            pytest.skip(f"{package} is not installed")
        if version(package) != recorded_version:
            pytest.skip(f"{package} is {version(package)}, the record's is {recorded_version}")
    result = script.measure(name)
    for key in ("continued_from", "seen_twice", "never_seen", "same_order", "same_bytes", "repeatable"):
        assert result[key] == recorded[key], key
