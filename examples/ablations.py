"""What does each part of LeNet and AlexNet buy? The questions of the lecture, each answered by a line or two.

    python examples/ablations.py lenet              # a minute on two cores
    python examples/ablations.py alexnet            # a quarter of an hour
    python examples/ablations.py lenet --data fashion_mnist

Every variant is trained from the same seed, the sigmoid nets and the ReLU nets each with the recipe that suits them.
It is one seed: on the sample's 1,000 test images an accuracy has a standard error of about one point.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import cnnzoo
from cnnzoo import ImageData, Spec, edit, get_spec, remove


def lenets() -> dict[str, Spec]:
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


def alexnets() -> dict[str, Spec]:
    alexnet = get_spec("alexnet")
    return {
        "alexnet": alexnet,
        "2x2 pools": edit(alexnet, "pool*", kernel_size=2, stride=2),
        "no hidden dense layers": remove(alexnet, "fc6", "drop6", "fc7", "drop7"),
        "no dropout": get_spec("alexnet", dropout=0.0),
        "on 28x28": edit(get_spec("alexnet", image_size=28), "conv1", kernel_size=5, stride=1, padding=2),
    }


def train_all(net: str, data: ImageData, *, epochs: int | None = None, width: float = 1.0) -> Iterator[dict[str, Any]]:
    """Trains every variant of a net, one after the other: its name, what it costs, and what comes of it."""
    sigmoids, relus = cnnzoo.recipe("quick/lenet"), cnnzoo.recipe("quick").replace(epochs=20)
    if net == "alexnet":  # narrow ones learn nothing in few steps of SGD
        relus = cnnzoo.recipe("quick/alexnet") if width == 1 else cnnzoo.recipe("quick").replace(init="kaiming_normal")
    for name, spec in (lenets() if net == "lenet" else alexnets()).items():
        model = cnnzoo.create(spec, seed=0, width=width)
        report = cnnzoo.count(model)
        config = relus if "ReLU" in report.by("kind") else sigmoids
        if name == "on 28x28":
            config = config.replace(lr=config.lr / 2)  # without it, the loss does not fall at all
        config = config.replace(epochs=epochs or config.epochs, eval_every=0)
        run = cnnzoo.Trainer(model, data, config).fit()
        if run.interrupted:
            raise KeyboardInterrupt
        figures = {key: run.metrics[key] for key in ("train_acc", "test_acc")}
        yield {"name": name, "parameters": report.params.total, "macs": report.macs, "epochs": config.epochs, **figures}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("net", choices=("lenet", "alexnet"))
    parser.add_argument("--data", default="fashion_mnist_sample", help="a data set of cnnzoo")
    parser.add_argument("--images", type=int, help="learn from the first so many alone, test on as many")
    parser.add_argument("--epochs", type=int, help="instead of the recipe's")
    parser.add_argument("--width", type=float, default=1.0, help="scale the nets, for a quick look")
    args = parser.parse_args()

    data = cnnzoo.load_data(args.data)
    data = replace(data, train=data.train[: args.images], test=data.test[: args.images])
    print(f"{args.net} on {data.name}\n{'':28}{'parameters':>12}{'MACs':>15}{'train':>8}{'test':>8}")
    for found in train_all(args.net, data, epochs=args.epochs, width=args.width):
        accuracies = f"{found['train_acc']:8.3f}{found['test_acc']:8.3f}"
        print(f"{found['name']:28}{found['parameters']:12,}{found['macs']:15,}{accuracies}", flush=True)


if __name__ == "__main__":
    main()
