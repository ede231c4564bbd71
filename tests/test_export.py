"""Export: ONNX, torch.export, plain PyTorch source, state dicts of other libraries, int8."""

from __future__ import annotations

import dataclasses
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner, Result
from torch import nn
from zoo import NAMES, small_knobs

import cnnzoo
from cnnzoo.blocks import (
    AvgPool,
    Block,
    Conv,
    Flatten,
    Logits,
    Parallel,
    register_activation,
    register_block,
)
from cnnzoo.cli import main
from cnnzoo.errors import ChangedModuleError, FileError, InputError, WeightsError
from cnnzoo.initializers import register_initializer
from cnnzoo.registry import get_entry
from cnnzoo.weights.source_code import class_name, make_source
from cnnzoo.weights.twins import twin_state_dict

EXPORT = import_module("cnnzoo.weights.export")  # the attribute of cnnzoo.weights is the function


def run_source(source: str, name: str) -> nn.Module:
    """Returns the network that a source defines; it must not import cnnzoo."""
    assert "import cnnzoo" not in source and "from cnnzoo" not in source
    namespace: dict[str, Any] = {"__name__": "exported"}
    exec(compile(source, name, "exec"), namespace)
    network = namespace[class_name(name)]()
    assert isinstance(network, nn.Module)
    return network


def require_equal(model: cnnzoo.CNN, source: str) -> nn.Module:
    network = run_source(source, model.spec.name)
    assert [*network.state_dict()] == [*model.state_dict()]
    initial = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    network.load_state_dict(model.state_dict())
    x = torch.randn(2, *model.spec.input)
    with torch.no_grad():
        torch.testing.assert_close(network.eval()(x), model.eval()(x), rtol=0, atol=0)
    network.load_state_dict(initial)
    return network


# --- plain PyTorch source ---

FAST = {"lenet5_1998", "alexnet_2012", "squeezenet1_1", "resnet18", "vgg11_d2l"}


@pytest.mark.parametrize("name", [pytest.param(n, marks=() if n in FAST else pytest.mark.slow) for n in NAMES])
def test_source_gives_equal_scores(name: str) -> None:
    model = cnnzoo.create(name, seed=0, **small_knobs(name))
    source = make_source(model)
    network = require_equal(model, source)
    assert max(map(len, source.splitlines())) <= 120 and len(source.splitlines()) < 200
    for tensor, other in zip(network.parameters(), model.parameters(), strict=True):  # the same distributions
        if tensor.numel() > 1 and len(other.unique()) == 1:
            assert torch.equal(tensor, other)
        elif tensor.numel() > 500:
            assert float((tensor.std() / other.std()).detach()) == pytest.approx(1, rel=0.25)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_source_at_full_size(name: str, tmp_path: Path) -> None:
    """``export`` itself compares the scores."""
    source = cnnzoo.export(name, tmp_path / "net.py").read_text()
    assert f"images (N, {', '.join(map(str, cnnzoo.get_spec(name).input))})" in source


def source_of(name: str, **knobs: Any) -> str:
    return make_source(cnnzoo.create(name, device="meta", **knobs))


def test_source_of_lenet() -> None:
    assert (
        source_of("lenet").partition("def __init__")[2]
        == '''(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, 6, kernel_size=5, padding=2),  # conv1: 6 @ 28x28
            nn.Sigmoid(),
            nn.AvgPool2d(2, stride=2),  # pool1: 6 @ 14x14
            nn.Conv2d(6, 16, kernel_size=5),  # conv2: 16 @ 10x10
            nn.Sigmoid(),
            nn.AvgPool2d(2, stride=2),  # pool2: 16 @ 5x5
            nn.Flatten(),  # flatten: 400
        )
        self.classifier = nn.Sequential(
            nn.Linear(400, 120),  # fc3: 120
            nn.Sigmoid(),
            nn.Linear(120, 84),  # fc4: 84
            nn.Sigmoid(),
            nn.Linear(84, 10),  # fc5: 10
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Returns the scores (N, 10) of images (N, 1, 28, 28)."""
        return self.classifier(self.features(x))
'''
    )


def test_blocks_that_repeat_become_functions() -> None:
    """Their parameters are the columns of the paper's table."""
    assert "inception(192, 64, 96, 128, 16, 32, 32),  # inception3a: 256 @ 28x28" in source_of("googlenet_2014")
    bottleneck = source_of("resnet152")
    assert "def residual(channels: int) -> nn.Module:" in bottleneck
    assert "nn.Conv2d(channels, 4 * channels, kernel_size=1, bias=False)," in bottleneck
    assert "projected_residual(256, 128, stride=2),  # layer2.0: 512 @ 28x28" in bottleneck
    loop = "*[layer for _ in range(35) for layer in (residual(256), nn.ReLU(inplace=True))],"
    assert f"{loop}  # layer3.1 to layer3.35" in bottleneck or loop in bottleneck
    assert "*[dense_layer(in_channels) for in_channels in range(64, 256, 32)]," in source_of("densenet121")


def nested() -> cnnzoo.Spec:
    """Blocks of one structure but other numbers, one inside another, one alone, and pairs."""

    def block(maps: int, kernel_size: Any, inner: int) -> Parallel:
        twice = Parallel(((), (Conv(inner, kernel_size=1, norm="group:2"),)), merge="concat")
        return Parallel(((Conv(maps, kernel_size=kernel_size, padding=(1, 0)), twice), ()), merge="concat")

    return cnnzoo.Spec(
        "a-Net 2",
        (2, 9, 12),
        (block(4, (3, 1), 6), block(6, (3, 1), 2), Parallel(((Conv(3, 1),), (Conv(3, 1, bias=False),)), merge="add"),
         AvgPool((2, 3), ceil_mode=True), Flatten()),
        (Logits(3, init="normal:0.1", bias_init=-0.5),),
    )  # fmt: skip


def test_source_of_a_network_of_ones_own() -> None:
    model = cnnzoo.create(nested(), seed=0, dtype=torch.float64)
    source = make_source(model)
    network = run_source(source, model.spec.name).double()
    assert float(network.classifier[0].bias.detach().unique()) == -0.5  # type: ignore[union-attr, index]
    network.load_state_dict(model.state_dict())
    x = torch.randn(2, 2, 9, 12, dtype=torch.float64)
    torch.testing.assert_close(network.eval()(x), model.eval()(x), rtol=0, atol=0)
    assert "class ANet_2(nn.Module):" in source and source.count("\ndef ") == 1


def test_text_of_others_stays_text() -> None:
    """Names and labels of a file cannot become code."""
    code = '"""); raise SystemExit(7); ("""\\'
    spec = cnnzoo.Spec(
        'x""" + exit() #',
        (1, 4, 4),
        tuple(
            Parallel(((Conv(n, 1, label=f"{code} a"),), (Conv(n, 1, label="class"),)), label=f"1{code}{n}")
            for n in (2, 3)
        ),
        (Flatten(label="'''"), Logits(2, label="\u540d\u524d", init="normal", bias_init=1.0)),
    )
    model = cnnzoo.create(spec, seed=0)
    require_equal(model, make_source(model))


@pytest.mark.parametrize("name", ["class", "3d", "名前", "a.b", "_"])
def test_names_of_classes(name: str, tiny_spec: cnnzoo.Spec) -> None:
    assert class_name(name).isidentifier() and class_name(name).isascii()
    model = cnnzoo.create(dataclasses.replace(tiny_spec, name=name), seed=0)
    require_equal(model, make_source(model))


def test_source_that_is_refused(tiny_spec: cnnzoo.Spec) -> None:
    class Own(nn.Module):
        pass

    @register_block
    @dataclasses.dataclass(frozen=True, repr=False)
    class OwnBlock(Block):
        def build(self, shape: Any) -> list[nn.Module]:
            return [nn.Identity(), Own()] if shape[0] == 2 else [nn.Identity()]

    register_activation("own_mish", nn.Mish)
    register_initializer("own_ones", lambda weight, number: nn.init.ones_(weight))
    mish = cnnzoo.create(cnnzoo.edit(tiny_spec, "conv1", activation="own_mish"), seed=0)
    assert "nn.Mish(inplace=True)" in make_source(mish)
    require_equal(mish, make_source(mish))
    own = cnnzoo.insert(tiny_spec, after="conv1", blocks=OwnBlock(label="own"))
    source = make_source(cnnzoo.create(own, seed=0))
    assert "nn.Identity(),  # own" in source
    with pytest.raises(InputError, match=r"block 'conv1' has init='own_ones', which is not an initializer of cnnzoo"):
        make_source(cnnzoo.create(cnnzoo.edit(tiny_spec, "conv1", init="own_ones"), seed=0))
    model = cnnzoo.create(tiny_spec, seed=0)
    model.features[0] = nn.Conv2d(1, 2, 1)
    with pytest.raises(ChangedModuleError, match=r"these modules were changed by hand .*features.0"):
        make_source(model)


def test_source_in_a_file(tmp_path: Path) -> None:
    path = cnnzoo.export(cnnzoo.get_spec("lenet", num_classes=3), tmp_path / "net.py")
    assert "nn.Linear(84, 3)" in path.read_text()
    text = cnnzoo.export("lenet", tmp_path / "trained.py").read_text()
    assert str(cnnzoo.create("lenet", pretrained=True).metadata.preprocessing) in text
    assert "def reset_parameters" in cnnzoo.export("zfnet(width=0.1)", tmp_path / "z.py").read_text()
    with pytest.raises(InputError, match="not installed here|expected an nn.Module, a path or a name; got Spec"):
        cnnzoo.export(cnnzoo.get_spec("lenet"), tmp_path / "net.pt2")


# --- other libraries ---

TWINS = [name for name in NAMES if get_entry(name).twin]


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=() if n == "squeezenet1_1" else pytest.mark.slow) for n in TWINS]
)
def test_state_dict_of_torchvision(name: str, tmp_path: Path) -> None:
    """``export`` itself compares the scores with torchvision's network."""
    model = cnnzoo.create(name, seed=0, num_classes=7, image_size=64 if "alexnet" not in name else 224)
    for suffix in (".pth", ".safetensors"):
        path = cnnzoo.export(model, tmp_path / f"net{suffix}", library="torchvision")
    state = torch.load(tmp_path / "net.pth", weights_only=True)
    assert {key: t.shape for key, t in state.items()} == {
        key: t.shape for key, t in twin_state_dict(model, "torchvision").items()
    }
    other = cnnzoo.create(name, seed=1, num_classes=7)
    cnnzoo.weights.load_torchvision(other, state)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), other.parameters(), strict=True))
    from safetensors.torch import load_file

    assert {*load_file(path)} == {*state}


def test_state_dict_of_timm() -> None:
    """Its ResNets and DenseNets have torchvision's names; its VGGs have convolutions in the classifier."""
    state = twin_state_dict(cnnzoo.create("vgg11", device="meta", num_classes=5), "timm")
    assert {key: tuple(t.shape) for key, t in state.items() if "features" not in key} == {
        "pre_logits.fc1.weight": (4096, 512, 7, 7), "pre_logits.fc1.bias": (4096,),
        "pre_logits.fc2.weight": (4096, 4096, 1, 1), "pre_logits.fc2.bias": (4096,),
        "head.fc.weight": (5, 4096), "head.fc.bias": (5,),
    }  # fmt: skip
    assert "layer1.0.bn1.running_var" in twin_state_dict(cnnzoo.create("resnet18", device="meta"), "timm")


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in TWINS if name.startswith(("resnet", "vgg", "densenet"))])
def test_scores_of_timm(name: str, tmp_path: Path) -> None:
    pytest.importorskip("timm")
    cnnzoo.export(cnnzoo.create(name, seed=0, num_classes=7, in_channels=4), tmp_path / "x.safetensors", library="timm")


def test_networks_that_a_library_does_not_have(tmp_path: Path) -> None:
    path = tmp_path / "x.pth"
    for name, library, message in (
        ("zfnet", "torchvision", "zfnet has no twin in torchvision; the networks that have one: alexnet_owt"),
        ("googlenet", "timm", r"timm has no googlenet; it has the ResNets, .* use library='torchvision'"),
        ("resnet18(width=0.5)", "timm", r"this resnet18 was edited, and is .* see cnnzoo.diff\('resnet18', model\)"),
    ):
        with pytest.raises(InputError, match=message):
            cnnzoo.export(cnnzoo.create(name, seed=0), path, library=library)
    with pytest.raises(
        WeightsError, match=r"resnet18 as torchvision's resnet18: 1 tensors .* conv1.weight: file \(64, 1"
    ):
        cnnzoo.export(cnnzoo.create("resnet18", seed=0, in_channels=1), path, library="torchvision")
    assert list(tmp_path.iterdir()) == []


# --- ONNX and torch.export ---


@pytest.mark.parametrize("name", ["lenet", "lenet5_1998"])
def test_onnx(tmp_path: Path, name: str) -> None:
    """Compares scores for two batch sizes; lenet5_1998 has a connection table, subsampling and RBF units."""
    onnxruntime = pytest.importorskip("onnxruntime")
    model = cnnzoo.create(name, pretrained=True)
    path = cnnzoo.export(model, tmp_path / "net.onnx", opset=21 if name == "lenet" else None)
    assert not model.training and [p.name for p in tmp_path.iterdir()] == ["net.onnx"]
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    for n in (1, 7):
        x = torch.randn(n, *model.spec.input)
        (scores,) = session.run(["scores"], {"images": x.numpy()})
        torch.testing.assert_close(torch.from_numpy(scores), model.eval()(x), rtol=1e-4, atol=1e-4)
    if name == "lenet":
        import onnx

        assert [one.version for one in onnx.load(path).opset_import if not one.domain] == [21]


@pytest.mark.slow
def test_opsets(tmp_path: Path, tiny_spec: cnnzoo.Spec, capfd: pytest.CaptureFixture[str]) -> None:
    onnx = pytest.importorskip("onnx")
    model, latest = cnnzoo.create(tiny_spec, seed=0), onnx.defs.onnx_opset_version()
    for opset in range(18, latest + 1):
        path = cnnzoo.export(model, tmp_path / f"{opset}.onnx", opset=opset)
        assert [one.version for one in onnx.load(path).opset_import if not one.domain] == [opset]
    capfd.readouterr()
    with pytest.raises(InputError, match=rf"opset=7: torch .* write tiny with opsets from 18 to {latest}, and cannot"):
        cnnzoo.export(model, tmp_path / "7.onnx", opset=7)
    assert capfd.readouterr() == ("", "")


def test_opsets_that_do_not_exist(tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    for opset in (0, onnx.defs.onnx_opset_version() + 1):
        with pytest.raises(InputError, match=rf"opset={opset}: torch .* and onnx .* write opsets up to \d\d$"):
            cnnzoo.export("lenet", tmp_path / "net.onnx", opset=opset)


def test_torch_export(tmp_path: Path, tiny_spec: cnnzoo.Spec) -> None:
    model = cnnzoo.create(tiny_spec, seed=0)
    path = cnnzoo.export(model, tmp_path / "net.pt2")
    x = torch.randn(7, 1, 8, 8)
    torch.testing.assert_close(torch.export.load(path).module()(x), model.eval()(x))


def test_executorch(tmp_path: Path) -> None:
    pytest.importorskip("executorch")
    assert cnnzoo.export("lenet", tmp_path / "net.pte").stat().st_size > 100_000
    with pytest.raises(InputError, match="ExecuTorch cannot run alexnet_2012 .* such as avg_pool3d of an LRN block"):
        cnnzoo.export(cnnzoo.create("alexnet_2012", seed=0, width=0.1), tmp_path / "x.pte")


# --- int8 ---


def test_int8(tmp_path: Path, tiny_spec: cnnzoo.Spec, tiny_data: cnnzoo.ImageData) -> None:
    pytest.importorskip("onnxruntime")
    model = cnnzoo.create(tiny_spec, seed=0)
    cnnzoo.Trainer(model, tiny_data, cnnzoo.TrainConfig(epochs=1), show=False).fit()
    result = cnnzoo.quantize(model, tmp_path / "net.onnx", tiny_data, images=16)
    assert result.path == tmp_path / "net.onnx" and [*tmp_path.iterdir()] == [result.path]
    assert result.before.top1 == cnnzoo.evaluate(model, tiny_data).top1
    assert 0 < abs(result.after.loss - result.before.loss) < 0.05
    assert result.bytes_after == result.path.stat().st_size
    assert f"{result.before.top1:.4f}" in str(result) and "int8" in str(result)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["lenet", "lenet5_1998"])
def test_accuracy_in_int8(tmp_path: Path, name: str) -> None:
    pytest.importorskip("onnxruntime")
    result = cnnzoo.quantize(name, tmp_path / "net.onnx", "fashion_mnist_sample")
    assert result.after.top1 > result.before.top1 - 0.01 and 0.2 < result.bytes_after / result.bytes_before < 0.45


def test_int8_that_is_refused(tmp_path: Path, tiny_data: cnnzoo.ImageData, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match=r"net.pt2: name the file \*.onnx; quantize writes ONNX"):
        cnnzoo.quantize("lenet", tmp_path / "net.pt2", tiny_data)
    with pytest.raises(InputError, match="lenet has no preprocessing"):
        cnnzoo.quantize(cnnzoo.create("lenet", seed=0), tmp_path / "net.onnx", tiny_data)
    with pytest.raises(InputError, match="images must be"):
        cnnzoo.quantize("lenet", tmp_path / "net.onnx", tiny_data, images=0)
    (tmp_path / "old.onnx").write_text("")
    with pytest.raises(FileError, match="old.onnx exists already; choose another name, or pass overwrite=True"):
        cnnzoo.quantize("lenet", tmp_path / "old.onnx", tiny_data)
    monkeypatch.setattr(EXPORT, "find_spec", lambda name: None if name == "onnxruntime" else name)
    with pytest.raises(InputError, match=r'int8 needs onnxruntime, not installed here: pip install "cnnzoo\[onnx\]"'):
        cnnzoo.quantize("lenet", tmp_path / "net.onnx", tiny_data)


# --- refused ---


def test_an_export_with_other_scores_is_deleted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = EXPORT._Format("wrong", lambda model, path: lambda x: torch.zeros(len(x), 10))
    monkeypatch.setitem(EXPORT._FORMATS, ".pt2", wrong)
    with pytest.raises(WeightsError, match="net.pt2: the exported network gives other scores than lenet for 1 images"):
        cnnzoo.export("lenet", tmp_path / "net.pt2")
    assert list(tmp_path.iterdir()) == []


def test_exports_that_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "net.pt2").write_text("")
    with pytest.raises(FileError, match=r"net.pt2 exists already; name another file, or pass overwrite=True"):
        cnnzoo.export("lenet", tmp_path / "net.pt2")
    with pytest.raises(
        InputError, match=r"net.pt: name the file \*.onnx for ONNX, \*.pt2 for torch.export, \*.pte for"
    ):
        cnnzoo.export("lenet", tmp_path / "net.pt")
    with pytest.raises(
        InputError, match=r"net.pth: the tensors of a state dict have the names of a library; pass libr"
    ):
        cnnzoo.export("lenet", tmp_path / "net.pth")
    for library, name in (("torchvision", "net.onnx"), ("keras", "net.pth")):
        with pytest.raises(
            InputError, match=rf"library='{library}' does not apply to .*{name}; it is 'torchvision' or"
        ):
            cnnzoo.export("lenet", tmp_path / name, library=library)
    for opset, name in ((18, "net.py"), ("18", "net.onnx")):
        with pytest.raises(InputError, match=rf"opset={opset!r} does not apply to .*{name}; it is the number of an"):
            cnnzoo.export("lenet", tmp_path / name, opset=opset)
    with pytest.raises(InputError, match="is on the meta device"):
        cnnzoo.export(cnnzoo.create("lenet", device="meta"), tmp_path / "x.pt2")
    with pytest.raises(FileError, match="cannot be written"):
        cnnzoo.export("lenet", "/proc/none/net.pt2")
    monkeypatch.setattr(EXPORT, "find_spec", lambda name: None)
    for suffix, missing, extra in ((".onnx", "onnx and onnxscript", "onnx"), (".pte", "executorch", "executorch")):
        with pytest.raises(InputError, match=rf'needs {missing}, not installed here: pip install "cnnzoo\[{extra}'):
            cnnzoo.export("lenet", tmp_path / f"net{suffix}")


# --- command line ---


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)

    def invoke(*arguments: str) -> Result:
        return CliRunner().invoke(main, arguments)

    return invoke


def test_export_on_the_command_line(run) -> None:
    result = run("export", "lenet", "--torch-export", "net.pt2")
    assert (result.exit_code, result.stdout) == (0, "net.pt2\n"), result.stderr
    assert "exists already" in run("export", "lenet", "--torch-export", "net.pt2").stderr
    result = run("export", "lenet", "--torch-export", "net.pt2", "--source", "net.py", "--overwrite")
    assert (result.exit_code, result.stdout) == (0, "net.pt2\nnet.py\n")
    for arguments, message in (
        ((), "give one or more of --onnx FILE, --torch-export FILE"),
        (("--onnx", "net.pt2"), "--onnx expects a file name that ends in .onnx, got 'net.pt2'"),
        (("--timm", "net.bin"), "--timm expects a file name that ends in .pth or .safetensors, got 'net.bin'"),
        (("--source", "n.py", "--opset", "18"), "--opset is for --onnx and --int8"),
        (("--int8", "net.onnx"), "--int8 needs --data NAME, to calibrate and to evaluate with"),
        (("--source", "n.py", "--data", "mnist"), "--int8 needs --data NAME"),
    ):
        result = run("export", "lenet", *arguments)
        assert result.exit_code == 2 and message in " ".join(result.stderr.split()), result.stderr
    assert {path.name for path in Path().iterdir()} == {"net.pt2", "net.py"}


@pytest.mark.slow
def test_int8_on_the_command_line(run) -> None:
    result = run("export", "lenet", "--int8", "l.onnx", "--data", "fashion_mnist_sample", "--opset", "19")
    assert result.exit_code == 0 and result.stdout.startswith("l.onnx\n"), result.stderr
    assert "accuracy (1,000 images)" in result.stdout and "int8" in result.stdout
