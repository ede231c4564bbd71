"""Blocks to modules: builds blocks in sequence, and infers the shapes between them without computing anything."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from cnnzoo.blocks.base import Block, Shape
from cnnzoo.blocks.modules import Branches, RBFUnits, ScaledTanh, Subsampling, TableConv2d
from cnnzoo.errors import SpecError
from cnnzoo.limits import MAX_DISTINCT_BLOCKS, MAX_OUTPUT, MAX_SHAPES_BYTES, MAX_WEIGHTS


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


@dataclass(frozen=True)
class Inference:
    """What a block does to a shape.

    Attributes:
        shape: Shape of its output, one sample.
        weights: Number of values of its parameters and buffers.
        parameters: Number of values of its parameters.
        modules: Its modules on the meta device; None if the shape was memoized.
    """

    shape: Shape
    weights: int
    parameters: int
    modules: list[nn.Module] | None = None

    def without_modules(self) -> Inference:
        """Returns what can be remembered."""
        return Inference(self.shape, self.weights, self.parameters)


class _Memo:
    """Inferences that are remembered; all are forgotten when their keys take too much memory."""

    def __init__(self) -> None:
        self._values: dict[Any, Inference] = {}
        self._bytes = 0

    def get(self, key: Any) -> Inference | None:
        """Returns the inference of a key; None if it is not remembered, or the key cannot be hashed."""
        try:
            return self._values.get(key)
        except TypeError:  # a user's block with a value that is not hashable
            return None

    def put(self, key: Any, value: Inference) -> None:
        """Remembers an inference, if the key can be hashed."""
        size = _approximate_bytes(key)
        if size > MAX_SHAPES_BYTES // 100:
            return
        if self._bytes + size > MAX_SHAPES_BYTES:
            self._values, self._bytes = {}, 0  # another thread may still read the old one
        try:
            self._values[key] = value
        except TypeError:
            return
        self._bytes += size


_memo = _Memo()


class _DistinctBlocks:
    """Counts the blocks that differ in their values or the shape of their input, those inside them included."""

    def __init__(self) -> None:
        self._keys: set[Any] = set()
        self._number = 0

    def add(self, block: Block, shape: Shape) -> None:
        """Counts a block; raises SpecError beyond the maximum."""
        key = _key(block, shape)
        try:
            if key in self._keys:
                return
            self._keys.add(key)
        except TypeError:  # a user's block with a value that is not hashable
            pass
        self._number += sum(1 for _ in nested_blocks(block))
        if self._number > MAX_DISTINCT_BLOCKS:
            raise SpecError(
                f"the network has more than {MAX_DISTINCT_BLOCKS:,} blocks that differ in their values or the shape of "
                "their input"
            )


def nested_blocks(block: Block) -> Iterator[Block]:
    """Yields a block and those inside it."""
    yield block
    for branch in block.branches():
        for inner in branch:
            yield from nested_blocks(inner)


def _key(block: Block, shape: Shape) -> tuple[Any, ...]:
    """Returns what the output shape of a block depends on."""
    values = tuple(getattr(block, item.name) for item in dataclasses.fields(block) if item.name != "label")
    return type(block), values, shape


def _approximate_bytes(value: Any) -> int:
    """Returns about how many bytes a field of a block takes."""
    if isinstance(value, tuple):
        return 56 + sum(map(_approximate_bytes, value))
    if isinstance(value, Block):
        return 56 + sum(_approximate_bytes(getattr(value, item.name)) for item in dataclasses.fields(value))
    return 56 + (len(value) if isinstance(value, str) else 0)


def build_blocks(blocks: Sequence[Block], shape: Shape, place: str) -> list[BuiltBlock]:
    """Builds blocks in sequence, each for the output shape of the one before.

    The modules are created on torch's current default device. Each has the label of its block as the plain attribute
    ``label``, which counts and ``cnnzoo.features`` read.

    Args:
        blocks: The blocks in order.
        shape: Shape of the input, one sample: (C, H, W).
        place: Where the blocks are, for error messages: ``"features"``.

    Raises:
        BlockError: If a block cannot take the shape of its input, or the blocks have too many weights; the message
            names the block and the shape.
    """
    on_meta = torch.empty(0).device.type == "meta"
    inputs, inferences = [], []
    distinct, weights = _DistinctBlocks(), 0
    for number, block in enumerate(blocks, start=1):
        distinct.add(block, shape)
        with _naming(block, number, place, shape):
            inference = infer_shape(block, shape)
            weights += inference.weights
            if weights > MAX_WEIGHTS and not on_meta:
                raise SpecError(f"{place} would have more than {MAX_WEIGHTS:,} weights, for which memory is reserved")
        inputs.append(shape)
        inferences.append(inference if on_meta else inference.without_modules())
        shape = inference.shape
    built = []
    for number, (block, shape, inference) in enumerate(zip(blocks, inputs, inferences, strict=True), start=1):
        modules = inference.modules
        if modules is None:
            with _naming(block, number, place, shape):
                modules = block.build(shape)
        for module in modules:
            object.__setattr__(module, "label", block.label)  # plain text: nn.Module need not track it
        built.append(BuiltBlock(block, modules, inference.shape))
    return built


@contextmanager
def _naming(block: Block, number: int, place: str, shape: Shape) -> Iterator[None]:
    """Turns any error into one that names the block."""
    try:
        yield
    except (BlockError, torch.OutOfMemoryError):  # a BlockError names the block inside this one
        raise
    except Exception as error:  # a user's block may raise anything
        reason = next(iter(str(error).strip().splitlines()), "")
        if not isinstance(error, (RuntimeError, ValueError)) or not reason:
            reason = f"{type(error).__name__}: {reason}"
        where = f"{block.label!r} ({_ordinal(number)} of {place})" if block.label else f"{number} of {place}"
        raise BlockError(f"block {where}, {block!r}, cannot take {shape}", reason) from error


def infer_shape(block: Block, shape: Shape, on_miss: Callable[[Block], None] = lambda block: None) -> Inference:
    """Runs a block without computing anything, unless the result is memoized.

    Args:
        block: The block.
        shape: Shape of its input, one sample.
        on_miss: Called with the block before it is run.

    Raises:
        SpecError: If the block cannot take the shape; a user's block may raise any exception.
    """
    key = _key(block, shape)
    if (known := _memo.get(key)) is not None:
        return known
    on_miss(block)
    with torch.device("meta"), torch.no_grad():
        modules = block.build(shape)
        if not isinstance(modules, list) or not all(isinstance(module, nn.Module) for module in modules):
            raise SpecError(f"its build must return a list of modules, not {modules!r}")
        if (x := _run_empty_batch(block, modules, shape)) is None:
            x = torch.empty(2, *shape)  # batch norm on 1x1 maps needs N=2 and eval mode
            for module in modules:
                x = module.eval()(x)
                module.train()
                if not isinstance(x, torch.Tensor):
                    raise SpecError(f"{type(module).__name__} returns a {type(x).__name__}, not a tensor")
    out_shape = tuple(x.shape[1:])
    if 0 in out_shape:
        raise SpecError(f"an input of {shape} is too small: the output would be empty")
    if (values_out := math.prod(out_shape)) > MAX_OUTPUT:
        raise SpecError(
            f"the output {out_shape} would have {values_out:,} values, more than the maximum of {MAX_OUTPUT:,}"
        )
    tensors = {id(t): t for m in modules for t in (*m.parameters(), *m.buffers())}
    weights = sum(tensor.numel() for tensor in tensors.values())
    parameters = sum(t.numel() for t in tensors.values() if isinstance(t, nn.Parameter))
    inference = Inference(out_shape, weights, parameters, modules)
    _memo.put(key, inference.without_modules())
    return inference


# for an empty batch, their output has the shape that it has for any other
_ANY_BATCH = {
    nn.Conv2d, nn.Linear, nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveMaxPool2d, nn.AdaptiveAvgPool2d, nn.Flatten,
    nn.BatchNorm2d, nn.GroupNorm, nn.InstanceNorm2d, nn.LocalResponseNorm, nn.Dropout, nn.ReLU, nn.ReLU6, nn.LeakyReLU,
    nn.ELU, nn.GELU, nn.SiLU, nn.Hardswish, nn.Sigmoid, nn.Tanh, nn.Sequential, nn.ModuleList, Branches, TableConv2d,
    Subsampling, ScaledTanh, RBFUnits,
}  # fmt: skip
_MAX_EMPTY_WEIGHTS = 2**28  # values, for which memory is reserved


def _run_empty_batch(block: Block, modules: list[nn.Module], shape: Shape) -> torch.Tensor | None:
    """Runs the modules of a block on a batch of no images on the CPU, with weights that are never read.

    The meta device would give the same shape; its first use imports sympy and torch._dynamo, for up to 1.3 s.

    Returns:
        The output, (0, ...); None if it fails, and for blocks and modules of others.
    """
    network = nn.Sequential(*modules)
    are_ours = all(type(one).__module__.startswith("cnnzoo.blocks.") for one in nested_blocks(block))
    tensors = {**dict(network.named_parameters()), **dict(network.named_buffers())}
    is_small = sum(tensor.numel() for tensor in tensors.values()) <= _MAX_EMPTY_WEIGHTS
    if not (are_ours and is_small and all(type(module) in _ANY_BATCH for module in network.modules())):
        return None
    try:
        with torch.device("cpu"):
            empty = {name: torch.empty(tensor.shape, dtype=tensor.dtype) for name, tensor in tensors.items()}
            x: torch.Tensor = torch.func.functional_call(network.eval(), empty, torch.empty(0, *shape))
        return x
    except Exception:  # the run on meta describes what is wrong
        return None
    finally:
        network.train()


def _ordinal(n: int) -> str:
    suffix = "th" if 10 <= n % 100 <= 20 else {1: "st", 2: "nd", 3: "rd"}.get(n % 10, "th")
    return f"{n}{suffix}"
