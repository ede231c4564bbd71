"""What an installed package registers is known before a file is read."""

from __future__ import annotations

import importlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import cnnzoo
from cnnzoo.blocks import Conv, Flatten, Logits
from cnnzoo.serialization import weights_sha256

PLUGIN = '''
"""A block, an activation, a norm, an initializer and an augmentation."""

from dataclasses import dataclass

import torch
from torch import nn

from cnnzoo.blocks import Block, register_activation, register_block, register_norm
from cnnzoo.data import register_augmentation
from cnnzoo.fields import int_field
from cnnzoo.initializers import register_initializer


class Shift(nn.Module):
    def __init__(self, pixels):
        super().__init__()
        self.pixels = pixels

    def forward(self, x):
        return x.roll(self.pixels, dims=-1)

    def extra_repr(self):
        return str(self.pixels)


@register_block
@dataclass(frozen=True, repr=False)
class PlugShift(Block):
    pixels: int = int_field()

    def build(self, shape):
        return [Shift(self.pixels)]


@register_activation("plug_mish")
class PlugMish(nn.Mish):
    pass


@register_norm("plug_norm", default=2)
def plug_norm(channels, groups):
    return nn.GroupNorm(int(groups), channels)


@register_initializer("plug_sparse", default=0.5)
def plug_sparse(weight, fraction):
    return nn.init.sparse_(weight.flatten(1), fraction)


@register_augmentation("plug_invert", default=0.5, minimum=0, maximum=1)
def plug_invert(batch, probability):
    is_inverted = batch.uniform() < probability
    return torch.where(is_inverted[:, None, None, None], 255 - batch.images, batch.images)
'''
# reads a file, and continues a run
IN_ANOTHER_PROCESS = """
import json, sys
sys.path.insert(0, sys.argv[1])  # the site packages of the plugin
import cnnzoo
from cnnzoo.blocks import BLOCKS
from cnnzoo.data import AUGMENTATIONS
from cnnzoo.serialization import weights_sha256

assert "plugged" not in sys.modules and "PlugShift" not in BLOCKS._values
assert "plug_invert" not in AUGMENTATIONS._values
loaded = cnnzoo.load(sys.argv[2])
run = cnnzoo.Trainer.resume(sys.argv[3], show=False).fit()
checksum = weights_sha256(loaded.state_dict())
print(json.dumps([repr(loaded), checksum, repr(run.model), run.interrupted, len(run.history)]))
"""


FUNCTIONS_PLUGIN = '''
"""An optimizer, a schedule, a loss and a metric."""

import torch

import cnnzoo
from cnnzoo.train import one_hot


@cnnzoo.register_optimizer("plug_rmsprop")
def plug_rmsprop(groups, config, *, alpha=0.99):
    return torch.optim.RMSprop(groups, lr=config.lr, alpha=alpha)


@cnnzoo.register_schedule("plug_decay")
def plug_decay(config, progress):
    return config.lr / (1 + progress.epochs)


@cnnzoo.register_loss("plug_brier", default=2)
def plug_brier(logits, targets, power):
    return (logits.softmax(dim=1) - one_hot(targets, logits.shape[1])).abs().pow(power).sum(dim=1)


@cnnzoo.register_metric("plug_worst_recall")
def plug_worst_recall(evaluation):
    return min(evaluation.recall)
'''
RESUME = """
import json, sys
sys.path.insert(0, sys.argv[1])  # the site packages of the plugin
import cnnzoo
from cnnzoo.serialization import weights_sha256

assert "plugged" not in sys.modules
run = cnnzoo.Trainer.resume(sys.argv[2], show=False).fit()
results = [[entry[key] for key in ("lr", "loss", "test_plug_worst_recall")] for entry in run.history]
print(json.dumps([weights_sha256(run.model.state_dict()), results]))
"""


class StopAfterOneStep:
    def on_step(self, trainer: cnnzoo.Trainer) -> None:
        os.kill(os.getpid(), signal.SIGINT)


def install(folder: Path, code: str = PLUGIN) -> None:
    """Writes the package and the metadata that an installer writes."""
    (folder / "plugged.py").write_text(code)
    info = folder / "plugged-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: plugged\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[cnnzoo.models]\nplugged = plugged\n")


def test_files_and_runs_with_names_of_a_plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    site = tmp_path / "site"
    site.mkdir()
    install(site)
    monkeypatch.syspath_prepend(site)
    plugged = importlib.import_module("plugged")
    plugged_conv = Conv(4, kernel_size=5, stride=4, norm="plug_norm:4", activation="plug_mish", init="plug_sparse:0.25")
    spec = cnnzoo.Spec("plugged_net", (1, 28, 28), (plugged_conv, plugged.PlugShift(2), Flatten()), (Logits(10),))
    model = cnnzoo.create(spec, seed=0)
    assert (model.features[0].weight == 0).any()
    file = cnnzoo.save(model, tmp_path / "m.safetensors")
    modules, checksum = repr(model), weights_sha256(model.state_dict())
    config = cnnzoo.TrainConfig(epochs=1, batch_size=500, init="plug_sparse", augment=["plug_invert:0.25"])
    data = cnnzoo.load_data("fashion_mnist_sample")
    out = tmp_path / "run"
    run = cnnzoo.Trainer(model, data, config, out=out, show=False, callbacks=[StopAfterOneStep()]).fit()
    assert run.interrupted
    process = subprocess.run(
        [sys.executable, "-c", IN_ANOTHER_PROCESS, site, file, out], capture_output=True, text=True, check=True
    )
    result = json.loads(process.stdout)
    assert json.loads((out / "train.json").read_text())["config"]["augment"] == ["plug_invert:0.25"]
    assert result == [modules, checksum, modules, False, 1]


def test_a_run_with_functions_of_a_plugin_resumes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    site = tmp_path / "site"
    site.mkdir()
    install(site, FUNCTIONS_PLUGIN)
    monkeypatch.syspath_prepend(site)
    monkeypatch.delitem(sys.modules, "plugged", raising=False)
    importlib.invalidate_caches()
    importlib.import_module("plugged")
    config = cnnzoo.TrainConfig(
        epochs=2,
        batch_size=1000,
        optimizer="plug_rmsprop",
        optimizer_options={"alpha": 0.9},
        schedule="plug_decay",
        loss="plug_brier:1.5",
        metrics=["plug_worst_recall"],
    )
    data, out = cnnzoo.load_data("fashion_mnist_sample"), tmp_path / "run"
    whole = cnnzoo.Trainer(cnnzoo.create("lenet", seed=0), data, config, show=False).fit()
    model = cnnzoo.create("lenet", seed=0)
    cnnzoo.Trainer(model, data, config, out=out, show=False, callbacks=[StopAfterOneStep()]).fit()
    process = subprocess.run([sys.executable, "-c", RESUME, site, out], capture_output=True, text=True, check=True)
    results = [[entry[key] for key in ("lr", "loss", "test_plug_worst_recall")] for entry in whole.history]
    assert json.loads(process.stdout) == [weights_sha256(whole.model.state_dict()), results]
