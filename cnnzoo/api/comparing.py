"""Networks side by side: counts, and the results of training."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any

from torch import nn

from cnnzoo import train
from cnnzoo.api.counting import count, image_shape
from cnnzoo.api.sources import Source, create, name_of, resolve
from cnnzoo.data import Data
from cnnzoo.errors import InputError
from cnnzoo.files import atomic_write
from cnnzoo.measure import Comparison, CountReport
from cnnzoo.modules import unwrap
from cnnzoo.network import CNN
from cnnzoo.preprocessing import Preprocessing
from cnnzoo.registry import get_spec, is_model
from cnnzoo.spec import Spec
from cnnzoo.train import TrainConfig
from cnnzoo.verify import claims


def compare(
    *sources: Source | nn.Module | CountReport,
    preprocessing: Preprocessing | None = None,
    baseline: int = -1,
    train: Data | None = None,
    recipe: str | TrainConfig = "quick",
    settings: Mapping[str, Any] | None = None,
    out: str | PathLike[str] | None = None,
    overwrite: bool = False,
) -> Comparison:
    """Compares two or more networks: counts, ratios and published figures; with ``train``, also their training.

    Args:
        *sources: Names, Specs, any modules, or CountReports.
        preprocessing: The size and channels of images, for modules whose metadata have no preprocessing.
        baseline: Index of the network that the ratios are relative to; by default the last.
        train: A data set on which a copy of each network is trained; networks given by name or Spec are built for its
            channels and classes, and other modules take images of its size.
        recipe: The training: a TrainConfig, or the name of a recipe; ``name/model`` is preferred where it exists.
        settings: Fields of the TrainConfig to replace, by name.
        out: With ``train``: a folder for the runs (one subfolder each), ``compare.json`` and ``compare.png``.
        overwrite: Whether existing runs may be replaced.

    Raises:
        InputError: If there are fewer than two networks, or one cannot be trained.
        FileError: If ``out`` holds runs, or cannot be written.
    """
    if train is None:
        for name, value in (("out", out), ("settings", settings)):
            if value:
                raise InputError(f"{name}= is for training; give a data set in train= too")
        return _compare_counts(sources, baseline, preprocessing)
    models = [_trainable_network(source, train) for source in sources]
    counts = _compare_counts(models, baseline, preprocessing, train.shape)
    trainers = _make_trainers(models, train, recipe, settings or {}, None if out is None else Path(out), overwrite)
    results: list[Mapping[str, Any]] = []
    for trainer in trainers:
        if results and results[-1].get("interrupted"):
            results.append({"interrupted": True})
            continue
        run = trainer.fit()
        results.append({**run.metrics, "history": list(run.history), "interrupted": run.interrupted})
    comparison = Comparison(counts.reports, baseline, counts.notes, results, train.name)
    if out is not None and trainers[0].distributed.rank == 0:
        with atomic_write(Path(out) / "compare.json") as file:
            file.write((comparison.to_json() + "\n").encode())
        comparison.plot(Path(out) / "compare.png")
    return comparison


def _compare_counts(
    sources: Sequence[Source | nn.Module | CountReport],
    baseline: int,
    preprocessing: Preprocessing | None,
    shape: tuple[int, int, int] | None = None,
) -> Comparison:
    """Compares counts; ``shape`` is that of the images (C, H, W) of modules outside of the zoo, if it is known."""

    def count_source(source: Source | nn.Module | CountReport) -> CountReport:
        if isinstance(source, CountReport):
            return source
        if isinstance(source, nn.Module) and not isinstance(unwrap(source), CNN):
            return count(source, (1, *(shape or image_shape(source, preprocessing))))
        return count(source)

    reports = [count_source(source) for source in sources]
    names = [report.name for report in reports]
    as_registered = len(names) > 1 and len(set(names)) == len(names) and all(map(_is_registered, sources))
    return Comparison(reports, baseline, claims(names) if as_registered else ())


def _is_registered(source: Source | nn.Module | CountReport) -> bool:
    """Returns whether a network equals the registered one of its name, to which published figures apply."""
    if isinstance(source, CNN):
        source = source.spec
    if isinstance(source, Spec):
        return is_model(source.name) and source == get_spec(source.name)
    return isinstance(source, str)


def _trainable_network(source: Source | nn.Module | CountReport, data: Data) -> nn.Module:
    """Returns a network of its own to train, so that the caller's is not changed."""
    if isinstance(source, nn.Module):
        return copy.deepcopy(source)
    if isinstance(source, CountReport):
        raise InputError("compare trains names, Specs and modules, and a CountReport has no weights")
    return create(resolve(source, num_classes=len(data.classes), in_channels=data.shape[0]), seed=0)


def _make_trainers(
    models: Sequence[nn.Module],
    data: Data,
    recipe: str | TrainConfig,
    settings: Mapping[str, Any],
    out: Path | None,
    overwrite: bool,
) -> list[train.Trainer]:
    """Builds all trainers before the first run, so that an error in any of them is raised at once."""
    trainers: list[train.Trainer] = []
    folders: set[str] = set()
    for model in models:
        name = name_of(model)
        config = recipe if isinstance(recipe, TrainConfig) else train.recipe(recipe, model=name)
        folder = next(n for n in (name, *(f"{name}-{i}" for i in range(2, len(models) + 2))) if n not in folders)
        folders.add(folder)
        run_dir = None if out is None else out / folder
        trainers.append(train.Trainer(model, data, config.replace(**settings), out=run_dir, overwrite=overwrite))
    return trainers
