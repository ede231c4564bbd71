"""Training, validation and test images of a data set of files: which there are, and which classes they have."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from cnnzoo.errors import DataError
from cnnzoo.limits import MAX_NAME_LENGTH
from cnnzoo.text import is_printable

SPLIT_NAMES = {
    "train": ("train", "training"),
    "val": ("val", "valid", "validation"),
    "test": ("test", "testing"),
}
SPLIT_OF_NAME = {name: split for split, names in SPLIT_NAMES.items() for name in names}
SPLIT_HELP = "train (training), val (valid, validation) and test (testing)"
_TEST_EVERY = 5  # every fifth image of a class is a test image, in a data set without test images

ClassFiles = Mapping[str, Sequence[Any]]  # class -> its files: names, or numbers of rows


def complete_splits(
    where: str, splits: Mapping[str, ClassFiles], split: bool, classes: Sequence[str] = ()
) -> tuple[tuple[str, ...], dict[str, ClassFiles]]:
    """Returns the classes, and the files of ``train``, ``test`` and perhaps ``val``.

    Without test images, the validation images are the test images; without either, every fifth image of each class.

    Args:
        where: Name of the data set, for messages.
        splits: The files of each split that exists.
        split: Whether the data set is to be trained on. If not, it needs no training images, and images that are not
            split are both the training and the test images, as the same object.
        classes: The classes, in order; by default those of the training images, sorted by name.

    Raises:
        DataError: If there are no training images, a class has too few images to be split, the name of a class cannot
            be printed, a split has a class that the training images lack, or there are fewer than two classes.
    """
    if "train" not in splits and split:
        names = " and ".join(f"{name} images" for name in splits)
        raise DataError(
            f"{where} has {names}, but no training images; add them as train. To evaluate on all images, pass "
            "split=False"
        )
    if "train" not in splits:  # only evaluated
        source = "test" if "test" in splits else "val"
        others = {name: class_files for name, class_files in splits.items() if name != source}
        splits = {**others, "train": splits[source], "test": splits[source]}
    elif not split and len(splits) == 1:
        splits = {**splits, "test": splits["train"]}
    classes = tuple(classes or sorted(splits["train"]))
    _check_class_names(where, {*classes, *(name for class_files in splits.values() for name in class_files)})
    for split_name, class_files in splits.items():
        if unknown_classes := sorted(set(class_files) - set(classes)):
            raise DataError(
                f"{where}: {split_name} has classes that train does not have: {_listed(unknown_classes)}. The classes "
                f"of train are {_listed(classes)}; classes are matched by name"
            )
    if len(classes) < 2 and split:
        raise DataError(
            f"{where} has only one class, {classes[0]!r}, and a classifier needs at least two: put the images of each "
            "class into a subfolder, or a row, of its own"
        )
    if "test" in splits:
        return classes, dict(splits)
    if "val" in splits:
        return classes, {"train": splits["train"], "test": splits["val"]}
    return classes, _split_every_fifth(where, splits["train"])


def _split_every_fifth(where: str, class_files: ClassFiles) -> dict[str, ClassFiles]:
    if small := [name for name, files in class_files.items() if len(files) < _TEST_EVERY]:
        raise DataError(
            f"{where}: too few images of {_listed(small)} to split off test images (at least {_TEST_EVERY} per class); "
            "add images, or split them yourself into train and test"
        )
    last = _TEST_EVERY - 1
    return {
        "train": {name: [f for i, f in enumerate(fs) if i % _TEST_EVERY != last] for name, fs in class_files.items()},
        "test": {name: files[last::_TEST_EVERY] for name, files in class_files.items()},
    }


def _check_class_names(where: str, names: Iterable[str]) -> None:
    """Raises DataError if a name of a class is blank or long, is not valid Unicode, or has control characters."""
    for name in sorted(names):
        if not name.strip() or len(name) > MAX_NAME_LENGTH or not is_printable(name):
            is_text = not any(unicodedata.category(character) == "Cs" for character in name)
            reason = "is blank, long or has control characters" if is_text else "is not valid UTF-8"
            raise DataError(f"{where}: the name of the class {name[:200]!r} {reason}; rename it")


def _listed(names: Sequence[str], shown: int = 20) -> str:
    """Returns names as text of bounded length."""
    more = f" and {len(names) - shown:,} more" if len(names) > shown else ""
    return ", ".join(name if len(name) <= 60 else f"{name[:60]}..." for name in names[:shown]) + more
