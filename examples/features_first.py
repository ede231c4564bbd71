"""Features and softmax trained together, or features first and the softmax after? A question of the lecture.

    python examples/features_first.py                 # LeNet with ReLU, two minutes on two cores
    python examples/features_first.py alexnet --width 0.25 --epochs 3

Before AlexNet, features were made first (SIFT, bags of words) and a classifier was trained on top of them. Here
everything below the last layer makes the features, and the last layer is trained on them alone: on features that were
never trained, on features that learned to tell five of the classes apart, and on features that learned all of them.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import cnnzoo
from cnnzoo import CNN, ImageData, Spec, TrainConfig, edit
from cnnzoo.blocks import Conv, Dense, Logits


def of_five_classes(data: ImageData) -> ImageData:
    """The images of the first five classes alone."""
    train, test = (part[part.labels < 5] for part in (data.train, data.test))
    return replace(data, train=train, test=test)


def ways(spec: Spec, data: ImageData, config: TrainConfig) -> Iterator[dict[str, Any]]:
    """Trains in each way: how many parameters learn at the end, and what comes of it."""
    for kind in (Conv, Dense, Logits):
        spec = edit(spec, kind, init=config.init)
    config = config.replace(init=None, eval_every=0)  # the trainer's init would draw anew what was learned before
    sizes = {row: sums["params"] for row, sums in cnnzoo.count(spec).by("label").items() if sums["params"]}
    *below, last = sizes

    def fit(name: str, model: CNN, images: ImageData, **settings: Any) -> dict[str, Any]:
        run = cnnzoo.Trainer(model, images, config.replace(**settings)).fit()
        if run.interrupted:
            raise KeyboardInterrupt
        trained = sizes[last] if settings else sum(sizes.values())
        return {"name": name, "trained": trained, **{key: run.metrics[key] for key in ("train_acc", "test_acc")}}

    none, five, whole = (cnnzoo.create(spec, seed=0) for _ in range(3))
    yield fit("together", whole, data)
    fit("five classes", five, of_five_classes(data))
    for learned, model in (("nothing", none), ("five of the classes", five), ("all classes", whole)):
        model.classifier[-1] = cnnzoo.create(spec, seed=1).classifier[-1]  # a last layer that knows nothing yet
        name = f"softmax after, on features that learned {learned}"
        yield fit(name, model, data, freeze=tuple(below), lr=10 * config.lr)  # one layer alone bears a larger rate


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("net", nargs="?", default="lenet", choices=("lenet", "alexnet"))
    parser.add_argument("--data", default="fashion_mnist_sample")
    parser.add_argument("--images", type=int, help="learn from the first so many alone, test on as many")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--width", type=float, default=1.0)
    options = parser.parse_args()
    data = cnnzoo.load_data(options.data)
    data = replace(data, train=data.train[: options.images], test=data.test[: options.images])
    knobs: dict[str, Any] = {"activation": "relu", "pooling": "max"} if options.net == "lenet" else {}
    spec = cnnzoo.get_spec(options.net, width=options.width, **knobs)
    config = cnnzoo.recipe("quick").replace(epochs=options.epochs)
    print(f"{'':60}{'trained':>12}{'train':>8}{'test':>8}")
    for way in ways(spec, data, config):
        print(f"{way['name']:60}{way['trained']:12,}{way['train_acc']:8.3f}{way['test_acc']:8.3f}", flush=True)


if __name__ == "__main__":
    main()
