"""Forward passes and constructors beside those of torchvision, the same weights, one run, medians in turn.

    python tests/benchmarks/twins_speed.py                 # every twin: minutes
    python tests/benchmarks/twins_speed.py resnet18 vgg11

Asked: a forward at least 0.97 times as fast as the twin's, a constructor no slower; list_models, get_spec and the
row-by-row difference under a millisecond after the first look-up.
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


def in_turn(*functions: Callable[[], object], rounds: int = ROUNDS) -> list[float]:
    """Median seconds of each function, called in turn so that a slow moment hits all alike."""
    for function in functions:
        function()
    times: list[list[float]] = [[] for _ in functions]
    for number in range(rounds):
        order = range(len(functions)) if number % 2 else reversed(range(len(functions)))
        for i in order:
            start = time.perf_counter()
            functions[i]()
            times[i].append(time.perf_counter() - start)
    return [statistics.median(one) for one in times]


def main() -> None:
    names = sys.argv[1:] or [name for name in cnnzoo.list_models() if get_entry(name).twin]
    print(
        f"{'':16}{'forward ms':>12}{'torchvision':>13}{'throughput':>12}{'create ms':>12}{'torchvision':>13}{'time':>8}"
    )
    for name in names:
        twin = get_entry(name).twin.name
        settings = {"init_weights": True, "aux_logits": False} if name == "googlenet" else {}
        theirs = torchvision.models.get_model(twin, **settings).eval()
        ours = cnnzoo.create(name).eval()
        load_torchvision(ours, theirs.state_dict())
        x = torch.randn(1, 3, 224, 224)
        with torch.inference_mode():
            a, b = in_turn(lambda m=ours, x=x: m(x), lambda m=theirs, x=x: m(x))
        made, by_them = in_turn(
            lambda name=name: cnnzoo.create(name),
            lambda twin=twin, settings=settings: torchvision.models.get_model(twin, **settings),
            rounds=7,
        )
        print(
            f"{name:16}{a * 1e3:12.2f}{b * 1e3:13.2f}{b / a:11.3f}x{made * 1e3:12.1f}{by_them * 1e3:13.1f}"
            f"{made / by_them:7.2f}x",
            flush=True,
        )
    big, bigger = cnnzoo.get_spec("densenet169"), cnnzoo.get_spec("densenet201")
    one, other = cnnzoo.get_spec("alexnet_2012"), cnnzoo.get_spec("alexnet_owt")
    looks = {
        "list_models()": lambda: cnnzoo.list_models(),
        "get_spec('densenet201')": lambda: cnnzoo.get_spec("densenet201"),
        "align(alexnet_2012, alexnet_owt)": lambda: align(one, other),
        "align(densenet169, densenet201)": lambda: align(big, bigger),
    }
    for what, function in looks.items():
        print(f"{what:36}{in_turn(function, rounds=101)[0] * 1e3:8.3f} ms")


if __name__ == "__main__":
    main()
