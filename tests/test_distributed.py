"""Several processes train as one: the same batches, the same weights to rounding, each test image counted once."""

from __future__ import annotations

import functools
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from processes import Outcome, run_together

import cnnzoo
from cnnzoo.blocks import Conv, Flatten, Logits
from cnnzoo.data import ImageData
from cnnzoo.serialization import load_tensors
from cnnzoo.train.distributed import DistributedContext
from cnnzoo.train.metrics import EpochMetrics


class StopRank0:
    """Sends SIGTERM to rank 0 after a step."""

    def on_step(self, trainer) -> None:
        if trainer.distributed.rank == 0 and trainer.step == 6:
            os.kill(os.getpid(), signal.SIGTERM)


def train(out: Path, accumulation_steps: int, command: str) -> tuple[Any, bool]:
    """Trains as one of several processes: ``"run"``, ``"stop"`` or ``"resume"``."""
    torch.set_num_threads(1)  # as torchrun does
    full = cnnzoo.load_data("fashion_mnist_sample")
    # odd numbers: the last batch has one image
    data = ImageData("some", full.train[:193], full.test[:77], full.classes)
    config = cnnzoo.TrainConfig(
        epochs=2, batch_size=32, lr=0.05, momentum=0.9, precision="fp32", flip=True, translate=2, random_erasing=0.3,
        augment=["rotate", "cutmix"], ema=0.9, clip_norm=1.0, accumulation_steps=accumulation_steps, views="flip",
        log_every=3,
    )  # fmt: skip
    if command == "resume":
        trainer = cnnzoo.Trainer.resume(out, data=data)
    else:
        model = cnnzoo.create("lenet", activation="relu", seed=0)
        callbacks = [StopRank0()] if command == "stop" else []
        trainer = cnnzoo.Trainer(model, data, config, out=out, callbacks=callbacks)
    run = trainer.fit()
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
    return run.metrics.get("test_acc"), run.interrupted


def run_ranks(processes: int, out: Path, accumulation_steps: int = 1, command: str = "run") -> list[Outcome]:
    return run_processes(train, processes, (out, accumulation_steps, command))


def run_processes(function: Callable[..., Any], processes: int, arguments: tuple[Any, ...]) -> list[Outcome]:
    """Calls a function in processes that train together."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    shared = {"WORLD_SIZE": str(processes), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    environments = [{**shared, "RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(processes)]
    outcomes = run_together(function, [arguments] * processes, environments)
    for outcome in outcomes:
        assert outcome.code == 0, outcome.stderr
    return outcomes


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Callable[[int, int], tuple[Path, list[Outcome]]]:
    """Trains with so many processes and micro-batches, once for all tests: the folder, and how each process ended."""

    @functools.cache
    def run(processes: int, accumulation_steps: int) -> tuple[Path, list[Outcome]]:
        out = tmp_path_factory.mktemp("run") / "run"
        return out, run_ranks(processes, out, accumulation_steps)

    return run


def weights(folder: Path) -> torch.Tensor:
    state = load_tensors(folder / "model.safetensors")
    return torch.cat([state[key].flatten() for key in sorted(state)])


@pytest.mark.parametrize(("processes", "accumulation_steps"), [(2, 1), (3, 2)])
def test_several_processes_are_as_one(trained, processes: int, accumulation_steps: int) -> None:
    single, _ = trained(1, 1)
    several, outcomes = trained(processes, accumulation_steps)
    assert torch.allclose(weights(single), weights(several), atol=2e-5)
    one, metrics = (json.loads((path / "metrics.json").read_text()) for path in (single, several))
    assert metrics["processes"] == processes and metrics["test_acc"] == pytest.approx(one["test_acc"], abs=2 / 77)
    for name in ("test", "test_flip"):
        assert metrics["evaluations"][name]["n"] == 77
    assert metrics["loss"] == pytest.approx(one["loss"], rel=1e-4)
    # every process has the result, rank 0 shows progress
    assert {outcome.result for outcome in outcomes} == {(metrics["test_acc"], False)}
    assert sum(outcome.stderr.count("epoch 2/2") for outcome in outcomes) == 1


def test_a_stop_reaches_every_process_and_resumes(trained, tmp_path: Path) -> None:
    whole, _ = trained(2, 1)
    stopped = run_ranks(2, tmp_path / "cut", command="stop")
    assert [outcome.result[1] for outcome in stopped] == [True, True]
    resumed = run_ranks(2, tmp_path / "cut", command="resume")
    assert [outcome.result[1] for outcome in resumed] == [False, False]
    assert torch.equal(weights(whole), weights(tmp_path / "cut"))
    # the sums of the first epoch, in whose middle it stopped, are those of each process
    first, cut = ((path / "history.jsonl").read_text().splitlines()[0] for path in (whole, tmp_path / "cut"))
    assert json.loads(first)["loss"] == json.loads(cut)["loss"]


def test_sums_of_another_number_of_processes() -> None:
    metrics = EpochMetrics(torch.device("cpu"), DistributedContext())
    metrics.load_sums({"loss": torch.tensor([1.5, 2.0]), "correct": torch.tensor([3, 4])})
    assert metrics.gather_sums() == {"loss": torch.tensor([3.5]), "correct": torch.tensor([7])}


def train_with_batch_norm(out: Path) -> None:
    torch.set_num_threads(1)
    full = cnnzoo.load_data("fashion_mnist_sample")
    data = ImageData("some", full.train[:64], full.test[:64], full.classes)
    layers = (Conv(4, kernel_size=3, stride=3, norm="batch"), Flatten())
    model = cnnzoo.create(cnnzoo.Spec("normalized", (1, 28, 28), layers, (Logits(10),)), seed=0)
    config = cnnzoo.TrainConfig(epochs=1, batch_size=8, lr=0.1, precision="fp32", ema=0.9)
    cnnzoo.Trainer(model, data, config, out=out, show=False).fit()
    torch.distributed.destroy_process_group()


def test_each_process_evaluates_the_weights_that_are_saved(tmp_path: Path) -> None:
    """Not with its own statistics of batch normalization."""
    run_processes(train_with_batch_norm, 2, (tmp_path,))
    full = cnnzoo.load_data("fashion_mnist_sample")
    saved = cnnzoo.evaluate(cnnzoo.load(tmp_path), ImageData("some", full.train[:64], full.test[:64], full.classes))
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert metrics["evaluations"]["test"]["loss"] == pytest.approx(saved.loss, rel=1e-5)


def test_the_command_line_under_torchrun(tmp_path: Path) -> None:
    command = [
        sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "cnnzoo",
        "train", "lenet", "--recipe", "d2l/lenet", "--set", "epochs=1", "--out", str(tmp_path / "run"),
        "--seeds", "2", "--record", str(tmp_path / "record"),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("95 %") == 1  # only rank 0 prints
    for seed in (0, 1):
        assert json.loads((tmp_path / "run" / f"seed-{seed}" / "metrics.json").read_text())["processes"] == 2
    assert len(json.loads((tmp_path / "record.json").read_text())["runs"]) == 2
