"""Counts what a module does by watching its operators on the meta device: nothing is computed or allocated.

A MAC is one multiply-add of a convolution or of any matrix product, biases not counted. The formulas are those
of ``torch.utils.flop_counter`` (which counts a MAC as two), applied to the operators that really run, so that a
functional call, ``@`` or a subclass counts as a layer does. What else is asked for is read off the same pass:

- backward: each matrix that wants a gradient costs one more product of the same size;
- bytes kept for it: the distinct storages that autograd saves, less the weights;
- peak bytes: storages that live at once. Autograd is made to keep none, so that they live as in inference;
- receptive field, and which layer feeds which: carried along with each storage.
"""

from __future__ import annotations

import math
import operator
import random
import sys
import threading
import weakref
from collections import OrderedDict, defaultdict, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, SupportsIndex

import torch
from torch import nn
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook
from torch.nn.parameter import is_lazy
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map
from torch.utils.flop_counter import flop_registry

from cnnzoo.errors import CnnzooError, InputError
from cnnzoo.measure.meta_cache import run_on_meta
from cnnzoo.measure.report import CountReport, LayerCount, Params

aten = torch.ops.aten

# Matrix products: positions of the matrices, position of the bias.
_PRODUCTS: dict[Any, tuple[tuple[int, ...], int | None]] = {
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
# Products that torch's registry has no formula for: the multiply-adds, from the tensors that go in.
_MORE_MACS: dict[Any, Callable[..., int]] = {
    aten.mv: lambda a, b: a.numel(),
    aten.addmv: lambda bias, a, b: a.numel(),
    aten.dot: lambda a, b: a.numel(),
    aten.vdot: lambda a, b: a.numel(),
    aten.addbmm: lambda bias, a, b: a.numel() * b.shape[-1],
}
_CONVOLUTIONS = {aten.convolution, aten._convolution}

_AVERAGE_POOLS = {aten.avg_pool2d, aten.avg_pool3d, aten._adaptive_avg_pool2d, aten._adaptive_avg_pool3d}
_ADAPTIVE_POOLS = {
    aten._adaptive_avg_pool2d,
    aten._adaptive_avg_pool3d,
    aten.adaptive_max_pool2d,
    aten.adaptive_max_pool3d,
}
_WINDOW_POOLS = {aten.avg_pool2d, aten.avg_pool3d, aten.max_pool2d_with_indices, aten.max_pool3d_with_indices}
_POOLS = _WINDOW_POOLS | _ADAPTIVE_POOLS


def _packets(names: str) -> frozenset[Any]:
    return frozenset(getattr(aten, name) for name in names.split() if hasattr(aten, name))


# One unit of element-wise work per value that comes out, though torch does not mark them as element-wise.
_ELEMENTWISE = _packets(
    """native_batch_norm _native_batch_norm_legit _native_batch_norm_legit_functional
    _native_batch_norm_legit_no_training cudnn_batch_norm _batch_norm_with_update native_layer_norm native_group_norm
    _softmax _log_softmax _safe_softmax native_dropout cumsum _prelu_kernel hardswish_ _weight_norm_interface
    upsample_bilinear2d upsample_bicubic2d upsample_linear1d grid_sampler_2d grid_sampler_3d"""
)
# One unit per value that goes in.
_REDUCTIONS = _packets("mean sum amax amin max min argmax argmin var std var_mean norm linalg_vector_norm prod any all")
# Values are made, moved or looked up; nothing is worked out.
_MOVES = _packets(
    """cat stack clone copy_ _to_copy detach empty empty_like empty_strided new_empty new_empty_strided zeros zeros_like
    new_zeros ones ones_like new_ones full full_like new_full fill_ zero_ arange linspace eye scalar_tensor lift_fresh
    _unsafe_view _reshape_alias constant_pad_nd reflection_pad1d reflection_pad2d replication_pad2d bernoulli bernoulli_
    rand randn randint rand_like randn_like randperm uniform_ normal_ embedding index index_select index_put index_put_
    gather scatter slice_scatter select_scatter upsample_nearest2d native_channel_shuffle pixel_shuffle flip roll sort
    topk nonzero masked_fill masked_fill_ triu tril _local_scalar_dense contiguous resize_ set_ repeat im2col unfold
    view_copy expand_copy is_same_size unsafe_split unsafe_split_with_sizes as_strided_ max_unpool2d nll_loss_forward
    nll_loss2d_forward _embedding_bag"""
)


class _Call:
    """One call of one module, and what its own operators did."""

    def __init__(self, module: nn.Module, name: str, label: str) -> None:
        self.module = module
        self.name = name
        self.label = label
        self.out_shape: tuple[int, ...] = ()
        self.feeds: dict[int, None] = {}  # numbers of the calls whose results go in, in order
        self.receptive_field = 0
        self.params = self.macs = self.backward_macs = self.bias_adds = self.elementwise = self.pooling = 0
        self.pooled_means = self.neurons = self.saved_bytes = self.moved_bytes = 0


class _Value:
    """What is known of a storage.

    ``field`` and ``jump`` are how many px of the input one place sees, and how far apart neighbors look, each as
    (height, width); ``call`` is the number of the call that made or last changed it; ``maps`` is the shape of the maps
    (N, C, H, W) whose values it holds, also once they are flattened.
    """

    __slots__ = ("call", "data", "field", "jump", "maps")

    def __init__(
        self, data: bool, field: tuple[int, ...], jump: tuple[float, ...], call: int, maps: tuple[int, ...]
    ) -> None:
        self.data = data  # does it depend on the input?
        self.field = field
        self.jump = jump
        self.call = call
        self.maps = maps


class _Watch(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Sees every operator, and which module's call it belongs to."""

    def __init__(self, model: nn.Module, weights: set[int], on_meta: bool) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.on_meta = on_meta
        self.thread = threading.get_ident()
        self.weights = weights  # storages of parameters and buffers
        self.calls: list[_Call] = []
        self.open: list[int] = []
        self.unknown: set[str] = set()
        self.counted: set[int] = set()  # parameters, so that a shared one counts once
        self.kept: set[int] = set()
        self.names = {id(module): name for name, module in model.named_modules()}
        self.values: dict[int, _Value] = {}
        self.live = self.peak = 0

    # --- calls ---

    def enter_module(self, module: nn.Module, args: Any) -> None:
        if threading.get_ident() != self.thread:  # the hooks are global; others may run modules meanwhile
            return
        above = self.calls[self.open[-1]].label if self.open else ""
        own = getattr(module, "label", "")
        own = own if isinstance(own, str) else ""
        call = _Call(module, self.names.get(id(module), ""), f"{above}/{own}" if above and own else above or own)
        self._take_parameters(module, call)
        self.open.append(len(self.calls))
        self.calls.append(call)

    def leave_module(self, module: nn.Module, args: Any, out: Any) -> None:
        if threading.get_ident() != self.thread:
            return
        number = self.open.pop()
        call = self.calls[number]
        first = out if isinstance(out, torch.Tensor) else None
        if first is None:
            first = next((leaf for leaf in tree_leaves(out) if isinstance(leaf, torch.Tensor)), None)
        if first is None:
            return
        call.out_shape = tuple(first.shape)
        value = self.values.get(first.untyped_storage()._cdata)
        if value is not None:
            call.receptive_field = max(value.field)
            if not module._modules:
                self._feed(call, number, value)
                value.call = number  # also where the layer only looked (Flatten, Identity, Dropout in eval mode)

    def _take_parameters(self, module: nn.Module, call: _Call) -> None:
        for parameter in module._parameters.values():
            if parameter is not None and id(parameter) not in self.counted:
                self.counted.add(id(parameter))
                call.params += parameter.numel()

    def take_uncalled(self, model: nn.Module) -> None:
        """Parameters of modules that were never called belong to the nearest module around them that was."""
        first: dict[str, _Call] = {}
        for call in reversed(self.calls):
            first[call.name] = call
        for name, module in model.named_modules():
            while name and name not in first:
                name = name.rpartition(".")[0]
            if name in first:
                self._take_parameters(module, first[name])

    def _feed(self, call: _Call, number: int, value: _Value) -> None:
        if value.call != number and value.call >= 0:
            call.feeds[value.call] = None

    # --- storages ---

    def see_input(self, tensor: torch.Tensor) -> None:
        storage = tensor.untyped_storage()
        axes = max(tensor.dim() - 2, 1)
        maps = tuple(tensor.shape) if tensor.dim() > 2 else ()
        self.values[storage._cdata] = _Value(True, (1,) * axes, (1.0,) * axes, -1, maps)

    def keep(self, tensor: torch.Tensor) -> None:
        """Called by autograd for each tensor that it saves; it gets nothing to keep."""
        storage = tensor.untyped_storage()
        if storage._cdata not in self.weights and storage._cdata not in self.kept:
            self.kept.add(storage._cdata)
            self.calls[self.open[-1] if self.open else 0].saved_bytes += storage.nbytes()
            # an address that is used again must not pass for the old storage
            weakref.finalize(storage, self.kept.discard, storage._cdata)

    def _made(self, tensor: torch.Tensor, value: _Value) -> None:
        storage = tensor.untyped_storage()
        key = storage._cdata
        if key in self.weights:
            return
        if key not in self.values:
            size = storage.nbytes()
            self.live += size
            self.peak = max(self.peak, self.live)
            weakref.finalize(storage, self._gone, key, size)
        self.values[key] = value

    def _gone(self, key: int, size: int) -> None:
        self.live -= size
        self.values.pop(key, None)

    # --- operators ---

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if torch.is_inference_mode_enabled():  # operators made of others arrive whole
            with self:
                parts = func.decompose(*args, **kwargs)
            if parts is not NotImplemented:
                return parts
        out = run_on_meta(func, args, kwargs) if self.on_meta else func(*args, **kwargs)
        operator = func._overloadpacket
        number = self.open[-1] if self.open else 0  # a hook on the whole module runs after it is left
        call = self.calls[number]
        ins, outs = _tensors((*args, *kwargs.values())), _tensors((out,))
        known = [self.values.get(x.untyped_storage()._cdata) for x in ins]
        seen = [value for value in known if value is not None and value.data]
        for value in seen:
            self._feed(call, number, value)
        best = max(seen, key=lambda value: value.field) if seen else _Value(False, (1,), (1.0,), -1, ())
        field, jump, maps = best.field, best.jump, best.maps

        if operator in flop_registry or operator in _MORE_MACS:
            maps = ()
            field, jump = self._product(operator, call, args, kwargs, ins, out, field, jump)
        elif operator in _POOLS:
            window, stride = _pool_window(operator, args, outs[0])
            if len(window) > len(field) > 1:  # an axis of channels (torch's LRN averages over it): no pool of places
                window, stride = window[-len(field) :], stride[-len(field) :]
            size = outs[0].numel() * math.prod(window)
            if math.prod(window) > 1:
                call.pooling += size
                call.pooled_means += size if operator in _AVERAGE_POOLS else 0
            else:
                call.elementwise += size
            field, jump = _grown(field, jump, window, stride)
        elif torch.Tag.pointwise in func.tags or operator in _ELEMENTWISE:
            call.elementwise += outs[0].numel() if outs else 0
            weighed = [x for x in ins if x.untyped_storage()._cdata in self.weights]
            if seen and weighed and operator in (aten.add, aten.add_):
                call.bias_adds += outs[0].numel()
        elif operator in _REDUCTIONS:
            call.elementwise += ins[0].numel() if ins else 0
            field, jump = _reduced(ins, outs, field, jump)
        elif not (func.is_view or operator in _MOVES):
            self.unknown.add(str(operator))
        if not func.is_view:
            call.moved_bytes += sum(x.numel() * x.element_size() for x in (*ins, *outs))
        for x in outs:
            held = tuple(x.shape) if x.dim() > 2 and not func.is_view else maps
            self._made(x, _Value(bool(seen), field, jump, number, held))
        return out

    def _product(
        self,
        operator: Any,
        call: _Call,
        args: Any,
        kwargs: Any,
        ins: list[torch.Tensor],
        out: Any,
        field: tuple[int, ...],
        jump: tuple[float, ...],
    ) -> tuple[tuple[int, ...], tuple[float, ...]]:
        """A convolution, a matrix product, or several of them in one operator (attention)."""
        if operator in _MORE_MACS:
            macs = _MORE_MACS[operator](*args)
        else:
            macs = flop_registry[operator](*args, **kwargs, out_val=out) // 2
        call.macs += macs
        if operator not in _PRODUCTS:
            # fused attention: two products, each with two more in the backward
            call.backward_macs += 2 * macs if any(x.requires_grad for x in ins) else 0
            return field, jump
        positions, bias = _PRODUCTS[operator]
        matrices = [args[i] for i in positions]
        if torch.is_grad_enabled():  # a module may work out something on the side without gradients
            call.backward_macs += macs * sum(x.requires_grad for x in matrices)
        if bias is not None and args[bias] is not None:
            call.bias_adds += out.numel()
        values = [self.values.get(x.untyped_storage()._cdata) for x in matrices]
        from_input = [value is not None and value.data for value in values]
        if any(from_input) and not all(from_input):
            call.neurons += out.numel()
        if operator not in _CONVOLUTIONS:
            for x, value in zip(matrices, values, strict=True):
                if value and value.data and value.maps and x.shape == (value.maps[0], math.prod(value.maps[1:])):
                    return _grown(field, jump, value.maps[2:], [1] * len(value.maps[2:]))  # flat maps: all places
            return field, jump
        kernel = args[1].shape[2:]
        stride, dilation, transposed = args[3], args[5], args[6]
        window = [d * (k - 1) + 1 for k, d in zip(kernel, _spread(dilation, len(kernel)), strict=True)]
        stride = _spread(stride, len(kernel))
        if transposed:  # places move closer together; each sees at most this many of the old ones
            sees = [-(-k // s) for k, s in zip(window, stride, strict=True)]
            field, _ = _grown(field, jump, sees, stride)
            return field, tuple(j / s for j, s in zip(_spread(jump, len(stride)), stride, strict=True))
        return _grown(field, jump, window, stride)


def _tensors(values: Iterable[Any]) -> list[torch.Tensor]:
    """The tensors among arguments or results, also those in lists."""
    found: list[torch.Tensor] = []
    for value in values:
        if isinstance(value, torch.Tensor):
            found.append(value)
        elif isinstance(value, (list, tuple)):
            found += [one for one in value if isinstance(one, torch.Tensor)]
    return found


def _spread(values: Sequence[Any], n: int) -> list[Any]:
    """One value per axis, where one may stand for all."""
    return list(values) if len(values) == n else [values[0]] * n


def _grown(
    field: tuple[int, ...], jump: tuple[float, ...], window: Sequence[int], stride: Sequence[int]
) -> tuple[tuple[int, ...], tuple[float, ...]]:
    n = len(window)
    fields, jumps = _spread(field, n), _spread(jump, n)
    grown = tuple(round(f + (w - 1) * j) for f, w, j in zip(fields, window, jumps, strict=True))
    return grown, tuple(j * s for j, s in zip(jumps, stride, strict=True))


def _pool_window(operator: Any, args: Any, out: torch.Tensor) -> tuple[list[int], list[int]]:
    """Window and stride of a pool; those of an adaptive one are about in / out."""
    if operator in _ADAPTIVE_POOLS:
        axes = len(args[1])
        sizes = list(zip(args[0].shape[-axes:], out.shape[-axes:], strict=True))
        return [-(-before // after) for before, after in sizes], [max(before // after, 1) for before, after in sizes]
    axes = 3 if operator in (aten.avg_pool3d, aten.max_pool3d_with_indices) else 2
    kernel = _spread(args[1], axes)
    stride = _spread(args[2], axes) if len(args) > 2 and args[2] else kernel
    dilation = [1] * axes
    if operator in (aten.max_pool2d_with_indices, aten.max_pool3d_with_indices) and len(args) > 4:
        dilation = _spread(args[4], axes)
    return [d * (k - 1) + 1 for k, d in zip(kernel, dilation, strict=True)], stride


def _reduced(
    ins: list[torch.Tensor], outs: list[torch.Tensor], field: tuple[int, ...], jump: tuple[float, ...]
) -> tuple[tuple[int, ...], tuple[float, ...]]:
    """A mean over places (global pooling written out) sees all of them."""
    if not ins or ins[0].dim() < 3 or not outs:
        return field, jump
    axes = ins[0].dim() - 2
    before, after = ins[0].shape[2:], outs[0].shape[2:]
    window = [b if i >= len(after) or after[i] == 1 else 1 for i, b in enumerate(before)]
    return _grown(field, jump, window, [1] * axes)


def count(
    model: nn.Module,
    input_size: Sequence[int] | None = None,
    *,
    inputs: Any = None,
    name: str | None = None,
    meta: bool = True,
) -> CountReport:
    """Counts what one forward (and its backward) of any module does, and leaves no trace on the module.

    The forward runs in the module's own mode (train or eval), on the meta device: nothing is computed, no weights
    are allocated or touched; hooks, flags, buffers, attributes (and the lists, sets and dictionaries that they hold)
    and random state are as before, also when it raises. Hooks of your own on the module run too, as in any forward.

    Args:
        model: Any module.
        input_size: Shape of the input, batch included: (N, C, H, W). All counts but parameters and receptive
            field scale with N.
        inputs: The input itself instead: a tensor, a tuple of the arguments or a mapping of them by name; only
            their shapes and types are used (their values too with ``meta=False``).
        name: What the report calls the module; by default its class.
        meta: False runs the forward for real, on copies of the weights, for modules whose control flow depends on
            values; without ``inputs`` on random ones.

    Raises:
        InputError: If there is no input, or the module cannot run on it.
    """
    model = getattr(model, "_orig_mod", model)  # a compiled module, without its compiler
    if not isinstance(model, nn.Module) or isinstance(model, torch.jit.ScriptModule):
        raise InputError(f"count takes an nn.Module, not {type(model).__name__}")
    name = name or type(model).__name__
    with torch.inference_mode(False), _untouched(model, meta) as weights:
        arguments, keywords = _arguments(model, input_size, inputs, name, meta)
        given = [x for x in tree_leaves((arguments, keywords)) if isinstance(x, torch.Tensor)]
        watch = _Watch(model, weights, meta)
        for tensor in given:
            watch.see_input(tensor)
        try:
            with ExitStack() as stack:
                for register, hook in (
                    (register_module_forward_pre_hook, watch.enter_module),
                    (register_module_forward_hook, watch.leave_module),
                ):
                    stack.callback(register(hook).remove)
                if meta:
                    stack.enter_context(torch.device("meta"))
                else:
                    stack.enter_context(_without_onednn())
                stack.enter_context(torch.enable_grad())
                stack.enter_context(torch.autograd.graph.saved_tensors_hooks(watch.keep, _no_backward))
                stack.enter_context(watch)
                out = model(*arguments, **keywords)
                del out
            watch.take_uncalled(model)
        except CnnzooError:
            raise
        except Exception as problem:
            raise _refusal(name, given, meta, problem) from problem
        sizes = [tuple(x.shape) for x in given]
    parameters = list({id(p): p for p in model.parameters()}.values())
    total = sum(p.numel() for p in parameters)
    trainable = sum(p.numel() for p in parameters if p.requires_grad)
    return CountReport(
        name=name,
        input_size=sizes[0] if len(sizes) == 1 else tuple(sizes),
        params=Params(
            total=total,
            trainable=trainable,
            frozen=total - trainable,
            buffers=sum(b.numel() for b in {id(b): b for b in model.buffers()}.values()),
        ),
        layers=_rows(watch.calls),
        peak_bytes=watch.peak,
        unknown_ops=tuple(sorted(watch.unknown)),
    )


_ONE_VALUE = "Expected more than 1 value per channel"  # what torch says of batch norm in train mode


def count_image(model: nn.Module, size: Sequence[int], name: str) -> CountReport:
    """Counts one image (C, H, W) in the module's own mode, or in eval mode if batch norm takes no single one."""
    try:
        return count(model, (1, *size), name=name)
    except InputError as problem:
        if _ONE_VALUE not in str(problem):
            raise
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        return count(model, (1, *size), name=name)
    finally:
        for module, mode in modes.items():
            module.training = mode


def _no_backward(kept: None) -> torch.Tensor:
    raise InputError("a forward that calls backward on itself cannot be counted")


def _refusal(name: str, given: list[torch.Tensor], meta: bool, problem: Exception) -> InputError:
    reason = next(iter(str(problem).strip().splitlines()), "")
    shapes = ", ".join(str(tuple(x.shape)) for x in given)
    text = f"{name} cannot run on an input of {shapes}: {type(problem).__name__}: {reason}"
    if meta and ("meta" in str(problem) or "item()" in str(problem) or "data-dependent" in str(problem)):
        text += (
            "; it needs values, which the meta device does not have (control flow that depends on them, or a tensor "
            "that is no part of the module): count(..., meta=False) runs it for real"
        )
    elif _ONE_VALUE in str(problem):
        text += "; batch norm in train mode needs more: count two images (N=2), or model.eval() first"
    return InputError(text)


def _rows(calls: list[_Call]) -> tuple[LayerCount, ...]:
    """A row for each call of a layer, and for each of a larger module that did something itself."""
    shown = [
        i for i, call in enumerate(calls) if call.params or call.macs or call.bias_adds or not call.module._modules
    ]
    place = {number: i for i, number in enumerate(shown)}

    def feeding(number: int, path: frozenset[int]) -> Iterator[int]:
        for source in calls[number].feeds:
            if source in place:
                yield place[source]
            elif source not in path:  # a sum or concatenation between layers: what feeds it feeds us
                yield from feeding(source, path | {source})

    return tuple(
        LayerCount(
            name=call.name,
            label=call.label,
            kind=type(call.module).__name__,
            out_shape=call.out_shape,
            params=call.params,
            macs=call.macs,
            backward_macs=call.backward_macs,
            bias_adds=call.bias_adds,
            elementwise=call.elementwise,
            pooling=call.pooling,
            connections=call.macs + call.bias_adds + call.pooled_means,
            neurons=call.neurons,
            saved_bytes=call.saved_bytes,
            moved_bytes=call.moved_bytes,
            receptive_field=call.receptive_field,
            inputs=tuple(sorted(set(feeding(number, frozenset())) - {place[number]})),
        )
        for number, call in ((number, calls[number]) for number in shown)
    )


def _arguments(
    model: nn.Module, input_size: Sequence[int] | None, inputs: Any, name: str, meta: bool
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    if (input_size is None) == (inputs is None):
        raise InputError(f"count({name}) needs either input_size=(N, C, H, W) or inputs=")
    if inputs is not None:
        copied = tree_map(lambda x: _twin(x, meta) if isinstance(x, torch.Tensor) else x, inputs)
        if isinstance(copied, Mapping):
            return (), dict(copied)
        return (copied if isinstance(copied, tuple) else (copied,)), {}
    if not isinstance(input_size, Sequence) or not all(isinstance(n, SupportsIndex) and n > 0 for n in input_size):
        raise InputError(f"input_size must be a tuple such as (1, 3, 224, 224), not {input_size!r}")
    first = next((p for p in model.parameters() if p.is_floating_point()), None)
    dtype = torch.get_default_dtype() if first is None else first.dtype
    device = "meta" if meta else "cpu" if first is None else first.device
    shape = tuple(map(operator.index, input_size))
    return (torch.empty(shape, dtype=dtype, device=device) if meta else torch.rand(shape, device=device).to(dtype),), {}


def _twin(tensor: torch.Tensor, meta: bool) -> torch.Tensor:
    """A tensor of the same kind: one that holds nothing, or a copy."""
    if is_lazy(tensor):
        raise InputError("the module has lazy layers without weights; call it once on an input, then count it")
    made = torch.empty_like(tensor, device="meta", requires_grad=False) if meta else tensor.detach().clone()
    if isinstance(tensor, nn.Parameter):
        return nn.Parameter(made, requires_grad=tensor.requires_grad)
    return made.requires_grad_(tensor.requires_grad)


@contextmanager
def _untouched(model: nn.Module, meta: bool) -> Iterator[set[int]]:
    """Puts twins in place of all tensors of a module; at the end everything is as it was, by identity.

    What a forward sets on its modules (a counter, batch-norm statistics, a cache) is undone too, and what it
    draws from random generators.

    Yields:
        The storages of the twins.
    """
    attributes = [vars(module) for module in dict.fromkeys(model.modules())]
    before = [dict(held) for held in attributes]
    # the containers that a module holds, its dictionaries of parameters and buffers among them
    inner = [(one, _copied(one)) for held in attributes for one in held.values() if type(one) in _CONTAINERS]
    twins: dict[int, torch.Tensor] = {}  # a tensor that is shared has one twin
    with _random_state():
        try:
            for one in (*attributes, *(one for one, _ in inner if not isinstance(one, set))):
                for key, tensor in enumerate(one) if isinstance(one, (list, deque)) else list(one.items()):
                    if isinstance(tensor, torch.Tensor):
                        if id(tensor) not in twins:
                            twins[id(tensor)] = _twin(tensor, meta)
                        one[key] = twins[id(tensor)]
            yield {twin.untyped_storage()._cdata for twin in twins.values()}
        finally:
            for held, values in zip(attributes, before, strict=True):
                held.clear()
                held.update(values)
            for one, content in inner:
                one.clear()
                one.extend(content) if isinstance(one, (list, deque)) else one.update(content)


_CONTAINERS = (dict, OrderedDict, defaultdict, list, deque, set)


def _copied(container: Any) -> Any:
    return dict(container) if isinstance(container, dict) else list(container)


@contextmanager
def _without_onednn() -> Iterator[None]:
    """OneDNN runs a whole LSTM as one operator of its own, which hides the products in it."""
    before = torch._C._get_mkldnn_enabled()
    torch._C._set_mkldnn_enabled(False)
    try:
        yield
    finally:
        torch._C._set_mkldnn_enabled(before)


@contextmanager
def _random_state() -> Iterator[None]:
    """Random generators (torch's, Python's, numpy's) end as they began."""
    numpy = sys.modules.get("numpy")
    states = random.getstate(), numpy.random.get_state() if numpy else None
    cuda = list(range(torch.cuda.device_count())) if torch.cuda.is_initialized() else []  # type: ignore[no-untyped-call]
    with torch.random.fork_rng(devices=cuda):
        try:
            yield
        finally:
            random.setstate(states[0])
            if numpy:
                numpy.random.set_state(states[1])
