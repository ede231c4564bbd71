"""AlexNet overfitting, and AlexNet failing to train. An exercise of the textbook's chapter on AlexNet.

    python examples/overfit_alexnet.py                        # ten minutes on two cores
    python examples/overfit_alexnet.py --width 0.25 --images 200

A network of 47 million parameters memorizes a few hundred images unless it is regularized, here by dropout and by
augmentation. With sigmoids it does not train at all, since gradients vanish over eight layers.
"""

from __future__ import annotations

import argparse
from dataclasses import replace

import cnnzoo
from cnnzoo.measure.tables import Table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="fashion_mnist_sample")
    parser.add_argument("--images", type=int, default=500, help="number of training images")
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--width", type=float, default=1.0, help="factor of the width, for a quick look")
    args = parser.parse_args()
    data = cnnzoo.load_data(args.data)
    few = replace(data, train=data.train[: args.images], test=data.train[: args.images])
    new_images = replace(data, test=data.test[: args.images])
    plain = cnnzoo.recipe("quick").replace(
        init="kaiming_normal",
        lr=3e-4 / args.width**0.5,  # narrower networks train at a larger rate
        weight_decay=0.0,
        epochs=args.epochs,
        eval_every=0,
    )
    augmentation = {"flip": True, "translate": 2, "random_erasing": 0.3}
    settings = {
        "no dropout": ({"dropout": 0.0}, plain),
        "dropout": ({}, plain),
        "dropout and augmentation": ({}, plain.replace(**augmentation)),
        "no dropout, a single batch": ({"dropout": 0.0}, plain.replace(overfit_batches=1, epochs=4 * args.epochs)),
        "sigmoids instead of ReLU": ({"dropout": 0.0, "activation": "sigmoid"}, plain),
    }
    rows = []
    for name, (knobs, config) in settings.items():
        model = cnnzoo.create("alexnet", seed=0, width=args.width, **knobs)
        run = cnnzoo.Trainer(model, few, config).fit()
        if run.interrupted:
            raise KeyboardInterrupt
        train_acc, test_acc = run.metrics["test_acc"], cnnzoo.evaluate(model, new_images).top1
        rows.append((name, f"{train_acc:.3f}", f"{test_acc:.3f}", f"{train_acc - test_acc:+.3f}"))
    title = f"{args.images} images of {data.name}, {args.epochs} epochs, width {args.width:g}"
    print(Table(title, ("", "training images", "test images", "gap"), rows).text())


if __name__ == "__main__":
    main()
