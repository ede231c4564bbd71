"""Numbers, values and lists of names as text."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence

from cnnzoo.fields import is_number


def format_value(value: object) -> str:
    """Returns a JSON value as text, strings without quotes."""
    if value is None or value in ([], {}):
        return "none"
    if isinstance(value, list):
        return ", ".join(map(format_value, value))
    if isinstance(value, float) and not math.isnan(value):
        return f"{value:.6g}"
    return value if isinstance(value, str) else json.dumps(value)


def format_metric(value: object, format_spec: str) -> str:
    """Returns a number in a format (``".4f"``), any other value as it is, None as ``""``."""
    if value is None:
        return ""
    return f"{value:{format_spec}}" if is_number(value) and format_spec else format_value(value)


def join_names(names: Sequence[str]) -> str:
    """Returns ``"a"``, ``"a and b"`` or ``"a, b and c"``."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
