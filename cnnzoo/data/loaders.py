"""Batches on the device of the network: from tensors, from a Dataset read by workers, or from ready-made batches."""

from __future__ import annotations

import itertools
import multiprocessing
import os
import pickle
import signal
import threading
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from multiprocessing.connection import wait
from typing import Any, Protocol

import torch

from cnnzoo.data.datasets import Split
from cnnzoo.data.image_files import ImageFiles
from cnnzoo.data.seeding import derive_seed, seeded
from cnnzoo.errors import CnnzooError, DataError, InputError

Batch = tuple[torch.Tensor, torch.Tensor]  # images (N, C, H, W), labels int64 (N,)


def epoch_order(n: int, seed: int, epoch: int) -> torch.Tensor:
    """Returns the order of ``n`` samples in an epoch, int64 (N,): a permutation that depends on (seed, epoch) alone."""
    return torch.randperm(n, generator=torch.Generator().manual_seed(derive_seed("order", seed, epoch)))


def balanced_order(labels: torch.Tensor, seed: int, epoch: int) -> torch.Tensor:
    """Returns the order of samples in an epoch in which each class is drawn equally often, int64 (N,).

    It depends on labels, seed and epoch alone. Samples of a class are drawn without replacement until all were; so
    those of rare classes come several times, and some of frequent classes not in this epoch.

    Args:
        labels: int64 (N,).
        seed: The seed.
        epoch: Number of the epoch.
    """
    generator = torch.Generator().manual_seed(derive_seed("balanced order", seed, epoch))
    sizes = torch.bincount(labels).tolist()
    by_class = [members for members in torch.split(labels.argsort(stable=True), sizes) if len(members)]
    n, n_classes = len(labels), len(by_class)
    parts = []
    for rank, i in enumerate(torch.randperm(n_classes, generator=generator).tolist()):
        members, count = by_class[i], n // n_classes + (rank < n % n_classes)
        rounds = -(-count // len(members))
        order = torch.cat([torch.randperm(len(members), generator=generator) for _ in range(rounds)])
        parts.append(members[order[:count]])
    return torch.cat(parts)[torch.randperm(n, generator=generator)]


def sample_labels(dataset: Any, name: str) -> torch.Tensor:
    """Returns the labels of all samples, int64 (N,), without reading their images.

    Args:
        dataset: A Split, image files, or a Dataset with ``labels`` or ``targets``; or a Subset of such.
        name: Name of the data set, for the error.

    Raises:
        InputError: If the Dataset has neither.
    """
    if isinstance(dataset, torch.utils.data.Subset):
        return sample_labels(dataset.dataset, name)[torch.as_tensor(dataset.indices)]
    for attribute in ("labels", "targets"):
        values = getattr(dataset, attribute, None)
        if values is not None and len(values) == len(dataset):
            return torch.as_tensor(values).to("cpu", torch.int64)
    raise InputError(
        f"the labels of {name} are not known before its images are read; give the {type(dataset).__name__} an "
        "attribute labels, with the label of each sample"
    )


class Loader(Protocol):
    """A source of batches of stored images and labels, on a device."""

    def batches(self, indices: Iterable[torch.Tensor], seed: int) -> Iterator[Batch]:
        """Yields images and labels, batch by batch.

        Args:
            indices: int64 (N,) for each batch: the indices of its samples.
            seed: Seed of the random augmentation or order of a Dataset or DataLoader.

        Raises:
            DataError: If samples or batches have the wrong type or shape, or a label is out of range.
        """

    def close(self) -> None:
        """Ends worker processes, if there are any."""


class TensorLoader:
    """A loader of samples in memory, which it keeps on the device."""

    def __init__(self, split: Split, device: torch.device) -> None:
        self._images, self._labels = split.images.to(device), split.labels.to(device)

    def batches(self, indices: Iterable[torch.Tensor], seed: int) -> Iterator[Batch]:
        """See ``Loader``."""
        for batch_indices in indices:
            device_indices = batch_indices.to(self._labels.device, non_blocking=True)
            yield self._images[device_indices], self._labels[device_indices]

    def close(self) -> None:
        """See ``Loader``."""


class DatasetLoader:
    """A loader of the samples of a Dataset, which worker processes prefetch.

    The global random states of torch, Python and NumPy are seeded with (seed, index) for each sample, so that a random
    sample depends neither on the number of workers nor on where a run was resumed.

    Workers are started by the first call of ``batches`` and stay alive until ``close``; they keep the copy of the
    Dataset that they were started with.
    """

    def __init__(self, dataset: Any, num_classes: int, device: torch.device, workers: int) -> None:
        self._dataset = _SeededDataset(dataset)
        self._num_classes, self._device, self._workers = num_classes, device, workers
        self._plan = _BatchPlan()
        self._loader: Any = None  # a DataLoader
        self._is_busy = False  # whether an iteration of it has not ended

    def batches(self, indices: Iterable[torch.Tensor], seed: int) -> Iterator[Batch]:
        """See ``Loader``."""
        batches = iter(indices)
        first = list(itertools.islice(batches, self._workers))  # no more workers than there are batches
        if self._loader is None or self._is_busy or self._loader.num_workers < len(first):
            self._plan = _BatchPlan()  # an iteration that has not ended keeps its own
            self._loader = self._make_data_loader(len(first))
        loader, self._is_busy = self._loader, True
        self._plan.keys = ([(i, seed) for i in batch.tolist()] for batch in itertools.chain(first, batches))
        try:
            for batch in _start_workers(loader):
                if isinstance(batch, CnnzooError):
                    raise batch
                images, labels = batch
                yield _check_and_move(images, labels, self._num_classes, self._device)
        except Exception as error:
            self.close()
            if not (isinstance(error, RuntimeError) and "DataLoader worker" in str(error)):
                raise
            reason = " ".join(str(error).split())
            raise DataError(f"a process that reads images ended ({reason}), {_hint_at_dead_worker()}") from None
        finally:
            if loader is self._loader:
                self._is_busy = False

    def close(self) -> None:
        """Ends the worker processes; the next call of ``batches`` starts others."""
        self._loader, self._is_busy = None, False

    def _make_data_loader(self, workers: int) -> Any:
        from torch.utils.data import DataLoader

        loader: DataLoader[Batch | CnnzooError] = DataLoader(
            self._dataset,
            batch_sampler=self._plan,
            num_workers=workers,
            persistent_workers=workers > 0,
            worker_init_fn=_follow_main_process,
            pin_memory=self._device.type == "cuda",
            collate_fn=_identity,
            generator=torch.Generator(),  # the default would advance the caller's random state
        )
        return loader


class _BatchPlan:
    """The batch sampler of a DataLoader: each iteration yields the keys that were set for it."""

    def __init__(self) -> None:
        self.keys: Iterable[list[tuple[int, int]]] = ()

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        return iter(self.keys)


def _start_workers(loader: Any) -> Iterator[Any]:
    """Returns the iterator over the batches of a DataLoader, which starts its workers unless they are alive."""
    try:
        return iter(loader)
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        raise DataError(
            f"the data set cannot be sent to worker processes ({error}); define its class and functions at the top "
            "level of a module, or read it with workers=0"
        ) from error


def _follow_main_process(worker: int) -> None:
    """Makes a worker process live as long as the main process.

    Signals that a terminal sends to every process are left to the main process, which finishes its step.
    """
    for name in ("SIGINT", "SIGHUP"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    main = multiprocessing.parent_process()
    # torch notices that the main process was killed by the number of the parent, which with forkserver is another one
    if main is not None and main.pid != os.getppid():
        threading.Thread(target=_end_with, args=(main.sentinel,), daemon=True).start()


def _end_with(sentinel: int) -> None:
    """Ends this process when the process of a sentinel has ended."""
    wait([sentinel])
    os._exit(1)


class BatchLoader:
    """A loader of ready-made batches (a DataLoader, a list, ...), in the order in which they come."""

    def __init__(self, batches: Iterable[Any], num_classes: int, device: torch.device) -> None:
        self._batches, self._num_classes, self._device = batches, num_classes, device

    def batches(self, indices: Iterable[torch.Tensor], seed: int) -> Iterator[Batch]:
        """Yields the last batches, as many as ``indices`` has elements, whose values are ignored.

        The earlier batches were used before the run was resumed.
        """
        skipped = len(self._batches) - len(list(indices))  # type: ignore[arg-type]
        torch.default_generator.manual_seed(seed)  # a DataLoader with shuffle=True draws its order from it
        for number, batch in enumerate(self._read()):
            if number < skipped:
                continue
            images, labels = _unpack(batch)
            yield _check_and_move(images, torch.as_tensor(labels, dtype=torch.int64), self._num_classes, self._device)

    def _read(self) -> Iterator[Any]:
        number = 0
        try:
            for number, batch in enumerate(self._batches, 1):  # noqa: B007, for the error
                yield batch
        except CnnzooError:
            raise
        except Exception as error:
            hint = ""
            if "stack expects" in str(error):
                hint = "; the images differ in size: resize them to one size, such as with torchvision's v2.Resize"
            elif "DataLoader worker" in str(error):
                hint = "; a process that reads images ended, as when memory runs out: try fewer num_workers"
            raise DataError(f"batch {number + 1} of the data cannot be read: {_summarize(error)}{hint}") from error

    def close(self) -> None:
        """See ``Loader``."""


class _SeededDataset(torch.utils.data.Dataset[Batch]):
    """A Dataset that seeds the global random states before each sample; its keys are (index, seed of all samples)."""

    def __init__(self, dataset: Any) -> None:
        self._dataset = dataset

    def __getitems__(self, keys: Sequence[tuple[int, int]]) -> Batch | CnnzooError:
        """Returns a batch, or the error, since DataLoader would add the traceback of a worker to its message."""
        try:
            return _collate([self._read(index, seed) for index, seed in keys], [self._name(index) for index, _ in keys])
        except CnnzooError as error:
            return error

    def _read(self, index: int, seed: int) -> Any:
        try:
            if isinstance(self._dataset, ImageFiles):  # not random
                return self._dataset[index]
            with seeded(derive_seed("sample", seed, index)):
                return self._dataset[index]
        except CnnzooError:
            raise
        except Exception as error:
            *_, frame = traceback.extract_tb(error.__traceback__)
            raise DataError(
                f"{self._name(index)} of the data set cannot be read: {_summarize(error)} ({frame.filename}, "
                f"line {frame.lineno})"
            ) from error

    def _name(self, index: int) -> str:
        dataset: Any = self._dataset
        i = index
        while isinstance(dataset, torch.utils.data.Subset):
            dataset, i = dataset.dataset, int(dataset.indices[i])
        return repr(dataset.name(i)) if isinstance(dataset, ImageFiles) else f"sample {i}"


def _summarize(error: Exception) -> str:
    """Returns type and message of an error as one line; of an error in a worker process, the last line of its text."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if lines and str(error).startswith("Caught "):  # torch appends the traceback of the worker
        return lines[-1][:500]
    return f"{type(error).__name__}: {' '.join(lines)[:500]}" if lines else type(error).__name__


def _hint_at_dead_worker() -> str:
    hint = "as when memory runs out; try fewer workers, such as workers=0, or a smaller batch_size"
    if torch.multiprocessing.get_start_method() == "fork":
        return hint
    return f"{hint}; in a script, call it under if __name__ == '__main__':, since each worker imports the script"


def has_samples(split: Any) -> bool:
    """Returns whether the samples of a split can be selected by index; else it yields ready-made batches."""
    return isinstance(split, (Split, torch.utils.data.Dataset))


def make_loader(split: Any, num_classes: int, device: torch.device, workers: int = 0) -> Loader:
    """Returns the loader of a split: a Split, a Dataset of samples, or any other iterable of batches.

    Args:
        split: The images and labels.
        num_classes: Number of classes, which labels must be less than.
        device: Device of the batches.
        workers: Number of processes that read a Dataset; 0 reads it in this process.
    """
    if isinstance(split, Split):
        return TensorLoader(split, device)
    if isinstance(split, torch.utils.data.Dataset):
        return DatasetLoader(split, num_classes, device, workers)
    return BatchLoader(split, num_classes, device)


class LoaderCache:
    """The loaders of several evaluations, whose worker processes stay alive from one to the next.

    Loaders of images in memory are not kept, since they hold a copy on the device.
    """

    def __init__(self) -> None:
        self._loaders: dict[Any, tuple[Any, Loader]] = {}

    def get(self, split: Any, options: object, make: Callable[[], Loader]) -> Loader:
        """Returns the loader of a split and hashable options; ``make`` is called unless it was before."""
        if isinstance(split, Split):
            return make()
        key = id(split), options
        if key not in self._loaders:
            self._loaders[key] = split, make()  # the reference keeps the id from being used again
        return self._loaders[key][1]

    def close(self) -> None:
        """Ends the worker processes of all loaders."""
        for _, loader in self._loaders.values():
            loader.close()
        self._loaders.clear()


def _check_and_move(images: torch.Tensor, labels: torch.Tensor, num_classes: int, device: torch.device) -> Batch:
    if images.dim() != 4 or labels.shape != images.shape[:1]:
        raise DataError(
            f"a batch must be images (N, C, H, W) and labels (N,), not {tuple(images.shape)} and {tuple(labels.shape)}"
        )
    if len(labels) and not 0 <= int(labels.min()) <= int(labels.max()) < num_classes:
        raise DataError(
            f"labels range from {int(labels.min())} to {int(labels.max())}, but there are {num_classes} classes "
            f"(0 to {num_classes - 1})"
        )
    return images.to(device, non_blocking=True), labels.to(device, non_blocking=True)


def _collate(samples: Sequence[Any], names: Sequence[str]) -> Batch:
    """Returns samples as one batch; their names are for errors."""
    images, labels = zip(*map(_unpack, samples), strict=True)
    by_shape = {tuple(image.shape): name for image, name in zip(images, names, strict=True)}
    if len(by_shape) > 1:
        examples = " and ".join(f"{name} is {shape}" for shape, name in sorted(by_shape.items())[:2])
        raise DataError(
            f"images of one batch differ in shape: {examples}; resize them to one size: pass image_size= to load_data "
            "(--image-size), or add torchvision.transforms.v2.Resize to a Dataset of your own"
        )
    # default_collate stacks them in memory that the worker shares with this process
    return torch.utils.data.default_collate(list(images)), torch.tensor([int(label) for label in labels])


def _identity(batch: Any) -> Any:
    return batch


def _unpack(sample: Any) -> tuple[torch.Tensor, Any]:
    """Returns the image and the label of a sample, or the images and labels of a batch."""
    if not (isinstance(sample, (tuple, list)) and len(sample) == 2 and isinstance(sample[0], torch.Tensor)):
        raise DataError(
            f"a data set must yield (images, labels) with images as tensors, not {type(sample).__name__}; "
            "torchvision.transforms.v2.PILToTensor() converts images to tensors"
        )
    return sample[0], sample[1]
