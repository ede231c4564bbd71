"""State dicts of others in networks of the zoo: names are recognized, and what does not fit is listed with a hint."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from os import PathLike
from pathlib import Path

import torch

from cnnzoo.blocks import Shape
from cnnzoo.blocks.build import infer_shape
from cnnzoo.edits import apply_knobs
from cnnzoo.errors import CnnzooError, InputError, WeightsError, warn
from cnnzoo.metadata import Metadata
from cnnzoo.network import CNN, end_layer_names
from cnnzoo.registry import get_spec, list_models
from cnnzoo.serialization import METADATA_KEY, TensorInfo, read_header
from cnnzoo.spec import Spec
from cnnzoo.weights.files import read_model
from cnnzoo.weights.key_maps import OWN, KeyMatch, find_twin, match_keys
from cnnzoo.weights.state_dict import assign_state_dict, is_finite, require_compatible, tensor_infos
from cnnzoo.weights.torch_files import open_state_dict, read_state_dict

State = Mapping[str, torch.Tensor]

_COUNTER = ".num_batches_tracked"  # of batch norm, which older files and other libraries lack


def load_state_dict(model: CNN, state: State | str | PathLike[str]) -> None:
    """Loads a state dict of somebody else into a network.

    Names are recognized: the network's own, and those that torchvision, timm and transformers have in the same
    network. A common prefix, such as ``module.``, is removed, and a state dict inside a checkpoint is opened; a warning
    says so. Label names and preprocessing are not known then: set ``model.metadata``.

    Args:
        model: The network; it is changed, or, if a tensor does not fit, stays as it is.
        state: A state dict, name -> tensor; or a file with one: ``.safetensors``, or ``.pth``, ``.pt``, ``.bin``,
            ``.ckpt`` of ``torch.save``, of which only tensors and plain values are read.

    Raises:
        InputError: If ``model`` is not a cnnzoo network.
        FileError: If the file cannot be read.
        WeightsError: If there is no state dict, or tensors do not fit; the error lists them.
    """
    if not isinstance(model, CNN):
        raise InputError(f"expected a cnnzoo network, not {type(model).__name__}; build it with cnnzoo.create")
    if isinstance(state, (str, PathLike)):
        source, tensors = str(state), read_state_dict(Path(state))
    else:
        source, tensors = "the state dict", open_state_dict(state, "the state dict")
    match = match_keys(model, tensors)
    model.load_state_dict(fit_tensors(model, tensors, match, source))
    if (model.metadata.provenance or {}).get("kind") == "state_dict":  # not if all values are as before
        model.metadata = model.metadata.replace(provenance=_provenance(match, source))


def load_foreign_file(spec: Spec, path: Path) -> CNN:
    """Builds a network with the weights of a state dict in a file, for the classes and channels of these weights.

    Args:
        spec: The network, for any number of classes and channels.
        path: As for ``load_state_dict``.

    Raises:
        FileError: If the file cannot be read.
        WeightsError: If there is no state dict, or tensors do not fit; the error lists them.
    """
    if path.suffix == ".safetensors" and METADATA_KEY in read_header(path)[1]:  # it describes its network
        return read_model(path)
    return build_with_tensors(spec, read_state_dict(path), str(path))


def build_with_tensors(spec: Spec, tensors: State, source: str) -> CNN:
    """Builds a network whose weights are the tensors themselves, for their classes and channels.

    Args:
        spec: The network, for any number of classes and channels.
        tensors: A state dict with the names of the network or of another library.
        source: Where it comes from, for errors.

    Raises:
        WeightsError: If tensors do not fit; the error lists them.
    """
    with torch.device("meta"):
        model = CNN(spec)
        match = match_keys(model, tensors)
        shapes = {key: tuple(tensors[name].shape) for name, key in match.keys.items()}
        if knobs := _different_ends(model, shapes):
            with suppress(CnnzooError):  # the mismatch is reported
                model = CNN(apply_knobs(spec, **knobs))
    state = fit_tensors(model, tensors, match, source)
    assign_state_dict(model, {key: tensor.detach().contiguous() for key, tensor in state.items()})
    model.metadata = Metadata(provenance=_provenance(match, source))
    return model


def fit_tensors(model: CNN, tensors: State, match: KeyMatch, source: str) -> dict[str, torch.Tensor]:
    """Returns tensors under the names of a network, with the shapes of its weights.

    Args:
        model: The network.
        tensors: A state dict with other names.
        match: What ``match_keys`` returns for them.
        source: Where it comes from, for messages.

    Raises:
        WeightsError: If tensors do not fit; the error lists them.
    """
    if twice := [key for key, count in Counter(match.keys.values()).items() if count > 1]:
        names = [name for name, key in match.keys.items() if key == twice[0]]
        raise WeightsError(f"{source}: {' and '.join(names)} are both {twice[0]} of {model.spec.name}; pass only one")
    if match.prefix and match.keys:
        warn(f"{source}: the prefix {match.prefix!r} of its names is removed", stacklevel=4)
    expected = model.state_dict()
    twin = find_twin(model)
    skipped = twin.skipped if twin is not None and match.key_map != OWN else ()
    state, left_out = {}, set()
    for name, tensor in tensors.items():
        key = match.keys.get(name)
        part = name.removeprefix(match.prefix).split(".")[0]
        if key is None and part in skipped:
            left_out.add(part)
        elif key is None:
            state[name] = tensor
        else:
            state[key] = tensor if match.key_map == OWN else _reshape(tensor, expected[key].shape)
    if left_out:
        warn(f"{model.spec.name} has no {', '.join(sorted(left_out))}; their weights are not loaded", stacklevel=4)
    counters = {key: torch.zeros((), dtype=torch.int64) for key in expected if key.endswith(_COUNTER)}
    if not counters.keys() & state.keys():
        state |= counters
    dialect = "" if match.key_map == OWN else f", with the names of {match.key_map}"
    infos = tensor_infos(state)
    require_compatible(
        f"{source}{dialect}",
        infos,
        tensor_infos(expected),
        lambda wrong: _hint(model, infos, tensor_infos(expected), wrong),
    )
    not_finite = [key for key, tensor in state.items() if not is_finite(tensor)]
    if not_finite:
        warn(f"{source}: these tensors have NaN or infinite values: {', '.join(not_finite)}", stacklevel=4)
    return state


def _reshape(tensor: torch.Tensor, shape: torch.Size) -> torch.Tensor:
    """Returns the weight of a convolution over whole maps as that of a dense layer, and the other way round."""
    is_pair = {tensor.dim(), len(shape)} == {2, 4}
    return tensor.reshape(shape) if is_pair and len(tensor) == shape[0] and tensor.numel() == shape.numel() else tensor


def _provenance(match: KeyMatch, source: str) -> dict[str, str]:
    return {"kind": "state_dict", "source": Path(source).name, "names": match.key_map}


def _different_ends(model: CNN, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, int]:
    """Returns the knobs by which the first and last weights in a state dict differ from those of a network.

    Args:
        model: The network.
        shapes: Name in the network -> shape in the state dict.
    """
    first_conv, last_layer = end_layer_names(model)
    knobs: dict[str, int] = {}
    own = {key: tuple(tensor.shape) for key, tensor in model.state_dict().items()}
    last, first = f"{last_layer}.weight", f"{first_conv}.weight"
    if last in shapes and len(shapes[last]) == len(own[last]) and own[last][0] == model.spec.num_classes:
        knobs["num_classes"] = shapes[last][0]
    if first in shapes and len(shapes[first]) == 4 and own[first][1] == model.spec.input[0]:
        knobs["in_channels"] = shapes[first][1]
    present = {"num_classes": model.spec.num_classes, "in_channels": model.spec.input[0]}
    return {knob: value for knob, value in knobs.items() if value != present[knob]}


def _hint(model: CNN, infos: Mapping[str, TensorInfo], expected: Mapping[str, TensorInfo], wrong: list[str]) -> str:
    """Returns the one thing that most likely explains why the tensors of these names do not fit; empty if unknown."""
    name = model.spec.name
    knobs = _different_ends(model, {key: shape for key, (_, shape) in infos.items() if key in expected})
    first_conv, last_layer = end_layer_names(model)
    ends = {"num_classes": last_layer, "in_channels": first_conv}
    if knobs and {key.rpartition(".")[0] for key in wrong} <= {ends[knob] for knob in knobs}:
        return f"Build the network with {', '.join(f'{knob}={value}' for knob, value in knobs.items())}"
    if not infos.keys() & expected.keys() - {key for key in expected if key.endswith(_COUNTER)}:
        return f"No name is one of {name}, such as {next(iter(expected))!r}: is it the state dict of another network?"
    if all(key not in expected for key in wrong):
        parts = dict.fromkeys(key.split(".")[0] for key in wrong)
        return f"Everything else fits: leave out {', '.join([*parts][:5])}, which {name} lacks"
    if all(key not in infos for key in wrong):
        return f"{name} needs all of its weights; the state dict may be that of a part of it"
    if all(key in infos and key in expected for key in wrong):
        return f"The names fit: build {name} with the sizes of the state dict, such as width= or image_size="
    same = [other for other in list_models() if other != name and _count_values(get_spec(other)) == _total(infos)]
    if same:
        return f"{' and '.join(same)} {'has' if len(same) == 1 else 'have'} as many weights as the state dict"
    return ""


def _total(infos: Mapping[str, TensorInfo]) -> int:
    return sum(math.prod(shape) for _, shape in infos.values())


def _count_values(spec: Spec) -> int:
    """Returns the number of values of the parameters and buffers of a network."""
    shape: Shape = spec.input
    total = 0
    for block in (*spec.features, *spec.classifier):
        inference = infer_shape(block, shape)
        shape, total = inference.shape, total + inference.weights
    return total
