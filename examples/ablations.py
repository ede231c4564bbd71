"""Ablations of LeNet and AlexNet: pooling windows, hidden dense layers, activations, dropout, image size.

    python examples/ablations.py lenet              # a minute on two cores
    python examples/ablations.py alexnet            # a quarter of an hour
    python examples/ablations.py lenet --data fashion_mnist

These are questions of the lecture; each variant is an edit of one or two lines. All variants are trained from the same
seed, those with sigmoids by one recipe and those with ReLU by another. With a single seed and the 1,000 test images of
the sample, an accuracy has a standard error of about one percentage point.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import cnnzoo
from cnnzoo import ImageData, Spec, edit, get_spec, remove


def lenet_variants() -> dict[str, Spec]:
    """Returns the variants of LeNet by name."""
    lenet = get_spec("lenet")
    relu = get_spec("lenet", activation="relu", pooling="max")
    return {
        "lenet": lenet,
        "overlapping 3x3 pools": edit(lenet, "pool*", kernel_size=3, stride=2, padding=1),
        "no hidden dense layers": remove(lenet, "fc3", "fc4"),
        "relu": get_spec("lenet", activation="relu"),
        "relu, max pools": relu,
        "relu, max pools, dropout": get_spec("lenet", activation="relu", pooling="max", dropout=0.3),
        "relu, overlapping max pools": edit(relu, "pool*", kernel_size=3, stride=2, padding=1),
    }


def alexnet_variants() -> dict[str, Spec]:
    """Returns the variants of AlexNet by name."""
    alexnet = get_spec("alexnet")
    return {
        "alexnet": alexnet,
        "2x2 pools": edit(alexnet, "pool*", kernel_size=2, stride=2),
        "no hidden dense layers": remove(alexnet, "fc6", "drop6", "fc7", "drop7"),
        "no dropout": get_spec("alexnet", dropout=0.0),
        "on 28x28": edit(get_spec("alexnet", image_size=28), "conv1", kernel_size=5, stride=1, padding=2),
    }


def train_variants(
    model_name: str, data: ImageData, *, epochs: int | None = None, width: float = 1.0
) -> Iterator[dict[str, Any]]:
    """Trains the variants of a model one after the other, and yields name, counts and accuracies of each."""
    sigmoid_config, relu_config = cnnzoo.recipe("quick/saturating"), cnnzoo.recipe("quick").replace(epochs=20)
    if model_name == "alexnet":  # a narrow one does not train with SGD in so few steps
        kaiming = cnnzoo.recipe("quick").replace(init="kaiming_normal")
        relu_config = cnnzoo.recipe("quick/deep") if width == 1 else kaiming
    for name, spec in (lenet_variants() if model_name == "lenet" else alexnet_variants()).items():
        model = cnnzoo.create(spec, seed=0, width=width)
        report = cnnzoo.count(model)
        config = relu_config if "ReLU" in report.by("kind") else sigmoid_config
        if name == "on 28x28":
            config = config.replace(lr=config.lr / 2)  # the loss does not decrease at the full rate
        config = config.replace(epochs=epochs or config.epochs, eval_every=0)
        run = cnnzoo.Trainer(model, data, config).fit()
        if run.interrupted:
            raise KeyboardInterrupt
        accuracies = {key: run.metrics[key] for key in ("train_acc", "test_acc")}
        counts = {"parameters": report.params.total, "macs": report.macs}
        yield {"name": name, **counts, "epochs": config.epochs, **accuracies}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", choices=("lenet", "alexnet"))
    parser.add_argument("--data", default="fashion_mnist_sample", help="name of a data set")
    parser.add_argument("--images", type=int, help="number of images for training and for testing (default: all)")
    parser.add_argument("--epochs", type=int, help="number of epochs (default: the recipe's)")
    parser.add_argument("--width", type=float, default=1.0, help="factor of the width, for a quick look")
    args = parser.parse_args()

    data = cnnzoo.load_data(args.data)
    data = replace(data, train=data.train[: args.images], test=data.test[: args.images])
    print(f"{args.model} on {data.name}\n{'':28}{'parameters':>12}{'MACs':>15}{'train':>8}{'test':>8}")
    for result in train_variants(args.model, data, epochs=args.epochs, width=args.width):
        accuracies = f"{result['train_acc']:8.3f}{result['test_acc']:8.3f}"
        print(f"{result['name']:28}{result['parameters']:12,}{result['macs']:15,}{accuracies}", flush=True)


if __name__ == "__main__":
    main()
