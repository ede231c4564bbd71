"""Architecture: the picture of each distinct network, for a white and for a dark page."""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass

from cnnzoo.errors import InputError
from cnnzoo.html_report.groups import RunGroup
from cnnzoo.measure import draw

WIDTH = 7.5  # inches, of which the page shows each larger


@dataclass(frozen=True)
class Architecture:
    """The picture of a network.

    Attributes:
        label: Label of its group.
        color: Color of its group.
        description: What the picture shows.
        light: SVG as a data URI, for a white page.
        dark: The same for a dark page.
    """

    label: str
    color: str
    description: str
    light: str
    dark: str


def distinct_networks(groups: Sequence[RunGroup]) -> list[RunGroup]:
    """Returns the first group of each distinct network; a network that cannot be rebuilt is distinct."""
    distinct: dict[str, RunGroup] = {}
    for group in groups:
        distinct.setdefault(json.dumps(group.first.spec) if group.first.spec else group.label, group)
    return list(distinct.values())


def build_architectures(groups: Sequence[RunGroup]) -> list[Architecture]:
    """Returns the picture of each distinct network that can be rebuilt."""
    pictures = []
    for group in distinct_networks(groups):
        count = group.first.count
        if count is None:
            continue
        try:
            light, dark = (draw(count, width=WIDTH, dark=dark).to_svg() for dark in (False, True))
        except InputError as error:  # no single input of images or vectors
            group.first.problems.append(str(error))
            continue
        description = f"the architecture of {group.first.name}"
        pictures.append(Architecture(group.label, group.color, description, _data_uri(light), _data_uri(dark)))
    return pictures


def _data_uri(svg: str) -> str:
    return f"data:image/svg+xml;base64,{b64encode(svg.encode()).decode()}"
