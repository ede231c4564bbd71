"""Damages weights files at random, from a seed, and looks at what loading them does.

python tests/fuzz.py --files 10000 --seed 0

Each file must load to exactly the weights that its checksum says, or be refused by an error of ours: no crash, no hang,
and no more memory than the file and 50 MB.
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import struct
import tempfile
import time
import warnings
from collections import Counter
from pathlib import Path

import cnnzoo
from cnnzoo.serialization import read_header, weights_sha256

LONGEST = 10.0  # seconds for one file, on a busy machine
MAX_MEMORY = 50_000_000  # bytes beyond the file

NUMBERS = (0, -1, 1, 7, 2**24, 2**31, 2**53, 2**63, 2**64, 10**12, 10**40, 1e308, 0.5, True, None)
VALUES = (*NUMBERS, "", "../../x", "F32", "F64", "relu", "\0", "x" * 10_000, [], {}, [[]], {"row": "Conv"}, [1, 2, 3])


def _parts(raw: bytes) -> tuple[bytes, bytes]:
    (size,) = struct.unpack("<Q", raw[:8])
    return raw[8 : 8 + size], raw[8 + size :]


def _joined(header: bytes, data: bytes) -> bytes:
    return struct.pack("<Q", len(header)) + header + data


def flip(raw: bytes, other: bytes, r: random.Random) -> bytes:
    """Some bits, anywhere or in the header."""
    changed = bytearray(raw)
    end = len(raw) if r.random() < 0.3 else len(raw) - len(_parts(raw)[1])
    for _ in range(r.choice((1, 1, 2, 8, 64))):
        changed[r.randrange(end)] ^= 1 << r.randrange(8)
    return bytes(changed)


def truncate(raw: bytes, other: bytes, r: random.Random) -> bytes:
    """Cut short, at any place or near an end; or longer than it was."""
    if r.random() < 0.2:
        return raw + bytes(r.randrange(1, 100))
    return raw[: r.choice((r.randrange(20), r.randrange(len(raw)), len(raw) - r.randrange(1, 20)))]


def swap(raw: bytes, other: bytes, r: random.Random) -> bytes:
    """The header of another network, or of the same with other weights; or parts of the file that changed places."""
    (head, data), (other_head, other_data) = _parts(raw), _parts(other)
    if r.random() < 0.5:
        return _joined(other_head, data) if r.random() < 0.5 else _joined(head, other_data)
    a, b, n = r.randrange(len(raw)), r.randrange(len(raw)), r.randrange(1, 200)
    changed = bytearray(raw)
    changed[a : a + n], changed[b : b + n] = raw[b : b + n], raw[a : a + n]
    return bytes(changed[: len(raw)])


def hostile(raw: bytes, other: bytes, r: random.Random) -> bytes:
    """A header that is JSON, and lies: other values anywhere in it, or in what it says of the network."""
    head, data = _parts(raw)
    header = json.loads(head)
    inner = r.random() < 0.6
    target = json.loads(header["__metadata__"]["cnnzoo"]) if inner else header
    for _ in range(r.choice((1, 1, 1, 3))):
        _change(target, r)
    if inner:
        header["__metadata__"]["cnnzoo"] = json.dumps(target)
    text = json.dumps(header)
    if r.random() < 0.1:
        depth = r.choice((10, 1000, 100_000))
        text = text.replace(str(r.randrange(10)), "[" * depth + "]" * depth, 1)
    return _joined(text.encode(), data)


def _change(value: object, r: random.Random) -> None:
    """Another value somewhere in nested JSON."""
    while isinstance(value, (dict, list)) and value:
        key = r.choice(list(value) if isinstance(value, dict) else range(len(value)))
        child = value[key]  # type: ignore[call-overload, index]
        if not isinstance(child, (dict, list)) or not child or r.random() < 0.15:
            action = r.random()
            if action < 0.15:
                del value[key]  # type: ignore[attr-defined]
            elif action < 0.25 and isinstance(value, dict):
                value[r.choice(("", "../x", "extra", "row", "x" * 1000))] = child
            elif action < 0.35 and isinstance(value, list):
                value *= r.choice((2, 50))
            elif type(child) is int and r.random() < 0.5:
                value[key] = child + r.choice((-1, 1, 8, -8))  # type: ignore[index]
            else:
                value[key] = r.choice(VALUES)  # type: ignore[index]
            return
        value = child


MUTATIONS = (flip, truncate, swap, hostile)


def fuzz(files: int, seed: int, folder: Path) -> Counter[str]:
    """Damages and loads so many files.

    Returns:
        What happened how often: ``"loaded"``, and the names of errors.
    """
    warnings.simplefilter("ignore")
    base = []
    for name in ("lenet", "lenet5_1998"):
        model = cnnzoo.create(name, pretrained=True)
        base.append(cnnzoo.save(model, folder / f"{name}.safetensors").read_bytes())
    base.append(cnnzoo.save(cnnzoo.create("lenet", seed=1), folder / "other.safetensors").read_bytes())
    r = random.Random(seed)
    found: Counter[str] = Counter()
    path = folder / "damaged.safetensors"
    peak = 0
    for number in range(files):
        raw = r.choice(base)
        made = r.choice(MUTATIONS)(raw, r.choice(base), r)
        path.write_bytes(made)
        if number == 50:  # by then everything is imported, and has run once
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        began = time.process_time()
        try:
            model = cnnzoo.load(path)
        except cnnzoo.CnnzooError as problem:
            found[type(problem).__name__] += 1
            assert str(problem).strip(), f"file {number} of seed {seed}: an error without a word"
        else:
            found["loaded"] += 1
            noted = read_header(path)[1]["cnnzoo"]["weights_sha256"]
            assert weights_sha256(model.state_dict()) == noted, (
                f"file {number} of seed {seed}: other weights than noted"
            )
        took = time.process_time() - began
        assert took < LONGEST, f"file {number} of seed {seed} took {took:.1f} s"
        if peak:
            grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - peak
            assert grown < len(made) + MAX_MEMORY, f"file {number} of seed {seed}: {grown:,} bytes more than before"
    return found


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--files", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as made:
        print(dict(fuzz(given.files, given.seed, Path(made))))
