"""Transfer from color to gray images and to other classes: weights for three channels, adapted to one.

    python examples/transfer.py                             # seconds: a LeNet, trained here on tinted images
    python examples/transfer.py --torchvision resnet18      # downloads torchvision's weights; minutes

The weights of the first convolution are summed over the three channels, so that a gray image gives the same maps as its
copy in three equal channels. The last layer is new. A warning and model.metadata.provenance describe the changes. The
network is then trained to distinguish two classes with a hundred gray images.
"""

from __future__ import annotations

import argparse
import warnings
from pathlib import Path

import torch

import cnnzoo
from cnnzoo.data import ImageData, Split

SHOES = torch.tensor([5, 7, 9])  # sandals, sneakers, ankle boots


def tint_images(data: ImageData) -> ImageData:
    """Returns the images, each tinted in a random color."""

    def tint(split: Split) -> Split:
        tints = torch.rand(len(split), 3, 1, 1, generator=torch.Generator().manual_seed(0))
        return Split((split.images * (0.3 + 0.7 * tints)).to(torch.uint8), split.labels)

    return ImageData(f"{data.name} in color", tint(data.train), tint(data.test), data.classes)


def shoes(data: ImageData, images: int) -> ImageData:
    """Returns a few gray images in the classes "no shoe" and "shoe"."""
    train, test = (
        Split(split.images, torch.isin(split.labels, SHOES).long()) for split in (data.train[:images], data.test)
    )
    return ImageData("shoes", train, test, ("no shoe", "shoe"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--torchvision", metavar="NAME", help="start from torchvision's ImageNet weights")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path("runs/transfer"))
    args = parser.parse_args()
    sample = cnnzoo.load_data("fashion_mnist_sample")
    if args.torchvision:
        source, options = args.torchvision, {"pretrained": "torchvision"}
    else:
        model = cnnzoo.create("lenet", in_channels=3, activation="relu", pooling="max", seed=0)
        config = cnnzoo.recipe("quick").replace(epochs=args.epochs, lr=3e-3)
        run = cnnzoo.Trainer(model, tint_images(sample), config, out=args.out / "color", overwrite=True).fit()
        if run.interrupted:
            raise KeyboardInterrupt
        source, options = run.path, {}

    color = cnnzoo.create(source, **options)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        gray = cnnzoo.create(source, in_channels=1, num_classes=2, seed=0, **options)
    print(*(warning.message for warning in caught))

    name = gray.describe()["pretrained_cfg"]["first_conv"]
    images = torch.rand(8, 1, *gray.spec.input[1:])
    three, one = color.get_submodule(name)(images.expand(-1, 3, -1, -1)), gray.get_submodule(name)(images)
    print(f"{name}, one channel against three equal channels: largest difference {(three - one).abs().max():.1e}")

    data = shoes(sample, 100)
    config = cnnzoo.recipe("quick").replace(epochs=20, batch_size=10, freeze=["features.*"])
    print(f"{len(data.test):,} test images, shoe or not: accuracy {cnnzoo.evaluate(gray, data).top1:.3f} as adapted")
    run = cnnzoo.Trainer(gray, data, config, out=args.out / "gray", overwrite=True, show=False).fit()
    if run.interrupted:
        raise KeyboardInterrupt
    accuracy = cnnzoo.evaluate(args.out / "gray", data).top1
    print(f"accuracy {accuracy:.3f} after training on {len(data.train)} images with frozen features")


if __name__ == "__main__":
    main()
