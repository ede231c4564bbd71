"""Functions that are passed to a Trainer, since its config does not name them: to resume, a run needs them again."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from cnnzoo.errors import InputError
from cnnzoo.train.config import TrainConfig

Functions = dict[str, Any]  # "loss", "optimizer" or "schedule" -> function; "metrics" -> functions by name


def resolve_arguments(
    config: TrainConfig,
    *,
    loss: str | Callable[..., Any] | None = None,
    optimizer: str | Callable[..., Any] | None = None,
    schedule: str | Callable[..., Any] | None = None,
    metrics: Sequence[str | Callable[..., Any]] = (),
    callbacks: Sequence[object] = (),
) -> tuple[TrainConfig, Functions]:
    """Returns the config with the registered names among some arguments of a Trainer, and the functions among them.

    Raises:
        UnknownNameError: If a name is not registered.
        InputError: If an argument is neither a name nor a function, or a metric has no name of its own.
    """
    functions: Functions = {}
    for argument, value in (("loss", loss), ("optimizer", optimizer), ("schedule", schedule)):
        if isinstance(value, str):
            config = config.replace(**{argument: value})
        elif callable(value):
            functions[argument] = value
        elif value is not None:
            raise InputError(f"{argument} must be a registered name or a function, not {type(value).__name__}")
    for argument, items, kind in (("metrics", metrics, "functions"), ("callbacks", callbacks, "objects")):
        if isinstance(items, str):
            raise InputError(f"{argument} must be a list of names or {kind}, such as [{items!r}]")
        names = [item for item in items if isinstance(item, str)]
        config = config.replace(**{argument: tuple(dict.fromkeys((*getattr(config, argument), *names)))})
    if others := [metric for metric in metrics if not isinstance(metric, str)]:
        functions["metrics"] = {_metric_name(metric, config): metric for metric in others}
        if len(functions["metrics"]) < len(others):
            raise InputError(f"metrics has two functions of one name: {', '.join(map(function_name, others))}")
    return config, functions


def _metric_name(metric: object, config: TrainConfig) -> str:
    name = function_name(metric)
    if not callable(metric) or not name.isidentifier() or name in ("acc", *config.metrics):
        raise InputError(
            f"each of metrics must be a registered name or a function with a name of its own, not {name!r}"
        )
    return name


def function_name(function: object) -> str:
    """Returns the name of a function, or of the class of an object."""
    return str(getattr(function, "__name__", type(function).__name__))


def describe_functions(functions: Functions) -> dict[str, Any]:
    """Returns the names of functions for train.json: by argument, for metrics a list."""
    return {
        argument: sorted(value) if argument == "metrics" else function_name(value)
        for argument, value in functions.items()
    }


def require_functions(
    path: Path,
    recorded: Mapping[str, Any],
    functions: Functions,
) -> None:
    """Raises InputError if a run was not trained with functions for the same arguments; the error says what to type.

    Args:
        path: The folder of the run.
        recorded: What train.json records of its functions, see ``describe_functions``.
        functions: The functions that it would continue with.
    """
    current = describe_functions(functions)
    for argument in ("loss", "optimizer", "schedule", "metrics"):
        old, new = recorded.get(argument), current.get(argument)
        if old == new if argument == "metrics" else (old is None) == (new is None):
            continue
        if old is None:
            raise InputError(f"the run in {path} was started without {argument}={_as_code(new)}; resume it without")
        missing = ", ".join(f"{name}={_as_code(value)}" for name, value in recorded.items())
        raise InputError(
            f"the run in {path} was trained with {argument}={_as_code(old)}, which its files do not contain; pass it "
            f"again: cnnzoo.Trainer.resume({str(path)!r}, {missing})"
        )


def _as_code(value: Any) -> str:
    if isinstance(value, list):
        return f"[{', '.join(map(_as_code, value))}]"
    return str(value) if str(value).isidentifier() else "..."
