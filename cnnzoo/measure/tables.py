"""Tables as text, Markdown, CSV and HTML, and the base class of values that are printed as tables."""

from __future__ import annotations

import csv
import html
import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from cnnzoo.html_parts import notebook_html, paragraph
from cnnzoo.measure.text_layout import layout_text, terminal_width
from cnnzoo.text import printable

Value = str | int | float | tuple[int, ...] | None


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


def escape_markdown(text: str) -> str:
    """Returns a text with entities in place of the characters of inline markup, ``_`` within a word excepted."""
    return re.sub(r"[&<>|\\`*\[\]~]|(?<![^\W_])_|_(?![^\W_])", lambda match: f"&#{ord(match[0])};", text)


_LATEX = {
    **{character: f"\\{character}" for character in "&%$#_{}"},
    "\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "→": r"$\to$", "±": r"$\pm$",
    "·": r"$\cdot$",
}  # fmt: skip


def escape_latex(text: str) -> str:
    """Returns a text with commands in place of the characters that LaTeX interprets."""
    return "".join(_LATEX.get(character, character) for character in text)


def _text(value: Value) -> str:
    if value is None:
        return ""
    if isinstance(value, str):
        return printable(value)
    if isinstance(value, tuple):
        return shape_text(value)
    if isinstance(value, bool):
        return str(value)
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:,.1f}" if value >= 100 else f"{value:.4g}"
    raise TypeError(f"a table holds no {type(value).__name__}")


def _csv_cell(value: Value) -> Value:
    if value is None:
        return ""
    is_formula = isinstance(value, str) and value.startswith(("=", "+", "-", "@", "\t", "\r"))
    return f"'{value}" if is_formula and not re.fullmatch(r"[+-]?[\d.,]+[x%]?", str(value)) else value


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
        optional: Headers of columns that are left out of a text that is too narrow for them, the first one first.
        wraps_first: Whether the words of foldable columns are broken before other columns are left out.
        colors: Header of a column -> color of its cells on a terminal, row by row: red, green, yellow, or empty.
    """

    title: str
    headers: Sequence[str]
    rows: Sequence[Sequence[Value]]
    total: Sequence[Value] | None = None
    notes: Sequence[str] = ()
    foldable: Sequence[str] = ()
    optional: Sequence[str] = ()
    wraps_first: bool = False
    colors: Mapping[str, Sequence[str]] = field(default_factory=dict, hash=False)

    def _is_numeric(self, column: int) -> bool:
        """Returns whether a column holds numbers, also ``758x``, ``-12`` and ``46.8 M``, and not names."""
        if self.headers[column] in self.foldable:
            return False
        values = [row[column] for row in self.rows]
        return any(
            isinstance(v, (int, float)) or (isinstance(v, str) and re.fullmatch(r"[+-]?[\d.,]+(x| [KMGT])?", v))
            for v in values
        )

    def text(self, width: int | None = None, color: bool = False) -> str:
        """Returns the table as plain text that fits a width.

        Nothing is cut off: when the table is too wide, texts wrap at spaces; then the columns of ``optional`` are left
        out, in their order, and a line names them; then the first column gets a line of its own.

        Args:
            width: Characters; by default ``COLUMNS``, or else those of the terminal.
            color: Whether ``colors`` are applied, as ANSI sequences.
        """
        return layout_text(
            title=self.title,
            headers=self.headers,
            rows=[list(map(_text, row)) for row in self.rows],
            total=list(map(_text, self.total)) if self.total else None,
            notes=self.notes,
            numeric=[self._is_numeric(i) for i in range(len(self.headers))],
            foldable=[header in self.foldable for header in self.headers],
            optional=self.optional,
            colors=self.colors if color else {},
            wraps_first=self.wraps_first,
            width=terminal_width() if width is None else width,
        )

    def __str__(self) -> str:
        return self.text()

    def _repr_html_(self) -> str:
        return notebook_html(self.html())

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
        """Returns the rows as CSV (RFC 4180): numbers without separators, no total, no notes.

        Text that a spreadsheet would compute as a formula is preceded by an apostrophe.
        """
        file = io.StringIO()
        writer = csv.writer(file)
        writer.writerow(self.headers)
        for row in self.rows:
            writer.writerow([shape_text(v) if isinstance(v, tuple) else _csv_cell(v) for v in row])
        return file.getvalue()

    def latex(self) -> str:
        """Returns the table in LaTeX, with the rules of the package booktabs; notes follow as comments."""

        def line(cells: Sequence[str]) -> str:
            return f"{' & '.join(map(escape_latex, cells))} \\\\"

        columns = "".join("r" if self._is_numeric(i) else "l" for i in range(len(self.headers)))
        lines = [rf"\begin{{tabular}}{{{columns}}}", r"\toprule", line(self.headers), r"\midrule"]
        lines += [line([_text(value) for value in row]) for row in self.rows]
        if self.total:
            lines += [r"\midrule", line([_text(value) for value in self.total])]
        lines += [r"\bottomrule", r"\end{tabular}"]
        comments = [f"% {printable(text)}" for text in (self.title, *self.notes)]
        return "\n".join([comments[0], *lines, *comments[1:]]) + "\n"

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
        notes = "".join(map(paragraph, self.notes))
        caption = f'<caption style="caption-side:top;text-align:left">{html.escape(self.title)}</caption>'
        return (
            f"<table>{caption if self.title else ''}<thead><tr>{cells('th', self.headers)}</tr></thead>"
            f"<tbody>{body}</tbody>{foot}</table>{notes}"
        )


class Printable:
    """Base class of values that are printed as tables: in a terminal, in a notebook, as Markdown and as HTML."""

    def tables(self) -> Sequence[Table]:
        """Returns the tables, in order; subclasses define it."""
        raise NotImplementedError

    def text(self, width: int | None = None, color: bool = False) -> str:
        """Returns the tables as plain text, see ``Table.text``."""
        return "\n\n".join(table.text(width, color) for table in self.tables())

    def __str__(self) -> str:
        return self.text()

    def _repr_html_(self) -> str:
        return notebook_html(self.to_html())

    def to_markdown(self) -> str:
        """Returns the tables in GitHub's Markdown."""
        return "\n".join(table.markdown() for table in self.tables())

    def to_latex(self) -> str:
        """Returns the tables in LaTeX, with the rules of the package booktabs."""
        return "\n".join(table.latex() for table in self.tables())

    def to_html(self) -> str:
        """Returns the tables as an HTML fragment."""
        return "".join(table.html() for table in self.tables())
