"""Rules per operator: which elements of its operands each element of its result depends on.

A rule takes one call, along one axis of the input, and returns the view of the results (see ``positions.py``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from enum import Enum, auto
from typing import Any, NamedTuple

import torch

from cnnzoo.measure.position_joins import concatenate, join, overwrite
from cnnzoo.measure.positions import Shape, UnknownPositionsError, View
from cnnzoo.measure.rules import ATTENTION, ELEMENTWISE, PRODUCTS, kind_of, packets, product_of

aten = torch.ops.aten


class Operand(NamedTuple):
    """A tensor among the arguments of an operator; for a rule, along one axis of the input.

    Attributes:
        shape: Its shape.
        view: What its elements depend on; None if they do not depend on the input.
    """

    shape: Shape
    view: View | None


class Call(NamedTuple):
    """A call of an operator, along one axis of the input.

    Attributes:
        op: The operator.
        args: Its arguments by name, with an ``Operand`` in place of each tensor.
        shape: Shape of its first result.
        size: Length of the axis in px.
    """

    op: Any
    args: Mapping[str, Any]
    shape: Shape
    size: int

    @property
    def operands(self) -> list[Operand]:
        """The tensors among the arguments, in order."""
        return list(operands_of(self.args.values()))

    @property
    def view(self) -> View:
        """View of the first tensor."""
        view = self.operands[0].view
        if view is None:
            raise UnknownPositionsError(str(self.op))
        return view

    def dim(self, name: str = "dim") -> int:
        """Returns an argument that is a dimension of the first tensor."""
        return int(self.args[name]) % max(len(self.operands[0].shape), 1)


def operands_of(values: Any) -> Iterator[Operand]:
    """Yields the tensors among arguments, also those in lists."""
    for value in values:
        if isinstance(value, Operand):
            yield value
        elif isinstance(value, tuple):
            yield from operands_of(value)


Rule = Callable[[Call], View | None]
_RULES: dict[Any, Rule] = {}


# results do not depend on the values of the operands
CREATED = packets(
    """empty_like zeros_like ones_like full_like rand_like randn_like randint_like new_empty new_zeros new_ones new_full
    new_empty_strided zero_ fill_ bernoulli_ uniform_ normal_ empty zeros ones full arange"""
)


class Kind(Enum):
    """How the positions of the results follow: those that are simple need no rule."""

    POINTWISE = auto()  # each element has the positions of the operands
    BATCH_NORM = auto()
    VIEW = auto()
    OTHER = auto()


def simple_kind(func: Any, function: Rule) -> Kind:
    """Returns the kind of an operator with a rule."""
    if getattr(func, "is_view", False):
        return Kind.VIEW
    return Kind.POINTWISE if function is _elementwise else Kind.BATCH_NORM if function is _batch_norm else Kind.OTHER


def rule_of(func: Any) -> Rule:
    """Returns the rule of an operator."""
    op = getattr(func, "_overloadpacket", func)
    if op in _RULES:
        return _RULES[op]
    if kind_of(func) == "elementwise" and op not in ELEMENTWISE:  # each of those has a rule of its own, or none
        return _elementwise
    return _product if op in PRODUCTS or str(op).startswith("quantized.linear") else _unknown


def rule(names: str) -> Callable[[Rule], Rule]:
    """Registers a rule for operators, by name."""

    def register(function: Rule) -> Rule:
        _RULES.update(dict.fromkeys(packets(names), function))
        return function

    return register


def _joined(call: Call, views: Sequence[View | None]) -> View | None:
    known = [view for view in views if view is not None]
    for view in known:
        n = len(view.shape)
        if n > len(call.shape) or any(
            a not in (1, b) for a, b in zip(view.shape[::-1], call.shape[::-1], strict=False)
        ):
            raise UnknownPositionsError(str(call.op))
    return join(known, call.shape, call.size) if known else None


@rule(
    "clone _to_copy contiguous lift_fresh masked_fill masked_fill_ bernoulli triu tril native_dropout _prelu_kernel "
    "hardswish hardswish_ _conj_physical log_sigmoid_forward rrelu_with_noise rrelu_with_noise_ complex polar "
    "dequantize quantize_per_tensor quantize_per_channel quantize_per_tensor_dynamic "
    "fake_quantize_per_tensor_affine_cachemask fake_quantize_per_channel_affine_cachemask"
)
def _elementwise(call: Call) -> View | None:
    return _joined(call, [operand.view for operand in call.operands])


def _unknown(call: Call) -> View | None:
    """Without a rule: known only if all elements of each tensor depend on the same."""
    known = [operand.view for operand in call.operands if operand.view is not None]
    if all(view.is_constant for view in known):
        return _joined(call, [view._replace(shape=call.shape, dims=((),) * len(call.shape)) for view in known])
    raise UnknownPositionsError(str(call.op))


@rule("copy_")
def _copy(call: Call) -> View | None:
    view = call.args["src"].view
    return None if view is None else join([view], call.shape, call.size)


@rule("mm bmm addmm baddbmm mv dot vdot addmv addbmm matmul linear _int_mm _scaled_mm _cdist_forward _euclidean_dist")
def _product(call: Call) -> View | None:
    """The axis that a product sums over is reduced in both matrices."""
    product, args = product_of(call.op), list(call.args.values())
    if product is None or len(product.matrices) != 2 or not isinstance(args[product.matrices[0]], Operand):
        return _unknown(call)
    a, b = (args[i] for i in product.matrices)
    bias = args[product.bias] if product.bias is not None else None
    views = [bias.view] if isinstance(bias, Operand) else []
    rank = len(call.shape)
    is_batch_summed = call.op is aten.addbmm
    if a.view is not None:
        view = a.view.reduce([len(a.shape) - 1], keepdim=rank == len(a.shape) or is_batch_summed)
        views.append(view.reduce([0], keepdim=False) if is_batch_summed else view)
    if isinstance(b, Operand) and b.view is not None:
        if call.op in (aten._cdist_forward, aten._euclidean_dist, aten.linear):
            b = Operand((*b.shape[:-2], b.shape[-1], b.shape[-2]), _transpose(b.view))
        assert b.view is not None
        view = b.view.reduce([max(len(b.shape) - 2, 0)], keepdim=rank > 1)
        views.append(view.reduce([0], keepdim=False) if is_batch_summed else view)
    return _joined(call, views)


def _transpose(view: View) -> View:
    n = len(view.shape)
    return view.rearrange(view.shape, [*([d] for d in range(n - 2)), [n - 1], [n - 2]])


def _attention(call: Call) -> View | None:
    """Fused attention, (N, heads, L, E): a query sees all keys and values."""
    query, key, value = (call.args[name].view for name in ("query", "key", "value"))
    views = [None if query is None else query.reduce([len(query.shape) - 1])]
    views += [None if x is None else x.reduce([len(x.shape) - 2, len(x.shape) - 1]) for x in (key, value)]
    return _joined(call, [view and _repeat_heads(view, call.shape) for view in views])


def _repeat_heads(view: View, shape: Shape) -> View:
    """Returns the view of grouped heads with all heads, which see the same."""
    d = len(shape) - 3
    return view._replace(shape=(*view.shape[:d], shape[d], *view.shape[d + 1 :])) if d >= 0 else view


_RULES.update(dict.fromkeys(ATTENTION, _attention))


@rule(
    "mean sum amax amin max min argmax argmin var std var_mean std_mean norm linalg_vector_norm prod any all logsumexp "
    "median nanmedian mode kthvalue nansum count_nonzero aminmax"
)
def _reduction(call: Call) -> View | None:
    if "other" in call.args:  # max of two tensors
        return _elementwise(call)
    view, dim = call.view, call.args.get("dim")
    dims = range(len(view.shape)) if dim is None or dim == () else dim if isinstance(dim, tuple) else [dim]
    return view.reduce([d % len(view.shape) for d in dims], bool(call.args.get("keepdim")))


@rule("_softmax _log_softmax _safe_softmax sort topk")
def _spread(call: Call) -> View | None:
    return call.view.spread([call.dim()])._replace(shape=call.shape)


@rule("_fft_r2c _fft_c2r _fft_c2c")
def _fft(call: Call) -> View | None:
    return call.view.spread([d % len(call.shape) for d in call.args["dim"]])._replace(shape=call.shape)


@rule("cumsum cumprod logcumsumexp cummax cummin")
def _cumulative(call: Call) -> View | None:
    return call.view.resample(call.dim(), lambda j: range(j + 1), None, call.shape[call.dim()])


@rule("native_layer_norm _fused_rms_norm")
def _layer_norm(call: Call) -> View | None:
    n = len(call.shape)
    return call.view.spread(range(n - len(call.args["normalized_shape"]), n))


@rule("native_group_norm")
def _group_norm(call: Call) -> View | None:
    return call.view.spread(range(1, len(call.shape)))


@rule(
    "native_batch_norm cudnn_batch_norm _batch_norm_with_update _native_batch_norm_legit "
    "_native_batch_norm_legit_functional _native_batch_norm_legit_no_training"
)
def _batch_norm(call: Call) -> View | None:
    """Running statistics are constants, as in eval mode; without them, those of the input are followed."""
    if call.args.get("running_mean") is None:
        return call.view.spread([d for d in range(len(call.shape)) if d != 1])
    return call.view


@rule("cat stack")
def _concatenation(call: Call) -> View | None:
    rank, tensors = len(call.shape), call.args["tensors"]
    d = call.args["dim"] % rank
    views = [operand.view for operand in tensors if operand.shape != (0,)]
    sizes = (
        [operand.shape[d] for operand in tensors if operand.shape != (0,)] if call.op is aten.cat else [1] * len(views)
    )
    if call.op is aten.stack:
        views = [view and view.insert(d, 1) for view in views]
    return concatenate(views, sizes, d, call.shape, call.size)


@rule("unsafe_split unsafe_split_with_sizes")
def _split(call: Call) -> View | None:
    if call.view.dims[call.dim()]:
        raise UnknownPositionsError("pieces with positions of their own")
    return call.view._replace(shape=call.shape)


@rule("_unsafe_view _reshape_copy view_copy")
def _view(call: Call) -> View | None:
    return call.view.reshape(call.shape)


@rule("glu")
def _glu(call: Call) -> View | None:
    d, view = call.dim(), call.view
    return _joined(call, [view.slice(d, start, 1, call.shape[d]) for start in (0, call.shape[d])])


@rule("grid_sampler_2d grid_sampler_3d max_unpool2d max_unpool3d fractional_max_pool2d fractional_max_pool3d")
def _sampled(call: Call) -> View | None:
    try:
        return _unknown(call)
    except UnknownPositionsError:
        raise UnknownPositionsError("positions that depend on values") from None


@rule("embedding")
def _embedding(call: Call) -> View | None:
    view: View | None = call.args["indices"].view
    return view and view.insert(len(view.shape), call.shape[-1])


@rule("index index_select gather")
def _index(call: Call) -> View | None:
    """Which elements are picked depends on values: known only along dimensions on which nothing depends."""
    operand, indices = call.args["self"], call.args.get("indices", call.args.get("index"))
    indices = (indices,) if isinstance(indices, Operand) else indices
    view: View | None = operand.view
    if view is None or any(index is not None and index.view is not None for index in indices):
        return _sampled(call)
    picked = [d for d, index in enumerate(indices) if index is not None] if call.op is aten.index else [call.dim()]
    if len(picked) > 1 or view.dims[picked[0]]:
        return _sampled(call)
    d, rank = picked[0], len(call.shape) - len(view.shape) + 1
    return view._replace(shape=call.shape, dims=(*view.dims[:d], *((),) * rank, *view.dims[d + 1 :]))


@rule("slice_scatter select_scatter")
def _scatter(call: Call) -> View | None:
    d, old, new = call.dim(), call.args["self"].view, call.args["src"].view
    start, step = (
        (call.args.get("start") or 0, call.args["step"]) if call.op is aten.slice_scatter else (call.args["index"], 1)
    )
    if call.op is aten.select_scatter and new is not None:
        new = new.insert(d, 1)
    return overwrite(old, new, d, start % call.shape[d], step, call.shape, call.size)


@rule("_native_multi_head_attention _transformer_encoder_layer_fwd")
def _encoder(call: Call) -> View | None:
    """(N, L, E): each token sees all tokens."""
    return _joined(call, [operand.view and operand.view.reduce([1, 2]) for operand in call.operands])
