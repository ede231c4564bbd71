"""Provenance: commands, checksums of data and weights, machine and versions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from cnnzoo.html_report.groups import RunGroup
from cnnzoo.html_report.run_reader import RunReader
from cnnzoo.html_report.text import format_value, join_names
from cnnzoo.measure.tables import Table

LabeledRun = tuple[str, RunReader]


@dataclass(frozen=True)
class Session:
    """A process that trained a run.

    Attributes:
        step: The step at which it resumed the run; ``""`` if it started the run.
        command: Its command line; ``""`` if it is not recorded.
    """

    step: str
    command: str


@dataclass(frozen=True)
class Commands:
    """The commands that one or several consecutive runs were trained with.

    Attributes:
        labels: Labels of the runs.
        sessions: The processes that trained each of them.
    """

    labels: str
    sessions: Sequence[Session]


@dataclass(frozen=True)
class Provenance:
    """The values of the section.

    Attributes:
        commands: How the runs were started and resumed.
        tables: Data, weights, and machines.
    """

    commands: Sequence[Commands]
    tables: Sequence[Table]


def build_provenance(groups: Sequence[RunGroup]) -> Provenance:
    """Returns how the runs can be reproduced."""
    runs = [(label, run) for group in groups for label, run in group.runs.items()]
    commands = [
        Commands(join_names([label for label, _ in same]), sessions)
        for sessions, same in groupby(runs, key=lambda labeled: _sessions(labeled[1]))
    ]
    tables = (_data_table(runs), _weights_table(runs), _machines_table(runs))
    return Provenance(commands, [table for table in tables if table is not None])


def _sessions(run: RunReader) -> list[Session]:
    sessions = []
    for session in run.sessions:
        step, command = session.get("step"), session.get("command")
        sessions.append(Session(format_value(step) if step else "", str(command or "")))
    return sessions


def _data_table(runs: Sequence[LabeledRun]) -> Table:
    rows = dict.fromkeys((run.data_name, str(run.data.get("sha256"))) for _, run in runs)
    return Table("Data", ("name", "SHA-256 of images and labels"), list(rows))


def _weights_table(runs: Sequence[LabeledRun]) -> Table | None:
    rows = [[label, *run.checksum] for label, run in runs if run.checksum.sha256]
    return Table("Weights", ("run", "SHA-256 of the weights", "status"), rows) if rows else None


def _machines_table(runs: Sequence[LabeledRun]) -> Table | None:
    """Returns a row per property of the machines, and a column per distinct machine."""
    machines: dict[str, list[dict[str, Any]]] = {
        label: [machine for session in run.sessions if isinstance(machine := session.get("machine"), dict)]
        for label, run in runs
    }
    keys = list(dict.fromkeys(key for own in machines.values() for machine in own for key in machine))
    if not keys:
        return None
    columns: dict[tuple[str, ...], list[str]] = {}
    for label, own in machines.items():
        values = tuple(
            "; ".join(dict.fromkeys(format_value(machine[key]) for machine in own if key in machine)) for key in keys
        )
        columns.setdefault(values, []).append(label)
    rows = [[key, *(values[i] for values in columns)] for i, key in enumerate(keys)]
    return Table("Machine and versions", ["", *map(join_names, columns.values())], rows)
