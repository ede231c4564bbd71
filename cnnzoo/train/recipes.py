"""Named training configs."""

from __future__ import annotations

from os import PathLike
from pathlib import Path

from cnnzoo.errors import unknown
from cnnzoo.files import read_json
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
    # Our own settings for the same networks. AlexNet overfits unless its training images change from epoch to epoch.
    "fast/alexnet": TrainConfig(
        epochs=10, batch_size=128, lr=0.06, momentum=0.9, nesterov=True, weight_decay=5e-4, schedule="one_cycle",
        warmup=1.0, clip_norm=1.0, init="kaiming_normal", label_smoothing=0.05, ema=0.999, flip=True,
        random_erasing=0.1,
    ),
    # Sigmoids attenuate the signal: they need initial weights four times as large, and a high learning rate.
    "fast/lenet": TrainConfig(
        epochs=10, batch_size=64, lr=0.6, momentum=0.9, nesterov=True, schedule="one_cycle", warmup=1.0,
        init="xavier_uniform:4",
    ),
    # for lenet with activation="relu", pooling="max"
    "fast/lenet-relu": TrainConfig(
        epochs=10, batch_size=64, lr=0.05, momentum=0.9, nesterov=True, weight_decay=1e-3, schedule="one_cycle",
        warmup=1.0, init="kaiming_normal", ema=0.998, flip=True,
    ),
    # Krizhevsky, Sutskever, Hinton 2012, section 5, for any network: random crops of images scaled to 8/7 of its size,
    # flips, PCA lighting; ten-crop evaluation. The paper divides the learning rate by ten whenever the validation error
    # stalls, three times in about 90 epochs: here after 30, 60 and 80, so that it is a function of the step.
    "krizhevsky2012": TrainConfig(
        epochs=90, batch_size=128, lr=0.01, momentum=0.9, weight_decay=5e-4, schedule="step", milestones=(30, 60, 80),
        crop_mode="center", flip=True, pca_lighting=0.1, views="ten_crop",
    ),
    # A few minutes on two cores with the sample that ships with cnnzoo; tuned on held-out training images.
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
    """Returns the names of the recipes, sorted."""
    return sorted(_RECIPES)


def recipe(name: str | PathLike[str], model: str | None = None) -> TrainConfig:
    """Returns a TrainConfig by its name, or from a JSON file.

    Args:
        name: Name of a recipe, such as ``"d2l/alexnet"``; or path of a JSON file of a config, or of a run's train.json.
        model: Name of the network: the recipe ``name/model`` is preferred, if there is one.

    Raises:
        UnknownNameError: If the name, or a field in the file, is not known.
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
    raise unknown("recipe", name, [*_RECIPES, "the path of a .json file"])
