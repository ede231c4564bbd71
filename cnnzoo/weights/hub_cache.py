"""The Hub's cache on this machine, in the layout of huggingface_hub: ``blobs/``, ``snapshots/COMMIT/`` and ``refs/``.

Every path is made of a repository's name, a revision, a commit's hash, a checksum and a file name of ours, all checked;
nothing that a server answers becomes a path otherwise.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from os import PathLike
from pathlib import Path
from typing import IO

from cnnzoo.errors import FileError, InputError
from cnnzoo.files import CONFIG_FILE, WEIGHTS_FILE, exists, os_reason

COMMIT_HASH = re.compile(r"[0-9a-f]{40}")
BLOB_HASH = re.compile(r"[0-9a-f]{64}|[0-9a-f]{40}")  # SHA-256, or git's SHA-1

_PARTIAL_SUFFIX = ".incomplete"
_PARTIAL_SECONDS = 3600  # a download writes more often than that


class RepositoryCache:
    """The files of one repository in the cache.

    Args:
        repo_id: ``"user/repo"``.
        cache_dir: The folder of all repositories; by default ``HF_HUB_CACHE``.
        model_folder: The folder in the repository that has the model; empty for its root.

    Raises:
        InputError: If ``cache_dir`` is not a path.
    """

    def __init__(self, repo_id: str, cache_dir: str | PathLike[str] | None = None, model_folder: str = "") -> None:
        from huggingface_hub import constants

        try:
            self.root = Path(cache_dir or constants.HF_HUB_CACHE).expanduser()
            self.root.resolve()  # a ValueError if it has a NUL
        except (TypeError, RuntimeError, ValueError) as error:
            raise InputError(f"cache_dir must be the path of a folder, not {cache_dir!r}: {error}") from None
        self.folder = self.root / f"models--{repo_id.replace('/', '--')}"
        self._blobs, self._model_folder = self.folder / "blobs", model_folder

    def snapshot(self, commit: str) -> Path:
        """Returns the folder for the files of the model in a commit."""
        assert COMMIT_HASH.fullmatch(commit)
        return self.folder / "snapshots" / commit / self._model_folder

    def commit_of(self, folder: Path) -> str:
        """Returns the commit of a folder that ``snapshot`` or ``find`` returned."""
        return folder.relative_to(self.folder / "snapshots").parts[0]

    def find(self, revision: str | None) -> Path | None:
        """Returns the folder of a branch, tag or commit, None if its weights are not in the cache.

        Raises:
            FileError: If the cache cannot be read.
        """
        commit = revision or "main"
        if not COMMIT_HASH.fullmatch(commit):
            try:
                with self._ref(commit).open("rb") as file:
                    commit = file.read(64).decode("ascii", "replace").strip()
            except OSError:
                return None
        if not COMMIT_HASH.fullmatch(commit) or not exists(self.snapshot(commit) / WEIGHTS_FILE):
            return None
        return self.snapshot(commit)

    def _ref(self, revision: str) -> Path:
        return self.folder / "refs" / revision

    def set_ref(self, revision: str | None, folder: Path) -> None:
        """Notes the commit of a branch or tag; a cache that cannot be written keeps the older one."""
        revision, commit = revision or "main", self.commit_of(folder)
        if revision == commit or self.find(revision) == folder:
            return
        path = self._ref(revision)
        temporary = path.with_name(f".{uuid.uuid4().hex}")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._require_inside(path.parent)
            temporary.write_text(commit)
            os.replace(temporary, path)
        except (OSError, FileError):
            temporary.unlink(missing_ok=True)

    def blob(self, name: str) -> Path:
        """Returns the path for content of a checksum."""
        assert BLOB_HASH.fullmatch(name)
        return self._blobs / name

    @contextmanager
    def write_blob(self, name: str, size: int) -> Iterator[IO[bytes]]:
        """Opens a file for writing and reading that becomes the blob at the end of the ``with`` block, or is removed.

        Raises:
            FileError: If the file cannot be written.
        """
        with self._translate():
            self._blobs.mkdir(parents=True, exist_ok=True)
            self._require_inside(self._blobs)
            self._remove_partial()
            if (free := shutil.disk_usage(self._blobs).free) < size:
                raise FileError(
                    f"{self._blobs} needs {size:,} bytes for a download, and {free:,} are free; free some, or pass "
                    "cache_dir="
                )
            partial = self._blobs / f"{uuid.uuid4().hex}{_PARTIAL_SUFFIX}"
            file = os.fdopen(os.open(partial, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666), "w+b")
        try:
            with file:
                yield file
                with self._translate():
                    file.flush()
                    os.fsync(file.fileno())
            with self._translate():
                os.replace(partial, self.blob(name))
        finally:
            partial.unlink(missing_ok=True)

    def write(self, file: IO[bytes], chunk: bytes) -> None:
        """Writes to a file of ``write_blob``.

        Raises:
            FileError: If the disk is full or fails.
        """
        with self._translate():
            file.write(chunk)

    def _remove_partial(self) -> None:
        """Removes what downloads that were killed have left."""
        for path in self._blobs.glob(f"*{_PARTIAL_SUFFIX}"):
            if not path.is_symlink() and path.stat().st_mtime < time.time() - _PARTIAL_SECONDS:
                path.unlink(missing_ok=True)

    def link(self, commit: str, name: str, blob: str) -> None:
        """Adds a blob to the files of a commit.

        Raises:
            FileError: If the link cannot be written.
        """
        path = self.snapshot(commit) / name
        depth = len(path.relative_to(self.folder).parts) - 1
        target = os.path.join(*[".."] * depth, "blobs", blob)
        if path.is_symlink() and os.readlink(path) == target:
            return
        with self._translate():
            path.parent.mkdir(parents=True, exist_ok=True)
            self._require_inside(path.parent)
            temporary = path.with_name(f".{uuid.uuid4().hex}")
            try:
                try:
                    os.symlink(target, temporary)
                except (OSError, NotImplementedError):  # a file system without symbolic links
                    shutil.copyfile(self.blob(blob), temporary)
                os.replace(temporary, path)
            finally:
                temporary.unlink(missing_ok=True)

    def require_inside(self, folder: Path) -> None:
        """Checks that the files of a commit are regular files of the cache, and not links to others.

        Raises:
            FileError: If one is not.
        """
        with self._translate():
            for path in folder.iterdir():
                self._require_inside(path)
                is_folder = path.is_dir() and not path.is_symlink() and path.name not in (CONFIG_FILE, WEIGHTS_FILE)
                if exists(path) and not path.is_file() and not is_folder:
                    raise FileError(f"{path} is not a regular file; remove it and pull again")

    def _require_inside(self, path: Path) -> None:
        target = path.resolve()
        if not any(target.is_relative_to(root.resolve()) for root in (self.root, self.folder)):
            raise FileError(f"{path} leads to {target}, outside of the cache {self.root}; remove it and pull again")

    def remove_damaged(self, path: Path) -> bool:
        """Removes the blob of a file if its content is not that of its checksum; returns whether it was removed.

        Raises:
            FileError: If it cannot be read or removed.
        """
        with self._translate():
            blob = path.resolve()
            if blob.parent != self._blobs.resolve() or not BLOB_HASH.fullmatch(blob.name):
                return False
            with blob.open("rb") as file:
                if has_hash(file, blob.name):
                    return False
            blob.unlink()
            return True

    @contextmanager
    def _translate(self) -> Iterator[None]:
        try:
            yield
        except FileError:
            raise
        except OSError as error:
            raise FileError(
                f"the Hub's cache {self.root} cannot be used: {os_reason(error)}; free space or mend its permissions, "
                "or pass cache_dir="
            ) from None


def has_hash(file: IO[bytes], expected: str) -> bool:
    """Returns whether an open file has a checksum: SHA-256 (64 digits), or git's SHA-1 (40 digits)."""
    return hub_hash(file, is_sha256=len(expected) == 64) == expected


def hub_hash(file: IO[bytes], *, is_sha256: bool) -> str:
    """Returns the checksum of an open file by which the Hub knows its content: SHA-256, or git's SHA-1."""
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    digest = hashlib.sha256() if is_sha256 else hashlib.sha1(b"blob %d\0" % size, usedforsecurity=False)
    for chunk in iter(lambda: file.read(2**20), b""):
        digest.update(chunk)
    return digest.hexdigest()
