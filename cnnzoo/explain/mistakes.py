"""The images that a network takes for another class, the most confident mistakes first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from cnnzoo.explain.images import PreparedImages
from cnnzoo.explain.panels import Sheet, picture_of
from cnnzoo.explain.results import Explanation
from cnnzoo.explain.subject import Network
from cnnzoo.progress_bar import progress_bar

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_COLUMNS = 5
_MAX_NAME = 17  # characters of the name of a class below an image


@dataclass(frozen=True, eq=False)
class Mistakes(Explanation):
    """Misclassified images, in order of the probability of the wrong class.

    Attributes:
        name: Name of the network.
        data: Name of the data set.
        images: The images as the network saw them, uint8 (n, C, H, W).
        indices: Index of each image in the test images of the data set.
        labels: Name of the class of each image.
        predictions: Name of the class that the network predicts.
        probabilities: The probability of that class, float32 (n,).
        n_mistakes: Number of all mistakes.
        n_images: Number of all images.
    """

    name: str
    data: str
    images: torch.Tensor
    indices: Sequence[int]
    labels: Sequence[str]
    predictions: Sequence[str]
    probabilities: torch.Tensor
    n_mistakes: int
    n_images: int

    @property
    def title(self) -> str:
        """Network, data set, and the number of mistakes."""
        text = f"mistakes of {self.name}: {self.n_mistakes:,} of {self.n_images:,} images of {self.data}"
        return f"{text}; the {len(self.indices)} most confident" if len(self.indices) < self.n_mistakes else text

    def draw(self) -> Figure:
        """Returns the images, with the predicted class, its probability, and the true class below each."""
        width = 1.16
        height = width * self.images.shape[2] / self.images.shape[3]
        rows = -(-len(self.indices) // _COLUMNS)
        sheet = Sheet(self.title, max(rows, 1) * (height + 0.5))
        for i, image in enumerate(self.images):
            left, top = 0.1 + i % _COLUMNS * (width + 0.12), i // _COLUMNS * (height + 0.5)
            sheet.show(picture_of(image), left, top, width, height)
            probability = f"{float(self.probabilities[i]):.0%}".replace("%", " %")
            sheet.text(left, top + height + 0.11, f"{_shorten(self.predictions[i])} {probability}", fontsize=7)
            sheet.text(left, top + height + 0.25, f"is {_shorten(self.labels[i])}", fontsize=7)
        if not len(self.indices):
            sheet.text(0.1, 0.2, "no image is misclassified")
        return sheet.figure


def _shorten(name: str) -> str:
    return name if len(name) <= _MAX_NAME else f"{name[: _MAX_NAME - 3]}..."


def find_mistakes(
    network: Network,
    images: PreparedImages,
    classes: Sequence[str],
    label_map: torch.Tensor | None,
    *,
    data: str,
    n: int,
    batch_size: int,
) -> Mistakes:
    """Returns the n mistakes with the highest probability of the wrong class.

    Args:
        network: The network.
        images: The images and their labels.
        classes: Name of each class of the network.
        label_map: int64: the class of the network that each label is; None if they are equal.
        data: Name of the data set.
        n: Number of mistakes.
        batch_size: Batch size.
    """
    parameter = next(network.module.parameters(), torch.zeros(()))  # for device and dtype
    predicted, probabilities, labels = [], [], []
    with torch.no_grad(), progress_bar("classifying", len(images)) as advance:
        for indices, batch, y in images.batches(batch_size):
            scores, _ = network.run(images.preprocessing.normalize(batch).to(parameter))
            network.classes(scores.shape[1])
            best = scores.float().softmax(dim=1).max(dim=1)
            predicted.append(best.indices.cpu())
            probabilities.append(best.values.cpu())
            labels.append(y if label_map is None else label_map[y])
            advance(len(indices))
    prediction, probability, label = (torch.cat(parts) for parts in (predicted, probabilities, labels))
    wrong = (prediction != label).nonzero()[:, 0]
    order = wrong[probability[wrong].sort(descending=True, stable=True).indices][:n]
    shown = order.tolist()
    size = (images.preprocessing.channels, *images.preprocessing.size)
    return Mistakes(
        name=network.name,
        data=data,
        images=images.read(shown)[0] if shown else torch.zeros(0, *size, dtype=torch.uint8),
        indices=tuple(shown),
        labels=tuple(classes[i] for i in label[order].tolist()),
        predictions=tuple(classes[i] for i in prediction[order].tolist()),
        probabilities=probability[order],
        n_mistakes=len(wrong),
        n_images=len(images),
    )
