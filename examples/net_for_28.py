"""A better network for images of 28x28 px. An exercise of the textbook's chapter on AlexNet.

    python examples/net_for_28.py                          # five minutes on two cores
    python examples/net_for_28.py --data fashion_mnist

It applies later ideas at the size of LeNet: stacked 3x3 convolutions (VGG), batch normalization after each (Inception),
global average pooling instead of dense layers (NiN).
"""

from __future__ import annotations

import argparse
from pathlib import Path

import cnnzoo
from cnnzoo import Spec
from cnnzoo.blocks import AdaptiveAvgPool, Conv, Flatten, Logits, MaxPool


def net28(num_classes: int = 10, in_channels: int = 1, image_size: int = 28) -> Spec:
    """Five 3x3 convolutions with batch norm, and global average pooling."""

    def conv(maps: int) -> Conv:
        return Conv(maps, kernel_size=3, padding=1, bias=False, norm="batch")

    return Spec(
        name="net28",
        input=(in_channels, image_size, image_size),
        features=(
            *(conv(16), conv(32)),  # 32 @ 28x28
            MaxPool(2),
            *(conv(64), conv(64)),  # 64 @ 14x14
            MaxPool(2),
            conv(64),  # 64 @ 7x7
            AdaptiveAvgPool(1),
            Flatten(),  # 64
        ),
        classifier=(Logits(num_classes),),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="fashion_mnist_sample")
    parser.add_argument("--epochs", type=int, help="number of epochs (default: the recipe's)")
    parser.add_argument("--width", type=float, default=1.0, help="factor of the width, for a quick look")
    parser.add_argument("--out", type=Path, default=Path("runs/net28"))
    args = parser.parse_args()
    data = cnnzoo.load_data(args.data)
    model = cnnzoo.create(net28(len(data.classes), data.shape[0]), width=args.width, seed=0)
    settings = {"epochs": args.epochs} if args.epochs else {}
    comparison = cnnzoo.compare(model, "lenet", train=data, recipe="quick", settings=settings, out=args.out)
    if any(result["interrupted"] for result in comparison.results):
        raise KeyboardInterrupt
    print(comparison)
    print(f"\nlayers and learning curves: {args.out / 'compare.png'}")


if __name__ == "__main__":
    main()
