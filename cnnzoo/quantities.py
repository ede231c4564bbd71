"""Quantities of a network that sources print figures about: parameters, MACs, connections, of all or some blocks."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING

from cnnzoo.errors import InputError
from cnnzoo.registry import get_entry, get_spec, list_models
from cnnzoo.spec import Spec
from cnnzoo.stored_counts import figure_name, key_of, stored_figures

if TYPE_CHECKING:
    from cnnzoo.network import CNN


def get_quantity(spec: Spec, quantity: str, patterns: Sequence[str] = ()) -> int:
    """Returns a quantity of a network, stored or computed.

    Args:
        spec: The network.
        quantity: ``"parameters"``, ``"weights"`` (without biases), ``"bytes"`` (in float32), ``"macs"``, ``"flops"``,
            ``"connections"``, ``"neurons"``, ``"inputs"`` (values of one image), ``"units"`` (neurons and inputs), or
            ``"min_image_size"``.
        patterns: Labels (with wildcards) of the blocks; empty for the whole network.
    """
    stored = stored_figures(spec).get(figure_name(quantity, patterns))
    return Quantities.of(spec).total(quantity, patterns) if stored is None else stored


def get_quantities(spec: Spec, *quantities: str) -> list[int]:
    """Returns several quantities of a whole network, see ``get_quantity``."""
    stored = stored_figures(spec)
    return [stored[quantity] if quantity in stored else Quantities.of(spec).total(quantity) for quantity in quantities]


def compute_figures() -> dict[str, dict[str, int]]:
    """Counts every registered network anew: its parameters, its MACs and what its published figures are about.

    Returns:
        Key of the Spec -> name of a figure -> its value (see ``cnnzoo.stored_counts``).
    """
    wanted: dict[Spec, dict[str, tuple[str, Sequence[str]]]] = {}

    def add(model: str, knobs: Mapping[str, int], quantity: str, patterns: Sequence[str] = ()) -> None:
        wanted.setdefault(get_spec(model, **knobs), {})[figure_name(quantity, patterns)] = (quantity, patterns)

    for model in list_models():
        add(model, {}, "parameters")
        add(model, {}, "macs")
        for published in filter(lambda published: published.quantity, get_entry(model).published):
            add(model, published.knobs, published.quantity, published.blocks)
            if published.relative_to:
                add(published.relative_to, {}, published.quantity)
    figures = {}
    for spec, names in wanted.items():
        quantities = Quantities(spec)
        figures[key_of(spec)] = {name: quantities.total(*arguments) for name, arguments in names.items()}
    return figures


class Quantities:
    """The quantities of a network, which is built and counted once, on first use."""

    def __init__(self, spec: Spec) -> None:
        self.spec = spec

    @staticmethod
    @lru_cache(maxsize=64)
    def of(spec: Spec) -> Quantities:
        """Returns the quantities of a network; the same for an equal Spec."""
        return Quantities(spec)

    @cached_property
    def model(self) -> CNN:
        """The network on the meta device."""
        import torch

        from cnnzoo.network import CNN

        with torch.device("meta"):
            return CNN(self.spec)

    @cached_property
    def counts(self) -> dict[str, dict[str, int]]:
        """The sums of each block, by label and column."""
        from cnnzoo.measure import count

        return count(self.model, (1, *self.spec.input)).by("label")

    def total(self, quantity: str, patterns: Sequence[str] = ()) -> int:
        """Returns the total of a quantity over the blocks whose labels match a pattern; over all without patterns."""
        from cnnzoo.image_sizes import min_image_size
        from cnnzoo.network import label_of

        if quantity == "inputs":
            return math.prod(self.spec.input)
        if quantity == "units":
            return self.total("neurons", patterns) + self.total("inputs")
        if quantity == "min_image_size":
            return min_image_size(self.spec) or 0
        values: dict[str, int] = {}
        if quantity in ("parameters", "weights", "bytes"):
            for key, parameter in self.model.named_parameters():
                label = label_of(self.model, key)
                if quantity != "weights" or not key.endswith("bias"):
                    values[label] = values.get(label, 0) + parameter.numel() * (4 if quantity == "bytes" else 1)
        elif quantity in ("macs", "flops", "connections", "neurons"):
            column, factor = ("macs", 2) if quantity == "flops" else (quantity, 1)
            values = {label: sums[column] * factor for label, sums in self.counts.items()}
        else:
            raise InputError(f"{self.spec.name}: unknown quantity {quantity!r}")
        labels = [label for label in values if not patterns or any(fnmatchcase(label, p) for p in patterns)]
        if not labels:
            raise InputError(f"{self.spec.name}: no block matches {patterns}")
        return sum(values[label] for label in labels)
