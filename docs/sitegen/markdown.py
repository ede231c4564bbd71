"""Fragments of Markdown."""

from __future__ import annotations

import inspect
import re
from collections.abc import Sequence

from cnnzoo.measure.tables import Table


def first_line(documented: object) -> str:
    """Returns the first line of a docstring."""
    return (inspect.getdoc(documented) or "").partition("\n")[0]


def escape(text: str) -> str:
    """Returns text with ``<`` escaped, so that it does not begin an HTML tag."""
    return text.replace("<", "&lt;")


def cell(text: str) -> str:
    """Returns text on one line, escaped for a cell of a table."""
    return " ".join(text.split()).replace("|", "\\|")


def slug(text: str) -> str:
    """Returns text as part of an anchor: lowercase words, joined by hyphens."""
    return re.sub(r"\W+", "-", text.lower()).strip("-")


def code_list(names: Sequence[str]) -> str:
    """Returns names as code: ```a`, `b` and `c```."""
    quoted = [f"`{name}`" for name in names]
    return " and ".join([", ".join(quoted[:-1]), quoted[-1]]) if len(quoted) > 1 else quoted[0]


def table_body(table: Table) -> str:
    """Returns a table without its title, which is a heading of the page."""
    return escape(table.markdown().partition("\n\n")[2]).strip()


def collapsible(heading: str, text: str, *, is_open: bool = False) -> str:
    """Returns a collapsible box: a click on its heading opens and closes it."""
    return f'<details markdown="1"{" open" if is_open else ""}>\n<summary>{heading}</summary>\n\n{text}\n\n</details>'
