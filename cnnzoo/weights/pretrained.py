"""Pretrained weights of registered models: those that ship with cnnzoo, and those of torchvision."""

from __future__ import annotations

from cnnzoo.errors import InputError
from cnnzoo.network import CNN, build_network
from cnnzoo.registry import list_models
from cnnzoo.spec import Spec
from cnnzoo.weights.files import read_model
from cnnzoo.weights.shipped_files import has_pretrained, shipped_file
from cnnzoo.weights.torchvision import fetch_torchvision


def load_pretrained(spec: Spec, pretrained: bool | str, seed: int | None = None) -> CNN:
    """Builds a registered network with pretrained weights, for the classes and images that it was trained on.

    Args:
        spec: The network, with the classes and channels of torchvision's weights.
        pretrained: True for weights that ship with cnnzoo, ``"torchvision"`` for those of its twin.
        seed: Seed of weights that torchvision does not have.

    Raises:
        InputError: If there are no such weights.
        FileError: If the weights cannot be downloaded.
        WeightsError: If the download is damaged.
    """
    name = spec.name
    if pretrained is True:
        if not has_pretrained(name):
            alternative = ", or pretrained='torchvision'" if has_pretrained(name, "torchvision") else ""
            names = ", ".join(filter(has_pretrained, list_models()))
            raise InputError(
                f"no weights of {name} ship with cnnzoo, only those of {names}. Pass a file, a folder or a "
                f"repository to create() instead, such as create('runs/{name}') or "
                f"create('hf://user/{name}'){alternative}"
            )
        return read_model(shipped_file(name))
    if pretrained != "torchvision":
        raise InputError(
            f"pretrained must be True, 'torchvision' or None, not {pretrained!r}; pass a file, a folder or a "
            "repository as the first argument of create"
        )
    model = build_network(spec, seed)
    fetch_torchvision(model)
    return model
