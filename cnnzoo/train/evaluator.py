"""The evaluations of a run: on validation images after epochs, on the test images at its end."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import nn

from cnnzoo.data import Data
from cnnzoo.data.loaders import LoaderCache
from cnnzoo.train.config import TrainConfig
from cnnzoo.train.distributed import DistributedContext
from cnnzoo.train.evaluation import Evaluation
from cnnzoo.train.inference import evaluate
from cnnzoo.train.metrics import METRICS, MetricFunction, compute_metrics
from cnnzoo.train.setup import RunSetup


class Evaluator:
    """Evaluates the model of a run, always on the same images in the same way.

    Args:
        model: The model.
        setup: The fixed values of the run.
        config: The settings.
        precision: The precision of evaluations during training; at the end it is float32, as in ``cnnzoo.evaluate``.
        metrics: Metrics by name, besides those of the config.
        distributed: The processes that share the images.
        on_eval: Called with each evaluation.

    Attributes:
        has_val: Whether there are validation images.
        evaluations: The last evaluation by name: ``"val"``, ``"test"``, ``"test_ten_crop"``, ...
    """

    def __init__(
        self,
        model: nn.Module,
        setup: RunSetup,
        config: TrainConfig,
        *,
        precision: str,
        metrics: Mapping[str, MetricFunction],
        distributed: DistributedContext,
        on_eval: Callable[[Evaluation], None],
    ) -> None:
        self.has_val = setup.train_data is not setup.data
        self.evaluations: dict[str, Evaluation] = {}
        self._model, self._setup, self._config = model, setup, config
        self._precision, self._distributed, self._on_eval = precision, distributed, on_eval
        self._loaders = LoaderCache()
        self._metrics = {name: METRICS[name] for name in config.recorded_metrics} | dict(metrics)

    def close(self) -> None:
        """Ends the worker processes; the next evaluation starts others."""
        self._loaders.close()

    def validate(self) -> dict[str, Any]:
        """Returns the results on the validation images, or on the test images if there are none, by name."""
        if self.has_val:
            return self._results("val", self._setup.train_data, self._precision)
        return self._results("test", self._setup.data, self._precision)

    def test(self) -> dict[str, Any]:
        """Returns the final results on the test images, by name: of single images, and of the config's ``views``."""
        results = self._results("test", self._setup.data, "fp32")
        if (views := self._config.views) != "single":
            results[f"test_acc_{views}"] = self._evaluate(f"test_{views}", self._setup.data, "fp32", views).top1
        return results

    def _results(self, name: str, data: Data, precision: str) -> dict[str, Any]:
        """Evaluates, and returns ``NAME_acc`` and the other metrics, such as ``NAME_macro_f1``."""
        evaluation = self._evaluate(name, data, precision)
        return {f"{name}_acc": evaluation.top1, **compute_metrics(self._metrics, evaluation, name)}

    def _evaluate(self, name: str, data: Data, precision: str, views: str = "single") -> Evaluation:
        # each process has statistics of batch normalization of its own; those of rank 0 are saved
        self._distributed.copy_from_rank_0(*self._model.buffers())
        evaluation = evaluate(
            self._model,
            data.test,
            classes=data.classes,
            preprocessing=self._setup.preprocessing,
            label_map=self._setup.label_map,
            label_names=self._setup.label_names,
            views=views,
            batch_size=max(self._config.batch_size, 256),
            precision=precision,
            workers=self._config.workers,
            distributed=self._distributed,
            loaders=self._loaders,
        )
        self.evaluations[name] = evaluation
        self._on_eval(evaluation)
        return evaluation
