"""Files that describe themselves: canonical, atomic, and refused when they are not what they say."""

from __future__ import annotations

import dataclasses
import json
import os
import struct
import subprocess
import sys
from pathlib import Path

import pytest
import safetensors
import safetensors.torch
import torch
from zoo import FAMILIES, small

import cnnzoo
from cnnzoo.blocks import Block, Flatten, Logits
from cnnzoo.errors import FileError, InputError, WeightsError
from cnnzoo.tensorfiles import load_tensors, read_header, save_tensors, weights_sha256


@pytest.fixture
def net(tiny_spec: cnnzoo.Spec) -> cnnzoo.CNN:
    return cnnzoo.create(tiny_spec, seed=0)


@pytest.mark.parametrize("name", ["net.safetensors", "folder"])
def test_round_trip(tmp_path: Path, net: cnnzoo.CNN, name: str) -> None:
    net.notes.update(label_names=["a", "b", "c"], mean=[0.5], std=[0.25])
    assert cnnzoo.save(net, tmp_path / name) == tmp_path / name
    again = cnnzoo.load(str(tmp_path / name))
    assert again.spec == net.spec and again.notes == net.notes
    x = torch.randn(4, 1, 8, 8)
    assert torch.equal(again.eval()(x), net.eval()(x))
    assert all(type(p) is torch.nn.Parameter and p.requires_grad for p in again.parameters())
    mask = os.umask(0)
    os.umask(mask)
    file = tmp_path / name if name.endswith(".safetensors") else tmp_path / name / "model.safetensors"
    assert file.stat().st_mode & 0o777 == 0o666 & ~mask
    assert [p.name for p in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("name", FAMILIES)
def test_every_model_comes_back(tmp_path: Path, name: str) -> None:
    model = cnnzoo.create(name, seed=0, **small(name)).eval()
    cnnzoo.save(model, tmp_path / "m")
    x = torch.randn(1, *model.spec.input)
    assert torch.equal(cnnzoo.load(tmp_path / "m").eval()(x), model(x))


def test_what_a_folder_says(tmp_path: Path) -> None:
    cnnzoo.save(cnnzoo.create("lenet", seed=0), tmp_path / "m")
    config = json.loads((tmp_path / "m" / "config.json").read_text())
    assert (config["architecture"], config["num_classes"], config["in_channels"], config["image_size"]) == (
        "lenet", 10, 1, 28,
    )  # fmt: skip
    assert config["num_features"] == 400
    assert config["pretrained_cfg"]["input_size"] == [1, 28, 28]
    assert config["pretrained_cfg"]["first_conv"] == "features.0"
    assert config["pretrained_cfg"]["classifier"] == "classifier.4"
    inner = config["cnnzoo"]
    assert inner["format_version"] == 1 and inner["param_count"] == 61_706 and inner["version"] == cnnzoo.__version__
    assert inner["provenance"] == {"kind": "random"}
    assert inner["weights_sha256"] == weights_sha256(load_tensors(tmp_path / "m" / "model.safetensors"))


def test_same_weights_same_bytes(tmp_path: Path, net: cnnzoo.CNN) -> None:
    cnnzoo.save(net, tmp_path / "a.safetensors")
    code = "import sys, cnnzoo; cnnzoo.save(cnnzoo.load(sys.argv[1]), sys.argv[2])"
    subprocess.run([sys.executable, "-c", code, tmp_path / "a.safetensors", tmp_path / "b.safetensors"], check=True)
    cnnzoo.save(net.to(memory_format=torch.channels_last), tmp_path / "c.safetensors")
    contents = [(tmp_path / f"{n}.safetensors").read_bytes() for n in "abc"]
    assert contents[0] == contents[1] == contents[2]


def test_stock_readers_read_it(tmp_path: Path, net: cnnzoo.CNN) -> None:
    cnnzoo.save(net, tmp_path / "m.safetensors")
    state = safetensors.torch.load_file(tmp_path / "m.safetensors")
    assert state.keys() == net.state_dict().keys()
    assert all(torch.equal(state[key], tensor) for key, tensor in net.state_dict().items())
    with safetensors.safe_open(tmp_path / "m.safetensors", framework="pt") as file:
        assert set(file.metadata()) == {"format", "cnnzoo"} and file.metadata()["format"] == "pt"


def test_the_layout_is_the_stock_writers(tmp_path: Path) -> None:
    state = {
        "b": torch.randn(3, 2), "a": torch.randn(5), "n": torch.arange(4), "h": torch.randn(3).half(),
        "bf": torch.randn(3).bfloat16(), "flag": torch.tensor([True]), "empty": torch.zeros(0, 3),
        "s": torch.tensor(2.0),
    }  # fmt: skip
    save_tensors(tmp_path / "ours", state)
    ours = (tmp_path / "ours").read_bytes()
    stock = safetensors.torch.save(state)
    size = lambda raw: 8 + struct.unpack("<Q", raw[:8])[0]  # noqa: E731
    assert ours[size(ours) :] == stock[size(stock) :] and size(ours) % 8 == 0
    assert all(torch.equal(tensor, state[name]) for name, tensor in load_tensors(tmp_path / "ours").items())


def test_tied_tensors_are_stored_once(tmp_path: Path) -> None:
    weight = torch.randn(4, 4)
    save_tensors(tmp_path / "f", {"a": weight, "b": weight, "c": weight.T})
    tensors, about = read_header(tmp_path / "f")
    assert set(tensors) == {"a", "c"} and about["aliases"] == {"b": "a"}
    state = load_tensors(tmp_path / "f")
    assert state["a"] is state["b"] and torch.equal(state["c"], weight.T)


def test_nothing_is_replaced_unless_said(tmp_path: Path, net: cnnzoo.CNN) -> None:
    for name in ("m.safetensors", "m"):
        cnnzoo.save(net, tmp_path / name)
        with pytest.raises(FileError, match=r"exists already; name another place, or say overwrite=True"):
            cnnzoo.save(net, tmp_path / name)
        cnnzoo.save(net, tmp_path / name, overwrite=True)
    (tmp_path / "file").write_text("")
    with pytest.raises(FileError, match="is a file; a single file of weights ends in .safetensors"):
        cnnzoo.save(net, tmp_path / "file")
    with pytest.raises(FileError, match="cannot be written"):
        cnnzoo.save(net, "/proc/none/m.safetensors")
    with pytest.raises(InputError, match="save takes a network of the zoo, not Linear"):
        cnnzoo.save(torch.nn.Linear(2, 2), tmp_path / "x")  # type: ignore[arg-type]
    with pytest.raises(WeightsError, match="on the meta device and holds no values"):
        cnnzoo.save(cnnzoo.create("lenet", device="meta"), tmp_path / "x")
    assert not (tmp_path / "x").exists()


def test_a_failed_write_leaves_the_old_file(tmp_path: Path, net: cnnzoo.CNN, monkeypatch) -> None:
    path = tmp_path / "m.safetensors"
    cnnzoo.save(net, path)
    before = path.read_bytes()

    def full(*_) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(FileError, match="cannot be written: No space left on device"):
        cnnzoo.save(net, path, overwrite=True)
    assert path.read_bytes() == before and [p.name for p in tmp_path.iterdir()] == ["m.safetensors"]


def test_every_tensor_that_does_not_fit_is_listed(tmp_path: Path, net: cnnzoo.CNN) -> None:
    state = dict(net.state_dict())
    state["features.0.weight"] = torch.zeros(4, 3, 3, 3)
    state["extra"] = torch.zeros(2)
    del state["classifier.3.bias"]
    save_tensors(tmp_path / "m.safetensors", state, net.describe())
    with pytest.raises(WeightsError) as problem:
        cnnzoo.load(tmp_path / "m.safetensors")
    assert str(problem.value).endswith(
        "3 tensors do not fit the network: classifier.3.bias: file none, model (3,) F32; extra: file (2,) F32, model "
        "none; features.0.weight: file (4, 3, 3, 3) F32, model (4, 1, 3, 3) F32"
    )


def _edited(path: Path, change) -> Path:
    raw = path.read_bytes()
    (size,) = struct.unpack("<Q", raw[:8])
    header = json.loads(raw[8 : 8 + size])
    about = json.loads(header["__metadata__"]["cnnzoo"])
    change(about)
    header["__metadata__"]["cnnzoo"] = json.dumps(about)
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + raw[8 + size :])
    return path


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda about: about["cnnzoo"].update(format_version=99), "format_version 99; this cnnzoo reads 1"),
        (lambda about: about.pop("cnnzoo"), "no description of a network under 'cnnzoo'"),
        (lambda about: about["cnnzoo"]["spec"]["features"][0].update(row="Exec"), "unknown kind of row 'Exec'"),
        (lambda about: about["cnnzoo"]["spec"]["features"][0].update(out=10**12), "out must be a whole number from 1"),
        (lambda about: about["cnnzoo"]["spec"]["classifier"][0].update(out=2**24), "do not fit the network"),
        (lambda about: about["cnnzoo"].update(weights_sha256="0" * 64), "is damaged: its weights have checksum"),
        (lambda about: about["cnnzoo"].update(spec=3), "a Spec in JSON is an object"),
        (lambda about: about["cnnzoo"]["spec"].update(name="../../x"), "a Spec needs a name"),
        (lambda about: about.update(aliases=["x"]), "the aliases in its header"),
        (lambda about: about.update(aliases={"q": "zzz"}), "the aliases in its header"),
        (lambda about: about["pretrained_cfg"].update(std=[0.0]), "std is [0.0], and must be a number for each of 1"),
        (lambda about: about["pretrained_cfg"].update(mean="abc"), "mean is 'abc'"),
    ],
)
def test_descriptions_that_are_refused(tmp_path: Path, net: cnnzoo.CNN, change, says: str) -> None:
    path = cnnzoo.save(net, tmp_path / "m.safetensors")
    with pytest.raises(WeightsError) as problem:
        cnnzoo.load(_edited(path, change))
    assert says in str(problem.value) and str(path) in str(problem.value)


def test_damaged_files_are_refused(tmp_path: Path, net: cnnzoo.CNN) -> None:
    path = cnnzoo.save(net, tmp_path / "m.safetensors")
    raw = path.read_bytes()
    path.write_bytes(raw[:-5])
    with pytest.raises(WeightsError, match="is no whole safetensors file"):
        cnnzoo.load(path)
    path.write_bytes(raw[:-5] + bytes([raw[-5] ^ 1]) + raw[-4:])
    with pytest.raises(WeightsError, match="is damaged: its weights have checksum"):
        cnnzoo.load(path)
    path.write_bytes(b"")
    with pytest.raises(WeightsError, match="is no whole safetensors file"):
        cnnzoo.load(path)
    with pytest.raises(FileError, match="does not exist"):
        cnnzoo.load(tmp_path / "none")
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileError, match="model.safetensors does not exist; the folder holds nothing"):
        cnnzoo.load(tmp_path / "empty")


def test_paths_that_are_none(tmp_path: Path, net: cnnzoo.CNN) -> None:
    for path in ("x" * 5000, "a\0b"):
        with pytest.raises(FileError, match="is no path|cannot be"):
            cnnzoo.save(net, path)
        with pytest.raises(FileError, match="is no path|does not exist|cannot be"):
            cnnzoo.load(path)


def test_buffers_that_are_not_stored_are_made_again(tmp_path: Path) -> None:
    @dataclasses.dataclass(frozen=True, repr=False)
    class Scaled(Block):
        by: float = 2.0

        def unroll(self, shape):
            class Scale(torch.nn.Module):
                def __init__(self, by: float) -> None:
                    super().__init__()
                    self.register_buffer("by", torch.tensor(by), persistent=False)

                def forward(self, x: torch.Tensor) -> torch.Tensor:
                    return x * self.by

            return [Scale(self.by)]

    spec = cnnzoo.Spec("scaled", (1, 4, 4), (Scaled(3.0), Flatten()), (Logits(2),))
    model = cnnzoo.create(spec)
    cnnzoo.save(model, tmp_path / "m")
    x = torch.randn(2, 1, 4, 4)
    assert torch.equal(cnnzoo.load(tmp_path / "m")(x), model(x))


def test_modules_changed_by_hand_are_not_saved(tmp_path: Path) -> None:
    for change in (
        lambda m: m.classifier.append(torch.nn.ReLU()),
        lambda m: m.features.__setitem__(1, torch.nn.ReLU()),
        lambda m: m.classifier.__setitem__(4, torch.nn.Linear(84, 5)),
    ):
        model = cnnzoo.create("lenet")
        change(model)
        with pytest.raises(InputError, match=r"modules were changed by hand .* change the Spec"):
            cnnzoo.save(model, tmp_path / "m")
    assert list(tmp_path.iterdir()) == []


def test_device_by_name(tmp_path: Path, net: cnnzoo.CNN) -> None:
    path = cnnzoo.save(net, tmp_path / "m.safetensors")
    assert cnnzoo.load(path, device="auto")
    with pytest.raises(InputError, match="there is no device 'gpu' here"):
        cnnzoo.load(path, device="gpu")


def test_a_config_that_is_no_object(tmp_path: Path, net: cnnzoo.CNN) -> None:
    cnnzoo.save(net, tmp_path / "m")
    (tmp_path / "m" / "config.json").write_text("[1]")
    with pytest.raises(FileError, match="holds no JSON object, but a list"):
        cnnzoo.load(tmp_path / "m")


def test_plain_safetensors_without_a_description(tmp_path: Path) -> None:
    safetensors.torch.save_file({"w": torch.zeros(2)}, tmp_path / "m.safetensors")
    with pytest.raises(WeightsError, match="no description of a network under 'cnnzoo'; build it yourself"):
        cnnzoo.load(tmp_path / "m.safetensors")


def test_a_config_that_is_not_that_of_the_weights(tmp_path: Path, net: cnnzoo.CNN, tiny_spec: cnnzoo.Spec) -> None:
    cnnzoo.save(net, tmp_path / "m")
    other = cnnzoo.create(tiny_spec, seed=1)
    cnnzoo.save(other, tmp_path / "m" / "model.safetensors", overwrite=True)
    with pytest.warns(UserWarning, match="config.json is not that of model.safetensors beside it"):
        loaded = cnnzoo.load(tmp_path / "m")
    assert weights_sha256(loaded.state_dict()) == weights_sha256(other.state_dict())
