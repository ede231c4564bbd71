"""Named training configs."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import nn

from cnnzoo.errors import unknown
from cnnzoo.files import read_json
from cnnzoo.train.callbacks import Callback
from cnnzoo.train.config import TrainConfig
from cnnzoo.train.network_kind import KINDS, network_kind
from cnnzoo.train.provenance import initial_provenance

if TYPE_CHECKING:
    from cnnzoo.train.trainer import Trainer

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
    # A few minutes on two cores with the sample that ships with cnnzoo; tuned on held-out training images. Those named
    # by a kind of network (see network_kind.py) are preferred for that kind; the others get "quick".
    "quick": TrainConfig(
        epochs=5, batch_size=64, optimizer="adamw", lr=1e-3, weight_decay=0.05, schedule="cosine", warmup=0.5
    ),
    "quick/deep": TrainConfig(
        epochs=3, batch_size=64, lr=0.02, momentum=0.9, nesterov=True, weight_decay=5e-4, schedule="cosine",
        warmup=0.5, init="kaiming_normal",
    ),
    "quick/rectifying": TrainConfig(
        epochs=20, batch_size=64, optimizer="adamw", lr=3e-3, weight_decay=0.05, schedule="cosine", warmup=1.0
    ),
    "quick/saturating": TrainConfig(
        epochs=20, batch_size=64, optimizer="adamw", lr=0.01, schedule="cosine", warmup=1.0, init="xavier_uniform:4"
    ),
}  # fmt: skip
PURPOSES = {
    "d2l/alexnet": "AlexNet as trained in Dive into Deep Learning",
    "d2l/lenet": "LeNet as trained in Dive into Deep Learning",
    "fast/alexnet": "AlexNet on all of Fashion-MNIST, better than the book in as many epochs",
    "fast/lenet": "LeNet on all of Fashion-MNIST, better than the book in as many epochs",
    "fast/lenet-relu": "LeNet with activation=relu,pooling=max on all of Fashion-MNIST",
    "krizhevsky2012": "any network as AlexNet was trained in 2012: crops, flips, PCA lighting, 90 epochs",
    "quick": "any network on a small data set, minutes on a CPU; where one of the following fits, it is taken instead",
    "quick/deep": "networks of more than six layers with weights, without normalization",
    "quick/rectifying": "networks of up to six layers with weights, with ReLU, without normalization",
    "quick/saturating": "networks with sigmoid or tanh",
}  # what each recipe is for


def list_recipes() -> list[str]:
    """Returns the names of the recipes, sorted."""
    return sorted(_RECIPES)


@dataclass(frozen=True)
class RecipeChoice:
    """The recipe for a network.

    Attributes:
        name: Name of the recipe, such as ``"quick/saturating"``, or of a file.
        reason: Why it was chosen, and what the network's weights change in it; empty if it was named and is unchanged.
        config: The settings.
    """

    name: str
    reason: str
    config: TrainConfig

    def __str__(self) -> str:
        return f"{self.name}: {self.reason}" if self.reason else self.name

    def to_dict(self) -> dict[str, str]:
        """Returns name and reason as plain values."""
        return {"name": self.name, "reason": self.reason}


class RecipeRecord(Callback):
    """A callback that writes the recipe of a run, and why it was chosen, to its train.json.

    Args:
        choice: The recipe.
        show: Whether to print it too, on standard error.
    """

    def __init__(self, choice: RecipeChoice, *, show: bool = False) -> None:
        self.choice, self.show = choice, show

    def on_start(self, trainer: Trainer) -> None:
        """Writes it."""
        if trainer.distributed.rank == 0:
            if trainer.run_dir is not None:
                trainer.run_dir.add_info(recipe=self.choice.to_dict())
            if self.show:
                print(f"{trainer.name}: recipe {self.choice}", file=sys.stderr, flush=True)


def choose_recipe(
    name: str | PathLike[str], model: nn.Module | None = None, settings: Mapping[str, Any] | None = None
) -> RecipeChoice:
    """Returns the recipe of a name, for a network.

    Args:
        name: Name of a recipe, such as ``"d2l/alexnet"``; or path of a JSON file of a config, or of a run's train.json.
        model: The network: the recipe ``name/kind`` is preferred if there is one for its kind (see
            ``cnnzoo.train.network_kind``). If its weights are trained, ``init`` is None unless it is in ``settings``.
        settings: Fields to replace, by name.

    Raises:
        UnknownNameError: If the name, or a field, is not known.
        InputError: If a field does not take a value.
        FileError: If the file cannot be read.
    """
    name, settings = str(name), settings or {}
    reasons = []
    if model is not None and any(known.startswith(f"{name}/{kind}") for known in _RECIPES for kind in KINDS):
        kind = network_kind(model)
        name = f"{name}/{kind.name}" if f"{name}/{kind.name}" in _RECIPES else name
        reasons.append(kind.reason)
    config = _load_recipe(name)
    if model is not None and "init" not in settings and initial_provenance(model) is not None:
        config = config.replace(init=None)
        reasons.append("keeps trained weights")
    return RecipeChoice(name, "; ".join(reasons), config.replace(**settings))


def recipe(name: str | PathLike[str], model: nn.Module | None = None) -> TrainConfig:
    """Returns the settings of ``choose_recipe``.

    Raises:
        UnknownNameError: If the name, or a field in the file, is not known.
        FileError: If the file cannot be read.
    """
    return choose_recipe(name, model).config


def _load_recipe(name: str) -> TrainConfig:
    if name in _RECIPES:
        return _RECIPES[name]
    if name.endswith(".json"):
        data = read_json(Path(name))
        return TrainConfig.from_dict(data.get("config", data))
    raise unknown("recipe", name, [*_RECIPES, "the path of a .json file"])
