"""The layout of a table as plain text of a given width, in which nothing is cut off."""

from __future__ import annotations

import re
import shutil
import textwrap
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

DEFAULT_WIDTH = 100  # where the output is not a terminal
MIN_WIDTH = 20
_SHORT = 12  # characters; texts up to this length stay on one line
_MARGIN = 2  # characters before the first column


def terminal_width() -> int:
    """Returns ``COLUMNS``, or else the width of the terminal; 100 if the output is not a terminal."""
    return max(MIN_WIDTH, shutil.get_terminal_size((DEFAULT_WIDTH, 24)).columns)


class Breaks(Enum):
    """Where the texts of a foldable column are broken."""

    NOWHERE = 0
    PARTS = 1
    ANYWHERE = 2


@dataclass
class _Column:
    """A column of a table that is being laid out.

    Attributes:
        header: Its name.
        cells: Its cells, that of the total last if there is one.
        is_numeric: Whether it is aligned at the right, and no cell is broken.
        is_foldable: Whether words may be broken.
        breaks: Where they are broken now: nowhere, between their parts, or anywhere.
        width: Characters, once they are known.
        breaks_header: Whether the name has a line per word.
    """

    header: str
    cells: list[str]
    is_numeric: bool
    is_foldable: bool
    breaks: Breaks = Breaks.NOWHERE
    width: int = 0
    breaks_header: bool = False

    @property
    def header_lines(self) -> list[str]:
        """The name, a line per word if it is broken; also per knob of a name with knobs."""
        return re.sub(r"(?<!/) |(?<=,)|(?=\()", "\n", self.header).split("\n") if self.breaks_header else [self.header]

    @property
    def wraps(self) -> bool:
        """Whether cells may have several lines: texts, but no numbers, names, shapes and short texts."""
        if self.is_numeric or max(map(text_width, self.cells), default=0) <= _SHORT:
            return False
        return any(len(self.pieces(cell)) > 1 for cell in self.cells)

    def pieces(self, cell: str) -> list[str]:
        """Returns the parts of a cell between which a line may end: words, or parts of words."""
        if self.is_foldable and self.breaks is Breaks.NOWHERE:
            return [cell]
        words = re.findall(r"\S+ ?", cell)
        if not self.is_foldable:
            return words
        if self.breaks is Breaks.ANYWHERE:
            return [c for c in re.split(r"(?<=.)(?=.)", cell) if c]
        return [part for word in words for part in re.split(r"(?<=[^\W_][._/\-])(?=.)|(?<=[a-z])(?=[A-Z])", word)]

    def full_width(self) -> int:
        """Returns the width in which no cell wraps."""
        return max(map(text_width, (*self.header_lines, *self.cells)))

    def least_width(self) -> int:
        """Returns the width below which a piece would be broken."""
        if not self.wraps:
            return self.full_width()
        pieces = [piece.rstrip() for cell in self.cells for piece in self.pieces(cell)]
        return max(map(text_width, (*self.header_lines, *pieces, "x" * min(_SHORT, self.full_width()))))

    def wrap(self, cell: str) -> list[str]:
        """Returns the lines of a cell."""
        if text_width(cell) <= self.width:
            return [cell]
        lines = [""]
        for piece in self.pieces(cell):
            if lines[-1] and text_width(lines[-1] + piece.rstrip()) > self.width:
                lines.append("")
            lines[-1] += piece
        return [line.rstrip() for line in lines]

    def align(self, text: str) -> str:
        """Returns a line of a cell with the spaces around it."""
        spaces = " " * (self.width - text_width(text))
        return spaces + text if self.is_numeric else text + spaces


def layout_text(
    *,
    title: str,
    headers: Sequence[str],
    rows: Sequence[Sequence[str]],
    total: Sequence[str] | None,
    notes: Sequence[str],
    numeric: Sequence[bool],
    foldable: Sequence[bool],
    optional: Sequence[str],
    wraps_first: bool,
    width: int,
) -> str:
    """Returns a table as plain text, see ``cnnzoo.measure.tables.Table``.

    Args:
        title: The title.
        headers: The columns' names.
        rows: The cells, row by row.
        total: The last row, set apart; or None.
        notes: Lines below the table.
        numeric: Whether each column holds numbers.
        foldable: Whether words of each column may be broken.
        optional: Headers of columns that may be left out, the first one first.
        wraps_first: Whether words are broken before columns are left out.
        width: Characters of a line. A table is wider if a number or a name would not fit otherwise.
    """
    cells = [*rows, total] if total else list(rows)
    columns, gap, left_out = _choose_columns(
        [_Column(header, [row[i] for row in cells], numeric[i], foldable[i]) for i, header in enumerate(headers)],
        [header for header in optional if header in headers],
        wraps_first,
        width,
    )
    heading: _Column | None = None
    if gap is None and len(columns) > 2:  # the first column on a line of its own
        heading, columns = columns[0], columns[1:]
        heading.width = width
        gap = _fit(columns, width)
    gap = gap or 2

    lines = textwrap.wrap(title, width, break_long_words=False, break_on_hyphens=False) if title else []
    lines += ["", *_header_lines(columns, heading, gap)]
    rule = " " + "─" * (1 + sum(column.width for column in columns) + gap * (len(columns) - 1))
    lines.append(rule)
    for number in range(len(cells)):
        if total and number == len(cells) - 1:
            lines.append(rule)
        if heading is not None:
            lines.append(" " * _MARGIN + heading.cells[number])
        lines += _row_lines(columns, number, gap)
    lines.append("")
    if left_out:
        notes = [*notes, f"left out, to fit {width} columns: {'; '.join(left_out)}"]
    for note in notes:
        indent = " " * (len(note) - len(note.lstrip()) + 2)
        lines += textwrap.wrap(
            note, width, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
        ) or [""]
    return "\n".join(line.rstrip() for line in lines)


def _choose_columns(
    columns: list[_Column], optional: Sequence[str], wraps_first: bool, width: int
) -> tuple[list[_Column], int | None, list[str]]:
    """Returns the columns that are shown, the distance between them (None if they do not fit), and those left out.

    All of the optional columns but one are left out before names are broken, unless ``wraps_first``.
    """
    for breaks, first, last in (
        (Breaks.NOWHERE, 0, 0 if wraps_first else max(len(optional) - 1, 0)),
        (Breaks.PARTS, 0, len(optional)),
        (Breaks.ANYWHERE, len(optional), len(optional)),
    ):
        for column in columns:
            column.breaks = breaks
        for n in range(first, last + 1):
            shown = [column for column in columns if column.header not in optional[:n]]
            if (gap := _fit(shown, width)) is not None:
                return shown, gap, list(optional[:n])
    return shown, None, list(optional)


def _fit(columns: Sequence[_Column], width: int) -> int | None:
    """Sets the widths of the columns, for the least change that makes them fit.

    Returns:
        The distance between columns; None if they do not fit.
    """
    for gap in (3, 2):
        room = width - _MARGIN - gap * (len(columns) - 1)
        for breaks_headers in (False, True):
            for column in columns:
                column.breaks_header = breaks_headers
                column.width = column.full_width()
            if sum(column.width for column in columns) <= room:
                return gap
        for column in columns:
            column.width = column.least_width()
        missing = room - sum(column.width for column in columns)
        if missing >= 0:
            _distribute(columns, missing)
            return gap
    return None


def _distribute(columns: Sequence[_Column], room: int) -> None:
    """Widens columns that wrap, the narrowest first."""
    while room > 0:
        wrapped = [column for column in columns if column.width < column.full_width()]
        if not wrapped:
            break
        min(wrapped, key=lambda column: column.width).width += 1
        room -= 1


def _header_lines(columns: Sequence[_Column], heading: _Column | None, gap: int) -> list[str]:
    height = max(len(column.header_lines) for column in columns)
    lines = [] if heading is None or not heading.header else [" " * _MARGIN + heading.header]
    for number in range(height):
        parts = [column.header_lines[number] if number < len(column.header_lines) else "" for column in columns]
        lines.append(_join(columns, parts, gap))
    return lines


def _row_lines(columns: Sequence[_Column], number: int, gap: int) -> list[str]:
    cells = [column.wrap(column.cells[number]) for column in columns]
    height = max(map(len, cells))
    return [_join(columns, [cell[i] if i < len(cell) else "" for cell in cells], gap) for i in range(height)]


def _join(columns: Sequence[_Column], parts: Sequence[str], gap: int) -> str:
    return " " * _MARGIN + (" " * gap).join(column.align(part) for column, part in zip(columns, parts, strict=True))


def text_width(text: str) -> int:
    """Returns the number of terminal cells of a text: wide characters have two, combining marks none."""
    if text.isascii():
        return len(text)
    return sum(0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)
