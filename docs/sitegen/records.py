"""The records of training runs, docs/records/*.json."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean

from sitegen import ROOT


def files() -> list[Path]:
    """Returns the files of all records of training runs."""
    files = sorted((ROOT / "docs" / "records").glob("*.json"))
    return [file for file in files if "runs" in json.loads(file.read_text())]


def all_records() -> str:
    """Returns a table of all records, then machine, command and curves of each."""
    lines = [table(files(), "records"), ""]
    for file in files():
        session = json.loads(file.read_text())["sessions"][0]
        machine = session["machine"]
        device = f"{machine['cores']} cores of {machine['cpu']}, {', '.join(machine['gpus']) or machine['bf16']}"
        lines += [f"### {file.stem}", "", f"On {device}, with torch {machine['torch']}:", ""]
        lines += ["```console", f"$ {session['command']}", "```", ""]
        if file.with_suffix(".png").is_file():
            lines += [f"![Loss and accuracy of {file.stem}, epoch by epoch](records/{file.stem}.png)", ""]
    return "\n".join(lines)


def table(records: Sequence[Path], folder: str) -> str:
    """Returns a table with one line per record.

    Args:
        records: Files of records.
        folder: Path of docs/records, relative to the page.
    """
    lines = [
        "| record | model | test accuracy | seeds | train accuracy | loss | images/s, steps | images/s, whole run |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for file in records:
        record = json.loads(file.read_text())
        metrics = [run["metrics"] for run in record["runs"]]
        mean = {key: fmean(m[key] for m in metrics) for key in metrics[0] if isinstance(metrics[0][key], float)}
        half = f" ± {record['test_acc_95'][1] - record['test_acc']:.4f}" if "test_acc_95" in record else ""
        lines.append(
            f"| [{file.stem}]({folder}/{file.name}) | `{record['architecture']}` | {record['test_acc']:.4f}{half} | "
            f"{len(metrics)} | {mean['train_acc']:.4f} | {mean['loss']:.3f} | {mean['examples_per_sec']:,.0f} | "
            f"{mean['wall_examples_per_sec']:,.0f} |"
        )
    return "\n".join(lines)
