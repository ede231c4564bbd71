"""Networks that the shell builds: ``torchvision:NAME``, ``timm:NAME``, ``MODULE:FACTORY``."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torchvision
from click.testing import CliRunner, Result
from torch import nn

import cnnzoo
from cnnzoo.cli import main

MINE = """
from torch import nn
import cnnzoo

def make(width=4):
    return nn.Sequential(nn.Conv2d(3, width, 3), nn.ReLU())

class Nets:
    built = nn.Linear(3, 2)
    zoo = staticmethod(lambda: cnnzoo.create("lenet", seed=0))

def broken():
    raise ValueError("no weights")

number = 3
"""


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine_nets.py").write_text(MINE)
    yield lambda *arguments: CliRunner().invoke(main, arguments)
    sys.modules.pop("mine_nets", None)


def output(done: Result) -> str:
    assert done.exit_code == 0, done.output
    return done.output


def test_functions_classes_and_modules(run) -> None:
    path = list(sys.path)
    report = json.loads(output(run("summary", "mine_nets:make", "-k", "width=6", "--input-size", "1x3x8x8", "--json")))
    assert (report["name"], report["params"]["total"]) == ("mine_nets:make", 6 * 28)
    assert "1x2" in output(run("summary", "mine_nets:Nets.built", "--input-size", "1,3"))
    assert "61,706" in output(run("summary", "mine_nets:Nets.zoo"))
    assert sys.path == path


def test_torchvision(run) -> None:
    text = output(run("summary", "torchvision:resnet18", "--columns", "layer,stride", "--all"))
    assert "torchvision:resnet18 at 1x3x224x224" in text and "layer4.1.conv2" in text and "1,814,073,344" in text
    with_classes = output(run("summary", "torchvision:resnet18", "-k", "num_classes=10", "--depth", "1"))
    assert "5,130" in with_classes and "layer4.1" not in with_classes
    lines = output(run("compare", "torchvision:alexnet", "alexnet_owt", "lenet", "--baseline", "lenet")).splitlines()
    assert [line.split()[:3] for line in lines[5:8]] == [
        ["torchvision:alexnet", "1x3x224x224", "61,100,840"],
        ["alexnet_owt", "1x3x224x224", "61,100,840"],
        ["lenet", "1x1x28x28", "61,706"],
    ]


def test_sizes_of_torchvision() -> None:
    from cnnzoo.api.factories import _torchvision_size as size

    assert size("inception_v3") == (1, 3, 299, 299) and size("efficientnet_b7") == (1, 3, 600, 600)
    assert size("r3d_18") == (1, 3, 16, 112, 112) and size("fasterrcnn_resnet50_fpn") == (1, 3, 800, 800)


@pytest.mark.slow
def test_every_kind_of_torchvision(run) -> None:
    for name in ("fasterrcnn_resnet50_fpn", "vit_b_16", "regnet_y_400mf", "googlenet", "fcn_resnet50", "r3d_18"):
        assert len(output(run("summary", f"torchvision:{name}")).splitlines()) < 62
    assert "raft_large cannot run on an input" in run("summary", "torchvision:raft_large").output


def test_timm(run, monkeypatch: pytest.MonkeyPatch) -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 3))
    net.pretrained_cfg = {"input_size": (3, 10, 12)}  # type: ignore[assignment]
    timm = SimpleNamespace(
        is_model=lambda name: name == "tiny", list_models=lambda: ["tiny"], create_model=lambda name, pretrained: net
    )
    monkeypatch.setitem(sys.modules, "timm", timm)
    assert "timm:tiny.a1 at 1x3x10x12" in output(run("summary", "timm:tiny.a1"))
    assert "unknown model of timm 'tony'. Did you mean 'tiny'" in run("summary", "timm:tony").output
    monkeypatch.setitem(sys.modules, "timm", None)
    assert "error: timm is not installed: pip install timm" in run("summary", "timm:tiny").output


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["mine_nets:make"], 1, "the input of mine_nets:make is not known; give its shape: --input-size 1x3x224x224"),
        (["mine_nets:makes"], 1, "unknown name in mine_nets 'makes'. Did you mean 'make'"),
        (["mine_nets:broken"], 1, "mine_nets:broken cannot be built: ValueError: no weights"),
        (["mine_nets:make", "-k", "size=3"], 1, "cannot be built: TypeError: make() got an unexpected keyword"),
        (["mine_nets:number"], 1, "mine_nets:number must be an nn.Module, or return one, not int"),
        (["mine_nets:Nets.built", "-k", "a=1"], 1, "is built already; knobs are for a function or class"),
        (["no_module:make"], 1, "'no_module' is not a module that Python can import"),
        (["mine_nets:make", "--input-size", "1x3"], 1, "mine_nets:make cannot run on an input of (1, 3)"),
        (["mine_nets:make", "--input-size", "1x3x0"], 2, "'1x3x0' is not a shape such as 1x3x224x224"),
        (["torchvision:resnet_18"], 1, "unknown model of torchvision 'resnet_18'. Did you mean 'resnet18'"),
        (["lenet", "--depth", "1", "--all"], 2, "--all shows every layer, --depth those down to a depth"),
    ],
)
def test_what_is_refused(run, arguments: list[str], code: int, message: str) -> None:
    done = run("summary", *arguments)
    assert (done.exit_code, message in done.output) == (code, True), done.output


def test_knobs_for_all(run) -> None:
    text = output(run("compare", "alexnet", "lenet(activation=relu)", "-k", "num_classes=5"))
    assert "lenet(activation=relu,num_classes=5)" in text
    cnnzoo.save(cnnzoo.create("lenet", seed=0), "a.safetensors")
    assert "lenet" in output(run("compare", "a.safetensors", "alexnet", "-k", "num_classes=5"))
    done = run("compare", "a.safetensors", "alexnet", "-k", "num_classes=5", "--train")
    assert done.exit_code == 2 and "--knob changes new networks; a.safetensors has weights" in done.output
    done = run("compare", "torchvision:alexnet", "alexnet", "--train")
    assert done.exit_code == 2 and "--train is for networks of the zoo" in done.output


def test_names_of_files_are_not_factories(tmp_path: Path) -> None:
    from cnnzoo.api.factories import is_factory

    assert is_factory("torchvision:resnet18") and is_factory("my.nets:Net")
    assert not any(map(is_factory, ("hf://user/repo", "lenet(activation=relu)", "./a:b", "lenet", 3)))
    assert torchvision.models.list_models()
