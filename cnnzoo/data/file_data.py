"""From image files to a data set: the scan, then all images in memory, or read on demand."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from cnnzoo.data.datasets import Data, ImageData, Split, StreamData
from cnnzoo.data.decoding import Decoding
from cnnzoo.data.file_splits import ClassFiles, complete_splits
from cnnzoo.data.image_files import ImageFiles
from cnnzoo.data.parallel import parallel_map
from cnnzoo.data.scan import Scan, scan
from cnnzoo.errors import DataError
from cnnzoo.progress_bar import progress_bar

_MAX_MEMORY = 2_000_000_000  # bytes of decoded images; more are read on demand


def load_image_files(
    name: str,
    splits: Mapping[str, ClassFiles],
    make_files: Callable[[str, list[Any], list[int]], ImageFiles],
    *,
    classes: Sequence[str] = (),
    cache_key: str,
    decoding: Decoding,
    split: bool,
    stream: bool | None,
    skip_bad: bool,
) -> Data:
    """Returns the data set of image files. Images are gray if all files are, else RGB.

    Args:
        name: Name of the data set.
        splits: The files of each split that exists.
        make_files: Returns the files of a split from its name, their names and their labels.
        classes: As for ``complete_splits``.
        cache_key: Under which the scan is remembered.
        decoding: How the files are decoded.
        split: As for ``complete_splits``.
        stream: Whether images are read on demand; None: if they take more than 2 GB.
        skip_bad: Whether files that cannot be read are left out, with a warning.

    Raises:
        DataError: As for ``complete_splits`` and ``scan``; or if the images differ in size, unless they are only
            evaluated (``split=False``).
    """
    classes, class_files = complete_splits(name, splits, split, classes)
    is_whole = class_files["train"] is class_files["test"]
    files = {
        split_name: _with_labels(split_name, names, classes, make_files)
        for split_name, names in class_files.items()
        if not (is_whole and split_name == "test")
    }
    result = scan(name, files, cache_key, skip_bad)
    channels = 1 if result.is_gray else 3
    images = {key: value.with_decoding(decoding, channels) for key, value in result.splits.items()}
    height, width = next(iter(result.sizes))
    if decoding.image_size is not None:
        height = width = decoding.image_size
    elif len(result.sizes) > 1:
        if split or stream is False:
            raise DataError(_size_message(name, result))
        stream = True
    if stream is None:
        stream = sum(map(len, images.values())) * channels * height * width > _MAX_MEMORY
    if stream:
        checksum = hashlib.sha256(repr((result.sha256, classes, decoding.to_dict())).encode()).hexdigest()
        return StreamData(
            name, images["train"], images.get("test", images["train"]), classes, sha256=checksum,
            val=images.get("val"), decoding=decoding, skipped=result.skipped,
        )  # fmt: skip
    with progress_bar("reading images", sum(map(len, images.values()))) as advance:
        memory = {key: _read_all(value, (channels, height, width), advance) for key, value in images.items()}
    return ImageData(
        name, memory["train"], memory.get("test", memory["train"]), classes,
        val=memory.get("val"), decoding=decoding, skipped=result.skipped,
    )  # fmt: skip


def _with_labels(
    split_name: str,
    class_files: ClassFiles,
    classes: Sequence[str],
    make_files: Callable[[str, list[Any], list[int]], ImageFiles],
) -> ImageFiles:
    names, labels = list[Any](), list[int]()
    for label, class_name in enumerate(classes):
        files = class_files.get(class_name, ())
        names += files
        labels += [label] * len(files)
    return make_files(split_name, names, labels)


def _size_message(name: str, result: Scan) -> str:
    examples = [f"{height}x{width}: {file[:200]!r}" for (height, width), file in result.sizes.items()]
    return (
        f"{name}: the images differ in size ({', '.join(examples[:2])}, ...); give image_size= (--image-size), the "
        "side in px to which they are resized and cropped"
    )


def _read_all(files: ImageFiles, shape: Sequence[int], advance: Callable[[int], None]) -> Split:
    """Returns all images, read into memory."""
    images = torch.empty(len(files), *shape, dtype=torch.uint8)

    def read(i: int) -> None:
        images[i] = files[i][0]

    with parallel_map() as map_images:
        for _ in map_images(read, range(len(files))):
            advance(1)
    return Split(images, files.labels.long(), files)
