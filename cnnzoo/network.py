"""The one network class of the zoo, built from a Spec."""

from __future__ import annotations

import math
import threading
from collections.abc import Sequence
from typing import Any

import torch
from torch import fx, nn

from cnnzoo.blocks import Block, BlockError, Shape, build_blocks
from cnnzoo.blocks.build import infer_shape, nested_blocks
from cnnzoo.errors import ChangedModuleError, InputError, SpecError
from cnnzoo.html_parts import facts, notebook_html
from cnnzoo.limits import MAX_SIZE_TRIALS
from cnnzoo.metadata import Metadata, checksum_tensors
from cnnzoo.random_state import OwnGenerator
from cnnzoo.spec import Spec

FORMAT_VERSION = 1  # of the description; readers reject versions that they do not know
_MAX_NAMES = 20  # classes that a notebook shows
_MAX_IMAGE_SIZE = 4096  # px; no classic CNN needs larger images

_metadata_lock = threading.RLock()


def require_width(x: torch.Tensor, width: int, name: str, input_shape: Shape, where: str) -> torch.Tensor:
    """Returns x if its shape is (N, width, ...); raises InputError about channels or image size if not."""
    channels, height, side = input_shape
    if where == "images" and x.dim() != 4:
        raise InputError(
            f"{name} expects images of shape (N, {channels}, {height}, {side}), got {tuple(x.shape)}; "
            "for one image add the batch dimension with x.unsqueeze(0)"
        )
    if x.shape[1] != width:
        if where == "images":
            raise InputError(
                f"{name} expects images with {width} channel{'s' * (width > 1)}, (N, {channels}, {height}, {side}), "
                f"got {tuple(x.shape)}; build it with in_channels={x.shape[1]}"
            )
        raise InputError(
            f"{name} was built for images of {height}x{side} px ({width} features), and these images give {x.shape[1]} "
            "features; resize the images, or build it with their image_size"
        )
    return x


fx.wrap("require_width")  # a single node for tracers: the checks are not part of the network


class CNN(nn.Module):
    """A network built from a Spec, on torch's current default device and dtype.

    The modules of all blocks form two flat ``nn.Sequential``, so that state-dict keys are ``features.0.weight``,
    ``classifier.1.weight``, ...

    Attributes:
        spec: The Spec that the network was built from.
        features: The modules that turn images into features.
        classifier: The modules that turn features into class scores.
        metadata: What is saved with the weights: ``label_names``, ``preprocessing``, ``provenance``. Assign another
            ``Metadata`` to change it. If the weights change afterwards, for example in a training loop of your own, the
            provenance says so: its kind becomes ``"changed"``, or ``"state_dict"`` after ``load_state_dict``.

    Raises:
        SpecError: If a block cannot take the output of the one before, or the images are too small.
    """

    _metadata: Metadata
    _checksum: tuple[object, ...] | None  # of the weights to which the metadata belong
    _versions: tuple[tuple[int, int], ...] | None  # of the tensors when they were last known to be unchanged

    def __init__(self, spec: Spec) -> None:
        super().__init__()
        self.spec = spec
        try:
            self.features, self._features_shape = _build_section(spec, "features", spec.input)
            self.classifier, _ = _build_section(spec, "classifier", self._features_shape)
        except BlockError as error:
            minimum = _larger_image_size(spec)
            if minimum is None:  # the blocks do not fit each other at any size
                raise SpecError(f"{spec.name}: {error}") from None
            raise SpecError(f"{error.block}; {spec.name} needs images of at least {minimum} px") from None
        self.metadata = Metadata(provenance={"kind": "random"})
        self.register_load_state_dict_post_hook(_record_state_dict)  # type: ignore[no-untyped-call]

    @property
    def metadata(self) -> Metadata:
        """What is saved with the weights: label names, preprocessing, provenance."""
        with _metadata_lock:  # threads that notice a change at the same time record it once
            kind = (self._metadata.provenance or {}).get("kind")
            # statistics of batch norm change in any forward pass in train mode: random weights stay random
            tensors = [*self.parameters(), *([] if kind == "random" else self.buffers())]
            versions = _versions(tensors)
            if versions is None or versions != self._versions:
                checksum = checksum_tensors(tensors)
                if checksum is not None and self._checksum is not None and checksum != self._checksum[: len(checksum)]:
                    self.metadata = self._metadata.derive("changed")
                self._versions = versions
            return self._metadata

    @metadata.setter
    def metadata(self, value: Metadata) -> None:
        if not isinstance(value, Metadata):
            raise InputError(f"metadata must be a cnnzoo.Metadata, not {type(value).__name__}")
        channels, height, width = self.spec.input
        classes = self.spec.num_classes
        is_other = value.label_names is not None and classes not in (None, len(value.label_names))
        if value.label_names is not None and is_other and not self.changed_modules():
            raise InputError(f"{self.spec.name} has {classes} classes, and label_names has {len(value.label_names)}")
        if (images := value.preprocessing) is not None and (images.channels, *images.size) != self.spec.input:
            raise InputError(
                f"{self.spec.name} expects images (C, H, W) = ({channels}, {height}, {width}), and the preprocessing "
                f"returns ({images.channels}, {images.size[0]}, {images.size[1]})"
            )
        tensors = [*self.parameters(), *self.buffers()]
        self._metadata, self._checksum, self._versions = value, checksum_tensors(tensors), _versions(tensors)

    def _repr_html_(self) -> str:
        parameters, metadata = list(self.parameters()), self.metadata
        frozen = sum(p.numel() for p in parameters if not p.requires_grad)
        names = metadata.label_names or ()
        values = {
            "parameters": f"{sum(p.numel() for p in parameters):,}"
            + (f", {frozen:,} of them frozen" if frozen else ""),
            "weights": "; ".join(metadata.origin_texts()),
            "images": str(metadata.preprocessing or ""),
            "classes": ", ".join(names[:_MAX_NAMES]) + (", ..." if len(names) > _MAX_NAMES else ""),
            "mode": ("train" if self.training else "eval")
            + "".join(sorted({f", {str(p.dtype).removeprefix('torch.')} on {p.device}" for p in parameters})),
        }
        return notebook_html(self.spec._repr_html_(), facts(values))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Returns the class scores (N, num_classes) of images (N, C, H, W).

        Raises:
            InputError: If the images have another number of channels, or a size that the network does not accept.
        """
        name, input_shape = self.spec.name, self.spec.input
        x = self.features(require_width(x, input_shape[0], name, input_shape, "images"))
        if len(self._features_shape) == 1:
            x = require_width(x, self._features_shape[0], name, input_shape, "features")
        return self.classifier(x)  # type: ignore[no-any-return]

    def changed_modules(self) -> list[str]:
        """Returns the names of the modules that were changed by hand and differ from the Spec.

        SyncBatchNorm does not differ from BatchNorm, since it has the same weights and, in eval mode, the same output.
        """
        with torch.device("meta"):
            expected = _module_reprs(CNN(self.spec))
        current = _module_reprs(self)
        changed = [name for name in {**expected, **current} if expected.get(name) != current.get(name)]
        return [name for name in changed if not any(name.startswith(f"{outer}.") for outer in changed)]

    def describe(self, *, with_spec: bool = True) -> dict[str, Any]:
        """Returns a description from which the network can be rebuilt.

        Top-level keys are those of timm and the Hugging Face Hub; the key ``cnnzoo`` has what only cnnzoo reads.

        Args:
            with_spec: False leaves out the Spec and the number of classes, which only apply to a network whose modules
                were not changed by hand; the network cannot be rebuilt then.

        Raises:
            ChangedModuleError: If modules were changed by hand, since the description would rebuild another network.
        """
        changed = self.changed_modules() if with_spec else []
        if changed:
            raise ChangedModuleError(
                f"{self.spec.name}: these modules were changed by hand and differ from the Spec: "
                f"{', '.join(changed[:5])}; change the Spec (cnnzoo.edit, insert, remove, or a knob) and build the "
                "network again; remove weight_norm and spectral_norm with "
                "torch.nn.utils.parametrize.remove_parametrizations; or save the state dict with torch.save"
            )
        channels, height, width = self.spec.input
        first_conv, last_layer = end_layer_names(self)
        self._versions = None  # not even tensor.data may have changed the weights unnoticed
        metadata = self.metadata.to_dict()
        preprocessing = metadata["preprocessing"] or {"input_size": list(self.spec.input)}
        decoding = preprocessing.pop("decoding", None)
        num_classes = self.spec.num_classes if with_spec else None
        return {
            "architecture": self.spec.name,
            "num_classes": num_classes,
            "in_channels": channels,
            "image_size": height if height == width else [height, width],
            "num_features": self._features_shape[0],
            "label_names": metadata["label_names"],
            "pretrained_cfg": {
                **preprocessing,
                "num_classes": num_classes,
                "first_conv": first_conv,
                "classifier": last_layer,
            },
            "cnnzoo": {
                **({"format_version": FORMAT_VERSION, "spec": self.spec.to_dict()} if with_spec else {}),
                "param_count": sum(p.numel() for p in self.parameters()),
                "decoding": decoding,
                "provenance": metadata["provenance"],
            },
        }


def _record_state_dict(model: CNN, keys: Any) -> None:
    """Records that weights were loaded from a state dict, of which nothing else is known.

    If some keys were missing, the other weights are those of before. Equal weights are not recorded.
    """
    before = model._checksum
    if before is not None and before == checksum_tensors([*model.parameters(), *model.buffers()]):
        return
    if keys.missing_keys:
        model.metadata = model._metadata.derive("state_dict")
    else:
        model.metadata = model._metadata.replace(provenance={"kind": "state_dict"})


def _versions(tensors: Sequence[torch.Tensor]) -> tuple[tuple[int, int], ...] | None:
    """Returns identity and version counter of tensors, which in-place operations increment; None without counters."""
    try:
        return tuple((id(tensor), tensor._version) for tensor in tensors)
    except RuntimeError:  # tensors created in inference mode have none
        return None


def _module_reprs(model: nn.Module) -> dict[str, str]:
    """Returns a dict from module names to class, settings (of modules without children) and shapes of own tensors."""
    reprs = {}
    for name, module in model.named_modules():
        text = type(module).__name__ if module._modules else repr(module).replace("\n", "")
        if isinstance(module, nn.SyncBatchNorm):
            text = text.replace("SyncBatchNorm", "BatchNorm2d", 1)
        tensors = {**module._parameters, **module._buffers}
        shapes = {key: tuple(tensor.shape) for key, tensor in tensors.items() if tensor is not None}
        reprs[name] = f"{text} {shapes}"
    return reprs


def _build_section(spec: Spec, section: str, shape: Shape) -> tuple[nn.Sequential, Shape]:
    built = build_blocks(getattr(spec, section), shape, section)
    modules = [module for one in built for module in one.modules]
    return nn.Sequential(*modules), built[-1].shape if built else shape


class _TooManyTrialsError(Exception):
    """A search for an image size that would take too long."""


class _Trials:
    """The number of blocks that a search for an image size may still build.

    Args:
        number: The number.
    """

    def __init__(self, number: float) -> None:
        self._left = number

    def accepts(self, spec: Spec, size: int) -> bool:
        """Returns whether a network can be built for images of size x size.

        Raises:
            _TooManyTrialsError: If the number is used up.
        """
        shape: Shape = (spec.input[0], size, size)
        try:
            for block in (*spec.features, *spec.classifier):
                shape = infer_shape(block, shape, self._count).shape  # memoized: most blocks are not built
        except _TooManyTrialsError:
            raise
        except Exception:  # a user's block may raise anything
            return False
        return True

    def _count(self, block: Block) -> None:
        self._left -= sum(1 for _ in nested_blocks(block))
        if self._left < 0:
            raise _TooManyTrialsError


def min_image_size(spec: Spec, above: int = 0, trials: _Trials | None = None) -> int | None:
    """Returns the side of the smallest square image, in px, that the network accepts; None if it accepts no size.

    Args:
        spec: The network.
        above: A size that is known to be too small.
        trials: The number of blocks that may be built; any by default.
    """
    trials = trials or _Trials(math.inf)
    small, large = above, max(above + 1, 32)  # most networks accept small images
    while not trials.accepts(spec, large):
        small, large = max(small, large), 2 * large
        if large > _MAX_IMAGE_SIZE:
            return None
    while large - small > 1:
        middle = (small + large) // 2
        small, large = (small, middle) if trials.accepts(spec, middle) else (middle, large)
    return large


def _larger_image_size(spec: Spec) -> int | None:
    """Returns the side of the smallest larger image that the network accepts.

    It is None if size is not the cause, or if the search would take too long.
    """
    side, trials = min(spec.input[1:]), _Trials(MAX_SIZE_TRIALS)
    try:
        if any(trials.accepts(spec, size) for size in range(max(1, side - 4), side + 1)):
            return None
        return min_image_size(spec, side, trials)
    except _TooManyTrialsError:
        return None


def build_network(spec: Spec, seed: int | None) -> CNN:
    """Builds a network on the default device, with initial weights drawn from ``seed`` or the global random state.

    Those of a seed are the same on every device, and the global random state is not read or changed.
    """
    device = torch.empty(0).device
    if seed is None or device.type == "meta":
        return CNN(spec)
    with torch.device("cpu"), OwnGenerator(seed):
        model = CNN(spec)
    return model.to(device)


def end_layer_names(model: nn.Module) -> tuple[str | None, str | None]:
    """Returns the names of the first convolution and of the last layer, which depend on channels and classes."""
    is_conv = {
        name: isinstance(m, nn.Conv2d) for name, m in model.named_modules() if isinstance(m, (nn.Conv2d, nn.Linear))
    }
    return next((name for name, conv in is_conv.items() if conv), None), next(reversed(is_conv), None)


def label_of(model: nn.Module, key: str) -> str:
    """Returns the full label of the block to which a state-dict key belongs."""
    module, labels = model, []
    for part in key.split(".")[:-1]:
        module = module.get_submodule(part)
        if label := getattr(module, "label", ""):
            labels.append(label)
    return "/".join(labels)
