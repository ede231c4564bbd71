"""Hostile descriptions of networks: those that were found by hand, and combinations of them from a seed.

Each is the JSON of a Spec, or of more of config.json, that must be refused by a CnnzooError or read exactly, for at
most ``MAX_SECONDS`` of CPU time and ``MAX_BYTES`` of memory.
"""

from __future__ import annotations

import copy
import functools
import json
import random
from collections.abc import Callable, Iterator
from typing import Any

import cnnzoo

Json = dict[str, Any]

MAX_SECONDS = 1.0  # of CPU time for one description
MAX_BYTES = 100_000_000  # of additional memory for one description

BIG = 2**24  # the maximum of integers in blocks
ANSI = "\x1b]0;owned\x07\x1b[31m"
NUMBERS: tuple[Any, ...] = (
    0, -1, 1, 2, 7, 255, 2**12, 2**14, BIG, BIG + 1, 2**31, 2**53, 2**63, 2**64, 10**40, 10**4000, 0.5, 1e-300, 1e308,
    -1e308, float("nan"), float("inf"), True, False, None,
)  # fmt: skip
TEXTS = (
    "", " ", ".", "..", "../../x", "a/b", "\\", "\0", "\n", "\u2028", ANSI, "\ud800", "\u202egpj", "relu", "batch:1e-5",
    "F64", "=1+1", "<b>|*_`", "x" * 1000, "1" * 5000, "1" * 100_000 + "!", "x" * 1_000_000,
    "batch:" + "0" * 100_000 + "1", "é" * 300_000,
)  # fmt: skip
STRUCTURES: tuple[Any, ...] = (
    [],
    {},
    [[]],
    [[], []],
    [1, 2, 3],
    {"block": "Conv"},
    {"block": "Flatten"},
    [None] * 1000,
)


def spec_of(*features: Json, classifier: tuple[Json, ...] = (), input: Any = (1, 8, 8), name: Any = "hostile") -> Json:
    """The JSON of a Spec."""
    return {"name": name, "input": list(input), "features": list(features), "classifier": list(classifier)}


def block(kind: str, **fields: Any) -> Json:
    return {"block": kind, **fields}


def nested(depth: int, *inner: Json, paths: int = 1) -> Json:
    """Parallels within each other."""
    value: list[Json] = list(inner)
    for _ in range(depth):
        value = [block("Parallel", paths=[value] + [[]] * (paths - 1), merge="add")]
    return value[0] if value else block("Parallel", paths=[[]])


CONV = block("Conv", out_channels=4, kernel_size=3, padding=1)
WIDE = block("Conv", out_channels=BIG, kernel_size=1)
FLATTEN, DENSE, LOGITS = block("Flatten"), block("Dense", out_features=8), block("Logits", num_classes=3)
DOUBLE = block("Parallel", paths=[[], []])  # twice the channels


def _distinct(n: int, norm: str | None = None, **fields: Any) -> list[Json]:
    """Convolutions that are all different."""
    return [block("Conv", out_channels=i + 1, kernel_size=1, norm=norm, **fields) for i in range(n)]


SPECS: dict[str, Callable[[], Json]] = {
    # --- sizes ---
    "huge kernel": lambda: spec_of(block("Conv", out_channels=BIG, kernel_size=BIG, padding=BIG)),
    "huge kernels": lambda: spec_of(*[block("Conv", out_channels=BIG, kernel_size=[BIG, BIG], padding=BIG)] * 3),
    "huge dilation": lambda: spec_of(block("Conv", out_channels=1, kernel_size=3, dilation=BIG, padding=BIG)),
    "huge padding": lambda: spec_of(*[block("Conv", out_channels=1, kernel_size=1, padding=BIG)] * 50),
    "huge groups": lambda: spec_of(block("Conv", out_channels=BIG, kernel_size=1, groups=BIG), input=(BIG, 1, 1)),
    "many groups": lambda: spec_of(
        block("Conv", out_channels=BIG, kernel_size=3, groups=BIG, norm="group:16777215"), input=(BIG, 4096, 4096)
    ),
    "huge input": lambda: spec_of(CONV, FLATTEN, classifier=(LOGITS,), input=(BIG, BIG, BIG)),
    "wide input": lambda: spec_of(CONV, FLATTEN, classifier=(LOGITS,), input=(1, 1, BIG)),
    "input of floats": lambda: spec_of(CONV, input=(1.0, 8.0, 8.0)),
    "input of booleans": lambda: spec_of(CONV, input=(True, 8, 8)),
    "wide convolutions": lambda: spec_of(WIDE, WIDE, WIDE),
    "wide layers": lambda: spec_of(FLATTEN, classifier=(*[block("Dense", out_features=BIG)] * 3, LOGITS)),
    "many classes": lambda: spec_of(FLATTEN, classifier=(block("Logits", num_classes=BIG),)),
    "flattened overflow": lambda: spec_of(
        block("AdaptiveAvgPool", output_size=[BIG, BIG]), FLATTEN, classifier=(LOGITS,), input=(BIG, 2, 2)
    ),
    "adaptive pool": lambda: spec_of(block("AdaptiveMaxPool", output_size=BIG)),
    "doubled 60 times": lambda: spec_of(*[DOUBLE] * 60, CONV),
    "doubled 40 times": lambda: spec_of(*[DOUBLE] * 40, CONV, FLATTEN, classifier=(LOGITS,)),
    "doubled 20 times": lambda: spec_of(*[DOUBLE] * 20, WIDE, FLATTEN, classifier=(LOGITS,)),
    "a window of everything": lambda: spec_of(
        block("Subsample", kernel_size=[4096, 4096], init="uniform_over_fan_in"), input=(1024, 4096, 4096)
    ),
    "a window of gigabytes": lambda: spec_of(
        block("Subsample", kernel_size=4096, init="normal:0.1", bias_init=1.0), FLATTEN, input=(256, 4096, 4096),
        classifier=(LOGITS,),
    ),
    "a huge window": lambda: spec_of(block("Subsample", kernel_size=BIG, init="normal"), input=(1, BIG, BIG)),
    "LRN of all maps": lambda: spec_of(block("LRN", size=BIG), FLATTEN, classifier=(LOGITS,)),
    "LRN with infinite exponent": lambda: spec_of(block("LRN", beta=1e299, alpha=-1e299, k=-1.0)),
    "norm of many maps": lambda: spec_of(block("Norm", norm="batch"), input=(BIG, 1, 1)),
    # --- buffers ---
    "a long code": lambda: spec_of(FLATTEN, classifier=(block("RBF", codes=["+" * 1_000_000]),)),
    "many codes": lambda: spec_of(FLATTEN, classifier=(block("RBF", codes=["+-"] * 200_000),), input=(1, 1, 2)),
    "codes that fit": lambda: spec_of(
        FLATTEN, classifier=(block("RBF", codes=["+-" * 500] * 1000),), input=(1, 1, 1000)
    ),
    "codes behind a huge layer": lambda: spec_of(
        FLATTEN, classifier=(block("Dense", out_features=BIG), block("Dense", out_features=2),
                             block("RBF", codes=["+-", "-+"])), input=(1, 4096, 4096),
    ),
    "a huge map in a table": lambda: spec_of(block("TableConv", table=[[BIG]], kernel_size=1)),
    "a huge map that exists": lambda: spec_of(
        block("TableConv", table=[[BIG - 1]], kernel_size=1), input=(BIG, 1, 1)
    ),
    "a long table": lambda: spec_of(block("TableConv", table=[[0]] * 200_000, kernel_size=1)),
    "a wide table": lambda: spec_of(
        block("TableConv", table=[list(range(100_000))], kernel_size=1), input=(10**5, 1, 1)
    ),
    "a table of all lengths": lambda: spec_of(
        block("TableConv", table=[list(range(n)) for n in range(1, 700)], kernel_size=1), input=(700, 1, 1)
    ),
    "a table of a huge kernel": lambda: spec_of(
        block("TableConv", table=[[0]] * 1000, kernel_size=BIG, padding=BIG), FLATTEN, classifier=(LOGITS,)
    ),
    "a table of repeated maps": lambda: spec_of(block("TableConv", table=[[0] * 400_000], kernel_size=1)),
    # --- numbers and nesting ---
    "100,000 empty paths": lambda: spec_of(block("Parallel", paths=[[]] * 100_000)),
    "400,000 empty paths, added": lambda: spec_of(block("Parallel", paths=[[]] * 400_000, merge="add")),
    "empty paths, several": lambda: spec_of(*[block("Parallel", paths=[[]] * 900, merge="add")] * 100),
    "no paths": lambda: spec_of(block("Parallel", paths=[])),
    "paths of numbers": lambda: spec_of(block("Parallel", paths=[[1, 2], [3]])),
    "16 deep": lambda: spec_of(nested(16, CONV, paths=2)),
    "17 deep": lambda: spec_of(nested(17, CONV)),
    "300 deep": lambda: spec_of(nested(300, CONV)),
    "16 deep, 16 times, and does not fit": lambda: spec_of(
        *[nested(16, block("Conv", out_channels=1, kernel_size=3, padding=1)) for _ in range(60)],
        block("MaxPool", kernel_size=100),
    ),
    "260 kB that do not fit": lambda: spec_of(
        *[nested(16, *_distinct(15)[:-1], block("Conv", out_channels=1, kernel_size=1)) for _ in range(100)], DENSE
    ),
    "a thousand blocks that do not fit": lambda: spec_of(*_distinct(999, "batch"), block("MaxPool", kernel_size=9)),
    "blocks that fit images of 4000 px": lambda: spec_of(*_distinct(990, "batch"), block("MaxPool", kernel_size=4000)),
    "a thousand layers that do not fit": lambda: spec_of(
        *[block("Conv", out_channels=i + 1, kernel_size=3, padding=1, norm="instance") for i in range(990)],
        *[block("MaxPool", kernel_size=2)] * 9,
    ),
    "2,000 different blocks": lambda: spec_of(*_distinct(1990, "batch")),
    "2,000 different norms": lambda: spec_of(*[block("Norm", norm=f"batch:{i + 1}e-9") for i in range(1990)]),
    "2,000 different layers": lambda: spec_of(
        FLATTEN, classifier=tuple(block("Dense", out_features=i + 1, activation="gelu") for i in range(1990))
    ),
    "2,000 LRN": lambda: spec_of(
        *[block("LRN", size=i % 60 + 1, alpha=i + 1.0) for i in range(1990)], input=(64, 8, 8)
    ),
    "9,999 blocks": lambda: spec_of(*_distinct(9_990, "batch")),
    "9,999 equal blocks": lambda: spec_of(*[CONV] * 9_990),
    "40,000 blocks": lambda: spec_of(*[block("Activation")] * 40_000),
    "blocks in a pair": lambda: spec_of(block("Conv", out_channels=1, kernel_size=[CONV, CONV])),
    "a block in a field": lambda: spec_of(block("Dropout", p=nested(10, CONV))),
    "a list 900 deep": lambda: spec_of(block("Conv", out_channels=json.loads("[" * 900 + "]" * 900), kernel_size=1)),
    "a name 900 deep": lambda: spec_of(CONV, name=json.loads("[" * 900 + "]" * 900)),
    "a million lists": lambda: spec_of(block("Conv", out_channels=[[]] * 400_000, kernel_size=1)),
    "instance norm of a pixel": lambda: spec_of(block("Norm", norm="instance"), input=(3, 1, 1)),
    "empty": lambda: spec_of(),
    # --- texts ---
    "a long name": lambda: spec_of(CONV, name="x" * 1_400_000),
    "a long kind": lambda: spec_of(block("x" * 1_400_000)),
    "a kind that is a list": lambda: spec_of({"block": [[]]}),
    "a long field": lambda: spec_of(block("Conv", **{"x" * 1_400_000: 1})),
    "many fields": lambda: spec_of(block("Conv", **{f"f{i}": 1 for i in range(100_000)})),
    "a long activation": lambda: spec_of(block("Activation", activation="rel" * 400_000)),
    "a long norm": lambda: spec_of(block("Norm", norm="batch:" + "9" * 1_000_000)),
    "a norm of digits": lambda: spec_of(block("Norm", norm="batch:1e-" + "0" * 1_000_000 + "5")),
    "a long init": lambda: spec_of({**CONV, "init": "normal:" + "1" * 1_000_000}),
    "a long label": lambda: spec_of({**CONV, "label": "x" * 1_400_000}),
    "a label of digits": lambda: spec_of({**CONV, "label": "1" * 1_000_000 + "!"}, CONV),
    "a label with a huge number": lambda: spec_of({**CONV, "label": "conv" + "9" * 5000}, CONV),
    "many labels of digits": lambda: spec_of(*[{**CONV, "label": "1" * 150 + f"!{i}"} for i in range(1000)]),
    "labels that take all letters": lambda: spec_of(*[block("Activation")] * 2000),
    "labels twice": lambda: spec_of(*[{**CONV, "label": "x" * 50}] * 2000),
    "a label of control characters": lambda: spec_of({**CONV, "label": ANSI}),
    "a label of half a character": lambda: spec_of({**CONV, "label": "\ud800"}),
    "a name of control characters": lambda: spec_of(CONV, name=ANSI),
    "a name of half a character": lambda: spec_of(CONV, name="\udfff"),
    "a name of a line": lambda: spec_of(CONV, name="a\u2028b"),
    "a name that turns": lambda: spec_of(CONV, name="\u202egpj.exe"),
    "a name too long for a file": lambda: spec_of(CONV, name="é" * 200),
    "initial values": lambda: spec_of(
        {**CONV, "init": "normal:1e308", "bias_init": 1e299}, {**CONV, "init": "constant:-1e308"},
        {**CONV, "init": "uniform:1e308"}, FLATTEN, classifier=({**LOGITS, "init": "xavier_uniform:1e308"},),
    ),
}  # fmt: skip


@functools.cache
def _good_text() -> str:
    net = cnnzoo.create(cnnzoo.Spec.from_dict(spec_of(CONV, FLATTEN, classifier=(LOGITS,), name="small")), seed=0)
    return json.dumps(net.describe())


def good_description() -> Json:
    """The description of a small network."""
    return json.loads(_good_text())


def _changed(change: Callable[[Json], Any]) -> Callable[[], Json]:
    def make() -> Json:
        description = good_description()
        change(description)
        return description

    return make


def _preprocessing(**changes: Any) -> Callable[[], Json]:
    values = {"input_size": [1, 8, 8], "mean": [0.5], "std": [0.25], **changes}
    return _changed(lambda d: d["pretrained_cfg"].update(values))


def _provenance(value: Any) -> Callable[[], Json]:
    return _changed(lambda d: d["cnnzoo"].update(provenance=value))


def _deep(depth: int) -> Any:
    value: Any = {"kind": "x"}
    for _ in range(depth):
        value = {"kind": "x", "from": value}
    return value


DESCRIPTIONS: dict[str, Callable[[], Json]] = {
    "crop_pct": _preprocessing(crop_pct=0.001),
    "crop_pct of a large size": _preprocessing(crop_pct=0.05, input_size=[1, 16384, 16384]),
    "input of gigabytes": _preprocessing(input_size=[1, 2**14, 2**14]),
    "many means": _preprocessing(mean=[0.5] * 100_000, std=[0.5] * 100_000, input_size=[100_000, 8, 8]),
    "tiny std": _preprocessing(std=[1e-320]),
    "huge mean": _preprocessing(mean=[1e299]),
    "mean of a huge integer": _preprocessing(mean=[10**4000]),
    "nan mean": _preprocessing(mean=[float("nan")]),
    "long interpolation": _preprocessing(interpolation="b" * 1_000_000),
    "long crop mode": _preprocessing(crop_mode="b" * 1_000_000),
    "input size of objects": _preprocessing(input_size=[{"a": [1] * 10_000}] * 3),
    "a million label names": _changed(lambda d: d.update(label_names=["x"] * 300_000)),
    "long label names": _changed(lambda d: d.update(label_names=["x" * 400_000, "y" * 400_000, "z" * 400_000])),
    "label names of control characters": _changed(lambda d: d.update(label_names=["a", ANSI, "c"])),
    "label names of half characters": _changed(lambda d: d.update(label_names=["a", "\ud800", "c"])),
    "label names with breaks": _changed(lambda d: d.update(label_names=["a", "b\nc", "c"])),
    "label names of nothing": _changed(lambda d: d.update(label_names=["", "", ""])),
    "label names of numbers": _changed(lambda d: d.update(label_names=[1, 2, 3])),
    "decoding": _changed(lambda d: d["cnnzoo"].update(decoding={"x" * 1_000_000: 1})),
    "decoding of a large size": _changed(lambda d: d["cnnzoo"].update(decoding={"image_size": 2**14})),
    "decoding of text": _changed(lambda d: d["cnnzoo"].update(decoding="x" * 1_000_000)),
    "provenance 800 deep": _provenance(_deep(400)),
    "provenance that is long": _provenance({"kind": "x" * 1_000_000}),
    "provenance of control characters": _provenance({"kind": ANSI, "data": {"name": ANSI}}),
    "provenance of half characters": _provenance({"kind": "trained", "data": "\ud800"}),
    "provenance of many keys": _provenance({"kind": "x", **{f"k{i}": i for i in range(50_000)}}),
    "provenance of a list": _provenance({"kind": ["x"]}),
    "provenance of other types": _provenance({"kind": "trained", "config": 1, "data": [], "metrics": "x"}),
    "format version": _changed(lambda d: d["cnnzoo"].update(format_version="9" * 1_000_000)),
    "format version true": _changed(lambda d: d["cnnzoo"].update(format_version=True)),
    "checksum": _changed(lambda d: d["cnnzoo"].update(weights_sha256="0" * 1_000_000)),
    "checksum of a list": _changed(lambda d: d["cnnzoo"].update(weights_sha256=[[]] * 100_000)),
    "pretrained_cfg of a list": _changed(lambda d: d.update(pretrained_cfg=[1])),
    "cnnzoo of a list": _changed(lambda d: d.update(cnnzoo=[{"spec": 1}])),
    "a spec of text": _changed(lambda d: d["cnnzoo"].update(spec="x" * 1_000_000)),
    "more keys": _changed(lambda d: d["cnnzoo"]["spec"].update({f"k{i}": 1 for i in range(100_000)})),
    "aliases": _changed(
        lambda d: d.update(aliases={f"features.{i}.weight": "features.0.weight" for i in range(20_000)})
    ),
    "aliases of nothing": _changed(lambda d: d.update(aliases={f"x{i}": "y" * 50 for i in range(10_000)})),
    "aliases of a list": _changed(lambda d: d.update(aliases=["a"])),
    "aliases of lists": _changed(lambda d: d.update(aliases={"a": ["b"]})),
}


def corpus() -> Iterator[tuple[str, Json]]:
    """Yields (name, description) of all hostile descriptions that were found by hand."""
    for name, make in SPECS.items():
        description = good_description()
        description["cnnzoo"]["spec"] = make()
        yield name, description
    for name, make in DESCRIPTIONS.items():
        yield name, make()


@functools.cache
def _spec_texts() -> list[str]:
    names = ("lenet", "lenet5_1998", "alexnet", "googlenet", "resnet18")
    texts = [json.dumps(cnnzoo.get_spec(name).to_dict()) for name in names]
    return texts + [text for make in SPECS.values() if len(text := json.dumps(make())) < 10_000]


def generate(number: int, seed: int = 0) -> Iterator[tuple[str, Json]]:
    """Yields (name, description) of descriptions that are hostile at random, from a seed."""
    rng = random.Random(seed)
    specs = _spec_texts()
    for i in range(number):
        description = good_description()
        spec = description["cnnzoo"]["spec"] = json.loads(rng.choice(specs))
        target: Any = spec if rng.random() < 0.8 else description
        for _ in range(rng.choice((1, 1, 2, 3, 8))):
            mutate(target, rng)
        yield f"generated {i} of seed {seed}", description


def mutate(value: Any, rng: random.Random) -> None:
    """Changes a value somewhere in nested JSON: to an extreme, another type, more of it, nothing, another key."""
    while isinstance(value, (dict, list)) and value:
        key = rng.choice(list(value) if isinstance(value, dict) else range(len(value)))
        child = value[key]
        if isinstance(child, (dict, list)) and child and rng.random() > 0.15:
            value = child
            continue
        action = rng.random()
        if action < 0.1:
            del value[key]
        elif action < 0.2 and isinstance(value, dict):
            value[rng.choice(("", "../x", "extra", "block", "label", "x" * 1000))] = child
        elif action < 0.35 and isinstance(value, list):
            value *= rng.choice((2, 50, 1000)) if len(json.dumps(value)) < 1000 else 2
        elif action < 0.45:
            value[key] = copy.deepcopy(rng.choice(STRUCTURES))
        elif action < 0.6:
            value[key] = rng.choice(TEXTS)
        elif type(child) is int and action < 0.75:
            value[key] = child + rng.choice((-1, 1, 8, -8))
        else:
            value[key] = rng.choice(NUMBERS)
        return
