"""Builds a network from the description in a file, without the weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cnnzoo.data.preprocess import CROP_MODES
from cnnzoo.errors import InputError, SpecError, UnknownNameError, WeightsError
from cnnzoo.network import CNN, FORMAT_VERSION
from cnnzoo.serialization import METADATA_KEY
from cnnzoo.spec import Spec


def build_from_description(description: Mapping[str, Any]) -> CNN:
    """Builds the network of a description, with initial weights, on the current default device.

    Args:
        description: What ``CNN.describe()`` returns; config.json holds it.

    Raises:
        WeightsError: If it does not describe a network, or has a format that this version does not read.
    """
    inner = description.get(METADATA_KEY)
    if not isinstance(inner, dict) or not {"spec", "format_version"} & set(inner):
        raise WeightsError(
            f"there is no description of a network under {METADATA_KEY!r}; build the network in code, and read its "
            "tensors with safetensors.torch.load_file"
        )
    version = inner.get("format_version")
    if version != FORMAT_VERSION:
        raise WeightsError(
            f"the description has format_version {version!r}, and this version of cnnzoo reads {FORMAT_VERSION}; "
            "install a newer cnnzoo"
        )
    try:
        model = CNN(Spec.from_dict(inner.get("spec")))
    except (SpecError, UnknownNameError, InputError) as error:
        raise WeightsError(f"the network of the description cannot be built: {error}") from None
    model.notes |= _read_notes(description, model.spec.input[0])
    if inner.get("provenance") is not None:
        model.notes["provenance"] = inner["provenance"]
    return model


def stored_checksum(description: Mapping[str, Any]) -> Any:
    """Returns ``weights_sha256`` of a description, None if it has none."""
    inner = description.get(METADATA_KEY)
    return inner.get("weights_sha256") if isinstance(inner, dict) else None


def _read_notes(description: Mapping[str, Any], channels: int) -> dict[str, Any]:
    """Returns the class names and the preprocessing of a description, checked."""
    config = description.get("pretrained_cfg")
    config = config if isinstance(config, dict) else {}
    for name in ("mean", "std"):
        values = config.get(name)
        is_valid = isinstance(values, list) and len(values) == channels and all(_is_statistic(v, name) for v in values)
        if values is not None and not is_valid:
            kind = "positive number" if name == "std" else "number"
            raise WeightsError(f"{name} must be a list with a {kind} for each channel ({channels}), not {values!r}")
    mode, fraction, labels = config.get("crop_mode"), config.get("crop_pct"), description.get("label_names")
    if mode is not None and mode not in CROP_MODES:
        raise WeightsError(f"crop_mode must be one of {', '.join(CROP_MODES)}, not {mode!r}")
    if labels is not None and not (isinstance(labels, list) and all(isinstance(label, str) for label in labels)):
        raise WeightsError(f"label_names must be a list of strings, not {labels!r}")
    if fraction is not None and not (isinstance(fraction, (int, float)) and 0 < fraction <= 1):
        raise WeightsError(f"crop_pct must be a number above 0 and at most 1, not {fraction!r}")
    notes = {
        "label_names": labels,
        "crop_mode": mode,
        "crop_pct": fraction,
        "mean": config.get("mean"),
        "std": config.get("std"),
    }
    return {name: value for name, value in notes.items() if value is not None}


def _is_statistic(value: object, name: str) -> bool:
    """Returns whether a value is a plausible mean, or a plausible standard deviation."""
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        return False
    return abs(value) < 1e6 and (name == "mean" or value > 0)
