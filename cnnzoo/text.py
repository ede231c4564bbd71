"""Text from files, and text for people: JSON within limits, names that can be printed, messages of bounded length."""

from __future__ import annotations

import json
import unicodedata
from typing import Any

from cnnzoo.limits import MAX_JSON_DEPTH, MAX_MESSAGE_LENGTH

_TOO_DEEP = f"is nested more than {MAX_JSON_DEPTH} deep"
_CONTROL = ("Cc", "Cs", "Zl", "Zp")  # control characters, lone surrogates, separators of lines and paragraphs
_DIRECTION = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")  # reorder the text around them


def _is_control(character: str) -> bool:
    return unicodedata.category(character) in _CONTROL or character in _DIRECTION


def is_printable(text: str) -> bool:
    """Returns whether a text has no control characters, line breaks, lone surrogates or changes of direction."""
    return text.isprintable() or not any(map(_is_control, text))


def printable(text: str) -> str:
    """Returns a text with escape sequences in place of the characters that ``is_printable`` excludes."""
    if text.isprintable():
        return text
    return "".join(c.encode("unicode_escape").decode() if _is_control(c) else c for c in text)


def shorten(text: str, length: int = MAX_MESSAGE_LENGTH) -> str:
    """Returns a text of at most ``length`` characters: of a longer one the beginning, the end and what is left out."""
    if len(text) <= length:
        return text
    gap = f" [... {len(text) - length + 40:,} characters ...] "
    end = (length - len(gap)) // 3
    return text[: length - len(gap) - end] + gap + text[-end:]


def format_message(text: str) -> str:
    """Returns a text as a message on one line: printable, and of at most 2,000 characters."""
    return shorten(printable(shorten(text)))


def parse_json(text: str | bytes, max_bytes: int) -> Any:
    """Returns the value of a JSON text.

    Args:
        text: The text.
        max_bytes: Maximum length.

    Raises:
        ValueError: If the text is longer, is not JSON, or is nested too deep; the message is what follows the
            name of the file.
    """
    if len(text) > max_bytes:
        raise ValueError(f"has more than {max_bytes:,} bytes; cnnzoo does not write JSON of this size")
    try:
        value = json.loads(text)
    except RecursionError:
        raise ValueError(_TOO_DEEP) from None
    except ValueError as error:
        raise ValueError(f"is not valid JSON: {error}") from None
    check_depth(value)
    return value


def check_depth(value: Any) -> None:
    """Raises ValueError if a JSON value is nested deeper than files may be."""
    level = [value]
    for _ in range(MAX_JSON_DEPTH + 1):  # level by level: no recursion
        level = [item for item in level if isinstance(item, (dict, list))]
        if not level:
            return
        level = [child for item in level for child in (item.values() if isinstance(item, dict) else item)]
    raise ValueError(_TOO_DEEP)
