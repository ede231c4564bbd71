"""The recipes that ship with cnnzoo, as plain values, so that they are shown without importing torch.

``python docs/make_stored.py`` writes them from ``cnnzoo.train``. The tests compare.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

STORED_FILE = Path(__file__).parent / "stored_recipes.json"


@dataclass(frozen=True)
class StoredRecipes:
    """The recipes, and the fields of a TrainConfig.

    Attributes:
        help: Field -> what it means.
        values: Name of a recipe -> field -> value.
        purposes: Name of a recipe -> what it is for.
    """

    help: Mapping[str, str]
    values: Mapping[str, Mapping[str, Any]]
    purposes: Mapping[str, str]

    def write(self) -> None:
        """Writes the file."""
        STORED_FILE.write_text(json.dumps(dataclasses.asdict(self), indent=1) + "\n")


@lru_cache(maxsize=1)
def stored_recipes() -> StoredRecipes:
    """Returns what the file holds."""
    return StoredRecipes(**json.loads(STORED_FILE.read_text()))
