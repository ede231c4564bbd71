"""Blocks to modules: builds blocks in sequence, and infers the shapes between them without computing anything."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from cnnzoo.blocks.base import Block, Shape
from cnnzoo.blocks.modules import Branches
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
        modules: Its modules on the meta device; None if the shape was memoized.
    """

    shape: Shape
    weights: int
    modules: list[nn.Module] | None = None

    def without_modules(self) -> Inference:
        """Returns what can be remembered."""
        return Inference(self.shape, self.weights)


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
    built: list[tuple[Block, Shape, Inference]] = []  # with the shapes of inputs
    distinct, weights = _DistinctBlocks(), 0
    for number, block in enumerate(blocks, start=1):
        distinct.add(block, shape)
        try:
            inference = infer_shape(block, shape)
            weights += inference.weights
            if weights > MAX_WEIGHTS and not on_meta:
                raise SpecError(f"{place} would have more than {MAX_WEIGHTS:,} weights, for which memory is reserved")
        except BlockError:  # of a block inside this one, which the error names
            raise
        except Exception as error:  # a user's block may raise anything
            reason = next(iter(str(error).strip().splitlines()), "")
            if not isinstance(error, (RuntimeError, ValueError)) or not reason:
                reason = f"{type(error).__name__}: {reason}"
            where = f"{block.label!r} ({_ordinal(number)} of {place})" if block.label else f"{number} of {place}"
            raise BlockError(f"block {where}, {block!r}, cannot take {shape}", reason) from error
        built.append((block, shape, inference if on_meta else inference.without_modules()))
        shape = inference.shape
    return [_build(*one) for one in built]


def _build(block: Block, shape: Shape, inference: Inference) -> BuiltBlock:
    """Builds the modules of a block on the default device; those of the inference are used if it has some."""
    modules = block.build(shape) if inference.modules is None else inference.modules
    for module in modules:
        object.__setattr__(module, "label", block.label)  # plain text: nn.Module need not track it
    return BuiltBlock(block, modules, inference.shape)


def infer_shape(block: Block, shape: Shape, on_miss: Callable[[Block], None] = lambda block: None) -> Inference:
    """Runs a block on the meta device, unless the result is memoized.

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
        if (x := _run_empty_batch(modules, shape)) is None:
            x = torch.empty(2, *shape)  # batch norm on 1x1 maps needs N=2 and eval mode
            for module in modules:
                x = _run(module, x)
    out_shape = tuple(x.shape[1:])
    if 0 in out_shape:
        raise SpecError(f"an input of {shape} is too small: the output would be empty")
    if (values_out := math.prod(out_shape)) > MAX_OUTPUT:
        raise SpecError(
            f"the output {out_shape} would have {values_out:,} values, more than the maximum of {MAX_OUTPUT:,}"
        )
    tensors = {id(t): t for m in modules for t in (*m.parameters(), *m.buffers())}
    weights = sum(tensor.numel() for tensor in tensors.values())
    inference = Inference(out_shape, weights, modules)
    _memo.put(key, inference.without_modules())
    return inference


# torch computes their outputs on meta in Python, in about 1 ms each
_ELEMENTWISE = (
    nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.ELU, nn.GELU, nn.SiLU, nn.Hardswish, nn.Sigmoid, nn.Tanh, nn.Dropout,
)  # fmt: skip
_NORMS = (nn.BatchNorm2d, nn.GroupNorm, nn.InstanceNorm2d)


def _run(module: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """Returns the output of a module on the meta device; modules whose output has the shape of x are not run."""
    if type(module) is nn.Sequential:
        for inner in module:
            x = _run(inner, x)
        return x
    if isinstance(module, Branches):
        return module.merge_outputs([_run(path, x) for path in module])
    if type(module) in _ELEMENTWISE or (type(module) is nn.LocalResponseNorm and x.dim() == 4):
        return x
    is_norm = type(module) in _NORMS and x.dim() == 4 and x.shape[2:].numel() > 1  # instance norm refuses 1x1 maps
    if is_norm and len(module.get_parameter("weight")) == x.shape[1]:
        return x
    if type(module) is nn.Linear and x.dim() == 2 and x.shape[1] == module.in_features:
        return x.new_empty(x.shape[0], module.out_features)
    x = module.eval()(x)
    module.train()
    if not isinstance(x, torch.Tensor):
        raise SpecError(f"{type(module).__name__} returns a {type(x).__name__}, not a tensor")
    return x


_MAX_EMPTY_WEIGHTS = 10**9  # values; their memory is reserved, but never touched


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
    if sum(tensor.numel() for _, _, tensor in tensors) > _MAX_EMPTY_WEIGHTS:
        return None
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
