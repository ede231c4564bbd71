"""Writes the counts of registered networks and the recipes that ship with cnnzoo.

Run it after a change of a network, the counter or a recipe:

python docs/make_stored.py
"""

from __future__ import annotations

import torch

import cnnzoo
from cnnzoo import measure, stored_counts, stored_recipes
from cnnzoo.quantities import compute_figures
from cnnzoo.stored_counts import key_of, write_counts
from cnnzoo.stored_recipes import StoredRecipes
from cnnzoo.train.recipes import PURPOSES


def main() -> None:
    """Counts every registered network anew, and writes the files."""
    reports = []
    for name in cnnzoo.list_models():
        spec = cnnzoo.get_spec(name)
        with torch.device("meta"):
            model = cnnzoo.CNN(spec)
        reports.append((key_of(spec), measure.count(model, (1, *spec.input), name=name)))
    write_counts(stored_counts.STORED_FILE, compute_figures(), reports)
    current_recipes().write()
    for file in (stored_counts.STORED_FILE, stored_recipes.STORED_FILE):
        print(f"{file}: {file.stat().st_size / 1e3:,.0f} kB")


def current_recipes() -> StoredRecipes:
    """Returns the recipes of ``cnnzoo.train``."""
    return StoredRecipes(
        {name: cnnzoo.TrainConfig.describe(name) for name in cnnzoo.TrainConfig().to_dict()},
        {name: cnnzoo.recipe(name).to_dict() for name in cnnzoo.list_recipes()},
        PURPOSES,
    )


if __name__ == "__main__":
    main()
