"""Recipes are chosen by what a network is made of; saved networks are fine-tuned; variants have names of their own."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import nn

import cnnzoo
from cnnzoo.data import ImageData, Split
from cnnzoo.errors import InputError, UnknownNameError, WeightsError
from cnnzoo.knobs import folder_name, format_name, parse_name
from cnnzoo.train import choose_recipe
from cnnzoo.train.network_kind import network_kind


class Squash(nn.Module):
    """An activation that no list of ours knows."""


def layers(*activations: nn.Module) -> nn.Sequential:
    return nn.Sequential(*(module for activation in activations for module in (nn.Linear(4, 4), activation)))


@pytest.mark.parametrize(
    ("model", "kind", "reason"),
    [
        (layers(nn.Sigmoid(), nn.Tanh(), nn.ReLU()), "saturating", "2 of 3 activations saturate (Sigmoid, Tanh)"),
        (layers(nn.Sigmoid(), nn.ReLU()), "rectifying", "2 activations (Sigmoid, ReLU), 2 layers with weights"),
        (layers(nn.ReLU6(), nn.LeakyReLU(), nn.Hardswish()), "rectifying", "3 activations (ReLU6, LeakyReLU)"),
        (layers(nn.GELU(), nn.LayerNorm(4)), "normalized", "1 normalization (LayerNorm)"),
        (layers(nn.Sigmoid(), nn.BatchNorm1d(4)), "saturating", "1 of 1 activations saturate (Sigmoid)"),
        (layers(*(nn.ReLU() for _ in range(7))), "deep", "7 layers with weights, no normalization"),
        (layers(Squash()), "rectifying", "1 layers with weights; no module is a known activation"),
        (nn.Sequential(nn.LocalResponseNorm(5), nn.Linear(4, 4)), "rectifying", "no module is a known activation"),
    ],
)
def test_the_kind_of_any_module(model: nn.Module, kind: str, reason: str) -> None:
    result = network_kind(model)
    assert result.name == kind and reason in result.reason


@pytest.mark.parametrize(
    ("network", "kind"),
    [
        ("lenet", "saturating"),
        ("lenet5_1998", "saturating"),  # ScaledTanh
        ("lenet(activation=relu,pooling=max)", "rectifying"),
        ("lenet_caffe", "rectifying"),
        ("alexnet", "deep"),
        ("alexnet_2012", "deep"),  # local response normalization does not count
        ("vgg11", "deep"),
        ("vgg11_bn", "normalized"),
        ("resnet18", "normalized"),
        ("resnet18(norm=group:8)", "normalized"),
    ],
)
def test_the_kind_of_the_networks(network: str, kind: str) -> None:
    assert network_kind(cnnzoo.create(network, device="meta")).name == kind


def test_the_recipe_follows_from_the_modules() -> None:
    saturating = cnnzoo.recipe("quick", model="lenet")
    assert saturating == cnnzoo.recipe("quick/saturating") != cnnzoo.recipe("quick")
    rectifying = cnnzoo.get_spec("lenet", activation="relu", pooling="max")
    assert cnnzoo.recipe("quick", model=rectifying) == cnnzoo.recipe("quick/rectifying")
    lenet = cnnzoo.get_spec("lenet")
    other_name = cnnzoo.Spec("alexnet", lenet.input, lenet.features, lenet.classifier)
    assert cnnzoo.recipe("quick", model=other_name) == saturating
    assert cnnzoo.recipe("quick", model=layers(nn.Sigmoid())) == saturating
    assert cnnzoo.recipe("d2l/alexnet", model="lenet") == cnnzoo.recipe("d2l/alexnet")
    with pytest.raises(UnknownNameError, match="unknown recipe 'fast'"):
        cnnzoo.recipe("fast", model="lenet")
    with pytest.raises(UnknownNameError, match="unknown model 'lenett'"):
        cnnzoo.recipe("quick", model="lenett")


def test_trained_weights_are_kept(tmp_path: Path) -> None:
    new, trained = cnnzoo.create("lenet", seed=0), cnnzoo.create("lenet", pretrained=True)
    assert cnnzoo.recipe("quick", model=new).init == "xavier_uniform:4"
    choice = choose_recipe("quick", trained)
    assert choice.config.init is None and str(choice).endswith("saturate (Sigmoid); keeps trained weights")
    assert cnnzoo.recipe("fast/lenet", model=trained).init is None
    choice_with_init = choose_recipe("quick", trained, {"init": "normal:0.1", "epochs": 3})
    assert choice_with_init.config == choice.config.replace(init="normal:0.1", epochs=3)
    assert "keeps" not in choice_with_init.reason
    path = cnnzoo.save(trained, tmp_path / "x.safetensors")
    assert cnnzoo.recipe("quick", model=path) == choice.config


# --- names with knobs ---


def test_names_with_knobs() -> None:
    assert parse_name("lenet") == ("lenet", {})
    text = "lenet(activation=relu,in_channels=3,norm=none)"
    assert parse_name(text) == ("lenet", {"activation": "relu", "in_channels": 3, "norm": None})
    assert format_name("lenet", {"norm": None, "activation": "relu"}) == "lenet(norm=null,activation=relu)"
    assert parse_name("a( b = [1, 2] , c=x )") == ("a", {"b": [1, 2], "c": "x"})
    for wrong in (
        "lenet()",
        "lenet(relu)",
        "lenet(activation=)",
        "lenet(a=1,a=2)",
        "lenet(=1)",
        "lenet(activation=relu",
    ):
        with pytest.raises(InputError, match=r"write each knob once, as knob=value, .* 'lenet\(activation=relu"):
            parse_name(wrong)
    assert cnnzoo.create("lenet(num_classes=5)").spec.num_classes == 5
    assert cnnzoo.count("lenet(in_channels=3)").input_size == (1, 3, 28, 28)
    with pytest.raises(InputError, match=r"'lenet\(in_channels=3\)' and in_channels=1 set the same"):
        cnnzoo.create("lenet(in_channels=3)", in_channels=1)
    with pytest.raises(UnknownNameError, match="unknown knob of lenet 'activations'. Did you mean 'activation'"):
        cnnzoo.create("lenet(activations=relu)")


@pytest.mark.parametrize(
    ("name", "folder"),
    [
        ("lenet(activation=relu,pooling=max)", "lenet-activation-relu-pooling-max"),
        ("../../etc/passwd", "etc-passwd"),
        ("a b'$(x)`\n", "a-b-x"),
        ("..", "network"),
        ("größer", "größer"),
    ],
)
def test_names_as_folders(name: str, folder: str) -> None:
    assert folder_name(name) == folder


def names(*sources, **options) -> list[str]:
    return [report.name for report in cnnzoo.compare(*sources, **options).reports]


def test_compared_variants_have_different_names(tmp_path: Path) -> None:
    spec = cnnzoo.get_spec("lenet", activation="relu", pooling="max")
    assert names("lenet", spec) == ["lenet", "lenet(activation=relu,pooling=max)"]
    assert names(spec, cnnzoo.create("lenet", num_classes=3)) == [
        "lenet(activation=relu,pooling=max)",
        "lenet(num_classes=3)",
    ]
    assert names("lenet(width=2)", "alexnet") == ["lenet(width=2)", "alexnet"]
    assert names("lenet", "lenet", cnnzoo.edit(spec, "fc3", out_features=7)) == ["lenet", "lenet-2", "lenet-3"]
    saved = str(cnnzoo.save(cnnzoo.create(spec), tmp_path / "x.safetensors"))
    assert names("lenet", saved) == ["lenet", saved]
    assert names("lenet", spec, names=["old", "new"]) == ["old", "new"]
    assert (
        names(
            "lenet",
            nn.Sequential(nn.Conv2d(1, 2, 3)),
            train=None,
            preprocessing=cnnzoo.Preprocessing((28, 28), (0.0,), (1.0,)),
        )[1]
        == "Sequential"
    )
    for wrong in (["a"], ["a", "a"], "ab", ["a", " "], ["a", 1]):
        with pytest.raises(InputError, match="names must be 2 different strings, one per network"):
            names("lenet", spec, names=wrong)


def test_published_figures_are_those_of_registered_networks() -> None:
    assert cnnzoo.compare("alexnet", "lenet").notes
    assert not cnnzoo.compare("alexnet", "lenet(activation=relu)").notes


@pytest.fixture(scope="module")
def tiny() -> ImageData:
    data = cnnzoo.load_data("fashion_mnist_sample")
    return ImageData("tiny", data.train[:64], data.test[:32], data.classes)


@pytest.fixture(scope="module")
def tiny_fives(tiny: ImageData) -> ImageData:
    """The same images in two classes."""
    train, test = (Split(split.images, (split.labels > 4).long()) for split in (tiny.train, tiny.test))
    return ImageData("fives", train, test, ("low", "high"))


def test_compared_networks_of_one_kind_get_one_recipe(tiny: ImageData, tmp_path: Path, capsys) -> None:
    networks = ("lenet", "lenet(activation=relu)", cnnzoo.get_spec("lenet", pooling="max"))
    comparison = cnnzoo.compare(*networks, train=tiny, settings={"epochs": 1}, out=tmp_path / "out")
    assert [result["recipe"] for result in comparison.results] == [
        "quick/saturating",
        "quick/rectifying",
        "quick/saturating",
    ]
    assert "quick/rectifying" in comparison.results_table().text()
    folders = ["lenet", "lenet-activation-relu", "lenet-pooling-max"]
    assert sorted(path.name for path in (tmp_path / "out").iterdir() if path.is_dir()) == folders
    info = json.loads((tmp_path / "out" / "lenet-activation-relu" / "train.json").read_text())
    assert info["recipe"] == {"name": "quick/rectifying", "reason": "4 activations (ReLU), 5 layers with weights"}
    error = capsys.readouterr().err
    assert "lenet(activation=relu): recipe quick/rectifying: 4 activations (ReLU)" in error
    assert "lenet(pooling=max) epoch 1/1" in error


# --- trained weights ---


def test_saved_networks_continue_from_their_weights(tiny: ImageData, tiny_fives: ImageData, tmp_path: Path) -> None:
    """Also in compare and seed_sweep: no saved network is ever trained from random weights in silence."""
    path = str(cnnzoo.save(cnnzoo.create("lenet", pretrained=True), tmp_path / "x.safetensors"))
    still = {"epochs": 1, "lr": 0.0}
    comparison = cnnzoo.compare(path, "lenet", train=tiny, settings=still)
    assert comparison.results[0]["test_acc"] > 0.7 > comparison.results[1]["test_acc"]
    config = cnnzoo.recipe("quick", model=path).replace(**still)
    sweep = cnnzoo.seed_sweep(path, tiny, config, seeds=1, show=False)
    assert sweep.mean() > 0.7 and sweep.runs[0].model.metadata.provenance["from"]["kind"] == "trained"
    with pytest.warns(UserWarning, match="classifier.4 is new, for 2 classes instead of 10"):
        sweep = cnnzoo.seed_sweep(path, tiny_fives, config, seeds=1, show=False)
    assert torch.equal(sweep.runs[0].model.features[0].weight, cnnzoo.load(path).features[0].weight)


def test_dropout_on_a_saved_network(tmp_path: Path) -> None:
    trained = cnnzoo.create("lenet", pretrained=True)
    path = cnnzoo.save(trained, tmp_path / "x.safetensors")
    with pytest.warns(UserWarning, match="blocks that differ from training: drop3, drop4"):
        model = cnnzoo.create(path, dropout=0.5)
    x = torch.randn(2, 1, 28, 28)
    assert torch.equal(model.eval()(x), trained.eval()(x))
    with pytest.raises(WeightsError, match=r"classifier.0.weight \(fc3\)"):
        cnnzoo.weights.adapt(trained, cnnzoo.remove(trained.spec, "fc3"))


def test_what_to_type(tmp_path: Path) -> None:
    model = cnnzoo.create("lenet")
    path = str(cnnzoo.save(model, tmp_path / "x.safetensors"))
    for call, line in (
        (lambda: cnnzoo.load(path, num_classes=5), f"cnnzoo.create({path!r}, num_classes=5)"),
        (lambda: cnnzoo.get_spec(model.spec, dropout=0.5), "cnnzoo.edits.apply_knobs(spec, dropout=0.5)"),
        (lambda: cnnzoo.get_spec(model), "cnnzoo.edits.apply_knobs(model.spec, activation='relu')"),
        (lambda: cnnzoo.get_spec(None), "get_spec returns the Spec of a name, such as 'lenet', not of a NoneType"),
    ):
        with pytest.raises(InputError) as error:
            call()
        assert line in str(error.value)
