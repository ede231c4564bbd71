"""Counts what a module does in one forward on the meta device: nothing is computed or allocated.

A MAC is one multiply-add of a convolution or of any matrix product, biases not counted.
"""

from __future__ import annotations

import operator
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from typing import Any, SupportsIndex

import torch
from torch import nn
from torch.nn.utils.rnn import PackedSequence
from torch.utils._pytree import tree_leaves, tree_map

from cnnzoo.errors import CnnzooError, InputError
from cnnzoo.measure.backward_counter import BackwardCounter, has_custom_backward, merge_backward
from cnnzoo.measure.isolation import isolated, substitute, without_fused_kernels
from cnnzoo.measure.meta_device import MetaDevice
from cnnzoo.measure.operator_counter import LayerRecord, OperatorCounter
from cnnzoo.measure.quantized import is_packed, nbytes, packed_weights
from cnnzoo.measure.receptive_field import PositionTracker
from cnnzoo.measure.report import CountReport, LayerCount, Params, UnknownOp
from cnnzoo.measure.traces import remove_tensors
from cnnzoo.module_copy import in_eval_mode
from cnnzoo.modules import unwrap

_BATCH_NORM_ERROR = "Expected more than 1 value per channel"  # torch's message in train mode

_INTEGER_ERRORS = ("long or int", "types: Long, Int", "used as indices must be")  # torch's messages of embeddings


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
    are allocated or touched. It runs on a copy; what it changes elsewhere (objects, classes, global variables, caches,
    random state) is restored, also if it raises. Your own hooks on the module run too, as in any forward.

    Args:
        model: Any module.
        input_size: Shape of the input, batch included: (N, C, H, W). All counts but parameters and receptive
            field scale with N.
        inputs: The input itself, in place of ``input_size``: a tensor, a tuple of the arguments or a mapping of them by
            name; only their shapes and dtypes are used (their values too with ``meta=False``).
        name: The module's name in the report; by default its class.
        meta: If False, the forward computes, on copies of the weights and, without ``inputs``, on random input: for
            modules whose control flow depends on values.

    Raises:
        InputError: If there is no input, or the module cannot run on it.
    """
    if not isinstance(model, nn.Module):
        raise InputError(f"count expects an nn.Module, got {type(model).__name__}")
    model = unwrap(model)
    name = name or type(model).__name__
    modules = {module: path for path, module in model.named_modules()}
    _refuse_scripted(modules, name)
    meta = meta and not any(is_packed(module) for module in modules)
    sizes: list[tuple[int, ...]] = []
    counters: list[OperatorCounter] = []

    def run(kind: type[OperatorCounter]) -> tuple[OperatorCounter, bool]:
        """Runs the forward, or forward and backward; returns the counter, and whether the backward has to run."""
        with torch.inference_mode(False), isolated(model, meta) as (copy, weights):
            args, kwargs = _arguments(model, input_size, inputs, name, meta)
            tensors = [x for x in tree_leaves((args, kwargs)) if isinstance(x, torch.Tensor)]
            sizes[:] = [tuple(x.shape) for x in tensors]
            counter = kind({module: path for path, module in copy.named_modules()}, weights, meta)
            counters.append(counter)
            for tensor in tensors:
                counter.register_input(tensor)
            out = run_forward(copy, args, kwargs, counter)
            counter.count_uncalled_params()
            return counter, counter.has_other_hooks or counter.stops_gradients or has_custom_backward(out)

    try:
        counter, needs_backward = run(OperatorCounter)
        unknown_ops = counter.unknown_ops
        if needs_backward:
            try:
                backward_counter, _ = run(BackwardCounter)
                is_same = merge_backward(counter.records, backward_counter.records)
                reason = "" if is_same else "the second forward differs from the first"
            except Exception as error:
                reason = f"{type(error).__name__}: {_first_line(error)}"
            if reason:
                unknown_ops[f"backward of checkpoints and autograd functions ({reason})"] = {"": 1}
    except CnnzooError:
        raise
    except Exception as error:
        raise InputError(_run_error(name, input_size, sizes, meta, error)) from error
    report = CountReport(
        name=name,
        input_size=sizes[0] if len(sizes) == 1 else tuple(sizes),
        params=_params(modules),
        layers=_layer_counts(counter.records, counter.tracker),
        peak_bytes=counter.peak_bytes,
        unknown_ops=tuple(
            UnknownOp(op, sum(calls.values()), tuple(calls)) for op, calls in sorted(unknown_ops.items())
        ),
        modules=tuple((name, type(module).__name__) for module, name in modules.items() if name and module._modules),
    )
    for counter in counters:
        counter.release_modules()
        if counter.live_storages:
            remove_tensors(counter.live_storages, name)
    return report


def count_image(model: nn.Module, size: Sequence[int], name: str) -> CountReport:
    """Counts one image (C, H, W) in the module's own mode, or in eval mode if batch norm refuses a single image.

    Raises:
        InputError: If the module cannot run on the image.
    """
    try:
        return count(model, (1, *size), name=name)
    except InputError as error:
        if _BATCH_NORM_ERROR not in str(error):
            raise
    return count(in_eval_mode(model), (1, *size), name=name)


def _arguments(
    model: nn.Module, input_size: Sequence[int] | None, inputs: Any, name: str, meta: bool
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Returns the arguments of the forward, by position and by name."""
    if (input_size is None) == (inputs is None):
        raise InputError(f"count({name}) needs either input_size=(N, C, H, W) or inputs=")
    if inputs is not None:
        copies = tree_map(lambda x: _copy(x, meta), inputs, is_leaf=lambda x: isinstance(x, PackedSequence))
        if isinstance(copies, Mapping):
            return (), dict(copies)
        is_arguments = isinstance(copies, tuple) and not isinstance(copies, PackedSequence)
        return (copies if is_arguments else (copies,)), {}
    if not isinstance(input_size, Sequence) or not all(isinstance(n, SupportsIndex) and n > 0 for n in input_size):
        raise InputError(f"input_size must be a tuple such as (1, 3, 224, 224), not {input_size!r}")
    weight = next((p for p in model.parameters() if p.is_floating_point()), None)
    dtype = torch.get_default_dtype() if weight is None else weight.dtype
    shape = tuple(map(operator.index, input_size))
    if meta:
        return (torch.empty(shape, dtype=dtype, device="meta"),), {}
    x = torch.rand(shape, generator=torch.Generator().manual_seed(0))
    return (x.to("cpu" if weight is None else weight.device, dtype),), {}


def _copy(x: Any, meta: bool) -> Any:
    if isinstance(x, PackedSequence):  # its sizes stay: they are values
        data, sizes, *indices = x
        return PackedSequence(
            substitute(data, meta), sizes, *[i if i is None else substitute(i, meta) for i in indices]
        )
    return substitute(x, meta) if isinstance(x, torch.Tensor) else x


def run_forward(model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], counter: OperatorCounter) -> Any:
    """Runs a copy under the counter, also backward under a ``BackwardCounter``; returns the result."""
    is_backward = isinstance(counter, BackwardCounter)
    for module in model.modules():  # global hooks would run for the modules of other threads
        module.register_forward_pre_hook(counter.enter_module, prepend=True)
        module.register_forward_hook(counter.leave_module, prepend=True, always_call=True)
    with ExitStack() as stack:
        stack.enter_context(MetaDevice() if counter.on_meta else without_fused_kernels(model))
        stack.enter_context(torch.enable_grad())
        if is_backward:
            for module in model.modules():  # your backward hooks do not run; their places in the graph stay
                for name in ("_backward_hooks", "_backward_pre_hooks"):
                    setattr(module, name, OrderedDict.fromkeys(getattr(module, name), lambda *_: None))
        load = (lambda saved: saved) if is_backward else _refuse_backward
        stack.enter_context(torch.autograd.graph.saved_tensors_hooks(counter.save_hook, load))
        stack.enter_context(counter)
        out = model(*args, **kwargs)
        if counter.in_other_thread:
            raise InputError(
                f"{counter.in_other_thread} runs in a thread that the forward starts, where operators are not seen; "
                "let it run in the thread of the forward, then count"
            )
        if isinstance(counter, BackwardCounter):
            counter.run_backward(out)
    return out


def _refuse_backward(saved: None) -> torch.Tensor:
    raise InputError(
        "count cannot run a forward that calls backward() or torch.autograd.grad(); count the module whose gradient "
        "it computes"
    )


def _refuse_scripted(modules: Mapping[nn.Module, str], name: str) -> None:
    for module, path in modules.items():
        if isinstance(module, torch.jit.ScriptModule):
            where = f"{path} of {name}" if path else name
            raise InputError(
                f"{where} is a TorchScript module, whose weights cannot be replaced for the count; count the module "
                "that it was scripted or traced from"
            )


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    # the interpreter of TorchScript puts the reason last
    return (lines[-1] if "TorchScript interpreter" in lines[0] else lines[0]) if lines else "no message"


def _run_error(
    name: str, input_size: Sequence[int] | None, sizes: list[tuple[int, ...]], meta: bool, error: Exception
) -> str:
    text = str(error)
    shapes = ", ".join(map(str, sizes)) or "no tensors"
    message = f"{name} cannot run on an input of {shapes}: {type(error).__name__}: {_first_line(error)[:300]}"
    if input_size is not None and any(words in text for words in _INTEGER_ERRORS):
        size = ", ".join(map(str, input_size))
        return f"{message}; it takes integers: count(..., inputs=torch.zeros({size}, dtype=torch.long))"
    if "saved tensor hooks" in text:
        return f"{message}; count the module whose gradient it computes"
    if "FlexAttention" in text or "flex_attention" in text:
        return f"{message}; count it with scaled_dot_product_attention in place of flex_attention"
    if meta and any(words in text for words in ("meta", "Meta", "item()", "data-dependent")):
        return (
            f"{message}; it needs values, which the meta device does not have (such as control flow that depends on "
            "them): count(..., meta=False) computes them"
        )
    if _BATCH_NORM_ERROR in text:
        return f"{message}; batch norm in train mode needs more: count two images (N=2), or call model.eval() first"
    return message


def _params(modules: Iterable[nn.Module]) -> Params:
    parameters = _unique(parameter for module in modules for parameter in module._parameters.values())
    buffers = _unique(buffer for module in modules for buffer in module._buffers.values())
    packed = [weight for module in modules if is_packed(module) for weight in packed_weights(module)]
    total = sum(p.numel() for p in (*parameters, *packed))
    trainable = sum(p.numel() for p in parameters if p.requires_grad)
    return Params(
        total=total,
        trainable=trainable,
        frozen=total - trainable,
        buffers=sum(b.numel() for b in buffers),
        bytes=sum(nbytes(p) for p in (*parameters, *packed)),
        dtypes=tuple(sorted({str(p.dtype).removeprefix("torch.") for p in (*parameters, *packed)})),
    )


def _unique(tensors: Iterable[torch.Tensor | None]) -> list[torch.Tensor]:
    return list({id(x): x for x in tensors if x is not None}.values())


def _layer_counts(records: list[LayerRecord], tracker: PositionTracker) -> tuple[LayerCount, ...]:
    """Returns one LayerCount per record that is a layer."""
    layers = [i for i, record in enumerate(records) if record.is_layer]
    positions = {index: position for position, index in enumerate(layers)}

    def source_layers(index: int, path: frozenset[int]) -> Iterator[int]:
        for source in records[index].sources:
            if source in positions:
                yield positions[source]
            elif source not in path:  # not a layer (a view between layers): use its sources
                yield from source_layers(source, path | {source})

    return tuple(
        LayerCount(
            name=record.name,
            label=record.label,
            kind=type(record.module).__name__,
            out_shape=record.out_shape,
            params=record.params,
            param_bytes=record.param_bytes,
            macs=record.macs,
            backward_macs=record.backward_macs,
            recompute_macs=record.recompute_macs,
            bias_adds=record.bias_adds,
            elementwise=record.elementwise,
            pooling=record.pooling,
            connections=record.macs + record.bias_adds + record.average_pooling,
            neurons=record.neurons,
            saved_bytes=record.saved_bytes,
            moved_bytes=record.moved_bytes,
            receptive_field=field if isinstance(field, int) else None,
            receptive_field_unknown=field if isinstance(field, str) else "",
            inputs=tuple(sorted(set(source_layers(index, frozenset())) - {positions[index]})),
            in_shape=record.in_shape,
            kernel_size=record.window[0],
            stride=record.window[1],
            groups=record.window[2],
            trainable=record.trainable,
        )
        for index, record in ((index, records[index]) for index in layers)
        for field in (tracker.receptive_field(record.positions),)
    )
