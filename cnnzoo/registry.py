"""The registered models by name: those of cnnzoo, of users and of plugins."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any, TypeVar, overload

from cnnzoo.edits import KNOBS, apply_knobs
from cnnzoo.errors import InputError, SpecError, unknown
from cnnzoo.fields import check_positive_int
from cnnzoo.plugins import Registry
from cnnzoo.published import Deviation, Published, Twin
from cnnzoo.spec import Spec

ModelFunction = TypeVar("ModelFunction", bound=Callable[..., Spec])


@dataclass(frozen=True)
class Entry:
    """A registered model: the function that returns its Spec, and records about it.

    Attributes:
        function: Returns the Spec.
        published: Figures that sources print about the model.
        deviations: Where it deviates from its source.
        year: Year of publication.
        twin: The torchvision model that it equals, weight by weight.
    """

    function: Callable[..., Spec]
    published: Sequence[Published] = ()
    deviations: Sequence[Deviation] = ()
    year: int | None = None
    twin: Twin | None = None
    cache: dict[str, Spec] = field(default_factory=dict, init=False, repr=False, compare=False)

    @property
    def text(self) -> str:
        """What the model is: the first line of the function's docstring, without a period."""
        return (inspect.getdoc(self.function) or "").partition("\n")[0].removesuffix(".")

    def spec(self, **arguments: Any) -> Spec:
        """Returns the Spec for some arguments of the function; the default Spec is cached.

        Raises:
            SpecError: If the function does not return a Spec.
        """
        if not arguments and "default" in self.cache:
            return self.cache["default"]
        spec = self.function(**arguments)
        if not isinstance(spec, Spec):
            raise SpecError(
                f"model {self.function.__name__!r}: its function must return a Spec, not {type(spec).__name__}"
            )
        if not arguments:
            self.cache["default"] = spec
        return spec


def _import_models() -> None:
    """Imports every module of ``cnnzoo.models``, which registers its models."""
    package = importlib.import_module("cnnzoo.models")
    for module in pkgutil.iter_modules(package.__path__, prefix="cnnzoo.models."):
        importlib.import_module(module.name)


MODELS: Registry[Entry] = Registry("model", load_builtins=_import_models)


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
    """Registers a function that returns a Spec, under the name of the function.

    Use it as ``@register`` or as ``@register(published=..., deviations=..., year=..., twin=...)``.

    Args:
        function: The model function; every parameter needs a default.
        published: Figures that sources print about the model.
        deviations: Where it deviates from its source.
        year: Year of publication.
        twin: The torchvision model that it equals, weight by weight.

    Raises:
        InputError: If the name is taken by another module, a parameter has no default, or ``function`` is not a named
            function.
    """

    def add(function: ModelFunction) -> ModelFunction:
        name = getattr(function, "__name__", "")
        if not callable(function) or not name.isidentifier():
            raise InputError(f"register expects a named function that returns a Spec, got {function!r}")
        for parameter in inspect.signature(function).parameters.values():
            if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
                raise InputError(f"model {name!r}: name its parameters, instead of {parameter}")
            if parameter.default is inspect.Parameter.empty:
                raise InputError(f"model {name!r}: give parameter {parameter.name!r} a default")
        entry = Entry(function, tuple(published), tuple(deviations), year, twin)
        MODELS.register(name, entry, function.__module__)
        return function

    return add if function is None else add(function)


def list_models(pattern: str = "*") -> list[str]:
    """Returns the names of the registered models, sorted.

    Args:
        pattern: A wildcard such as ``"alex*"``.
    """
    return sorted(name for name in MODELS if fnmatchcase(name, pattern))


def is_model(name: str) -> bool:
    """Returns whether a model of that name is registered."""
    return name in MODELS


def get_entry(name: str) -> Entry:
    """Returns the entry of a registered model.

    Raises:
        UnknownNameError: If there is none; the error suggests similar names.
    """
    return MODELS[name]


def get_spec(name: str, /, **knobs: Any) -> Spec:
    """Returns the Spec of a registered model: the network as a value, without weights.

    Args:
        name: A registered name.
        **knobs: Parameters of the model function, or the generic knobs of every network: ``num_classes``,
            ``in_channels``, ``image_size``, ``activation``, ``norm``, ``pooling``, ``dropout``, ``width``. A parameter
            of the model function takes precedence over a generic knob of the same name.

    Raises:
        UnknownNameError: If the name, or a knob, is not known.
        InputError: If the value of a knob is invalid.
        SpecError: If a block cannot follow a knob.
    """
    _require_str(name, knobs)
    entry = get_entry(name)
    own = inspect.signature(entry.function).parameters
    for knob, value in knobs.items():
        if knob not in own and knob not in KNOBS:
            raise unknown(f"knob of {name}", knob, {*own, *KNOBS})
        if knob in ("num_classes", "in_channels", "image_size"):
            check_positive_int(knob, value)
        elif knob in own and isinstance(own[knob].default, bool) and not isinstance(value, bool):
            raise InputError(f"{knob} of {name} must be True or False, not {value!r}")
    spec = entry.spec(**{knob: value for knob, value in knobs.items() if knob in own})
    return apply_knobs(spec, **{knob: value for knob, value in knobs.items() if knob not in own})


def _require_str(name: object, knobs: Mapping[str, Any]) -> None:
    """Raises InputError if the argument of ``get_spec`` is not a string; the error says what to type for a Spec."""
    if isinstance(name, str):
        return
    hint, form = "", {"Spec": "spec", "CNN": "model.spec"}.get(type(name).__name__)
    if form:
        arguments = ", ".join(f"{knob}={value!r}" for knob, value in knobs.items()) or "activation='relu'"
        hint = f"; {form} is one already, and with knobs: cnnzoo.edits.apply_knobs({form}, {arguments})"
    raise InputError(f"get_spec returns the Spec of a name, such as 'lenet', not of a {type(name).__name__}{hint}")
