"""Names of a package that are imported on first use, so that importing the package does not import torch."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from types import ModuleType
from typing import Any


def lazy_names(package: str, exports: Mapping[str, Sequence[str]]) -> Callable[[str], Any]:
    """Returns the ``__getattr__`` of a package.

    In the package, a name takes precedence over a module of the same name. Otherwise, importing the module
    ``cnnzoo.diff`` would replace the function ``cnnzoo.diff``.

    Args:
        package: Name of the package.
        exports: Name of a module -> the names that the package has from it.
    """
    module_of = {name: module for module, names in exports.items() for name in names}

    class Package(ModuleType):
        def __setattr__(self, name: str, value: object) -> None:
            if not (name in module_of and isinstance(value, ModuleType)):
                super().__setattr__(name, value)

    def get(name: str) -> Any:
        if name not in module_of:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        value = getattr(import_module(module_of[name]), name)
        setattr(sys.modules[package], name, value)
        return value

    sys.modules[package].__class__ = Package
    return get
