"""Image files as stored images: rotation, transparency, channels, and the square that is kept."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from io import BytesIO
from typing import Any

import torch

from cnnzoo.errors import DataError, InputError
from cnnzoo.fields import bool_field, check_fields, int_field
from cnnzoo.files import os_reason
from cnnzoo.limits import MAX_IMAGE_COMPRESSION, MAX_IMAGE_SIDE, MIN_IMAGE_BYTES_REFUSED

_MODES = {1: "L", 3: "RGB"}  # number of channels -> PIL mode
_BANDS = {"1": 1, "L": 1, "RGB": 3}  # bytes per px of modes; others are converted to RGBA or CMYK
_ORIENTATION = 0x0112  # the EXIF tag
_LARGE = 4  # Pillow is faster where the shorter side shrinks by this factor or more
_MAX_ASPECT = 32  # an image that is longer than this many times its width is cropped before it is resized


@dataclass(frozen=True)
class Decoding:
    """How an image file becomes a stored image, uint8 (C, H, W).

    An image is rotated upright as its EXIF orientation says, composited over ``background`` where it is transparent,
    and converted to gray or RGB.

    Attributes:
        image_size: The shorter side is resized to this many px, bilinearly, and the central square is kept; None keeps
            the image whole.
        background: Gray level that transparent images are composited over: 255 is white, 0 is black.
        scaled: Whether images are resized fast: a JPEG at least three times as large as ``image_size`` is decoded at
            1/2, 1/4 or 1/8 of its size, and pixels are weighted with 16 bits, with the same result on every machine.
            False gives the values of torchvision's ``Resize`` and ``CenterCrop``; on photographs the values differ by
            about 1 of 255 on average, at 224 px by less than half of that.

    Raises:
        InputError: If a field does not take its value.
    """

    image_size: int | None = int_field(
        None, maximum=MAX_IMAGE_SIDE, optional=True, help="shorter side in px, of which the central square is kept"
    )
    background: int = int_field(255, minimum=0, maximum=255, help="gray level behind transparent images: 255 is white")
    scaled: bool = bool_field(True, help="whether images are resized fast, large JPEGs while they are decoded")

    def __post_init__(self) -> None:
        check_fields(self, InputError)

    def decode(self, image: Any, channels: int) -> torch.Tensor:
        """Returns an image as uint8 (C, H, W).

        Args:
            image: A path; the content of a file, as bytes; or a PIL image, which is used at its full size and not
                changed.
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
        if not isinstance(image, (str, os.PathLike, bytes)):
            raise InputError(f"an image must be a path, a PIL image or a uint8 tensor, not {type(image).__name__}")
        with open_image(image) as opened:
            if self.image_size is not None and self.scaled:
                opened.draft(None, (self.image_size * 3 // 2,) * 2)  # only JPEG files have reduced sizes
            return self._to_tensor(opened, channels)

    def _to_tensor(self, image: Any, channels: int) -> torch.Tensor:
        from PIL import Image, ImageOps

        require_8_bits(image)
        if image.getexif().get(_ORIENTATION, 1) != 1:  # exif_transpose copies other images
            image = ImageOps.exif_transpose(image)
        if image.has_transparency_data:
            if image.mode != "RGBA":  # convert() would copy it
                image = image.convert("RGBA")
            background = (self.background,) * 3 + (255,)
            image = Image.alpha_composite(Image.new("RGBA", image.size, background), image).convert("RGB")
        if image.mode != _MODES[channels]:
            image = image.convert(_MODES[channels])
        return _pixels(image) if self.image_size is None else _central_square(image, self.image_size, self.scaled)

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


@contextmanager
def open_image(file: str | os.PathLike[str] | bytes) -> Iterator[Any]:
    """Opens a file, or the content of one, as a PIL image.

    Raises:
        DataError: If the file cannot be read as an image, now or within the ``with`` block.
    """
    from PIL import Image

    name = "an image" if isinstance(file, bytes) else os.fspath(file)
    try:
        if not isinstance(file, bytes) and not stat.S_ISREG(os.stat(name).st_mode):  # reading a pipe would wait forever
            raise ValueError("it is not a regular file")
        with Image.open(BytesIO(file) if isinstance(file, bytes) else name) as image:
            if image.format == "EPS":
                raise ValueError("it is PostScript, a program that Ghostscript would run")
            pixels, limit = image.width * image.height, Image.MAX_IMAGE_PIXELS
            if limit is not None and pixels > limit:
                raise Image.DecompressionBombError
            size = len(file) if isinstance(file, bytes) else os.stat(name).st_size
            decoded = pixels * _BANDS.get(image.mode, 4)
            if decoded > max(MIN_IMAGE_BYTES_REFUSED, MAX_IMAGE_COMPRESSION * size):
                raise ValueError(f"it has {pixels:,} px in {size:,} bytes; no photograph is compressed as far")
            yield image
    except Exception as error:  # Pillow's readers raise many types
        raise DataError(f"{name} cannot be read as an image: {_reason(error)}") from error


def require_8_bits(image: Any) -> None:
    """Raises InputError if a PIL image has more than 8 bits per value."""
    if image.mode.startswith(("I", "F")):
        raise InputError(f"its values have more than 8 bits (mode {image.mode}); convert it to 8 bits first")


def is_rotated(image: Any) -> bool:
    """Returns whether height and width of a PIL image are exchanged when it is rotated upright."""
    return image.getexif().get(_ORIENTATION, 1) in (5, 6, 7, 8)


def _reason(error: Exception) -> object:
    """Returns why an image cannot be read, without its path."""
    from PIL import Image, UnidentifiedImageError

    if isinstance(error, UnidentifiedImageError):
        return "it is damaged, or of a format that Pillow cannot read"
    if isinstance(error, (Image.DecompressionBombError, Image.DecompressionBombWarning)):
        return f"it has more than {Image.MAX_IMAGE_PIXELS:,} px (PIL.Image.MAX_IMAGE_PIXELS)"
    return os_reason(error) if str(error) else type(error).__name__


def _pixels(image: Any) -> torch.Tensor:
    """Returns the pixels of a PIL image, uint8 (C, H, W)."""
    pixels = torch.frombuffer(bytearray(image.tobytes()), dtype=torch.uint8)
    return pixels.view(image.height, image.width, -1).permute(2, 0, 1).contiguous()


def _central_square(image: Any, side: int, fast: bool) -> torch.Tensor:
    """Returns the central square of a PIL image whose shorter side is resized to ``side``, uint8 (C, side, side).

    Sizes and offsets are those of torchvision's ``Resize`` and ``CenterCrop``.
    """
    from PIL import Image

    image = _limit_aspect(image)
    shorter = min(image.size)
    width, height = (side if old == shorter else int(side * old / shorter) for old in image.size)
    left, top = round((width - side) / 2), round((height - side) / 2)
    if fast and shorter < _LARGE * side:
        pixels = torch.frombuffer(bytearray(image.tobytes()), dtype=torch.uint8)
        pixels = pixels.view(1, image.height, image.width, -1).permute(0, 3, 1, 2)
        if (width, height) != image.size:
            pixels = torch.nn.functional.interpolate(pixels, size=(height, width), mode="bilinear", antialias=True)
        return pixels[0, :, top : top + side, left : left + side]
    image = image.resize((width, height), Image.Resampling.BILINEAR)
    return _pixels(image.crop((left, top, left + side, top + side)))


def _limit_aspect(image: Any) -> Any:
    """Returns the middle of a PIL image that is very long or very wide, whose resized copy could take gigabytes."""
    limit = _MAX_ASPECT * min(image.size)
    if max(image.size) <= limit:
        return image
    left, top = (max(size - limit, 0) // 2 for size in image.size)
    return image.crop((left, top, image.width - left, image.height - top))
