"""Captum on the networks of cnnzoo: DeepLift, integrated gradients and occlusion, whose sums are checked.

    pip install captum
    python examples/explain_with_captum.py       # a minute on two cores

DeepLift needs a module of its own for each activation. torchvision's resnet18 calls one in-place ReLU twice in each
block, so that DeepLift refuses it; here each activation is a module, and DeepLift runs. The attributions of DeepLift
and of integrated gradients add up to the difference of the scores of the image and of a baseline: their definitions
promise it, and the script prints both numbers. The occlusion of `cnnzoo.explain` is Captum's, pixel by pixel.
"""

from __future__ import annotations

import argparse
from dataclasses import replace

import torch

import cnnzoo


def trained_resnet(data: cnnzoo.ImageData, epochs: int) -> cnnzoo.CNN:
    """Returns a narrow resnet18 for images of 32x32 px, trained on the data."""
    spec = cnnzoo.get_spec("resnet18", num_classes=len(data.classes), in_channels=1, image_size=32, width=0.25)
    model = cnnzoo.create(spec, seed=0)
    cnnzoo.Trainer(model, data, cnnzoo.recipe("quick").replace(epochs=epochs)).fit()
    return model.eval()


def deep_lift(model, x, baseline, target):
    from captum.attr import DeepLift

    return DeepLift(model).attribute(x, baseline, target=target)


def integrated_gradients(model, x, baseline, target):
    from captum.attr import IntegratedGradients

    return IntegratedGradients(model).attribute(x, baseline, target=target, n_steps=1000, internal_batch_size=100)


def occlusion(model, x, target, patch, stride):
    from captum.attr import Occlusion

    def probabilities(images):
        return model(images).softmax(dim=1)

    channels = x.shape[1]
    windows = {"sliding_window_shapes": (channels, patch, patch), "strides": (channels, stride, stride)}
    return Occlusion(probabilities).attribute(x, target=target, **windows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=2000, help="number of training images")
    parser.add_argument("--epochs", type=int, default=3)
    args = parser.parse_args()
    data = cnnzoo.load_data("fashion_mnist_sample")
    model = trained_resnet(replace(data, train=data.train[: args.images]), args.epochs)

    image = data.test.images[0]
    x = cnnzoo.transforms(model)(image)[None]  # what predict and explain see
    baseline = torch.zeros_like(x)  # the mean of the training images
    with torch.no_grad():
        target = int(model(x).argmax())
        difference = float(model(x)[0, target] - model(baseline)[0, target])
    print(f"difference of scores:     {difference:9.4f}")
    print(f"DeepLift, sum:            {float(deep_lift(model, x, baseline, target).detach().sum()):9.4f}")
    print(f"integrated gradients, sum:{float(integrated_gradients(model, x, baseline, target).sum()):9.4f}")

    ours = cnnzoo.explain(model, image, "occlusion", label=target, patch=8, stride=4).values
    theirs = occlusion(model, x, target, patch=8, stride=4)[0, 0]
    print(f"occlusion, largest difference: {float((ours - theirs).abs().max()):.1e}")

    from torchvision.models import resnet18

    theirs = resnet18(num_classes=10).eval()
    try:
        deep_lift(theirs, torch.zeros(1, 3, 64, 64), torch.ones(1, 3, 64, 64), target)
    except RuntimeError as error:
        print(f"DeepLift on torchvision's resnet18: {str(error).partition('.')[0]}")


if __name__ == "__main__":
    main()
