"""The wire format of Protocol Buffers, read field by field from a file: only what is asked for is in memory."""

from __future__ import annotations

import struct
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import torch

from cnnzoo.errors import FileError, WeightsError
from cnnzoo.files import open_regular, os_reason

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5  # wire types
_MAX_FIELDS = 200_000  # of a whole file; VGG-19's has 1,500
_MAX_NUMBER = 2**29  # of a field
_MAX_TEXT = 10_000  # bytes of a name


class ProtobufError(Exception):
    """Bytes that are not a message, or not one of the expected form."""


@contextmanager
def read_protobuf(path: Path, kind: str) -> Iterator[ProtobufReader]:
    """Opens a file that holds a message, for reading.

    Args:
        path: The file.
        kind: What it is, for errors: ``"a Caffe model"``.

    Raises:
        FileError: If it cannot be read.
        WeightsError: If a ProtobufError is raised while it is read.
    """
    try:
        with open_regular(path) as file:
            yield ProtobufReader(file, path.stat().st_size)
    except ProtobufError as error:
        raise WeightsError(f"{path} is damaged, or is not {kind}: {error}") from None
    except (OSError, ValueError) as error:
        if isinstance(error, (FileError, WeightsError)):
            raise
        raise FileError(f"{path} cannot be read: {os_reason(error)}") from None


@dataclass(frozen=True)
class Field:
    """A field of a message.

    Attributes:
        number: Its number in the schema.
        wire_type: VARINT, FIXED64, BYTES or FIXED32.
        value: The value of a VARINT, FIXED64 or FIXED32; of BYTES, the number of bytes.
        start: Position of the first byte of BYTES in the file.
    """

    number: int
    wire_type: int
    value: int
    start: int

    @property
    def end(self) -> int:
        """Position behind the last byte of BYTES."""
        return self.start + self.value

    def as_float(self) -> float:
        """Returns the value of FIXED32 as a float32."""
        if self.wire_type != FIXED32:
            raise ProtobufError(f"field {self.number} is not a number of 32 bits")
        return float(struct.unpack("<f", struct.pack("<I", self.value))[0])


class ProtobufReader:
    """Reads messages of a file.

    Args:
        file: A regular file, opened for reading bytes.
        size: Its size in bytes.
    """

    def __init__(self, file: IO[bytes], size: int) -> None:
        self._file, self._size, self._num_fields = file, size, 0

    def fields(self, start: int = 0, end: int | None = None) -> Iterator[Field]:
        """Yields the fields of a message, in the order of the file.

        Args:
            start: Position of its first byte.
            end: Position behind its last byte; by default the end of the file.

        Raises:
            ProtobufError: If the bytes are not a message, or have too many fields.
        """
        position, end = start, self._size if end is None else end
        while position < end:
            self._num_fields += 1
            if self._num_fields > _MAX_FIELDS:
                raise ProtobufError(f"it has more than {_MAX_FIELDS:,} fields")
            key, position = self._read_varint(position, end)
            number, wire_type = key >> 3, key & 7
            if not 0 < number < _MAX_NUMBER:
                raise ProtobufError(f"field {number} at byte {position}")
            start = position
            if wire_type == VARINT:
                value, position = self._read_varint(position, end)
            elif wire_type == BYTES:
                value, start = self._read_varint(position, end)
                position = start + value
            elif wire_type in (FIXED32, FIXED64):
                size = 4 if wire_type == FIXED32 else 8
                value, position = int.from_bytes(self._read(position, size, end), "little"), position + size
            else:
                raise ProtobufError(f"wire type {wire_type} at byte {start}")
            if position > end:
                raise ProtobufError(f"field {number} at byte {start} has {position - end:,} bytes too many")
            yield Field(number, wire_type, value, start)

    def message(self, field: Field) -> Iterator[Field]:
        """Yields the fields of the message in a field.

        Raises:
            ProtobufError: If it is not a message.
        """
        if field.wire_type != BYTES:
            raise ProtobufError(f"field {field.number} is a number")
        return self.fields(field.start, field.end)

    def text(self, field: Field) -> str:
        """Returns the text of a field.

        Raises:
            ProtobufError: If it is not text.
        """
        content = self._content(field, _MAX_TEXT)
        try:
            return content.decode()
        except UnicodeDecodeError:
            raise ProtobufError(f"field {field.number} is not text") from None

    def varints(self, field: Field) -> list[int]:
        """Returns the numbers of a field: one, or several that are packed.

        Raises:
            ProtobufError: If it has no numbers.
        """
        if field.wire_type == VARINT:
            return [field.value]
        self._content(field, _MAX_TEXT)
        numbers, position = [], field.start
        while position < field.end:
            number, position = self._read_varint(position, field.end)
            numbers.append(number)
        return numbers

    def floats(self, field: Field, dtype: torch.dtype = torch.float32) -> torch.Tensor:
        """Returns the packed numbers of a field, (n,), read into memory of their own.

        Raises:
            ProtobufError: If it has no packed floats.
        """
        size = dtype.itemsize
        if field.wire_type != BYTES or field.value % size:
            raise ProtobufError(f"field {field.number} at byte {field.start} is not a list of numbers")
        values = torch.empty(field.value // size, dtype=dtype)
        content = values.view(torch.uint8).numpy().data
        self._file.seek(field.start)
        if field.value and self._file.readinto(content) != field.value:  # type: ignore[attr-defined]
            raise ProtobufError("it was cut short while it was read")
        if sys.byteorder == "big" and size > 1:
            values = values.view(torch.uint8).reshape(-1, size).flip(1).reshape(-1).view(dtype)
        return values

    def _content(self, field: Field, max_size: int) -> bytes:
        if field.wire_type != BYTES:
            raise ProtobufError(f"field {field.number} is a number")
        if field.value > max_size:
            raise ProtobufError(f"field {field.number} has {field.value:,} bytes")
        return self._read(field.start, field.value, field.end)

    def _read(self, position: int, size: int, end: int) -> bytes:
        if position + size > end:
            raise ProtobufError(f"it ends in the middle of a field at byte {position}")
        self._file.seek(position)
        content = self._file.read(size)
        if len(content) != size:
            raise ProtobufError("it was cut short while it was read")
        return content

    def _read_varint(self, position: int, end: int) -> tuple[int, int]:
        """Returns a number and the position behind it."""
        self._file.seek(position)
        content = self._file.read(min(10, max(end - position, 0)))
        value = 0
        for i, byte in enumerate(content):
            value |= (byte & 0x7F) << 7 * i
            if not byte & 0x80:
                return value, position + i + 1
        raise ProtobufError(
            f"it ends in the middle of a number at byte {position}"
            if len(content) < 10
            else f"a number of more than ten bytes at byte {position}"
        )
