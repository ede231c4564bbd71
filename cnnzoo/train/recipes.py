"""Named training configs: what is done to train a net, as data."""

from __future__ import annotations

from os import PathLike
from pathlib import Path

from cnnzoo.errors import unknown
from cnnzoo.serialization import read_json
from cnnzoo.train.config import TrainConfig

_RECIPES = {
    # Dive into Deep Learning, chapters LeNet and AlexNet: plain SGD, Xavier weights, float32, images in [0, 1].
    "d2l/alexnet": TrainConfig(
        epochs=10, batch_size=128, lr=0.01, init="xavier_uniform", precision="fp32", channels_last=False,
        normalize=False,
    ),
    "d2l/lenet": TrainConfig(
        epochs=10, batch_size=256, lr=0.9, init="xavier_uniform", precision="fp32", channels_last=False,
        normalize=False,
    ),
    # Ours, of the same layers. AlexNet learns by heart what it sees often: it sees other images each time.
    "fast/alexnet": TrainConfig(
        epochs=10, batch_size=128, lr=0.06, momentum=0.9, nesterov=True, weight_decay=5e-4, schedule="one_cycle",
        warmup=1.0, clip_norm=1.0, init="kaiming_normal", label_smoothing=0.05, ema=0.999, flip=True, random_erasing=0.1,
    ),
    # Sigmoids shrink what passes: they want initial weights four times as large, and large steps.
    "fast/lenet": TrainConfig(
        epochs=10, batch_size=64, lr=0.6, momentum=0.9, nesterov=True, schedule="one_cycle", warmup=1.0,
        init="xavier_uniform:4",
    ),
    # for lenet with activation="relu", pooling="max"
    "fast/lenet-relu": TrainConfig(
        epochs=10, batch_size=64, lr=0.05, momentum=0.9, nesterov=True, weight_decay=1e-3, schedule="one_cycle",
        warmup=1.0, init="kaiming_normal", ema=0.998, flip=True,
    ),
    # Krizhevsky, Sutskever, Hinton 2012, section 5, of any net: images scaled to 8/7 of its size and cut at random,
    # mirrored, with noise of color; tested on ten crops. The paper divides the rate by ten whenever the validation
    # error stalls, three times in about 90 epochs: here after 30, 60 and 80, so that it is a function of the step.
    "krizhevsky2012": TrainConfig(
        epochs=90, batch_size=128, lr=0.01, momentum=0.9, weight_decay=5e-4, schedule="step", milestones=(30, 60, 80),
        crop_mode="center", flip=True, pca_lighting=0.1, views="ten_crop",
    ),
    # A few minutes on two cores with the sample that ships with cnnzoo; chosen on held-out training images.
    "quick": TrainConfig(
        epochs=5, batch_size=64, optimizer="adamw", lr=1e-3, weight_decay=0.05, schedule="cosine", warmup=0.5
    ),
    "quick/alexnet": TrainConfig(
        epochs=3, batch_size=64, lr=0.02, momentum=0.9, nesterov=True, weight_decay=5e-4, schedule="cosine",
        warmup=0.5, init="kaiming_normal",
    ),
    "quick/lenet": TrainConfig(
        epochs=20, batch_size=64, optimizer="adamw", lr=0.01, schedule="cosine", warmup=1.0, init="xavier_uniform:4"
    ),
}  # fmt: skip


def list_recipes() -> list[str]:
    """The names that ``recipe`` knows, sorted."""
    return sorted(_RECIPES)


def recipe(name: str | PathLike[str], model: str | None = None) -> TrainConfig:
    """A TrainConfig by name, or from a JSON file.

    Args:
        name: A known name (``"d2l/alexnet"``), or the path of a JSON file; a run's train.json will do.
        model: The architecture that it is for: where there is a recipe ``name/model``, that one is meant.

    Raises:
        UnknownNameError: If the name is not known, or the file has a field that is not known.
        FileError: If the file cannot be read.
    """
    name = str(name)
    if model is not None and f"{name}/{model}" in _RECIPES:
        return _RECIPES[f"{name}/{model}"]
    if name in _RECIPES:
        return _RECIPES[name]
    if name.endswith(".json"):
        data = read_json(Path(name))
        return TrainConfig.from_dict(data.get("config", data))
    raise unknown("recipe", name, [*_RECIPES, "a path that ends in .json"])
