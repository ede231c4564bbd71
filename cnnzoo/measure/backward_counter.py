"""Counts a backward that runs, for forwards whose backward does not follow from their operators.

A checkpoint computes its part of the forward again. The backward of a ``torch.autograd.Function`` is a program of its
own. Both are run and counted, for the layers whose forward they belong to.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn
from torch.autograd.function import BackwardCFunction
from torch.nn.modules._functions import BackwardHookFunction
from torch.utils._python_dispatch import _disable_current_modes
from torch.utils._pytree import tree_leaves
from torch.utils.checkpoint import CheckpointFunction

from cnnzoo.errors import InputError
from cnnzoo.measure import rules
from cnnzoo.measure.operator_counter import LayerRecord, OperatorCounter, save_hook

aten = torch.ops.aten


class BackwardCounter(OperatorCounter):  # type: ignore[no-untyped-call]
    """Counts the operators of a forward and of its backward.

    Args:
        modules: As for ``OperatorCounter``.
        weights: As for ``OperatorCounter``.
        on_meta: As for ``OperatorCounter``.
    """

    def __init__(self, modules: Mapping[nn.Module, str], weights: set[int], on_meta: bool) -> None:
        super().__init__(modules, weights, on_meta)
        self.is_forward = True
        self.first_records: dict[str, int] = {}
        # autograd numbers the nodes of its graph: the number before each operator of the forward, and its record
        self.numbers: list[int] = []
        self.owners: list[int] = []

    def run_backward(self, out: Any) -> None:
        """Runs the backward of all results that require a gradient."""
        self.is_forward = False
        for record in self.records:
            record.backward_macs = 0
        for index in range(len(self.records) - 1, -1, -1):
            self.first_records[self.records[index].name] = index
        outputs = differentiable(out)
        if not outputs:
            raise InputError("no tensor of the result requires a gradient")
        torch.autograd.backward(outputs, [torch.ones_like(x) for x in outputs])

    def save_for_backward(self, tensor: torch.Tensor) -> torch.Tensor:
        """Counts a tensor that autograd saves; returns it without its graph, which would keep itself alive."""
        super().save_for_backward(tensor)
        with _disable_current_modes():
            return tensor.detach()

    def _open_record(self) -> int:
        if self.is_forward:
            return super()._open_record()
        # a module that runs again in the backward
        return self.first_records.get(self.running[-1].name, 0)

    def _count_operator(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> None:
        if self.is_forward:
            super()._count_operator(func, args, kwargs, out)
            self._note_owner(self.running[-1].record)
            return
        op = getattr(func, "_overloadpacket", func)
        node = torch._C._current_autograd_node()
        if self._computes_again(node):
            index = self._open_record()
            self._note_owner(index)
            if rules.kind_of(func) == "product":
                self.records[index].recompute_macs += rules.product_macs(op, args, kwargs, out)
        elif macs := rules.backward_macs(func, args, kwargs, out):
            number = node._sequence_nr() if node is not None else 0
            position = min(bisect_right(self.numbers, number), len(self.owners) - 1)
            self.records[self.owners[position]].backward_macs += macs

    def _computes_again(self, node: Any) -> bool:
        """Returns whether an operator of the backward is one of a checkpoint's forward."""
        if torch.is_grad_enabled() or getattr(node, "_forward_cls", None) is CheckpointFunction:
            return True
        return bool(save_hook() != self.save_hook)

    def _note_owner(self, index: int) -> None:
        number = torch._C._autograd._get_sequence_nr()
        if not self.numbers or number > self.numbers[-1]:
            self.numbers.append(number)
            self.owners.append(index)


def differentiable(out: Any) -> list[torch.Tensor]:
    """Returns the tensors of a result that require a gradient; also those among the attributes of an object."""
    leaves = tree_leaves(out)
    leaves += [x for leaf in leaves if hasattr(leaf, "__dict__") for x in tree_leaves(vars(leaf))]
    return [x for x in leaves if isinstance(x, torch.Tensor) and x.requires_grad]


def has_custom_backward(out: Any) -> bool:
    """Returns whether a ``torch.autograd.Function`` written in Python is part of the graph of a result."""
    nodes: list[Any] = [x.grad_fn for x in differentiable(out) if x.grad_fn is not None]
    seen = set(nodes)
    while nodes:
        node = nodes.pop()
        if isinstance(node, BackwardCFunction) and getattr(node, "_forward_cls", None) is not BackwardHookFunction:
            return True
        for following, _ in node.next_functions:
            if following is not None and following not in seen:
                seen.add(following)
                nodes.append(following)
    return False


def merge_backward(records: list[LayerRecord], measured: list[LayerRecord]) -> bool:
    """Copies the backward MACs of the same forward, run once more; returns False if it ran otherwise."""
    if [record.name for record in records] != [record.name for record in measured]:
        return False
    for record, other in zip(records, measured, strict=True):
        record.backward_macs, record.recompute_macs = other.backward_macs, other.recompute_macs
    return True
