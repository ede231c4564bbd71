"""From an image to a class: what a network's images must look like, and what it says of one."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from os import PathLike, fspath
from typing import Any

import torch

from cnnzoo.data import prepare, resize
from cnnzoo.errors import DataError, InputError
from cnnzoo.network import CNN

Image = Any  # a path, a PIL image, or uint8 (C, H, W)


@dataclasses.dataclass(frozen=True)
class Transform:
    """Makes of an image what a network takes; call it with a path, a PIL image or uint8 (C, H, W).

    Attributes:
        size: (height, width) that the network takes.
        mean: Mean of each channel, values in [0, 1].
        std: Standard deviation of each channel, values in [0, 1].
        fit: How images of another size are made to fit, as in training: ``"squash"``, ``"center"`` or ``"border"``.
        crop_pct: Instead, as torchvision does it: the share of the shorter side that is shown of the middle.
    """

    size: tuple[int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    crop_mode: str = "resize"
    crop_pct: float | None = None

    def __call__(self, image: Image) -> torch.Tensor:
        """float32 (C, height, width) of an image.

        Raises:
            DataError: If a file cannot be read as an image.
            InputError: If it is no image, or one of other channels.
        """
        x = self._pixels(image)[None]
        height, width = self.size
        if self.crop_pct is not None:
            # as torchvision does it: the shorter side is scaled, then the middle is cut out
            long, short = max(x.shape[-2:]), min(x.shape[-2:])
            side = round(max(self.size) / self.crop_pct)
            longer = int(side * long / short)
            x = resize(x, (side, longer) if x.shape[-2] == short else (longer, side))
            top, left = (round((have - want) / 2) for have, want in zip(x.shape[-2:], self.size, strict=True))
            x = x[..., top : top + height, left : left + width]
        return prepare(x, self.size, self.mean, self.std, self.crop_mode)[0]

    def _pixels(self, image: Image) -> torch.Tensor:
        from PIL import Image as Pictures
        from torchvision.transforms.functional import pil_to_tensor

        channels = len(self.mean)
        if isinstance(image, torch.Tensor):
            if image.dtype != torch.uint8 or image.dim() != 3 or image.shape[0] != channels or not image.numel():
                raise InputError(
                    f"an image is uint8 ({channels}, H, W), not {image.dtype} {tuple(image.shape)}; a batch is given "
                    "as a list of images"
                )
            return image
        mode = {1: "L", 3: "RGB"}.get(channels)
        if mode is None:
            raise InputError(f"the network takes images of {channels} channels; give tensors, uint8 ({channels}, H, W)")
        if isinstance(image, (str, PathLike)):
            try:
                with Pictures.open(fspath(image)) as opened:
                    return self._pixels(opened.copy())
            except (OSError, ValueError, SyntaxError, Pictures.DecompressionBombError) as problem:
                raise DataError(f"{image} cannot be read as an image: {problem}") from None
        if not isinstance(image, Pictures.Image):
            raise InputError(f"an image is a path, a PIL image or a uint8 tensor, not {type(image).__name__}")
        if image.mode.startswith(("I", "F")):
            raise InputError(
                f"the image's values have more than 8 bits (mode {image.mode}); convert it to 8 bits first"
            )
        pixels: torch.Tensor = pil_to_tensor(image.convert(mode))
        return pixels


def transforms(model: CNN) -> Transform:
    """What makes of an image what a network takes, as its training did and as its files say.

    Args:
        model: A network of the zoo that knows the mean and standard deviation of its images: one that was trained
            here, loaded, or had its ``notes`` filled in.

    Raises:
        InputError: If it knows none.
    """
    if not isinstance(model, CNN):
        raise InputError(f"transforms takes a network of the zoo, not {type(model).__name__}; cnnzoo.load loads one")
    mean, std = model.notes.get("mean"), model.notes.get("std")
    if not mean or not std:
        raise InputError(
            f"{model.spec.name} does not know the mean and std of its images: it was not trained; train or load it, or "
            "say them: model.notes.update(mean=[0.5], std=[0.25]), one number for each channel"
        )
    channels, height, width = model.spec.input
    if len(mean) != channels or len(std) != channels:
        raise InputError(f"{model.spec.name} takes {channels} channels, and its notes have mean {mean} and std {std}")
    fit = model.notes.get("crop_mode", "resize")
    return Transform((height, width), tuple(mean), tuple(std), fit, model.notes.get("crop_pct"))


@dataclasses.dataclass(frozen=True, eq=False)
class Prediction:
    """What a network says of one image.

    Attributes:
        probabilities: float32 (classes,), the softmax of its scores.
        classes: What each class is called; its number where that is not known.
    """

    probabilities: torch.Tensor
    classes: Sequence[str]

    @property
    def label(self) -> str:
        """The likeliest class."""
        return self.top(1)[0][0]

    def top(self, n: int = 5) -> list[tuple[str, float]]:
        """The ``n`` likeliest classes with their probabilities, the likeliest first (all, where there are fewer)."""
        best = self.probabilities.topk(min(n, len(self.classes)))
        return [(self.classes[i], p) for p, i in zip(best.values.tolist(), best.indices.tolist(), strict=True)]

    def __str__(self) -> str:
        top = self.top()
        width = max(len(name) for name, _ in top)
        return "\n".join(f"{name:{width}}  {p:7.2%}" for name, p in top)


def predict(model: CNN, images: Sequence[Image]) -> list[Prediction]:
    """What a network says of images, one after the other; its mode is left as it was.

    Args:
        model: A network that knows the mean and standard deviation of its images.
        images: Paths, PIL images or uint8 tensors (C, H, W).

    Raises:
        DataError: If a file cannot be read as an image.
        InputError: If the network does not know its images, or one is of other channels.
    """
    prepared: Callable[[Image], torch.Tensor] = transforms(model)
    first = next(model.parameters(), None)
    if first is not None and first.is_meta:
        raise InputError(f"{model.spec.name} is on the meta device and has no weights; create it on another")
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        with torch.inference_mode():
            rows = [model(prepared(image)[None].to(first))[0] for image in images]
    finally:
        for module, mode in modes.items():
            module.training = mode
    found = [row.float().softmax(dim=0).cpu() for row in rows]
    named = model.notes.get("label_names")
    return [
        Prediction(p, named if named and len(named) == len(p) else [str(number) for number in range(len(p))])
        for p in found
    ]
