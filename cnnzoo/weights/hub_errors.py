"""Errors of requests to the Hub: what they say, without secrets and control characters."""

from __future__ import annotations

import re
from collections.abc import Iterable

from cnnzoo.errors import HubError
from cnnzoo.weights.repository import Repository

LOGIN_HINT = "log in (hf auth login), set HF_TOKEN, or pass token="

_MAX_SERVER_TEXT = 200  # characters of a server's text in a message
_CREDENTIALS = re.compile(r"(?<=//)\S*@|\S+:\S*@")  # in an address: "//user:password@"
_TOKEN = re.compile(r"\bhf_\w+")


class UnreachableError(HubError):
    """A request without a usable answer; a copy in the cache may serve instead."""


class OfflineError(UnreachableError):
    """A request that HF_HUB_OFFLINE=1 forbids."""


class StatusError(HubError):
    """An answer that is an error.

    Attributes:
        status: The HTTP status.
        code: The Hub's name of the error, such as ``"RevisionNotFound"``; empty for other servers.
        text: The server's explanation, safe to print.
    """

    def __init__(self, status: int, code: str, text: str) -> None:
        super().__init__(f"status {status}" + (f" ({text})" if text else ""))
        self.status, self.code, self.text = status, code, text


def clean(text: object, secrets: Iterable[str] = ()) -> str:
    """Returns foreign text in one line for a message: short, control characters escaped, secrets replaced by ``***``.

    Args:
        text: Text of a server, or of an exception.
        secrets: Tokens and passwords in use.
    """
    line = " ".join(str(text)[: 20 * _MAX_SERVER_TEXT].split())  # the search below takes quadratic time
    for secret in secrets:
        line = line.replace(secret, "***")
    line = _TOKEN.sub("hf_***", _CREDENTIALS.sub("***@", line))
    line = "".join(char if char.isprintable() else ascii(char)[1:-1] for char in line[: 2 * _MAX_SERVER_TEXT])
    return line if len(line) <= _MAX_SERVER_TEXT else line[: _MAX_SERVER_TEXT - 3] + "..."


def explain(error: StatusError, hub: str, repository: Repository, action: str) -> HubError:
    """Returns the error for a status, which says what to do next.

    Args:
        error: The answer.
        hub: The Hub's address.
        repository: The repository in use.
        action: ``"download"`` or ``"upload"``.
    """
    status, code, reason = error.status, error.code, f"({error.text or f'status {error.status}'})"
    if code == "GatedRepo":
        return HubError(f"{repository} is gated: request access at {hub}/{repository.id}, then {LOGIN_HINT}")
    if code == "RevisionNotFound":
        is_new_pr = action == "upload" and (repository.revision or "").startswith("refs/pr/")
        hint = "; open a pull request with create_pr=True" if is_new_pr else ""
        return HubError(f"{repository.id} has no revision {repository.revision or 'main'!r}{hint}")
    # the Hub does not tell repositories that are private from those that do not exist
    is_hidden = status == 401 and action == "download" and not code and "credentials" not in error.text
    if code == "RepoNotFound" or is_hidden:
        return HubError(
            f"{hub} has no model {repository.id}, or it is private; check the spelling, and if it is private, "
            f"{LOGIN_HINT}"
        )
    if status in (401, 403):
        return HubError(f"{hub} denies access: {error.text or error}; {LOGIN_HINT}, of an account that has access")
    if status == 412:
        return HubError(f"{repository} has newer commits than parent_commit; pull it, compare, and push again")
    if status in (408, 429) or status >= 500:
        return UnreachableError(f"{hub} answers with status {status} {reason}; try again later")
    if status == 404:
        return HubError(
            f"cannot {action} {repository}: {hub} answers with status 404 {reason}; check the spelling, and HF_ENDPOINT"
        )
    return HubError(
        f"cannot {action} {repository}: {hub} answers with status {status} {reason}; try again, and if that does not "
        "help, ask those who run it"
    )
