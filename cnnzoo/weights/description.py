"""Builds a network from the description in a file, without the weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cnnzoo.errors import InputError, SpecError, UnknownNameError, WeightsError
from cnnzoo.metadata import Metadata
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
    try:
        model.metadata = _read_metadata(description, inner)
    except (UnknownNameError, InputError) as error:
        raise WeightsError(f"the description is not valid: {error}") from None
    return model


def stored_checksum(description: Mapping[str, Any]) -> Any:
    """Returns ``weights_sha256`` of a description, None if it has none."""
    inner = description.get(METADATA_KEY)
    return inner.get("weights_sha256") if isinstance(inner, dict) else None


def _read_metadata(description: Mapping[str, Any], inner: Mapping[str, Any]) -> Metadata:
    """Returns the metadata of a description, checked."""
    config = description.get("pretrained_cfg")
    config = dict(config) if isinstance(config, dict) else {}
    if inner.get("decoding") is not None:
        config["decoding"] = inner["decoding"]
    has_preprocessing = config.get("mean") is not None or config.get("std") is not None
    return Metadata.from_dict(
        {
            "label_names": description.get("label_names"),
            "preprocessing": config if has_preprocessing else None,
            "provenance": inner.get("provenance"),
        }
    )
