"""Make AlexNet overfit, and make it fail. An exercise of the chapter on AlexNet.

    python examples/overfit_alexnet.py                        # ten minutes on two cores
    python examples/overfit_alexnet.py --width 0.25 --images 200

A net of 47 million parameters learns a few hundred images by heart as soon as nothing hinders it. What hinders it:
dropout, and images that look different each time. What breaks it: sigmoids, whose gradients vanish in eight layers.
"""

from __future__ import annotations

import argparse
from dataclasses import replace

import cnnzoo
from cnnzoo.measure.tables import Table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="fashion_mnist_sample")
    parser.add_argument("--images", type=int, default=500, help="learn from the first so many alone")
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--width", type=float, default=1.0, help="scale the net, for a quick look")
    options = parser.parse_args()
    data = cnnzoo.load_data(options.data)
    few = replace(data, train=data.train[: options.images], test=data.train[: options.images])
    unseen = replace(data, test=data.test[: options.images])
    plain = cnnzoo.recipe("quick").replace(
        init="kaiming_normal",
        lr=3e-4 / options.width**0.5,  # a narrow net bears a larger rate
        weight_decay=0.0,
        epochs=options.epochs,
        eval_every=0,
    )
    others = {"flip": True, "translate": 2, "random_erasing": 0.3}
    tries = {
        "no dropout": ({"dropout": 0.0}, plain),
        "dropout, as taught": ({}, plain),
        "dropout, and other images each time": ({}, plain.replace(**others)),
        "no dropout, one batch alone": ({"dropout": 0.0}, plain.replace(overfit_batches=1, epochs=4 * options.epochs)),
        "sigmoids instead of ReLU": ({"dropout": 0.0, "activation": "sigmoid"}, plain),
    }
    rows = []
    for name, (knobs, config) in tries.items():
        model = cnnzoo.create("alexnet", seed=0, width=options.width, **knobs)
        run = cnnzoo.Trainer(model, few, config).fit()
        if run.interrupted:
            raise KeyboardInterrupt
        by_heart, new = run.metrics["test_acc"], cnnzoo.evaluate(model, unseen).top1
        rows.append((name, f"{by_heart:.3f}", f"{new:.3f}", f"{by_heart - new:+.3f}"))
    title = f"{options.images} images of {data.name}, {options.epochs} epochs, width {options.width:g}"
    print(Table(title, ("", "on what it learned from", "on new images", "gap"), rows).text())


if __name__ == "__main__":
    main()
