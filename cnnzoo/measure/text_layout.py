"""The layout of a table as plain text of a given width, in which nothing is cut off."""

from __future__ import annotations

import re
import shutil
import textwrap
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from itertools import zip_longest

DEFAULT_WIDTH = 100  # where the output is not a terminal
MIN_WIDTH = 20
_SHORT = 12  # characters; texts up to this length stay on one line
_MARGIN = 2  # characters before the first column
_COLORS = {"red": 31, "green": 32, "yellow": 33}  # ANSI


def terminal_width() -> int:
    """Returns ``COLUMNS``, or else the width of the terminal; 100 if the output is not a terminal."""
    return max(MIN_WIDTH, shutil.get_terminal_size((DEFAULT_WIDTH, 24)).columns)


def wrap_line(line: str, width: int, indent: int = 0) -> list[str]:
    """Returns a line of text as lines of at most ``width`` characters; only a longer word sticks out.

    Args:
        line: The line.
        width: Characters.
        indent: Spaces before all lines but the first.
    """
    return textwrap.wrap(line, width, subsequent_indent=" " * indent, break_long_words=False, break_on_hyphens=False)


def wrap_text(text: str, width: int | None = None, indent: int = 0) -> str:
    """Returns a text with its lines wrapped to a width: that of the terminal by default."""
    width = terminal_width() if width is None else width
    return "\n".join("\n".join(wrap_line(line, width, indent)) for line in text.split("\n"))


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
        colors: The color of each cell; empty for none.
        breaks: Where words are broken now: nowhere, between their parts, or anywhere.
        header_width: The width in which the name fits, on one line or several.
        width: Characters, once they are known.
    """

    header: str
    cells: list[str]
    is_numeric: bool
    is_foldable: bool
    colors: Sequence[str] = ()
    breaks: Breaks = Breaks.NOWHERE
    header_width: int = 0
    width: int = 0

    def break_header(self, height: int) -> None:
        """Sets ``header_width`` to the least in which the name has at most this number of lines."""
        widths = range(max(map(text_width, _header_pieces(self.header))), text_width(self.header))
        fitting = (width for width in widths if len(_fill(_header_pieces(self.header), width)) <= height)
        self.header_width = next(fitting, text_width(self.header))

    @property
    def header_lines(self) -> list[str]:
        """The name, broken between words if it is wider than the column; also between knobs."""
        return _fill(_header_pieces(self.header), self.width)

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
        return [
            part
            for word in words
            for part in re.split(r"(?<=[^\W_][._/\-])(?=.)|(?<=[a-z])(?=[A-Z])|(?<=,)(?=\S)|(?=\()", word)
        ]

    def full_width(self) -> int:
        """Returns the width in which no cell wraps."""
        return max(self.header_width, *map(text_width, self.cells), 0)

    def least_width(self) -> int:
        """Returns the width below which a piece would be broken."""
        if not self.wraps:
            return self.full_width()
        pieces = [piece.rstrip() for cell in self.cells for piece in self.pieces(cell)]
        return max(self.header_width, *map(text_width, pieces), min(_SHORT, self.full_width()))

    def wrap(self, cell: str) -> list[str]:
        """Returns the lines of a cell."""
        return [cell] if text_width(cell) <= self.width else _fill(self.pieces(cell), self.width)

    def align(self, text: str, color: str = "") -> str:
        """Returns a line of a cell with the spaces around it."""
        spaces = " " * (self.width - text_width(text))
        text = _paint(text, color)
        return spaces + text if self.is_numeric else text + spaces

    def color(self, number: int) -> str:
        """Returns the color of a cell; that of the total has none."""
        return self.colors[number] if number < len(self.colors) else ""


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
    colors: Mapping[str, Sequence[str]],
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
        colors: Header of a column -> color of its cells, row by row.
        wraps_first: Whether words are broken before columns are left out.
        width: Characters of a line. A table is wider if a number or a name would not fit otherwise.
    """
    cells = [*rows, total] if total else list(rows)
    columns, gap, left_out = _choose_columns(
        [
            _Column(header, [row[i] for row in cells], numeric[i], foldable[i], colors.get(header, ()))
            for i, header in enumerate(headers)
        ],
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

    lines = wrap_line(title, width) if title else []
    lines += ["", *_header_lines(columns, heading, gap)]
    rule = " " + "─" * (1 + sum(column.width for column in columns) + gap * (len(columns) - 1))
    lines.append(rule)
    for number in range(len(cells)):
        if total and number == len(cells) - 1:
            lines.append(rule)
        if heading is not None:
            lines.append(" " * _MARGIN + _paint(heading.cells[number], heading.color(number)))
        lines += _row_lines(columns, number, gap)
    if left_out:
        notes = [*notes, f"left out, to fit {width} columns: {'; '.join(left_out)}"]
    lines += [""] if notes else []
    for note in notes:
        lines += wrap_line(note, width, indent=len(note) - len(note.lstrip()) + 2) or [""]
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
        for height in range(1, 1 + max(len(_header_pieces(column.header)) for column in columns)):
            for column in columns:
                column.break_header(height)
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
    lines = [] if heading is None or not heading.header else [" " * _MARGIN + heading.header]
    for parts in zip_longest(*(column.header_lines for column in columns), fillvalue=""):
        aligned = [column.align(part) for column, part in zip(columns, parts, strict=True)]
        lines.append(_join(aligned, gap))
    return lines


def _row_lines(columns: Sequence[_Column], number: int, gap: int) -> list[str]:
    lines = zip_longest(*(column.wrap(column.cells[number]) for column in columns), fillvalue="")
    return [
        _join([column.align(part, column.color(number)) for column, part in zip(columns, parts, strict=True)], gap)
        for parts in lines
    ]


def _join(cells: Sequence[str], gap: int) -> str:
    return " " * _MARGIN + (" " * gap).join(cells)


def _header_pieces(header: str) -> list[str]:
    """Returns the parts between which the name of a column may be broken: ``parameters / vgg16`` before the slash."""
    return re.split(r"(?<=[^/] )|(?<=,)(?=\S)|(?=\()", header)


def _fill(pieces: Sequence[str], width: int) -> list[str]:
    """Returns lines of as many pieces as fit the width, at least one."""
    lines = [""]
    for piece in pieces:
        if lines[-1] and text_width(lines[-1] + piece.rstrip()) > width:
            lines.append("")
        lines[-1] += piece
    return [line.rstrip() for line in lines]


def _paint(text: str, color: str) -> str:
    """Returns a text in a color of the terminal."""
    return f"\x1b[{_COLORS[color]}m{text}\x1b[0m" if color and text else text


def text_width(text: str) -> int:
    """Returns the number of terminal cells of a text: wide characters have two, combining marks none."""
    if text.isascii():
        return len(text)
    return sum(0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)
