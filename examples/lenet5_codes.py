"""The output of LeNet-5 drawn as digits: layer F6 of 84 units is a picture of 7x12 px, compared with a code per class.

    python examples/lenet5_codes.py              # on the sample, two minutes on two cores
    python examples/lenet5_codes.py --data mnist --epochs 5
    python examples/lenet5_codes.py --loss cross_entropy

LeCun, Bottou, Bengio, Haffner 1998 (section II.B, figure 3) draw the codes of the ten classes by hand: stylized
pictures of the digits. The score of a class is minus half the squared distance between F6 and its code. Trained with
the loss of the paper (equation 9), which is the distance to the code of the right class and a term that keeps the other
codes away, F6 redraws the digit of the class. Cross-entropy only needs one distance to be smaller than the others: F6
stays pale. The picture shows test images, what F6 makes of them, the nearest code, and the distances to it and to the
second one.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import torch

import cnnzoo
from cnnzoo.measure.figures import new_figure, save_figure

CODE_SIZE = (12, 7)
MARGIN = 1.0  # j of equation 9


@cnnzoo.register_loss("code_distance")
def code_distance(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Returns equation 9 of the paper for each image, with half the squared distances, which the logits are minus."""
    floor = torch.full_like(logits[:, :1], -MARGIN)
    return -logits.gather(1, targets[:, None])[:, 0] + torch.cat([floor, logits], dim=1).logsumexp(dim=1)


def first_of_each_class(data: cnnzoo.ImageData) -> torch.Tensor:
    """Returns the index of the first test image of each class."""
    labels = data.test.labels
    return torch.stack([(labels == label).nonzero()[0, 0] for label in range(len(data.classes))])


def read_codes(model: cnnzoo.CNN, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns the outputs of F6, (N, 84), and the scores of images, (N, 10)."""
    x = cnnzoo.transforms(model).apply(images)
    with torch.no_grad():
        outs = cnnzoo.features(model, ["F6", "output"], x)
    return outs["F6"], outs["output"]


def draw(
    path: Path, images: torch.Tensor, f6: torch.Tensor, scores: torch.Tensor, codes: torch.Tensor, names: list[str]
) -> None:
    """Draws a column per image: the image, F6, the nearest code with its class, and the distances."""
    figure = new_figure(6.5, 3.6)
    axes = figure.subplots(3, len(images))
    for column, (image, units, score) in zip(axes.T, zip(images, f6, scores, strict=True), strict=True):
        best = score.topk(2).indices
        column[0].imshow(image[0].numpy(), cmap="gray", vmin=0, vmax=255)
        for axis, values in ((column[1], units), (column[2], codes[best[0]])):
            axis.imshow(values.view(CODE_SIZE).numpy(), cmap="gray_r", vmin=-1.7, vmax=1.7)
        distances = (-2 * score[best]).sqrt().tolist()
        column[2].set_xlabel(f"{names[best[0]]}\n{distances[0]:.1f}, next {distances[1]:.1f}", fontsize=6)
        for axis in column:
            axis.set_xticks([])
            axis.set_yticks([])
    for axis, text in zip(axes[:, 0], ("image", "F6", "nearest code"), strict=True):
        axis.set_ylabel(text, fontsize=8)
    figure.suptitle("LeNet-5: F6 against the codes of the classes, and the distances of the two nearest", fontsize=10)
    save_figure(figure, path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="fashion_mnist_sample")
    parser.add_argument("--loss", default="code_distance", help="'code_distance' or 'cross_entropy'")
    parser.add_argument("--images", type=int, help="number of training images (default: all)")
    parser.add_argument("--epochs", type=int, default=15)
    parser.add_argument("--picture", type=Path, default=Path("lenet5_codes.png"))
    args = parser.parse_args()
    data = cnnzoo.load_data(args.data)
    data = replace(data, train=data.train[: args.images])
    model = cnnzoo.create("lenet5_1998", seed=0)
    config = cnnzoo.recipe("quick", model).replace(epochs=args.epochs, loss=args.loss)
    run = cnnzoo.Trainer(model, data, config).fit()
    if run.interrupted:
        raise KeyboardInterrupt
    print(f"test accuracy {cnnzoo.evaluate(model, data).top1:.3f}")
    codes = model.get_submodule("classifier")[-1].codes
    for rows in codes.view(-1, *CODE_SIZE).split(5):  # as printed in figure 3
        for row in rows.transpose(0, 1):
            print("  ".join("".join("#" if value > 0 else "." for value in code) for code in row))
        print()
    images = data.test.images[first_of_each_class(data)]
    f6, scores = read_codes(model, images)
    draw(args.picture, images, f6, scores, codes, list(data.classes))
    for name, score in zip(data.classes, scores, strict=True):
        print(f"{name:12} is taken for {data.classes[int(score.argmax())]}, distance {(-2 * score.max()).sqrt():.2f}")


if __name__ == "__main__":
    main()
