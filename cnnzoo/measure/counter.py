"""Counts what a module does in one forward on the meta device: nothing is computed or allocated.

A MAC is one multiply-add of a convolution or of any matrix product, biases not counted.
"""

from __future__ import annotations

import operator
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from typing import Any, SupportsIndex

import torch
from torch import nn
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook
from torch.utils._pytree import tree_leaves, tree_map

from cnnzoo.errors import CnnzooError, InputError
from cnnzoo.measure.isolation import isolated, substitute, without_onednn
from cnnzoo.measure.operator_counter import LayerRecord, OperatorCounter
from cnnzoo.measure.receptive_field import PositionTracker
from cnnzoo.measure.report import CountReport, LayerCount, Params
from cnnzoo.modules import eval_mode, unwrap

_BATCH_NORM_ERROR = "Expected more than 1 value per channel"  # torch's message in train mode


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
    are allocated or touched. Hooks, flags, buffers, attributes (and the lists, sets and dictionaries among them) and
    random state are restored, also if the forward raises. Your own hooks on the module run too, as in any forward.

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
    if not isinstance(model, nn.Module) or isinstance(unwrap(model), torch.jit.ScriptModule):
        raise InputError(f"count expects an nn.Module, got {type(model).__name__}")
    model = unwrap(model)
    name = name or type(model).__name__
    with torch.inference_mode(False), isolated(model, meta) as weights:
        args, kwargs = _arguments(model, input_size, inputs, name, meta)
        tensors = [x for x in tree_leaves((args, kwargs)) if isinstance(x, torch.Tensor)]
        counter = OperatorCounter(model, weights, meta)
        for tensor in tensors:
            counter.register_input(tensor)
        try:
            _run(model, args, kwargs, counter)
            counter.count_uncalled_params(model)
        except CnnzooError:
            raise
        except Exception as error:
            raise _run_error(name, tensors, meta, error) from error
        sizes = [tuple(x.shape) for x in tensors]
    return CountReport(
        name=name,
        input_size=sizes[0] if len(sizes) == 1 else tuple(sizes),
        params=_params(model),
        layers=_layer_counts(counter.records, counter.tracker),
        peak_bytes=counter.peak_bytes,
        unknown_ops=tuple(sorted(counter.unknown_ops)),
    )


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
    with eval_mode(model):
        return count(model, (1, *size), name=name)


def _arguments(
    model: nn.Module, input_size: Sequence[int] | None, inputs: Any, name: str, meta: bool
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Returns the arguments of the forward, by position and by name."""
    if (input_size is None) == (inputs is None):
        raise InputError(f"count({name}) needs either input_size=(N, C, H, W) or inputs=")
    if inputs is not None:
        copies = tree_map(lambda x: substitute(x, meta) if isinstance(x, torch.Tensor) else x, inputs)
        if isinstance(copies, Mapping):
            return (), dict(copies)
        return (copies if isinstance(copies, tuple) else (copies,)), {}
    if not isinstance(input_size, Sequence) or not all(isinstance(n, SupportsIndex) and n > 0 for n in input_size):
        raise InputError(f"input_size must be a tuple such as (1, 3, 224, 224), not {input_size!r}")
    weight = next((p for p in model.parameters() if p.is_floating_point()), None)
    dtype = torch.get_default_dtype() if weight is None else weight.dtype
    shape = tuple(map(operator.index, input_size))
    if meta:
        return (torch.empty(shape, dtype=dtype, device="meta"),), {}
    return (torch.rand(shape, device="cpu" if weight is None else weight.device).to(dtype),), {}


def _run(model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], counter: OperatorCounter) -> None:
    """Runs the forward under the counter."""
    with ExitStack() as stack:
        stack.callback(register_module_forward_pre_hook(counter.enter_module).remove)
        stack.callback(register_module_forward_hook(counter.leave_module, always_call=True).remove)
        stack.enter_context(torch.device("meta") if counter.on_meta else without_onednn())
        stack.enter_context(torch.enable_grad())
        stack.enter_context(torch.autograd.graph.saved_tensors_hooks(counter.save_for_backward, _refuse_backward))
        stack.enter_context(counter)
        model(*args, **kwargs)


def _refuse_backward(saved: None) -> torch.Tensor:
    raise InputError("count cannot run a forward that calls backward()")


def _run_error(name: str, inputs: list[torch.Tensor], meta: bool, error: Exception) -> InputError:
    reason = next(iter(str(error).strip().splitlines()), "")
    shapes = ", ".join(str(tuple(x.shape)) for x in inputs)
    message = f"{name} cannot run on an input of {shapes}: {type(error).__name__}: {reason}"
    if meta and ("meta" in str(error) or "item()" in str(error) or "data-dependent" in str(error)):
        message += (
            "; it needs values, which the meta device does not have (control flow that depends on them, or a tensor "
            "that is not part of the module): count(..., meta=False) computes them"
        )
    elif _BATCH_NORM_ERROR in str(error):
        message += "; batch norm in train mode needs more: count two images (N=2), or call model.eval() first"
    return InputError(message)


def _params(model: nn.Module) -> Params:
    parameters = list({id(p): p for p in model.parameters()}.values())
    total = sum(p.numel() for p in parameters)
    trainable = sum(p.numel() for p in parameters if p.requires_grad)
    return Params(
        total=total,
        trainable=trainable,
        frozen=total - trainable,
        buffers=sum(b.numel() for b in {id(b): b for b in model.buffers()}.values()),
    )


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
            macs=record.macs,
            backward_macs=record.backward_macs,
            bias_adds=record.bias_adds,
            elementwise=record.elementwise,
            pooling=record.pooling,
            connections=record.macs + record.bias_adds + record.average_pooling,
            neurons=record.neurons,
            saved_bytes=record.saved_bytes,
            moved_bytes=record.moved_bytes,
            receptive_field=tracker.receptive_field(record.positions),
            receptive_field_unknown=record.positions if isinstance(record.positions, str) else "",
            inputs=tuple(sorted(set(source_layers(index, frozenset())) - {positions[index]})),
        )
        for index, record in ((index, records[index]) for index in layers)
    )
