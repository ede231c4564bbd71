"""Downloads models from the Hugging Face Hub: safetensors only, the files of one commit, each verified."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any
from urllib.parse import quote

from cnnzoo.errors import FileError, HubError, WeightsError
from cnnzoo.files import (
    CARD_FILE,
    CONFIG_FILE,
    CURVES_FILE,
    HISTORY_FILE,
    PREPROCESSOR_FILE,
    TRAIN_FILE,
    WEIGHTS_FILE,
    exists,
    read_json,
)
from cnnzoo.serialization import METADATA_KEY, read_aliases, read_header
from cnnzoo.weights.description import stored_checksum
from cnnzoo.weights.files import load_with_checksum
from cnnzoo.weights.hub_cache import BLOB_HASH, COMMIT_HASH, RepositoryCache, has_hash
from cnnzoo.weights.hub_client import HubClient, progress_bar
from cnnzoo.weights.hub_errors import OfflineError, StatusError, UnreachableError, explain
from cnnzoo.weights.repository import Repository

RUN_FILES = (TRAIN_FILE, HISTORY_FILE, CURVES_FILE)  # of a training run, uploaded with its model
PULL_FILES = (CONFIG_FILE, WEIGHTS_FILE, CARD_FILE, PREPROCESSOR_FILE, *RUN_FILES)

MAX_FILE_BYTES = 64 * 2**20  # of any file but the weights
_ATTEMPTS = 4  # to continue a download that breaks off


@dataclass(frozen=True)
class RemoteFile:
    """A file of a commit as the Hub lists it.

    Attributes:
        size: In bytes; None if the Hub does not say it.
        checksum: SHA-256 of its content, or git's SHA-1; None if the Hub does not say it.
    """

    size: int | None
    checksum: str | None


@dataclass(frozen=True)
class RemoteCommit:
    """A commit on the Hub: its hash, the names of its files, and those that cnnzoo reads."""

    sha: str
    names: tuple[str, ...]
    files: dict[str, RemoteFile]


def pull(
    repo: str,
    *,
    revision: str | None = None,
    token: str | bool | None = None,
    endpoint: str | None = None,
    cache_dir: str | PathLike[str] | None = None,
    verify: bool = True,
) -> Path:
    """Downloads a model from the Hub, or finds it in the Hub's cache on this machine.

    Files that are in the cache are not downloaded again, and a full commit hash that is there needs no request. If the
    Hub cannot be reached, the copy in the cache is used and a warning says so (no warning with ``HF_HUB_OFFLINE=1``).

    Args:
        repo: ``"user/repo"``, or ``"hf://user/repo@revision"``.
        revision: A branch, tag or commit; by default the main branch.
        token: An access token; by default that of ``hf auth login``, or ``HF_TOKEN``; False sends none.
        endpoint: The Hub's address; by default ``HF_ENDPOINT``.
        cache_dir: Where files are kept; by default the Hub's cache (``HF_HUB_CACHE``).
        verify: Whether the weights are compared with their checksum in config.json and in their own metadata.

    Returns:
        The folder with the files of one commit; its name is the hash of the commit.

    Raises:
        InputError: If the name of the repository, the revision, the token or the endpoint is not valid.
        HubError: If the repository or the revision cannot be downloaded.
        FileError: If the cache cannot be written, or leads to files outside of it.
        WeightsError: If the download is damaged; nothing of it is kept.
    """
    repository = Repository.parse(repo, revision)
    cache = RepositoryCache(repository.id, cache_dir)
    folder = None
    if repository.revision and COMMIT_HASH.fullmatch(repository.revision):
        folder = cache.find(repository.revision)
    if folder is None or not exists(folder / CONFIG_FILE):  # not in the cache, or not completely
        client = HubClient(token, endpoint)
        try:
            folder = _download(client, repository, cache)
        except UnreachableError as error:
            folder = _use_cached(repository, cache, error)
    cache.require_inside(folder)
    if verify:
        _require_intact(folder, cache)
    cache.set_ref(repository.revision, folder)  # last: a damaged commit does not replace one that works
    return folder


def read_commit(client: HubClient, repository: Repository) -> RemoteCommit:
    """Returns what the Hub lists of a revision.

    Raises:
        StatusError: If the Hub refuses.
        UnreachableError: If there is no answer, or it is not that of a Hub.
    """
    info = client.get(f"{repository.api}/revision/{repository.quoted_revision}?blobs=true")
    sha, siblings = info.get("sha"), info.get("siblings")
    if not isinstance(sha, str) or not COMMIT_HASH.fullmatch(sha):
        client.refuse(f"the hash of the commit is {client.clean(sha)!r}")
    if repository.revision and COMMIT_HASH.fullmatch(repository.revision) and sha != repository.revision:
        client.refuse(f"asked for commit {repository.revision}, it lists commit {sha}")
    if not isinstance(siblings, list) or not all(isinstance(file, dict) for file in siblings):
        client.refuse("it does not list the files of the commit")
    named = {file["rfilename"]: file for file in siblings if isinstance(file.get("rfilename"), str)}
    return RemoteCommit(
        sha,
        tuple(sorted(client.clean(name) for name in named)),
        {name: _remote_file(client, name, named[name]) for name in PULL_FILES if name in named},
    )


def _remote_file(client: HubClient, name: str, info: dict[str, Any]) -> RemoteFile:
    """Returns a file from the Hub's list; large files are listed under ``lfs``."""
    lfs = info.get("lfs")
    lfs = lfs if isinstance(lfs, dict) else {}
    size, checksum = lfs.get("size", info.get("size")), lfs.get("sha256", info.get("blobId"))
    if size is not None and (type(size) is not int or size < 0):
        client.refuse(f"the size of {name} is {client.clean(size)!r}")
    if checksum is not None and not (isinstance(checksum, str) and BLOB_HASH.fullmatch(checksum)):
        client.refuse(f"the checksum of {name} is {client.clean(checksum)!r}")
    return RemoteFile(size, checksum)


def _download(client: HubClient, repository: Repository, cache: RepositoryCache) -> Path:
    """Downloads the files of a revision that are not in the cache, and returns their folder."""
    try:
        commit = read_commit(client, repository)
    except StatusError as error:
        raise _explain(error, client, repository) from None
    if WEIGHTS_FILE not in commit.files:
        raise HubError(
            f"{repository} has no {WEIGHTS_FILE}; it holds {', '.join(commit.names[:9]) or 'nothing'}. cnnzoo reads "
            "safetensors only, and never a pickle; ask its author to convert it"
        )
    folder = cache.snapshot(commit.sha)
    missing = {name: file for name, file in commit.files.items() if not exists(folder / name)}
    with progress_bar(repository.id, sum(file.size or 0 for file in missing.values())) as progress:
        # the weights come last: a snapshot with weights is complete
        for name in sorted(missing, key=lambda name: name == WEIGHTS_FILE):
            try:
                blob = _download_file(client, repository, commit.sha, name, missing[name], cache, progress)
            except (StatusError, UnreachableError) as error:
                reason = _explain(error, client, repository) if isinstance(error, StatusError) else error
                if not isinstance(reason, UnreachableError):
                    raise reason from None
                raise UnreachableError(f"{name} of commit {commit.sha} could not be downloaded: {reason}") from None
            cache.link(commit.sha, name, blob)
    return folder


def _download_file(
    client: HubClient, repository: Repository, sha: str, name: str, file: RemoteFile, cache: RepositoryCache,
    progress: Callable[[int], object],
) -> str:  # fmt: skip
    """Downloads a file unless its content is in the cache, and returns the name of its blob."""
    if file.checksum and exists(cache.blob(file.checksum)):
        return file.checksum
    url = f"{client.endpoint}/{repository.id}/resolve/{sha}/{quote(name)}"
    if file.checksum is None or file.size is None:
        with client.open("GET", url) as response:  # an older Hub tells both with the file only
            etag, length = response.etag.removeprefix("W/").strip('"'), response.headers.get("content-length", "")
        checksum = file.checksum or (etag if BLOB_HASH.fullmatch(etag) else None)
        size = file.size if file.size is not None else int(length) if length.isdecimal() and len(length) < 19 else None
        if checksum is None or size is None:
            client.refuse(f"it does not tell the size and the checksum of {name}")
        return _download_file(client, repository, sha, name, RemoteFile(size, checksum), cache, progress)
    if name != WEIGHTS_FILE and file.size > MAX_FILE_BYTES:
        raise HubError(
            f"{name} of {repository} has {file.size:,} bytes, more than the maximum of {MAX_FILE_BYTES:,}; ask its "
            "author for a smaller one"
        )
    with cache.write_blob(file.checksum, file.size) as target:
        received = 0
        for attempt in range(_ATTEMPTS):
            try:
                headers = {"range": f"bytes={received}-"} if received else {}
                with client.open("GET", url, headers=headers) as response:
                    if received and response.status != 206:  # sent from the start again
                        received = 0
                        target.seek(0)
                        target.truncate()
                    for chunk in response.chunks:
                        received += len(chunk)
                        if received > file.size:
                            client.refuse(f"it sends more than the {file.size:,} bytes of {name}")
                        cache.write(target, chunk)
                        progress(len(chunk))
                if received == file.size:
                    break
                raise UnreachableError(
                    f"{client.endpoint} broke off after {received:,} of {file.size:,} bytes; check the network "
                    "connection and try again"
                )
            except UnreachableError:
                if attempt + 1 == _ATTEMPTS or received in (0, file.size) or received > file.size:
                    raise
                time.sleep(2**attempt)
        target.flush()
        if not has_hash(target, file.checksum):
            raise WeightsError(
                f"{name} of {repository} was damaged in the download: its checksum is not {file.checksum}, which the "
                "Hub lists; it is not kept: pull again, and tell the author if that does not help"
            )
    return file.checksum


def _explain(error: StatusError, client: HubClient, repository: Repository) -> HubError:
    """Returns the error for a status; for an unknown revision, it lists those that exist."""
    explained = explain(error, client.endpoint, repository, "download")
    if error.code != "RevisionNotFound":
        return explained
    try:
        refs = client.get(f"{repository.api}/refs")
        names = [client.clean(ref["name"]) for kind in ("branches", "tags") for ref in refs[kind]]
    except Exception:  # this is only a hint
        return HubError(f"{explained}; see {client.endpoint}/{repository.id}")
    shown = ", ".join(names[:20]) + (" ..." if len(names) > 20 else "")
    return HubError(f"{explained}; it has {shown or 'no branch'}, and commits by their hash")


def _use_cached(repository: Repository, cache: RepositoryCache, error: UnreachableError) -> Path:
    """Returns the folder of a revision in the cache, with a warning; raises HubError if it is not there."""
    folder = cache.find(repository.revision)
    if folder is None:
        reason = "HF_HUB_OFFLINE=1 forbids a download; unset it" if isinstance(error, OfflineError) else str(error)
        raise HubError(
            f"{repository} is not in the cache, and {reason}; or download it on a machine with a network connection "
            f"(cnnzoo pull {repository.id}) and pass its folder"
        ) from None
    if not isinstance(error, OfflineError):
        warnings.warn(
            f"{error}; the copy of {repository} in the cache is used, which may be outdated: commit {folder.name}",
            stacklevel=3,
        )
    return folder


def _require_intact(folder: Path, cache: RepositoryCache) -> None:
    """Compares weights with the checksum in config.json, and with that in their own metadata if they have some.

    Raises:
        WeightsError: If they differ; files that were damaged on this machine are removed from the cache.
    """
    config_file, weights_file = folder / CONFIG_FILE, folder / WEIGHTS_FILE
    if not exists(config_file):
        raise WeightsError(
            f"{folder}: there is no config.json with the checksum of the weights; verify=False accepts a model without "
            "one"
        )
    try:
        header = read_header(weights_file)[1]
        if not header and METADATA_KEY not in read_json(config_file):
            return  # of another library, with the Hub's own checksum, which was compared in the download
        descriptions = {CONFIG_FILE: read_json(config_file), **({WEIGHTS_FILE: header} if header else {})}
        _, checksum = load_with_checksum(weights_file, read_aliases(weights_file, header), mmap=True)
        for name, description in descriptions.items():
            if (expected := stored_checksum(description)) is None:
                raise WeightsError(
                    f"its {name} has no checksum of the weights; verify=False accepts a model without one"
                )
            if checksum != expected:
                raise WeightsError(
                    f"the checksum of the weights is {checksum}, and {name} says {str(expected)[:100]!r}"
                )
    except (WeightsError, FileError) as error:
        if damaged := [file.name for file in (config_file, weights_file) if cache.remove_damaged(file)]:
            raise WeightsError(
                f"{folder}: {' and '.join(damaged)} was damaged on this machine, and is removed from the cache: pull "
                "again"
            ) from None
        raise WeightsError(
            f"{folder}: {error}. The files are as the Hub has them; tell the author, or pull another revision"
        ) from None
