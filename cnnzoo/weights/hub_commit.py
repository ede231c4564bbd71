"""The requests of a push: the repository, the large files, the commit, the tag."""

from __future__ import annotations

import base64
import json
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from cnnzoo.errors import HubError
from cnnzoo.weights.hub import read_commit
from cnnzoo.weights.hub_cache import COMMIT_HASH, hub_hash
from cnnzoo.weights.hub_client import HubClient, progress_bar
from cnnzoo.weights.hub_errors import StatusError, UnreachableError, explain
from cnnzoo.weights.repository import Repository

_ATTEMPTS = 3  # to upload a file
_PR_QUERY = "?create_pr=1"


class Commit(str):
    """The hash of a commit on the Hub.

    Args:
        sha: The hash.
        pull_request: The revision of the pull request that was opened, such as ``"refs/pr/3"``; None without one.
    """

    pull_request: str | None

    def __new__(cls, sha: str, pull_request: str | None = None) -> Commit:  # noqa: D102
        commit = super().__new__(cls, sha)
        commit.pull_request = pull_request
        return commit


@dataclass(frozen=True)
class Upload:
    """A file to upload.

    Attributes:
        oid: The checksum by which the Hub knows its content: SHA-256 if it is large, else git's SHA-1.
    """

    path: Path
    is_large: bool
    oid: str

    @property
    def size(self) -> int:
        """Its size in bytes."""
        return self.path.stat().st_size


def accept(status: int, request: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Returns what a request answers, an empty dict if it fails with a status that is no error here."""
    try:
        return request()
    except StatusError as error:
        if error.status != status:
            raise
        return {}


def find_user(client: HubClient, repository: Repository) -> Repository:
    """Returns a repository with the user in its name; by default that of the token."""
    if "/" in repository.id:
        return repository
    user = client.clean(client.get("/api/whoami-v2").get("name"))
    return Repository.parse(f"{user}/{repository.id}", repository.revision)


def create_repository(client: HubClient, repository: Repository, private: bool | None) -> None:
    """Creates a repository unless it exists."""
    user, _, name = repository.id.rpartition("/")
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


def require_visibility(client: HubClient, repository: Repository, private: bool | None) -> None:
    """Checks that a repository exists, and is private or public as it must be.

    Raises:
        StatusError: If it does not exist.
        HubError: If it is the other.
    """
    is_private = client.get(repository.api).get("private")
    if private is None:
        return
    if not isinstance(is_private, bool):
        client.refuse(f"it does not say whether {repository.id} is private")
    if is_private != private:
        raise HubError(
            f"{repository.id} is {'private' if is_private else 'public'}, and private={private} was passed; nothing "
            f"was uploaded. Change it at {client.endpoint}/{repository.id}/settings, or leave out private="
        )


def select_changed(client: HubClient, repository: Repository, files: list[Path], create_pr: bool) -> list[Upload]:
    """Returns the files whose content the branch does not have, and how the Hub wants them."""
    listed = [
        {"path": file.name, "sample": base64.b64encode(_head(file)).decode(), "size": file.stat().st_size}
        for file in files
    ]
    path = f"{repository.api}/preupload/{repository.quoted_revision}{_PR_QUERY if create_pr else ''}"
    answer = client.post(path, {"files": listed}).get("files")
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
            uploads.append(Upload(file, is_large, oid))
    return uploads


def _head(file: Path) -> bytes:
    with file.open("rb") as opened:
        return opened.read(512)


def upload_large(client: HubClient, repository: Repository, uploads: list[Upload], create_pr: bool) -> None:
    """Uploads files to the storage of the Hub (Git LFS); they belong to no commit yet."""
    if not uploads:
        return
    request = {
        "operation": "upload",
        "transfers": ["basic"],
        "objects": [{"oid": upload.oid, "size": upload.size} for upload in uploads],
        "hash_algo": "sha256",
        # the Hub asks for the right to write to a branch that is named
        **({} if create_pr else {"ref": {"name": repository.revision or "main"}}),
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


def make_commit(
    client: HubClient, repository: Repository, uploads: list[Upload], message: str, parent: str | None, create_pr: bool
) -> Commit:
    """Makes the commit, in a pull request of its own with ``create_pr``."""
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
    path = f"{repository.api}/commit/{repository.quoted_revision}{_PR_QUERY if create_pr else ''}"
    hint = "It is not known whether the commit was made: push again, which commits only what has changed"
    if create_pr:  # which would open a second one
        pages = f"{client.endpoint}/{repository.id}/discussions"
        hint = f"It is not known whether the pull request was opened: see {pages} before you push again"
    try:
        answer = client.post(path, body, content_type="application/x-ndjson")
        sha, page = answer.get("commitOid"), answer.get("pullRequestUrl")
        number = re.fullmatch(r".*/discussions/([1-9][0-9]{0,9})", page) if isinstance(page, str) else None
        if not isinstance(sha, str) or not COMMIT_HASH.fullmatch(sha):
            client.refuse(f"the hash of the commit is {client.clean(sha)!r}")
        if create_pr and number is None:
            client.refuse(f"the address of the pull request is {client.clean(page)!r}")
    except UnreachableError as error:
        raise type(error)(f"{error}. {hint}") from None
    except StatusError as error:
        if error.status < 500:
            raise
        raise UnreachableError(f"{explain(error, client.endpoint, repository, 'upload')}. {hint}") from None
    return Commit(sha, f"refs/pr/{number[1]}" if create_pr and number else None)


def create_tag(client: HubClient, repository: Repository, tag: str, commit: str) -> None:
    """Tags a commit, and checks that the tag is there."""
    try:
        accept(409, lambda: client.post(f"{repository.api}/tag/{quote(commit)}", {"tag": tag}))
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
