"""The table of a network's blocks as plain text: labels, output shapes, parameters, and the blocks themselves."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from cnnzoo.blocks.base import Block, Shape
from cnnzoo.blocks.build import infer_shape

_HEAD = ("label", "output", "parameters", "block")


def format_blocks(blocks: Sequence[Block], shape: Shape) -> str:
    """Returns the table: a line per block; those inside a block follow it, with the number of their path.

    Args:
        blocks: The blocks of a network, in order.
        shape: Shape of one image, (C, H, W).
    """
    rows = [_HEAD, *_rows(blocks, shape, "", "")]
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    return "\n".join(
        f"{label:<{widths[0]}}  {output:<{widths[1]}}  {parameters:>{widths[2]}}  {text}"
        for label, output, parameters, text in rows
    )


def count_parameters(blocks: Sequence[Block], shape: Shape) -> int | None:
    """Returns the number of parameters of blocks in sequence; None if a block cannot take its input."""
    total = 0
    for block in blocks:
        try:
            inference = infer_shape(block, shape)
        except Exception:  # a user's block may raise anything
            return None
        shape, total = inference.shape, total + inference.parameters
    return total


def _rows(blocks: Sequence[Block], shape: Shape | None, outer: str, path: str) -> Iterator[tuple[str, str, str, str]]:
    """Yields the rows of blocks in sequence; the shape is None after a block that cannot take its input."""
    for block in blocks:
        label, out, parameters = outer + block.label, None, ""
        if shape is not None:
            try:
                inference = infer_shape(block, shape)
            except Exception:  # a user's block may raise anything
                parameters = f"cannot take {_text(shape)}"
            else:
                out, parameters = inference.shape, f"{inference.parameters:,}"
        yield label, _text(out), parameters, path + block.describe()
        for number, branch in enumerate(block.branches(), start=1):
            if branch:
                yield from _rows(branch, shape, f"{label}/", f"{path}{number}: ")
            else:
                yield label, _text(shape), "", f"{path}{number}: its input"
        shape = out


def _text(shape: Shape | None) -> str:
    return "" if shape is None else "x".join(map(str, shape))
