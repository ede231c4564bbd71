"""Data sets by name: a registry that users and plugins can add to."""

from __future__ import annotations

import importlib
import inspect
import os
from collections.abc import Callable
from typing import Any, TypeVar

from cnnzoo.data.datasets import Data, ImageData, StreamData
from cnnzoo.errors import DataError, InputError, UnknownNameError, unknown
from cnnzoo.plugins import Registry

DataFunction = TypeVar("DataFunction", bound=Callable[..., Data])


def _import_data_sets() -> None:
    """Imports the modules that register the data sets of cnnzoo."""
    for module in ("named", "folder", "table", "hub"):
        importlib.import_module(f"cnnzoo.data.{module}")


DATA: Registry[Callable[..., Data]] = Registry("data set", load_builtins=_import_data_sets)


def register_data(name: str) -> Callable[[DataFunction], DataFunction]:
    """Registers a function that loads a data set, for ``load_data(name)`` and ``--data name``.

    The function takes the options of ``load_data`` that it names as keyword arguments. If it also takes a positional
    argument, that is what follows a colon: ``load_data("name:argument")``.

        @register_data("stripes")
        def stripes(*, n: int = 1000) -> ImageData:
            ...

    Args:
        name: The name, an identifier.

    Raises:
        InputError: If the name is not an identifier, or belongs to another data set.
    """

    def register(function: DataFunction) -> DataFunction:
        DATA.register(name, function, str(function.__module__))
        return function

    return register


def list_data() -> list[str]:
    """Returns the names that ``load_data`` accepts; ``"folder:PATH"`` stands for a folder at any path."""
    return sorted(
        f"{name}:{parameter.name.upper()}" if (parameter := _positional(function)) else name
        for name, function in DATA.items()
    )


def load_data(name: str, root: str | os.PathLike[str] | None = None, **options: Any) -> Data:
    """Loads a data set by name.

    Names and their options:

    - ``"fashion_mnist_sample"``, which ships with cnnzoo; ``"fashion_mnist"``, ``"mnist"``, ``"cifar10"``. The files of
      these are searched for in ``root``, in the folder that the environment variable ``CNNZOO_DATA`` names, in the
      cache (``~/.cache/cnnzoo``) and where system packages install them. If they are in none of these, torchvision
      downloads them into the first, unless ``download=False``.
    - ``"folder:PATH"``: images in one subfolder per class, in PATH or in PATH/train, PATH/val and PATH/test. Without
      PATH/test, PATH/val are the test images; without either, every fifth image of each class, by name.
    - ``"csv:PATH"``: a table of image files and labels, with a header. ``image_column="file"`` has paths relative to
      the table, ``label_column="label"`` the classes; a column ``split``, if any, has ``train``, ``val`` or ``test``.
    - ``"hf:NAME"`` or ``"hf:NAME:CONFIG"``: a data set of the Hugging Face Hub, or a folder of such files, through the
      package ``datasets``. ``image_column=`` and ``label_column=`` choose the columns if their types do not.
    - names that you or a plugin added with ``register_data``, with options of their own.

    Options of images from files (folder, csv, hf):

    - ``image_size``: the shorter side of each image is resized to this many px, and the central square is kept.
      Required to train on images that differ in size.
    - ``stream``: whether images are read on demand (True) or all at once into memory (False); by default on demand if
      they would take more than 2 GB.
    - ``split``: False for data that is only evaluated: without test images, all images are the test images.
    - ``skip_bad``: whether images that cannot be read are left out, with a warning; by default they are an error.
    - ``background``, ``scaled``: see ``cnnzoo.data.Decoding``.

    Args:
        name: The name.
        root: The folder to search first, and to download to.
        **options: The options.

    Raises:
        UnknownNameError: If no data set has that name.
        DataError: If the files are neither found nor downloaded, or are damaged.
        InputError: If the data set does not take an option, or its value.
    """
    if not isinstance(name, str):
        raise InputError(f"a data set is loaded by its name, a string, not {type(name).__name__}")
    kind, colon, argument = name.partition(":")
    if kind not in DATA or (colon and not _positional(DATA[kind])):
        hint = f" To load the folder of this name, write 'folder:{name}'." if os.path.isdir(name[:1000]) else ""
        raise UnknownNameError(f"{unknown('data set', name[:200], list_data())}{hint}")
    function = DATA[kind]
    if (parameter := _positional(function)) and not argument:
        raise InputError(f"{kind!r} needs to be followed by {parameter.name.upper()}: {kind}:{parameter.name.upper()}")
    if root is not None:
        options = {"root": os.fspath(root), **options}
    data = function(*([argument] if colon else []), **_accepted(kind, function, options))
    if not isinstance(data, (ImageData, StreamData)):
        raise DataError(
            f"data set {name!r}: its function must return ImageData or StreamData, not {type(data).__name__}"
        )
    for field, value in (("name", name), ("options", options)):  # replace() would estimate mean and std again
        object.__setattr__(data, field, value)
    return data


def _accepted(kind: str, function: Callable[..., Data], options: dict[str, Any]) -> dict[str, Any]:
    """Returns the options to call a function with.

    Raises:
        InputError: If it does not take one of them.
    """
    parameters = inspect.signature(function).parameters
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
        return options
    known = [name for name, parameter in parameters.items() if parameter.kind is parameter.KEYWORD_ONLY]
    wrong = [name for name in options if name not in known and name != "split"]  # the others have test images
    if wrong:
        names = ", ".join(f"{name}=" for name in wrong)
        takes = ", ".join(f"{name}=" for name in known) or "none"
        raise InputError(f"data set {kind!r} does not take {names}; its options: {takes}")
    return {name: value for name, value in options.items() if name in known}


def _positional(function: Callable[..., Data]) -> inspect.Parameter | None:
    """Returns the positional parameter of a function, if it has one."""
    parameters = inspect.signature(function).parameters.values()
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return next((parameter for parameter in parameters if parameter.kind in kinds), None)
