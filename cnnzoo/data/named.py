"""Data sets by name: the search for their files, and their download by torchvision."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import torch

from cnnzoo.data.datasets import Data, ImageData, Split
from cnnzoo.data.folder import load_folder
from cnnzoo.data.idx import IDX_FILES, find_idx_file, read_idx_folder
from cnnzoo.errors import DataError, InputError, unknown

SAMPLE_FOLDER = Path(__file__).parent / "fashion_mnist_sample"
FASHION_MNIST_CLASSES = (
    "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
)  # fmt: skip
CIFAR10_CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


@dataclass(frozen=True)
class IdxSource:
    """The places where the IDX files of a data set are found.

    Attributes:
        classes: Name of each class.
        torchvision_class: Class of ``torchvision.datasets`` that downloads it.
        folders: Names of its folder within a data folder.
        system_folders: Folders where system packages install it.
        debian_package: Name of the Debian package; empty if there is none.
    """

    classes: tuple[str, ...]
    torchvision_class: str
    folders: tuple[str, ...]
    system_folders: tuple[str, ...] = ()
    debian_package: str = ""


IDX_SOURCES = {
    "fashion_mnist": IdxSource(
        classes=FASHION_MNIST_CLASSES,
        torchvision_class="FashionMNIST",
        folders=("fashion_mnist", "fashion-mnist", "FashionMNIST/raw"),
        system_folders=("/usr/share/datasets/fashion-mnist",),
        debian_package="dataset-fashion-mnist",
    ),
    "mnist": IdxSource(classes=tuple("0123456789"), torchvision_class="MNIST", folders=("mnist", "MNIST/raw")),
}


def list_data() -> list[str]:
    """Returns the names that ``load_data`` accepts, besides ``folder:PATH``."""
    return sorted([*IDX_SOURCES, "fashion_mnist_sample", "cifar10"])


def load_data(
    name: str,
    root: str | os.PathLike[str] | None = None,
    *,
    download: bool = True,
    image_size: int | None = None,
    stream: bool | None = None,
) -> Data:
    """Loads a data set by name.

    The files of a named data set are searched for in ``root``, in the folder that the environment variable
    ``CNNZOO_DATA`` names, in the cache (``~/.cache/cnnzoo``) and where system packages install them. If they are
    in none of these, torchvision downloads them into the first.

    Args:
        name: ``"fashion_mnist"``, ``"fashion_mnist_sample"`` (ships with cnnzoo), ``"mnist"``, ``"cifar10"``, or
            ``"folder:PATH"``: one subfolder per class, in PATH or in PATH/train and PATH/test (or val). A folder
            without test images is split: every fifth image of each class, by name, becomes a test image.
        root: The folder to search first, and to download to.
        download: Whether missing files may be downloaded.
        image_size: For folders: the shorter side of each image is resized to this many px, and the central square is
            kept. Required if the images differ in size.
        stream: For folders: whether images are read on demand (True) or all at once into memory (False); by default on
            demand if they would take more than 2 GB.

    Raises:
        UnknownNameError: If no data set has that name.
        DataError: If the files are neither found nor downloaded, or are damaged.
        InputError: If ``image_size`` or ``stream`` is given for a named data set.
    """
    if name.startswith("folder:"):
        return load_folder(Path(name.removeprefix("folder:")).expanduser(), image_size, stream)
    if image_size is not None or stream is not None:
        raise InputError(
            "image_size= and stream= are for folder:PATH only; images of other data sets are resized during training"
        )
    if name == "fashion_mnist_sample":
        return read_idx_folder(name, SAMPLE_FOLDER, FASHION_MNIST_CLASSES)
    if name == "cifar10":
        return _load_cifar10(root, download)
    if name not in IDX_SOURCES:
        raise unknown("data set", name, [*list_data(), "folder:PATH"])
    return _load_idx(name, IDX_SOURCES[name], root, download)


def _data_folders(root: str | os.PathLike[str] | None) -> list[Path]:
    """Returns the folders to search, the first of which is the one to download to."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "cnnzoo"
    return [*(Path(folder).expanduser() for folder in (root, os.environ.get("CNNZOO_DATA")) if folder), cache]


def _download(torchvision_class: str, folder: Path) -> str:
    """Downloads a data set with torchvision; returns the reason of a failure, else an empty string."""
    import torchvision

    try:
        getattr(torchvision.datasets, torchvision_class)(str(folder), download=True)
    except (OSError, RuntimeError) as error:
        return " ".join(str(error).split()) or type(error).__name__
    return ""


def _load_idx(name: str, source: IdxSource, root: str | os.PathLike[str] | None, download: bool) -> ImageData:
    data_folders = _data_folders(root)
    candidates = [data_folder / folder for data_folder in data_folders for folder in ("", *source.folders)]
    candidates += [Path(folder) for folder in source.system_folders]
    for folder in candidates:
        if all(find_idx_file(folder, file) for file in IDX_FILES):
            return read_idx_folder(name, folder, source.classes)
    target = data_folders[0]
    failure = _download(source.torchvision_class, target) if download else "downloads are disabled (download=False)"
    if not failure:
        return read_idx_folder(name, target / source.folders[-1], source.classes)
    package = source.debian_package
    raise DataError(
        f"{name} was not found and not downloaded: {failure}. Searched: {', '.join(map(str, candidates))}. "
        f"Remedies: {f'install the Debian package {package} (apt-get install {package}), or ' if package else ''}"
        f"put its four files ({', '.join(file + '.gz' for file in IDX_FILES)}) into a folder, and give the folder as "
        f"load_data({name!r}, root=...) or as the environment variable CNNZOO_DATA"
        + ("; 'fashion_mnist_sample' needs no download." if name == "fashion_mnist" else ".")
    )


def _load_cifar10(root: str | os.PathLike[str] | None, download: bool) -> ImageData:
    from torchvision.datasets import CIFAR10

    candidates = _data_folders(root)
    existing = [folder for folder in candidates if (folder / CIFAR10.base_folder).is_dir()]
    folder = (existing or candidates)[0]
    if not existing:
        failure = _download("CIFAR10", folder) if download else "downloads are disabled (download=False)"
        if failure:
            raise DataError(
                f"cifar10 was not found and not downloaded: {failure}. Searched for {CIFAR10.base_folder} in: "
                f"{', '.join(map(str, candidates))}. Remedy: unpack {CIFAR10.filename} into one of these, or give its "
                "folder as load_data('cifar10', root=...) or as the environment variable CNNZOO_DATA."
            )
    splits = []
    for train in (True, False):
        try:
            dataset = CIFAR10(str(folder), train=train)
        except (OSError, RuntimeError) as error:
            raise DataError(f"{folder / CIFAR10.base_folder} is damaged: {error}; delete it and load again") from None
        images = torch.from_numpy(dataset.data).permute(0, 3, 1, 2).contiguous()
        splits.append(Split(images, torch.tensor(dataset.targets)))
    return ImageData("cifar10", splits[0], splits[1], CIFAR10_CLASSES)
