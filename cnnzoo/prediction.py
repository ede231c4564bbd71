"""Prediction for single images: preprocessing as in training, and the probability of each class."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from os import PathLike, fspath
from typing import Any

import torch

from cnnzoo.data import prepare, resize
from cnnzoo.errors import DataError, InputError
from cnnzoo.modules import eval_mode, require_weights
from cnnzoo.network import CNN

Image = Any  # a path, a PIL image, or uint8 (C, H, W)


@dataclasses.dataclass(frozen=True)
class Transform:
    """The preprocessing of a network: called with an image, it returns the network's input.

    Attributes:
        size: (height, width) of the network's input.
        mean: Mean of each channel, values in [0, 1].
        std: Standard deviation of each channel, values in [0, 1].
        crop_mode: How images of another size are brought to ``size``: ``"squash"``, ``"center"`` or ``"border"``.
        crop_pct: The central fraction of the shorter side that is kept, as in torchvision; replaces ``crop_mode``.
    """

    size: tuple[int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    crop_mode: str = "squash"
    crop_pct: float | None = None

    def __call__(self, image: Image) -> torch.Tensor:
        """Returns the network's input for an image, float32 (C, height, width).

        Args:
            image: A path, a PIL image or a uint8 tensor (C, H, W).

        Raises:
            DataError: If a file cannot be read as an image.
            InputError: If it is not an image, has more than 8 bits per value, or a tensor of the wrong type or shape.
        """
        x = self._to_tensor(image)[None]
        if self.crop_pct is not None:
            x = _resize_and_crop_center(x, self.size, self.crop_pct)
        return prepare(x, self.size, self.mean, self.std, self.crop_mode)[0]

    def _to_tensor(self, image: Image) -> torch.Tensor:
        """Returns an image as uint8 (C, H, W)."""
        from PIL import Image as PILImage
        from torchvision.transforms.functional import pil_to_tensor

        channels = len(self.mean)
        if isinstance(image, torch.Tensor):
            if image.dtype != torch.uint8 or image.dim() != 3 or image.shape[0] != channels or not image.numel():
                raise InputError(
                    f"an image must be uint8 ({channels}, H, W), not {image.dtype} {tuple(image.shape)}; give several "
                    "images as a list"
                )
            return image
        mode = {1: "L", 3: "RGB"}.get(channels)
        if mode is None:
            raise InputError(
                f"the network expects images of {channels} channels; give tensors, uint8 ({channels}, H, W)"
            )
        if isinstance(image, (str, PathLike)):
            try:
                with PILImage.open(fspath(image)) as opened:
                    return self._to_tensor(opened.copy())
            except (OSError, ValueError, SyntaxError, PILImage.DecompressionBombError) as error:
                raise DataError(f"{image} cannot be read as an image: {error}") from None
        if not isinstance(image, PILImage.Image):
            raise InputError(f"an image must be a path, a PIL image or a uint8 tensor, not {type(image).__name__}")
        if image.mode.startswith(("I", "F")):
            raise InputError(
                f"the image's values have more than 8 bits (mode {image.mode}); convert it to 8 bits first"
            )
        pixels: torch.Tensor = pil_to_tensor(image.convert(mode))
        return pixels


def _resize_and_crop_center(images: torch.Tensor, size: tuple[int, int], crop_pct: float) -> torch.Tensor:
    """Returns the center of images whose shorter side was resized to ``size / crop_pct``, as in torchvision."""
    short, long = sorted(images.shape[-2:])
    new_short = round(max(size) / crop_pct)
    new_long = int(new_short * long / short)
    images = resize(images, (new_short, new_long) if images.shape[-2] == short else (new_long, new_short))
    top, left = (round((old - new) / 2) for old, new in zip(images.shape[-2:], size, strict=True))
    return images[..., top : top + size[0], left : left + size[1]]


def transforms(model: CNN) -> Transform:
    """Returns the preprocessing of a network, the same as in its training.

    Args:
        model: A network of the zoo with the mean and standard deviation of its images in ``notes``: trained here,
            loaded, or set by hand.

    Raises:
        InputError: If they are missing, or are not one per channel.
    """
    if not isinstance(model, CNN):
        raise InputError(f"transforms expects a cnnzoo network, not {type(model).__name__}; cnnzoo.load loads one")
    mean, std = model.notes.get("mean"), model.notes.get("std")
    if not mean or not std:
        raise InputError(
            f"{model.spec.name} has no preprocessing: the mean and std of its images are not known. Train it, load "
            "trained weights, or set them, one number per channel: model.notes.update(mean=[0.5], std=[0.25])"
        )
    channels, height, width = model.spec.input
    if len(mean) != channels or len(std) != channels:
        raise InputError(
            f"{model.spec.name} expects {channels} channels, but its notes have mean {mean} and std {std}: give one "
            "number per channel"
        )
    crop_mode = model.notes.get("crop_mode", "squash")
    return Transform((height, width), tuple(mean), tuple(std), crop_mode, model.notes.get("crop_pct"))


@dataclasses.dataclass(frozen=True, eq=False)
class Prediction:
    """The prediction for one image; ``print`` shows the five most probable classes.

    Attributes:
        probabilities: float32 (classes,), the softmax of the scores.
        classes: Name of each class; its number if the network has no names.
    """

    probabilities: torch.Tensor
    classes: Sequence[str]

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
        width = max(len(name) for name, _ in top)
        return "\n".join(f"{name:{width}}  {p:7.2%}" for name, p in top)


def predict(model: CNN, images: Sequence[Image]) -> list[Prediction]:
    """Returns the predictions of a network for images, one image at a time, in eval mode.

    Args:
        model: A network with the mean and standard deviation of its images in ``notes``.
        images: Paths, PIL images or uint8 tensors (C, H, W).

    Raises:
        DataError: If a file cannot be read as an image.
        InputError: If the network has no preprocessing, or an image has another number of channels.
    """
    transform = transforms(model)
    require_weights(model, model.spec.name)
    parameter = next(model.parameters(), None)  # for device and dtype
    with eval_mode(model), torch.inference_mode():
        scores = [model(transform(image)[None].to(parameter))[0] for image in images]
    probabilities = [logits.float().softmax(dim=0).cpu() for logits in scores]
    names = model.notes.get("label_names")
    return [
        Prediction(p, names if names and len(names) == len(p) else [str(number) for number in range(len(p))])
        for p in probabilities
    ]
