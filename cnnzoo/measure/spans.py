"""Which pixels along one axis of the input each index of a sequence depends on."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

MAX_PERIOD = 4096  # of a span; above it, the indices are listed

Ends = tuple[float, float]  # first and last px
NOTHING: Ends = (math.inf, -math.inf)


class Span(NamedTuple):
    """The pixels, from first to last, that each index i depends on.

    Attributes:
        first: First px for i = 0, 1, ...; infinity if an index depends on none.
        last: Last px; minus infinity if an index depends on none.
        shift: The index ``i + len(first)`` depends on the same pixels, ``shift`` px further on, without end: an axis
            has no border here. None if only the listed indices exist.
    """

    first: tuple[float, ...]
    last: tuple[float, ...]
    shift: int | None

    def __call__(self, i: int) -> Ends:
        """Returns first and last px of an index."""
        n = len(self.first)
        if self.shift is None:
            return (self.first[i], self.last[i]) if 0 <= i < n else NOTHING
        cycle, i = divmod(i, n)
        return self.first[i] + cycle * self.shift, self.last[i] + cycle * self.shift

    def hull(self, start: int, step: int, n: int) -> Ends:
        """Returns first and last px of the n indices start, start + step, ..."""
        if self.shift is not None and len(self.first) == 1 and n > 0:
            ends = self.shift * start, self.shift * (start + step * (n - 1))
            return self.first[0] + min(ends), self.last[0] + max(ends)
        return union([self(start + step * k) for k in range(n)])

    def window(self, step: int, n: int) -> Span:
        """Returns the span in which the index i has what i, i + step, ... (n indices) have."""
        return make_span([self.hull(i, step, n) for i in range(len(self.first))], self.shift)

    def resample(self, pick: Callable[[int], Sequence[int]], cycle: tuple[int, int] | None, size: int) -> Span:
        """Returns the span in which the index j has what the indices ``pick(j)`` have.

        Args:
            pick: Returns indices of this span.
            cycle: (period, advance): ``pick(j + period)`` is ``pick(j)``, each plus ``advance``. None if there is none.
            size: Number of indices j, which are listed if there is no cycle.
        """
        if self.is_constant:
            return self
        n = len(self.first)
        if self.shift is not None and cycle is not None:
            period, advance = cycle
            repeats = n // math.gcd(n, advance)
            if period * repeats <= MAX_PERIOD:
                ends = [union([self(i) for i in pick(j)]) for j in range(period * repeats)]
                return make_span(ends, advance * repeats // n * self.shift)
        return make_span([union([self(i) for i in pick(j)]) for j in range(size)], None)

    @property
    def is_constant(self) -> bool:
        """Whether all indices have the same pixels."""
        return self.shift == 0 and len(self.first) == 1

    @property
    def widest(self) -> float:
        """The largest number of px of an index."""
        return max([last - first + 1 for first, last in zip(self.first, self.last, strict=True)])


def make_span(ends: Sequence[Ends], shift: int | None) -> Span:
    """Returns the span with these ends, with the shortest period."""
    n = len(ends)
    if n > 1 and not shift and ends.count(ends[0]) == n:
        ends, shift = ends[:1], 0
    elif n > 1 and shift is not None:
        for period in range(1, n // 2 + 1):
            move = shift * period // n
            divides = n % period == 0 and move * n == shift * period
            if divides and all(ends[i + period] == (ends[i][0] + move, ends[i][1] + move) for i in range(n - period)):
                ends, shift = ends[:period], move
                break
    return Span(tuple([first for first, _ in ends]), tuple([last for _, last in ends]), shift)


def constant_span(ends: Ends) -> Span:
    """Returns the span in which all indices have the same pixels."""
    return Span((ends[0],), (ends[1],), 0)


def union(ends: Sequence[Ends]) -> Ends:
    """Returns first and last px of several ends."""
    if len(ends) == 1:
        return ends[0]
    return min([first for first, _ in ends], default=math.inf), max([last for _, last in ends], default=-math.inf)


def join_spans(a: Span, a_offset: int, b: Span, b_offset: int, step: int) -> Span | None:
    """Returns the span in which j has what ``a_offset + step * j`` has in one span, and b's in the other; or None.

    None if the two have no common period.
    """
    if a.shift is None or b.shift is None:
        return None
    m, n = (len(span.first) // math.gcd(len(span.first), step) for span in (a, b))  # periods of j
    period = math.lcm(m, n)
    moves = [s.shift * (step * period // len(s.first)) for s in (a, b) if s.shift is not None]
    if moves[0] != moves[1] or period > MAX_PERIOD:
        return None
    ends = [union([a(a_offset + step * j), b(b_offset + step * j)]) for j in range(period)]
    return make_span(ends, moves[0])
