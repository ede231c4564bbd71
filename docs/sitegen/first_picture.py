"""The first picture of README.md: where the parameters and the multiply-adds of two networks are."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import NamedTuple

import cnnzoo
from cnnzoo.measure import CountReport
from cnnzoo.measure.architecture import Node, layer_graph
from cnnzoo.measure.drawing import LIGHT, TIMES, Drawing, Polygon, Text, text_width
from cnnzoo.measure.tables import human
from sitegen import ROOT

WIDTH = 400.0  # points; legible at 400 px
SIZE, SMALL, LARGE = 12.5, 11.0, 25.0  # of text
MARGIN, BAR_HEIGHT = 8.0, 24.0
COLORS = {"conv": "#abcdec", "dense": "#b4532f", "light": "#ffffff"}


class Shown(NamedTuple):
    """One network of the picture.

    Attributes:
        title: Its name as people write it.
        report: Its count.
        accuracy: Its test accuracy.
    """

    title: str
    report: CountReport
    accuracy: float


def first_picture() -> Drawing:
    """Returns AlexNet against LeNet, from the counts and the records of training on the full data set."""
    networks = [
        Shown(title, cnnzoo.count(name), record_accuracy(name))
        for title, name in (("AlexNet", "alexnet"), ("LeNet", "lenet"))
    ]
    return share_drawing(networks, "Fashion-MNIST")


def record_accuracy(name: str) -> float:
    """Returns the best mean test accuracy of the records of a network as it is registered, on the full data set."""
    accuracies = []
    for file in sorted((ROOT / "docs" / "records").glob("*.json")):
        record = json.loads(file.read_text())
        is_same = record.get("architecture") == name and "activation" not in record["sessions"][0]["command"]
        if is_same and record["data"]["name"] == "fashion_mnist":
            accuracies.append(record["test_acc"])
    return max(accuracies)


def share_drawing(networks: Sequence[Shown], data: str) -> Drawing:
    """Returns bars of 100 %: the layers' shares in the parameters and the multiply-adds of two networks.

    Args:
        networks: The larger network, then the smaller.
        data: The data set of the accuracies.
    """
    large, small = networks
    drawing = Drawing(WIDTH, 0.0, f"{large.title} against {small.title}", {**LIGHT, **COLORS})
    shapes = drawing.shapes
    y = 20.0
    shapes.append(Text((MARGIN, y), f"{large.title} against {small.title}", 16, bold=True))
    y += 17
    x = MARGIN
    for kind, name in (("conv", "convolution"), ("dense", "dense layers")):
        shapes.append(Polygon([(x, y), (x + 10, y), (x + 10, y - 10), (x, y - 10)], kind))
        shapes.append(Text((x + 14, y - 1), name, SMALL, color="muted"))
        x += 14 + text_width(name, SMALL) + 16
    for network in networks:
        y += 27
        shapes.append(Text((MARGIN, y), network.title, 14, bold=True))
        result = f"{100 * network.accuracy:.1f} % right on {data}"
        shapes.append(Text((WIDTH - MARGIN, y), result, SIZE, bold=True, anchor="end"))
        nodes = [node for node in layer_graph(network.report) if node.macs]
        for what, total, values in (
            ("parameters", network.report.params.total, [node.params for node in nodes]),
            ("multiply-adds", network.report.macs, [node.macs for node in nodes]),
        ):
            y += 18
            dense = sum(value for node, value in zip(nodes, values, strict=True) if node.kind == "dense") / total
            shapes.append(Text((MARGIN, y), f"{human(total)} {what}", SIZE))
            share = f"{100 * dense:.0f} % dense" if dense > 0.5 else f"{100 * (1 - dense):.0f} % convolution"
            shapes.append(Text((WIDTH - MARGIN, y), share, SIZE, color="muted", anchor="end"))
            y += 5
            draw_bar(drawing, nodes, [value / total for value in values], y)
            y += BAR_HEIGHT
    y += 36
    for side, ratio, what in (
        (0, large.report.params.total / small.report.params.total, "the parameters"),
        (1, large.report.macs / small.report.macs, "the multiply-adds"),
    ):
        x = MARGIN + side * (WIDTH / 2 - MARGIN)
        shapes.append(Text((x, y), f"{ratio:,.0f}{TIMES}", LARGE, bold=True))
        shapes.append(Text((x, y + 17), what, SIZE))
    drawing.height = y + 26
    return drawing


def draw_bar(drawing: Drawing, nodes: Sequence[Node], shares: Sequence[float], y: float) -> None:
    """Draws one bar of 100 %, a part per layer, with the names of the layers that have room."""
    x, width = MARGIN, WIDTH - 2 * MARGIN
    for node, share in zip(nodes, shares, strict=True):
        right = x + share * width
        drawing.shapes.append(
            Polygon([(x, y), (right, y), (right, y + BAR_HEIGHT), (x, y + BAR_HEIGHT)], node.kind, width=0.4)
        )
        name = node.name[-1]
        if text_width(name, SMALL) + 4 < right - x:
            color = "light" if node.kind == "dense" else "ink"
            middle = ((x + right) / 2, y + BAR_HEIGHT / 2 + SMALL * 0.36)
            drawing.shapes.append(Text(middle, name, SMALL, anchor="middle", color=color))
        x = right
