"""How fast a weights file is written, and becomes a network: ours beside torch.save, torch.load and safetensors.

python tests/benchmarks/weights_speed.py            # alexnet_owt, 244 MB
python tests/benchmarks/weights_speed.py resnet18 --repeats 15 --folder /dev/shm

Each way starts from a file in the page cache and ends with a network whose weights can be used; the best of some
repeats counts, the ways taking turns. Needs nothing but cnnzoo. `torch.save` leaves the file to the system; ours is on
the disk when it returns (fsync), so that torch.save is timed with that, too.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import safetensors.torch
import torch
import torchvision

import cnnzoo

# the ways that are compared: what is asked of each, as times faster than the first
TARGETS = {"cnnzoo.load": 1.8, "cnnzoo.load(verify=False)": 4.0, "cnnzoo.load(mmap=True, verify=False)": 50.0}


def best(ways: dict[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """Seconds of each way, the best of so many; the ways take turns, so that all see the same machine."""
    found = {name: float("inf") for name in ways}
    for _ in range(repeats):
        for name, way in ways.items():
            began = time.perf_counter()
            kept = way()
            found[name] = min(found[name], time.perf_counter() - began)
            del kept
    return found


def main(name: str, folder: Path, repeats: int) -> None:
    """Prints two tables: loading and saving."""
    model = cnnzoo.create(name, seed=0)
    twin = getattr(torchvision.models, name.removesuffix("_owt"))
    state = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    ours, pth, plain = folder / "ours.safetensors", folder / "theirs.pth", folder / "plain.safetensors"

    def constructed(read: Callable[[], dict[str, torch.Tensor]]) -> torch.nn.Module:
        net: torch.nn.Module = twin()
        net.load_state_dict(read())
        return net

    def torch_save_synced() -> None:
        with pth.open("wb") as file:
            torch.save(state, file)
            file.flush()
            os.fsync(file.fileno())

    saved = best(
        {
            "torch.save": lambda: torch.save(state, pth),
            "torch.save and fsync": torch_save_synced,
            "safetensors.torch.save_file": lambda: safetensors.torch.save_file(state, plain),
            "cnnzoo.save": lambda: cnnzoo.save(model, ours, overwrite=True),
        },
        repeats,
    )
    loaded = best(
        {
            "torchvision + torch.load + load_state_dict": lambda: constructed(lambda: torch.load(pth)),
            "torchvision + safetensors + load_state_dict": lambda: constructed(
                lambda: safetensors.torch.load_file(plain)
            ),
            "cnnzoo.load": lambda: cnnzoo.load(ours),
            "cnnzoo.load(verify=False)": lambda: cnnzoo.load(ours, verify=False),
            "cnnzoo.load(mmap=True)": lambda: cnnzoo.load(ours, mmap=True),
            "cnnzoo.load(mmap=True, verify=False)": lambda: cnnzoo.load(ours, mmap=True, verify=False),
        },
        repeats,
    )
    print(f"{name}: {ours.stat().st_size / 1e6:.1f} MB, best of {repeats}, {torch.get_num_threads()} threads\n")
    print("| saving | ms | times as fast as torch.save |\n| --- | ---: | ---: |")
    for way, seconds in saved.items():
        print(f"| {way} | {seconds * 1e3:.1f} | {saved['torch.save'] / seconds:.2f} |")
    print("\n| loading | ms | times as fast as the first | asked |\n| --- | ---: | ---: | ---: |")
    first = next(iter(loaded.values()))
    for way, seconds in loaded.items():
        print(f"| {way} | {seconds * 1e3:.1f} | {first / seconds:.1f} | {TARGETS.get(way, '')} |")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("name", nargs="?", default="alexnet_owt")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--folder", type=Path, help="where the files go; by default a temporary folder")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=given.folder) as made:
        main(given.name, Path(made), given.repeats)
