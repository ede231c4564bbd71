"""Standard streams that outlive their readers: what is only shown never fails, nor does a terminal that was closed."""

from __future__ import annotations

import errno
import io
import os
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import IO, cast

_ERRORS = (OSError, ValueError, AttributeError)  # a closed terminal or pipe, a closed file, None
_CLOSED = (errno.EIO, errno.EPIPE)  # a closed terminal, a closed pipe


class _DisplayStream(io.TextIOBase):
    """A stream that drops what cannot be written.

    Args:
        stream: The stream to write to, such as ``sys.stderr``; None drops everything.
    """

    def __init__(self, stream: IO[str] | None) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        with self._dropping():
            self._stream.write(text)  # type: ignore[union-attr]
        return len(text)

    def flush(self) -> None:
        with self._dropping():
            self._stream.flush()  # type: ignore[union-attr]

    @contextmanager
    def _dropping(self) -> Iterator[None]:
        """Drops errors. Once nobody reads the stream, it is connected to the null device.

        Otherwise Python would fail to write what is left in the buffer when it exits, and return 120.
        """
        try:
            yield
        except _ERRORS as error:
            if not self._is_droppable(error):
                raise
            if getattr(error, "errno", None) in _CLOSED:
                with suppress(*_ERRORS), open(os.devnull, "wb") as null:
                    os.dup2(null.fileno(), self.fileno())

    def _is_droppable(self, error: Exception) -> bool:
        return True

    def isatty(self) -> bool:
        with suppress(*_ERRORS):
            return self._stream.isatty()  # type: ignore[union-attr]
        return False

    def fileno(self) -> int:
        if self._stream is None:
            raise OSError("there is no file")
        return self._stream.fileno()

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return getattr(self._stream, "encoding", None) or "utf-8"


class _ResultStream(_DisplayStream):
    """A stream that drops what cannot be written since its terminal was closed."""

    def _is_droppable(self, error: Exception) -> bool:
        is_io_error = getattr(error, "errno", None) == errno.EIO
        return is_io_error and stat.S_ISCHR(os.fstat(self.fileno()).st_mode)


def display_stream() -> IO[str]:
    """Returns standard error without its errors: a closed terminal or pipe does not end what is displayed."""
    return cast("IO[str]", _DisplayStream(sys.stderr))


def result_stream() -> IO[str]:
    """Returns standard output without the errors of a closed terminal; a full disk or a closed pipe is an error."""
    return cast("IO[str]", _ResultStream(sys.stdout))
