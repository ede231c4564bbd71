"""Names of saved networks: paths, and model repositories on the Hugging Face Hub."""

from __future__ import annotations

import re
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from urllib.parse import quote

from cnnzoo.errors import InputError
from cnnzoo.files import exists

HUB_PREFIXES = ("hf://", "hf-hub:")  # the Hub's, and timm's
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


@dataclass(frozen=True)
class Repository:
    """A model repository and one of its revisions.

    Attributes:
        id: ``"user/repo"``.
        revision: A branch, tag or commit; None for the main branch.
    """

    id: str
    revision: str | None = None

    @classmethod
    def parse(cls, name: str, revision: str | None = None) -> Repository:
        """Returns the repository of a name: ``user/repo``, ``hf://user/repo@revision``, ``hf-hub:user/repo``.

        Args:
            name: The name.
            revision: A revision, if the name has none.

        Raises:
            InputError: If the name is not valid, or has another revision than ``revision``.
        """
        if not isinstance(name, str):
            raise InputError(f"a repository must be a string such as 'user/repo', not {type(name).__name__}")
        path = name
        for prefix in HUB_PREFIXES:
            path = path.removeprefix(prefix)
        id_, at, own_revision = path.removeprefix("models/").partition("@")
        if not _ID.fullmatch(id_) or ".." in id_ or "--" in id_ or (at and not own_revision):
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
        return cls(id_, chosen)

    @property
    def api(self) -> str:
        """The path of the repository in the Hub's API."""
        return f"/api/models/{self.id}"

    @property
    def quoted_revision(self) -> str:
        """The revision as a part of an address."""
        return quote(self.revision or "main", safe="")

    def __str__(self) -> str:
        return f"hf://{self.id}" + (f"@{self.revision}" if self.revision else "")


def require_revision(name: object, argument: str = "revision") -> None:
    """Checks the name of a branch or tag, or the hash of a commit.

    Raises:
        InputError: If it is not valid.
    """
    if not isinstance(name, str) or len(name) > _MAX_REVISION or not _REVISION.fullmatch(name):
        shown = repr(name)[:200]
        raise InputError(f"{argument} must be a branch, a tag or the hash of a commit, such as 'v1', not {shown}")
