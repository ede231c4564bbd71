"""A data set as HTML, for notebooks: its numbers, and some of its training images."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any

import torch
from torch.utils.data import Dataset

from cnnzoo.data.seeding import derive_seed, seeded
from cnnzoo.html_parts import facts, gallery, heading, notebook_html
from cnnzoo.text import printable

if TYPE_CHECKING:
    from cnnzoo.data.datasets import Data

MAX_IMAGES = 40
_MAX_NAMES = 20


def data_html(data: Data) -> str:
    """Returns the numbers of images, the classes, and up to 40 training images, as many of each class as there is room.

    Images that are read on demand are evenly spaced; those of batches and of floats are not shown.
    """
    splits = {"training": data.train, "validation": data.val, "test": data.test}
    counts = ", ".join(f"{len(split):,} {name}" for name, split in splits.items() if split is not None)
    names = [printable(name) for name in data.classes]
    more = f", ... ({len(names) - _MAX_NAMES:,} more)" if len(names) > _MAX_NAMES else ""
    values = {
        "images": f"{counts}; {'x'.join(map(str, data.shape))}, {str(data.dtype).removeprefix('torch.')}",
        f"{len(names):,} classes": ", ".join(names[:_MAX_NAMES]) + more,
        "left out": f"{len(data.skipped):,} files that cannot be read" if data.skipped else "",
    }
    images = [_sample(data.train, i) for i in _shown(data)]
    images = [(pixels, names[int(label)]) for pixels, label in images]
    return notebook_html(heading(type(data).__name__, data.name), facts(values), gallery(images))


def _shown(data: Data) -> list[int]:
    """Returns the indices of the training images that are shown."""
    n = len(data.train)
    if data.dtype != torch.uint8 or not isinstance(data.train, Dataset):
        return []
    labels = getattr(data.train, "labels", None)
    if not isinstance(labels, torch.Tensor):
        return list(range(0, n, -(-n // MAX_IMAGES)))
    by_class: dict[int, list[int]] = defaultdict(list)
    room = max(1, MAX_IMAGES // len(data.classes))
    for i, label in enumerate(labels.tolist()):
        if len(by_class[label]) < room:
            by_class[label].append(i)
    return [i for _, indices in sorted(by_class.items()) for i in indices][:MAX_IMAGES]


def _sample(train: Any, i: int) -> tuple[torch.Tensor, Any]:
    """Returns an image and its label; a random sample is the same each time."""
    with seeded(derive_seed("shown", i)):
        return train[i]  # type: ignore[no-any-return]
