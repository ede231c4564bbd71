"""Weights from torchvision, and groups written out."""

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
from cnnzoo.blocks import AdaptiveAvgPool, Conv, Flatten, Logits
from cnnzoo.errors import FileError, InputError, WeightsError
from cnnzoo.registry import get_entry
from cnnzoo.weights import load_torchvision

HERE = {"alexnet_owt", "vgg11_bn", "squeezenet1_1", "resnet18", "resnet50", "googlenet", "densenet121"}
TWINS = [
    pytest.param(name, marks=() if name in HERE else pytest.mark.slow)
    for name in cnnzoo.list_models()
    if get_entry(name).twin
]


@pytest.mark.parametrize("name", TWINS)
def test_twins_give_the_same_scores(name: str) -> None:
    twin = _drawn(get_entry(name).twin.name)
    model = _without_dropout(cnnzoo.create(name))
    load_torchvision(model, twin.state_dict())
    for dtype, least in ((torch.float32, 1e-5), (torch.float64, 1e-12)):
        x = torch.randn(2, *model.spec.input[:1], 64, 64, dtype=dtype)
        for mode in (True, False):
            theirs = twin.to(dtype).train(mode)(x)
            difference = model.to(dtype).train(mode)(x) - getattr(theirs, "logits", theirs)
            assert difference.abs().max() < least and theirs[0].isfinite().all()


def _drawn(name: str) -> nn.Module:
    """A net of torchvision without dropout, its weights and batch-norm statistics drawn at random."""
    made = {"init_weights": False, "aux_logits": False} if name == "googlenet" else {}
    twin = torchvision.models.get_model(name, **made)
    generator = torch.Generator().manual_seed(0)
    for key, tensor in twin.state_dict().items():
        if key.endswith("running_var") or (tensor.dim() == 1 and key.endswith("weight")):
            tensor.uniform_(0.7, 1.3, generator=generator)
        elif tensor.is_floating_point():
            tensor.normal_(0, (2 / max(2, tensor[0].numel())) ** 0.5 if tensor.dim() > 1 else 0.1, generator=generator)
    return _without_dropout(twin)


def _without_dropout(model: nn.Module) -> nn.Module:
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    return model


def test_auxiliary_heads_are_skipped_and_said() -> None:
    state = torchvision.models.googlenet(init_weights=False).state_dict()
    with pytest.warns(UserWarning, match="googlenet leaves out aux1, aux2 of its twin; skipped"):
        load_torchvision(cnnzoo.create("googlenet"), state)


def test_alexnet_owt_has_the_keys_of_torchvision() -> None:
    twin = torchvision.models.alexnet(num_classes=7)
    model = cnnzoo.create("alexnet_owt", num_classes=7)
    assert list(model.state_dict()) == list(twin.state_dict())
    twin.load_state_dict(model.state_dict())  # and the other way round
    x = torch.randn(2, 3, 64, 64)
    torch.manual_seed(0)
    a = model.train()(x)
    torch.manual_seed(0)
    assert torch.equal(twin.train()(x), a)  # dropout at the same places, too


def test_what_does_not_fit_is_listed_at_once() -> None:
    state = torchvision.models.alexnet(num_classes=7).state_dict()
    state.pop("features.0.bias")
    before = cnnzoo.create("alexnet_owt", seed=0, width=0.5)
    kept = {key: tensor.clone() for key, tensor in before.state_dict().items()}
    with pytest.raises(WeightsError) as problem:
        load_torchvision(before, state)
    text = str(problem.value)
    assert text.startswith(
        "weights of torchvision's alexnet: 16 tensors do not fit the network: classifier.1.bias: file"
    )
    assert "classifier.6.weight: file (7, 4096) F32, model (1000, 2048) F32" in text
    assert "features.0.bias: file none, model (32,) F32" in text
    assert all(torch.equal(kept[key], tensor) for key, tensor in before.state_dict().items())  # nothing half done


def test_who_has_a_twin() -> None:
    with pytest.raises(InputError, match="lenet has no twin in torchvision; those that have: alexnet_owt, densenet121"):
        load_torchvision(cnnzoo.create("lenet"), {})
    with pytest.raises(InputError, match="go into a network of the zoo, not into a AlexNet"):
        load_torchvision(torchvision.models.alexnet(), {})  # type: ignore[arg-type]
    with pytest.raises(InputError, match="lenet has no twin"):
        cnnzoo.create("lenet", pretrained="torchvision")
    with pytest.raises(InputError, match="takes a state dict, name -> tensor"):
        load_torchvision(cnnzoo.create("squeezenet1_1"), {"features.0.weight": 1})  # type: ignore[dict-item]
    with pytest.raises(InputError, match="the meta device holds no weights"):
        cnnzoo.create("alexnet_owt", pretrained="torchvision", device="meta")
    with pytest.raises(InputError, match="lenet is on the meta device and has no weights"):
        ungroup(cnnzoo.create("lenet", device="meta"))
    with pytest.raises(InputError, match="pretrained must be True, 'torchvision' or None, not 'imagenet'"):
        cnnzoo.create("alexnet_owt", pretrained="imagenet")


@pytest.fixture
def publish(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], Path]]:
    """A server with files of torchvision, random weights in them, each under a name with its own checksum."""
    served = tmp_path / "served"
    served.mkdir()
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "home"))

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(served)))
    threading.Thread(target=server.serve_forever, daemon=True).start()

    def make(name: str) -> Path:
        made = {"init_weights": False} if name == "googlenet" else {}
        torch.save(torchvision.models.get_model(name, **made).state_dict(), served / "new.pth")
        digest = hashlib.sha256((served / "new.pth").read_bytes()).hexdigest()[:8]
        file = (served / "new.pth").rename(served / f"{name}-{digest}.pth")
        weights = torchvision.models.get_model_weights(name)["IMAGENET1K_V1"]
        monkeypatch.setattr(weights.value, "url", f"http://127.0.0.1:{server.server_port}/{file.name}")
        return file

    yield make
    server.shutdown()
    server.server_close()


@pytest.fixture
def published(publish: Callable[[str], Path]) -> Path:
    return publish("alexnet")


def test_pretrained_where_names_differ(publish: Callable[[str], Path]) -> None:
    """A key map, parts that are left out, and images of another mean than torchvision says."""
    state = torch.load(publish("googlenet"), weights_only=True)
    with pytest.warns(UserWarning, match="googlenet leaves out aux1, aux2 of its twin; skipped"):
        model = cnnzoo.create("googlenet", pretrained="torchvision")
    assert torch.equal(model.classifier[0].weight, state["fc.weight"])
    assert torch.equal(model.features[0].weight, state["conv1.conv.weight"])
    assert model.notes["mean"] == model.notes["std"] == [0.5, 0.5, 0.5]
    publish("squeezenet1_1")
    with pytest.warns(
        UserWarning, match="classifier.1 is new, for 7 classes instead of 1000; features.0 sees 4 channels"
    ):
        model = cnnzoo.create("squeezenet1_1", pretrained="torchvision", num_classes=7, in_channels=4)
    assert model(torch.randn(2, 4, 64, 64)).shape == (2, 7)


@pytest.mark.filterwarnings("ignore:.*unclosed.*:ResourceWarning")
def test_pretrained_by_torchvision(published: Path, tmp_path: Path) -> None:
    model = cnnzoo.create("alexnet_owt", pretrained="torchvision")
    state = torch.load(published, weights_only=True)
    assert all(torch.equal(tensor, state[key]) for key, tensor in model.state_dict().items())
    assert len(model.notes["label_names"]) == 1000 and model.notes["label_names"][1] == "goldfish"
    assert model.notes["mean"] == [0.485, 0.456, 0.406]
    assert model.notes["provenance"]["weights"] == "AlexNet_Weights.IMAGENET1K_V1"
    cnnzoo.save(model, tmp_path / "owt.safetensors")
    assert cnnzoo.load(tmp_path / "owt.safetensors").notes == model.notes

    published.unlink()  # now without the server's file: the kept one serves
    assert (
        cnnzoo.create("alexnet_owt", pretrained="torchvision", dtype=torch.float64)
        .features[0]
        .weight.dtype.is_floating_point
    )
    kept = tmp_path / "home" / "hub" / "checkpoints" / published.name
    kept.write_bytes(kept.read_bytes()[:-1] + b"x")
    with pytest.raises(WeightsError, match="is damaged: its checksum is not the one in its name; delete it"):
        cnnzoo.create("alexnet_owt", pretrained="torchvision")
    kept.unlink()
    with pytest.raises(
        FileError, match=r"could not be fetched from http://127.*404.*; try again with a network, or put"
    ):
        cnnzoo.create("alexnet_owt", pretrained="torchvision")


def test_pretrained_for_other_classes_and_channels(published: Path) -> None:
    state = torch.load(published, weights_only=True)
    x = torch.randn(2, 1, 224, 224)
    said = "alexnet_owt: classifier.6 is new, for 5 classes instead of 1000; features.0 sees 1 channel instead of 3"
    with pytest.warns(UserWarning, match=said):
        model = cnnzoo.create("alexnet_owt", pretrained="torchvision", num_classes=5, in_channels=1, seed=0)
    assert model(x).shape == (2, 5) and "label_names" not in model.notes and "mean" not in model.notes
    kept = [key for key in state if key not in ("features.0.weight", "classifier.6.weight", "classifier.6.bias")]
    assert all(torch.equal(model.state_dict()[key], state[key]) for key in kept)
    assert torch.equal(model.features[0].weight, state["features.0.weight"].sum(1, keepdim=True))
    assert torch.equal(model.classifier[-1].weight, cnnzoo.create(model.spec, seed=0).classifier[-1].weight)
    found = model.notes["provenance"]
    assert found["kind"] == "adapted" and found["from"]["weights"] == "AlexNet_Weights.IMAGENET1K_V1"
    with pytest.raises(WeightsError, match="16 tensors do not fit|tensors do not fit"):
        cnnzoo.create("alexnet_owt", pretrained="torchvision", width=0.5, num_classes=5)


def test_a_file_that_is_not_what_was_published(published: Path) -> None:
    published.write_bytes(b"something else")
    with pytest.raises(WeightsError, match="is not what was published: invalid hash value"):
        cnnzoo.create("alexnet_owt", pretrained="torchvision")


def test_groups_written_out() -> None:
    model = cnnzoo.create("alexnet_2012", seed=0, num_classes=10, width=0.25, dtype=torch.float64).eval()
    dense = ungroup(model)
    x = torch.randn(2, 3, 227, 227, dtype=torch.float64)
    with torch.no_grad():
        torch.testing.assert_close(dense(x), model(x), rtol=1e-12, atol=1e-12)
    assert not dense.training and dense.spec.name == model.spec.name
    assert all(row.groups == 1 for _, row in dense.spec.blocks() if isinstance(row, Conv))
    weight = dense.features[4].weight
    half = weight.shape[1] // 2
    assert (weight[: weight.shape[0] // 2, half:] == 0).all() and (weight[weight.shape[0] // 2 :, :half] == 0).all()
    assert dense.notes["provenance"] == {"kind": "adapted", "how": "groups written out", "from": {"kind": "random"}}
    assert model.notes["provenance"] == {"kind": "random"}
    found = {c.label: c.params for c in cnnzoo.diff(model, dense).changes}
    assert set(found) == {"conv2", "conv4", "conv5"} and all(more > 0 for more in found.values())


def test_groups_written_out_at_full_size() -> None:
    """The two can be compared: the same scores, 1.57 times the multiply-adds."""
    model = cnnzoo.create("alexnet_2012", seed=0).eval()
    dense = ungroup(model)
    x = torch.randn(1, 3, 227, 227)
    with torch.no_grad():
        torch.testing.assert_close(dense(x), model(x))
    assert cnnzoo.count(dense).params.total == 62_378_344
    assert cnnzoo.count(dense).macs - cnnzoo.count(model).macs == 223_948_800 + 112_140_288 + 74_760_192


def test_depthwise_and_nested_groups_written_out(tiny_spec: cnnzoo.Spec) -> None:
    spec = cnnzoo.edit(tiny_spec, "block2/conv1", groups=4)
    model = cnnzoo.create(spec, seed=0).eval()
    dense = ungroup(model)
    x = torch.randn(3, 1, 8, 8)
    torch.testing.assert_close(dense(x), model(x))
    assert dense.state_dict().keys() == model.state_dict().keys()
    net = cnnzoo.Spec("g", (4, 8, 8), (Conv(8, kernel_size=3, groups=4), AdaptiveAvgPool(1), Flatten()), (Logits(2),))
    model = cnnzoo.create(net, seed=0)
    assert ungroup(model).features[0].weight.shape == (8, 4, 3, 3)
    lenet = cnnzoo.create("lenet5_1998", seed=0)  # buffers that are no part of the weights are there, too
    torch.testing.assert_close(ungroup(lenet)(x := torch.randn(1, 1, 32, 32)), lenet(x))
    with pytest.raises(InputError, match="ungrouped takes a network of the zoo"):
        ungroup(torchvision.models.alexnet())  # type: ignore[arg-type]
