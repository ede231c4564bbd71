"""State dicts for the same networks in torchvision and timm."""

from __future__ import annotations

import re
from collections.abc import Mapping
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import nn

from cnnzoo.errors import InputError
from cnnzoo.network import CNN
from cnnzoo.registry import get_spec
from cnnzoo.serialization import load_tensors, save_tensors
from cnnzoo.weights.key_maps import TIMM_VGG, twin_keys
from cnnzoo.weights.state_dict import require_compatible, tensor_infos
from cnnzoo.weights.torchvision import require_twin

LIBRARIES = ("torchvision", "timm")

_IN_TIMM = r"resnet\d+|densenet\d+|vgg\d+(_bn)?"


def twin_state_dict(model: CNN, library: str) -> dict[str, torch.Tensor]:
    """Returns the weights of a network under the names of the same network in a library.

    Args:
        model: A network with a twin in torchvision.
        library: ``"torchvision"`` or ``"timm"``.

    Raises:
        InputError: If the library does not have the network, or its blocks were edited.
        WeightsError: If the library's network has other weights.
    """
    twin = require_twin(model)
    _require_unedited(model)
    keys = twin_keys(model)
    state = {keys[key]: tensor.detach() for key, tensor in model.state_dict().items()}
    if library == "timm":
        if not re.fullmatch(_IN_TIMM, twin.name):
            raise InputError(
                f"timm has no {twin.name}; it has the ResNets, VGGs and DenseNets: use library='torchvision'"
            )
        state = {_timm_key(key): tensor for key, tensor in state.items()}
        state = {key: _timm_shape(key, tensor) for key, tensor in state.items()}
    if (network := build_twin(model, library)) is not None:
        require_compatible(
            f"{model.spec.name} as {library}'s {twin.name}", tensor_infos(state), tensor_infos(network.state_dict())
        )
    return state


def _require_unedited(model: CNN) -> None:
    """Raises InputError if the blocks of a network are not those that are registered under its name."""
    spec = model.spec
    channels, height, width = spec.input
    sizes = {"num_classes": spec.num_classes, "in_channels": channels, "image_size": height}
    if height != width or get_spec(spec.name, **sizes) != spec:
        raise InputError(
            f"this {spec.name} was edited, and is not that of torchvision and timm any more: see "
            f"cnnzoo.diff({spec.name!r}, model); export it to *.py, *.onnx or *.pt2"
        )


def build_twin(model: CNN, library: str) -> nn.Module | None:
    """Returns the same network in a library, on the meta device; None if timm is not installed."""
    twin = require_twin(model)
    with torch.device("meta"):
        if library == "timm":
            if find_spec("timm") is None:
                return None
            timm: Any = import_module("timm")
            network: nn.Module = timm.create_model(
                twin.name, num_classes=model.spec.num_classes, in_chans=model.spec.input[0]
            )
            return network
        from torchvision.models import get_model

        # without the auxiliary classifiers of GoogLeNet
        options: dict[str, Any] = {"aux_logits": False, "init_weights": False} if twin.skipped else {}
        network = get_model(twin.name, weights=None, num_classes=model.spec.num_classes, **options)
        return network


def _timm_key(key: str) -> str:
    """Returns timm's state-dict key for one of torchvision."""
    for timm, torchvision in TIMM_VGG.items():
        if key.startswith(torchvision):
            return timm + key.removeprefix(torchvision)
    return key


def _timm_shape(key: str, tensor: torch.Tensor) -> torch.Tensor:
    """Returns a weight in timm's shape: its VGGs have convolutions in place of the hidden dense layers."""
    if key == "pre_logits.fc1.weight":
        return tensor.reshape(tensor.shape[0], -1, 7, 7)
    return tensor[:, :, None, None] if key == "pre_logits.fc2.weight" else tensor


# --- files ---


def write_state_dict(path: Path, state: Mapping[str, torch.Tensor]) -> None:
    """Writes a state dict: ``.safetensors``, or ``.pth`` by ``torch.save``."""
    if path.suffix == ".pth":
        torch.save({key: tensor.cpu().contiguous() for key, tensor in state.items()}, path)
    else:
        save_tensors(path, state)


def read_state_dict(path: Path) -> dict[str, torch.Tensor]:
    """Returns the tensors of such a file."""
    if path.suffix == ".pth":
        state: dict[str, torch.Tensor] = torch.load(path, weights_only=True)
        return state
    return load_tensors(path)
