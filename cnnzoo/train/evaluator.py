"""The evaluations of a run: on validation images after epochs, on the test images at its end."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import nn

from cnnzoo.data import Data
from cnnzoo.preprocessing import Preprocessing
from cnnzoo.train.config import TrainConfig
from cnnzoo.train.distributed import DistributedContext
from cnnzoo.train.evaluation import Evaluation
from cnnzoo.train.inference import evaluate


class Evaluator:
    """Evaluates the model of a run, always on the same images in the same way.

    Args:
        model: The model.
        data: The data whose test images are used at the end.
        train_data: The data that is trained on; its test images are the validation images, if it is not ``data``.
        config: The settings.
        preprocessing: How an image becomes the network's input; None for images of floats.
        label_names: Name of each class of the network.
        label_map: int64 (classes,): the class of the network that each class of the data is; None if they are equal.
        precision: The precision of evaluations during training; at the end it is float32, as in ``cnnzoo.evaluate``.
        distributed: The processes that share the images.
        on_eval: Called with each evaluation.

    Attributes:
        has_val: Whether there are validation images.
        evaluations: The last evaluation by name: ``"val"``, ``"test"``, ``"test_ten_crop"``, ...
    """

    def __init__(
        self,
        model: nn.Module,
        data: Data,
        train_data: Data,
        config: TrainConfig,
        *,
        preprocessing: Preprocessing | None,
        label_names: Sequence[str],
        label_map: torch.Tensor | None,
        precision: str,
        distributed: DistributedContext,
        on_eval: Callable[[Evaluation], None],
    ) -> None:
        self.has_val = train_data is not data
        self.evaluations: dict[str, Evaluation] = {}
        self._model, self._data, self._train_data, self._config = model, data, train_data, config
        self._preprocessing, self._label_names, self._label_map = preprocessing, label_names, label_map
        self._precision, self._distributed, self._on_eval = precision, distributed, on_eval

    def validate(self) -> dict[str, float]:
        """Returns the accuracy on the validation images, or on the test images if there are none, under its name."""
        if self.has_val:
            return {"val_acc": self._evaluate("val", self._train_data, self._precision)}
        return {"test_acc": self._evaluate("test", self._data, self._precision)}

    def test(self) -> dict[str, float]:
        """Returns the final accuracies on the test images, by name: of single images, and of the config's ``views``."""
        accuracies = {"test_acc": self._evaluate("test", self._data, "fp32")}
        if (views := self._config.views) != "single":
            accuracies[f"test_acc_{views}"] = self._evaluate(f"test_{views}", self._data, "fp32", views)
        return accuracies

    def _evaluate(self, name: str, data: Data, precision: str, views: str = "single") -> float:
        evaluation = evaluate(
            self._model,
            data.test,
            classes=data.classes,
            preprocessing=self._preprocessing,
            label_map=self._label_map,
            label_names=self._label_names,
            views=views,
            batch_size=max(self._config.batch_size, 256),
            precision=precision,
            workers=self._config.workers,
            distributed=self._distributed,
        )
        self.evaluations[name] = evaluation
        self._on_eval(evaluation)
        return evaluation.top1
