"""The network built from a Spec: shapes, keys, branches, and errors."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import cnnzoo
from cnnzoo.blocks import AdaptiveAvgPool, Conv, Dense, Flatten, Logits, MaxPool, Norm, Parallel
from cnnzoo.errors import InputError, SpecError

# The layers of the lecture's AlexNet (Dive into Deep Learning) and their output shapes for one 1x224x224 image.
LECTURE = """
Conv2d 1x96x54x54     ReLU 1x96x54x54     MaxPool2d 1x96x26x26
Conv2d 1x256x26x26    ReLU 1x256x26x26    MaxPool2d 1x256x12x12
Conv2d 1x384x12x12    ReLU 1x384x12x12
Conv2d 1x384x12x12    ReLU 1x384x12x12
Conv2d 1x256x12x12    ReLU 1x256x12x12    MaxPool2d 1x256x5x5
Flatten 1x6400        Linear 1x4096       ReLU 1x4096       Dropout 1x4096
Linear 1x4096         ReLU 1x4096         Dropout 1x4096    Linear 1x10
""".split()


def test_alexnet_equals_the_lectures_layer_by_layer() -> None:
    model = cnnzoo.create("alexnet", num_classes=10).eval()
    x = torch.randn(1, 1, 224, 224)
    layers = []
    for layer in [*model.features, *model.classifier]:
        x = layer(x)
        layers += [type(layer).__name__, "x".join(map(str, x.shape))]
    assert layers == LECTURE
    report = cnnzoo.count("alexnet")
    assert [cell for layer in report.layers for cell in (layer.kind, "x".join(map(str, layer.out_shape)))] == LECTURE
    assert sum(p.numel() for p in model.parameters()) == 46_764_746


def test_lenet_has_61706_parameters() -> None:
    assert sum(p.numel() for p in cnnzoo.create("lenet").parameters()) == 61_706


def test_keys_are_flat() -> None:
    keys = list(cnnzoo.create("lenet").state_dict())
    assert keys[:4] == ["features.0.weight", "features.0.bias", "features.3.weight", "features.3.bias"]
    assert keys[-2:] == ["classifier.4.weight", "classifier.4.bias"]


def test_weights_of_a_seed() -> None:
    torch.manual_seed(1)
    state = torch.get_rng_state()
    a, b, c = (cnnzoo.create("lenet", seed=s).state_dict() for s in (0, 0, 1))
    assert torch.equal(state, torch.get_rng_state())
    assert all(torch.equal(a[k], b[k]) for k in a)
    assert not torch.equal(a["features.0.weight"], c["features.0.weight"])


def test_initial_weights_equal_those_of_torch() -> None:
    torch.manual_seed(0)
    ours = cnnzoo.create("lenet").state_dict()
    torch.manual_seed(0)
    plain = nn.Sequential(
        nn.Conv2d(1, 6, 5, padding=2), nn.Conv2d(6, 16, 5), nn.Linear(400, 120), nn.Linear(120, 84), nn.Linear(84, 10)
    )
    for weight, expected in zip(ours.values(), plain.state_dict().values(), strict=True):
        assert torch.equal(weight, expected)


def test_seed_and_dtype_are_checked() -> None:
    with pytest.raises(InputError, match="seed must be an integer or None, not 'a'"):
        cnnzoo.create("lenet", seed="a")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="dtype must be a torch.dtype, such as torch.float64, not 'half'"):
        cnnzoo.create("lenet", dtype="half")  # type: ignore[arg-type]


def test_device_and_dtype() -> None:
    model = cnnzoo.create("lenet", device="meta")
    assert {p.device.type for p in model.parameters()} == {"meta"}
    assert {p.dtype for p in cnnzoo.create("lenet", dtype=torch.float64).parameters()} == {torch.float64}
    assert cnnzoo.create("lenet").training
    with pytest.raises(InputError, match=r"no device 'gpu' on this machine .* string: gpu\)"):
        cnnzoo.create("lenet", device="gpu")


# --- branches ---


def test_an_inception_block_trains() -> None:
    branch = Parallel(
        (
            (Conv(4, kernel_size=1),),
            (Conv(2, kernel_size=1), Conv(6, kernel_size=3, padding=1)),
            (MaxPool(3, stride=1, padding=1), Conv(2, kernel_size=1)),
        )
    )
    _trains_to_zero(cnnzoo.Spec("n", (1, 8, 8), (branch, AdaptiveAvgPool(2), Flatten()), (Logits(2),)), channels=12)


def test_a_residual_block_trains() -> None:
    body = (
        Conv(4, kernel_size=3, padding=1, norm="batch"),
        Conv(4, kernel_size=3, padding=1, norm="batch", activation=None),
    )
    blocks = (
        Conv(4, kernel_size=3, padding=1),
        Parallel(((), body), merge="add", activation="relu"),
        AdaptiveAvgPool(2),
        Flatten(),
    )
    _trains_to_zero(cnnzoo.Spec("n", (1, 8, 8), blocks, (Logits(2),)), channels=4)


def _trains_to_zero(spec: cnnzoo.Spec, channels: int) -> None:
    model = cnnzoo.create(spec, seed=0)
    label = next(label for label, block in spec.blocks() if isinstance(block, Parallel))
    x, y = torch.randn(16, 1, 8, 8, generator=torch.Generator().manual_seed(0)), torch.arange(16) % 2
    assert cnnzoo.features(model, [label], x)[label].shape == (16, channels, 8, 8)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    for _ in range(150):
        loss = nn.functional.cross_entropy(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        assert all(p.grad is not None for p in model.parameters())
        optimizer.step()
    assert loss < 0.1


def test_a_residual_adds_then_activates() -> None:
    spec = cnnzoo.Spec("n", (2, 4, 4), (Parallel(((), (Conv(2, kernel_size=1, activation=None),)), "add", "relu"),))
    model = cnnzoo.create(spec)
    x = torch.randn(3, 2, 4, 4)
    conv = model.features[0][1][0]
    assert torch.equal(model(x), torch.relu(x + conv(x)))


def test_paths_that_cannot_be_added() -> None:
    spec = cnnzoo.Spec("n", (2, 4, 4), (Parallel(((), (Conv(2, kernel_size=1, stride=4),)), "add"),))
    with pytest.raises(SpecError, match=r"different output shapes, which cannot be added: \(2, 4, 4\), \(2, 1, 1\)"):
        cnnzoo.create(spec)


def test_logits_of_a_map_are_a_convolution() -> None:
    model = cnnzoo.create(cnnzoo.Spec("n", (2, 4, 4), (), (Logits(5), AdaptiveAvgPool(1), Flatten())))
    assert model(torch.randn(3, 2, 4, 4)).shape == (3, 5)
    assert isinstance(model.classifier[0], nn.Conv2d)


def test_batch_norm_of_a_single_pixel_builds() -> None:
    cnnzoo.create(cnnzoo.Spec("n", (2, 4, 4), (AdaptiveAvgPool(1), Norm(), Flatten()), (Logits(2),)))


# --- errors ---


def test_too_small_an_image_size_names_the_block_and_the_minimum() -> None:
    with pytest.raises(SpecError) as error:
        cnnzoo.create("alexnet", image_size=64)
    assert str(error.value) == (
        "block 'pool5' (8th of features), MaxPool(3, stride=2), cannot take (256, 2, 2); "
        "alexnet needs images of at least 65 px"
    )
    assert cnnzoo.create("alexnet", image_size=65)
    with pytest.raises(SpecError, match="lenet needs images of at least 12 px"):
        cnnzoo.create("lenet", image_size=4)
    assert cnnzoo.create("lenet", image_size=12)


def test_too_small_an_image_size_for_a_branch() -> None:
    spec = cnnzoo.Spec("n", (1, 4, 4), (Parallel(((Conv(4, kernel_size=5),),), label="mix"), Flatten()), (Logits(2),))
    with pytest.raises(SpecError) as error:
        cnnzoo.create(spec)
    assert str(error.value) == (
        "block 'conv1' (1st of path 1 of mix), Conv(4, 5), cannot take (1, 4, 4); n needs images of at least 5 px"
    )


def test_other_errors_do_not_mention_the_image_size() -> None:
    halves = Parallel(((MaxPool(2),), (Conv(1, kernel_size=3, stride=2, padding=1),)), merge="add")
    assert cnnzoo.create(cnnzoo.Spec("n", (1, 28, 28), (halves,)))
    with pytest.raises(SpecError, match="paths have different output shapes"):
        cnnzoo.create(cnnzoo.Spec("n", (1, 29, 29), (halves,)))


def test_blocks_that_fit_at_no_image_size() -> None:
    with pytest.raises(SpecError, match=r"block 'fc1' \(1st of classifier\).*put a Flatten\(\) block before it"):
        cnnzoo.create(cnnzoo.Spec("n", (1, 8, 8), (), (Dense(4),)))
    with pytest.raises(SpecError, match=r"block 'pool0' .*cannot take \(64,\): it needs maps \(C, H, W\)"):
        cnnzoo.create(cnnzoo.Spec("n", (1, 8, 8), (Flatten(), MaxPool(2))))
    with pytest.raises(SpecError, match="block 'conv1' .*divisible by groups"):
        cnnzoo.create(cnnzoo.Spec("n", (3, 8, 8), (Conv(4, kernel_size=1, groups=2),)))


def test_images_that_do_not_fit() -> None:
    model = cnnzoo.create("lenet")
    with pytest.raises(InputError) as error:
        model(torch.zeros(2, 3, 28, 28))
    assert str(error.value) == (
        "lenet expects images with 1 channel, (N, 1, 28, 28), got (2, 3, 28, 28); build it with in_channels=3"
    )
    with pytest.raises(
        InputError, match=r"got \(1, 28, 28\); for one image add the batch dimension with x.unsqueeze\(0\)"
    ):
        model(torch.zeros(1, 28, 28))
    with pytest.raises(InputError, match="lenet was built for images of 28x28 px .* these images give 576 features"):
        model(torch.zeros(2, 1, 32, 32))
    flexible = cnnzoo.create(
        cnnzoo.Spec("n", (1, 8, 8), (Conv(2, kernel_size=3), AdaptiveAvgPool(1), Flatten()), (Logits(2),))
    )
    assert flexible(torch.zeros(2, 1, 30, 20)).shape == (2, 2)
