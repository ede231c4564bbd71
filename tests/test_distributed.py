"""Several processes train as one: the same batches, the same weights to rounding, each test image counted once."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from cnnzoo.serialization import load_tensors

SCRIPT = """
import sys, torch, cnnzoo
from cnnzoo.data import Split, ImageData
full = cnnzoo.load_data("fashion_mnist_sample")
data = ImageData("some", full.train[:193], full.test[:77], full.classes)  # odd numbers: the last batch has one image
config = cnnzoo.TrainConfig(
    epochs=2, batch_size=32, lr=0.05, momentum=0.9, precision="fp32", flip=True, translate=2, random_erasing=0.3, mixup=0.2,
    ema=0.9, clip_norm=1.0, accumulation_steps=int(sys.argv[2]), views="flip", log_every=3,
)
class Record:
    def on_step(self, trainer):
        if trainer.distributed.rank == 0 and sys.argv[3] == "stop" and trainer.step == 6:
            import os, signal
            os.kill(os.getpid(), signal.SIGTERM)
if sys.argv[3] == "resume":
    trainer = cnnzoo.Trainer.resume(sys.argv[1], data=data)
else:
    model = cnnzoo.create("lenet", activation="relu", seed=0)
    trainer = cnnzoo.Trainer(model, data, config, out=sys.argv[1], callbacks=[Record()])
run = trainer.fit()
print("rank", trainer.distributed.rank, run.metrics.get("test_acc"), run.interrupted)
"""


def run(tmp_path: Path, processes: int, out: str, accumulate: int = 1, what: str = "go") -> str:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    command = [sys.executable, *(launcher if processes > 1 else []), str(script), str(tmp_path / out), str(accumulate)]
    done = subprocess.run([*command, what], capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


def weights(folder: Path) -> torch.Tensor:
    state = load_tensors(folder / "model.safetensors")
    return torch.cat([state[key].flatten() for key in sorted(state)])


@pytest.mark.parametrize(("processes", "accumulate"), [(2, 1), (3, 2)])
def test_several_processes_are_as_one(tmp_path: Path, processes: int, accumulate: int) -> None:
    run(tmp_path, 1, "one")
    said = run(tmp_path, processes, "several", accumulate)
    assert torch.allclose(weights(tmp_path / "one"), weights(tmp_path / "several"), atol=2e-5)
    one, several = (json.loads((tmp_path / name / "metrics.json").read_text()) for name in ("one", "several"))
    assert several["processes"] == processes and several["test_acc"] == pytest.approx(one["test_acc"], abs=2 / 77)
    for kind in ("test", "test_flip"):
        assert several["evaluations"][kind]["n"] == 77
    assert several["loss"] == pytest.approx(one["loss"], rel=1e-4)
    # every process knows the result, one of them tells it
    assert len({line.split()[2] for line in said.splitlines() if line.startswith("rank")}) == 1
    assert said.count("epoch 2/2") == 1


def test_a_stop_reaches_every_process_and_resumes(tmp_path: Path) -> None:
    run(tmp_path, 2, "whole")
    said = run(tmp_path, 2, "cut", what="stop")
    assert said.count("True") == 2
    assert run(tmp_path, 2, "cut", what="resume").count("False") == 2
    assert torch.equal(weights(tmp_path / "whole"), weights(tmp_path / "cut"))


def test_the_command_line_under_torchrun(tmp_path: Path) -> None:
    command = [
        sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "cnnzoo",
        "train", "lenet", "--recipe", "d2l/lenet", "--set", "epochs=1", "--out", str(tmp_path / "run"),
        "--seeds", "2", "--record", str(tmp_path / "record"),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("95 %") == 1  # one of them speaks
    for seed in (0, 1):
        assert json.loads((tmp_path / "run" / f"seed-{seed}" / "metrics.json").read_text())["processes"] == 2
    assert len(json.loads((tmp_path / "record.json").read_text())["runs"]) == 2
