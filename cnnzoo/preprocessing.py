"""How an image becomes a network input: the one way, for training, evaluation, prediction, export and pages."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch

from cnnzoo.data.crop import gather_windows
from cnnzoo.data.decoding import Decoding
from cnnzoo.data.resize import INTERPOLATIONS, resize
from cnnzoo.errors import InputError, unknown
from cnnzoo.fields import Mismatch, check_fields, checked_field, choice_field, float_field, float_tuple_field
from cnnzoo.limits import MAX_IMAGE_PIXELS, MAX_IMAGE_SIDE

CROP_MODES = ("squash", "center", "border")
VIEWS = {"single": 1, "flip": 2, "center": 1, "five_crop": 5, "ten_crop": 10}  # number of views of each image
CENTER_CROP_PCT = 0.875  # 224 of 256 px (Krizhevsky, Sutskever, Hinton 2012)
_MAX_ASPECT = 16

Image = Any  # a path, a PIL image, or uint8 (C, H, W)


def _check_size(value: Any) -> tuple[int, int]:
    pair = [value, value] if isinstance(value, int) else value
    is_pair = isinstance(pair, (list, tuple)) and len(pair) == 2
    if not is_pair or not all(type(side) is int and 1 <= side <= MAX_IMAGE_SIDE for side in pair):
        raise Mismatch(f"an integer from 1 to {MAX_IMAGE_SIDE} or a pair of them")
    return tuple(pair)


def _check_decoding(value: Any) -> Decoding:
    if not isinstance(value, Decoding):
        raise Mismatch("a Decoding")
    return value


@dataclass(frozen=True)
class Preprocessing:
    """How an image becomes a network input; frozen, JSON both ways, stored with the weights.

    A file is decoded as ``decoding`` says, resized and cropped to ``size``, divided by 255, and normalized per channel.
    The words are those of timm's ``pretrained_cfg``.

    Attributes:
        size: (height, width) of the input; an integer for a square.
        mean: Mean of each channel, values in [0, 1]; one for gray images, three for RGB.
        std: Standard deviation of each channel, values in [0, 1].
        crop_mode: ``"squash"`` resizes height and width to ``size / crop_pct``, each by its own factor; ``"center"``
            resizes to cover ``size / crop_pct``, aspect ratio kept; ``"border"`` shrinks larger images to fit into
            ``size / crop_pct``, aspect ratio kept. Then the center of ``size`` is kept; black pads smaller images.
        crop_pct: The fraction of the resized image that is kept, as in timm: 0.875 keeps 224 of 256 px.
        interpolation: ``"bilinear"`` or ``"bicubic"``, with PIL's values.
        decoding: How image files are decoded.

    Raises:
        InputError: If a field does not take its value, or ``mean`` and ``std`` differ in length.
        UnknownNameError: If ``crop_mode`` or ``interpolation`` is not known.
    """

    size: tuple[int, int] = checked_field(dataclasses.MISSING, _check_size, help="(height, width) of the input, in px")
    mean: tuple[float, ...] = float_tuple_field(
        dataclasses.MISSING, minimum=-math.inf, help="mean of each channel, values in [0, 1]"
    )
    std: tuple[float, ...] = float_tuple_field(
        dataclasses.MISSING, minimum=1e-6, help="standard deviation of each channel, values in [0, 1]"
    )
    crop_mode: str = choice_field("squash", CROP_MODES, help="how images of another size are brought to the input size")
    crop_pct: float = float_field(1.0, minimum=0.05, maximum=1, help="fraction of the resized image that is kept")
    interpolation: str = choice_field("bilinear", INTERPOLATIONS, help="'bilinear' or 'bicubic'")
    decoding: Decoding = checked_field(Decoding(), _check_decoding, help="how image files are decoded")

    def __post_init__(self) -> None:
        check_fields(self, InputError)
        height, width = _divide(self.size, self.crop_pct)
        if height * width > MAX_IMAGE_PIXELS:
            raise InputError(
                f"size={self.size} and crop_pct={self.crop_pct} resize images to {height}x{width} px, more than the "
                f"maximum of {MAX_IMAGE_PIXELS:,} px"
            )
        if not len(self.mean) == len(self.std) > 0:
            raise InputError(
                f"mean and std need one number per channel, not {list(self.mean)} and {list(self.std)}: such as "
                "mean=[0.5], std=[0.25] for gray images"
            )

    @property
    def channels(self) -> int:
        """Number of channels of the input."""
        return len(self.mean)

    def replace(self, **changes: Any) -> Preprocessing:
        """Returns this preprocessing with other values."""
        return dataclasses.replace(self, **changes)

    def with_crop_mode(self, crop_mode: str) -> Preprocessing:
        """Returns this preprocessing with another crop mode: the center is 7/8 of the image, other modes keep it whole.

        Raises:
            UnknownNameError: If ``crop_mode`` is not known.
        """
        return self.replace(crop_mode=crop_mode, crop_pct=CENTER_CROP_PCT if crop_mode == "center" else 1.0)

    # --- from an image to an input ---

    def __call__(self, image: Image) -> torch.Tensor:
        """Returns the network input for one image, float32 (C, height, width); see ``apply``."""
        return self.apply([image])[0]

    def apply(self, images: torch.Tensor | Sequence[Image], crop_positions: torch.Tensor | None = None) -> torch.Tensor:
        """Returns the network input for images.

        Args:
            images: uint8 (N, C, H, W); or a sequence of images, each a path, a PIL image or uint8 (C, H, W).
            crop_positions: As for ``crop``.

        Returns:
            float32 (N, C, height, width), on the device of the images.

        Raises:
            DataError: If a file cannot be read as an image.
            InputError: If an image has another type or more than 8 bits per value.
        """
        return self.normalize(self.crop(images, crop_positions))

    def crop(self, images: torch.Tensor | Sequence[Image], crop_positions: torch.Tensor | None = None) -> torch.Tensor:
        """Returns images brought to ``size``, not yet normalized.

        Args:
            images: As for ``apply``.
            crop_positions: (N, 2) in [0, 1]: for ``crop_mode="center"``, where each image is cropped, down and right: 0
                is the top left. By default the center.

        Returns:
            uint8 (N, C, height, width).
        """
        if not isinstance(images, torch.Tensor):
            return torch.cat([self.crop(self._to_tensor(image)[None]) for image in images])
        images = self._to_square(self._convert_channels(images))
        target = _divide(self.size, self.crop_pct)
        if self.crop_mode == "squash":
            return _central_window(resize(images, target, self.interpolation), self.size)
        height, width = images.shape[-2:]
        if self.crop_mode == "border":
            factor = min(1.0, target[0] / height, target[1] / width)
            inner = [max(1, round(side * factor)) for side in (height, width)]
            return _central_window(resize(images, inner, self.interpolation), self.size)
        images = _resize_to_cover(images, target, self.interpolation)
        if crop_positions is None:
            return _central_window(images, self.size)
        return _windows_at(_central_window(images, target), self.size, crop_positions)

    def views(self, images: torch.Tensor | Sequence[Image], views: str = "single") -> torch.Tensor:
        """Returns the views of each image over which predictions are averaged, not yet normalized.

        Args:
            images: As for ``apply``.
            views: ``"single"``: the image as ``crop`` returns it; ``"flip"``: also its mirror image. Of the image
                resized to cover 8/7 of ``size`` (256 px for 224): ``"center"``: the center; ``"five_crop"``: also the
                four corners; ``"ten_crop"``: also the mirror images of all five (Krizhevsky, Sutskever, Hinton 2012).

        Returns:
            uint8 (N, K, C, height, width), K as in ``VIEWS``.

        Raises:
            UnknownNameError: If ``views`` is not known.
        """
        if views not in VIEWS:
            raise unknown("views", views, VIEWS)
        if views in ("single", "flip"):
            crops = [self.crop(images)]
        else:
            box = self.replace(size=_divide(self.size, CENTER_CROP_PCT), crop_mode="center", crop_pct=1.0).crop(images)
            height, width = self.size
            down, right = box.shape[-2] - height, box.shape[-1] - width
            corners = [(0, 0), (0, right), (down, 0), (down, right)] if views != "center" else []
            crops = [_central_window(box, self.size)]
            crops += [box[..., top : top + height, left : left + width] for top, left in corners]
        if views in ("flip", "ten_crop"):
            crops += [crop.flip(-1) for crop in crops]
        return torch.stack(crops, dim=1)

    def normalize(self, images: torch.Tensor) -> torch.Tensor:
        """Returns images normalized per channel: (value / 255 - mean) / std.

        Args:
            images: uint8 (N, C, H, W).

        Returns:
            float32 (N, C, H, W).
        """
        scale, shift = _scale_and_shift(self.mean, self.std, images.device)
        return images.float().mul_(scale).add_(shift)

    def _to_tensor(self, image: Image) -> torch.Tensor:
        """Returns an image as uint8 (C, H, W)."""
        if not isinstance(image, torch.Tensor):
            return self.decoding.decode(image, self.channels)
        if image.dim() != 3:
            raise InputError(
                f"an image must be uint8 ({self.channels}, H, W), not {image.dtype} {tuple(image.shape)}; give several "
                "images as a list"
            )
        return image

    def _convert_channels(self, images: torch.Tensor) -> torch.Tensor:
        """Returns images (N, C, H, W) with the channels of the input: RGB as gray or gray as RGB, as PIL converts."""
        is_valid = images.dtype == torch.uint8 and images.dim() == 4 and images.numel() > 0
        if is_valid and images.shape[1] == self.channels:
            return images
        if is_valid and (images.shape[1], self.channels) == (1, 3):
            return images.expand(-1, 3, -1, -1)
        if is_valid and (images.shape[1], self.channels) == (3, 1):
            red, green, blue = images.to(torch.int32).unbind(1)  # ITU-R 601-2 luma in PIL's fixed point
            return ((red * 19595 + green * 38470 + blue * 7471 + 0x8000) >> 16).to(torch.uint8)[:, None]
        raise InputError(
            f"an image must be uint8 ({self.channels}, H, W), not {images.dtype} {tuple(images.shape[1:])}"
        )

    def _to_square(self, images: torch.Tensor) -> torch.Tensor:
        """Returns images (N, C, H, W) as files would be stored; stored images are returned unchanged."""
        side = self.decoding.image_size
        if side is None:
            return images
        return _central_window(_resize_to_cover(images, (side, side), "bilinear"), (side, side))

    # --- JSON ---

    def to_dict(self) -> dict[str, Any]:
        """Returns the fields as plain values, in timm's words: ``input_size`` is (C, height, width)."""
        return {
            "input_size": [self.channels, *self.size],
            "mean": list(self.mean),
            "std": list(self.std),
            "crop_mode": self.crop_mode,
            "crop_pct": self.crop_pct,
            "interpolation": self.interpolation,
            "decoding": self.decoding.to_dict(),
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Preprocessing:
        """Returns the preprocessing that ``to_dict`` describes; other keys are ignored.

        Raises:
            InputError: If a value is missing or not valid.
            UnknownNameError: If ``crop_mode`` or ``interpolation`` is not known.
        """
        size = data.get("input_size")
        if not isinstance(size, (list, tuple)) or len(size) != 3:
            raise InputError(f"input_size must be a list [channels, height, width], not {size!r}")
        optional = {name: data[name] for name in ("crop_mode", "crop_pct", "interpolation") if name in data}
        if "decoding" in data:
            optional["decoding"] = Decoding.from_dict(data["decoding"])
        result = cls(tuple(size[1:]), data.get("mean", ()), data.get("std", ()), **optional)
        if size[0] != result.channels:
            raise InputError(f"mean and std need one number for each of {size[0]} channels, not {list(result.mean)}")
        return result

    def __str__(self) -> str:
        height, width = self.size
        large_height, large_width = _divide(self.size, self.crop_pct)
        size, large = f"{height}x{width} px", f"{large_height}x{large_width} px"
        steps = [{1: "gray", 3: "RGB"}.get(self.channels, f"{self.channels} channels")]
        if self.decoding.image_size is not None:
            steps.append(f"shorter side resized to {self.decoding.image_size} px, central square kept")
        resized = {
            "squash": f"resized to {large}",
            "center": f"resized to cover {large}",
            "border": f"shrunk to fit into {large}",
        }[self.crop_mode]
        steps.append(resized + ("" if self.interpolation == "bilinear" else f" ({self.interpolation})"))
        if self.crop_mode == "border":
            steps.append(f"padded with black to {size}")
        elif self.crop_mode == "center" or self.crop_pct < 1:
            steps.append(f"center-cropped to {size}")
        mean, std = (", ".join(f"{value:.4g}" for value in values) for values in (self.mean, self.std))
        steps.append(f"values in [0, 1], normalized with mean {mean} and standard deviation {std}")
        return "; ".join(steps)


def _divide(size: Sequence[int], fraction: float) -> tuple[int, int]:
    """Returns ``size / fraction`` in whole px, rounded down as timm does: (256, 256) for (224, 224) and 0.875."""
    height, width = (int(side / fraction + 1e-6) for side in size)
    return height, width


def _resize_to_cover(images: torch.Tensor, target: tuple[int, int], interpolation: str) -> torch.Tensor:
    """Returns images resized to the smallest size that covers ``target``, aspect ratio kept, as torchvision rounds it.

    Of images more than 16 times as long as wide only the central part is resized, which bounds the memory.
    """
    short = min(images.shape[-2:])
    images = _central_window(images, [min(side, _MAX_ASPECT * short) for side in images.shape[-2:]])
    (height, width), (new_height, new_width) = images.shape[-2:], target
    if new_height * width >= new_width * height:  # the height decides
        size = new_height, max(int(new_height * width / height), new_width)
    else:
        size = max(int(new_width * height / width), new_height), new_width
    return resize(images, size, interpolation)


def _central_window(images: torch.Tensor, size: Sequence[int]) -> torch.Tensor:
    """Returns the center of images (..., H, W), padded with black where ``size`` is larger."""
    (old_height, old_width), (height, width) = images.shape[-2:], size
    if old_height < height or old_width < width:
        top, left = max(height - old_height, 0) // 2, max(width - old_width, 0) // 2
        padding = (left, max(width - old_width, 0) - left, top, max(height - old_height, 0) - top)
        images = torch.nn.functional.pad(images, padding)
    top, left = (round((old - new) / 2) for old, new in zip(images.shape[-2:], size, strict=True))
    return images[..., top : top + height, left : left + width]


def _windows_at(images: torch.Tensor, size: Sequence[int], positions: torch.Tensor) -> torch.Tensor:
    """Returns the window of each image at its position; see ``Preprocessing.crop``."""
    height, width = size
    device = images.device
    max_corner = torch.tensor([images.shape[-2] - height, images.shape[-1] - width], device=device)
    corners = (positions.to(device) * (max_corner + 1)).floor().long().minimum(max_corner)  # (N, 2)
    rows = corners[:, :1] + torch.arange(height, device=device)  # (N, height)
    columns = corners[:, 1:] + torch.arange(width, device=device)
    return gather_windows(images, rows, columns)


@lru_cache(maxsize=32)
def _scale_and_shift(
    mean: tuple[float, ...], std: tuple[float, ...], device: torch.device
) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns the scale and shift of each channel, (1, C, 1, 1) each."""
    scale = torch.tensor([1 / (255 * s) for s in std], device=device)
    shift = torch.tensor([-m / s for m, s in zip(mean, std, strict=True)], device=device)
    return scale.view(1, -1, 1, 1), shift.view(1, -1, 1, 1)
