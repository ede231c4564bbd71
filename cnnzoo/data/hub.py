"""Data sets of the Hugging Face Hub, through the package ``datasets``."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

from cnnzoo.data.datasets import Data
from cnnzoo.data.decoding import Decoding
from cnnzoo.data.file_data import load_image_files
from cnnzoo.data.file_splits import SPLIT_OF_NAME, ClassFiles
from cnnzoo.data.image_files import ImageFiles, compact_ints
from cnnzoo.data.registry import register_data
from cnnzoo.errors import DataError


@register_data("hf")
def load_hub_data(
    name: str,
    *,
    image_column: str | None = None,
    label_column: str | None = None,
    image_size: int | None = None,
    stream: bool | None = None,
    split: bool = True,
    skip_bad: bool = False,
    background: int = 255,
    scaled: bool = True,
) -> Data:
    """Loads a data set with ``datasets.load_dataset``; see ``load_data``.

    Raises:
        DataError: If ``datasets`` is not installed, the data set cannot be loaded, or its columns are not clear; for
            classes, sizes and images that cannot be read, see ``load_image_files``.
        InputError: If an option does not take its value.
    """
    decoding = Decoding(image_size, background, scaled)
    where = f"hf:{name}"
    tables = _load_tables(where, *name.partition(":")[::2])
    features = next(iter(tables.values())).features
    image = _find_column(where, features, "Image", "image_column", image_column)
    label = _find_column(where, features, "ClassLabel", "label_column", label_column)
    class_names = getattr(features[label], "names", None)
    splits, n = dict[str, ClassFiles](), 0
    for key, table in tables.items():
        rows = _rows_of_classes(f"{where}, {key}", table, label, class_names)
        if rows:
            splits[key] = {name: [n + row for row in members] for name, members in rows.items()}
        n += len(table)
    return load_image_files(
        where,
        splits,
        lambda _, rows, labels: HubFiles(tables, image, rows, labels),
        classes=class_names or (),
        cache_key=where,
        decoding=decoding,
        split=split,
        stream=stream,
        skip_bad=skip_bad,
    )


class HubFiles(ImageFiles):
    """Images in the rows of tables of ``datasets``.

    Args:
        tables: Each split, a ``datasets.Dataset``.
        column: The column of images.
        rows: The row of each image, counted over all tables.
        labels: The label of each image.
    """

    _columns = ("labels", "_rows")

    def __init__(self, tables: Mapping[str, Any], column: str, rows: Sequence[int], labels: Sequence[int]) -> None:
        from datasets import Image, concatenate_datasets

        super().__init__(labels)
        images = [table.select_columns([column]).cast_column(column, Image(decode=False)) for table in tables.values()]
        self._table, self._column = concatenate_datasets(images), column
        self._sizes = {split: len(table) for split, table in tables.items()}
        self._stamp = " ".join(str(getattr(table, "_fingerprint", "")) for table in tables.values())
        self._rows = compact_ints(rows)

    def name(self, i: int) -> str:
        """Returns split and number of a row."""
        row, splits = int(self._rows[i]), iter(self._sizes.items())
        split, size = next(splits)
        while row >= size:
            row -= size
            split, size = next(splits)
        return f"{split}/{row}"

    def stamp(self, i: int) -> str:
        """Returns the fingerprints of the tables."""
        return self._stamp

    def source(self, i: int) -> str | bytes:
        """Returns the content of an image, or the path of its file."""
        image = self._table[int(self._rows[i])][self._column] or {}
        return image.get("bytes") or image.get("path") or b""


def _load_tables(where: str, name: str, config: str) -> dict[str, Any]:
    """Returns the table of each split."""
    try:
        import datasets
    except ImportError:
        raise DataError(f"{where} needs the package datasets: pip install 'cnnzoo[hf]'") from None
    path = os.path.expanduser(name)
    try:
        loaded = datasets.load_dataset(path if os.path.isdir(path) else name, *([config] if config else []))
    except Exception as error:  # of many types, from the Hub and from readers of files
        reason = " ".join(str(error).split())[:500] or type(error).__name__
        raise DataError(
            f"{where} cannot be loaded: {reason}. NAME is user/name on the Hub or a folder; hf:NAME:CONFIG chooses a "
            "configuration"
        ) from error
    tables: dict[str, Any] = {}
    for split_name, table in loaded.items():
        split = SPLIT_OF_NAME.get(split_name)
        if split is None:
            warnings.warn(f"{where}: the split {split_name!r} is not read", stacklevel=5)
        elif len(table):
            tables[split] = table
    if not tables:
        raise DataError(f"{where} has no rows in splits that are read; its splits are {', '.join(loaded)}")
    return tables


def _find_column(where: str, features: Mapping[str, Any], kind: str, option: str, name: str | None) -> str:
    """Returns the column that an option names, or else the only column of a kind.

    Raises:
        DataError: If there is none, or there are several.
    """
    candidates = [column for column, feature in features.items() if type(feature).__name__ == kind]
    hint = f"choose one with {option}= (--{option.replace('_', '-')})"
    if name is None and len(candidates) == 1:
        return candidates[0]
    if name is None and candidates:
        raise DataError(f"{where} has several columns of type {kind}: {', '.join(candidates)}; {hint}")
    if name is None:
        raise DataError(f"{where} has no column of type {kind}; its columns are {', '.join(features)}; {hint}")
    if name not in features or (kind == "Image" and name not in candidates):
        has = f"its columns are {', '.join(features)}"
        raise DataError(f"{where} has no column {name!r}{' of type Image' * (kind == 'Image')}; {has}; {hint}")
    return name


def _rows_of_classes(where: str, table: Any, column: str, class_names: Sequence[str] | None) -> dict[str, list[int]]:
    """Returns the rows of each class; none, with a warning, if no row has a label.

    Raises:
        DataError: If some rows have no label.
    """
    rows: dict[str, list[int]] = {}
    unlabeled = list[int]()
    for row, label in enumerate(table[column]):
        if label is None or (class_names is not None and label < 0):
            unlabeled.append(row)
        else:
            rows.setdefault(str(label) if class_names is None else class_names[label], []).append(row)
    if unlabeled and rows:
        raise DataError(f"{where}: {len(unlabeled):,} rows have no label, the first of which is row {unlabeled[0]}")
    if unlabeled:
        warnings.warn(f"{where}: no row has a label, so that the split is not read", stacklevel=5)
    return rows
