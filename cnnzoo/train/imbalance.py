"""Class weights, and the numbers of images that they follow from."""

from __future__ import annotations

import torch

from cnnzoo.data import Data, has_samples, sample_labels
from cnnzoo.errors import InputError
from cnnzoo.train.config import TrainConfig


def make_class_weights(config: TrainConfig, data: Data, label_map: torch.Tensor | None = None) -> torch.Tensor | None:
    """Returns the factor of the loss of images of each class; None if all are 1.

    Args:
        config: The settings.
        data: The data set whose training images are counted.
        label_map: int64 (classes,): the class of the network that each class of the data is; None if they are equal.

    Returns:
        float32 (classes,), in the order of the network's classes.

    Raises:
        InputError: If there is not one weight per class, or ``class_weights="balanced"`` or ``balanced_sampling`` are
            not possible, since a class has no images or the labels are not known before they are read.
    """
    weights, n_classes = config.class_weights, len(data.classes)
    if weights == "balanced" or config.balanced_sampling:
        counts = count_images(data)
    if weights is None:
        return None
    if weights == "balanced":
        values = counts.sum() / (n_classes * counts)
    elif len(weights) != n_classes:
        raise InputError(
            f"class_weights has {len(weights)} numbers, but {data.name} has {n_classes} classes; give one per class, "
            f"in this order: {', '.join(map(str, data.classes[:10]))}{', ...' * (n_classes > 10)}"
        )
    else:
        values = torch.tensor(weights)
    if label_map is not None:
        values = torch.empty_like(values).index_copy_(0, label_map.cpu(), values)
    return values.float()


def count_images(data: Data) -> torch.Tensor:
    """Returns the number of training images of each class, int64 (classes,).

    Raises:
        InputError: If a class has none, or the labels are not known before the images are read.
    """
    if not has_samples(data.train):
        raise InputError(
            f"{data.name} yields batches, whose labels are not known before they are read; give class_weights as a "
            "list of numbers, or a Dataset of samples"
        )
    labels, n_classes = sample_labels(data.train, data.name), len(data.classes)
    if not 0 <= int(labels.min()) <= int(labels.max()) < n_classes:
        raise InputError(
            f"{data.name}: labels range from {int(labels.min())} to {int(labels.max())}, but there are {n_classes} "
            f"classes (0 to {n_classes - 1})"
        )
    counts = torch.bincount(labels, minlength=n_classes)
    if missing := [str(name) for name, n in zip(data.classes, counts.tolist(), strict=True) if n == 0]:
        raise InputError(
            f"{data.name} has no training images of {', '.join(missing[:10])}{', ...' * (len(missing) > 10)}; "
            "class_weights='balanced' and balanced_sampling need images of every class"
        )
    return counts
