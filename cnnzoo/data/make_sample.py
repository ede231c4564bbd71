"""Makes the sample of Fashion-MNIST that ships with cnnzoo, from the full set.

    python -m cnnzoo.data.make_sample [OUT]

600 training and 100 test images of each class, drawn with a fixed seed, in the stored order of the full set.
"""

from __future__ import annotations

import gzip
import struct
import sys
from pathlib import Path

import torch

from cnnzoo.data.datasets import Data, ImageData, Split
from cnnzoo.data.named import FASHION, IDX_FILES, SAMPLE, load_data

SEED = 2012
PER_CLASS = {"train": 600, "test": 100}


def draw(full: Data) -> ImageData:
    """The sample of the full set: the same for the same set, on every machine."""

    def part(name: str) -> Split:
        split: Split = getattr(full, name)
        generator = torch.Generator().manual_seed(SEED)
        chosen = []
        for label in range(len(full.classes)):
            of_class = (split.labels == label).nonzero().flatten()
            chosen.append(of_class[torch.randperm(len(of_class), generator=generator)[: PER_CLASS[name]]])
        return split[torch.cat(chosen).sort().values]

    return ImageData("fashion_mnist_sample", part("train"), part("test"), FASHION)


def write(sample: ImageData, folder: Path) -> None:
    """Writes a data set as four gzipped IDX files, the same bytes each time."""
    folder.mkdir(parents=True, exist_ok=True)
    tensors = (
        sample.train.images.squeeze(1), sample.train.labels, sample.test.images.squeeze(1), sample.test.labels,
    )  # fmt: skip
    for file, tensor in zip(IDX_FILES, tensors, strict=True):
        head = bytes([0, 0, 8, tensor.dim()]) + struct.pack(f">{tensor.dim()}I", *tensor.shape)
        content = head + tensor.to(torch.uint8).contiguous().numpy().tobytes()
        (folder / f"{file}.gz").write_bytes(gzip.compress(content, compresslevel=9, mtime=0))


if __name__ == "__main__":
    write(draw(load_data("fashion_mnist")), Path(sys.argv[1]) if len(sys.argv) > 1 else SAMPLE)
