"""Saves a network as one file or as a folder, and builds it again from nothing else."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from typing import Any

import torch

from cnnzoo.device import pick_device
from cnnzoo.errors import FileError, InputError, SpecError, UnknownNameError, WeightsError
from cnnzoo.network import CNN, FORMAT_VERSION, with_seed
from cnnzoo.spec import Spec
from cnnzoo.tensorfiles import (
    CONFIG,
    DTYPES,
    KEY,
    WEIGHTS,
    exists,
    load_tensors,
    read_header,
    read_json,
    save_model,
    weights_sha256,
)


def save(model: CNN, path: str | PathLike[str], *, overwrite: bool = False) -> Path:
    """Saves a network so that ``load`` needs nothing else.

    Args:
        model: A network of the zoo.
        path: A file name that ends in ``.safetensors``, or a folder (config.json and model.safetensors).
        overwrite: Whether what is there may be replaced.

    Returns:
        Where it was saved.

    Raises:
        InputError: If the model is none that can describe itself.
        FileError: If something is there already, or it cannot be written.
    """
    if not isinstance(model, CNN):
        raise InputError(f"save takes a network of the zoo, not {type(model).__name__}; build it with cnnzoo.create")
    target = Path(path)
    held = [target] if target.suffix == ".safetensors" else [target / CONFIG, target / WEIGHTS]
    there = [str(file) for file in held if exists(file)]
    if there and not overwrite:
        raise FileError(f"{' and '.join(there)} exists already; name another place, or say overwrite=True")
    if target.suffix != ".safetensors" and target.is_file():
        raise FileError(f"{target} is a file; a single file of weights ends in .safetensors")
    save_model(target, model.state_dict(), model.describe())
    return target


def build(description: Mapping[str, Any]) -> CNN:
    """A network as a description says, with fresh weights on the current default device.

    Args:
        description: What ``CNN.describe()`` says, as config.json holds it.

    Raises:
        WeightsError: If it is no description, or of a format that this version does not know.
    """
    inner = description.get(KEY)
    if not isinstance(inner, dict):
        raise WeightsError(
            f"there is no description of a network under {KEY!r}; build it yourself and load the tensors"
        )
    version = inner.get("format_version")
    if version != FORMAT_VERSION:
        raise WeightsError(
            f"the description has format_version {version!r}; this cnnzoo reads {FORMAT_VERSION}; install a newer one"
        )
    try:
        model = CNN(Spec.from_dict(inner.get("spec")))
    except (SpecError, UnknownNameError, InputError) as problem:
        raise WeightsError(f"the description is of no network that can be built: {problem}") from None
    told = description.get("pretrained_cfg")
    told = told if isinstance(told, dict) else {}
    for name in ("mean", "std"):
        values = told.get(name)
        fits = isinstance(values, list) and len(values) == model.spec.input[0]
        if values is not None and not (fits and all(_is_moment(value, name) for value in values)):
            raise WeightsError(f"{name} is {values!r}, and must be a number for each of {model.spec.input[0]} channels")
    notes = {
        "label_names": description.get("label_names"),
        "mean": told.get("mean"),
        "std": told.get("std"),
        "provenance": inner.get("provenance"),
    }
    model.notes.update({name: value for name, value in notes.items() if value is not None})
    return model


def _is_moment(value: object, name: str) -> bool:
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        return False
    return abs(value) < 1e6 and (name == "mean" or value > 0)


def load(path: str | PathLike[str], *, device: str | torch.device | None = None) -> CNN:
    """Builds the network that a file or folder describes, with its weights.

    Args:
        path: What ``save`` or a training run left: a ``.safetensors`` file, or a folder.
        device: Where the weights go; the default is the CPU, ``"auto"`` a GPU where there is one.

    Returns:
        The network in train mode, as torch does; call ``eval()`` before you use its scores.

    Raises:
        FileError: If the path does not exist.
        WeightsError: If the file is damaged, does not describe a network, or its tensors do not fit it.
    """
    given = Path(path)
    if not exists(given):
        raise FileError(f"{given} does not exist")
    file = given / WEIGHTS if given.is_dir() else given
    tensors, about = read_header(file)
    if given.is_dir() and (given / CONFIG).exists():
        config = read_json(given / CONFIG)
        if not about:
            about = config
        elif _checksum(config) != _checksum(about):
            # a kill between the two writes; the weights file is whole and describes itself
            warnings.warn(
                f"{given / CONFIG} is not that of {WEIGHTS} beside it; the weights file is used", stacklevel=2
            )
    try:
        with torch.device("meta"):
            model = build(about)
    except WeightsError as problem:
        raise WeightsError(f"{file}: {problem}") from None
    aliases = about.get("aliases", {})
    if not isinstance(aliases, dict) or not all(isinstance(of, str) and of in tensors for of in aliases.values()):
        raise WeightsError(f"{file}: the aliases in its header are not those of its tensors")
    names = {*tensors, *aliases}
    require_fit(str(file), {name: tensors[aliases.get(name, name)] for name in names}, kinds_of(model.state_dict()))
    state = load_tensors(file)
    if (noted := _checksum(about)) not in (None, found := weights_sha256(state)):
        raise WeightsError(f"{file}: the weights have checksum {found}, and {noted} is written; the file is damaged")
    assign(model, state)
    return model if device is None else model.to(pick_device(str(device)))


def assign(model: CNN, state: Mapping[str, torch.Tensor]) -> None:
    """Gives a network on the meta device its weights, and makes the buffers that are no part of them."""
    model.load_state_dict(state, assign=True)
    if left := [name for name, buffer in model.named_buffers() if buffer.is_meta]:
        fresh = with_seed(model.spec, 0)
        for name in left:
            place, _, attribute = name.rpartition(".")
            setattr(model.get_submodule(place), attribute, fresh.get_buffer(name))
    assert not any(tensor.is_meta for tensor in [*model.parameters(), *model.buffers()])


def _checksum(description: Mapping[str, Any]) -> Any:
    inner = description.get(KEY)
    return inner.get("weights_sha256") if isinstance(inner, dict) else None


Kind = tuple[str, tuple[int, ...]]  # type and shape of a tensor


def kinds_of(state: Mapping[str, torch.Tensor]) -> dict[str, Kind]:
    """Name -> type and shape of each tensor."""
    return {name: (DTYPES.get(t.dtype, str(t.dtype)), tuple(t.shape)) for name, t in state.items()}


def require_fit(source: str, held: Mapping[str, Kind], wanted: Mapping[str, Kind]) -> None:
    """Every tensor that does not fit, in one error.

    Args:
        source: Where the tensors come from.
        held: What is there.
        wanted: What the network needs.

    Raises:
        WeightsError: If they differ in names or shapes.
    """

    def shown(tensor: Kind | None) -> str:
        return "none" if tensor is None else f"{tensor[1]} {tensor[0]}"

    unfit = [
        f"{name}: file {shown(held.get(name))}, model {shown(wanted.get(name))}"
        for name in sorted({*held, *wanted})
        if name not in held or name not in wanted or held[name][1] != wanted[name][1]
    ]
    if unfit:
        raise WeightsError(f"{source}: {len(unfit)} tensors do not fit the network: {'; '.join(unfit)}")
