"""The exceptions of cnnzoo; their messages say what was given, what was expected, and what to type."""

from __future__ import annotations

import difflib
import errno
import re
import warnings
from collections.abc import Iterable

from cnnzoo.text import format_message, shorten


class CnnzooError(Exception):
    """The base class of all errors that cnnzoo raises deliberately.

    Messages often quote what a file holds: control characters are escaped, and long messages are shortened.

    Args:
        message: The message.
    """

    def __init__(self, message: object = "") -> None:
        super().__init__(format_message(str(message)))


class UnknownNameError(CnnzooError, LookupError):
    """A name that does not exist: of a model, knob, recipe, data set or field."""


class SpecError(CnnzooError, ValueError):
    """An invalid Spec or block, or a network that cannot be built from its Spec."""


class InputError(CnnzooError, ValueError):
    """An invalid argument, image or tensor."""


class ChangedModuleError(InputError):
    """A network whose modules were changed by hand, so that its Spec does not describe it."""


class DataError(CnnzooError, OSError):
    """A data set that is missing or damaged."""


class FileError(CnnzooError, OSError):
    """A file or folder that cannot be read or written."""


class WeightsError(CnnzooError, ValueError):
    """Weights that do not fit the network, or an invalid weights file."""


class HubError(CnnzooError, OSError):
    """A request that the Hugging Face Hub denied or could not fulfill."""


class TrainingError(CnnzooError, RuntimeError):
    """A training run that cannot continue."""


def warn(message: str, stacklevel: int = 1) -> None:
    """Warns, with a message as those of errors: printable and of bounded length."""
    warnings.warn(format_message(message), stacklevel=stacklevel + 1)


def is_out_of_memory(error: BaseException) -> bool:
    """Returns whether an error of Python, torch or the operating system is that memory cannot be allocated."""
    if isinstance(error, MemoryError) or getattr(error, "errno", None) == errno.ENOMEM:
        return True
    words = "out of memory|allocate memory|failed to map segment"  # of CUDA, of the CPU, of importing a library
    return isinstance(error, (RuntimeError, ImportError)) and re.search(words, str(error)) is not None


def unknown(what: str, name: object, known: Iterable[str]) -> UnknownNameError:
    """Returns the error for an unknown name, which lists the most similar known names, then all.

    Args:
        what: What the name stands for, such as ``"model"``.
        name: The name as given.
        known: Every valid name.
    """
    names = sorted(known)
    similarity = {
        valid: difflib.SequenceMatcher(None, shorten(str(name), 100).casefold(), valid.casefold()).ratio()
        for valid in names
    }
    # 0.55 finds "in_channels" for "in_chans"; names clearly less similar than the best are left out
    best = max(similarity.values(), default=0.0)
    nearest = [valid for valid in names if similarity[valid] >= max(0.55, best - 0.1)][:3]
    hint = f" Did you mean {' or '.join(map(repr, nearest))}?" if nearest else ""
    return UnknownNameError(f"unknown {what} {shorten(repr(name), 300)}.{hint} Known: {', '.join(names) or 'none'}.")
