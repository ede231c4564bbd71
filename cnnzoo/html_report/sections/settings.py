"""Settings: the training config, first what differs between the runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from cnnzoo.html_report.groups import RunGroup
from cnnzoo.html_report.text import format_value
from cnnzoo.measure.tables import Table
from cnnzoo.train import TrainConfig


@dataclass(frozen=True)
class Settings:
    """The values of the section.

    Attributes:
        differing: The settings that differ between the runs; None if there are none.
        common: The settings that all runs share and that are not the default; None if there are none.
        has_config: Whether any run has a config.
    """

    differing: Table | None
    common: Table | None
    has_config: bool


def build_settings(groups: Sequence[RunGroup]) -> Settings:
    """Returns the settings of all runs."""
    defaults = TrainConfig().to_dict()
    configs = [[run.config for run in group.runs.values()] for group in groups]
    names = dict.fromkeys([*defaults, *(name for group in configs for config in group for name in config)])
    differing, common = _networks_and_data(groups), []
    for name in names:
        # the distinct values of each group, whose runs may differ in their seed
        values = [
            tuple(dict.fromkeys(format_value(config[name]) if name in config else "" for config in group))
            for group in configs
        ]
        default = format_value(defaults[name]) if name in defaults else ""
        meaning = TrainConfig.describe(name) if name in defaults else "unknown to this version of cnnzoo"
        if len(set(values)) > 1 or (len(groups) == 1 and len(values[0]) > 1):
            differing.append([name, *map(", ".join, values), default, meaning])
        elif values[0] != (default,):
            common.append([name, ", ".join(values[0]), default, meaning])
    labels = [group.label for group in groups]
    common_label = "all runs" if len(groups) > 1 else "value"
    return Settings(
        Table("Differences between the runs", ["", *labels, "default", "meaning"], differing) if differing else None,
        Table("Non-default settings", ["", common_label, "default", "meaning"], common) if common else None,
        has_config=any(config for group in configs for config in group),
    )


def _networks_and_data(groups: Sequence[RunGroup]) -> list[list[str]]:
    """Returns a row for the network and one for the data, each if it differs between the groups."""
    rows = [
        ["network", *(group.first.name for group in groups), "", ""],
        ["data", *(group.first.data_name for group in groups), "", ""],
    ]
    return [row for row in rows if len(set(row[1:-2])) > 1]
