"""Rules per operator: windows, resizing and other moves of positions along the axes; see ``position_rules.py``."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from fractions import Fraction

import torch

from cnnzoo.measure.position_rules import Call, rule
from cnnzoo.measure.positions import UnknownPositionsError, View
from cnnzoo.measure.rules import per_axis

aten = torch.ops.aten


@rule("convolution _convolution")
def _convolution(call: Call) -> View | None:
    view, weight, n = call.view, call.args["weight"].shape, len(call.args["stride"])
    if len(view.shape) == n + 1:
        view = view.insert(0, 1)
    groups, out_channels = call.args["groups"], call.shape[-n - 1]
    if groups > 1 and view.dims[1]:
        split = view.shape[0], groups, view.shape[1] // groups, *view.shape[2:]
        view = view.reshape(split).reduce([2])._replace(shape=(split[0], groups, out_channels // groups, *split[3:]))
        rest = [[d] for d in range(3, n + 3)]
        view = view.rearrange(view.shape, [[0], [1, 2], *rest])
    else:
        view = view.reduce([1])
        view = view._replace(shape=(view.shape[0], out_channels, *view.shape[2:]))
    for i in range(n):
        size, stride, dilation, padding = (
            weight[2 + i],
            per_axis(call.args["stride"], n)[i],
            per_axis(call.args["dilation"], n)[i],
            per_axis(call.args["padding"], n)[i],
        )
        if call.args["transposed"]:
            view = _transposed(view, 2 + i, size, stride, dilation, padding, call.shape[-n + i])
        else:
            view = view.window(2 + i, size, stride, dilation, padding, call.shape[-n + i])
    return view._replace(shape=call.shape, dims=view.dims[len(view.shape) - len(call.shape) :])


def _transposed(view: View, d: int, size: int, stride: int, dilation: int, padding: int, n: int) -> View:
    def pick(j: int) -> Sequence[int]:
        moves = [j + padding - dilation * k for k in range(size)]
        return [move // stride for move in moves if move % stride == 0]

    return view.resample(d, pick, (stride, 1), n)


@rule("avg_pool2d avg_pool3d max_pool2d_with_indices max_pool3d_with_indices quantized_max_pool2d")
def _pool(call: Call) -> View | None:
    view = call.view
    n = 3 if "3d" in str(call.op) else 2
    size = per_axis(call.args["kernel_size"], n)
    stride = per_axis(call.args["stride"] or size, n)
    padding = per_axis(call.args["padding"], n)
    dilation = per_axis(call.args.get("dilation", (1,)), n)
    first = len(call.shape) - n
    for i in range(n):
        view = view.window(first + i, size[i], stride[i], dilation[i], padding[i], call.shape[first + i])
    return view


@rule("_adaptive_avg_pool2d _adaptive_avg_pool3d adaptive_max_pool2d adaptive_max_pool3d")
def _adaptive_pool(call: Call) -> View | None:
    view = call.view
    for d, n in enumerate(call.shape):
        before = view.shape[d]

        def pick(j: int, before: int = before, n: int = n) -> Sequence[int]:
            return range(j * before // n, -(-(j + 1) * before // n))

        if d >= len(call.shape) - len(call.args["output_size"]):
            common = math.gcd(before, n)
            view = view.resample(d, pick, (n // common, before // common), n)
    return view


@rule(
    "constant_pad_nd reflection_pad1d reflection_pad2d reflection_pad3d replication_pad1d replication_pad2d "
    "replication_pad3d"
)
def _pad(call: Call) -> View | None:
    """Padding of any kind counts as a border: the image has none."""
    view, padding = call.view, call.args.get("pad", call.args.get("padding"))
    for i in range(len(padding) // 2):
        d = len(call.shape) - 1 - i
        view = view.window(d, 1, 1, 1, padding[2 * i], call.shape[d])
    return view


@rule("flip")
def _flip(call: Call) -> View | None:
    view = call.view
    for d in call.args["dims"]:
        view = view.flip(d % len(call.shape))
    return view


@rule("roll")
def _roll(call: Call) -> View | None:
    view, dims = call.view, call.args["dims"]
    if not dims:
        raise UnknownPositionsError("a roll of all elements")
    for shift, d in zip(call.args["shifts"], dims, strict=True):
        n = call.shape[d]

        def pick(j: int, shift: int = shift, n: int = n) -> Sequence[int]:
            return ((j - shift) % n,)

        view = view.resample(d % len(call.shape), pick, None, n)
    return view


@rule("repeat")
def _repeat(call: Call) -> View | None:
    return call.view.repeat(call.args["repeats"])


@rule("pixel_shuffle pixel_unshuffle")
def _pixel_shuffle(call: Call) -> View | None:
    """(..., C r r, H, W) to (..., C, H r, W r), and back."""
    view, n = call.view, len(call.shape) - 3
    batch = [[d] for d in range(n)]
    c, h, w = view.shape[n:]
    if call.op is aten.pixel_shuffle:
        r = call.args["upscale_factor"]
        split = (*view.shape[:n], c // r // r, r, r, h, w)
        return view.rearrange(split, [*batch, [n], [n + 3, n + 1], [n + 4, n + 2]])
    r = call.args["downscale_factor"]
    split = (*view.shape[:n], c, h // r, r, w // r, r)
    return view.rearrange(split, [*batch, [n, n + 2, n + 4], [n + 1], [n + 3]])


@rule("channel_shuffle native_channel_shuffle")
def _channel_shuffle(call: Call) -> View | None:
    view, groups = call.view, call.args["groups"]
    split = (view.shape[0], groups, view.shape[1] // groups, *view.shape[2:])
    return view.rearrange(split, [[0], [2, 1], *([d] for d in range(3, len(split)))])


@rule("im2col")
def _im2col(call: Call) -> View | None:
    """(N, C, H, W) to (N, C kh kw, lh lw)."""
    view = call.view if len(call.view.shape) == 4 else call.view.insert(0, 1)
    windows: list[int] = []
    for side, size, dilation, padding, stride in zip(
        view.shape[2:], *(call.args[k] for k in ("kernel_size", "dilation", "padding", "stride")), strict=True
    ):
        windows.append((side + 2 * padding - dilation * (size - 1) - 1) // stride + 1)
    shape = (view.shape[0], view.shape[1], *call.args["kernel_size"], *windows)
    dims: list[tuple[tuple[int, int], ...]] = [view.dims[0], view.dims[1], (), (), (), ()]
    offset = view.offset
    for d in (2, 3):
        view = view.fuse(d)
        if not view.dims[d]:
            continue
        if view.span.shift is None or any(dim for e, dim in enumerate(view.dims) if e != d):
            raise UnknownPositionsError("windows over merged axes")
        ((_, step),) = view.dims[d]
        dilation, padding, stride = (call.args[k][d - 2] for k in ("dilation", "padding", "stride"))
        dims[d], dims[d + 2] = ((shape[d], step * dilation),), ((shape[d + 2], step * stride),)
        offset = view.offset - step * padding
    view = View(view.span, offset, shape, tuple(dims))
    return view.merge([[0], [1, 2, 3], [4, 5]] if len(call.shape) == 3 else [[1, 2, 3], [4, 5]])


def _resize(call: Call, taps: Callable[[Fraction, Fraction], Sequence[int]], half_pixels: bool) -> View | None:
    """Returns the view of a resized tensor.

    Args:
        call: The call.
        taps: Returns the input positions that an output position reads, given its place in the input and the scale.
        half_pixels: Whether the place is that of the center of a pixel.
    """
    view, args = call.view, call.args
    n = len(call.shape) - 2
    factors = args.get("scale_factors") or [args.get(name) for name in _SCALE_NAMES[n]]
    for i in range(n):
        before, after, factor = view.shape[2 + i], call.shape[2 + i], factors[i]
        if args.get("align_corners"):
            scale = Fraction(before - 1, max(after - 1, 1))
        else:
            scale = Fraction(1 / factor).limit_denominator(1024) if factor else Fraction(before, after)

        def pick(j: int, scale: Fraction = scale) -> Sequence[int]:
            half = Fraction(1, 2) if half_pixels and not args.get("align_corners") else 0
            return taps((j + half) * scale - half, scale)

        view = view.resample(2 + i, pick, (scale.denominator, scale.numerator), after)
    return view


_SCALE_NAMES = {1: ("scales",), 2: ("scales_h", "scales_w"), 3: ("scales_d", "scales_h", "scales_w")}


@rule("upsample_nearest1d upsample_nearest2d upsample_nearest3d")
def _nearest(call: Call) -> View | None:
    return _resize(call, lambda x, scale: (math.floor(x),), half_pixels=False)


@rule("_upsample_nearest_exact1d _upsample_nearest_exact2d _upsample_nearest_exact3d")
def _nearest_exact(call: Call) -> View | None:
    return _resize(call, lambda x, scale: (math.floor(x + Fraction(1, 2)),), half_pixels=True)


@rule("upsample_linear1d upsample_bilinear2d upsample_trilinear3d")
def _linear(call: Call) -> View | None:
    return _resize(call, lambda x, scale: range(math.floor(x), math.ceil(x) + 1), half_pixels=True)


@rule("upsample_bicubic2d")
def _bicubic(call: Call) -> View | None:
    return _resize(
        call,
        lambda x, scale: (int(x),) if x.denominator == 1 else range(math.floor(x) - 1, math.floor(x) + 3),
        half_pixels=True,
    )


@rule("_upsample_bilinear2d_aa _upsample_bicubic2d_aa")
def _antialiased(call: Call) -> View | None:
    radius = 2 if "bicubic" in str(call.op) else 1

    def taps(x: Fraction, scale: Fraction) -> Sequence[int]:
        reach = radius * max(scale, Fraction(1))
        return range(math.floor(x - reach) + 1, math.ceil(x + reach))

    return _resize(call, taps, half_pixels=True)
