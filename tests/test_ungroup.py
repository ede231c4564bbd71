"""Grouped convolutions replaced by dense ones."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import cnnzoo
from cnnzoo.blocks import AdaptiveAvgPool, Conv, Flatten, Logits
from cnnzoo.errors import InputError
from cnnzoo.weights import ungroup


def test_the_two_towers_of_alexnet() -> None:
    model = cnnzoo.create("alexnet_2012", seed=0, num_classes=10, width=0.25, dtype=torch.float64).eval()
    dense = ungroup(model)
    x = torch.randn(2, 3, 227, 227, dtype=torch.float64)
    with torch.no_grad():
        torch.testing.assert_close(dense(x), model(x), rtol=1e-12, atol=1e-12)
    assert not dense.training and dense.spec.name == model.spec.name
    assert all(block.groups == 1 for _, block in dense.spec.blocks() if isinstance(block, Conv))
    weight = dense.features[4].weight
    half = weight.shape[1] // 2
    assert (weight[: weight.shape[0] // 2, half:] == 0).all() and (weight[weight.shape[0] // 2 :, :half] == 0).all()
    assert dense.metadata.provenance == {
        "kind": "adapted",
        "how": "grouped convolutions replaced by dense ones",
        "from": {"kind": "random"},
    }
    assert model.metadata.provenance == {"kind": "random"}
    changes = {change.label: change.params for change in cnnzoo.diff(model, dense).changes}
    assert set(changes) == {"conv2", "conv4", "conv5"} and all(params > 0 for params in changes.values())


def test_full_size() -> None:
    """The two can be compared: the same scores, 1.57 times the multiply-adds."""
    model = cnnzoo.create("alexnet_2012", seed=0).eval()
    dense = ungroup(model)
    x = torch.randn(1, 3, 227, 227)
    with torch.no_grad():
        torch.testing.assert_close(dense(x), model(x))
    report = cnnzoo.count(dense)
    assert report.params.total == 62_378_344
    assert report.macs - cnnzoo.count(model).macs == 223_948_800 + 112_140_288 + 74_760_192


def test_depthwise_and_nested_groups(tiny_spec: cnnzoo.Spec) -> None:
    model = cnnzoo.create(cnnzoo.edit(tiny_spec, "block2/conv1", groups=4), seed=0).eval()
    dense = ungroup(model)
    x = torch.randn(3, 1, 8, 8)
    torch.testing.assert_close(dense(x), model(x))
    assert dense.state_dict().keys() == model.state_dict().keys()
    spec = cnnzoo.Spec("g", (4, 8, 8), (Conv(8, kernel_size=3, groups=4), AdaptiveAvgPool(1), Flatten()), (Logits(2),))
    assert ungroup(cnnzoo.create(spec, seed=0)).features[0].weight.shape == (8, 4, 3, 3)


def test_buffers_that_state_dicts_do_not_hold() -> None:
    model = cnnzoo.create("lenet5_1998", seed=0)
    x = torch.randn(1, 1, 32, 32)
    torch.testing.assert_close(ungroup(model)(x), model(x))


def test_what_cannot_be_ungrouped() -> None:
    with pytest.raises(InputError, match="ungroup expects a cnnzoo network, not Linear"):
        ungroup(nn.Linear(2, 2))  # type: ignore[arg-type]
    with pytest.raises(InputError, match="lenet is on the meta device and has no weights"):
        ungroup(cnnzoo.create("lenet", device="meta"))
