"""How a network depends on the size of its images: the smallest that it accepts, and the strides of its blocks."""

from __future__ import annotations

import math
from collections.abc import Iterator
from fractions import Fraction

from cnnzoo.blocks import Block, Shape
from cnnzoo.blocks.build import infer_shape, nested_blocks
from cnnzoo.limits import MAX_SIZE_TRIALS
from cnnzoo.spec import Spec

_MAX_IMAGE_SIZE = 4096  # px; no classic CNN needs larger images
_GROWTH = 2**6 * 3 * 5  # px; a larger image whose maps are larger by exactly this divided by their stride


class _TooManyTrialsError(Exception):
    """A search for an image size that would take too long."""


class _Trials:
    """The number of blocks that a search for an image size may still build.

    Args:
        number: The number.
    """

    def __init__(self, number: float) -> None:
        self._left = number

    def accepts(self, spec: Spec, size: int) -> bool:
        """Returns whether a network can be built for images of size x size.

        Raises:
            _TooManyTrialsError: If the number is used up.
        """
        shape: Shape = (spec.input[0], size, size)
        try:
            for block in (*spec.features, *spec.classifier):
                shape = infer_shape(block, shape, self._count).shape  # memoized: most blocks are not built
        except _TooManyTrialsError:
            raise
        except Exception:  # a user's block may raise anything
            return False
        return True

    def _count(self, block: Block) -> None:
        self._left -= sum(1 for _ in nested_blocks(block))
        if self._left < 0:
            raise _TooManyTrialsError


def min_image_size(spec: Spec, above: int = 0, trials: _Trials | None = None) -> int | None:
    """Returns the side of the smallest square image, in px, that the network accepts; None if it accepts no size.

    Args:
        spec: The network.
        above: A size that is known to be too small.
        trials: The number of blocks that may be built; any by default.
    """
    trials = trials or _Trials(math.inf)
    small, large = above, max(above + 1, 32)  # most networks accept small images
    while not trials.accepts(spec, large):
        small, large = max(small, large), 2 * large
        if large > _MAX_IMAGE_SIZE:
            return None
    while large - small > 1:
        middle = (small + large) // 2
        small, large = (small, middle) if trials.accepts(spec, middle) else (middle, large)
    return large


def larger_image_size(spec: Spec) -> int | None:
    """Returns the side of the smallest larger image that the network accepts.

    It is None if size is not the cause, or if the search would take too long.
    """
    side, trials = min(spec.input[1:]), _Trials(MAX_SIZE_TRIALS)
    try:
        if any(trials.accepts(spec, size) for size in range(max(1, side - 4), side + 1)):
            return None
        return min_image_size(spec, side, trials)
    except _TooManyTrialsError:
        return None


def block_strides(spec: Spec) -> Iterator[tuple[Block, int, int]]:
    """Yields (block, channels, stride) of the blocks of ``features``, as long as maps grow with the images.

    Blocks whose stride is not an integer, equal in both directions, are left out.
    """
    shape: Shape = spec.input
    larger: Shape = (shape[0], *(side + _GROWTH for side in shape[1:]))
    for block in spec.features:
        shape, larger = infer_shape(block, shape).shape, infer_shape(block, larger).shape
        growths = {b - a for a, b in zip(shape[1:], larger[1:], strict=True)}
        if not growths or 0 in growths:  # a vector, or maps of a fixed size
            return
        strides = {Fraction(_GROWTH, growth) for growth in growths}
        if len(strides) == 1 and (stride := strides.pop()).denominator == 1:
            yield block, shape[0], stride.numerator
