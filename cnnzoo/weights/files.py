"""Saves a network as a file or a folder that describes itself, and reads it back."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from os import PathLike
from pathlib import Path
from typing import Any

import torch
from torch import nn

from cnnzoo.device import resolve_device
from cnnzoo.errors import FileError, InputError, WeightsError
from cnnzoo.files import CARD_FILE, CONFIG_FILE, WEIGHTS_FILE, atomic_write, exists, read_json
from cnnzoo.modules import unwrap
from cnnzoo.network import CNN
from cnnzoo.serialization import TensorInfo, iter_tensors, read_aliases, read_header, save_model, weights_sha256
from cnnzoo.spec import Spec
from cnnzoo.weights.description import build_from_description, stored_checksum
from cnnzoo.weights.model_card import make_card
from cnnzoo.weights.state_dict import assign_state_dict, is_finite, require_compatible, tensor_infos


def save(model: nn.Module, path: str | PathLike[str], *, overwrite: bool = False, readme: bool = True) -> Path:
    """Saves a network so that ``load`` needs nothing else.

    Args:
        model: A cnnzoo network; of a compiled one or one in DataParallel, the module inside is saved.
        path: A file name that ends in ``.safetensors``, or a folder (config.json, model.safetensors, and the model card
            as README.md).
        overwrite: Whether existing files may be replaced; an existing README.md is kept without it.
        readme: Whether a folder gets a README.md.

    Returns:
        The path.

    Raises:
        InputError: If the model is not a cnnzoo network, or its modules were changed by hand.
        FileError: If a file exists already or cannot be written.
        WeightsError: If the network is on the meta device, or its provenance cannot be stored as JSON.
    """
    model = unwrap(model) if isinstance(model, nn.Module) else model
    if not isinstance(model, CNN):
        raise InputError(f"save expects a cnnzoo network, not {type(model).__name__}; build it with cnnzoo.create")
    target = Path(path)
    is_file = target.suffix == ".safetensors"
    files = [target] if is_file else [target / CONFIG_FILE, target / WEIGHTS_FILE]
    existing = [str(file) for file in files if exists(file)]
    if existing and not overwrite:
        raise FileError(f"{' and '.join(existing)} exists already; choose another path, or pass overwrite=True")
    if not is_file and target.is_file():
        raise FileError(f"{target} is a file; name a folder, or a file that ends in .safetensors")
    checksum = save_model(target, model.state_dict(), model.describe())
    if not is_file and readme and (overwrite or not exists(target / CARD_FILE)):
        with atomic_write(target / CARD_FILE) as file:
            file.write(make_card(model, checksum).encode())
    return target


def read_model(
    path: Path,
    *,
    device: str | torch.device | None = None,
    dtype: torch.dtype | None = None,
    verify: bool = True,
    mmap: bool = False,
) -> CNN:
    """Builds the network that a file or folder describes, with its weights; see ``load`` for arguments and errors."""
    target_device = require_placement(device, dtype)
    file, infos, description = _read_description(path)
    with torch.device("meta"):
        model = _build(file, description)
    aliases = read_aliases(file, description)
    if missing := [f"{name!r} of {stored!r}" for name, stored in aliases.items() if stored not in infos]:
        raise WeightsError(f"{file}: the aliases in its metadata name tensors that it lacks: {', '.join(missing)}")
    infos = {**infos, **{name: infos[stored] for name, stored in aliases.items()}}
    require_compatible(str(file), infos, tensor_infos(model.state_dict()))
    expected = stored_checksum(description)
    if verify and expected is None:
        raise WeightsError(f"{file} has no checksum of its weights; verify=False accepts a file without one")
    if verify:
        state, checksum = load_with_checksum(file, aliases, mmap=mmap)
        if checksum != expected:
            raise WeightsError(
                f"{file} is damaged: the checksum of its weights is {checksum}, and its description says {expected}; "
                "save or download it again"
            )
    else:
        state = dict(iter_tensors(file, aliases, mmap=mmap))
    metadata = model.metadata
    assign_state_dict(model, state)
    model.to(device=target_device, dtype=dtype)
    model.metadata = metadata
    return model


def require_placement(device: str | torch.device | None, dtype: torch.dtype | None) -> torch.device | None:
    """Returns the device for loaded weights; None for that of the file.

    Raises:
        InputError: If the device holds no weights, or the dtype is not a floating one.
    """
    if dtype is not None and not (isinstance(dtype, torch.dtype) and dtype.is_floating_point):
        raise InputError(f"dtype must be a floating type of torch, such as torch.bfloat16, not {dtype!r}")
    target = None if device is None else resolve_device(str(device))
    if target is not None and target.type == "meta":
        raise InputError("the meta device holds no weights; cnnzoo.get_spec and cnnzoo.count need none")
    return target


def load_with_checksum(file: Path, aliases: Mapping[str, str], *, mmap: bool) -> tuple[dict[str, torch.Tensor], str]:
    """Returns the tensors of a file by name, and their checksum; a warning names those with NaN or infinite values.

    Args:
        file: A safetensors file.
        aliases: What ``read_aliases`` returns of it.
        mmap: As for ``load``.

    Raises:
        FileError: If the file cannot be read.
        WeightsError: If it is not a complete safetensors file.
    """
    state: dict[str, torch.Tensor] = {}
    not_finite: list[str] = []

    def read_tensors() -> Iterator[tuple[str, torch.Tensor]]:
        for name, tensor in iter_tensors(file, aliases, mmap=mmap):
            state[name] = tensor
            yield name, tensor
            if not is_finite(tensor):
                not_finite.append(name)

    checksum = weights_sha256(read_tensors())
    if not_finite:
        warnings.warn(f"{file}: these tensors have NaN or infinite values: {', '.join(not_finite)}", stacklevel=4)
    return state, checksum


def read_spec(path: Path) -> Spec:
    """Returns the Spec that a file or folder describes; a folder needs no weights for it.

    Raises:
        FileError: If the path does not exist.
        WeightsError: If it does not describe a network.
    """
    with torch.device("meta"):
        if path.is_dir() and not exists(path / WEIGHTS_FILE) and exists(path / CONFIG_FILE):
            return _build(path / CONFIG_FILE, read_json(path / CONFIG_FILE)).spec
        file, _, description = _read_description(path)
        return _build(file, description).spec


def _read_description(path: Path) -> tuple[Path, dict[str, TensorInfo], dict[str, Any]]:
    """Returns the weights file of a file or folder, dtype and shape of its tensors, and its description."""
    if not exists(path):
        raise FileError(f"{path} does not exist")
    file = path / WEIGHTS_FILE if path.is_dir() else path
    if path.is_dir() and not exists(file):
        names = sorted(entry.name for entry in path.iterdir())
        raise FileError(
            f"{file} does not exist; the folder holds {', '.join(names[:9]) or 'nothing'}. Name a folder with a "
            f"{WEIGHTS_FILE}, as cnnzoo.save and finished training runs write it; other formats are not read"
        )
    infos, description = read_header(file)
    if path.is_dir() and exists(path / CONFIG_FILE):
        config = read_json(path / CONFIG_FILE)
        if not description:
            description = config
        elif stored_checksum(config) != stored_checksum(description):
            # the process was killed between the two writes; the weights file is complete and describes itself
            warnings.warn(
                f"{path / CONFIG_FILE} does not belong to {WEIGHTS_FILE} beside it; only the weights file is used",
                stacklevel=4,
            )
    return file, infos, description


def _build(file: Path, description: Mapping[str, Any]) -> CNN:
    try:
        return build_from_description(description)
    except WeightsError as error:
        raise WeightsError(f"{file}: {error}") from None
