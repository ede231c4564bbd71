"""Tables as text, Markdown, CSV and HTML, and the base class of values that are printed as tables."""

from __future__ import annotations

import csv
import html
import io
import re
import textwrap
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

from cnnzoo.random_state import restored_random_state

Value = str | int | float | tuple[int, ...] | None

WIDTH = 100  # characters of a printed table


def shape_text(shape: tuple[int, ...]) -> str:
    """Returns a shape as ``1x96x54x54``."""
    return "x".join(map(str, shape))


def human(n: float) -> str:
    """Returns a count with three significant digits: ``46.8 M``."""
    for power, unit in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "K")):
        if n >= power * 0.9995:
            scaled = n / power
            return f"{scaled:.{max(0, 2 - len(str(int(scaled))) + 1)}f} {unit}"
    return f"{n:,.0f}"


def ratio_text(ratio: float) -> str:
    """Returns a ratio as ``758x``, ``2,252x`` or ``1.4x``; NaN as ``-``."""
    if ratio != ratio:
        return "-"
    return f"{ratio:,.0f}x" if ratio >= 100 else f"{ratio:.3g}x"


def printable(text: str) -> str:
    """Returns a text with escape sequences in place of line breaks and other control characters."""
    return "".join(
        c.encode("unicode_escape").decode() if unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp") else c for c in text
    )


def escape_markdown(text: str) -> str:
    """Returns a text with entities in place of the characters of inline markup, ``_`` within a word excepted."""
    return re.sub(r"[&<>|\\`*\[\]~]|(?<![^\W_])_|_(?![^\W_])", lambda match: f"&#{ord(match[0])};", text)


def _text(value: Value) -> str:
    if value is None:
        return ""
    if isinstance(value, tuple):
        return shape_text(value)
    if isinstance(value, bool):
        return str(value)
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:,.1f}" if value >= 100 else f"{value:.4g}"
    return value


@dataclass(frozen=True)
class Table:
    """A table with a title, an optional total and notes below.

    Attributes:
        title: The title.
        headers: The columns' names.
        rows: The values, row by row.
        total: The last row, set apart; or None.
        notes: Lines below the table; one indented by two or four spaces belongs to one above it.
        foldable: Headers of columns of names whose words may be broken, so that the table keeps its width.
    """

    title: str
    headers: Sequence[str]
    rows: Sequence[Sequence[Value]]
    total: Sequence[Value] | None = None
    notes: Sequence[str] = ()
    foldable: Sequence[str] = ()

    def _is_numeric(self, column: int) -> bool:
        """Returns whether a column holds numbers, ratios (``758x``) or changes (``-12``), not names."""
        if self.headers[column] in self.foldable:
            return False
        values = [row[column] for row in self.rows]
        return any(
            isinstance(v, (int, float)) or (isinstance(v, str) and re.fullmatch(r"[+-]?[\d.,]+x?", v)) for v in values
        )

    def text(self, width: int = WIDTH) -> str:
        """Returns the table as plain text, ``width`` characters wide; wider if cells would have to be broken."""
        with restored_random_state():  # rich draws from it when it is imported
            from rich import box
            from rich.console import Console
            from rich.table import Table as RichTable

        cells = [[_text(row[i]) for row in self.rows] for i in range(len(self.headers))]
        numeric = [self._is_numeric(i) for i in range(len(self.headers))]
        foldable = [header in self.foldable for header in self.headers]
        # numbers, names, shapes and short texts are not broken
        unbroken = [
            not foldable[i]
            and (numeric[i] or max(map(len, column), default=0) <= 12 or not any(" " in cell for cell in column))
            for i, column in enumerate(cells)
        ]
        min_widths = [
            max([len(word) for cell in column for word in ([cell] if unbroken[i] else cell.split())], default=0)
            if not foldable[i]
            else 0
            for i, column in enumerate(cells)
        ]
        headers = list(self.headers)
        if _rich_width(headers, min_widths, numeric) > width:  # break the headers of numbers too, one line per word
            # one line per word, and per knob of a name with knobs
            broken = [re.sub(r" |(?<=,)|(?=\()", "\n", header) for header in headers]
            headers = [broken[i] if numeric[i] else header for i, header in enumerate(headers)]

        table = RichTable(title=self.title, title_justify="left", box=box.SIMPLE_HEAD, show_footer=bool(self.total))
        for i, header in enumerate(headers):
            table.add_column(
                header,
                footer=_text(self.total[i]) if self.total else "",
                justify="right" if numeric[i] else "left",
                overflow="fold",
                no_wrap=numeric[i],
                min_width=min_widths[i] if unbroken[i] else None,
            )
        for row in self.rows:
            table.add_row(*map(_text, row))
        console = Console(
            file=io.StringIO(),
            width=max(width, _rich_width(headers, min_widths)),
            color_system=None,
            highlight=False,
            markup=False,
            emoji=False,
        )
        console.print(table)
        lines = console.file.getvalue().splitlines()  # type: ignore[attr-defined]
        for note in self.notes:
            indent = " " * (len(note) - len(note.lstrip()) + 2)
            lines += textwrap.wrap(note, width, subsequent_indent=indent, break_on_hyphens=False)
        return "\n".join(line.rstrip() for line in lines)

    def markdown(self) -> str:
        """Returns the table in GitHub's Markdown."""

        def line(cells: Sequence[str]) -> str:
            return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"

        lines = [f"**{self.title}**", "", line(self.headers)]
        lines.append(line(["---:" if self._is_numeric(i) else "---" for i in range(len(self.headers))]))
        lines += [line([_text(value) for value in row]) for row in self.rows]
        if self.total:
            lines.append(line([f"**{_text(value)}**" if value not in (None, "") else "" for value in self.total]))
        for note in self.notes:
            text = note.lstrip()
            depth = len(note) - len(text)  # two spaces a level become list items: an indented line would be code
            lines += ["", f"{'  ' * (depth - 2)}- {text}" if depth else note]
        return "\n".join(lines) + "\n"

    def csv(self) -> str:
        """Returns the rows as CSV (RFC 4180): numbers without separators, no total, no notes."""
        file = io.StringIO()
        writer = csv.writer(file)
        writer.writerow(self.headers)
        for row in self.rows:
            writer.writerow([shape_text(v) if isinstance(v, tuple) else "" if v is None else v for v in row])
        return file.getvalue()

    def html(self) -> str:
        """Returns the table as an HTML fragment that needs no style sheet."""

        def cells(tag: str, values: Sequence[Value]) -> str:
            aligns = ["right" if self._is_numeric(i) else "left" for i in range(len(values))]
            return "".join(
                f'<{tag} style="text-align:{align}">{html.escape(_text(value))}</{tag}>'
                for value, align in zip(values, aligns, strict=True)
            )

        body = "".join(f"<tr>{cells('td', row)}</tr>" for row in self.rows)
        foot = f"<tfoot><tr>{cells('th', self.total)}</tr></tfoot>" if self.total else ""
        notes = "".join(f"<p>{html.escape(note)}</p>" for note in self.notes)
        return (
            f"<table><caption>{html.escape(self.title)}</caption><thead><tr>{cells('th', self.headers)}</tr></thead>"
            f"<tbody>{body}</tbody>{foot}</table>{notes}"
        )


def _rich_width(headers: Sequence[str], min_widths: Sequence[int], unbroken: Sequence[bool] | None = None) -> int:
    """Returns the least width of a table.

    Args:
        headers: The columns' names.
        min_widths: The least width of each column's cells.
        unbroken: Whether each header stays on one line; by default none does.
    """
    header_widths = [
        len(header) if unbroken and unbroken[i] else max(map(len, header.split()), default=0)
        for i, header in enumerate(headers)
    ]
    return 1 + sum(max(widths) + 3 for widths in zip(header_widths, min_widths, strict=True))


class Printable:
    """Base class of values that are printed as tables: in a terminal, in a notebook, as Markdown and as HTML."""

    def tables(self) -> Sequence[Table]:
        """Returns the tables, in order; subclasses define it."""
        raise NotImplementedError

    def __str__(self) -> str:
        return "\n\n".join(table.text() for table in self.tables())

    def _repr_html_(self) -> str:
        return self.to_html()

    def to_markdown(self) -> str:
        """Returns the tables in GitHub's Markdown."""
        return "\n".join(table.markdown() for table in self.tables())

    def to_html(self) -> str:
        """Returns the tables as an HTML fragment."""
        return "".join(table.html() for table in self.tables())
