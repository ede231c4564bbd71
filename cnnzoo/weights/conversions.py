"""Weights from and for other networks: torchvision's twins, and groups written out as dense convolutions."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import sys
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import nn

from cnnzoo.blocks import Block, Conv
from cnnzoo.errors import FileError, InputError, WeightsError
from cnnzoo.network import CNN
from cnnzoo.registry import get_entry, is_model, list_models
from cnnzoo.weights.files import assign, kinds_of, require_fit


def load_torchvision(model: CNN, state_dict: Mapping[str, torch.Tensor]) -> None:
    """Fills a network with the weights of its twin in torchvision.

    Args:
        model: A network whose registered entry names a twin.
        state_dict: The twin's state dict.

    Raises:
        InputError: If the network has no twin.
        WeightsError: If the tensors do not fit; every one that does not is named.
    """
    entry = get_entry(_with_twin(model))
    ours = {key: entry.key_map.get(key, key) for key in model.state_dict()}
    wanted = {ours[key]: kind for key, kind in kinds_of(model.state_dict()).items()}
    require_fit(f"weights of torchvision's {entry.twin}", kinds_of(state_dict), wanted)
    model.load_state_dict({key: state_dict[theirs] for key, theirs in ours.items()})


def fetch_torchvision(model: CNN) -> None:
    """Fetches the weights that torchvision trained on ImageNet (V1), and fills a network with them.

    What torchvision says of them (classes, mean and standard deviation of the images, where they come from)
    goes into the network's notes.

    Args:
        model: A network whose registered entry names a twin, with 3 channels and 1000 classes.

    Raises:
        InputError: If the network has no twin.
        FileError: If they cannot be fetched.
        WeightsError: If what was fetched is not what was published, or does not fit.
    """
    from torchvision.models import get_model_weights

    weights = get_model_weights(get_entry(_with_twin(model)).twin)["IMAGENET1K_V1"]
    name = os.path.basename(weights.url)
    kept = Path(torch.hub.get_dir()) / "checkpoints" / name
    if kept.exists() and not hashlib.sha256(kept.read_bytes()).hexdigest().startswith(_checksum_in(name)):
        raise WeightsError(
            f"{kept} is damaged: its checksum is not the one in its name; delete it, and it is fetched anew"
        )
    try:
        # weights_only: tensors and nothing that could run
        state = weights.get_state_dict(progress=sys.stderr.isatty(), check_hash=True, weights_only=True)
    except OSError as problem:  # what urllib raises, too
        raise FileError(
            f"{weights} could not be fetched from {weights.url} ({problem}); try again with a network, or put the file "
            f"at {kept}"
        ) from None
    except RuntimeError as problem:
        raise WeightsError(f"{weights} from {weights.url} is not what was published: {problem}; try again") from None
    load_torchvision(model, state)
    preset = weights.transforms()
    model.notes |= {
        "label_names": list(weights.meta["categories"]),
        "mean": list(preset.mean),
        "std": list(preset.std),
        "provenance": {"kind": "torchvision", "weights": str(weights), "url": weights.url},
    }


def _checksum_in(name: str) -> str:
    """Torchvision's files end in the first digits of their SHA-256: ``alexnet-owt-7be5be79.pth``."""
    return name.rpartition("-")[2].removesuffix(".pth")


def _with_twin(model: CNN) -> str:
    """The registered name of a network that has a twin."""
    if not isinstance(model, CNN):
        raise InputError(f"weights of torchvision go into a network of the zoo, not into a {type(model).__name__}")
    name = model.spec.name
    if not is_model(name) or not get_entry(name).twin:
        known = ", ".join(other for other in list_models() if get_entry(other).twin)
        raise InputError(f"{name} has no twin in torchvision; those that have: {known}")
    return name


def ungrouped(model: CNN) -> CNN:
    """The same function without groups: every grouped convolution as the dense one that computes the same.

    The weights of a group stand on the diagonal, and zeros where the groups do not see each other. The class scores
    are the same numbers but for rounding, since sums run in another order. Training lets the zeros go.

    Args:
        model: A network of the zoo, which is not changed.

    Returns:
        A network whose Spec has ``groups=1`` everywhere, on the same device, of the same type and in the same mode.
    """
    if not isinstance(model, CNN):
        raise InputError(f"ungrouped takes a network of the zoo, not a {type(model).__name__}")

    def dense(row: Block, label: str) -> tuple[Block, ...]:
        return (dataclasses.replace(row, groups=1),) if isinstance(row, Conv) else (row,)

    with torch.device("meta"):
        made = CNN(model.spec.map_rows(dense))
    state = dict(model.state_dict())
    for name, module in made.named_modules():
        grouped = model.get_submodule(name)
        if isinstance(module, nn.Conv2d) and isinstance(grouped, nn.Conv2d) and module.groups != grouped.groups:
            state[f"{name}.weight"] = _block_diagonal(grouped.weight.detach(), grouped.groups)
    assign(made, state)
    origin = model.notes.get("provenance")
    made.notes = {**model.notes, "provenance": {"kind": "adapted", "how": "groups written out", "from": origin}}
    return made.to(next(iter(state.values())).device).train(model.training)


def _block_diagonal(weight: torch.Tensor, groups: int) -> torch.Tensor:
    """The weight of a grouped convolution, (out, in / groups, H, W), as that of a dense one, (out, in, H, W)."""
    out, seen = weight.shape[0] // groups, weight.shape[1]
    whole = weight.new_zeros(weight.shape[0], seen * groups, *weight.shape[2:])
    for group in range(groups):
        rows = slice(group * out, (group + 1) * out)
        whole[rows, group * seen : (group + 1) * seen] = weight[rows]
    return whole
