"""The weights that ship with cnnzoo: one file a network, trained here by a recipe that the file itself tells."""

from __future__ import annotations

from pathlib import Path

from cnnzoo.errors import InputError
from cnnzoo.network import CNN, build_network
from cnnzoo.registry import get_entry, list_models
from cnnzoo.spec import Spec
from cnnzoo.weights.adapt import fetch_torchvision
from cnnzoo.weights.files import read

SHIPPED = Path(__file__).parent / "shipped"  # docs/make_weights.py writes it
MAX_BYTES = 500_000  # of a file that ships


def shipped(name: str) -> Path:
    """Where the weights of a network lie, if they ship."""
    return SHIPPED / f"{name}.safetensors"


def has_pretrained(name: str, pretrained: bool | str = True) -> bool:
    """Whether ``create(name, pretrained=...)`` has weights for a registered network.

    Args:
        name: The network.
        pretrained: True for those that ship, ``"torchvision"`` for those of its twin.
    """
    if pretrained is True:
        return shipped(name).is_file()
    return pretrained == "torchvision" and get_entry(name).twin is not None


def pretrained_model(spec: Spec, pretrained: bool | str, seed: int | None = None) -> CNN:
    """A registered network with weights that were trained, for the classes and images that these are for.

    Args:
        spec: The network, for the classes and channels that torchvision's weights are for.
        pretrained: True for those that ship, ``"torchvision"`` for those of its twin.
        seed: Decides what is not among torchvision's.

    Raises:
        InputError: If there are none.
    """
    name = spec.name
    if pretrained is True:
        if not shipped(name).is_file():
            twin = ", or pretrained='torchvision'" if has_pretrained(name, "torchvision") else ""
            known = ", ".join(filter(has_pretrained, list_models()))
            raise InputError(
                f"no weights of {name} ship with cnnzoo; those that do: {known}. Instead, create takes a file, a "
                f"folder, or a name on the Hub, such as create('runs/{name}') or create('hf://user/{name}'){twin}"
            )
        return read(shipped(name))
    if pretrained != "torchvision":
        raise InputError(
            f"pretrained must be True, 'torchvision' or None, not {pretrained!r}; a file, a folder, a name on the Hub "
            "is create's first argument"
        )
    model = build_network(spec, seed)
    fetch_torchvision(model)
    return model
