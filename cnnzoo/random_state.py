"""Random numbers that do not depend on the global generators, and leave them to others."""

from __future__ import annotations

import random
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

_lock = threading.RLock()


class OwnGenerator(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """A mode in which this thread draws its random numbers on the CPU from a generator of its own.

    They are those that the global generator would give after ``manual_seed(seed)``.

    Args:
        seed: Seed of the generator.
    """

    def __init__(self, seed: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._generator = torch.Generator().manual_seed(seed)

    @classmethod
    def _should_skip_dynamo(cls) -> bool:  # else the first operator imports torch._dynamo, a second
        return False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return draw_from(self._generator, func, args, kwargs or {})


def draw_from(generator: torch.Generator, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Returns ``func(*args, **kwargs)``, with random numbers on the CPU drawn from a generator.

    Args:
        generator: A generator of the CPU.
        func: An operator.
        args: Its arguments.
        kwargs: Its arguments by name.
    """
    if not is_random(func) or kwargs.get("generator") is not None or _device(args, kwargs).type != "cpu":
        return func(*args, **kwargs)
    if (variant := _with_generator(func)) is not None:
        return variant(*args, **{**kwargs, "generator": generator})
    with _lock:  # an operator that knows the global generator only
        default, state = torch.default_generator, torch.default_generator.get_state()
        default.set_state(generator.get_state())
        try:
            return func(*args, **kwargs)
        finally:
            generator.set_state(default.get_state())
            default.set_state(state)


@lru_cache(maxsize=4096)
def is_random(func: Any) -> bool:
    """Returns whether an operator draws random numbers."""
    return torch.Tag.nondeterministic_seeded in func.tags


@lru_cache(maxsize=1024)
def _with_generator(func: Any) -> Any:
    """Returns the overload of an operator that takes a generator; None if there is none."""
    names = _argument_names(func)
    if "generator" in names:
        return func
    overloads = (getattr(func._overloadpacket, name) for name in func._overloadpacket.overloads())
    return next((f for f in overloads if _argument_names(f) == names | {"generator"}), None)


def _argument_names(func: Any) -> set[str]:
    return {argument.name for argument in func._schema.arguments}


def _device(args: tuple[Any, ...], kwargs: dict[str, Any]) -> torch.device:
    """Returns the device that an operator runs on."""
    tensor = next((x for x in (*args, *kwargs.values()) if isinstance(x, torch.Tensor)), None)
    return tensor.device if tensor is not None else torch.device(kwargs.get("device") or "cpu")


@contextmanager
def restored_random_state() -> Iterator[None]:
    """Restores the random states of torch (of the CPU), Python and NumPy at the end.

    One thread at a time, since another one that enters meanwhile would restore what the first has set.
    """
    with _lock:
        states = states_of_cpu()
        try:
            yield
        finally:
            for (_, restore), state in states.items():
                restore(state)


@contextmanager
def preserved_random_state() -> Iterator[None]:
    """Restores the random states, if a foreign module changed them, unless other threads run.

    What those drew meanwhile must not be drawn again.
    """
    states = states_of_cpu()
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        states[torch.cuda.get_rng_state_all, torch.cuda.set_rng_state_all] = torch.cuda.get_rng_state_all()
    try:
        yield
    finally:
        if threading.active_count() == 1:
            for (get, restore), state in states.items():
                if not _equal(get(), state):
                    restore(state)


def seed_python_and_numpy(seed: int) -> None:
    """Seeds the global random states of Python and NumPy."""
    random.seed(seed)
    if (numpy := sys.modules.get("numpy")) is not None:
        numpy.random.seed(seed % 2**32)


def states_of_cpu() -> dict[tuple[Any, Any], Any]:
    """Returns (function that returns a state, function that restores it) -> state."""
    access: list[tuple[Any, Any]] = [
        (torch.default_generator.get_state, torch.default_generator.set_state),
        (random.getstate, random.setstate),
    ]
    if (numpy := sys.modules.get("numpy")) is not None:
        access.append((numpy.random.get_state, numpy.random.set_state))
    return {functions: functions[0]() for functions in access}


def _equal(a: Any, b: Any) -> bool:
    """Returns whether two states, which may hold arrays, are equal."""
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, (tuple, list)):
        return all(map(_equal, a, b))
    return bool((a == b).all()) if hasattr(a, "all") else bool(a == b)
