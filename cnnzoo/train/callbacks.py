"""Callbacks: objects that are called at the events of a run."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from os import PathLike
from typing import TYPE_CHECKING, Any, TypeVar

from cnnzoo.errors import InputError, UnknownNameError, unknown
from cnnzoo.plugins import Registry

if TYPE_CHECKING:
    from cnnzoo.train.evaluation import Evaluation
    from cnnzoo.train.run import Run
    from cnnzoo.train.trainer import Trainer

Factory = TypeVar("Factory", bound=Callable[[], object])


class Callback:
    """The hooks of a callback; each does nothing.

    An object need not derive from this class: any object with some of these methods is a callback.
    """

    def on_start(self, trainer: Trainer) -> None:
        """Called when training starts or continues, before its first step."""

    def on_batch(self, trainer: Trainer) -> None:
        """Called before each step; ``trainer.batch`` has its micro-batches, ``trainer.optimizer`` the optimizer.

        The learning rate is set after this call: pass a ``schedule`` to change it.
        """

    def on_backward(self, trainer: Trainer) -> None:
        """Called after the backward passes of a step, when the gradients are complete, before they are clipped."""

    def on_step(self, trainer: Trainer) -> None:
        """Called after each step; ``trainer.step`` counts it."""

    def on_eval(self, trainer: Trainer, evaluation: Evaluation) -> None:
        """Called after each evaluation."""

    def on_epoch(self, trainer: Trainer, entry: Mapping[str, Any]) -> None:
        """Called after each epoch with its entry of the history, to which a figure of your own may be added."""

    def on_end(self, trainer: Trainer, run: Run | None) -> None:
        """Called when training ends or is interrupted; ``run`` is None after an error."""


HOOKS = tuple(name for name in vars(Callback) if name.startswith("on_"))


class TensorBoard(Callback):
    """A callback that writes each epoch's metrics for TensorBoard, which must be installed.

    Args:
        folder: The log directory, for ``tensorboard --logdir``; None: ``tensorboard`` in the run folder.

    Raises:
        InputError: If tensorboard is not installed.
    """

    def __init__(self, folder: str | PathLike[str] | None = None) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            raise InputError("tensorboard is not installed; pip install tensorboard") from None
        self._folder, self._writer_class = folder, SummaryWriter
        self._writer: Any = None

    def on_start(self, trainer: Trainer) -> None:
        """Opens the event file.

        Raises:
            InputError: If neither a log directory nor a run folder is set.
        """
        folder = self._folder
        if folder is None:
            if trainer.run_dir is None:
                raise InputError("TensorBoard needs a folder: name the run's (out=), or one of its own")
            folder = trainer.run_dir.path / "tensorboard"
        if trainer.distributed.rank == 0:
            self._writer = self._writer_class(str(folder))

    def on_epoch(self, trainer: Trainer, entry: Mapping[str, Any]) -> None:
        """Writes the epoch's metrics under their names; lists, such as of recalls, under ``NAME/CLASS``."""
        if self._writer is None:
            return
        for name, value in entry.items():
            values = value if isinstance(value, list) else [value]
            tags = [f"{name}/{label}" for label in trainer.label_names] if isinstance(value, list) else [name]
            for tag, number in zip(tags, values, strict=False):
                if name not in ("epoch", "step") and number is not None:
                    self._writer.add_scalar(tag, number, entry["step"])

    def on_end(self, trainer: Trainer, run: Run | None) -> None:
        """Closes the event file."""
        if self._writer is not None:
            self._writer.close()


CALLBACKS: Registry[Callable[[], object]] = Registry("callback", {"tensorboard": TensorBoard})


def register_callback(name: str) -> Callable[[Factory], Factory]:
    """Registers a callback, for ``callbacks=`` of a TrainConfig: a class, or a function that returns an object.

    Each run calls it once, without arguments.

        @register_callback("weight_norm")
        class WeightNorm:
            def on_epoch(self, trainer, entry):
                entry["weight_norm"] = sum(float(p.square().sum()) for p in trainer.model.parameters()) ** 0.5

    Args:
        name: The name, an identifier.

    Raises:
        InputError: If the name is not an identifier, or belongs to another callback.
    """

    def register(factory: Factory) -> Factory:
        CALLBACKS.register(name, factory, str(factory.__module__))
        return factory

    return register


def make_callbacks(names: Iterable[str], callbacks: Iterable[object]) -> list[object]:
    """Returns the callbacks of a run: those registered under the names, and the objects among ``callbacks``.

    Raises:
        UnknownNameError: If a callback has a method ``on_...`` that is no hook.
        InputError: If a callback has no hook.
    """
    result = [*(CALLBACKS[name]() for name in names), *(item for item in callbacks if not isinstance(item, str))]
    _require_known_hooks(result)
    return result


def _require_known_hooks(callbacks: Sequence[object]) -> None:
    """Raises UnknownNameError if a callback has a method ``on_...`` that is no hook, or InputError if it has none."""
    for callback in callbacks:
        names = [name for name in dir(callback) if name.startswith("on_") and callable(getattr(callback, name))]
        if not names:
            raise InputError(
                f"a callback has at least one of the methods {', '.join(HOOKS)}; {type(callback).__name__} has none"
            )
        for name in names:
            if name not in HOOKS:
                raise UnknownNameError(f"{type(callback).__name__}: {unknown('hook of a callback', name, HOOKS)}")


def run_callbacks(callbacks: Iterable[object], hook: str, trainer: Trainer, *args: object) -> None:
    """Calls a hook of each callback that has it."""
    for callback in callbacks:
        if (method := getattr(callback, hook, None)) is not None:
            method(trainer, *args)


def end_callbacks(callbacks: Iterable[object], trainer: Trainer, run: Run | None) -> None:
    """Calls ``on_end`` of each callback that has it, also if another one fails; raises the first error.

    After an error of the run, errors of callbacks are not raised: that of the run is.
    """
    errors = []
    for callback in callbacks:
        try:
            run_callbacks([callback], "on_end", trainer, run)
        except Exception as error:
            errors.append(error)
    if errors and run is not None:
        raise errors[0]
