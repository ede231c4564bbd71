"""Activations of the first layer for pullovers, coats and noise. Exercises of the textbook's chapter on LeNet.

python examples/activations.py
python examples/activations.py runs/alexnet --data fashion_mnist --classes Sandal "Ankle boot"
"""

from __future__ import annotations

import argparse

import torch
from matplotlib.figure import Figure

import cnnzoo
from cnnzoo.measure.figures import INK, save_figure
from cnnzoo.measure.tables import Table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?", help="a weights file or run folder (default: the LeNet that ships)")
    parser.add_argument("--data", default="fashion_mnist_sample")
    parser.add_argument("--classes", nargs="+", default=["Pullover", "Coat"])
    parser.add_argument("--picture", default="activations.png")
    args = parser.parse_args()
    model = (cnnzoo.load(args.model) if args.model else cnnzoo.create("lenet", pretrained=True)).eval()
    data = cnnzoo.load_data(args.data)
    groups = {name: data.test.images[data.test.labels == data.classes.index(name)] for name in args.classes}
    groups["noise"] = torch.randint(0, 256, (100, *data.shape), generator=torch.Generator().manual_seed(0)).byte()
    labels = [label for label, sums in cnnzoo.count(model).by("label").items() if sums["params"]]

    rows, examples = [], {}
    transform = cnnzoo.transforms(model)
    for name, images in groups.items():
        with torch.no_grad():
            x = torch.stack([transform(image) for image in images[:100]])  # (N, C, H, W)
            activations = cnnzoo.features(model, labels, x)
        confidence = activations[labels[-1]].softmax(1).max(1).values.mean()
        rows.append((name, *(f"{activations[label].std(0).mean():.3f}" for label in labels), f"{confidence:.3f}"))
        examples[name] = (x[0, 0], activations[labels[0]][0][:6])
    note = "standard deviation of the activations over the images; confidence: mean probability of the predicted class."
    print(Table(model.spec.name, ("images", *labels, "confidence"), rows, notes=[note]).text())

    figure = Figure(figsize=(9, 1.45 * len(examples)), layout="constrained", facecolor="white")
    axes = figure.subplots(len(examples), 7, squeeze=False)
    for line, (name, (image, maps)) in zip(axes, examples.items(), strict=True):
        for axis, values in zip(line, (image, *maps), strict=True):
            axis.imshow(values.numpy(), cmap="gray" if axis is line[0] else "viridis")
            axis.set(xticks=[], yticks=[])
        line[0].set_ylabel(name, color=INK)
    for axis, title in zip(axes[0], ("image", *(f"map {i}" for i in range(1, 7))), strict=True):
        axis.set_title(title, fontsize=9, color=INK)
    save_figure(figure, args.picture)


if __name__ == "__main__":
    main()
