"""Features and classifier trained jointly, or one after the other. A question of the lecture.

    python examples/features_first.py                 # LeNet with ReLU, two minutes on two cores
    python examples/features_first.py alexnet --width 0.25 --epochs 3

Before AlexNet, features were designed first (SIFT, bags of words) and a classifier was trained on them. Here the
features are the output of everything below the last layer. The last layer alone is trained on features from random
weights, on features from training on five of the classes, and on features from training on all classes.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import cnnzoo
from cnnzoo import CNN, ImageData, Spec, TrainConfig, edit
from cnnzoo.blocks import Conv, Dense, Logits


def five_classes(data: ImageData) -> ImageData:
    """Returns the images of the first five classes."""
    train, test = (split[split.labels < 5] for split in (data.train, data.test))
    return replace(data, train=train, test=test)


def train_each_way(spec: Spec, data: ImageData, config: TrainConfig) -> Iterator[dict[str, Any]]:
    """Trains jointly, then the last layer alone on three sets of features; yields name, size and accuracies of each."""
    for kind in (Conv, Dense, Logits):
        spec = edit(spec, kind, init=config.init)
    config = config.replace(init=None, eval_every=0)  # init would replace the trained features
    sizes = {label: sums["params"] for label, sums in cnnzoo.count(spec).by("label").items() if sums["params"]}
    *feature_labels, last = sizes

    def fit(name: str, model: CNN, images: ImageData, **settings: Any) -> dict[str, Any]:
        run = cnnzoo.Trainer(model, images, config.replace(**settings)).fit()
        if run.interrupted:
            raise KeyboardInterrupt
        trainable = sizes[last] if settings else sum(sizes.values())
        return {"name": name, "trainable": trainable, **{key: run.metrics[key] for key in ("train_acc", "test_acc")}}

    random, five, full = (cnnzoo.create(spec, seed=0) for _ in range(3))
    yield fit("jointly", full, data)
    fit("five classes", five, five_classes(data))
    for features, model in (("random weights", random), ("five of the classes", five), ("all classes", full)):
        model.classifier[-1] = cnnzoo.create(spec, seed=1).classifier[-1]  # untrained
        name = f"last layer only, features from {features}"
        yield fit(name, model, data, freeze=tuple(feature_labels), lr=10 * config.lr)  # stable for a single layer


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?", default="lenet", choices=("lenet", "alexnet"))
    parser.add_argument("--data", default="fashion_mnist_sample")
    parser.add_argument("--images", type=int, help="number of images for training and for testing (default: all)")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--width", type=float, default=1.0)
    args = parser.parse_args()
    data = cnnzoo.load_data(args.data)
    data = replace(data, train=data.train[: args.images], test=data.test[: args.images])
    knobs: dict[str, Any] = {"activation": "relu", "pooling": "max"} if args.model == "lenet" else {}
    spec = cnnzoo.get_spec(args.model, width=args.width, **knobs)
    config = cnnzoo.recipe("quick").replace(epochs=args.epochs)
    print(f"{'':52}{'trainable':>12}{'train':>8}{'test':>8}")
    for result in train_each_way(spec, data, config):
        accuracies = f"{result['train_acc']:8.3f}{result['test_acc']:8.3f}"
        print(f"{result['name']:52}{result['trainable']:12,}{accuracies}", flush=True)


if __name__ == "__main__":
    main()
