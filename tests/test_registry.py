"""Registering models, blocks, activations, norms and initializers of one's own, and finding them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

import cnnzoo
from cnnzoo.blocks import ACTIVATIONS, Conv, Flatten, Logits, register_activation, register_norm
from cnnzoo.errors import FileError, InputError, SpecError, UnknownNameError
from cnnzoo.initializers import register_initializer
from cnnzoo.published import Published


def make(name: str):
    def function(num_classes: int = 2, depth: int = 1) -> cnnzoo.Spec:
        return cnnzoo.Spec(name, (1, 8, 8), (*[Conv(2, kernel_size=1)] * depth, Flatten()), (Logits(num_classes),))

    function.__name__ = name
    return function


def test_list_models() -> None:
    assert {"alexnet", "lenet"} <= set(cnnzoo.list_models())
    assert cnnzoo.list_models() == sorted(cnnzoo.list_models())
    assert cnnzoo.list_models("alex*")[0] == "alexnet" and "lenet" not in cnnzoo.list_models("alex*")
    assert cnnzoo.list_models("nothing*") == []


def test_a_users_function() -> None:
    assert cnnzoo.register(make("minenet"))().name == "minenet"
    assert "minenet" in cnnzoo.list_models()
    assert cnnzoo.count("minenet", depth=3, num_classes=5).params.total == 4 + 2 * 6 + 5 * 128 + 5
    with pytest.raises(UnknownNameError, match="unknown knob of minenet 'dept'. Did you mean 'depth'"):
        cnnzoo.create("minenet", dept=3)


def test_records_of_a_users_function() -> None:
    figure = Published("parameters", "1.3K", "my thesis", "parameters")
    cnnzoo.register(published=[figure])(make("minenet"))
    (finding,) = cnnzoo.verify("minenet").findings
    assert (finding.exact, finding.verdict) == (262, "contradicts")
    assert cnnzoo.verify("minenet").unexplained == [finding]


def test_a_flag_is_a_flag() -> None:
    with pytest.raises(InputError, match="stride_in_1x1 of resnet50 must be True or False, not 'yes'"):
        cnnzoo.get_spec("resnet50", stride_in_1x1="yes")
    assert cnnzoo.count("resnet50", stride_in_1x1=True).macs < cnnzoo.count("resnet50").macs


def test_the_models_own_parameter_wins() -> None:
    def ownnet(width: int = 3) -> cnnzoo.Spec:
        return cnnzoo.Spec("ownnet", (1, 8, 8), (Conv(width, kernel_size=1), Flatten()), (Logits(2),))

    cnnzoo.register(ownnet)
    assert cnnzoo.create("ownnet", width=7).features[0].out_channels == 7


def test_a_name_of_the_zoo_is_refused_before_the_first_look_up() -> None:
    code = (
        "import cnnzoo\n"
        "def alexnet(): return None\n"
        "try: cnnzoo.register(alexnet)\n"
        "except cnnzoo.CnnzooError as error: print(error)\n"
        "print(cnnzoo.list_models('l*')[0], cnnzoo.get_spec('alexnet').name)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    first, second = done.stdout.splitlines()
    assert "model 'alexnet' is already registered by cnnzoo.models.alexnet" in first and second == "lenet alexnet"


def test_names_are_taken_once() -> None:
    taken = make("lenet")
    with pytest.raises(InputError, match="model 'lenet' is already registered by cnnzoo.models.lenet; choose"):
        cnnzoo.register(taken)
    again = make("minenet")
    cnnzoo.register(again)
    cnnzoo.register(again)  # a notebook cell run twice

    def needy(depth) -> cnnzoo.Spec:
        raise AssertionError

    with pytest.raises(InputError, match="model 'needy': give parameter 'depth' a default"):
        cnnzoo.register(needy)


def test_what_is_no_model_function() -> None:
    for thing in (5, "mynet", lambda n=1: None):
        with pytest.raises(InputError, match="register expects a named function that returns a Spec, got"):
            cnnzoo.register(thing)  # type: ignore[call-overload]

    def specless() -> None:
        return None

    cnnzoo.register(specless)
    with pytest.raises(SpecError, match="model 'specless': its function must return a Spec, not NoneType"):
        cnnzoo.create("specless")


def test_unknown_model_names_the_nearest() -> None:
    with pytest.raises(UnknownNameError) as error:
        cnnzoo.create("alexnett")
    assert str(error.value).startswith("unknown model 'alexnett'. Did you mean 'alexnet'")
    with pytest.raises(UnknownNameError, match="Did you mean 'lenet'"):
        cnnzoo.create("LeNet")
    with pytest.raises(UnknownNameError, match="unknown model 'x'. Known: alexnet"):
        cnnzoo.create("x")
    with pytest.raises(InputError, match="expected the name of a network, a Spec or a path, got int"):
        cnnzoo.create(3)  # type: ignore[arg-type]


def test_a_path_is_a_path(tmp_path: Path) -> None:
    """What exists is a path, and has to hold a network."""
    with pytest.raises(FileError, match="model.safetensors does not exist; the folder holds nothing"):
        cnnzoo.create(str(tmp_path))


def test_an_activation_of_ones_own() -> None:
    """One registration serves every check: fields, knobs, JSON, modules."""
    ACTIVATIONS["mish"] = nn.Mish
    assert register_activation("hard", nn.Hardtanh) is nn.Hardtanh

    @register_activation("twice")
    class Twice(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return 2 * x

    spec = cnnzoo.get_spec("lenet", activation="mish")
    spec = cnnzoo.edit(spec, "conv2", activation="twice")
    assert cnnzoo.Spec.from_json(spec.to_json()) == spec
    kinds = [type(module).__name__ for module in cnnzoo.create(spec).modules()]
    assert kinds.count("Mish") == 3 and kinds.count("Twice") == 1
    with pytest.raises(UnknownNameError, match=r"unknown activation 'mush'. Did you mean 'mish'.*twice"):
        Conv(1, 1, activation="mush")
    with pytest.raises(InputError, match="activation 'relu' is already registered by cnnzoo; choose another name"):
        ACTIVATIONS["relu"] = nn.ReLU6
    with pytest.raises(InputError, match="name of a registered activation must be an identifier, not 'a:b'"):
        ACTIVATIONS["a:b"] = nn.Mish


def test_a_norm_and_an_initializer_of_ones_own() -> None:
    @register_norm("scaled", default=0.5)
    def scaled(channels: int, factor: float) -> nn.Module:
        return nn.Dropout(factor)

    @register_initializer("filled", default=3.0)
    def filled(weight: torch.Tensor, value: float) -> torch.Tensor:
        return nn.init.constant_(weight, value)

    spec = cnnzoo.edit(cnnzoo.get_spec("lenet", norm="scaled:0.25"), "conv1", norm="scaled", init="filled:7")
    assert cnnzoo.Spec.from_json(spec.to_json()) == spec
    model = cnnzoo.create(spec)
    assert [m.p for m in model.modules() if isinstance(m, nn.Dropout)] == [0.5, 0.25]
    assert model.features[0].weight.unique().tolist() == [7.0]
    assert cnnzoo.TrainConfig(init="filled").init == "filled"
    with pytest.raises(InputError, match="initializer 'filled:x': 'x' is not a valid number; write filled:3"):
        cnnzoo.TrainConfig(init="filled:x")


PLUGIN = """
from dataclasses import dataclass
import cnnzoo
from cnnzoo.blocks import Block, Conv, Flatten, Logits, register_block
from torch import nn

@cnnzoo.register
def plugnet(num_classes: int = 2):
    return cnnzoo.Spec("plugnet", (1, 8, 8), (Conv(3, kernel_size=1), Flatten()), (Logits(num_classes),))

@register_block
@dataclass(frozen=True, repr=False)
class Twice(Block):
    def build(self, shape):
        return [nn.Identity(), nn.Identity()]
"""


def test_an_installed_package_contributes_models_and_blocks(tmp_path: Path) -> None:
    """A package on the path whose metadata names the entry points, as an installer writes them."""
    (tmp_path / "plugged.py").write_text(PLUGIN)
    info = tmp_path / "plugged-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: plugged\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[cnnzoo.models]\nplug = plugged\nbroken = not_there\n")
    code = """
import json, sys, warnings
sys.path.insert(0, sys.argv[1])
import cnnzoo
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    twice = {"name": "n", "input": [1, 8, 8], "features": [{"block": "Twice"}], "classifier": []}
    print(cnnzoo.Spec.from_dict(twice).features)  # before anything else was looked up
    names = cnnzoo.list_models()
print("plugnet" in names, "lenet" in names, cnnzoo.count("plugnet").params.total)
print(*[w.message for w in caught])
"""
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True)
    blocks, models, caught = done.stdout.splitlines()
    assert (blocks, models) == ("(Twice(),)", "True True 392")
    assert caught.startswith("the plugin 'not_there' could not be imported: ModuleNotFoundError")
