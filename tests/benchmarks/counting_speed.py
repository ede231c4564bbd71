"""How long one count of AlexNet takes, and how much memory, by each tool, side by side in one process.

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

import torch
from peers import TOOLS, Tool
from torch.utils.flop_counter import FlopCounterMode

import cnnzoo
from cnnzoo.measure.bench import _peak

ROUNDS = 15


def main() -> None:
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    model, x = cnnzoo.create("alexnet").eval(), torch.zeros(1, 1, 224, 224)
    empty, nothing = cnnzoo.create("alexnet", device="meta").eval(), torch.empty(1, 1, 224, 224, device="meta")

    def flop_counter_on_meta() -> None:
        with FlopCounterMode(display=False):
            empty(nothing)

    def counting(tool: Tool) -> Callable[[], object]:
        own = copy.deepcopy(model)  # some tools leave things behind on what they count
        return lambda: tool.count(own, x)

    calls = {tool.name: counting(tool) for tool in TOOLS}
    calls["FlopCounterMode on a meta model"] = flop_counter_on_meta
    times: dict[str, list[float]] = {name: [] for name in calls}
    for call in calls.values():
        call()  # imports and first use
    for _ in range(ROUNDS):  # by turns, so that what else the machine does hits all alike
        for name, call in calls.items():
            begin = time.perf_counter()
            call()
            times[name].append(time.perf_counter() - begin)
    ours = statistics.median(times["cnnzoo"])
    print(f"{'tool':34}{'ms':>9}{'/ cnnzoo':>10}{'memory MB':>12}")
    for name, call in calls.items():
        median = statistics.median(times[name])
        memory = _peak(call, torch.device("cpu")) or 0
        print(f"{name:34}{1e3 * median:9.2f}{median / ours:10.2f}{memory / 1e6:12.2f}")


if __name__ == "__main__":
    main()
