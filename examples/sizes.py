"""Preparation of images that do not have the network's input size, and test accuracy on several views of each.

    python examples/sizes.py                            # the bundled sample, a few minutes
    python examples/sizes.py --data fashion_mnist --recipe fast/lenet-relu
    python examples/sizes.py --run runs/alexnet --data fashion_mnist    # tests a trained network only

Images of Fashion-MNIST have 28x28 px; the network takes 32x32 px, like LeNet-5. It is trained once per crop mode: on
scaled images (squash), on crops of enlarged images (center) and on images with a black border (border). Each of the
three is then tested on all views: the image, its mirror image, the center crop, five and ten crops.
"""

from __future__ import annotations

import argparse
from dataclasses import replace

import cnnzoo

CROP_MODES = ("squash", "center", "border")
VIEWS = ("single", "flip", "center", "five_crop", "ten_crop")


def accuracies(model: cnnzoo.CNN, data: cnnzoo.ImageData, crop_mode: str) -> str:
    """Returns the accuracies on all views, in columns."""
    return "".join(f"{cnnzoo.evaluate(model, data, views=views, crop_mode=crop_mode).top1:11.4f}" for views in VIEWS)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="fashion_mnist_sample", help="name of a data set")
    parser.add_argument("--images", type=int, help="number of images for training and for testing (default: all)")
    parser.add_argument("--recipe", default="quick/saturating")
    parser.add_argument("--epochs", type=int, help="number of epochs (default: the recipe's)")
    parser.add_argument("--run", help="a run folder or weights file to test, instead of training")
    args = parser.parse_args()
    data = cnnzoo.load_data(args.data)
    data = replace(data, train=data.train[: args.images], test=data.test[: args.images])
    print(f"test accuracy on {len(data.test):,} images of {data.name}")
    print(f"{'crop_mode':10}" + "".join(f"{views:>11}" for views in VIEWS))
    if args.run:
        model = cnnzoo.load(args.run)
        crop_mode = model.metadata.preprocessing.crop_mode
        print(f"{crop_mode:10}{accuracies(model, data, crop_mode)}")
        return
    config = cnnzoo.recipe(args.recipe)
    if args.epochs:
        config = config.replace(epochs=args.epochs)
    for crop_mode in CROP_MODES:
        model = cnnzoo.create("lenet", image_size=32, activation="relu", pooling="max", seed=0)
        run = cnnzoo.Trainer(model, data, config.replace(crop_mode=crop_mode, eval_every=0), show=False).fit()
        if run.interrupted:
            raise KeyboardInterrupt
        print(f"{crop_mode:10}{accuracies(model, data, crop_mode)}", flush=True)


if __name__ == "__main__":
    main()
