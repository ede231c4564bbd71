"""A simpler AlexNet that trains faster at about the same accuracy. An exercise of the textbook's chapter on AlexNet.

    python examples/simpler_alexnet.py                                    # half an hour on two cores
    python examples/simpler_alexnet.py --width 0.25 --images 2000         # minutes
    python examples/simpler_alexnet.py --data fashion_mnist --recipe fast/alexnet

Images of 28x28 px, enlarged to 224 px, contain no more information than at 112 px, and ten classes do not need two
dense layers of width 4096.
"""

from __future__ import annotations

import argparse
from dataclasses import replace

import cnnzoo
from cnnzoo import Spec, edit, get_spec
from cnnzoo.blocks import Dense
from cnnzoo.measure.tables import Table, ratio_text


def variants() -> dict[str, Spec]:
    """Returns the simpler networks by name, after AlexNet itself."""
    small = get_spec("alexnet", image_size=112)
    return {
        "alexnet": get_spec("alexnet"),
        "dense layers of 512": edit(get_spec("alexnet"), Dense, out_features=512),
        "images of 112 px": small,
        "112 px, 512": edit(small, Dense, out_features=512),
        "112 px, 512, half as wide": edit(get_spec("alexnet", image_size=112, width=0.5), Dense, out_features=512),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="fashion_mnist_sample")
    parser.add_argument("--images", type=int, help="number of images for training and for testing (default: all)")
    parser.add_argument("--recipe", default="quick/deep")
    parser.add_argument("--epochs", type=int, help="number of epochs (default: the recipe's)")
    parser.add_argument("--width", type=float, default=1.0, help="factor of the width, for a quick look")
    args = parser.parse_args()
    data = cnnzoo.load_data(args.data)
    data = replace(data, train=data.train[: args.images], test=data.test[: args.images])
    config = cnnzoo.recipe(args.recipe).replace(eval_every=0)
    config = config.replace(epochs=args.epochs or config.epochs)

    rows, baseline = [], 0
    for name, spec in variants().items():
        model = cnnzoo.create(spec, seed=0, width=args.width)
        report = cnnzoo.count(model)
        baseline = baseline or report.train_macs
        run = cnnzoo.Trainer(model, data, config).fit()
        if run.interrupted:
            raise KeyboardInterrupt
        ratio, speed = ratio_text(baseline / report.train_macs), f"{run.metrics['examples_per_sec']:,.0f}"
        rows.append((name, report.params.total, report.train_macs, ratio, speed, f"{run.metrics['test_acc']:.3f}"))
    headers = ("", "parameters", "training MACs", "reduction", "images/s", "test accuracy")
    title = f"{len(data.train):,} images of {data.name}, {config.epochs} epochs, width {args.width:g}"
    print(Table(title, headers, rows).text())


if __name__ == "__main__":
    main()
