"""Records of finished runs: what was trained, how, and with which results, in two files to keep."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cnnzoo.errors import FileError
from cnnzoo.files import (
    CONFIG_FILE,
    METRICS_FILE,
    exists,
    read_json,
    require_new,
    strip_local_paths,
    write_json,
)
from cnnzoo.limits import MAX_METRICS_BYTES
from cnnzoo.measure.figures import save_figure
from cnnzoo.measure.learning_curves import history_figure
from cnnzoo.serialization import METADATA_KEY
from cnnzoo.train.metrics import interval_95
from cnnzoo.train.results import read_history
from cnnzoo.train.run_dir import RunDir


def record(folders: Sequence[Path], path: Path, *, overwrite: bool = False) -> tuple[Path, Path]:
    """Writes a record of finished runs: config, data, commands, machines and results as JSON, and the curves.

    Args:
        folders: The run folders: one, or several that differ in their seed only.
        path: ``NAME`` or ``NAME.json``; the curves are written to ``NAME.png`` beside it.
        overwrite: Whether existing files may be replaced.

    Returns:
        The two files.

    Raises:
        FileError: If a folder holds no finished run, or a file exists or cannot be written.
    """
    files = record_files(path)
    for file in files:
        require_new(file, overwrite)
    runs = [_read_finished(folder) for folder in folders]
    content: dict[str, Any] = {
        key: runs[0][key] for key in ("architecture", "parameters", "config", "data", "sessions")
    }
    content["runs"] = [
        {"seed": run["config"]["seed"], "metrics": run["metrics"], "history": run["history"]} for run in runs
    ]
    for run, entry in zip(runs[1:], content["runs"][1:], strict=True):
        if len(run["sessions"]) > 1:  # resumed; the sessions of the first run are in ``content``
            entry["sessions"] = run["sessions"]
    accuracies = [run["metrics"]["test_acc"] for run in runs]
    content["test_acc"] = statistics.fmean(accuracies)
    if len(runs) > 1:
        content["test_acc_95"] = list(interval_95(accuracies))
    write_json(files[0], content)
    draw_record(content, path.with_name(path.name.removesuffix(".json")))
    return files


def record_files(path: Path) -> tuple[Path, Path]:
    """Returns the files of the record ``NAME`` or ``NAME.json``: ``NAME.json`` and ``NAME.png``."""
    name = path.name.removesuffix(".json")
    return path.with_name(f"{name}.json"), path.with_name(f"{name}.png")


def draw_record(record: Mapping[str, Any], path: Path) -> None:
    """Draws the learning curves of a record.

    Args:
        record: The content of ``NAME.json``.
        path: ``NAME``; the picture is written to ``NAME.png``.

    Raises:
        FileError: If it cannot be written.
    """
    runs = record["runs"]
    seeds = f"seed {runs[0]['seed']}" if len(runs) == 1 else f"{len(runs)} seeds: mean, lowest and highest"
    title = f"{path.name}: {record['architecture']} on {strip_local_paths(str(record['data']['name']))}, {seeds}"
    save_figure(history_figure(*(run["history"] for run in runs), title=title), path.with_name(f"{path.name}.png"))


def _read_finished(folder: Path) -> dict[str, Any]:
    """Returns train.json of a finished run, and its architecture, number of parameters, metrics and history."""
    info = RunDir.open(folder).info
    if not exists(folder / METRICS_FILE):
        raise FileError(f"the run in {folder} is not finished: there is no {METRICS_FILE} in it")
    description, metrics = read_json(folder / CONFIG_FILE), read_json(folder / METRICS_FILE, MAX_METRICS_BYTES)
    metrics.pop("sha256", None)  # of the file
    return {
        "architecture": description.get("architecture"),
        "parameters": description.get(METADATA_KEY, {}).get("param_count"),
        **info,
        "metrics": metrics,
        "history": read_history(folder),
    }
