"""Training of several networks side by side."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any

from torch import nn

from cnnzoo import train
from cnnzoo.api.comparing import Network, compare_counts
from cnnzoo.api.naming import spec_of
from cnnzoo.api.sources import create
from cnnzoo.data import Data
from cnnzoo.errors import InputError
from cnnzoo.files import atomic_write
from cnnzoo.knobs import folder_name
from cnnzoo.measure import Comparison, CountReport
from cnnzoo.modules import unwrap
from cnnzoo.preprocessing import Preprocessing
from cnnzoo.train import RecipeChoice, RecipeRecord, TrainConfig, choose_recipe


def compare_runs(
    networks: Sequence[Network],
    names: Sequence[str] | None,
    *,
    preprocessing: Preprocessing | None,
    baseline: int | str,
    data: Data,
    recipe: str | TrainConfig,
    settings: Mapping[str, Any],
    out: str | PathLike[str] | None,
    overwrite: bool,
    resume: str | None,
) -> Comparison:
    """Trains a copy of each network, and compares counts and results; arguments as for ``cnnzoo.compare``."""
    models = [_trainable_network(network, data) for network in networks]
    sizes = [None if spec_of(model) is not None else (1, *data.shape) for model in models]
    counts = compare_counts(models, names, sizes, preprocessing, baseline, sources=networks)
    labels = [report.name for report in counts.reports]
    folder = None if out is None else Path(out)
    options = {"overwrite": overwrite, "resume": resume}
    trainers = _make_trainers(models, labels, data, recipe, settings, folder, options)
    results: list[Mapping[str, Any]] = []
    for trainer, choice in trainers:
        if results and results[-1].get("interrupted"):
            results.append({"interrupted": True})
            continue
        run = trainer.fit()
        result = {**run.metrics, "recipe": choice.name, "interrupted": run.interrupted}
        results.append({**result, "history": list(run.history)})
    comparison = Comparison(counts.reports, counts.baseline, counts.notes, results, data.name)
    if out is not None and trainers[0][0].distributed.rank == 0:
        with atomic_write(Path(out) / "compare.json") as file:
            file.write((comparison.to_json() + "\n").encode())
        comparison.plot(Path(out) / "compare.png")
    return comparison


def _trainable_network(source: Network, data: Data) -> nn.Module:
    """Returns a network of its own to train, so that the caller's is not changed."""
    if isinstance(source, nn.Module):
        return copy.deepcopy(unwrap(source))
    if isinstance(source, CountReport):
        raise InputError("compare trains names, Specs and modules, and a CountReport has no weights")
    return create(source, num_classes=len(data.classes), in_channels=data.shape[0], seed=0)


def _make_trainers(
    models: Sequence[nn.Module],
    names: Sequence[str],
    data: Data,
    recipe: str | TrainConfig,
    settings: Mapping[str, Any],
    out: Path | None,
    options: Mapping[str, Any],
) -> list[tuple[train.Trainer, RecipeChoice]]:
    """Builds all trainers before the first run, so that an error in any of them is raised at once."""
    trainers: list[tuple[train.Trainer, RecipeChoice]] = []
    folders: list[str] = []
    for model, name in zip(models, names, strict=True):
        if isinstance(recipe, TrainConfig):
            choice = RecipeChoice("TrainConfig", "", recipe.replace(**settings))
        else:
            choice = choose_recipe(recipe, model, settings)
        folder = folder_name(name)
        folders.append(
            next(f for f in (folder, *(f"{folder}-{i}" for i in range(2, len(models) + 2))) if f not in folders)
        )
        trainer = train.Trainer(
            model,
            data,
            choice.config,
            out=None if out is None else out / folders[-1],
            **options,
            callbacks=[RecipeRecord(choice, show=True)],
        )
        trainer.name = name
        trainers.append((trainer, choice))
    return trainers
