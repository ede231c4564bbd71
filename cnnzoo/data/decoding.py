"""Image files as stored images: rotation, transparency, channels, and the square that is kept."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from os import PathLike, fspath
from typing import Any

import torch

from cnnzoo.errors import DataError, InputError
from cnnzoo.fields import bool_field, check_fields, int_field

_MODES = {1: "L", 3: "RGB"}  # number of channels -> PIL mode


@dataclass(frozen=True)
class Decoding:
    """How an image file becomes a stored image, uint8 (C, H, W).

    An image is rotated upright as its EXIF orientation says, composited over ``background`` where it is transparent,
    and converted to gray or RGB.

    Attributes:
        image_size: The shorter side is resized to this many px, bilinearly, and the central square is kept; None keeps
            the image whole.
        background: Gray level that transparent images are composited over: 255 is white, 0 is black.
        scaled: Whether a JPEG that is at least twice as large as ``image_size`` is decoded at 1/2, 1/4 or 1/8 of its
            size, which is several times as fast.

    Raises:
        InputError: If a field does not take its value.
    """

    image_size: int | None = int_field(
        None, maximum=2**14, optional=True, help="shorter side in px, of which the central square is kept"
    )
    background: int = int_field(255, minimum=0, maximum=255, help="gray level behind transparent images: 255 is white")
    scaled: bool = bool_field(True, help="whether large JPEGs are decoded at a fraction of their size")

    def __post_init__(self) -> None:
        check_fields(self, InputError)

    def decode(self, image: Any, channels: int) -> torch.Tensor:
        """Returns an image as uint8 (C, H, W).

        Args:
            image: A path; or a PIL image, which is used at its full size and not changed.
            channels: 1 for gray, 3 for RGB.

        Raises:
            DataError: If a file cannot be read as an image of 8 bits per value.
            InputError: If ``image`` is no image, or has more than 8 bits per value; or ``channels`` is another number.
        """
        from PIL import Image

        if channels not in _MODES:
            raise InputError(
                f"image files have 1 or 3 channels, and the network expects {channels}; give tensors, "
                f"uint8 ({channels}, H, W)"
            )
        if isinstance(image, Image.Image):
            return self._to_tensor(image, channels)
        if not isinstance(image, (str, PathLike)):
            raise InputError(f"an image must be a path, a PIL image or a uint8 tensor, not {type(image).__name__}")
        try:
            with Image.open(fspath(image)) as opened:
                if self.image_size is not None and self.scaled:
                    opened.draft(None, (self.image_size, self.image_size))  # only JPEG files have reduced sizes
                return self._to_tensor(opened, channels)
        except (OSError, ValueError, SyntaxError, InputError, Image.DecompressionBombError) as error:
            raise DataError(f"{image} cannot be read as an image: {error}") from None

    def _to_tensor(self, image: Any, channels: int) -> torch.Tensor:
        from PIL import Image, ImageOps
        from torchvision.transforms.functional import pil_to_tensor

        if image.mode.startswith(("I", "F")):
            raise InputError(
                f"the image's values have more than 8 bits (mode {image.mode}); convert it to 8 bits first"
            )
        image = ImageOps.exif_transpose(image)
        if image.has_transparency_data:
            image = image.convert("RGBA")
            background = Image.new("RGBA", image.size, (self.background,) * 3 + (255,))
            image = Image.alpha_composite(background, image).convert("RGB")
        image = image.convert(_MODES[channels])
        if self.image_size is not None:
            image = _central_square(image, self.image_size)
        pixels: torch.Tensor = pil_to_tensor(image)
        return pixels

    def to_dict(self) -> dict[str, Any]:
        """Returns the fields as plain values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: object) -> Decoding:
        """Returns the Decoding that plain values describe; fields that are left out have their default.

        Raises:
            InputError: If a field is not known, or does not take its value.
        """
        if not isinstance(data, dict) or not {*data} <= {*asdict(cls())}:
            raise InputError(f"decoding must be an object with the fields {', '.join(asdict(cls()))}, not {data!r}")
        return cls(**data)


def _central_square(image: Any, side: int) -> Any:
    """Returns a PIL image with its shorter side resized to ``side``, and cropped to the central square."""
    from torchvision.transforms import functional

    return functional.center_crop(functional.resize(image, side), [side, side])
