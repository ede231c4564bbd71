"""Forward passes and constructors beside those of torchvision, with the same weights: medians, measured alternately.

    python tests/benchmarks/twins_speed.py                 # every network with a twin: minutes
    python tests/benchmarks/twins_speed.py resnet18 vgg11

Targets: a forward pass at least 0.97 times as fast as that of the twin, a constructor no slower; list_models, get_spec
and the block-by-block difference under a millisecond after the first call.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable

import torch
import torchvision

import cnnzoo
from cnnzoo.diff import align
from cnnzoo.registry import get_entry
from cnnzoo.weights import load_torchvision

ROUNDS = 41


def median_seconds(*functions: Callable[[], object], rounds: int = ROUNDS) -> list[float]:
    """Returns the median time of each function; they alternate, so that all run in the same conditions."""
    for function in functions:
        function()
    times: list[list[float]] = [[] for _ in functions]
    for number in range(rounds):
        order = range(len(functions)) if number % 2 else reversed(range(len(functions)))
        for i in order:
            start = time.perf_counter()
            functions[i]()
            times[i].append(time.perf_counter() - start)
    return [statistics.median(values) for values in times]


def main() -> None:
    names = sys.argv[1:] or [name for name in cnnzoo.list_models() if get_entry(name).twin]
    print(
        f"{'':16}{'forward ms':>12}{'torchvision':>13}{'throughput':>12}{'create ms':>12}{'torchvision':>13}{'time':>8}"
    )
    for name in names:
        twin_name = get_entry(name).twin.name
        options = {"init_weights": True, "aux_logits": False} if name == "googlenet" else {}
        twin = torchvision.models.get_model(twin_name, **options).eval()
        model = cnnzoo.create(name).eval()
        load_torchvision(model, twin.state_dict())
        x = torch.randn(1, 3, 224, 224)
        with torch.inference_mode():
            forward, twin_forward = median_seconds(lambda m=model, x=x: m(x), lambda m=twin, x=x: m(x))
        create, twin_create = median_seconds(
            lambda name=name: cnnzoo.create(name),
            lambda twin_name=twin_name, options=options: torchvision.models.get_model(twin_name, **options),
            rounds=7,
        )
        print(
            f"{name:16}{forward * 1e3:12.2f}{twin_forward * 1e3:13.2f}{twin_forward / forward:11.3f}x"
            f"{create * 1e3:12.1f}{twin_create * 1e3:13.1f}{create / twin_create:7.2f}x",
            flush=True,
        )
    densenet169, densenet201 = cnnzoo.get_spec("densenet169"), cnnzoo.get_spec("densenet201")
    alexnet_2012, alexnet_owt = cnnzoo.get_spec("alexnet_2012"), cnnzoo.get_spec("alexnet_owt")
    functions = {
        "list_models()": lambda: cnnzoo.list_models(),
        "get_spec('densenet201')": lambda: cnnzoo.get_spec("densenet201"),
        "align(alexnet_2012, alexnet_owt)": lambda: align(alexnet_2012, alexnet_owt),
        "align(densenet169, densenet201)": lambda: align(densenet169, densenet201),
    }
    for call, function in functions.items():
        print(f"{call:36}{median_seconds(function, rounds=101)[0] * 1e3:8.3f} ms")


if __name__ == "__main__":
    main()
