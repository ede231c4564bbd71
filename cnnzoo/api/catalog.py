"""The registered models as a table: year, images, cost, and what they are. Those of cnnzoo are listed without torch."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass, field

from cnnzoo import weights
from cnnzoo.api.specs import list_models
from cnnzoo.errors import CnnzooError
from cnnzoo.measure.tables import Printable, Table, human, shape_text
from cnnzoo.quantities import get_quantities
from cnnzoo.registry import get_entry, get_spec


@dataclass(frozen=True)
class Model:
    """A registered model at its defaults.

    Attributes:
        name: Its name.
        year: Year of publication; None for a model that is no publication.
        input: Shape of an image, (channels, height, width).
        params: Number of parameters.
        macs: MACs for one image.
        pretrained: The weights that ``create(name, pretrained=tag)`` has: their tags.
        text: What it is, in a sentence; the table shows what is before a colon.
    """

    name: str
    year: int | None
    input: tuple[int, int, int] | None
    params: int | None
    macs: int | None
    shipped: bool
    text: str


@dataclass(frozen=True)
class Catalog(Printable):
    """The registered models.

    Attributes:
        models: One per name, in order of the names.
    """

    models: Sequence[Model] = field(hash=False)

    def table(self) -> Table:
        """Returns a row per model."""
        rows = [
            (
                model.name,
                "" if model.year is None else str(model.year),
                "" if model.input is None else shape_text(model.input),
                *("" if value is None else human(value) for value in (model.params, model.macs)),
                model.text.partition(":")[0],
            )
            for model in self.models
        ]
        return Table(
            title="",
            headers=("model", "year", "images", "parameters", "MACs", "what it is"),
            rows=rows,
            optional=("images", "year", "MACs", "parameters"),
        )

    def tables(self) -> Sequence[Table]:
        """Returns the one table."""
        return [self.table()]

    def to_json(self) -> str:
        """Returns the models as JSON."""
        return json.dumps([dataclasses.asdict(model) for model in self.models], indent=2)


def catalog(pattern: str = "*", *, pretrained: bool | str = False) -> Catalog:
    """Returns the registered models that ``list_models`` names, with what they cost.

    Args:
        pattern: A wildcard such as ``"alex*"``.
        pretrained: As for ``list_models``.

    Raises:
        InputError: If ``pretrained`` is not valid.
    """
    return Catalog([_describe(name) for name in list_models(pattern, pretrained=pretrained)])


def _describe(name: str) -> Model:
    """Returns a model; one that cannot be built, such as a plugin's, says why in place of its text."""
    entry = get_entry(name)
    shipped = weights.has_pretrained(name)
    try:
        spec = get_spec(name)
        params, macs = get_quantities(spec, "parameters", "macs")
    except CnnzooError as error:
        return Model(name, entry.year, None, None, None, shipped, f"cannot be built ({error})")
    return Model(name, entry.year, spec.input, params, macs, shipped, entry.text)
