"""Turns exceptions of the Hub's client into errors of cnnzoo that say what to do next."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from cnnzoo.errors import CnnzooError, HubError, InputError
from cnnzoo.weights.repository import Repository

_HTTP_CLIENTS = (
    "requests",
    "urllib3",
    "httpx",
    "httpx2",
    "httpcore",
    "httpcore2",
)  # of all huggingface_hub versions


class UnreachableError(HubError):
    """A request that did not reach the Hub, or that the Hub could not answer."""


@contextmanager
def translate_errors(client: Any, repository: Repository, action: str) -> Iterator[None]:
    """Turns errors of the Hub, of its client and of the network into errors of cnnzoo.

    Args:
        client: A ``huggingface_hub.HfApi``.
        repository: The repository in use.
        action: ``"download"`` or ``"upload"``.

    Raises:
        UnreachableError: If there is no answer; the caller may use a copy in the cache.
        HubError: If the Hub refuses.
        InputError: If the name of the repository is not valid.
    """
    from huggingface_hub import errors

    hub = client.endpoint
    login = "log in (hf auth login), set HF_TOKEN, or pass token="
    try:
        with _progress_bars_on_terminals():
            yield
    except CnnzooError:
        raise
    except errors.GatedRepoError:
        raise HubError(f"{repository} is gated: request access at {hub}/{repository.id}, then {login}") from None
    except errors.RevisionNotFoundError:
        raise HubError(
            f"{repository.id} has no revision {repository.revision!r}; {_revisions_hint(client, repository)}"
        ) from None
    except errors.RepositoryNotFoundError:
        raise HubError(
            f"{hub} has no model {repository.id}, or it is private; check the spelling, and if it is private, {login}"
        ) from None
    except errors.EntryNotFoundError as error:
        if isinstance(error, errors.LocalEntryNotFoundError):
            raise UnreachableError(
                f"{hub} cannot be reached ({_one_line(error)}); check the network connection and try again"
            ) from error
        raise HubError(f"{repository} lacks a file: {_one_line(error)}") from None
    except errors.OfflineModeIsEnabled as error:
        raise UnreachableError(f"cannot {action} {repository} with HF_HUB_OFFLINE=1; unset it") from error
    except errors.HfHubHTTPError as error:
        status = getattr(error.response, "status_code", 0)
        if status in (401, 403):
            raise HubError(f"{hub} denies access: {_one_line(error)}; {login}, of an account that has access") from None
        if status == 412:
            raise HubError(
                f"{repository} has newer commits than parent_commit; pull it, compare, and push again"
            ) from None
        if status >= 500 or status == 429:
            raise UnreachableError(
                f"{hub} answers with status {status} ({_one_line(error)}); try again later"
            ) from error
        raise HubError(f"cannot {action} {repository}: {_one_line(error)}") from None
    except errors.HFValidationError as error:
        raise InputError(f"{repository.id!r} is not a valid name of a repository: {_one_line(error)}") from None
    except Exception as error:
        # versions of the client use different HTTP libraries, and pass on or wrap their errors
        cause: BaseException | None = error
        while not (cause is None or isinstance(cause, OSError) or type(cause).__module__.startswith(_HTTP_CLIENTS)):
            cause = cause.__cause__
        if cause is None:
            raise
        raise UnreachableError(
            f"{hub} cannot be reached ({_one_line(cause)}); check the network connection and try again"
            f"{_xet_hint(action)}"
        ) from error


@contextmanager
def _progress_bars_on_terminals() -> Iterator[None]:
    """Disables the client's progress bars if stderr is not a terminal."""
    from huggingface_hub import constants

    utils: Any = import_module("huggingface_hub.utils")
    is_set = constants.HF_HUB_DISABLE_PROGRESS_BARS is not None or utils.are_progress_bars_disabled()
    if is_set or sys.stderr.isatty():
        yield
        return
    utils.disable_progress_bars()
    try:
        yield
    finally:
        utils.enable_progress_bars()


def _one_line(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return text[:300] or type(error).__name__


def _xet_hint(action: str) -> str:
    """Returns a hint for uploads by Xet, which fail like a broken connection on a server without Xet."""
    from huggingface_hub import constants

    if action != "upload" or find_spec("hf_xet") is None or getattr(constants, "HF_HUB_DISABLE_XET", True):
        return ""
    return "; a Hub of your own may not support Xet: set HF_HUB_DISABLE_XET=1"


def _revisions_hint(client: Any, repository: Repository) -> str:
    try:
        refs = client.list_repo_refs(repository.id)
    except Exception:  # this is only a hint
        return f"see {client.endpoint}/{repository.id}"
    return "it has " + ", ".join(ref.name for ref in [*refs.branches, *refs.tags]) + ", and commits by their hash"
