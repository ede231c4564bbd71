"""From color to gray, and to other classes: weights that were trained on three channels go on with one.

    python examples/transfer.py                             # seconds: a LeNet that learned garments in color
    python examples/transfer.py --torchvision resnet18      # fetches torchvision's weights; minutes

The first convolution sees the one channel as all three at once, so that a gray image gives the maps that the same image
gave in color; the last layer is new. What was adapted is said, and noted on the network. Then it learns two classes
from a hundred gray images.
"""

from __future__ import annotations

import argparse
import warnings
from pathlib import Path

import torch

import cnnzoo
from cnnzoo.data import ImageData, Split

SHOES = torch.tensor([5, 7, 9])  # sandals, sneakers, ankle boots


def in_color(data: ImageData) -> ImageData:
    """The same images, each in a color of its own."""

    def part(split: Split) -> Split:
        tints = torch.rand(len(split), 3, 1, 1, generator=torch.Generator().manual_seed(0))
        return Split((split.images * (0.3 + 0.7 * tints)).to(torch.uint8), split.labels)

    return ImageData(f"{data.name} in color", part(data.train), part(data.test), data.classes)


def shoes(data: ImageData, images: int) -> ImageData:
    """Few gray images, and the question whether one shows a shoe."""
    train, test = (Split(s.images, torch.isin(s.labels, SHOES).long()) for s in (data.train[:images], data.test))
    return ImageData("shoes", train, test, ("no shoe", "shoe"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--torchvision", metavar="NAME", help="begin with what torchvision trained on ImageNet")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path("runs/transfer"))
    args = parser.parse_args()
    sample = cnnzoo.load_data("fashion_mnist_sample")
    if args.torchvision:
        source, options = args.torchvision, {"pretrained": "torchvision"}
    else:
        model = cnnzoo.create("lenet", in_channels=3, activation="relu", pooling="max", seed=0)
        config = cnnzoo.recipe("quick").replace(epochs=args.epochs, lr=3e-3)
        run = cnnzoo.Trainer(model, in_color(sample), config, out=args.out / "color", overwrite=True).fit()
        if run.interrupted:
            raise KeyboardInterrupt
        source, options = run.path, {}

    color = cnnzoo.create(source, **options)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        gray = cnnzoo.create(source, in_channels=1, num_classes=2, seed=0, **options)
    print(*(warning.message for warning in said))

    name = gray.describe()["pretrained_cfg"]["first_conv"]
    images = torch.rand(8, 1, *gray.spec.input[1:])
    before, now = color.get_submodule(name)(images.expand(-1, 3, -1, -1)), gray.get_submodule(name)(images)
    print(f"{name}, gray against gray in three channels: at most {(before - now).abs().max():.1e} apart")

    data = shoes(sample, 100)
    config = cnnzoo.recipe("quick").replace(epochs=20, batch_size=10, freeze=["features.*"])
    print(f"shoe or not, of {len(data.test):,} test images: {cnnzoo.evaluate(gray, data).top1:.3f} right as adapted")
    run = cnnzoo.Trainer(gray, data, config, out=args.out / "gray", overwrite=True, show=False).fit()
    if run.interrupted:
        raise KeyboardInterrupt
    print(f"{cnnzoo.evaluate(args.out / 'gray', data).top1:.3f} right after {len(data.train)} images, features frozen")


if __name__ == "__main__":
    main()
