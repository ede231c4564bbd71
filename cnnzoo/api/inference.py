"""Evaluation and prediction."""

from __future__ import annotations

import warnings
from os import PathLike
from typing import Any, overload

import torch
from torch import nn

from cnnzoo import prediction, train
from cnnzoo.api.sources import load_network, name_of
from cnnzoo.data import Data, load_data
from cnnzoo.device import reuse_memory
from cnnzoo.errors import DataError, InputError
from cnnzoo.fields import check_positive_int
from cnnzoo.metadata import get_metadata, match_labels, require_preprocessing
from cnnzoo.modules import require_weights, unwrap
from cnnzoo.network import CNN
from cnnzoo.prediction import Prediction
from cnnzoo.preprocessing import Image, Preprocessing
from cnnzoo.progress_bar import track
from cnnzoo.train import Evaluation


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
        UnknownNameError: If ``views``, ``crop_mode``, ``precision`` or a class of the data is not known.
        InputError: If the network has no preprocessing, or another number of classes than the data.
        DataError: If the data cannot be loaded.
    """
    network = load_network(model)
    name = name_of(network)
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
    inner = unwrap(network)
    if metadata.label_names is None and isinstance(inner, CNN) and not inner.changed_modules():
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
            show=True,
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

    def load(**other: Any) -> Data:
        return load_data(name, **{**options, **other})  # a warning of the same line is shown once

    whole = load(split=False)
    metadata = get_metadata(unwrap(network))
    checksums = {origin.get("data_sha256") for origin in metadata.origins()}
    if whole.train is not whole.test or metadata.preprocessing is None or checksums <= {None}:
        return whole
    if (image_size := metadata.preprocessing.decoding.image_size) is not None:
        options["image_size"] = image_size  # the checksum is that of decoded images
    try:
        divided = load()
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
    images_shown = track(files, "classifying")
    predictions = list(prediction.predict(network, images_shown, name=name_of(network), preprocessing=preprocessing))
    return predictions if isinstance(images, list) or prediction.is_folder(images) else predictions[0]


def transforms(model: nn.Module | str | PathLike[str], *, preprocessing: Preprocessing | None = None) -> Preprocessing:
    """Returns the preprocessing of a network: called with an image, it returns the network's input.

    Args:
        model: A network with a preprocessing in its metadata, the path of a saved one, ``hf://user/repo``, or a name
            whose weights ship.
        preprocessing: The preprocessing of a module whose metadata have none, as for ``predict``.

    Raises:
        InputError: If the network has no preprocessing.
    """
    network = load_network(model)
    return require_preprocessing(unwrap(network), name_of(network), preprocessing)
