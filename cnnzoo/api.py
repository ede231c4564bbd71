"""The verbs that take a name, a Spec or a module: each resolves it once and calls the room that does the work."""

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
from cnnzoo.device import resolve_device, reused_memory
from cnnzoo.diff import Difference, compare_specs
from cnnzoo.edits import apply_knobs
from cnnzoo.errors import InputError
from cnnzoo.fields import check_positive_int
from cnnzoo.measure import Bench, Comparison, CountReport
from cnnzoo.network import CNN, build_network
from cnnzoo.prediction import Image, Prediction
from cnnzoo.registry import get_spec, is_model
from cnnzoo.serialization import atomic_write, exists
from cnnzoo.spec import Spec
from cnnzoo.train import Evaluation, SeedSweep, TrainConfig
from cnnzoo.verify import claims

Source = str | PathLike[str] | Spec


def resolve(source: Source, **knobs: Any) -> Spec:
    """The Spec of a name, a Spec or a saved network, with knobs applied.

    Raises:
        UnknownNameError: If the name, or a knob, is not known.
        InputError: If it is none of them.
    """
    if isinstance(source, Spec):
        return apply_knobs(source, **knobs)
    if _is_saved(source):
        return apply_knobs(weights.read_spec(weights.locate(source)), **knobs)
    if not isinstance(source, str):
        raise InputError(f"a network is given by its name or its Spec, not by {type(source).__name__}")
    return get_spec(source, **knobs)


def _is_saved(source: object) -> TypeGuard[str | PathLike[str]]:
    """Whether this names a saved network: what is registered is meant by its name, ``./alexnet`` is a folder."""
    return not (isinstance(source, str) and is_model(source)) and weights.is_source(source)


def list_models(pattern: str = "*", *, pretrained: bool | str = False) -> list[str]:
    """The names of the registered models, sorted.

    Args:
        pattern: A wildcard such as ``"alex*"``.
        pretrained: Only those for which ``create(name, pretrained=...)`` has weights: True for what ships with cnnzoo,
            ``"torchvision"`` for what torchvision has.
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
    """Builds a network, in train mode, as torch does.

    A saved network, or one with ``pretrained=``, has its weights; where the knobs ask for other ``num_classes`` or
    ``in_channels`` they are adapted, and a warning says how. Other weights are random.

    Args:
        source: A registered name, a Spec, or a saved network: a file, a folder, ``hf://user/repo@revision``.
        seed: Decides the initial weights, the same on every device, and leaves the random state of the caller
            alone; by default they are drawn from it.
        device: Where the weights live.
        dtype: Their type.
        pretrained: For a name: True takes the weights that ship with cnnzoo (``list_models(pretrained=True)``),
            ``"torchvision"`` fetches what torchvision trained on ImageNet, for networks that it has.
        revision: For the Hub: a branch, tag or commit.
        token: For the Hub: an access token; by default the one that you logged in with, or ``HF_TOKEN``.
        endpoint: For the Hub: its address, where it is another than ``HF_ENDPOINT`` says.
        cache_dir: For the Hub: where to keep files, if not in its cache.
        **knobs: Parameters of the model function, or the generic knobs of every network: ``num_classes``,
            ``in_channels``, ``image_size``, ``activation``, ``norm``, ``pooling``, ``dropout``, ``width``.

    Raises:
        UnknownNameError: If the name, or a knob, is not known.
        SpecError: If the network cannot be built so, such as for images that are too small.
        FileError: If weights cannot be read, or fetched.
        HubError: If a repository on the Hub cannot be had.
        WeightsError: If they do not fit, such as for other rows than they were trained for.
    """
    hub: dict[str, Any] = {"revision": revision, "token": token, "endpoint": endpoint, "cache_dir": cache_dir}
    saved = _is_saved(source)
    if saved and pretrained:
        raise InputError(f"{str(source)!r} has its weights already; leave out pretrained=")
    if not saved and (said := [name for name, value in hub.items() if value is not None]):
        raise InputError(f"{', '.join(said)}= is for the Hub; name a repository there, such as 'hf://user/repo'")
    if dtype is not None and not isinstance(dtype, torch.dtype):
        raise InputError(f"dtype must be one of torch, such as torch.float64, not {dtype!r}")
    if seed is not None and type(seed) is not int:
        raise InputError(f"seed must be a whole number or None, not {seed!r}")
    place = None if device is None else resolve_device(str(device))
    if place is not None and place.type == "meta":
        if pretrained or saved:
            raise InputError("the meta device holds no weights; leave out pretrained= or device='meta'")
        with place:
            model = CNN(resolve(source, **knobs))
    else:
        if saved:
            assert not isinstance(source, Spec)
            trained = weights.load(source, **hub)
            model = weights.adapt(trained, apply_knobs(trained.spec, **knobs), seed)
        elif pretrained:
            kept = {knob: value for knob, value in knobs.items() if knob not in ("num_classes", "in_channels")}
            trained = weights.pretrained_model(resolve(source, **kept), pretrained, seed)
            model = weights.adapt(trained, resolve(source, **knobs), seed)
        else:
            model = build_network(resolve(source, **knobs), seed)  # drawn on the CPU: the same on every device
        if place is not None:
            model = model.to(place)
    return model if dtype is None else model.to(dtype)


def _with_weights(model: CNN | str | PathLike[str]) -> CNN:
    """A network that is built already, or saved somewhere, or whose weights ship under its name."""
    if isinstance(model, CNN):
        return model
    if isinstance(model, str) and is_model(model) and not exists(Path(model)):
        return create(model, pretrained=True)
    if not isinstance(model, (str, PathLike)):
        raise InputError(f"a trained network is given as such, or by its path, not by {type(model).__name__}")
    return weights.load(model)


def count(
    source: Source | nn.Module,
    input_size: Sequence[int] | None = None,
    *,
    inputs: Any = None,
    meta: bool = True,
    **knobs: Any,
) -> CountReport:
    """Counts parameters and multiply-adds: exactly, per layer and in total, computing nothing.

    Args:
        source: A registered name, a Spec, a saved network, or any ``nn.Module``, on which no trace is left.
        input_size: Shape of the input, batch included: (N, C, H, W). A network of the zoo takes one image of
            its own size by default.
        inputs: The input itself instead: a tensor, a tuple of arguments, or a mapping of them by name; only shapes
            and types are used.
        meta: False runs the module for real, on copies of its weights: for control flow that depends on values.
        **knobs: As for ``create``, for a name or a Spec.

    Raises:
        InputError: If there is no input, or the module cannot run on it.
    """
    if isinstance(source, nn.Module):
        if knobs:
            raise InputError(f"{', '.join(knobs)}: knobs are for a name or a Spec; this module is built already")
        model = getattr(source, "_orig_mod", source)  # a compiled network, without its compiler
    elif isinstance(source, (str, Spec, PathLike)):
        with torch.device("meta" if meta else "cpu"):
            model = CNN(resolve(source, **knobs))
    else:
        raise InputError(f"count takes a name, a Spec or an nn.Module, not {type(source).__name__}")
    name = None
    if isinstance(model, CNN):
        name = model.spec.name
        if input_size is None and inputs is None:
            input_size = (1, *model.spec.input)
    return measure.count(model, input_size, inputs=inputs, name=name, meta=meta)


def summary(source: Source | nn.Module, input_size: Sequence[int] | None = None, **knobs: Any) -> None:
    """Prints the count of a network, layer by layer; see ``count``."""
    print(count(source, input_size, **knobs))


def draw(
    source: Source | nn.Module, path: str | PathLike[str], input_size: Sequence[int] | None = None, **knobs: Any
) -> None:
    """Draws the architecture as the textbooks do: maps as blocks with their sizes, dense layers as bars.

    Args:
        source: A registered name, a Spec, or any ``nn.Module`` (with ``input_size``).
        path: Where to; the suffix says the format (``.svg``, ``.png``, ``.pdf``).
        input_size: As for ``count``.
        **knobs: As for ``create``, for a name or a Spec.

    Raises:
        FileError: If the picture cannot be written.
    """
    measure.draw(count(source, input_size, **knobs), path)


def diff(a: Source | CNN, b: Source | CNN, **knobs: Any) -> Difference:
    """Sets two networks side by side, row by row: what differs, and what it does to parameters and MACs.

    Args:
        a: A registered name, a Spec or a network of the zoo.
        b: Another.
        **knobs: As for ``create``, applied to both, where they are given by name or Spec.

    Raises:
        UnknownNameError: If a name, or a knob, is not known.
        SpecError: If one of them cannot be built.
    """
    specs = [side.spec if isinstance(side, CNN) else resolve(side, **knobs) for side in (a, b)]
    return compare_specs(*specs)


def write_page(found: CountReport | Comparison, path: str | PathLike[str]) -> None:
    """Writes a count or a comparison as one HTML page, with its pictures inside.

    Raises:
        FileError: If it cannot be written.
    """
    with atomic_write(Path(path)) as file:
        file.write(found.to_page().encode())


def bench(
    *sources: Source | CNN,
    batch_size: int = 1,
    train: bool = False,
    device: str = "cpu",
    precision: str = "fp32",
    seconds: float = 2.0,
) -> Bench:
    """Measures how fast networks run here, beside their counts and the machine's measured matrix product.

    Args:
        *sources: Names, Specs or networks of the zoo.
        batch_size: Images at a time.
        train: Whether a forward and a backward are timed; else a forward in eval mode.
        device: Where they run; ``"auto"`` is a GPU where there is one.
        precision: ``"fp32"`` or ``"bf16"``.
        seconds: How long each is timed, about.

    Raises:
        InputError: If there is no such device, or nothing to time.
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
    """Sets two or more networks side by side: counts, ratios, what their common source claims; trained if asked.

    Args:
        *sources: Names, Specs, modules of the zoo, or Reports.
        baseline: Index of the one that the ratios are against; by default the last.
        train: A data set on which each network is trained from its initial weights; those given by name or
            Spec are built for its channels and classes.
        recipe: How they are trained: a TrainConfig, or a name; ``name/model`` is taken where there is one.
        settings: Fields of the TrainConfig to change.
        out: With ``train``: a folder for the runs (one subfolder each), ``compare.json`` and ``compare.png``.
        overwrite: Whether runs that are there already may be replaced.

    Raises:
        InputError: If there are fewer than two, or one cannot be trained.
        FileError: If ``out`` holds runs already, or cannot be written.
    """
    if train is None:
        for name, value in (("out", out), ("settings", settings)):
            if value:
                raise InputError(f"{name}= is for training; give train=, a data set")
        return _compared(sources, baseline)
    models = [_trainable(source, train) for source in sources]
    counted = _compared(models, baseline)
    trainers = _trainers(models, train, recipe, settings or {}, None if out is None else Path(out), overwrite)
    results: list[Mapping[str, Any]] = []
    for trainer in trainers:
        if results and results[-1].get("interrupted"):
            results.append({"interrupted": True})
            continue
        run = trainer.fit()
        results.append({**run.metrics, "history": list(run.history), "interrupted": run.interrupted})
    comparison = Comparison(counted.reports, baseline, counted.notes, results, train.name)
    if out is not None and trainers[0].distributed.rank == 0:
        with atomic_write(Path(out) / "compare.json") as file:
            file.write((comparison.to_json() + "\n").encode())
        comparison.plot(Path(out) / "compare.png")
    return comparison


def _compared(sources: Sequence[Source | nn.Module | CountReport], baseline: int) -> Comparison:
    reports = [source if isinstance(source, CountReport) else count(source) for source in sources]
    names = [report.name for report in reports]
    as_registered = len(names) > 1 and len(set(names)) == len(names) and all(map(_is_registered, sources))
    return Comparison(reports, baseline, claims(names) if as_registered else ())


def _is_registered(source: Source | nn.Module | CountReport) -> bool:
    """Whether this is a network just as it is registered, so that what is published of it holds for it."""
    if isinstance(source, CNN):
        source = source.spec
    if isinstance(source, Spec):
        return is_model(source.name) and source == get_spec(source.name)
    return isinstance(source, str)


def _trainable(source: Source | nn.Module | CountReport, data: Data) -> CNN:
    if isinstance(source, (str, Spec)):
        spec = resolve(source, num_classes=len(data.classes), in_channels=data.shape[0])
        return create(spec, seed=0)
    if isinstance(source, CNN):
        return source
    raise InputError(
        f"compare trains names, Specs and networks of the zoo, not a {type(source).__name__}; for any other module use "
        "cnnzoo.Trainer"
    )


def _trainers(
    models: Sequence[CNN],
    data: Data,
    recipe: str | TrainConfig,
    settings: Mapping[str, Any],
    out: Path | None,
    overwrite: bool,
) -> list[train.Trainer]:
    """All of them before the first runs, so that what is wrong with the last is known at once."""
    made: list[train.Trainer] = []
    taken: set[str] = set()
    for model in models:
        name = model.spec.name
        config = recipe if isinstance(recipe, TrainConfig) else train.recipe(recipe, model=name)
        own = next(n for n in (name, *(f"{name}-{i}" for i in range(2, len(models) + 2))) if n not in taken)
        taken.add(own)
        folder = None if out is None else out / own
        made.append(train.Trainer(model, data, config.replace(**settings), out=folder, overwrite=overwrite))
    return made


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
    """Trains a network anew with each seed: mean and 95 % interval of what comes of it.

    Args:
        source: A registered name, or a Spec; it is built for the classes and channels of the data.
        data: The data set.
        config: Every knob of the training; its seed is replaced, and decides the initial weights too.
        seeds: The seeds, or how many: 0, 1, 2, ...
        out: A folder for the runs: ``seed-0``, ``seed-1``, ... and ``sweep.json``.
        overwrite: Whether runs that are there already may be replaced.
        show: Whether progress is shown on standard error.
        **knobs: As for ``create``.

    Raises:
        InputError: If there are no seeds.
        FileError: If ``out`` holds runs already, or cannot be written.
    """
    train.require_type("data", data)
    spec = resolve(source, **{"num_classes": len(data.classes), "in_channels": data.shape[0], **knobs})
    return train.seed_sweep(
        lambda seed: create(spec, seed=seed), data, config, seeds=seeds, out=out, overwrite=overwrite, show=show
    )


def report(*runs: str | PathLike[str], out: str | PathLike[str] | None = None, overwrite: bool = False) -> Path:
    """Writes one HTML page of training runs: results, curves, confusions, filters, counts, settings, origin.

    The page needs nothing else to be read. What a run does not tell, because it is not finished or lost a file, is
    left out.

    Args:
        *runs: Run folders, or the folders of several that ``compare`` and ``seed_sweep`` leave. Runs that differ in their
            seed alone are shown together.
        out: The file; by default ``report.html`` in the folder, where one is given, else in the current one.
        overwrite: Whether a file that is there may be replaced.

    Returns:
        The file.

    Raises:
        InputError: If no run is given.
        FileError: If a folder holds no run, or the file is there already or cannot be written.
    """
    for run in runs:
        if not isinstance(run, (str, PathLike)):
            raise InputError(f"a run is given by its folder, such as run.path, not by {type(run).__name__}")
    target = None if out is None else Path(out)
    return html_report.report(list(map(Path, runs)), target, build=weights.build, diff=_diff, overwrite=overwrite)


def _diff(a: nn.Module, b: nn.Module) -> Difference | None:
    return compare_specs(a.spec, b.spec) if isinstance(a, CNN) and isinstance(b, CNN) else None


class Trainer(train.Trainer):
    """The trainer, which builds a network of the zoo again when a run is resumed. See ``cnnzoo.train.Trainer``."""

    @classmethod
    def resume(cls, out: str | PathLike[str], **arguments: Any) -> Trainer:
        """Goes on where a run was stopped; ``model=`` and ``data=`` where its folder cannot say them."""
        resumed = super().resume(out, **{"build": weights.build, **arguments})
        assert isinstance(resumed, Trainer)
        return resumed


def evaluate(
    model: CNN | str | PathLike[str],
    data: Data,
    *,
    views: str = "whole",
    crop_mode: str | None = None,
    batch_size: int = 256,
) -> Evaluation:
    """Shows every test image of a data set to a network once.

    Args:
        model: A network of the zoo, the path of a saved one, ``hf://user/repo``, or a name whose weights ship.
        data: The data set.
        crops: What is shown of each image: ``"whole"``, ``"flip"`` (and its mirror image), ``"center"``, ``"five"``
            or ``"ten"`` windows of it (the corners and the middle; the mirror images of these), whose
            probabilities are averaged.
        fit: How whole images of another size are made to fit: ``"squash"``, ``"center"`` or ``"border"``; by default as
            in training.
        batch_size: Views of images at a time.

    Raises:
        UnknownNameError: If ``crops`` or ``fit`` is not known.
        InputError: If the network tells other classes apart, or takes other channels.
    """
    net = _with_weights(model)
    train.require_type("data", data)
    if any(parameter.is_meta for parameter in net.parameters()):
        raise InputError(f"{net.spec.name} is on the meta device and has no weights; create it on another")
    channels, height, width = net.spec.input
    if channels != data.shape[0]:
        raise InputError(f"{net.spec.name} takes images of {channels} channels, and {data.name} has {data.shape[0]}")
    if net.spec.num_classes != len(data.classes):
        raise InputError(
            f"{net.spec.name} tells {net.spec.num_classes} classes apart, and {data.name} has {len(data.classes)}"
        )
    with reused_memory():
        return train.evaluate(
            net,
            data.test,
            classes=len(data.classes),
            size=(height, width),
            mean=net.notes.get("mean") or data.mean,
            std=net.notes.get("std") or data.std,
            views=views,
            crop_mode=crop_mode or net.notes.get("crop_mode", "resize"),
            batch_size=check_positive_int("batch_size", batch_size),
        )


@overload
def predict(model: CNN | str | PathLike[str], images: list[Image]) -> list[Prediction]: ...


@overload
def predict(model: CNN | str | PathLike[str], images: Image) -> Prediction: ...


def predict(model: CNN | str | PathLike[str], images: Image | list[Image]) -> Prediction | list[Prediction]:
    """Says what is on an image, with the saved preprocessing and class names; ``print`` shows the top five.

    Args:
        model: A network of the zoo, the path of a saved one, ``hf://user/repo``, or a name whose weights ship.
        images: A path, a PIL image or uint8 (C, H, W); or a list of them.

    Returns:
        A Prediction; for a list, a list of them.

    Raises:
        DataError: If a file cannot be read as an image.
        InputError: If the network does not know how its images must look, or one is of other channels.
    """
    found = prediction.predict(_with_weights(model), images if isinstance(images, list) else [images])
    return found if isinstance(images, list) else found[0]


def export(model: CNN | str | PathLike[str], path: str | PathLike[str], *, overwrite: bool = False) -> Path:
    """Writes a network for other programs to run, for any number of images, in eval mode, and checks what it wrote.

    Args:
        model: A network of the zoo, the path of a saved one, ``hf://user/repo``, or a name whose weights ship.
        path: A file name: ``.onnx`` for ONNX (needs ``pip install "cnnzoo[onnx]"``), ``.pt2`` for ``torch.export``.
        overwrite: Whether a file that is there may be replaced.

    Returns:
        Where it was written.

    Raises:
        InputError: If the suffix is another, or what it takes is not installed.
        FileError: If something is there already, or it cannot be written.
        WeightsError: If what was written gives other scores.
    """
    return weights.export(_with_weights(model), path, overwrite=overwrite)
