"""Standard error for what is only shown: once it cannot be written to, nothing is shown, and the work goes on."""

from __future__ import annotations

import io
import sys
from contextlib import suppress
from typing import IO, cast

_GONE = (OSError, ValueError, AttributeError)  # a closed terminal or pipe, a closed file, None


class _DisplayStream(io.TextIOBase):
    """A stream that drops what cannot be written.

    Args:
        stream: The stream to write to, such as ``sys.stderr``; None drops everything.
    """

    def __init__(self, stream: IO[str] | None) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        with suppress(*_GONE):
            self._stream.write(text)  # type: ignore[union-attr]
        return len(text)

    def flush(self) -> None:
        with suppress(*_GONE):
            self._stream.flush()  # type: ignore[union-attr]

    def isatty(self) -> bool:
        with suppress(*_GONE):
            return self._stream.isatty()  # type: ignore[union-attr]
        return False

    def fileno(self) -> int:
        if self._stream is None:
            raise OSError("there is no file")
        return self._stream.fileno()

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return getattr(self._stream, "encoding", None) or "utf-8"


def display_stream() -> IO[str]:
    """Returns standard error without its errors: a closed terminal or pipe does not end what is displayed."""
    return cast("IO[str]", _DisplayStream(sys.stderr))
