"""Class scores of images, and the evaluation of a network on images that it was not trained on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing, nullcontext
from functools import partial
from typing import Any

import torch
from torch import nn

from cnnzoo.data import ImageFiles, Split, has_samples, make_loader
from cnnzoo.data.loaders import LoaderCache
from cnnzoo.errors import InputError, unknown
from cnnzoo.module_copy import in_eval_mode
from cnnzoo.modules import explain_forward_error, for_inference, unwrap
from cnnzoo.preprocessing import VIEWS, Preprocessing
from cnnzoo.progress_bar import progress_bar
from cnnzoo.random_state import restored_random_state
from cnnzoo.train.distributed import DistributedContext
from cnnzoo.train.evaluation import Evaluation
from cnnzoo.train.precision import resolve_precision

_AUTOCAST_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


def compute_logits(model: nn.Module, x: torch.Tensor, precision: str, num_classes: int) -> torch.Tensor:
    """Returns the class scores of images.

    Autocast applies to float32 weights; a module with other weights runs in their dtype.

    Args:
        model: Any module that returns class scores.
        x: (N, C, H, W).
        precision: ``"fp32"``, ``"bf16"`` or ``"fp16"``.
        num_classes: Number of classes.

    Returns:
        float32 (N, num_classes).

    Raises:
        InputError: If the module does not return one score per class.
    """
    dtype = next((p.dtype for p in model.parameters() if p.is_floating_point()), torch.float32)
    is_mixed = precision != "fp32" and dtype == torch.float32
    with torch.autocast(x.device.type, dtype=_AUTOCAST_DTYPES.get(precision, torch.bfloat16), enabled=is_mixed):
        logits: torch.Tensor = model(x.to(dtype))
    if not isinstance(logits, torch.Tensor) or logits.dim() != 2 or logits.shape[1] != num_classes:
        output = tuple(logits.shape) if isinstance(logits, torch.Tensor) else type(logits).__name__
        raise InputError(
            f"{type(unwrap(model)).__name__} returns {output} for {len(x)} image{'s' * (len(x) > 1)}, and "
            f"there are {num_classes} classes; it must return one score per class, ({len(x)}, {num_classes})"
        )
    return logits.float()


def evaluate(
    model: nn.Module,
    split: Any,
    *,
    classes: Sequence[str],
    preprocessing: Preprocessing | None,
    label_map: torch.Tensor | None = None,
    label_names: Sequence[str] | None = None,
    views: str = "single",
    batch_size: int = 256,
    precision: str = "fp32",
    workers: int = 0,
    distributed: DistributedContext | None = None,
    loaders: LoaderCache | None = None,
    show: bool = False,
) -> Evaluation:
    """Returns accuracy, loss and confusion matrix of a network in eval mode; the network itself is not changed.

    Files are decoded as ``preprocessing.decoding`` says, whichever way the data set was loaded, so that the network
    sees what it sees in ``predict``.

    Args:
        model: Any module that returns class scores (N, classes).
        split: The images and labels: a Split, a Dataset of samples, or an iterable of batches.
        classes: Name of each class of the data.
        preprocessing: How an image becomes the network's input; None for images of floats, which are used unchanged.
        label_map: int64 (len(classes),): the class of the network that each class of the data is; None if they are
            equal (see ``cnnzoo.metadata.match_labels``).
        label_names: Name of each class of the network; by default ``classes``.
        views: Views of each image, over which probabilities are averaged: ``"single"``, ``"flip"``, ``"center"``,
            ``"five_crop"`` or ``"ten_crop"`` (see ``Preprocessing.views``).
        batch_size: Batch size, counted in views.
        precision: ``"fp32"``, ``"bf16"``, ``"fp16"`` or ``"auto"``.
        workers: Worker processes that read data on demand.
        distributed: The processes that share the images; each image is counted once.
        loaders: Keeps worker processes for the next evaluation of the same data; by default they end with this one.
        show: Whether a progress bar is shown after two seconds.

    Raises:
        UnknownNameError: If ``views`` or ``precision`` is not known.
        InputError: If the module does not return one score per class, or images of floats are to be seen in views.
        DataError: If samples or batches have the wrong type or shape, or a label is out of range.
    """
    model = for_inference(model)
    if views not in VIEWS:
        raise unknown("views", views, VIEWS)
    if views != "single" and preprocessing is None:
        raise InputError(f"views={views!r} needs images of uint8; images of floats are used unchanged")
    label_names = tuple(classes if label_names is None else label_names)
    n_views, n_classes = VIEWS[views], len(label_names)
    data, (split, make_input) = split, _input_of(split, preprocessing, views)
    # ready-made batches cannot be sharded: each process evaluates all of them
    distributed = distributed if distributed is not None and has_samples(split) else DistributedContext()
    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    precision = resolve_precision(precision, device)
    loss = torch.zeros((), device=device)
    top5 = torch.zeros((), dtype=torch.int64, device=device)
    confusion = torch.zeros(n_classes**2, dtype=torch.int64, device=device)
    make = partial(make_loader, split, len(classes), device, workers)
    indices = _batch_indices(split, max(batch_size // n_views, 1), distributed)
    label_map = None if label_map is None else label_map.to(device)
    cache = closing(LoaderCache()) if loaders is None else nullcontext(loaders)
    network = in_eval_mode(model)
    # a DataLoader draws its order from the global random state
    random_state = nullcontext() if has_samples(split) else restored_random_state()
    progress = progress_bar("evaluating", len(indices)) if show else nullcontext(lambda n: None)
    with cache as kept, random_state, progress as advance, torch.inference_mode():
        loader = kept.get(data, (preprocessing, views), make)
        for images, labels in loader.batches(indices, 0):
            y = labels if label_map is None else label_map[labels]
            x = make_input(images)
            with explain_forward_error(type(unwrap(model)).__name__, x):
                logits = compute_logits(network, x, precision, n_classes)
            if n_views > 1:
                p = logits.softmax(dim=1).reshape(len(y), n_views, n_classes).mean(dim=1)
                logits = p.clamp(min=1e-30).log()
            loss += nn.functional.cross_entropy(logits, y, reduction="sum")
            best = logits.topk(min(5, n_classes), dim=1).indices
            top5 += (best == y[:, None]).sum()
            confusion += torch.bincount(y * n_classes + best[:, 0], minlength=n_classes**2)
            advance(1)
    distributed.sum(loss, top5, confusion)
    table = confusion.reshape(n_classes, n_classes).cpu()
    n = int(table.sum())
    return Evaluation(
        top1=int(table.trace()) / n,
        top5=int(top5) / n if n_classes > 5 else None,
        loss=float(loss) / n,
        confusion=table,
        n=n,
        views=views,
        label_names=label_names,
    )


def _input_of(
    split: Any, preprocessing: Preprocessing | None, views: str
) -> tuple[Any, Callable[[torch.Tensor], torch.Tensor]]:
    """Returns the split to read, and the function from its batches to the network's input, (N K, C, height, width).

    Files are decoded as the preprocessing says, and cropped by the workers, since they differ in size. Images in memory
    are used if their files were decoded in that way.
    """
    if preprocessing is None:
        return split, _identity
    files = split.files if isinstance(split, Split) else split
    decoding, channels = preprocessing.decoding, preprocessing.channels
    is_decoded = isinstance(files, ImageFiles) and (files.decoding, files.channels) == (decoding, channels)
    if not isinstance(files, ImageFiles) or (is_decoded and isinstance(split, Split)):
        return split, lambda images: preprocessing.normalize(preprocessing.views(images, views).flatten(0, 1))
    files = files.with_decoding(decoding, channels, partial(_stack_views, preprocessing, views))
    return files, lambda images: preprocessing.normalize(_unstack_views(images, VIEWS[views]))


def _identity(images: torch.Tensor) -> torch.Tensor:
    if images.dtype == torch.uint8:
        raise InputError("images of uint8 need a preprocessing, and the network has none; pass preprocessing=")
    return images


def _stack_views(preprocessing: Preprocessing, views: str, image: torch.Tensor) -> torch.Tensor:
    """Returns the K views of an image (C, H, W), one below the other: (C, K height, width)."""
    return torch.cat(preprocessing.views(image[None], views)[0].unbind(0), dim=1)


def _unstack_views(images: torch.Tensor, n: int) -> torch.Tensor:
    """Returns images (N, C, K height, width) of ``n`` = K views as (N K, C, height, width)."""
    batch, channels, height, width = images.shape
    return images.view(batch, channels, n, height // n, width).transpose(1, 2).flatten(0, 1)


def _batch_indices(split: Any, batch_size: int, distributed: DistributedContext) -> Sequence[torch.Tensor]:
    """Returns the indices of this process's images, batch by batch; for ready-made batches, the number of each."""
    shard, size = distributed.shard(len(split)), batch_size if has_samples(split) else 1
    return [torch.arange(first, min(first + size, shard.stop)) for first in range(shard.start, shard.stop, size)]
