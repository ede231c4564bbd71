"""Random Specs with blocks of every kind, and random weights, for tests of other implementations."""

from __future__ import annotations

import random

import torch

import cnnzoo
from cnnzoo.blocks import (
    LRN,
    RBF,
    Activation,
    AdaptiveAvgPool,
    AdaptiveMaxPool,
    AvgPool,
    Block,
    Conv,
    Dense,
    Dropout,
    Flatten,
    Logits,
    MaxPool,
    Norm,
    Pad,
    Parallel,
    Shape,
    Subsample,
    TableConv,
    UnitBias,
)
from cnnzoo.blocks.build import infer_shape
from cnnzoo.errors import CnnzooError

ACTIVATIONS = (
    None, "relu", "relu6", "leaky_relu", "elu", "gelu", "silu", "hardswish", "sigmoid", "tanh", "scaled_tanh",
)  # fmt: skip
NORMS = (None, None, "batch", "batch:0.001", "instance", "instance:0.01", "group:2", "group", "layer", "layer:0.1")


def random_block(draw: random.Random, channels: int, depth: int = 0) -> Block:
    """Returns a block for maps of a number of channels; not every one fits every size."""

    def side(least: int, most: int) -> int | tuple[int, int]:
        a, b = draw.randint(least, most), draw.randint(least, most)
        return a if draw.random() < 0.6 else (a, b)

    activation = draw.choice(ACTIVATIONS)
    kind = draw.choice(
        (
            "conv",
            "conv",
            "table",
            "max",
            "avg",
            "adaptive",
            "subsample",
            "norm",
            "lrn",
            "act",
            "drop",
            "parallel",
            "pad",
            "bias",
        )
    )
    if kind == "conv":
        groups = draw.choice([n for n in (1, 1, 2, 3, channels) if channels % n == 0])
        return Conv(
            groups * draw.randint(1, 4), side(1, 4), stride=side(1, 3), padding=side(0, 2), dilation=side(1, 2),
            groups=groups, bias=draw.random() < 0.7, norm=draw.choice(NORMS), activation=activation,
        )  # fmt: skip
    if kind == "table":
        table = tuple(tuple(draw.sample(range(channels), draw.randint(1, channels))) for _ in range(draw.randint(1, 6)))
        return TableConv(
            table, side(1, 3), stride=side(1, 2), padding=side(0, 2), bias=draw.random() < 0.7,
            norm=draw.choice(NORMS), activation=activation,
        )  # fmt: skip
    if kind in ("max", "avg"):
        pool = MaxPool if kind == "max" else AvgPool
        stride = draw.choice((None, side(1, 3)))
        return pool(side(2, 4), stride=stride, padding=draw.randint(0, 1), ceil_mode=draw.random() < 0.5)
    if kind == "adaptive":
        return draw.choice((AdaptiveAvgPool, AdaptiveMaxPool))(side(2, 9))
    if kind == "subsample":
        return Subsample(side(1, 2), activation=activation)
    if kind == "norm":
        return Norm(draw.choice([norm for norm in NORMS if norm]), activation=activation)
    if kind == "lrn":
        return LRN(draw.randint(1, 5), alpha=draw.choice((1e-4, 0.5)), beta=0.75, k=2.0, mean=draw.random() < 0.5)
    if kind == "act":
        return Activation(activation or "relu")
    if kind == "pad":
        return Pad(draw.randint(1, 2), value=draw.choice((0.0, -1.0)))
    if kind == "bias":
        return UnitBias(activation=activation)
    if kind == "drop" or depth > 1:
        return Dropout(0.5)
    merge = draw.choice(("concat", "add"))
    width = draw.randint(1, 4) if merge == "concat" else channels
    paths: list[tuple[Block, ...]] = [(Conv(width, 3, padding=1, norm=draw.choice(NORMS), activation=activation),)]
    paths.append(() if draw.random() < 0.5 else (Conv(width, 1), Activation("tanh")))
    if depth == 0 and draw.random() < 0.4:
        paths.append((Parallel(((Conv(width, 1),), (Conv(width, (1, 3), padding=(0, 1)),)), merge="add"),))
    return Parallel(tuple(paths), merge=merge, activation=draw.choice(ACTIVATIONS))


def random_spec(seed: int) -> cnnzoo.Spec:
    """Returns a random Spec with ten or fewer blocks of features, and a head of one of several kinds."""
    draw = random.Random(seed)
    image: tuple[int, int, int] = (draw.randint(1, 4), draw.randint(9, 20), draw.randint(9, 20))
    features: list[Block] = []
    shape: Shape = image
    for _ in range(draw.randint(3, 10)):
        block = random_block(draw, shape[0])
        try:
            out_shape = infer_shape(block, shape).shape
        except (CnnzooError, RuntimeError, ValueError):  # it does not fit
            continue
        if out_shape[1:] == (1, 1):  # norms need several values
            continue
        shape = out_shape
        features.append(block)
    activation = draw.choice(ACTIVATIONS)
    codes = tuple("".join(draw.choice("+-") for _ in range(8)) for _ in range(5))
    heads: list[tuple[Block, ...]] = [
        (Flatten(), Dense(7, activation=activation), Dropout(0.5), Logits(5)),
        (Flatten(), Dense(8, bias=False, activation=activation), RBF(codes)),
        (Logits(5, bias=draw.random() < 0.5), AdaptiveAvgPool(1), Flatten()),
        (AdaptiveMaxPool((2, 1)), Flatten(), Activation("tanh"), Logits(4, bias=False)),
    ]
    return cnnzoo.Spec("random", image, tuple(features), draw.choice(heads))


def random_network(spec: cnnzoo.Spec, seed: int) -> cnnzoo.CNN:
    """Builds a network whose every weight and statistic is random, in eval mode."""
    model = cnnzoo.create(spec, seed=seed).eval()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            if name.endswith("running_var"):
                tensor.uniform_(0.5, 2, generator=generator)
            elif tensor.is_floating_point() and (tensor.dim() <= 1 or name.endswith("bias")):
                tensor.normal_(0.2, 1, generator=generator)
    return model
