"""Self-contained HTML pages of tables and pictures."""

from __future__ import annotations

import html
from collections.abc import Sequence

_STYLE = """
:root { color-scheme: light dark; }
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 72rem; padding: 0 1rem; }
h1 { font-size: 1.4rem; }
figure { margin: 0; }
figure svg { max-width: 100%; height: auto; }
.picture { overflow-x: auto; background: white; border-radius: 6px; }
div.wide { overflow-x: auto; }
table { border-collapse: collapse; margin: 1.5rem 0 .5rem; font-variant-numeric: tabular-nums; font-size: .9rem; }
caption { text-align: left; font-weight: 600; padding: .3rem 0; }
td, th { padding: .15rem .7rem; white-space: nowrap; }
thead th, tfoot th { border-bottom: 1px solid #8886; border-top: 1px solid #8886; }
p { white-space: pre-wrap; margin: .2rem 0; font-size: .9rem; }
"""


def html_page(title: str, parts: Sequence[str]) -> str:
    """Returns an HTML page that loads no other file.

    Args:
        title: Title and first heading.
        parts: HTML fragments, such as those of ``svg_part`` and ``scrolling_part``.
    """
    body = "\n".join(parts)
    return (
        f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>{html.escape(title)}</title>'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<style>{_STYLE}</style></head>\n<body><main><h1>{html.escape(title)}</h1>\n{body}\n</main></body></html>\n"
    )


def svg_part(svg: str) -> str:
    """Returns a picture on a white ground, which its colors are made for."""
    return f'<figure class="picture">{svg}</figure>'


def scrolling_part(fragment: str, label: str) -> str:
    """Returns a fragment that scrolls, also by keyboard, if it is wider than the page.

    Args:
        fragment: HTML, such as a table.
        label: Its name for screen readers.
    """
    return f'<div class="wide" role="region" tabindex="0" aria-label="{html.escape(label)}">{fragment}</div>'
