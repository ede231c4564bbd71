"""Loads torchvision's weights into cnnzoo's networks: state dicts of their twins, and the downloads for ImageNet."""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Mapping
from pathlib import Path

import torch

from cnnzoo.errors import FileError, InputError, WeightsError, unknown
from cnnzoo.metadata import Metadata
from cnnzoo.network import CNN
from cnnzoo.preprocessing import Preprocessing
from cnnzoo.published import Twin
from cnnzoo.registry import get_entry, list_models
from cnnzoo.weights.foreign import fit_tensors
from cnnzoo.weights.key_maps import find_twin, match_keys


def load_torchvision(model: CNN, state_dict: Mapping[str, torch.Tensor]) -> None:
    """Loads the state dict of a torchvision model into the cnnzoo network that equals it.

    Args:
        model: A network with a twin in torchvision; it is changed.
        state_dict: The state dict of the twin.

    Raises:
        InputError: If the network has no twin, or ``state_dict`` is not a state dict.
        WeightsError: If tensors do not fit; the error lists all of them.
    """
    twin = _require_twin(model)
    if not isinstance(state_dict, Mapping) or not all(isinstance(t, torch.Tensor) for t in state_dict.values()):
        raise InputError(
            "load_torchvision expects a state dict, name -> tensor, such as torchvision.models.resnet18().state_dict()"
        )
    source = f"weights of torchvision's {twin.name}"
    model.load_state_dict(fit_tensors(model, state_dict, match_keys(model, state_dict), source))


def fetch_torchvision(model: CNN, choice: str = "IMAGENET1K_V1") -> None:
    """Downloads weights that torchvision offers, and loads them into a network.

    Label names, preprocessing and provenance go into the network's metadata.

    Args:
        model: A network with a twin in torchvision, for 3 channels and 1000 classes; it is changed.
        choice: Their name in torchvision's enum of the twin's weights; ``"DEFAULT"`` is the last.

    Raises:
        InputError: If the network has no twin.
        UnknownNameError: If torchvision has no such weights.
        FileError: If the weights cannot be downloaded.
        WeightsError: If the download is damaged, or does not fit.
    """
    from torchvision.models import get_model_weights

    twin = _require_twin(model)
    choices = get_model_weights(twin.name)
    if choice not in choices.__members__:  # DEFAULT is one of them
        raise unknown(f"weights of torchvision's {twin.name}", choice, choices.__members__)
    weights = choices[choice]
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


def _require_twin(model: CNN) -> Twin:
    """Returns the twin of a network, from the registry; raises InputError if it has none."""
    if not isinstance(model, CNN):
        raise InputError(f"expected a cnnzoo network, not {type(model).__name__}; build it with cnnzoo.create")
    if (twin := find_twin(model)) is None:
        names = ", ".join(other for other in list_models() if get_entry(other).twin)
        raise InputError(f"{model.spec.name} has no twin in torchvision; the networks that have one: {names}")
    return twin
