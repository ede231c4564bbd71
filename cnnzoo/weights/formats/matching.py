"""Which layer of a file each layer of a network is, and everything in which the two differ."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from cnnzoo.errors import WeightsError, warn
from cnnzoo.weights.formats.key_maps import possible_names
from cnnzoo.weights.formats.layers import MERGES, Layer, inputs_first, shape_text, skip, windows

Pairs = dict[Layer, Layer]  # layer of the network -> layer of the file

_AFTER_SCORES = {"softmax", "loss", "accuracy"}  # kinds of layers
_POOLS = ("max_pool", "avg_pool")


def match_layers(source: str, network: Layer, outputs: Sequence[Layer]) -> Pairs:
    """Returns the layer of a file that each layer with weights of a network is.

    Layers are matched by name (see ``possible_names``), those that remain by their position. Then the file must compute
    what the network computes: the same operations in the same order, with the same settings.

    Args:
        source: What the file is, for errors and warnings.
        network: The last layer of the network.
        outputs: The last layers of the file.

    Raises:
        WeightsError: If anything differs; the error lists all of it.
    """
    outputs = [_skip_after_scores(output) for output in outputs]
    layers = [layer for layer in inputs_first(network) if layer.tensors]
    by_output = {output: [one for one in inputs_first(output) if one.tensors] for output in outputs}
    pairs = _match_names(layers, [one for ones in by_output.values() for one in ones])
    # auxiliary heads have fewer layers
    output = max(outputs, key=lambda one: (len({*pairs.values()} & {*by_output[one]}), one.depth))
    candidates = by_output[output]
    pairs = {layer: one for layer, one in pairs.items() if one in set(candidates)}
    _match_positions(layers, candidates, pairs)
    if differences := _differences_of_weights(layers, candidates, pairs):
        hint = "" if pairs else ". None of its names is known: for names of your own, see register_key_map"
        raise WeightsError(
            f"{source}: {len(differences)} layers do not fit the network: {'; '.join(differences)}{hint}"
        )
    comparison = _Comparison(pairs)
    for layer in layers:
        comparison.compare_layer(layer, pairs[layer])
    comparison.compare(network, output)
    if comparison.differences:
        edits = [f"spec = cnnzoo.edit(spec, {label!r}, {fields})" for label, fields in comparison.edits.items()]
        hint = f". To build the file's network: spec = model.spec; {'; '.join(edits)}; model = cnnzoo.create(spec)"
        raise WeightsError(
            f"{source} computes something else than the network: {'; '.join(comparison.differences)}"
            + (hint if edits else "")
        )
    if comparison.unknown:
        warn(
            f"{source}: the file does not say stride and padding of {', '.join(comparison.unknown)}; they are not "
            "compared with the model's",
            stacklevel=4,
        )
    others = {one: None for other in outputs for one in by_output[other] if one not in set(candidates)}
    if others:
        warn(f"{source}: the network has no {', '.join(one.name for one in others)}; they are not loaded", stacklevel=4)
    return pairs


def _skip_after_scores(output: Layer) -> Layer:
    while skip(output).kind in _AFTER_SCORES and skip(output).inputs:
        output = skip(output).inputs[0]
    return skip(output)


def _match_names(layers: Sequence[Layer], candidates: Sequence[Layer]) -> Pairs:
    by_name = {(one.kind == "norm", one.name): one for one in candidates}
    pairs: Pairs = {}
    for layer in layers:
        for name in [*possible_names(layer.name, layer.kind), layer.path]:
            if (one := by_name.get((layer.kind == "norm", name))) is not None:
                pairs[layer] = one
                break
    return pairs


def _match_positions(layers: Sequence[Layer], candidates: Sequence[Layer], pairs: Pairs) -> None:
    """Adds the pairs of layers that have no known name, if as many of the same kinds remain on both sides."""
    used = set(pairs.values())
    ours, theirs = [one for one in layers if one not in pairs], [one for one in candidates if one not in used]
    if [_weight_kind(one) for one in ours] == [_weight_kind(one) for one in theirs]:
        pairs.update(zip(ours, theirs, strict=True))


def _weight_kind(layer: Layer) -> str:
    return "linear" if layer.kind == "conv" and layer.tensors["weight"].shape[2:].numel() == 1 else layer.kind


def _differences_of_weights(layers: Sequence[Layer], candidates: Sequence[Layer], pairs: Pairs) -> list[str]:
    """Returns what is missing, unexpected or of another shape, each with both shapes."""
    differences = []
    for layer in layers:
        one = pairs.get(layer)
        if one is None:
            differences.append(f"{layer.name} ({layer.kind}): file none, model {shape_text(layer)}")
            continue
        where = layer.name if one.name == layer.name else f"{layer.name} ({one.name!r} in the file)"
        if not _is_same_shape(layer, one):
            differences.append(f"{where}: file {shape_text(one)}, model {shape_text(layer)}")
        elif "bias" in layer.tensors and "bias" not in one.tensors:
            differences.append(f"{where}: the file has no biases")
        elif "bias" in one.tensors and "bias" not in layer.tensors and not _next_norms(layer, pairs):
            differences.append(f"{where}: the model has no biases")
    used = set(pairs.values())
    unused = [one for one in candidates if one not in used]
    return [*differences, *(f"{one.name} ({one.kind}): file {shape_text(one)}, model none" for one in unused)]


def _is_same_shape(layer: Layer, one: Layer) -> bool:
    ours, theirs = layer.tensors["weight"].shape, one.tensors["weight"].shape
    if layer.kind == "linear" and one.kind == "conv":  # of maps as large as its window
        return ours == (theirs[0], math.prod(theirs[1:]))
    return layer.kind == one.kind and ours == theirs


def _next_norms(layer: Layer, pairs: Mapping[Layer, Layer]) -> list[Layer]:
    """Returns the batch norms that directly follow a layer of the network."""
    return [other for other in pairs if other.kind == "norm" and other.inputs == (layer,)]


class _Comparison:
    """Compares what a network and a file compute.

    Args:
        pairs: The layers with weights.

    Attributes:
        differences: Everything in which they differ, as text.
        edits: Label of a block -> the fields that the file's has, as arguments.
        unknown: Names of layers whose settings the file does not say.
    """

    def __init__(self, pairs: Pairs) -> None:
        self._pairs = pairs
        self._compared: set[tuple[Layer, Layer]] = set()
        self.differences: list[str] = []
        self.edits: dict[str, str] = {}
        self.unknown: list[str] = []
        self._has_other_sizes = False  # maps before differ, so a pool to a fixed size cannot be compared

    def compare_layer(self, layer: Layer, one: Layer) -> None:
        """Compares two layers with weights, and what they take."""
        if layer.kind == "linear" and one.kind == "conv":
            size = layer.inputs[0].inputs[0].shape[1:] if layer.inputs[0].inputs else ()
            is_same = one.tensors["weight"].shape[2:] == (size or (1, 1)) and not any(one.settings["padding"])
        else:
            is_same = not one.settings or _is_close(layer.settings, one.settings)
        if layer.settings and not one.settings:
            self.unknown.append(one.name)
        if not is_same:
            self._add(layer, one)
        for taken, other in zip(layer.operands, one.operands, strict=False):
            self.compare(taken, other)

    def compare(self, layer: Layer, one: Layer) -> None:
        """Compares two layers down to the layers with weights that they depend on."""
        layer, one = skip(layer), skip(one)
        if (layer, one) in self._compared:
            return
        self._compared.add((layer, one))
        if layer.tensors or one.tensors or layer.kind != one.kind:
            if self._pairs.get(layer) is not one and (layer.kind, one.kind) != ("input", "input"):
                self._add(layer, one)
            return
        if len(layer.operands) != len(one.operands):
            self._add(layer, one)
        elif not _computes_same(layer, one) and (not self._has_other_sizes or layer.settings.get("kernel_size")):
            self._has_other_sizes |= layer.kind in _POOLS
            self._add(layer, one)
        for taken, other in zip(layer.operands, one.operands, strict=False):
            self.compare(taken, other)

    def _add(self, layer: Layer, one: Layer) -> None:
        names = [name for name in layer.settings if not _is_equal(layer.settings, one.settings, name)]
        names = [name for name in names if (layer.kind, name) != ("max_pool", "counts_padding")]
        is_same_kind = layer.kind == one.kind and bool(names) and layer.settings.keys() == one.settings.keys()
        theirs, ours = (_describe(of, names if is_same_kind else None) for of in (one, layer))
        self.differences.append(f"{layer.name}: file {theirs}, model {ours}")
        if layer.kind == one.kind and (fields := _fields(layer, one)):
            self.edits[layer.name] = ", ".join(f"{name}={value!r}" for name, value in fields.items())


def _computes_same(layer: Layer, one: Layer) -> bool:
    """Returns whether two layers of the same kind, without weights, do the same to images of the network's size."""
    if layer.kind not in _POOLS:
        return layer.kind in (*MERGES, "input") or _is_close(layer.settings, one.settings)
    size = layer.inputs[0].shape[1:]
    for axis in (0, 1):
        ours, theirs = windows(layer, size, axis), windows(one, size, axis)
        if ours is None or theirs is None or len(ours) != len(theirs):
            return False
        numbers = 2 if layer.kind == "max_pool" else 3
        if [window[:numbers] for window in ours] != [window[:numbers] for window in theirs]:
            return False
    return True


def _is_close(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> bool:
    """Returns whether settings are equal, up to the precision of float32."""
    return ours.keys() == theirs.keys() and all(_is_equal(ours, theirs, name) for name in ours)


def _is_equal(ours: Mapping[str, Any], theirs: Mapping[str, Any], name: str) -> bool:
    value, other = ours[name], theirs.get(name)
    if isinstance(value, float) and isinstance(other, float):
        return math.isclose(value, other, rel_tol=1e-5)
    return bool(value == other)


def _describe(layer: Layer, names: Sequence[str] | None = None) -> str:
    """Returns a layer as text: some of its settings; or its kind, with its name if it has weights, and all of them."""
    settings = {name: value for name, value in layer.settings.items() if value is not None}
    if names is not None:
        return ", ".join(f"{name} {_short(settings.get(name))}" for name in names)
    texts = [
        f"{name} {_short(value)}" for name, value in settings.items() if value is not False and name != "counts_padding"
    ]
    kind = f"{layer.kind} {layer.name!r}" if layer.tensors else layer.kind
    return f"{kind} ({', '.join(texts)})" if texts else kind


def _short(value: Any) -> str:
    if isinstance(value, tuple) and len(set(value)) == 1:
        value = value[0]
    return f"{value:g}" if isinstance(value, float) else str(value)


def _fields(layer: Layer, one: Layer) -> dict[str, Any]:
    """Returns the fields of a block of cnnzoo with which it does what the layer of the file does, if there are."""
    settings: dict[str, Any] = dict(one.settings)
    padding = settings.get("padding")
    if isinstance(padding, tuple):
        if padding[:2] != padding[2:] and layer.kind in _POOLS:  # padding at the end only: a size that is rounded up
            settings["ceil_mode"] = True
        elif padding[:2] != padding[2:]:
            return {}
        settings["padding"] = padding[:2]
    if layer.kind in _POOLS and not (settings.get("kernel_size") and layer.settings.get("kernel_size")):
        return {}
    if layer.kind == "lrn":
        constants = {name: float(f"{settings[name]:.6g}") for name in ("alpha", "beta", "k")}
        return {"size": settings["size"], **constants, "mean": True}
    ours: dict[str, Any] = {**layer.settings, "padding": layer.settings.get("padding", ())[:2]}
    names = ("kernel_size", "stride", "padding", "dilation", "groups", "ceil_mode")
    changed = {name: settings[name] for name in names if name in settings and settings[name] != ours.get(name)}
    return {
        name: value[0] if isinstance(value, tuple) and len({*value}) == 1 else value for name, value in changed.items()
    }
