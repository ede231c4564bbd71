"""Trained weights in a network for other classes or other channels."""

from __future__ import annotations

import warnings

from cnnzoo.diff import align, changed_fields
from cnnzoo.network import CNN, build_network, end_layer_names
from cnnzoo.spec import Spec
from cnnzoo.weights.state_dict import require_compatible, tensor_infos


def adapt(trained: CNN, spec: Spec, seed: int | None = None) -> CNN:
    """Returns a network with the weights of a trained one, for other classes or images with other channels.

    For other classes the last layer is new. For other channels the weights of the first convolution are summed over its
    input channels and divided evenly among the new ones. A warning says in one line what was adapted, and so does the
    provenance of the network.

    Args:
        trained: A network with weights; it is not changed.
        spec: The new network, which differs in number of classes and channels only.
        seed: Seed of the new weights.

    Raises:
        WeightsError: If other weights do not fit; the error lists all of them.
    """
    if spec == trained.spec:
        return trained
    model = build_network(spec, seed)
    initial, state = model.state_dict(), trained.state_dict()
    first_conv, last_layer = end_layer_names(model)
    changes = []
    if spec.num_classes != trained.spec.num_classes:
        changes.append(f"{last_layer} is new, for {spec.num_classes} classes instead of {trained.spec.num_classes}")
        state |= {key: tensor for key, tensor in initial.items() if key.rpartition(".")[0] == last_layer}
    channels, trained_channels = spec.input[0], trained.spec.input[0]
    if channels != trained_channels:
        changes.append(f"{first_conv} takes {channels} channel{'s' * (channels > 1)} instead of {trained_channels}")
        key = f"{first_conv}.weight"
        state[key] = (state[key].sum(1, keepdim=True) / channels).expand_as(initial[key]).clone()
    require_compatible(f"weights of {trained.spec.name}", tensor_infos(state), tensor_infos(initial))
    model.load_state_dict(state)
    names = ["provenance", "crop_pct", "crop_mode"]
    if channels == trained_channels:
        names += ["mean", "std"]
    if spec.num_classes == trained.spec.num_classes:
        names.append("label_names")
    model.notes = {name: trained.notes[name] for name in names if name in trained.notes}
    if spec.input[1:] != trained.spec.input[1:]:
        changes.append("images of {}x{} px instead of {}x{}".format(*spec.input[1:], *trained.spec.input[1:]))
    if labels := _changed_labels(spec, trained.spec):
        changes.append(f"blocks that differ from training: {', '.join(labels)}")
    if changes:
        provenance = trained.notes.get("provenance")
        if source := trained.notes.get("source"):
            provenance = {**(provenance or {}), "source": source}
        model.notes["provenance"] = {"kind": "adapted", "how": "; ".join(changes), "from": provenance}
        warnings.warn(f"{spec.name}: {'; '.join(changes)}", stacklevel=3)
    return model


def _changed_labels(spec: Spec, trained: Spec) -> list[str]:
    """Returns the labels of blocks that differ in more than their number of classes, or that only one network has."""
    labels = []
    for new, old in align(spec, trained):
        if new is None or old is None:
            labels += [block[0] for block in (new, old) if block is not None]
        elif any(name != "num_classes" for name, *_ in changed_fields(old[1], new[1])):
            labels.append(new[0])
    return labels
