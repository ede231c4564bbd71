"""What other counters print for the same nets, and why: every difference explained to the last unit.

    pip install -e ".[bench]"
    python tests/benchmarks/peers.py            # prints the table
    python tests/benchmarks/peers.py --write    # puts it into docs/counting.md

Each tool's number is computed again from the parts of our report by the formula beside it; the script fails where
that does not give the printed number exactly.
"""

from __future__ import annotations

import contextlib
import copy
import io
import logging
import math
import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import torch
from torch import nn

import cnnzoo

PAGE = Path(__file__).parents[2] / "docs" / "counting.md"
BEGIN, END = "<!-- peers: made by tests/benchmarks/peers.py -->", "<!-- end of peers -->"


@dataclass(frozen=True)
class Parts:
    """What a count is made of, read off our report."""

    macs: int
    bias: int  # bias adds of all layers
    conv_bias: int
    relu: int  # outputs of ReLUs
    norm: int  # outputs of batch norm
    norm_params: int
    pool_in: int  # inputs of pools
    avg_out: int  # outputs of average pools with a window
    global_in: int  # inputs of pools to a fixed size
    global_out: int


def parts(report: cnnzoo.CountReport) -> Parts:
    def outputs(kind: str) -> int:
        return sum(math.prod(row.out_shape) for row in report.layers if row.kind == kind)

    def inputs(*kinds: str) -> int:
        return sum(math.prod(report.layers[row.inputs[0]].out_shape) for row in report.layers if row.kind in kinds)

    kinds = report.by("kind")
    return Parts(
        macs=report.macs,
        bias=report.bias_adds,
        conv_bias=kinds["Conv2d"]["bias_adds"],
        relu=outputs("ReLU"),
        norm=outputs("BatchNorm2d"),
        norm_params=kinds.get("BatchNorm2d", {"params": 0})["params"],
        pool_in=inputs("AvgPool2d", "MaxPool2d", "AdaptiveAvgPool2d"),
        avg_out=outputs("AvgPool2d"),
        global_in=inputs("AdaptiveAvgPool2d"),
        global_out=outputs("AdaptiveAvgPool2d"),
    )


def count_fvcore(model: nn.Module, x: torch.Tensor) -> int:
    from fvcore.nn import FlopCountAnalysis

    return FlopCountAnalysis(model, x).unsupported_ops_warnings(False).total()


def count_torchinfo(model: nn.Module, x: torch.Tensor) -> int:
    from torchinfo import summary

    return summary(model, input_data=x, verbose=0).total_mult_adds


def count_ptflops(model: nn.Module, x: torch.Tensor) -> int:
    from ptflops import get_model_complexity_info

    with contextlib.redirect_stdout(io.StringIO()):
        return get_model_complexity_info(
            model, tuple(x.shape[1:]), as_strings=False, print_per_layer_stat=False, backend="pytorch"
        )[0]


def count_ptflops_aten(model: nn.Module, x: torch.Tensor) -> int:
    from ptflops import get_model_complexity_info

    with contextlib.redirect_stdout(io.StringIO()):
        return get_model_complexity_info(
            model, tuple(x.shape[1:]), as_strings=False, print_per_layer_stat=False, backend="aten"
        )[0]


def count_thop(model: nn.Module, x: torch.Tensor) -> int:
    from thop import profile

    return int(profile(model, (x,), verbose=False)[0])


def count_calflops(model: nn.Module, x: torch.Tensor) -> int:
    from calflops import calculate_flops

    return calculate_flops(model, input_shape=tuple(x.shape), print_results=False, output_as_string=False)[0]


def count_flop_counter(model: nn.Module, x: torch.Tensor) -> int:
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter:
        model(x)
    return counter.get_total_flops()


def count_ours(model: nn.Module, x: torch.Tensor) -> int:
    return cnnzoo.count(model, inputs=x).macs


@dataclass(frozen=True)
class Tool:
    name: str
    package: str
    calls_it: str
    count: Callable[[nn.Module, torch.Tensor], int]
    formula: str
    explain: Callable[[Parts], int]


TOOLS = (
    Tool("cnnzoo", "cnnzoo", "MACs", count_ours, "MACs", lambda p: p.macs),
    Tool(
        "FlopCounterMode", "torch", "FLOPs", count_flop_counter, "2 x MACs: a multiply-add is two", lambda p: 2 * p.macs
    ),
    Tool(
        "fvcore", "fvcore", "flops", count_fvcore,
        "MACs + 2 per output of batch norm + 1 per input of a pool to a fixed size; window pools, activations and "
        "biases count nothing",
        lambda p: p.macs + 2 * p.norm + p.global_in,
    ),
    Tool(
        "torchinfo", "torchinfo", "mult-adds", count_torchinfo,
        "MACs + bias adds + the number of parameters of batch norm, once whatever the size of its maps",
        lambda p: p.macs + p.bias + p.norm_params,
    ),
    Tool(
        "ptflops", "ptflops", "MACs", count_ptflops,
        "MACs + bias adds + 2 per output of ReLU and 2 per input of a pool (each is seen twice, as a layer and as the "
        "function that it calls; sigmoids are not seen) + 2 per output of batch norm",
        lambda p: p.macs + p.bias + 2 * p.relu + 2 * p.pool_in + 2 * p.norm,
    ),
    Tool(
        "ptflops, aten", "ptflops", "MACs", count_ptflops_aten, "MACs + bias adds", lambda p: p.macs + p.bias,
    ),
    Tool(
        "thop", "thop", "MACs", count_thop,
        "MACs + 1 per output of an average pool + 4 per output of batch norm + (window + 1) per output of a pool to a "
        "fixed size; biases, max pools and activations count nothing",
        lambda p: p.macs + p.avg_out + 4 * p.norm + p.global_in + p.global_out,
    ),
    Tool(
        "calflops", "calflops", "FLOPs", count_calflops,
        "2 x MACs + bias adds of convolutions (not of dense layers) + 1 per output of ReLU (sigmoids are not seen) + 1 "
        "per input of a pool + 2 per output of batch norm",
        lambda p: 2 * p.macs + p.conv_bias + p.relu + p.pool_in + 2 * p.norm,
    ),
)  # fmt: skip


def nets() -> dict[str, tuple[nn.Module, torch.Tensor]]:
    import torchvision

    return {
        "LeNet": (cnnzoo.create("lenet").eval(), torch.zeros(1, 1, 28, 28)),
        "AlexNet": (cnnzoo.create("alexnet").eval(), torch.zeros(1, 1, 224, 224)),
        "ResNet-18 (torchvision)": (torchvision.models.resnet18().eval(), torch.zeros(1, 3, 224, 224)),
    }


def table() -> str:
    """The table as Markdown; fails where a formula does not give what its tool prints."""
    made = nets()
    read = {name: parts(cnnzoo.count(model, inputs=x)) for name, (model, x) in made.items()}
    lines = [
        f"| tool | calls it | {' | '.join(made)} | what it counts |",
        "| --- | --- |" + " ---: |" * len(made) + " --- |",
    ]
    for tool in TOOLS:
        cells = []
        for name, (model, x) in made.items():
            printed, explained = tool.count(copy.deepcopy(model), x), tool.explain(read[name])
            assert printed == explained, f"{tool.name}, {name}: prints {printed:,}, explained are {explained:,}"
            cells.append(f"{printed:,}")
        label = f"{tool.name} ({version(tool.package)})"
        lines.append(f"| {label} | {tool.calls_it} | {' | '.join(cells)} | {tool.formula} |")
    return "\n".join(lines)


def main() -> None:
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    made = table()
    print(made)
    if "--write" in sys.argv:
        text = PAGE.read_text()
        before, rest = text.split(BEGIN)
        PAGE.write_text(f"{before}{BEGIN}\n\n{made}\n\n{END}{rest.split(END)[1]}")


if __name__ == "__main__":
    main()
