"""Rules per operator: which ones are matrix products, pools, element-wise, ... and their MACs.

Operators are overload packets such as ``torch.ops.aten.mm``. The formulas of most products are those of
``torch.utils.flop_counter``, which counts a multiply-add as two FLOPs. ``register_count_rule`` adds a rule.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch.utils.flop_counter import flop_registry

from cnnzoo.errors import InputError
from cnnzoo.measure.quantized import SPARSE, packed_macs, packed_transposed_macs

aten = torch.ops.aten


class Product(NamedTuple):
    """A convolution or matrix product.

    Attributes:
        matrices: Positions of the matrices among the arguments.
        bias: Position of the bias; None if there is none.
        macs: Returns the multiply-adds from the result and the arguments; None for the formula of torch's registry.
    """

    matrices: tuple[int, ...] = (0, 1)
    bias: int | None = None
    macs: Callable[..., int] | None = None


def _trilinear_macs(
    out: torch.Tensor, a: Any, b: Any, c: Any, expand_a: Any, expand_b: Any, expand_c: Any, sums: Any, *_: Any
) -> int:
    """Returns the multiply-adds of the first two factors, summed where the third does not vary, and of that with it."""
    sizes: dict[int, int] = {}
    for x, expanded in ((a, expand_a), (b, expand_b), (c, expand_c)):
        for i in expanded:
            x = x.unsqueeze(i)
        for i, n in enumerate(x.shape):
            sizes[i] = max(n, sizes.get(i, 1))
    first = math.prod(n for i, n in sizes.items() if i not in expand_a or i not in expand_b)
    return first + math.prod(n for i, n in sizes.items() if i not in sums or i not in expand_c)


def _grouped_macs(out: torch.Tensor, a: torch.Tensor, b: torch.Tensor, *_: Any, **__: Any) -> int:
    """Returns the multiply-adds of products of groups: of rows, of columns, or of the axis that is summed."""
    return a[0].numel() * b.shape[-1] if a.dim() == 3 and b.dim() == 2 else a.numel() * b.shape[-1]


def _pairs_macs(out: torch.Tensor, a: torch.Tensor, *_: Any) -> int:
    return out.numel() * a.shape[-1]


PRODUCTS: dict[Any, Product] = {
    aten.convolution: Product(bias=2),
    aten._convolution: Product(bias=2),
    aten.mm: Product(),
    aten.bmm: Product(),
    aten.addmm: Product((1, 2), 0),
    aten.baddbmm: Product((1, 2), 0),
    aten.mv: Product(macs=lambda out, a, b: a.numel()),
    aten.dot: Product(macs=lambda out, a, b: a.numel()),
    aten.vdot: Product(macs=lambda out, a, b: a.numel()),
    aten.addmv: Product((1, 2), 0, lambda out, bias, a, b: a.numel()),
    aten.addr: Product((1, 2), 0, lambda out, bias, a, b: out.numel()),
    aten.addbmm: Product((1, 2), 0, lambda out, bias, a, b: a.numel() * b.shape[-1]),
    aten.linear: Product((0, 1), 2, lambda out, x, weight, bias=None: x.numel() * weight.shape[0]),  # of subclasses
    aten.matmul: Product(macs=_pairs_macs),
    aten.conv_tbc: Product((0, 1), 2, lambda out, x, weight, *_: out.numel() * weight.shape[0] * weight.shape[1]),
    aten._int_mm: Product(macs=_pairs_macs),
    aten._scaled_mm: Product(),
    aten._sparse_mm: Product(macs=_pairs_macs),
    aten._sparse_addmm: Product((1, 2), None, lambda out, bias, a, b, **_: out.numel() * a.shape[-1]),
    aten._trilinear: Product((0, 1, 2), None, _trilinear_macs),  # nn.Bilinear
    # distances: a multiply-add per pair and coordinate, as in the matrix product of the two sets
    aten._cdist_forward: Product(macs=_pairs_macs),
    aten._euclidean_dist: Product(macs=_pairs_macs),
}
with contextlib.suppress(AttributeError):  # torch 2.8
    PRODUCTS[aten._grouped_mm] = Product(macs=_grouped_macs)
with contextlib.suppress(AttributeError):  # int4 weights, packed: x, weight, size of groups, scales
    PRODUCTS[aten._weight_int4pack_mm] = Product(macs=_pairs_macs)
    PRODUCTS[aten._weight_int4pack_mm_for_cpu] = Product(macs=_pairs_macs)
    PRODUCTS[aten._weight_int8pack_mm] = Product(macs=_pairs_macs)


# Operators that exist only after another package is imported, by their names.
NAMED_PRODUCTS: dict[str, Product] = {
    # its bilinear sampling is not counted
    "torchvision.deform_conv2d": Product((0, 1), 4, lambda out, x, weight, *_: out.numel() * weight[0].numel()),
    **{
        f"quantized.{name}{n}d{end}": Product((0, 1), None, macs)
        for name, macs in (("conv", packed_macs), ("conv_transpose", packed_transposed_macs))
        for n in (1, 2, 3)
        for end in ("", "_relu", "_dynamic")
    },
    **{
        f"quantized.linear{end}": Product((0, 1), None, packed_macs)
        for end in ("", "_relu", "_dynamic", "_relu_dynamic")
    },
}
CONVOLUTIONS = {aten.convolution, aten._convolution}
# fused attention; for that of the CPU, not every version of torch has a formula
_FLASH_ATTENTION, _FLASH_ATTENTION_OF_CPU = (
    aten._scaled_dot_product_flash_attention,
    aten._scaled_dot_product_flash_attention_for_cpu,
)
ATTENTION = {op for op in flop_registry if "_scaled_dot_product" in str(op)} | {_FLASH_ATTENTION_OF_CPU}

AVERAGE_POOLS = {aten.avg_pool2d, aten.avg_pool3d, aten._adaptive_avg_pool2d, aten._adaptive_avg_pool3d}
ADAPTIVE_POOLS = {
    aten._adaptive_avg_pool2d,
    aten._adaptive_avg_pool3d,
    aten.adaptive_max_pool2d,
    aten.adaptive_max_pool3d,
}
DILATED_POOLS = {aten.max_pool2d_with_indices, aten.max_pool3d_with_indices, aten.quantized_max_pool2d}
WINDOW_POOLS = {aten.avg_pool2d, aten.avg_pool3d} | DILATED_POOLS
RANDOM_POOLS = {aten.fractional_max_pool2d, aten.fractional_max_pool3d}  # windows at random positions
POOLS = WINDOW_POOLS | ADAPTIVE_POOLS | RANDOM_POOLS


def packets(names: str) -> frozenset[Any]:
    """Returns operators by their names; without those that this version of torch lacks."""
    return frozenset(getattr(aten, name) for name in names.split() if hasattr(aten, name))


# Count one per output value, as pointwise operators do; torch does not tag these as pointwise.
ELEMENTWISE = packets(
    """native_batch_norm _native_batch_norm_legit _native_batch_norm_legit_functional
    _native_batch_norm_legit_no_training cudnn_batch_norm _batch_norm_with_update native_layer_norm native_group_norm
    _fused_rms_norm _softmax _log_softmax _safe_softmax native_dropout cumsum cumprod cummax cummin logcumsumexp
    _prelu_kernel hardswish hardswish_ glu log_sigmoid_forward rrelu_with_noise rrelu_with_noise_
    rrelu_with_noise_functional _weight_norm_interface upsample_bilinear2d upsample_bicubic2d upsample_linear1d
    upsample_trilinear3d _upsample_bilinear2d_aa _upsample_bicubic2d_aa _upsample_lanczos2d_aa grid_sampler_2d
    grid_sampler_3d affine_grid_generator complex polar renorm index_add index_add_ scatter_add scatter_add_
    scatter_reduce scatter_reduce_ index_reduce dequantize quantize_per_tensor quantize_per_channel
    quantize_per_tensor_dynamic fake_quantize_per_tensor_affine_cachemask fake_quantize_per_channel_affine_cachemask"""
)
# Count one per input value.
REDUCTIONS = packets(
    """mean sum nansum amax amin aminmax max min argmax argmin var std var_mean std_mean norm linalg_vector_norm prod
    any all logsumexp median nanmedian mode kthvalue count_nonzero histc bincount col2im mse_loss huber_loss
    smooth_l1_loss binary_cross_entropy binary_cross_entropy_with_logits multi_margin_loss
    multilabel_margin_loss_forward soft_margin_loss"""
)
# Count nothing: they create, copy or look up values.
MOVES = packets(
    """cat stack clone copy_ _to_copy detach empty empty_like empty_strided new_empty new_empty_strided zeros zeros_like
    new_zeros ones ones_like new_ones full full_like new_full fill_ zero_ arange linspace logspace eye scalar_tensor
    lift_fresh lift_fresh_copy _unsafe_view _reshape_alias constant_pad_nd reflection_pad1d reflection_pad2d
    reflection_pad3d replication_pad1d replication_pad2d replication_pad3d bernoulli bernoulli_ rand randn randint
    rand_like randn_like randint_like randperm uniform_ normal normal_ exponential_ multinomial poisson random_
    embedding index index_select index_put index_put_ index_copy index_copy_ index_fill index_fill_ gather scatter
    scatter_ slice_scatter select_scatter diagonal_scatter masked_select masked_scatter masked_scatter_ take
    upsample_nearest1d upsample_nearest2d upsample_nearest3d _upsample_nearest_exact1d _upsample_nearest_exact2d
    _upsample_nearest_exact3d native_channel_shuffle channel_shuffle pixel_shuffle pixel_unshuffle flip rot90 roll sort
    topk nonzero masked_fill masked_fill_ triu triu_ tril tril_ tril_indices triu_indices diag_embed block_diag
    unique _unique2 searchsorted bucketize _local_scalar_dense contiguous resize_ resize_as_ set_ repeat
    repeat_interleave im2col unfold view_copy expand_copy transpose_ t_ squeeze_ unsqueeze_ swapaxes_ as_strided_
    is_same_size unsafe_split unsafe_split_with_sizes split_with_sizes_copy max_unpool2d max_unpool3d
    nll_loss_forward nll_loss2d_forward _embedding_bag _embedding_bag_forward_only hann_window hamming_window
    sym_size sym_stride sym_numel
    sym_storage_offset is_contiguous _pack_padded_sequence _assert_async _assert_tensor_metadata q_scale q_zero_point
    int_repr _fused_sdp_choice"""
)
# Operators of other packages, by their names. Those of ``quantized`` that are not products count one per output value.
NAMED_ELEMENTWISE = {
    "torchvision.roi_align",
    "torchvision.roi_pool",
    "torchvision.ps_roi_align",
    "torchvision.ps_roi_pool",
}
NAMED_MOVES = {"torchvision.nms", "prim.layout", "prim.device", "quantized.cat"}

_kinds: dict[Any, str] = {}  # of register_count_rule


def register_count_rule(
    op: Any, kind: str = "product", *, matrices: Sequence[int] = (0, 1), bias: int | None = None
) -> Callable[[Callable[..., int]], Callable[..., int]]:
    """Adds a rule for an operator, or replaces one.

    A product needs a function that returns its multiply-adds from the result and the arguments of the operator::

        @register_count_rule(torch.ops.mylib.block_sparse_mm, matrices=(0, 1))
        def block_sparse_macs(out, x, blocks, indices):
            return x.shape[0] * blocks.numel()

    Other kinds need none: ``register_count_rule(torch.ops.mylib.fast_gelu, "elementwise")``.

    Args:
        op: The operator, such as ``torch.ops.mylib.block_sparse_mm``.
        kind: ``"product"``; ``"elementwise"`` counts one per output value, ``"reduction"`` one per input value,
            ``"move"`` nothing.
        matrices: Of a product: positions of the arguments that are multiplied. Each one that requires a gradient
            counts another product in the backward.
        bias: Of a product: position of the bias.

    Raises:
        InputError: If it is not an operator, or the kind is unknown.
    """
    packet = getattr(op, "overloadpacket", op)
    if not isinstance(packet, torch._ops.OpOverloadPacket):
        raise InputError(f"a rule is for an operator such as torch.ops.aten.mm, not for {op!r}")
    if kind not in ("product", "elementwise", "reduction", "move"):
        raise InputError(f"a rule is of kind 'product', 'elementwise', 'reduction' or 'move', not {kind!r}")
    if kind != "product":
        _kinds[packet] = kind

    def register(macs: Callable[..., int]) -> Callable[..., int]:
        if kind != "product":
            raise InputError(f"a rule of kind {kind!r} takes no function")
        _kinds[packet] = kind
        PRODUCTS[packet] = Product(tuple(matrices), bias, macs)
        return macs

    return register


def kind_of(func: Any) -> str:
    """Returns the kind of an overload: as in ``register_count_rule``, or ``"pool"``, ``"view"`` or ``"unknown"``."""
    op = getattr(func, "_overloadpacket", func)
    if op in _kinds:
        return _kinds[op]
    name = str(op)
    if _formula(op) is not None or op in PRODUCTS or name in NAMED_PRODUCTS:
        return "product"
    if op in POOLS:
        return "pool"
    tags = getattr(func, "tags", ())
    if torch.Tag.pointwise in tags or op in ELEMENTWISE or name in NAMED_ELEMENTWISE:
        return "elementwise"
    if op in REDUCTIONS:
        return "reduction"
    if op in MOVES or name in NAMED_MOVES:
        return "move"
    if getattr(func, "is_view", False):
        return "view"
    return "elementwise" if name.startswith("quantized.") else "unknown"


def _formula(op: Any) -> Callable[..., Any] | None:
    """Returns torch's formula for the FLOPs of an operator, or one that was registered with torch."""
    return flop_registry.get(op) or (flop_registry[_FLASH_ATTENTION] if op is _FLASH_ATTENTION_OF_CPU else None)


def product_of(op: Any) -> Product | None:
    """Returns the rule of a product; None for fused attention and for formulas that are registered with torch."""
    return PRODUCTS.get(op) or NAMED_PRODUCTS.get(str(op))


def product_macs(op: Any, args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> int:
    """Returns the multiply-adds of a product, biases not counted.

    Raises:
        InputError: If the formula refuses the arguments.
    """
    product = product_of(op)
    if product is not None and product.macs is not None:
        macs = product.macs(out, *args, **kwargs)
    else:
        formula = _formula(op)
        assert formula is not None
        macs = formula(*args, **kwargs, out_val=out) // 2
    for x in args:
        if isinstance(x, torch.Tensor) and x.layout in SPARSE and x.numel():
            macs = macs * x._nnz() // x.numel()
    return int(macs)


def backward_macs(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> int:
    """Returns the multiply-adds of an operator that runs in a backward; 0 if it is not a product."""
    op = getattr(func, "_overloadpacket", func)
    if op is aten.convolution_backward:
        gradient, x, weight, is_transposed, needed = args[0], args[1], args[2], args[7], args[10]
        return int((x if is_transposed else gradient).numel() * weight[0].numel() * sum(needed[:2]))
    name = str(op)
    if name.startswith("aten._scaled_dot_product_") and name.endswith("_backward"):
        return 2 * int(flop_registry[_FLASH_ATTENTION](*args[1:4], out_val=None) // 2)
    if name == "torchvision._deform_conv2d_backward":
        return int(2 * args[0].numel() * args[2][0].numel())
    if op is aten._cdist_backward:
        return int(2 * args[0].numel() * args[1].shape[-1])
    return product_macs(op, args, kwargs, out) if kind_of(func) == "product" else 0


def per_axis(values: Sequence[Any], n: int) -> list[Any]:
    """Returns one value per axis, given n values or one for all axes."""
    return list(values) if len(values) == n else [values[0]] * n


def pool_window(op: Any, args: tuple[Any, ...], out: torch.Tensor) -> tuple[list[int], list[int]]:
    """Returns window and stride of a pool, per axis; those of an adaptive pool roughly."""
    n = _pool_axes(op, args)
    if op not in WINDOW_POOLS:
        sizes = list(zip(args[0].shape[-n:], out.shape[-n:], strict=True))
        return [-(-before // after) for before, after in sizes], [max(before // after, 1) for before, after in sizes]
    kernel_size = per_axis(args[1], n)
    return kernel_size, per_axis(args[2], n) if len(args) > 2 and args[2] else kernel_size


def pool_reads(op: Any, args: tuple[Any, ...], out: torch.Tensor) -> int:
    """Returns how many values the windows of a pool read; padding counts."""
    n = _pool_axes(op, args)
    if op not in ADAPTIVE_POOLS:
        return out.numel() * int(math.prod(per_axis(args[1], n)))
    reads: int = math.prod(out.shape[:-n])
    for before, after in zip(args[0].shape[-n:], out.shape[-n:], strict=True):  # windows may overlap
        reads *= sum(-(-(i + 1) * before // after) - i * before // after for i in range(after))
    return int(reads)


def _pool_axes(op: Any, args: tuple[Any, ...]) -> int:
    if op in ADAPTIVE_POOLS:
        return len(args[1])
    return 3 if str(op).endswith(("pool3d", "pool3d_with_indices")) else 2
