"""Speed of reading image files against torchvision: wall clock, two worker processes, one run.

    python tests/benchmarks/loading_speed.py                  # everything: minutes
    python tests/benchmarks/loading_speed.py 12mp 500px

Each pair reads the same JPEG files to squares of 224 px, alternately, several times, with the workers' start; the
table gives the median of each and the median of their ratio. torchvision: ImageFolder, Resize, CenterCrop and
PILToTensor in a DataLoader. The images are noise of all scales, weaker the finer, as in photographs. The larger a file,
the longer it takes to decode, at whatever size: ``detailed`` images are larger files. Required: 8 times torchvision for
12 megapixels (not slower with scaled=False), 1.5 times for 500x375.

``plan`` measures an epoch over 1.3 million files: memory of the files' names, labels and order, at most 60 MB, and
seconds to the first batch, at most 2.
"""

from __future__ import annotations

import itertools
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader

from cnnzoo.data import Decoding, epoch_order, make_loader
from cnnzoo.data.folder import list_image_files
from cnnzoo.data.image_files import LocalFiles
from cnnzoo.device import machine_info

SIDE, WORKERS, BATCH = 224, 2, 32
FILES = 1_300_000


def photo(width: int, height: int, seed: int, fineness: float) -> Image.Image:
    """Returns noise whose amplitude falls with frequency to the power of ``1 / fineness``."""
    rng = np.random.default_rng(seed)
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None])
    frequency[0, 0] = 1
    layers = []
    for _ in range(3):
        spectrum = (rng.normal(size=(2, *frequency.shape)) * [[[1]], [[1j]]]).sum(0) / frequency ** (1 / fineness)
        layer = np.fft.irfft2(spectrum, s=(height, width))
        layers.append((layer - layer.mean()) / layer.std())
    gray, *tints = layers
    pixels = 120 + 55 * np.stack([gray, gray + tints[0] / 5, gray + tints[1] / 5], axis=-1)
    return Image.fromarray(pixels.clip(0, 255).astype("uint8"))


def write_files(folder: Path, n: int, distinct: int, size: tuple[int, int], fineness: float) -> float:
    """Writes JPEG files of two classes; returns their mean size in bytes."""
    contents = []
    for seed in range(distinct):
        photo(*size, seed, fineness).save(folder / "a.jpg", quality=90)
        contents.append((folder / "a.jpg").read_bytes())
    (folder / "a.jpg").unlink()
    for i, content in zip(range(n), itertools.cycle(contents), strict=False):
        (folder / str(i % 2)).mkdir(exist_ok=True)
        (folder / str(i % 2) / f"{i:04}.jpg").write_bytes(content)
    return statistics.fmean(map(len, contents))


def ours(folder: Path, scaled: bool) -> Callable[[], int]:
    names = [str(path.relative_to(folder)) for path in list_image_files(folder)]
    files = LocalFiles(folder, names, [int(name[0]) for name in names])
    files = files.with_decoding(Decoding(SIDE, scaled=scaled), 3)
    loader = make_loader(files, 2, torch.device("cpu"), WORKERS)
    return lambda: sum(len(labels) for _, labels in loader.batches(torch.arange(len(files)).split(BATCH), 0))


def torchvision(folder: Path) -> Callable[[], int]:
    from torchvision import datasets, transforms

    steps = [transforms.Resize(SIDE), transforms.CenterCrop(SIDE), transforms.PILToTensor()]
    files = datasets.ImageFolder(str(folder), transforms.Compose(steps))
    return lambda: sum(len(labels) for _, labels in DataLoader(files, BATCH, num_workers=WORKERS))


# name -> (width, height), files, distinct files, fineness, scaled, rounds, required ratio
PAIRS = {
    "12mp": ((4000, 3000), 48, 2, 0.55, True, 3, 8.0),
    "12mp-detailed": ((4000, 3000), 48, 2, 0.8, True, 3, 8.0),
    "12mp-unscaled": ((4000, 3000), 32, 2, 0.55, False, 3, 1.0),
    "500px": ((500, 375), 1_000, 50, 0.8, True, 7, 1.5),
    "500px-unscaled": ((500, 375), 600, 50, 0.8, False, 3, 1.0),
}


def compare(name: str) -> None:
    size, n, distinct, fineness, scaled, rounds, required = PAIRS[name]
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        mean_size = write_files(folder, n, distinct, size, fineness)
        sides = ours(folder, scaled), torchvision(folder)
        seconds: list[list[float]] = [[], []]
        for number in range(rounds + 1):
            for side in (0, 1) if number % 2 else (1, 0):
                start = time.perf_counter()
                assert sides[side]() == n
                if number:  # the first round warms up
                    seconds[side].append(time.perf_counter() - start)
    rates = [n / statistics.median(one) for one in seconds]
    ratio = statistics.median(b / a for a, b in zip(*seconds, strict=True))
    print(
        f"{name:18}{mean_size / 1024:10,.0f}{rates[0]:14,.0f}{rates[1]:17,.0f}{ratio:8.2f}{required:10.2f}", flush=True
    )


class OneFile(LocalFiles):
    """A table of many files that are all the same one."""

    def source(self, i: int) -> str:
        """Returns the path of that file, after looking up the name."""
        self.name(i)
        return self.root


def plan() -> None:
    with tempfile.TemporaryDirectory() as folder:
        photo(500, 375, 0, 0.8).save(f"{folder}/a.jpg", quality=90)
        names = (f"train/n{i // 1300:08}/n{i // 1300:08}_{i % 100_000}.JPEG" for i in range(FILES))
        files = OneFile(f"{folder}/a.jpg", names, [i // 1300 for i in range(FILES)])
        loader = make_loader(files.with_decoding(Decoding(SIDE), 3), 1000, torch.device("cpu"), WORKERS)
        start = time.perf_counter()
        order = epoch_order(FILES, 0, 0)
        next(loader.batches(order.split(256), 0))
        seconds = time.perf_counter() - start
    size = len(files._content) + sum(getattr(files, column).nbytes for column in files._columns) + order.nbytes
    print(
        f"plan of {FILES:,} files: {size / 1e6:.1f} MB (60), first batch of 256 after {seconds:.2f} s (2)", flush=True
    )


def main() -> None:
    print(", ".join(f"{key} {value}" for key, value in machine_info().items()))
    print(f"\n{'':18}{'kB a file':>10}{'images/s ours':>14}{'images/s theirs':>17}{'ratio':>8}{'required':>10}")
    for name in sys.argv[1:] or [*PAIRS, "plan"]:
        plan() if name == "plan" else compare(name)


if __name__ == "__main__":
    main()
