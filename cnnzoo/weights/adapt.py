"""Weights from and for other networks: torchvision's twins, and groups written out as dense convolutions."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import re
import sys
import warnings
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import nn

from cnnzoo.blocks import Block, Conv
from cnnzoo.diff import align, changed_fields
from cnnzoo.errors import FileError, InputError, WeightsError
from cnnzoo.network import CNN, build_network, ends, label_of
from cnnzoo.published import Twin
from cnnzoo.registry import get_entry, is_model, list_models
from cnnzoo.spec import Spec
from cnnzoo.weights.files import assign, require_compatible, tensor_infos


def load_torchvision(model: CNN, state_dict: Mapping[str, torch.Tensor]) -> None:
    """Fills a network with the weights of its twin in torchvision.

    Args:
        model: A network whose registered entry names a twin.
        state_dict: The twin's state dict.

    Raises:
        InputError: If the network has no twin.
        WeightsError: If the tensors do not fit; every one that does not is named.
    """
    twin = _twin(model)
    if not isinstance(state_dict, Mapping) or not all(isinstance(t, torch.Tensor) for t in state_dict.values()):
        raise InputError("load_torchvision takes a state dict, name -> tensor, such as twin.state_dict()")
    ours = {key: _name_there(model, key, twin.keys) for key in model.state_dict()}
    wanted = {ours[key]: kind for key, kind in tensor_infos(model.state_dict()).items()}
    held = {key: kind for key, kind in tensor_infos(state_dict).items() if key.split(".")[0] not in twin.left_out}
    require_compatible(f"weights of torchvision's {twin.name}", held, wanted)
    if len(held) < len(state_dict):
        warnings.warn(f"{model.spec.name} leaves out {', '.join(twin.left_out)} of its twin; skipped", stacklevel=2)
    model.load_state_dict({key: state_dict[theirs] for key, theirs in ours.items()})


_KINDS = ((nn.Conv2d, "conv"), (nn.Linear, "linear"), (nn.BatchNorm2d, "norm"))


def _name_there(model: CNN, key: str, keys: Mapping[str, str]) -> str:
    """What torchvision calls a tensor of ours."""
    if not keys:
        return key
    place, _, part = key.rpartition(".")
    module = model.get_submodule(place)
    kind = next((kind for of, kind in _KINDS if isinstance(module, of)), type(module).__name__)
    name = f"{label_of(model, key)}:{kind}.{part}"
    for pattern, there in keys.items():
        name = re.sub(pattern, there, name)
    return name


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

    twin = _twin(model)
    weights = get_model_weights(twin.name)["IMAGENET1K_V1"]
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
    mean, std = preset.mean, preset.std
    if twin.images is not None:
        mean, std = ([value] * model.spec.input[0] for value in twin.images)
    model.notes |= {
        "label_names": list(weights.meta["categories"]),
        "mean": list(mean),
        "std": list(std),
        "crop_pct": preset.crop_size[0] / preset.resize_size[0],
        "provenance": {"kind": "torchvision", "weights": str(weights), "url": weights.url},
    }


def _checksum_in(name: str) -> str:
    """Torchvision's files end in the first digits of their SHA-256: ``alexnet-owt-7be5be79.pth``."""
    return name.rpartition("-")[2].removesuffix(".pth")


def _twin(model: CNN) -> Twin:
    """The twin of a network, as its registered entry names it."""
    if not isinstance(model, CNN):
        raise InputError(f"weights of torchvision go into a network of the zoo, not into a {type(model).__name__}")
    name = model.spec.name
    twin = get_entry(name).twin if is_model(name) else None
    if twin is None:
        known = ", ".join(other for other in list_models() if get_entry(other).twin)
        raise InputError(f"{name} has no twin in torchvision; those that have: {known}")
    return twin


def adapt(trained: CNN, spec: Spec, seed: int | None = None) -> CNN:
    """A network with the weights of a trained one, for other classes or images of other channels.

    A head for other classes is new. The first convolution sees other channels as shares of what it saw: its weights,
    summed over the channels that it was trained on, divided evenly among those that it is given. A warning says in one
    line what was adapted, and so does the network's provenance.

    Args:
        trained: A network with weights; it is not changed.
        spec: The network to be, which differs in number of classes and channels only.
        seed: Decides the new weights.

    Raises:
        WeightsError: If other weights do not fit; every one of them is named.
    """
    if spec == trained.spec:
        return trained
    model = build_network(spec, seed)
    fresh, given = model.state_dict(), trained.state_dict()
    first, last = ends(model)
    said = []
    if spec.num_classes != trained.spec.num_classes:
        said.append(f"{last} is new, for {spec.num_classes} classes instead of {trained.spec.num_classes}")
        given |= {key: tensor for key, tensor in fresh.items() if key.rpartition(".")[0] == last}
    now, then = spec.input[0], trained.spec.input[0]
    if now != then:
        said.append(f"{first} sees {now} channel{'s' * (now > 1)} instead of {then}")
        key = f"{first}.weight"
        given[key] = (given[key].sum(1, keepdim=True) / now).expand_as(fresh[key]).clone()
    require_compatible(f"weights of {trained.spec.name}", tensor_infos(given), tensor_infos(fresh))
    model.load_state_dict(given)
    kept = ("provenance", "crop_pct", "crop_mode", *(("mean", "std") if now == then else ()))
    model.notes = {name: trained.notes[name] for name in kept if name in trained.notes}
    if spec.num_classes == trained.spec.num_classes and "label_names" in trained.notes:
        model.notes["label_names"] = trained.notes["label_names"]
    if spec.input[1:] != trained.spec.input[1:]:
        said.append("images of {}x{} px instead of {}x{}".format(*spec.input[1:], *trained.spec.input[1:]))
    if other := [
        label
        for now_, then_ in align(spec, trained.spec)
        for label in [(now_ or then_ or ("",))[0]]
        if not (now_ and then_) or any(name != "num_classes" for name, *_ in changed_fields(then_[1], now_[1]))
    ]:
        said.append(f"other than in training: {', '.join(other)}")
    if said:
        origin = trained.notes.get("provenance")
        if source := trained.notes.get("source"):
            origin = {**(origin or {}), "source": source}
        model.notes["provenance"] = {"kind": "adapted", "how": "; ".join(said), "from": origin}
        warnings.warn(f"{spec.name}: {'; '.join(said)}", stacklevel=3)
    return model


def ungroup(model: CNN) -> CNN:
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
    if any(parameter.is_meta for parameter in model.parameters()):
        raise InputError(f"{model.spec.name} is on the meta device and has no weights; create it on another")

    def dense(row: Block, label: str) -> tuple[Block, ...]:
        return (dataclasses.replace(row, groups=1),) if isinstance(row, Conv) else (row,)

    with torch.device("meta"):
        made = CNN(model.spec.map_blocks(dense))
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
