"""Loads torchvision's weights into cnnzoo's networks: state dicts of their twins, and the downloads for ImageNet."""

from __future__ import annotations

import hashlib
import os
import re
import sys
import warnings
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import nn

from cnnzoo.errors import FileError, InputError, WeightsError
from cnnzoo.metadata import Metadata
from cnnzoo.network import CNN, label_of
from cnnzoo.preprocessing import Preprocessing
from cnnzoo.published import Twin
from cnnzoo.registry import get_entry, is_model, list_models
from cnnzoo.weights.state_dict import require_compatible, tensor_infos

# the names of layers with weights in the patterns of Twin.keys
_LAYER_NAMES = ((nn.Conv2d, "conv"), (nn.Linear, "linear"), (nn.BatchNorm2d, "norm"))


def load_torchvision(model: CNN, state_dict: Mapping[str, torch.Tensor]) -> None:
    """Loads the state dict of a torchvision model into the cnnzoo network that equals it.

    Args:
        model: A network with a twin in torchvision; it is changed.
        state_dict: The state dict of the twin.

    Raises:
        InputError: If the network has no twin, or ``state_dict`` is not a state dict.
        WeightsError: If tensors do not fit; the error lists all of them.
    """
    twin = require_twin(model)
    if not isinstance(state_dict, Mapping) or not all(isinstance(t, torch.Tensor) for t in state_dict.values()):
        raise InputError(
            "load_torchvision expects a state dict, name -> tensor, such as torchvision.models.resnet18().state_dict()"
        )
    keys = {key: twin_key(model, key, twin.keys) for key in model.state_dict()}
    expected = {keys[key]: info for key, info in tensor_infos(model.state_dict()).items()}
    infos = {key: info for key, info in tensor_infos(state_dict).items() if key.split(".")[0] not in twin.skipped}
    require_compatible(f"weights of torchvision's {twin.name}", infos, expected)
    if len(infos) < len(state_dict):
        warnings.warn(
            f"{model.spec.name} has no {', '.join(twin.skipped)}; these weights of torchvision's {twin.name} are not "
            "loaded",
            stacklevel=2,
        )
    model.load_state_dict({key: state_dict[torchvision_key] for key, torchvision_key in keys.items()})


def twin_key(model: CNN, key: str, patterns: Mapping[str, str]) -> str:
    """Returns the state-dict key in torchvision of a key of ours; ``patterns`` are ``Twin.keys``."""
    if not patterns:
        return key
    module_name, _, attribute = key.rpartition(".")
    module = model.get_submodule(module_name)
    layer = next((name for cls, name in _LAYER_NAMES if isinstance(module, cls)), type(module).__name__)
    name = f"{label_of(model, key)}:{layer}.{attribute}"
    for pattern, replacement in patterns.items():
        name = re.sub(pattern, replacement, name)
    return name


def fetch_torchvision(model: CNN) -> None:
    """Downloads the weights that torchvision trained on ImageNet (V1), and loads them into a network.

    Label names, preprocessing and provenance go into the network's metadata.

    Args:
        model: A network with a twin in torchvision, for 3 channels and 1000 classes; it is changed.

    Raises:
        InputError: If the network has no twin.
        FileError: If the weights cannot be downloaded.
        WeightsError: If the download is damaged, or does not fit.
    """
    from torchvision.models import get_model_weights

    twin = require_twin(model)
    weights = get_model_weights(twin.name)["IMAGENET1K_V1"]
    name = os.path.basename(weights.url)
    file = Path(torch.hub.get_dir()) / "checkpoints" / name
    if file.exists() and not hashlib.sha256(file.read_bytes()).hexdigest().startswith(_checksum_in(name)):
        raise WeightsError(
            f"{file} is damaged: its checksum is not the one in its name; delete the file, and it is downloaded again"
        )
    try:
        # weights_only: refuses a pickle that holds anything but tensors
        state = weights.get_state_dict(progress=sys.stderr.isatty(), check_hash=True, weights_only=True)
    except OSError as error:  # includes those of urllib
        raise FileError(
            f"{weights} could not be downloaded from {weights.url} ({error}); check the network connection, or put the "
            f"file at {file}"
        ) from None
    except RuntimeError as error:
        raise WeightsError(f"the download of {weights} from {weights.url} is damaged: {error}; try again") from None
    load_torchvision(model, state)
    preset = weights.transforms()
    mean, std = preset.mean, preset.std
    if twin.mean_std is not None:
        mean, std = ([value] * model.spec.input[0] for value in twin.mean_std)
    preprocessing = Preprocessing(
        model.spec.input[1:],
        mean,
        std,
        crop_mode="center",
        crop_pct=preset.crop_size[0] / preset.resize_size[0],
        interpolation=preset.interpolation.value,
    )
    origin = {"kind": "torchvision", "weights": str(weights), "url": weights.url}
    model.metadata = Metadata(weights.meta["categories"], preprocessing, origin)


def _checksum_in(file_name: str) -> str:
    """Returns the first digits of the SHA-256 in a file name of torchvision: ``alexnet-owt-7be5be79.pth``."""
    return file_name.rpartition("-")[2].removesuffix(".pth")


def require_twin(model: CNN) -> Twin:
    """Returns the twin of a network, from the registry; raises InputError if it has none."""
    if not isinstance(model, CNN):
        raise InputError(f"expected a cnnzoo network, not {type(model).__name__}; build it with cnnzoo.create")
    name = model.spec.name
    twin = get_entry(name).twin if is_model(name) else None
    if twin is None:
        names = ", ".join(other for other in list_models() if get_entry(other).twin)
        raise InputError(f"{name} has no twin in torchvision; the networks that have one: {names}")
    return twin
