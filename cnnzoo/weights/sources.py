"""Loads a network from a path or from the Hub."""

from __future__ import annotations

from os import PathLike
from pathlib import Path
from typing import Any

import torch

from cnnzoo.errors import InputError
from cnnzoo.files import exists
from cnnzoo.network import CNN
from cnnzoo.weights.files import read_model, require_placement
from cnnzoo.weights.foreign_repository import is_foreign, read_foreign
from cnnzoo.weights.hub import pull
from cnnzoo.weights.repository import HUB_PREFIXES, LOCAL_PREFIX, Repository


def locate(source: str | PathLike[str], *, verify: bool = False, **hub: Any) -> Path:
    """Returns the file or folder of a source; that of a repository is downloaded.

    Args:
        source: A path, ``local-dir:path``, or ``hf://user/repo@revision`` (or ``hf-hub:``).
        verify: For the Hub: whether the weights are compared with their checksum.
        **hub: For the Hub: ``revision``, ``token``, ``endpoint``, ``cache_dir``, as for ``pull``.

    Raises:
        InputError: If the source looks like a repository without ``hf://``, or options of the Hub come with a path.
        HubError: If the repository or the revision cannot be downloaded.
        WeightsError: If the download is damaged.
    """
    if isinstance(source, str) and source.startswith(HUB_PREFIXES):
        return pull(source, verify=verify, **hub)
    if options := [name for name, value in hub.items() if value is not None]:
        raise InputError(
            f"{', '.join(options)}= is for the Hub, and {str(source)!r} is a path; for a repository write 'hf://user/repo'"
        )
    path = Path(str(source).removeprefix(LOCAL_PREFIX))
    if _is_bare_repository(source):
        raise InputError(
            f"{source!r} does not exist here (as {path.absolute()}); for a repository on the Hub write 'hf://{source}'"
        )
    return path


def _is_bare_repository(source: str | PathLike[str]) -> bool:
    """Returns whether a source is of the form ``user/repo``, and not a path that exists."""
    parts, path = str(source).split("/"), Path(str(source).removeprefix(LOCAL_PREFIX))
    return isinstance(source, str) and len(parts) == 2 and all(parts) and parts[0] != "." and not exists(path)


def load_bare(source: str | PathLike[str], **options: Any) -> CNN:
    """Loads a network as ``load`` does; ``user/repo`` without ``hf://`` is a repository, unless such a path exists."""
    return load(f"{HUB_PREFIXES[0]}{source}" if _is_bare_repository(source) else source, **options)


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
    **others: Any,
) -> CNN:
    """Builds the network that a file, a folder or a repository describes, with its weights.

    Args:
        source: What ``save`` or a training run wrote, a ``.safetensors`` file or a folder; or ``hf://user/repo``,
            optionally with ``@revision``. ``hf-hub:`` and ``local-dir:`` are accepted too. Folders and repositories of
            timm and transformers are read if they hold a network of the zoo: ``hf://timm/resnet18.a1_in1k``.
        device: Device of the weights; the CPU by default, ``"auto"`` for a GPU if there is one.
        dtype: Floating dtype of the weights; that of the file by default.
        verify: Whether the weights are compared with their checksum; False also accepts a file without one.
        mmap: Whether the weights stay in the file and are read on first use, instead of being copied. Writing to them
            does not change the file; truncating the file kills the process. Files from the Hub are always mapped: the
            files in its cache are not changed.
        revision: For the Hub: a branch, tag or commit.
        token: For the Hub: an access token; by default that of ``hf auth login``, or ``HF_TOKEN``.
        endpoint: For the Hub: its address; by default ``HF_ENDPOINT``.
        cache_dir: For the Hub: where files are kept; by default its cache.
        **others: Not accepted: knobs are for ``cnnzoo.create``, which adapts the network.

    Returns:
        The network in eval mode; call ``train()`` before a training loop of your own. For the Hub,
        ``metadata.provenance["source"]`` names the commit.

    Raises:
        InputError: If the device or dtype is not valid, an argument is not known, or one of the Hub is passed with a
            path.
        FileError: If the path does not exist.
        HubError: If the repository or the revision cannot be downloaded.
        WeightsError: If the file is damaged, does not describe a network, or its tensors do not fit the network.
    """
    if others:
        arguments = ", ".join(f"{name}={value!r}" for name, value in others.items())
        raise InputError(
            f"load has no argument {' or '.join(others)}, since it returns a network as it was saved; to adapt it: "
            f"cnnzoo.create({str(source)!r}, {arguments})"
        )
    is_remote = isinstance(source, str) and source.startswith(HUB_PREFIXES)
    hub = {"revision": revision, "token": token, "endpoint": endpoint, "cache_dir": cache_dir}
    path = locate(source, verify=verify, **hub)
    if is_foreign(path):
        target = require_placement(device, dtype)
        model = read_foreign(path, mmap=mmap or is_remote)
        metadata = model.metadata
        model.to(device=target, dtype=dtype).metadata = metadata  # of the converted weights
    else:  # pull has already verified the checksum
        model = read_model(path, device=device, dtype=dtype, verify=verify and not is_remote, mmap=mmap or is_remote)
    if is_remote:
        commit = f"hf://{Repository.parse(str(source)).id}@{path.name}"
        provenance = model.metadata.provenance or {"kind": "unknown"}
        model.metadata = model.metadata.replace(provenance={**provenance, "source": commit})
    return model.eval()
