"""The base class of blocks, the lines of a paper's table, and the registry of their kinds.

A block stores neither its number of input channels nor the size of a flattened map: it is built for a given input
shape, which ``cnnzoo.blocks.build`` infers by running the modules without computing anything.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from cnnzoo import fields
from cnnzoo.errors import SpecError
from cnnzoo.limits import MAX_LABEL_LENGTH, MAX_VALUE
from cnnzoo.plugins import Registry
from cnnzoo.text import is_printable, shorten

if TYPE_CHECKING:
    from torch import nn

Shape = tuple[int, ...]  # of one sample, without the batch dimension: (C, H, W) or (C,)


def int_field(default: Any = fields.MISSING, **limits: Any) -> Any:
    """Returns an integer field of a block: ``cnnzoo.fields.int_field`` with the maximum ``MAX_VALUE``."""
    return fields.int_field(default, maximum=MAX_VALUE, **limits)


@dataclass(frozen=True, repr=False)
class Block:
    """One line of a paper's table: a value, not a module.

    A subclass is a frozen dataclass that builds its modules in ``build``, and is registered with ``register_block``.

    Attributes:
        label: The block's name, unique in its Spec; the Spec fills in empty ones.
    """

    label: str = field(default="", kw_only=True)

    label_prefix: ClassVar[str] = "block"  # "conv" in conv1
    has_weights: ClassVar[bool] = False  # whether the numbers in labels count this block: conv1, conv2, fc3

    def __post_init__(self) -> None:
        name = type(self).__name__
        if not (isinstance(self.label, str) and "/" not in self.label and is_printable(self.label)):
            raise SpecError(f"{name}: label must be a printable string without '/', not {self.label!r}")
        if len(self.label.encode()) > MAX_LABEL_LENGTH:
            raise SpecError(f"{name}: label has at most {MAX_LABEL_LENGTH} bytes, not {shorten(self.label, 300)!r}")
        fields.check_fields(self, SpecError, f"{name} (block {self.label!r}): " if self.label else f"{name}: ")

    def __repr__(self) -> str:
        return self._format(hidden=())

    def describe(self) -> str:
        """Returns the block as text, without its initial weights and without the blocks inside it."""
        inside = [item.name for item in dataclasses.fields(self) if getattr(self, item.name) == self.branches() != ()]
        return self._format(hidden=("init", "bias_init", *inside))

    def _format(self, hidden: Sequence[str]) -> str:
        """Returns the block as a call, without its label, the fields that hold their default, and ``hidden`` ones."""
        arguments = []
        for item in dataclasses.fields(self):
            value = getattr(self, item.name)
            text = repr(value)
            if isinstance(value, tuple) and len(text) > 60 and not self.branches():  # a connection table, RBF codes
                text = f"<{len(value)} items>"
            if item.name in hidden:
                continue
            if item.default is dataclasses.MISSING:
                arguments.append(text)
            elif item.name != "label" and value != item.default:
                arguments.append(f"{item.name}={text}")
        return f"{type(self).__name__}({', '.join(arguments)})"

    def build(self, shape: Shape) -> list[nn.Module]:
        """Builds the block's modules, in order.

        Args:
            shape: Shape of the input, one sample: (C, H, W), or (C,) after a Flatten.

        Raises:
            SpecError: If the block cannot take that shape.
        """
        raise NotImplementedError

    def branches(self) -> tuple[tuple[Block, ...], ...]:
        """Returns the blocks inside this one, branch by branch; most blocks have none."""
        return ()

    def with_branches(self, branches: tuple[tuple[Block, ...], ...]) -> Block:
        """Returns this block with other blocks inside."""
        raise NotImplementedError(f"{type(self).__name__} has branches, and must implement with_branches")

    def scale_width(self, factor: float, multiple: int) -> Block:
        """Returns this block with its width scaled by ``factor`` and rounded to a multiple; most blocks have no width.

        Raises:
            SpecError: If the block has a width that cannot be scaled.
        """
        return self

    def with_num_classes(self, num_classes: int) -> Block:
        """Returns this block for another number of classes; most blocks do not depend on it.

        Raises:
            SpecError: If the block scores classes and cannot score another number of them.
        """
        return self


BlockType = TypeVar("BlockType", bound=type[Block])

BLOCKS: Registry[type[Block]] = Registry("block")


def register_block(cls: BlockType) -> BlockType:
    """Registers a kind of block under its class name, so that it can be stored as JSON.

    Use it as ``@register_block`` above ``@dataclass(frozen=True, repr=False)``.

    Raises:
        SpecError: If a field has the name ``block``, which in JSON is the kind of block.
        InputError: If the class name is taken.
    """
    if "block" in {item.name for item in dataclasses.fields(cls)}:
        raise SpecError(f"{cls.__name__} has a field 'block', which in JSON is the kind of block; rename the field")
    BLOCKS.register(cls.__name__, cls, cls.__module__)
    return cls


def require_maps(shape: Shape) -> None:
    """Raises SpecError if a shape is not that of maps (C, H, W)."""
    if len(shape) != 3:
        raise SpecError("it needs maps (C, H, W); move it before the Flatten block, or remove it")


def round_width(width: int, factor: float, multiple: int) -> int:
    """Returns a width scaled and rounded to a multiple of at least one."""
    scaled = width * factor / multiple
    if not scaled < MAX_VALUE:
        raise SpecError(f"a width of {width} times {factor:g} is more than the maximum of {MAX_VALUE}")
    return max(multiple, round(scaled) * multiple)
