"""Time to write a weights file, and to load it into a network: cnnzoo beside torch.save, torch.load and safetensors.

python tests/benchmarks/weights_speed.py            # alexnet_owt, 244 MB
python tests/benchmarks/weights_speed.py vgg11 --repeats 15 --folder /dev/shm

Each method starts from a file in the page cache and ends with a network whose weights can be used; the best of several
repeats counts, and the methods alternate. The network must have torchvision's keys. `torch.save` leaves writing to the
system; cnnzoo.save has written the file to the disk when it returns (fsync), so torch.save is also timed with fsync.
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

# how many times as fast as the first method each must be
TARGETS = {
    "cnnzoo.load": 1.8,
    "cnnzoo.load(verify=False)": 4.0,
    "cnnzoo.load(mmap=True, verify=False)": 50.0,
    "cnnzoo.create(pretrained=FILE.pth)": 1.0,
    "cnnzoo.create(pretrained=FILE.safetensors)": 1.0,
}


def best_seconds(methods: dict[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """Returns the best time of each method; they alternate, so that all run in the same conditions."""
    best = {name: float("inf") for name in methods}
    for _ in range(repeats):
        for name, method in methods.items():
            start = time.perf_counter()
            result = method()
            best[name] = min(best[name], time.perf_counter() - start)
            del result
    return best


def main(name: str, folder: Path, repeats: int) -> None:
    """Prints two tables: saving and loading."""
    model = cnnzoo.create(name, seed=0)
    torchvision_model = getattr(torchvision.models, name.removesuffix("_owt"))
    state = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    cnnzoo_file, pth_file, plain_file = (
        folder / "cnnzoo.safetensors",
        folder / "torch.pth",
        folder / "plain.safetensors",
    )

    def load_torchvision(read: Callable[[], dict[str, torch.Tensor]]) -> torch.nn.Module:
        net: torch.nn.Module = torchvision_model()
        net.load_state_dict(read())
        return net

    def save_with_fsync() -> None:
        with pth_file.open("wb") as file:
            torch.save(state, file)
            file.flush()
            os.fsync(file.fileno())

    saving = best_seconds(
        {
            "torch.save": lambda: torch.save(state, pth_file),
            "torch.save and fsync": save_with_fsync,
            "safetensors.torch.save_file": lambda: safetensors.torch.save_file(state, plain_file),
            "cnnzoo.save": lambda: cnnzoo.save(model, cnnzoo_file, overwrite=True),
        },
        repeats,
    )
    loading = best_seconds(
        {
            "torchvision + torch.load + load_state_dict": lambda: load_torchvision(lambda: torch.load(pth_file)),
            "torchvision + safetensors + load_state_dict": lambda: load_torchvision(
                lambda: safetensors.torch.load_file(plain_file)
            ),
            "cnnzoo.load": lambda: cnnzoo.load(cnnzoo_file),
            "cnnzoo.load(verify=False)": lambda: cnnzoo.load(cnnzoo_file, verify=False),
            "cnnzoo.load(mmap=True)": lambda: cnnzoo.load(cnnzoo_file, mmap=True),
            "cnnzoo.load(mmap=True, verify=False)": lambda: cnnzoo.load(cnnzoo_file, mmap=True, verify=False),
            "cnnzoo.create(pretrained=FILE.pth)": lambda: cnnzoo.create(name, pretrained=pth_file),
            "cnnzoo.create(pretrained=FILE.safetensors)": lambda: cnnzoo.create(name, pretrained=plain_file),
        },
        repeats,
    )
    size = cnnzoo_file.stat().st_size / 1e6
    print(f"{name}: {size:.1f} MB, best of {repeats}, {torch.get_num_threads()} threads\n")
    print("| saving | ms | times as fast as torch.save |\n| --- | ---: | ---: |")
    for method, seconds in saving.items():
        print(f"| {method} | {seconds * 1e3:.1f} | {saving['torch.save'] / seconds:.2f} |")
    print("\n| loading | ms | times as fast as the first | target |\n| --- | ---: | ---: | ---: |")
    first = next(iter(loading.values()))
    for method, seconds in loading.items():
        print(f"| {method} | {seconds * 1e3:.1f} | {first / seconds:.1f} | {TARGETS.get(method, '')} |")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("name", nargs="?", default="alexnet_owt")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--folder", type=Path, help="folder of the files; by default a temporary one")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=args.folder) as temporary:
        main(args.name, Path(temporary), args.repeats)
