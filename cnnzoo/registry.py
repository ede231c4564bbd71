"""From a name to a Spec: the models of cnnzoo, those a user registers, those an installed package brings."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from importlib.metadata import entry_points
from typing import Any, TypeVar, overload

from cnnzoo.errors import InputError, SpecError, unknown
from cnnzoo.published import Deviation, Published, Twin
from cnnzoo.spec import KNOBS, Spec, apply_knobs, whole_number

ENTRY_POINTS = "cnnzoo.models"

ModelFunction = TypeVar("ModelFunction", bound=Callable[..., Spec])


@dataclass(frozen=True)
class Entry:
    """A registered model: the function that returns its Spec, and the records that go with it.

    Attributes:
        function: Returns the Spec.
        published: What sources print about the model.
        deviations: Where it departs from its source.
        year: When it was published.
        twin: The model of torchvision that it equals, weight by weight.
    """

    function: Callable[..., Spec]
    published: Sequence[Published] = ()
    deviations: Sequence[Deviation] = ()
    year: int | None = None
    twin: Twin | None = None
    kept: dict[str, Spec] = field(default_factory=dict, init=False, repr=False, compare=False)

    def spec(self, **arguments: Any) -> Spec:
        """What the function returns for these arguments, which for none of them is kept: a Spec is a value.

        Raises:
            SpecError: If it is no Spec.
        """
        if arguments or "default" not in self.kept:
            spec = self.function(**arguments)
            if not isinstance(spec, Spec):
                raise SpecError(
                    f"model {self.function.__name__!r}: its function must return a Spec, not {type(spec).__name__}"
                )
            if arguments:
                return spec
            self.kept["default"] = spec
        return self.kept["default"]


_MODELS: dict[str, Entry] = {}  # the one mutable global of the package
_filled = False


@overload
def register(function: ModelFunction, /) -> ModelFunction: ...


@overload
def register(
    *,
    published: Sequence[Published] = (),
    deviations: Sequence[Deviation] = (),
    year: int | None = None,
    twin: Twin | None = None,
) -> Callable[[ModelFunction], ModelFunction]: ...


def register(
    function: Callable[..., Spec] | None = None,
    *,
    published: Sequence[Published] = (),
    deviations: Sequence[Deviation] = (),
    year: int | None = None,
    twin: Twin | None = None,
) -> Any:
    """Registers a function that returns a Spec under the function's own name.

    Use it as ``@register`` or as ``@register(published=..., deviations=..., year=..., twin=...)``.

    Args:
        function: The model function; every parameter needs a default.
        published: What sources print about the model.
        deviations: Where it departs from its source.
        year: When it was published.
        twin: The model of torchvision that it equals, weight by weight.

    Raises:
        InputError: If another function has the name already, or a parameter has no default.
    """

    def enter(made: ModelFunction) -> ModelFunction:
        name = getattr(made, "__name__", "")
        if not callable(made) or not name.isidentifier():
            raise InputError(f"register takes a function that returns a Spec and has a name, not {made!r}")
        for parameter in inspect.signature(made).parameters.values():
            if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
                raise InputError(f"model {name!r}: name its parameters, instead of {parameter}")
            if parameter.default is inspect.Parameter.empty:
                raise InputError(f"model {name!r}: give parameter {parameter.name!r} a default")
        if not made.__module__.startswith("cnnzoo.models."):
            _fill()  # what is there already must be known before another takes its name
        held = _MODELS.get(name)
        if held is not None and held.function.__module__ != made.__module__:
            raise InputError(
                f"a model {name!r} is registered already, by {held.function.__module__}; give yours another name"
            )
        _MODELS[name] = Entry(made, tuple(published), tuple(deviations), year, twin)
        return made

    return enter if function is None else enter(function)


def _fill() -> None:
    """Imports every module of ``cnnzoo.models`` and every entry point, once."""
    global _filled
    if _filled:
        return
    _filled = True
    package = importlib.import_module("cnnzoo.models")
    for module in pkgutil.iter_modules(package.__path__, prefix="cnnzoo.models."):
        importlib.import_module(module.name)
    for point in entry_points(group=ENTRY_POINTS):
        try:
            point.load()
        except Exception as problem:  # another package's fault must not take the zoo away
            warnings.warn(f"the models of {point.value!r} could not be loaded: {problem!r}", stacklevel=3)


def list_models(pattern: str = "*") -> list[str]:
    """The names of the registered models, sorted.

    Args:
        pattern: A wildcard such as ``"alex*"``.
    """
    _fill()
    return sorted(name for name in _MODELS if fnmatchcase(name, pattern))


def is_model(name: str) -> bool:
    """Whether a model of that name is registered."""
    _fill()
    return name in _MODELS


def get_entry(name: str) -> Entry:
    """What is registered under a name.

    Raises:
        UnknownNameError: If nothing is; the text names the nearest names.
    """
    _fill()
    if name not in _MODELS:
        raise unknown("model", name, _MODELS)
    return _MODELS[name]


def get_spec(name: str, /, **knobs: Any) -> Spec:
    """The Spec of a registered model: the network as a value, without weights.

    Args:
        name: A registered name.
        **knobs: Parameters of the model function, or the generic knobs of every network:
            ``num_classes``, ``in_channels``, ``image_size``, ``activation``, ``norm``, ``pooling``,
            ``dropout``, ``width``. A model's own parameter of the same name wins.

    Raises:
        UnknownNameError: If the name, or a knob, is not known.
        SpecError: If a value is not one that a row takes.
    """
    entry = get_entry(name)
    own = inspect.signature(entry.function).parameters
    for knob, value in knobs.items():
        if knob not in own and knob not in KNOBS:
            raise unknown(f"knob of {name}", knob, {*own, *KNOBS})
        if knob in ("num_classes", "in_channels", "image_size"):
            whole_number(knob, value)
        elif knob in own and isinstance(own[knob].default, bool) and not isinstance(value, bool):
            raise InputError(f"{knob} of {name} must be True or False, not {value!r}")
    spec = entry.spec(**{knob: value for knob, value in knobs.items() if knob in own})
    return apply_knobs(spec, **{knob: value for knob, value in knobs.items() if knob not in own})
