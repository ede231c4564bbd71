"""Damages the files of runs, from a seed, and starts the runs again.

python tests/damages.py --seed 1

For each file of an interrupted run and of a finished one: bits are flipped, the file is cut, emptied, removed or
replaced by a folder, and values in JSON get another type or size. The same call again must end with the same weights,
history and metrics, or with an error of cnnzoo in one line, which removes nothing.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from kills import BEST, SGD, SPEC, make_data, results
from runs import StopAt

import cnnzoo
from cnnzoo.errors import CnnzooError

CONFIG = SGD.replace(epochs=2, checkpoint_every=3, **BEST)
DATA = make_data("val")
VALUES = (None, "6", 10**9, -1, 1.5, [], {}, True, "x" * 100, ...)  # ... removes the value
MAX_MESSAGE = 2000  # characters
UNCHECKED = ("weights_sha256", "version")  # in config.json, which the weights file states too, or need not


def fit(out: Path, *callbacks: object) -> None:
    model = cnnzoo.create(SPEC, seed=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        cnnzoo.Trainer(model, DATA, CONFIG, out=out, resume="auto", callbacks=callbacks, show=False).fit()


def snapshot(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in sorted(folder.rglob("*")) if file.is_file()}


def paths(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yields the keys to each value in a nested value."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield (*path, key)
        yield from paths(inner, (*path, key))


def change(value: Any, path: tuple[Any, ...], new: Any) -> None:
    """Replaces or removes a value in a nested value."""
    for key in path[:-1]:
        value = value[key]
    if new is ...:
        del value[path[-1]]
    else:
        value[path[-1]] = new


def damages(name: str, content: bytes, rng: random.Random, n: int) -> Iterator[tuple[str, bytes | None]]:
    """Yields damages of a file: what was done, and the new content; None for a file that is removed."""
    for _ in range(n):
        index, bit = rng.randrange(len(content)), 1 << rng.randrange(8)
        yield f"bit flipped in byte {index}", content[:index] + bytes([content[index] ^ bit]) + content[index + 1 :]
    for size in (0, 1, len(content) // 3, len(content) - 1):
        yield f"cut to {size} bytes", content[:size]
    yield "removed", None
    if name.endswith((".json", ".jsonl")):
        lines = content.decode().splitlines() if name.endswith("l") else [content.decode()]
        for _ in range(2 * n):
            values = [json.loads(line) for line in lines]
            value, new = rng.choice(values), rng.choice(VALUES)
            path = rng.choice(list(paths(value)))
            if path[-1] in UNCHECKED and name == "config.json":
                continue
            change(value, path, new)
            yield f"{path} = {str(new)[:20]}", ("\n".join(map(json.dumps, values)) + "\n").encode()


def damage_runs(folder: Path, seed: int, n: int) -> tuple[Counter[str], list[str]]:
    """Damages runs in every way; returns figures and failures."""
    rng, figures, failures = random.Random(seed), Counter[str](), list[str]()
    fit(folder / "finished")
    fit(folder / "interrupted", StopAt(8, signal.SIGTERM))
    expected = results(folder / "finished")
    for kind in ("interrupted", "finished"):
        for name, content in snapshot(folder / kind).items():
            for what, new in damages(name, content, rng, n):
                out = folder / "run"
                shutil.rmtree(out, ignore_errors=True)
                shutil.copytree(folder / kind, out)
                (out / name).unlink() if new is None else (out / name).write_bytes(new)
                outcome = start_again(out, expected, is_curve=name == "curves.png")
                figures[f"{kind}: {outcome if outcome in ('the same', 'refused') else 'FAILED'}"] += 1
                if outcome not in ("the same", "refused"):
                    failures.append(f"seed {seed}, {kind}, {name}, {what}: {outcome}")
                    print(f"FAILED {failures[-1]}", file=sys.stderr, flush=True)
    return figures, failures


def start_again(out: Path, expected: Mapping[str, Any], is_curve: bool) -> str:
    """Returns how a run ended: ``"the same"``, ``"refused"``, or what is wrong."""
    before = snapshot(out)
    try:
        fit(out)
    except CnnzooError as error:
        message = str(error)
        if "\n" in message or len(message) > MAX_MESSAGE or str(out) not in message:
            return f"not a clear sentence: {message}"
        return "refused" if snapshot(out) == before else f"refused, but the folder has changed: {message}"
    except Exception:
        return traceback.format_exc()
    found = results(out)
    return next(
        (f"other {key}" for key in expected if found[key] != expected[key] and not (key == "files" and is_curve)),
        "the same",
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--flips", type=int, default=20, help="flipped bits of each file")
    args = parser.parse_args()
    torch.set_num_threads(1)
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as temporary:
        figures, failures = damage_runs(Path(temporary), args.seed, args.flips)
    print("\n".join(f"{name}: {count}" for name, count in sorted(figures.items())))
    print(f"failures: {len(failures)}\nseconds: {time.perf_counter() - start:.0f}")
    raise SystemExit(len(failures) > 0)
