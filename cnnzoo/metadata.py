"""What goes with the weights of a network: label names, preprocessing, provenance."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import nn

from cnnzoo.errors import ChangedModuleError, InputError, UnknownNameError
from cnnzoo.fields import Mismatch, check_fields, checked_field
from cnnzoo.limits import MAX_NAME_LENGTH
from cnnzoo.preprocessing import Preprocessing
from cnnzoo.text import is_printable

_MAX_NAMES = 12  # label names in an error message

Provenance = Mapping[str, Any]


def _check_label_names(value: Any) -> tuple[str, ...]:
    def is_valid(name: object) -> bool:
        return isinstance(name, str) and len(name) <= MAX_NAME_LENGTH and is_printable(name)

    if not isinstance(value, (list, tuple)) or not value or not all(map(is_valid, value)):
        raise Mismatch(f"a list of printable strings of at most {MAX_NAME_LENGTH} characters, one per class,")
    return tuple(value)


def _check_preprocessing(value: Any) -> Preprocessing:
    if not isinstance(value, Preprocessing):
        raise Mismatch("a Preprocessing")
    return value


def _check_provenance(value: Any) -> dict[str, Any]:
    if not isinstance(value, Mapping) or not isinstance(value.get("kind"), str):
        raise Mismatch("a mapping with the key 'kind'")
    return dict(value)


@dataclass(frozen=True)
class Metadata:
    """What goes with the weights of a network, so that they can be used alone; frozen, JSON both ways.

    Attributes:
        label_names: Name of each class, in the order of the scores; None if they are not known.
        preprocessing: How an image becomes the network's input; None if it is not known.
        provenance: Where the weights come from; None if it is not known. Its ``"kind"`` is ``"random"``, ``"trained"``
            (by ``cnnzoo.Trainer``, with config, data and metrics), ``"state_dict"`` (loaded by ``load_state_dict``; if
            not all, the others are those of ``"from"``), ``"torchvision"``, ``"adapted"`` (for other classes or
            channels), ``"changed"`` (since, by something
            that recorded no provenance, such as a training loop of your own), or a word of your own; ``"from"`` is
            the provenance before.

    Raises:
        InputError: If a field does not take its value.
    """

    label_names: tuple[str, ...] | None = checked_field(
        None, _check_label_names, optional=True, help="name of each class"
    )
    preprocessing: Preprocessing | None = checked_field(
        None, _check_preprocessing, optional=True, help="how an image becomes the network's input"
    )
    provenance: Provenance | None = checked_field(
        None, _check_provenance, optional=True, help="where the weights come from"
    )

    def __post_init__(self) -> None:
        check_fields(self, InputError)

    def __hash__(self) -> int:
        return hash((self.label_names, self.preprocessing))  # a mapping has no hash

    def replace(self, **changes: Any) -> Metadata:
        """Returns these metadata with other values."""
        return dataclasses.replace(self, **changes)

    def origins(self) -> Iterator[Provenance]:
        """Yields the provenance, and each one before it."""
        provenance = self.provenance
        while isinstance(provenance, Mapping):
            yield provenance
            provenance = provenance.get("from")

    def origin_texts(self) -> list[str]:
        """Returns where the weights come from in words, the latest first: ``"trained on mnist"``."""
        return [
            f"trained on {origin.get('data')}"
            if origin.get("kind") == "trained"
            else "new"
            if origin.get("kind") == "random"
            else str(origin.get("kind"))
            for origin in self.origins()
        ]

    def derive(self, kind: str, **details: Any) -> Metadata:
        """Returns these metadata with a new provenance, whose ``"from"`` is the present one."""
        return self.replace(provenance={"kind": kind, **details, "from": self.provenance})

    def to_dict(self) -> dict[str, Any]:
        """Returns the metadata as plain values."""
        return {
            "label_names": None if self.label_names is None else list(self.label_names),
            "preprocessing": None if self.preprocessing is None else self.preprocessing.to_dict(),
            "provenance": self.provenance,
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Metadata:
        """Returns the metadata that ``to_dict`` describes.

        Raises:
            InputError: If a value is not valid.
            UnknownNameError: If a name in the preprocessing is not known.
        """
        preprocessing = data.get("preprocessing")
        if preprocessing is not None and not isinstance(preprocessing, Mapping):
            raise InputError(f"preprocessing must be an object, not {preprocessing!r}")
        return cls(
            data.get("label_names"),
            None if preprocessing is None else Preprocessing.from_dict(preprocessing),
            data.get("provenance"),
        )


class DescribedModule(Protocol):
    """The interface that training, evaluation and reports use besides ``nn.Module``; a module may lack it.

    Attributes:
        metadata: What goes with the weights.
    """

    metadata: Metadata

    def describe(self) -> dict[str, Any]:
        """Returns the content of config.json: ``architecture``, ``num_classes``, ``pretrained_cfg``, ...

        Raises:
            ChangedModuleError: If it does not apply since modules were changed by hand; ``with_spec=False`` then
                returns what still applies, and ``changed_modules()`` their names.
        """


def describe(model: nn.Module) -> dict[str, Any]:
    """Returns the description of a ``DescribedModule``; of any other module, its class name as ``architecture``.

    A network whose modules were changed by hand is described without its Spec.
    """
    method: Any = getattr(model, "describe", None)
    if not callable(method):
        return {"architecture": type(model).__name__}
    try:
        return dict(method())
    except ChangedModuleError:
        return dict(method(with_spec=False))


def get_metadata(model: nn.Module) -> Metadata:
    """Returns the metadata of a ``DescribedModule``; empty for any other module."""
    metadata = getattr(model, "metadata", None)
    return metadata if isinstance(metadata, Metadata) else Metadata()


def set_metadata(model: nn.Module, metadata: Metadata) -> None:
    """Replaces the metadata of a ``DescribedModule``; any other module is not changed."""
    if isinstance(getattr(model, "metadata", None), Metadata):
        setattr(model, "metadata", metadata)  # noqa: B010  # nn.Module declares no such attribute


def require_preprocessing(model: nn.Module, name: str, preprocessing: Preprocessing | None = None) -> Preprocessing:
    """Returns the preprocessing of a module.

    Args:
        model: Any module.
        name: Its name in the error.
        preprocessing: The preprocessing to use instead of its own.

    Raises:
        InputError: If there is none, or ``preprocessing`` is something else.
    """
    if preprocessing is not None and not isinstance(preprocessing, Preprocessing):
        raise InputError(f"preprocessing must be a cnnzoo.Preprocessing, not {type(preprocessing).__name__}")
    result = preprocessing or get_metadata(model).preprocessing
    if result is None:
        raise InputError(
            f"{name} has no preprocessing: how an image becomes its input is not known. Train it, load trained "
            "weights, or pass preprocessing=cnnzoo.Preprocessing(size, mean, std), such as "
            "Preprocessing(28, mean=[0.5], std=[0.25])"
        )
    return result


def match_labels(name: str, label_names: Sequence[str], classes: Sequence[str], data_name: str) -> torch.Tensor | None:
    """Returns the class of a network that each class of a data set is, by name; None if the lists are equal.

    Args:
        name: Name of the network, for the error.
        label_names: Names of its classes, in the order of its scores.
        classes: Names of the classes of the data: the same in any order, or some of them.
        data_name: Name of the data, for the error.

    Returns:
        int64 (len(classes),), indices in ``label_names``.

    Raises:
        UnknownNameError: If a class of the data is not among ``label_names``, or is there more than once.
    """
    if tuple(label_names) == tuple(classes):
        return None
    missing = [label for label in classes if list(label_names).count(label) != 1]
    if missing:
        raise UnknownNameError(
            f"{data_name} has classes that {name} does not know: {_listed(missing)}. {name} has "
            f"{_listed(label_names)}; {data_name} has {_listed(classes)}. Classes are matched by name: rename those of "
            "the data, or set model.metadata = model.metadata.replace(label_names=[...])"
        )
    return torch.tensor([list(label_names).index(label) for label in classes])


def _listed(names: Sequence[str]) -> str:
    """Returns names as text: those at the beginning, and the number of the others."""
    text = ", ".join(name[:60] for name in names[:_MAX_NAMES])
    return text if len(names) <= _MAX_NAMES else f"{text} and {len(names) - _MAX_NAMES:,} more"


def checksum_tensors(tensors: Sequence[torch.Tensor]) -> tuple[object, ...] | None:
    """Returns a checksum of the values of tensors, to notice that they changed; None where it cannot be computed.

    It is the sum of the bits of each tensor, which takes a tenth of the time of a cryptographic one; device and memory
    format do not matter.

    Args:
        tensors: Parameters or buffers.
    """
    if any(type(tensor) not in (torch.Tensor, nn.Parameter) or tensor.is_meta for tensor in tensors):
        return None  # no values, or those of another process
    return tuple((str(tensor.dtype), *tensor.shape, *_sum_bits(tensor.detach())) for tensor in tensors)


def _sum_bits(tensor: torch.Tensor) -> tuple[int, int]:
    if not tensor.numel():
        return 0, 0
    octets = tensor.contiguous().reshape(-1).view(torch.uint8)
    if octets.storage_offset() % 8:  # a view of a buffer with others
        octets = octets.clone()
    whole = len(octets) // 8 * 8
    words = octets[:whole].view(torch.int64)  # sums of int64 wrap around, and need no copy in a wider type
    return int(words.sum()), int(octets[whole:].sum())
