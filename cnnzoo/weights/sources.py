"""Where a network comes from: a path, or the Hub."""

from __future__ import annotations

from os import PathLike
from pathlib import Path
from typing import Any

import torch

from cnnzoo.errors import InputError
from cnnzoo.network import CNN
from cnnzoo.serialization import exists
from cnnzoo.weights.files import read
from cnnzoo.weights.hub import REMOTE, Repository, pull

LOCAL = "local-dir:"  # timm's word for a folder


def is_source(given: object) -> bool:
    """Whether this is meant to be a saved network: a path (there is something, or it looks like one), or the Hub."""
    if isinstance(given, PathLike):
        return True
    if not isinstance(given, str):
        return False
    looks = "/" in given or given.endswith(".safetensors")
    return looks or given.startswith((*REMOTE, LOCAL)) or (len(given) < 256 and exists(Path(given)))


def locate(source: str | PathLike[str], *, verify: bool = False, **hub: Any) -> Path:
    """The file or folder that a source stands for, fetched from the Hub where it lies there.

    Args:
        source: A path, ``local-dir:path``, or ``hf://user/repo@revision`` (``hf-hub:`` is the same).
        verify: For the Hub: whether the weights are compared with their checksum.
        **hub: For the Hub: ``revision``, ``token``, ``endpoint``, ``cache_dir``, as for ``pull``.

    Raises:
        InputError: If ``user/repo`` is meant to be on the Hub, and does not say so.
    """
    if isinstance(source, str) and source.startswith(REMOTE):
        return pull(source, verify=verify, **hub)
    if said := [name for name, value in hub.items() if value is not None]:
        raise InputError(
            f"{', '.join(said)}= is for the Hub, and {str(source)!r} names nothing there; for a repository write "
            "'hf://user/repo'"
        )
    path = Path(str(source).removeprefix(LOCAL))
    parts = str(source).split("/")
    if isinstance(source, str) and len(parts) == 2 and all(parts) and parts[0] != "." and not exists(path):
        raise InputError(
            f"{source!r} is no path (looked at {path.absolute()}); for a repository on the Hub write 'hf://{source}'"
        )
    return path


def load(
    source: str | PathLike[str],
    *,
    device: str | torch.device | None = None,
    dtype: torch.dtype | None = None,
    verify: bool = True,
    mmap: bool = False,
    revision: str | None = None,
    token: str | bool | None = None,
    endpoint: str | None = None,
    cache_dir: str | PathLike[str] | None = None,
) -> CNN:
    """Builds the network that a file, a folder or a repository on the Hub describes, with its weights.

    Args:
        source: What ``save`` or a training run left, a ``.safetensors`` file or a folder; or ``hf://user/repo``, with
            ``@revision`` where wanted. ``hf-hub:`` and ``local-dir:`` are understood, too.
        device: Where the weights go; the default is the CPU, ``"auto"`` a GPU where there is one.
        dtype: Their type; by default that of the file.
        verify: Whether the weights are compared with their checksum.
        mmap: Whether the weights stay in the file, and are read when they are used, instead of being copied. What is
            written into them does not go to the file; who cuts the file short kills the process. Files from the Hub
            lie in its cache, where none is changed, and are always read so.
        revision: For the Hub: a branch, tag or commit.
        token: For the Hub: an access token; by default the one that you logged in with, or ``HF_TOKEN``.
        endpoint: For the Hub: its address, where it is another than ``HF_ENDPOINT`` says.
        cache_dir: For the Hub: where to keep files, if not in its cache.

    Returns:
        The network in train mode, as torch does; call ``eval()`` before you use its scores. For the Hub,
        ``notes["source"]`` names the commit.

    Raises:
        FileError: If the path does not exist.
        HubError: If the repository, or the revision, cannot be had.
        WeightsError: If the file is damaged, does not describe a network, or its tensors do not fit it.
    """
    remote = isinstance(source, str) and source.startswith(REMOTE)
    hub = {"revision": revision, "token": token, "endpoint": endpoint, "cache_dir": cache_dir}
    path = locate(source, verify=verify, **hub)
    # what comes from the Hub is compared where it is fetched, and thrown away if it is damaged
    model = read(path, device=device, dtype=dtype, verify=verify and not remote, mmap=mmap or remote)
    if remote:
        model.notes["source"] = f"hf://{Repository.parse(str(source)).id}@{path.name}"
    return model
