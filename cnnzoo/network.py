"""The one network class of the zoo, built from a Spec."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import fx, nn

from cnnzoo.blocks import BlockError, Shape, build_blocks
from cnnzoo.errors import InputError, SpecError, unknown
from cnnzoo.spec import Spec

FORMAT_VERSION = 1  # of what ``describe`` says; a reader refuses one that it does not know
_LARGEST_TRIED = 4096  # px; no classic needs larger images
CROP_MODES = {"resize": "squash", "crop": "center", "pad": "border"}  # how images are made to fit: ours, timm's words
_MAX_ROWS_TRIED = 1000  # each size that is tried builds them all: a file that claims more would hold its reader up


def _expect_width(x: torch.Tensor, width: int, name: str, input_: Shape, where: str) -> torch.Tensor:
    """Returns x, (N, width, ...), or says what does not fit: images of other channels, or of another size."""
    channels, height, side = input_
    if where == "images" and x.dim() != 4:
        raise InputError(
            f"{name} takes images of shape (N, {channels}, {height}, {side}), not {tuple(x.shape)}; "
            "for one image add the batch with x.unsqueeze(0)"
        )
    if x.shape[1] != width:
        if where == "images":
            raise InputError(
                f"{name} takes images of {width} channel{'s' * (width > 1)}, (N, {channels}, {height}, {side}), "
                f"not {tuple(x.shape)}; build it with in_channels={x.shape[1]}"
            )
        raise InputError(
            f"{name} was built for images of {height}x{side} px ({width} features), and these give {x.shape[1]} "
            "features; resize the images, or build it with their image_size"
        )
    return x


fx.wrap("_expect_width")  # one node for tracers: its tests are of the images, not part of the network


class CNN(nn.Module):
    """A network built from a Spec, on torch's current default device and dtype.

    Rows build flat into two ``nn.Sequential``, so that state-dict keys are ``features.0.weight``,
    ``classifier.1.weight``, ...

    Attributes:
        spec: What the network was built from.
        features: The modules that make features of images.
        classifier: The modules that make class scores of features.
        notes: What else is known of this network and goes into its files: ``label_names``, ``mean``, ``std``,
            ``fit`` (how images are made to fit), ``crop_pct`` (share of the shorter side that its images show),
            ``provenance``.

    Raises:
        SpecError: If the rows do not fit each other, or the images are too small.
    """

    def __init__(self, spec: Spec) -> None:
        super().__init__()
        self.spec = spec
        self.notes: dict[str, Any] = {"provenance": {"kind": "random"}}
        try:
            self.features, self._features_shape = _sequential(spec, "features", spec.input)
            self.classifier, _ = _sequential(spec, "classifier", self._features_shape)
        except BlockError as problem:
            least = _missing_size(spec)
            if least is None:  # no size would do: the rows do not fit each other
                raise SpecError(f"{spec.name}: {problem}") from None
            raise SpecError(f"{problem.block}; {spec.name} needs images of at least {least} px") from None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Class scores (N, classes) of images (N, C, H, W)."""
        name, input_ = self.spec.name, self.spec.input
        x = self.features(_expect_width(x, input_[0], name, input_, "images"))
        if len(self._features_shape) == 1:
            x = _expect_width(x, self._features_shape[0], name, input_, "features")
        return self.classifier(x)  # type: ignore[no-any-return]

    def _require_unchanged(self) -> None:
        with torch.device("meta"):
            planned = _plan(CNN(self.spec))
        found = _plan(self)
        changed = [name for name in {**planned, **found} if planned.get(name) != found.get(name)]
        if changed:
            raise InputError(
                f"{self.spec.name}: modules were changed by hand ({', '.join(changed[:5])}), which its Spec does not "
                "tell; change the Spec (cnnzoo.edit, insert, remove, or a knob) and build it anew, or save the state "
                "dict by other means"
            )

    def describe(self) -> dict[str, Any]:
        """What a file must say of this network so that another process can build it again.

        The words at top level are those of the field (timm's, the Hub's); what only cnnzoo reads stands
        under ``cnnzoo``.

        Raises:
            InputError: If modules were changed by hand: a file would rebuild another network than this.
        """
        self._require_unchanged()
        channels, height, width = self.spec.input
        first, last = ends(self)
        return {
            "architecture": self.spec.name,
            "num_classes": self.spec.num_classes,
            "in_channels": channels,
            "image_size": height if height == width else [height, width],
            "num_features": self._features_shape[0],
            "label_names": self.notes.get("label_names"),
            "pretrained_cfg": {
                "input_size": list(self.spec.input),
                "mean": self.notes.get("mean"),
                "std": self.notes.get("std"),
                **({"crop_mode": CROP_MODES[self.notes["crop_mode"]]} if "fit" in self.notes else {}),
                **({"crop_pct": self.notes["crop_pct"]} if "crop_pct" in self.notes else {}),
                "num_classes": self.spec.num_classes,
                "first_conv": first,
                "classifier": last,
            },
            "cnnzoo": {
                "format_version": FORMAT_VERSION,
                "spec": self.spec.to_dict(),
                "param_count": sum(p.numel() for p in self.parameters()),
                "provenance": self.notes.get("provenance"),
            },
        }


def _plan(model: nn.Module) -> dict[str, str]:
    """Name -> kind of every module, with its settings where it has no modules inside."""
    return {
        name: type(module).__name__ if module._modules else repr(module).replace("\n", "")
        for name, module in model.named_modules()
    }


def _sequential(spec: Spec, section: str, shape: Shape) -> tuple[nn.Sequential, Shape]:
    links = build_blocks(getattr(spec, section), shape, section)
    modules = [module for link in links for module in link.modules]
    return nn.Sequential(*modules), links[-1].shape if links else shape


def _size_fits(spec: Spec, size: int) -> bool:
    """Whether the network can be built for images of size x size."""
    try:
        with torch.device("meta"):
            _, shape = _sequential(spec, "features", (spec.input[0], size, size))
            _sequential(spec, "classifier", shape)
    except BlockError:
        return False
    return True


def min_image_size(spec: Spec, above: int = 0) -> int | None:
    """The smallest square image, in px, that the network can be built for; None where no size would do.

    Args:
        spec: The network.
        above: A size that is known to be too small.
    """
    small, large = above, max(spec.input[1:])
    if small >= large or not _size_fits(spec, large):
        large = _LARGEST_TRIED
        if small >= large or not _size_fits(spec, large):
            return None
    while large - small > 1:
        middle = (small + large) // 2
        small, large = (small, middle) if _size_fits(spec, middle) else (middle, large)
    return large


def _missing_size(spec: Spec) -> int | None:
    """The smallest larger image that would do; None where size is not the matter: a slightly smaller one does."""
    if sum(1 for _ in spec.blocks()) > _MAX_ROWS_TRIED:
        return None
    side = min(spec.input[1:])
    if any(_size_fits(spec, size) for size in range(max(1, side - 4), side)):
        return None
    return min_image_size(spec, above=side)


def features(model: nn.Module, labels: str | Sequence[str], x: torch.Tensor) -> dict[str, torch.Tensor]:
    """The activations of some rows, by label: what leaves each row for the images ``x``.

    Args:
        model: A network of the zoo (any module whose submodules carry a ``label``).
        labels: Labels of rows, such as ``["conv1", "pool5"]``, or one; inside a Parallel ``"inception3a/conv2"``.
        x: Images (N, C, H, W).

    Returns:
        label -> activations, in the order of ``labels``. Gradients flow as in a plain call.

    Raises:
        UnknownNameError: If no row has one of the labels.
    """
    labels = [labels] if isinstance(labels, str) else labels
    last = labeled_modules(model)
    for label in labels:
        if label not in last:
            raise unknown("row", label, last)
    found: dict[str, torch.Tensor] = {}
    hooks = [
        last[label].register_forward_hook(lambda module, args, out, label=label: found.__setitem__(label, out))
        for label in labels
    ]
    try:
        model(x)
    finally:
        for hook in hooks:
            hook.remove()
    return {label: found[label] for label in labels}


def labeled_modules(model: nn.Module) -> dict[str, nn.Module]:
    """Full label -> the last module of that row."""
    found: dict[str, nn.Module] = {}

    def walk(module: nn.Module, prefix: str) -> None:
        for child in module.children():
            label = getattr(child, "label", None)
            path = prefix if label is None else f"{prefix}{label}"
            if label is not None:
                found[path] = child
            walk(child, path if label is None else f"{path}/")

    walk(model, "")
    return found


def build_network(spec: Spec, seed: int | None) -> CNN:
    """A network with initial weights drawn from ``seed``, leaving the caller's random state as it was."""
    if seed is None:
        return CNN(spec)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        return CNN(spec)


def ends(model: nn.Module) -> tuple[str | None, str | None]:
    """Names of the first convolution and of the last layer with weights: what channels and classes decide."""
    convs = {
        name: isinstance(m, nn.Conv2d) for name, m in model.named_modules() if isinstance(m, (nn.Conv2d, nn.Linear))
    }
    return next((name for name, conv in convs.items() if conv), None), next(reversed(convs), None)


def label_of(model: nn.Module, key: str) -> str:
    """The full label of the row that a parameter or buffer belongs to, by its state-dict key."""
    module, labels = model, []
    for part in key.split(".")[:-1]:
        module = module.get_submodule(part)
        if label := getattr(module, "label", ""):
            labels.append(label)
    return "/".join(labels)
