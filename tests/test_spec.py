"""Blocks, Specs, labels, edits and knobs."""

from __future__ import annotations

import dataclasses
import json

import pytest
import torch
from torch import nn

import cnnzoo
from cnnzoo.blocks import (
    BLOCKS,
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
    Subsample,
    TableConv,
    UnitBias,
    register_block,
)
from cnnzoo.edits import apply_knobs
from cnnzoo.errors import InputError, SpecError, UnknownNameError


def labels(spec: cnnzoo.Spec) -> list[str]:
    return [label for label, _ in spec.blocks()]


def inception(a: int, b: tuple[int, int], c: tuple[int, int], d: int) -> Parallel:
    """A row of table 1 of the GoogLeNet paper."""
    return Parallel(
        (
            (Conv(a, kernel_size=1),),
            (Conv(b[0], kernel_size=1), Conv(b[1], kernel_size=3, padding=1)),
            (Conv(c[0], kernel_size=1), Conv(c[1], kernel_size=5, padding=2)),
            (MaxPool(3, stride=1, padding=1), Conv(d, kernel_size=1)),
        ),
        label="inception3a",
    )


# --- blocks ---


def test_a_block_is_printed_as_it_is_written() -> None:
    assert repr(MaxPool(3, stride=2)) == "MaxPool(3, stride=2)"
    assert repr(Conv(96, kernel_size=11, stride=4, label="conv1")) == "Conv(96, 11, stride=4)"
    assert eval(repr(Conv(96, (3, 5), norm="batch"))) == Conv(96, (3, 5), norm="batch")


def test_blocks_are_values() -> None:
    assert Conv(6, kernel_size=5) == Conv(6, kernel_size=5) != Conv(6, kernel_size=3)
    with pytest.raises(dataclasses.FrozenInstanceError):
        Conv(6, kernel_size=5).out_channels = 7  # type: ignore[misc]


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: Conv(0, kernel_size=3), "Conv: out_channels must be an integer from 1"),
        (lambda: Conv(True, kernel_size=3), "out_channels must be an integer"),
        (lambda: Conv(4, kernel_size=(3, 3, 3)), "kernel_size must be an integer from 1 to 16777216 or a pair of them"),
        (lambda: Conv(4, kernel_size=3, padding=-1), "padding must be an integer from 0"),
        (
            lambda: Conv(4, kernel_size=3, norm=True),
            "norm must be the name of a norm, such as 'batch' or None, not True",
        ),
        (lambda: Conv(4, kernel_size=3, bias=1), "bias must be True or False, not 1"),
        (lambda: Dropout(1.0), "p must be a number at least 0 and less than 1, not 1.0"),
        (lambda: Dropout(float("nan")), "p must be a number"),
        (lambda: Parallel(((Conv(4, kernel_size=1), "x"),)), "paths must be a tuple of paths, each a tuple of blocks"),
        (lambda: Conv(4, kernel_size=1, init=3), "init must be the name of an initializer, such as 'xavier_uniform'"),
        (lambda: Conv(4, kernel_size=1, label="a/b"), "label must be a printable string without '/'"),
    ],
)
def test_a_block_refuses_what_it_cannot_be(make, text: str) -> None:
    with pytest.raises(SpecError) as error:
        make()
    assert text in str(error.value)


def test_initial_weights_by_name() -> None:
    spec = cnnzoo.Spec("n", (1, 8, 8), (Conv(4, kernel_size=3, init="constant:0.5", bias_init=1.0),))
    model = cnnzoo.create(spec)
    assert model.features[0].weight.unique().tolist() == [0.5]
    assert model.features[0].bias.unique().tolist() == [1.0]
    with pytest.raises(UnknownNameError, match="Conv: unknown activation 'rely'. Did you mean 'relu'"):
        Conv(4, kernel_size=3, activation="rely")
    with pytest.raises(UnknownNameError, match="Did you mean 'xavier_normal' or 'xavier_uniform'"):
        Conv(4, kernel_size=3, init="xavier")
    with pytest.raises(InputError, match="initializer 'normal:big': 'big' is not a valid number; write normal:0.01"):
        Conv(4, kernel_size=3, init="normal:big")


@pytest.mark.parametrize(
    ("scheme", "bound"), [("uniform_over_fan_in", 2.4 / 25), ("uniform:0.2", 0.2), ("uniform_over_fan_in:1", 1 / 25)]
)
def test_uniform_bounds(scheme: str, bound: float) -> None:
    model = cnnzoo.create(cnnzoo.Spec("n", (1, 8, 8), (Conv(64, kernel_size=5, init=scheme),)), seed=0)
    largest = model.features[0].weight.abs().max().item()
    assert 0.95 * bound < largest <= bound


def test_lrn_is_the_papers_formula() -> None:
    x = torch.randn(2, 7, 3, 3, dtype=torch.float64)
    (module,) = LRN().build((7, 3, 3))
    expected = torch.empty_like(x)
    for i in range(7):  # section 3.3 of the 2012 paper: N = 7 maps, n = 5 neighbors, no division by n
        near = x[:, max(0, i - 2) : min(7, i + 3)]
        expected[:, i] = x[:, i] / (2 + 1e-4 * (near**2).sum(1)) ** 0.75
    torch.testing.assert_close(module(x), expected, rtol=1e-12, atol=1e-12)
    (caffe,) = LRN(mean=True, k=1.0).build((7, 3, 3))
    near = (x[:, 0:5] ** 2).sum(1) / 5
    torch.testing.assert_close(caffe(x)[:, 2], x[:, 2] / (1 + 1e-4 * near) ** 0.75, rtol=1e-12, atol=1e-12)


# --- labels ---


def test_labels_count_as_caffe_does() -> None:
    assert labels(cnnzoo.get_spec("alexnet")) == (
        [
            "conv1",
            "pool1",
            "conv2",
            "pool2",
            "conv3",
            "conv4",
            "conv5",
            "pool5",
            "flatten",
            "fc6",
            "drop6",
            "fc7",
            "drop7",
            "fc8",
        ]
    )


def test_labels_stay_with_their_blocks() -> None:
    spec = cnnzoo.insert(cnnzoo.get_spec("lenet"), after="conv1", blocks=[LRN(), Conv(6, kernel_size=3, padding=1)])
    assert labels(spec) == ["conv1", "norm1", "conv1b", "pool1", "conv2", "pool2", "flatten", "fc3", "fc4", "fc5"]
    assert labels(cnnzoo.remove(spec, "conv2", "pool*")) == ["conv1", "norm1", "conv1b", "flatten", "fc3", "fc4", "fc5"]
    before = cnnzoo.insert(cnnzoo.get_spec("lenet"), before="conv1", blocks=[Norm()])
    assert labels(before)[:2] == ["norm0", "conv1"]


def test_labels_inside_branches() -> None:
    spec = cnnzoo.Spec(
        "n", (3, 8, 8), (Conv(4, kernel_size=1), inception(4, (2, 4), (2, 4), 2), AdaptiveAvgPool(1)), (Logits(3),)
    )
    assert labels(spec) == [
        "conv1", "inception3a", "inception3a/conv1", "inception3a/conv2", "inception3a/conv3", "inception3a/conv4",
        "inception3a/conv5", "inception3a/pool5", "inception3a/conv6", "pool3", "fc4",
    ]  # fmt: skip


def test_labels_are_unique() -> None:
    with pytest.raises(SpecError, match="labels must be unique, and 'a' occurs more than once"):
        cnnzoo.Spec("n", (1, 8, 8), (Conv(4, kernel_size=1, label="a"), Conv(4, kernel_size=1, label="a")))


# --- edits ---


def test_edit_by_kind_and_by_label() -> None:
    lenet = cnnzoo.get_spec("lenet")
    edited = cnnzoo.edit(lenet, Conv, norm="batch")
    assert [block.norm for _, block in edited.blocks() if isinstance(block, Conv)] == ["batch", "batch"]
    edited = cnnzoo.edit(lenet, "pool*", kernel_size=3)
    assert [block.kernel_size for _, block in edited.blocks() if isinstance(block, AvgPool)] == [3, 3]
    assert lenet == cnnzoo.get_spec("lenet")
    with pytest.raises(SpecError, match=r"lenet has no block of label 'conv7'; its blocks: conv1, pool1"):
        cnnzoo.edit(lenet, "conv7", kernel_size=3)
    with pytest.raises(SpecError, match="lenet has no block of kind LRN"):
        cnnzoo.edit(lenet, LRN, k=1.0)
    with pytest.raises(UnknownNameError, match="'strides'. Did you mean 'stride'"):
        cnnzoo.edit(lenet, "conv*", strides=2)
    with pytest.raises(SpecError, match=r"Conv \(block 'conv1'\): kernel_size must be"):
        cnnzoo.edit(lenet, "conv*", kernel_size=0)


def test_edits_are_of_specs() -> None:
    with pytest.raises(InputError, match=r"expected a Spec to edit, got str; cnnzoo.get_spec\('lenet'\) returns one"):
        cnnzoo.edit("lenet", "conv1", out_channels=3)  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"expected a label \('conv\*'\) or a kind of block"):
        cnnzoo.remove(cnnzoo.get_spec("lenet"), 3)  # type: ignore[arg-type]
    assert labels(cnnzoo.insert(cnnzoo.get_spec("lenet"), after="conv1", blocks=LRN()))[1] == "norm1"


def test_insert_says_what_it_needs() -> None:
    with pytest.raises(SpecError, match="either after= or before="):
        cnnzoo.insert(cnnzoo.get_spec("lenet"), blocks=[LRN()])
    with pytest.raises(UnknownNameError, match="unknown block of lenet 'conv9'. Did you mean 'conv1' or 'conv2'"):
        cnnzoo.insert(cnnzoo.get_spec("lenet"), after="conv9", blocks=[LRN()])


def test_edits_reach_into_branches() -> None:
    spec = cnnzoo.Spec("n", (3, 8, 8), (inception(4, (2, 4), (2, 4), 2), AdaptiveAvgPool(1)), (Logits(3),))
    edited = cnnzoo.edit(spec, "inception*/conv1", out_channels=8)
    assert dict(edited.blocks())["inception3a/conv1"].out_channels == 8
    assert len(labels(cnnzoo.remove(spec, "inception3a/pool*"))) == len(labels(spec)) - 1
    both = cnnzoo.insert(spec, after="inception3a/conv1", blocks=[LRN()])
    assert "inception3a/norm1" in labels(both)


# --- knobs ---


def test_activation_replaces_existing_ones() -> None:
    spec = apply_knobs(cnnzoo.get_spec("lenet"), activation="relu")
    assert [getattr(block, "activation", None) for _, block in spec.blocks()].count("relu") == 4
    bare = cnnzoo.Spec("n", (1, 8, 8), (Conv(4, kernel_size=1, activation=None), Activation("tanh")))
    changed = apply_knobs(bare, activation="relu")
    assert [block.activation for _, block in changed.blocks()] == [None, "relu"]


def test_norm_goes_where_there_is_one_else_on_every_convolution(tiny_spec: cnnzoo.Spec) -> None:
    group = apply_knobs(tiny_spec, norm="group")
    assert [block.norm for _, block in group.blocks() if isinstance(block, Conv)] == ["group", None]
    every = apply_knobs(cnnzoo.get_spec("lenet"), norm="batch")
    assert [block.norm for _, block in every.blocks() if isinstance(block, Conv)] == ["batch", "batch"]


def test_pooling_changes_window_pools_only() -> None:
    spec = cnnzoo.Spec("n", (1, 8, 8), (MaxPool(3, stride=2, ceil_mode=True), AdaptiveAvgPool(1)), (Logits(2),))
    pool, glob, _ = (block for _, block in apply_knobs(spec, pooling="avg").blocks())
    assert pool == AvgPool(3, stride=2, ceil_mode=True, label="pool0")
    assert glob == AdaptiveAvgPool(1, label="pool0b")
    with pytest.raises(UnknownNameError, match="unknown pooling 'mean'.*Known: avg, max"):
        apply_knobs(spec, pooling="mean")


def test_dropout_sets_or_adds() -> None:
    assert [r.p for _, r in apply_knobs(cnnzoo.get_spec("alexnet"), dropout=0).blocks() if isinstance(r, Dropout)] == [
        0,
        0,
    ]
    assert labels(apply_knobs(cnnzoo.get_spec("lenet"), dropout=0.2))[-5:] == ["fc3", "drop3", "fc4", "drop4", "fc5"]
    bare = cnnzoo.Spec("n", (1, 8, 8), (Conv(4, kernel_size=1), AdaptiveAvgPool(1)), (Logits(2),))
    assert labels(apply_knobs(bare, dropout=0.2)) == ["conv1", "pool1", "drop1", "fc2"]


def test_width_scales_hidden_layers_in_multiples_of_the_groups() -> None:
    spec = cnnzoo.Spec(
        "n",
        (2, 8, 8),
        (Conv(10, kernel_size=1), Conv(12, kernel_size=3, groups=2), Conv(12, kernel_size=3, groups=12), Flatten()),
        (Dense(10), Logits(7)),
    )
    scaled = [block for _, block in apply_knobs(spec, width=0.5).blocks()]
    assert [getattr(block, "out_channels", None) for block in scaled] == [4, 6, 6, None, None, None]
    assert scaled[4].out_features == 5
    assert scaled[2].groups == 6
    assert scaled[-1].num_classes == 7
    cnnzoo.create(spec, width=0.5)
    with pytest.raises(InputError, match="width must be a number above 0"):
        apply_knobs(spec, width=0)


@pytest.mark.parametrize("knob", ["num_classes", "in_channels", "image_size"])
@pytest.mark.parametrize("value", [0, -1, 2.5, True, "3"])
def test_sizes_are_integers(knob: str, value: object) -> None:
    for source in ("lenet", cnnzoo.get_spec("lenet")):
        with pytest.raises(InputError, match=f"{knob} must be an integer from 1 to 16777216, not"):
            cnnzoo.create(source, **{knob: value})


def test_unknown_knob_lists_the_known_ones() -> None:
    with pytest.raises(UnknownNameError) as problem:
        cnnzoo.create("alexnet", in_chans=3)
    assert str(problem.value) == (
        "unknown knob of alexnet 'in_chans'. Did you mean 'in_channels'? Known: activation, dropout, image_size, "
        "in_channels, norm, num_classes, pooling, width."
    )


# --- JSON ---


def test_json_round_trip_of_every_kind_of_block() -> None:
    blocks = (
        Conv(8, kernel_size=(3, 1), stride=2, padding=(1, 0), groups=1, bias=False, norm="group", init="normal:0.1"),
        LRN(), Norm("layer"), Activation("tanh"), inception(4, (2, 4), (2, 4), 2), MaxPool(2, ceil_mode=True),
        AvgPool(2),
        Parallel(((), (Parallel(((), ()), merge="add"),)), merge="concat", activation="relu"),
        Subsample(1, activation="tanh", init="uniform:0.5"), TableConv(((0,), (1, 0)), kernel_size=1),
        AdaptiveAvgPool(2), AdaptiveMaxPool((2, 1)), Pad(1, value=-1.0), UnitBias("tanh", bias_init=0.5), Flatten(),
    )  # fmt: skip
    spec = cnnzoo.Spec("all", (3, 32, 32), blocks, (Dense(5, activation=None), Dropout(0.25), Logits(4, bias_init=0.5)))
    assert cnnzoo.Spec.from_json(spec.to_json()) == spec
    used = {type(block).__name__ for _, block in spec.blocks()}
    ours = {name for name, kind in BLOCKS.items() if kind.__module__.startswith("cnnzoo.blocks.")}
    assert used | {"RBF"} == ours
    cnnzoo.create(spec)
    coded = dataclasses.replace(spec, classifier=(RBF(("++-+", "-+--")),))
    assert cnnzoo.Spec.from_json(coded.to_json()) == coded


def test_a_users_block_survives_json() -> None:
    @register_block
    @dataclasses.dataclass(frozen=True, repr=False)
    class Shift(Block):
        by: float = 1.0

        label_prefix = "shift"

        def build(self, shape):
            return [nn.Identity()]

    spec = cnnzoo.Spec("mine", (1, 8, 8), (Shift(2.0), Flatten()), (Logits(2),))
    assert cnnzoo.Spec.from_json(spec.to_json()) == spec
    assert labels(spec)[0] == "shift0"


def one_block(block: str) -> str:
    return f'{{"name": "n", "input": [1, 8, 8], "features": [{block}], "classifier": []}}'


def test_a_field_that_json_does_not_hold() -> None:
    @register_block
    @dataclasses.dataclass(frozen=True, repr=False)
    class Typed(Block):
        dtype: object = None

        def build(self, shape):
            return [nn.Identity()]

    spec = cnnzoo.Spec("n", (1, 8, 8), (Typed(torch.float32),))
    with pytest.raises(SpecError, match="Typed.dtype is a dtype, which JSON cannot hold"):
        spec.to_json()


@pytest.mark.parametrize("given", [None, [torch.relu], nn.Identity()])
def test_a_block_builds_modules(given: object) -> None:
    @register_block
    @dataclasses.dataclass(frozen=True, repr=False)
    class Wrong(Block):
        def build(self, shape):
            return given

    with pytest.raises(SpecError, match="its build must return a list of modules"):
        cnnzoo.create(cnnzoo.Spec("n", (1, 8, 8), (Wrong(),)))


def test_the_newest_of_two_definitions_counts() -> None:
    def cell(kernel_size: int):
        @register_block
        @dataclasses.dataclass(frozen=True, repr=False)
        class Bottle(Block):
            out_channels: int = 4

            def build(self, shape):
                return [nn.Conv2d(shape[0], self.out_channels, kernel_size)]

        return Bottle

    old, new = cell(1), cell(3)
    spec = cnnzoo.Spec("n", (1, 9, 9), (new(), Flatten()), (Logits(2),))
    assert cnnzoo.Spec.from_json(spec.to_json()) == spec
    with pytest.raises(SpecError, match="Bottle is the name of another registered kind of block; rename the class"):
        cnnzoo.Spec("n", (1, 9, 9), (old(),)).to_json()


def test_a_kind_of_block_may_not_take_a_name_of_ours() -> None:
    mine = dataclasses.dataclass(frozen=True, repr=False)(type("Conv", (Block,), {"__annotations__": {}}))
    with pytest.raises(InputError, match="block 'Conv' is already registered by cnnzoo.blocks.conv; choose another"):
        register_block(mine)
    with pytest.raises(SpecError, match="Conv is the name of another registered kind of block"):
        cnnzoo.Spec("n", (1, 9, 9), (mine(),)).to_json()
    assert BLOCKS["Conv"] is Conv


def test_a_kind_of_block_that_is_not_registered() -> None:
    @dataclasses.dataclass(frozen=True, repr=False)
    class Bare(Block):
        def build(self, shape):
            return [nn.Identity()]

    spec = cnnzoo.Spec("n", (1, 9, 9), (Bare(), Flatten()), (Logits(2),))
    assert cnnzoo.count(spec).params.total == 2 * 82  # builds and counts, as any other
    with pytest.raises(SpecError, match="Bare is not a registered kind of block; put @cnnzoo.blocks.register_block"):
        spec.to_json()

    @dataclasses.dataclass(frozen=True, repr=False)
    class Named(Block):
        block: int = 1

    with pytest.raises(SpecError, match="Named has a field 'block', which in JSON is the kind of block"):
        register_block(Named)


@pytest.mark.parametrize("name", ["", "..", "a/b", "../x", "a\\b", "a\nb", 3])
def test_a_name_is_no_path(name: object) -> None:
    with pytest.raises(SpecError, match="the name of a Spec must be usable as a folder's name"):
        cnnzoo.Spec(name, (1, 8, 8), ())  # type: ignore[arg-type]


def nested(depth: int) -> object:
    block: dict = {"block": "Flatten"}
    for _ in range(depth):
        block = {"block": "Parallel", "paths": [[block]]}
    return {"name": "n", "input": [1, 8, 8], "features": [block], "classifier": []}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{", "this is not the JSON of a Spec"),
        ("[" * 100_000, "this is not the JSON of a Spec"),
        ("[]", "an object with name, input, features and classifier"),
        ('{"name": "n", "input": 3, "features": [], "classifier": []}', "input of a Spec must be a list"),
        ('{"name": "n", "input": [1, 8, 1e9], "features": [], "classifier": []}', "each at least 1"),
        ('{"name": "n", "input": [1, 8, 8], "features": {}, "classifier": []}', "blocks must be a list, not dict"),
        (
            '{"name": "n", "input": [1, 8, 8], "features": [3], "classifier": []}',
            "a block must be an object with its kind under 'block'",
        ),
        (
            '{"name": "n", "input": [1, 8, 8], "features": [{"block": "os.system"}], "classifier": []}',
            "unknown block 'os.system'",
        ),
        (
            one_block('{"block": "Conv", "out_channels": 3, "kernel": 1}'),
            "unknown field of Conv 'kernel'. Did you mean 'kernel_size'",
        ),
        (
            '{"name": "n", "input": [1, 8, 8], "features": [{"block": "Conv", "out_channels": 3}], "classifier": []}',
            "Conv lacks kernel_size",
        ),
        (
            one_block('{"block": "Conv", "out_channels": 1e30, "kernel_size": 1}'),
            "out_channels must be an integer from 1 to 16777216",
        ),
        (json.dumps(nested(40)), "nested at most 16 deep"),
        (
            json.dumps({"name": "n", "input": [1, 8, 8], "features": [{"block": "Flatten"}] * 2501, "classifier": []}),
            "at most 2,500 blocks",
        ),
    ],
)
def test_json_that_is_no_spec(text: str, says: str) -> None:
    with pytest.raises(cnnzoo.CnnzooError) as problem:
        cnnzoo.Spec.from_json(text)
    assert says in str(problem.value)


def test_a_spec_is_checked_when_made() -> None:
    with pytest.raises(SpecError, match="features must hold blocks .see cnnzoo.blocks., not 'conv'"):
        cnnzoo.Spec("n", (1, 8, 8), ("conv",))  # type: ignore[arg-type]
    with pytest.raises(SpecError, match="the name of a Spec must be"):
        cnnzoo.Spec("", (1, 8, 8), ())
    with pytest.raises(SpecError, match="input must be"):
        cnnzoo.Spec("n", 5, ())  # type: ignore[arg-type]
    with pytest.raises(SpecError, match="features must be a tuple of blocks, not None"):
        cnnzoo.Spec("n", (1, 8, 8), None)  # type: ignore[arg-type]


def test_norms_by_word() -> None:
    assert cnnzoo.create("lenet", norm="batch:0.001").features[1].eps == 0.001
    assert cnnzoo.create("alexnet", norm="group:8", device="meta").features[1].num_groups == 8
    with pytest.raises(UnknownNameError, match="unknown norm 'batsch'. Did you mean 'batch'"):
        Conv(4, kernel_size=3, norm="batsch")
    for word in ("batch:x", "group:0.5", "layer:-1"):
        with pytest.raises(InputError, match=f"norm '{word}': '.*' is not a valid number; write"):
            Conv(4, kernel_size=3, norm=word)


def test_norm_none_leaves_activations_behind() -> None:
    """Batch norm on a block of its own takes its activation along; without it, the activation stays."""
    spec = cnnzoo.get_spec("densenet_d2l", norm=None)
    kinds = cnnzoo.count(spec).by("kind")
    assert "BatchNorm2d" not in kinds and "ReLU" in kinds
    assert next(label for label, block in spec.blocks() if isinstance(block, Activation)) == "block2/norm0"
