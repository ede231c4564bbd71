"""The same command again: it starts, continues, or says that the run is finished; and nobody else writes there."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner, Result
from processes import run_together
from runs import At
from torch import nn

import cnnzoo
from cnnzoo.cli import main
from cnnzoo.data import ImageData
from cnnzoo.errors import FileError, InputError, UnknownNameError
from cnnzoo.serialization import load_tensors, weights_sha256
from cnnzoo.train.lock import FolderLock

CONFIG = cnnzoo.TrainConfig(
    epochs=3, batch_size=20, lr=0.1, momentum=0.9, precision="fp32", ema=0.9, checkpoint_every=2, val_size=20,
    save_best=True,
)  # fmt: skip


def start(spec: cnnzoo.Spec, data: ImageData, out: Path, config: cnnzoo.TrainConfig = CONFIG, **more: object):
    return cnnzoo.Trainer(cnnzoo.create(spec, seed=0), data, config, out=out, resume="auto", show=False, **more)


def weights_of(folder: Path) -> str:
    return weights_sha256(load_tensors(folder / "model.safetensors"))


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def fail() -> None:
    raise RuntimeError("a callback that fails")


def train_and_die(spec: cnnzoo.Spec, data: ImageData, out: Path, step: int) -> None:
    start(spec, data, out, callbacks=[At(step, die)]).fit()


def extend_and_die(spec: cnnzoo.Spec, data: ImageData, out: Path, config: cnnzoo.TrainConfig, step: int) -> None:
    start(spec, data, out, config, callbacks=[At(step, die)]).fit()


def test_the_same_call_again(tmp_path: Path, tiny_spec: cnnzoo.Spec, tiny_data: ImageData) -> None:
    """Killed before the first checkpoint, after one, and in the second epoch; then finished, and asked once more."""
    whole = start(tiny_spec, tiny_data, tmp_path / "whole").fit()
    out = tmp_path / "run"
    for step in (1, 3, 6):
        outcome = run_together(train_and_die, [(tiny_spec, tiny_data, out, step)])[0]
        assert outcome.code == -signal.SIGKILL, outcome.stderr
        trainer = start(tiny_spec, tiny_data, out)
        assert trainer.step == {1: 0, 3: 2, 6: 4}[step] and not trainer.is_finished
    run = trainer.fit()
    assert weights_of(out) == weights_of(tmp_path / "whole") and run.metrics["test_acc"] == whole.metrics["test_acc"]
    sessions = json.loads((out / "train.json").read_text())["sessions"]
    assert [session["step"] for session in sessions] == [0, 2, 4]  # the first one was started anew

    before = {file.name: file.read_bytes() for file in out.iterdir()}
    again = start(tiny_spec, tiny_data, out)
    assert again.is_finished and again.step == 12
    result = again.fit()
    assert {file.name: file.read_bytes() for file in out.iterdir()} == before
    assert result.metrics == json.loads(json.dumps(run.metrics)) and list(result.history) == again.history
    assert weights_sha256(result.model.state_dict()) == weights_of(out)
    assert result.model.metadata == cnnzoo.load(out).metadata and not result.interrupted


def test_killed_between_two_files(tmp_path: Path, tiny_spec: cnnzoo.Spec, tiny_data: ImageData) -> None:
    """Whatever a killed run leaves, the same call goes on, and removes what is not needed."""
    start(tiny_spec, tiny_data, tmp_path / "whole").fit()
    out = tmp_path / "run"
    run_together(train_and_die, [(tiny_spec, tiny_data, out, 1)])
    (out / "config.json").unlink()  # train.json is written before it
    (out / ".checkpoint.safetensors.a1b2.part").write_text("half of it")
    (out / ".notes.part").write_text("of somebody else")
    trainer = start(tiny_spec, tiny_data, out, callbacks=[At(7, fail)])
    with pytest.raises(RuntimeError, match="a callback that fails"):
        trainer.fit()
    checkpoint = (out / "checkpoint.safetensors").read_bytes()
    start(tiny_spec, tiny_data, out).fit()
    assert weights_of(out) == weights_of(tmp_path / "whole")
    (out / "checkpoint.safetensors").write_bytes(checkpoint)  # killed after metrics.json, before it was removed
    assert start(tiny_spec, tiny_data, out).fit().metrics["epochs"] == 3
    files = sorted(file.name for file in (tmp_path / "whole").iterdir())
    assert sorted(file.name for file in out.iterdir()) == [".notes.part", *files]


def test_killed_while_the_curves_are_drawn(
    tmp_path: Path, tiny_spec: cnnzoo.Spec, tiny_data: ImageData, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*args: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("cnnzoo.train.run_dir.save_figure", interrupt)
        start(tiny_spec, tiny_data, tmp_path).fit()
    again = start(tiny_spec, tiny_data, tmp_path)
    assert again.is_finished and again.step == 12
    assert not (tmp_path / "curves.png").exists() and (tmp_path / "checkpoint.safetensors").exists()
    again.fit()
    assert (tmp_path / "curves.png").exists() and not (tmp_path / "checkpoint.safetensors").exists()


class FailInEvaluation:
    """Fails in an evaluation, counted from 1, or after an epoch."""

    def __init__(self, evaluation: int = 0, epoch: int = 0) -> None:
        self.evaluation, self.epoch, self.count = evaluation, epoch, 0

    def on_eval(self, trainer: cnnzoo.Trainer, evaluation: object) -> None:
        self.count += 1
        if self.count == self.evaluation:
            fail()

    def on_epoch(self, trainer: cnnzoo.Trainer, entry: dict[str, object]) -> None:
        if entry["epoch"] == self.epoch:
            fail()


@pytest.mark.parametrize("failure", [{"evaluation": 4}, {"epoch": 3}], ids=["final test", "after the last epoch"])
def test_a_failure_after_the_last_step(
    tmp_path: Path, tiny_spec: cnnzoo.Spec, tiny_data: ImageData, failure: dict[str, int]
) -> None:
    """The checkpoint does not get the average or the best weights, and patience ends the run where it did."""
    config = CONFIG.replace(epochs=9, patience=1)
    whole = start(tiny_spec, tiny_data, tmp_path / "whole", config).fit()
    last = len(whole.history)
    assert last < 9
    failure = {key: last + (key == "evaluation") for key in failure}
    with pytest.raises(RuntimeError, match="a callback that fails"):
        start(tiny_spec, tiny_data, tmp_path / "run", config, callbacks=[FailInEvaluation(**failure)]).fit()
    start(tiny_spec, tiny_data, tmp_path / "run", config).fit()
    assert weights_of(tmp_path / "run") == weights_of(tmp_path / "whole")
    results = [json.loads((tmp_path / name / "metrics.json").read_text()) for name in ("whole", "run")]
    assert results[0]["evaluations"] == results[1]["evaluations"] and results[0]["epochs"] == results[1]["epochs"]


def fork_and_die(folder: Path) -> None:
    """Locks a folder, starts a process as torch's DataLoader does, and dies."""
    with FolderLock(folder, "train"):
        process = multiprocessing.get_context("fork").Process(target=time.sleep, args=(60,))
        process.start()
        (folder / "child").write_text(str(process.pid))
        die()


def test_a_process_that_outlives_a_killed_one_does_not_hold_the_lock(tmp_path: Path) -> None:
    outcome = run_together(fork_and_die, [(tmp_path,)])[0]
    child = int((tmp_path / "child").read_text())
    try:
        assert outcome.code == -signal.SIGKILL, outcome.stderr
        os.kill(child, 0)  # it lives
        with FolderLock(tmp_path, "train"):
            pass
    finally:
        os.kill(child, signal.SIGKILL)


def test_another_run_in_the_folder(tmp_path: Path, tiny_spec: cnnzoo.Spec, tiny_data: ImageData) -> None:
    start(tiny_spec, tiny_data, tmp_path).fit()
    for change, message in (
        (lambda: start(tiny_spec, tiny_data, tmp_path, CONFIG.replace(lr=0.2)), "differs: lr was 0.1 and is 0.2"),
        (lambda: start(tiny_spec, tiny_data.hold_out(9), tmp_path), "tiny is not the data of the run in"),
        (
            lambda: start(cnnzoo.edit(tiny_spec, "conv1", norm=None), tiny_data, tmp_path),
            r"trains another network \(tiny\)",
        ),
    ):
        with pytest.raises(InputError, match=f"{message}.*overwrite=True"):
            change()
    with pytest.raises(InputError, match="resume must be 'auto' or None, not True; Trainer.resume"):
        cnnzoo.Trainer(cnnzoo.create(tiny_spec), tiny_data, CONFIG, resume=True)  # type: ignore[arg-type]
    other = start(tiny_spec, tiny_data, tmp_path, CONFIG.replace(lr=0.2), overwrite=True)
    assert not other.is_finished and other.step == 0
    with pytest.raises(FileError, match=r"finished, or was stopped before its first one; to train .* cnnzoo train '?/"):
        cnnzoo.Trainer.resume(tmp_path)


def test_plain_modules(tmp_path: Path, tiny_data: ImageData) -> None:
    def trainer(callbacks: tuple = ()) -> cnnzoo.Trainer:
        torch.manual_seed(0)
        model = nn.Sequential(nn.Flatten(), nn.Linear(64, 3))
        return cnnzoo.Trainer(
            model, tiny_data, CONFIG, out=tmp_path / "run", resume="auto", callbacks=callbacks, show=False
        )

    with pytest.raises(RuntimeError, match="a callback that fails"):
        trainer((At(7, fail),)).fit()
    assert trainer().step == 7  # saved after the error, not only every second step
    run = trainer().fit()
    assert trainer().fit().metrics == json.loads(json.dumps(run.metrics))


def call(function: Callable, arguments: tuple) -> object:
    return function(*arguments)


def hold(spec: cnnzoo.Spec, data: ImageData, out: Path, started: Path, ended: Path) -> None:
    """Trains until a file appears."""

    def wait() -> None:
        started.write_text("")
        while not ended.exists():
            time.sleep(0.01)

    start(spec, data, out, callbacks=[At(1, wait)]).fit()


def intrude(spec: cnnzoo.Spec, data: ImageData, out: Path, started: Path, ended: Path) -> str:
    """Trains in the same folder meanwhile."""
    before = start(spec, data, out)  # built while there is no run
    while not started.exists():
        time.sleep(0.01)
    message = ""
    for trainer in (before, start(spec, data, out)):
        try:
            trainer.fit()
        except FileError as error:
            message += f"{error}\n"
    ended.write_text("")
    return message


def test_two_processes_never_write_into_one_folder(
    tmp_path: Path, tiny_spec: cnnzoo.Spec, tiny_data: ImageData
) -> None:
    """R15."""
    arguments = (tiny_spec, tiny_data, tmp_path / "run", tmp_path / "started", tmp_path / "ended")
    holder, intruder = run_together(call, [(hold, arguments), (intrude, arguments)])
    assert holder.code == 0, holder.stderr
    lines = intruder.result.splitlines()
    assert len(lines) == 2 and all("run is in use by process" in line for line in lines)
    assert "wait until it ends, or name another folder" in lines[0]
    assert not (tmp_path / "run" / ".lock").exists() and (tmp_path / "run" / "metrics.json").exists()


def test_a_folder_that_changed_meanwhile(tmp_path: Path, tiny_spec: cnnzoo.Spec, tiny_data: ImageData) -> None:
    early = start(tiny_spec, tiny_data, tmp_path)
    start(tiny_spec, tiny_data, tmp_path).fit()
    with pytest.raises(FileError, match="another process has trained in .* meanwhile; run the command again"):
        early.fit()


# --- hooks ---


def test_hooks_see_batch_gradients_and_optimizer(tiny_data: ImageData) -> None:
    events: list[str] = []

    class Watch:
        def on_batch(self, trainer) -> None:
            events.append(f"batch {len(trainer.batch)} {tuple(trainer.batch[0].x.shape)}")
            assert isinstance(trainer.optimizer, torch.optim.SGD)

        def on_backward(self, trainer) -> None:
            assert all(p.grad is not None for p in trainer.model.parameters())
            events.append("backward")
            for p in trainer.model.parameters():
                p.grad.zero_()

        def on_step(self, trainer) -> None:
            events.append("step")

    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 3))
    before = model[1].weight.clone()
    config = cnnzoo.TrainConfig(epochs=1, batch_size=45, accumulation_steps=3, precision="fp32")
    cnnzoo.Trainer(model, tiny_data, config, callbacks=[Watch()], show=False).fit()
    assert events == ["batch 3 (15, 1, 8, 8)", "backward", "step"] * 2
    assert torch.equal(model[1].weight, before)


def test_a_figure_of_ones_own_is_recorded(tmp_path: Path, tiny_data: ImageData, capsys: pytest.CaptureFixture) -> None:
    """T14."""

    class Norm:
        def on_epoch(self, trainer, entry) -> None:
            entry["norm"] = trainer.model[1].weight.detach().norm().item()

    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 3))
    config = cnnzoo.TrainConfig(epochs=2, precision="fp32")
    run = cnnzoo.Trainer(model, tiny_data, config, out=tmp_path, callbacks=[Norm()]).fit()
    norm = run.history[-1]["norm"]
    assert json.loads((tmp_path / "history.jsonl").read_text().splitlines()[-1])["norm"] == norm
    assert json.loads((tmp_path / "metrics.json").read_text())["norm"] == norm == run.metrics["norm"]
    assert f"norm {norm:.4g}" in capsys.readouterr().err


def test_a_misspelt_hook(tiny_data: ImageData) -> None:
    class Misspelt:
        def on_epochs(self, trainer, entry) -> None: ...

    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 3))
    with pytest.raises(UnknownNameError, match="Misspelt: unknown hook of a callback 'on_epochs'. Did you mean 'on_ep"):
        cnnzoo.Trainer(model, tiny_data, callbacks=[Misspelt()])
    with pytest.raises(
        InputError, match="a callback has at least one of the methods on_start, on_batch, .*; object has"
    ):
        cnnzoo.Trainer(model, tiny_data, callbacks=[object()])


def test_a_picture_that_cannot_be_drawn(tmp_path: Path, tiny_data: ImageData, monkeypatch: pytest.MonkeyPatch) -> None:
    """R3: the weights are saved first, and the failure is a warning."""
    monkeypatch.setattr("cnnzoo.train.run_dir.save_figure", lambda figure, path: fail())
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 3))
    with pytest.warns(UserWarning, match="curves.png was not drawn: RuntimeError: a callback that fails"):
        run = cnnzoo.Trainer(
            model, tiny_data, cnnzoo.TrainConfig(epochs=1, precision="fp32"), out=tmp_path, show=False
        ).fit()
    assert (tmp_path / "metrics.json").exists() and run.metrics["epochs"] == 1
    assert not (tmp_path / "checkpoint.safetensors").exists()


# --- torchrun ---

SCRIPT = """
import os, signal, sys
from pathlib import Path
import torch
import cnnzoo
from cnnzoo.data import ImageData, Split

out, killed = Path(sys.argv[1]), Path(sys.argv[2])

class Kill:
    def on_step(self, trainer):
        if trainer.step == 60 and trainer.distributed.rank == 1 and not killed.exists():
            killed.write_text("")
            os.kill(os.getpid(), signal.SIGKILL)

torch.set_num_threads(1)
generator = torch.Generator().manual_seed(0)
images = torch.randint(0, 256, (90, 1, 8, 8), dtype=torch.uint8, generator=generator)
split = Split(images, torch.arange(90) % 3)
model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 16), torch.nn.Dropout(0.2), torch.nn.Linear(16, 3))
torch.manual_seed(0)
for parameter in model.parameters():
    torch.nn.init.normal_(parameter)
config = cnnzoo.TrainConfig(epochs=8, batch_size=10, momentum=0.9, precision="fp32", checkpoint_every=7, ema=0.9)
data = ImageData("noise", split, split, ("a", "b", "c"))
cnnzoo.Trainer(model, data, config, out=out, resume="auto", callbacks=[Kill()], show=False).fit()
"""


@pytest.mark.slow
def test_torchrun_restarts_a_killed_rank(tmp_path: Path) -> None:
    """T2: a rank is killed at step 60 of its first life; the run ends by itself with the bytes of a calm one."""
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)

    def torchrun(out: Path, killed: Path) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
        command += ["--max-restarts=2", str(script), str(out), str(killed)]
        return subprocess.run(command, capture_output=True, text=True, timeout=280, check=False)

    (tmp_path / "never").write_text("")
    calm = torchrun(tmp_path / "calm", tmp_path / "never")
    assert calm.returncode == 0, calm.stderr[-3000:]
    disturbed = torchrun(tmp_path / "disturbed", tmp_path / "killed")
    assert disturbed.returncode == 0, disturbed.stderr[-3000:]
    assert (tmp_path / "killed").exists()
    assert weights_of(tmp_path / "disturbed") == weights_of(tmp_path / "calm")
    sessions = json.loads((tmp_path / "disturbed" / "train.json").read_text())["sessions"]
    assert [session["step"] for session in sessions] == [0, 56]
    again = torchrun(tmp_path / "disturbed", tmp_path / "killed")  # finished
    assert again.returncode == 0, again.stderr[-3000:]


def test_a_sweep_is_completed(tmp_path: Path, tiny_spec: cnnzoo.Spec, tiny_data: ImageData) -> None:
    """T3: Ctrl-C in the second of three runs; the same call does the rest, and nothing twice."""
    config = CONFIG.replace(epochs=2)
    whole = cnnzoo.seed_sweep(tiny_spec, tiny_data, config, seeds=3, out=tmp_path / "whole", show=False)

    def sweep() -> cnnzoo.train.SeedSweep:
        return cnnzoo.seed_sweep(
            tiny_spec, tiny_data, config, seeds=3, out=tmp_path / "sweep", resume="auto", show=False
        )

    first = cnnzoo.Trainer(
        cnnzoo.create(tiny_spec, seed=0),
        tiny_data,
        config.replace(seed=0),
        out=tmp_path / "sweep" / "seed-0",
        show=False,
    )
    first.fit()
    interrupt = At(3, lambda: os.kill(os.getpid(), signal.SIGINT))
    second = cnnzoo.Trainer(
        cnnzoo.create(tiny_spec, seed=1), tiny_data, config.replace(seed=1), out=tmp_path / "sweep" / "seed-1",
        callbacks=[interrupt], show=False,
    )  # fmt: skip
    assert second.fit().interrupted
    before = (tmp_path / "sweep" / "seed-0" / "train.json").read_bytes()
    completed = sweep()
    assert completed.values() == whole.values() and len(completed.runs) == 3
    assert (tmp_path / "sweep" / "seed-0" / "train.json").read_bytes() == before
    for seed in range(3):
        assert weights_of(tmp_path / "sweep" / f"seed-{seed}") == weights_of(tmp_path / "whole" / f"seed-{seed}")
    assert sweep().to_dict() == json.loads(json.dumps(completed.to_dict()))


def test_a_finished_run_is_trained_longer(tmp_path: Path, tiny_spec: cnnzoo.Spec, tiny_data: ImageData) -> None:
    """T9: with its checkpoint, at the same learning rates; the result is that of a run of so many epochs."""
    config = CONFIG.replace(keep_checkpoint=True, schedule="step", milestones=(2,))
    whole = start(tiny_spec, tiny_data, tmp_path / "whole", config.replace(epochs=4)).fit()
    out = tmp_path / "run"
    start(tiny_spec, tiny_data, out, config.replace(epochs=3)).fit()
    assert start(tiny_spec, tiny_data, out, config.replace(epochs=3)).is_finished
    longer = start(tiny_spec, tiny_data, out, config.replace(epochs=4))
    assert longer.step == 12 and not longer.is_finished
    run = longer.fit()
    assert weights_of(out) == weights_of(tmp_path / "whole") and run.metrics["test_acc"] == whole.metrics["test_acc"]
    assert [entry["val_acc"] for entry in run.history] == [entry["val_acc"] for entry in whole.history]

    out = tmp_path / "killed"
    start(tiny_spec, tiny_data, out, config.replace(epochs=3)).fit()
    outcome = run_together(extend_and_die, [(tiny_spec, tiny_data, out, config.replace(epochs=4), 13)])[0]
    assert outcome.code == -signal.SIGKILL, outcome.stderr  # before the first checkpoint with the new config
    start(tiny_spec, tiny_data, out, config.replace(epochs=4)).fit()
    assert weights_of(out) == weights_of(tmp_path / "whole")
    for other in (
        config.replace(epochs=2),  # shorter
        config.replace(epochs=5, schedule="cosine", milestones=()),
    ):
        with pytest.raises(InputError, match="can only continue with the config that it started with"):
            start(tiny_spec, tiny_data, out, other)
    cosine = CONFIG.replace(keep_checkpoint=True, schedule="cosine")
    start(tiny_spec, tiny_data, tmp_path / "cosine", cosine).fit()
    with pytest.raises(InputError, match="epochs was 3 and is 4"):  # other rates in the epochs before
        start(tiny_spec, tiny_data, tmp_path / "cosine", cosine.replace(epochs=4))


# --- the shell ---


def shell(*arguments: str) -> Result:
    return CliRunner().invoke(main, arguments)


def test_the_same_command_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    command = ["train", "lenet", "--set", "epochs=1", "--set", "overfit_batches=3", "--set", "init=null"]
    first = shell(*command)
    assert first.exit_code == 0, first.stderr
    before = (tmp_path / "runs" / "lenet" / "model.safetensors").read_bytes()
    again = shell(*command)
    assert again.exit_code == 0 and "runs/lenet is finished already; --overwrite trains anew" in again.stderr
    assert again.stdout == first.stdout and (tmp_path / "runs" / "lenet" / "model.safetensors").read_bytes() == before
    other = shell(*command, "--set", "lr=0.5")
    assert other.exit_code == 1 and "differs: lr was" in other.stderr and "--overwrite" in other.stderr
    for _ in range(2):
        sweep = shell(*command, "--seeds", "2", "--out", "sweep")
        assert sweep.exit_code == 0, sweep.stderr
        comparison = shell("compare", "lenet", "lenet(activation=relu)", "--train", *command[2:], "--out", "both")
        assert comparison.exit_code == 0, comparison.stderr
    for file in ("sweep/seed-1/train.json", "both/lenet/train.json"):
        assert len(json.loads((tmp_path / file).read_text())["sessions"]) == 1


def test_the_utilization_of_the_machine(tmp_path: Path, tiny_data: ImageData, monkeypatch: pytest.MonkeyPatch) -> None:
    """Counted FLOPs per second over those of a matrix product, which is measured once."""
    from cnnzoo.train import utilization

    calls: list[torch.dtype] = []

    def peak(device: torch.device, dtype: torch.dtype, seconds: float, n: int | None) -> float:
        calls.append(dtype)
        return 1e12

    monkeypatch.setattr(import_module("cnnzoo.measure.bench"), "peak_flops_per_sec", peak)
    utilization._peak.cache_clear()
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 3))
    config = cnnzoo.TrainConfig(epochs=2, batch_size=30, precision="fp32")
    for _ in range(2):
        run = cnnzoo.Trainer(model, tiny_data, config, show=False).fit()
        utilization._peak.cache_clear()  # the second time, it is read from the cache folder
    flops = 2 * cnnzoo.count(model, (1, 1, 8, 8)).train_macs
    entry = run.history[-1]
    assert entry["mfu"] == pytest.approx(entry["examples_per_sec"] * flops / 1e12)
    assert run.metrics["mfu"] == pytest.approx(run.metrics["examples_per_sec"] * flops / 1e12)
    assert calls == [torch.float32]
