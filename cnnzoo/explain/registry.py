"""The methods of ``cnnzoo.explain`` by name: a registry that users and plugins can add to."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable
from typing import Any, TypeVar

from cnnzoo.errors import unknown
from cnnzoo.explain.results import Explanation
from cnnzoo.explain.subject import Subject
from cnnzoo.plugins import Registry

Method = Callable[..., Explanation]
Function = TypeVar("Function", bound=Method)

_MODULES = ("activations", "deconvnet", "filters", "gradcam", "occlusion", "saliency")


def _load_builtins() -> None:
    for module in _MODULES:
        importlib.import_module(f"cnnzoo.explain.{module}")


METHODS: Registry[Method] = Registry("method", load_builtins=_load_builtins)


def register_explanation(name: str) -> Callable[[Function], Function]:
    """Registers a method, for ``cnnzoo.explain(model, image, method=name)``.

    The function takes a ``Subject``, the network with the image, and returns an ``Explanation``, for example by
    ``subject.attribution(...)``. Its keyword arguments are the options of the method: ``label`` (a class) and ``layer``
    are those of the shell too. Gradients are enabled while it runs.

    Args:
        name: The name.

    Raises:
        InputError: If the name is taken, or is not an identifier.
    """

    def add(function: Function) -> Function:
        METHODS[name] = function
        return function

    return add


def run_method(name: str, subject: Subject, options: dict[str, Any]) -> Explanation:
    """Returns the explanation of a subject by the method of that name.

    Raises:
        UnknownNameError: If the method, or one of its options, is not known.
    """
    method = METHODS[name]
    parameters = list(inspect.signature(method).parameters.values())[1:]
    known = [parameter.name for parameter in parameters if parameter.kind is not inspect.Parameter.VAR_KEYWORD]
    if len(known) == len(parameters):
        for option in options:
            if option not in known:
                raise unknown(f"option of {name}", option, known)
    return method(subject, **options)
