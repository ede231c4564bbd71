"""Where data sets come from: files that lie here, or a download by torchvision."""

from __future__ import annotations

import gzip
import hashlib
import math
import os
import struct
import zlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from cnnzoo.data.datasets import Data, ImageData, Split, StreamData
from cnnzoo.errors import DataError, InputError, unknown

IMAGE_SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".pgm", ".ppm", ".tif", ".tiff"}
SAMPLE = Path(__file__).parent / "fashion_mnist_sample"
IDX_FILES = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")
TRAIN_NAMES = ("train", "training")
TEST_NAMES = ("test", "testing", "val", "valid", "validation")
_HELD_AT_MOST = 2_000_000_000  # bytes of decoded images
TEST_SHARE = 0.2  # of each class, where a folder has no split of its own

FASHION = (
    "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
)  # fmt: skip
CIFAR10 = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


@dataclass(frozen=True)
class _Idx:
    """A data set in the four files that MNIST introduced."""

    classes: tuple[str, ...]
    torchvision: str  # the class that downloads it
    folders: tuple[str, ...]  # names that its folder bears below a place
    system: tuple[str, ...] = ()  # where a system's package puts it
    debian: str = ""  # that package


_IDX = {
    "fashion_mnist": _Idx(
        classes=FASHION,
        torchvision="FashionMNIST",
        folders=("fashion_mnist", "fashion-mnist", "FashionMNIST/raw"),
        system=("/usr/share/datasets/fashion-mnist",),
        debian="dataset-fashion-mnist",
    ),
    "mnist": _Idx(classes=tuple("0123456789"), torchvision="MNIST", folders=("mnist", "MNIST/raw")),
}


def list_data() -> list[str]:
    """The names that ``load_data`` knows; besides them there is ``folder:PATH``."""
    return sorted([*_IDX, "fashion_mnist_sample", "cifar10"])


def load_data(
    name: str,
    root: str | os.PathLike[str] | None = None,
    *,
    download: bool = True,
    image_size: int | None = None,
    stream: bool | None = None,
) -> Data:
    """Loads a data set by name.

    A named set is looked for in ``root``, then in the folder that the environment variable ``CNNZOO_DATA``
    names, in the cache (``~/.cache/cnnzoo``) and where the system's packages put it; else torchvision
    downloads it into the first of these that is given.

    Args:
        name: ``"fashion_mnist"``, ``"fashion_mnist_sample"`` (ships with cnnzoo), ``"mnist"``, ``"cifar10"``,
            or ``"folder:PATH"``: one subfolder per class, all below PATH or below PATH/train and PATH/test
            (or val). Without a split of its own a folder gives every fifth image of each class, by name, to the test.
        root: A folder to look in first, and to download to.
        download: Whether a set that is not here may be downloaded.
        image_size: For folders: images are scaled so that their shorter side is this many px, and the square
            in the middle is kept. Needed where the images differ in size.
        stream: For folders: whether images are read as they are needed (True) or all at once, to be held in memory;
            by default read as needed where they would take more than 2 GB.

    Raises:
        UnknownNameError: If no data set has that name.
        DataError: If it is not here and cannot be had, or is not what it says.
    """
    if name.startswith("folder:"):
        return _load_folder(Path(name.removeprefix("folder:")).expanduser(), image_size, stream)
    if image_size is not None or stream is not None:
        raise InputError(
            "image_size= and stream= are for folder:PATH; the trainer scales the images of other sets by itself"
        )
    if name == "fashion_mnist_sample":
        return _read_idx(name, SAMPLE, FASHION)
    if name == "cifar10":
        return _load_cifar10(root, download)
    if name not in _IDX:
        raise unknown("data set", name, [*list_data(), "folder:PATH"])
    source = _IDX[name]
    tried = [place / folder for place in _places(root) for folder in ("", *source.folders)]
    tried += [Path(folder) for folder in source.system]
    for folder in tried:
        if all(_idx_file(folder, file) for file in IDX_FILES):
            return _read_idx(name, folder, source.classes)
    target = _places(root)[0]
    reason = _download(source.torchvision, target) if download else "downloading was not allowed (download=False)"
    folder = target / source.folders[-1]
    if not reason:
        return _read_idx(name, folder, source.classes)
    package = (
        f"install Debian's package {source.debian} (apt-get install {source.debian}), or " if source.debian else ""
    )
    raise DataError(
        f"{name} is not here, and could not be downloaded: {reason}. Looked in: {', '.join(map(str, tried))}. "
        f"Remedies: {package}put its four files ({', '.join(file + '.gz' for file in IDX_FILES)}) into a folder and "
        f"name that folder in load_data({name!r}, root=...) or in the environment variable CNNZOO_DATA"
        + ("; 'fashion_mnist_sample' needs no download." if name == "fashion_mnist" else ".")
    )


def _places(root: str | os.PathLike[str] | None) -> list[Path]:
    """Folders to look in, the first of them the one to download to."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "cnnzoo"
    given = [root, os.environ.get("CNNZOO_DATA")]
    return [*(Path(place).expanduser() for place in given if place), cache]


def _download(dataset: str, target: Path) -> str:
    """Downloads through torchvision; returns what went wrong, or nothing."""
    import torchvision

    try:
        getattr(torchvision.datasets, dataset)(str(target), download=True)
    except (OSError, RuntimeError) as problem:
        return " ".join(str(problem).split()) or type(problem).__name__
    return ""


# --- IDX: big-endian header, then bytes ---


def _idx_file(folder: Path, file: str) -> Path | None:
    return next((path for path in (folder / f"{file}.gz", folder / file) if path.is_file()), None)


def _read_idx(name: str, folder: Path, classes: tuple[str, ...]) -> ImageData:
    splits = []
    for images_file, labels_file in (IDX_FILES[:2], IDX_FILES[2:]):
        images_path, labels_path = _idx_file(folder, images_file), _idx_file(folder, labels_file)
        if images_path is None or labels_path is None:
            raise DataError(f"{name}: {folder} lacks {images_file} or {labels_file} (.gz)")
        images = read_idx(images_path, dims=3).unsqueeze(1)
        labels = read_idx(labels_path, dims=1).long()
        if len(images) != len(labels):
            raise DataError(f"{images_path} holds {len(images)} images, but {labels_path.name} {len(labels)} labels")
        splits.append(Split(images, labels))
    return ImageData(name, splits[0], splits[1], classes)


def read_idx(path: Path, dims: int) -> torch.Tensor:
    """The bytes of an IDX file, plain or gzipped.

    Args:
        path: The file.
        dims: How many dimensions it must have.

    Raises:
        DataError: If the file cannot be read, is cut short, or is no IDX file of that kind.
    """
    try:
        raw = path.read_bytes()
        content = gzip.decompress(raw) if raw[:2] == b"\x1f\x8b" else raw
    except (OSError, EOFError, zlib.error) as problem:
        raise DataError(f"{path} cannot be read: {problem}; it is damaged or cut short, fetch it again") from None
    head = 4 + 4 * dims
    if len(content) < head or content[:4] != bytes([0, 0, 8, dims]):  # 8: unsigned bytes
        raise DataError(f"{path} is no IDX file of {dims} dimensions of bytes; it begins with {content[:4].hex()}")
    shape = struct.unpack(f">{dims}I", content[4:head])
    if len(content) - head != math.prod(shape):
        raise DataError(
            f"{path} says {' x '.join(map(str, shape))} = {math.prod(shape):,} bytes, but holds "
            f"{len(content) - head:,}; it is cut short or damaged, fetch it again"
        )
    return torch.frombuffer(bytearray(content[head:]), dtype=torch.uint8).reshape(shape)


# --- CIFAR-10, through torchvision ---


def _load_cifar10(root: str | os.PathLike[str] | None, download: bool) -> ImageData:
    from torchvision.datasets import CIFAR10 as Torchvision

    places = _places(root)
    here = [place for place in places if (place / Torchvision.base_folder).is_dir()]
    target = (here or places)[0]
    reason = "" if here else "downloading was not allowed (download=False)"
    if download and not here:
        reason = _download("CIFAR10", target)
    if reason:
        raise DataError(
            f"cifar10 is not here, and could not be downloaded: {reason}. Looked for {Torchvision.base_folder} in: "
            f"{', '.join(map(str, places))}. Remedy: unpack {Torchvision.filename} into one of them, or name its "
            "folder in load_data('cifar10', root=...) or in the environment variable CNNZOO_DATA."
        )
    splits = []
    for train in (True, False):
        try:
            read = Torchvision(str(target), train=train)
        except (OSError, RuntimeError) as problem:
            raise DataError(f"{target / Torchvision.base_folder} is damaged: {problem}") from None
        images = torch.from_numpy(read.data).permute(0, 3, 1, 2).contiguous()
        splits.append(Split(images, torch.tensor(read.targets)))
    return ImageData("cifar10", splits[0], splits[1], CIFAR10)


# --- folders of images ---


def _load_folder(path: Path, image_size: int | None, stream: bool | None) -> Data:
    try:
        if not path.is_dir():
            raise DataError(f"folder {path} does not exist")
    except (OSError, ValueError) as problem:
        raise problem if isinstance(problem, DataError) else DataError(f"{str(path)[:200]!r} is no path") from None
    if image_size is not None and (type(image_size) is not int or image_size < 1):
        raise InputError(f"image_size must be a whole number of px, not {image_size!r}")
    below = {folder.name.lower(): folder for folder in _folders(path)}
    train, test = (next((below[n] for n in names if n in below), None) for names in (TRAIN_NAMES, TEST_NAMES))
    if train and test:
        files = [_class_files(train), _class_files(test)]
        if set(files[0]) != set(files[1]):
            odd = sorted(set(files[0]) ^ set(files[1]))
            raise DataError(f"folder {path}: train and test have different classes ({', '.join(odd)})")
    else:
        whole = _class_files(train or path)
        every = round(1 / TEST_SHARE)
        files = [
            {c: [f for i, f in enumerate(fs) if i % every != every - 1] for c, fs in whole.items()},
            {c: fs[every - 1 :: every] for c, fs in whole.items()},
        ]
        if short := [c for c, fs in whole.items() if len(fs) < every]:
            raise DataError(
                f"folder {path}: {', '.join(short)} has fewer than {every} images, so none could be held out to test; "
                "add images, or split them yourself into train/ and test/"
            )
    classes = tuple(sorted(files[0]))
    gray = all(_is_gray(file) for part in files for fs in part.values() for file in fs)
    parts = [FolderImages([(f, i) for i, c in enumerate(classes) for f in part[c]], gray, image_size) for part in files]
    if stream is None:
        stream = sum(map(len, parts)) * parts[0][0][0].numel() > _HELD_AT_MOST
    if stream:
        listed = [(str(file.relative_to(path)), file.stat().st_size) for part in parts for file, _ in part.files]
        checksum = hashlib.sha256(repr((listed, image_size)).encode()).hexdigest()
        return StreamData(f"folder:{path}", parts[0], parts[1], classes, sha256=checksum)
    splits = []
    for part in parts:
        images = [part[i][0] for i in range(len(part))]
        sizes = {tuple(image.shape[1:]) for image in images}
        if len(sizes) > 1:
            few = ", ".join(f"{h}x{w}" for h, w in sorted(sizes)[:3])
            raise DataError(
                f"folder {path}: the images differ in size ({few}, ...); say image_size=, the side in px to which "
                "they are scaled and cropped"
            )
        splits.append(Split(torch.stack(images), torch.tensor([label for _, label in part.files])))
    return ImageData(f"folder:{path}", splits[0], splits[1], classes)


class FolderImages(torch.utils.data.Dataset[tuple[torch.Tensor, int]]):
    """Image files, each read when it is asked for.

    Attributes:
        files: Each file and its label.
    """

    def __init__(self, files: Sequence[tuple[Path, int]], gray: bool, image_size: int | None) -> None:
        self.files = files
        self._grey, self._image_size = gray, image_size

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        file, label = self.files[index]
        return _read_image(file, self._grey, self._image_size), label


def _class_files(path: Path) -> dict[str, list[Path]]:
    """Class -> its image files, sorted by name."""
    found = {
        folder.name: sorted(file for file in folder.rglob("*") if _is_image(file.relative_to(folder), file))
        for folder in _folders(path)
    }
    found = {name: files for name, files in found.items() if files}
    if not found:
        raise DataError(
            f"folder {path} holds no images; it needs one subfolder per class with files such as cat/1.png "
            f"({', '.join(sorted(IMAGE_SUFFIXES))})"
        )
    return found


def _is_image(inside: Path, file: Path) -> bool:
    hidden = any(part.startswith(".") for part in inside.parts)  # .ipynb_checkpoints, ._copies
    return not hidden and file.suffix.lower() in IMAGE_SUFFIXES and file.is_file()


def _folders(path: Path) -> Iterable[Path]:
    return sorted(folder for folder in path.iterdir() if folder.is_dir() and not folder.name.startswith("."))


def _opened(file: Path, use: Callable[[object], torch.Tensor | bool]) -> torch.Tensor | bool:
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(file) as image:
            return use(image)
    except (OSError, UnidentifiedImageError, ValueError, SyntaxError, Image.DecompressionBombError) as problem:
        raise DataError(f"{file} cannot be read as an image: {problem}") from None


def _is_gray(file: Path) -> bool:
    return bool(_opened(file, lambda image: image.mode in ("1", "L", "LA")))  # type: ignore[attr-defined]


def _read_image(file: Path, gray: bool, image_size: int | None) -> torch.Tensor:
    """One image as uint8 (C, H, W)."""
    from torchvision.transforms import functional

    def read(image: object) -> torch.Tensor:
        mode = image.mode  # type: ignore[attr-defined]
        if mode.startswith(("I", "F")):
            raise ValueError(f"its values have more than 8 bits (mode {mode}); convert it to 8 bits first")
        converted = image.convert("L" if gray else "RGB")  # type: ignore[attr-defined]
        if image_size is not None:
            converted = functional.center_crop(functional.resize(converted, image_size), [image_size, image_size])
        tensor: torch.Tensor = functional.pil_to_tensor(converted)
        return tensor

    return _opened(file, read)  # type: ignore[return-value]
