"""Batch size against throughput, memory and accuracy. An exercise of the textbook's chapter on AlexNet.

    python examples/batch_sizes.py
    python examples/batch_sizes.py alexnet --data fashion_mnist --sizes 32 128 512 --epochs 3 --device auto

A larger batch takes fewer steps per epoch. The script reports the accuracy with a fixed learning rate and with one that
is proportional to the batch size, which compensates for the smaller number of steps up to a point.
"""

from __future__ import annotations

import argparse

import cnnzoo
from cnnzoo.measure.tables import Table, human

BASE = 64  # the batch size that --lr is for


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?", default="lenet")
    parser.add_argument("--data", default="fashion_mnist_sample")
    parser.add_argument("--sizes", type=int, nargs="+", default=[8, 32, 128, 512])
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--lr", type=float, default=0.02, help=f"learning rate for a batch of {BASE}")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--seconds", type=float, default=1.0, help="duration of each measurement")
    args = parser.parse_args()
    data = cnnzoo.load_data(args.data)
    knobs = {"activation": "relu", "pooling": "max"} if args.model == "lenet" else {}
    spec = cnnzoo.get_spec(args.model, in_channels=data.shape[0], num_classes=len(data.classes), **knobs)
    base = cnnzoo.recipe("quick/deep").replace(epochs=args.epochs, device=args.device, eval_every=0)

    rows = []
    for size in args.sizes:
        bench = cnnzoo.bench(spec, batch_size=size, train=True, device=args.device, seconds=args.seconds)
        saved = cnnzoo.count(spec, (size, *spec.input)).saved_bytes
        accuracies = []
        for lr in (args.lr, args.lr * size / BASE):
            config = base.replace(batch_size=size, lr=lr)
            run = cnnzoo.Trainer(cnnzoo.create(spec, seed=0), data, config, show=False).fit()
            if run.interrupted:
                raise KeyboardInterrupt
            accuracies.append(f"{run.metrics['test_acc']:.3f}")
        timing = bench.timings[0]
        peak = "" if timing.peak_bytes is None else f"{human(timing.peak_bytes)}B"
        steps = -(-len(data.train) // size) * args.epochs
        rows.append((str(size), steps, f"{timing.images_per_sec:,.0f}", peak, f"{human(saved)}B", *accuracies))
    headers = ("batch", "steps", "images/s", "memory, measured", "activations saved", f"lr={args.lr:g}", "scaled")
    title = f"{args.model} on {len(data.train):,} images of {data.name}, {args.epochs} epochs"
    print(Table(title, headers, rows, notes=["the last two columns: test accuracy."]).text())


if __name__ == "__main__":
    main()
