"""Networks side by side: counts, and the results of training."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any

from torch import nn

from cnnzoo import train
from cnnzoo.api.counting import count, image_shape
from cnnzoo.api.naming import distinct_names
from cnnzoo.api.sources import Source, create, resolve
from cnnzoo.data import Data
from cnnzoo.errors import InputError
from cnnzoo.files import atomic_write
from cnnzoo.knobs import folder_name
from cnnzoo.measure import Comparison, CountReport
from cnnzoo.modules import unwrap
from cnnzoo.network import CNN
from cnnzoo.preprocessing import Preprocessing
from cnnzoo.registry import get_spec, is_model
from cnnzoo.spec import Spec
from cnnzoo.train import RecipeChoice, RecipeRecord, TrainConfig, choose_recipe
from cnnzoo.verify import claims


def compare(
    *sources: Source | nn.Module | CountReport,
    names: Sequence[str] | None = None,
    preprocessing: Preprocessing | None = None,
    baseline: int = -1,
    train: Data | None = None,
    recipe: str | TrainConfig = "quick",
    settings: Mapping[str, Any] | None = None,
    out: str | PathLike[str] | None = None,
    overwrite: bool = False,
    resume: str | None = None,
) -> Comparison:
    """Compares two or more networks: counts, ratios and published figures; with ``train``, also their training.

    Args:
        *sources: Names, also with knobs, ``"lenet(activation=relu)"``; Specs, any modules, or CountReports.
        names: Names for tables, pictures and folders, one per network; by default those of the networks, with the
            knobs that tell them apart.
        preprocessing: The size and channels of images, for modules whose metadata have no preprocessing.
        baseline: Index of the network that the ratios are relative to; by default the last.
        train: A data set on which a copy of each network is trained; networks given by name or Spec are built for its
            channels and classes, saved ones are adapted to them and continue from their weights, and other modules
            take images of its size.
        recipe: The training: a TrainConfig, or the name of a recipe, such as ``"quick"``: networks of one kind get the
            same settings (see ``cnnzoo.recipe``).
        settings: Fields of the TrainConfig to replace, by name.
        out: With ``train``: a folder for the runs (one subfolder each), ``compare.json`` and ``compare.png``.
        overwrite: Whether existing runs may be replaced.
        resume: ``"auto"`` completes the runs in ``out``: finished ones are not trained again.

    Raises:
        InputError: If there are fewer than two networks, one cannot be trained, or ``names`` are not one per network.
        FileError: If ``out`` holds runs, or cannot be written.
    """
    if train is None:
        for argument, value in (("out", out), ("settings", settings)):
            if value:
                raise InputError(f"{argument}= is for training; give a data set in train= too")
        return _compare_counts(sources, sources, names, baseline, preprocessing)
    models = [_trainable_network(source, train) for source in sources]
    counts = _compare_counts(models, sources, names, baseline, preprocessing, train.shape)
    labels = [report.name for report in counts.reports]
    folder = None if out is None else Path(out)
    options = {"overwrite": overwrite, "resume": resume}
    trainers = _make_trainers(models, labels, train, recipe, settings or {}, folder, options)
    results: list[Mapping[str, Any]] = []
    for trainer, choice in trainers:
        if results and results[-1].get("interrupted"):
            results.append({"interrupted": True})
            continue
        run = trainer.fit()
        result = {**run.metrics, "recipe": choice.name, "interrupted": run.interrupted}
        results.append({**result, "history": list(run.history)})
    comparison = Comparison(counts.reports, baseline, counts.notes, results, train.name)
    if out is not None and trainers[0][0].distributed.rank == 0:
        with atomic_write(Path(out) / "compare.json") as file:
            file.write((comparison.to_json() + "\n").encode())
        comparison.plot(Path(out) / "compare.png")
    return comparison


def _compare_counts(
    networks: Sequence[Source | nn.Module | CountReport],
    sources: Sequence[Source | nn.Module | CountReport],
    names: Sequence[str] | None,
    baseline: int,
    preprocessing: Preprocessing | None,
    shape: tuple[int, int, int] | None = None,
) -> Comparison:
    """Compares counts.

    Args:
        networks: The networks to count.
        sources: What the networks were given as, from which their names come.
        names: Names to use instead, or None.
        baseline: As for ``compare``.
        preprocessing: As for ``compare``.
        shape: Shape of the images (C, H, W) of modules outside of the zoo, if it is known.
    """

    def count_network(network: Source | nn.Module | CountReport) -> CountReport:
        if isinstance(network, CountReport):
            return network
        if isinstance(network, nn.Module) and not isinstance(unwrap(network), CNN):
            return count(network, (1, *(shape or image_shape(network, preprocessing))))
        return count(network)

    reports = [count_network(network) for network in networks]
    own = [report.name for report in reports]
    labels = distinct_names(sources, own, names)
    reports = [dataclasses.replace(report, name=label) for report, label in zip(reports, labels, strict=True)]
    as_registered = len(own) > 1 and len(set(own)) == len(own) and all(map(_is_registered, networks))
    return Comparison(reports, baseline, claims(own) if as_registered else ())


def _is_registered(network: Source | nn.Module | CountReport) -> bool:
    """Returns whether a network equals the registered one of its name, to which published figures apply."""
    if isinstance(network, (str, PathLike)):
        network = resolve(network)
    network = unwrap(network) if isinstance(network, nn.Module) else network
    spec = network.spec if isinstance(network, CNN) else network
    return isinstance(spec, Spec) and is_model(spec.name) and spec == get_spec(spec.name)


def _trainable_network(source: Source | nn.Module | CountReport, data: Data) -> nn.Module:
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
