"""The test images of the page: the first ones of the data, some of them misclassified."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch

from cnnzoo.data import Data, ImageData, has_samples, make_loader
from cnnzoo.errors import InputError
from cnnzoo.metadata import match_labels, require_preprocessing
from cnnzoo.module_copy import in_eval_mode
from cnnzoo.network import CNN

N_IMAGES, N_WRONG = 20, 5
_MAX_TRIED = 2000  # images among which misclassified ones are searched
_BATCH = 50


@dataclass(frozen=True, eq=False)
class PageImages:
    """The test images of a page, in the order of the data.

    Attributes:
        images: uint8 (N, C, H, W).
        labels: The class of each image.
        wrong: Indices of the misclassified ones.
    """

    images: torch.Tensor
    labels: list[str]
    wrong: list[int]

    def to_dict(self) -> dict[str, Any]:
        """Returns the images as plain values, for JSON."""
        channels, height, width = self.images.shape[1:]
        return {
            "channels": channels,
            "height": height,
            "width": width,
            "labels": self.labels,
            "wrong": self.wrong,
            "data": b64encode(self.images.contiguous().numpy().tobytes()).decode(),
        }


def choose_images(model: CNN, data: Data, name: str) -> PageImages:
    """Returns the first test images of a data set: 15 that the network classifies correctly, and 5 that it does not.

    If there are fewer of one kind, the others take their place. Images sorted by class are taken in turn from each.

    Args:
        model: A network with label names and a preprocessing.
        data: The data set; its classes are matched by name.
        name: Name of the network, for errors.

    Raises:
        InputError: If the data holds no test images, or none of uint8, or has other channels.
        UnknownNameError: If the network does not know a class of the data.
    """
    if data.dtype != torch.uint8:
        raise InputError(f"the page needs images of uint8 (C, H, W); those of {data.name} are {data.dtype}")
    preprocessing = require_preprocessing(model, name)
    classes = tuple(map(str, data.classes))
    label_map = match_labels(name, model.metadata.label_names or classes, classes, data.name)
    network = in_eval_mode(model)
    parameter = next(model.parameters(), torch.zeros(()))  # for device and dtype
    chosen: dict[bool, list[tuple[int, torch.Tensor, int]]] = {True: [], False: []}  # by whether it is misclassified
    number = 0
    for images, labels in _batches(data):
        with torch.inference_mode():
            answers = network(preprocessing.apply(images).to(parameter)).argmax(1).cpu()
        expected = labels if label_map is None else label_map[labels]
        for image, label, is_wrong in zip(images, labels.tolist(), (answers != expected).tolist(), strict=True):
            if len(chosen[is_wrong]) < N_IMAGES:
                chosen[is_wrong].append((number, image, label))
            number += 1
        if number >= _MAX_TRIED or (len(chosen[False]) >= N_IMAGES - N_WRONG and len(chosen[True]) >= N_WRONG):
            break
    if not number:
        raise InputError(f"{data.name} has no test images")
    n_wrong = min(len(chosen[True]), max(N_WRONG, N_IMAGES - len(chosen[False])))
    wrong = {number for number, _, _ in chosen[True][:n_wrong]}
    both = sorted(chosen[True][:n_wrong] + chosen[False][: N_IMAGES - n_wrong], key=lambda one: one[0])
    return PageImages(
        torch.stack([image for _, image, _ in both]),
        [classes[label] for _, _, label in both],
        [i for i, (number, _, _) in enumerate(both) if number in wrong],
    )


def _batches(data: Data) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Yields images (N, C, H, W) and labels (N,) of the test images, in order; classes sorted in memory alternate."""
    order = torch.arange(len(data.test) if has_samples(data.test) else _MAX_TRIED)
    if isinstance(data, ImageData):
        labels = data.test.labels
        if bool((labels.diff() >= 0).all()):
            order = (order - torch.searchsorted(labels, labels)).argsort(stable=True)  # by the position in the class
    loader = make_loader(data.test, len(data.classes), torch.device("cpu"))
    yield from loader.batches(torch.split(order[:_MAX_TRIED], _BATCH), 0)
