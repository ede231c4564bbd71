"""Modules that a command line names: ``torchvision:resnet18``, ``timm:NAME``, ``MODULE:FACTORY``."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Any

from cnnzoo.api.specs import is_saved
from cnnzoo.errors import CnnzooError, InputError, unknown

if TYPE_CHECKING:
    from torch import nn

    from cnnzoo.measure import CountReport

_NAME = re.compile(r"(?P<module>[^\W\d][\w.]*):(?P<name>[\w.]+)")
_DETECTION_SIZE = 800  # torchvision's detectors resize the shorter side to it
_VIDEO_FRAMES = 16


def is_factory(source: object) -> bool:
    """Returns whether a source is of the form ``MODULE:FACTORY``, and not a file of that name."""
    return isinstance(source, str) and _NAME.fullmatch(source) is not None and not is_saved(source)


def build_module(source: str, knobs: Mapping[str, Any]) -> nn.Module:
    """Builds the module that a name of the form ``MODULE:FACTORY`` stands for, with random weights.

    Args:
        source: ``torchvision:NAME``, ``timm:NAME``, or ``MODULE:FACTORY``: a function or class in a Python module,
            also of the current folder, or a module that is built there.
        knobs: Arguments of the function or class.

    Raises:
        InputError: If it cannot be imported or built.
        UnknownNameError: If there is no such name.
    """
    from torch import nn

    package, _, name = source.partition(":")
    builders = {"torchvision": _build_torchvision, "timm": _build_timm}
    try:
        model = builders[package](name, knobs) if package in builders else _build(package, name, knobs)
    except CnnzooError:
        raise
    except Exception as error:  # a user's factory may raise anything
        reason = next(iter(str(error).strip().splitlines()), "")
        raise InputError(f"{source} cannot be built: {type(error).__name__}: {reason}") from error
    if not isinstance(model, nn.Module):
        raise InputError(f"{source} must be an nn.Module, or return one, not {type(model).__name__}")
    return model


def count_factory(
    source: str, input_size: Sequence[int] | None, knobs: Mapping[str, Any], train: bool = False
) -> CountReport:
    """Counts the module of ``build_module``; those of torchvision and timm in eval mode.

    Args:
        source: As for ``build_module``.
        input_size: Shape of the input; by default, for torchvision and timm, one image of the size of its weights, and
            for other modules, the size in their metadata.
        knobs: As for ``build_module``.
        train: Whether to count it in train mode.

    Raises:
        InputError: If it cannot be built or counted, or its input is not known.
        UnknownNameError: If there is no such name.
    """
    import torch

    from cnnzoo import measure
    from cnnzoo.api.sources import image_shape
    from cnnzoo.metadata import get_metadata
    from cnnzoo.modules import unwrap
    from cnnzoo.network import CNN

    model = build_module(source, knobs)
    if train:
        model.train()
    package, _, name = source.partition(":")
    if input_size is None and package == "torchvision":
        input_size = _torchvision_size(name)
        if type(model).__module__.startswith("torchvision.models.detection"):  # lists of images, values decide
            images = [torch.zeros(3, *input_size[-2:])]
            return measure.count(model, inputs=(images,), name=source, meta=False)
    elif input_size is None and package == "timm":
        input_size = (1, *model.pretrained_cfg["input_size"])  # type: ignore[index]
    inner = unwrap(model)
    if input_size is None and (isinstance(inner, CNN) or get_metadata(inner).preprocessing is not None):
        input_size = (1, *image_shape(model, None))
    if input_size is None:
        raise InputError(f"the input of {source} is not known; give its shape: --input-size 1x3x224x224")
    return measure.count(model, input_size, name=source)


def _build(package: str, name: str, knobs: Mapping[str, Any]) -> Any:
    """Returns what is at ``name`` in a Python module, called if it is a function or class."""
    from torch import nn

    sys.path.insert(0, os.getcwd())  # as python -m does
    try:
        value: Any = import_module(package)
    except ModuleNotFoundError as error:
        missing = f"; no module {error.name!r}" if error.name != package else ""
        raise InputError(f"{package!r} is not a module that Python can import{missing}") from error
    finally:
        sys.path.pop(0)
    for part in name.split("."):
        if not hasattr(value, part):
            raise unknown(f"name in {package}", name, [n for n in dir(value) if not n.startswith("_")])
        value = getattr(value, part)
    if isinstance(value, nn.Module):
        if knobs:
            raise InputError(f"{package}:{name} is built already; knobs are for a function or class")
        return value
    return value(**knobs) if callable(value) else value


def _build_torchvision(name: str, knobs: Mapping[str, Any]) -> nn.Module:
    torchvision = _import("torchvision")
    names = torchvision.models.list_models()
    if name not in names:
        raise unknown("model of torchvision", name, names)
    arguments: dict[str, Any] = {"weights": None, **knobs}
    is_detector = name in torchvision.models.list_models(module=torchvision.models.detection)
    if is_detector or name in torchvision.models.list_models(module=torchvision.models.segmentation):
        arguments = {"weights_backbone": None, **arguments}
    if name in ("googlenet", "inception_v3"):
        arguments = {"init_weights": False, **arguments}  # its own initialization takes minutes

    def build() -> nn.Module:
        model: nn.Module = torchvision.models.get_model(name, **arguments)
        return model.eval()

    return build() if is_detector else _on_meta(build)  # the values of a detector decide what it computes


def _build_timm(name: str, knobs: Mapping[str, Any]) -> nn.Module:
    timm = _import("timm")
    if not timm.is_model(name.partition(".")[0]):
        raise unknown("model of timm", name, timm.list_models())
    model: nn.Module = _on_meta(lambda: timm.create_model(name, pretrained=False, **knobs))
    return model.eval()


def _import(package: str) -> Any:
    try:
        return import_module(package)
    except ImportError as error:
        raise InputError(f"{package} is not installed: pip install {package}") from error


def _on_meta(build: Callable[[], nn.Module]) -> nn.Module:
    """Returns a module without values, or with them if it needs some while it is built."""
    import torch

    try:
        with torch.device("meta"):
            return build()
    except (NotImplementedError, RuntimeError):
        return build()


def _torchvision_size(name: str) -> tuple[int, ...]:
    """Returns the shape of one input of a model of torchvision, from the transforms of its weights."""
    import torchvision

    models = torchvision.models
    if name in models.list_models(module=models.detection):
        return 1, 3, _DETECTION_SIZE, _DETECTION_SIZE
    weights = models.get_model_weights(name)
    transforms = next(iter(weights)).transforms() if len(weights) else None
    size = getattr(transforms, "crop_size", None) or getattr(transforms, "resize_size", None) or [224]
    side = size if isinstance(size, (list, tuple)) else [size]
    frames = [_VIDEO_FRAMES] if name in models.list_models(module=models.video) else []
    return 1, 3, *frames, side[0], side[-1]
