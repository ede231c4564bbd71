"""The verbs of the library: each resolves a name, a Spec or a path, and calls the subpackage that does the work."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any, TypeGuard, overload

import torch
from torch import nn

from cnnzoo import html_report, measure, prediction, registry, train, weights
from cnnzoo.data import Data, load_data
from cnnzoo.device import resolve_device, reuse_memory
from cnnzoo.diff import Difference, compare_specs
from cnnzoo.edits import apply_knobs
from cnnzoo.errors import DataError, InputError
from cnnzoo.fields import check_positive_int
from cnnzoo.files import atomic_write, exists
from cnnzoo.measure import Bench, Comparison, CountReport
from cnnzoo.metadata import get_metadata, match_labels, require_preprocessing
from cnnzoo.modules import require_weights, unwrap
from cnnzoo.network import CNN, build_network
from cnnzoo.prediction import Prediction
from cnnzoo.preprocessing import Image, Preprocessing
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
    new_channels: str = "zero",
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
        new_channels: For trained weights and more channels than before: filters of the added channels, ``"zero"`` or
            ``"mean"`` of the others (see ``cnnzoo.weights.adapt``).
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
            model = weights.adapt(trained, apply_knobs(trained.spec, **knobs), seed, new_channels=new_channels)
        elif pretrained:
            others = {knob: value for knob, value in knobs.items() if knob not in ("num_classes", "in_channels")}
            trained = weights.load_pretrained(resolve(source, **others), pretrained, seed)
            model = weights.adapt(trained, resolve(source, **knobs), seed, new_channels=new_channels)
        else:
            # drawn on the CPU, so that the weights are the same on every device
            model = build_network(resolve(source, **knobs), seed)
        if target is not None:
            model = model.to(target)
    if dtype is not None:
        metadata = model.metadata
        model = model.to(dtype)
        model.metadata = metadata  # of the converted weights
    return model


def load_network(model: nn.Module | str | PathLike[str]) -> nn.Module:
    """Returns a module itself; loads a path, or a name whose weights ship with cnnzoo.

    Raises:
        InputError: If ``model`` is something else, or no weights of that name ship.
        FileError: If the file cannot be read.
    """
    if isinstance(model, nn.Module):
        return model
    if isinstance(model, str) and is_model(model) and not exists(Path(model)):
        return create(model, pretrained=True)
    if not isinstance(model, (str, PathLike)):
        raise InputError(f"expected an nn.Module, a path or a name; got {type(model).__name__}")
    return weights.load(model)


def _name_of(model: nn.Module) -> str:
    inner = unwrap(model)
    return inner.spec.name if isinstance(inner, CNN) else type(inner).__name__


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
    *sources: Source | nn.Module,
    preprocessing: Preprocessing | None = None,
    batch_size: int = 1,
    train: bool = False,
    device: str = "cpu",
    precision: str = "fp32",
    seconds: float = 2.0,
) -> Bench:
    """Measures the speed of networks on this machine, beside their counts and the speed of a matrix product.

    Args:
        *sources: Names, Specs, or any modules.
        preprocessing: The size and channels of images, for modules whose metadata have no preprocessing.
        batch_size: Batch size.
        train: Whether to time a forward and a backward pass; else a forward pass in eval mode.
        device: The device; ``"auto"`` is a GPU if there is one.
        precision: ``"fp32"`` or ``"bf16"``.
        seconds: Approximate duration of each measurement.

    Raises:
        InputError: If the device does not exist, no network is given, or the images of a module are not known.
    """
    models = [source if isinstance(source, nn.Module) else create(source, seed=0) for source in sources]
    size = check_positive_int("batch_size", batch_size)
    return measure.bench(
        [
            (_name_of(model), copy.deepcopy(unwrap(model)), (size, *_image_shape(model, preprocessing)))
            for model in models
        ],
        train=train,
        device=resolve_device(device),
        precision=precision,
        seconds=seconds,
    )


def _image_shape(model: nn.Module, preprocessing: Preprocessing | None) -> tuple[int, int, int]:
    """Returns the shape (C, H, W) of the images of a module, from its Spec or its preprocessing.

    Raises:
        InputError: If it is not known.
    """
    inner = unwrap(model)
    if isinstance(inner, CNN):
        return inner.spec.input
    images = require_preprocessing(inner, _name_of(model), preprocessing)
    return (images.channels, *images.size)


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
            return count(source, (1, *(shape or _image_shape(source, preprocessing))))
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
        name = _name_of(model)
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
    model: nn.Module | str | PathLike[str],
    data: Data | str,
    *,
    preprocessing: Preprocessing | None = None,
    views: str = "single",
    crop_mode: str | None = None,
    precision: str = "fp32",
    batch_size: int = 256,
    workers: int = 2,
) -> Evaluation:
    """Evaluates a network on the test images of a data set, prepared as ``predict`` prepares them.

    Classes are matched by name: those of the data may have another order than those of the network, or be some of them.
    Without label names of the network, both must have equally many.

    Args:
        model: Any module that returns class scores, the path of a saved network, ``hf://user/repo``, or a name whose
            weights ship.
        data: The data set; or its name, as for ``load_data``: of a folder or table without test images, every image is
            used, except if the network was trained on it.
        preprocessing: How an image becomes the network's input; by default that of the network's metadata.
        views: The views of each image, whose probabilities are averaged: ``"single"``, ``"flip"`` (the image and its
            mirror image), ``"center"`` (the central crop), ``"five_crop"`` or ``"ten_crop"`` (corners and center; and
            their mirror images).
        crop_mode: How images of another size are brought to the network's: ``"squash"``, ``"center"`` or ``"border"``;
            by default as in the preprocessing.
        precision: ``"fp32"``, ``"bf16"``, ``"fp16"`` (autocast), or ``"auto"``: bf16 if the hardware supports it.
        batch_size: Batch size, in views.
        workers: Worker processes that read images on demand.

    Raises:
        UnknownNameError: If ``views``, ``crop_mode`` or a class of the data is not known.
        InputError: If the network has no preprocessing, or another number of classes than the data.
        DataError: If the data cannot be loaded.
    """
    network = load_network(model)
    name = _name_of(network)
    metadata = get_metadata(unwrap(network))
    if isinstance(data, str):
        data = load_test_data(data, network)
    train.require_type("data", data)
    require_weights(network, name)
    if data.dtype == torch.uint8:
        preprocessing = require_preprocessing(unwrap(network), name, preprocessing)
        _warn_about_channels(name, preprocessing.channels, data)
        if crop_mode is not None:
            preprocessing = preprocessing.with_crop_mode(crop_mode)
    classes = tuple(map(str, data.classes))
    if metadata.label_names is None and isinstance(inner := unwrap(network), CNN):
        train.require_matching(name, None, inner.spec.num_classes, data)
    label_names = metadata.label_names or classes
    label_map = match_labels(name, label_names, classes, data.name)
    with reuse_memory():
        return train.evaluate(
            network,
            data.test,
            classes=classes,
            preprocessing=preprocessing,
            label_map=label_map,
            label_names=label_names,
            views=views,
            batch_size=check_positive_int("batch_size", batch_size),
            precision=precision,
            workers=workers,
        )


def load_test_data(name: str, network: nn.Module, **options: Any) -> Data:
    """Loads a data set for the evaluation of a network.

    Of a folder or table without test images, every image is a test image. If the network was trained on the data, they
    are divided as for its training, so that it is tested on none of its training images.

    Args:
        name: Name of the data set, as for ``load_data``.
        network: The network.
        **options: As for ``load_data``.

    Raises:
        DataError: If the data cannot be loaded.
    """
    whole = load_data(name, **{**options, "split": False})
    metadata = get_metadata(unwrap(network))
    checksums = {origin.get("data_sha256") for origin in metadata.origins()}
    if whole.train is not whole.test or metadata.preprocessing is None or checksums <= {None}:
        return whole
    if (image_size := metadata.preprocessing.decoding.image_size) is not None:
        options["image_size"] = image_size  # the checksum is that of decoded images
    try:
        divided = load_data(name, **options)
    except DataError:  # too few images to divide
        return whole
    return divided if divided.sha256 in checksums else whole


def _warn_about_channels(name: str, channels: int, data: Data) -> None:
    """Warns that images are converted to gray or RGB; raises InputError if they cannot be."""
    if (n := data.shape[0]) == channels:
        return
    if {n, channels} != {1, 3}:
        raise InputError(f"{name} expects images with {channels} channels, but {data.name} has {n}")
    before, after = ("RGB", "gray") if channels == 1 else ("gray", "RGB")
    warnings.warn(f"{name} expects {after} images; the {before} images of {data.name} are converted", stacklevel=3)


@overload
def predict(
    model: nn.Module | str | PathLike[str], images: list[Image], *, preprocessing: Preprocessing | None = None
) -> list[Prediction]: ...


@overload
def predict(
    model: nn.Module | str | PathLike[str], images: Image, *, preprocessing: Preprocessing | None = None
) -> Prediction: ...


def predict(
    model: nn.Module | str | PathLike[str], images: Image | list[Image], *, preprocessing: Preprocessing | None = None
) -> Prediction | list[Prediction]:
    """Classifies images, with the saved preprocessing and label names; ``print`` shows the top five classes.

    Args:
        model: Any module that returns class scores, the path of a saved network, ``hf://user/repo``, or a name whose
            weights ship.
        images: A path, a PIL image or a uint8 tensor (C, H, W); or a list of them. A folder stands for the image files
            in it.
        preprocessing: How an image becomes the network's input; by default that of the network's metadata.

    Returns:
        A Prediction; for a list or a folder, a list of them.

    Raises:
        DataError: If a file cannot be read as an image, or a folder holds none.
        InputError: If the network has no preprocessing, or an image has another number of channels.
    """
    network = load_network(model)
    files = prediction.expand_folders(images if isinstance(images, list) else [images])
    predictions = list(prediction.predict(network, files, name=_name_of(network), preprocessing=preprocessing))
    return predictions if isinstance(images, list) or prediction.is_folder(images) else predictions[0]


def transforms(model: nn.Module | str | PathLike[str]) -> Preprocessing:
    """Returns the preprocessing of a network: called with an image, it returns the network's input.

    Args:
        model: A network with a preprocessing in its metadata, the path of a saved one, ``hf://user/repo``, or a name
            whose weights ship.

    Raises:
        InputError: If the network has no preprocessing.
    """
    network = load_network(model)
    return require_preprocessing(unwrap(network), _name_of(network))


def export(model: nn.Module | str | PathLike[str], path: str | PathLike[str], *, overwrite: bool = False) -> Path:
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
    return weights.export(load_network(model), path, overwrite=overwrite)
