"""A whole network as a value: its input shape, its blocks and their labels; JSON both ways."""

from __future__ import annotations

import dataclasses
import itertools
import json
import string
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from cnnzoo.blocks import BLOCKS, Block, Flatten
from cnnzoo.errors import SpecError
from cnnzoo.fields import require_field
from cnnzoo.html_parts import details, heading, notebook_html
from cnnzoo.limits import MAX_BLOCKS, MAX_DEPTH, MAX_DESCRIPTION_BYTES, MAX_LABEL_LENGTH, MAX_PATHS, MAX_VALUE
from cnnzoo.measure.tables import Table
from cnnzoo.text import is_printable, parse_json

MAX_ROWS = 40  # blocks that a notebook shows; more are unfolded
KIND_KEY = "block"  # the JSON key of the kind of block


@dataclass(frozen=True)
class Spec:
    """A network as a value, without weights.

    Blocks without a label get one, as in Caffe: conv1, pool1, ..., fc6. Labels are unique, and are kept by edits and
    JSON.

    Attributes:
        name: The architecture's name.
        input: Shape of one image: (C, H, W).
        features: The blocks that turn an image into features.
        classifier: The blocks that turn features into class scores.
    """

    name: str
    input: tuple[int, int, int]
    features: tuple[Block, ...]
    classifier: tuple[Block, ...] = ()

    def __post_init__(self) -> None:
        if not (isinstance(self.name, str) and _is_folder_name(self.name)):
            raise SpecError(
                f"the name of a Spec must be usable as a folder's name: printable, without / and \\, and of at most "
                f"{MAX_LABEL_LENGTH} bytes, not {self.name!r}"
            )
        shape = tuple(self.input) if isinstance(self.input, (tuple, list)) else ()
        if len(shape) != 3 or not all(type(side) is int and 1 <= side <= MAX_VALUE for side in shape):
            raise SpecError(
                f"{self.name}: input must be (channels, height, width), each at least 1, not {self.input!r}"
            )
        for section in ("features", "classifier"):
            if not isinstance(getattr(self, section), (tuple, list)):
                raise SpecError(f"{self.name}: {section} must be a tuple of blocks, not {getattr(self, section)!r}")
            for block in getattr(self, section):
                if not isinstance(block, Block):
                    raise SpecError(f"{self.name}: {section} must hold blocks (see cnnzoo.blocks), not {block!r}")
        features, classifier = _fill_labels((tuple(self.features), tuple(self.classifier)), self.name)
        object.__setattr__(self, "input", shape)
        object.__setattr__(self, "features", features)
        object.__setattr__(self, "classifier", classifier)

    def _repr_html_(self) -> str:
        rows: list[tuple[str, str]] = []
        for label, block in self.blocks():
            branches = len(block.branches())
            merge = f", {merge}" if (merge := getattr(block, "merge", "")) else ""
            rows.append((label, f"{type(block).__name__} of {branches} branches{merge}" if branches else str(block)))
        blocks = Table("", ("block", "what it is"), rows).html()
        size = f"{'x'.join(map(str, self.input))} to {self.num_classes or '?'} classes, {len(rows)} blocks"
        return notebook_html(heading(self.name, size), details("blocks", blocks) if len(rows) > MAX_ROWS else blocks)

    def blocks(self) -> Iterator[tuple[str, Block]]:
        """Yields (full label, block) of every block, also inside a Parallel (``"inception3a/conv2"``)."""

        def walk(blocks: Sequence[Block], prefix: str) -> Iterator[tuple[str, Block]]:
            for block in blocks:
                yield prefix + block.label, block
                for branch in block.branches():
                    yield from walk(branch, f"{prefix}{block.label}/")

        yield from walk(self.features + self.classifier, "")

    @property
    def num_classes(self) -> int | None:
        """Number of classes, from the last block that scores classes; None if there is none."""
        counts = (getattr(block, "num_classes", None) for block in reversed(self.classifier))
        return next((count for count in counts if isinstance(count, int)), None)

    def map_blocks(self, function: Callable[[Block, str], Sequence[Block]]) -> Spec:
        """Returns the Spec with every block replaced by ``function(block, full label)``, innermost blocks first."""

        def replace(blocks: Sequence[Block], prefix: str) -> Iterator[Block]:
            for block in blocks:
                label = prefix + block.label
                if block.branches():
                    block = block.with_branches(
                        tuple(tuple(replace(branch, f"{label}/")) for branch in block.branches())
                    )
                yield from function(block, label)

        return dataclasses.replace(
            self, features=tuple(replace(self.features, "")), classifier=tuple(replace(self.classifier, ""))
        )

    def __str__(self) -> str:
        """Returns the table of blocks: label, output shape, parameters."""
        from cnnzoo.blocks.table import count_parameters, format_blocks  # with torch, which infers the shapes

        blocks, (channels, height, width) = self.features + self.classifier, self.input
        facts = [f"images of {channels}x{height}x{width}"]
        facts += [] if self.num_classes is None else [f"{self.num_classes} classes"]
        parameters = count_parameters(blocks, self.input)
        facts += [] if parameters is None else [f"{parameters:,} parameters"]
        return f"{self.name}: {', '.join(facts)}\n{format_blocks(blocks, self.input)}"

    def to_dict(self) -> dict[str, Any]:
        """Returns the Spec as plain values; fields that hold their default are left out.

        Raises:
            SpecError: If a block is not registered, or the value of a field cannot be stored as JSON.
        """
        return {
            "name": self.name,
            "input": list(self.input),
            "features": [_block_to_dict(block) for block in self.features],
            "classifier": [_block_to_dict(block) for block in self.classifier],
        }

    def to_json(self) -> str:
        """Returns the Spec as JSON; ``from_json`` returns an equal Spec.

        Raises:
            SpecError: If a block is not registered, or the value of a field cannot be stored as JSON.
        """
        return json.dumps(self.to_dict(), indent=2)

    @classmethod
    def from_dict(cls, data: object) -> Spec:
        """Returns the Spec that plain values describe, such as those of a file.

        Nothing is imported or executed by name: only registered kinds of blocks are built (installed plugins register
        theirs).

        Raises:
            SpecError: If the values do not describe a Spec.
            UnknownNameError: If a kind of block, or a field of one, is not known.
        """
        if not isinstance(data, dict) or set(data) != {"name", "input", "features", "classifier"}:
            raise SpecError("the JSON of a Spec must be an object with name, input, features and classifier")
        if not isinstance(data["input"], list):
            raise SpecError(f"the input of a Spec must be a list [channels, height, width], not {data['input']!r}")
        budget = _Budget()
        return cls(
            name=data["name"],
            input=tuple(data["input"]),
            features=_blocks_from_list(data["features"], budget, 0),
            classifier=_blocks_from_list(data["classifier"], budget, 0),
        )

    @classmethod
    def from_json(cls, text: str) -> Spec:
        """Returns the Spec that ``to_json`` wrote.

        Raises:
            SpecError: If the text is not the JSON of a Spec.
            UnknownNameError: If a kind of block, or a field of one, is not known.
        """
        try:
            data = parse_json(text, MAX_DESCRIPTION_BYTES)
        except ValueError as error:
            raise SpecError(f"this is not the JSON of a Spec: it {error}") from None
        return cls.from_dict(data)


# --- JSON ---


def _block_to_dict(block: Block) -> dict[str, Any]:
    kind = type(block).__name__
    if kind not in BLOCKS:
        raise SpecError(f"{kind} is not a registered kind of block; put @cnnzoo.blocks.register_block above its class")
    if BLOCKS[kind] is not type(block):
        raise SpecError(f"{kind} is the name of another registered kind of block; rename the class")
    data: dict[str, Any] = {KIND_KEY: kind}
    for item in dataclasses.fields(block):
        value = getattr(block, item.name)
        if item.default is dataclasses.MISSING or value != item.default:
            data[item.name] = _to_json_value(value, f"{kind}.{item.name}")
    return data


def _to_json_value(value: Any, where: str) -> Any:
    if isinstance(value, Block):
        return _block_to_dict(value)
    if isinstance(value, tuple):
        return [_to_json_value(one, where) for one in value]
    if value is None or type(value) in (bool, int, float, str):
        return value
    raise SpecError(
        f"{where} is a {type(value).__name__}, which JSON cannot hold; use numbers, strings, tuples and blocks"
    )


def _is_folder_name(name: str) -> bool:
    is_named = bool(name.strip(". ")) and not set(name) & set("/\\")
    return is_named and is_printable(name) and len(name.encode()) <= MAX_LABEL_LENGTH


def _blocks_from_list(data: object, budget: _Budget, depth: int) -> tuple[Block, ...]:
    if not isinstance(data, list):
        raise SpecError(f"blocks must be a list, not {type(data).__name__}")
    return tuple(_block_from_dict(one, budget, depth) for one in data)


class _Budget:
    """What is left of the numbers of blocks, and of paths and rows of tables, that a Spec from a file may have."""

    def __init__(self) -> None:
        self.blocks, self.paths = MAX_BLOCKS, MAX_PATHS

    def spend(self, depth: int, *, blocks: int = 0, paths: int = 0) -> None:
        """Counts blocks or paths; raises SpecError beyond the maximum."""
        self.blocks -= blocks
        self.paths -= paths
        if min(self.blocks, self.paths) < 0 or depth > MAX_DEPTH:
            raise SpecError(
                f"a Spec from a file has at most {MAX_BLOCKS:,} blocks, {MAX_PATHS:,} paths and rows of tables, nested "
                f"at most {MAX_DEPTH} deep"
            )


def _block_from_dict(data: object, budget: _Budget, depth: int) -> Block:
    budget.spend(depth, blocks=1)
    if not isinstance(data, dict):
        raise SpecError(f"a block must be an object with its kind under {KIND_KEY!r}, not {type(data).__name__}")
    kind = BLOCKS[data.get(KIND_KEY)]  # type: ignore[index]
    values = {name: value for name, value in data.items() if name != KIND_KEY}
    for name in values:
        require_field(kind, name, f"field of {kind.__name__}")

    def value_of(value: object, level: int) -> Any:
        if isinstance(value, dict):
            return _block_from_dict(value, budget, depth + 1)
        if isinstance(value, list) and level < 3:  # a pair, the paths of a Parallel, the blocks of a path
            budget.spend(depth, paths=sum(isinstance(one, list) for one in value))
            return tuple(value_of(one, level + 1) for one in value)
        return value

    required = {item.name for item in dataclasses.fields(kind) if item.default is dataclasses.MISSING}
    if missing := required - set(values):
        raise SpecError(f"{kind.__name__} lacks {', '.join(sorted(missing))}")
    return kind(**{name: value_of(value, 0) for name, value in values.items()})


# --- labels ---


def _fill_labels(sections: tuple[tuple[Block, ...], ...], name: str) -> tuple[tuple[Block, ...], ...]:
    """Fills in missing labels: blocks with weights increase the number, other blocks repeat it."""
    explicit = [block.label for blocks in sections for block in blocks if block.label]
    if duplicates := sorted(label for label, times in Counter(explicit).items() if times > 1):
        raise SpecError(f"{name}: labels must be unique, and {', '.join(map(repr, duplicates))} occurs more than once")
    used = set(explicit)
    depth = 0

    def next_label(block: Block) -> str:
        if block.has_weights and f"{block.label_prefix}{depth + 1}" not in used:
            return f"{block.label_prefix}{depth + 1}"
        base = block.label_prefix if isinstance(block, Flatten) else f"{block.label_prefix}{depth}"
        # an inserted block is conv1b, pool1b, ...
        letters = ("", *map(chr, range(ord("b"), ord("z") + 1)))
        candidates = itertools.chain(letters, (f"_{number}" for number in itertools.count(len(used))))
        return next(base + suffix for suffix in candidates if base + suffix not in used)

    filled = []
    for blocks in sections:
        labeled = []
        for block in blocks:
            if block.branches():
                block = block.with_branches(_fill_labels(block.branches(), name))
            if not block.label:
                block = dataclasses.replace(block, label=next_label(block))
                used.add(block.label)
            if block.has_weights:
                stem = block.label.rstrip(string.ascii_lowercase)  # conv12 of conv12b
                digits = stem[len(stem.rstrip(string.digits)) :]
                depth = int(digits) if digits else depth + 1
            labeled.append(block)
        filled.append(tuple(labeled))
    return tuple(filled)
