"""A simpler AlexNet that trains faster at about the same accuracy. An exercise of the chapter on AlexNet.

    python examples/simpler_alexnet.py                                    # half an hour on two cores
    python examples/simpler_alexnet.py --width 0.25 --images 2000         # minutes
    python examples/simpler_alexnet.py --data fashion_mnist --recipe fast/alexnet

Images of 28x28 px that were enlarged to 224 hold nothing that 112 px do not, and ten classes do not need two dense
layers of 4096: give up what costs most and tells least.
"""

from __future__ import annotations

import argparse
from dataclasses import replace

import cnnzoo
from cnnzoo import Spec, edit, get_spec
from cnnzoo.blocks import Dense
from cnnzoo.measure.tables import Table, ratio_text


def simpler() -> dict[str, Spec]:
    small = get_spec("alexnet", image_size=112)
    return {
        "alexnet": get_spec("alexnet"),
        "dense layers of 512": edit(get_spec("alexnet"), Dense, out=512),
        "images of 112 px": small,
        "112 px, 512": edit(small, Dense, out=512),
        "112 px, 512, half as wide": edit(get_spec("alexnet", image_size=112, width=0.5), Dense, out=512),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="fashion_mnist_sample")
    parser.add_argument("--images", type=int, help="learn from the first so many alone, test on as many")
    parser.add_argument("--recipe", default="quick/alexnet")
    parser.add_argument("--epochs", type=int, help="instead of the recipe's")
    parser.add_argument("--width", type=float, default=1.0, help="scale all of them, for a quick look")
    options = parser.parse_args()
    data = cnnzoo.load_data(options.data)
    data = replace(data, train=data.train[: options.images], test=data.test[: options.images])
    config = cnnzoo.recipe(options.recipe).replace(eval_every=0)
    config = config.replace(epochs=options.epochs or config.epochs)

    rows, most = [], 0
    for name, spec in simpler().items():
        model = cnnzoo.create(spec, seed=0, width=options.width)
        report = cnnzoo.count(model)
        most = most or report.train_macs
        run = cnnzoo.Trainer(model, data, config).fit()
        if run.interrupted:
            raise KeyboardInterrupt
        fewer, speed = ratio_text(most / report.train_macs), f"{run.metrics['examples_per_sec']:,.0f}"
        rows.append((name, report.params.total, report.train_macs, fewer, speed, f"{run.metrics['test_acc']:.3f}"))
    headers = ("", "parameters", "training MACs", "fewer", "images/s", "test accuracy")
    title = f"{len(data.train):,} images of {data.name}, {config.epochs} epochs, width {options.width:g}"
    print(Table(title, headers, rows).text())


if __name__ == "__main__":
    main()
