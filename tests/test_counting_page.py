"""The numbers of docs/counting.md: a layer by hand, the memory of a step, what torch's own counter says."""

from pathlib import Path

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

import cnnzoo

PAGE = (Path(__file__).parents[1] / "docs" / "counting.md").read_text()


def row(name: str) -> str:
    """Returns the row of a table that begins with a name; the page has several tables, this one is by hand."""
    by_hand = PAGE.split("## A layer by hand")[1]
    return next(line for line in by_hand.splitlines() if line.startswith(f"| {name} "))


def test_a_layer_by_hand() -> None:
    layer = next(layer for layer in cnnzoo.count("lenet").layers if layer.label == "conv2" and layer.params)
    assert (layer.in_shape, layer.out_shape) == ((1, 6, 14, 14), (1, 16, 10, 10))
    values = {
        "MACs": layer.macs, "FLOPs": 2 * layer.macs, "bias adds": layer.bias_adds, "parameters": layer.params,
        "connections": layer.connections, "backward MACs": layer.backward_macs, "saved": layer.saved_bytes,
        "moved": layer.moved_bytes, "receptive field": layer.receptive_field,
    }  # fmt: skip
    for name, value in values.items():
        assert row(name).endswith(f"| {value:,} |"), name


def test_the_memory_of_a_step() -> None:
    report = cnnzoo.count("alexnet")
    memory = report.training_memory("adamw", batch_size=128)
    assert f'# {memory.total}, "{memory.peak.name}"' in PAGE
    assert f'report.max_batch_size("8 GB", "adamw")  # {report.max_batch_size("8 GB", "adamw")}\n' in PAGE


@pytest.mark.parametrize(
    ("module", "shape", "text"),
    [
        (nn.Conv2d(8, 8, 3, groups=8), (1, 8, 6, 6), "backward of `Conv2d(8, 8, 3, groups=8)` on 1x8x6x6"),
        (nn.Conv2d(8, 8, 3, groups=2), (1, 8, 6, 6), "backward of `Conv2d(8, 8, 3, groups=2)` on 1x8x6x6"),
        (nn.LSTM(8, 8), (3, 2, 8), "forward of `LSTM(8, 8)` on 3x2x8, on a CPU"),
    ],
)
def test_where_torch_is_wrong(module: nn.Module, shape: tuple[int, ...], text: str) -> None:
    x = torch.rand(shape, requires_grad=True)
    report = cnnzoo.count(module, inputs=x)
    with FlopCounterMode(display=False) as counter:
        out = module(x)
        forward = counter.get_total_flops()
        if text.startswith("backward"):
            out.sum().backward()
    numbers = (
        (counter.get_total_flops() - forward, 2 * (report.train_macs - report.macs))
        if text.startswith("backward")
        else (forward, report.flops)
    )
    if numbers[0] == numbers[1]:
        pytest.skip("this version of torch is right")
    assert f"| {text} | {numbers[0]:,} | {numbers[1]:,} |" in PAGE
