"""The module with parallel paths."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn


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
