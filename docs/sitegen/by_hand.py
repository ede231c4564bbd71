"""The page "Count it by hand": each formula with the numbers of LeNet and AlexNet, checked against the counter."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from typing import Any, NamedTuple

from torch import nn

import cnnzoo
from cnnzoo.blocks import build_blocks
from sitegen.registry import count

NETWORKS = ("lenet", "alexnet")


class Layer(NamedTuple):
    """A layer of a chain, its module, and what the counter says of it."""

    label: str
    module: Any
    in_shape: tuple[int, ...]  # (C, H, W) or (features,)
    out_shape: tuple[int, ...]
    counted: cnnzoo.measure.LayerCount

    @property
    def window(self) -> tuple[int, int, int]:
        """Returns kernel size, stride and padding."""
        return tuple(  # type: ignore[return-value]
            value[0] if isinstance(value := getattr(self.module, name), tuple) else value
            for name in ("kernel_size", "stride", "padding")
        )

    @property
    def has_window(self) -> bool:
        """Returns whether it is a convolution or a pool."""
        return isinstance(self.module, (nn.Conv2d, nn.MaxPool2d, nn.AvgPool2d))

    @property
    def has_weights(self) -> bool:
        """Returns whether it is a convolution or a dense layer."""
        return isinstance(self.module, (nn.Conv2d, nn.Linear))


@cache
def layers(name: str) -> list[Layer]:
    """Returns the layers of a network that is a chain."""
    spec, counted = cnnzoo.get_spec(name), iter(count(name).layers)
    blocks = build_blocks(spec.features, spec.input, "features")
    blocks += build_blocks(spec.classifier, blocks[-1].shape, "classifier")
    result, shape = [], tuple(spec.input)
    for block in blocks:
        for module in block.modules:
            layer = next(counted)
            result.append(Layer(layer.label, module, shape, layer.out_shape[1:], layer))
            shape = layer.out_shape[1:]
    return result


def output_sizes() -> str:
    """Returns a table of the sides of the outputs."""

    def rows(name: str) -> Iterator[tuple[str, str, str]]:
        for layer in filter(lambda layer: layer.has_window, layers(name)):
            kernel, stride, padding = layer.window
            side = (layer.in_shape[1] + 2 * padding - kernel) // stride + 1
            assert side == layer.out_shape[1]
            formula = f"⌊({layer.in_shape[1]} + 2 · {padding} - {kernel}) / {stride}⌋ + 1"
            yield layer.label, formula, f"{side}"

    return _tables(("layer", "⌊(n + 2p - k) / s⌋ + 1", "side"), rows)


def parameters() -> str:
    """Returns a table of the parameters of each layer."""

    def rows(name: str) -> Iterator[tuple[str, str, str]]:
        total = 0
        for layer in filter(lambda layer: layer.has_weights, layers(name)):
            outputs, inputs = layer.module.weight.shape[:2]
            if isinstance(layer.module, nn.Linear):
                number, formula = outputs * (inputs + 1), f"{outputs:,} · ({inputs:,} + 1)"
            else:
                kernel = layer.window[0]
                number = outputs * (inputs * kernel**2 + 1)
                formula = f"{outputs} · ({inputs} · {kernel} · {kernel} + 1)"
            assert number == layer.counted.params
            total += number
            yield layer.label, formula, f"{number:,}"
        assert total == count(name).params.total
        yield "**total**", "", f"**{total:,}**"

    return _tables(("layer", "outputs · (weights of one output + 1 bias)", "parameters"), rows)


def macs() -> str:
    """Returns a table of the multiply-adds of each layer."""

    def rows(name: str) -> Iterator[tuple[str, str, str]]:
        total = 0
        for layer in filter(lambda layer: layer.has_weights, layers(name)):
            inputs = layer.module.weight.shape[1]
            if isinstance(layer.module, nn.Linear):
                number, formula = layer.out_shape[0] * inputs, f"{layer.out_shape[0]:,} · {inputs:,}"
            else:
                channels, height, width = layer.out_shape
                kernel = layer.window[0]
                number = channels * height * width * inputs * kernel**2
                formula = f"({channels} · {height} · {width}) · ({inputs} · {kernel} · {kernel})"
            assert number == layer.counted.macs
            total += number
            yield layer.label, formula, f"{number:,}"
        assert total == count(name).macs
        yield "**total**", "", f"**{total:,}**"

    return _tables(("layer", "outputs · products of one output", "multiply-adds"), rows)


def receptive_fields() -> str:
    """Returns a table of the receptive fields."""

    def rows(name: str) -> Iterator[tuple[str, str, str]]:
        field, distance = 1, 1
        for layer in layers(name):
            if layer.has_window:
                kernel, stride, _ = layer.window
            elif isinstance(layer.module, nn.Flatten):
                side = layer.in_shape[1]
                continue
            elif isinstance(layer.module, nn.Linear) and distance:
                kernel, stride = side, 0  # of the first dense layer: it sees all positions
            else:
                continue
            formula = f"{field} + ({kernel} - 1) · {distance}"
            field += (kernel - 1) * distance
            assert field == layer.counted.receptive_field
            yield layer.label, formula, f"{field}"
            distance *= stride

    return _tables(("layer", "r + (k - 1) · j", "receptive field, px"), rows)


def saved() -> str:
    """Returns a table of the bytes that autograd saves."""

    def rows(name: str) -> Iterator[tuple[str, str, str]]:
        total = 0
        is_saved = False  # whether the input of the next layer is saved already
        for layer in layers(name):
            module, values = layer.module, 1
            size = layer.in_shape if layer.has_weights else layer.out_shape
            for n in size:
                values *= n
            dims = " · ".join(f"{n:,}" for n in size)
            if layer.has_weights or isinstance(module, nn.AvgPool2d):
                number, formula = (0, "") if is_saved else (4 * values, f"input: 4 · {dims}")
                is_saved = False
            elif isinstance(module, nn.MaxPool2d):
                number, formula, is_saved = 8 * values, f"places of the maxima: 8 · {dims}", False
            elif isinstance(module, nn.Dropout):
                number, formula, is_saved = 4 * values, f"mask: 4 · {dims}", False
            elif isinstance(module, nn.Flatten):
                continue  # a view of the same values
            else:
                number, formula, is_saved = 4 * values, f"output: 4 · {dims}", True
            assert number == layer.counted.saved_bytes, layer
            total += number
            if number:
                yield f"{layer.label}, {type(module).__name__}", formula, f"{number:,}"
        assert total == count(name).saved_bytes
        yield "**total**", "", f"**{total:,}**"

    return _tables(("layer", "what is saved", "bytes"), rows)


def _tables(columns: tuple[str, str, str], rows: Callable[[str], Iterator[tuple[str, str, str]]]) -> str:
    parts = []
    for name in NETWORKS:
        parts += [f"`{name}`:", "", f"| {' | '.join(columns)} |", "| --- | --- | ---: |"]
        parts += [f"| {' | '.join(row)} |" for row in rows(name)]
        parts.append("")
    return "\n".join(parts)
