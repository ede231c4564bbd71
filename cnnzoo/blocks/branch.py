"""The block with parallel paths: Inception modules, residual and dense connections."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cnnzoo.blocks.activation import ACTIVATIONS, activation_field, make_activation
from cnnzoo.blocks.base import Block, Shape, register_block
from cnnzoo.errors import SpecError
from cnnzoo.fields import MISSING, Mismatch, checked_field, choice_field

if TYPE_CHECKING:
    from torch import nn


def _check_paths(paths: object) -> object:
    if (
        isinstance(paths, tuple)
        and paths
        and all(isinstance(path, tuple) and all(isinstance(block, Block) for block in path) for path in paths)
    ):
        return paths
    raise Mismatch("a tuple of paths, each a tuple of blocks")


@register_block
@dataclass(frozen=True, repr=False)
class Parallel(Block):
    """Parallel paths, concatenated as in an Inception module, or added as in a residual block.

    Attributes:
        paths: The paths, each a tuple of blocks; an empty path is the identity.
        merge: ``"concat"`` or ``"add"``.
        activation: The activation after the merge, a key of ``ACTIVATIONS``, or None.
    """

    paths: tuple[tuple[Block, ...], ...] = checked_field(MISSING, _check_paths)
    merge: str = choice_field("concat", ("concat", "add"))
    activation: str | None = activation_field()

    label_prefix = "block"
    has_weights = True

    def build(self, shape: Shape) -> list[nn.Module]:
        from torch import nn

        from cnnzoo.blocks.build import build_blocks
        from cnnzoo.blocks.modules import Branches

        paths, out_shapes = [], []
        for number, path in enumerate(self.paths, start=1):
            built = build_blocks(path, shape, f"path {number} of {self.label or 'Parallel'}")
            paths.append(nn.Sequential(*(module for one in built for module in one.modules)))
            out_shapes.append(built[-1].shape if built else shape)
        if self.merge == "add" and len(set(out_shapes)) > 1:  # torch would broadcast some of them silently
            raise SpecError(
                f"its paths have different output shapes, which cannot be added: {', '.join(map(str, out_shapes))}"
            )
        modules: list[nn.Module] = [Branches(paths, self.merge)]
        if self.activation is not None:
            # a single empty path returns its input, which an activation must not overwrite
            make: Callable[[str], nn.Module] = (
                make_activation if len(self.paths) > 1 else lambda name: ACTIVATIONS[name]()
            )
            modules.append(make(self.activation))
        return modules

    def branches(self) -> tuple[tuple[Block, ...], ...]:
        """Returns the blocks of each path."""
        return self.paths

    def with_branches(self, branches: tuple[tuple[Block, ...], ...]) -> Block:
        """Returns this block with other paths."""
        return dataclasses.replace(self, paths=branches)
