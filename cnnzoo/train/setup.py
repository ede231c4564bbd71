"""What follows from model, data and config before the first step of a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from cnnzoo.data import Data
from cnnzoo.metadata import Metadata, describe
from cnnzoo.preprocessing import Preprocessing
from cnnzoo.train import checks
from cnnzoo.train.batches import TrainBatches, count_steps, make_preprocessing, order_labels, select_data
from cnnzoo.train.config import TrainConfig
from cnnzoo.train.distributed import DistributedContext
from cnnzoo.train.functions import Functions
from cnnzoo.train.imbalance import make_class_weights
from cnnzoo.train.losses import TrainLoss, make_loss
from cnnzoo.train.optim import make_optimizer
from cnnzoo.train.precision import resolve_precision
from cnnzoo.train.schedules import learning_rate


@dataclass(frozen=True, eq=False)
class RunSetup:
    """The fixed values of a run.

    Attributes:
        model: The module that is trained.
        config: The settings.
        functions: Functions that replace or add to what the config names.
        distributed: The processes that train together.
        device: Device of the model.
        precision: ``"bf16"``, ``"fp16"`` or ``"fp32"``.
        name: Name of the network, for messages.
        size: (height, width) of the network's input.
        preprocessing: How an image becomes the network's input; None for images of floats, which are used unchanged.
        label_names: Name of each class, in the order of the scores.
        label_map: int64 (classes,): the class of the network that each class of the data is; None if they are equal.
        class_weights: float32 (classes,): factor of the loss of images of each class; None if all are 1.
        data: The data whose test images are used at the end.
        train_data: The data that is trained on; its test images are the validation images, if it is not ``data``.
        data_sha256: Checksum of the whole data set, also with ``overfit_batches``.
        steps_per_epoch: Number of steps of an epoch.
    """

    model: nn.Module
    config: TrainConfig
    functions: Functions
    distributed: DistributedContext
    device: torch.device
    precision: str
    name: str
    size: tuple[int, int]
    preprocessing: Preprocessing | None
    label_names: tuple[str, ...]
    label_map: torch.Tensor | None
    class_weights: torch.Tensor | None
    data: Data
    train_data: Data
    data_sha256: str
    steps_per_epoch: int

    @classmethod
    def of(cls, model: nn.Module, data: Data, config: TrainConfig, functions: Functions) -> RunSetup:
        """Returns the fixed values of a run.

        Args:
            model: The model.
            data: The data set.
            config: The settings.
            functions: Functions that replace or add to what the config names.

        Raises:
            InputError: If model and data do not match, or the config asks for what they do not support.
        """
        model = checks.unwrap_trainable(model, config)
        distributed = DistributedContext.current()
        device = distributed.resolve_device(config.device)
        precision = resolve_precision(config.precision, device)
        checks.require_sync_batch_norm(model, config, device, distributed.size)
        description = describe(model)
        name = description.get("architecture", type(model).__name__)
        checks.warn_about_frozen_norms(model, config, name)
        checks.require_matching(name, description.get("in_channels"), description.get("num_classes"), data)
        _, height, width = description.get("pretrained_cfg", {}).get("input_size") or data.shape
        size = int(height), int(width)
        label_names, label_map = order_labels(model, config, data)
        Metadata(label_names)  # raises InputError if they cannot be stored, before a step is lost
        test_data, train_data = select_data(data, config)
        counted = data if config.overfit_batches else train_data
        checks.require_supported(test_data, config, name=name, size=size, processes=distributed.size)
        return cls(
            model=model,
            config=config,
            functions=functions,
            distributed=distributed,
            device=device,
            precision=precision,
            name=name,
            size=size,
            preprocessing=make_preprocessing(data, config, size),
            label_names=label_names,
            label_map=label_map,
            class_weights=make_class_weights(config, counted, label_map),
            data=test_data,
            train_data=train_data,
            data_sha256=data.sha256,
            steps_per_epoch=count_steps(train_data, config),
        )

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """Shape of an input of the network (C, H, W)."""
        return self.data.shape[0], *self.size

    def lr_at(self, step: int, history: Sequence[Mapping[str, Any]]) -> float:
        """Returns the learning rate of a step, counted from 0, in a run with this history."""
        return learning_rate(self.config, step, self.steps_per_epoch, history, self.functions.get("schedule"))

    def make_loss(self) -> TrainLoss:
        """Returns the loss of a batch."""
        return make_loss(
            self.config, self.device, function=self.functions.get("loss"), class_weights=self.class_weights
        )

    def make_optimizer(self) -> torch.optim.Optimizer:
        """Returns a new optimizer of the model."""
        return make_optimizer(self.model, self.config, self.functions.get("optimizer"))

    def make_batches(self) -> TrainBatches:
        """Returns the batches of the run, for this process."""
        return TrainBatches(
            self.train_data,
            self.config,
            preprocessing=self.preprocessing,
            label_map=self.label_map,
            color_components=self.data.color_components if self.config.augmentation.pca_lighting else None,
            device=self.device,
            distributed=self.distributed,
        )
