"""Published figures beside the exact, recomputed ones, with a verdict on each."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from cnnzoo.measure.tables import Printable, Table
from cnnzoo.published import Deviation, Published
from cnnzoo.quantities import get_quantity
from cnnzoo.registry import get_entry, get_spec, list_models

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
        return [*self.figure_tables(), *self.deviation_tables()]

    def figure_tables(self) -> Sequence[Table]:
        """Returns a table of figures per network and source."""
        figures: dict[tuple[str, str], list[Finding]] = {}
        for finding in self.findings:
            figures.setdefault((finding.model, finding.published.source), []).append(finding)
        return [
            Table(
                title=f"{model}: figures in {source}",
                headers=("figure", "printed", "exact", "verdict", "note"),
                rows=[(f.published.what, f.published.printed, f.exact, f.verdict, f.published.note) for f in findings],
                colors={"verdict": [_color(f) for f in findings]},
            )
            for (model, source), findings in figures.items()
        ]

    def deviation_tables(self) -> Sequence[Table]:
        """Returns a table of deviations per network."""
        deviations: dict[str, list[Deviation]] = {}
        for model, deviation in self.deviations:
            deviations.setdefault(model, []).append(deviation)
        return [
            Table(
                title=f"{model}: deviations from its source",
                headers=("blocks", "source", "ours", "reason"),
                rows=[(d.blocks, d.source, d.ours, d.reason) for d in of_model],
            )
            for model, of_model in deviations.items()
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


def _color(finding: Finding) -> str:
    """Returns the color of a verdict: a contradiction is red unless a note gives its reason."""
    if finding.verdict == AGREES:
        return "green"
    if finding.verdict == CONTRADICTS:
        return "yellow" if finding.published.note else "red"
    return ""


def verify(name: str | None = None) -> Audit:
    """Recomputes the published figures of a model, or of all models, and lists the deviations from its sources.

    Args:
        name: A registered name; None means all models.

    Raises:
        UnknownNameError: If no model has that name.
    """
    audits = list(verify_each(name))
    return Audit(
        [finding for audit in audits for finding in audit.findings],
        [deviation for audit in audits for deviation in audit.deviations],
    )


def verify_each(name: str | None = None) -> Iterator[Audit]:
    """Yields the result of ``verify`` for one model after the other."""

    def recompute(model: str, published: Published) -> float | None:
        if not published.quantity:
            return None
        value = get_quantity(get_spec(model, **published.knobs), published.quantity, published.blocks)
        if not published.relative_to:
            return value
        return value / get_quantity(get_spec(published.relative_to), published.quantity)

    for model in list_models() if name is None else [name]:
        entry = get_entry(model)
        yield Audit(
            [Finding(model, published, recompute(model, published)) for published in entry.published],
            [(model, deviation) for deviation in entry.deviations],
        )


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
