"""Makes the sample of Fashion-MNIST that ships with cnnzoo, from the full data set.

    python -m cnnzoo.data.make_sample [FOLDER]

600 training and 100 test images of each class, drawn with a fixed seed, in the order of the full data set.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch

from cnnzoo.data.datasets import Data, ImageData, Split
from cnnzoo.data.idx import write_idx_folder
from cnnzoo.data.named import FASHION_MNIST_CLASSES, SAMPLE_FOLDER
from cnnzoo.data.registry import load_data

SEED = 2012
IMAGES_PER_CLASS = {"train": 600, "test": 100}


def draw_sample(full: Data) -> ImageData:
    """Returns the sample of the full data set; it is the same on every machine."""

    def sample_split(name: str) -> Split:
        split: Split = getattr(full, name)
        generator = torch.Generator().manual_seed(SEED)
        indices = []
        for label in range(len(full.classes)):
            members = (split.labels == label).nonzero().flatten()
            order = torch.randperm(len(members), generator=generator)
            indices.append(members[order[: IMAGES_PER_CLASS[name]]])
        return split[torch.cat(indices).sort().values]

    return ImageData("fashion_mnist_sample", sample_split("train"), sample_split("test"), FASHION_MNIST_CLASSES)


if __name__ == "__main__":
    sample = draw_sample(load_data("fashion_mnist"))
    write_idx_folder(sample, Path(sys.argv[1]) if len(sys.argv) > 1 else SAMPLE_FOLDER)
