"""Counts what a module does by watching its operators on the meta device: nothing is computed or allocated.

A MAC is one multiply-add of a convolution or of any matrix product, biases not counted. The formulas are those
of ``torch.utils.flop_counter`` (which counts a MAC as two), applied to the operators that really run, so that a
functional call, ``@`` or a subclass counts as a layer does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook
from torch.nn.parameter import is_lazy
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map
from torch.utils.flop_counter import flop_registry

from cnnzoo.errors import CnnzooError, InputError
from cnnzoo.measure.report import Params, Report, Row

aten = torch.ops.aten

# operator -> positions of the matrices that are multiplied, position of the bias
_MATRICES: dict[Any, tuple[tuple[int, ...], int | None]] = {
    aten.convolution: ((0, 1), 2),
    aten._convolution: ((0, 1), 2),
    aten.mm: ((0, 1), None),
    aten.bmm: ((0, 1), None),
    aten.addmm: ((1, 2), 0),
    aten.baddbmm: ((1, 2), 0),
}

# Operators that multiply no matrices, beyond the element-wise ones and the views, which torch marks as such.
_WITHOUT_MACS = frozenset(
    """max_pool2d_with_indices max_pool3d_with_indices avg_pool2d avg_pool3d _adaptive_avg_pool2d
    adaptive_max_pool2d mean sum amax amin max min argmax var std native_batch_norm _native_batch_norm_legit
    _native_batch_norm_legit_no_training cudnn_batch_norm _batch_norm_with_update native_layer_norm
    native_group_norm _softmax _log_softmax cat stack split split_with_sizes unbind clone copy_ _to_copy detach
    empty empty_like empty_strided new_empty zeros zeros_like new_zeros ones ones_like new_ones full full_like
    fill_ zero_ arange eye scalar_tensor lift_fresh _unsafe_view constant_pad_nd reflection_pad2d
    replication_pad2d native_dropout bernoulli bernoulli_ rand randn rand_like randn_like uniform_ normal_
    embedding index index_select gather upsample_nearest2d upsample_bilinear2d native_channel_shuffle flip roll
    sort topk cumsum _local_scalar_dense contiguous""".split()  # noqa: SIM905, a list of these takes a page
)


def _multiplies_nothing(operator: Any) -> bool:
    return (
        operator.is_view or torch.Tag.pointwise in operator.tags or operator._overloadpacket.__name__ in _WITHOUT_MACS
    )


class _Call:
    """One call of one module, and what its own operators did."""

    def __init__(self, module: nn.Module, name: str, label: str) -> None:
        self.module = module
        self.name = name
        self.label = label
        self.out_shape: tuple[int, ...] = ()
        self.params = self.macs = self.backward_macs = self.bias_adds = 0

    def row(self) -> Row:
        return Row(
            name=self.name,
            label=self.label,
            kind=type(self.module).__name__,
            out_shape=self.out_shape,
            params=self.params,
            macs=self.macs,
            backward_macs=self.backward_macs,
            bias_adds=self.bias_adds,
        )


class _Watch(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Sees every operator, and which module's call it belongs to."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.calls: list[_Call] = []
        self.open: list[_Call] = []
        self.unknown: set[str] = set()
        self.counted: set[int] = set()  # parameters, so that a shared one counts once
        self.names = {id(module): name for name, module in model.named_modules()}

    def enter_module(self, module: nn.Module, args: Any) -> None:
        above = self.open[-1].label if self.open else ""
        own = getattr(module, "label", "")
        label = f"{above}/{own}" if above and own else above or own
        call = _Call(module, self.names.get(id(module), ""), label)
        for parameter in module.parameters(recurse=False):
            if id(parameter) not in self.counted:
                self.counted.add(id(parameter))
                call.params += parameter.numel()
        self.calls.append(call)
        self.open.append(call)

    def leave_module(self, module: nn.Module, args: Any, out: Any) -> None:
        call = self.open.pop()
        first = next((leaf for leaf in tree_leaves(out) if isinstance(leaf, torch.Tensor)), None)
        call.out_shape = () if first is None else tuple(first.shape)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        operator = func._overloadpacket
        if operator in flop_registry:
            macs = flop_registry[operator](*args, **kwargs, out_val=out) // 2
            matrices, bias = _MATRICES.get(operator, (tuple(range(len(args))), None))
            tensors = [args[i] for i in matrices if isinstance(args[i], torch.Tensor)]
            call = self.open[-1]
            call.macs += macs
            # each matrix that wants a gradient costs one more product of the same size
            call.backward_macs += macs * sum(tensor.requires_grad for tensor in tensors)
            if bias is not None and args[bias] is not None:
                call.bias_adds += out.numel()
        elif not _multiplies_nothing(func):
            self.unknown.add(str(operator))
        return out


def count(
    model: nn.Module,
    input_size: Sequence[int] | None = None,
    *,
    inputs: Any = None,
    name: str | None = None,
) -> Report:
    """Counts parameters and multiply-adds of any module, and leaves no trace on it.

    One forward runs on the meta device in the module's own mode (train or eval): nothing is computed, no weights
    are allocated or touched, and hooks, flags, buffers and random state are as before, also when it raises.

    Args:
        model: Any module.
        input_size: Shape of the input, batch included: (N, C, H, W). All counts but parameters scale with N.
        inputs: The input itself instead: a tensor, or a tuple of the arguments; only shapes and types are used.
        name: What the report calls the module; by default its class.

    Raises:
        InputError: If there is no input, or the module cannot run on it.
    """
    if not isinstance(model, nn.Module):
        raise InputError(f"count takes an nn.Module, not {type(model).__name__}")
    name = name or type(model).__name__
    with _on_meta(model):
        arguments = _meta_inputs(model, input_size, inputs, name)
        watch = _Watch(model)
        hooks = [
            register_module_forward_pre_hook(watch.enter_module),
            register_module_forward_hook(watch.leave_module),
        ]
        try:
            with torch.device("meta"), torch.inference_mode(False), torch.enable_grad(), watch:
                model(*arguments)
        except CnnzooError:
            raise
        except Exception as problem:
            reason = next(iter(str(problem).strip().splitlines()), "")
            shapes = ", ".join(str(tuple(x.shape)) for x in tree_leaves(arguments) if isinstance(x, torch.Tensor))
            raise InputError(
                f"{name} cannot run on the meta device with an input of {shapes}: {type(problem).__name__}: {reason}"
            ) from problem
        finally:
            for hook in hooks:
                hook.remove()
        shapes_in = [tuple(x.shape) for x in tree_leaves(arguments) if isinstance(x, torch.Tensor)]
    parameters = {id(p): p for p in model.parameters()}.values()
    trainable = sum(p.numel() for p in parameters if p.requires_grad)
    total = sum(p.numel() for p in parameters)
    buffers = sum(b.numel() for b in {id(b): b for b in model.buffers()}.values())
    return Report(
        name=name,
        input_size=shapes_in[0] if len(shapes_in) == 1 else tuple(shapes_in),
        params=Params(total=total, trainable=trainable, frozen=total - trainable, buffers=buffers),
        rows=tuple(
            call.row()
            for call in watch.calls
            if call.params or call.macs or not any(True for _ in call.module.children())
        ),
        unknown_ops=tuple(sorted(watch.unknown)),
    )


def _meta_inputs(model: nn.Module, input_size: Sequence[int] | None, inputs: Any, name: str) -> tuple[Any, ...]:
    if (input_size is None) == (inputs is None):
        raise InputError(f"count({name}) needs either input_size=(N, C, H, W) or inputs=")
    if inputs is not None:
        arguments = inputs if isinstance(inputs, tuple) else (inputs,)
        return tuple(tree_map(lambda x: _twin(x) if isinstance(x, torch.Tensor) else x, arguments))
    if not isinstance(input_size, Sequence) or not all(isinstance(n, int) and n > 0 for n in input_size):
        raise InputError(f"input_size must be a tuple such as (1, 3, 224, 224), not {input_size!r}")
    dtype = next((p.dtype for p in model.parameters() if p.is_floating_point()), torch.get_default_dtype())
    return (torch.empty(tuple(input_size), dtype=dtype, device="meta"),)


def _twin(tensor: torch.Tensor) -> torch.Tensor:
    """A tensor of the same kind that holds nothing."""
    if is_lazy(tensor):
        raise InputError("the module has lazy layers without weights; call it once on an input, then count it")
    empty = torch.empty_like(tensor, device="meta", requires_grad=False)
    if isinstance(tensor, nn.Parameter):
        return nn.Parameter(empty, requires_grad=tensor.requires_grad)
    return empty.requires_grad_(tensor.requires_grad)


@contextmanager
def _on_meta(model: nn.Module) -> Iterator[None]:
    """Puts empty twins in place of all weights and buffers; at the end everything is as it was, by identity.

    What a forward sets on its modules (a counter, batch-norm statistics, a cache) is undone too.
    """
    modules = list(dict.fromkeys(model.modules()))
    kept = [
        (
            module,
            dict(vars(module)),
            [(inner, dict(inner)) for inner in vars(module).values() if isinstance(inner, dict)],
        )
        for module in modules
    ]
    random_state = torch.get_rng_state()
    twins: dict[int, torch.Tensor] = {}  # a tensor that is shared has one twin
    make: Callable[[torch.Tensor], torch.Tensor] = lambda tensor: twins.setdefault(id(tensor), _twin(tensor))  # noqa: E731
    try:
        for module in modules:
            for tensors in (module._parameters, module._buffers):
                for key, tensor in tensors.items():
                    if tensor is not None:
                        tensors[key] = make(tensor)  # type: ignore[assignment]
        yield
    finally:
        torch.set_rng_state(random_state)
        for module, attributes, inner_dicts in kept:
            vars(module).clear()
            vars(module).update(attributes)
            for inner, content in inner_dicts:
                inner.clear()
                inner.update(content)
