"""Where the images of a batch come from: tensors on the device, a Dataset read by workers, or ready-made batches."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Protocol

import torch

from cnnzoo.data.datasets import Split
from cnnzoo.errors import DataError


def derive_seed(*parts: int | str) -> int:
    """A seed from several numbers or words: unlike parts give unrelated seeds."""
    digest = hashlib.sha256(repr(parts).encode()).digest()
    return int.from_bytes(digest[:8], "little") >> 1  # below 2**63


def epoch_order(n: int, seed: int, epoch: int) -> torch.Tensor:
    """The order of n samples in an epoch: a permutation that (seed, epoch) alone decide."""
    return torch.randperm(n, generator=torch.Generator().manual_seed(derive_seed("order", seed, epoch)))


Batch = tuple[torch.Tensor, torch.Tensor]  # images (N, C, H, W), labels int64 (N,)


class Loader(Protocol):
    """Gives batches of images, as they are stored, and labels."""

    def batches(self, wanted: Iterable[torch.Tensor], seed: int) -> Iterator[Batch]:
        """The images and labels of some samples, for each list of their indices.

        Args:
            wanted: int64 (N,) for each batch.
            seed: Decides what a Dataset that draws at random draws.
        """


class TensorLoader:
    """Samples that lie on the device."""

    def __init__(self, split: Split, device: torch.device) -> None:
        self._images, self._labels = split.images.to(device), split.labels.to(device)

    def batches(self, wanted: Iterable[torch.Tensor], seed: int) -> Iterator[Batch]:
        """See ``Loader``."""
        for chosen in wanted:
            here = chosen.to(self._labels.device, non_blocking=True)
            yield self._images[here], self._labels[here]


class DatasetLoader:
    """Samples of a Dataset, read by worker processes ahead of their use.

    A Dataset that draws at random (torch's or Python's global state) draws for each sample from (seed, index) alone:
    what it gives does not depend on the workers, nor on where a run was stopped.
    """

    def __init__(self, dataset: Any, classes: int, device: torch.device, workers: int) -> None:
        self._dataset, self._classes, self._device, self._workers = _Seeded(dataset), classes, device, workers

    def batches(self, wanted: Iterable[torch.Tensor], seed: int) -> Iterator[Batch]:
        """See ``Loader``."""
        from torch.utils.data import DataLoader

        lists = [[(index, derive_seed("sample", seed, index)) for index in chosen.tolist()] for chosen in wanted]
        loader: DataLoader[Batch] = DataLoader(
            self._dataset,
            batch_sampler=lists,
            num_workers=min(self._workers, len(lists)),
            pin_memory=self._device.type == "cuda",
            collate_fn=_collated,
            generator=torch.Generator(),  # of its own, so that the caller's random state stays as it is
        )
        for images, labels in loader:
            yield _sent(images, labels, self._classes, self._device)


class BatchLoader:
    """Batches that something else makes (a DataLoader, a list, ...), in the order in which they come."""

    def __init__(self, loader: Iterable[Any], classes: int, device: torch.device) -> None:
        self._loader, self._classes, self._device = loader, classes, device

    def batches(self, wanted: Iterable[torch.Tensor], seed: int) -> Iterator[Batch]:
        """As many batches as are wanted, and which: the last ones, after those that were done before a stop."""
        lists = list(wanted)
        skipped = len(self._loader) - len(lists)  # type: ignore[arg-type]
        torch.default_generator.manual_seed(seed)  # a DataLoader that shuffles takes its order from here
        for number, batch in enumerate(self._loader):
            if number < skipped:
                continue
            images, labels = _pair(batch)
            yield _sent(images, torch.as_tensor(labels, dtype=torch.int64), self._classes, self._device)


class _Seeded(torch.utils.data.Dataset[Batch]):
    """A Dataset whose every sample is drawn from its own seed."""

    def __init__(self, dataset: Any) -> None:
        self._dataset = dataset

    def __getitem__(self, wanted: tuple[int, int]) -> Any:
        import random

        index, seed = wanted
        kept = random.getstate()
        with torch.random.fork_rng(devices=[]):
            random.seed(seed)
            torch.default_generator.manual_seed(seed)
            try:
                return self._dataset[index]
            finally:
                random.setstate(kept)


def has_samples(part: Any) -> bool:
    """Whether the samples of a part of a data set can be picked; else it gives batches as they come."""
    return isinstance(part, (Split, torch.utils.data.Dataset))


def make_loader(part: Any, classes: int, device: torch.device, workers: int = 0) -> Loader:
    """The feed of a part of a data set: a Split, a Dataset of samples, or any other iterable of batches."""
    if isinstance(part, Split):
        return TensorLoader(part, device)
    if isinstance(part, torch.utils.data.Dataset):
        return DatasetLoader(part, classes, device, workers)
    return BatchLoader(part, classes, device)


def _sent(images: torch.Tensor, labels: torch.Tensor, classes: int, device: torch.device) -> Batch:
    if images.dim() != 4 or labels.shape != images.shape[:1]:
        raise DataError(
            f"a batch must be images (N, C, H, W) and labels (N,), not {tuple(images.shape)} and {tuple(labels.shape)}"
        )
    if len(labels) and not 0 <= int(labels.min()) <= int(labels.max()) < classes:
        raise DataError(
            f"labels run from {int(labels.min())} to {int(labels.max())}, but there are {classes} classes "
            f"(0 to {classes - 1})"
        )
    return images.to(device, non_blocking=True), labels.to(device, non_blocking=True)


def _collated(samples: Sequence[Any]) -> Batch:
    images, labels = zip(*map(_pair, samples), strict=True)
    shapes = sorted({tuple(image.shape) for image in images})
    if len(shapes) > 1:
        raise DataError(f"images of one batch differ in shape ({shapes[0]}, {shapes[1]}); scale them to one size")
    return torch.stack(images), torch.tensor([int(label) for label in labels])


def _pair(sample: Any) -> tuple[torch.Tensor, Any]:
    if not (isinstance(sample, (tuple, list)) and len(sample) == 2 and isinstance(sample[0], torch.Tensor)):
        raise DataError(
            f"a data set must give (images, labels) with images as tensors, not {type(sample).__name__}; "
            "torchvision.transforms.v2.PILToTensor() makes tensors of images"
        )
    return sample[0], sample[1]
