"""The one network class of the zoo, built from a Spec."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from os import PathLike
from pathlib import Path
from typing import Any

import torch
from torch import fx, nn

from cnnzoo.blocks import BlockError, Shape, build_blocks
from cnnzoo.blocks.build import infer_shape
from cnnzoo.edits import apply_knobs
from cnnzoo.errors import ChangedModuleError, InputError, SpecError
from cnnzoo.html_parts import facts, notebook_html
from cnnzoo.image_sizes import block_strides, larger_image_size
from cnnzoo.metadata import Metadata, checksum_tensors
from cnnzoo.random_state import OwnGenerator
from cnnzoo.replaced_layers import different_modules, spec_of_layers
from cnnzoo.spec import Spec
from cnnzoo.store import get_store

FORMAT_VERSION = 1  # of the description; readers reject versions that they do not know
_MAX_NAMES = 20  # classes that a notebook shows

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
            minimum = larger_image_size(spec)
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
        return self.forward_head(self.forward_features(x))

    def forward_features(self, x: torch.Tensor) -> torch.Tensor:
        """Returns the output of ``features`` for images (N, C, H, W): vectors (N, num_features), or maps (N, C, H, W).

        Raises:
            InputError: If the images have another number of channels.
        """
        name, (_, height, width), channels = self.spec.name, self.spec.input, self.in_channels
        return self.features(  # type: ignore[no-any-return]
            require_width(x, channels, name, (channels, height, width), "images")
        )

    def forward_head(self, x: torch.Tensor, pre_logits: bool = False) -> torch.Tensor:
        """Returns the class scores (N, num_classes) of the output of ``forward_features``.

        Args:
            x: What ``forward_features`` returns.
            pre_logits: Whether to return the input of the layer that scores classes instead, (N, C) or (N, C, H, W).

        Raises:
            InputError: If images of this size give another number of features.
        """
        if len(self._features_shape) == 1:
            x = require_width(x, self._features_shape[0], self.spec.name, self.spec.input, "features")
        if not pre_logits:
            return self.classifier(x)  # type: ignore[no-any-return]
        for module in list(self.classifier)[: self._scores_index()]:
            x = module(x)
        return x

    # --- the attributes of timm and Hugging Face ---

    @property
    def num_classes(self) -> int | None:
        """Number of classes; None if no layer scores classes."""
        layers = list(self.get_classifier().modules())
        sizes = (getattr(layer, "out_features", getattr(layer, "out_channels", None)) for layer in reversed(layers))
        return next((size for size in sizes if size is not None), self.spec.num_classes)

    @property
    def in_channels(self) -> int:
        """Number of channels of the images."""
        first = next(iter(self.features), None)
        return int(getattr(first, "in_channels", self.spec.input[0]))

    @property
    def num_features(self) -> int:
        """Number of features: values of a vector or maps that ``forward_features`` returns."""
        return self._features_shape[0]

    @property
    def feature_info(self) -> list[dict[str, Any]]:
        """The last block of each stride, as timm describes it: ``num_chs``, ``reduction`` (stride), ``module``.

        A fourth key, ``label``, is the label of the block, for ``cnnzoo.features`` and ``cnnzoo.backbone``.
        """
        modules = {str(getattr(child, "label", "")): name for name, child in self.features.named_children()}
        by_stride = {
            stride: {
                "num_chs": channels,
                "reduction": stride,
                "module": f"features.{modules.get(block.label)}",
                "label": block.label,
            }
            for block, channels, stride in block_strides(self.spec)
        }
        return list(by_stride.values())

    @property
    def pretrained_cfg(self) -> dict[str, Any]:
        """How images become the network's input, and its ends, in timm's words: ``input_size``, ``mean``, ..."""
        preprocessing = self.metadata.preprocessing
        config = {"input_size": list(self.spec.input)} if preprocessing is None else preprocessing.to_dict()
        config.pop("decoding", None)
        first_conv, last_layer = end_layer_names(self)
        return {**config, "num_classes": self.num_classes, "first_conv": first_conv, "classifier": last_layer}

    def get_classifier(self) -> nn.Module:
        """Returns the layer that scores classes; ``nn.Identity`` if there is none."""
        return self.classifier[self._scores_index()] if len(self.classifier) else nn.Identity()

    def reset_classifier(self, num_classes: int) -> None:
        """Replaces the layer that scores classes by a new one, with initial weights from torch's random state.

        The Spec changes with it, and the label of the block stays. Label names are removed, and the provenance of the
        network says that it was adapted.

        Args:
            num_classes: Number of classes.

        Raises:
            InputError: If it is not a positive integer, or no layer scores classes.
            SpecError: If the layer cannot score another number of classes.
            ChangedModuleError: If modules were changed by hand and differ from the Spec.
        """
        self._require_unchanged()
        layer = self.get_classifier()
        if self.spec.num_classes is None:
            raise InputError(f"{self.spec.name} has no block that scores classes; insert one, cnnzoo.blocks.Logits(10)")
        spec, metadata = apply_knobs(self.spec, num_classes=num_classes), self.metadata
        _on_meta(spec)  # raises SpecError if it cannot be built
        shape = self._features_shape
        for block, old in zip(spec.classifier, self.spec.classifier, strict=True):
            if block != old:
                with torch.device(next(layer.parameters()).device):
                    (built,) = build_blocks([block], shape, "classifier")
                places = [i for i, child in enumerate(self.classifier) if getattr(child, "label", "") == block.label]
                for place, module in zip(places, built.modules, strict=True):
                    self.classifier[place] = module.to(next(layer.parameters()).dtype).train(self.training)
            shape = infer_shape(block, shape).shape
        how = f"{end_layer_names(self)[1]} is new, for {num_classes} classes instead of {self.spec.num_classes}"
        self.spec = spec
        self.metadata = metadata.replace(label_names=None).derive("adapted", how=how)

    def _scores_index(self) -> int:
        """Returns the index in ``classifier`` of the layer that scores classes: the last with parameters or buffers."""
        indices = [i for i, child in enumerate(self.classifier) if child.state_dict() or [*child.buffers()]]
        return indices[-1] if indices else 0

    def save_pretrained(self, save_directory: str | PathLike[str], **options: Any) -> Path:
        """Saves the network as a folder, or as a file ``*.safetensors``: ``cnnzoo.save``, with its arguments."""
        return get_store().save(self, save_directory, **options)

    @classmethod
    def from_pretrained(cls, source: str | PathLike[str], **options: Any) -> CNN:
        """Returns the network of a folder, a file or a repository: ``cnnzoo.load``, with its arguments.

        Args:
            source: As for ``cnnzoo.load``; a repository also without ``hf://``: ``"user/repo"``.
            **options: Arguments of ``cnnzoo.load``.
        """
        model: CNN = get_store().load(source, **options)
        return model

    def push_to_hub(self, repo_id: str, *, commit_message: str | None = None, **options: Any) -> str:
        """Uploads the network to the Hub, and returns the commit: ``cnnzoo.push``, with its arguments."""
        return get_store().push(self, repo_id, message=commit_message, **options)

    # --- modules that were changed by hand ---

    def changed_modules(self) -> list[str]:
        """Returns the names of the modules that were changed by hand and differ from the Spec.

        If a Spec describes the network with these modules, such as one for other classes, it becomes the network's
        Spec, and nothing differs.
        """
        expected = _on_meta(self.spec)
        changed = different_modules(self, expected)
        if changed and (spec := spec_of_layers(self, expected, self.spec)) != self.spec:
            try:
                expected = _on_meta(spec)
            except SpecError:  # its blocks do not fit each other
                return changed
            if not different_modules(self, expected):
                self._follow(spec, expected)
                return []
        return changed

    def _follow(self, spec: Spec, expected: CNN) -> None:
        """Makes a Spec that describes the network its own; ``expected`` is the network of that Spec."""
        pairs = zip(spec.blocks(), self.spec.blocks(), strict=True)
        labels = [label for (label, block), (_, before) in pairs if block != before] or [spec.features[0].label]
        metadata = self.metadata.derive("adapted", how=f"replaced by hand: {', '.join(labels)}")
        if spec.num_classes != self.spec.num_classes:
            metadata = metadata.replace(label_names=None)
        if spec.input != self.spec.input:
            metadata = metadata.replace(preprocessing=None)
        self.spec, self._features_shape = spec, expected._features_shape
        self.metadata = metadata
        for name, module in expected.named_modules():
            if label := getattr(module, "label", ""):
                object.__setattr__(self.get_submodule(name), "label", label)

    def __str__(self) -> str:
        """Returns the table of blocks, as ``str(spec)``, and the names of modules that differ from it."""
        changed = self.changed_modules()
        return str(self.spec) + (f"\nchanged by hand: {', '.join(changed)}" if changed else "")

    def describe(self, *, with_spec: bool = True) -> dict[str, Any]:
        """Returns a description from which the network can be rebuilt.

        Top-level keys are those of timm and the Hugging Face Hub; the key ``cnnzoo`` has what only cnnzoo reads.

        Args:
            with_spec: False leaves out the Spec and the number of classes, which only apply to a network whose modules
                were not changed by hand; the network cannot be rebuilt then.

        Raises:
            ChangedModuleError: If modules were changed by hand, since the description would rebuild another network.
        """
        if with_spec:
            self._require_unchanged()
        channels, height, width = self.spec.input
        self._versions = None  # not even tensor.data may have changed the weights unnoticed
        metadata = self.metadata
        num_classes = self.spec.num_classes if with_spec else None
        return {
            "architecture": self.spec.name,
            "num_classes": num_classes,
            "in_channels": channels,
            "image_size": height if height == width else [height, width],
            "num_features": self._features_shape[0],
            "label_names": None if metadata.label_names is None else list(metadata.label_names),
            "pretrained_cfg": {**self.pretrained_cfg, "num_classes": num_classes},
            "cnnzoo": {
                **({"format_version": FORMAT_VERSION, "spec": self.spec.to_dict()} if with_spec else {}),
                "param_count": sum(p.numel() for p in self.parameters()),
                "decoding": None if metadata.preprocessing is None else metadata.preprocessing.decoding.to_dict(),
                "provenance": metadata.provenance,
            },
        }

    def _require_unchanged(self) -> None:
        """Raises ChangedModuleError if modules were changed by hand, and no Spec describes them."""
        if changed := self.changed_modules():
            raise ChangedModuleError(
                f"{self.spec.name}: these modules were changed by hand and differ from the Spec: "
                f"{', '.join(changed[:5])}; change the Spec (cnnzoo.edit, insert, remove, or a knob) and build the "
                "network again; remove weight_norm and spectral_norm with "
                "torch.nn.utils.parametrize.remove_parametrizations; or save the state dict with torch.save"
            )


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


def _build_section(spec: Spec, section: str, shape: Shape) -> tuple[nn.Sequential, Shape]:
    built = build_blocks(getattr(spec, section), shape, section)
    modules = [module for one in built for module in one.modules]
    return nn.Sequential(*modules), built[-1].shape if built else shape


def _on_meta(spec: Spec) -> CNN:
    with torch.device("meta"):
        return CNN(spec)


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
