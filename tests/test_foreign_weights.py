"""State dicts and repositories of others: names of torchvision, timm, transformers; prefixes, checkpoints, pickles."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner
from hub import LocalHub
from safetensors.torch import save, save_file

import cnnzoo
from cnnzoo.cli import main
from cnnzoo.errors import CnnzooError, FileError, InputError, UnknownNameError, WeightsError
from cnnzoo.weights import load_state_dict
from cnnzoo.weights.key_maps import twin_keys

pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")

State = dict[str, torch.Tensor]

# names of ours -> theirs, beside those of torchvision; scores were compared with timm 1.0.31 and transformers 5.24
TIMM_VGG = {"classifier.0.": "pre_logits.fc1.", "classifier.3.": "pre_logits.fc2.", "classifier.6.": "head.fc."}


@pytest.fixture
def state() -> State:
    return random_state("lenet", width=0.125)


@pytest.fixture
def resnet_state() -> State:
    return random_state("resnet18", width=0.125)


def random_state(name: str, **knobs: Any) -> State:
    """Weights and statistics of a network, all different."""
    model = cnnzoo.create(name, seed=0, **knobs)
    generator = torch.Generator().manual_seed(1)
    for key, tensor in model.state_dict().items():
        if "running" in key:
            tensor.uniform_(0.5, 1.5, generator=generator)
    return {key: tensor.clone() for key, tensor in model.state_dict().items()}


def small(name: str = "resnet18", **knobs: Any) -> cnnzoo.CNN:
    return cnnzoo.create(name, seed=5, **{"width": 0.125, **knobs})


def with_names_of_torchvision(name: str, state: State) -> State:
    return {key: state[own] for own, key in twin_keys(cnnzoo.create(name, device="meta")).items()}


def with_names_of_timm(state: State) -> State:
    """Of a VGG: dense layers as convolutions."""
    names = {key: next((key.replace(a, b) for a, b in TIMM_VGG.items() if key.startswith(a)), key) for key in state}
    result = {names[key]: tensor for key, tensor in state.items()}
    first = result["pre_logits.fc1.weight"]
    result["pre_logits.fc1.weight"] = first.reshape(len(first), -1, 7, 7)
    result["pre_logits.fc2.weight"] = result["pre_logits.fc2.weight"][..., None, None]
    return result


def with_names_of_transformers(state: State) -> State:
    """Of a ResNet."""

    def rename(key: str) -> str:
        key = re.sub(r"^layer(\d)\.", lambda m: f"resnet.encoder.stages.{int(m[1]) - 1}.layers.", key)
        key = re.sub(r"\.conv(\d)\.", lambda m: f".layer.{int(m[1]) - 1}.convolution.", key)
        key = re.sub(r"\.bn(\d)\.", lambda m: f".layer.{int(m[1]) - 1}.normalization.", key)
        key = key.replace(".downsample.0.", ".shortcut.convolution.").replace(
            ".downsample.1.", ".shortcut.normalization."
        )
        key = re.sub("^conv1", "resnet.embedder.embedder.convolution", key)
        return re.sub("^fc", "classifier.1", re.sub("^bn1", "resnet.embedder.embedder.normalization", key))

    return {rename(key): tensor for key, tensor in with_names_of_torchvision("resnet18", state).items()}


def require_equal(model: cnnzoo.CNN, state: State) -> None:
    assert all(torch.equal(tensor, state[key]) for key, tensor in model.state_dict().items())


# --- names ---


@pytest.mark.parametrize(
    ("rename", "names"),
    [
        (lambda state: state, "cnnzoo"),
        (lambda state: with_names_of_torchvision("resnet18", state), "torchvision"),
        (with_names_of_transformers, "transformers"),
    ],
)
def test_names_are_recognized(
    rename: Callable[[State], State], names: str, resnet_state: State, tmp_path: Path
) -> None:
    model = small()
    load_state_dict(model, rename(resnet_state))
    require_equal(model, resnet_state)
    assert model.metadata.provenance == {"kind": "state_dict", "source": "the state dict", "names": names}
    save_file(rename(resnet_state), tmp_path / "theirs.safetensors")
    model = cnnzoo.create("resnet18", width=0.125, pretrained=tmp_path / "theirs.safetensors")
    require_equal(model, resnet_state)
    assert model.metadata.provenance == {"kind": "state_dict", "source": "theirs.safetensors", "names": names}
    assert not model.training


def test_names_of_timms_vgg() -> None:
    state = random_state("vgg11", width=0.05)
    theirs = with_names_of_timm(state)
    assert theirs["pre_logits.fc1.weight"].dim() == 4
    model = small("vgg11", width=0.05)
    load_state_dict(model, theirs)
    require_equal(model, state)
    assert model.metadata.provenance["names"] == "timm"


def test_names_of_old_densenets() -> None:
    """Files of torchvision from 2017: other names, and no counters of batch norm."""
    state = random_state("densenet121", width=0.25)
    theirs = with_names_of_torchvision("densenet121", state)
    old = {re.sub(r"(denselayer\d+\.(?:norm|conv))(\d)\.", r"\1.\2.", key): tensor for key, tensor in theirs.items()}
    assert "features.denseblock1.denselayer1.norm.1.weight" in old
    old = {key: tensor for key, tensor in old.items() if not key.endswith("num_batches_tracked")}
    model = small("densenet121", width=0.25)
    load_state_dict(model, old)
    require_equal(model, state)


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "model.", "module._orig_mod.", "a.b.c."])
def test_a_common_prefix_is_removed(prefix: str, state: State, resnet_state: State) -> None:
    others = (with_names_of_torchvision("resnet18", resnet_state), with_names_of_transformers(resnet_state))
    for name, theirs in [("lenet", state), *(("resnet18", other) for other in others if prefix == "module.")]:
        model = small(name)
        with pytest.warns(UserWarning, match=rf"^the state dict: the prefix '{prefix}' of its names is removed$"):
            load_state_dict(model, {prefix + key: tensor for key, tensor in theirs.items()})
        require_equal(model, state if name == "lenet" else resnet_state)


# --- checkpoints and files ---


@pytest.mark.parametrize("key", ["state_dict", "model", "model_state_dict"])
def test_checkpoints_are_opened(key: str, state: State, tmp_path: Path) -> None:
    content = {key: state, "epoch": 3, "optimizer": {"state": {}}}
    torch.save(content, tmp_path / "c.pth")
    for source in (content, tmp_path / "c.pth", str(tmp_path / "c.pth")):
        model = small("lenet")
        with pytest.warns(UserWarning, match=f"the state dict under '{key}' is read, not epoch, optimizer"):
            load_state_dict(model, source)
        require_equal(model, state)


@pytest.mark.parametrize("suffix", [".pth", ".pt", ".bin", ".ckpt"])
@pytest.mark.parametrize("is_zip", [True, False])
def test_files_of_torch_save(suffix: str, is_zip: bool, state: State, tmp_path: Path) -> None:
    torch.save(state, tmp_path / f"m{suffix}", _use_new_zipfile_serialization=is_zip)
    model = cnnzoo.create("lenet", width=0.125, pretrained=str(tmp_path / f"m{suffix}"))
    require_equal(model, state)


def test_a_pickle_with_code_is_not_opened(tmp_path: Path) -> None:
    torch.save(cnnzoo.create("lenet"), tmp_path / "m.pth")
    with pytest.raises(
        WeightsError, match=r"m.pth is a pickle with more than tensors, which could run any code, and is"
    ):
        load_state_dict(cnnzoo.create("lenet"), tmp_path / "m.pth")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("m.pth", b"", "m.pth is no file of torch.save"),
        ("m.pth", b"PK\x03\x04 and more", "m.pth is damaged or no file of torch.save"),
        ("m.pth", b"\x80\x02}q\x00.", "m.pth is damaged or no file of torch.save|holds no state dict"),
        ("m.pth", save({"a": torch.zeros(2)}), r"m.pth is a safetensors file; name it \*.safetensors"),
        ("m.safetensors", b"PK\x03\x04", "m.safetensors is not a complete safetensors file"),
        ("m.npz", b"PK\x03\x04", "the suffix of a state dict must be one of .safetensors, .pth"),
    ],
)
def test_files_that_hold_no_state_dict(name: str, content: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises((WeightsError, FileError), match=message):
        load_state_dict(cnnzoo.create("lenet"), tmp_path / name)


def test_values_that_are_no_state_dict(state: State) -> None:
    model = small("lenet")
    with pytest.raises(FileError, match=r"nowhere\.pth does not exist"):
        load_state_dict(model, "nowhere.pth")
    with pytest.raises(WeightsError, match="the state dict holds a list, not a state dict"):
        load_state_dict(model, [1])  # type: ignore[arg-type]
    with pytest.raises(WeightsError, match=r"holds no state dict: it has epoch \(int\)"):
        load_state_dict(model, {"epoch": 1})  # type: ignore[dict-item]
    with pytest.raises(
        WeightsError, match=r"holds no state dict: it has teacher \(dict\).*; pass one of these: 'teacher'"
    ):
        load_state_dict(model, {"teacher": state, "student": state})  # type: ignore[dict-item]
    with pytest.raises(WeightsError, match="these entries are no tensors: epoch"):
        load_state_dict(model, {**state, "epoch": 1})  # type: ignore[dict-item]
    with pytest.raises(InputError, match="expected a cnnzoo network, not Linear"):
        load_state_dict(torch.nn.Linear(2, 2), state)  # type: ignore[arg-type]


# --- what does not fit ---


def damage(change: Callable[[State], object]) -> Callable[[State], State]:
    def apply(state: State) -> State:
        state = dict(state)
        change(state)
        return state

    return apply


@pytest.mark.parametrize(
    ("knobs", "change", "hint"),
    [
        ({"num_classes": 7}, damage(lambda s: None), "Build the network with num_classes=1000"),
        ({"in_channels": 1}, damage(lambda s: None), "Build the network with in_channels=3"),
        (
            {"num_classes": 7, "in_channels": 1},
            damage(lambda s: None),
            "Build the network with num_classes=1000, in_channels",
        ),
        (
            {},
            lambda s: {f"x{i}.weight": t for i, t in enumerate(s.values())},
            "No name is one of resnet18, such as 'features.0",
        ),
        ({}, damage(lambda s: s.update({"loss.weight": torch.zeros(3)})), "leave out loss, which resnet18 lacks"),
        ({}, damage(lambda s: s.pop("classifier.0.weight")), "resnet18 needs all of its weights"),
        ({"width": 0.25}, damage(lambda s: None), "The names fit: build resnet18 with the sizes of the state dict"),
    ],
)
def test_hints(knobs: dict[str, Any], change: Callable[[State], State], hint: str, resnet_state: State) -> None:
    model = small(**knobs)
    before = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    with pytest.raises(WeightsError) as error:
        load_state_dict(model, change(resnet_state))
    text = str(error.value)
    assert hint in text and "tensors do not fit the network: " in text
    assert text.count("; ") < 20 and len(text) < 2000
    require_equal(model, before)


def test_the_hint_names_the_network() -> None:
    state = {
        key: torch.empty_like(tensor, device="meta")
        for key, tensor in cnnzoo.create("resnet34", device="meta").state_dict().items()
    }
    with pytest.raises(WeightsError, match=r"; and \d+ more\. resnet34 has as many weights as the state dict$"):
        load_state_dict(cnnzoo.create("resnet18", device="meta"), state)


def test_two_names_for_one_weight(resnet_state: State) -> None:
    both = {**with_names_of_transformers(resnet_state), "conv1.weight": resnet_state["features.0.weight"]}
    with pytest.raises(WeightsError, match=r"resnet.embedder.embedder.convolution.weight and conv1.weight are both"):
        load_state_dict(small(), both)


def test_weights_that_are_not_finite(state: State) -> None:
    state["features.0.weight"][0] = float("nan")
    with pytest.warns(UserWarning, match=r"tensors have NaN or infinite values: features\.0\.weight"):
        load_state_dict(small("lenet"), state)


# --- create and import ---


def test_a_file_for_other_classes_and_channels(tmp_path: Path) -> None:
    state = random_state("lenet", num_classes=4, in_channels=3)
    torch.save(state, tmp_path / "m.pth")
    model = cnnzoo.create("lenet", pretrained=tmp_path / "m.pth")
    require_equal(model, state)
    assert model.spec == cnnzoo.get_spec("lenet", num_classes=4, in_channels=3)
    with pytest.warns(
        UserWarning, match=r"classifier.4 is new, for 6 classes instead of 4; features.0 takes 1 channel"
    ):
        model = cnnzoo.create("lenet", pretrained=tmp_path / "m.pth", num_classes=6, in_channels=1)
    assert model(torch.rand(2, 1, 28, 28)).shape == (2, 6)
    cnnzoo.save(cnnzoo.create("lenet", pretrained=True), tmp_path / "ours.safetensors")
    model = cnnzoo.create("lenet", pretrained=tmp_path / "ours.safetensors")
    assert model.metadata == cnnzoo.create("lenet", pretrained=True).metadata  # it describes its network


def test_import_in_the_shell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    state = random_state("resnet18", width=0.125, num_classes=5)
    torch.save(with_names_of_torchvision("resnet18", state), "theirs.pth")
    command = ["import", "theirs.pth", "--as", "resnet18", "-k", "width=0.125", "-o", "m.safetensors"]
    result = CliRunner().invoke(main, command)
    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines() == [
        "m.safetensors: resnet18, 5 classes, 177,037 parameters, from theirs.pth with the names of torchvision"
    ]
    require_equal(cnnzoo.load("m.safetensors"), state)
    again = CliRunner().invoke(main, command)
    assert again.exit_code == 1 and "exists already" in again.stderr
    assert CliRunner().invoke(main, [*command, "--overwrite"]).exit_code == 0
    wrong = CliRunner().invoke(main, ["import", "theirs.pth", "--as", "lenet", "-o", "l.safetensors"])
    assert wrong.exit_code == 1 and "No name is one of lenet" in wrong.stderr
    assert CliRunner().invoke(main, ["import", "theirs.pth", "-o", "l.safetensors"]).exit_code == 2


# --- repositories of timm and transformers ---

TIMM_CFG = {
    "tag": "a1_in1k", "input_size": [3, 64, 64], "interpolation": "bicubic", "crop_pct": 0.95, "crop_mode": "center",
    "mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225], "num_classes": 6, "first_conv": "conv1",
}  # fmt: skip


def timm_files(state: State, architecture: str = "resnet18") -> dict[str, bytes | None]:
    config = {"architecture": architecture, "num_classes": 6, "num_features": 512, "pretrained_cfg": TIMM_CFG}
    return {"config.json": json.dumps(config).encode(), "model.safetensors": save(state, {"format": "pt"})}


def test_a_repository_of_timm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    state = random_state("squeezenet1_1", num_classes=6)
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "cache"))
    with LocalHub() as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        commit = hub.add("timm/squeezenet1_1.x", timm_files(state, "squeezenet1_1"))
        model = cnnzoo.load("hf://timm/squeezenet1_1.x", endpoint=hub.url, cache_dir=tmp_path / "cache")
        require_equal(model, state)
        preprocessing = model.metadata.preprocessing
        assert (preprocessing.size, preprocessing.crop_pct, preprocessing.interpolation) == ((64, 64), 0.95, "bicubic")
        assert model.spec == cnnzoo.get_spec("squeezenet1_1", num_classes=6, image_size=64)
        assert model.metadata.provenance["source"] == f"hf://timm/squeezenet1_1.x@{commit}"
        hub.add("timm/vit.x", timm_files(state, "vit_tiny"))
        with pytest.raises(
            WeightsError, match="names the architecture 'vit_tiny' of timm, which is no network of cnnzoo"
        ):
            cnnzoo.load("hf://timm/vit.x", endpoint=hub.url, cache_dir=tmp_path / "cache")
        hub.add("ann/pickle", {"config.json": b"{}", "pytorch_model.bin": b"pickle"})
        with pytest.raises(CnnzooError, match=r"has no model.safetensors; it holds config.json, pytorch_model.bin"):
            cnnzoo.load("hf://ann/pickle", endpoint=hub.url, cache_dir=tmp_path / "cache")
        assert not any("pytorch_model.bin" in request for request in hub.requests)


def test_a_folder_of_transformers(tmp_path: Path) -> None:
    state = random_state("resnet18", num_classes=2)
    config = {
        "model_type": "resnet", "architectures": ["ResNetForImageClassification"], "layer_type": "basic",
        "depths": [2, 2, 2, 2], "hidden_act": "relu", "id2label": {"0": "cat", "1": "dog"},
    }  # fmt: skip
    processor = {
        "feature_extractor_type": "ConvNextFeatureExtractor", "size": {"shortest_edge": 96}, "crop_pct": 0.875,
        "image_mean": [0.5] * 3, "image_std": [0.25] * 3, "resample": 3,
    }  # fmt: skip
    save_file(with_names_of_transformers(state), tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(processor))
    model = cnnzoo.load(tmp_path, dtype=torch.float64)
    assert model.metadata.label_names == ("cat", "dog") and model.features[0].weight.dtype == torch.float64
    preprocessing = model.metadata.preprocessing
    assert (preprocessing.size, preprocessing.crop_pct, preprocessing.crop_mode) == ((96, 96), 0.875, "center")
    assert model.metadata.provenance["names"] == "transformers"
    for change in ({"hidden_act": "gelu"}, {"depths": [1, 2, 2, 2]}, {"model_type": "vit"}):
        (tmp_path / "config.json").write_text(json.dumps({**config, **change}))
        with pytest.raises(
            WeightsError, match="describes a network of transformers, .*, which is no network of cnnzoo"
        ):
            cnnzoo.load(tmp_path)


def test_tags_of_timm(monkeypatch: pytest.MonkeyPatch) -> None:
    tags = cnnzoo.list_pretrained("resnet18", "timm/*")
    assert [weights.tag for weights in tags][:2] == ["timm/resnet18.a1_in1k", "timm/resnet18.a2_in1k"]
    assert tags[0].license == "apache-2.0" and tags[0].url == "https://huggingface.co/timm/resnet18.a1_in1k"
    sources: list[str] = []
    trained = cnnzoo.create("resnet18", device="meta")
    monkeypatch.setattr("cnnzoo.weights.sources.load", lambda source: sources.append(source) or trained)
    assert cnnzoo.create("resnet18", pretrained="timm/resnet18.a1_in1k") is trained
    assert cnnzoo.create("resnet18", pretrained="timm") is trained
    assert sources == ["hf://timm/resnet18.a1_in1k"] * 2
    with pytest.raises(
        UnknownNameError, match=r"unknown pretrained weights of resnet18 'timm/resnet18.a9_in1k'. Did you"
    ):
        cnnzoo.create("resnet18", pretrained="timm/resnet18.a9_in1k")
    with pytest.raises(InputError, match="there are no timm weights of lenet, only of densenet121"):
        cnnzoo.create("lenet", pretrained="timm")
