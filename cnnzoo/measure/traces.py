"""Undoes what a forward leaves outside of the copy of the module that runs: in objects, classes, functions and globals.

The copy (see ``module_copy.py``) has attributes and containers of its own. Everything else that its code reaches is
shared: plain objects, attributes of classes, what hooks refer to, global variables, caches of functions.
"""

from __future__ import annotations

import functools
import gc
import sys
from collections import OrderedDict, defaultdict, deque
from collections.abc import Iterator
from contextlib import contextmanager
from types import BuiltinFunctionType, CellType, CodeType, FunctionType, MappingProxyType, MethodType, ModuleType
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import nn

from cnnzoo.errors import InputError

_ATOMS = (str, int, float, bool, bytes, complex, type(None), torch.Tensor, torch.dtype, torch.device, torch.Size)
_SIMPLE = frozenset(_ATOMS)
_OPAQUE = (ModuleType, BuiltinFunctionType, CodeType, MappingProxyType, nn.Module)
_CONTAINERS = (dict, OrderedDict, defaultdict, list, deque, set, frozenset, tuple)
_PLAIN = {"types", "argparse", "collections", "weakref", "dataclasses", "functools"}  # of the standard library
_STANDARD = (sys.stdlib_module_names - _PLAIN) | {"torch", "numpy", "cnnzoo"}
_TENSORS_OF_MODULES = ("_parameters", "_buffers", "_modules", "_non_persistent_buffers_set")
_MISSING: Any = object()
_LRU_CACHE: Any = functools._lru_cache_wrapper


def refuse_sharded(model: nn.Module) -> None:
    """Raises InputError if a module is sharded by FSDP, which keeps its state outside of the module."""
    fsdp = sys.modules.get("torch.distributed.fsdp")
    kinds = tuple(getattr(fsdp, name) for name in ("FSDPModule", "FullyShardedDataParallel") if hasattr(fsdp, name))
    for path, module in model.named_modules() if kinds else ():
        if isinstance(module, kinds):
            where = f"{path} of {type(model).__name__}" if path else type(model).__name__
            raise InputError(f"{where} is sharded by FSDP; count the module before fully_shard() or FSDP() is applied")


@contextmanager
def undone_traces(model: nn.Module) -> Iterator[None]:
    """Restores at the end what the code of a module can change outside of the copy that runs.

    These are plain objects and containers that it holds or that its hooks refer to, the attributes of its classes, the
    global variables that their functions name, and the caches of ``functools.lru_cache``, which are emptied if they
    grew.

    Args:
        model: Any module.
    """
    snapshot = _Snapshot()
    snapshot.add_model(model)
    try:
        yield
    finally:
        snapshot.restore()


def remove_tensors(keys: set[int], name: str) -> None:
    """Removes tensors that a forward computed from what still holds them.

    Args:
        keys: Keys of their storages (``storage._cdata``).
        name: Name of the module in the error.

    Raises:
        InputError: If something still holds one.
    """
    gc.collect()
    if not keys:
        return
    for function in [x for x in gc.get_objects() if type(x) is _LRU_CACHE]:
        if any(_key(tensor) in keys for tensor in _tensors_of_cache(function)):
            function.cache_clear()
    if keys:
        _remove_from_holders(keys)
        gc.collect()
    if keys:
        raise InputError(
            f"{name} keeps tensors that its forward computes outside of the module, where they cannot be removed; "
            "keep them in an attribute of the module"
        )


def _tensors_of_cache(function: Any) -> Iterator[torch.Tensor]:
    opaque, seen = (*_OPAQUE, type, FunctionType), set[int]()
    pending = [x for x in gc.get_referents(function) if x is not vars(function)]
    while pending:
        value = pending.pop()
        if isinstance(value, torch.Tensor):
            yield value
        elif id(value) not in seen and not isinstance(value, opaque):
            seen.add(id(value))
            pending += gc.get_referents(value)


def _remove_from_holders(keys: set[int]) -> None:
    tensors = [x for x in gc.get_objects() if issubclass(type(x), torch.Tensor)]
    for tensor in tensors:
        if _key(tensor) in keys:
            for holder in gc.get_referrers(tensor):
                if holder is not tensors:
                    _remove(holder, tensor)


def _remove(holder: Any, tensor: torch.Tensor) -> None:
    if isinstance(holder, (list, deque)):  # their remove() compares values
        others = [value for value in holder if value is not tensor]
        holder.clear()
        holder.extend(others)
    elif isinstance(holder, set):
        holder.remove(tensor)
    elif isinstance(holder, CellType):
        holder.cell_contents = None
    else:
        namespace = holder if isinstance(holder, dict) else getattr(holder, "__dict__", {})
        for key in [key for key, value in list(namespace.items()) if value is tensor]:
            dict.__delitem__(namespace, key)


def _key(tensor: torch.Tensor) -> int:
    try:
        return int(tensor.untyped_storage()._cdata)
    except (NotImplementedError, RuntimeError):  # has no storage
        return 0


class _Snapshot:
    """The contents of all that the code of a module reaches outside of the module."""

    def __init__(self) -> None:
        self._seen: set[int] = set()
        self._copied: set[int] = set()
        self._pending: list[Any] = []
        self._keep: list[Any] = []  # so that ids stay those of the objects
        self._containers: list[tuple[Any, Any]] = []
        self._attributes: list[tuple[Any, str, Any]] = []  # object with slots, name, value
        self._classes: list[tuple[type, dict[str, Any]]] = []
        self._cells: list[tuple[CellType, Any]] = []
        self._globals: list[tuple[dict[str, Any], str, Any]] = []
        self._caches: list[tuple[Any, int]] = []

    def add_model(self, model: nn.Module) -> None:
        """Records what the modules of a model reach."""
        for kind in {type(module): None for module in model.modules()}:
            self._add_class(kind)
        for module in model.modules():
            for key, value in vars(module).items():
                kind = value.__class__
                if kind in _SIMPLE or ((kind is OrderedDict or kind is dict) and not value):  # the most frequent ones
                    continue
                if key not in _TENSORS_OF_MODULES:
                    self._add_copied(value)
        self._follow()

    def _add_copied(self, value: Any) -> None:
        """Records what an attribute of a module reaches; containers have copies."""
        if type(value) not in _CONTAINERS:
            self._pending.append(value)
        elif value and id(value) not in self._copied:
            self._copied.add(id(value))
            for item in value.values() if isinstance(value, dict) else value:
                if item.__class__ not in _SIMPLE:
                    self._add_copied(item)

    def restore(self) -> None:
        """Restores what changed."""
        for container, content in self._containers:
            if isinstance(container, dict):
                if not _same([*container, *dict.values(container)], [*content, *content.values()]):
                    dict.clear(container)
                    for key, value in content.items():
                        dict.__setitem__(container, key, value)
            elif not _same(list(container), content):
                kind: Any = next(kind for kind in (list, deque, set) if isinstance(container, kind))
                kind.clear(container)
                (kind.update if kind is set else kind.extend)(container, content)
        for holder, name, value in self._attributes:
            if getattr(holder, name, _MISSING) is not value:
                object.__delattr__(holder, name) if value is _MISSING else object.__setattr__(holder, name, value)
        for owner, namespace in self._classes:
            for name in [name for name in vars(owner) if name not in namespace]:
                type.__delattr__(owner, name)
            for name, value in namespace.items():
                if vars(owner).get(name, _MISSING) is not value:
                    type.__setattr__(owner, name, value)
        for cell, value in self._cells:
            if _contents(cell) is not value:
                if value is _MISSING:
                    del cell.cell_contents
                else:
                    cell.cell_contents = value
        for namespace, name, value in self._globals:
            if namespace.get(name, _MISSING) is not value:
                if value is _MISSING:
                    del namespace[name]
                else:
                    namespace[name] = value
        for function, misses in self._caches:
            if function.cache_info().misses != misses:
                function.cache_clear()

    def _follow(self) -> None:
        while self._pending:
            value = self._pending.pop()
            if isinstance(value, _ATOMS) or id(value) in self._seen:
                continue
            self._seen.add(id(value))
            self._keep.append(value)
            if isinstance(value, (dict, list, deque, set, tuple, frozenset)):
                if isinstance(value, dict):
                    self._containers.append((value, dict(dict.items(value))))
                elif not isinstance(value, (tuple, frozenset)):
                    self._containers.append((value, list(value)))
                self._pending += dict.values(value) if isinstance(value, dict) else value
            elif isinstance(value, FunctionType):
                self._add_function(value)
            elif isinstance(value, MethodType):
                self._pending += [value.__self__, value.__func__]
            elif isinstance(value, functools.partial):
                self._pending += [value.func, value.args, value.keywords]
            elif type(value) is _LRU_CACHE:
                self._caches.append((value, value.cache_info().misses))
                self._pending.append(value.__wrapped__)
            elif isinstance(value, (staticmethod, classmethod)):
                self._pending.append(value.__func__)
            elif isinstance(value, property):
                self._pending += [value.fget, value.fset]
            elif isinstance(value, functools.cached_property):
                self._pending.append(value.func)
            elif isinstance(value, type):
                self._add_class(value)
            elif not isinstance(value, _OPAQUE) and _is_own(type(value)):
                self._add_object(value)

    def _add_object(self, value: Any) -> None:
        self._add_class(type(value))
        if isinstance(namespace := getattr(value, "__dict__", None), dict):
            self._pending.append(namespace)
        for kind in type(value).__mro__:
            slots = vars(kind).get("__slots__", ())
            for name in (slots,) if isinstance(slots, str) else slots:
                if name not in ("__dict__", "__weakref__"):
                    item = getattr(value, name, _MISSING)
                    self._attributes.append((value, name, item))
                    self._pending.append(item)

    def _add_class(self, kind: type) -> None:
        for base in kind.__mro__:
            if id(base) in self._seen or not _is_own(base):
                continue
            self._seen.add(id(base))
            self._classes.append((base, dict(vars(base))))
            self._pending += vars(base).values()

    def _add_function(self, function: FunctionType) -> None:
        if not _is_own(function):
            return
        for cell in function.__closure__ or ():
            self._cells.append((cell, _contents(cell)))
            self._pending.append(_contents(cell))
        self._pending += [function.__defaults__, function.__kwdefaults__, getattr(function, "__wrapped__", None)]
        namespace = function.__globals__
        for name in _global_names(function):
            value = namespace.get(name, _MISSING)
            if not isinstance(value, (type, ModuleType, BuiltinFunctionType)):
                self._globals.append((namespace, name, value))
                self._pending.append(value)


def _contents(cell: CellType) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # empty
        return _MISSING


def _same(a: list[Any], b: list[Any]) -> bool:
    """Returns whether two lists hold the same objects."""
    return len(a) == len(b) and all(x is y for x, y in zip(a, b, strict=True))


def _is_own(x: Any) -> bool:
    """Returns whether a class or function is neither of Python nor of torch, whose state is not the module's."""
    root = (getattr(x, "__module__", None) or "builtins").partition(".")[0]
    return root not in _STANDARD


_names: WeakKeyDictionary[Any, tuple[str, ...]] = WeakKeyDictionary()


def _global_names(function: FunctionType) -> tuple[str, ...]:
    """Returns the names in the code of a function, of functions inside too, that may be global variables."""
    if function not in _names:
        names: dict[str, None] = {}
        pending = [function.__code__]
        while pending:
            code = pending.pop()
            names.update(dict.fromkeys(code.co_names))
            pending += [constant for constant in code.co_consts if isinstance(constant, CodeType)]
        _names[function] = tuple(names)
    return _names[function]
