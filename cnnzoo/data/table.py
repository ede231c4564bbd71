"""Tables of image files and labels, as CSV."""

from __future__ import annotations

import csv
import os
from collections.abc import Sequence
from io import TextIOWrapper
from pathlib import Path

from cnnzoo.data.datasets import Data
from cnnzoo.data.decoding import Decoding
from cnnzoo.data.file_data import load_image_files
from cnnzoo.data.file_splits import SPLIT_HELP, SPLIT_OF_NAME
from cnnzoo.data.image_files import LocalFiles
from cnnzoo.data.registry import register_data
from cnnzoo.errors import DataError
from cnnzoo.files import open_regular, os_reason

_SPLIT_COLUMN = "split"


@register_data("csv")
def load_table(
    path: str,
    *,
    image_column: str = "file",
    label_column: str = "label",
    image_size: int | None = None,
    stream: bool | None = None,
    split: bool = True,
    skip_bad: bool = False,
    background: int = 255,
    scaled: bool = True,
) -> Data:
    """Loads the images that a CSV file lists; see ``load_data``.

    Raises:
        DataError: If the table cannot be read, lacks a column or a value, names a file twice, or has files that cannot
            be read; for classes and sizes, see ``load_image_files``.
        InputError: If an option does not take its value.
    """
    decoding = Decoding(image_size, background, scaled)
    file = os.path.expanduser(path)
    splits = _read_table(file, image_column, label_column)
    return load_image_files(
        f"csv:{path}",
        splits,
        lambda _, names, labels: LocalFiles(os.path.dirname(file), names, labels),
        cache_key=os.path.abspath(file),
        decoding=decoding,
        split=split,
        stream=stream,
        skip_bad=skip_bad,
    )


def _read_table(path: str, image_column: str, label_column: str) -> dict[str, dict[str, list[str]]]:
    """Returns the files of each class of each split; all are in ``train`` if there is no column ``split``."""
    splits: dict[str, dict[str, list[str]]] = {}
    line_of: dict[str, int] = {}
    try:
        with TextIOWrapper(open_regular(Path(path)), encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file)
            columns = _find_columns(path, next(reader, []), image_column, label_column)
            for row in reader:
                if not row:
                    continue
                where = f"{path}, line {reader.line_num}"
                name, label, split_name = (row[i].strip() if i < len(row) else "" for i in columns)
                if not name or not label:
                    raise DataError(f"{where}: the column {(image_column if not name else label_column)!r} is empty")
                name = os.path.normpath(name).replace(os.sep, "/")
                if line_of.setdefault(name, reader.line_num) != reader.line_num:
                    raise DataError(f"{where}: {name[:200]!r} is listed already in line {line_of[name]}; keep one")
                split = SPLIT_OF_NAME.get(split_name.lower()) if columns[2] < _NO_COLUMN else "train"
                if split is None:
                    raise DataError(
                        f"{where}: the column {_SPLIT_COLUMN!r} has {split_name[:200]!r}; its values are {SPLIT_HELP}"
                    )
                splits.setdefault(split, {}).setdefault(label, []).append(name)
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8 text ({error.reason} at byte {error.start}); save it as UTF-8") from None
    except (csv.Error, ValueError) as error:
        raise DataError(f"{path[:200]} cannot be read as CSV: {error}") from None
    except OSError as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{path[:200]} cannot be read: {os_reason(error)}") from None
    if not splits:
        raise DataError(f"{path} has a header, but no rows")
    return splits


_NO_COLUMN = 2**31  # index of a column that does not exist


def _find_columns(path: str, header: Sequence[str], image_column: str, label_column: str) -> tuple[int, int, int]:
    """Returns the index of the columns of files, labels and splits.

    Raises:
        DataError: If one of the first two is missing, or a name stands for several columns.
    """
    names = [name.strip() for name in header]
    for option, column in (("image_column", image_column), ("label_column", label_column)):
        if column not in names:
            has = f"its columns are {', '.join(map(repr, names[:20]))[:500]}" if names else "it is empty"
            separator = next((mark for mark in ";\t|" if any(mark in name for name in names)), "")
            if separator:
                has += f" (separated by {separator!r}; save the file with commas)"
            raise DataError(
                f"{path} has no column {column!r}: {has}. The first line of the file must name the columns; choose one "
                f"with {option}= (--{option.replace('_', '-')})"
            )
    wanted = (image_column, label_column, _SPLIT_COLUMN)
    if repeated := [name for name in wanted if names.count(name) > 1]:
        raise DataError(f"{path} has several columns called {repeated[0]!r}; rename all but one")
    image, label, split = (names.index(name) if name in names else _NO_COLUMN for name in wanted)
    return image, label, split
