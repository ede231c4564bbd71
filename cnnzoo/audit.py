"""Published figures recomputed: each with our exact value and a verdict."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

import torch

from cnnzoo.measure import count
from cnnzoo.measure.tables import Table
from cnnzoo.network import CNN, labelled_parameters
from cnnzoo.published import Published
from cnnzoo.registry import get_entry, get_spec, list_models

AGREES, CONTRADICTS, NOT_RECOMPUTABLE = "agrees", "contradicts", "not recomputable"


@dataclass(frozen=True)
class Finding:
    """One published figure and what became of it.

    Attributes:
        model: The registered name.
        published: The figure as its source prints it.
        exact: Our exact value; None where it cannot be computed here.
    """

    model: str
    published: Published
    exact: int | None

    @property
    def verdict(self) -> str:
        """``"agrees"`` (to the printed digits), ``"contradicts"`` or ``"not recomputable"``."""
        if self.exact is None:
            return NOT_RECOMPUTABLE
        return AGREES if self.published.agrees(self.exact) else CONTRADICTS


@dataclass(frozen=True)
class Audit:
    """Published figures beside recomputed ones.

    Attributes:
        findings: One per published figure.
    """

    findings: Sequence[Finding]

    @property
    def unexplained(self) -> list[Finding]:
        """The findings that contradict their source and have no reason beside them."""
        return [f for f in self.findings if f.verdict == CONTRADICTS and not f.published.note]

    def table(self) -> Table:
        """The findings as a table."""
        sources = list(dict.fromkeys(finding.published.source for finding in self.findings))
        return Table(
            title="published figures, recomputed",
            headers=("model", "figure", "printed", "exact", "verdict", "reading or reason"),
            rows=[
                (f.model, f.published.what, f.published.printed, f.exact, f.verdict, f.published.note)
                for f in self.findings
            ],
            notes=[f"source: {source}" for source in sources],
        )

    def __str__(self) -> str:
        return self.table().text()

    def _repr_html_(self) -> str:
        return self.table().html()

    def to_markdown(self) -> str:
        """The findings as a Markdown table."""
        return self.table().markdown()

    def to_json(self) -> str:
        """The findings as JSON."""
        rows: list[dict[str, Any]] = [
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
        return json.dumps(rows, indent=2)


def verify(name: str | None = None) -> Audit:
    """Recomputes the published figures of a model, or of all.

    Args:
        name: A registered name; None takes every model.

    Raises:
        UnknownNameError: If no model has that name.
    """
    names = list_models() if name is None else [name]
    return Audit([Finding(n, p, _exact(n, p)) for n in names for p in get_entry(n).published])


def _exact(name: str, published: Published) -> int | None:
    """Our exact value of a published figure, from the network itself."""
    if not published.quantity:
        return None
    with torch.device("meta"):
        model = CNN(get_spec(name, **published.setting))
    if published.quantity == "macs":
        report = count(model, (1, *model.spec.input))
        values = {label: sums["macs"] for label, sums in report.by("label").items()}
    elif published.quantity in ("parameters", "weights"):
        values = {}
        for label, key, parameter in labelled_parameters(model):
            if published.quantity == "parameters" or not key.endswith("bias"):
                values[label] = values.get(label, 0) + parameter.numel()
    else:
        raise ValueError(f"{name}: no way is known to compute {published.quantity!r}")
    chosen = [label for label in values if not published.rows or any(fnmatchcase(label, p) for p in published.rows)]
    if not chosen:
        raise ValueError(f"{name}: no row matches {published.rows}")
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
