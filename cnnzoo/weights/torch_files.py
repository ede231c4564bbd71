"""State dicts of others: files of ``torch.save`` and of safetensors, and what is inside them."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from cnnzoo.errors import FileError, WeightsError, warn
from cnnzoo.files import exists, open_regular, os_reason
from cnnzoo.serialization import load_tensors
from cnnzoo.weights.repository import PICKLE_SUFFIXES, STATE_SUFFIXES

_NESTED_KEYS = ("state_dict", "model_state_dict", "model", "net", "network", "weights", "module")


def read_state_dict(path: Path) -> dict[str, torch.Tensor]:
    """Returns the state dict in a file: of safetensors, or of ``torch.save`` with nothing but tensors and plain values.

    Raises:
        FileError: If the file cannot be read, or its suffix is not known.
        WeightsError: If the file is damaged, holds anything else than plain values, or no state dict.
    """
    if not exists(path):
        raise FileError(f"{path} does not exist")
    if path.suffix == ".safetensors":
        return open_state_dict(load_tensors(path), str(path))
    if path.suffix not in PICKLE_SUFFIXES:
        raise FileError(f"{path}: the suffix of a state dict must be one of {', '.join(STATE_SUFFIXES)}")
    try:
        with open_regular(path) as file:
            start = file.read(9)
        if not start.startswith((b"PK\x03\x04", b"\x80")):  # zip, or the older format
            what = "a safetensors file; name it *.safetensors" if start[8:9] == b"{" else "no file of torch.save"
            raise WeightsError(f"{path} is {what}")
        # weights_only: refuses a pickle that holds anything but tensors and plain values
        content = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise FileError(f"{path} cannot be read: {os_reason(error)}") from None
    except pickle.UnpicklingError as error:
        reason = next((line for line in str(error).splitlines() if "GLOBAL" in line or "global" in line), "")
        raise WeightsError(
            f"{path} is a pickle with more than tensors, which could run any code, and is not opened"
            f"{f' ({reason.strip()[:300]})' if reason else ''}. Where it was written, save the state dict alone: "
            "torch.save(model.state_dict(), ...)"
        ) from None
    except (RuntimeError, ValueError, EOFError, KeyError, AttributeError, TypeError, IndexError) as error:
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise WeightsError(f"{path} is damaged or no file of torch.save: {reason}; save or download it again") from None
    return open_state_dict(content, str(path))


def open_state_dict(content: Any, source: str) -> dict[str, torch.Tensor]:
    """Returns the state dict that a value is or holds; a warning says which, and what is left out.

    Args:
        content: A state dict, or a checkpoint with one inside: ``{"state_dict": ...}``, ``{"model": ...}``.
        source: Where it comes from, for messages.

    Raises:
        WeightsError: If there is none, or it holds something else than tensors.
    """
    if not isinstance(content, Mapping):
        raise WeightsError(f"{source} holds a {type(content).__name__}, not a state dict, name -> tensor")
    if any(isinstance(value, torch.Tensor) for value in content.values()):
        others = [str(name) for name, value in content.items() if not isinstance(value, torch.Tensor)]
        if others or not all(isinstance(name, str) for name in content):
            raise WeightsError(f"{source}: these entries are no tensors: {', '.join(others[:9]) or 'names'}")
        return dict(content)
    nested = {name: value for name, value in content.items() if _is_state_dict(value)}
    name = next((name for name in _NESTED_KEYS if name in nested), None)
    if name is None:
        names = ", ".join(f"{name!s:.60} ({type(value).__name__})" for name, value in list(content.items())[:9])
        hint = f"; pass one of these: {', '.join(map(repr, nested))}" if nested else ""
        raise WeightsError(f"{source} holds no state dict: it has {names or 'nothing'}{hint}")
    others = [str(other) for other in content if other != name]
    warn(
        f"{source}: the state dict under {name!r} is read" + (f", not {', '.join(others[:9])}" if others else ""),
        stacklevel=4,
    )
    return open_state_dict(nested[name], f"{source}, {name!r}")


def _is_state_dict(value: Any) -> bool:
    return isinstance(value, Mapping) and any(isinstance(item, torch.Tensor) for item in value.values())
