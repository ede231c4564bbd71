"""The check of all images before any is used; what it learned of each is remembered in the cache folder."""

from __future__ import annotations

import contextlib
import hashlib
import os
import sqlite3
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch

from cnnzoo.data.decoding import is_rotated, open_image, require_8_bits
from cnnzoo.data.image_files import ImageFiles
from cnnzoo.data.parallel import parallel_map
from cnnzoo.errors import DataError
from cnnzoo.files import cache_folder
from cnnzoo.progress_bar import progress_bar

_CHUNK = 256  # images that are looked up, and written to the cache, at a time
_SHOWN = 10  # bad images that an error names


class ImageInfo(NamedTuple):
    """What the check learns of an image.

    Attributes:
        is_gray: Whether it has one channel, besides transparency.
        height: Height in px, after it is rotated upright.
        width: Width in px, after it is rotated upright.
        sha256: Checksum of its encoded content.
    """

    is_gray: bool
    height: int
    width: int
    sha256: bytes


@dataclass
class Scan:
    """The result of the check of a data set.

    Attributes:
        splits: The images that can be read, split by split.
        is_gray: Whether all images are gray.
        sizes: Sizes (height, width) of up to three images that differ in size, and the name of one of each.
        skipped: Names of the images that cannot be read.
        sha256: Checksum of names, contents, labels and splits of the images.
    """

    splits: dict[str, ImageFiles]
    is_gray: bool = True
    sizes: dict[tuple[int, int], str] = field(default_factory=dict)
    skipped: tuple[str, ...] = ()
    sha256: str = ""


def scan(where: str, splits: Mapping[str, ImageFiles], cache_key: str, skip_bad: bool) -> Scan:
    """Checks all images of a data set by decoding them completely.

    Args:
        where: Name of the data set, for messages.
        splits: The images of each split.
        cache_key: Under which the results are remembered: the absolute path of a folder.
        skip_bad: Whether images that cannot be read are left out, with a warning.

    Raises:
        DataError: If images cannot be read, and ``skip_bad`` is False, or a split has no others.
    """
    result, bad = Scan(dict(splits)), dict[str, str]()
    digest = hashlib.sha256()
    total = sum(map(len, splits.values()))
    with _ScanCache(cache_key) as cache, progress_bar("checking images", total) as advance:
        for split_name, images in splits.items():
            is_good = torch.ones(len(images), dtype=torch.bool)
            for i, (name, info) in enumerate(_check_all(images, cache)):
                if isinstance(info, str):
                    bad[name], is_good[i] = info, False
                else:
                    result.is_gray &= info.is_gray
                    if len(result.sizes) < 3:
                        result.sizes.setdefault((info.height, info.width), name)
                    digest.update(f"{split_name}\0{name}\0{images.labels[i]}\0".encode(errors="surrogateescape"))
                    digest.update(info.sha256)
                advance(1)
            if not is_good.all():
                result.splits[split_name] = images[is_good.nonzero().flatten()]
    if bad:
        _report_bad(where, bad, total, skip_bad)
        empty = [name for name, images in result.splits.items() if not len(images)]
        if empty:
            raise DataError(f"{where}: no {' and no '.join(empty)} image can be read")
    result.skipped, result.sha256 = tuple(bad), digest.hexdigest()
    return result


def _report_bad(where: str, bad: Mapping[str, str], total: int, skip_bad: bool) -> None:
    """Raises DataError, or warns with ``skip_bad``, about images that cannot be read."""
    examples = [f"{name[:200]!r} ({reason[:200]})" for name, reason in list(bad.items())[:_SHOWN]]
    more = f", and {len(bad) - _SHOWN:,} more" if len(bad) > _SHOWN else ""
    message = f"{where}: {len(bad):,} of {total:,} images cannot be read: {', '.join(examples)}{more}"
    if not skip_bad:
        raise DataError(f"{message}. Repair or remove them, or leave them out with skip_bad=True (--skip-bad)")
    warnings.warn(f"{message}; they are left out", stacklevel=6)


def _check_all(images: ImageFiles, cache: _ScanCache) -> Iterator[tuple[str, ImageInfo | str]]:
    """Yields the name of each image, and what is known of it, or the reason why it cannot be read."""
    with parallel_map() as map_images:
        for first in range(0, len(images), _CHUNK):
            indices = range(first, min(first + _CHUNK, len(images)))
            names = [images.name(i) for i in indices]
            stamps = [images.stamp(i) for i in indices]
            known = cache.get(names)
            infos: list[ImageInfo | str | None] = [
                known[name][1] if stamp and name in known and known[name][0] == stamp else None
                for name, stamp in zip(names, stamps, strict=True)
            ]
            missing = [k for k, info in enumerate(infos) if info is None]
            checked = dict(zip(missing, map_images(lambda k: _check(images, first + k), missing), strict=True))  # noqa: B023
            cache.put({names[k]: (stamps[k], info) for k, info in checked.items() if isinstance(info, ImageInfo)})
            for k, name in enumerate(names):
                yield name, infos[k] or checked[k]


def _check(images: ImageFiles, i: int) -> ImageInfo | str:
    """Returns what a complete decoding of an image shows, or the reason why it cannot be read."""
    try:
        content = images.read(i)
    except DataError as error:
        return str(error)
    if not content:
        return "the file is empty"
    try:
        with open_image(content) as image:
            require_8_bits(image)
            height, width = image.size if is_rotated(image) else image.size[::-1]
            is_gray = image.mode in ("1", "L", "LA")
            image.draft(None, (1, 1))  # JPEG: at 1/8 of the size, but to the last byte
            image.load()
    except DataError as error:
        return str(error).partition(": ")[2]
    return ImageInfo(is_gray, height, width, hashlib.sha256(content).digest())


class _ScanCache:
    """The results of earlier scans of a folder, in an SQLite file; without one if it cannot be written.

    Only images that can be read are remembered. The others are checked again.
    """

    def __init__(self, key: str) -> None:
        name = hashlib.sha256(os.fsencode(key)).hexdigest()[:32]
        self._path = cache_folder() / "scans" / f"{name}.sqlite"
        self._db: sqlite3.Connection | None = None

    def __enter__(self) -> _ScanCache:
        self._open()
        return self

    def __exit__(self, *exception: object) -> None:
        self._close()

    def get(self, names: Sequence[str]) -> dict[str, tuple[str, ImageInfo]]:
        """Returns stamp and result of those images that are known."""
        keys = list(map(os.fsencode, names))
        query = f"SELECT * FROM images WHERE name IN ({','.join('?' * len(keys))})"
        rows = self._try(lambda db: db.execute(query, keys).fetchall()) or []
        return {os.fsdecode(name): (stamp, ImageInfo(bool(gray), *info)) for name, stamp, gray, *info in rows}

    def put(self, results: Mapping[str, tuple[str, ImageInfo]]) -> None:
        """Remembers results."""
        rows = [(os.fsencode(name), stamp, *info) for name, (stamp, info) in results.items() if stamp]

        def write(db: sqlite3.Connection) -> None:
            with db:
                db.executemany("INSERT OR REPLACE INTO images VALUES (?, ?, ?, ?, ?, ?)", rows)

        if rows:
            self._try(write)

    def _try(self, action: Callable[[sqlite3.Connection], Any]) -> Any:
        """Returns the result of an action; None if the file is damaged, which is then replaced, or in use."""
        if self._db is None:
            return None
        try:
            return action(self._db)
        except sqlite3.OperationalError:  # in use, or on a full disk
            return None
        except sqlite3.DatabaseError:
            self._remove()
            self._open()
            return None

    def _open(self) -> None:
        for _ in range(2):
            try:
                self._path.parent.mkdir(parents=True, exist_ok=True)
                self._db = sqlite3.connect(self._path, timeout=10)
                self._db.execute("PRAGMA synchronous = OFF")  # a damaged file is replaced
                self._db.execute(
                    "CREATE TABLE IF NOT EXISTS images (name BLOB PRIMARY KEY, stamp TEXT, is_gray INTEGER, "
                    "height INTEGER, width INTEGER, sha256 BLOB) WITHOUT ROWID"
                )
                return
            except (OSError, sqlite3.OperationalError):
                self._close()
                return
            except sqlite3.DatabaseError:
                self._remove()

    def _remove(self) -> None:
        self._close()
        with contextlib.suppress(OSError):
            self._path.unlink()

    def _close(self) -> None:
        if self._db is not None:
            self._db.close()
            self._db = None
