"""The views of results that depend on several tensors: element-wise, concatenated, written into each other."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from cnnzoo.measure.positions import Factor, Shape, UnknownPositionsError, View, listed, normalize, put, simplify
from cnnzoo.measure.spans import NOTHING, Ends, Span, constant_span, join_spans, make_span, union


def join(views: Sequence[View], shape: Shape, size: int) -> View:
    """Returns the view of an element-wise result: each element depends on what those of the operands depend on.

    Args:
        views: Views of the operands, which are broadcast.
        shape: Shape of the result.
        size: Length of the axis, in px.
    """
    result = views[0].expand(shape)
    for view in views[1:]:
        result = _join(result, view.expand(shape), size)
    return result


def _join(a: View, b: View, size: int) -> View:
    if a == b:
        return a
    for whole, other in ((a, b), (b, a)):
        if whole.is_constant:
            first, last = whole.span(whole.offset)
            if first <= 0 and last >= size - 1 and last - first + 1 >= other.span.widest:
                return whole
    if a.is_constant and b.is_constant:
        return View(constant_span(union([a.span(a.offset), b.span(b.offset)])), 0, a.shape, a.dims)
    a, b = _common_factors(a, b)
    moves = [{(d, k) for d, dim in enumerate(v.dims) for k, (_, step) in enumerate(dim) if step} for v in (a, b)]
    if a.dims == b.dims:
        joined = join_spans(a.span, a.offset, b.span, b.offset, 1)
        if joined is not None:
            return _tidy(View(joined, 0, a.shape, a.dims))
    both = moves[0] | moves[1]
    if len(both) == 1:  # by this digit
        ((d, k),) = both
        n = a.dims[d][k][0]
        indexed = [_by_digit(view, d, k) for view in (a, b)]
        dims = put(a.dims, d, tuple([(m, int(i == k)) for i, (m, _) in enumerate(a.dims[d])]))
    elif len(both_dims := {d for d, _ in both}) == 1:  # by the index along this dimension
        (d,) = both_dims
        n = a.shape[d]
        indexed = [view.along(d) for view in (a, b)]
        dims = put(((),) * len(a.shape), d, ((n, 1),))
    else:  # by the digits of both
        common = moves[0] & moves[1] if moves[0] != moves[1] else set()
        return _join(_reduce_digits(a, moves[0] - common), _reduce_digits(b, moves[1] - common), size)
    joined = join_spans(indexed[0], 0, indexed[1], 0, 1)
    if joined is None:
        joined = make_span([union([indexed[0](j), indexed[1](j)]) for j in range(n)], None)
    return _tidy(View(joined, 0, a.shape, dims))


def _by_digit(view: View, d: int, k: int) -> Span:
    """Returns the span whose index is a digit, the only one on which the elements depend."""
    n, step = view.dims[d][k]
    return view.span.resample(lambda j: (view.offset + step * j,), (1, step), n)


def _tidy(view: View) -> View:
    return simplify(view._replace(dims=tuple(map(normalize, view.dims))))


def _common_factors(a: View, b: View) -> tuple[View, View]:
    """Splits the dimensions of two views of the same shape into the same digits."""
    for d, n in enumerate(a.shape):
        if a.dims[d] == b.dims[d]:
            continue
        sizes = {n}  # products of the inner digits
        for view in (a, b):
            inner = 1
            for size, _ in reversed(view.dims[d]):
                inner *= size
                sizes.add(inner)
        bounds = [1, *sorted(sizes - {1})]
        if any(outer % inner for inner, outer in pairwise(bounds)):
            raise UnknownPositionsError("a combination of different layouts")
        digits = [outer // inner for inner, outer in pairwise(bounds)]  # the innermost first
        a, b = (v._replace(dims=put(v.dims, d, _split(v.dims[d] or ((n, 0),), digits))) for v in (a, b))
    return a, b


def _split(factors: Sequence[Factor], digits: Sequence[int]) -> tuple[Factor, ...]:
    result: list[Factor] = []  # the innermost first
    sizes = iter(digits)
    for n, step in reversed(factors):
        inner = 1
        while inner < n:
            size = next(sizes)
            result.append((size, step * inner))
            inner *= size
    return tuple(result[::-1])


def _reduce_digits(view: View, gone: set[tuple[int, int]]) -> View:
    """Returns the view in which an element depends on all elements along some digits."""
    span = view.span
    for d, k in gone:
        n, step = view.dims[d][k]
        span = span.window(step, n)
    dims = [
        tuple([(n, 0 if (d, k) in gone else step) for k, (n, step) in enumerate(dim)])
        for d, dim in enumerate(view.dims)
    ]
    return _tidy(view._replace(span=span, dims=tuple(dims)))


def concatenate(views: Sequence[View | None], sizes: Sequence[int], d: int, shape: Shape, size: int) -> View:
    """Returns the view of tensors concatenated along a dimension.

    Along a dimension of channels, which are not told apart, each element depends on what those of all tensors do.

    Args:
        views: View of each tensor; None if it does not depend on the input.
        sizes: Size of each along the dimension.
        d: The dimension.
        shape: Shape of the result.
        size: Length of the axis, in px.
    """
    known = [view for view in views if view is not None]
    in_order = any(view.dims[d] for view in known) or (
        all(view.is_constant for view in known) and len({(view.span, view.offset) for view in known}) > 1
    )
    if not in_order:
        return join([view._replace(shape=put(view.shape, d, shape[d])) for view in known], shape, size)
    ends: list[Ends] = []
    for view, n in zip(views, sizes, strict=True):
        if view is None:
            ends += [NOTHING] * n
        else:
            span = view.along(d)
            ends += [span(j) for j in range(n)]
    return listed(ends, shape, d)


def overwrite(old: View | None, new: View | None, d: int, start: int, step: int, shape: Shape, size: int) -> View:
    """Returns the view of a tensor with another written into it along a dimension.

    Args:
        old: View of the tensor before; None if it did not depend on the input.
        new: View of what is written.
        d: The dimension.
        start: First index of the dimension that is written.
        step: Distance of the written indices.
        shape: Shape of the tensor.
        size: Length of the axis, in px.
    """
    if new is None:
        assert old is not None
        return old
    n = new.shape[d]

    def pick(j: int) -> Sequence[int]:
        i, rest = divmod(j - start, step)
        return () if rest or (old is not None and step == 1 and not 0 <= i < n) else (i,)

    if new.dims[d]:
        cycle = (step, 1) if old is None or step > 1 else None
        new = new.resample(d, pick, cycle, shape[d])
    elif old is not None and n < shape[d] and (old.dims[d] or (old.is_constant and new.is_constant)):
        # elements along the dimension that depend on the same: known by their index only
        span = new.along(d)
        new = listed([span(j) if pick(j) else NOTHING for j in range(shape[d])], shape, d)
    else:
        new = new._replace(shape=put(new.shape, d, shape[d]))
    return new if old is None else join([old, new], shape, size)
