"""Copies of modules that share their tensors, so that a module that others use is never changed."""

from __future__ import annotations

import copy
import functools
from collections import OrderedDict, defaultdict, deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from types import CellType, FunctionType, MemberDescriptorType, MethodType
from typing import Any, TypeVar

import torch
from torch import nn

Convert = Callable[[torch.Tensor], torch.Tensor]
_Module = TypeVar("_Module", bound=nn.Module)
_T = TypeVar("_T")

_ATOMS = {str, int, float, bool, bytes, complex, type(None), torch.dtype, torch.device, torch.Size}
_CONTAINERS = (dict, OrderedDict, defaultdict, list, deque, set, frozenset, tuple)  # subclasses may refuse a copy
_HOOKS = ("_forward_pre_hooks", "_forward_hooks", "_backward_pre_hooks", "_backward_hooks")
_OWN_CONTAINERS = {key for key, value in vars(nn.Module()).items() if isinstance(value, (dict, set))}


def in_eval_mode(model: _Module) -> _Module:
    """Returns a module that computes what a module computes in eval mode; the module itself stays as it is.

    A module wholly in eval mode is returned itself. Of any other, the result is a copy that shares its tensors, so that
    threads may use the module meanwhile, also to train it.

    Args:
        model: Any module.
    """
    if not any(module.training for module in model.modules()):
        return model
    copier = _Copier()
    result = copier.add(model)
    for module in copier.pending:
        if type(module).train is not nn.Module.train or type(module).eval is not nn.Module.eval:
            copier.replace_tensors(module)  # train() may change them, as where it merges weights
    copier.fill()
    return result.eval()


def copy_module(model: _Module, convert: Convert | None = None, *, user_hooks: bool = True) -> _Module:
    """Returns a copy of a module and of the modules in it, which shares everything else.

    What refers to one of these modules (attributes, containers, functions, hooks) refers to its copy in the result. A
    compiled module is replaced by the module inside, a scripted one by a deep copy.

    Args:
        model: Any module.
        convert: Returns what replaces a tensor, once for each among parameters, buffers, attributes and containers;
            containers are then copied too. By default tensors are shared.
        user_hooks: Whether hooks are kept that are not torch's; those of torch compute weights.
    """
    copier = _Copier(convert, user_hooks)
    result = copier.add(model)
    copier.fill()
    return result


def clone(tensor: torch.Tensor) -> torch.Tensor:
    """Returns a copy of a tensor that is a leaf, and a parameter if the tensor is one."""
    copied = tensor.detach().clone()
    if isinstance(tensor, nn.Parameter):
        return nn.Parameter(copied, requires_grad=tensor.requires_grad)
    return copied.requires_grad_(tensor.requires_grad)


class _Copier:
    """Copies modules; see ``copy_module``.

    Attributes:
        pending: The modules whose copies ``fill`` completes.
    """

    def __init__(self, convert: Convert | None = None, user_hooks: bool = True) -> None:
        self.pending: list[nn.Module] = []
        self._convert, self._user_hooks = convert, user_hooks
        self._copies: dict[int, tuple[Any, Any]] = {}  # id -> original, whose id no other object gets, and copy

    def add(self, module: _Module) -> _Module:
        """Returns the copy of a module; its attributes are set by ``fill``."""
        if id(module) in self._copies:
            return self._copies[id(module)][1]  # type: ignore[no-any-return]
        inner = getattr(module, "_orig_mod", None)
        if isinstance(inner, nn.Module):
            return self._remember(module, self.add(inner))  # type: ignore[return-value]  # as callers expect
        if isinstance(module, torch.jit.ScriptModule):  # its mode and its tensors are those of C++ objects
            return self._remember(module, copy.deepcopy(module))
        result = self._remember(module, object.__new__(type(module)))
        self.pending.append(module)
        for child in module._modules.values():
            if child is not None:
                self.add(child)
        return result

    def replace_tensors(self, module: nn.Module) -> None:
        """Lets the copies have clones of the parameters and buffers of a module and those in it."""
        for tensor in (*module.parameters(), *module.buffers()):
            if id(tensor) not in self._copies:
                self._remember(tensor, clone(tensor))

    def fill(self) -> None:
        """Sets the attributes of all copies."""
        for module in self.pending:
            result = self._copies[id(module)][1]
            attributes = vars(result)
            for key, value in list(vars(module).items()):
                if key in _HOOKS and not self._user_hooks:
                    value = type(value)((number, hook) for number, hook in value.items() if _is_of_torch(hook))
                if key in _OWN_CONTAINERS:  # many, and mostly empty
                    replaced = self._replace(value) if value else value
                    attributes[key] = value.copy() if replaced is value else replaced
                else:
                    attributes[key] = self._replace(value)
            attributes.pop("_compiled_call_impl", None)
            for key in _slots(type(module)):  # type: ignore[arg-type]  # classes are hashable
                with suppress(AttributeError):  # not set
                    object.__setattr__(result, key, self._replace(object.__getattribute__(module, key)))

    def _remember(self, original: object, result: _T) -> _T:
        self._copies[id(original)] = original, result
        return result

    def _replace(self, value: Any) -> Any:
        """Returns what stands for a value in the copies."""
        if type(value) in _ATOMS:
            return value
        if id(value) in self._copies:
            return self._copies[id(value)][1]
        if isinstance(value, torch.Tensor):
            return value if self._convert is None else self._remember(value, self._convert(value))
        if type(value) is MethodType and self._refers(value.__self__, set()):
            return MethodType(value.__func__, self._replace(value.__self__))
        if type(value) is functools.partial and self._refers(value, set()):
            arguments = self._replace(value.args), self._replace(value.keywords)
            return functools.partial(self._replace(value.func), *arguments[0], **arguments[1])
        if type(value) is FunctionType and value.__closure__ and self._refers(value, set()):
            return self._copy_function(value)
        if _is_container(value) and (self._convert is not None or self._refers(value, set())):
            return self._copy_container(value)
        return value

    def _copy_function(self, value: FunctionType) -> FunctionType:
        cells = tuple(CellType() if self._refers(cell, set()) else cell for cell in value.__closure__ or ())
        result = FunctionType(value.__code__, value.__globals__, value.__name__, value.__defaults__, cells)
        functools.update_wrapper(self._remember(value, result), value)
        result.__kwdefaults__ = value.__kwdefaults__
        for cell, original in zip(cells, value.__closure__ or (), strict=True):
            if cell is not original:
                cell.cell_contents = self._replace(original.cell_contents)
        return result

    def _copy_container(self, value: Any) -> Any:
        if isinstance(value, tuple):
            items = [self._replace(item) for item in value]
            return self._remember(value, value._make(items) if hasattr(value, "_make") else tuple(items))
        if isinstance(value, frozenset):
            return self._remember(value, frozenset(map(self._replace, value)))
        result = self._remember(value, copy.copy(value))  # before its items, which may hold it
        items = list(result.items() if isinstance(result, dict) else result)
        result.clear()
        if isinstance(result, dict):
            result.update((self._replace(key), self._replace(item)) for key, item in items)
        elif isinstance(result, set):
            result.update(map(self._replace, items))
        else:
            result.extend(map(self._replace, items))
        return result

    def _refers(self, value: Any, seen: set[int]) -> bool:
        """Returns whether a value is or holds something that has a copy."""
        if type(value) in _ATOMS or id(value) in seen:
            return False
        seen.add(id(value))
        return id(value) in self._copies or any(self._refers(part, seen) for part in _parts(value))


@functools.cache
def _slots(cls: type) -> tuple[str, ...]:
    """Returns the names of the attributes of a class that are not in ``vars``."""
    return tuple(
        name for base in cls.__mro__ for name, value in vars(base).items() if type(value) is MemberDescriptorType
    )


def _is_container(value: object) -> bool:
    return type(value) in _CONTAINERS or (isinstance(value, tuple) and hasattr(value, "_make"))


def _parts(value: Any) -> Iterator[Any]:
    """Yields what a container or a function holds; nothing for another value."""
    if type(value) is MethodType:
        yield value.__self__
    elif type(value) is FunctionType:
        yield from value.__closure__ or ()
    elif type(value) is CellType:
        with suppress(ValueError):  # an empty cell
            yield value.cell_contents
    elif type(value) is functools.partial:
        yield from (value.func, value.args, value.keywords)
    elif _is_container(value):
        yield from list(value)
        if isinstance(value, dict):
            yield from list(value.values())


def _is_of_torch(hook: Any) -> bool:
    """Returns whether a hook is a function of torch, or an object of a class derived from one of torch's."""
    hook = getattr(hook, "__func__", hook)
    places = [getattr(hook, "__module__", ""), *(cls.__module__ for cls in type(hook).__mro__)]
    return any(str(place).startswith("torch.") for place in places)
