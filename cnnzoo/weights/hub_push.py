"""Uploads models to the Hugging Face Hub: one commit with all files, or none."""

from __future__ import annotations

import base64
import json
import shlex
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any
from urllib.parse import quote

from torch import nn

from cnnzoo.errors import FileError, HubError, InputError
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
from cnnzoo.weights.hub_cache import COMMIT_HASH, hub_hash
from cnnzoo.weights.hub_client import HubClient, progress_bar
from cnnzoo.weights.hub_errors import OfflineError, StatusError, UnreachableError, explain
from cnnzoo.weights.model_card import make_card
from cnnzoo.weights.repository import Repository, require_revision

_ATTEMPTS = 3  # to upload a file


@dataclass(frozen=True)
class _Upload:
    """A file to upload.

    Attributes:
        oid: The checksum by which the Hub knows its content: SHA-256 if it is large, else git's SHA-1.
    """

    path: Path
    is_large: bool
    oid: str

    @property
    def size(self) -> int:
        return self.path.stat().st_size


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
        InputError: If the model cannot be saved, or an argument is not valid.
        FileError: If the path of the model does not exist, or a file in it leads out of its folder.
        WeightsError: If the file at the path is damaged, or does not describe a network.
        HubError: If the Hub refuses, or cannot be reached.
    """
    if card not in ("keep", "replace"):
        raise InputError(f"card must be 'keep' or 'replace', not {card!r}")
    if private not in (None, True, False) or not (message is None or isinstance(message, str)):
        raise InputError(f"private must be True, False or None, and message a string; got {private!r} and {message!r}")
    repository = Repository.parse(repo, revision)
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
            repository = _create_repository(client, repository, private)
            if repository.revision and not repository.revision.startswith("refs/"):  # those of pull requests
                _accept(409, lambda: client.post(f"{repository.api}/branch/{repository.quoted_revision}", {}))
            parent = read_commit(client, repository)
            if card == "replace" or CARD_FILE not in parent.names:
                has_curves = any(file.name == CURVES_FILE for file in run_files)
                files.append(own_card or _write_card(network, model_dir, str(repository), has_curves, license))
            uploads = _select_changed(client, repository, files)
            commit = parent.sha
            if uploads:
                _upload_large(client, repository, [upload for upload in uploads if upload.is_large])
                commit = _commit(
                    client, repository, uploads, message or f"{network.spec.name}, by cnnzoo", parent_commit
                )
            if tag is not None:
                _create_tag(client, repository, tag, commit)
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


# --- requests, in their order ---


@contextmanager
def _explained(client: HubClient, repository: Repository) -> Iterator[None]:
    """Turns an answer that is an error into one that says what to do."""
    try:
        yield
    except StatusError as error:
        raise explain(error, client.endpoint, repository, "upload") from None
    except OfflineError:
        raise OfflineError(f"cannot upload {repository} with HF_HUB_OFFLINE=1; unset it") from None


def _accept(status: int, request: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Returns what a request answers, an empty dict if it fails with a status that is no error here."""
    try:
        return request()
    except StatusError as error:
        if error.status != status:
            raise
        return {}


def _create_repository(client: HubClient, repository: Repository, private: bool | None) -> Repository:
    """Creates a repository unless it exists; returns it with the user in its name."""
    user, _, name = repository.id.rpartition("/")
    if not user:
        user = client.clean(client.get("/api/whoami-v2").get("name"))
        repository = Repository.parse(f"{user}/{name}", repository.revision)
    body: dict[str, Any] = {"name": name, "organization": user, "type": "model"}
    if private is not None:
        body["visibility"] = "private" if private else "public"
    try:
        client.post("/api/repos/create", body)
    except StatusError as error:
        if error.status in (401, 402, 403):  # a token may lack this right, and have that to write to an existing one
            try:
                read_commit(client, Repository(repository.id))
            except HubError:
                raise error from None
        elif error.status != 409:  # it exists
            raise
    return repository


def _select_changed(client: HubClient, repository: Repository, files: list[Path]) -> list[_Upload]:
    """Returns the files whose content the branch does not have, and how the Hub wants them."""
    listed = [
        {"path": file.name, "sample": base64.b64encode(_head(file)).decode(), "size": file.stat().st_size}
        for file in files
    ]
    answer = client.post(f"{repository.api}/preupload/{repository.quoted_revision}", {"files": listed}).get("files")
    infos = {info.get("path"): info for info in answer if isinstance(info, dict)} if isinstance(answer, list) else {}
    uploads = []
    for file in files:
        info = infos.get(file.name, {})
        if info.get("uploadMode") not in ("lfs", "regular"):
            client.refuse(f"it does not say how to upload {file.name}")
        if info.get("shouldIgnore"):
            raise HubError(f"the .gitignore of {repository} excludes {file.name}; remove it there, and push again")
        is_large = info["uploadMode"] == "lfs" and file.stat().st_size > 0
        with file.open("rb") as opened:
            oid = hub_hash(opened, is_sha256=is_large)
        if info.get("oid") != oid:
            uploads.append(_Upload(file, is_large, oid))
    return uploads


def _head(file: Path) -> bytes:
    with file.open("rb") as opened:
        return opened.read(512)


def _upload_large(client: HubClient, repository: Repository, uploads: list[_Upload]) -> None:
    """Uploads files to the storage of the Hub (Git LFS); they belong to no commit yet."""
    if not uploads:
        return
    request = {
        "operation": "upload",
        "transfers": ["basic"],
        "objects": [{"oid": upload.oid, "size": upload.size} for upload in uploads],
        "hash_algo": "sha256",
        "ref": {"name": repository.revision or "main"},
    }
    answer = client.post(
        f"/{repository.id}.git/info/lfs/objects/batch", request, content_type="application/vnd.git-lfs+json"
    ).get("objects")
    objects = (
        {entry.get("oid"): entry for entry in answer if isinstance(entry, dict)} if isinstance(answer, list) else {}
    )
    with progress_bar(repository.id, sum(upload.size for upload in uploads)) as progress:
        for upload in uploads:
            entry = objects.get(upload.oid)
            if entry is None:
                client.refuse(f"it does not say where to upload {upload.path.name}")
            if "error" in entry:
                raise HubError(f"{client.endpoint} refuses {upload.path.name}: {client.clean(entry['error'])}")
            if not entry.get("actions"):  # the storage has it
                progress(upload.size)
                continue
            href, headers = _action(client, entry["actions"], "upload")
            _put(client, href, upload.path, headers, progress)
            if "verify" in entry["actions"]:
                href, headers = _action(client, entry["actions"], "verify")
                client.post(href, {"oid": upload.oid, "size": upload.size}, headers=headers)


def _action(client: HubClient, actions: Any, kind: str) -> tuple[str, dict[str, str]]:
    """Returns the address and the headers of a request to the storage."""
    action = actions.get(kind) if isinstance(actions, dict) else None
    href = action.get("href") if isinstance(action, dict) else None
    headers = (action.get("header") or {}) if isinstance(action, dict) else {}
    is_text = isinstance(headers, dict) and all(isinstance(text, str) for pair in headers.items() for text in pair)
    schemes = ("https://",) if client.endpoint.startswith("https:") else ("https://", "http://")
    if not isinstance(href, str) or not href.startswith(schemes) or not is_text:
        client.refuse("it does not say where to upload files")
    return href, headers


def _put(client: HubClient, href: str, file: Path, headers: dict[str, str], progress: Callable[[int], object]) -> None:
    for attempt in range(_ATTEMPTS):
        try:
            return client.upload(href, file, headers, progress)
        except (UnreachableError, StatusError) as error:
            if attempt + 1 == _ATTEMPTS or (isinstance(error, StatusError) and error.status < 500):
                raise
            time.sleep(2**attempt)


def _commit(client: HubClient, repository: Repository, uploads: list[_Upload], message: str, parent: str | None) -> str:
    """Makes the commit, and returns its hash."""
    summary, _, description = message.partition("\n")
    header = {"summary": summary, "description": description.strip(), **({"parentCommit": parent} if parent else {})}
    lines: list[dict[str, Any]] = [{"key": "header", "value": header}]
    for upload in uploads:
        value: dict[str, Any] = {"path": upload.path.name}
        if upload.is_large:
            lines.append(
                {"key": "lfsFile", "value": {**value, "algo": "sha256", "oid": upload.oid, "size": upload.size}}
            )
        else:
            content = base64.b64encode(upload.path.read_bytes()).decode()
            lines.append({"key": "file", "value": {**value, "content": content, "encoding": "base64"}})
    body = b"".join(json.dumps(line).encode() + b"\n" for line in lines)
    path = f"{repository.api}/commit/{repository.quoted_revision}"
    hint = "It is not known whether the commit was made: push again, which commits only what has changed"
    try:
        sha = client.post(path, body, content_type="application/x-ndjson").get("commitOid")
        if not isinstance(sha, str) or not COMMIT_HASH.fullmatch(sha):
            client.refuse(f"the hash of the commit is {client.clean(sha)!r}")
    except UnreachableError as error:
        raise type(error)(f"{error}. {hint}") from None
    except StatusError as error:
        if error.status < 500:
            raise
        raise UnreachableError(f"{explain(error, client.endpoint, repository, 'upload')}. {hint}") from None
    return sha


def _create_tag(client: HubClient, repository: Repository, tag: str, commit: str) -> None:
    try:
        _accept(409, lambda: client.post(f"{repository.api}/tag/{quote(commit)}", {"tag": tag}))
        refs = client.get(f"{repository.api}/refs").get("tags")
    except HubError as error:
        reason = explain(error, client.endpoint, repository, "upload") if isinstance(error, StatusError) else error
        raise HubError(
            f"{repository.id} is at commit {commit} now, but tag {tag!r} could not be created: {reason}"
        ) from None
    tags = (
        {ref.get("name"): ref.get("targetCommit") for ref in refs if isinstance(ref, dict)}
        if isinstance(refs, list)
        else {}
    )
    if tags.get(tag) != commit:
        other = client.clean(tags.get(tag))
        raise HubError(
            f"{repository.id} is at commit {commit} now, but tag {tag!r} belongs to commit {other} already; "
            "choose another tag"
        )
