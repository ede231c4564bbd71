"""The provenance of trained weights, and warnings about that of initial weights."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import nn

from cnnzoo.files import strip_local_paths
from cnnzoo.metadata import get_metadata
from cnnzoo.serialization import METADATA_KEY
from cnnzoo.train.config import TrainConfig


def initial_provenance(model: nn.Module) -> dict[str, Any] | None:
    """Returns where the weights of a module come from; None if they are random or the module has no metadata."""
    provenance = get_metadata(model).provenance
    return None if provenance is None or provenance.get("kind") == "random" else dict(provenance)


def training_provenance(
    config: TrainConfig,
    data_name: str,
    data_sha256: str,
    steps: int,
    metrics: Mapping[str, Any],
    initial: Mapping[str, Any] | None,
) -> dict[str, Any]:
    """Returns the provenance of trained weights.

    Args:
        config: The settings of the run.
        data_name: Name of the data; local paths are removed from it.
        data_sha256: Checksum of the data.
        steps: Number of steps done.
        metrics: Metrics of the run, of which loss and accuracies are included.
        initial: Provenance of the initial weights, None if they were random.
    """
    provenance: dict[str, Any] = {
        "kind": "trained",
        "data": strip_local_paths(data_name),
        "data_sha256": data_sha256,
        "config": config.to_dict(),
        "steps": steps,
    }
    provenance |= {key: metrics[key] for key in ("loss", "train_acc", "test_acc") if key in metrics}
    if initial is not None:
        provenance["from"] = initial
    return provenance


def warn_about_replaced_weights(name: str, init: str) -> None:
    """Warns that ``init`` replaces weights that were trained before."""
    warnings.warn(
        f"{name}: init={init!r} draws new weights, so that its trained weights are not used; "
        "config.replace(init=None) continues from them",
        stacklevel=4,
    )


def warn_about_other_classes(model: nn.Module, name: str, classes: Sequence[object], data_name: str) -> None:
    """Warns if the last layer was trained for other classes than those of the data."""
    trained, current = get_metadata(model).label_names, [str(label) for label in classes]
    if trained and set(trained) != set(current):
        warnings.warn(
            f"{name}: the last layer was trained for other classes ({', '.join(trained[:3])}, ...) than those of "
            f"{data_name} ({', '.join(current[:3])}, ...), and training continues from its weights; to start from "
            "random weights, call the layer's reset_parameters() first",
            stacklevel=4,
        )


def warn_about_missing_spec(model: nn.Module, description: Mapping[str, Any], name: str, path: Path) -> None:
    """Warns if modules of a network were changed by hand, so that it cannot be rebuilt from its run folder.

    Args:
        model: The network.
        description: What ``cnnzoo.metadata.describe`` returns of it.
        name: Its name.
        path: The run folder.
    """
    inner = description.get(METADATA_KEY)
    if isinstance(inner, dict) and "spec" not in inner:
        changed: list[str] = model.changed_modules()  # type: ignore[operator]  # of a DescribedModule
        warnings.warn(
            f"{name}: {', '.join(changed[:5])} {'was' if len(changed) == 1 else 'were'} changed by hand, so {path} "
            "stores the weights without a Spec: cnnzoo.load cannot rebuild the network, and Trainer.resume needs "
            "model=. To store it whole, change the Spec (cnnzoo.edit, insert, remove, or a knob such as num_classes=) "
            "and build the network again",
            stacklevel=5,
        )
