"""Registries that other packages can add to, and the import of installed plugins."""

from __future__ import annotations

import importlib.metadata
import math
import threading
import warnings
from collections.abc import Callable, Iterator, MutableMapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from cnnzoo.errors import InputError, unknown

ENTRY_POINT_GROUP = "cnnzoo.models"

T = TypeVar("T")

_lock = threading.RLock()  # reentrant: a plugin may look names up while it is being imported
_loaded = False


def load_plugins() -> None:
    """Imports the entry points of the group ``cnnzoo.models``, once per process.

    A plugin that cannot be imported is reported in a warning.
    """
    global _loaded
    with _lock:
        if _loaded:
            return
        _loaded = True
        for point in importlib.metadata.entry_points(group=ENTRY_POINT_GROUP):
            try:
                point.load()
            except Exception as error:  # a broken plugin must not break the registry
                warnings.warn(f"the plugin {point.value!r} could not be imported: {error!r}", stacklevel=3)


class Registry(MutableMapping[str, T]):
    """A mapping from names to values of one kind, such as activations or models.

    Assigning a value registers it. Installed plugins are imported before a name is reported as unknown, so that files
    and configs can name what a plugin registers.

    Args:
        kind: What the names denote, for error messages: ``"activation"``.
        builtins: The values of cnnzoo itself.
        load_builtins: Imports the modules that register the values of cnnzoo itself, if ``builtins`` does not.
    """

    def __init__(
        self,
        kind: str,
        builtins: dict[str, T] | None = None,
        load_builtins: Callable[[], object] = lambda: None,
    ) -> None:
        self.kind = kind
        self._values: dict[str, T] = dict(builtins or {})
        self._modules = dict.fromkeys(self._values, "cnnzoo")
        self._import_builtins = load_builtins
        self._has_builtins = False

    def register(self, name: str, value: T, module: str) -> None:
        """Adds a value under a name.

        The module that defines a value may register it again, as when a notebook cell is run twice.

        Args:
            name: The name.
            value: The value.
            module: Name of the module that defines the value.

        Raises:
            InputError: If the name is not an identifier, or belongs to the value of another module.
        """
        if not isinstance(name, str) or not name.isidentifier():
            raise InputError(f"the name of a registered {self.kind} must be an identifier, not {name!r}")
        if not module.startswith("cnnzoo."):
            self._load_builtins()  # first, so that their names are taken
        owner = self._modules.get(name, module)
        if owner != module:
            raise InputError(f"{self.kind} {name!r} is already registered by {owner}; choose another name")
        self._values[name] = value
        self._modules[name] = module

    def _load_builtins(self) -> None:
        with _lock:
            if not self._has_builtins:
                self._has_builtins = True
                self._import_builtins()

    def __setitem__(self, name: str, value: T) -> None:
        self.register(name, value, str(getattr(value, "__module__", None)))

    def __delitem__(self, name: str) -> None:
        del self._values[name], self._modules[name]

    def __contains__(self, name: object) -> bool:
        if not isinstance(name, str):  # a file may hold any JSON value as a name
            return False
        if name not in self._values:
            self._load_builtins()
        if name not in self._values:
            load_plugins()
        return name in self._values

    def __getitem__(self, name: str) -> T:
        if name not in self:
            raise unknown(self.kind, name, self)
        return self._values[name]

    def __iter__(self) -> Iterator[str]:
        self._load_builtins()
        load_plugins()
        return iter(list(self._values))

    def __len__(self) -> int:
        return sum(1 for _ in self)


@dataclass(frozen=True)
class Parametrized(Generic[T]):
    """A registered function that takes a number, written after a colon: ``"group:8"``.

    Attributes:
        function: The function; the number is its last argument.
        default: The number if none is written; None if the function takes no number.
        accepts: Whether a number is valid.
        expected: The valid numbers in words, for error messages.
    """

    function: T
    default: float | None
    accepts: Callable[[float], bool] = math.isfinite
    expected: str = "a valid number"


P = TypeVar("P", bound=Parametrized[Callable[..., Any]])


def bind_argument(registry: Registry[P], text: str) -> Callable[..., Any]:
    """Returns the registered function that ``"name"`` or ``"name:number"`` names, with its number bound.

    Raises:
        UnknownNameError: If the name is not registered.
        InputError: If the number is not valid.
    """
    name, colon, argument = text.partition(":")
    entry = registry[name]
    if entry.default is None:
        if colon:
            raise InputError(f"{registry.kind} {name!r} takes no number; write {name}")
        return entry.function
    try:
        number = float(argument) if argument else entry.default
    except ValueError:
        number = math.nan
    if not entry.accepts(number):
        raise InputError(
            f"{registry.kind} {text!r}: {argument!r} is not {entry.expected}; write {name}:{entry.default:g}"
        )
    return lambda *arguments: entry.function(*arguments, number)
