"""A whole network as a value: what goes in, its rows, their labels; JSON both ways; edits."""

from __future__ import annotations

import dataclasses
import difflib
import json
import math
import operator
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, SupportsIndex

from cnnzoo.blocks import (
    ACTIVATIONS,
    LARGEST,
    RBF,
    Act,
    AvgPool,
    Block,
    Conv,
    Dense,
    Dropout,
    Flatten,
    Logits,
    MaxPool,
    Norm,
    Subsample,
    TableConv,
    block_kind,
)
from cnnzoo.errors import InputError, SpecError, unknown

MOST_ROWS = 10_000
KIND = "row"  # in JSON, what kind of row it is
DEEPEST = 16  # Parallel inside Parallel

Match = str | type[Block]  # a label pattern ("conv*"), or a kind of row (Conv)


@dataclass(frozen=True)
class Spec:
    """A network as a value, without weights.

    Labels are filled in where rows have none, in Caffe's manner: conv1, pool1, ..., fc6. They are unique and
    stay with their rows through edits and JSON.

    Attributes:
        name: The architecture's name.
        input: One image: (C, H, W).
        features: The rows that make features of an image.
        classifier: The rows that make class scores of features.
    """

    name: str
    input: tuple[int, int, int]
    features: tuple[Block, ...]
    classifier: tuple[Block, ...] = ()

    def __post_init__(self) -> None:
        if not (isinstance(self.name, str) and self.name.strip(". ") and not set(self.name) & set("/\\\0\n")):
            raise SpecError(f"a Spec needs a name, of letters that a folder's name may have, not {self.name!r}")
        shape = tuple(self.input) if isinstance(self.input, (tuple, list)) else ()
        if len(shape) != 3 or not all(type(side) is int and 1 <= side <= LARGEST for side in shape):
            raise SpecError(
                f"{self.name}: input must be (channels, height, width), each at least 1, not {self.input!r}"
            )
        for section in ("features", "classifier"):
            if not isinstance(getattr(self, section), (tuple, list)):
                raise SpecError(f"{self.name}: {section} must be a tuple of rows, not {getattr(self, section)!r}")
            for row in getattr(self, section):
                if not isinstance(row, Block):
                    raise SpecError(f"{self.name}: {section} holds {row!r}, which is no row; rows are cnnzoo.blocks")
        features, classifier = _labelled((tuple(self.features), tuple(self.classifier)), self.name)
        object.__setattr__(self, "input", shape)
        object.__setattr__(self, "features", features)
        object.__setattr__(self, "classifier", classifier)

    def rows(self) -> Iterator[tuple[str, Block]]:
        """Every row with its full label, those inside a Parallel too (``"inception3a/conv2"``)."""

        def walk(rows: Sequence[Block], prefix: str) -> Iterator[tuple[str, Block]]:
            for row in rows:
                yield prefix + row.label, row
                for path in row.inside():
                    yield from walk(path, f"{prefix}{row.label}/")

        yield from walk(self.features + self.classifier, "")

    @property
    def num_classes(self) -> int | None:
        """Number of classes, as the last row that scores them tells it; None where there is none."""
        rows = (row for row in reversed(self.classifier) if isinstance(row, (Logits, RBF)))
        return next((row.classes for row in rows), None)

    def map_rows(self, change: Callable[[Block, str], Sequence[Block]]) -> Spec:
        """The Spec with every row replaced by ``change(row, full label)``, innermost rows first."""

        def changed(rows: Sequence[Block], prefix: str) -> Iterator[Block]:
            for row in rows:
                label = prefix + row.label
                if row.inside():
                    row = row.with_inside(tuple(tuple(changed(path, f"{label}/")) for path in row.inside()))
                yield from change(row, label)

        return dataclasses.replace(
            self, features=tuple(changed(self.features, "")), classifier=tuple(changed(self.classifier, ""))
        )

    def to_dict(self) -> dict[str, Any]:
        """The Spec as plain values; fields that hold their default are left out."""
        return {
            "name": self.name,
            "input": list(self.input),
            "features": [_row_to_dict(row) for row in self.features],
            "classifier": [_row_to_dict(row) for row in self.classifier],
        }

    def to_json(self) -> str:
        """The Spec as JSON text; ``from_json`` gives an equal Spec back."""
        return json.dumps(self.to_dict(), indent=2)

    @classmethod
    def from_dict(cls, data: object) -> Spec:
        """A Spec from plain values, such as those of a file.

        Nothing is imported or executed by name: rows are of the kinds known to this process.

        Raises:
            SpecError: If the values are not those of a Spec.
            UnknownNameError: If a kind of row, or a field of one, is not known.
        """
        if not isinstance(data, dict) or set(data) != {"name", "input", "features", "classifier"}:
            raise SpecError("a Spec in JSON is an object with name, input, features and classifier")
        if not isinstance(data["input"], list):
            raise SpecError(f"a Spec's input is a list [channels, height, width], not {data['input']!r}")
        budget = [MOST_ROWS]
        return cls(
            name=data["name"],
            input=tuple(data["input"]),
            features=_rows_from_list(data["features"], budget, 0),
            classifier=_rows_from_list(data["classifier"], budget, 0),
        )

    @classmethod
    def from_json(cls, text: str) -> Spec:
        """A Spec from the text that ``to_json`` writes.

        Raises:
            SpecError: If the text is not the JSON of a Spec.
        """
        try:
            data = json.loads(text)
        except (ValueError, RecursionError) as problem:
            raise SpecError(f"this is not the JSON of a Spec: {problem}") from None
        return cls.from_dict(data)


# --- JSON ---


def _row_to_dict(row: Block) -> dict[str, Any]:
    data: dict[str, Any] = {KIND: type(row).__name__}
    if block_kind(type(row).__name__) is not type(row):
        raise SpecError(
            f"another kind of row is called {type(row).__name__} too; JSON could not tell them apart: rename"
        )
    for item in dataclasses.fields(row):
        if item.name == KIND:
            raise SpecError(f"{type(row).__name__} has a field {KIND!r}, which in JSON is the kind of row; rename it")
        value = getattr(row, item.name)
        if item.default is dataclasses.MISSING or value != item.default:
            data[item.name] = _plain(value, f"{type(row).__name__}.{item.name}")
    return data


def _plain(value: Any, where: str) -> Any:
    if isinstance(value, Block):
        return _row_to_dict(value)
    if isinstance(value, tuple):
        return [_plain(one, where) for one in value]
    if value is None or type(value) in (bool, int, float, str):
        return value
    raise SpecError(
        f"{where} is a {type(value).__name__}, which JSON does not hold; use numbers, words, tuples and rows"
    )


def _rows_from_list(data: object, budget: list[int], depth: int) -> tuple[Block, ...]:
    if not isinstance(data, list):
        raise SpecError(f"rows are a list, not {type(data).__name__}")
    return tuple(_row_from_dict(one, budget, depth) for one in data)


def _row_from_dict(data: object, budget: list[int], depth: int) -> Block:
    budget[0] -= 1
    if budget[0] < 0 or depth > DEEPEST:
        raise SpecError(f"a Spec from a file has at most {MOST_ROWS} rows, nested at most {DEEPEST} deep")
    if not isinstance(data, dict):
        raise SpecError(f"a row is an object that says its kind under {KIND!r}, not {type(data).__name__}")
    kind = block_kind(data.get(KIND))
    known = {item.name for item in dataclasses.fields(kind)}
    values = {name: value for name, value in data.items() if name != KIND}
    for name in values:
        if name not in known:
            raise unknown(f"field of {kind.__name__}", name, known)

    def value_of(value: object, level: int) -> Any:
        if isinstance(value, dict):
            return _row_from_dict(value, budget, depth + 1)
        if isinstance(value, list) and level < 3:  # a pair, a path of rows, paths of rows
            return tuple(value_of(one, level + 1) for one in value)
        return value

    required = {item.name for item in dataclasses.fields(kind) if item.default is dataclasses.MISSING}
    if missing := required - set(values):
        raise SpecError(f"{kind.__name__} lacks {', '.join(sorted(missing))}")
    return kind(**{name: value_of(value, 0) for name, value in values.items()})


# --- labels ---


def _labelled(sections: tuple[tuple[Block, ...], ...], name: str) -> tuple[tuple[Block, ...], ...]:
    """Fills the labels that are missing; weighted rows count up, the others take the number before them."""
    taken = [row.label for rows in sections for row in rows if row.label]
    if twice := sorted(label for label, times in Counter(taken).items() if times > 1):
        raise SpecError(f"{name}: more than one row is labelled {', '.join(map(repr, twice))}; labels are unique")
    used = set(taken)
    depth = 0

    def next_label(row: Block) -> str:
        if row.weighted and f"{row.stem}{depth + 1}" not in used:
            return f"{row.stem}{depth + 1}"
        stem = row.stem if isinstance(row, Flatten) else f"{row.stem}{depth}"
        # a row put in between is conv1b, pool1b, ...
        letters = (stem + letter for letter in ["", *map(chr, range(ord("b"), ord("z") + 1))])
        return next((label for label in letters if label not in used), f"{stem}_{len(used)}")

    filled = []
    for rows in sections:
        done = []
        for row in rows:
            if row.inside():
                row = row.with_inside(_labelled(row.inside(), name))
            if not row.label:
                row = dataclasses.replace(row, label=next_label(row))
                used.add(row.label)
            if row.weighted:
                number = re.search(r"(\d+)[a-z]*$", row.label)
                depth = int(number[1]) if number else depth + 1
            done.append(row)
        filled.append(tuple(done))
    return tuple(filled)


# --- edits ---


def edit(spec: Spec, match: Match, **changes: Any) -> Spec:
    """A Spec with some fields of some rows changed.

    Args:
        spec: The network; it is not changed itself.
        match: A label, with wildcards where wanted (``"pool*"``, ``"inception*/conv1"``), or a kind of row
            (``cnnzoo.blocks.Conv``), which matches everywhere, also inside a Parallel.
        **changes: New values of fields of the rows.

    Raises:
        SpecError: If no row matches, or a value is not one that the field takes.
        UnknownNameError: If a matching row has no such field.
    """

    def change(row: Block, label: str) -> Sequence[Block]:
        if not _matches(row, label, match):
            return (row,)
        fields = {item.name for item in dataclasses.fields(row)}
        for name in changes:
            if name not in fields:
                raise unknown(f"field of row {label!r}, {row!r}:", name, fields)
        return (dataclasses.replace(row, **changes),)

    _require_match(spec, match)
    return spec.map_rows(change)


def remove(spec: Spec, *matches: Match) -> Spec:
    """A Spec without some rows.

    Args:
        spec: The network; it is not changed itself.
        *matches: Labels (with wildcards where wanted) or kinds of rows.

    Raises:
        SpecError: If one of them matches no row.
    """
    for match in matches:
        _require_match(spec, match)
    return spec.map_rows(lambda row, label: () if any(_matches(row, label, match) for match in matches) else (row,))


def insert(spec: Spec, *, rows: Block | Sequence[Block], after: str | None = None, before: str | None = None) -> Spec:
    """A Spec with rows put in at one place.

    Args:
        spec: The network; it is not changed itself.
        rows: The new rows, or one; those without a label get one.
        after: The label of the row that they follow.
        before: The label of the row that they precede.

    Raises:
        SpecError: If not exactly one of ``after`` and ``before`` is given.
        UnknownNameError: If no row has that label.
    """
    _require_spec(spec)
    rows = [rows] if isinstance(rows, Block) else rows
    if (after is None) == (before is None):
        raise SpecError("insert needs either after= or before=, the label of a row")
    place = after if after is not None else before
    labels = [label for label, _ in spec.rows()]
    if place not in labels:
        raise unknown(f"row of {spec.name}", place, labels)

    def change(row: Block, label: str) -> Sequence[Block]:
        if label != place:
            return (row,)
        return (row, *rows) if after is not None else (*rows, row)

    return spec.map_rows(change)


def _matches(row: Block, label: str, match: Match) -> bool:
    if isinstance(match, str):
        return label == match or fnmatchcase(label, match)
    return isinstance(row, match)


def _require_spec(spec: object) -> None:
    if not isinstance(spec, Spec):
        how = f"; cnnzoo.get_spec({spec!r}) gives one" if isinstance(spec, str) else ""
        raise InputError(f"only a Spec can be edited, not {type(spec).__name__}{how}")


def _require_match(spec: Spec, match: Match) -> None:
    _require_spec(spec)
    if not isinstance(match, str) and not (isinstance(match, type) and issubclass(match, Block)):
        raise InputError(f"rows are chosen by label ('conv*') or by kind (cnnzoo.blocks.Conv), not by {match!r}")
    if not any(_matches(row, label, match) for label, row in spec.rows()):
        what = f"label {match!r}" if isinstance(match, str) else f"kind {match.__name__}"
        raise SpecError(f"{spec.name} has no row of {what}; its rows: {', '.join(label for label, _ in spec.rows())}")


# --- two networks row by row ---

Placed = tuple[str, Block]  # a row with its full label


def align(a: Spec, b: Spec) -> list[tuple[Placed | None, Placed | None]]:
    """The rows of two networks side by side, in order; None where one has no counterpart.

    Rows are matched by label where both networks have one of that label and sort, else by sort and size, else by
    sort alone.
    """
    rows_a, rows_b = list(a.rows()), list(b.rows())
    by_label = [[(label, row.stem) for label, row in rows] for rows in (rows_a, rows_b)]
    shared = set(by_label[0]).intersection(by_label[1])

    def size(row: Block) -> object:
        return next((getattr(row, item.name) for item in dataclasses.fields(row) if item.name != "label"), None)

    # those whose label the other lacks: (sort, size); the sort alone where the other lacks that, too
    by_size = [
        {i: (row[1].stem, size(row[1])) for i, row in enumerate(rows) if labels[i] not in shared}
        for rows, labels in zip((rows_a, rows_b), by_label, strict=True)
    ]
    sizes = set(by_size[0].values()).intersection(by_size[1].values())
    tokens = [
        [key if key in shared else sized[i] if sized[i] in sizes else sized[i][0] for i, key in enumerate(labels)]
        for labels, sized in zip(by_label, by_size, strict=True)
    ]
    pairs: list[tuple[Placed | None, Placed | None]] = []
    for what, i, j, k, m in difflib.SequenceMatcher(None, tokens[0], tokens[1], autojunk=False).get_opcodes():
        if what == "equal":
            pairs += zip(rows_a[i:j], rows_b[k:m], strict=True)
        else:
            pairs += [(row, None) for row in rows_a[i:j]]
            pairs += [(None, row) for row in rows_b[k:m]]
    return pairs


def changed_fields(before: Block, after: Block) -> list[tuple[str, Any, Any]]:
    """(field, old value, new value) of two rows of one kind; labels and the rows inside do not count."""
    values = [(item.name, getattr(before, item.name), getattr(after, item.name)) for item in dataclasses.fields(before)]
    return [
        (name, old, new)
        for name, old, new in values
        if old != new and name != "label" and not (before.inside() and old == before.inside())
    ]


# --- generic knobs: edits that make sense for every network ---


def _activation(spec: Spec, value: str | None) -> Spec:
    if not isinstance(value, str) or value not in ACTIVATIONS:
        raise unknown("activation", value, ACTIVATIONS)
    return _where(spec, lambda row: getattr(row, "activation", None) is not None, activation=value)


def _norm(spec: Spec, value: str | None) -> Spec:
    def has_norm(row: Block) -> bool:
        return getattr(row, "norm", None) is not None

    def without(row: Block, label: str) -> Sequence[Block]:
        if isinstance(row, Norm):  # a row of its own leaves its activation behind
            return () if row.activation is None else (Act(row.activation, label=row.label),)
        return (dataclasses.replace(row, norm=None),) if has_norm(row) else (row,)  # type: ignore[call-arg]

    if value is None:
        return spec.map_rows(without)
    if any(has_norm(row) for _, row in spec.rows()):
        return _where(spec, has_norm, norm=value)
    return _where(spec, lambda row: isinstance(row, (Conv, TableConv)), norm=value)


def _pooling(spec: Spec, value: str) -> Spec:
    kinds: dict[str, type[MaxPool | AvgPool]] = {"max": MaxPool, "avg": AvgPool}
    if not isinstance(value, str) or value not in kinds:
        raise unknown("pooling", value, kinds)

    def change(row: Block, label: str) -> Sequence[Block]:
        if isinstance(row, Subsample):  # what it trains goes with it
            return (kinds[value](row.kernel, label=row.label),)
        if type(row) not in kinds.values():
            return (row,)
        return (kinds[value](**{item.name: getattr(row, item.name) for item in dataclasses.fields(row)}),)

    return spec.map_rows(change)


def _dropout(spec: Spec, value: float) -> Spec:
    if any(isinstance(row, Dropout) for _, row in spec.rows()):
        return _where(spec, lambda row: isinstance(row, Dropout), p=value)
    hidden_dense = any(isinstance(row, Dense) for _, row in spec.rows())

    def change(row: Block, label: str) -> Sequence[Block]:
        if hidden_dense:
            return (row, Dropout(value)) if isinstance(row, Dense) else (row,)
        return (Dropout(value), row) if isinstance(row, (Logits, RBF)) else (row,)

    return spec.map_rows(change)


def _width(spec: Spec, value: float) -> Spec:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < math.inf:
        raise InputError(f"width must be a number above 0, such as 0.5, not {value!r}")
    convs = [row for _, row in spec.rows() if isinstance(row, Conv)]
    # what leaves a convolution must divide into the groups of those after it
    multiple = math.lcm(*(row.groups for row in convs if row.groups != row.out))
    return spec.map_rows(lambda row, label: (row.widened(value, multiple),))


def _num_classes(spec: Spec, value: int) -> Spec:
    classes = whole_number("num_classes", value)
    return spec.map_rows(lambda row, label: (row.with_classes(classes),))


def _in_channels(spec: Spec, value: int) -> Spec:
    return dataclasses.replace(spec, input=(whole_number("in_channels", value), *spec.input[1:]))


def _image_size(spec: Spec, value: int) -> Spec:
    size = whole_number("image_size", value)
    return dataclasses.replace(spec, input=(spec.input[0], size, size))


def _where(spec: Spec, holds: Callable[[Block], bool], **changes: Any) -> Spec:
    return spec.map_rows(lambda row, label: (dataclasses.replace(row, **changes) if holds(row) else row,))


def whole_number(name: str, value: object) -> int:
    """The value, if it is a whole number of at least 1 (and no absurdly large one).

    Raises:
        InputError: If it is not.
    """
    if isinstance(value, bool) or not isinstance(value, SupportsIndex) or not 1 <= operator.index(value) <= LARGEST:
        raise InputError(f"{name} must be a whole number from 1 to {LARGEST}, not {value!r}")
    return operator.index(value)  # numpy's whole numbers too


KNOBS: dict[str, Callable[[Spec, Any], Spec]] = {
    "num_classes": _num_classes,
    "in_channels": _in_channels,
    "image_size": _image_size,
    "activation": _activation,
    "norm": _norm,
    "pooling": _pooling,
    "dropout": _dropout,
    "width": _width,
}


def apply_knobs(spec: Spec, **knobs: Any) -> Spec:
    """A Spec with generic knobs applied, which descend into every Parallel.

    ``activation`` replaces those there are; ``norm`` sets it where there is one, else on every convolution;
    ``pooling`` (``"max"``, ``"avg"``) changes window pools, not pooling to a fixed size; ``dropout`` sets every
    Dropout row, and where there is none adds one after each hidden Dense row, else before Logits; ``width``
    scales convolutions and hidden Dense rows; ``num_classes``, ``in_channels`` and ``image_size`` say what
    goes in and comes out.

    Raises:
        UnknownNameError: If a knob is not known.
    """
    for name, value in knobs.items():
        if name not in KNOBS:
            raise unknown(f"knob of {spec.name}", name, KNOBS)
        spec = KNOBS[name](spec, value)
    return spec
