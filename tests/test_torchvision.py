"""Weights from torchvision."""

from __future__ import annotations

import functools
import hashlib
import threading
from collections.abc import Callable, Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch
import torchvision
from torch import nn

import cnnzoo
from cnnzoo.errors import FileError, InputError, UnknownNameError, WeightsError
from cnnzoo.registry import get_entry
from cnnzoo.weights import load_torchvision

QUICK = {"alexnet_owt", "vgg11_bn", "squeezenet1_1", "resnet18", "resnet50", "googlenet", "densenet121"}
NAMES = [
    pytest.param(name, marks=() if name in QUICK else pytest.mark.slow)
    for name in cnnzoo.list_models()
    if get_entry(name).twin
]


@pytest.mark.parametrize("name", NAMES)
def test_twins_give_the_same_scores(name: str) -> None:
    twin = _make_twin(get_entry(name).twin.name)
    model = _without_dropout(cnnzoo.create(name, device="meta").to_empty(device="cpu"))
    load_torchvision(model, twin.state_dict())
    for dtype, tolerance in ((torch.float32, 1e-5), (torch.float64, 1e-12)):
        x = torch.randn(2, *model.spec.input[:1], 64, 64, dtype=dtype)
        for mode in (True, False):
            outputs = twin.to(dtype).train(mode)(x)
            difference = model.to(dtype).train(mode)(x) - getattr(outputs, "logits", outputs)
            assert difference.abs().max() < tolerance and outputs[0].isfinite().all()


def _make_twin(name: str) -> nn.Module:
    """Returns a network of torchvision without dropout, with random weights and batch-norm statistics."""
    options = {"init_weights": False, "aux_logits": False} if name == "googlenet" else {}
    with torch.device("meta"):
        twin = torchvision.models.get_model(name, **options)
    twin.to_empty(device="cpu")
    generator = torch.Generator().manual_seed(0)
    for key, tensor in twin.state_dict().items():
        if key.endswith("running_var") or (tensor.dim() == 1 and key.endswith("weight")):
            tensor.uniform_(0.7, 1.3, generator=generator)
        elif tensor.is_floating_point():
            bound = (6 / max(2, tensor[0].numel())) ** 0.5 if tensor.dim() > 1 else 0.2
            tensor.uniform_(-bound, bound, generator=generator)
        else:
            tensor.zero_()
    return _without_dropout(twin)


def _without_dropout(model: nn.Module) -> nn.Module:
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    return model


def test_auxiliary_heads_are_not_loaded() -> None:
    state = torchvision.models.googlenet(init_weights=False).state_dict()
    with pytest.warns(UserWarning, match="googlenet has no aux1, aux2; their weights are not loaded"):
        load_torchvision(cnnzoo.create("googlenet"), state)


def test_alexnet_owt_has_the_keys_of_torchvision() -> None:
    twin = torchvision.models.alexnet(num_classes=7)
    model = cnnzoo.create("alexnet_owt", num_classes=7)
    assert list(model.state_dict()) == list(twin.state_dict())
    twin.load_state_dict(model.state_dict())  # and the other way round
    x = torch.randn(2, 3, 64, 64)
    torch.manual_seed(0)
    scores = model.train()(x)
    torch.manual_seed(0)
    assert torch.equal(twin.train()(x), scores)  # dropout at the same places too


def test_mismatches_are_listed_in_one_error() -> None:
    with torch.device("meta"):
        state = torchvision.models.alexnet(num_classes=7).state_dict()
    state.pop("features.0.bias")
    model = cnnzoo.create("alexnet_owt", seed=0, width=0.5)
    before = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    with pytest.raises(WeightsError) as error:
        load_torchvision(model, state)
    text = str(error.value)
    assert text.startswith(
        "weights of torchvision's alexnet: 16 tensors do not fit the network: classifier.1.bias: file"
    )
    assert "classifier.6.weight: file (7, 4096) F32, model (1000, 2048) F32" in text
    assert "features.0.bias: file none, model (32,) F32" in text
    assert all(torch.equal(before[key], tensor) for key, tensor in model.state_dict().items())  # nothing is loaded


def test_networks_without_a_twin() -> None:
    with pytest.raises(
        InputError, match="lenet has no twin in torchvision; the networks that have one: alexnet_owt, densenet121"
    ):
        load_torchvision(cnnzoo.create("lenet"), {})
    with pytest.raises(InputError, match=r"expected a cnnzoo network, not Linear; build it with cnnzoo\.create"):
        load_torchvision(nn.Linear(2, 2), {})  # type: ignore[arg-type]
    with pytest.raises(InputError, match="no torchvision weights of lenet, only of alexnet_owt, .*pretrained=True$"):
        cnnzoo.create("lenet", pretrained="torchvision")
    with pytest.raises(InputError, match="expects a state dict, name -> tensor"):
        load_torchvision(cnnzoo.create("squeezenet1_1"), {"features.0.weight": 1})  # type: ignore[dict-item]
    with pytest.raises(InputError, match="the meta device holds no weights"):
        cnnzoo.create("alexnet_owt", pretrained="torchvision", device="meta")
    with pytest.raises(UnknownNameError, match="unknown source of pretrained weights 'imagenet'"):
        cnnzoo.create("lenet", pretrained="imagenet")
    with pytest.raises(UnknownNameError, match=r"weights of resnet50 'torchvision.V2'. Did you mean 'torchvision.IM"):
        cnnzoo.create("resnet50", pretrained="torchvision.V2")
    with pytest.raises(InputError, match="pretrained must be True or a tag, such as 'torchvision.*, not 1$"):
        cnnzoo.create("lenet", pretrained=1)  # type: ignore[arg-type]


@pytest.fixture
def publish(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], Path]]:
    """A server of files like torchvision's, with random weights, each with its own checksum in the name."""
    served = tmp_path / "served"
    served.mkdir()
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "home"))

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(served)))
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()

    def add(name: str) -> Path:
        options = {"init_weights": False} if name == "googlenet" else {}
        torch.save(torchvision.models.get_model(name, **options).state_dict(), served / "new.pth")
        digest = hashlib.sha256((served / "new.pth").read_bytes()).hexdigest()[:8]
        file = (served / "new.pth").rename(served / f"{name}-{digest}.pth")
        weights = torchvision.models.get_model_weights(name)["IMAGENET1K_V1"]
        monkeypatch.setattr(weights.value, "url", f"http://127.0.0.1:{server.server_port}/{file.name}")
        return file

    yield add
    server.shutdown()
    server.server_close()


@pytest.fixture
def published(publish: Callable[[str], Path]) -> Path:
    """A small file, whose tensors are in the order of our network."""
    return publish("squeezenet1_1")


def test_pretrained_with_other_keys_and_means(publish: Callable[[str], Path]) -> None:
    """A key map, parts that ours lacks, and another mean of the images than torchvision's."""
    state = torch.load(publish("googlenet"), weights_only=True)
    with pytest.warns(UserWarning, match="googlenet has no aux1, aux2; their weights are not loaded"):
        model = cnnzoo.create("googlenet", pretrained="torchvision")
    assert torch.equal(model.classifier[0].weight, state["fc.weight"])
    assert torch.equal(model.features[0].weight, state["conv1.conv.weight"])
    assert model.metadata.preprocessing.mean == model.metadata.preprocessing.std == (0.5, 0.5, 0.5)
    publish("squeezenet1_1")
    with pytest.warns(
        UserWarning, match="classifier.1 is new, for 7 classes instead of 1000; features.0 takes 4 channels"
    ):
        model = cnnzoo.create("squeezenet1_1", pretrained="torchvision", num_classes=7, in_channels=4)
    assert model(torch.randn(2, 4, 64, 64)).shape == (2, 7)


@pytest.mark.filterwarnings("ignore:.*unclosed.*:ResourceWarning")
def test_pretrained_by_torchvision(published: Path, tmp_path: Path) -> None:
    model = cnnzoo.create("squeezenet1_1", pretrained="torchvision")
    state = torch.load(published, weights_only=True)
    assert all(torch.equal(a, b) for a, b in zip(model.state_dict().values(), state.values(), strict=True))
    assert len(model.metadata.label_names) == 1000 and model.metadata.label_names[1] == "goldfish"
    assert model.metadata.preprocessing.mean == (0.485, 0.456, 0.406)
    assert model.metadata.provenance["weights"] == "SqueezeNet1_1_Weights.IMAGENET1K_V1"
    cnnzoo.save(model, tmp_path / "m.safetensors")
    assert cnnzoo.load(tmp_path / "m.safetensors").metadata == model.metadata

    published.unlink()  # from now on there is the downloaded file only
    wide = cnnzoo.create("squeezenet1_1", pretrained="torchvision", dtype=torch.float64)
    assert wide.features[0].weight.dtype == torch.float64
    downloaded = tmp_path / "home" / "hub" / "checkpoints" / published.name
    downloaded.write_bytes(downloaded.read_bytes()[:-1] + b"x")
    with pytest.raises(WeightsError, match="is damaged: its checksum is not the one in its name; delete the file"):
        cnnzoo.create("squeezenet1_1", pretrained="torchvision")
    downloaded.unlink()
    with pytest.raises(
        FileError,
        match=r"could not be downloaded from http://127.*404.*; check the network connection, or put the file",
    ):
        cnnzoo.create("squeezenet1_1", pretrained="torchvision")


def test_pretrained_for_other_classes_and_channels(published: Path) -> None:
    state = list(torch.load(published, weights_only=True).values())
    message = (
        "squeezenet1_1: classifier.1 is new, for 5 classes instead of 1000; features.0 takes 1 channel instead of 3"
    )
    with pytest.warns(UserWarning, match=message):
        model = cnnzoo.create("squeezenet1_1", pretrained="torchvision", num_classes=5, in_channels=1, seed=0)
    assert model(torch.randn(2, 1, 64, 64)).shape == (2, 5)
    assert model.metadata.label_names is None
    assert model.metadata.preprocessing.mean == pytest.approx([(0.485 + 0.456 + 0.406) / 3])
    assert model.metadata.preprocessing.crop_mode == "center" and model.metadata.preprocessing.crop_pct == 0.875
    tensors = model.state_dict()
    others = [i for i, key in enumerate(tensors) if key not in ("features.0.weight",) and "classifier" not in key]
    assert len(others) == len(state) - 3 and all(torch.equal(list(tensors.values())[i], state[i]) for i in others)
    assert torch.equal(model.features[0].weight, state[0].sum(1, keepdim=True))
    assert torch.equal(model.classifier[1].weight, cnnzoo.create(model.spec, seed=0).classifier[1].weight)
    provenance = model.metadata.provenance
    assert provenance["kind"] == "adapted"
    assert provenance["from"]["weights"] == "SqueezeNet1_1_Weights.IMAGENET1K_V1"
    with pytest.raises(WeightsError, match="52 tensors do not fit|tensors do not fit"):
        cnnzoo.create("squeezenet1_1", pretrained="torchvision", width=0.5, num_classes=5)


def test_a_damaged_download(published: Path) -> None:
    published.write_bytes(b"something else")
    with pytest.raises(WeightsError, match=r"the download of .* is damaged: invalid hash value"):
        cnnzoo.create("squeezenet1_1", pretrained="torchvision")
