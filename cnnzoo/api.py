"""The verbs of the library: each resolves a name, a Spec or a path, and calls the subpackage that does the work."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any, TypeGuard, overload

import torch
from torch import nn

from cnnzoo import html_report, measure, prediction, registry, train, weights
from cnnzoo.data import Data
from cnnzoo.device import resolve_device, reuse_memory
from cnnzoo.diff import Difference, compare_specs
from cnnzoo.edits import apply_knobs
from cnnzoo.errors import InputError
from cnnzoo.fields import check_positive_int
from cnnzoo.files import atomic_write, exists
from cnnzoo.measure import Bench, Comparison, CountReport
from cnnzoo.modules import require_weights, unwrap
from cnnzoo.network import CNN, build_network
from cnnzoo.prediction import Image, Prediction
from cnnzoo.registry import get_spec, is_model
from cnnzoo.spec import Spec
from cnnzoo.train import Evaluation, SeedSweep, TrainConfig
from cnnzoo.verify import claims

Source = str | PathLike[str] | Spec


def resolve(source: Source, **knobs: Any) -> Spec:
    """Returns the Spec of a name, a Spec or a saved network, with knobs applied.

    Raises:
        UnknownNameError: If the name, or a knob, is not known.
        InputError: If ``source`` is something else.
    """
    if isinstance(source, Spec):
        return apply_knobs(source, **knobs)
    if _is_saved(source):
        return apply_knobs(weights.read_spec(weights.locate(source)), **knobs)
    if not isinstance(source, str):
        raise InputError(f"expected the name of a network, a Spec or a path, got {type(source).__name__}")
    return get_spec(source, **knobs)


def _is_saved(source: object) -> TypeGuard[str | PathLike[str]]:
    """Returns whether ``source`` is a saved network; a registered name is not a path (``./alexnet`` is)."""
    return not (isinstance(source, str) and is_model(source)) and weights.is_source(source)


def list_models(pattern: str = "*", *, pretrained: bool | str = False) -> list[str]:
    """Returns the names of the registered models, sorted.

    Args:
        pattern: A wildcard such as ``"alex*"``.
        pretrained: Lists only models for which ``create(name, pretrained=...)`` has weights: True for weights that ship
            with cnnzoo, ``"torchvision"`` for those of torchvision.

    Raises:
        InputError: If ``pretrained`` is something else.
    """
    if pretrained not in (True, False, "torchvision"):
        raise InputError(f"pretrained must be True, False or 'torchvision', not {pretrained!r}")
    names = registry.list_models(pattern)
    return [name for name in names if weights.has_pretrained(name, pretrained)] if pretrained else names


def create(
    source: Source,
    /,
    *,
    seed: int | None = None,
    device: str | torch.device | None = None,
    dtype: torch.dtype | None = None,
    pretrained: bool | str | None = None,
    revision: str | None = None,
    token: str | bool | None = None,
    endpoint: str | None = None,
    cache_dir: str | PathLike[str] | None = None,
    **knobs: Any,
) -> CNN:
    """Builds a network, in train mode like any new module.

    A saved network, or one with ``pretrained=``, has its trained weights; if the knobs set other ``num_classes`` or
    ``in_channels``, they are adapted, and a warning describes how. Otherwise the weights are random.

    Args:
        source: A registered name, a Spec, or a saved network: a file, a folder, ``hf://user/repo@revision``.
        seed: Seed of the initial weights, the same on every device; the caller's random state is not changed. By
            default they are drawn from that state.
        device: The device of the weights.
        dtype: The dtype of the weights.
        pretrained: For a name: True loads the weights that ship with cnnzoo (``list_models(pretrained=True)``),
            ``"torchvision"`` downloads the ImageNet weights of torchvision, for networks that it has.
        revision: For the Hub: a branch, tag or commit.
        token: For the Hub: an access token; by default that of your login, or ``HF_TOKEN``.
        endpoint: For the Hub: its address; by default ``HF_ENDPOINT``.
        cache_dir: For the Hub: the folder for downloaded files; by default the Hub's cache.
        **knobs: Parameters of the model function, or the generic knobs of every network: ``num_classes``,
            ``in_channels``, ``image_size``, ``activation``, ``norm``, ``pooling``, ``dropout``, ``width``.

    Raises:
        UnknownNameError: If the name, or a knob, is not known.
        SpecError: If the network cannot be built, for example if the images are too small.
        FileError: If weights cannot be read or downloaded.
        HubError: If a repository on the Hub cannot be read.
        WeightsError: If the weights do not fit the network.
        InputError: If an argument is invalid or does not apply to ``source``, or the device does not exist.
    """
    hub: dict[str, Any] = {"revision": revision, "token": token, "endpoint": endpoint, "cache_dir": cache_dir}
    saved = _is_saved(source)
    if saved and pretrained:
        raise InputError(f"{str(source)!r} is a saved network with weights; leave out pretrained=")
    if not saved and (hub_arguments := [name for name, value in hub.items() if value is not None]):
        raise InputError(f"{', '.join(hub_arguments)}= is for the Hub; name a repository, such as 'hf://user/repo'")
    if dtype is not None and not isinstance(dtype, torch.dtype):
        raise InputError(f"dtype must be a torch.dtype, such as torch.float64, not {dtype!r}")
    if seed is not None and type(seed) is not int:
        raise InputError(f"seed must be an integer or None, not {seed!r}")
    target = None if device is None else resolve_device(str(device))
    if target is not None and target.type == "meta":
        if pretrained or saved:
            raise InputError("the meta device holds no weights; leave out pretrained= or device='meta'")
        with target:
            model = CNN(resolve(source, **knobs))
    else:
        if saved:
            assert not isinstance(source, Spec)
            trained = weights.load(source, **hub)
            model = weights.adapt(trained, apply_knobs(trained.spec, **knobs), seed)
        elif pretrained:
            others = {knob: value for knob, value in knobs.items() if knob not in ("num_classes", "in_channels")}
            trained = weights.load_pretrained(resolve(source, **others), pretrained, seed)
            model = weights.adapt(trained, resolve(source, **knobs), seed)
        else:
            # drawn on the CPU, so that the weights are the same on every device
            model = build_network(resolve(source, **knobs), seed)
        if target is not None:
            model = model.to(target)
    return model if dtype is None else model.to(dtype)


def _with_weights(model: CNN | str | PathLike[str]) -> CNN:
    """Returns ``model`` itself if it is a network; loads it if it is a path, or a name whose weights ship."""
    if isinstance(model, CNN):
        return model
    if isinstance(model, str) and is_model(model) and not exists(Path(model)):
        return create(model, pretrained=True)
    if not isinstance(model, (str, PathLike)):
        raise InputError(f"expected a cnnzoo network, a path or a name; got {type(model).__name__}")
    return weights.load(model)


def count(
    source: Source | nn.Module,
    input_size: Sequence[int] | None = None,
    *,
    inputs: Any = None,
    meta: bool = True,
    **knobs: Any,
) -> CountReport:
    """Counts parameters and multiply-adds exactly, per layer and in total, without computing anything.

    Args:
        source: A registered name, a Spec, a saved network, or any ``nn.Module``, which is left unchanged.
        input_size: Shape of the input, batch included: (N, C, H, W). By default, for a network of the zoo, one image of
            its own size.
        inputs: Instead of ``input_size``, the input itself: a tensor, a tuple of arguments, or a mapping from names to
            arguments; only shapes and dtypes are used.
        meta: False runs the module with values, on copies of its weights, for control flow that depends on values.
        **knobs: As for ``create``, for a name or a Spec.

    Raises:
        InputError: If there is no input, or the module cannot run on it.
    """
    if isinstance(source, nn.Module):
        if knobs:
            raise InputError(f"{', '.join(knobs)}: knobs are for a name or a Spec, not for a module that is built")
        model = unwrap(source)
    elif isinstance(source, (str, Spec, PathLike)):
        with torch.device("meta" if meta else "cpu"):
            model = CNN(resolve(source, **knobs))
    else:
        raise InputError(f"count expects a name, a Spec or an nn.Module, got {type(source).__name__}")
    name = None
    if isinstance(model, CNN):
        name = model.spec.name
        if input_size is None and inputs is None:
            input_size = (1, *model.spec.input)
    return measure.count(model, input_size, inputs=inputs, name=name, meta=meta)


def summary(source: Source | nn.Module, input_size: Sequence[int] | None = None, **knobs: Any) -> None:
    """Prints the count of a network, layer by layer (see ``count``)."""
    print(count(source, input_size, **knobs))


def draw(
    source: Source | nn.Module, path: str | PathLike[str], input_size: Sequence[int] | None = None, **knobs: Any
) -> None:
    """Draws the architecture as textbooks do: maps as cuboids with their sizes, dense layers as bars.

    Args:
        source: A registered name, a Spec, or any ``nn.Module`` (with ``input_size``).
        path: The file; its suffix is the format (``.svg``, ``.png``, ``.pdf``).
        input_size: As for ``count``.
        **knobs: As for ``create``, for a name or a Spec.

    Raises:
        InputError: If there is no input, or the module cannot run on it.
        FileError: If the picture cannot be written.
    """
    measure.draw(count(source, input_size, **knobs), path)


def diff(a: Source | CNN, b: Source | CNN, **knobs: Any) -> Difference:
    """Compares two networks block by block: what differs, and its effect on parameters and MACs.

    Args:
        a: A registered name, a Spec or a network of the zoo.
        b: Another.
        **knobs: As for ``create``, applied to both names or Specs.

    Raises:
        UnknownNameError: If a name, or a knob, is not known.
        SpecError: If one of them cannot be built.
    """
    specs = [side.spec if isinstance(side, CNN) else resolve(side, **knobs) for side in (a, b)]
    return compare_specs(*specs)


def write_page(report: CountReport | Comparison, path: str | PathLike[str]) -> None:
    """Writes a count or a comparison as one self-contained HTML page.

    Raises:
        FileError: If it cannot be written.
    """
    with atomic_write(Path(path)) as file:
        file.write(report.to_page().encode())


def bench(
    *sources: Source | CNN,
    batch_size: int = 1,
    train: bool = False,
    device: str = "cpu",
    precision: str = "fp32",
    seconds: float = 2.0,
) -> Bench:
    """Measures the speed of networks on this machine, beside their counts and the speed of a matrix product.

    Args:
        *sources: Names, Specs or networks of the zoo.
        batch_size: Batch size.
        train: Whether to time a forward and a backward pass; else a forward pass in eval mode.
        device: The device; ``"auto"`` is a GPU if there is one.
        precision: ``"fp32"`` or ``"bf16"``.
        seconds: Approximate duration of each measurement.

    Raises:
        InputError: If the device does not exist, or no network is given.
    """
    models = [source if isinstance(source, CNN) else create(source, seed=0) for source in sources]
    size = check_positive_int("batch_size", batch_size)
    return measure.bench(
        [(model.spec.name, copy.deepcopy(model), (size, *model.spec.input)) for model in models],
        train=train,
        device=resolve_device(device),
        precision=precision,
        seconds=seconds,
    )


def compare(
    *sources: Source | nn.Module | CountReport,
    baseline: int = -1,
    train: Data | None = None,
    recipe: str | TrainConfig = "quick",
    settings: Mapping[str, Any] | None = None,
    out: str | PathLike[str] | None = None,
    overwrite: bool = False,
) -> Comparison:
    """Compares two or more networks: counts, ratios and published figures; with ``train``, also their training.

    Args:
        *sources: Names, Specs, networks of the zoo, or CountReports.
        baseline: Index of the network that the ratios are relative to; by default the last.
        train: A data set on which each network is trained; networks given by name or Spec are built for its channels
            and classes.
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
        return _compare_counts(sources, baseline)
    models = [_trainable_network(source, train) for source in sources]
    counts = _compare_counts(models, baseline)
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


def _compare_counts(sources: Sequence[Source | nn.Module | CountReport], baseline: int) -> Comparison:
    reports = [source if isinstance(source, CountReport) else count(source) for source in sources]
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


def _trainable_network(source: Source | nn.Module | CountReport, data: Data) -> CNN:
    if isinstance(source, (str, Spec)):
        spec = resolve(source, num_classes=len(data.classes), in_channels=data.shape[0])
        return create(spec, seed=0)
    if isinstance(source, CNN):
        return source
    raise InputError(
        f"compare trains names, Specs and networks of the zoo, got {type(source).__name__}; for any other module use "
        "cnnzoo.Trainer"
    )


def _make_trainers(
    models: Sequence[CNN],
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
        name = model.spec.name
        config = recipe if isinstance(recipe, TrainConfig) else train.recipe(recipe, model=name)
        folder = next(n for n in (name, *(f"{name}-{i}" for i in range(2, len(models) + 2))) if n not in folders)
        folders.add(folder)
        run_dir = None if out is None else out / folder
        trainers.append(train.Trainer(model, data, config.replace(**settings), out=run_dir, overwrite=overwrite))
    return trainers


def seed_sweep(
    source: Source,
    data: Data,
    config: TrainConfig | None = None,
    *,
    seeds: int | Sequence[int] = 5,
    out: str | PathLike[str] | None = None,
    overwrite: bool = False,
    show: bool = True,
    **knobs: Any,
) -> SeedSweep:
    """Trains a network once per seed, for the mean and 95 % confidence interval of its results.

    Args:
        source: A registered name, or a Spec; the network is built for the classes and channels of the data.
        data: The data set.
        config: The settings of the training; its seed is replaced by each seed, which decides the initial weights too.
        seeds: The seeds, or their number: 0, 1, 2, ...
        out: A folder for the runs: ``seed-0``, ``seed-1``, ... and ``sweep.json``.
        overwrite: Whether existing runs may be replaced.
        show: Whether progress is shown on standard error.
        **knobs: As for ``create``.

    Raises:
        InputError: If there are no seeds.
        FileError: If ``out`` holds runs, or cannot be written.
    """
    train.require_type("data", data)
    spec = resolve(source, **{"num_classes": len(data.classes), "in_channels": data.shape[0], **knobs})
    return train.seed_sweep(
        lambda seed: create(spec, seed=seed), data, config, seeds=seeds, out=out, overwrite=overwrite, show=show
    )


def report(*runs: str | PathLike[str], out: str | PathLike[str] | None = None, overwrite: bool = False) -> Path:
    """Writes one HTML page about training runs: results, curves, confusion, filters, counts, settings, provenance.

    The page is self-contained. Parts that an unfinished or damaged run lacks are left out.

    Args:
        *runs: Run folders, or folders of several runs that ``compare`` and ``seed_sweep`` write. Runs that differ
            only in their seed are grouped.
        out: The file; by default ``report.html`` in the run folder, or in the current folder if several are given.
        overwrite: Whether an existing file may be replaced.

    Returns:
        The file.

    Raises:
        InputError: If no run is given.
        FileError: If a folder holds no run, or the file exists or cannot be written.
    """
    for run in runs:
        if not isinstance(run, (str, PathLike)):
            raise InputError(f"expected the folder of a run, such as run.path, got {type(run).__name__}")
    target = None if out is None else Path(out)
    return html_report.report(
        list(map(Path, runs)), target, build=weights.build_from_description, diff=_diff, overwrite=overwrite
    )


def _diff(a: nn.Module, b: nn.Module) -> Difference | None:
    return compare_specs(a.spec, b.spec) if isinstance(a, CNN) and isinstance(b, CNN) else None


class Trainer(train.Trainer):
    """A ``cnnzoo.train.Trainer`` that rebuilds the networks of the zoo when it resumes their runs."""

    build_model = staticmethod(weights.build_from_description)


def evaluate(
    model: CNN | str | PathLike[str],
    data: Data,
    *,
    views: str = "single",
    crop_mode: str | None = None,
    batch_size: int = 256,
) -> Evaluation:
    """Evaluates a network on the test images of a data set.

    Args:
        model: A network of the zoo, the path of a saved one, ``hf://user/repo``, or a name whose weights ship.
        data: The data set.
        views: The views of each image, whose probabilities are averaged: ``"single"``, ``"flip"`` (the image and its
            mirror image), ``"center"`` (the central crop), ``"five_crop"`` or ``"ten_crop"`` (corners and center; and
            their mirror images).
        crop_mode: How images of another size are brought to the network's: ``"squash"``, ``"center"`` or ``"border"``;
            by default as in training.
        batch_size: Batch size, in views.

    Raises:
        UnknownNameError: If ``views`` or ``crop_mode`` is not known.
        InputError: If the network has another number of classes or channels than the data.
    """
    network = _with_weights(model)
    train.require_type("data", data)
    require_weights(network, network.spec.name)
    channels, height, width = network.spec.input
    train.require_matching(network.spec.name, channels, network.spec.num_classes, data)
    with reuse_memory():
        return train.evaluate(
            network,
            data.test,
            num_classes=len(data.classes),
            size=(height, width),
            mean=network.notes.get("mean") or data.mean,
            std=network.notes.get("std") or data.std,
            views=views,
            crop_mode=crop_mode or network.notes.get("crop_mode", "squash"),
            batch_size=check_positive_int("batch_size", batch_size),
        )


@overload
def predict(model: CNN | str | PathLike[str], images: list[Image]) -> list[Prediction]: ...


@overload
def predict(model: CNN | str | PathLike[str], images: Image) -> Prediction: ...


def predict(model: CNN | str | PathLike[str], images: Image | list[Image]) -> Prediction | list[Prediction]:
    """Classifies images, with the saved preprocessing and label names; ``print`` shows the top five classes.

    Args:
        model: A network of the zoo, the path of a saved one, ``hf://user/repo``, or a name whose weights ship.
        images: A path, a PIL image or a uint8 tensor (C, H, W); or a list of them.

    Returns:
        A Prediction; for a list, a list of them.

    Raises:
        DataError: If a file cannot be read as an image.
        InputError: If the network has no preprocessing, or an image has another number of channels.
    """
    predictions = prediction.predict(_with_weights(model), images if isinstance(images, list) else [images])
    return predictions if isinstance(images, list) else predictions[0]


def export(model: CNN | str | PathLike[str], path: str | PathLike[str], *, overwrite: bool = False) -> Path:
    """Exports a network in eval mode, for any batch size, and checks the scores of the exported file.

    Args:
        model: A network of the zoo, the path of a saved one, ``hf://user/repo``, or a name whose weights ship.
        path: A file name: ``.onnx`` for ONNX (needs ``pip install "cnnzoo[onnx]"``), ``.pt2`` for ``torch.export``.
        overwrite: Whether an existing file may be replaced.

    Returns:
        The file.

    Raises:
        InputError: If the suffix is another, or a required package is not installed.
        FileError: If the file exists, or cannot be written.
        WeightsError: If the exported file gives other scores.
    """
    return weights.export(_with_weights(model), path, overwrite=overwrite)
