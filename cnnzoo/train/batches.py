"""The batches of a training run: order of the images, micro-batches, augmentation, resizing and normalization."""

from __future__ import annotations

import dataclasses
from collections.abc import Generator, Iterator
from itertools import pairwise, tee
from typing import NamedTuple

import torch
from torch import nn

from cnnzoo.data import Data, balanced_order, derive_seed, epoch_order, has_samples, make_loader, sample_labels
from cnnzoo.data.augment import augment
from cnnzoo.data.loaders import Batch
from cnnzoo.data.mixing import mix_targets
from cnnzoo.errors import InputError
from cnnzoo.metadata import get_metadata, match_labels
from cnnzoo.preprocessing import Preprocessing
from cnnzoo.train.config import TrainConfig
from cnnzoo.train.distributed import DistributedContext


class MicroBatch(NamedTuple):
    """The images of one backward pass of this process.

    Attributes:
        indices: int64 (N,); if images are mixed, (N + 1,): the image after the last of them follows.
        positions: int64, of the same length: positions of the images within the batch of the step; None if its size is
            not known.
        batch_size: Number of images of the step, over all processes; None if it is not known before they are read.
        weight: Factor of the mean loss of these images in the loss of the step.
    """

    indices: torch.Tensor
    positions: torch.Tensor | None
    batch_size: int | None
    weight: float


class PreparedBatch(NamedTuple):
    """A micro-batch, ready for the network.

    Attributes:
        x: float (N, C, H, W).
        labels: int64 (N,).
        targets: float (N, classes) if images are mixed, else None.
        batch_size: Number of images of the step, over all processes.
        weight: Factor of the mean loss of these images in the loss of the step.
    """

    x: torch.Tensor
    labels: torch.Tensor
    targets: torch.Tensor | None
    batch_size: int
    weight: float


def select_data(data: Data, config: TrainConfig) -> tuple[Data, Data]:
    """Returns the data that a run is tested on and the data that it is trained on.

    The test split of the latter is evaluated during training: the validation images of the data or those held out by
    ``val_size``, if there are any.

    Raises:
        InputError: If there are too few images to hold out, or they come in batches; or if there are validation images
            already.
    """
    if config.overfit_batches:
        first = epoch_order(len(data.train), config.seed, 0)[: config.overfit_batches * config.batch_size]
        data = data.subset(first)
        return data, data
    if data.val is None:
        return data, data.hold_out(config.val_size, config.seed) if config.val_size else data
    if config.val_size:
        raise InputError(f"{data.name} has validation images of its own; leave out val_size={config.val_size}")
    return data, dataclasses.replace(data, test=data.val, val=None)


def make_preprocessing(data: Data, config: TrainConfig, size: tuple[int, int]) -> Preprocessing | None:
    """Returns how an image becomes the network's input; None for images of floats, which are used unchanged.

    Args:
        data: The data set, from which mean, standard deviation and decoding come.
        config: The settings.
        size: (height, width) of the network's input.
    """
    if data.dtype != torch.uint8:
        return None
    channels = data.shape[0]
    mean, std = (data.mean, data.std) if config.normalize else ((0.0,) * channels, (1.0,) * channels)
    return Preprocessing(size, mean, std, decoding=data.decoding).with_crop_mode(config.crop_mode)


def order_labels(model: nn.Module, config: TrainConfig, data: Data) -> tuple[tuple[str, ...], torch.Tensor | None]:
    """Returns the name of each class of the network, and the class of the network that each class of the data is.

    A network that was trained for the same classes in another order keeps its order, since its last layer is used.

    Args:
        model: The network.
        config: The settings; with ``init`` the last layer is new.
        data: The data set.

    Returns:
        The names in the order of the scores; int64 (classes,), or None if the order is that of the data.
    """
    classes = tuple(map(str, data.classes))
    names = get_metadata(model).label_names
    if config.init is not None or names is None or sorted(names) != sorted(classes) or len(set(names)) < len(names):
        return classes, None
    return names, match_labels("the network", names, classes, data.name)


def count_steps(train_data: Data, config: TrainConfig) -> int:
    """Returns the number of steps of an epoch.

    Raises:
        InputError: If there are fewer images than in a batch, and ``config.drop_last`` leaves none.
    """
    n = len(train_data.train)
    if not has_samples(train_data.train):
        return n
    steps = n // config.batch_size if config.drop_last else -(-n // config.batch_size)
    if not steps:
        raise InputError(
            f"{train_data.name} has {n} training images, and drop_last=True leaves none of them with "
            f"batch_size={config.batch_size}; choose a batch_size of at most {n}"
        )
    return steps


def _split_batch(size: int, accumulation_steps: int, distributed: DistributedContext) -> list[tuple[int, int]]:
    """Returns where the images of each backward pass of a process begin and end in a batch of ``size`` images."""
    shard = distributed.shard(size)
    count = shard.stop - shard.start
    bounds = [shard.start + i * count // accumulation_steps for i in range(accumulation_steps + 1)]
    # a rank without samples runs the step with weight 0, since DDP needs every rank
    return [(a, b) for a, b in pairwise(bounds) if b > a] or [(0, 1)]


def find_batch_of_one(n: int, config: TrainConfig, processes: int) -> int | None:
    """Returns the size of a batch of which a process runs a single image alone; None if there is none.

    Args:
        n: Number of images of an epoch.
        config: The settings.
        processes: Number of processes that share each batch.
    """
    full, last = divmod(n, config.batch_size)
    for size in ([config.batch_size] if full else []) + ([last] if last and not config.drop_last else []):
        ranks = [DistributedContext(rank, processes) for rank in range(processes)]
        parts = [part for rank in ranks for part in _split_batch(size, config.accumulation_steps, rank)]
        if min(b - a for a, b in parts) == 1:
            return size
    return None


class TrainBatches:
    """The prepared batches of a run, step by step, for one process.

    Order, augmentation and micro-batches of a step follow from the config and the number of the step alone.

    Args:
        data: The data to train on.
        config: The settings.
        preprocessing: How an augmented image becomes the network's input; None for images of floats, which are used
            unchanged.
        label_map: int64 (classes,): the class of the network that each class of the data is; None if they are equal.
        color_components: (C, C): principal components of the colors, for ``pca_lighting``.
        device: Device of the network.
        distributed: The processes that share each batch.
    """

    def __init__(
        self,
        data: Data,
        config: TrainConfig,
        *,
        preprocessing: Preprocessing | None,
        label_map: torch.Tensor | None = None,
        color_components: torch.Tensor | None,
        device: torch.device,
        distributed: DistributedContext,
    ) -> None:
        self._config, self._augmentation = config, config.augmentation
        self._preprocessing, self._color_components = preprocessing, color_components
        self._label_map = None if label_map is None else label_map.to(device)
        self._memory_format = torch.channels_last if config.channels_last else torch.contiguous_format
        self._device, self._distributed = device, distributed
        self._n, self._num_classes = len(data.train), len(data.classes)
        self._has_samples = has_samples(data.train)
        is_balanced = config.balanced_sampling and not config.overfit_batches
        self._labels = sample_labels(data.train, data.name) if is_balanced else None
        self._steps_per_epoch = count_steps(data, config)
        self._loader = make_loader(data.train, self._num_classes, device, config.workers)

    def steps(self, first: int) -> Generator[list[PreparedBatch], None, None]:
        """Yields the micro-batches of each step, from step ``first`` (counted from 0) to the end of its epoch."""
        epoch, start = divmod(first, self._steps_per_epoch)
        plan, ahead = tee(self._plan(epoch, start))  # workers are ahead
        indices = (micro_batch.indices for micro_batches in ahead for micro_batch in micro_batches)
        batches = self._loader.batches(indices, derive_seed("data", self._config.seed, epoch))
        for step, micro_batches in enumerate(plan, first):
            yield [self._prepare(micro_batch, next(batches), step) for micro_batch in micro_batches]

    def close(self) -> None:
        """Ends the worker processes; ``steps`` starts them again."""
        self._loader.close()

    def _plan(self, epoch: int, start: int) -> Iterator[list[MicroBatch]]:
        """Yields the micro-batches of each step of an epoch, from its ``start``-th step on."""
        config, distributed = self._config, self._distributed
        if not self._has_samples:
            for i in range(start, self._steps_per_epoch):
                yield [MicroBatch(torch.tensor([i]), None, None, 1.0)]
            return
        if self._labels is None:
            order = epoch_order(self._n, config.seed, epoch)
        else:
            order = balanced_order(self._labels, config.seed, epoch)
        for step in range(start, self._steps_per_epoch):
            batch = order[step * config.batch_size : (step + 1) * config.batch_size]
            size = len(batch)
            shard = distributed.shard(size)
            is_empty = shard.start == shard.stop
            yield [
                MicroBatch(batch[positions], positions, size, 0.0 if is_empty else (b - a) * distributed.size / size)
                for a, b in _split_batch(size, config.accumulation_steps, distributed)
                for positions in [torch.arange(a, b + self._augmentation.mixes) % size]
            ]

    def _prepare(self, micro_batch: MicroBatch, batch: Batch, step: int) -> PreparedBatch:
        """Returns a micro-batch, ready for the network.

        Args:
            micro_batch: Where the images belong in the batch of the step.
            batch: The stored images, and their labels.
            step: Number of the step, which seeds the augmentation.
        """
        x, labels = batch
        if self._label_map is not None:
            labels = self._label_map[labels]
        targets = None
        if self._preprocessing is not None:
            images, labels, targets, corners = self._augment(micro_batch, (x, labels), step)
            x = self._preprocessing.apply(images, corners)
        x = x.to(memory_format=self._memory_format)
        return PreparedBatch(x, labels, targets, micro_batch.batch_size or len(labels), micro_batch.weight)

    def _augment(
        self, micro_batch: MicroBatch, batch: Batch, step: int
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None, torch.Tensor | None]:
        """Returns augmented images, labels, targets (if mixed) and crop positions (with ``crop_mode="center"``)."""
        images, labels = batch
        augmentation, positions = self._augmentation, micro_batch.positions
        if not augmentation and self._config.crop_mode != "center":
            return images, labels, None, None
        n = micro_batch.batch_size or len(labels)
        if positions is None:
            positions = torch.arange(n + augmentation.mixes) % n
            images, labels = images[positions], labels[positions]
        images, weights, crop_positions = augment(
            images,
            augmentation,
            positions=positions,
            batch_size=n,
            seed=self._config.seed,
            step=step,
            color_components=self._color_components,
        )
        targets = None if weights is None else mix_targets(labels, weights, self._num_classes)
        return images, labels[: len(images)], targets, crop_positions
