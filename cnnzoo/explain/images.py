"""The images of a data set, as a network sees them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch.utils.data import Dataset

from cnnzoo.data import ImageFiles, Split
from cnnzoo.errors import InputError
from cnnzoo.preprocessing import Preprocessing


class PreparedImages:
    """The images of a split, brought to the size of a network's input.

    Files are decoded as the preprocessing says, whichever way the data set was loaded, as ``cnnzoo.predict`` does.

    Args:
        split: A Split, or a Dataset of samples (uint8 (C, H, W), label).
        preprocessing: How an image becomes the network's input.
        name: Name of the data set in errors.

    Raises:
        InputError: If the data set yields batches, of which no single image can be selected.
    """

    def __init__(self, split: Any, preprocessing: Preprocessing, name: str) -> None:
        if not isinstance(split, (Split, Dataset)):
            raise InputError(f"{name} yields batches, from which no images can be selected; give a Dataset of samples")
        files = split.files if isinstance(split, Split) else split
        if isinstance(files, ImageFiles):
            decoding, channels = preprocessing.decoding, preprocessing.channels
            if not isinstance(split, Split) or (files.decoding, files.channels) != (decoding, channels):
                split = files.with_decoding(decoding, channels)
        self._split, self.preprocessing = split, preprocessing

    def __len__(self) -> int:
        return len(self._split)

    def read(self, indices: Sequence[int]) -> tuple[torch.Tensor, torch.Tensor]:
        """Returns images, uint8 (N, C, height, width), and their labels, int64 (N,).

        Raises:
            InputError: If the images are not of uint8.
        """
        if isinstance(self._split, Split):
            chosen = torch.as_tensor(indices)
            return self.preprocessing.crop(self._split.images[chosen]), self._split.labels[chosen]
        samples = [self._split[i] for i in indices]
        images = self.preprocessing.crop([torch.as_tensor(image) for image, _ in samples])
        return images, torch.tensor([int(label) for _, label in samples])

    def batches(self, batch_size: int) -> Iterator[tuple[range, torch.Tensor, torch.Tensor]]:
        """Yields indices, images and labels of one batch after the other."""
        for first in range(0, len(self), batch_size):
            indices = range(first, min(first + batch_size, len(self)))
            yield indices, *self.read(indices)
