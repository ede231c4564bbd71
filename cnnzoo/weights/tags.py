"""The tags of pretrained weights, ``create(name, pretrained=TAG)``, and the registry of their sources."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from importlib import import_module
from typing import TYPE_CHECKING, Any, TypeVar

from cnnzoo.errors import InputError, unknown
from cnnzoo.plugins import Registry
from cnnzoo.registry import is_model, list_models
from cnnzoo.spec import Spec
from cnnzoo.weights.shipped_files import shipped_file

if TYPE_CHECKING:
    from cnnzoo.network import CNN

SHIPPED = "shipped"  # the source of ``pretrained=True``


@dataclass(frozen=True)
class PretrainedWeights:
    """Weights that exist for a registered model.

    Attributes:
        model: The model.
        tag: What ``create(model, pretrained=tag)`` takes: the name of the source, alone or with ``.`` or ``/`` and the
            name of the weights there: ``"torchvision.IMAGENET1K_V2"``, ``"bvlc"``.
        description: What they are, in a phrase.
        load: Builds the network, with the weights and their metadata, for the classes and channels that they were
            trained for. Its arguments are the Spec, and a seed (or None) for weights that the source does not have.
        metrics: Name -> figure as the source publishes it: ``{"top1": 80.858}`` is accuracy in %.
        license: The license of the weights; None if it is not known.
        url: Where they are downloaded from; None if they need no download.
    """

    model: str
    tag: str
    description: str
    load: Callable[[Spec, int | None], CNN] = field(repr=False, compare=False)
    metrics: Mapping[str, float] = field(default_factory=dict)
    license: str | None = None
    url: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Returns the fields as plain values."""
        names = ("model", "tag", "description", "license", "url")
        return {**{name: getattr(self, name) for name in names}, "metrics": dict(self.metrics)}

    def __str__(self) -> str:
        facts = [f"{name} {value:g} %" for name, value in self.metrics.items()]
        facts += [f"license {self.license}"] if self.license else []
        return f"{self.model:<13} {self.tag:<41} {self.description}" + (f" ({', '.join(facts)})" if facts else "")


Source = Callable[[str], Sequence[PretrainedWeights]]  # name of a registered model -> its weights, the default first
SourceFunction = TypeVar("SourceFunction", bound=Source)


def _import_sources() -> None:
    import_module("cnnzoo.weights.pretrained")  # light: what needs torch is imported by the functions


SOURCES: Registry[Source] = Registry("source of pretrained weights", load_builtins=_import_sources)


def register_weights(function: SourceFunction) -> SourceFunction:
    """Registers a source of pretrained weights, under the name of the function.

    Use it as ``@register_weights`` above a function that takes the name of a registered model, and returns a list of
    ``PretrainedWeights``, the default first; an empty list for a model that it does not have.

    Raises:
        InputError: If the name is taken by another module.
    """
    SOURCES.register(function.__name__, function, function.__module__)
    return function


def list_pretrained(pattern: str = "*", tag: str = "*") -> list[PretrainedWeights]:
    """Returns the pretrained weights that are known for registered models, by model, each source's default first.

    Nothing is downloaded.

    Args:
        pattern: A wildcard for names of models, such as ``"res*"``.
        tag: A wildcard for tags, such as ``"torchvision*"``.
    """
    return [
        weights
        for name in list_models(pattern)
        for source in SOURCES.values()
        for weights in source(name)
        if fnmatchcase(weights.tag, tag)
    ]


def source_of(tag: str) -> str:
    """Returns the name of the source in a tag: ``"timm"`` of ``"timm/resnet18.a1_in1k"``."""
    return re.split("[./]", tag, maxsplit=1)[0]


def has_pretrained(name: str, pretrained: bool | str = True) -> bool:
    """Returns whether ``create(name, pretrained=...)`` has weights for a registered model.

    Args:
        name: The model.
        pretrained: True for weights that ship with cnnzoo, or a tag.

    Raises:
        InputError: If ``pretrained`` is neither.
        UnknownNameError: If there is no such source.
    """
    tag, source = _split_tag(pretrained)
    if source == SHIPPED:
        return shipped_file(name).is_file()  # without reading it
    return any(tag in (source, weights.tag) for weights in SOURCES[source](name))


def find_pretrained(name: str, pretrained: bool | str) -> PretrainedWeights:
    """Returns the weights that a tag names.

    Args:
        name: A registered model.
        pretrained: True for weights that ship with cnnzoo, or a tag; the name of a source alone is its default.

    Raises:
        InputError: If ``pretrained`` is neither, or the source has no weights of that model.
        UnknownNameError: If there is no such source, or it has weights of the model, but not those.
    """
    tag, source = _split_tag(pretrained)
    choices = SOURCES[source](name) if is_model(name) else ()
    if not choices:
        names = ", ".join(other for other in list_models() if SOURCES[source](other))
        tags: list[bool | str] = [True if weights.tag == SHIPPED else weights.tag for weights in list_pretrained(name)]
        raise InputError(
            f"there are no {source} weights of {name}, only of {names}. Pass a file, a folder or a repository to "
            f"create() instead, such as create('runs/{name}') or create('hf://user/{name}')"
            + (f", or pretrained={tags[0]!r}" if tags else "")
        )
    if tag == source:
        return choices[0]
    by_tag = {weights.tag: weights for weights in choices}
    if tag not in by_tag:
        raise unknown(f"pretrained weights of {name}", tag, by_tag)
    return by_tag[tag]


def _split_tag(pretrained: bool | str) -> tuple[str, str]:
    """Returns the tag that ``pretrained`` is or stands for, and the name of its source."""
    tag = SHIPPED if pretrained is True else pretrained
    if not isinstance(tag, str) or not tag:
        raise InputError(f"pretrained must be True or a tag, such as 'torchvision.IMAGENET1K_V1', not {pretrained!r}")
    source = re.split("[./]", tag, maxsplit=1)[0]
    if source not in SOURCES:
        raise unknown("source of pretrained weights", source, SOURCES)
    return tag, source
