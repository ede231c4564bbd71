"""Explanations: exact values on networks made by hand, receptive fields, pictures, errors, and what stays unchanged."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner
from PIL import Image
from test_threads import in_threads, network_state, require_unchanged
from torch import nn

import cnnzoo
from cnnzoo import Preprocessing
from cnnzoo.blocks import LRN, AdaptiveAvgPool, AvgPool, Conv, Flatten, Logits, MaxPool, Norm, Parallel
from cnnzoo.cli import main
from cnnzoo.data import ImageData, Split
from cnnzoo.errors import FileError, InputError, UnknownNameError
from cnnzoo.explain import Subject

RAW = Preprocessing(6, mean=[0.0], std=[1.0])  # the input is the image, values in [0, 1]


def image_of(values: torch.Tensor) -> torch.Tensor:
    """An image (1, H, W) whose network input is ``values``, integers of 1/255."""
    return values.to(torch.uint8)[None]


def random_image(channels: int, *size: int, seed: int = 0) -> torch.Tensor:
    return torch.randint(256, (channels, *size), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))


def prepared(name: str | cnnzoo.Spec, **knobs: Any) -> cnnzoo.CNN:
    """A network with random weights of a usual size, a preprocessing and label names."""
    model = cnnzoo.create(name, seed=0, **knobs).eval()
    channels, height, width = model.spec.input
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                std = (2 / parameter[0].numel()) ** 0.5
                parameter.copy_(std * torch.randn(parameter.shape, generator=generator))
    model.metadata = model.metadata.replace(
        preprocessing=Preprocessing((height, width), [0.5] * channels, [0.25] * channels),
        label_names=[f"class {i}" for i in range(model.spec.num_classes or 0)],
    )
    return model


class Plain(nn.Module):
    """A convolution, ReLU, a max pool and a dense layer, with weights that are set by hand."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 2, 3, bias=False)
        self.relu = nn.ReLU(inplace=True)
        self.pool = nn.MaxPool2d(2)
        self.dense = nn.Linear(8, 2, bias=False)
        with torch.no_grad():
            self.conv.weight[0, 0] = torch.arange(9.0).view(3, 3) - 3
            self.conv.weight[1, 0] = torch.arange(9.0).view(3, 3).T - 6
            self.dense.weight.copy_(torch.arange(16.0).view(2, 8) - 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.dense(self.pool(self.relu(self.conv(x))).flatten(1))


# --- values ---


def test_saliency_of_a_linear_network_is_its_weights() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(36, 3))
    model.requires_grad_(False)
    with torch.inference_mode():  # gradients are enabled all the same
        result = cnnzoo.explain(model, random_image(1, 6, 6), "saliency", label=2, preprocessing=RAW)
    assert torch.equal(result.values, model[1].weight[2].view(1, 6, 6))
    assert torch.equal(result.heat, result.values[0].abs())
    assert result.label == "2" and result.layer is None


def test_saliency_equals_finite_differences() -> None:
    model = prepared("lenet").double()
    image = random_image(1, 28, 28)
    values = cnnzoo.explain(model, image, "saliency", label="class 3").values
    x, step = cnnzoo.transforms(model)(image)[None].double(), 1e-5
    for row, column in ((5, 7), (14, 14), (20, 3)):
        shift = torch.zeros_like(x)
        shift[0, 0, row, column] = step
        with torch.no_grad():
            expected = float(model(x + shift)[0, 3] - model(x - shift)[0, 3]) / (2 * step)
        assert float(values[0, row, column]) == pytest.approx(expected, rel=1e-4, abs=1e-7)


def test_gradcam_by_hand() -> None:
    """The weight of a map is the mean of its gradient: those of a dense layer behind the maps."""
    model, image = Plain(), random_image(1, 6, 6)
    result = cnnzoo.explain(model, image, "gradcam", label=1, layer="pool", preprocessing=RAW)
    maps = model.pool(model.relu(model.conv(RAW(image)[None])))[0].detach()
    weights = model.dense.weight[1].detach().view(2, 4).mean(dim=1)
    expected = (weights[:, None, None] * maps).sum(dim=0).clamp(min=0)
    assert torch.allclose(result.values, expected, rtol=1e-6)
    assert result.layer == "pool" and result.heat.shape == (6, 6)
    assert cnnzoo.explain(model, image, preprocessing=RAW).layer == "pool"  # the last maps


def test_gradcam_of_a_layer_that_is_overwritten() -> None:
    """The maps of a convolution, which the ReLU behind it overwrites."""
    model, image = Plain(), random_image(1, 6, 6)
    result = cnnzoo.explain(model, image, layer="conv", label=0, preprocessing=RAW)
    maps = model.conv(RAW(image)[None]).detach().requires_grad_()
    model.dense(model.pool(maps.relu()).flatten(1))[0, 0].backward()
    expected = (maps.grad.mean(dim=(2, 3), keepdim=True) * maps).sum(dim=1)[0].relu()
    assert torch.allclose(result.values, expected.detach(), rtol=1e-5) and (maps < 0).any()


def test_gradcam_can_be_zero() -> None:
    model = Plain()
    model.dense.weight.data.fill_(-1)
    result = cnnzoo.explain(model, random_image(1, 6, 6), label=0, preprocessing=RAW)
    assert not result.values.any()
    result.draw()


class Corner(nn.Module):
    """Two classes, whose scores are log p for p the value of the pixel at the top left, over 1 - p for the other."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        p = 0.25 + x[:, 0, 0, 0] / 2
        return torch.stack([p, 1 - p], dim=1).log()


def test_occlusion_by_hand() -> None:
    image = torch.full((1, 6, 6), 255, dtype=torch.uint8)  # p = 0.75, and 0.25 where the corner is covered
    result = cnnzoo.explain(Corner(), image, "occlusion", patch=2, stride=1, label=0, preprocessing=RAW)
    expected = torch.zeros(6, 6)
    expected[:2, :2] = torch.tensor([[0.5, 0.25], [0.25, 0.125]])  # of 1, 2, 2 and 4 patches, one covers the corner
    assert torch.allclose(result.values, expected, atol=1e-6)
    assert result.probability == pytest.approx(0.75)
    other = cnnzoo.explain(Corner(), image, "occlusion", patch=2, stride=1, label=1, batch_size=3, preprocessing=RAW)
    assert torch.allclose(other.values, -expected, atol=1e-6)


@pytest.mark.parametrize(("patch", "stride"), [(4, 3), (6, 6), (5, 2), (1, 1)])
def test_occlusion_covers_every_pixel(patch: int, stride: int) -> None:
    result = cnnzoo.explain(Plain(), random_image(1, 6, 6), "occlusion", patch=patch, stride=stride, preprocessing=RAW)
    assert result.values.isfinite().all()


# --- the deconvnet ---


def test_deconvnet_by_hand() -> None:
    """The maximum of a pool goes back to its place, and from there through the kernel."""
    model = Plain()
    values = torch.zeros(6, 6)
    values[4, 2] = 255
    result = cnnzoo.explain(model, image_of(values), "deconvnet", layer="pool", unit=(0, 1, 0), preprocessing=RAW)
    maps = model.conv(RAW(image_of(values))[None])[0, 0]
    window = maps[2:4, 0:2].detach()  # of pool (1, 0)
    row, column = divmod(int(window.argmax()), 2)
    expected = torch.zeros(6, 6)
    expected[2 + row : 5 + row, column : column + 3] = window.max() * model.conv.weight[0, 0]
    assert result.activation == float(window.max()) == 5.0
    assert torch.allclose(result.values[0], expected, atol=1e-6)
    assert result.box == (2, 0, 6, 4)
    assert torch.equal(result.patch, RAW(image_of(values))[:, 2:6, 0:4])
    assert torch.equal(result.values_in_patch, result.values[:, 2:6, 0:4])


def test_deconvnet_rectifies_what_comes_from_above() -> None:
    """A ReLU passes positive values back wherever its input was positive or not; a gradient would do the reverse."""
    model = nn.Sequential(nn.Conv2d(1, 1, 1, bias=False), nn.ReLU(), nn.Conv2d(1, 1, (1, 6)), nn.Flatten())
    with torch.no_grad():
        model[0].weight.fill_(-1.0)  # its output is never positive
        model[2].weight.copy_(torch.tensor([1.0, -2, 3, -4, 5, -6]).view(1, 1, 1, 6))
        model[2].bias.fill_(2.0)
    result = cnnzoo.explain(model, random_image(1, 6, 6), "deconvnet", layer="2", unit=(0, 3, 0), preprocessing=RAW)
    assert result.activation == 2
    assert result.values[0, 3].tolist() == [-2, 0, -6, 0, -10, 0]
    assert not result.values[0, [0, 1, 2, 4, 5]].any()
    assert result.box == (3, 0, 4, 6)


def small_nets() -> dict[str, cnnzoo.Spec]:
    body = (Conv(6, kernel_size=3, padding=1, norm="batch"), Conv(6, kernel_size=3, padding=1, activation=None))
    blocks = {
        "chain": (Conv(6, kernel_size=5, padding=2), MaxPool(3, stride=2, ceil_mode=True), Conv(8, kernel_size=3)),
        "strided": (Conv(6, kernel_size=7, stride=2, padding=3), LRN(), MaxPool(2), Conv(8, kernel_size=3, stride=2)),
        "dilated": (Conv(6, kernel_size=3, dilation=2), AvgPool(2), Conv(8, kernel_size=(1, 5), padding=(0, 2))),
        "shortcut": (Conv(6, kernel_size=3), Parallel(((), body), merge="add", activation="relu"), MaxPool(2)),
        "concat": (Conv(6, kernel_size=3), Parallel(((Conv(3, kernel_size=1),), body)), Norm("batch")),
    }
    return {
        name: cnnzoo.Spec(name, (1, 40, 36), (*layers, AdaptiveAvgPool(2), Flatten()), (Logits(3),))
        for name, layers in blocks.items()
    }


@pytest.mark.parametrize("name", small_nets())
def test_the_patch_is_the_counted_receptive_field(name: str) -> None:
    """The projection is 0 outside of it; in the middle of the image, it has the counted size."""
    spec = small_nets()[name]
    model = prepared(spec)
    layer = spec.features[-3].label
    counted = [c for c in cnnzoo.count(spec).layers if c.label == layer][-1].receptive_field
    image = random_image(1, 40, 36)
    size = cnnzoo.features(model, layer, torch.zeros(1, 1, 40, 36))[layer].shape[2:]
    for unit in ((0, *(side // 2 for side in size)), (1, 0, 0), (2, *(side - 1 for side in size))):
        result = cnnzoo.explain(model, image, "deconvnet", layer=layer, unit=unit)
        top, left, bottom, right = result.box
        assert max(bottom - top, right - left) == counted
        inside = torch.zeros_like(result.values)
        inside[:, max(top, 0) : max(bottom, 0), max(left, 0) : max(right, 0)] = 1
        assert not result.values[inside == 0].any()
        assert result.patch.shape == result.values_in_patch.shape == (1, bottom - top, right - left)
        outside = result.patch.isnan()
        assert int(outside.sum()) == outside.numel() - int(inside.sum())


def test_every_pixel_of_the_patch_matters() -> None:
    """With positive weights, no pixel of the counted receptive field is 0 in the projection of a chain."""
    spec = small_nets()["chain"]
    model = prepared(spec)
    for parameter in model.parameters():
        parameter.data.abs_()
    model.features[2] = nn.AvgPool2d(3, stride=2, ceil_mode=True)  # a max pool chooses one pixel
    result = cnnzoo.explain(model, random_image(1, 40, 36), "deconvnet", layer="conv2", unit=(0, 8, 8))
    assert (result.values != 0).nonzero().amin(dim=0).tolist()[1:] == list(result.box[:2])
    assert ((result.values != 0).nonzero().amax(dim=0) + 1).tolist()[1:] == list(result.box[2:])
    assert (result.values_in_patch != 0).all()


def test_deconvnet_finds_the_strongest_unit() -> None:
    model = prepared("zfnet", num_classes=10, image_size=64, width=0.125)
    image = random_image(3, 64, 64)
    maps = cnnzoo.features(model, "conv5", cnnzoo.transforms(model)(image)[None])["conv5"][0].detach()
    strongest = cnnzoo.explain(model, image, "deconvnet", layer="conv5")
    assert strongest.activation == pytest.approx(float(maps.max())) and strongest.activation > 0
    assert float(maps[strongest.unit]) == pytest.approx(strongest.activation)
    of_map = cnnzoo.explain(model, image, "deconvnet", layer="conv5", unit=7)
    assert of_map.unit[0] == 7 and of_map.activation == pytest.approx(float(maps[7].max()))
    dense = cnnzoo.explain(model, image, "deconvnet", layer="fc6")
    assert len(dense.unit) == 1 and dense.values.any() and dense.patch.shape[1] >= 64
    assert strongest.values.any() and "map" in strongest.title and "unit" in dense.title


def test_lrn_is_a_constant_divisor() -> None:
    model = nn.Sequential(nn.LocalResponseNorm(3, alpha=1.0, k=1.0), nn.Conv2d(2, 1, 1, bias=False), nn.Flatten())
    image, rgb = random_image(2, 6, 6), Preprocessing(6, [0.0] * 2, [1.0] * 2)
    model[1].weight.data.fill_(1.0)
    result = cnnzoo.explain(model, image, "deconvnet", layer="1", unit=(0, 2, 3), preprocessing=rgb)
    x = rgb(image)
    expected = (model[0](x[None])[0] / x)[:, 2, 3] * result.activation
    assert torch.allclose(result.values[:, 2, 3], expected.detach(), rtol=1e-5)


class Gate(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * x.mean(dim=(2, 3), keepdim=True)


@pytest.mark.parametrize(
    ("module", "text"),
    [
        (nn.Tanh(), "cannot go through Tanh in layer '1' of Sequential"),
        (nn.LeakyReLU(), "LeakyRelu in layer '1'"),
        (nn.GroupNorm(2, 4), "NativeGroupNorm in layer '1'"),
        (nn.BatchNorm2d(4, track_running_stats=False), "NativeBatchNorm in layer '1'"),
        (Gate(), "Mul in layer '1'"),
    ],
)
def test_deconvnet_names_what_it_cannot_go_through(module: nn.Module, text: str) -> None:
    model = nn.Sequential(nn.Conv2d(1, 4, 3), module, nn.Conv2d(4, 2, 3), nn.Flatten())
    with pytest.raises(InputError, match=text):
        cnnzoo.explain(model, random_image(1, 6, 6), "deconvnet", layer="2", unit=(0, 1, 1), preprocessing=RAW)
    if not isinstance(module, nn.Tanh):
        below = cnnzoo.explain(model, random_image(1, 6, 6), "deconvnet", layer="0", unit=(0, 1, 1), preprocessing=RAW)
        assert below.box == (1, 1, 4, 4)


def test_deconvnet_of_functional_relu() -> None:
    """It works on the graph of the forward: modules and functions give the same."""

    class Functional(Plain):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = nn.functional.max_pool2d(torch.relu(self.conv(x)), 2)
            return nn.functional.linear(x.flatten(1), self.dense.weight)

    image = random_image(1, 6, 6)
    one, other = (
        cnnzoo.explain(Wrapped(model), image, "deconvnet", layer="inner", unit=1, preprocessing=RAW).values
        for model in (Plain(), Functional())
    )
    assert torch.equal(one, other) and one.any()


class Wrapped(nn.Module):
    """A module whose output has a name."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.inner(x)


# --- activations and filters ---


def test_activations_are_the_features() -> None:
    model = prepared("lenet", activation="relu", dropout=0.5)
    image = random_image(1, 28, 28)
    result = cnnzoo.explain(model, image, "activations")
    assert list(result.layers) == ["conv1", "pool1", "conv2", "pool2", "fc3", "fc4", "fc5"]
    x = cnnzoo.transforms(model)(image)[None]
    for layer, values in result.layers.items():
        assert torch.allclose(values, cnnzoo.features(model, layer, x)[layer][0], atol=1e-6), layer
    assert list(cnnzoo.explain(model, image, "activations", layers=["fc3", "conv1"]).layers) == ["fc3", "conv1"]
    assert torch.equal(result.image, image)


def test_activations_of_other_modules() -> None:
    """In-place layers do not overwrite those before; of many layers, the modules that hold them are shown."""
    import torchvision

    image = random_image(1, 6, 6)
    layers = cnnzoo.explain(Plain(), image, "activations", preprocessing=RAW).layers
    assert list(layers) == ["conv", "relu", "pool", "dense"]
    assert (layers["conv"] < 0).any() and torch.equal(layers["relu"], layers["conv"].relu())
    resnet = torchvision.models.resnet18(num_classes=5).eval()
    rgb = Preprocessing(32, [0.5] * 3, [0.2] * 3)
    result = cnnzoo.explain(resnet, random_image(3, 32, 32), "activations", preprocessing=rgb)
    assert [layer for layer in result.layers if layer.startswith("layer2")] == ["layer2.0", "layer2.1"]
    assert "conv1" in result.layers and result.layers["fc"].shape == (5,)
    tokens = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten(2), nn.Linear(16, 4), nn.Flatten(), nn.Linear(8, 2))
    shown = cnnzoo.explain(tokens, image, "activations", preprocessing=RAW)
    assert list(shown.layers) == ["0", "4"] and shown.omitted == ("2",)
    assert shown.title.startswith("activations of Sequential (1 layer without maps or a vector not shown): ")
    shared = nn.Sequential(nn.Conv2d(1, 1, 1), relu := nn.ReLU(), nn.Conv2d(1, 1, 1), relu, nn.Flatten())
    names = list(cnnzoo.explain(shared, image, "activations", preprocessing=RAW).layers)
    assert names == ["0", "1 (call 1)", "2", "1 (call 2)"]


def test_filters() -> None:
    model = prepared("lenet5_1998")
    assert torch.equal(cnnzoo.explain(model, method="filters").weights, model.features[0].weight)
    with pytest.raises(InputError, match="several convolutions; name one: .'features.4.convs.0'"):
        cnnzoo.explain(model, method="filters", layer="C3")
    assert cnnzoo.explain(model, method="filters", layer="features.4.convs.1").weights.shape == (9, 4, 5, 5)
    assert cnnzoo.explain(Plain(), method="filters").layer == "conv"
    vgg = prepared("vgg11_bn", image_size=32, width=0.25)
    second = cnnzoo.explain(vgg, method="filters", layer="conv2_1")
    assert second.weights.shape == (32, 16, 3, 3) and "rows are maps, columns are channels" in second.title
    with pytest.raises(InputError, match="layer 'fc8' of vgg11_bn has no kernels"):
        cnnzoo.explain(vgg, method="filters", layer="fc8")


# --- data sets ---


def dots(n: int = 40) -> ImageData:
    """Images with one bright 3x3 dot each, brighter from image to image; the class is its half of the image."""
    images = torch.zeros(n, 1, 12, 12, dtype=torch.uint8)
    for i in range(n):
        row, column = 1 + (5 * i) % 8, 1 + (7 * i) % 8
        images[i, 0, row : row + 3, column : column + 3] = 50 + 5 * i
    labels = torch.tensor([int((7 * i) % 8 > 3) for i in range(n)])
    return ImageData("dots", Split(images[:2], labels[:2]), Split(images, labels), ("left", "right"))


class Dots(nn.Module):
    """Map 0 sums 3x3 px; map 1 is negative everywhere. Two classes, the second one is always predicted."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 2, 3, padding=1)
        self.pool = nn.AdaptiveAvgPool2d(1)
        with torch.no_grad():
            self.conv.weight[0], self.conv.weight[1] = 1.0, -1.0
            self.conv.bias.copy_(torch.tensor([0.0, -1.0]))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.pool(self.conv(x).relu()).flatten(1) @ x.new_tensor([[-1.0, 1.0], [0.0, 0.0]])


TWELVE = Preprocessing(12, [0.0], [1.0])


def test_top_patches_are_the_brightest_dots() -> None:
    data = dots()
    result = cnnzoo.top_patches(Dots(), data, "conv", n=4, maps=[0], preprocessing=TWELVE, batch_size=7)
    assert result.indices.tolist() == [[39, 38, 37, 36]] and result.maps == (0,)
    assert torch.allclose(result.activations, 9 / 255 * (50 + 5 * result.indices.float()), rtol=1e-5)
    for i, place in enumerate(result.indices[0].tolist()):
        top, left, bottom, right = result.boxes[0][i]
        assert (bottom - top, right - left) == (3, 3)
        expected = data.test.images[place][:, top:bottom, left:right].float() / 255
        assert torch.equal(result.patches[0, i], expected) and expected.min() > 0
        assert torch.allclose(result.projections[0, i], result.activations[0, i].expand(1, 3, 3))
    assert cnnzoo.top_patches(Dots(), data, "conv", n=2, maps=1, preprocessing=TWELVE).maps == (0,)
    result.draw()


def test_top_patches_without_projections() -> None:
    model = prepared("lenet", image_size=28)
    data = cnnzoo.load_data("fashion_mnist_sample")
    data = ImageData("few", data.train[:2], data.test[:12], tuple(f"class {i}" for i in range(10)))
    result = cnnzoo.top_patches(model, data, "conv2", n=3, maps=2)
    assert result.projections is None and result.patches.shape == (2, 3, 1, 14, 14)
    assert result.title.endswith("no projections: the deconvnet cannot go through Sigmoid in layer 'conv2' of lenet")
    result.draw()
    assert cnnzoo.top_patches(model, data, "fc3", n=20, maps=[5]).indices.shape == (1, 12)
    with pytest.raises(InputError, match="a list of their indices from 0 to 15 in 'conv2'"):
        cnnzoo.top_patches(model, data, "conv2", maps=[16])


def test_mistakes_are_found_by_name() -> None:
    data = dots()
    result = cnnzoo.mistakes(Dots(), data, n=3, preprocessing=TWELVE)
    wrong = (data.test.labels == 0).nonzero()[:, 0].tolist()
    assert result.n_mistakes == len(wrong) and result.n_images == 40
    assert list(result.indices) == wrong[::-1][:3]  # the brighter, the surer
    assert set(result.labels) == {"left"} and set(result.predictions) == {"right"}
    assert torch.equal(result.images, data.test.images[list(result.indices)])
    assert (result.probabilities.diff() <= 0).all() and result.probabilities[0] > 0.5
    assert f"{len(wrong)} of 40 images of dots; the 3 most confident" in result.title
    result.draw()
    model = prepared("lenet", num_classes=2, image_size=12, activation="relu", pooling="max")
    model.metadata = model.metadata.replace(label_names=["right", "left"])  # in another order
    every = cnnzoo.mistakes(model, data, n=40)
    accuracy = cnnzoo.evaluate(model, data).top1
    assert every.n_mistakes == round((1 - accuracy) * 40)
    right = cnnzoo.mistakes(Dots(), ImageData("r", data.train, data.test[data.test.labels == 1], data.classes),
                            preprocessing=TWELVE)  # fmt: skip
    assert right.n_mistakes == 0 and len(right.images) == 0
    right.draw()


def test_files_are_decoded_as_the_preprocessing_says(tmp_path: Path) -> None:
    for i in range(4):
        (tmp_path / "ab"[i % 2]).mkdir(exist_ok=True)
        pixels = random_image(3, 40 + i, 50, seed=i).permute(1, 2, 0).numpy()
        Image.fromarray(pixels).save(tmp_path / "ab"[i % 2] / f"{i}.png")
    data = cnnzoo.load_data(f"folder:{tmp_path}", split=False, stream=True)
    model = Dots()
    model.conv = nn.Conv2d(3, 2, 3)
    rgb = Preprocessing(12, [0.0] * 3, [1.0] * 3)
    result = cnnzoo.top_patches(model, data, "conv", n=4, maps=[0], preprocessing=rgb)
    files = sorted(tmp_path.rglob("*.png"))
    for i, place in enumerate(result.indices[0].tolist()):
        top, left, bottom, right = result.boxes[0][i]
        assert torch.equal(result.patches[0, i] * 255, rgb.crop([files[place]])[0, :, top:bottom, left:right].float())


# --- what stays as it is ---


def explain_all(model: nn.Module, image: torch.Tensor, **arguments: Any) -> list[torch.Tensor]:
    return [
        cnnzoo.explain(model, image, "saliency", **arguments).values,
        cnnzoo.explain(model, image, "gradcam", **arguments).values,
        cnnzoo.explain(model, image, "occlusion", patch=9, stride=9, **arguments).values,
        cnnzoo.explain(model, image, "deconvnet", **arguments).values,
        cnnzoo.explain(model, image, "activations", **arguments).layers["fc3"],
    ]


@pytest.mark.parametrize("frozen", [False, True])
def test_a_network_is_never_changed(frozen: bool) -> None:
    """In train mode too: dropout would draw, batch norm would move its statistics."""
    model = prepared("lenet", activation="relu", norm="batch", dropout=0.5, pooling="max")
    expected = explain_all(model, random_image(1, 28, 28))
    model.train().requires_grad_(not frozen)
    for parameter in model.parameters():
        parameter.grad = None if frozen else torch.ones_like(parameter)
    before, grads = network_state(model), [p.grad for p in model.parameters()]
    with torch.no_grad():
        results = explain_all(model, random_image(1, 28, 28))
        assert not torch.is_grad_enabled()
    require_unchanged(model, before)
    assert all(p.grad is grad and (grad is None or (grad == 1).all()) for p, grad in
               zip(model.parameters(), grads, strict=True))  # fmt: skip
    assert all(torch.equal(a, b) for a, b in zip(results, expected, strict=True))
    assert all(not values.requires_grad for values in results)


def test_threads_give_the_same_values() -> None:
    model = prepared("lenet", activation="relu", norm="batch", pooling="max").train()
    images = [random_image(1, 28, 28, seed=i) for i in range(8)]
    expected = [explain_all(model, image) for image in images]
    before, different = network_state(model), []

    def work(i: int) -> None:
        results = explain_all(model, images[i])
        different.extend([i] * any(not torch.equal(a, b) for a, b in zip(results, expected[i], strict=True)))

    assert in_threads(work) == [] and different == []
    require_unchanged(model, before)


def test_weights_of_inference_mode_and_half_precision() -> None:
    image = random_image(1, 6, 6)
    with torch.inference_mode():
        model = Plain()
    values = cnnzoo.explain(model, image, "saliency", label=0, preprocessing=RAW).values
    assert torch.equal(values, cnnzoo.explain(Plain(), image, "saliency", label=0, preprocessing=RAW).values)
    half = cnnzoo.explain(Plain().bfloat16(), image, "gradcam", label=0, preprocessing=RAW)
    assert half.values.dtype == torch.float32 and half.values.isfinite().all()


def test_a_network_that_overwrites_its_input() -> None:
    model = nn.Sequential(nn.ReLU(inplace=True), nn.Flatten(), nn.Linear(36, 2))
    result = cnnzoo.explain(model, random_image(1, 6, 6), "saliency", label=0, preprocessing=RAW)
    assert torch.equal(result.values.flatten()[result.values.flatten() != 0],
                       model[2].weight[0][result.values.flatten() != 0])  # fmt: skip


# --- methods of your own, pictures, the shell ---


def test_a_method_of_your_own() -> None:
    @cnnzoo.register_explanation("gradient_times_input")
    def gradient_times_input(subject: Subject, label: str | int | None = None) -> cnnzoo.explain.Attribution:
        index = subject.class_index(label)
        values = (subject.gradient(index) * subject.x[0]).sum(dim=0)
        return subject.attribution("gradient times input", values, index, quantity="gradient times input")

    model = nn.Sequential(nn.Flatten(), nn.Linear(36, 3, bias=False))
    image = random_image(1, 6, 6)
    result = cnnzoo.explain(model, image, "gradient_times_input", label=1, preprocessing=RAW)
    assert float(result.values.sum()) == pytest.approx(float(model(RAW(image)[None])[0, 1].detach()), rel=1e-5)
    with pytest.raises(InputError, match="method 'saliency' is already registered"):
        cnnzoo.register_explanation("saliency")(gradient_times_input)


@pytest.mark.parametrize(
    ("method", "channels"),
    [("gradcam", 3), ("saliency", 1), ("occlusion", 1), ("deconvnet", 3), ("activations", 1), ("filters", 3)],
)
def test_pictures(tmp_path: Path, method: str, channels: int) -> None:
    """6.5 inches wide, nothing beyond the border, with class and probability in the title."""
    model = prepared("lenet", activation="relu", in_channels=channels, pooling="max")
    image = random_image(channels, 30, 40)
    result = cnnzoo.explain(model, image, method)
    figure = result.plot(tmp_path / "picture.png")
    assert figure.get_size_inches()[0] == 6.5
    with Image.open(tmp_path / "picture.png") as file:
        picture = file.convert("L")
    assert picture.width == 1300 and picture.getextrema()[0] < 100
    assert min(picture.crop((picture.width - 4, 0, picture.width, picture.height)).tobytes()) == 255
    assert str(result) == result.title and method in result.title and "lenet" in result.title
    if method == "filters":
        with pytest.raises(FileError, match="its folder does not exist"):
            result.plot(tmp_path / "none" / "x.png")
    else:
        assert re.search(r"class \d, [\d.]+ %$", result.title), result.title
        assert torch.equal(result.image, cnnzoo.transforms(model).crop([image])[0])
    if method == "gradcam":
        assert result._repr_html_().startswith('<img alt="gradcam of lenet at pool2: class')


def test_the_shell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    model = prepared("lenet", activation="relu", pooling="max")
    cnnzoo.save(model, "net.safetensors")
    Image.fromarray(random_image(1, 28, 28)[0].numpy()).save("shoe.png")

    def run(*words: str) -> Any:
        return CliRunner().invoke(main, ["explain", "net.safetensors", *words])

    done = run("shoe.png", "--method", "occlusion", "--class", "class 4", "--set", "patch=7", "-o", "out.png")
    assert done.exit_code == 0, done.output
    expected = cnnzoo.explain(model, "shoe.png", "occlusion", label="class 4", patch=7)
    assert done.stdout == f"{expected}\nout.png\n" and expected.label == "class 4"
    with Image.open("out.png") as picture:
        assert picture.width == 1300
    assert run("shoe.png", "--layer", "conv1", "--class", "4", "-o", "a.svg").exit_code == 0
    assert (
        run("--method", "filters", "-o", "filters.pdf").stdout == "filters of lenet at conv1: 6 of 1x5x5\nfilters.pdf\n"
    )
    for words, code, text in (
        (("shoe.png", "--class", "clas 4", "-o", "x.png"), 1, "unknown class 'clas 4'. Did you mean 'class 4'"),
        (("shoe.png", "--method", "grad_cam", "-o", "x.png"), 1, "Did you mean 'gradcam'"),
        (("shoe.png", "--method", "saliency", "--layer", "conv1", "-o", "x.png"), 1, "unknown option of saliency"),
        (("-o", "x.png"), 1, "this method explains an image"),
        (("none.png", "-o", "x.png"), 1, "none.png"),
        (("shoe.png",), 2, "Missing option '-o'"),
        (("shoe.png", "--class", "4", "--set", "label=3", "-o", "x.png"), 2, "--class and --set label= set the same"),
        (("shoe.png", "-o", "x"), 1, "its name must end in the format"),
    ):
        done = run(*words)
        assert done.exit_code == code and text in done.output, done.output
    assert not Path("x.png").exists()


# --- errors ---


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        ({"label": 3}, UnknownNameError, "unknown class 3. Known: 0, 1."),
        ({"label": "dog"}, UnknownNameError, "unknown class 'dog'"),
        ({"label": True}, UnknownNameError, "unknown class True"),
        ({"layer": "convv"}, UnknownNameError, "unknown layer 'convv'. Did you mean 'conv'"),
        ({"layer": "dense"}, InputError, r"layer 'dense' returns \(1, 2\), no maps"),
        ({"method": "occlusion", "patch": 7}, InputError, "patch=7 and stride=3 do not cover an image of 6x6 px"),
        ({"method": "occlusion", "patch": 2, "stride": 3}, InputError, "the stride be at most the patch"),
        ({"method": "occlusion", "patch": 0}, InputError, "patch must be an integer from 1"),
        ({"method": "deconvnet", "unit": 2}, InputError, r"unit must be \(map, row, column\) or the index of a map"),
        ({"method": "deconvnet", "unit": (0, 2, 0)}, InputError, "in the output"),
        ({"method": "activations", "layers": ["conv", "cnov"]}, UnknownNameError, "unknown layer 'cnov'"),
        ({"preprocessing": None}, InputError, "Plain has no preprocessing"),
        ({"image": torch.zeros(1, 6, 6)}, InputError, "an image must be uint8"),
        ({"image": None}, InputError, "this method explains an image"),
    ],
)
def test_errors(arguments: dict[str, Any], error: type[Exception], text: str) -> None:
    arguments = {"image": random_image(1, 6, 6), "preprocessing": RAW, **arguments}
    with pytest.raises(error, match=text):
        cnnzoo.explain(Plain(), **arguments)


class Detached(Plain):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x.detach())


class Maps(Plain):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.conv(x)


class Twice(Plain):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(self.relu(x))


def test_errors_of_networks() -> None:
    image = random_image(1, 6, 6)
    for model, arguments, text in (
        (Detached(), {"method": "saliency"}, "the score of Detached has no gradient with respect to the image"),
        (Maps(), {"method": "saliency"}, r"Maps must return class scores \(N, classes\), not \(1, 2, 4, 4\)"),
        (Twice(), {"layer": "relu"}, "layer 'relu' of Twice runs 2 times"),
        (nn.Sequential(nn.Flatten(), nn.Linear(36, 2)), {}, "Sequential has no feature maps larger than 1x1"),
        (nn.Sequential(nn.Flatten(), nn.Linear(36, 2)), {"method": "filters"}, "Sequential has no convolution"),
        (Plain(), {"method": "deconvnet", "layer": "dense", "unit": (0, 0)}, "unit must be an index in the output"),
    ):
        with pytest.raises(InputError, match=text):
            cnnzoo.explain(model, image, **{"preprocessing": RAW, **arguments})
    dead = Plain()
    dead.conv.weight.data.fill_(-1.0)
    with pytest.raises(InputError, match="no unit of layer 'pool' is active for this image"):
        cnnzoo.explain(dead, image, "deconvnet", preprocessing=RAW)
    with torch.device("meta"):
        empty = Plain()
    with pytest.raises(InputError, match="on the meta device"):
        cnnzoo.explain(empty, image, preprocessing=RAW)
    with pytest.raises(InputError, match="expected an nn.Module, a path or a name"):
        cnnzoo.explain(3, image)
    batches = cnnzoo.StreamData("batches", *[[(torch.zeros(2, 1, 6, 6, dtype=torch.uint8), torch.zeros(2).long())]] * 2,
                                ("a", "b"))  # fmt: skip
    with pytest.raises(InputError, match="batches yields batches, from which no images can be selected"):
        cnnzoo.mistakes(Plain(), batches, preprocessing=RAW)
