"""The dispatch mode that counts each operator of a forward for the module that runs it.

The same forward gives everything:

- MACs and the other counts: the rules of ``rules.py``, applied to the operators that run, so that a functional call,
  ``@`` or a subclass counts as a layer does;
- backward MACs: each matrix that requires a gradient costs one more product of the same size. Where autograd does
  something else (a checkpoint, a function with a backward of its own), ``backward_counter.py`` runs the backward;
- saved bytes: the distinct storages that autograd saves for backward, weights not included;
- peak bytes: the storages that are alive at once. Autograd keeps none of them here, so they are freed as in inference;
- receptive fields and the inputs of each layer: recorded for each storage (see ``receptive_field.py``).
"""

from __future__ import annotations

import math
import threading
import weakref
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes
from torch.utils._pytree import tree_leaves, tree_map

from cnnzoo.measure import rules
from cnnzoo.measure.meta_cache import run_on_meta
from cnnzoo.measure.quantized import is_packed, nbytes, packed_weights, unpack
from cnnzoo.measure.receptive_field import Known, PositionTracker, storage_of
from cnnzoo.random_state import draw_from, is_random

aten = torch.ops.aten


@dataclass(eq=False)
class LayerRecord:
    """The counts of one call of a layer, or of what a module with children computes itself between their calls.

    Attributes:
        module: The module.
        name: Its name in the model.
        label: Its label, after those of the modules around it.
        out_shape: Shape of its first output tensor; of a part of a module with children, of its last result.
        in_shape: Shape of the first tensor that it reads and that depends on the input.
        window: Kernel size, stride and groups of its first convolution or pool.
        sources: Indices of the records whose results it reads, in order.
        positions: Those of its output, from which its receptive field follows.
        average_pooling: Values that the windows of average pools read; part of ``pooling``.

    The other counts are those of ``LayerCount``.
    """

    module: nn.Module
    name: str
    label: str
    out_shape: tuple[int, ...] = ()
    in_shape: tuple[int, ...] = ()
    window: tuple[tuple[int, ...], tuple[int, ...], int] = ((), (), 0)
    sources: dict[int, None] = field(default_factory=dict)
    positions: Known = None
    params: int = 0
    param_bytes: int = 0
    trainable: int = 0
    macs: int = 0
    backward_macs: int = 0
    recompute_macs: int = 0
    bias_adds: int = 0
    elementwise: int = 0
    pooling: int = 0
    average_pooling: int = 0
    neurons: int = 0
    saved_bytes: int = 0
    moved_bytes: int = 0

    def add_params(self, params: tuple[int, int, int]) -> None:
        """Adds parameters: their number, bytes, and number of trainable ones."""
        self.params += params[0]
        self.param_bytes += params[1]
        self.trainable += params[2]

    @property
    def is_layer(self) -> bool:
        """Whether it is a layer of the report: a call of a module without children, or any that counts something."""
        return not self.module._modules or bool(
            self.params or self.moved_bytes or self.elementwise or self.pooling or self.saved_bytes or self.macs
        )


@dataclass(eq=False, slots=True)
class RunningModule:
    """A module whose call has begun.

    Attributes:
        module: The module.
        name: Its name in the model.
        label: Its label, after those of the modules around it.
        params: Its own parameters that no record has yet: their number, bytes, and number of trainable ones.
        record: Index of the record of its operators; -1 before the first one and after the call of a child.
    """

    module: nn.Module
    name: str
    label: str
    params: tuple[int, int, int] = (0, 0, 0)
    record: int = -1


@dataclass(eq=False, slots=True)
class StorageInfo:
    """What the counter knows about a storage.

    Attributes:
        from_input: Whether its values depend on the input.
        record: Index of the record of the layer that wrote or last returned it; -1 for the input.
    """

    from_input: bool = False
    record: int = -1


class OperatorCounter(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts each operator for the module that runs it.

    Args:
        modules: The modules of the module whose forward will run, itself first, and their names.
        weights: Keys of the storages of its parameters and buffers (``storage._cdata``, as everywhere here).
        on_meta: Whether all tensors are on the meta device.
    """

    supports_higher_order_operators = True  # such as flex attention

    def __init__(self, modules: Mapping[nn.Module, str], weights: set[int], on_meta: bool) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.on_meta = on_meta
        self.thread = threading.get_ident()
        self.in_other_thread = ""  # name of a module that ran in a thread of the forward, where no mode is active
        self.generator = torch.Generator().manual_seed(0)  # of random numbers that the forward draws
        self.weights = weights
        self.names = modules
        self.records: list[LayerRecord] = []
        self.running = [
            RunningModule(next(iter(modules)), "", "")
        ]  # stack; hooks on the whole model run outside of its call
        self.called: set[str] = set()  # names of modules
        self.kinds: dict[Any, str] = {}  # of operators
        self.unknown_ops: dict[str, dict[str, int]] = {}  # name -> name of the module -> number of calls
        self.has_other_hooks = False  # whether a product ran where other hooks save tensors: in a checkpoint
        self.stops_gradients = False  # whether the forward detaches what has a gradient
        self.save_hook = self.save_for_backward  # one object, since each access makes another bound method
        self.counted_params: set[int] = set()  # ids, so that a shared parameter counts once
        self.saved_storages: set[int] = set()
        self.storages: dict[int, StorageInfo] = {}
        self.tracker = PositionTracker()
        self.spatial_axes = 1
        self.live_storages: set[int] = set()  # keys
        self.live_bytes = self.peak_bytes = 0

    # --- module calls ---

    def enter_module(self, module: nn.Module, args: Any) -> None:
        """Records the begin of a module call; a forward pre-hook."""
        if threading.get_ident() != self.thread:
            self.in_other_thread = self.names[module]
            return
        outer = self.running[-1]
        outer.record = -1
        label = getattr(module, "label", "")
        label = label if isinstance(label, str) else ""
        full_label = f"{outer.label}/{label}" if outer.label and label else outer.label or label
        name = self.names.get(module, "")
        self.called.add(name)
        self.running.append(RunningModule(module, name, full_label, self._new_params(module)))
        if not module._modules:
            self._open_record()

    def leave_module(self, module: nn.Module, args: Any, out: Any) -> None:
        """Records the end of a module call; a forward hook, also called if the forward raises."""
        if threading.get_ident() != self.thread:
            return
        if self.running[-1].params[0]:
            self._open_record()
        index = self.running.pop().record
        if index < 0:
            return
        record = self.records[index]
        first = out if isinstance(out, torch.Tensor) else None
        if first is None:
            first = next((leaf for leaf in tree_leaves(out) if isinstance(leaf, torch.Tensor)), None)
        if first is None:
            return
        with torch._C.DisableTorchFunction():  # the mode of the meta device, which is slow
            record.out_shape = tuple(first.shape)
            info = self._info(first)
            if info is None:
                return
            record.positions = self.tracker.positions(first)
        if not module._modules:
            self._add_source(index, info)
            record.in_shape = record.in_shape or record.out_shape  # it ran no operator
            info.record = index  # also if the layer wrote nothing (Flatten, Identity, Dropout in eval mode)

    def count_uncalled_params(self) -> None:
        """Adds the parameters of modules that were never called to the innermost called module around them."""
        first_records: dict[str, LayerRecord] = {}
        for record in reversed(self.records):
            first_records[record.name] = record
        modules = {name: module for module, name in self.names.items()}
        for name, module in modules.items():
            if (params := self._new_params(module))[0]:
                while name and name not in self.called:
                    name = name.rpartition(".")[0]
                if name not in first_records:
                    first_records[name] = LayerRecord(modules[name], name, "")
                    self.records.append(first_records[name])
                first_records[name].add_params(params)

    def _open_record(self) -> int:
        """Returns the index of the record of the innermost running module; adds one if there is none."""
        running = self.running[-1]
        if running.record < 0:
            running.record = len(self.records)
            self.records.append(LayerRecord(running.module, running.name, running.label))
            self.records[-1].add_params(running.params)
            running.params = (0, 0, 0)
        return running.record

    def _new_params(self, module: nn.Module) -> tuple[int, int, int]:
        """Counts the parameters of a module, not of its children, that are not counted yet.

        Returns:
            Their number, bytes, and number of trainable ones.
        """
        size = size_in_bytes = trainable = 0
        for parameter in module._parameters.values():
            if parameter is not None and id(parameter) not in self.counted_params:
                self.counted_params.add(id(parameter))
                size += parameter.numel()
                size_in_bytes += nbytes(parameter)
                trainable += parameter.numel() if parameter.requires_grad else 0
        if "_packed_params" in module.__dict__ and is_packed(module) and id(module) not in self.counted_params:
            self.counted_params.add(id(module))
            with _disable_current_modes():  # unpacking runs operators
                for weight in packed_weights(module):
                    size += weight.numel()
                    size_in_bytes += nbytes(weight)
        return size, size_in_bytes, trainable

    def _add_source(self, index: int, info: StorageInfo) -> None:
        if info.record != index and info.record >= 0:
            self.records[index].sources[info.record] = None

    def release_modules(self) -> None:
        """Forgets the modules, so that what their forward set on them is freed."""
        self.records.clear()
        self.running.clear()
        self.names = {}

    # --- storages ---

    def register_input(self, tensor: torch.Tensor) -> None:
        """Records a tensor as input of the model."""
        self.tracker.add_input(tensor)
        self.spatial_axes = max(self.spatial_axes, tensor.dim() - 2)
        if (storage := storage_of(tensor)) is not None:
            self.storages[storage._cdata] = StorageInfo(True)

    def save_for_backward(self, tensor: torch.Tensor) -> Any:
        """Counts a tensor that autograd saves; returns None, so that autograd keeps nothing alive."""
        with torch._C.DisableTorchFunction():  # the mode of the meta device, which is slow
            storage = storage_of(tensor)
        if storage is None:
            return
        key = storage._cdata
        if key not in self.weights and key not in self.saved_storages:
            self.saved_storages.add(key)
            self.records[self._open_record()].saved_bytes += storage.nbytes()
            # a later storage may have the same address
            weakref.finalize(storage, self.saved_storages.discard, key)

    def _register_output(self, tensor: torch.Tensor, info: StorageInfo) -> None:
        storage = storage_of(tensor)
        if storage is None or (key := storage._cdata) in self.weights:
            return
        if key not in self.storages:
            size = storage.nbytes()
            self.live_bytes += size
            self.peak_bytes = max(self.peak_bytes, self.live_bytes)
            self.live_storages.add(key)
            weakref.finalize(storage, self._release, key, size)
        self.storages[key] = info

    def _release(self, key: int, size: int) -> None:
        self.live_bytes -= size
        self.live_storages.discard(key)
        self.storages.pop(key, None)
        self.tracker.release(key)

    # --- operators ---

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if torch.is_inference_mode_enabled():  # composite operators arrive undecomposed
            with self:
                result = func.decompose(*args, **kwargs)
            if result is not NotImplemented:
                return result
        if self.on_meta and not is_random(func):
            out = self._run_on_meta(func, args, kwargs)
        else:
            out = draw_from(self.generator, func, args, kwargs)
        self._count_operator(func, args, kwargs, out)
        return out

    def _run_on_meta(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Runs an operator; tensors that are not part of the module, such as constants, count as if on meta too."""
        try:
            return run_on_meta(func, args, kwargs)
        except RuntimeError:
            tensors = _tensors((*args, *kwargs.values()))
            if all(x.is_meta for x in tensors) or not any(x.is_meta for x in tensors):
                raise
            args, kwargs = tree_map(lambda x: x.to("meta") if isinstance(x, torch.Tensor) else x, (args, kwargs))
            return func(*args, **kwargs)

    def _count_operator(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> None:
        if func is torch.ops.higher_order.out_dtype:  # an operator, with the type of its result
            func, args = args[0], args[2:]
        op = getattr(func, "_overloadpacket", func)  # a higher-order operator has no overloads
        kind = self.kinds.get(func)
        if kind is None:
            kind = self.kinds[func] = rules.kind_of(func)
        index = self._open_record()
        record = self.records[index]
        inputs, outputs = _tensors((*args, *kwargs.values())), _tensors((out,))
        if op is torch.ops.aten.detach and inputs[0].requires_grad and torch.is_grad_enabled():
            self.stops_gradients = True
        infos = [info for x in inputs if (info := self._info(x)) is not None and info.from_input]
        if infos and not record.in_shape:
            record.in_shape = next(tuple(x.shape) for x in inputs if (i := self._info(x)) is not None and i.from_input)
        for info in infos:
            self._add_source(index, info)

        if kind == "product":
            self._count_product(op, record, args, kwargs, inputs, out)
        elif kind == "pool":
            _count_pool(op, record, args, outputs[0], self.spatial_axes)
        elif kind == "elementwise":
            size = outputs[0].numel() if outputs else 0
            is_bookkeeping = not infos and bool(outputs) and self._is_weight(outputs[0])  # batch norm counts batches
            record.elementwise += 0 if is_bookkeeping else size
            if infos and op in (aten.add, aten.add_) and any(self._is_weight(x) for x in inputs):
                record.bias_adds += size
        elif kind == "reduction":
            record.elementwise += inputs[0].numel() if inputs else 0
        elif kind == "unknown":
            calls = self.unknown_ops.setdefault(str(op), {})
            calls[record.name] = calls.get(record.name, 0) + 1

        is_view = getattr(func, "is_view", False)
        if not is_view:
            record.moved_bytes += sum([_nbytes(x) for x in (*inputs, *outputs)])
            self.tracker.follow(func, args, kwargs, outputs)
        for x in outputs:
            self._register_output(x, StorageInfo(bool(infos), index))
        if outputs and infos and record.module._modules:  # else set when its call ends
            record.out_shape = tuple(outputs[0].shape)
            if not is_view or record.positions is None:
                record.positions = self.tracker.positions(outputs[0])

    def _count_product(
        self,
        op: Any,
        record: LayerRecord,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        inputs: list[torch.Tensor],
        out: Any,
    ) -> None:
        """Counts a convolution, a matrix product or fused attention."""
        macs = rules.product_macs(op, args, kwargs, out)
        record.macs += macs
        has_gradients = torch.is_grad_enabled()  # parts of a forward may run under no_grad
        if has_gradients and save_hook() != self.save_hook and any(x.requires_grad for x in inputs):
            self.has_other_hooks = True
        product = rules.product_of(op)
        if product is None:  # fused attention: two products, each with two more in the backward
            needs_gradients = [x for x in inputs if x.requires_grad] if has_gradients else []
            factor = 2 if "attention" in str(op) else 1
            record.backward_macs += macs * (factor if needs_gradients and factor > 1 else min(2, len(needs_gradients)))
            return
        matrices = [args[i] for i in product.matrices]
        if has_gradients:
            record.backward_macs += macs * sum(isinstance(x, torch.Tensor) and x.requires_grad for x in matrices)
        bias = args[product.bias] if product.bias is not None and len(args) > product.bias else None
        if isinstance(matrices[-1], torch.ScriptObject):  # packed
            bias = next(iter(unpack(matrices[-1])[1:]), None)
            record.elementwise += out.numel() if "relu" in str(op) else 0
        if bias is not None:
            record.bias_adds += out.numel()
        infos = [self._info(x) if isinstance(x, torch.Tensor) else None for x in matrices]
        from_input = [info is not None and info.from_input for info in infos]
        if any(from_input) and not all(from_input):
            record.neurons += out.numel()
        if op in rules.CONVOLUTIONS and not record.window[2]:
            n = len(args[1].shape) - 2
            record.window = tuple(args[1].shape[2:]), tuple(rules.per_axis(args[3], n)), args[8]

    def _info(self, tensor: torch.Tensor) -> StorageInfo | None:
        storage = storage_of(tensor)
        return None if storage is None else self.storages.get(storage._cdata)

    def _is_weight(self, tensor: torch.Tensor) -> bool:
        storage = storage_of(tensor)
        return storage is not None and storage._cdata in self.weights


def _count_pool(op: Any, record: LayerRecord, args: tuple[Any, ...], out: torch.Tensor, spatial_axes: int) -> None:
    window, stride = rules.pool_window(op, args, out)
    if len(window) > spatial_axes > 1:  # torch's LRN averages over channels with a 3-D pool
        window, stride = window[-spatial_axes:], stride[-spatial_axes:]
    if not record.window[0]:
        record.window = tuple(window), tuple(stride), 0
    if math.prod(window) > 1:
        reads = rules.pool_reads(op, args, out)
        record.pooling += reads
        record.average_pooling += reads if op in rules.AVERAGE_POOLS else 0
    else:
        record.elementwise += out.numel()


def save_hook() -> Any:
    """Returns the function to which autograd passes the tensors that it saves."""
    hooks = torch._C._autograd._top_saved_tensors_default_hooks(True)
    return hooks and hooks[0]


def _nbytes(tensor: torch.Tensor) -> int:
    is_plain = type(tensor) is torch.Tensor or type(tensor) is nn.Parameter
    if is_plain and tensor.layout is torch.strided:  # the most frequent case, several times per operator
        return tensor.numel() * tensor.element_size()
    return nbytes(tensor)


def _tensors(values: Iterable[Any]) -> list[torch.Tensor]:
    """Returns the tensors among arguments or results, also those in lists."""
    tensors: list[torch.Tensor] = []
    for value in values:
        if isinstance(value, torch.Tensor):
            tensors.append(value)
        elif isinstance(value, (list, tuple)):
            tensors += [item for item in value if isinstance(item, torch.Tensor)]
    return tensors
