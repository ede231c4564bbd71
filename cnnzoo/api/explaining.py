"""Explanations of trained networks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from os import PathLike
from typing import Any

import torch
from torch import nn

from cnnzoo import train
from cnnzoo.api.inference import load_test_data
from cnnzoo.api.sources import load_network, name_of
from cnnzoo.data import Data
from cnnzoo.errors import InputError
from cnnzoo.explain import Explanation, Mistakes, Network, Subject, TopPatches
from cnnzoo.explain.images import PreparedImages
from cnnzoo.explain.mistakes import find_mistakes
from cnnzoo.explain.registry import run_method
from cnnzoo.explain.top_patches import find_top_patches
from cnnzoo.fields import check_positive_int
from cnnzoo.metadata import get_metadata, match_labels, require_preprocessing
from cnnzoo.modules import unwrap
from cnnzoo.preprocessing import Image, Preprocessing


def explain(
    model: nn.Module | str | PathLike[str],
    image: Image | None = None,
    method: str = "gradcam",
    *,
    preprocessing: Preprocessing | None = None,
    **options: Any,
) -> Explanation:
    """Explains what a network computes for an image; ``.plot("explanation.png")`` draws it, and so does a notebook.

    The network is not changed, and runs in eval mode. Methods:

    - ``"gradcam"``: where the maps of a layer speak for a class (Selvaraju et al. 2017); ``label``, ``layer``.
    - ``"saliency"``: the gradient of the score of a class with respect to the input; ``label``.
    - ``"occlusion"``: how far the probability of a class drops where a patch covers the image; ``label``, ``patch``,
      ``stride``.
    - ``"deconvnet"``: the projection of a unit to the pixels (Zeiler and Fergus 2013); ``layer``, ``unit``.
    - ``"activations"``: the outputs of all layers; ``layers``.
    - ``"filters"``: the kernels of a convolution; no image is needed; ``layer``.

    Args:
        model: Any module that returns class scores, the path of a saved network, ``hf://user/repo``, or a name whose
            weights ship.
        image: A path, a PIL image or a uint8 tensor (C, H, W).
        method: Name of the method, also one of your own (see ``register_explanation``).
        preprocessing: How the image becomes the network's input; by default that of the network's metadata.
        **options: Those of the method: ``label``, the name or index of the class, by default the most probable one;
            ``layer``, a label of a block, or the name of a module.

    Returns:
        An ``Attribution`` for the first three methods, a ``Projection``, ``Activations``, ``Filters``, or what a method
        of your own returns.

    Raises:
        UnknownNameError: If the method, an option, a class or a layer is not known.
        DataError: If the image cannot be read.
        InputError: If the network has no preprocessing, or the method cannot explain it.
    """
    network = load_network(model)
    with _with_gradients():
        subject = Subject(network, image, name=name_of(network), preprocessing=preprocessing)
        return run_method(method, subject, options)


def top_patches(
    model: nn.Module | str | PathLike[str],
    data: Data | str,
    layer: str,
    *,
    n: int = 9,
    maps: int | Sequence[int] = 6,
    preprocessing: Preprocessing | None = None,
    batch_size: int = 64,
) -> TopPatches:
    """Finds the patches of test images that maps of a layer respond to most strongly, with their projections.

    A patch is the receptive field of the strongest unit of a map in an image, as in figure 2 of Zeiler and Fergus 2013.

    Args:
        model: As for ``explain``.
        data: The data set, or its name, as for ``evaluate``.
        layer: A label of a block, or the name of a module.
        n: Number of patches per map.
        maps: Indices of the maps; or a number: those with the highest activations.
        preprocessing: How an image becomes the network's input; by default that of the network's metadata.
        batch_size: Batch size.

    Raises:
        UnknownNameError: If the layer is not known.
        InputError: If the network has no preprocessing, the layer has neither maps nor units, or the data set no
            images that can be selected.
        DataError: If the data cannot be loaded.
    """
    network = load_network(model)
    with _with_gradients():
        images, data = _prepare(network, data, preprocessing)
        return find_top_patches(
            Network(network, name_of(network)),
            images,
            layer,
            data=data.name,
            n=check_positive_int("n", n),
            maps=check_positive_int("maps", maps) if isinstance(maps, int) else maps,
            batch_size=check_positive_int("batch_size", batch_size),
        )


def mistakes(
    model: nn.Module | str | PathLike[str],
    data: Data | str,
    *,
    n: int = 25,
    preprocessing: Preprocessing | None = None,
    batch_size: int = 64,
) -> Mistakes:
    """Finds the test images that a network misclassifies, in order of the probability of the wrong class.

    Args:
        model: As for ``explain``.
        data: The data set, or its name, as for ``evaluate``; classes are matched by name.
        n: Number of images.
        preprocessing: How an image becomes the network's input; by default that of the network's metadata.
        batch_size: Batch size.

    Raises:
        UnknownNameError: If a class of the data is not known to the network.
        InputError: If the network has no preprocessing, or another number of classes than the data.
        DataError: If the data cannot be loaded.
    """
    network = load_network(model)
    name = name_of(network)
    with _with_gradients():
        images, data = _prepare(network, data, preprocessing)
        classes = tuple(map(str, data.classes))
        label_names = get_metadata(unwrap(network)).label_names or classes
        return find_mistakes(
            Network(network, name),
            images,
            label_names,
            match_labels(name, label_names, classes, data.name),
            data=data.name,
            n=check_positive_int("n", n),
            batch_size=check_positive_int("batch_size", batch_size),
        )


def _prepare(network: nn.Module, data: Data | str, preprocessing: Preprocessing | None) -> tuple[PreparedImages, Data]:
    """Returns the test images of a data set as the network sees them, and the data set."""
    if isinstance(data, str):
        data = load_test_data(data, network)
    train.require_type("data", data)
    preprocessing = require_preprocessing(unwrap(network), name_of(network), preprocessing)
    if data.dtype != torch.uint8:
        raise InputError(f"the images of {data.name} are {data.dtype}; explanations prepare images of uint8 themselves")
    return PreparedImages(data.test, preprocessing, data.name), data


@contextmanager
def _with_gradients() -> Iterator[None]:
    """Enables gradients, also where the caller disabled them."""
    with torch.inference_mode(False), torch.enable_grad():
        yield
