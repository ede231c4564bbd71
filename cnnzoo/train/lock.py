"""A lock on a run folder, so that two processes never write into it at the same time."""

from __future__ import annotations

import os
import socket
import time
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from cnnzoo.errors import FileError
from cnnzoo.files import os_reason

LOCK_FILE = ".lock"
_HELD: set[IO[bytes]] = set()  # the files that this process has locked
_BUSY = (BlockingIOError, PermissionError)


class FolderLock:
    """A context manager that holds the lock of a folder; the operating system releases it if the process dies.

    Args:
        folder: The folder, which is created if it does not exist; None locks nothing.
        command: What the owner runs, for the message that another process gets.

    Raises:
        FileError: If another process holds the lock, or the lock file cannot be written.
    """

    def __init__(self, folder: Path | None, command: str) -> None:
        self._folder, self._command = folder, command
        self._file: IO[bytes] | None = None

    def __enter__(self) -> FolderLock:
        if self._folder is None:
            return self
        path = self._folder / LOCK_FILE
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            while self._file is None:
                self._file = _lock(path, self._folder)
            _HELD.add(self._file)
            self._file.truncate(0)
            self._file.write(f"process {os.getpid()} on {socket.gethostname()} ({self._command})".encode())
        except FileError:  # an OSError too
            raise
        except OSError as error:
            self.__exit__(None, None, None)
            raise FileError(f"{path} cannot be written: {os_reason(error)}") from None
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file is not None and self._folder is not None:
            with suppress(OSError):  # the file is not needed: the lock ends when it is closed
                # another process may have made the folder anew; on Windows an open file cannot be removed
                if os.name == "posix" and self.is_held():
                    (self._folder / LOCK_FILE).unlink()
            self._file.close()
            _HELD.discard(self._file)
            self._file = None

    def is_held(self) -> bool:
        """Returns whether the lock is held: False if the folder was removed, moved or made anew meanwhile."""
        if self._file is None or self._folder is None:
            return False
        try:
            return os.path.samestat(os.fstat(self._file.fileno()), os.stat(self._folder / LOCK_FILE))
        except OSError:
            return False


def _lock(path: Path, folder: Path) -> IO[bytes] | None:
    """Returns the locked file; None if the owner removed it meanwhile, so that another file may be locked.

    Raises:
        FileError: If another process holds the lock.
    """
    flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | getattr(os, "O_NOFOLLOW", 0)  # a link could name any file
    file = os.fdopen(os.open(path, flags, 0o666), "ab+", buffering=0)
    try:
        _lock_file(file)
    except _BUSY:
        owner = _read_owner(file)
        file.close()
        raise FileError(f"{folder} is in use by {owner}; wait until it ends, or name another folder") from None
    with suppress(FileNotFoundError):
        if os.path.samestat(os.fstat(file.fileno()), path.stat()):
            return file
    file.close()
    return None


def _read_owner(file: IO[bytes]) -> str:
    """Returns what the owner of the lock has written, which it does just after it has locked the file."""
    for _ in range(20):
        file.seek(0)
        if owner := file.read(500).decode(errors="replace").strip():
            return owner
        time.sleep(0.05)
    return "another process"


def _close_held() -> None:
    """Closes the files in a forked process, such as one that reads images: it must not hold the lock if it survives."""
    for file in _HELD:
        file.close()
    _HELD.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_close_held)


def _lock_file(file: IO[Any]) -> None:
    """Locks a file, without waiting.

    Raises:
        BlockingIOError: If another process has locked it; PermissionError on Windows.
    """
    try:
        import fcntl
    except ImportError:  # Windows
        import msvcrt

        file.seek(1 << 20)  # beyond the text, which others can read
        msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined]
        return
    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
