"""The seam between networks and their storage: a network calls its store without importing it.

``cnnzoo`` itself provides the store, with the functions of ``cnnzoo.weights``, before any of its modules is imported.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Store:
    """What saves, loads and publishes networks.

    Attributes:
        save: Saves a network as a file or folder, and returns its path.
        load: Returns the network of a file, a folder or a repository, ``"user/repo"``.
        push: Uploads a network to a repository, and returns the commit.
    """

    save: Callable[..., Path]
    load: Callable[..., Any]
    push: Callable[..., str]


_providers: list[Callable[[], Store]] = []


def provide_store(provider: Callable[[], Store]) -> None:
    """Sets the function that returns the store; it is called on first use, and may then import what it needs."""
    _providers[:] = [provider]


def get_store() -> Store:
    """Returns the store."""
    return _providers[0]()
