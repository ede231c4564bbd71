"""The named data sets: the search for their files, and their download by torchvision."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import torch

from cnnzoo.data.datasets import ImageData, Split
from cnnzoo.data.idx import IDX_FILES, find_idx_file, read_idx_folder
from cnnzoo.data.registry import register_data
from cnnzoo.errors import DataError
from cnnzoo.files import cache_folder

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


@register_data("fashion_mnist")
def load_fashion_mnist(*, root: str | None = None, download: bool = True) -> ImageData:
    """Loads Fashion-MNIST; see ``load_data``."""
    return _load_idx("fashion_mnist", root, download)


@register_data("mnist")
def load_mnist(*, root: str | None = None, download: bool = True) -> ImageData:
    """Loads MNIST; see ``load_data``."""
    return _load_idx("mnist", root, download)


@register_data("fashion_mnist_sample")
def load_sample() -> ImageData:
    """Loads the sample of Fashion-MNIST that ships with cnnzoo."""
    return read_idx_folder("fashion_mnist_sample", SAMPLE_FOLDER, FASHION_MNIST_CLASSES)


def _data_folders(root: str | None) -> list[Path]:
    """Returns the folders to search, the first of which is the one to download to."""
    named = (Path(folder).expanduser() for folder in (root, os.environ.get("CNNZOO_DATA")) if folder)
    return [*named, cache_folder()]


def _download(torchvision_class: str, folder: Path) -> str:
    """Downloads a data set with torchvision; returns the reason of a failure, else an empty string."""
    import torchvision

    try:
        getattr(torchvision.datasets, torchvision_class)(str(folder), download=True)
    except (OSError, RuntimeError) as error:
        return " ".join(str(error).split()) or type(error).__name__
    return ""


def _load_idx(name: str, root: str | None, download: bool) -> ImageData:
    source, data_folders = IDX_SOURCES[name], _data_folders(root)
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


@register_data("cifar10")
def load_cifar10(*, root: str | None = None, download: bool = True) -> ImageData:
    """Loads CIFAR-10; see ``load_data``."""
    from torchvision.datasets import CIFAR10

    candidates = _data_folders(root)
    existing = [folder for folder in candidates if os.path.isdir(folder / CIFAR10.base_folder)]
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
