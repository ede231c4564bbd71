"""State dicts: a check that they fit a network, and their assignment to one that was built on the meta device."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import nn

from cnnzoo.blocks import build_blocks
from cnnzoo.errors import WeightsError
from cnnzoo.network import CNN
from cnnzoo.random_state import OwnGenerator
from cnnzoo.serialization import DTYPES, TensorInfo

MAX_MISMATCHES = 19  # tensors that an error lists

_FLOATING_DTYPES = {name for dtype, name in DTYPES.items() if dtype.is_floating_point}


def tensor_infos(state: Mapping[str, torch.Tensor]) -> dict[str, TensorInfo]:
    """Returns name -> (dtype, shape) of each tensor."""
    return {name: (DTYPES.get(t.dtype, str(t.dtype)), tuple(t.shape)) for name, t in state.items()}


def is_finite(tensor: torch.Tensor) -> bool:
    """Returns whether a tensor has no NaN and no infinite values; integers have none."""
    if not tensor.is_floating_point():
        return True
    values = tensor.float() if tensor.element_size() == 1 else tensor  # float8 has no sum
    # the sum is fast; it can be infinite where all values are finite, in half precision
    return bool(values.sum().isfinite()) or bool(values.isfinite().all())


def require_compatible(
    source: str,
    infos: Mapping[str, TensorInfo],
    expected: Mapping[str, TensorInfo],
    hint: Callable[[list[str]], str] = lambda names: "",
) -> None:
    """Raises one error that lists the tensors that do not fit a network.

    Floating dtypes are interchangeable: a file in half precision fits a network in single precision.

    Args:
        source: Where the tensors come from, for the error.
        infos: Dtype and shape of each tensor.
        expected: Dtype and shape of each tensor of the network.
        hint: Returns what to do about tensors of these names, for the end of the error.

    Raises:
        WeightsError: If names, shapes or dtypes other than floating ones differ.
    """

    def comparable(info: TensorInfo | None) -> object:
        return None if info is None else ("floating" if info[0] in _FLOATING_DTYPES else info[0], info[1])

    def text(info: TensorInfo | None) -> str:
        return "none" if info is None else f"{info[1]} {info[0]}"

    names = sorted(
        name for name in {*infos, *expected} if comparable(infos.get(name)) != comparable(expected.get(name))
    )
    if names:
        lines = [f"{name}: file {text(infos.get(name))}, model {text(expected.get(name))}" for name in names]
        if len(lines) > MAX_MISMATCHES:
            lines[MAX_MISMATCHES - 1 :] = [f"and {len(lines) - MAX_MISMATCHES + 1} more"]
        advice = hint(names)
        raise WeightsError(
            f"{source}: {len(names)} tensors do not fit the network: {'; '.join(lines)}{advice and '. '}{advice}"
        )


def assign_state_dict(model: CNN, state: Mapping[str, torch.Tensor]) -> None:
    """Makes tensors the weights of a network on the meta device, without a copy.

    A tensor that has several names becomes one parameter. Non-persistent buffers are computed again.

    Args:
        model: The network; it is changed.
        state: A state dict that fits it.
    """
    parameters: dict[int, nn.Parameter] = {}
    requires_grad = {
        name: parameter.requires_grad for name, parameter in model.named_parameters(remove_duplicate=False)
    }
    values = {
        name: parameters.setdefault(id(tensor), nn.Parameter(tensor, requires_grad[name]))
        if name in requires_grad
        else tensor
        for name, tensor in state.items()
    }
    model.load_state_dict(values, assign=True)
    if missing := [name for name, buffer in model.named_buffers() if buffer.is_meta]:
        dtype = next((tensor.dtype for tensor in state.values() if tensor.is_floating_point()), None)
        for name in missing:
            module_name, _, attribute = name.rpartition(".")
            buffer = _initial_buffer(model, name)
            setattr(
                model.get_submodule(module_name), attribute, buffer.to(dtype) if buffer.is_floating_point() else buffer
            )
    assert not any(tensor.is_meta for tensor in [*model.parameters(), *model.buffers()])


def _initial_buffer(model: CNN, name: str) -> torch.Tensor:
    """Returns the initial value of a buffer on the CPU, for which only its block is built."""
    section, index, rest = name.split(".", 2)
    shape, offset = model.spec.input if section == "features" else model._features_shape, int(index)
    for block in getattr(model.spec, section):
        with torch.device("meta"):
            (built,) = build_blocks([block], shape, section)
        if offset < len(built.modules):
            break
        shape, offset = built.shape, offset - len(built.modules)
    with torch.device("cpu"), OwnGenerator(0):
        module: nn.Module = block.build(shape)[offset]
    return module.get_buffer(rest)
