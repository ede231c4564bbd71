"""Published figures recomputed: each with our exact value and a verdict."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cached_property
from typing import Any

import torch

from cnnzoo.measure import count
from cnnzoo.measure.tables import Printable, Table
from cnnzoo.network import CNN, label_of, min_image_size
from cnnzoo.published import Deviation, Published
from cnnzoo.registry import get_entry, get_spec, list_models
from cnnzoo.spec import Spec

AGREES, CONTRADICTS, NOT_RECOMPUTABLE = "agrees", "contradicts", "not recomputable"


@dataclass(frozen=True)
class Finding:
    """One published figure and what became of it.

    Attributes:
        model: The registered name.
        published: The figure as its source prints it.
        exact: Our exact value (a ratio is a real number); None where it cannot be computed here.
    """

    model: str
    published: Published
    exact: float | None

    @property
    def verdict(self) -> str:
        """``"agrees"`` (to the printed digits), ``"contradicts"`` or ``"not recomputable"``."""
        if self.exact is None:
            return NOT_RECOMPUTABLE
        return AGREES if self.published.agrees(self.exact) else CONTRADICTS


@dataclass(frozen=True)
class Audit(Printable):
    """Published figures beside recomputed ones, and where the networks depart from their sources on purpose.

    Attributes:
        findings: One per published figure.
        deviations: (registered name, where it departs from its source), in order.
    """

    findings: Sequence[Finding]
    deviations: Sequence[tuple[str, Deviation]] = ()

    @property
    def unexplained(self) -> list[Finding]:
        """The findings that contradict their source and have no reason beside them."""
        return [f for f in self.findings if f.verdict == CONTRADICTS and not f.published.note]

    def tables(self) -> Sequence[Table]:
        """A table of figures for each network and source, and a table of deviations for each network."""
        figures: dict[tuple[str, str], list[Finding]] = {}
        for finding in self.findings:
            figures.setdefault((finding.model, finding.published.source), []).append(finding)
        departures: dict[str, list[Deviation]] = {}
        for model, deviation in self.deviations:
            departures.setdefault(model, []).append(deviation)
        return [
            *(
                Table(
                    title=f"{model}: what is printed in {source}",
                    headers=("figure", "printed", "exact", "verdict", "reading or reason"),
                    rows=[(f.published.what, f.published.printed, f.exact, f.verdict, f.published.note) for f in found],
                )
                for (model, source), found in figures.items()
            ),
            *(
                Table(
                    title=f"{model}: where it departs from its source",
                    headers=("rows", "source", "ours", "reason"),
                    rows=[(d.blocks, d.source, d.ours, d.reason) for d in found],
                )
                for model, found in departures.items()
            ),
        ]

    def __str__(self) -> str:
        return super().__str__() or "nothing is published of these networks"

    def to_json(self) -> str:
        """Findings and deviations as JSON."""
        figures: list[dict[str, Any]] = [
            {
                "model": f.model,
                "what": f.published.what,
                "printed": f.published.printed,
                "source": f.published.source,
                "exact": f.exact,
                "verdict": f.verdict,
                "note": f.published.note,
            }
            for f in self.findings
        ]
        deviations = [{"model": model, **dataclasses.asdict(deviation)} for model, deviation in self.deviations]
        return json.dumps({"published": figures, "deviations": deviations}, indent=2)


def verify(name: str | None = None) -> Audit:
    """Recomputes the published figures of a model, or of all, and tells where it departs from its sources.

    Args:
        name: A registered name; None takes every model.

    Raises:
        UnknownNameError: If no model has that name.
    """
    names = list_models() if name is None else [name]
    known: dict[Spec, _Computed] = {}

    def computed(model: str, setting: Mapping[str, int]) -> _Computed:
        spec = get_spec(model, **setting)
        return known.setdefault(spec, _Computed(spec))

    def exact(model: str, published: Published) -> float | None:
        if not published.quantity:
            return None
        value = computed(model, published.setting).total(published.quantity, published.blocks)
        if not published.against:
            return value
        return value / computed(published.against, {}).total(published.quantity)

    return Audit(
        [Finding(n, p, exact(n, p)) for n in names for p in get_entry(n).published],
        [(n, deviation) for n in names for deviation in get_entry(n).deviations],
    )


class _Computed:
    """A network, and what can be computed of it, each once."""

    def __init__(self, spec: Spec) -> None:
        self.spec = spec

    @cached_property
    def model(self) -> CNN:
        with torch.device("meta"):
            return CNN(self.spec)

    @cached_property
    def counted(self) -> dict[str, dict[str, int]]:
        return count(self.model, (1, *self.spec.input)).by("label")

    def total(self, quantity: str, rows: Sequence[str] = ()) -> int:
        """A quantity of some rows (of all, where none are given)."""
        if quantity == "inputs":
            return math.prod(self.spec.input)
        if quantity == "min_image_size":
            return min_image_size(self.spec) or 0
        values: dict[str, int] = {}
        if quantity in ("parameters", "weights", "bytes"):
            for key, parameter in self.model.named_parameters():
                label = label_of(self.model, key)
                if quantity != "weights" or not key.endswith("bias"):
                    values[label] = values.get(label, 0) + parameter.numel() * (4 if quantity == "bytes" else 1)
        elif quantity in ("macs", "flops", "connections", "neurons"):
            column, times = ("macs", 2) if quantity == "flops" else (quantity, 1)
            values = {label: sums[column] * times for label, sums in self.counted.items()}
        else:
            raise ValueError(f"{self.spec.name}: no way is known to compute {quantity!r}")
        chosen = [label for label in values if not rows or any(fnmatchcase(label, pattern) for pattern in rows)]
        if not chosen:
            raise ValueError(f"{self.spec.name}: no row matches {rows}")
        return sum(values[label] for label in chosen)


def claims(names: Sequence[str]) -> list[str]:
    """What one source prints about all of these models, and what holds of it: lines of text.

    Args:
        names: Registered names, in the order in which they are compared.
    """
    audits = [verify(name).findings for name in names]
    first, *others = [{(f.published.source, f.published.what): f for f in fs if f.published.headline} for fs in audits]
    lines: list[str] = []
    source_before = None
    for key, finding in first.items():
        if not all(key in other for other in others):
            continue
        source, what = key
        if source != source_before:
            lines.append(f"{source}, prints:")
            source_before = source
        sides = [finding, *(other[key] for other in others)]
        lines.append(f"  {what}: {' against '.join(side.published.printed for side in sides)}.")
        lines += [f"    {_sentence(side)}" for side in sides]
    return lines


def _sentence(finding: Finding) -> str:
    published, printed = finding.published, finding.published.printed
    if finding.exact is None:
        return f"{printed} cannot be recomputed here."
    if finding.verdict == AGREES:
        reading = f" ({published.note})" if published.note else ""
        return f"{printed} holds for {finding.model}: exactly {finding.exact:,}{reading}."
    return f"{printed} does not hold for {finding.model}: it is {finding.exact:,}. The figure is {published.note}."
