"""Folders of images, one subfolder per class."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from cnnzoo.data.datasets import Data, ImageData, Split, StreamData
from cnnzoo.errors import DataError, InputError

IMAGE_SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".pgm", ".ppm", ".tif", ".tiff"}
TRAIN_FOLDERS = ("train", "training")
TEST_FOLDERS = ("test", "testing", "val", "valid", "validation")
_TEST_EVERY = 5  # every fifth image of a class is a test image, in a folder without test images
_MAX_MEMORY = 2_000_000_000  # bytes of decoded images; more are read on demand

ClassFiles = dict[str, list[Path]]  # class -> its image files, sorted by name


def load_folder(path: Path, image_size: int | None, stream: bool | None) -> Data:
    """Loads a folder of images; see ``load_data``.

    Images are gray if all files are, else RGB.

    Raises:
        DataError: If the folder does not exist or holds no images, its splits have different classes, a class is too
            small to be split, or an image cannot be read or differs in size.
        InputError: If ``image_size`` is not a positive integer.
    """
    try:
        exists = path.is_dir()
    except (OSError, ValueError):
        raise DataError(f"{str(path)[:200]!r} is not a valid path") from None
    if not exists:
        raise DataError(f"folder {path} does not exist")
    if image_size is not None and (type(image_size) is not int or image_size < 1):
        raise InputError(f"image_size must be an integer of at least 1, not {image_size!r}")
    train_files, test_files = _split_files(path)
    classes = tuple(sorted(train_files))
    gray = all(_is_gray(file) for split in (train_files, test_files) for files in split.values() for file in files)
    train, test = (
        ImageFiles([(file, label) for label, name in enumerate(classes) for file in split[name]], gray, image_size)
        for split in (train_files, test_files)
    )
    if stream is None:
        stream = (len(train) + len(test)) * train[0][0].numel() > _MAX_MEMORY
    if stream:
        checksum = _checksum(path, [*train.files, *test.files], image_size)
        return StreamData(f"folder:{path}", train, test, classes, sha256=checksum)
    return ImageData(f"folder:{path}", _read_all(path, train), _read_all(path, test), classes)


def _split_files(path: Path) -> tuple[ClassFiles, ClassFiles]:
    """Returns the training and the test images of a folder."""
    subfolders = {folder.name.lower(): folder for folder in _subfolders(path)}
    train, test = (
        next((subfolders[name] for name in names if name in subfolders), None)
        for names in (TRAIN_FOLDERS, TEST_FOLDERS)
    )
    if train and test:
        train_files, test_files = _list_images(train), _list_images(test)
        if set(train_files) != set(test_files):
            different = sorted(set(train_files) ^ set(test_files))
            raise DataError(f"folder {path}: train and test have different classes ({', '.join(different)})")
        return train_files, test_files
    class_files = _list_images(train or path)
    if small := [name for name, files in class_files.items() if len(files) < _TEST_EVERY]:
        raise DataError(
            f"folder {path}: too few images of {', '.join(small)} to split off test images (at least {_TEST_EVERY} per "
            "class); add images, or split them yourself into train/ and test/"
        )
    last = _TEST_EVERY - 1
    return (
        {name: [f for i, f in enumerate(files) if i % _TEST_EVERY != last] for name, files in class_files.items()},
        {name: files[last::_TEST_EVERY] for name, files in class_files.items()},
    )


def _checksum(path: Path, files: Sequence[tuple[Path, int]], image_size: int | None) -> str:
    """Returns a checksum of the names and sizes of the files, since reading them all would take too long."""
    names_and_sizes = [(str(file.relative_to(path)), file.stat().st_size) for file, _ in files]
    return hashlib.sha256(repr((names_and_sizes, image_size)).encode()).hexdigest()


def _read_all(path: Path, images: ImageFiles) -> Split:
    """Returns all images of a split, read into memory."""
    tensors = [images[i][0] for i in range(len(images))]
    sizes = {tuple(image.shape[1:]) for image in tensors}
    if len(sizes) > 1:
        examples = ", ".join(f"{height}x{width}" for height, width in sorted(sizes)[:3])
        raise DataError(
            f"folder {path}: the images differ in size ({examples}, ...); give image_size=, the side in px to which "
            "they are resized and cropped"
        )
    return Split(torch.stack(tensors), torch.tensor([label for _, label in images.files]))


class ImageFiles(torch.utils.data.Dataset[tuple[torch.Tensor, int]]):
    """A Dataset of image files, each read on demand.

    Attributes:
        files: Each file and its label.
    """

    def __init__(self, files: Sequence[tuple[Path, int]], gray: bool, image_size: int | None) -> None:
        self.files = files
        self._gray, self._image_size = gray, image_size

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        file, label = self.files[index]
        return _read_image(file, self._gray, self._image_size), label


def _list_images(path: Path) -> ClassFiles:
    """Returns the image files in each subfolder, without hidden ones."""
    class_files = {
        folder.name: sorted(file for file in folder.rglob("*") if _is_image(file.relative_to(folder), file))
        for folder in _subfolders(path)
    }
    class_files = {name: files for name, files in class_files.items() if files}
    if not class_files:
        raise DataError(
            f"folder {path} holds no images; it needs one subfolder per class with files such as cat/1.png "
            f"({', '.join(sorted(IMAGE_SUFFIXES))})"
        )
    return class_files


def _is_image(relative: Path, file: Path) -> bool:
    is_hidden = any(part.startswith(".") for part in relative.parts)  # .ipynb_checkpoints, macOS's ._ files
    return not is_hidden and file.suffix.lower() in IMAGE_SUFFIXES and file.is_file()


def _subfolders(path: Path) -> list[Path]:
    return sorted(folder for folder in path.iterdir() if folder.is_dir() and not folder.name.startswith("."))


@contextmanager
def _open_image(file: Path) -> Iterator[Any]:
    """Opens a file as a PIL image; raises DataError if PIL cannot read it."""
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(file) as image:
            yield image
    except (OSError, UnidentifiedImageError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise DataError(f"{file} cannot be read as an image: {error}") from None


def _is_gray(file: Path) -> bool:
    with _open_image(file) as image:
        return image.mode in ("1", "L", "LA")


def _read_image(file: Path, gray: bool, image_size: int | None) -> torch.Tensor:
    """Returns an image as uint8 (C, H, W)."""
    from torchvision.transforms import functional

    with _open_image(file) as image:
        if image.mode.startswith(("I", "F")):
            raise ValueError(f"its values have more than 8 bits (mode {image.mode}); convert it to 8 bits first")
        image = image.convert("L" if gray else "RGB")
        if image_size is not None:
            image = functional.center_crop(functional.resize(image, image_size), [image_size, image_size])
        pixels: torch.Tensor = functional.pil_to_tensor(image)
        return pixels
