"""A network whose layers can be read, and the image that is explained."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import Any

import torch
from torch import nn

from cnnzoo.backbone import labeled_modules
from cnnzoo.errors import InputError, unknown
from cnnzoo.explain.results import Attribution
from cnnzoo.metadata import get_metadata, require_preprocessing
from cnnzoo.module_copy import copy_module, in_eval_mode
from cnnzoo.modules import explain_forward_error, require_weights, unwrap
from cnnzoo.network import label_of
from cnnzoo.preprocessing import Image, Preprocessing


class Network:
    """A network in eval mode whose layers can be read: a copy of a module that shares its tensors.

    Args:
        model: Any module that returns class scores; it stays as it is.
        name: Its name in messages and titles.

    Attributes:
        name: The name.
        module: The copy.
        layers: Name of the module of each layer, in the order of definition: of a network of the zoo by label of the
            block, of any other module by the module's own name.
    """

    def __init__(self, model: nn.Module, name: str) -> None:
        require_weights(model, name)
        self.name = name
        inner = unwrap(model)
        self._label_names = get_metadata(inner).label_names
        is_inference = any(tensor.is_inference() for tensor in (*inner.parameters(), *inner.buffers()))
        self.module = copy_module(in_eval_mode(inner), _without_inference_mode if is_inference else None)
        self.layers = labeled_modules(self.module) or {
            name: name for name, _ in self.module.named_modules() if name and not _is_container(self.module, name)
        }

    def module_name(self, layer: str) -> str:
        """Returns the name of the module that a layer's name denotes: a label, or the module's own name.

        Raises:
            UnknownNameError: If there is no such layer.
        """
        if layer in self.layers:
            return self.layers[layer]
        if not isinstance(layer, str) or not layer or layer not in dict(self.module.named_modules()):
            raise unknown("layer", layer, self.layers)
        return layer

    def label_of(self, module_name: str) -> str:
        """Returns the label of the block that a module belongs to, or the module's name."""
        return label_of(self.module, f"{module_name}.") or module_name

    def run(self, x: torch.Tensor, layers: Iterable[str] = ()) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """Returns the class scores of images, and the outputs of layers.

        Args:
            x: (N, C, H, W).
            layers: Names of layers that run once.

        Returns:
            (N, classes), and a dict from layers to outputs, which later in-place operations do not change.

        Raises:
            UnknownNameError: If there is no such layer.
            InputError: If a layer does not run once, or does not return a tensor, or the scores are none.
        """
        names = {layer: self.module_name(layer) for layer in layers}
        scores, calls = self.run_all(x, names.values())
        outs = {}
        for layer, name in names.items():
            found = [out for called, out in calls if called == name]
            if len(found) != 1:
                raise InputError(
                    f"layer {layer!r} of {self.name} runs {len(found)} times, or returns no tensor; name a layer that "
                    "runs once and returns one"
                )
            outs[layer] = found[0]
        return scores, outs

    def run_all(
        self, x: torch.Tensor, module_names: Iterable[str]
    ) -> tuple[torch.Tensor, list[tuple[str, torch.Tensor]]]:
        """Returns the class scores of images, and the output of each call of some modules, in order of their ends."""
        calls: list[tuple[str, torch.Tensor]] = []
        handles = []
        for name in dict.fromkeys(module_names):

            def record(module: nn.Module, args: Any, out: Any, name: str = name) -> Any:
                if not isinstance(out, torch.Tensor):
                    return None
                calls.append((name, out))
                return out.clone()  # which the next module may overwrite

            handles.append(self.module.get_submodule(name).register_forward_hook(record))
        try:
            with explain_forward_error(self.name, x):
                scores = self.module(x.clone())  # the first module may overwrite it
        finally:
            for handle in handles:
                handle.remove()
        if not isinstance(scores, torch.Tensor) or scores.dim() != 2:
            text = tuple(scores.shape) if isinstance(scores, torch.Tensor) else type(scores).__name__
            raise InputError(f"{self.name} must return class scores (N, classes), not {text}")
        return scores, calls

    def classes(self, n: int) -> Sequence[str]:
        """Returns the names of n classes; their numbers if the network has no names.

        Raises:
            InputError: If the network has names of another number of classes.
        """
        if self._label_names is None:
            return [str(i) for i in range(n)]
        if len(self._label_names) != n:
            raise InputError(
                f"{self.name} returns {n} scores, and its metadata has {len(self._label_names)} label_names"
            )
        return self._label_names


class Subject:
    """What a method of ``cnnzoo.explain`` explains: a network, and an image as it sees it.

    Args:
        model: Any module that returns class scores; it stays as it is.
        image: A path, a PIL image or uint8 (C, H, W); None for methods without an image.
        name: Name of the network.
        preprocessing: How the image becomes the network's input; by default that of the network's metadata.

    Attributes:
        network: The network, in eval mode.
    """

    def __init__(
        self, model: nn.Module, image: Image | None, *, name: str, preprocessing: Preprocessing | None = None
    ) -> None:
        self.network = Network(model, name)
        self._image = image
        # without an image none is needed
        self._preprocessing = None if image is None else require_preprocessing(unwrap(model), name, preprocessing)

    # --- the image ---

    @cached_property
    def image(self) -> torch.Tensor:
        """The image as the network sees it, before it is normalized: uint8 (C, H, W)."""
        if self._image is None or self._preprocessing is None:
            raise InputError("this method explains an image: pass cnnzoo.explain(model, image, method=...)")
        return self._preprocessing.crop([self._image])[0].cpu()

    @cached_property
    def x(self) -> torch.Tensor:
        """The input of the network, (1, C, H, W)."""
        image = self.image
        assert self._preprocessing is not None
        parameter = next(self.network.module.parameters(), torch.zeros(()))  # for device and dtype
        return self._preprocessing.normalize(image[None]).to(parameter)

    # --- classes ---

    @cached_property
    def probabilities(self) -> torch.Tensor:
        """The probability of each class, float32 (classes,)."""
        with torch.no_grad():
            return self.network.run(self.x)[0][0].float().softmax(dim=0).cpu()

    @property
    def classes(self) -> Sequence[str]:
        """Name of each class; its number if the network has no names."""
        return self.network.classes(len(self.probabilities))

    def class_index(self, label: str | int | None) -> int:
        """Returns the index of a class.

        Args:
            label: Name or index of the class; None for the most probable one.

        Raises:
            UnknownNameError: If there is no such class.
        """
        if label is None:
            return int(self.probabilities.argmax())
        names = list(self.classes)
        if label in names:
            return names.index(str(label))
        number = int(label) if isinstance(label, str) and label.isdecimal() else label  # of the shell
        if type(number) is int and 0 <= number < len(names):
            return number
        raise unknown("class", label, names)

    # --- what methods compute ---

    def gradient(self, index: int) -> torch.Tensor:
        """Returns the gradient of the score of a class with respect to the input, (C, H, W)."""
        x = self.x.detach().requires_grad_()
        scores, _ = self.network.run(x)
        return gradient_of(scores[0, index], x, "the image", self.network.name)[0]

    def last_maps(self) -> str:
        """Returns the name of the layer with the last feature maps larger than 1x1.

        Raises:
            InputError: If there is none.
        """
        layers = {name: layer for layer, name in self.network.layers.items()}
        with torch.no_grad():
            _, calls = self.network.run_all(self.x, layers)
        maps = [layers[name] for name, out in calls if out.dim() == 4 and out.shape[2:].numel() > 1]
        if not maps:
            raise InputError(f"{self.network.name} has no feature maps larger than 1x1; name another layer=")
        return maps[-1]

    def attribution(
        self, method: str, values: torch.Tensor, index: int, *, quantity: str, layer: str | None = None
    ) -> Attribution:
        """Returns an explanation that gives a value to each pixel.

        Args:
            method: Name of the method.
            values: (C, H, W), or (h, w), which may be smaller than the image.
            index: Index of the class that it explains.
            quantity: What the values are, for the color bar.
            layer: The layer that they come from.
        """
        return Attribution(
            name=self.network.name,
            image=self.image,
            label=self.classes[index],
            probability=float(self.probabilities[index]),
            method=method,
            values=values.detach().float().cpu(),
            quantity=quantity,
            layer=layer,
        )


def gradient_of(value: torch.Tensor, wrt: torch.Tensor, what: str, name: str) -> torch.Tensor:
    """Returns the gradient of a scalar.

    Args:
        value: The scalar.
        wrt: The tensor with respect to which it is taken.
        what: The name of that tensor in the error.
        name: Name of the network in the error.

    Raises:
        InputError: If the scalar does not depend on the tensor in a way that autograd knows.
    """
    gradient = torch.autograd.grad(value, wrt, allow_unused=True)[0] if value.requires_grad else None
    if gradient is None:
        raise InputError(
            f"the score of {name} has no gradient with respect to {what}: it does not depend on it, or the forward "
            "detaches (no_grad, detach, integers)"
        )
    return gradient


def _without_inference_mode(tensor: torch.Tensor) -> torch.Tensor:
    """Returns a tensor that autograd can use: tensors created in inference mode are copied."""
    if not tensor.is_inference():
        return tensor
    with torch.inference_mode(False):
        copied = tensor.clone()
    return nn.Parameter(copied, requires_grad=False) if isinstance(tensor, nn.Parameter) else copied


def _is_container(model: nn.Module, name: str) -> bool:
    """Returns whether a module only holds others, and is never called."""
    return isinstance(model.get_submodule(name), (nn.ModuleList, nn.ModuleDict))
