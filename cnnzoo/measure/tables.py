"""One table, written as text, Markdown, CSV or HTML."""

from __future__ import annotations

import csv
import html
import io
import re
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

Value = str | int | float | tuple[int, ...] | None

WIDTH = 100  # columns of a printed table


def shape_text(shape: tuple[int, ...]) -> str:
    """``1x96x54x54``, as the lecture writes it."""
    return "x".join(map(str, shape))


def human(n: float) -> str:
    """A count in three significant digits: ``46.8 M``."""
    for power, unit in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "K")):
        if n >= power * 0.9995:
            scaled = n / power
            return f"{scaled:.{max(0, 2 - len(str(int(scaled))) + 1)}f} {unit}"
    return f"{n:,.0f}"


def ratio_text(ratio: float) -> str:
    """``758x``, ``2,252x``, ``1.4x``."""
    if ratio != ratio:
        return "-"
    return f"{ratio:,.0f}x" if ratio >= 100 else f"{ratio:.3g}x"


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
    """Rows under headers, a last row set apart, and notes below.

    Attributes:
        title: What the table shows.
        headers: The columns' names.
        rows: The values, row by row.
        total: A last row that sums up, or None.
        notes: Lines below the table; one that is indented by two spaces, or four, belongs to one above it.
    """

    title: str
    headers: Sequence[str]
    rows: Sequence[Sequence[Value]]
    total: Sequence[Value] | None = None
    notes: Sequence[str] = ()

    def _numeric(self, column: int) -> bool:
        """Whether a column reads as numbers; a ratio (``758x``) and a change (``-12``) do."""
        values = [row[column] for row in self.rows]
        return any(
            isinstance(v, (int, float)) or (isinstance(v, str) and re.fullmatch(r"[+-]?[\d.,]+x?", v)) for v in values
        )

    def text(self, width: int = WIDTH) -> str:
        """The table as plain text of ``width`` columns; wider where names and shapes would have to be broken."""
        from rich import box
        from rich.console import Console
        from rich.table import Table as RichTable

        table = RichTable(title=self.title, title_justify="left", box=box.SIMPLE_HEAD, show_footer=bool(self.total))
        needed = 1
        for i, header in enumerate(self.headers):
            numeric = self._numeric(i)
            cells = [_text(row[i]) for row in self.rows]
            # numbers, names, shapes and short texts are not to be broken
            whole = numeric or max(map(len, cells), default=0) <= 12 or not any(" " in cell for cell in cells)
            longest = max([len(word) for cell in cells for word in ([cell] if whole else cell.split())], default=0)
            needed += max([longest, *map(len, header.split())]) + 3
            table.add_column(
                header,
                footer=_text(self.total[i]) if self.total else "",
                justify="right" if numeric else "left",
                overflow="fold",
                no_wrap=numeric,
                min_width=longest if whole else None,
            )
        for row in self.rows:
            table.add_row(*map(_text, row))
        console = Console(
            file=io.StringIO(), width=max(width, needed), color_system=None, highlight=False, markup=False
        )
        console.print(table)
        written = console.file.getvalue().splitlines()  # type: ignore[attr-defined]
        for note in self.notes:
            indent = " " * (len(note) - len(note.lstrip()) + 2)
            written += textwrap.wrap(note, width, subsequent_indent=indent, break_on_hyphens=False)
        return "\n".join(line.rstrip() for line in written)

    def markdown(self) -> str:
        """The table in GitHub's Markdown."""

        def line(cells: Sequence[str]) -> str:
            return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"

        lines = [f"**{self.title}**", "", line(self.headers)]
        lines.append(line(["---:" if self._numeric(i) else "---" for i in range(len(self.headers))]))
        lines += [line([_text(value) for value in row]) for row in self.rows]
        if self.total:
            lines.append(line([f"**{_text(value)}**" if value not in (None, "") else "" for value in self.total]))
        for note in self.notes:
            said = note.lstrip()
            depth = len(note) - len(said)  # two spaces a level; an indented line would be code in Markdown
            lines += ["", f"{'  ' * (depth - 2)}- {said}" if depth else note]
        return "\n".join(lines) + "\n"

    def csv(self) -> str:
        """The rows as CSV (RFC 4180), numbers plain, without total and notes."""
        out = io.StringIO()
        writer = csv.writer(out)
        writer.writerow(self.headers)
        for row in self.rows:
            writer.writerow([shape_text(v) if isinstance(v, tuple) else "" if v is None else v for v in row])
        return out.getvalue()

    def html(self) -> str:
        """The table as an HTML fragment that needs no style sheet."""

        def cells(tag: str, values: Sequence[Value]) -> str:
            return "".join(
                f'<{tag} style="text-align:{"right" if self._numeric(i) else "left"}">{html.escape(_text(v))}</{tag}>'
                for i, v in enumerate(values)
            )

        body = "".join(f"<tr>{cells('td', row)}</tr>" for row in self.rows)
        foot = f"<tfoot><tr>{cells('th', self.total)}</tr></tfoot>" if self.total else ""
        notes = "".join(f"<p>{html.escape(note)}</p>" for note in self.notes)
        return (
            f"<table><caption>{html.escape(self.title)}</caption><thead><tr>{cells('th', self.headers)}</tr></thead>"
            f"<tbody>{body}</tbody>{foot}</table>{notes}"
        )


_STYLE = """
:root { color-scheme: light dark; }
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 72rem; padding: 0 1rem; }
h1 { font-size: 1.4rem; }
figure { margin: 0; }
figure svg { max-width: 100%; height: auto; }
.paper { overflow-x: auto; background: white; border-radius: 6px; }
div.wide { overflow-x: auto; }
table { border-collapse: collapse; margin: 1.5rem 0 .5rem; font-variant-numeric: tabular-nums; font-size: .9rem; }
caption { text-align: left; font-weight: 600; padding: .3rem 0; }
td, th { padding: .15rem .7rem; white-space: nowrap; }
thead th, tfoot th { border-bottom: 1px solid #8886; border-top: 1px solid #8886; }
p { white-space: pre-wrap; margin: .2rem 0; font-size: .9rem; }
"""


def page(title: str, parts: Sequence[str], *, style: str = "") -> str:
    """A whole HTML page of fragments, with nothing to be fetched.

    Args:
        title: Its title and first heading.
        parts: Fragments of HTML; what may be wider than a phone is given through ``wide``.
        style: CSS of their own.
    """
    body = "\n".join(parts)
    return (
        f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>{html.escape(title)}</title>'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<style>{_STYLE}{style}</style></head>\n<body><main><h1>{html.escape(title)}</h1>\n{body}\n</main></body></html>\n"
    )


def paper(svg: str) -> str:
    """A picture whose colors are for white paper, as a part of a page."""
    return f'<figure class="paper">{svg}</figure>'


def wide(fragment: str, about: str) -> str:
    """A part of a page that scrolls inside where it is wider than the page, also by keyboard."""
    return f'<div class="wide" role="region" tabindex="0" aria-label="{html.escape(about)}">{fragment}</div>'


class Printable:
    """What is shown as tables: printed, in a notebook, as Markdown and as HTML."""

    def tables(self) -> Sequence[Table]:
        """The tables, in order."""
        raise NotImplementedError

    def __str__(self) -> str:
        return "\n\n".join(table.text() for table in self.tables())

    def _repr_html_(self) -> str:
        return self.to_html()

    def to_markdown(self) -> str:
        """The tables in GitHub's Markdown."""
        return "\n".join(table.markdown() for table in self.tables())

    def to_html(self) -> str:
        """The tables as an HTML fragment."""
        return "".join(table.html() for table in self.tables())
