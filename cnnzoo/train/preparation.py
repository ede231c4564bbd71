"""What happens to a model before the first step of a run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from cnnzoo.data import derive_seed, has_samples
from cnnzoo.device import seed
from cnnzoo.initializers import initialize
from cnnzoo.modules import eval_mode, explain_forward_error
from cnnzoo.train import checks, provenance
from cnnzoo.train.inference import compute_logits
from cnnzoo.train.optim import freeze_parameters
from cnnzoo.train.setup import RunSetup


def prepare_model(setup: RunSetup) -> list[nn.Parameter]:
    """Moves the model to the device, sets it to train mode, and freezes and returns the parameters to freeze."""
    memory_format = torch.channels_last if setup.config.channels_last else torch.contiguous_format
    setup.model.to(setup.device, memory_format=memory_format)  # type: ignore[call-overload]
    setup.model.train()
    return freeze_parameters(setup.model, setup.config)


def try_model(setup: RunSetup) -> None:
    """Raises InputError if model, loss and optimizer do not fit, before anything is written."""
    image = torch.zeros(1, *setup.input_shape, device=setup.device)
    loss = setup.make_loss()
    with eval_mode(setup.model), torch.no_grad():
        with explain_forward_error(setup.name, image):
            logits = compute_logits(setup.model, image, "fp32", len(setup.data.classes))
        loss(logits, torch.zeros(1, dtype=torch.int64, device=setup.device))
    setup.make_optimizer()
    if has_samples(train := setup.train_data.train):
        processes = setup.distributed.size
        checks.require_batch_norm_values(
            setup.model, setup.name, setup.input_shape, len(train), setup.config, processes
        )


def initialize_weights(setup: RunSetup, initial_provenance: Mapping[str, Any] | None) -> None:
    """Draws new weights if the config says so, else warns if they were trained for other classes.

    Args:
        setup: The fixed values of the run.
        initial_provenance: Where the weights come from; None if they are random, or will be.
    """
    model, config, data = setup.model, setup.config, setup.data
    if config.init is not None:
        if provenance.initial_provenance(model) is not None:
            provenance.warn_about_replaced_weights(setup.name, config.init)
        seed(setup.device, derive_seed("init", config.seed))
        initialize(model, config.init)
    elif initial_provenance is not None:
        provenance.warn_about_other_classes(model, setup.name, data.classes, data.name)
