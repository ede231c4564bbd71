"""What to do when the images do not fit the net, and what looking at several crops gains.

    python examples/sizes.py                            # the bundled sample, a few minutes
    python examples/sizes.py --data fashion_mnist --recipe fast/lenet-relu
    python examples/sizes.py --run runs/alexnet --data fashion_mnist    # a trained net, seen through every crop

The images of Fashion-MNIST are 28x28 and the net takes 32x32, as LeNet-5 did: it is trained on images that were scaled,
on windows cut from larger ones, and on images with black around; each is then tested on one view and on several.
"""

from __future__ import annotations

import argparse

import cnnzoo

CROP_MODES = ("resize", "crop", "pad")
VIEWS = ("whole", "flip", "center", "five", "ten")


def tested(model: cnnzoo.CNN, data: cnnzoo.ImageData, crop_mode: str) -> str:
    """Accuracy on each kind of view, in columns."""
    return "".join(f"{cnnzoo.evaluate(model, data, views=crops, crop_mode=fit).top1:9.4f}" for crops in VIEWS)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", default="fashion_mnist_sample")
    parser.add_argument("--recipe", default="quick/lenet")
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--run", help="a run folder or file: only test it")
    options = parser.parse_args()
    data = cnnzoo.load_data(options.data)
    print(f"test accuracy on {len(data.test):,} images of {data.name}\n{'fit':10}" + "".join(f"{c:>9}" for c in VIEWS))
    if options.run:
        model = cnnzoo.load(options.run)
        fit = model.notes["crop_mode"]
        print(f"{fit:10}{tested(model, data, fit)}")
        return
    config = cnnzoo.recipe(options.recipe)
    if options.epochs:
        config = config.replace(epochs=options.epochs)
    for fit in CROP_MODES:
        model = cnnzoo.create("lenet", image_size=32, activation="relu", pooling="max", seed=0)
        run = cnnzoo.Trainer(model, data, config.replace(crop_mode=fit, eval_every=0), show=False).fit()
        if run.interrupted:
            raise KeyboardInterrupt
        print(f"{fit:10}{tested(model, data, fit)}", flush=True)


if __name__ == "__main__":
    main()
