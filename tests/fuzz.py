"""Damages weights files at random, from a seed, and loads them.

python tests/fuzz.py --files 10000 --seed 0

Each file must either load to exactly the weights of its checksum, or be refused with a CnnzooError: no crash, no hang,
and no more memory than the size of the file and 50 MB.
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

MAX_SECONDS = 10.0  # for one file, on a busy machine
MAX_MEMORY = 50_000_000  # bytes in addition to the file

NUMBERS = (0, -1, 1, 7, 2**24, 2**31, 2**53, 2**63, 2**64, 10**12, 10**40, 1e308, 0.5, True, None)
VALUES = (*NUMBERS, "", "../../x", "F32", "F64", "relu", "\0", "x" * 10_000, [], {}, [[]], {"block": "Conv"}, [1, 2, 3])


def _split(raw: bytes) -> tuple[bytes, bytes]:
    (size,) = struct.unpack("<Q", raw[:8])
    return raw[8 : 8 + size], raw[8 + size :]


def _join(header: bytes, data: bytes) -> bytes:
    return struct.pack("<Q", len(header)) + header + data


def flip(raw: bytes, other: bytes, rng: random.Random) -> bytes:
    """Flips some bits, anywhere or in the header."""
    changed = bytearray(raw)
    end = len(raw) if rng.random() < 0.3 else len(raw) - len(_split(raw)[1])
    for _ in range(rng.choice((1, 1, 2, 8, 64))):
        changed[rng.randrange(end)] ^= 1 << rng.randrange(8)
    return bytes(changed)


def truncate(raw: bytes, other: bytes, rng: random.Random) -> bytes:
    """Cuts the file at any place or near an end, or adds zeros."""
    if rng.random() < 0.2:
        return raw + bytes(rng.randrange(1, 100))
    return raw[: rng.choice((rng.randrange(20), rng.randrange(len(raw)), len(raw) - rng.randrange(1, 20)))]


def swap(raw: bytes, other: bytes, rng: random.Random) -> bytes:
    """Combines header and tensors of two files, or swaps two parts of the file."""
    (head, data), (other_head, other_data) = _split(raw), _split(other)
    if rng.random() < 0.5:
        return _join(other_head, data) if rng.random() < 0.5 else _join(head, other_data)
    a, b, n = rng.randrange(len(raw)), rng.randrange(len(raw)), rng.randrange(1, 200)
    changed = bytearray(raw)
    changed[a : a + n], changed[b : b + n] = raw[b : b + n], raw[a : a + n]
    return bytes(changed[: len(raw)])


def edit_header(raw: bytes, other: bytes, rng: random.Random) -> bytes:
    """Replaces values anywhere in the header, or in the description of the network; it stays valid JSON."""
    head, data = _split(raw)
    header = json.loads(head)
    inner = rng.random() < 0.6
    target = json.loads(header["__metadata__"]["cnnzoo"]) if inner else header
    for _ in range(rng.choice((1, 1, 1, 3))):
        _change(target, rng)
    if inner:
        header["__metadata__"]["cnnzoo"] = json.dumps(target)
    text = json.dumps(header)
    if rng.random() < 0.1:
        depth = rng.choice((10, 1000, 100_000))
        text = text.replace(str(rng.randrange(10)), "[" * depth + "]" * depth, 1)
    return _join(text.encode(), data)


def _change(value: object, rng: random.Random) -> None:
    """Changes a value somewhere in nested JSON."""
    while isinstance(value, (dict, list)) and value:
        key = rng.choice(list(value) if isinstance(value, dict) else range(len(value)))
        child = value[key]  # type: ignore[call-overload, index]
        if not isinstance(child, (dict, list)) or not child or rng.random() < 0.15:
            action = rng.random()
            if action < 0.15:
                del value[key]  # type: ignore[attr-defined]
            elif action < 0.25 and isinstance(value, dict):
                value[rng.choice(("", "../x", "extra", "block", "x" * 1000))] = child
            elif action < 0.35 and isinstance(value, list):
                value *= rng.choice((2, 50))
            elif type(child) is int and rng.random() < 0.5:
                value[key] = child + rng.choice((-1, 1, 8, -8))  # type: ignore[index]
            else:
                value[key] = rng.choice(VALUES)  # type: ignore[index]
            return
        value = child


MUTATIONS = (flip, truncate, swap, edit_header)


def fuzz(files: int, seed: int, folder: Path) -> Counter[str]:
    """Damages and loads a number of files.

    Returns:
        The number of each outcome: ``"loaded"``, and the names of errors.
    """
    warnings.simplefilter("ignore")
    originals = []
    for name in ("lenet", "lenet5_1998"):
        model = cnnzoo.create(name, pretrained=True)
        originals.append(cnnzoo.save(model, folder / f"{name}.safetensors").read_bytes())
    originals.append(cnnzoo.save(cnnzoo.create("lenet", seed=1), folder / "other.safetensors").read_bytes())
    rng = random.Random(seed)
    outcomes: Counter[str] = Counter()
    path = folder / "damaged.safetensors"
    peak = 0
    for number in range(files):
        raw = rng.choice(originals)
        damaged = rng.choice(MUTATIONS)(raw, rng.choice(originals), rng)
        path.write_bytes(damaged)
        if number == 50:  # everything is imported by now, and has run once
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        start = time.process_time()
        try:
            model = cnnzoo.load(path)
        except cnnzoo.CnnzooError as error:
            outcomes[type(error).__name__] += 1
            assert str(error).strip(), f"file {number} of seed {seed}: an error without a message"
        else:
            outcomes["loaded"] += 1
            expected = read_header(path)[1]["cnnzoo"]["weights_sha256"]
            assert weights_sha256(model.state_dict()) == expected, (
                f"file {number} of seed {seed}: other weights than those of its checksum"
            )
        seconds = time.process_time() - start
        assert seconds < MAX_SECONDS, f"file {number} of seed {seed} took {seconds:.1f} s"
        if peak:
            growth = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - peak
            assert growth < len(damaged) + MAX_MEMORY, (
                f"file {number} of seed {seed}: {growth:,} bytes more than before"
            )
    return outcomes


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--files", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        print(dict(fuzz(args.files, args.seed, Path(temporary))))
