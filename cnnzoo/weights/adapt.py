"""Trained weights in a network for other classes or other channels."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Sequence

import torch

from cnnzoo.diff import align, changed_fields
from cnnzoo.errors import unknown
from cnnzoo.network import CNN, build_network, end_layer_names
from cnnzoo.spec import Spec
from cnnzoo.weights.state_dict import require_compatible, tensor_infos

_NEW_CHANNELS = ("zero", "mean")


def adapt(trained: CNN, spec: Spec, seed: int | None = None, *, new_channels: str = "zero") -> CNN:
    """Returns a network with the weights of a trained one, for other classes or images with other channels.

    For other classes the last layer is new. For other channels, those that both have keep their filters in the first
    convolution, mean and standard deviation. From or to a single channel, the filters are summed over the channels
    and divided evenly among the new ones, so that a gray image gives the same maps as its copy in equal channels. A
    warning says in one line what was adapted, and so does the provenance of the network.

    Args:
        trained: A network with weights; it is not changed.
        spec: The new network, which differs in number of classes, channels and blocks without weights only.
        seed: Seed of the new weights.
        new_channels: Filters of channels that are added to several: ``"zero"``, so that the scores do not change, or
            ``"mean"`` of the others.

    Raises:
        WeightsError: If other weights do not fit; the error lists all of them.
        UnknownNameError: If ``new_channels`` is not known.
    """
    if new_channels not in _NEW_CHANNELS:
        raise unknown("new_channels", new_channels, _NEW_CHANNELS)
    if spec == trained.spec:
        return trained
    model = build_network(spec, seed)
    initial, state = model.state_dict(), _renumbered(trained, model)
    first_conv, last_layer = end_layer_names(model)
    metadata = trained.metadata
    changes = []
    if spec.num_classes != trained.spec.num_classes:
        changes.append(f"{last_layer} is new, for {spec.num_classes} classes instead of {trained.spec.num_classes}")
        state |= {key: tensor for key, tensor in initial.items() if key.rpartition(".")[0] == last_layer}
        metadata = metadata.replace(label_names=None)
    channels, trained_channels = spec.input[0], trained.spec.input[0]
    if channels != trained_channels:
        key = f"{first_conv}.weight"
        state[key], how = _adapt_channels(state[key], channels, new_channels)
        number = f"{channels} channel{'s' * (channels > 1)}"
        changes.append(f"{first_conv} takes {number} instead of {trained_channels}{how}")
    if (preprocessing := metadata.preprocessing) is not None:
        mean, std = (_adapt_statistics(values, channels) for values in (preprocessing.mean, preprocessing.std))
        metadata = metadata.replace(preprocessing=preprocessing.replace(size=spec.input[1:], mean=mean, std=std))
    require_compatible(f"weights of {trained.spec.name}", tensor_infos(state), tensor_infos(initial))
    model.load_state_dict(state)
    if spec.input[1:] != trained.spec.input[1:]:
        changes.append("images of {}x{} px instead of {}x{}".format(*spec.input[1:], *trained.spec.input[1:]))
    if labels := _changed_labels(spec, trained.spec):
        changes.append(f"blocks that differ from training: {', '.join(labels)}")
    if changes:
        metadata = metadata.derive("adapted", how="; ".join(changes))
        warnings.warn(f"{spec.name}: {'; '.join(changes)}", stacklevel=3)
    model.metadata = metadata
    return model


def _renumbered(trained: CNN, model: CNN) -> dict[str, torch.Tensor]:
    """Returns the weights of a network under the keys that the blocks of the same labels have in another network.

    Blocks without weights that only one of them has, such as dropout, change the numbers of modules.
    """
    places, keys = _places(trained), {place: key for key, place in _places(model).items()}
    if set(places) == set(keys.values()):
        return trained.state_dict()

    def new_key(key: str) -> str:
        label = places[key][0]
        return keys.get(places[key]) or f"{key} ({label})"  # a key that does not fit, for the error

    return {new_key(key): tensor for key, tensor in trained.state_dict().items()}


def _places(model: CNN) -> dict[str, tuple[str, int, str]]:
    """Returns state-dict key -> label of its block, number of its module in the block, name in the module."""
    places, numbers = {}, Counter[str]()
    for section in ("features", "classifier"):
        for child, module in model.get_submodule(section).named_children():
            label = str(getattr(module, "label", ""))
            for name in module.state_dict():
                places[f"{section}.{child}.{name}"] = (label, numbers[label], name)
            numbers[label] += 1
    return places


def _adapt_channels(weight: torch.Tensor, channels: int, new_channels: str) -> tuple[torch.Tensor, str]:
    """Returns a weight (out, C, H, W) for another number of channels, and how it was made, for the warning."""
    old = weight.shape[1]
    if old == 1 or channels == 1:
        return (weight.sum(1, keepdim=True) / channels).repeat(1, channels, 1, 1), ""
    if channels < old:
        return weight[:, :channels].clone(), f"; the first {channels} keep their filters"
    added = weight.new_zeros(len(weight), channels - old, *weight.shape[2:])
    if new_channels == "mean":
        added += weight.mean(1, keepdim=True)
    start = "zero" if new_channels == "zero" else "the mean of the others"
    return torch.cat([weight, added], 1), f"; the first {old} keep their filters, the others start at {start}"


def _adapt_statistics(values: Sequence[float], channels: int) -> tuple[float, ...]:
    """Returns the mean or standard deviation of each of ``channels`` channels; that of a new one is the average."""
    average = sum(values) / len(values)
    if channels == 1:
        return (values[0] if len(values) == 1 else average,)
    return (*values[:channels], *[average] * (channels - len(values)))


def _changed_labels(spec: Spec, trained: Spec) -> list[str]:
    """Returns the labels of blocks that differ in more than their number of classes, or that only one network has."""
    labels = []
    for new, old in align(spec, trained):
        if new is None or old is None:
            labels += [block[0] for block in (new, old) if block is not None]
        elif any(name != "num_classes" for name, *_ in changed_fields(old[1], new[1])):
            labels.append(new[0])
    return labels
