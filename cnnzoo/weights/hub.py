"""Downloads models from the Hugging Face Hub and uploads them: safetensors only, one commit at a time."""

from __future__ import annotations

import re
import shlex
import tempfile
import warnings
from os import PathLike
from pathlib import Path
from typing import Any

from torch import nn

from cnnzoo.errors import HubError, InputError, WeightsError
from cnnzoo.files import (
    CARD_FILE,
    CONFIG_FILE,
    CURVES_FILE,
    HISTORY_FILE,
    TRAIN_FILE,
    WEIGHTS_FILE,
    exists,
    read_json,
    strip_local_paths,
    write_json,
)
from cnnzoo.modules import unwrap
from cnnzoo.network import CNN
from cnnzoo.serialization import read_aliases, read_header
from cnnzoo.weights.description import stored_checksum
from cnnzoo.weights.files import load_with_checksum, read_model, save
from cnnzoo.weights.hub_errors import UnreachableError, translate_errors
from cnnzoo.weights.model_card import make_card
from cnnzoo.weights.repository import Repository

RUN_FILES = (TRAIN_FILE, HISTORY_FILE, CURVES_FILE)  # of a training run, uploaded with its model
_COMMIT_HASH = re.compile(r"[0-9a-f]{40}")


def _make_client(token: str | bool | None, endpoint: str | None) -> Any:
    from huggingface_hub import HfApi

    return HfApi(token=token, endpoint=endpoint, library_name="cnnzoo")


# --- pull ---


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
        verify: Whether the weights are compared with the checksum in config.json.

    Returns:
        The folder with the files of one commit; its name is the hash of the commit.

    Raises:
        InputError: If the name of the repository is not valid.
        HubError: If the repository or the revision cannot be downloaded.
        WeightsError: If the download is damaged; it is removed from the cache.
    """
    repository = Repository.parse(repo, revision)
    client = _make_client(token, endpoint)
    options: dict[str, Any] = {
        "revision": repository.revision,
        "allow_patterns": [CONFIG_FILE, WEIGHTS_FILE, CARD_FILE, *RUN_FILES],
        "cache_dir": None if cache_dir is None else str(Path(cache_dir).expanduser()),
    }
    folder = None
    if repository.revision and _COMMIT_HASH.fullmatch(repository.revision):
        folder = _find_cached(client, repository, options)
    if folder is None or not exists(folder / CONFIG_FILE):  # not in the cache, or not completely
        try:
            folder = _download(client, repository, options)
        except UnreachableError as error:
            folder = _use_cached(client, repository, options, error)
    if verify:
        _require_intact(folder)
    return folder


def _find_cached(client: Any, repository: Repository, options: dict[str, Any]) -> Path | None:
    """Returns the folder of a revision in the cache, None if its weights are not there."""
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        folder = Path(client.snapshot_download(repository.id, local_files_only=True, **options))
    except LocalEntryNotFoundError:
        return None
    return folder if exists(folder / WEIGHTS_FILE) else None


def _download(client: Any, repository: Repository, options: dict[str, Any]) -> Path:
    """Downloads the files of a revision that are not in the cache, and returns their folder."""
    with translate_errors(client, repository, "download"):
        info = client.model_info(repository.id, revision=repository.revision)
        names = sorted(file.rfilename for file in info.siblings or ())
        if WEIGHTS_FILE not in names:
            raise HubError(
                f"{repository} has no {WEIGHTS_FILE}; it holds {', '.join(names[:9]) or 'nothing'}. cnnzoo reads "
                "safetensors only, and never a pickle; ask its author to convert it"
            )
        folder = Path(client.snapshot_download(repository.id, **options))
    if info.sha not in (None, folder.name):  # the Hub became unreachable in between, and the client does not report it
        warnings.warn(
            f"{repository} is at commit {info.sha}, which could not be downloaded; the copy in the cache is used: "
            f"commit {folder.name}",
            stacklevel=3,
        )
    return folder


def _use_cached(client: Any, repository: Repository, options: dict[str, Any], error: UnreachableError) -> Path:
    """Returns the folder of a revision in the cache, with a warning; raises HubError if it is not there."""
    from huggingface_hub.errors import OfflineModeIsEnabled

    folder = _find_cached(client, repository, options)
    is_offline = isinstance(error.__cause__, OfflineModeIsEnabled)
    if folder is None:
        reason = "HF_HUB_OFFLINE=1 forbids a download; unset it" if is_offline else str(error)
        raise HubError(
            f"{repository} is not in the cache, and {reason}; or download it on a machine with a network connection "
            f"(cnnzoo pull {repository.id}) and pass its folder"
        ) from None
    if not is_offline:
        warnings.warn(
            f"{error}; the copy of {repository} in the cache is used, which may be outdated: commit {folder.name}",
            stacklevel=3,
        )
    return folder


def _require_intact(folder: Path) -> None:
    """Compares weights with the checksum in config.json; the Hub's client checks the size of a download only.

    Raises:
        WeightsError: If they differ; the files are removed from the cache.
    """
    config_file, weights_file = folder / CONFIG_FILE, folder / WEIGHTS_FILE
    expected = stored_checksum(read_json(config_file)) if exists(config_file) else None
    if expected is None:
        raise WeightsError(
            f"{folder}: there is no config.json with the checksum of the weights; verify=False accepts a model without "
            "one"
        )
    try:
        aliases = read_aliases(weights_file, read_header(weights_file)[1])
        _, checksum = load_with_checksum(weights_file, aliases, mmap=True)
    except WeightsError as error:
        checksum = f"none ({error})"
    if checksum != expected:
        for file in (weights_file, config_file):
            file.resolve().unlink()
            file.unlink(missing_ok=True)
        raise WeightsError(
            f"{folder}: the checksum of the weights is {checksum}, and config.json says {expected}. They were damaged "
            "in the download or before it, and are removed from the cache: pull again, and tell the author if that "
            "does not help"
        )


# --- push ---


def push(
    model: nn.Module | str | PathLike[str],
    repo: str,
    *,
    message: str | None = None,
    tag: str | None = None,
    revision: str | None = None,
    parent_commit: str | None = None,
    private: bool | None = None,
    card: str = "keep",
    license: str | None = None,
    token: str | bool | None = None,
    endpoint: str | None = None,
) -> str:
    """Uploads a network to the Hub in one commit: all files or none.

    The repository is created if it does not exist. Unchanged files are not uploaded; if no file has changed, there is
    no commit.

    Args:
        model: A cnnzoo network, or the path of a saved one. With the folder of a training run, its history and curves
            are uploaded too; the paths in its train.json are cut to their last part.
        repo: ``"user/repo"``; a name without a user means a repository of your own account.
        message: The commit message.
        tag: A name for this commit, such as ``"v1"``, which ``hf://user/repo@v1`` loads.
        revision: The branch to commit to, created if it does not exist; by default the main branch.
        parent_commit: The commit that the branch must be at; if it is at another, the Hub refuses.
        private: Whether a repository that is created is private; by default, the setting of your account.
        card: ``"keep"`` writes README.md only if there is none, ``"replace"`` always.
        license: The license of the weights, for the card: ``"apache-2.0"``.
        token: An access token with write permission; by default that of ``hf auth login``, or ``HF_TOKEN``.
        endpoint: The Hub's address; by default ``HF_ENDPOINT``.

    Returns:
        The hash of the commit.

    Raises:
        InputError: If the model cannot be saved, or the name of the repository is not valid.
        FileError: If the path of the model does not exist.
        WeightsError: If the file at the path is damaged, or does not describe a network.
        HubError: If the Hub refuses, or cannot be reached.
    """
    from huggingface_hub import CommitOperationAdd

    if card not in ("keep", "replace"):
        raise InputError(f"card must be 'keep' or 'replace', not {card!r}")
    repository = Repository.parse(repo, revision)
    if repository.revision != revision:
        raise InputError(
            f"{repo!r}: pass the part after the @ as tag={repository.revision!r}, or as revision= for a branch"
        )
    folder = Path(model) if isinstance(model, (str, PathLike)) else None
    network = read_model(folder) if folder is not None else unwrap(model) if isinstance(model, nn.Module) else model
    if not isinstance(network, CNN):
        raise InputError(f"push expects a cnnzoo network or its path, not {type(network).__name__}")
    run_files = [folder / name for name in RUN_FILES if exists(folder / name)] if folder and folder.is_dir() else []
    client = _make_client(token, endpoint)
    with tempfile.TemporaryDirectory() as temporary, translate_errors(client, repository, "upload"):
        repo_id = client.create_repo(repository.id, private=private, exist_ok=True).repo_id
        repository = Repository(repo_id, repository.revision)
        if repository.revision:
            client.create_branch(repository.id, branch=repository.revision, exist_ok=True)
        model_dir = save(network, Path(temporary) / "model", readme=False)
        files = [model_dir / CONFIG_FILE, model_dir / WEIGHTS_FILE]
        files += [_without_local_paths(file, Path(temporary)) for file in run_files]
        if card == "replace" or not client.file_exists(repository.id, CARD_FILE, revision=repository.revision):
            has_curves = any(file.name == CURVES_FILE for file in run_files)
            files.append(_find_or_write_card(network, model_dir, folder, str(repository), has_curves, license))
        try:
            commit: str = client.create_commit(
                repository.id,
                [CommitOperationAdd(file.name, str(file)) for file in files],
                commit_message=message or f"{network.spec.name}, by cnnzoo",
                revision=repository.revision,
                parent_commit=parent_commit,
            ).oid
        except ValueError as error:
            # clients before 1.0 cannot parse the address of a commit on another Hub than HF_ENDPOINT; it exists
            if "Unable to retrieve user and repo ID" not in str(error):
                raise
            commit = client.model_info(repository.id, revision=repository.revision).sha
        if tag is not None:
            _create_tag(client, repository, tag, commit)
    return commit


def _without_local_paths(file: Path, temporary: Path) -> Path:
    """Returns a file of a run; of train.json a copy in ``temporary`` whose paths are cut to their last part."""
    if file.name != TRAIN_FILE:
        return file
    info = read_json(file)
    if isinstance(data := info.get("data"), dict):
        data["name"] = strip_local_paths(str(data.get("name")))
        if isinstance(options := data.get("options"), dict):
            data["options"] = {k: strip_local_paths(v) if isinstance(v, str) else v for k, v in options.items()}
    for session in info.get("sessions") or ():
        if isinstance(session, dict):
            session["command"] = shlex.join(map(strip_local_paths, shlex.split(str(session.get("command")))))
    write_json(temporary / TRAIN_FILE, info)
    return temporary / TRAIN_FILE


def _find_or_write_card(
    network: CNN, model_dir: Path, folder: Path | None, source: str, has_curves: bool, license: str | None
) -> Path:
    """Returns the README.md of the folder that is uploaded, or writes one into ``model_dir`` if the folder has none."""
    existing = folder / CARD_FILE if folder and folder.is_dir() else None
    if existing is not None and exists(existing):
        return existing
    checksum = stored_checksum(read_json(model_dir / CONFIG_FILE))
    text = make_card(network, checksum, source=source, curves=has_curves, license=license)
    (model_dir / CARD_FILE).write_text(text, encoding="utf-8")
    return model_dir / CARD_FILE


def _create_tag(client: Any, repository: Repository, tag: str, commit: str) -> None:
    client.create_tag(repository.id, tag=tag, revision=commit, exist_ok=True)
    tags = {ref.name: ref.target_commit for ref in client.list_repo_refs(repository.id).tags}
    if tags.get(tag) != commit:
        raise HubError(
            f"{repository.id} is at commit {commit} now, but tag {tag!r} belongs to commit {tags.get(tag)} already; "
            "choose another tag"
        )
