"""Which pixels along one axis of the input each element of a tensor depends on, whatever the layout of the tensor.

The elements of a tensor are numbered: the index of an element, in a span, is an affine function of the digits of its
position. A dimension has several digits if it merges axes, as in the notation of einops: tokens ``(h w)``, windows
``(nh 7)``, patches ``(c 16 16)``. A layout in memory says the same of each address, so that any strided view of a
storage can be read from the strides alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple, TypeVar

from cnnzoo.measure.spans import Ends, Span, constant_span, make_span

T = TypeVar("T")
Factor = tuple[int, int]  # size of a digit, step of the index
Shape = tuple[int, ...]


class UnknownPositionsError(Exception):
    """Raised where the positions of a result are not known; the text says why."""


class View(NamedTuple):
    """The pixels along one axis that each element of a tensor depends on: those of an index of the span.

    Attributes:
        span: The pixels of each index.
        offset: The index of the first element.
        shape: Shape of the tensor.
        dims: Digits of each dimension, the outermost first; none if the index does not depend on the dimension.
    """

    span: Span
    offset: int
    shape: Shape
    dims: tuple[tuple[Factor, ...], ...]

    @property
    def is_constant(self) -> bool:
        """Whether all elements depend on the same pixels."""
        return not any(self.dims)

    def extent(self) -> float:
        """Returns how many pixels an element depends on.

        It is the largest number of all elements, or that of the middle one if elements near the border differ.
        """
        if self.span.shift is None:
            first, last = self.middle()
            return max(last - first + 1, 0)
        period = len(self.span.first)
        stride = math.gcd(period, *(step for dim in self.dims for _, step in dim))
        ends = [self.span(i) for i in range(self.offset, self.offset + period, stride)]
        return max(0, *(last - first + 1 for first, last in ends))

    def middle(self) -> Ends:
        """Returns the pixels of the element in the middle."""
        return self.at([n // 2 for n in self.shape])

    def at(self, position: Sequence[int]) -> Ends:
        """Returns the pixels of the element at a position."""
        index = self.offset
        for i, dim in zip(position, self.dims, strict=True):
            for size, step in reversed(dim):
                i, digit = divmod(i, size)
                index += digit * step
        return self.span(index)

    # --- layout ---

    def read(self, strides: Shape, shape: Shape, view_strides: Shape, offset: int) -> View:
        """Returns the view of a tensor in the same memory.

        Args:
            strides: Strides of this tensor.
            shape: Shape of the other tensor.
            view_strides: Its strides.
            offset: Address of its first element, relative to that of this tensor.
        """
        try:
            return _Memory(self, strides).read(shape, view_strides, offset)
        except UnknownPositionsError:
            view = self
            for d, dim in enumerate(self.dims):
                view = view.fuse(d) if len(dim) > 1 else view
            return _Memory(view, strides).read(shape, view_strides, offset, may_list=True)

    def reshape(self, shape: Shape) -> View:
        """Returns the view in another shape, with the elements in the same order."""
        return self.read(contiguous(self.shape), shape, contiguous(shape), 0)

    def slice(self, d: int, start: int, step: int, n: int) -> View:
        """Returns the view of the n indices start, start + step, ... of a dimension."""
        strides = contiguous(self.shape)
        moves = tuple([stride * step if i == d else stride for i, stride in enumerate(strides)])
        return self.read(strides, put(self.shape, d, n), moves, strides[d] * start)

    def rearrange(self, split: Shape, groups: Sequence[Sequence[int]]) -> View:
        """Returns the view after a reshape, a permutation and a merge of dimensions.

        Args:
            split: The first shape.
            groups: For each dimension of the result, the dimensions that it merges, the outermost first.
        """
        return self.reshape(split).merge(groups)

    def merge(self, groups: Sequence[Sequence[int]]) -> View:
        """Returns the view with dimensions merged; ``groups`` as for ``rearrange``."""
        dims = [normalize([f for d in group for f in self.dims[d] or ((self.shape[d], 0),)]) for group in groups]
        shape = tuple([math.prod([self.shape[d] for d in group]) for group in groups])
        return View(self.span, self.offset, shape, tuple(dims))

    def fuse(self, d: int) -> View:
        """Returns the view with at most one digit for a dimension."""
        if len(self.dims[d]) < 2:
            return self
        return self.resample(d, lambda j: (j,), (1, 1), self.shape[d])

    def flip(self, d: int) -> View:
        """Returns the view with a dimension reversed."""
        offset = self.offset + sum([step * (n - 1) for n, step in self.dims[d]])
        return self._replace(offset=offset, dims=put(self.dims, d, tuple([(n, -step) for n, step in self.dims[d]])))

    def repeat(self, counts: Sequence[int]) -> View:
        """Returns the view of a tensor repeated along its dimensions, as ``Tensor.repeat`` does."""
        view = self.reshape((1,) * (len(counts) - len(self.shape)) + self.shape)
        shape = tuple([n * count for n, count in zip(view.shape, counts, strict=True)])
        dims = [dim and normalize([(count, 0), *dim]) for count, dim in zip(counts, view.dims, strict=True)]
        return view._replace(shape=shape, dims=tuple(dims))

    def expand(self, shape: Shape) -> View:
        """Returns the view of a tensor broadcast to a shape."""
        if shape == self.shape:
            return self
        return self._replace(shape=shape, dims=((),) * (len(shape) - len(self.shape)) + self.dims)

    # --- what elements depend on ---

    def window(self, d: int, size: int, stride: int, dilation: int, padding: int, n: int) -> View:
        """Returns the view in which an element depends on a window along a dimension, as in a convolution.

        Args:
            d: The dimension.
            size: Size of the window.
            stride: Distance of neighboring windows.
            dilation: Distance of the elements of a window.
            padding: Elements of the first window before the first element.
            n: Number of windows.
        """
        if not self.dims[d]:
            return self._replace(shape=put(self.shape, d, n))
        if self.span.shift is None or len(self.dims[d]) > 1:

            def pick(j: int) -> Sequence[int]:
                start = j * stride - padding
                return range(start, start + size * dilation, dilation)

            return self.resample(d, pick, (1, stride), n)
        step = self.dims[d][0][1]
        return View(
            self.span.window(step * dilation, size),
            self.offset - step * padding,
            put(self.shape, d, n),
            put(self.dims, d, normalize([(n, step * stride)])),
        )

    def resample(self, d: int, pick: Callable[[int], Sequence[int]], cycle: tuple[int, int] | None, size: int) -> View:
        """Returns the view in which j, along a dimension, depends on what ``pick(j)`` do; see ``Span.resample``."""
        shape = put(self.shape, d, size)
        if not self.dims[d]:
            return self._replace(shape=shape)
        span = self.along(d).resample(pick, cycle, size)
        return View(span, 0, shape, put(((),) * len(shape), d, () if span.is_constant else normalize([(size, 1)])))

    def along(self, d: int) -> Span:
        """Returns the span whose index is that of a dimension, the only one on which the elements depend."""
        if any(dim for e, dim in enumerate(self.dims) if e != d):
            raise UnknownPositionsError("an axis of the input is spread over several dimensions")
        dim, offset = self.dims[d], self.offset
        if dim == ((self.shape[d], 1),) and offset == 0:
            return self.span
        inner = math.prod([n for n, _ in dim[1:]])

        def index(j: int) -> Sequence[int]:
            cycle, j = divmod(j, inner)
            i = offset + cycle * (dim[0][1] if dim else 0)
            for n, step in reversed(dim[1:]):
                j, digit = divmod(j, n)
                i += digit * step
            return (i,)

        return self.span.resample(index, (inner, dim[0][1] if dim else 0), self.shape[d])

    def reduce(self, dims: Iterable[int], keepdim: bool = True) -> View:
        """Returns the view of a tensor whose elements depend on all elements along some dimensions.

        Args:
            dims: The dimensions.
            keepdim: Whether they stay, with size 1.
        """
        gone = set(dims)
        factors = sorted([factor for d in gone for factor in self.dims[d]])
        rest_dims = tuple([() if d in gone else dim for d, dim in enumerate(self.dims)])
        span, offset = self.span, self.offset
        for n, step in factors[:-1]:
            span = span.window(step, n)
        if factors and any(rest_dims):
            span = span.window(factors[-1][1], factors[-1][0])
        elif factors:
            span, offset = constant_span(span.hull(offset, factors[-1][1], factors[-1][0])), 0
        view = View(span, offset, tuple([1 if d in gone else n for d, n in enumerate(self.shape)]), rest_dims)
        if keepdim:
            return view
        rest = [d for d in range(len(self.shape)) if d not in gone]
        return view._replace(shape=tuple([self.shape[d] for d in rest]), dims=tuple([rest_dims[d] for d in rest]))

    def spread(self, dims: Iterable[int]) -> View:
        """Returns the view if all elements along some dimensions depend on each other; the shape stays."""
        return self.reduce(dims)._replace(shape=self.shape)

    def insert(self, d: int, n: int) -> View:
        """Returns the view with a new dimension, along which elements depend on the same."""
        return self._replace(shape=(*self.shape[:d], n, *self.shape[d:]), dims=(*self.dims[:d], (), *self.dims[d:]))


class _Memory:
    """A tensor as its addresses in memory: digits, the outermost first.

    Args:
        view: View of the tensor.
        strides: Its strides.
    """

    def __init__(self, view: View, strides: Shape) -> None:
        self.view = view
        digits: list[tuple[int, int, int]] = []  # stride, size, step
        for n, stride, dim in zip(view.shape, strides, view.dims, strict=True):
            inner = stride
            for size, step in reversed(dim or ((n, 0),)):
                if size > 1:
                    digits.append((inner, size, step))
                inner *= size
        digits.sort(reverse=True)
        self.digits: list[tuple[int, int, int]] = []
        for stride, size, step in digits:
            if self.digits:
                outer_stride, outer_size, outer_step = self.digits[-1]
                if outer_stride == stride * size and outer_step == step * size:
                    self.digits[-1] = stride, outer_size * size, step
                    continue
            self.digits.append((stride, size, step))

    def read(self, shape: Shape, strides: Shape, offset: int, may_list: bool = False) -> View:
        """Returns the view of a tensor in this memory; see ``View.read``.

        Args:
            shape: Shape of the tensor.
            strides: Its strides.
            offset: Address of its first element.
            may_list: Whether the indices along a dimension may be listed if they are no affine function.
        """
        start = self.address_digits(offset)
        used = list(start)
        dims: list[tuple[Factor, ...]] = []
        try:
            for n, stride in zip(shape, strides, strict=True):
                dims.append(self._factors(n, stride, used))
            if any(digit >= size for digit, (_, size, _) in zip(used, self.digits, strict=True)):
                raise UnknownPositionsError("a reshape that cuts rows of positions")
        except UnknownPositionsError:
            if not may_list:
                raise
            return self._list(shape, strides, offset)
        index = self.view.offset + sum([k * step for k, (_, _, step) in zip(start, self.digits, strict=True)])
        return simplify(View(self.view.span, index, shape, tuple(dims)))

    def address_digits(self, address: int) -> list[int]:
        """Returns the digits of an address."""
        digits = []
        for stride, _, _ in self.digits:
            digit, address = divmod(address, stride)
            digits.append(digit)
        if address:
            raise UnknownPositionsError("a view of the memory as other numbers")
        return digits

    def _factors(self, n: int, stride: int, used: list[int]) -> tuple[Factor, ...]:
        """Returns the digits of a dimension; adds to ``used`` how far they move the digits of the address."""
        factors: list[Factor] = []  # the innermost first
        while n > 1 and stride:
            place = next((i for i, digit in enumerate(self.digits) if digit[0] <= stride), None)
            if place is None or stride % self.digits[place][0]:
                raise UnknownPositionsError("a view of the memory as other numbers")
            base, size, step = self.digits[place]
            k = stride // base
            if used[place] + k * (n - 1) < size:
                count = n
            elif size % k == 0 and n % (size // k) == 0:
                count = size // k
            else:
                raise UnknownPositionsError("a reshape that cuts rows of positions")
            factors.append((count, k * step))
            used[place] += k * (count - 1)
            n //= count
            stride = base * size
        if n > 1:
            factors.append((n, 0))
        return normalize(factors[::-1])

    def _list(self, shape: Shape, strides: Shape, offset: int) -> View:
        """Returns the view of a tensor that has the indices along one dimension listed."""
        moving, others = [], set()
        for d, (n, stride) in enumerate(zip(shape, strides, strict=True)):
            used = [0] * len(self.digits)
            try:
                factors: tuple[Factor, ...] | None = self._factors(n, stride, used)
            except UnknownPositionsError:
                factors = None
            if factors or factors is None:
                moving.append(d)
            else:
                others |= {i for i, digit in enumerate(used) if digit}
        if len(moving) != 1:
            raise UnknownPositionsError("a reshape that cuts rows of positions")
        d = moving[0]
        addresses = [self.address_digits(offset + strides[d] * i) for i in range(shape[d])]
        if any(digits[i] != addresses[0][i] for i in others for digits in addresses):
            raise UnknownPositionsError("a reshape that cuts rows of positions")
        view = self.view
        ends = []
        for digits in addresses:
            steps = [k * step for k, (_, _, step) in zip(digits, self.digits, strict=True)]
            ends.append(view.span(view.offset + sum(steps)))
        return listed(ends, shape, d)


# --- shapes and digits ---


def listed(ends: Sequence[Ends], shape: Shape, d: int) -> View:
    """Returns the view whose elements depend on the listed pixels, by their index along a dimension."""
    span = make_span(ends, None)
    return View(span, 0, shape, put(((),) * len(shape), d, () if span.is_constant else normalize([(shape[d], 1)])))


def contiguous(shape: Shape) -> Shape:
    """Returns the strides of a contiguous tensor."""
    strides, stride = [], 1
    for n in reversed(shape):
        strides.append(stride)
        stride *= n
    return tuple(strides[::-1])


def put(values: tuple[T, ...], i: int, value: T) -> tuple[T, ...]:
    """Returns a tuple with another value at an index."""
    return (*values[:i], value, *values[i + 1 :])


def normalize(factors: Iterable[Factor]) -> tuple[Factor, ...]:
    """Returns the shortest equivalent digits."""
    result: list[Factor] = []
    for n, step in factors:
        if n == 1:
            continue
        if result and result[-1][1] == step * n:
            result[-1] = result[-1][0] * n, step
        else:
            result.append((n, step))
    return tuple(result) if any(step for _, step in result) else ()


def simplify(view: View) -> View:
    """Returns an equivalent view, with the pixels themselves where all elements have the same."""
    if view.is_constant or view.span.is_constant:
        span = constant_span(view.span(view.offset))
        return View(span, 0, view.shape, ((),) * len(view.shape))
    return view
