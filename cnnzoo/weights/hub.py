"""Repositories on the Hub: one commit in, one commit out, nothing but safetensors."""

from __future__ import annotations

import json
import re
import shlex
import sys
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from os import PathLike
from pathlib import Path
from typing import Any

from cnnzoo.errors import CnnzooError, HubError, InputError, WeightsError
from cnnzoo.network import CNN
from cnnzoo.serialization import (
    CONFIG_FILE,
    CURVES_FILE,
    HISTORY_FILE,
    METADATA_KEY,
    TRAIN_FILE,
    WEIGHTS_FILE,
    exists,
    read_aliases,
    read_header,
    read_json,
    strip_local_paths,
    write_json,
)
from cnnzoo.weights.files import read, save, summed
from cnnzoo.weights.model_card import CARD
from cnnzoo.weights.model_card import card as card_text

REMOTE = ("hf://", "hf-hub:")
RUN_FILES = (TRAIN_FILE, HISTORY_FILE, CURVES_FILE)  # of a training run, published beside its model
_COMMIT = re.compile(r"[0-9a-f]{40}")
_HTTP_CLIENTS = ("requests", "urllib3", "httpx", "httpx2", "httpcore", "httpcore2")  # by version of huggingface_hub


@dataclass(frozen=True)
class Repository:
    """A model repository, and the revision that is meant (None is its main branch)."""

    id: str
    revision: str | None = None

    @classmethod
    def parse(cls, name: str, revision: str | None = None) -> Repository:
        """The repository that a name stands for: ``user/repo``, ``hf://user/repo@revision``, ``hf-hub:user/repo``.

        Raises:
            InputError: If it is none, or names another revision than is asked for.
        """
        if not isinstance(name, str):
            raise InputError(f"a repository is named by text such as 'user/repo', not by {type(name).__name__}")
        bare = name
        for scheme in REMOTE:
            bare = bare.removeprefix(scheme)
        id_, at, named = bare.removeprefix("models/").partition("@")
        if not re.fullmatch(r"([\w.-]+/)?[\w.-]+", id_) or ".." in id_ or "--" in id_ or (at and not named):
            raise InputError(
                f"{name!r} is no name of a model repository; write 'hf://user/repo' or 'hf://user/repo@v1'"
            )
        if named and revision not in (None, named):
            raise InputError(f"{name!r} names revision {named!r}, and revision={revision!r} another; give one of them")
        return cls(id_, named or revision)

    def __str__(self) -> str:
        return f"hf://{self.id}" + (f"@{self.revision}" if self.revision else "")


def pull(
    repo: str,
    *,
    revision: str | None = None,
    token: str | bool | None = None,
    endpoint: str | None = None,
    cache_dir: str | PathLike[str] | None = None,
    verify: bool = True,
) -> Path:
    """Fetches a model from the Hub, or from the Hub's cache on this machine.

    What is in the cache already is not fetched again, and a whole commit hash that is there costs no request. Where the
    Hub cannot be asked, the cached copy is taken and a warning says so (none with ``HF_HUB_OFFLINE=1``).

    Args:
        repo: ``"user/repo"``, or ``"hf://user/repo@revision"``.
        revision: A branch, tag or commit; by default the main branch.
        token: An access token; by default the one that you logged in with, or ``HF_TOKEN``; False sends none.
        endpoint: The Hub's address, where it is another than ``HF_ENDPOINT`` says.
        cache_dir: Where to keep files, if not in the Hub's cache (``HF_HUB_CACHE``).
        verify: Whether the weights are compared with the checksum in config.json.

    Returns:
        The folder with the files of one commit; its name is the commit's hash.

    Raises:
        HubError: If the repository or the revision cannot be had.
        WeightsError: If what came is damaged; it is taken out of the cache.
    """
    from huggingface_hub.errors import LocalEntryNotFoundError, OfflineModeIsEnabled

    place = Repository.parse(repo, revision)
    api = _api(token, endpoint)
    options: dict[str, Any] = {
        "revision": place.revision,
        "allow_patterns": [CONFIG_FILE, WEIGHTS_FILE, CARD, *RUN_FILES],
    }
    options["cache_dir"] = None if cache_dir is None else str(Path(cache_dir).expanduser())

    def cached() -> Path | None:
        try:
            folder = Path(api.snapshot_download(place.id, local_files_only=True, **options))
        except LocalEntryNotFoundError:
            return None
        return folder if exists(folder / WEIGHTS_FILE) else None

    found = cached() if place.revision and _COMMIT.fullmatch(place.revision) else None
    if found is None or not exists(found / CONFIG_FILE):  # a fetch that was cut short
        try:
            with _answers(api, place, "fetched"):
                listed = api.model_info(place.id, revision=place.revision)
                names = sorted(file.rfilename for file in listed.siblings or ())
                if WEIGHTS_FILE not in names:
                    raise HubError(
                        f"{place} has no {WEIGHTS_FILE}; it holds {', '.join(names[:9]) or 'nothing'}. cnnzoo reads "
                        "safetensors alone, and never a pickle; its publisher can convert it"
                    )
                found = Path(api.snapshot_download(place.id, **options))
        except _Unreachable as problem:
            found = cached()
            offline = isinstance(problem.__cause__, OfflineModeIsEnabled)
            if found is None:
                what = "HF_HUB_OFFLINE forbids to ask for it; unset it" if offline else str(problem)
                raise HubError(
                    f"{place} is not in the cache, and {what}; or fetch it where there is a network "
                    f"(cnnzoo pull {place.id}) and name its folder"
                ) from None
            if not offline:
                warnings.warn(
                    f"{problem}; the copy of {place} in the cache is used, which may be old: commit {found.name}",
                    stacklevel=2,
                )
        else:
            if listed.sha not in (None, found.name):  # the Hub went away between the two, and the client says nothing
                warnings.warn(
                    f"{place} is at commit {listed.sha}, which could not be fetched; the copy in the cache is used: "
                    f"commit {found.name}",
                    stacklevel=2,
                )
    if verify:
        _require_intact(found)
    return found


def _require_intact(folder: Path) -> None:
    """Compares weights with the checksum in config.json: of a download, the Hub's client compares the size alone."""
    config = folder / CONFIG_FILE
    inner = read_json(config).get(METADATA_KEY) if exists(config) else None
    noted = inner.get("weights_sha256") if isinstance(inner, dict) else None
    if noted is None:
        raise WeightsError(
            f"{folder}: no config.json says the checksum of the weights; verify=False takes them all the same"
        )
    try:
        aliases = read_aliases(folder / WEIGHTS_FILE, read_header(folder / WEIGHTS_FILE)[1])
        _, found = summed(folder / WEIGHTS_FILE, aliases, mmap=True)
    except WeightsError as problem:
        found = f"none ({problem})"
    if found != noted:
        for file in (folder / WEIGHTS_FILE, config):
            file.resolve().unlink()
            file.unlink(missing_ok=True)
        raise WeightsError(
            f"{folder}: the weights have checksum {found}, and config.json says {noted}. They were damaged on the way, "
            "or published so; they are taken out of the cache: pull again, and tell the publisher if it comes again"
        )


def push(
    model: CNN | str | PathLike[str],
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
    """Publishes a network on the Hub, in one commit: all of it is there, or nothing.

    The repository is made if there is none. What has not changed is not sent; where nothing has, there is no commit.

    Args:
        model: A network of the zoo, or the path of a saved one; a run folder brings its history and curves, and of
            the paths in its train.json the last part alone.
        repo: ``"user/repo"``; a name alone goes to your own account.
        message: What the commit says.
        tag: A name for this state, such as ``"v1"``, which ``hf://user/repo@v1`` fetches.
        revision: The branch to commit to; made if there is none. By default the main branch.
        parent_commit: Refuses if the branch is no longer at this commit.
        private: Whether a repository that is made here is private; by default as your account says.
        card: ``"keep"`` writes README.md only where there is none, ``"replace"`` always.
        license: The license of the weights, for the card: ``"apache-2.0"``.
        token: An access token with write permission; by default the one that you logged in with, or ``HF_TOKEN``.
        endpoint: The Hub's address, where it is another than ``HF_ENDPOINT`` says.

    Returns:
        The commit's hash.

    Raises:
        InputError: If the model is none that can be saved, or the repository's name is none.
        HubError: If the Hub refuses, or cannot be reached.
    """
    from huggingface_hub import CommitOperationAdd

    if card not in ("keep", "replace"):
        raise InputError(f"card must be 'keep' or 'replace', not {card!r}")
    place = Repository.parse(repo, revision)
    if place.revision != revision:
        raise InputError(f"{repo!r}: say what is after the @ as tag={place.revision!r}, or as revision= for a branch")
    folder = None if isinstance(model, CNN) else Path(model)
    net = model if isinstance(model, CNN) else read(Path(model))
    extras = [folder / name for name in RUN_FILES if exists(folder / name)] if folder and folder.is_dir() else []
    api = _api(token, endpoint)
    with tempfile.TemporaryDirectory() as made, _answers(api, place, "published"):
        place = Repository(api.create_repo(place.id, private=private, exist_ok=True).repo_id, place.revision)
        if place.revision:
            api.create_branch(place.id, branch=place.revision, exist_ok=True)
        saved = save(net, Path(made) / "model", readme=False)
        files = [saved / CONFIG_FILE, saved / WEIGHTS_FILE, *(_without_places(file, Path(made)) for file in extras)]
        if card == "replace" or not api.file_exists(place.id, CARD, revision=place.revision):
            files.append(_written_card(net, saved, folder, str(place), extras, license))
        try:
            commit: str = api.create_commit(
                place.id,
                [CommitOperationAdd(file.name, str(file)) for file in files],
                commit_message=message or f"{net.spec.name}, by cnnzoo",
                revision=place.revision,
                parent_commit=parent_commit,
            ).oid
        except ValueError as problem:
            # clients before 1.0 cannot read the address of a commit on another Hub than HF_ENDPOINT's; it is made
            if "Unable to retrieve user and repo ID" not in str(problem):
                raise
            commit = api.model_info(place.id, revision=place.revision).sha
        if tag is not None:
            _tag(api, place, tag, commit)
    return commit


def _without_places(file: Path, made: Path) -> Path:
    """A file of a run, of which train.json is rewritten: where things lie on this machine is no one else's business."""
    if file.name != TRAIN_FILE:
        return file
    told = read_json(file)
    if isinstance(data := told.get("data"), dict):
        data["name"] = strip_local_paths(str(data.get("name")))
    for session in (told.get("began"), *(told.get("resumed") or ())):
        if isinstance(session, dict):
            session["command"] = shlex.join(map(strip_local_paths, shlex.split(str(session.get("command")))))
    write_json(made / TRAIN_FILE, told)
    return made / TRAIN_FILE


def _written_card(
    net: CNN, saved: Path, folder: Path | None, source: str, extras: list[Path], license: str | None
) -> Path:
    """The card that lies in the folder already, as its owner left it, else a new one."""
    own = folder / CARD if folder and folder.is_dir() else None
    if own is not None and exists(own):
        return own
    checksum = json.loads((saved / CONFIG_FILE).read_text())[METADATA_KEY]["weights_sha256"]
    curves = any(file.name == CURVES_FILE for file in extras)
    (saved / CARD).write_text(card_text(net, checksum, source=source, curves=curves, license=license), encoding="utf-8")
    return saved / CARD


def _tag(api: Any, place: Repository, tag: str, commit: str) -> None:
    api.create_tag(place.id, tag=tag, revision=commit, exist_ok=True)
    at = {ref.name: ref.target_commit for ref in api.list_repo_refs(place.id).tags}.get(tag)
    if at != commit:
        raise HubError(
            f"{place.id} has commit {commit} now, but not as {tag!r}: that tag is at {at} already; choose another tag"
        )


# --- what may go wrong ---


class _Unreachable(HubError):
    """The Hub could not be asked, or could not answer."""


def _api(token: str | bool | None, endpoint: str | None) -> Any:
    from huggingface_hub import HfApi

    return HfApi(token=token, endpoint=endpoint, library_name="cnnzoo")


@contextmanager
def _answers(api: Any, place: Repository, done: str) -> Iterator[None]:
    """Turns what the Hub, its client and the network answer into our errors, with what to do next."""
    from huggingface_hub import errors

    site = api.endpoint
    login = "log in (hf auth login), set HF_TOKEN, or give token="
    try:
        with _bars_on_a_terminal_only():
            yield
    except CnnzooError:
        raise
    except errors.GatedRepoError:
        raise HubError(
            f"{place} is open to those whom its owner lets in; ask for access at {site}/{place.id}, then {login}"
        ) from None
    except errors.RevisionNotFoundError:
        raise HubError(f"{place.id} has no revision {place.revision!r}; {_revisions(api, place)}") from None
    except errors.RepositoryNotFoundError:
        raise HubError(
            f"{site} has no model {place.id}, or it is private; look at the spelling, and if it is private, {login}"
        ) from None
    except errors.EntryNotFoundError as problem:
        if isinstance(problem, errors.LocalEntryNotFoundError):
            raise _Unreachable(f"{site} could not be asked ({_line(problem)}); try again with a network") from problem
        raise HubError(f"{place} lacks a file: {_line(problem)}") from None
    except errors.OfflineModeIsEnabled as problem:
        raise _Unreachable(f"{place} cannot be {done} with HF_HUB_OFFLINE=1; unset it") from problem
    except errors.HfHubHTTPError as problem:
        status = getattr(problem.response, "status_code", 0)
        if status in (401, 403):
            raise HubError(f"{site} does not let you: {_line(problem)}; {login} that may do so") from None
        if status == 412:
            raise HubError(
                f"{place} has moved on since the commit that you named as its parent; pull it, look, and push again"
            ) from None
        if status >= 500 or status == 429:
            raise _Unreachable(f"{site} answers {status} ({_line(problem)}); try again later") from problem
        raise HubError(f"{place} cannot be {done}: {_line(problem)}") from None
    except errors.HFValidationError as problem:
        raise InputError(f"{place.id!r} is no name of a repository: {_line(problem)}") from None
    except Exception as problem:
        # each version of the client has another library for HTTP, and lets its errors through, or wraps them
        cause: BaseException | None = problem
        while not (cause is None or isinstance(cause, OSError) or type(cause).__module__.startswith(_HTTP_CLIENTS)):
            cause = cause.__cause__
        if cause is None:
            raise
        raise _Unreachable(
            f"{site} cannot be reached ({_line(cause)}); try again with a network{_xet(done)}"
        ) from problem


@contextmanager
def _bars_on_a_terminal_only() -> Iterator[None]:
    from huggingface_hub import constants

    utils: Any = import_module("huggingface_hub.utils")
    told = constants.HF_HUB_DISABLE_PROGRESS_BARS is not None or utils.are_progress_bars_disabled()
    if told or sys.stderr.isatty():
        yield
        return
    utils.disable_progress_bars()
    try:
        yield
    finally:
        utils.enable_progress_bars()


def _line(problem: BaseException) -> str:
    text = " ".join(str(problem).split())
    return text[:300] or type(problem).__name__


def _xet(done: str) -> str:
    """The client's fast uploads fail on a server that does not know them, and say only that there is no connection."""
    from huggingface_hub import constants

    if done != "published" or find_spec("hf_xet") is None or getattr(constants, "HF_HUB_DISABLE_XET", True):
        return ""
    return "; if this Hub is one of your own, set HF_HUB_DISABLE_XET=1 first, since it may not know Xet"


def _revisions(api: Any, place: Repository) -> str:
    try:
        refs = api.list_repo_refs(place.id)
    except Exception:  # only to help
        return f"look at {api.endpoint}/{place.id}"
    return "it has " + ", ".join(ref.name for ref in [*refs.branches, *refs.tags]) + ", and commits by their hash"
