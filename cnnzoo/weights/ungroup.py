"""Replaces grouped convolutions with dense ones that compute the same."""

from __future__ import annotations

import dataclasses

import torch
from torch import nn

from cnnzoo.blocks import Block, Conv
from cnnzoo.errors import InputError
from cnnzoo.modules import require_weights, unwrap
from cnnzoo.network import CNN
from cnnzoo.weights.state_dict import assign_state_dict


def ungroup(model: nn.Module) -> CNN:
    """Returns a network that computes the same without groups: each grouped convolution becomes a dense one.

    The dense weight is block-diagonal: zero between channels of different groups. The class scores are equal up to
    rounding, since sums run in another order. Training changes the zeros too.

    Args:
        model: A cnnzoo network; it is not changed.

    Returns:
        A network whose Spec has ``groups=1`` everywhere, with the device, dtype and mode of ``model``.

    Raises:
        InputError: If the model is not a cnnzoo network, or is on the meta device.
    """
    model = unwrap(model)
    if not isinstance(model, CNN):
        raise InputError(f"ungroup expects a cnnzoo network, not {type(model).__name__}")
    require_weights(model, model.spec.name)

    def replace(block: Block, label: str) -> tuple[Block, ...]:
        return (dataclasses.replace(block, groups=1),) if isinstance(block, Conv) else (block,)

    with torch.device("meta"):
        dense = CNN(model.spec.map_blocks(replace))
    state = dict(model.state_dict())
    for name, module in dense.named_modules():
        grouped = model.get_submodule(name)
        if isinstance(module, nn.Conv2d) and isinstance(grouped, nn.Conv2d) and module.groups != grouped.groups:
            state[f"{name}.weight"] = _block_diagonal(grouped.weight.detach(), grouped.groups)
    assign_state_dict(dense, state)
    dense.metadata = model.metadata.derive("adapted", how="grouped convolutions replaced by dense ones")
    return dense.to(next(iter(state.values())).device).train(model.training)


def _block_diagonal(weight: torch.Tensor, groups: int) -> torch.Tensor:
    """Returns the weight (out, in / groups, H, W) of a grouped convolution as that of a dense one, (out, in, H, W)."""
    out_size, in_size = weight.shape[0] // groups, weight.shape[1]  # of one group
    dense = weight.new_zeros(weight.shape[0], in_size * groups, *weight.shape[2:])
    for group in range(groups):
        outputs = slice(group * out_size, (group + 1) * out_size)
        inputs = slice(group * in_size, (group + 1) * in_size)
        dense[outputs, inputs] = weight[outputs]
    return dense
