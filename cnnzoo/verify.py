"""Published figures beside the exact, recomputed ones, with a verdict on each."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import cached_property
from typing import Any

import torch

from cnnzoo.errors import InputError
from cnnzoo.measure import count
from cnnzoo.measure.tables import Printable, Table
from cnnzoo.network import CNN, label_of, min_image_size
from cnnzoo.progress_bar import track
from cnnzoo.published import Deviation, Published
from cnnzoo.registry import get_entry, get_spec, list_models
from cnnzoo.spec import Spec

AGREES, CONTRADICTS, NOT_RECOMPUTABLE = "agrees", "contradicts", "not recomputable"


@dataclass(frozen=True)
class Finding:
    """One published figure, recomputed.

    Attributes:
        model: Name of the registered model.
        published: The figure as its source prints it.
        exact: The exact value, a float for ratios; None if the figure cannot be recomputed.
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
    """Published figures beside exact ones, and the deviations of the networks from their sources.

    Attributes:
        findings: One per published figure.
        deviations: (name of the registered model, deviation) pairs.
    """

    findings: Sequence[Finding] = field(hash=False)
    deviations: Sequence[tuple[str, Deviation]] = field(default=(), hash=False)

    @property
    def unexplained(self) -> list[Finding]:
        """The contradicted figures without a note that gives the reason."""
        return [f for f in self.findings if f.verdict == CONTRADICTS and not f.published.note]

    def tables(self) -> Sequence[Table]:
        """Returns a table of figures per network and source, and a table of deviations per network."""
        figures: dict[tuple[str, str], list[Finding]] = {}
        for finding in self.findings:
            figures.setdefault((finding.model, finding.published.source), []).append(finding)
        deviations: dict[str, list[Deviation]] = {}
        for model, deviation in self.deviations:
            deviations.setdefault(model, []).append(deviation)
        return [
            *(
                Table(
                    title=f"{model}: figures in {source}",
                    headers=("figure", "printed", "exact", "verdict", "note"),
                    rows=[
                        (f.published.what, f.published.printed, f.exact, f.verdict, f.published.note) for f in findings
                    ],
                )
                for (model, source), findings in figures.items()
            ),
            *(
                Table(
                    title=f"{model}: deviations from its source",
                    headers=("blocks", "source", "ours", "reason"),
                    rows=[(d.blocks, d.source, d.ours, d.reason) for d in of_model],
                )
                for model, of_model in deviations.items()
            ),
        ]

    def __str__(self) -> str:
        return super().__str__() or "no published figures of these networks"

    def to_json(self) -> str:
        """Returns the findings and deviations as JSON."""
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
    """Recomputes the published figures of a model, or of all models, and lists the deviations from its sources.

    Args:
        name: A registered name; None means all models.

    Raises:
        UnknownNameError: If no model has that name.
    """
    names = list_models() if name is None else [name]
    computed: dict[Spec, _Quantities] = {}

    def quantities(model: str, knobs: Mapping[str, int]) -> _Quantities:
        spec = get_spec(model, **knobs)
        return computed.setdefault(spec, _Quantities(spec))

    def recompute(model: str, published: Published) -> float | None:
        if not published.quantity:
            return None
        value = quantities(model, published.knobs).total(published.quantity, published.blocks)
        if not published.relative_to:
            return value
        return value / quantities(published.relative_to, {}).total(published.quantity)

    return Audit(
        [
            Finding(model, published, recompute(model, published))
            for model in track(names, "counting")
            for published in get_entry(model).published
        ],
        [(model, deviation) for model in names for deviation in get_entry(model).deviations],
    )


class _Quantities:
    """The quantities of a network, which is built and counted once, on first use."""

    def __init__(self, spec: Spec) -> None:
        self.spec = spec

    @cached_property
    def model(self) -> CNN:
        with torch.device("meta"):
            return CNN(self.spec)

    @cached_property
    def counts(self) -> dict[str, dict[str, int]]:
        return count(self.model, (1, *self.spec.input)).by("label")

    def total(self, quantity: str, patterns: Sequence[str] = ()) -> int:
        """Returns the total of a quantity over the blocks whose labels match a pattern; over all without patterns."""
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
            column, factor = ("macs", 2) if quantity == "flops" else (quantity, 1)
            values = {label: sums[column] * factor for label, sums in self.counts.items()}
        else:
            raise InputError(f"{self.spec.name}: unknown quantity {quantity!r}")
        labels = [label for label in values if not patterns or any(fnmatchcase(label, p) for p in patterns)]
        if not labels:
            raise InputError(f"{self.spec.name}: no block matches {patterns}")
        return sum(values[label] for label in labels)


def claims(names: Sequence[str]) -> list[str]:
    """Returns lines of text: the headline figures that one source prints for all of some models, with verdicts.

    Args:
        names: Registered names, in the order of the comparison.
    """
    audits = [verify(name).findings for name in names]
    first, *others = [
        {
            (finding.published.source, finding.published.what): finding
            for finding in findings
            if finding.published.headline
        }
        for findings in audits
    ]
    lines: list[str] = []
    last_source = None
    for key, finding in first.items():
        if not all(key in other for other in others):
            continue
        source, what = key
        if source != last_source:
            lines.append(f"{source}, prints:")
            last_source = source
        sides = [finding, *(other[key] for other in others)]
        lines.append(f"  {what}: {' against '.join(side.published.printed for side in sides)}.")
        lines += [f"    {_describe(side)}" for side in sides]
    return lines


def _describe(finding: Finding) -> str:
    """Returns a sentence on whether a printed figure holds."""
    published, printed = finding.published, finding.published.printed
    if finding.exact is None:
        return f"{printed} cannot be recomputed."
    if finding.verdict == AGREES:
        note = f" ({published.note})" if published.note else ""
        return f"{printed} holds for {finding.model}: exactly {finding.exact:,}{note}."
    return f"{printed} does not hold for {finding.model}: it is {finding.exact:,}. The figure is {published.note}."
