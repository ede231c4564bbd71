"""The outputs of blocks: of one batch (``features``), or as a module that detectors build on (``backbone``).

Both run the network's own modules, up to the last block that is wanted.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from fractions import Fraction
from typing import Any

import torch
from torch import fx, nn

from cnnzoo.blocks.modules import Branches
from cnnzoo.errors import InputError, unknown
from cnnzoo.measure.meta_cache import MemoizedMeta
from cnnzoo.module_copy import in_eval_mode
from cnnzoo.modules import unwrap
from cnnzoo.network import CNN, require_width

Stride = float | tuple[float, float] | None

_GROWTH = 2**10 * 3**2 * 5 * 7 * 11  # px; so much larger an image that the rounding of map sizes has no effect
_MAX_DENOMINATOR = 64  # of a stride, which is a fraction where a block enlarges maps

_Record = Callable[[str, torch.Tensor], None]  # takes the label and the output of a block

fx.wrap("require_width")  # a single node for tracers, as in the network


def backbone(model: nn.Module, labels: str | Sequence[str]) -> Backbone:
    """Returns a module that runs a network up to the last of some blocks, and returns their outputs by label.

    Args:
        model: A network of the zoo; it stays as it is.
        labels: Labels of blocks, such as ``["conv3", "conv5"]``, or a single one; ``"inception3a/conv2"`` for a block
            inside a Parallel.

    Returns:
        A ``Backbone``, whose forward maps images of any size that the blocks can take to a dict from labels to maps
        (N, C, H, W), in the order of ``labels``. Its ``channels`` and ``strides`` are what detectors need of it::

            backbone = cnnzoo.backbone(model, ["layer2.1", "layer3.1", "layer4.1"])  # of a ResNet-18
            pyramid = torchvision.ops.FeaturePyramidNetwork(list(backbone.channels.values()), 256)
            maps = pyramid(backbone(images))

    Raises:
        UnknownNameError: If no block has one of the labels.
        InputError: If there are no labels, or one twice, or the model is not a network of the zoo.
    """
    return Backbone(model, labels)


class FeatureMaps(dict[str, torch.Tensor]):
    """The outputs of blocks by label, in the order of the labels.

    Attributes:
        channels: Number of channels of each output, by label.
        strides: Stride of each output in px, by label, as in ``Backbone``.
    """

    def __init__(self, outs: dict[str, torch.Tensor], channels: dict[str, int], strides: dict[str, Stride]) -> None:
        super().__init__(outs)
        self.channels = channels
        self.strides = strides


def features(model: nn.Module, labels: str | Sequence[str], x: torch.Tensor) -> FeatureMaps:
    """Returns the outputs of some blocks, by label, for a batch of images.

    The network runs up to the last of the blocks, so images may have any size that these blocks can take. For many
    batches, ``backbone`` is faster: it prepares once what this function prepares in each call.

    Args:
        model: A network of the zoo; it runs as in eval mode, and is not changed.
        labels: Labels of blocks, such as ``["conv1", "pool5"]``, or a single one; ``"inception3a/conv2"`` for a block
            inside a Parallel.
        x: Images (N, C, H, W).

    Returns:
        A dict from labels to outputs, in the order of ``labels``; its attributes ``channels`` and ``strides`` are also
        by label. Gradients flow as in a plain call in eval mode; to train with dropout and batch statistics, use
        ``backbone``.

    Raises:
        UnknownNameError: If no block has one of the labels.
        InputError: If there are no labels, or one twice, the model is not a network of the zoo, or the images have
            another number of channels, or are integers.
    """
    network = Backbone(in_eval_mode(unwrap(model)) if isinstance(model, nn.Module) else model, labels)
    if not x.is_floating_point():
        raise InputError(
            f"x is a tensor of {str(x.dtype).removeprefix('torch.')}, which no preprocessing has prepared; "
            "cnnzoo.transforms(model) returns that of a trained network"
        )
    return FeatureMaps(network(x), network.channels, network.strides)


class Backbone(nn.Module):
    """The part of a network up to the last of some blocks; its forward returns their outputs.

    It consists of the network's own modules under their names, so that state-dict keys are those of the network.
    Training, ``to()``, ``train()`` and ``eval()`` change the network too; ``copy.deepcopy`` makes an independent
    backbone.

    Args:
        model: A network of the zoo.
        labels: Labels of blocks, or a single one.

    Attributes:
        channels: Number of channels of each output, by label.
        strides: How far one step of each map moves on the input, in px, by label: an integer, or (height, width) if
            they differ, or a fraction where a block enlarges maps; None for a vector, and for a map whose size does not
            follow the size of the images (after an AdaptiveAvgPool).

    Raises:
        UnknownNameError: If no block has one of the labels.
        InputError: If there are no labels, or one twice, or the model is not a network of the zoo.
    """

    def __init__(self, model: nn.Module, labels: str | Sequence[str]) -> None:
        super().__init__()
        model = unwrap(model) if isinstance(model, nn.Module) else model
        if not isinstance(model, CNN):
            raise InputError(
                f"expected a network of cnnzoo, which cnnzoo.create returns, got {type(model).__name__}; for other "
                "modules use torchvision.models.feature_extraction.create_feature_extractor"
            )
        names = labeled_modules(model)
        labels = [labels] if isinstance(labels, str) else list(labels)
        if not labels:
            raise InputError(f"labels is empty; name blocks of {model.spec.name}, such as {list(names)[:3]}")
        for label in labels:
            if label not in names:
                raise unknown("block", label, names)
            if labels.count(label) > 1:
                raise InputError(f"labels has {label!r} twice; each block has one output")
        self._name, self._input_shape, self._features_shape = model.spec.name, model.spec.input, model._features_shape
        self._labels = {names[label]: label for label in labels}  # by module name
        self._opened = {outer for name in self._labels for outer in _outer_names(name)}  # wanted modules are inside
        last = max(self._labels, key=list(names.values()).index)
        self._unfinished = set(_outer_names(last))  # what they return is not needed
        self.features = self._cut(model.features, "features", last)
        self.classifier = self._cut(model.classifier, "classifier", last) if "classifier" in self._opened else None
        self._overwritten: set[str] = set()  # labels of outputs that a later module overwrites
        self.channels: dict[str, int] = {}
        self.strides: dict[str, Stride] = {}
        self.training = model.training
        self._inspect()

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        """Returns a dict from labels to outputs, maps (N, C, H, W) or vectors (N, C), for images (N, C, H, W).

        Raises:
            InputError: If the images have another number of channels, or a size that a wanted block does not accept.
        """
        outs: dict[str, torch.Tensor] = {}

        def record(label: str, out: torch.Tensor) -> None:
            outs[label] = out.clone() if label in self._overwritten else out

        self._run(x, record)
        return {label: outs[label] for label in self._labels.values()}

    def extra_repr(self) -> str:
        """Returns the labels, for ``print(backbone)``."""
        return f"labels={list(self._labels.values())}"

    def _run(self, x: torch.Tensor, record: _Record) -> None:
        """Runs the modules as the network's forward does, and records the outputs of the wanted blocks."""
        x = require_width(x, self._input_shape[0], self._name, self._input_shape, "images")
        x = self._run_module(self.features, "features", x, record)
        if self.classifier is not None:
            if len(self._features_shape) == 1:
                x = require_width(x, self._features_shape[0], self._name, self._input_shape, "features")
            self._run_module(self.classifier, "classifier", x, record)

    def _run_module(self, module: nn.Module, name: str, x: torch.Tensor, record: _Record) -> torch.Tensor:
        if name not in self._opened:
            x = module(x)
        else:
            children: Any = [(child, f"{name}.{key}") for key, child in module._modules.items()]
            if isinstance(module, Branches):
                outs = [self._run_module(path, path_name, x, record) for path, path_name in children]
                x = x if name in self._unfinished else module.merge_outputs(outs)
            else:
                for child, child_name in children:
                    x = self._run_module(child, child_name, x, record)
        if name in self._labels:
            record(self._labels[name], x)
        return x

    def _cut(self, module: nn.Module, name: str, last: str) -> nn.Module:
        """Returns a module; if wanted modules are inside, a copy of it without the children that run after ``last``.

        Raises:
            InputError: If wanted modules are inside, and the module is not a chain or parallel paths.
        """
        if name not in self._opened:
            return module
        if type(module).forward not in (nn.Sequential.forward, Branches.forward):
            label = next(label for inside, label in self._labels.items() if inside.startswith(f"{name}."))
            outer = label.rpartition("/")[0]
            hint = (
                f"use the label {outer!r}, or Parallel for that block" if outer else f"{name} must be an nn.Sequential"
            )
            raise InputError(f"block {label!r} is inside a {type(module).__name__}, which only runs as a whole; {hint}")
        children = {}
        for key, child in module._modules.items():
            assert child is not None
            children[key] = self._cut(child, f"{name}.{key}", last)
            if f"{last}.".startswith(f"{name}.{key}."):
                break
        return _copy(module, children)

    def _inspect(self) -> None:
        """Sets the channels, the strides and which outputs are overwritten, by two runs on the meta device."""
        copy = _meta_copy(self)
        dtype = next((p.dtype for p in self.parameters() if p.is_floating_point()), None)
        channels, *sides = self._input_shape
        outs: dict[str, tuple[torch.Tensor, int]] = {}
        larger: dict[str, torch.Size] = {}
        memoized = MemoizedMeta()  # type: ignore[no-untyped-call]
        with torch.inference_mode(False), torch.no_grad(), torch.device("meta"), memoized:
            x = torch.empty(2, channels, *sides, dtype=dtype)
            try:
                copy._run(x, lambda label, out: outs.update({label: (out, out._version)}))
            except Exception as error:  # of a module that was changed by hand
                reason = next(iter(str(error).strip().splitlines()), "")
                raise InputError(
                    f"channels and strides of {self._name} are unknown, since it does not run on the meta device for "
                    f"an input of {tuple(x.shape)}: {type(error).__name__}: {reason}"
                ) from error
            x = torch.empty(2, channels, *(side + _GROWTH for side in sides), dtype=dtype)
            with suppress(Exception):  # from a block that accepts one size only
                copy._run(x, lambda label, out: larger.update({label: out.shape}))
        self._overwritten = {label for label, (out, version) in outs.items() if out._version != version}
        for label in self._labels.values():
            shape = outs[label][0].shape
            self.channels[label] = shape[1]
            self.strides[label] = _stride(shape[2:], larger.get(label, shape)[2:])


def labeled_modules(model: nn.Module) -> dict[str, str]:
    """Returns a dict from full labels to the name of the last module of each block, in the order of execution."""
    names: dict[str, str] = {}

    def walk(module: nn.Module, prefix: str, outer_label: str) -> None:
        for key, child in module._modules.items():
            if child is None:
                continue
            label = getattr(child, "label", "")
            full_label = f"{outer_label}/{label}" if outer_label and label else outer_label or label
            walk(child, f"{prefix}{key}.", full_label)
            if label:
                names.pop(full_label, None)  # an earlier module of the block
                names[full_label] = f"{prefix}{key}"

    walk(model, "", "")
    return names


def _outer_names(name: str) -> list[str]:
    """Returns the names of the modules around a module: ``["a", "a.b"]`` of ``"a.b.c"``."""
    parts = name.split(".")
    return [".".join(parts[:n]) for n in range(1, len(parts))]


def _copy(module: nn.Module, children: dict[str, Any]) -> nn.Module:
    """Returns a copy of a module with other children, without tensors and hooks."""
    copy = object.__new__(type(module))
    nn.Module.__init__(copy)
    attributes = {k: v for k, v in vars(module).items() if k not in vars(copy) and k != "_compiled_call_impl"}
    vars(copy).update(attributes, _modules=children, training=module.training)
    return copy


def _meta_copy(module: nn.Module) -> Any:
    """Returns a copy of a module on the meta device, in eval mode and without hooks."""

    def to_meta(values: dict[str, Any]) -> dict[str, Any]:
        return {k: v.detach().to("meta") if isinstance(v, torch.Tensor) else v for k, v in values.items()}

    copy = _copy(module, {key: child and _meta_copy(child) for key, child in module._modules.items()})
    tensors = {"_parameters": to_meta(module._parameters), "_buffers": to_meta(module._buffers)}
    vars(copy).update(to_meta(vars(copy)), **tensors, training=False)
    return copy


def _stride(size: Sequence[int], larger: Sequence[int]) -> Stride:
    """Returns the stride of a map from its sizes for two images, the second larger by ``_GROWTH``; None without one."""
    if len(size) != 2 or len(larger) != 2 or any(a >= b for a, b in zip(size, larger, strict=True)):
        return None
    ratios = [Fraction(_GROWTH, b - a).limit_denominator(_MAX_DENOMINATOR) for a, b in zip(size, larger, strict=True)]
    height, width = [r.numerator if r.denominator == 1 else float(r) for r in ratios]
    return height if height == width else (height, width)
