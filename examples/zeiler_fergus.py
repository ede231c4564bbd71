"""What the layers of a small ZFNet respond to: the strongest patches of its maps, and their projections by a deconvnet.

    python examples/zeiler_fergus.py             # on the sample, a few minutes on two cores
    python examples/zeiler_fergus.py --data fashion_mnist --epochs 5

The demonstration of Zeiler and Fergus 2013 (figure 2) for images of 28x28 px. The network has the layers of ZFNet, with
smaller windows and fewer maps. It is trained; then, for each convolution, the nine patches that each of some maps
responds to most strongly are drawn beside the projections of these responses to the pixels. A patch is the receptive
field that `cnnzoo.count` reports: it grows from edges to whole garments. A last sheet has the most confident mistakes.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import cnnzoo
from cnnzoo.blocks import LRN, Conv, Dense, Dropout, Flatten, Logits, MaxPool


def small_zfnet(num_classes: int, in_channels: int) -> cnnzoo.Spec:
    """Returns the layers of ZFNet for images of 28x28 px."""
    return cnnzoo.Spec(
        name="small_zfnet",
        input=(in_channels, 28, 28),
        features=(
            Conv(24, kernel_size=5, padding=2),  # 24 @ 28x28
            MaxPool(3, stride=2, ceil_mode=True),  # 24 @ 14x14
            LRN(),
            Conv(64, kernel_size=5, padding=2),  # 64 @ 14x14
            MaxPool(3, stride=2, ceil_mode=True),  # 64 @ 7x7
            LRN(),
            Conv(96, kernel_size=3, padding=1),  # 96 @ 7x7
            Conv(96, kernel_size=3, padding=1),  # 96 @ 7x7
            Conv(64, kernel_size=3, padding=1),  # 64 @ 7x7
            MaxPool(3, stride=2),  # 64 @ 3x3
            Flatten(),
        ),
        classifier=(Dense(256), Dropout(0.5), Logits(num_classes)),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="fashion_mnist_sample")
    parser.add_argument("--epochs", type=int, default=15)
    parser.add_argument("--images", type=int, help="number of training and of test images (default: all)")
    parser.add_argument("--width", type=float, default=1.0)
    parser.add_argument("--layers", nargs="+", default=["conv1", "conv2", "conv3", "conv4", "conv5"])
    parser.add_argument("--maps", type=int, default=9, help="number of maps of each layer")
    parser.add_argument("--out", type=Path, default=Path("runs/zeiler_fergus"))
    args = parser.parse_args()
    data = cnnzoo.load_data(args.data)
    data = replace(data, train=data.train[: args.images], test=data.test[: args.images])
    model = cnnzoo.create(small_zfnet(len(data.classes), data.shape[0]), seed=0, width=args.width)
    run = cnnzoo.Trainer(model, data, cnnzoo.recipe("quick").replace(epochs=args.epochs)).fit()
    if run.interrupted:
        raise KeyboardInterrupt
    print(f"test accuracy {run.metrics['test_acc']:.3f}")
    args.out.mkdir(parents=True, exist_ok=True)
    fields = {layer.label: layer.receptive_field for layer in cnnzoo.count(model).layers}
    for layer in args.layers:
        patches = cnnzoo.top_patches(model, data, layer, maps=args.maps)
        patches.plot(args.out / f"{layer}.png")
        print(f"{layer}: patches of {fields[layer]} px, maps {', '.join(map(str, patches.maps))}", flush=True)
    mistakes = cnnzoo.mistakes(model, data)
    mistakes.plot(args.out / "mistakes.png")
    print(f"{mistakes}\n{args.out}/: {', '.join(args.layers)}, mistakes")


if __name__ == "__main__":
    main()
