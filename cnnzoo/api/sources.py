"""Networks from names, Specs, files and repositories, with their weights."""

from __future__ import annotations

from os import PathLike
from pathlib import Path
from typing import Any

import torch
from torch import nn

from cnnzoo import weights
from cnnzoo.api.specs import Source, is_saved, resolve, split_knobs
from cnnzoo.device import resolve_device
from cnnzoo.edits import apply_knobs
from cnnzoo.errors import InputError
from cnnzoo.files import exists
from cnnzoo.metadata import require_preprocessing
from cnnzoo.modules import unwrap
from cnnzoo.network import CNN, build_network
from cnnzoo.preprocessing import Preprocessing
from cnnzoo.registry import is_model
from cnnzoo.spec import Spec


def create(
    source: Source,
    /,
    *,
    seed: int | None = None,
    device: str | torch.device | None = None,
    dtype: torch.dtype | None = None,
    pretrained: bool | str | PathLike[str] | None = None,
    revision: str | None = None,
    token: str | bool | None = None,
    endpoint: str | None = None,
    cache_dir: str | PathLike[str] | None = None,
    new_channels: str | None = None,
    **knobs: Any,
) -> CNN:
    """Builds a network.

    A saved network, or one with ``pretrained=``, has its trained weights and is in eval mode; if the knobs set other
    ``num_classes`` or ``in_channels``, they are adapted, and a warning describes how. Otherwise the weights are random,
    and the network is in train mode, like any new module.

    Args:
        source: A registered name, also with knobs, ``"lenet(activation=relu)"``; a Spec; or a saved network: a file, a
            folder, ``hf://user/repo@revision``.
        seed: Seed of the initial weights, the same on every device; the caller's random state is not changed. By
            default they are drawn from that state.
        device: The device of the weights.
        dtype: The dtype of the weights.
        pretrained: For a name: True for the weights that ship with cnnzoo, or a tag of weights that are downloaded,
            such as ``"torchvision"`` or ``"torchvision.IMAGENET1K_V2"`` (``cnnzoo.list_pretrained()`` lists them), or a
            file with a state dict (``.safetensors``, ``.pth``; see ``cnnzoo.weights.load_state_dict``), whose number of
            classes and channels the network then has, unless the knobs set others.
        revision: For the Hub: a branch, tag or commit.
        token: For the Hub: an access token; by default that of your login, or ``HF_TOKEN``.
        endpoint: For the Hub: its address; by default ``HF_ENDPOINT``.
        cache_dir: For the Hub: the folder for downloaded files; by default the Hub's cache.
        new_channels: For trained weights and more channels than before: filters of the added channels, ``"zero"`` (the
            default) or ``"mean"`` of the others (see ``cnnzoo.weights.adapt``).
        **knobs: Parameters of the model function, or the generic knobs of every network: ``num_classes``,
            ``in_channels``, ``image_size``, ``activation``, ``norm``, ``pooling``, ``dropout``, ``width``.

    Raises:
        UnknownNameError: If the name, or a knob, is not known.
        SpecError: If the network cannot be built, for example if the images are too small.
        FileError: If weights cannot be read or downloaded.
        HubError: If a repository on the Hub cannot be read.
        WeightsError: If the weights do not fit the network.
        InputError: If an argument is invalid or does not apply to ``source``, or the device does not exist.
    """
    source, knobs = split_knobs(source, knobs)
    hub: dict[str, Any] = {"revision": revision, "token": token, "endpoint": endpoint, "cache_dir": cache_dir}
    saved = is_saved(source)
    if saved and pretrained:
        raise InputError(f"{str(source)!r} is a saved network with weights; leave out pretrained=")
    if not saved and (hub_arguments := [name for name, value in hub.items() if value is not None]):
        raise InputError(f"{', '.join(hub_arguments)}= is for the Hub; name a repository, such as 'hf://user/repo'")
    if new_channels is not None and not (saved or pretrained):
        raise InputError("new_channels= is for trained weights; pass pretrained=, or a saved network")
    if dtype is not None and not isinstance(dtype, torch.dtype):
        raise InputError(f"dtype must be a torch.dtype, such as torch.float64, not {dtype!r}")
    if seed is not None and type(seed) is not int:
        raise InputError(f"seed must be an integer or None, not {seed!r}")
    target = None if device is None else resolve_device(str(device))
    if target is not None and target.type == "meta":
        if pretrained or saved:
            raise InputError("the meta device holds no weights; leave out pretrained= or device='meta'")
        with target:
            model = CNN(resolve(source, **knobs))
    else:
        if saved:
            assert not isinstance(source, Spec)
            trained = weights.load(source, **hub)
            model = weights.adapt(
                trained, apply_knobs(trained.spec, **knobs), seed, new_channels=new_channels or "zero"
            )
        elif pretrained:
            others = {knob: value for knob, value in knobs.items() if knob not in ("num_classes", "in_channels")}
            spec = resolve(source, **others)
            if weights.is_state_file(pretrained):
                trained = weights.load_foreign_file(spec, Path(pretrained))  # type: ignore[arg-type]
                ends = {"num_classes": trained.spec.num_classes, "in_channels": trained.spec.input[0]}
                knobs = {**{knob: value for knob, value in ends.items() if value is not None}, **knobs}
            else:
                trained = weights.find_pretrained(spec.name, pretrained).load(spec, seed)  # type: ignore[arg-type]
            model = weights.adapt(trained, resolve(source, **knobs), seed, new_channels=new_channels or "zero")
        else:
            # drawn on the CPU, so that the weights are the same on every device
            model = build_network(resolve(source, **knobs), seed)
        if saved or pretrained:
            model.eval()
        if target is not None:
            model = model.to(target)
    if dtype is not None:
        metadata = model.metadata
        model = model.to(dtype)
        model.metadata = metadata  # of the converted weights
    return model


def load_network(model: nn.Module | str | PathLike[str]) -> nn.Module:
    """Returns a module itself; loads a path, or a name whose weights ship with cnnzoo.

    Raises:
        InputError: If ``model`` is something else, or no weights of that name ship.
        FileError: If the file cannot be read.
    """
    if isinstance(model, nn.Module):
        return model
    if isinstance(model, str) and is_model(model) and not exists(Path(model)):
        return create(model, pretrained=True)
    if not isinstance(model, (str, PathLike)):
        raise InputError(f"expected an nn.Module, a path or a name; got {type(model).__name__}")
    return weights.load(model)


def name_of(model: nn.Module) -> str:
    """Returns the name of a module in messages and tables: that of its Spec, or of its class."""
    inner = unwrap(model)
    return inner.spec.name if isinstance(inner, CNN) else type(inner).__name__


def image_shape(model: nn.Module, preprocessing: Preprocessing | None) -> tuple[int, int, int]:
    """Returns the shape (C, H, W) of the images of a module, from its Spec or its preprocessing.

    Raises:
        InputError: If it is not known.
    """
    inner = unwrap(model)
    if isinstance(inner, CNN):
        return inner.spec.input
    images = require_preprocessing(inner, name_of(model), preprocessing)
    return (images.channels, *images.size)
