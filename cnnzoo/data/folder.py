"""Folders of images, one subfolder per class."""

from __future__ import annotations

import os
import stat
import warnings
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from cnnzoo.data.datasets import Data
from cnnzoo.data.decoding import Decoding
from cnnzoo.data.file_data import load_image_files
from cnnzoo.data.file_splits import SPLIT_HELP, SPLIT_OF_NAME
from cnnzoo.data.image_files import LocalFiles
from cnnzoo.data.registry import register_data
from cnnzoo.errors import DataError
from cnnzoo.files import os_reason

# those that Pillow reads by itself, and HEIC, which pillow_heif.register_heif_opener() adds to it
_SUFFIXES = (
    ".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".bmp", ".gif", ".webp", ".avif", ".heic", ".heif", ".jp2",
    ".pbm", ".pgm", ".pnm", ".ppm", ".tif", ".tiff",
)  # fmt: skip
_SYSTEM_FILES = ("thumbs.db", "desktop.ini")


def image_suffixes() -> list[str]:
    """Returns the suffixes of the image files that this installation of Pillow can read, in lower case."""
    from PIL import Image

    readable = Image.registered_extensions()
    return [suffix for suffix in _SUFFIXES if suffix in readable]


def list_image_files(path: Path) -> list[Path]:
    """Returns the image files in a folder and its subfolders, sorted by name, without hidden ones.

    Raises:
        DataError: If there are none, or a folder cannot be read.
    """
    suffixes = tuple(image_suffixes())
    names = list(_walk(str(path)))
    images = _sorted([name for name in names if name.lower().endswith(suffixes)])
    if not images:
        raise DataError(f"folder {path} holds no images ({_counts(names)}); the suffixes are {' '.join(suffixes)}")
    return [path / name for name in images]


@register_data("folder")
def load_folder(
    path: str,
    *,
    image_size: int | None = None,
    stream: bool | None = None,
    split: bool = True,
    skip_bad: bool = False,
    background: int = 255,
    scaled: bool = True,
) -> Data:
    """Loads a folder of images; see ``load_data``.

    Raises:
        DataError: If the folder does not exist or holds no images, holds folders that are not read, has no training
            images, or has files that cannot be read; for classes and sizes, see ``load_image_files``.
        InputError: If an option does not take its value.
    """
    decoding = Decoding(image_size, background, scaled)
    folder = os.path.expanduser(path)
    try:
        exists = os.path.isdir(folder)
    except ValueError:
        exists = False
    if not exists:
        is_file = "is a file; folder:PATH names a folder" if os.path.isfile(folder) else "does not exist"
        raise DataError(f"folder {folder[:200]} {is_file}")
    reader = _FolderReader(folder)
    splits = {name: reader.list_classes(subfolder) for name, subfolder in reader.find_splits().items()}
    reader.warn_ignored()
    return load_image_files(
        f"folder:{path}",
        splits,
        lambda _, names, labels: LocalFiles(folder, names, labels),
        cache_key=os.path.abspath(folder),
        decoding=decoding,
        split=split,
        stream=stream,
        skip_bad=skip_bad,
    )


class _FolderReader:
    """The classes of a folder of images, and what lies in it besides."""

    def __init__(self, root: str) -> None:
        self._root = root
        self._suffixes = tuple(image_suffixes())
        self._ignored: Counter[str] = Counter()

    def find_splits(self) -> dict[str, str]:
        """Returns the folder of each split, relative to the root; that of ``train`` is empty if there are no splits."""
        subfolders = self._subfolders("")
        splits: dict[str, str] = {}
        for name in subfolders:
            split = SPLIT_OF_NAME.get(name.lower())
            if split is None or not any(self._has_images(f"{name}/{inner}") for inner in self._subfolders(name)):
                continue
            if split in splits:
                raise DataError(
                    f"folder {self._root} has {splits[split]}/ and {name}/, which are both {split}; keep one"
                )
            splits[split] = name
        if not splits:
            return {"train": ""}
        others = [f"{name}/" for name in subfolders if name not in splits.values() and self._has_images(name)]
        if others:
            raise DataError(
                f"folder {self._root} has {', '.join(f'{name}/' for name in splits.values())}, and other folders with "
                f"images that are not read: {', '.join(others[:10])}{', ...' if len(others) > 10 else ''}. The folders "
                f"of splits are {SPLIT_HELP}, with a subfolder per class; rename the others, or move them away"
            )
        return splits

    def list_classes(self, split_folder: str) -> dict[str, list[str]]:
        """Returns the image files of each class of a split, relative to the root.

        Raises:
            DataError: If there are no images at all, or a class has none but other files.
        """
        prefix = f"{split_folder}/" if split_folder else ""
        classes: dict[str, list[str]] = {}
        for class_name in self._subfolders(split_folder):
            names = list(_walk(os.path.join(self._root, prefix + class_name)))
            images = [name for name in names if self._is_image(name)]
            others = [name for name in names if not self._is_image(name)]
            if images:
                classes[class_name] = [f"{prefix}{class_name}/{name}" for name in _sorted(images)]
                self._ignored.update(f"{_suffix(name)} files" for name in others)
            elif others:
                raise DataError(
                    f"folder {self._root}/{prefix}{class_name} holds no image that Pillow can read, but "
                    f"{_counts(others)}; the suffixes are {' '.join(self._suffixes)}. Convert the files, or move the "
                    "folder away"
                )
            else:
                self._ignored["empty folders"] += 1
        direct = [entry.name for entry in _entries(os.path.join(self._root, split_folder)) if not _is_folder(entry)]
        outside = sum(map(self._is_image, direct))
        if not classes:
            lying = f" ({outside:,} images lie directly in it)" if outside else ""
            raise DataError(
                f"folder {os.path.join(self._root, split_folder)} holds no images in subfolders{lying}; it needs one "
                f"subfolder per class with files such as cat/1.png ({' '.join(self._suffixes)})"
            )
        self._ignored["images outside of the class folders"] += outside
        return classes

    def warn_ignored(self) -> None:
        """Warns about what lies in the folder and is not read."""
        ignored = [f"{n:,} {what}" for what, n in self._ignored.most_common() if n]
        if ignored:
            warnings.warn(f"folder {self._root}: not read: {', '.join(ignored[:20])}", stacklevel=4)

    def _subfolders(self, relative: str) -> list[str]:
        return sorted(entry.name for entry in _entries(os.path.join(self._root, relative)) if _is_folder(entry))

    def _has_images(self, relative: str) -> bool:
        return any(map(self._is_image, _walk(os.path.join(self._root, relative))))

    def _is_image(self, name: str) -> bool:
        return name.lower().endswith(self._suffixes)


def _walk(folder: str) -> Iterator[str]:
    """Yields the files in a folder and its subfolders, relative to it, without hidden ones.

    Links to folders are followed, each folder once, but not to a folder that ``folder`` lies in.
    """
    pending, seen = [""], set(map(_identity, Path(folder).resolve().parents))
    while pending:
        relative = pending.pop()
        path = os.path.join(folder, relative)
        entries, identity = _entries(path), _identity(path)
        if identity in seen:
            continue
        seen.add(identity)
        for entry in entries:
            name = relative + entry.name
            if _is_folder(entry):
                pending.append(f"{name}/")
            elif entry.name.lower() not in _SYSTEM_FILES:
                yield name


def _entries(path: str) -> list[os.DirEntry[str]]:
    """Returns what a folder holds, without hidden files: .ipynb_checkpoints, macOS's ._ files."""
    try:
        with os.scandir(path) as entries:
            return [entry for entry in entries if not entry.name.startswith(".")]
    except OSError as error:
        raise DataError(f"folder {path} cannot be read: {os_reason(error)}") from None


def _identity(path: str | Path) -> tuple[int, int]:
    info = os.stat(path)
    return info.st_dev, info.st_ino


def _is_folder(entry: os.DirEntry[str]) -> bool:
    """Returns whether an entry is a folder, or a link to one.

    Raises:
        DataError: If it is a link that cannot be followed; that of an image file is reported by the scan.
    """
    if not entry.is_symlink():
        return entry.is_dir()
    try:
        return stat.S_ISDIR(entry.stat().st_mode)
    except OSError as error:
        if entry.name.lower().endswith(tuple(image_suffixes())):
            return False
        raise DataError(
            f"{entry.path} is a link that cannot be followed: {os_reason(error)}; repair it, or remove it"
        ) from None


def _sorted(names: list[str]) -> list[str]:
    return sorted(names, key=lambda name: name.split("/"))


def _suffix(name: str) -> str:
    return os.path.splitext(name)[1].lower()[:20] or "unnamed"


def _counts(names: list[str]) -> str:
    """Returns the number of files of each suffix, as text."""
    counts = Counter(map(_suffix, names)).most_common()
    return ", ".join(f"{n:,} {suffix} files" for suffix, n in counts[:10]) or "no files"
