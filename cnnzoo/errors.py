"""The exceptions of cnnzoo: what was given, where, and what to type instead."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class CnnzooError(Exception):
    """The base of every error that cnnzoo raises on purpose."""


class UnknownNameError(CnnzooError, LookupError):
    """A model, knob, recipe, data set or field that does not exist."""


class SpecError(CnnzooError, ValueError):
    """A network that cannot be described or built as asked."""


class InputError(CnnzooError, ValueError):
    """An argument, an image or a tensor that does not fit."""


class DataError(CnnzooError, OSError):
    """A data set that is not there, or is not what it says."""


class FileError(CnnzooError, OSError):
    """A file or folder that cannot be read, or written, as asked."""


class WeightsError(CnnzooError, ValueError):
    """Weights that do not fit the network, or a weights file that is not one."""


class HubError(CnnzooError, OSError):
    """What the Hub does not have, does not let one have, or could not do."""


class TrainingError(CnnzooError, RuntimeError):
    """A training run that cannot go on."""


def unknown(what: str, name: object, known: Iterable[str]) -> UnknownNameError:
    """The error for a name that is not known: the nearest known ones, then all of them.

    Args:
        what: What the name was meant to name, such as ``"model"``.
        name: The name as given.
        known: Every name that would have been right.
    """
    names = sorted(known)
    likeness = {
        known_name: difflib.SequenceMatcher(None, str(name).casefold(), known_name.casefold()).ratio()
        for known_name in names
    }
    # 0.55 finds "in_channels" for "in_chans"; what is clearly less alike than the best is no help.
    best = max(likeness.values(), default=0.0)
    near = [known_name for known_name in names if likeness[known_name] >= max(0.55, best - 0.1)][:3]
    hint = f" Did you mean {' or '.join(map(repr, near))}?" if near else ""
    return UnknownNameError(f"unknown {what} {name!r}.{hint} Known: {', '.join(names) or 'none'}.")
