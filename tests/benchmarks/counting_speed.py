"""Measures time and memory of one count of AlexNet by each tool, alternately in one process.

pip install -e ".[bench]"
python tests/benchmarks/counting_speed.py
"""

from __future__ import annotations

import copy
import logging
import statistics
import time
import warnings
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version

import torch
from peers import TOOLS, Tool
from torch.utils.flop_counter import FlopCounterMode

import cnnzoo
from cnnzoo.measure.bench import measure_peak_bytes

ROUNDS = 15


def is_installed(tool: Tool) -> bool:
    try:
        return bool(version(tool.package))
    except PackageNotFoundError:
        print(f"{tool.name} is not installed")
        return False


def main() -> None:
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    model, x = cnnzoo.create("alexnet").eval(), torch.zeros(1, 1, 224, 224)
    meta_model, meta_x = cnnzoo.create("alexnet", device="meta").eval(), torch.empty(1, 1, 224, 224, device="meta")

    def flop_counter_on_meta() -> None:
        with FlopCounterMode(display=False):
            meta_model(meta_x)

    def count_call(tool: Tool) -> Callable[[], object]:
        own_model = copy.deepcopy(model)  # some tools leave hooks or attributes on a model
        return lambda: tool.count(own_model, x)

    calls = {tool.name: count_call(tool) for tool in TOOLS if is_installed(tool)}
    calls["FlopCounterMode on a meta model"] = flop_counter_on_meta
    times: dict[str, list[float]] = {name: [] for name in calls}
    for call in calls.values():
        call()  # imports and first use
    for _ in range(ROUNDS):  # alternately, so that other load on the machine affects all alike
        for name, call in calls.items():
            begin = time.perf_counter()
            call()
            times[name].append(time.perf_counter() - begin)
    ours = statistics.median(times["cnnzoo"])
    print(f"{'tool':34}{'ms':>9}{'/ cnnzoo':>10}{'memory MB':>12}")
    for name, call in calls.items():
        median = statistics.median(times[name])
        memory = measure_peak_bytes(call, torch.device("cpu")) or 0
        print(f"{name:34}{1e3 * median:9.2f}{median / ours:10.2f}{memory / 1e6:12.2f}")


if __name__ == "__main__":
    main()
