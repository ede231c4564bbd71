"""Uploads models to the Hugging Face Hub: one commit with all files, or none."""

from __future__ import annotations

import shlex
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from os import PathLike
from pathlib import Path

from torch import nn

from cnnzoo.errors import FileError, InputError
from cnnzoo.files import (
    CARD_FILE,
    CONFIG_FILE,
    CURVES_FILE,
    TRAIN_FILE,
    WEIGHTS_FILE,
    exists,
    read_json,
    strip_local_paths,
    write_json,
)
from cnnzoo.modules import unwrap
from cnnzoo.network import CNN
from cnnzoo.weights.description import stored_checksum
from cnnzoo.weights.files import read_model, save
from cnnzoo.weights.hub import MAX_FILE_BYTES, RUN_FILES, read_commit
from cnnzoo.weights.hub_client import HubClient
from cnnzoo.weights.hub_commit import (
    Commit,
    accept,
    create_repository,
    create_tag,
    find_user,
    make_commit,
    require_visibility,
    select_changed,
    upload_large,
)
from cnnzoo.weights.hub_errors import OfflineError, StatusError, explain
from cnnzoo.weights.model_card import make_card
from cnnzoo.weights.repository import Repository, require_revision


def push(
    model: nn.Module | str | PathLike[str],
    repo: str,
    *,
    message: str | None = None,
    tag: str | None = None,
    revision: str | None = None,
    parent_commit: str | None = None,
    create_pr: bool = False,
    private: bool | None = None,
    card: str = "keep",
    license: str | None = None,
    token: str | bool | None = None,
    endpoint: str | None = None,
) -> Commit:
    """Uploads a network to the Hub in one commit: all files or none.

    The repository is created if it does not exist. Unchanged files are not uploaded; if no file has changed, there is
    no commit.

    Args:
        model: A cnnzoo network, or the path of a saved one. With the folder of a training run, its history and curves
            are uploaded too; the paths in its train.json are cut to their last part.
        repo: ``"user/repo"``; a name without a user means a repository of your own account.
        message: The commit message.
        tag: A name for this commit, such as ``"v1"``, which ``hf://user/repo@v1`` loads.
        revision: The branch to commit to, created if it does not exist; by default the main branch. ``"refs/pr/3"``
            commits to pull request 3.
        create_pr: Whether to open a pull request with the commit, for a repository that exists, also one in which you
            may not write.
        parent_commit: The commit that the branch must be at; if it is at another, the Hub refuses.
        private: Whether a repository that is created is private; by default, the setting of your account. One that
            exists must be so already.
        card: ``"keep"`` writes README.md only if there is none, ``"replace"`` always.
        license: The license of the weights, for the card: ``"apache-2.0"``.
        token: An access token with write permission; by default that of ``hf auth login``, or ``HF_TOKEN``.
        endpoint: The Hub's address; by default ``HF_ENDPOINT``.

    Returns:
        The hash of the commit, a string; its ``pull_request`` is the revision of the pull request, or None.

    Raises:
        InputError: If the model cannot be saved, or an argument is not valid.
        FileError: If the path of the model does not exist, or a file in it leads out of its folder.
        WeightsError: If the file at the path is damaged, or does not describe a network.
        HubError: If the Hub refuses, or cannot be reached.
    """
    if card not in ("keep", "replace"):
        raise InputError(f"card must be 'keep' or 'replace', not {card!r}")
    if type(create_pr) is not bool:
        raise InputError(f"create_pr must be True or False, not {create_pr!r}")
    if private not in (None, True, False) or not (message is None or isinstance(message, str)):
        raise InputError(f"private must be True, False or None, and message a string; got {private!r} and {message!r}")
    if create_pr and (tag is not None or revision not in (None, "main")):
        raise InputError(
            "create_pr=True opens a pull request against the main branch, whose commit has no tag yet; leave out "
            f"{'tag=' if tag is not None else 'revision='}, or create_pr= to commit to revision='refs/pr/3'"
        )
    repository = Repository.parse(repo, revision, endpoint)
    if repository.folder:
        raise InputError(
            f"push writes to the root of a repository, not to {repository.folder!r}; push to {repository.id!r}"
        )
    if repository.revision != revision:
        raise InputError(
            f"{repo!r}: pass the part after the @ as tag={repository.revision!r}, or as revision= for a branch"
        )
    if tag is not None:
        require_revision(tag, "tag")
    if parent_commit is not None:
        require_revision(parent_commit, "parent_commit")
    folder = Path(model) if isinstance(model, (str, PathLike)) else None
    network = read_model(folder) if folder is not None else unwrap(model) if isinstance(model, nn.Module) else model
    if not isinstance(network, CNN):
        raise InputError(f"push expects a cnnzoo network or its path, not {type(network).__name__}")
    run_files = [folder / name for name in RUN_FILES if exists(folder / name)] if folder and folder.is_dir() else []
    own_card = folder / CARD_FILE if folder and folder.is_dir() and exists(folder / CARD_FILE) else None
    for file in [*run_files, *([own_card] if own_card else [])]:
        _require_publishable(file)
    client = HubClient(token, endpoint)
    with tempfile.TemporaryDirectory() as name:
        temporary = Path(name)
        model_dir = save(network, temporary / "model", readme=False)
        files = [model_dir / CONFIG_FILE, model_dir / WEIGHTS_FILE]
        files += [_without_local_paths(file, temporary) for file in run_files]
        with _explained(client, repository):
            repository = find_user(client, repository)
            if not create_pr:
                create_repository(client, repository, private)
            if create_pr or private is not None:
                require_visibility(client, repository, private)
            # pull requests, refs/pr/3, are not created as branches
            if repository.revision and not create_pr and not repository.revision.startswith("refs/"):
                accept(409, lambda: client.post(f"{repository.api}/branch/{repository.quoted_revision}", {}))
            parent = read_commit(client, repository)
            if card == "replace" or CARD_FILE not in parent.names:
                has_curves = any(file.name == CURVES_FILE for file in run_files)
                files.append(own_card or _write_card(network, model_dir, str(repository), has_curves, license))
            uploads = select_changed(client, repository, files, create_pr)
            commit = Commit(parent.sha)
            if uploads:
                upload_large(client, repository, [upload for upload in uploads if upload.is_large], create_pr)
                text = message or f"{network.spec.name}, by cnnzoo"
                commit = make_commit(client, repository, uploads, text, parent_commit, create_pr)
            if tag is not None:
                create_tag(client, repository, tag, commit)
    return commit


# --- files ---


def _require_publishable(file: Path) -> None:
    """Checks that a file of a folder is not a link to a file elsewhere, which must not be published.

    Raises:
        FileError: If it is.
    """
    folder = file.parent.resolve()
    roots = [folder]
    if folder.parent.name == "snapshots":  # in the Hub's cache, files are links to blobs
        roots.append(folder.parents[1] / "blobs")
    target = file.resolve()
    if not target.is_file() or not any(target.is_relative_to(root) for root in roots):
        raise FileError(f"{file} leads to {target}, which is not a file of that folder; replace the link by a copy")
    if target.stat().st_size > MAX_FILE_BYTES:
        raise FileError(f"{file} has more than {MAX_FILE_BYTES:,} bytes; push a folder without it")


def _without_local_paths(file: Path, temporary: Path) -> Path:
    """Returns a file of a run; of train.json a copy in ``temporary`` whose paths are cut to their last part."""
    if file.name != TRAIN_FILE:
        return file
    info = read_json(file)
    if isinstance(data := info.get("data"), dict):
        data["name"] = strip_local_paths(str(data.get("name")))
        if isinstance(options := data.get("options"), dict):
            data["options"] = {k: strip_local_paths(v) if isinstance(v, str) else v for k, v in options.items()}
    sessions = info.get("sessions")
    for session in sessions if isinstance(sessions, list) else ():
        if isinstance(session, dict):
            try:
                words = shlex.split(str(session.get("command")))
            except ValueError:
                raise FileError(f"{file}: the command of a session is not valid; push a folder without it") from None
            session["command"] = shlex.join(map(strip_local_paths, words))
    write_json(temporary / TRAIN_FILE, info)
    return temporary / TRAIN_FILE


def _write_card(network: CNN, model_dir: Path, source: str, has_curves: bool, license: str | None) -> Path:
    checksum = stored_checksum(read_json(model_dir / CONFIG_FILE))
    text = make_card(network, checksum, source=source, curves=has_curves, license=license)
    (model_dir / CARD_FILE).write_text(text, encoding="utf-8")
    return model_dir / CARD_FILE


@contextmanager
def _explained(client: HubClient, repository: Repository) -> Iterator[None]:
    """Turns an answer that is an error into one that says what to do."""
    try:
        yield
    except StatusError as error:
        raise explain(error, client.endpoint, repository, "upload") from None
    except OfflineError:
        raise OfflineError(f"cannot upload {repository} with HF_HUB_OFFLINE=1; unset it") from None
