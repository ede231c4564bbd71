"""Rules per operator: which ones are matrix products, pools, element-wise, ... and their MACs.

Operators are overload packets such as ``torch.ops.aten.mm``. The formulas of products are those of
``torch.utils.flop_counter``, which counts a multiply-add as two FLOPs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch.utils.flop_counter import flop_registry

aten = torch.ops.aten

# Matrix products: positions of the matrices among the arguments, position of the bias.
PRODUCTS: dict[Any, tuple[tuple[int, ...], int | None]] = {
    aten.convolution: ((0, 1), 2),
    aten._convolution: ((0, 1), 2),
    aten.mm: ((0, 1), None),
    aten.bmm: ((0, 1), None),
    aten.addmm: ((1, 2), 0),
    aten.baddbmm: ((1, 2), 0),
    aten.mv: ((0, 1), None),
    aten.dot: ((0, 1), None),
    aten.vdot: ((0, 1), None),
    aten.addmv: ((1, 2), 0),
    aten.addbmm: ((1, 2), 0),
}
# Products without a formula in torch's registry: MACs from the arguments.
EXTRA_MACS: dict[Any, Callable[..., int]] = {
    aten.mv: lambda a, b: a.numel(),
    aten.addmv: lambda bias, a, b: a.numel(),
    aten.dot: lambda a, b: a.numel(),
    aten.vdot: lambda a, b: a.numel(),
    aten.addbmm: lambda bias, a, b: a.numel() * b.shape[-1],
}
CONVOLUTIONS = {aten.convolution, aten._convolution}

AVERAGE_POOLS = {aten.avg_pool2d, aten.avg_pool3d, aten._adaptive_avg_pool2d, aten._adaptive_avg_pool3d}
ADAPTIVE_POOLS = {
    aten._adaptive_avg_pool2d,
    aten._adaptive_avg_pool3d,
    aten.adaptive_max_pool2d,
    aten.adaptive_max_pool3d,
}
WINDOW_POOLS = {aten.avg_pool2d, aten.avg_pool3d, aten.max_pool2d_with_indices, aten.max_pool3d_with_indices}
POOLS = WINDOW_POOLS | ADAPTIVE_POOLS


def _packets(names: str) -> frozenset[Any]:
    return frozenset(getattr(aten, name) for name in names.split() if hasattr(aten, name))


# Count one per output value, as pointwise operators do; torch does not tag these as pointwise.
ELEMENTWISE = _packets(
    """native_batch_norm _native_batch_norm_legit _native_batch_norm_legit_functional
    _native_batch_norm_legit_no_training cudnn_batch_norm _batch_norm_with_update native_layer_norm native_group_norm
    _softmax _log_softmax _safe_softmax native_dropout cumsum _prelu_kernel hardswish_ _weight_norm_interface
    upsample_bilinear2d upsample_bicubic2d upsample_linear1d grid_sampler_2d grid_sampler_3d"""
)
# Count one per input value.
REDUCTIONS = _packets("mean sum amax amin max min argmax argmin var std var_mean norm linalg_vector_norm prod any all")
# Count nothing: they create, copy or look up values.
MOVES = _packets(
    """cat stack clone copy_ _to_copy detach empty empty_like empty_strided new_empty new_empty_strided zeros zeros_like
    new_zeros ones ones_like new_ones full full_like new_full fill_ zero_ arange linspace eye scalar_tensor lift_fresh
    _unsafe_view _reshape_alias constant_pad_nd reflection_pad1d reflection_pad2d replication_pad2d bernoulli bernoulli_
    rand randn randint rand_like randn_like randperm uniform_ normal_ embedding index index_select index_put index_put_
    gather scatter slice_scatter select_scatter upsample_nearest2d native_channel_shuffle pixel_shuffle flip roll sort
    topk nonzero masked_fill masked_fill_ triu tril _local_scalar_dense contiguous resize_ set_ repeat im2col unfold
    view_copy expand_copy is_same_size unsafe_split unsafe_split_with_sizes as_strided_ max_unpool2d nll_loss_forward
    nll_loss2d_forward _embedding_bag"""
)


def is_product(op: Any) -> bool:
    """Returns whether an operator is a convolution, a matrix product, or fused attention."""
    return op in flop_registry or op in EXTRA_MACS


def is_elementwise(func: Any) -> bool:
    """Returns whether an overload of an operator counts one per output value."""
    return torch.Tag.pointwise in func.tags or func._overloadpacket in ELEMENTWISE


def product_macs(op: Any, args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> int:
    """Returns the multiply-adds of a product, biases not counted."""
    if op in EXTRA_MACS:
        return EXTRA_MACS[op](*args)
    return int(flop_registry[op](*args, **kwargs, out_val=out) // 2)


def per_axis(values: Sequence[Any], n: int) -> list[Any]:
    """Returns one value per axis, given n values or one for all axes."""
    return list(values) if len(values) == n else [values[0]] * n


def pool_window(op: Any, args: tuple[Any, ...], out: torch.Tensor) -> list[int]:
    """Returns the window of a pool, per axis; that of an adaptive pool is approximately in / out."""
    if op in ADAPTIVE_POOLS:
        n = len(args[1])
        return [-(-before // after) for before, after in zip(args[0].shape[-n:], out.shape[-n:], strict=True)]
    return per_axis(args[1], 3 if op in (aten.avg_pool3d, aten.max_pool3d_with_indices) else 2)
