"""A CNN as a conventional module: the attributes and methods of others, replaced layers, tables of blocks."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hub import TOKEN, LocalHub
from torch import nn

import cnnzoo
from cnnzoo.blocks import Logits
from cnnzoo.errors import ChangedModuleError, FileError, InputError, SpecError
from cnnzoo.preprocessing import Preprocessing

# --- the attributes of timm ---


@pytest.mark.parametrize("name", ["lenet", "lenet5_1998", "nin", "squeezenet1_1", "densenet_d2l", "resnet18"])
def test_forward_features_and_head(name: str) -> None:
    model = cnnzoo.create(name, seed=0, image_size=32 if name == "lenet5_1998" else 64).eval()
    x = torch.rand(2, *model.spec.input)
    features = model.forward_features(x)
    assert torch.equal(model.forward_head(features), model(x))
    assert features.shape[1] == model.num_features and model.in_channels == x.shape[1]
    hidden = model.forward_head(features, pre_logits=True)
    scores = model.get_classifier()(hidden)
    assert scores.shape[1] == model.num_classes == model.spec.num_classes
    if name.startswith(("lenet", "densenet", "resnet")):  # no block follows the scores
        assert torch.equal(scores, model(x))


def test_a_network_without_scores() -> None:
    spec = cnnzoo.Spec("features", (1, 8, 8), cnnzoo.get_spec("lenet").features[:2])
    model = cnnzoo.create(spec)
    assert isinstance(model.get_classifier(), nn.Identity) and model.num_classes is None
    x = torch.rand(1, 1, 8, 8)
    assert torch.equal(model.forward_head(model.forward_features(x), pre_logits=True), model(x))
    with pytest.raises(InputError, match="features has no block that scores classes; insert one"):
        model.reset_classifier(5)


def test_feature_info_is_what_runs() -> None:
    """Channels and strides of each stage, against maps of the network and of its backbone."""
    model = cnnzoo.create("alexnet", seed=0).eval()
    info = model.feature_info
    assert [(one["label"], one["num_chs"], one["reduction"]) for one in info] == [
        ("conv1", 96, 4), ("conv2", 256, 8), ("conv5", 256, 16), ("pool5", 256, 32)
    ]  # fmt: skip
    backbone = cnnzoo.backbone(model, [one["label"] for one in info])
    assert list(backbone.strides.values()) == [one["reduction"] for one in info]
    outs: dict[str, torch.Tensor] = {}
    for one in info:
        name = one["module"]
        model.get_submodule(name).register_forward_hook(lambda m, i, out, name=name: outs.update({name: out}))
    model(torch.rand(1, 1, 224, 224))
    assert [outs[one["module"]].shape[1] for one in info] == [one["num_chs"] for one in info]
    odd = cnnzoo.edit(cnnzoo.get_spec("lenet"), "pool1", stride=(2, 1))
    assert [one["label"] for one in cnnzoo.create(odd).feature_info] == ["conv1"]  # strides that differ are left out


def test_pretrained_cfg_is_that_of_config_json() -> None:
    model = cnnzoo.create("lenet", pretrained=True)
    config = model.pretrained_cfg
    assert config == model.describe()["pretrained_cfg"]
    assert (config["input_size"], config["num_classes"]) == ([1, 28, 28], 10)
    assert (config["first_conv"], config["classifier"]) == ("features.0", "classifier.4")
    assert config["mean"] == list(model.metadata.preprocessing.mean)


@pytest.mark.parametrize("name", ["lenet", "squeezenet1_1", "alexnet_owt"])
def test_reset_classifier(name: str, tmp_path: Path) -> None:
    model = cnnzoo.create(name, seed=0, image_size=64, width=0.25, dtype=torch.float64).eval()
    labels = [f"c{i}" for i in range(model.num_classes or 0)]
    model.metadata = model.metadata.replace(label_names=labels)
    others = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    layer, block = model.get_classifier(), model.spec.classifier
    state = torch.get_rng_state()
    model.reset_classifier(3)
    assert model.get_classifier() is not layer and not model.get_classifier().training
    assert model.num_classes == model.spec.num_classes == 3 and not model.changed_modules()
    assert [one.label for one in block] == [one.label for one in model.spec.classifier]  # labels stay
    changed = [key for key, tensor in model.state_dict().items() if not torch.equal(tensor, others[key])]
    assert all(tensor.dtype == torch.float64 for tensor in model.state_dict().values())
    assert {key.rpartition(".")[0] for key in changed} == {model.pretrained_cfg["classifier"]}
    assert model.metadata.label_names is None and model.metadata.provenance["kind"] == "adapted"
    assert f"is new, for 3 classes instead of {len(labels)}" in model.metadata.provenance["how"]
    assert not torch.equal(state, torch.get_rng_state())  # the weights are random
    cnnzoo.save(model, tmp_path / "m.safetensors")
    loaded = cnnzoo.load(tmp_path / "m.safetensors")
    x = torch.rand(2, *model.spec.input, dtype=torch.float64)
    assert torch.equal(loaded(x), model(x)) and loaded.spec == model.spec


def test_reset_classifier_refuses() -> None:
    model = cnnzoo.create("lenet", seed=0)
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(InputError, match="num_classes must be an integer from 1 to 16777216, not 0"):
        model.reset_classifier(0)
    with pytest.raises(SpecError, match="block 'output' has codes for 10 classes, not for num_classes=5"):
        cnnzoo.create("lenet5_1998").reset_classifier(5)
    assert all(torch.equal(tensor, before[key]) for key, tensor in model.state_dict().items())
    model.features[1] = nn.Identity()
    with pytest.raises(ChangedModuleError, match=r"lenet: these modules were changed by hand .* features\.1;"):
        model.reset_classifier(5)


# --- replaced layers ---


def replace_scores(model: cnnzoo.CNN) -> None:
    model.classifier[-1] = nn.Linear(84, 5)


def replace_scores_without_bias(model: cnnzoo.CNN) -> None:
    model.classifier[-1] = nn.Linear(84, 5, bias=False)


def replace_first_conv(model: cnnzoo.CNN) -> None:
    model.features[0] = nn.Conv2d(3, 6, 5, padding=2)


def replace_hidden_layers(model: cnnzoo.CNN) -> None:
    model.classifier[2], model.classifier[4] = nn.Linear(120, 30), nn.Linear(30, 2)


def replace_pool(model: cnnzoo.CNN) -> None:
    model.features[2] = nn.AvgPool2d(3, stride=2, padding=1)


@pytest.mark.parametrize(
    ("change", "labels", "classes"),
    [
        (replace_scores, "fc5", 5),
        (replace_scores_without_bias, "fc5", 5),
        (replace_first_conv, "conv1", 10),
        (replace_hidden_layers, "fc4, fc5", 2),
        (replace_pool, "pool1", 10),
    ],
)
def test_replaced_layers_that_a_spec_describes(
    change: Callable[[cnnzoo.CNN], None], labels: str, classes: int, tmp_path: Path
) -> None:
    model = cnnzoo.create("lenet", pretrained=True)
    change(model)
    x = torch.rand(2, model.in_channels, 28, 28)
    expected = model(x)
    assert model.num_classes == expected.shape[1] == classes
    cnnzoo.save(model, tmp_path / "m.safetensors")
    assert model.changed_modules() == [] and all(
        getattr(one, "label", "") for one in [*model.features, *model.classifier]
    )
    loaded = cnnzoo.load(tmp_path / "m.safetensors")
    assert torch.equal(loaded(x), expected) and loaded.spec == model.spec
    assert loaded.metadata.provenance["kind"] == "adapted" and [*loaded.metadata.origins()][-1]["kind"] == "trained"
    assert loaded.metadata.provenance["how"] == f"replaced by hand: {labels}"
    assert (loaded.metadata.label_names is None) == (classes != 10)  # of the classes before
    assert (loaded.metadata.preprocessing is None) == (model.in_channels != 1)
    if change is replace_scores:
        assert model.spec == cnnzoo.get_spec("lenet", num_classes=5)


def test_a_replaced_last_layer_trains(tmp_path: Path) -> None:
    model = cnnzoo.create("lenet", num_classes=7, seed=0)
    model.classifier[-1] = nn.Linear(84, 10)
    data = cnnzoo.load_data("fashion_mnist_sample")
    config = cnnzoo.TrainConfig(epochs=1, batch_size=500, lr_multipliers={"fc5": 2.0}, eval_every=0)
    cnnzoo.Trainer(model, data, config, out=tmp_path / "run").fit()
    assert cnnzoo.load(tmp_path / "run").spec == cnnzoo.get_spec("lenet")


@pytest.mark.parametrize(
    ("change", "name"),
    [
        (
            lambda m: m.classifier.__setitem__(4, nn.Sequential(nn.Linear(84, 9), nn.ReLU(), nn.Linear(9, 5))),
            "classifier.4",
        ),
        (lambda m: m.features.__setitem__(0, nn.Conv2d(1, 6, 5, padding="same")), "features.0"),
        (lambda m: m.features.__setitem__(0, nn.Conv2d(1, 7, 5, padding=2)), "features.0"),  # the next takes 6 maps
        (lambda m: m.features.append(nn.ReLU()), "features.7"),
        (lambda m: setattr(m, "extra", nn.Linear(2, 2)), "extra"),
        (lambda m: setattr(m, "classifier", nn.Linear(400, 10)), "classifier"),
    ],
)
def test_replaced_layers_that_no_spec_describes(
    change: Callable[[cnnzoo.CNN], None], name: str, tmp_path: Path
) -> None:
    model = cnnzoo.create("lenet", seed=0)
    change(model)
    with pytest.raises(ChangedModuleError, match=rf"differ from the Spec: {name}.*; change the Spec \(cnnzoo.edit"):
        cnnzoo.save(model, tmp_path / "m.safetensors")
    assert model.spec == cnnzoo.get_spec("lenet")
    assert str(model).endswith(f"changed by hand: {', '.join(model.changed_modules())}")


# --- the methods of Hugging Face ---


@pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")
def test_save_load_and_push_as_methods(tiny_spec: cnnzoo.Spec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = cnnzoo.create(tiny_spec, seed=0).eval()
    model.metadata = model.metadata.replace(preprocessing=Preprocessing(8, mean=[0.5], std=[0.25]))
    x = torch.rand(2, 1, 8, 8)
    assert model.save_pretrained(tmp_path / "m") == tmp_path / "m"
    assert torch.equal(cnnzoo.CNN.from_pretrained(tmp_path / "m")(x), model(x))
    with pytest.raises(FileError, match="exists already; choose another path, or pass overwrite=True"):
        model.save_pretrained(tmp_path / "m")
    model.save_pretrained(tmp_path / "m", overwrite=True)
    with LocalHub() as hub:
        commit = model.push_to_hub("ann/tiny", commit_message="First", token=TOKEN, endpoint=hub.url)
        options = {"token": TOKEN, "endpoint": hub.url, "cache_dir": tmp_path / "cache"}
        for source in ("ann/tiny", f"ann/tiny@{commit}", "hf://ann/tiny"):
            loaded = cnnzoo.CNN.from_pretrained(source, **options)
            assert torch.equal(loaded(x), model(x)) and loaded.metadata.provenance["source"].endswith(commit)
    monkeypatch.chdir(tmp_path)
    model.save_pretrained("ann/tiny")  # a path that exists is no repository
    assert torch.equal(cnnzoo.CNN.from_pretrained("ann/tiny")(x), model(x))
    assert torch.equal(pickle.loads(pickle.dumps(model))(x), model(x))


# --- tables of blocks ---


def test_print() -> None:
    lines = str(cnnzoo.get_spec("lenet")).splitlines()
    assert lines[0] == "lenet: images of 1x28x28, 10 classes, 61,706 parameters"
    assert lines[1].split() == ["label", "output", "parameters", "block"]
    assert lines[2] == "conv1    6x28x28          156  Conv(6, 5, padding=2, activation='sigmoid')"
    assert lines[-1] == "fc5      10               850  Logits(10)" and len(lines) == 10
    assert str(cnnzoo.create("lenet")) == str(cnnzoo.get_spec("lenet"))
    assert "(0): Conv2d(1, 6" in repr(cnnzoo.create("lenet"))  # torch's, by module


def test_print_of_branches_and_of_blocks_that_do_not_fit() -> None:
    lines = str(cnnzoo.get_spec("resnet18")).splitlines()
    assert len(lines) == 2 + 6 + 8 * 4 - 1
    assert [line.split(maxsplit=3) for line in lines[4:8]] == [
        ["layer1.0", "64x56x56", "73,984", "Parallel(merge='add', activation='relu')"],
        ["layer1.0/conv1", "64x56x56", "36,992", "1: Conv(64, 3, padding=1, bias=False, norm='batch')"],
        [
            "layer1.0/conv2",
            "64x56x56",
            "36,992",
            "1: Conv(64, 3, padding=1, bias=False, norm='batch', activation=None)",
        ],
        ["layer1.0", "64x56x56", "2:", "its input"],
    ]
    parameters = sum(p.numel() for p in cnnzoo.create("resnet18", device="meta").parameters())
    assert f"{parameters:,} parameters" in lines[0]
    broken = cnnzoo.Spec("broken", (1, 4, 4), cnnzoo.get_spec("lenet").features, (Logits(3),))
    lines = str(broken).splitlines()
    assert lines[0] == "broken: images of 1x4x4, 3 classes"  # the number of parameters is not known
    assert "cannot take 6x2x2  Conv(16, 5, activation='sigmoid')" in lines[4]
    assert lines[-1].split() == ["fc3", "Logits(3)"]
