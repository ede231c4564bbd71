"""Prediction for single images: preprocessing as in training, and the probability of each class."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path

import torch
from torch import nn

from cnnzoo.data.decoding import Decoding
from cnnzoo.data.folder import list_image_files
from cnnzoo.errors import DataError, InputError
from cnnzoo.html_parts import bars, beside, heading, notebook_html, picture
from cnnzoo.measure.text_layout import terminal_width, text_width, wrap_line
from cnnzoo.metadata import get_metadata, require_preprocessing
from cnnzoo.module_copy import in_eval_mode
from cnnzoo.modules import explain_forward_error, for_inference, require_weights, unwrap
from cnnzoo.preprocessing import Image, Preprocessing


@dataclass(frozen=True, eq=False)
class Prediction:
    """The prediction for one image; ``print`` shows the five most probable classes.

    Attributes:
        probabilities: float32 (classes,), the softmax of the scores.
        classes: Name of each class; its number if the network has no names.
        file: Path of the image; None if it was no file.
        image: The image as given: a path, a PIL image or a uint8 tensor (C, H, W).
    """

    probabilities: torch.Tensor
    classes: Sequence[str]
    file: Path | None = None
    image: Image | None = field(default=None, repr=False)

    @property
    def label(self) -> str:
        """The most probable class."""
        return self.top(1)[0][0]

    def top(self, n: int = 5) -> list[tuple[str, float]]:
        """Returns the ``n`` most probable classes (all, if there are fewer) and their probabilities, in order."""
        best = self.probabilities.topk(min(n, len(self.classes)))
        return [(self.classes[i], p) for p, i in zip(best.values.tolist(), best.indices.tolist(), strict=True)]

    def __str__(self) -> str:
        top = self.top()
        width = min(max(text_width(name) for name, _ in top), terminal_width() - 9)
        lines = []
        for name, probability in top:
            *before, last = wrap_line(name, width) or [""]
            lines += [*before, f"{last}{' ' * (width - text_width(last))}  {probability:7.2%}"]
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        shown = "" if self.image is None else picture_of(self.image)
        name = "" if self.file is None else self.file.name
        return notebook_html(heading(self.label, name), beside(shown, bars(self.top())))


def predict(
    model: nn.Module, images: Iterable[Image], *, name: str, preprocessing: Preprocessing | None = None
) -> Iterator[Prediction]:
    """Yields the prediction of a network for each image, one image at a time, as in eval mode.

    The network is not changed, so that other threads may use it meanwhile.

    Args:
        model: Any module that returns class scores (N, classes).
        images: Paths, PIL images or uint8 tensors (C, H, W).
        name: Name of the network in errors.
        preprocessing: How an image becomes the network's input; by default that of the network's metadata.

    Raises:
        DataError: If a file cannot be read as an image.
        InputError: If the network has no preprocessing, or an image has another number of channels.
    """
    model = for_inference(model)
    preprocessing = require_preprocessing(unwrap(model), name, preprocessing)
    require_weights(model, name)
    parameter = next(model.parameters(), torch.zeros(()))  # for device and dtype
    names = get_metadata(unwrap(model)).label_names
    network = in_eval_mode(model)
    for image in images:
        x = preprocessing.apply([image]).to(parameter)
        with torch.inference_mode(), explain_forward_error(name, x):
            scores = network(x)
        if not isinstance(scores, torch.Tensor) or scores.dim() != 2:
            raise InputError(f"{name} must return class scores (N, classes), not {_text(scores)}")
        probabilities = scores[0].float().softmax(dim=0).cpu()
        n = len(probabilities)
        if names is not None and len(names) != n:
            raise InputError(f"{name} returns {n} scores, and its metadata has {len(names)} label_names")
        file = Path(image) if isinstance(image, (str, PathLike)) else None
        yield Prediction(probabilities, names or [str(i) for i in range(n)], file, image)


def _text(value: object) -> str:
    return str(tuple(value.shape)) if isinstance(value, torch.Tensor) else type(value).__name__


def picture_of(image: Image) -> str:
    """Returns an image as HTML; empty if its file cannot be read anymore."""
    try:
        pixels = image if isinstance(image, torch.Tensor) else Decoding().decode(image, 3)
    except DataError:
        return ""
    return picture(pixels, 160)


def expand_folders(images: Iterable[Image]) -> list[Image]:
    """Returns images with each folder replaced by the image files in it and in its subfolders, in order of their names.

    Raises:
        DataError: If a folder holds no image files.
    """
    result: list[Image] = []
    for image in images:
        result += list_image_files(Path(image)) if is_folder(image) else [image]
    return result


def is_folder(image: Image) -> bool:
    """Returns whether an image is the path of a folder."""
    return isinstance(image, (str, PathLike)) and os.path.isdir(image)
