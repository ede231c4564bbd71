"""A confusion matrix as an HTML heat map, for notebooks."""

from __future__ import annotations

import html
from collections.abc import Sequence

import torch

from cnnzoo.train.class_metrics import recall, shades, support

MAX_CLASSES = 40  # rows of a heat map; more classes are shown in groups
# Translucent, so that inherited text is legible on the light or dark ground of the notebook, at most at this opacity.
MAX_OPACITY = 0.6
CORRECT, WRONG = "47,102,144", "200,85,61"  # RGB

_TABLE = "border-collapse:collapse;font-size:.85em;font-variant-numeric:tabular-nums;margin:0 0 1em"
_CELL = "border:0;padding:.25em .5em;min-width:1.6em;text-align:right;white-space:nowrap"
_ROW_NAME = "border:0;padding:.25em .5em;text-align:right;font-weight:500"
_HORIZONTAL = "display:inline-block;max-width:18em;overflow-wrap:break-word;width:max-content"
_COLUMN_NAME = "border:0;padding:.25em .5em;text-align:center;vertical-align:bottom;font-weight:500"
_VERTICAL = (
    "display:inline-block;max-height:14em;overflow-wrap:break-word;text-align:left;transform:rotate(180deg);"
    "writing-mode:vertical-rl"
)


def heat_map(confusion: torch.Tensor, label_names: Sequence[str]) -> str:
    """Returns a confusion matrix as an HTML table with inline styles, for light and dark pages.

    With more than ``MAX_CLASSES`` classes, consecutive classes share a row and a column.

    Args:
        confusion: int64 (classes, classes): a row per true class, a column per predicted class.
        label_names: A name per class.
    """
    names = [html.escape(name) for name in label_names]
    columns = names
    diagonal, title = "recall", f"Confusion matrix of {int(confusion.sum()):,} images"
    explanation = "rows: true class, columns: predicted class, color: share of the row"
    if len(confusion) > MAX_CLASSES:
        size = -(-len(names) // MAX_CLASSES)
        starts = range(0, len(names), size)
        ends = [min(start + size, len(names)) - 1 for start in starts]
        columns = [f"{start} to {end}" for start, end in zip(starts, ends, strict=True)]
        names = [
            f"{column}: {names[start]} to {names[end]}"
            for column, start, end in zip(columns, starts, ends, strict=True)
        ]
        confusion, diagonal = _combine(confusion, size), "same group"
        explanation = (
            f"{len(label_names):,} classes in groups of {size} consecutive ones; rows: group of the true class, "
            "columns: group of the predicted class, color: share of the row; the diagonal includes confusions within a "
            "group"
        )
    head = "".join(
        f'<th scope="col" style="{_COLUMN_NAME}"><span style="{_VERTICAL}">{name}</span></th>'
        for name in (*columns, "images", diagonal)
    )
    cells = [
        [_cell(n, shade, CORRECT if i == j else WRONG) for j, (n, shade) in enumerate(zip(*row, strict=True))]
        for i, row in enumerate(zip(confusion.tolist(), shades(confusion), strict=True))
    ]
    body = "".join(
        f'<tr><th scope="row" style="{_ROW_NAME}"><span style="{_HORIZONTAL}">{name}</span></th>{"".join(row)}'
        f'<td style="{_CELL}">{n:,}</td><td style="{_CELL}">{"-" if share is None else f"{share:.1%}"}</td></tr>'
        for name, row, n, share in zip(names, cells, support(confusion), recall(confusion), strict=True)
    )
    return (
        f'<div style="overflow-x:auto"><table style="{_TABLE}"><caption style="caption-side:top;text-align:left">'
        f"{title} ({explanation})</caption>"
        f'<thead><tr><td style="{_CELL}"></td>{head}</tr></thead><tbody>{body}</tbody></table></div>'
    )


def _cell(count: int, shade: float, color: str) -> str:
    """Returns a cell; an empty one for 0."""
    style = f"{_CELL};background:rgba({color},{MAX_OPACITY * shade:.2f})" if count else _CELL
    return f'<td style="{style}">{f"{count:,}" if count else ""}</td>'


def _combine(confusion: torch.Tensor, size: int) -> torch.Tensor:
    """Returns the confusion matrix of groups of ``size`` consecutive classes; the last group may be smaller."""
    groups = torch.arange(len(confusion)) // size
    n = int(groups[-1]) + 1
    rows = confusion.new_zeros(n, len(confusion)).index_add(0, groups, confusion)
    return confusion.new_zeros(n, n).index_add(1, groups, rows)
