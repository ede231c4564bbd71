"""Trains the weights that ship with cnnzoo on the full Fashion-MNIST, and writes them into the package.

python docs/make_weights.py     # lenet and lenet5_1998, with the recipe 'quick' for their kind
python docs/make_weights.py --recipe fast/lenet lenet
"""

from __future__ import annotations

import argparse

import cnnzoo
from cnnzoo.weights.shipped_files import MAX_SHIPPED_BYTES, shipped_file

NAMES = ("lenet", "lenet5_1998")


def make_weights(name: str, recipe: str) -> None:
    """Trains one network; its file holds the config, the data and the accuracy."""
    data = cnnzoo.load_data("fashion_mnist")
    model = cnnzoo.create(name, seed=0)
    run = cnnzoo.Trainer(model, data, cnnzoo.recipe(recipe, model=name)).fit()
    if run.interrupted:
        raise SystemExit(f"{name}: interrupted; nothing is written")
    file = cnnzoo.save(model.float(), shipped_file(name), overwrite=True)
    assert file.stat().st_size <= MAX_SHIPPED_BYTES, f"{file} is too large to ship"
    print(f"{file}: {run}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", default=NAMES)
    parser.add_argument("--recipe", default="quick")
    args = parser.parse_args()
    for name in args.names:
        make_weights(name, args.recipe)
