"""Edits of a Spec: changed, removed and inserted blocks, and the generic knobs of every network."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from fnmatch import fnmatchcase
from typing import Any

from cnnzoo.blocks import (
    ACTIVATIONS,
    RBF,
    Activation,
    AvgPool,
    Block,
    Conv,
    Dense,
    Dropout,
    Logits,
    MaxPool,
    Norm,
    Subsample,
    TableConv,
)
from cnnzoo.errors import InputError, SpecError, unknown
from cnnzoo.fields import check_positive_int, require_field
from cnnzoo.spec import Spec

Match = str | type[Block]  # a label pattern ("conv*"), or a kind of block (Conv)


def edit(spec: Spec, match: Match, **changes: Any) -> Spec:
    """Returns a Spec with some fields of some blocks changed.

    Args:
        spec: The network, which is not changed.
        match: A label, optionally with wildcards (``"pool*"``, ``"inception*/conv1"``), or a kind of block
            (``cnnzoo.blocks.Conv``), which matches everywhere, also inside a Parallel.
        **changes: New values of fields of the blocks.

    Raises:
        SpecError: If no block matches, or a value is invalid.
        UnknownNameError: If a matching block has no such field.
        InputError: If ``spec`` is not a Spec, or ``match`` is neither a label nor a kind of block.
    """

    def change(block: Block, label: str) -> Sequence[Block]:
        if not _matches(block, label, match):
            return (block,)
        for name in changes:
            require_field(type(block), name, f"field of block {label!r}, {block!r}:")
        return (dataclasses.replace(block, **changes),)

    _require_match(spec, match)
    return spec.map_blocks(change)


def remove(spec: Spec, *matches: Match) -> Spec:
    """Returns a Spec without some blocks.

    Args:
        spec: The network, which is not changed.
        *matches: Labels, optionally with wildcards, or kinds of blocks.

    Raises:
        SpecError: If one of them matches no block.
        InputError: If ``spec`` is not a Spec, or one of ``matches`` is neither a label nor a kind of block.
    """
    for match in matches:
        _require_match(spec, match)
    return spec.map_blocks(
        lambda block, label: () if any(_matches(block, label, match) for match in matches) else (block,)
    )


def insert(spec: Spec, *, blocks: Block | Sequence[Block], after: str | None = None, before: str | None = None) -> Spec:
    """Returns a Spec with blocks inserted at one place.

    Args:
        spec: The network, which is not changed.
        blocks: The new blocks, or a single one; blocks without a label get one.
        after: The label of the block that they follow.
        before: The label of the block that they precede.

    Raises:
        SpecError: If both or neither of ``after`` and ``before`` are given.
        UnknownNameError: If no block has that label.
        InputError: If ``spec`` is not a Spec.
    """
    _require_spec(spec)
    new = [blocks] if isinstance(blocks, Block) else blocks
    if (after is None) == (before is None):
        raise SpecError("insert needs either after= or before=, the label of a block")
    place = after if after is not None else before
    labels = [label for label, _ in spec.blocks()]
    if place not in labels:
        raise unknown(f"block of {spec.name}", place, labels)

    def change(block: Block, label: str) -> Sequence[Block]:
        if label != place:
            return (block,)
        return (block, *new) if after is not None else (*new, block)

    return spec.map_blocks(change)


def _matches(block: Block, label: str, match: Match) -> bool:
    if isinstance(match, str):
        return label == match or fnmatchcase(label, match)
    return isinstance(block, match)


def _require_spec(spec: object) -> None:
    if not isinstance(spec, Spec):
        hint = f"; cnnzoo.get_spec({spec!r}) returns one" if isinstance(spec, str) else ""
        raise InputError(f"expected a Spec to edit, got {type(spec).__name__}{hint}")


def _require_match(spec: Spec, match: Match) -> None:
    _require_spec(spec)
    if not isinstance(match, str) and not (isinstance(match, type) and issubclass(match, Block)):
        raise InputError(f"expected a label ('conv*') or a kind of block (cnnzoo.blocks.Conv), got {match!r}")
    if not any(_matches(block, label, match) for label, block in spec.blocks()):
        what = f"label {match!r}" if isinstance(match, str) else f"kind {match.__name__}"
        labels = ", ".join(label for label, _ in spec.blocks())
        raise SpecError(f"{spec.name} has no block of {what}; its blocks: {labels}")


# --- generic knobs: edits that apply to every network ---


def _set_activation(spec: Spec, value: str) -> Spec:
    if not isinstance(value, str) or value not in ACTIVATIONS:
        raise unknown("activation", value, ACTIVATIONS)
    return _set_where(spec, lambda block: getattr(block, "activation", None) is not None, activation=value)


def _set_norm(spec: Spec, value: str | None) -> Spec:
    def has_norm(block: Block) -> bool:
        return getattr(block, "norm", None) is not None

    def without_norm(block: Block, label: str) -> Sequence[Block]:
        if isinstance(block, Norm):  # its activation stays
            return () if block.activation is None else (Activation(block.activation, label=block.label),)
        return (dataclasses.replace(block, norm=None),) if has_norm(block) else (block,)  # type: ignore[call-arg]

    if value is None:
        return spec.map_blocks(without_norm)
    if any(has_norm(block) for _, block in spec.blocks()):
        return _set_where(spec, has_norm, norm=value)
    return _set_where(spec, lambda block: isinstance(block, (Conv, TableConv)), norm=value)


def _set_pooling(spec: Spec, value: str) -> Spec:
    kinds: dict[str, type[MaxPool | AvgPool]] = {"max": MaxPool, "avg": AvgPool}
    if not isinstance(value, str) or value not in kinds:
        raise unknown("pooling", value, kinds)

    def change(block: Block, label: str) -> Sequence[Block]:
        if isinstance(block, Subsample):  # its trainable coefficients are dropped
            return (kinds[value](block.kernel_size, label=block.label),)
        if type(block) not in kinds.values():
            return (block,)
        return (kinds[value](**{item.name: getattr(block, item.name) for item in dataclasses.fields(block)}),)

    return spec.map_blocks(change)


def _set_dropout(spec: Spec, value: float) -> Spec:
    if any(isinstance(block, Dropout) for _, block in spec.blocks()):
        return _set_where(spec, lambda block: isinstance(block, Dropout), p=value)
    has_hidden_dense = any(isinstance(block, Dense) for _, block in spec.blocks())

    def change(block: Block, label: str) -> Sequence[Block]:
        if has_hidden_dense:
            return (block, Dropout(value)) if isinstance(block, Dense) else (block,)
        return (Dropout(value), block) if isinstance(block, (Logits, RBF)) else (block,)

    return spec.map_blocks(change)


def _scale_width(spec: Spec, value: float) -> Spec:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < math.inf:
        raise InputError(f"width must be a number above 0, such as 0.5, not {value!r}")
    convs = [block for _, block in spec.blocks() if isinstance(block, Conv)]
    # the output maps of a convolution must be divisible into the groups of the convolutions after it
    multiple = math.lcm(*(conv.groups for conv in convs if conv.groups != conv.out_channels))
    return spec.map_blocks(lambda block, label: (block.scale_width(value, multiple),))


def _set_num_classes(spec: Spec, value: int) -> Spec:
    num_classes = check_positive_int("num_classes", value)
    return spec.map_blocks(lambda block, label: (block.with_num_classes(num_classes),))


def _set_in_channels(spec: Spec, value: int) -> Spec:
    return dataclasses.replace(spec, input=(check_positive_int("in_channels", value), *spec.input[1:]))


def _set_image_size(spec: Spec, value: int) -> Spec:
    size = check_positive_int("image_size", value)
    return dataclasses.replace(spec, input=(spec.input[0], size, size))


def _set_where(spec: Spec, condition: Callable[[Block], bool], **changes: Any) -> Spec:
    return spec.map_blocks(lambda block, label: (dataclasses.replace(block, **changes) if condition(block) else block,))


KNOBS: dict[str, Callable[[Spec, Any], Spec]] = {
    "num_classes": _set_num_classes,
    "in_channels": _set_in_channels,
    "image_size": _set_image_size,
    "activation": _set_activation,
    "norm": _set_norm,
    "pooling": _set_pooling,
    "dropout": _set_dropout,
    "width": _scale_width,
}


def apply_knobs(spec: Spec, **knobs: Any) -> Spec:
    """Returns a Spec with generic knobs applied, also inside each Parallel.

    ``activation`` replaces the existing activations; ``norm`` replaces the existing norms, or adds one to every
    convolution if there is none; ``pooling`` (``"max"``, ``"avg"``) changes window pooling, not adaptive pooling;
    ``dropout`` sets the probability of every Dropout block, or adds one after each hidden Dense block (before the class
    scores if there is no Dense block); ``width`` scales convolutions and hidden Dense blocks; ``num_classes``,
    ``in_channels`` and ``image_size`` set the shapes of input and output.

    Raises:
        UnknownNameError: If a knob, or the name that it is set to, is not known.
        InputError: If the value of a knob is invalid.
        SpecError: If a block cannot follow a knob.
    """
    for name, value in knobs.items():
        if name not in KNOBS:
            raise unknown(f"knob of {spec.name}", name, KNOBS)
        spec = KNOBS[name](spec, value)
    return spec
