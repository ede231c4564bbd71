"""Names of saved networks: paths, and model repositories on the Hugging Face Hub."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit

from cnnzoo.errors import InputError
from cnnzoo.files import CONFIG_FILE, WEIGHTS_FILE, exists

_WEB = ("https://", "http://")
HUB_PREFIXES = ("hf://", "hf-hub:", *_WEB)  # the Hub's, timm's, and addresses of pages
_HOSTS = ("huggingface.co", "hf.co")
LOCAL_PREFIX = "local-dir:"  # timm's

PICKLE_SUFFIXES = (".pth", ".pt", ".bin", ".ckpt", ".tar")  # of files that torch.save writes
STATE_SUFFIXES = (".safetensors", *PICKLE_SUFFIXES)


def is_state_file(source: object) -> bool:
    """Returns whether a value names a file with weights: a path, or a string with a suffix of such files."""
    return isinstance(source, PathLike) or (isinstance(source, str) and source.endswith(STATE_SUFFIXES))


def is_source(source: object) -> bool:
    """Returns whether a value names a saved network: a path that exists or looks like one, or a repository."""
    if isinstance(source, PathLike):
        return True
    if not isinstance(source, str):
        return False
    looks_like_path = "/" in source or source.endswith(".safetensors")
    has_prefix = source.startswith((*HUB_PREFIXES, LOCAL_PREFIX))
    return looks_like_path or has_prefix or (len(source) < 256 and exists(Path(source)))


_ID = re.compile(r"([\w.-]{1,96}/)?[\w.-]{1,96}", re.ASCII)
_REVISION = re.compile(r"(?!.*\.\.)[\w+=#,-][\w.+=#,-]*(/[\w+=#,-][\w.+=#,-]*)*")  # no path that leads elsewhere
_MAX_REVISION = 200
_FOLDER = re.compile(r"[\w.+=-]{1,96}(/[\w.+=-]{1,96}){0,7}", re.ASCII)
_PAGES = ("tree", "blob", "resolve", "raw", "commit")  # in the address of a page, before the revision


@dataclass(frozen=True)
class Repository:
    """A model repository and one of its revisions.

    Attributes:
        id: ``"user/repo"``.
        revision: A branch, tag or commit; None for the main branch.
        folder: The folder in the repository that has the model; empty for its root.
    """

    id: str
    revision: str | None = None
    folder: str = ""

    @classmethod
    def parse(cls, name: str, revision: str | None = None, endpoint: str | None = None) -> Repository:
        """Returns the repository of a name.

        Args:
            name: ``user/repo``, ``hf://user/repo@revision``, ``hf://user/repo/folder@revision``, ``hf-hub:user/repo``,
                or the address of a page: ``https://huggingface.co/user/repo/tree/main``.
            revision: A revision, if the name has none.
            endpoint: The Hub's address, whose pages are accepted too; by default ``HF_ENDPOINT``.

        Raises:
            InputError: If the name is not valid, or has another revision than ``revision``.
        """
        if not isinstance(name, str):
            raise InputError(f"a repository must be a string such as 'user/repo', not {type(name).__name__}")
        path = _from_page(name, endpoint) if name.startswith(_WEB) else name
        for prefix in HUB_PREFIXES:
            path = path.removeprefix(prefix)
        place, at, own_revision = path.removeprefix("models/").partition("@")
        parts = place.split("/")
        if parts[-1] in (CONFIG_FILE, WEIGHTS_FILE) and len(parts) > 2:
            parts.pop()
        id_, folder = "/".join(parts[:2]), "/".join(parts[2:])
        is_folder = _FOLDER.fullmatch(folder) and not any(set(part) == {"."} for part in parts)
        if (
            not _ID.fullmatch(id_)
            or ".." in id_
            or "--" in id_
            or (at and not own_revision)
            or (folder and not is_folder)
        ):
            raise InputError(
                f"{name[:200]!r} is not a valid name of a model repository; write 'hf://user/repo' or 'hf://user/repo@v1'"
            )
        if own_revision and revision not in (None, own_revision):
            raise InputError(
                f"{name!r} names revision {own_revision!r}, and revision={revision!r} another; pass only one of them"
            )
        chosen = own_revision or revision
        if chosen is not None:
            require_revision(chosen)
        return cls(id_, chosen, folder)

    @property
    def api(self) -> str:
        """The path of the repository in the Hub's API."""
        return f"/api/models/{self.id}"

    @property
    def quoted_revision(self) -> str:
        """The revision as a part of an address."""
        return quote(self.revision or "main", safe="")

    def __str__(self) -> str:
        return f"hf://{self.path}" + (f"@{self.revision}" if self.revision else "")

    @property
    def path(self) -> str:
        """The repository and the folder in it."""
        return f"{self.id}/{self.folder}" if self.folder else self.id


def _from_page(address: str, endpoint: str | None) -> str:
    """Returns the name in the address of a page: ``user/repo/folder@revision``.

    Raises:
        InputError: If it is a page of another server, or of something else than a model.
    """
    try:
        page, hub = urlsplit(address), urlsplit(endpoint or os.environ.get("HF_ENDPOINT") or "")
    except ValueError:
        raise InputError(f"{address[:200]!r} is not a valid address") from None
    if page.netloc not in (*_HOSTS, *(f"www.{host}" for host in _HOSTS), hub.netloc or _HOSTS[0]):
        raise InputError(
            f"{address[:200]!r} is not a page of the Hub ({hub.netloc or _HOSTS[0]}); write 'hf://user/repo', and "
            "endpoint= (or HF_ENDPOINT) for another Hub"
        )
    parts = [part for part in page.path.split("/") if part]
    if len(parts) < 2 or parts[0] in ("datasets", "spaces", "docs", "papers", "models", "collections"):
        raise InputError(f"{address[:200]!r} is not the page of a model; write 'hf://user/repo'")
    name, rest = "/".join(parts[:2]), parts[2:]
    if not rest:
        return name
    kind, *rest = rest
    if kind == "discussions" and len(rest) == 1:
        return f"{name}@refs/pr/{rest[0]}"
    if kind not in _PAGES or not rest:
        raise InputError(f"{address[:200]!r} is not the page of a model or a file of it; write 'hf://{name}'")
    length = 3 if rest[0] == "refs" else 1  # refs/pr/3
    revision, path = unquote("/".join(rest[:length])), [unquote(part) for part in rest[length:]]
    if kind in ("blob", "resolve", "raw") and path[-1:] not in ([CONFIG_FILE], [WEIGHTS_FILE]):
        raise InputError(
            f"{address[:200]!r} is not a file that cnnzoo loads: write the folder of {WEIGHTS_FILE}, "
            f"'hf://{name}@{revision}'"
        )
    return f"{'/'.join([name, *path])}@{revision}"


def require_revision(name: object, argument: str = "revision") -> None:
    """Checks the name of a branch or tag, or the hash of a commit.

    Raises:
        InputError: If it is not valid.
    """
    if not isinstance(name, str) or len(name) > _MAX_REVISION or not _REVISION.fullmatch(name):
        shown = repr(name)[:200]
        raise InputError(f"{argument} must be a branch, a tag or the hash of a commit, such as 'v1', not {shown}")
