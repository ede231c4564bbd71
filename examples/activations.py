"""What does the first layer see in pullovers and coats, and what in noise? Exercises of the chapter on LeNet.

python examples/activations.py
python examples/activations.py runs/alexnet --data fashion_mnist --classes Sandal "Ankle boot"
"""

from __future__ import annotations

import argparse

import torch
from matplotlib.figure import Figure

import cnnzoo
from cnnzoo.measure.layer_plot import INK, save_figure
from cnnzoo.measure.tables import Table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("net", nargs="?", help="a saved net; by default the LeNet that ships with cnnzoo")
    parser.add_argument("--data", default="fashion_mnist_sample")
    parser.add_argument("--classes", nargs="+", default=["Pullover", "Coat"])
    parser.add_argument("--picture", default="activations.png")
    options = parser.parse_args()
    model = (cnnzoo.load(options.net) if options.net else cnnzoo.create("lenet", pretrained=True)).eval()
    data = cnnzoo.load_data(options.data)
    shown = {name: data.test.images[data.test.labels == data.classes.index(name)] for name in options.classes}
    shown["noise"] = torch.randint(0, 256, (100, *data.shape), generator=torch.Generator().manual_seed(0)).byte()
    rows_with_weights = [row for row, sums in cnnzoo.count(model).by("label").items() if sums["params"]]

    rows, first = [], {}
    transform = cnnzoo.transforms(model)
    for name, images in shown.items():
        with torch.no_grad():
            x = torch.stack([transform(image) for image in images[:100]])
            found = cnnzoo.features(model, rows_with_weights, x)
        surest = found[rows_with_weights[-1]].softmax(1).max(1).values.mean()
        rows.append((name, *(f"{found[row].std(0).mean():.3f}" for row in rows_with_weights), f"{surest:.3f}"))
        first[name] = (x[0, 0], found[rows_with_weights[0]][0][:6])
    note = "the standard deviation of an activation from image to image; sure: mean probability of the class given."
    print(Table(model.spec.name, ("images", *rows_with_weights, "sure"), rows, notes=[note]).text())

    figure = Figure(figsize=(9, 1.45 * len(first)), layout="constrained", facecolor="white")
    axes = figure.subplots(len(first), 7, squeeze=False)
    for line, (name, (image, maps)) in zip(axes, first.items(), strict=True):
        for axis, picture in zip(line, (image, *maps), strict=True):
            axis.imshow(picture.numpy(), cmap="gray" if axis is line[0] else "viridis")
            axis.set(xticks=[], yticks=[])
        line[0].set_ylabel(name, color=INK)
    for axis, title in zip(axes[0], ("image", *(f"map {i}" for i in range(1, 7))), strict=True):
        axis.set_title(title, fontsize=9, color=INK)
    save_figure(figure, options.picture)


if __name__ == "__main__":
    main()
