"""What does the batch size do to throughput, to memory and to accuracy? An exercise of the chapter on AlexNet.

    python examples/batch_sizes.py
    python examples/batch_sizes.py alexnet --data fashion_mnist --sizes 32 128 512 --epochs 3 --device auto

The same images are seen in fewer steps where the batch is larger. Accuracy is shown with the learning rate left alone,
and with one that grows as the batch does, which makes up for the steps that are missing, as far as it goes.
"""

from __future__ import annotations

import argparse

import cnnzoo
from cnnzoo.measure.tables import Table, human

BASE = 64  # the batch that the learning rate is meant for


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("net", nargs="?", default="lenet")
    parser.add_argument("--data", default="fashion_mnist_sample")
    parser.add_argument("--sizes", type=int, nargs="+", default=[8, 32, 128, 512])
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--lr", type=float, default=0.02, help=f"learning rate for a batch of {BASE}")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--seconds", type=float, default=1.0, help="how long each is measured")
    options = parser.parse_args()
    data = cnnzoo.load_data(options.data)
    knobs = {"activation": "relu", "pooling": "max"} if options.net == "lenet" else {}
    spec = cnnzoo.get_spec(options.net, in_channels=data.shape[0], num_classes=len(data.classes), **knobs)
    base = cnnzoo.recipe("quick/alexnet").replace(epochs=options.epochs, device=options.device, eval_every=0)

    rows = []
    for size in options.sizes:
        bench = cnnzoo.bench(spec, batch_size=size, train=True, device=options.device, seconds=options.seconds)
        kept = cnnzoo.count(spec, (size, *spec.input)).saved_bytes
        accuracies = []
        for lr in (options.lr, options.lr * size / BASE):
            config = base.replace(batch_size=size, lr=lr)
            run = cnnzoo.Trainer(cnnzoo.create(spec, seed=0), data, config, show=False).fit()
            if run.interrupted:
                raise KeyboardInterrupt
            accuracies.append(f"{run.metrics['test_acc']:.3f}")
        timing = bench.timings[0]
        peak = "" if timing.peak_bytes is None else f"{human(timing.peak_bytes)}B"
        steps = -(-len(data.train) // size) * options.epochs
        rows.append((str(size), steps, f"{timing.images_per_sec:,.0f}", peak, f"{human(kept)}B", *accuracies))
    headers = ("batch", "steps", "images/s", "memory, measured", "activations, counted", f"lr={options.lr:g}", "scaled")
    title = f"{options.net} on {len(data.train):,} images of {data.name}, {options.epochs} epochs"
    print(Table(title, headers, rows, notes=["the last two columns: test accuracy."]).text())


if __name__ == "__main__":
    main()
