"""Receptive fields: which part of the input a position of a tensor depends on, followed through each operator.

Each axis of the input is followed alone: a rule (see ``position_rules.py``) takes the arguments of an operator, with
the view along this axis in place of each tensor, and returns the view of its results. Results are cached.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import torch

from cnnzoo.measure import resampling_rules  # noqa: F401  # registers its rules
from cnnzoo.measure.position_joins import overwrite
from cnnzoo.measure.position_rules import CREATED, Call, Kind, Operand, Rule, rule_of, simple_kind
from cnnzoo.measure.positions import Shape, UnknownPositionsError, View
from cnnzoo.measure.rules import CONVOLUTIONS, PRODUCTS
from cnnzoo.measure.spans import Span

aten = torch.ops.aten
_PLAIN = frozenset({int, float, bool, str, type(None)})


class Axis(NamedTuple):
    """An axis of an input of the model.

    Attributes:
        source: Index of the input.
        dim: Its dimension.
        size: Its length in px.
    """

    source: int
    dim: int
    size: int


class Positions:
    """What the elements of a tensor depend on, along each axis of the input.

    Two are the same only if they are the same object, so that results can be cached.

    Args:
        shape: Shape of the tensor.
        views: The view along each axis, or why it is unknown.
    """

    __slots__ = ("shape", "views")

    def __init__(self, shape: Shape, views: Mapping[Axis, View | str]) -> None:
        self.shape = shape
        self.views = views


Known = Positions | str | None  # str: why they are unknown along all axes; None: no dependence on the input


def _along_axes(shape: Shape, axes: Iterable[Axis], view_along: Callable[[Axis], View | str | None]) -> Known:
    """Returns the positions of a tensor of that shape, from the view along each axis."""
    views: dict[Axis, View | str] = {}
    for axis in axes:
        try:
            view = view_along(axis)
        except UnknownPositionsError as error:
            view = str(error)
        if view is not None:
            views[axis] = view
    return Positions(shape, views) if views else None


class Argument(NamedTuple):
    """A tensor among the arguments of an operator.

    Attributes:
        shape: Its shape.
        positions: Its positions; None if it does not depend on the input.
    """

    shape: Shape
    positions: Positions | None


class Layout(NamedTuple):
    """The positions of a storage: those of a tensor that covers it.

    Attributes:
        positions: Positions of the tensor.
        shape: Its shape.
        strides: Its strides.
        offset: Its offset in the storage.
    """

    positions: Known
    shape: Shape
    strides: Shape
    offset: int


@lru_cache(maxsize=256)
def input_positions(source: int, shape: Shape, floating: bool) -> Known:
    """Returns the positions of an input of the model.

    The axes are its dimensions but the batch. Which one is the channels is known later, see ``channel_axis``.

    Args:
        source: Index of the input.
        shape: Its shape.
        floating: Whether it holds floating-point values, or indices such as tokens.
    """
    first = 0 if len(shape) == 3 or (len(shape) == 2 and not floating) else 1  # (L, N, E), (L, N): a batch comes second
    views: dict[Axis, View | str] = {
        Axis(source, d, n): View(
            Span((0,), (0,), 1), 0, shape, tuple([((n, 1),) if e == d and n > 1 else () for e in range(len(shape))])
        )
        for d, n in enumerate(shape)
        if d >= first and (n > 1 or d >= 2)
    }
    return Positions(shape, views) if views else None


def channel_axis(positions: Positions, source: int, d: int) -> Axis | None:
    """Returns the axis of an input that its first product sums over, which holds the channels.

    Args:
        positions: Positions of an operand of the product.
        source: Index of the input.
        d: The dimension of the operand that the product sums over.
    """
    views = {axis: view for axis, view in positions.views.items() if axis.source == source}
    axes = [axis for axis, view in views.items() if isinstance(view, View) and view.dims[d]]
    axes = axes or [axis for axis, view in views.items() if isinstance(view, str)]
    return min(axes, key=lambda axis: (axis.dim != 1, axis.dim), default=None)


@lru_cache(maxsize=4096)
def extent(positions: Positions, channels: frozenset[tuple[int, int]]) -> int | str | None:
    """Returns the receptive field in px, along the longer side; why it is unknown; None if no axis has positions.

    Args:
        positions: Those of a tensor.
        channels: (source, dimension) of the axes that hold channels.
    """
    views = [view for axis, view in positions.views.items() if (axis.source, axis.dim) not in channels]
    reasons = [view for view in views if isinstance(view, str)]
    sizes = [view.extent() for view in views if isinstance(view, View)]
    return reasons[0] if reasons else round(max(sizes)) if sizes else None


@lru_cache(maxsize=8192)
def read(layout: Layout, shape: Shape, strides: Shape, offset: int) -> Known:
    """Returns the positions of a tensor in a storage.

    Args:
        layout: Layout of the storage.
        shape: Shape of the tensor.
        strides: Its strides.
        offset: Its offset in the storage.
    """
    if not isinstance(layout.positions, Positions):
        return layout.positions
    views = layout.positions.views

    def view_along(axis: Axis) -> View | str:
        view = views[axis]
        return view if isinstance(view, str) else view.read(layout.strides, shape, strides, offset - layout.offset)

    return _along_axes(shape, views, view_along)


@lru_cache(maxsize=8192)
def follow(
    func: Any,
    rule: Rule,
    args: tuple[Any, ...],
    kwargs: tuple[tuple[str, Any], ...],
    shape: Shape,
    channels: frozenset[tuple[int, int]],
) -> Known:
    """Returns the positions of the results of an operator.

    Args:
        func: The operator.
        rule: Its rule.
        args: Its arguments; an ``Argument`` in place of each tensor.
        kwargs: Its arguments by name.
        shape: Shape of its first result.
        channels: (source, dimension) of the axes that hold channels, which are left out.
    """
    op = getattr(func, "_overloadpacket", None)
    if op in CREATED:
        return None
    if op is None:  # a higher-order operator
        return str(func) if any(x.positions for x in _arguments((*args, *dict(kwargs).values()))) else None
    given = dict(kwargs)
    named = {
        argument.name: args[i] if i < len(args) else given.get(argument.name, argument.default_value)
        for i, argument in enumerate(func._schema.arguments)
    }
    axes = dict.fromkeys(axis for x in _arguments(named.values()) if x.positions for axis in x.positions.views)

    def view_along(axis: Axis) -> View | str | None:
        for x in _arguments(named.values()):
            if x.positions and isinstance(reason := x.positions.views.get(axis), str):
                return reason
        try:
            view = rule(Call(op, {name: _along(value, axis) for name, value in named.items()}, shape, axis.size))
        except UnknownPositionsError as error:
            return str(error) if str(error) == str(op) else f"{op}: {error}"
        except Exception as error:  # a rule must not break a count
            return f"{op}: {type(error).__name__} in its rule"
        return str(op) if view is not None and view.shape != shape else view

    return _along_axes(shape, [axis for axis in axes if (axis.source, axis.dim) not in channels], view_along)


def _arguments(values: Iterable[Any]) -> Iterator[Argument]:
    for value in values:
        if isinstance(value, Argument):
            yield value
        elif isinstance(value, tuple):
            yield from _arguments(value)


def _along(value: Any, axis: Axis) -> Any:
    """Returns an argument with the views along one axis."""
    if isinstance(value, Argument):
        view = value.positions.views.get(axis) if value.positions else None
        return Operand(value.shape, view if isinstance(view, View) else None)
    return tuple([_along(item, axis) for item in value]) if isinstance(value, tuple) else value


@lru_cache(maxsize=4096)
def write(layout: Layout, part: Layout) -> Known:
    """Returns the positions of a storage after values were written into a part of it.

    Args:
        layout: Layout of the storage before.
        part: Layout of the part.
    """
    old, new = layout.positions, part.positions
    if isinstance(old, str) or isinstance(new, str):
        return old if isinstance(old, str) else new
    try:
        places = _places(layout, part)
    except UnknownPositionsError as error:
        return str(error)
    partial = [d for d, place in enumerate(places) if place.size < layout.shape[d]]

    def view_along(axis: Axis) -> View | str | None:
        before, view = (positions.views.get(axis) if positions is not None else None for positions in (old, new))
        if isinstance(before, str) or isinstance(view, str):
            return before if isinstance(before, str) else view
        if view is None:
            return before
        kept = tuple([n for n in view.shape if n > 1])
        view = view.reshape(kept).rearrange(kept, [place.dims for place in places])
        for d in partial:
            target = (*view.shape[:d], layout.shape[d], *view.shape[d + 1 :])
            previous = before if d == partial[-1] else None
            view = overwrite(previous, view, d, places[d].start, places[d].step, target, axis.size)
        return view

    axes = dict.fromkeys(axis for positions in (old, new) if positions is not None for axis in positions.views)
    return _along_axes(layout.shape, axes, view_along)


class _Place(NamedTuple):
    """Where a part of a tensor lies along a dimension; ``dims``: the part's own dimension, of those longer than 1."""

    start: int
    step: int
    size: int
    dims: list[int]


def _places(layout: Layout, part: Layout) -> list[_Place]:
    """Returns where a part of a storage lies, for each dimension of its layout."""
    places: dict[int, _Place] = {}
    free = dict(enumerate([(n, stride) for n, stride in zip(part.shape, part.strides, strict=True) if n > 1]))
    offset = part.offset - layout.offset
    for d in sorted(range(len(layout.shape)), key=lambda d: -layout.strides[d]):
        n, stride = layout.shape[d], layout.strides[d]
        start, offset = divmod(offset, stride) if n > 1 else (0, offset)
        places[d] = _Place(start, 1, 1, [])
        for i, (size, move) in free.items():
            if n > 1 and move % stride == 0 and start + move // stride * (size - 1) < n:
                places[d] = _Place(start, move // stride, size, [i])
                del free[i]
                break
    if free or offset:
        raise UnknownPositionsError("values written into a view of another layout")
    return [places[d] for d in range(len(places))]


class PositionTracker:
    """Follows the positions of all storages through a forward."""

    def __init__(self) -> None:
        self._layouts: dict[int, Layout] = {}  # by key of a storage (``storage._cdata``)
        self._rules: dict[Any, Rule] = {}  # of operators; ``register_count_rule`` may change them
        self._kinds: dict[Any, Kind] = {}
        self._dims: list[int] = []  # of each input
        self._sources: set[int] = set()  # inputs that no product has reached
        self._channels: frozenset[tuple[int, int]] = frozenset()  # (source, dimension)

    def add_input(self, tensor: torch.Tensor) -> None:
        """Records a tensor as input of the model."""
        source = len(self._dims)
        self._dims.append(tensor.dim())
        self._sources.add(source)
        self._set(tensor, input_positions(source, tuple(tensor.shape), tensor.is_floating_point()))

    def release(self, key: int) -> None:
        """Forgets a storage, whose key may be used again."""
        self._layouts.pop(key, None)

    def positions(self, tensor: torch.Tensor) -> Known:
        """Returns the positions of a tensor."""
        try:
            key = tensor.untyped_storage()._cdata
        except NotImplementedError:
            key = _key(tensor)
        layout = self._layouts.get(key)
        if layout is None:
            return None
        positions = layout[0]
        if positions.__class__ is not Positions:
            return positions
        strides, shape = tensor.stride(), tensor.shape
        if strides == layout[2] and shape == layout[1] and tensor.storage_offset() == layout[3]:
            return positions
        return read(layout, tuple(shape), strides, int(tensor.storage_offset()))

    def receptive_field(self, positions: Known) -> int | str | None:
        """Returns the receptive field of a tensor in px; why it is unknown; None if the input has no positions."""
        if not isinstance(positions, Positions):
            return positions
        # without a product, the channels are where torch has them
        default = {(source, 1) for source in self._sources if self._dims[source] >= 2}
        return extent(positions, self._channels | default)

    def follow(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], outputs: Sequence[torch.Tensor]) -> None:
        """Records the positions of the results of an operator."""
        rule = self._rules.get(func)
        if rule is None:
            rule = self._rules[func] = rule_of(func)
            self._kinds[func] = simple_kind(func, rule)
        kind = self._kinds[func]
        if kind is Kind.VIEW or not outputs:
            return
        has_statistics = kind is Kind.BATCH_NORM and isinstance(args[3], torch.Tensor)  # running ones
        if kind is Kind.POINTWISE or has_statistics:  # most operators
            result = None
            for x in args[:1] if has_statistics else args:
                positions = self.positions(x) if isinstance(x, torch.Tensor) else None
                if positions is not None and positions is not result:
                    if result is not None:
                        break
                    result = positions
            else:
                if result.__class__ is not Positions or result.shape == outputs[0].shape:
                    for x in outputs[:1] if has_statistics else outputs:
                        self._set(x, result)
                    return
        reasons: list[str] = []
        arguments = tuple([x if x.__class__ in _PLAIN else self._freeze(x, reasons) for x in args])
        named = tuple([(name, self._freeze(x, reasons)) for name, x in kwargs.items()]) if kwargs else ()
        op = getattr(func, "_overloadpacket", func)
        if reasons and op not in CREATED:
            result = reasons[0]
        else:
            if self._sources:
                self._find_channels(op, arguments)
            call = func, rule, arguments, named, tuple(outputs[0].shape), self._channels
            try:
                result = follow(*call)
            except TypeError:  # an argument that cannot be part of a key
                result = follow.__wrapped__(*call)
        for x in outputs:
            self._set(x, result)

    def _freeze(self, value: Any, reasons: list[str]) -> Any:
        """Returns an argument as part of a key of the cache."""
        if isinstance(value, torch.Tensor):
            positions = self.positions(value)
            if isinstance(positions, str):
                reasons.append(positions)
                return None
            return Argument(tuple(value.shape), positions)
        if isinstance(value, (list, tuple)):
            return tuple([x if x.__class__ in _PLAIN else self._freeze(x, reasons) for x in value])
        return value

    def _find_channels(self, op: Any, arguments: tuple[Any, ...]) -> None:
        """Finds out which axes of the inputs hold channels, at the first product that they reach."""
        for i, place in enumerate(PRODUCTS[op].matrices if op in PRODUCTS else ()):
            x = arguments[place]
            if not isinstance(x, Argument) or x.positions is None:
                continue
            n = len(x.shape)
            d = n - len(arguments[3]) - 1 if op in CONVOLUTIONS else n - 1 if i == 0 else max(n - 2, 0)
            for source in self._sources & {axis.source for axis in x.positions.views}:
                self._sources.discard(source)
                if axis := channel_axis(x.positions, source, d):
                    self._channels |= {(source, axis.dim)}

    def _set(self, tensor: torch.Tensor, positions: Known) -> None:
        """Records the positions of a tensor that was written."""
        key = _key(tensor)
        try:
            strides, offset = tensor.stride(), tensor.storage_offset()
        except (NotImplementedError, RuntimeError):
            self._layouts[key] = Layout(positions and "a sparse tensor", (), (), 0)
            return
        shape: Shape = tensor.shape
        if positions.__class__ is Positions:
            if positions.shape == shape:
                shape = positions.shape
            else:
                positions = "results of different shapes"  # the second one of an operator
        new = Layout(positions, shape, strides, offset)  # type: ignore[arg-type]  # an int
        old = self._layouts.get(key)
        if old is None or old.shape == shape or math.prod(old.shape) == math.prod(shape):
            self._layouts[key] = new
        elif positions is not old.positions:  # written into a part
            self._layouts[key] = old._replace(positions=write(old, new))


def storage_of(tensor: torch.Tensor) -> torch.UntypedStorage | None:
    """Returns the storage of a tensor, or of that inside a batch of ``torch.vmap``; None if it has none (sparse)."""
    try:
        return tensor.untyped_storage()
    except NotImplementedError:
        if torch._C._functorch.is_functorch_wrapped_tensor(tensor):
            return storage_of(torch._C._functorch.get_unwrapped(tensor))
        return None


def _key(tensor: torch.Tensor) -> int:
    storage = storage_of(tensor)
    return -id(tensor) if storage is None else storage._cdata
