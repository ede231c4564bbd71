"""Training of networks that are given by name, and pages about runs."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import nn

from cnnzoo import train, weights
from cnnzoo.api.sources import create
from cnnzoo.api.specs import Source, is_saved, split_knobs
from cnnzoo.data import Data
from cnnzoo.errors import InputError
from cnnzoo.network import CNN
from cnnzoo.train import SeedSweep, TrainConfig

if TYPE_CHECKING:
    from cnnzoo.diff import Difference


class Trainer(train.Trainer):
    """A ``cnnzoo.train.Trainer`` that rebuilds the networks of the zoo when it resumes their runs."""

    build_model = staticmethod(weights.build_from_description)


def recipe(name: str | PathLike[str], model: Source | nn.Module | None = None) -> TrainConfig:
    """Returns a TrainConfig by its name, or from a JSON file.

    Args:
        name: Name of a recipe, such as ``"d2l/alexnet"``; or path of a JSON file of a config, or of a run's train.json.
        model: The network to train: any module, a name, a Spec or a saved network. A recipe for its kind is preferred,
            ``name/saturating``, ``name/normalized``, ``name/deep`` or ``name/rectifying``: the kind follows from its
            modules, never from its name. If its weights are trained, the settings continue from them.

    Raises:
        UnknownNameError: If the name, or a field in the file, is not known.
        FileError: If a file cannot be read.
    """
    if model is None or isinstance(model, nn.Module):
        return train.recipe(name, model)
    if is_saved(model):
        return train.recipe(name, weights.load(model))
    return train.recipe(name, create(model, device="meta"))


def seed_sweep(
    source: Source,
    data: Data,
    config: TrainConfig | None = None,
    *,
    seeds: int | Sequence[int] = 5,
    pretrained: bool | str | None = None,
    out: str | PathLike[str] | None = None,
    overwrite: bool = False,
    resume: str | None = None,
    callbacks: Sequence[object] = (),
    show: bool = True,
    **knobs: Any,
) -> SeedSweep:
    """Trains a network once per seed, for the mean and 95 % confidence interval of its results.

    Args:
        source: As for ``create``; the network is built for the classes and channels of the data, and a saved one is
            adapted to them.
        data: The data set.
        config: The settings of the training; its seed is replaced by each seed, which decides the initial weights too.
        seeds: The seeds, or their number: 0, 1, 2, ...
        pretrained: As for ``create``.
        out: A folder for the runs: ``seed-0``, ``seed-1``, ... and ``sweep.json``.
        overwrite: Whether existing runs may be replaced.
        resume: ``"auto"`` completes an interrupted sweep in ``out``: finished runs are not trained again.
        callbacks: As for ``Trainer``, for each run.
        show: Whether progress is shown on standard error.
        **knobs: As for ``create``.

    Raises:
        InputError: If there are no seeds.
        FileError: If ``out`` holds runs, or cannot be written.
    """
    train.require_type("data", data)
    source, knobs = split_knobs(source, knobs)
    knobs = {"num_classes": len(data.classes), "in_channels": data.shape[0], **knobs}
    return train.seed_sweep(
        lambda seed: create(source, seed=seed, pretrained=pretrained, **knobs),
        data,
        config,
        seeds=seeds,
        out=out,
        overwrite=overwrite,
        resume=resume,
        callbacks=callbacks,
        show=show,
    )


def report(
    *runs: str | PathLike[str],
    out: str | PathLike[str] | None = None,
    data: Data | str | None = None,
    overwrite: bool = False,
) -> Path:
    """Writes one HTML page about training runs: results, curves, confusion, architecture, filters, counts, settings.

    The page is self-contained. Parts that an unfinished or damaged run lacks are left out.

    Args:
        *runs: Run folders, or folders of several runs that ``compare`` and ``seed_sweep`` write. Runs that differ
            only in their seed are grouped.
        out: The file; by default ``report.html`` in the run folder, or in the current folder if several are given.
        data: A data set, or its name: the page also shows the 25 test images of which each network is most certain in
            favor of another class, and which of their labels may be wrong. Names as for ``evaluate``.
        overwrite: Whether an existing file may be replaced.

    Returns:
        The file.

    Raises:
        InputError: If no run is given.
        DataError: If the data cannot be loaded.
        UnknownNameError: If the name of the data, or a class of it, is not known.
        FileError: If a folder holds no run, or the file exists or cannot be written.
    """
    from cnnzoo import html_report  # not before the first step of a training: its imports take time

    for run in runs:
        if not isinstance(run, (str, PathLike)):
            raise InputError(f"expected the folder of a run, such as run.path, got {type(run).__name__}")
    target = None if out is None else Path(out)
    find = None
    if data is not None:
        from cnnzoo.api.explaining import mistakes

        find = partial(mistakes, data=data)
    return html_report.report(
        list(map(Path, runs)),
        target,
        build=weights.build_from_description,
        diff=_diff,
        mistakes=find,
        overwrite=overwrite,
    )


def _diff(a: nn.Module, b: nn.Module) -> Difference | None:
    from cnnzoo.diff import compare_specs

    return compare_specs(a.spec, b.spec) if isinstance(a, CNN) and isinstance(b, CNN) else None
