"""Where tensors live, by name."""

from __future__ import annotations

import torch

from cnnzoo.errors import InputError


def pick_device(name: str) -> torch.device:
    """The device of that name; ``"auto"`` is a GPU where there is one, else the CPU.

    Raises:
        InputError: If there is no such device here.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as problem:
        reason = next(iter(str(problem).splitlines()), "")
        raise InputError(f"there is no device {name!r} here ({reason}); use 'auto' or 'cpu'") from None
    return device
