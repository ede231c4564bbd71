"""Weights files: canonical, atomic, self-describing, and refused if they are damaged or hostile."""

from __future__ import annotations

import dataclasses
import json
import os
import random
import struct
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import safetensors
import safetensors.torch
import torch
from zoo import MODEL_PARAMS, small_knobs

import cnnzoo
from cnnzoo.blocks import Block, Conv, Flatten, Logits, register_block
from cnnzoo.errors import FileError, InputError, WeightsError
from cnnzoo.metadata import Metadata
from cnnzoo.preprocessing import Preprocessing
from cnnzoo.serialization import load_tensors, read_header, save_tensors, weights_sha256


@pytest.fixture
def net(tiny_spec: cnnzoo.Spec) -> cnnzoo.CNN:
    return cnnzoo.create(tiny_spec, seed=0)


# Runs code in another process, which imports cnnzoo once for all tests; the code assigns its result to ``result``.
WORKER = """
import json, os, resource, signal, sys, time
import cnnzoo, cnnzoo.api, safetensors
first_peak = []
for line in sys.stdin:
    code, arguments = json.loads(line)
    namespace = {**globals(), "arguments": arguments}
    exec(code, namespace)
    print(json.dumps(namespace.get("result")), flush=True)
"""


@pytest.fixture(scope="module")
def worker() -> Iterator[Callable[..., Any]]:
    with subprocess.Popen(
        [sys.executable, "-c", WORKER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None and process.stdout is not None

        def run(code: str, *arguments: object) -> Any:
            process.stdin.write(json.dumps([code, [str(argument) for argument in arguments]]) + "\n")
            process.stdin.flush()
            return json.loads(process.stdout.readline())

        yield run
        process.stdin.close()


@pytest.mark.parametrize("name", ["net.safetensors", "folder"])
def test_round_trip(tmp_path: Path, net: cnnzoo.CNN, name: str) -> None:
    preprocessing = Preprocessing(net.spec.input[1:], mean=[0.5], std=[0.25])
    net.metadata = net.metadata.replace(label_names=["a", "b", "c"], preprocessing=preprocessing)
    assert cnnzoo.save(net, tmp_path / name) == tmp_path / name
    again = cnnzoo.load(str(tmp_path / name))
    assert again.spec == net.spec and again.metadata == net.metadata
    x = torch.randn(4, 1, 8, 8)
    assert torch.equal(again.eval()(x), net.eval()(x))
    assert all(type(p) is torch.nn.Parameter and p.requires_grad for p in again.parameters())
    mask = os.umask(0)
    os.umask(mask)
    file = tmp_path / name if name.endswith(".safetensors") else tmp_path / name / "model.safetensors"
    assert file.stat().st_mode & 0o777 == 0o666 & ~mask
    assert [p.name for p in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("name", MODEL_PARAMS)
def test_round_trip_of_every_model(tmp_path: Path, name: str) -> None:
    model = cnnzoo.create(name, seed=0, **small_knobs(name)).eval()
    cnnzoo.save(model, tmp_path / "m")
    x = torch.randn(1, *model.spec.input)
    assert torch.equal(cnnzoo.load(tmp_path / "m").eval()(x), model(x))


def test_config_of_a_folder(tmp_path: Path) -> None:
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


def test_same_weights_same_bytes(tmp_path: Path, net: cnnzoo.CNN, worker) -> None:
    cnnzoo.save(net, tmp_path / "a.safetensors")
    worker(
        "cnnzoo.save(cnnzoo.load(arguments[0]), arguments[1])", tmp_path / "a.safetensors", tmp_path / "b.safetensors"
    )
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


def test_layout_is_that_of_safetensors_own_writer(tmp_path: Path) -> None:
    state = {
        "b": torch.randn(3, 2), "a": torch.randn(5), "n": torch.arange(4), "h": torch.randn(3).half(),
        "bf": torch.randn(3).bfloat16(), "flag": torch.tensor([True]), "empty": torch.zeros(0, 3),
        "s": torch.tensor(2.0),
    }  # fmt: skip
    save_tensors(tmp_path / "ours", state)
    ours = (tmp_path / "ours").read_bytes()
    stock = safetensors.torch.save(state)
    start = lambda raw: 8 + struct.unpack("<Q", raw[:8])[0]  # noqa: E731
    assert ours[start(ours) :] == stock[start(stock) :] and start(ours) % 8 == 0
    assert all(torch.equal(tensor, state[name]) for name, tensor in load_tensors(tmp_path / "ours").items())


def test_tied_tensors_are_stored_once(tmp_path: Path) -> None:
    weight = torch.randn(4, 4)
    save_tensors(tmp_path / "f", {"a": weight, "b": weight, "c": weight.T})
    infos, metadata = read_header(tmp_path / "f")
    assert set(infos) == {"a", "c"} and metadata["aliases"] == {"b": "a"}
    state = load_tensors(tmp_path / "f")
    assert state["a"] is state["b"] and torch.equal(state["c"], weight.T)


def test_nothing_is_replaced_without_overwrite(tmp_path: Path, net: cnnzoo.CNN) -> None:
    for name in ("m.safetensors", "m"):
        cnnzoo.save(net, tmp_path / name)
        with pytest.raises(FileError, match=r"exists already; choose another path, or pass overwrite=True"):
            cnnzoo.save(net, tmp_path / name)
        cnnzoo.save(net, tmp_path / name, overwrite=True)
    (tmp_path / "file").write_text("")
    with pytest.raises(FileError, match="is a file; name a folder, or a file that ends in .safetensors"):
        cnnzoo.save(net, tmp_path / "file")
    with pytest.raises(FileError, match="cannot be written"):
        cnnzoo.save(net, "/proc/none/m.safetensors")
    with pytest.raises(InputError, match="save expects a cnnzoo network, not Linear; build it with cnnzoo.create"):
        cnnzoo.save(torch.nn.Linear(2, 2), tmp_path / "x")  # type: ignore[arg-type]
    with pytest.raises(
        WeightsError, match="on the meta device and holds no values; create the network on another device"
    ):
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
    with pytest.raises(WeightsError) as error:
        cnnzoo.load(tmp_path / "m.safetensors")
    assert str(error.value).endswith(
        "3 tensors do not fit the network: classifier.3.bias: file none, model (3,) F32; extra: file (2,) F32, model "
        "none; features.0.weight: file (4, 3, 3, 3) F32, model (4, 1, 3, 3) F32"
    )


def _edit_metadata(path: Path, change: Callable[[dict[str, Any]], object]) -> Path:
    raw = path.read_bytes()
    (size,) = struct.unpack("<Q", raw[:8])
    header = json.loads(raw[8 : 8 + size])
    metadata = json.loads(header["__metadata__"]["cnnzoo"])
    change(metadata)
    header["__metadata__"]["cnnzoo"] = json.dumps(metadata)
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + raw[8 + size :])
    return path


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: m["cnnzoo"].update(format_version=99), "has format_version 99, and this version of cnnzoo reads 1"),
        (lambda m: m.pop("cnnzoo"), "there is no description of a network under 'cnnzoo'"),
        (lambda m: m["cnnzoo"]["spec"]["features"][0].update(block="Exec"), "unknown block 'Exec'"),
        (lambda m: m["cnnzoo"]["spec"]["features"][0].update(block=["Conv"]), "unknown block ['Conv']"),
        (
            lambda m: m["cnnzoo"]["spec"]["features"][0].update(out_channels=10**12),
            "out_channels must be an integer from 1",
        ),
        (lambda m: m["cnnzoo"]["spec"]["classifier"][0].update(out_features=2**24), "do not fit the network"),
        (lambda m: m["cnnzoo"].update(weights_sha256="0" * 64), "is damaged: the checksum of its weights is"),
        (lambda m: m["cnnzoo"].update(spec=3), "the JSON of a Spec must be an object"),
        (lambda m: m["cnnzoo"]["spec"].update(name="../../x"), "the name of a Spec must be usable as a folder's name"),
        (lambda m: m.update(aliases=["x"]), "the aliases in its metadata must be names of tensors"),
        (
            lambda m: m.update(aliases={"q": "zzz"}),
            "the aliases in its metadata name tensors that it lacks: 'q' of 'zzz'",
        ),
        (
            lambda m: m["pretrained_cfg"].update(std=[0.0]),
            "std must be a list of numbers of at least 1e-06, not [0.0]",
        ),
        (lambda m: m["pretrained_cfg"].update(mean="abc"), "mean must be a list of numbers, not 'abc'"),
    ],
)
def test_descriptions_that_are_refused(tmp_path: Path, net: cnnzoo.CNN, change, message: str) -> None:
    path = cnnzoo.save(net, tmp_path / "m.safetensors")
    with pytest.raises(WeightsError) as error:
        cnnzoo.load(_edit_metadata(path, change))
    assert message in str(error.value) and str(path) in str(error.value)


def test_damaged_files_are_refused(tmp_path: Path, net: cnnzoo.CNN) -> None:
    path = cnnzoo.save(net, tmp_path / "m.safetensors")
    raw = path.read_bytes()
    path.write_bytes(raw[:-5])
    with pytest.raises(WeightsError, match="is not a complete safetensors file"):
        cnnzoo.load(path)
    path.write_bytes(raw[:-5] + bytes([raw[-5] ^ 1]) + raw[-4:])
    with pytest.raises(WeightsError, match="is damaged: the checksum of its weights is"):
        cnnzoo.load(path)
    path.write_bytes(b"")
    with pytest.raises(WeightsError, match="is not a complete safetensors file"):
        cnnzoo.load(path)
    with pytest.raises(FileError, match="does not exist"):
        cnnzoo.load(tmp_path / "none")
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileError, match="model.safetensors does not exist; the folder holds nothing"):
        cnnzoo.load(tmp_path / "empty")


def test_invalid_paths(tmp_path: Path, net: cnnzoo.CNN) -> None:
    for path in ("x" * 5000, "a\0b"):
        with pytest.raises(FileError, match="is not a valid path|cannot be"):
            cnnzoo.save(net, path)
        with pytest.raises(FileError, match="is not a valid path|does not exist|cannot be"):
            cnnzoo.load(path)


def test_buffers_that_are_not_stored_are_computed_again(tmp_path: Path) -> None:
    @register_block
    @dataclasses.dataclass(frozen=True, repr=False)
    class Scaled(Block):
        by: float = 2.0

        def build(self, shape):
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
        lambda m: m.classifier.__setitem__(4, torch.nn.Identity()),
    ):
        model = cnnzoo.create("lenet")
        change(model)
        with pytest.raises(InputError, match=r"modules were changed by hand .*; change the Spec"):
            cnnzoo.save(model, tmp_path / "m")
    assert list(tmp_path.iterdir()) == []


def test_device_by_name(tmp_path: Path, net: cnnzoo.CNN) -> None:
    path = cnnzoo.save(net, tmp_path / "m.safetensors")
    assert cnnzoo.load(path, device="auto")
    with pytest.raises(InputError, match="no device 'gpu' on this machine"):
        cnnzoo.load(path, device="gpu")


def test_a_config_that_is_not_an_object(tmp_path: Path, net: cnnzoo.CNN) -> None:
    cnnzoo.save(net, tmp_path / "m")
    (tmp_path / "m" / "config.json").write_text("[1]")
    with pytest.raises(FileError, match="must hold a JSON object, not a list"):
        cnnzoo.load(tmp_path / "m")


def test_plain_safetensors_without_a_description(tmp_path: Path) -> None:
    safetensors.torch.save_file({"w": torch.zeros(2)}, tmp_path / "m.safetensors")
    with pytest.raises(WeightsError, match="no description of a network under 'cnnzoo'; build the network in code"):
        cnnzoo.load(tmp_path / "m.safetensors")


def test_a_config_of_other_weights(tmp_path: Path, net: cnnzoo.CNN, tiny_spec: cnnzoo.Spec) -> None:
    cnnzoo.save(net, tmp_path / "m")
    other = cnnzoo.create(tiny_spec, seed=1)
    cnnzoo.save(other, tmp_path / "m" / "model.safetensors", overwrite=True)
    with pytest.warns(UserWarning, match="config.json does not belong to model.safetensors beside it"):
        loaded = cnnzoo.load(tmp_path / "m")
    assert weights_sha256(loaded.state_dict()) == weights_sha256(other.state_dict())


def test_device_and_dtype(tmp_path: Path, net: cnnzoo.CNN) -> None:
    path = cnnzoo.save(net, tmp_path / "m.safetensors")
    wide = cnnzoo.load(path, dtype=torch.float64)
    assert all(t.dtype == torch.float64 for t in wide.state_dict().values() if t.is_floating_point())
    assert torch.equal(wide.features[0].weight, net.features[0].weight.double())
    half = cnnzoo.save(net.half(), tmp_path / "half.safetensors")  # a network in half precision is read as one
    again = cnnzoo.load(half)
    assert again.features[0].weight.dtype == torch.float16 and torch.equal(
        again.features[0].weight, net.features[0].weight
    )
    for wrong in (torch.int8, "float64"):
        with pytest.raises(InputError, match="dtype must be a floating type of torch, such as torch.bfloat16, not"):
            cnnzoo.load(path, dtype=wrong)
    with pytest.raises(InputError, match="the meta device holds no weights"):
        cnnzoo.load(path, device="meta")


def test_integers_are_not_weights(tmp_path: Path, net: cnnzoo.CNN) -> None:
    state = {name: tensor.int() for name, tensor in net.state_dict().items()}
    save_tensors(tmp_path / "m.safetensors", state, net.describe(), checksum=True)
    with pytest.raises(WeightsError, match=r"classifier.0.bias: file \(16,\) I32, model \(16,\) F32"):
        cnnzoo.load(tmp_path / "m.safetensors")


def test_mmap(tmp_path: Path, net: cnnzoo.CNN) -> None:
    """The weights stay in the file; writing to them does not change it."""
    path = cnnzoo.save(net, tmp_path / "m.safetensors")
    before = path.read_bytes()
    for verify in (True, False):
        model = cnnzoo.load(path, mmap=True, verify=verify)
        assert weights_sha256(model.state_dict()) == weights_sha256(net.state_dict())
        model(torch.randn(2, 1, 8, 8)).sum().backward()
        torch.optim.SGD(model.parameters(), lr=1.0).step()
        assert not torch.equal(model.classifier[0].weight, net.classifier[0].weight)
    assert path.read_bytes() == before
    model = cnnzoo.load(path)
    path.write_bytes(b"")  # without mmap the weights are a copy
    assert torch.equal(model.classifier[0].weight, net.classifier[0].weight)


def test_without_verify(tmp_path: Path, net: cnnzoo.CNN) -> None:
    path = cnnzoo.save(net, tmp_path / "m.safetensors")
    raw = path.read_bytes()
    path.write_bytes(raw[:-1] + bytes([raw[-1] ^ 1]))
    with pytest.raises(WeightsError, match="is damaged"):
        cnnzoo.load(path)
    assert cnnzoo.load(path, verify=False).spec == net.spec
    save_tensors(path, net.state_dict(), net.describe())
    with pytest.raises(WeightsError, match="has no checksum of its weights; verify=False accepts a file without one"):
        cnnzoo.load(path)
    assert cnnzoo.load(path, verify=False).spec == net.spec


def test_values_that_are_not_finite(tmp_path: Path, net: cnnzoo.CNN) -> None:
    with torch.no_grad():
        net.classifier[0].weight[0, 0] = torch.nan
        net.features[0].bias[1] = -torch.inf
        net.classifier[3].weight[:] = 3e38  # large, but finite
    path = cnnzoo.save(net, tmp_path / "m.safetensors")
    with pytest.warns(
        UserWarning, match=r"these tensors have NaN or infinite values: classifier.0.weight, features.0.bias$"
    ):
        cnnzoo.load(path)


def test_tied_weights_stay_tied(tmp_path: Path) -> None:
    @register_block
    @dataclasses.dataclass(frozen=True, repr=False)
    class Twice(Block):
        """One convolution that is used twice."""

        def build(self, shape):
            conv = torch.nn.Conv2d(shape[0], shape[0], 3, padding=1)
            return [conv, torch.nn.ReLU(), conv]

    model = cnnzoo.create(cnnzoo.Spec("twice", (2, 4, 4), (Twice(), Flatten()), (Logits(2),)), seed=0)
    path = cnnzoo.save(model, tmp_path / "m.safetensors")
    infos, metadata = read_header(path)
    assert "features.2.weight" not in infos and metadata["aliases"]["features.2.weight"] == "features.0.weight"
    again = cnnzoo.load(path)
    assert again.features[0].weight is again.features[2].weight
    assert torch.equal(again(x := torch.randn(1, 2, 4, 4)), model(x))


@pytest.mark.parametrize(
    "dtype", [torch.float64, torch.bfloat16, torch.float16, torch.float8_e4m3fn, torch.float8_e5m2]
)
def test_dtypes_survive(dtype: torch.dtype, tmp_path: Path) -> None:
    model = cnnzoo.create("lenet", seed=0).to(dtype)
    cnnzoo.save(model, tmp_path / "m.safetensors")
    for options in ({}, {"mmap": True}):
        state = cnnzoo.load(tmp_path / "m.safetensors", **options).state_dict()
        for key, tensor in model.state_dict().items():
            assert state[key].dtype == dtype and torch.equal(state[key].view(torch.uint8), tensor.view(torch.uint8))
    wide = cnnzoo.load(tmp_path / "m.safetensors", dtype=torch.float32)
    assert wide(torch.rand(2, 1, 28, 28)).isfinite().all()
    broken = {**state, "classifier.0.bias": (state["classifier.0.bias"].float() * float("nan")).to(dtype)}
    model.load_state_dict(broken)
    cnnzoo.save(model, tmp_path / "m.safetensors", overwrite=True)
    with pytest.warns(UserWarning, match=r"NaN or infinite values: classifier\.0\.bias$"):
        cnnzoo.load(tmp_path / "m.safetensors")


def test_views_survive(tmp_path: Path) -> None:
    """Weights that are views: of one flat buffer, transposed, expanded, and shared by two layers."""
    model = cnnzoo.create("lenet", seed=0, width=0.25)
    flat = torch.cat([tensor.detach().flatten() for tensor in model.parameters()])
    start = 0
    for parameter in model.parameters():
        parameter.data = flat[start : start + parameter.numel()].view(parameter.shape)
        start += parameter.numel()
    model.classifier[0].weight.data = model.classifier[0].weight.detach().T.contiguous().T
    model.classifier[2].bias.data = torch.ones(()).expand(model.classifier[2].bias.shape)
    model.classifier[0].bias = torch.nn.Parameter(torch.arange(30.0))
    model.features[0].bias.data = flat[1:3]  # overlaps another weight
    expected = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    cnnzoo.save(model, tmp_path / "m.safetensors")
    loaded = cnnzoo.load(tmp_path / "m.safetensors")
    assert all(torch.equal(tensor, expected[key]) for key, tensor in loaded.state_dict().items())
    assert all(tensor.is_contiguous() for tensor in loaded.state_dict().values())


def test_metadata_that_cannot_be_stored(tmp_path: Path, net: cnnzoo.CNN) -> None:
    net.metadata = Metadata(provenance={"kind": "mine", "set": {1, 2}})
    with pytest.raises(
        WeightsError, match="metadata cannot be stored as JSON .*; the provenance may hold numbers, strings,"
    ):
        cnnzoo.save(net, tmp_path / "m")
    net.metadata = Metadata(provenance={"kind": "x" * 2_000_000})
    with pytest.raises(WeightsError, match="more than the maximum of 1,572,864 and 4,194,304; save the state dict"):
        cnnzoo.save(net, tmp_path / "m")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_has_a_card(tmp_path: Path, net: cnnzoo.CNN) -> None:
    cnnzoo.save(net, tmp_path / "m")
    card = (tmp_path / "m" / "README.md").read_text()
    assert (
        card.startswith("---\nlibrary_name: cnnzoo\n") and "Random initial weights: the network is not trained." in card
    )
    report = cnnzoo.count(net)
    assert f"| parameters | {report.params.total:,} |" in card and report.to_markdown().strip() in card
    assert weights_sha256(net.state_dict()) in card
    (tmp_path / "n").mkdir()
    (tmp_path / "n" / "README.md").write_text("mine")
    cnnzoo.save(net, tmp_path / "n")
    assert (tmp_path / "n" / "README.md").read_text() == "mine"
    cnnzoo.save(net, tmp_path / "n", overwrite=True)
    assert (tmp_path / "n" / "README.md").read_text() != "mine"
    lenet = cnnzoo.create("lenet", seed=0)
    cnnzoo.save(lenet, tmp_path / "lenet")
    card = (tmp_path / "lenet" / "README.md").read_text()
    assert "## Deviations from the source" in card and "1.7159 tanh(2x/3) | sigmoid" in card
    assert "Dive into Deep Learning, lecture 24" in card and "LeNet as taught" in card
    assert "Its blocks, classes or image size differ" not in card
    cnnzoo.save(cnnzoo.create("lenet", num_classes=3), tmp_path / "three")
    assert "Its blocks, classes or image size differ" in (tmp_path / "three" / "README.md").read_text()


def test_the_card_of_a_net_whose_batch_norm_takes_no_single_image(tmp_path: Path) -> None:
    spec = cnnzoo.Spec("one", (1, 8, 8), (Conv(4, kernel_size=8, norm="batch"), Flatten()), (Logits(3),))
    net = cnnzoo.create(spec, seed=0)
    net.classifier.eval()
    modes = [module.training for module in net.modules()]
    cnnzoo.save(net, tmp_path / "m")
    assert f"| multiply-adds | {4 * 8 * 8 + 4 * 3} |" in (tmp_path / "m" / "README.md").read_text()
    assert [module.training for module in net.modules()] == modes


NESTED, NESTED_DEEPER = "nested 100 deep", "nested 10,000 deep"
HOSTILE = {
    "10^12 parameters": lambda spec: spec.update(
        classifier=[{"block": "Dense", "out_features": 2**20, "label": f"huge{i}"} for i in (1, 2)]
    ),
    "a million blocks": lambda spec: spec.update(features=[{"block": "Activation"}] * 10**6),
    "blocks within the limit of bytes": lambda spec: spec.update(features=[{"block": "Activation"}] * 60_000),
    "nested": lambda spec: spec.update(features=NESTED),
    "nested deeper": lambda spec: spec.update(features=NESTED_DEEPER),
    "a name of another folder": lambda spec: spec.update(name="../../etc/passwd"),
    "a label of another folder": lambda spec: spec["features"][0].update(label="../x"),
    "a huge kernel": lambda spec: spec["features"][0].update(kernel_size=2**40),
}
REFUSE = """
good, hostile = arguments
cnnzoo.load(good)
if not first_peak:
    first_peak.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
start = time.process_time()
result = []
for verb in (cnnzoo.load, cnnzoo.count):
    try:
        verb(hostile)
    except cnnzoo.CnnzooError as error:
        result.append(str(error)[:200])
seconds = time.process_time() - start
result = result, seconds, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - first_peak[0]) / 1024
"""


def hostile_folder(path: Path, net: cnnzoo.CNN, change, *, text: str | None = None) -> Path:
    """Writes a folder with a hostile config.json, beside weights without a description."""
    cnnzoo.save(net, path)
    safetensors.torch.save_file(dict(net.state_dict()), path / "model.safetensors")
    config = json.loads((path / "config.json").read_text())
    if text is None:
        change(config["cnnzoo"]["spec"])
        text = json.dumps(config)
        for word, depth in ((NESTED, 100), (NESTED_DEEPER, 10_000)):
            blocks = '[{"block":"Parallel","paths":[' * depth + "[]" + "]}]" * depth
            text = text.replace(json.dumps(word), blocks)
    (path / "config.json").write_text(text)
    return path


@pytest.mark.parametrize("name", [*HOSTILE, "ten thousand brackets", "all brackets"])
def test_hostile_descriptions(tmp_path: Path, net: cnnzoo.CNN, worker, name: str) -> None:
    good = cnnzoo.save(net, tmp_path / "good.safetensors")
    text = {"ten thousand brackets": "[" * 10**4 + "]" * 10**4, "all brackets": f"[{'[],' * 500_000}[]]"}.get(name)
    hostile = hostile_folder(tmp_path / "m", net, HOSTILE.get(name), text=text)
    messages, seconds, megabytes = worker(REFUSE, good, hostile)
    assert len(messages) == 2 or name.startswith("10^12"), messages  # the Spec alone can be counted, without memory
    assert str(hostile) in messages[0]
    assert seconds < 2 and megabytes < 200, (seconds, megabytes)  # both verbs; all files up to this one


def test_a_kill_while_saving(tmp_path: Path, worker) -> None:
    """The file is the old one or the new one, complete, whenever the process dies."""
    _kill_while_saving(tmp_path, worker, times=4)


@pytest.mark.slow
def test_fifty_kills_while_saving(tmp_path: Path, worker) -> None:
    _kill_while_saving(tmp_path, worker, times=50)


# Forks a process that saves two networks in turn, and kills it. The parent imports everything, but has small tensors
# only: a fork does not copy the threads that torch starts for large ones.
SAVE_AND_KILL = """
path, seconds = arguments
cnnzoo.save(cnnzoo.create("lenet"), os.path.join(os.path.dirname(path), "imports"), overwrite=True)
ready, signal_ready = os.pipe()
child = os.fork()
if not child:
    models = [cnnzoo.create("lenet", seed=seed, width=4) for seed in (0, 1)]
    os.write(signal_ready, b"!")
    for i in range(10**6):
        cnnzoo.save(models[i % 2], path, overwrite=True)
os.read(ready, 1)
time.sleep(float(seconds))
os.kill(child, signal.SIGKILL)
os.waitpid(child, 0)
os.close(ready)
os.close(signal_ready)
"""


def _kill_while_saving(tmp_path: Path, worker, times: int) -> None:
    checksums = {weights_sha256(cnnzoo.create("lenet", seed=seed, width=4).state_dict()) for seed in (0, 1)}
    generator = random.Random(0)
    for name in ("m.safetensors", "folder"):
        cnnzoo.save(cnnzoo.create("lenet", seed=0, width=4), tmp_path / name)
        for _ in range(times // 2):
            worker(SAVE_AND_KILL, tmp_path / name, generator.uniform(0.0, 0.2))
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", message=".*does not belong to model.safetensors beside it")
                assert weights_sha256(cnnzoo.load(tmp_path / name).state_dict()) in checksums


@pytest.mark.slow
def test_a_large_file(tmp_path: Path) -> None:
    model = cnnzoo.create("alexnet_owt", seed=0)
    path = cnnzoo.save(model, tmp_path / "m.safetensors")
    for options in ({}, {"verify": False}, {"mmap": True, "verify": False}):
        again = cnnzoo.load(path, **options)
        assert all(torch.equal(a, b) for a, b in zip(again.parameters(), model.parameters(), strict=True))
