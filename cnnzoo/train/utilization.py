"""Model FLOPs utilization: which share of a machine's matrix products a training step reaches."""

from __future__ import annotations

from contextlib import suppress
from functools import lru_cache

import torch

from cnnzoo.device import device_name, machine_info
from cnnzoo.errors import CnnzooError
from cnnzoo.files import cache_folder, exists, read_json, write_json
from cnnzoo.module_copy import copy_module
from cnnzoo.train.setup import RunSetup

_SECONDS = 0.1  # about how long the matrix product is timed, after as long a warm-up
_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
_MACHINE = ("cpu", "cores", "threads", "torch")  # properties that the peak depends on, besides the device


def count_flops(setup: RunSetup) -> int:
    """Returns the FLOPs of a training step on one image, as counted.

    Raises:
        CnnzooError: If the model cannot be counted.
    """
    from cnnzoo.measure.counter import count_image  # not before the first step: its imports take time

    model = copy_module(setup.model, user_hooks=False).eval()  # hooks would see tensors without values
    return 2 * count_image(model, setup.input_shape, "the model").train_macs


class Utilization:
    """The utilization of the devices by the training of a model.

    Args:
        setup: The fixed values of the run.
    """

    def __init__(self, setup: RunSetup) -> None:
        self._setup = setup
        self._images_per_sec: float | None = None  # at full utilization
        self._is_known = False

    def fraction(self, images_per_sec: float) -> float | None:
        """Returns the counted FLOPs of the training steps per second, as a fraction of those of a matrix product.

        The first call counts the model, and measures the matrix product unless this machine has done so before.

        Args:
            images_per_sec: Images per second of all processes.

        Returns:
            The fraction; None if the model cannot be counted.
        """
        if not self._is_known:
            self._is_known = True
            setup = self._setup
            with suppress(CnnzooError):
                flops = count_flops(setup)
                peak = setup.distributed.size * _peak(setup.device, setup.precision)
                self._images_per_sec = peak / flops if flops else None
        return None if self._images_per_sec is None else images_per_sec / self._images_per_sec


@lru_cache
def _peak(device: torch.device, precision: str) -> float:
    """Returns the FLOPs per second of a large matrix product, from the cache folder if they were measured before."""
    file = cache_folder() / "peak_flops.json"
    machine = machine_info()
    key = " ".join([device_name(device), precision, *(f"{name}={machine[name]}" for name in _MACHINE)])
    known: dict[str, object] = {}
    with suppress(CnnzooError):
        known = read_json(file) if exists(file) else {}
    value = known.get(key)
    if isinstance(value, float) and value > 0:
        return value
    from cnnzoo.measure.bench import peak_flops_per_sec

    n = None if device.type == "cuda" else 512 if precision == "fp32" else 256  # other types may be emulated
    peak = peak_flops_per_sec(device, _DTYPES[precision], _SECONDS, n)
    with suppress(CnnzooError):
        write_json(file, {**known, key: peak})
    return peak
