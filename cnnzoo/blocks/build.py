"""Blocks to modules: builds blocks in sequence, and infers the shapes between them without computing anything."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from cnnzoo.blocks.base import Block, Shape
from cnnzoo.errors import SpecError


class BlockError(SpecError):
    """A block that cannot take the shape of its input.

    Attributes:
        block: The block, its position and the shape of its input, as text.
        reason: Why it cannot take the shape.
    """

    def __init__(self, block: str, reason: str) -> None:
        super().__init__(f"{block}: {reason}")
        self.block = block
        self.reason = reason


@dataclass(frozen=True)
class BuiltBlock:
    """A block, the modules built from it, and the shape of its output."""

    block: Block
    modules: list[nn.Module]
    shape: Shape


_shapes: dict[Any, Shape] = {}  # (block without its label, input shape) -> output shape
_MAX_SHAPES = 100_000


def build_blocks(blocks: Sequence[Block], shape: Shape, place: str) -> list[BuiltBlock]:
    """Builds blocks in sequence, each for the output shape of the one before.

    The modules are created on torch's current default device. Each has the label of its block as the plain attribute
    ``label``, which counts and ``cnnzoo.features`` read.

    Args:
        blocks: The blocks in order.
        shape: Shape of the input, one sample: (C, H, W).
        place: Where the blocks are, for error messages: ``"features"``.

    Raises:
        BlockError: If a block cannot take the shape of its input; the message names the block and the shape.
    """
    built = []
    on_meta = torch.empty(0).device.type == "meta"
    for number, block in enumerate(blocks, start=1):
        in_shape = shape
        try:
            shape, modules = infer_shape(block, in_shape)
        except BlockError:  # of a block inside this one, which the error names
            raise
        except Exception as error:  # a user's block may raise anything
            reason = next(iter(str(error).strip().splitlines()), "")
            if not isinstance(error, (RuntimeError, ValueError)) or not reason:
                reason = f"{type(error).__name__}: {reason}"
            where = f"{block.label!r} ({_ordinal(number)} of {place})" if block.label else f"{number} of {place}"
            raise BlockError(f"block {where}, {block!r}, cannot take {in_shape}", reason) from error
        if modules is None or not on_meta:
            modules = block.build(in_shape)  # on the default device
        for module in modules:
            object.__setattr__(module, "label", block.label)  # plain text: nn.Module need not track it
        built.append(BuiltBlock(block, modules, shape))
    return built


def infer_shape(block: Block, shape: Shape) -> tuple[Shape, list[nn.Module] | None]:
    """Runs a block without computing anything, unless the result is memoized.

    Returns:
        The shape of its output, and its modules on the meta device; None instead of modules if the shape was memoized.

    Raises:
        SpecError: If the block cannot take the shape; a user's block may raise any exception.
    """
    values = tuple(getattr(block, item.name) for item in dataclasses.fields(block) if item.name != "label")
    try:
        key = (type(block), values, shape)
        if (known := _shapes.get(key)) is not None:
            return known, None
    except TypeError:  # a user's block with a value that is not hashable
        key = None
    with torch.device("meta"), torch.no_grad():
        modules = block.build(shape)
        if not isinstance(modules, list) or not all(isinstance(module, nn.Module) for module in modules):
            raise SpecError(f"its build must return a list of modules, not {modules!r}")
        if (x := _run_empty_batch(modules, shape)) is None:
            x = torch.empty(2, *shape)  # batch norm on 1x1 maps needs N=2 and eval mode
            for module in modules:
                x = module.eval()(x)
                module.train()
                if not isinstance(x, torch.Tensor):
                    raise SpecError(f"{type(module).__name__} returns a {type(x).__name__}, not a tensor")
    out_shape = tuple(x.shape[1:])
    if 0 in out_shape:
        raise SpecError(f"an input of {shape} is too small: the output would be empty")
    if key is not None:
        if len(_shapes) >= _MAX_SHAPES:
            _shapes.clear()
        _shapes[key] = out_shape
    return out_shape, modules


def _run_empty_batch(modules: Sequence[nn.Module], shape: Shape) -> torch.Tensor | None:
    """Runs modules on a batch of no images on the CPU, with weights that are never read.

    It gives the same shape as the meta device, whose first use costs as much time as importing torch.

    Returns:
        The output, (0, ...); None if it fails, or for modules that may treat an empty batch differently.
    """
    parts = [part for module in modules for part in module.modules()]
    if not all(type(part).__module__.startswith(("torch.nn.", "cnnzoo.blocks.")) for part in parts):
        return None
    tensors: list[tuple[dict[str, Any], str, torch.Tensor]] = [
        (owner, name, tensor)
        for part in parts
        for owner in (part._parameters, part._buffers)
        for name, tensor in owner.items()
        if tensor is not None
    ]
    try:
        for owner, name, tensor in tensors:
            owner[name] = torch.empty(tensor.shape, dtype=tensor.dtype, device="cpu")
        x: Any = torch.empty(0, *shape, device="cpu")
        with torch.device("cpu"):
            for module in modules:
                x = module.eval()(x)
        return x if isinstance(x, torch.Tensor) else None
    except Exception:  # the run on meta describes what is wrong
        return None
    finally:
        for owner, name, tensor in tensors:
            owner[name] = tensor
        for module in modules:
            module.train()


def _ordinal(n: int) -> str:
    suffix = "th" if 10 <= n % 100 <= 20 else {1: "st", 2: "nd", 3: "rd"}.get(n % 10, "th")
    return f"{n}{suffix}"
