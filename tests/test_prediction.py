"""Predictions, shipped weights, and export."""

from __future__ import annotations

import json
from importlib import import_module
from pathlib import Path

import pytest
import torch
import torchvision
from click.testing import CliRunner, Result
from PIL import Image

import cnnzoo
from cnnzoo.cli import main
from cnnzoo.data import ImageData, load_data
from cnnzoo.data.decoding import Decoding
from cnnzoo.errors import DataError, FileError, InputError, UnknownNameError, WeightsError
from cnnzoo.metadata import Metadata
from cnnzoo.preprocessing import Preprocessing
from cnnzoo.weights.shipped_files import MAX_SHIPPED_BYTES, shipped_file


@pytest.fixture(scope="module")
def data() -> ImageData:
    return load_data("fashion_mnist_sample")


@pytest.fixture
def trouser(tmp_path: Path, data: ImageData) -> Path:
    index = int((data.test.labels == data.classes.index("Trouser")).nonzero()[0])
    Image.fromarray(data.test.images[index, 0].numpy()).save(tmp_path / "trouser.png")
    return tmp_path / "trouser.png"


SHIPPED = cnnzoo.list_models(pretrained=True)
EXPORT = import_module("cnnzoo.weights.export")  # the attribute of cnnzoo.weights is the function


# --- shipped weights ---


def test_shipped_names() -> None:
    assert SHIPPED == ["lenet", "lenet5_1998"]
    assert cnnzoo.list_models("alex*", pretrained=True) == []
    assert "alexnet_owt" in cnnzoo.list_models(pretrained="torchvision")
    assert CliRunner().invoke(main, ["list", "--pretrained"]).stdout.split() == SHIPPED
    with pytest.raises(UnknownNameError, match="unknown source of pretrained weights 'imagenet'. Known: .*shipped"):
        cnnzoo.list_models(pretrained="imagenet")


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_weights_have_the_accuracy_in_their_provenance(name: str) -> None:
    assert shipped_file(name).stat().st_size <= MAX_SHIPPED_BYTES
    model = cnnzoo.create(name, pretrained=True)
    assert model.spec == cnnzoo.get_spec(name) and not model.training
    provenance = model.metadata.provenance
    assert (provenance["kind"], provenance["data"]) == ("trained", "fashion_mnist")
    cnnzoo.TrainConfig.from_dict(provenance["config"])
    evaluation = cnnzoo.evaluate(name, load_data("fashion_mnist_sample"))
    assert abs(evaluation.top1 - provenance["test_acc"]) < 0.03  # 1,000 of the 10,000 test images


def test_shipped_weights_for_other_classes() -> None:
    with pytest.warns(UserWarning, match="lenet: classifier.4 is new, for 3 classes instead of 10; features.0 takes 3"):
        model = cnnzoo.create("lenet", pretrained=True, num_classes=3, in_channels=3, seed=0)
    assert model(torch.randn(2, 3, 28, 28)).shape == (2, 3)
    assert model.metadata.provenance["from"]["kind"] == "trained"
    with pytest.warns(UserWarning, match="blocks that differ from training: conv1, conv2, fc3, fc4$"):
        model = cnnzoo.create("lenet", pretrained=True, activation="relu")
    assert model.metadata.provenance["how"] == "blocks that differ from training: conv1, conv2, fc3, fc4"
    with pytest.raises(WeightsError, match=r"classifier.0.weight: file \(120, 400\) F32, model \(120, 784\) F32"):
        cnnzoo.create("lenet", pretrained=True, image_size=36)


def test_networks_without_shipped_weights() -> None:
    with pytest.raises(InputError) as error:
        cnnzoo.create("alexnet_owt", pretrained=True)
    assert str(error.value) == (
        "there are no shipped weights of alexnet_owt, only of lenet, lenet5_1998. Pass a file, a folder or a "
        "repository to create() instead, such as create('runs/alexnet_owt') or create('hf://user/alexnet_owt'), or "
        "pretrained='torchvision.IMAGENET1K_V1'"
    )
    with pytest.raises(InputError, match=r"no shipped weights of alexnet, .*create\('hf://user/alexnet'\)$"):
        cnnzoo.create("alexnet", pretrained=True)


def test_a_saved_network_has_its_weights(tmp_path: Path, tiny_spec: cnnzoo.Spec) -> None:
    path = str(cnnzoo.save(cnnzoo.create(tiny_spec, seed=0), tmp_path / "m"))
    assert cnnzoo.count(path).params == cnnzoo.count(tiny_spec).params
    assert cnnzoo.create(Path(path), dtype=torch.float64).features[0].weight.dtype == torch.float64
    with pytest.raises(InputError, match="is a saved network with weights; leave out pretrained="):
        cnnzoo.create(path, pretrained=True)
    with pytest.raises(InputError, match="the meta device holds no weights"):
        cnnzoo.create(path, device="meta")
    (tmp_path / "m" / "model.safetensors").unlink()
    assert cnnzoo.count(path).macs == cnnzoo.count(tiny_spec).macs  # a count needs no weights
    with pytest.raises(FileError, match="model.safetensors does not exist; the folder holds README.md, config.json"):
        cnnzoo.create(path)


# --- predict ---


def test_predict(trouser: Path, data: ImageData) -> None:
    prediction = cnnzoo.predict("lenet", str(trouser))
    assert prediction.label == "Trouser" and prediction.probabilities.shape == (10,)
    assert prediction.probabilities.sum().item() == pytest.approx(1)
    top = prediction.top()
    assert len(top) == 5 and [p for _, p in top] == sorted((p for _, p in top), reverse=True)
    assert str(prediction).splitlines()[0].split() == ["Trouser", f"{top[0][1]:.2%}"]
    model = cnnzoo.create("lenet", pretrained=True)
    many = cnnzoo.predict(
        model, [trouser, Image.open(trouser), Image.open(trouser).convert("RGB"), data.test.images[0]]
    )
    assert not model.training and [one.label for one in many[:3]] == ["Trouser"] * 3
    assert torch.equal(many[0].probabilities, many[1].probabilities)


def test_predict_agrees_with_evaluate(data: ImageData) -> None:
    model = cnnzoo.create("lenet5_1998", pretrained=True)  # 28 px resized to 32
    predictions = cnnzoo.predict(model, list(data.test.images[:200]))
    labels = data.test.labels[:200]
    correct = sum(p.label == data.classes[label] for p, label in zip(predictions, labels, strict=True))
    part = ImageData("part", data.train, data.test[:200], data.classes)
    assert correct / 200 == cnnzoo.evaluate(model, part).top1


def test_transforms_equal_those_of_torchvision() -> None:
    model = cnnzoo.create("alexnet_owt", width=0.1)
    preset = torchvision.models.AlexNet_Weights.IMAGENET1K_V1.transforms()
    preprocessing = Preprocessing(224, preset.mean, preset.std, crop_mode="center", crop_pct=0.875)
    model.metadata = model.metadata.replace(preprocessing=preprocessing)
    for size in ((300, 400), (500, 333), (100, 100), (257, 1000)):
        image = Image.fromarray(torch.randint(0, 256, (*size, 3), dtype=torch.uint8).numpy())
        torch.testing.assert_close(cnnzoo.transforms(model)(image), preset(image), rtol=0, atol=1e-5)


def test_the_preprocessing_is_saved(tmp_path: Path, tiny_spec: cnnzoo.Spec) -> None:
    model = cnnzoo.create(tiny_spec, seed=0)
    preprocessing = Preprocessing(8, [0.5], [0.5], "border", 0.8, "bicubic", Decoding(12, 0, False))
    model.metadata = model.metadata.replace(preprocessing=preprocessing)
    cnnzoo.save(model, tmp_path / "m")
    again, card = cnnzoo.load(tmp_path / "m"), (tmp_path / "m" / "README.md").read_text()
    assert again.metadata == model.metadata and cnnzoo.transforms(again) == preprocessing
    assert "shrunk to fit into 10x10 px (bicubic); padded with black to 8x8 px;" in card
    assert cnnzoo.transforms(again)(torch.zeros(1, 9, 13, dtype=torch.uint8)).shape == (1, 8, 8)
    assert cnnzoo.predict(again, torch.zeros(1, 9, 13, dtype=torch.uint8)).classes == ["0", "1", "2"]
    with pytest.warns(UserWarning, match="takes 3 channels instead of 1"):
        adapted = cnnzoo.create(tmp_path / "m", in_channels=3)
    assert adapted.metadata.preprocessing == preprocessing.replace(mean=[0.5] * 3, std=[0.5] * 3)


def test_what_is_not_an_image(trouser: Path, tmp_path: Path) -> None:
    (tmp_path / "x.png").write_text("no image")
    with pytest.raises(DataError, match="x.png cannot be read as an image"):
        cnnzoo.predict("lenet", tmp_path / "x.png")
    with pytest.raises(DataError, match="none.png cannot be read as an image: .*No such file"):
        cnnzoo.predict("lenet", "none.png")
    with pytest.raises(InputError, match=r"an image must be uint8 \(1, H, W\), not torch.float32 \(1, 28, 28\)"):
        cnnzoo.predict("lenet", torch.zeros(1, 28, 28))
    with pytest.raises(InputError, match=r"not torch.uint8 \(2, 1, 28, 28\); give several images as a list"):
        cnnzoo.predict("lenet", torch.zeros(2, 1, 28, 28, dtype=torch.uint8))
    with pytest.raises(InputError, match="a path, a PIL image or a uint8 tensor, not int"):
        cnnzoo.predict("lenet", 3)
    with pytest.raises(InputError, match="more than 8 bits"):
        cnnzoo.predict("lenet", Image.new("I", (28, 28)))
    model = cnnzoo.create("lenet")
    with pytest.raises(InputError, match=r"lenet has no preprocessing: .* pass preprocessing=cnnzoo.Preprocessing"):
        cnnzoo.predict(model, trouser)
    two_channels = Preprocessing(28, mean=[0.1, 0.2], std=[1.0, 1.0])
    with pytest.raises(InputError, match=r"\(C, H, W\) = \(1, 28, 28\), and the preprocessing returns \(2, 28, 28\)"):
        model.metadata = Metadata(preprocessing=two_channels)
    with pytest.raises(InputError, match="Linear has no preprocessing"):
        cnnzoo.transforms(torch.nn.Linear(1, 1))
    with pytest.raises(InputError, match="Linear has no preprocessing"):
        cnnzoo.predict(torch.nn.Linear(1, 1), trouser)
    with pytest.raises(InputError, match="expected an nn.Module, a path or a name; got int"):
        cnnzoo.predict(3, trouser)  # type: ignore[call-overload]
    two = cnnzoo.create("lenet", in_channels=2)
    two.metadata = Metadata(preprocessing=two_channels)
    with pytest.raises(InputError, match=r"the network expects 2; give tensors, uint8 \(2, H, W\)"):
        cnnzoo.predict(two, trouser)


# --- export ---


@pytest.mark.parametrize("name", ["lenet", "lenet5_1998"])
def test_onnx(tmp_path: Path, name: str) -> None:
    """Compares scores for two batch sizes; lenet5_1998 has a connection table, subsampling and RBF units."""
    onnxruntime = pytest.importorskip("onnxruntime")
    model = cnnzoo.create(name, pretrained=True)
    path = cnnzoo.export(model, tmp_path / "net.onnx")
    assert not model.training and [p.name for p in tmp_path.iterdir()] == ["net.onnx"]
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    for n in (1, 7):
        x = torch.randn(n, *model.spec.input)
        (scores,) = session.run(["scores"], {"images": x.numpy()})
        torch.testing.assert_close(torch.from_numpy(scores), model.eval()(x), rtol=1e-4, atol=1e-4)


def test_torch_export(tmp_path: Path, tiny_spec: cnnzoo.Spec) -> None:
    model = cnnzoo.create(tiny_spec, seed=0)
    path = cnnzoo.export(model, tmp_path / "net.pt2")
    x = torch.randn(7, 1, 8, 8)
    torch.testing.assert_close(torch.export.load(path).module()(x), model.eval()(x))


def test_an_export_with_other_scores_is_deleted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(EXPORT, "_write_torch", lambda model, path: lambda x: torch.zeros(len(x), 10))
    with pytest.raises(WeightsError, match="net.pt2: the exported network gives other scores than lenet for 1 images"):
        cnnzoo.export("lenet", tmp_path / "net.pt2")
    assert list(tmp_path.iterdir()) == []


def test_exports_that_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "net.pt2").write_text("")
    with pytest.raises(FileError, match=r"net.pt2 exists already; name another file, or pass overwrite=True"):
        cnnzoo.export("lenet", tmp_path / "net.pt2")
    with pytest.raises(InputError, match=r"net.pt: name the file \*.onnx for ONNX, or \*.pt2 for torch.export"):
        cnnzoo.export("lenet", tmp_path / "net.pt")
    with pytest.raises(InputError, match="is on the meta device"):
        cnnzoo.export(cnnzoo.create("lenet", device="meta"), tmp_path / "x.pt2")
    with pytest.raises(FileError, match="cannot be written"):
        cnnzoo.export("lenet", "/proc/none/net.pt2")
    monkeypatch.setattr(EXPORT, "find_spec", lambda name: None)
    with pytest.raises(
        InputError, match=r'ONNX needs onnx and onnxscript, not installed here: pip install "cnnzoo\[onnx'
    ):
        cnnzoo.export("lenet", tmp_path / "net.onnx")


# --- command line ---


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)

    def invoke(*arguments: str) -> Result:
        return CliRunner().invoke(main, arguments)

    return invoke


def test_predict_on_the_command_line(run, trouser: Path) -> None:
    result = run("predict", "lenet", "trouser.png")
    assert result.exit_code == 0, result.stderr
    assert result.stdout.startswith("Trouser") and len(result.stdout.splitlines()) == 5
    two = run("predict", "lenet", "trouser.png", "trouser.png").stdout
    assert two == f"trouser.png\n{result.stdout}" * 2
    probabilities = json.loads(run("predict", "lenet", "trouser.png", "--json").stdout)
    assert max(probabilities["trouser.png"], key=probabilities["trouser.png"].get) == "Trouser"
    assert run("predict", "lenet").exit_code == 2
    assert "none.png cannot be read as an image" in run("predict", "lenet", "none.png").stderr
    cnnzoo.save(cnnzoo.create("lenet", seed=0), "lenet")  # an existing file or folder takes precedence over a name
    assert "lenet has no preprocessing" in run("predict", "lenet", "trouser.png").stderr


def test_export_on_the_command_line(run) -> None:
    result = run("export", "lenet", "--torch-export", "net.pt2")
    assert (result.exit_code, result.stdout) == (0, "net.pt2\n"), result.stderr
    assert "exists already" in run("export", "lenet", "--torch-export", "net.pt2").stderr
    assert run("export", "lenet", "--torch-export", "net.pt2", "--overwrite").exit_code == 0
    assert run("export", "lenet").exit_code == 2
    result = run("export", "lenet", "--onnx", "net.pt2")
    assert result.exit_code == 2 and "--onnx expects a file name that ends in .onnx, got 'net.pt2'" in result.stderr
    assert list(Path().iterdir()) == [Path("net.pt2")]
