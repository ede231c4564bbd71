"""Groups of runs that differ only in their seed, and how they are labeled and colored."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch

from cnnzoo.fields import is_number
from cnnzoo.html_report.run_reader import RunReader
from cnnzoo.measure.figures import COLORS


@dataclass(frozen=True)
class RunGroup:
    """Runs that differ only in their seed, or a single run.

    Attributes:
        label: Its name on the page.
        color: Its color on a white page.
        runs: The runs by label.
    """

    label: str
    color: str
    runs: Mapping[str, RunReader]

    @property
    def first(self) -> RunReader:
        """The first run, from which the page reads what all runs have in common."""
        return next(iter(self.runs.values()))

    def values(self, key: str) -> list[float]:
        """Returns a metric of every finished run that has it."""
        return [run.metrics[key] for run in self.runs.values() if run.finished and is_number(run.metrics.get(key))]

    @property
    def confusions(self) -> list[torch.Tensor]:
        """The confusion matrix of every run that has one."""
        return [run.confusion for run in self.runs.values() if run.confusion is not None]

    @cached_property
    def confusion(self) -> torch.Tensor | None:
        """The sum of the confusion matrices, int64 (classes, classes); None without any, or if their sizes differ."""
        matrices = self.confusions
        return sum(matrices[1:], matrices[0]) if len({matrix.shape for matrix in matrices}) == 1 else None


def group_runs(runs: Sequence[RunReader]) -> list[RunGroup]:
    """Groups runs that have the same network, data, config and initial weights, and different seeds.

    Groups are in the order of their first run.
    """
    labels = short_names([run.path for run in runs])
    candidates: dict[str, dict[str, RunReader]] = {}
    for label, run in zip(labels, runs, strict=True):
        candidates.setdefault(_seedless_key(run), {})[label] = run
    members: list[dict[str, RunReader]] = []
    for candidate in candidates.values():
        seeds = {json.dumps(run.config.get("seed")) for run in candidate.values()}
        members += [candidate] if len(seeds) == len(candidate) else [{label: run} for label, run in candidate.items()]
    colors = (COLORS[i % len(COLORS)] for i in range(len(members)))
    names = short_names(_group_paths(members))
    return [
        RunGroup(name, color, _equal_depth(group)) for name, color, group in zip(names, colors, members, strict=True)
    ]


def short_names(paths: Sequence[Path]) -> list[str]:
    """Returns the shortest end of each path that no other path has."""
    parts = [path.resolve().parts for path in paths]
    names = []
    for own in parts:
        others = [other for other in parts if other != own]
        length = next(n for n in range(1, len(own) + 1) if all(other[-n:] != own[-n:] for other in others))
        names.append("/".join(own[-length:]))
    return names


def _seedless_key(run: RunReader) -> str:
    """Returns a key that is equal for runs that differ only in their seed."""
    network = run.spec or sorted(run.tensor_shapes.items())
    images = run.data.get("sha256") or run.data.get("name")  # a stream may have no checksum
    config = {**run.config, "seed": None}
    return json.dumps([run.name, network, images, run.info.get("initial_provenance"), config])


def _group_paths(members: Sequence[Mapping[str, RunReader]]) -> list[Path]:
    """Returns the folder that names each group: the parent of its runs if it holds no other run, else its first run."""
    parents = [{run.path.resolve().parent for run in group.values()} for group in members]
    paths = []
    for group, own in zip(members, parents, strict=True):
        is_own_folder = len(group) > 1 and len(own) == 1 and sum(own <= other for other in parents) == 1
        paths.append(next(iter(own)) if is_own_folder else next(iter(group.values())).path)
    return paths


def _equal_depth(runs: Mapping[str, RunReader]) -> dict[str, RunReader]:
    """Returns the runs of a group with labels of equally many path components."""
    depth = 1 + max(label.count("/") for label in runs)
    return {"/".join(run.path.resolve().parts[-depth:]): run for run in runs.values()}
