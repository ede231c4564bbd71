"""Other libraries read our files: plain safetensors, the Hub's own loaders, a class with PyTorchModelHubMixin."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import safetensors.torch
import torch
import torchvision
from huggingface_hub import PyTorchModelHubMixin, load_torch_model
from torch import nn

import cnnzoo


class Net(cnnzoo.CNN, PyTorchModelHubMixin):
    """A class of a user; its arguments are read from config.json."""

    def __init__(self, num_classes: int = 10, in_channels: int = 1, image_size: int = 28) -> None:
        super().__init__(
            cnnzoo.get_spec("lenet", num_classes=num_classes, in_channels=in_channels, image_size=image_size)
        )


@pytest.fixture
def saved(tmp_path: Path) -> tuple[cnnzoo.CNN, Path]:
    model = cnnzoo.create("lenet", num_classes=7, in_channels=3, image_size=32, seed=0).eval()
    return model, cnnzoo.save(model, tmp_path / "lenet")


def test_plain_safetensors(saved: tuple[cnnzoo.CNN, Path]) -> None:
    model, folder = saved
    other = cnnzoo.create(model.spec, seed=1).eval()
    safetensors.torch.load_model(other, folder / "model.safetensors")
    x = torch.randn(2, 3, 32, 32)
    assert torch.equal(other(x), model(x))


def test_the_hubs_loader(saved: tuple[cnnzoo.CNN, Path]) -> None:
    model, folder = saved
    other = cnnzoo.create(model.spec, seed=1).eval()
    load_torch_model(other, folder)
    x = torch.randn(2, 3, 32, 32)
    assert torch.equal(other(x), model(x))


def test_the_hubs_mixin(saved: tuple[cnnzoo.CNN, Path]) -> None:
    model, folder = saved
    other = Net.from_pretrained(folder)
    x = torch.randn(2, 3, 32, 32)
    assert other.spec == model.spec and torch.equal(other(x), model(x))


def test_keys_are_those_of_the_twin(tmp_path: Path) -> None:
    """torchvision's network has the same keys, so that it can load the file without renaming."""
    model = cnnzoo.create("vgg11", num_classes=5, image_size=32, width=0.0625, seed=0)
    cnnzoo.save(model, tmp_path / "m.safetensors")
    state = safetensors.torch.load_file(tmp_path / "m.safetensors")
    with torch.device("meta"):
        twin = torchvision.models.vgg11(num_classes=5)
    assert list(state) == sorted(twin.state_dict())


def test_config_has_the_keys_of_timm(saved: tuple[cnnzoo.CNN, Path]) -> None:
    """timm.create_model("local-dir:...") reads these keys; docs/weights.md says what else it needs."""
    config = json.loads((saved[1] / "config.json").read_text())
    assert config["architecture"] == "lenet" and config["num_classes"] == 7 and config["num_features"] == 576
    pretrained_cfg = config["pretrained_cfg"]
    layers = (pretrained_cfg["first_conv"], pretrained_cfg["classifier"])
    assert pretrained_cfg["input_size"] == [3, 32, 32] and layers == ("features.0", "classifier.4")
    model = cnnzoo.create("lenet", num_classes=7, in_channels=3, image_size=32)
    for name in layers:
        assert isinstance(model.get_submodule(name), (nn.Conv2d, nn.Linear))
