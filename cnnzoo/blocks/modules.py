"""The modules of blocks that torch has not."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import fx, nn

from cnnzoo.errors import InputError


class ScaledTanh(nn.Module):
    """``1.7159 * tanh(2 x / 3)``, the squashing function of LeCun, Bottou, Bengio, Haffner 1998 (appendix A)."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Applies the function to a tensor of any shape."""
        return 1.7159 * torch.tanh(x * (2 / 3))


class Branches(nn.ModuleList):
    """Parallel paths that take the same input, and whose outputs are merged.

    Args:
        paths: The paths; an empty one is the identity.
        merge: ``"concat"`` (along the channels) or ``"add"``.
    """

    def __init__(self, paths: Sequence[nn.Module], merge: str) -> None:
        super().__init__(paths)
        self.merge = merge

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Returns the merged outputs of the paths for an input (N, C, H, W)."""
        return self.merge_outputs([path(x) if len(path) else x for path in self])  # type: ignore[arg-type]

    def merge_outputs(self, outs: list[torch.Tensor]) -> torch.Tensor:
        """Returns the merged outputs of the paths."""
        if self.merge == "concat":
            return torch.cat(outs, dim=1)
        total = outs[0]
        for out in outs[1:]:
            total = total + out
        return total

    def extra_repr(self) -> str:
        """Returns the kind of merge, for ``print(model)``."""
        return f"merge={self.merge!r}"


class TableConv2d(nn.Module):
    """A convolution with a connection table: each output map is connected to some of the input maps.

    Output maps with the same number of connections are computed by one grouped convolution over gathered input maps, so
    that nothing is computed (and no weight is stored) for a connection that does not exist.

    Args:
        table: For each output map, the indices of its input maps.
        make_conv: Builds the grouped convolutions: ``nn.Conv2d``, or a function with its arguments.
        **settings: Arguments of ``nn.Conv2d`` from ``kernel_size`` on.
    """

    order: torch.Tensor | None

    def __init__(
        self, table: Sequence[Sequence[int]], make_conv: Callable[..., nn.Module] = nn.Conv2d, **settings: Any
    ) -> None:
        super().__init__()
        by_fan_in: dict[int, list[int]] = {}
        for index, inputs in enumerate(table):
            by_fan_in.setdefault(len(inputs), []).append(index)
        self.convs = nn.ModuleList(
            make_conv(fan_in * len(maps), len(maps), groups=len(maps), **settings) for fan_in, maps in by_fan_in.items()
        )
        for number, maps in enumerate(by_fan_in.values()):
            gathered = torch.tensor([i for index in maps for i in table[index]])
            self.register_buffer(f"inputs{number}", gathered, persistent=False)
        computed = [index for maps in by_fan_in.values() for index in maps]  # the order in which maps are computed
        order = None if computed == sorted(computed) else torch.tensor(computed).argsort()
        self.register_buffer("order", order, persistent=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Maps (N, C, H, W) to (N, len(table), H', W')."""
        outs = [conv(x.index_select(1, self.get_buffer(f"inputs{i}"))) for i, conv in enumerate(self.convs)]
        joined = torch.cat(outs, dim=1)
        return joined if self.order is None else joined.index_select(1, self.order)


def add_biases(x: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    """Returns the sum of an input (N, *shape) and biases of that shape; raises InputError if it has another shape."""
    if x.shape[1:] != bias.shape:
        raise InputError(
            f"maps of {tuple(x.shape[1:])} have other units than the biases, {tuple(bias.shape)}: a network with a "
            "bias per unit takes images of one size"
        )
    return x + bias


fx.wrap("add_biases")  # a single node for tracers, since the check depends on the input


class UnitBiases(nn.Module):
    """One bias per unit.

    Args:
        shape: Shape of the input, one sample.
    """

    def __init__(self, shape: Sequence[int]) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(*shape))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Adds the biases to an input (N, *shape).

        Raises:
            InputError: If the input has another shape, as for images of another size.
        """
        return add_biases(x, self.bias)

    def extra_repr(self) -> str:
        """Returns the shape, for ``print(model)``."""
        return str(tuple(self.bias.shape))


class Subsampling(nn.Module):
    """Trainable pooling: the sum of each window, times one coefficient per map, plus one bias per map.

    Args:
        channels: Number of maps.
        kernel_size: Side of the window, or (height, width); windows do not overlap.
    """

    def __init__(self, channels: int, kernel_size: int | tuple[int, int]) -> None:
        super().__init__()
        self.kernel_size = kernel_size
        height, width = (kernel_size, kernel_size) if isinstance(kernel_size, int) else kernel_size
        self.weight = nn.Parameter(torch.full((channels, 1, 1), 1 / (height * width)))  # initially the mean
        self.bias = nn.Parameter(torch.zeros(channels, 1, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Maps (N, C, H, W) to (N, C, H / height, W / width)."""
        height, width = (self.kernel_size,) * 2 if isinstance(self.kernel_size, int) else self.kernel_size
        # the window's sum as its mean times its size: the ONNX exporter ignores divisor_override
        return nn.functional.avg_pool2d(x, self.kernel_size) * (self.weight * (height * width)) + self.bias

    def extra_repr(self) -> str:
        """Returns the settings, for ``print(model)``."""
        return f"{self.weight.shape[0]}, kernel_size={self.kernel_size}"


class RBFUnits(nn.Module):
    """Euclidean radial basis units: a score is minus half the squared distance between a vector and a fixed code.

    Args:
        codes: One code per class, (num_classes, units).
    """

    codes: torch.Tensor

    def __init__(self, codes: torch.Tensor) -> None:
        super().__init__()
        self.register_buffer("codes", codes, persistent=False)  # part of the Spec, not of the weights

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Returns the scores (N, num_classes) of vectors (N, units)."""
        # -|x - c|^2 / 2 = x.c - |x|^2 / 2 - |c|^2 / 2: one matrix product
        return x @ self.codes.T - x.square().sum(1, keepdim=True) / 2 - self.codes.square().sum(1) / 2
