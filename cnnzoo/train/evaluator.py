"""The evaluations of a run: on validation images after epochs, on the test images at its end."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import nullcontext
from typing import Any

from cnnzoo.data import Data
from cnnzoo.data.loaders import LoaderCache
from cnnzoo.modules import eval_mode
from cnnzoo.train.best import BestWeights
from cnnzoo.train.ema import ModelEMA
from cnnzoo.train.evaluation import Evaluation
from cnnzoo.train.inference import evaluate
from cnnzoo.train.metrics import METRICS, compute_metrics
from cnnzoo.train.setup import RunSetup


class Evaluator:
    """Evaluates the model of a run, always on the same images in the same way.

    Args:
        setup: The fixed values of the run.
        ema: The average of the weights, if there is one, which is evaluated instead of them.
        best: The best weights, if the run keeps them.
        on_eval: Called with each evaluation.

    Attributes:
        should_stop: Whether the run should end, since the validation accuracy has not improved for long enough.
        evaluations: The last evaluation by name: ``"val"``, ``"test"``, ``"test_ten_crop"``, ...
    """

    def __init__(
        self,
        setup: RunSetup,
        ema: ModelEMA | None,
        best: BestWeights | None,
        on_eval: Callable[[Evaluation], None],
    ) -> None:
        self.should_stop = False
        self.evaluations: dict[str, Evaluation] = {}
        self._setup, self._ema, self._best, self._on_eval = setup, ema, best, on_eval
        self._final_results: dict[str, Any] | None = None
        self._loaders = LoaderCache()
        names = setup.config.recorded_metrics
        self._metrics = {name: METRICS[name] for name in names} | setup.functions.get("metrics", {})

    def close(self) -> None:
        """Ends the worker processes; the next evaluation starts others."""
        self._loaders.close()

    def after_epoch(self, entry: Mapping[str, Any], is_last: bool) -> dict[str, Any]:
        """Returns the results that are due after an epoch, by name.

        Args:
            entry: The epoch so far, as in the history.
            is_last: Whether it is the last of the run; ``should_stop`` may make it the last.
        """
        setup, results, epoch = self._setup, dict[str, Any](), entry["epoch"]
        has_val = setup.train_data is not setup.data
        is_due = bool(setup.config.eval_every) and epoch % setup.config.eval_every == 0
        with nullcontext() if self._ema is None else self._ema.applied():
            if has_val and (is_due or epoch == setup.config.epochs):
                results |= self._results("val", setup.train_data, setup.precision)
                self.should_stop = self._best is not None and self._best.update({**entry, **results})
            if (is_last or self.should_stop) and self._best is None:
                results |= self._test()
            elif is_due and not has_val:
                results |= self._results("test", setup.data, setup.precision)
        return results

    def at_end(self) -> dict[str, Any]:
        """Restores the best weights, if the run keeps them, and returns the results of the final weights."""
        results = {} if self._best is None else self._best.restore()
        return results | (self._test() if self._final_results is None else self._final_results)

    def _test(self) -> dict[str, Any]:
        """Returns the final results on the test images, by name: of single images, and of the config's ``views``.

        The precision is float32, as in ``cnnzoo.evaluate``.
        """
        results = self._results("test", self._setup.data, "fp32")
        if (views := self._setup.config.views) != "single":
            results[f"test_acc_{views}"] = self._evaluate(f"test_{views}", self._setup.data, "fp32", views).top1
        self._final_results = results
        return results

    def _results(self, name: str, data: Data, precision: str) -> dict[str, Any]:
        """Evaluates, and returns ``NAME_acc`` and the other metrics, such as ``NAME_macro_f1``."""
        evaluation = self._evaluate(name, data, precision)
        return {f"{name}_acc": evaluation.top1, **compute_metrics(self._metrics, evaluation, name)}

    def _evaluate(self, name: str, data: Data, precision: str, views: str = "single") -> Evaluation:
        setup = self._setup
        # each process has statistics of batch normalization of its own; those of rank 0 are saved
        setup.distributed.copy_from_rank_0(*setup.model.buffers())
        with eval_mode(setup.model):  # compiled steps have compiled evaluations
            evaluation = evaluate(
                setup.model,
                data.test,
                classes=data.classes,
                preprocessing=setup.preprocessing,
                label_map=setup.label_map,
                label_names=setup.label_names,
                views=views,
                batch_size=max(setup.config.batch_size, 256),
                precision=precision,
                workers=setup.config.workers,
                distributed=setup.distributed,
                loaders=self._loaders,
            )
        self.evaluations[name] = evaluation
        self._on_eval(evaluation)
        return evaluation
