"""Saves a network as one file or as a folder, and builds it again from nothing else."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from os import PathLike
from pathlib import Path
from typing import Any

import torch
from torch import nn

from cnnzoo.device import resolve_device
from cnnzoo.errors import FileError, InputError, SpecError, UnknownNameError, WeightsError
from cnnzoo.network import CNN, CROP_MODES, FORMAT_VERSION, build_network
from cnnzoo.serialization import (
    CONFIG_FILE,
    DTYPES,
    METADATA_KEY,
    WEIGHTS_FILE,
    TensorInfo,
    atomic_write,
    exists,
    iter_tensors,
    read_aliases,
    read_header,
    read_json,
    save_model,
    weights_sha256,
)
from cnnzoo.spec import Spec
from cnnzoo.weights.model_card import CARD, card


def save(model: CNN, path: str | PathLike[str], *, overwrite: bool = False, readme: bool = True) -> Path:
    """Saves a network so that ``load`` needs nothing else.

    Args:
        model: A network of the zoo.
        path: A file name that ends in ``.safetensors``, or a folder (config.json, model.safetensors and a README.md,
            which is the model's card).
        overwrite: Whether what is there may be replaced; without it a README.md that is there is kept.
        readme: Whether a folder gets a README.md.

    Returns:
        Where it was saved.

    Raises:
        InputError: If the model is none that can describe itself.
        FileError: If something is there already, or it cannot be written.
    """
    if not isinstance(model, CNN):
        raise InputError(f"save takes a network of the zoo, not {type(model).__name__}; build it with cnnzoo.create")
    target = Path(path)
    single = target.suffix == ".safetensors"
    held = [target] if single else [target / CONFIG_FILE, target / WEIGHTS_FILE]
    there = [str(file) for file in held if exists(file)]
    if there and not overwrite:
        raise FileError(f"{' and '.join(there)} exists already; name another place, or say overwrite=True")
    if not single and target.is_file():
        raise FileError(f"{target} is a file; a single file of weights ends in .safetensors")
    checksum = save_model(target, model.state_dict(), model.describe())
    if not single and readme and (overwrite or not exists(target / CARD)):
        with atomic_write(target / CARD) as file:
            file.write(card(model, checksum).encode())
    return target


def build(description: Mapping[str, Any]) -> CNN:
    """A network as a description says, with fresh weights on the current default device.

    Args:
        description: What ``CNN.describe()`` says, as config.json holds it.

    Raises:
        WeightsError: If it is no description, or of a format that this version does not know.
    """
    inner = description.get(METADATA_KEY)
    if not isinstance(inner, dict) or not {"spec", "format_version"} & set(inner):
        raise WeightsError(
            f"there is no description of a network under {METADATA_KEY!r}; build it yourself and load the tensors, which "
            "safetensors.torch.load_file reads"
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
    labels, crop, mode = description.get("label_names"), told.get("crop_pct"), told.get("crop_mode")
    fits_of = {theirs: ours for ours, theirs in CROP_MODES.items()}
    if mode is not None and mode not in fits_of:
        raise WeightsError(f"crop_mode must be one of {', '.join(fits_of)}, not {mode!r}")
    if labels is not None and not (isinstance(labels, list) and all(isinstance(label, str) for label in labels)):
        raise WeightsError(f"label_names must be a list of words, not {labels!r}")
    if crop is not None and not (isinstance(crop, (int, float)) and 0 < crop <= 1):
        raise WeightsError(f"crop_pct must be a number above 0 and at most 1, not {crop!r}")
    notes = {
        "label_names": labels,
        "crop_mode": fits_of.get(str(mode)),
        "crop_pct": crop,
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


def read(
    path: Path,
    *,
    device: str | torch.device | None = None,
    dtype: torch.dtype | None = None,
    verify: bool = True,
    mmap: bool = False,
) -> CNN:
    """Builds the network that a file or folder describes, with its weights; ``load`` says what the arguments are."""
    if dtype is not None and not (isinstance(dtype, torch.dtype) and dtype.is_floating_point):
        raise InputError(f"dtype must be a floating type of torch, such as torch.bfloat16, not {dtype!r}")
    place = None if device is None else resolve_device(str(device))
    if place is not None and place.type == "meta":
        raise InputError("the meta device holds no weights; cnnzoo.get_spec and cnnzoo.count need none")
    file, tensors, about = _described(path)
    with torch.device("meta"):
        model = _built(file, about)
    aliases = read_aliases(file, about)
    if lost := [f"{name!r} of {of!r}" for name, of in aliases.items() if of not in tensors]:
        raise WeightsError(f"{file}: the aliases in its header are not those of its tensors: {', '.join(lost)}")
    held = {**tensors, **{name: tensors[of] for name, of in aliases.items()}}
    require_compatible(str(file), held, tensor_infos(model.state_dict()))
    noted = _checksum(about)
    if verify and noted is None:
        raise WeightsError(f"{file} says no checksum of its weights; verify=False loads it all the same")
    if verify:
        state, found = summed(file, aliases, mmap=mmap)
        if found != noted:
            raise WeightsError(
                f"{file} is damaged: its weights have checksum {found}, and {noted} is written; save or fetch it again"
            )
    else:
        state = dict(iter_tensors(file, aliases, mmap=mmap))
    assign(model, state)
    if place is not None:
        model = model.to(place)
    return model if dtype is None else model.to(dtype)


def summed(file: Path, aliases: Mapping[str, str], *, mmap: bool) -> tuple[dict[str, torch.Tensor], str]:
    """The tensors of a file with their checksum; a warning names those whose values are not all numbers."""
    state: dict[str, torch.Tensor] = {}
    unreal: list[str] = []

    def each() -> Iterator[tuple[str, torch.Tensor]]:
        for name, tensor in iter_tensors(file, aliases, mmap=mmap):
            state[name] = tensor
            yield name, tensor
            # the sum is quick, and no number where one of them is none (or where halves add up to too much)
            if tensor.is_floating_point() and not tensor.sum().isfinite() and not tensor.isfinite().all():
                unreal.append(name)

    found = weights_sha256(each())
    if unreal:
        warnings.warn(f"{file}: not all values are numbers (NaN or infinite): {', '.join(unreal)}", stacklevel=4)
    return state, found


def read_spec(path: Path) -> Spec:
    """The Spec that a file or folder describes; a folder needs no weights for it.

    Raises:
        FileError: If the path does not exist.
        WeightsError: If it does not describe a network.
    """
    with torch.device("meta"):
        if path.is_dir() and not exists(path / WEIGHTS_FILE) and exists(path / CONFIG_FILE):
            return _built(path / CONFIG_FILE, read_json(path / CONFIG_FILE)).spec
        file, _, about = _described(path)
        return _built(file, about).spec


def _described(path: Path) -> tuple[Path, dict[str, TensorInfo], dict[str, Any]]:
    """The weights file of a file or folder, what it holds, and what is said of it there."""
    if not exists(path):
        raise FileError(f"{path} does not exist")
    file = path / WEIGHTS_FILE if path.is_dir() else path
    if path.is_dir() and not exists(file):
        others = sorted(other.name for other in path.iterdir())
        raise FileError(
            f"{file} does not exist; the folder holds {', '.join(others[:9]) or 'nothing'}. A folder that "
            f"cnnzoo.save or a finished training run left has a {WEIGHTS_FILE}; other formats are not read"
        )
    tensors, about = read_header(file)
    if path.is_dir() and exists(path / CONFIG_FILE):
        config = read_json(path / CONFIG_FILE)
        if not about:
            about = config
        elif _checksum(config) != _checksum(about):
            # a kill between the two writes; the weights file is whole and describes itself
            warnings.warn(
                f"{path / CONFIG_FILE} is not that of {WEIGHTS_FILE} beside it; the weights file is used", stacklevel=4
            )
    return file, tensors, about


def _built(file: Path, about: Mapping[str, Any]) -> CNN:
    try:
        return build(about)
    except WeightsError as problem:
        raise WeightsError(f"{file}: {problem}") from None


def assign(model: CNN, state: Mapping[str, torch.Tensor]) -> None:
    """Gives a network on the meta device its weights, and makes the buffers that are no part of them.

    A tensor that stands under several names becomes one parameter.
    """
    made: dict[int, nn.Parameter] = {}
    wanted = {name: parameter.requires_grad for name, parameter in model.named_parameters(remove_duplicate=False)}
    given = {
        name: made.setdefault(id(tensor), nn.Parameter(tensor, wanted[name])) if name in wanted else tensor
        for name, tensor in state.items()
    }
    model.load_state_dict(given, assign=True)
    if left := [name for name, buffer in model.named_buffers() if buffer.is_meta]:
        fresh = build_network(model.spec, 0)
        for name in left:
            place, _, attribute = name.rpartition(".")
            setattr(model.get_submodule(place), attribute, fresh.get_buffer(name))
    assert not any(tensor.is_meta for tensor in [*model.parameters(), *model.buffers()])


def _checksum(description: Mapping[str, Any]) -> Any:
    inner = description.get(METADATA_KEY)
    return inner.get("weights_sha256") if isinstance(inner, dict) else None


def tensor_infos(state: Mapping[str, torch.Tensor]) -> dict[str, TensorInfo]:
    """Name -> type and shape of each tensor."""
    return {name: (DTYPES.get(t.dtype, str(t.dtype)), tuple(t.shape)) for name, t in state.items()}


_FLOATING = {word for dtype, word in DTYPES.items() if dtype.is_floating_point}


def require_compatible(source: str, held: Mapping[str, TensorInfo], wanted: Mapping[str, TensorInfo]) -> None:
    """Every tensor that does not fit, in one error.

    Any floating type fits any other: a network in half precision is read as one.

    Args:
        source: Where the tensors come from.
        held: What is there.
        wanted: What the network needs.

    Raises:
        WeightsError: If they differ in names, shapes or sorts of number.
    """

    def like(tensor: TensorInfo | None) -> object:
        return None if tensor is None else ("F" if tensor[0] in _FLOATING else tensor[0], tensor[1])

    def shown(tensor: TensorInfo | None) -> str:
        return "none" if tensor is None else f"{tensor[1]} {tensor[0]}"

    unfit = [
        f"{name}: file {shown(held.get(name))}, model {shown(wanted.get(name))}"
        for name in sorted({*held, *wanted})
        if like(held.get(name)) != like(wanted.get(name))
    ]
    if unfit:
        raise WeightsError(f"{source}: {len(unfit)} tensors do not fit the network: {'; '.join(unfit)}")
