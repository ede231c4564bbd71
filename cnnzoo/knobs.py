"""The text of a network with knobs, ``lenet(activation=relu,pooling=max)``: reading and writing it."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from cnnzoo.errors import InputError


def parse_value(text: str) -> Any:
    """Returns the value of a knob or setting: JSON if the text parses as JSON, None for ``none``, else the text."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None if text.lower() == "none" else text


def parse_name(text: str) -> tuple[str, dict[str, Any]]:
    """Returns name and knobs of ``"lenet(activation=relu)"``; of other texts, the text and no knobs.

    Raises:
        InputError: If what is in the parentheses is not of the form ``knob=value, knob=value``.
    """
    match = re.fullmatch(r"(\w+)\((.*)", text.strip(), re.DOTALL)
    if match is None:
        return text, {}
    name, written = match.groups()
    # a value may have commas: [1,2]
    parts = re.split(r",(?=\s*\w+\s*=)", written.removesuffix(")"))
    pairs = [tuple(word.strip() for word in part.partition("=")[::2]) for part in parts]
    knobs = {knob: parse_value(value) for knob, value in pairs}
    is_valid = written.endswith(")") and all(knob.isidentifier() and value for knob, value in pairs)
    if not is_valid or len(knobs) < len(pairs):
        raise InputError(
            f"{text!r}: write each knob once, as knob=value, separated by commas, such as "
            f"'{name}(activation=relu,pooling=max)'"
        )
    return name, knobs


def format_name(name: str, knobs: Mapping[str, Any]) -> str:
    """Returns the text of a name with knobs; ``parse_name`` reads it."""
    values = (f"{knob}={value if isinstance(value, str) else json.dumps(value)}" for knob, value in knobs.items())
    return f"{name}({','.join(values)})" if knobs else name


def folder_name(text: str) -> str:
    """Returns a name as that of a folder, without characters that a shell or a file system reads otherwise."""
    return re.sub(r"[^\w.-]+", "-", text).strip("-.") or "network"
