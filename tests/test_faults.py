"""Files of runs that are killed, fail or are damaged; the long run is ``python tests/faults.py``."""

from __future__ import annotations

import json
import multiprocessing
import os
import re
import shutil
import signal
import threading
import time
from collections.abc import Callable
from contextlib import nullcontext, redirect_stderr, redirect_stdout
from pathlib import Path

import pytest
import torch
from damages import damage_runs
from faults import SETTINGS, Faults, run_faults
from kills import make_data
from processes import run_together
from runs import At
from torch import nn

import cnnzoo
from cnnzoo.data import ImageData, StreamData
from cnnzoo.data.loaders import DatasetLoader
from cnnzoo.errors import CnnzooError, DataError, FileError
from cnnzoo.files import atomic_write, write_json
from cnnzoo.serialization import load_verified, save_tensors
from cnnzoo.streams import display_stream, result_stream
from cnnzoo.train.checkpoint_file import load_checkpoint, save_checkpoint
from cnnzoo.train.signals import DeferredInterrupt

CONFIG = cnnzoo.TrainConfig(epochs=2, batch_size=30, lr=0.1, precision="fp32", channels_last=False)  # 3 steps each


def model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 3))


def trainer(data: ImageData | StreamData, out: Path | None, *callbacks: object, **changes: object) -> cnnzoo.Trainer:
    config = CONFIG.replace(**changes)
    return cnnzoo.Trainer(model(), data, config, out=out, resume="auto", callbacks=callbacks, show=False)


def interrupt() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


# --- writes that fail ---


@pytest.fixture(scope="module")
def faults(tmp_path_factory: pytest.TempPathFactory) -> Faults:
    return Faults("one", tmp_path_factory.mktemp("faults"), seed=1)


def test_every_file_of_a_run_meets_faults(faults: Faults) -> None:
    moments = {(moment.kind, moment.file) for moment in faults.moments}
    files = ("train.json", "config.json", "history.jsonl", "checkpoint.safetensors", "best.safetensors")
    results = ("model.safetensors", "metrics.json", "curves.png")
    for file in (*files, *results):
        assert {("write", file), ("fsync", file), ("rename", file)} <= moments
    assert ("write", ".lock") in moments and ("remove", "checkpoint.safetensors") in moments
    assert len(faults.faults()) > 250


WRITES = (
    ("full", "write", "checkpoint.safetensors"),
    ("ENOSPC", "fsync", "train.json"),
    ("EACCES", "write", "history.jsonl"),
    ("EIO", "rename", "checkpoint.safetensors"),
    ("EACCES", "remove", "checkpoint.safetensors"),
    ("ENOSPC", "write", "model.safetensors"),
    ("EIO", "fsync", "metrics.json"),
    ("full", "write", "curves.png"),
)


def test_writes_that_fail_lose_nothing(faults: Faults) -> None:
    """One sentence, or a run that goes on; and the same call again ends with the same bytes."""
    chosen = {(f.kind, faults.moments[f.number].kind, faults.moments[f.number].file): f for f in faults.faults()}
    faults.trials_together([chosen[write] for write in WRITES])  # each time the last write of the file
    assert (faults.figures["ended with a sentence"], faults.figures["went on"]) == (7, 1)  # without curves


@pytest.mark.parametrize(("kind", "file"), [("cut", "checkpoint.safetensors"), ("kill", "metrics.json")])
def test_a_process_killed_within_a_write_loses_nothing(faults: Faults, kind: str, file: str) -> None:
    """The kernel kills it at a byte of the file."""
    faults.trial(
        [fault for fault in faults.faults() if (fault.kind, faults.moments[fault.number].file) == (kind, file)][-1]
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", SETTINGS)
def test_faults_of_runs_of_one_and_two_processes(tmp_path: Path, name: str) -> None:
    figures, failures = run_faults([name], every=9, seed=0, folder=tmp_path)
    assert not failures, "\n".join(failures)
    assert sum(count for key, count in figures.items() if key.endswith("runs")) >= 25


# --- one file ---


def test_a_write_keeps_permissions_and_links(tmp_path: Path) -> None:
    file, link = tmp_path / "a" / "file.json", tmp_path / "link.json"
    write_json(file, {})
    mask = os.umask(0o077)
    try:
        write_json(file, {"a": 1})
        write_json(tmp_path / "private.json", {})
    finally:
        os.umask(mask)
    assert file.stat().st_mode & 0o777 == 0o666 & ~mask and (tmp_path / "private.json").stat().st_mode & 0o777 == 0o600
    file.chmod(0o640)
    link.symlink_to(file)
    write_json(link, {"b": 2})
    assert link.is_symlink() and json.loads(file.read_text()) == {"b": 2} and file.stat().st_mode & 0o777 == 0o640
    os.mkfifo(tmp_path / "pipe")
    for name, reason in (("pipe", "it is not a regular file"), ("a", "Is a directory")):
        with pytest.raises(FileError, match=f"{name} cannot be written: {reason}"):
            write_json(tmp_path / name, {})
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["a", "file.json", "link.json", "pipe", "private.json"]


def test_the_umask_of_other_threads_never_changes(tmp_path: Path) -> None:
    masks, is_done = set(), threading.Event()

    def watch() -> None:
        while not is_done.is_set():
            masks.add(Path("/proc/self/status").read_text().split("Umask:")[1].split()[0])

    thread = threading.Thread(target=watch)
    thread.start()
    for _ in range(100):
        write_json(tmp_path / "file.json", {})
    is_done.set()
    thread.join()
    assert len(masks) == 1


def test_what_a_killed_write_left_is_removed_by_the_next(tmp_path: Path) -> None:
    """What another thread or process writes at the moment stays."""
    (tmp_path / ".file.json.0a1b.part").write_text("half of it")
    (tmp_path / ".other.json.0a1b.part").write_text("of another file")
    with atomic_write(tmp_path / "file.json") as file:
        file.write(b"{}")
        write_json(tmp_path / "file.json", {"a": 1})
    assert (tmp_path / "file.json").read_text() == "{}"
    assert sorted(path.name for path in tmp_path.iterdir()) == [".other.json.0a1b.part", "file.json"]


# --- damaged runs ---


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """An interrupted run and a finished one."""
    folder, data = tmp_path_factory.mktemp("runs"), make_data("memory")
    build = lambda: nn.Sequential(nn.Flatten(), nn.Linear(243, 3))  # noqa: E731
    config = CONFIG.replace(momentum=0.9)
    for name, callbacks in (("cut", [At(4, interrupt)]), ("finished", [])):
        torch.manual_seed(0)
        cnnzoo.Trainer(build(), data, config, out=folder / name, callbacks=callbacks, show=False).fit()
    return {name: folder / name for name in ("cut", "finished")}


def flip_bit(content: bytes, position: float) -> bytes:
    index = int(position * len(content))
    return content[:index] + bytes([content[index] ^ 1]) + content[index + 1 :]


def run_again(folder: Path) -> cnnzoo.Run:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Flatten(), nn.Linear(243, 3))
    config = CONFIG.replace(momentum=0.9)
    return cnnzoo.Trainer(network, make_data("memory"), config, out=folder, resume="auto", show=False).fit()


def refusal(folder: Path) -> str:
    """Returns the message of a run that is refused, which must change nothing."""
    before = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    with pytest.raises(CnnzooError) as caught:
        run_again(folder)
    assert {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()} == before
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 2000
    return str(caught.value)


@pytest.mark.parametrize(
    ("name", "file"),
    [("cut", "checkpoint.safetensors"), ("finished", "model.safetensors"), ("finished", "metrics.json"),
     ("finished", "history.jsonl")],
)  # fmt: skip
def test_a_flipped_bit_is_noticed(tmp_path: Path, runs: dict[str, Path], name: str, file: str) -> None:
    """Anywhere in the file: in its header, its numbers, its tensors."""
    content = (runs[name] / file).read_bytes()
    for position in (0.02, 0.2, 0.35, 0.5, 0.65, 0.8, 0.95):
        shutil.copytree(runs[name], tmp_path, dirs_exist_ok=True)
        (tmp_path / file).write_bytes(flip_bit(content, position))
        message = refusal(tmp_path)
        assert file in message, message


def test_damaged_and_missing_files_are_one_error_each(tmp_path: Path, runs: dict[str, Path]) -> None:
    def values(**changes: object) -> Callable[[Path], None]:
        def change(file: Path) -> None:
            tensors, old = load_checkpoint(file)
            save_checkpoint(file, tensors, {**old, **changes})

        return change

    def tensors(file: Path) -> None:
        old, plain = load_checkpoint(file)
        save_checkpoint(file, {name: tensor for name, tensor in old.items() if name != "model.1.bias"}, plain)

    def info(**changes: object) -> Callable[[Path], None]:
        return lambda file: file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))

    cases: list[tuple[str, str, Callable[[Path], object], str]] = [
        ("cut", "checkpoint.safetensors", values(step=10**9), "it says step 1000000000 after 1 epochs, of 2 epochs of"),
        ("cut", "checkpoint.safetensors", values(step="6"), "is not the checkpoint of a run; restore the file from"),
        ("cut", "checkpoint.safetensors", values(step=None), "is not the checkpoint of a run; .* overwrite=True"),
        ("cut", "checkpoint.safetensors", values(step=True), "is not the checkpoint of a run"),
        (
            "cut",
            "checkpoint.safetensors",
            values(history=[]),
            "is not a checkpoint of the run: .* step 4 after 0 epochs",
        ),
        ("cut", "checkpoint.safetensors", values(optimizer={}), "does not fit the model and its optimizer .*resume"),
        ("cut", "checkpoint.safetensors", tensors, "does not fit .*Missing key.* model.1.bias|does not fit .*1.bias"),
        ("cut", "checkpoint.safetensors", lambda file: os.truncate(file, 100), "is not a complete safetensors file"),
        ("cut", "train.json", lambda file: file.write_text("{"), "train.json is not valid JSON"),
        ("cut", "train.json", info(sessions={}), "train.json is damaged: sessions must be a list"),
        ("cut", "train.json", info(config={"lr": "x"}), "train.json: .*lr"),
        ("cut", "train.json", os.unlink, r"holds a run already \(.*checkpoint.safetensors.*\)"),
        ("finished", "history.jsonl", lambda file: file.write_text("5\n"), "line 1 is not epoch 1 of a run"),
        ("finished", "history.jsonl", os.unlink, "history.jsonl cannot be read: No such file"),
        ("finished", "metrics.json", lambda file: file.write_text("[]"), "metrics.json must hold a JSON object"),
        ("finished", "metrics.json", info(test_acc=2.0), "metrics.json or history.jsonl in .* was changed or damaged"),
        ("finished", "config.json", info(architecture="x"), "trains another network"),
        ("finished", "config.json", info(note="x"), "config.json or model.safetensors in .* was changed or damaged"),
    ]
    for number, (name, file, damage, message) in enumerate(cases):
        folder = tmp_path / str(number)
        shutil.copytree(runs[name], folder)
        damage(folder / file)
        text = refusal(folder)
        assert re.search(message, text), text


@pytest.mark.slow
def test_damaged_runs_are_refused_or_end_the_same(tmp_path: Path) -> None:
    figures, failures = damage_runs(tmp_path, seed=0, n=6)
    assert not failures, "\n".join(failures)
    assert sum(figures.values()) > 150


def test_a_checkpoint_is_whole_or_refused(tmp_path: Path) -> None:
    tensors = {"model.a": torch.arange(5.0)}
    values = {"step": 1, "history": [], "seconds": [0, 0, 0], "samples_seen": 3, "scaler": {}, "optimizer": {}}
    save_checkpoint(tmp_path / "c", tensors, {**values, "config": {}, "more": {"ä": [float("inf"), 0.1]}})
    restored, plain = load_checkpoint(tmp_path / "c")
    assert torch.equal(restored["model.a"], tensors["model.a"]) and list(restored) == ["model.a"]
    assert plain == {**values, "config": {}, "more": {"ä": [float("inf"), 0.1]}}
    history = [{"step": 1, "recall": [0.123456789] * 200_000}]  # more than the header of a file can hold
    save_checkpoint(tmp_path / "d", tensors, {**values, "config": {}, "history": history})
    assert load_checkpoint(tmp_path / "d")[1]["history"] == history
    save_tensors(tmp_path / "d", tensors)
    for load in (load_checkpoint, load_verified):
        with pytest.raises(CnnzooError, match="d has no checksum of its tensors"):
            load(tmp_path / "d")
    content = (tmp_path / "c").read_bytes()
    for index in range(0, len(content), 9):
        (tmp_path / "d").write_bytes(content[:index] + bytes([content[index] ^ 4]) + content[index + 1 :])
        try:
            again, values_again = load_checkpoint(tmp_path / "d")
        except FileError:
            continue
        assert torch.equal(again["model.a"], tensors["model.a"]) and values_again == plain


# --- the folder ---


@pytest.mark.parametrize("how", ["removed", "made anew", "without its lock"])
def test_a_run_whose_folder_is_taken_away_ends(tmp_path: Path, tiny_data: ImageData, how: str) -> None:
    """It writes nothing into the folder of another run, and does not make the folder again."""
    out = tmp_path / "run"

    def take_away() -> None:
        if how == "without its lock":
            (out / ".lock").unlink()
        else:
            shutil.rmtree(out)
        if how == "made anew":
            out.mkdir()

    with pytest.raises(FileError, match="was removed, moved or replaced while the run trained in it, .* Start the run"):
        trainer(tiny_data, out, At(4, take_away)).fit()
    assert not out.exists() if how == "removed" else not (out / ".lock").exists()
    if how == "made anew":
        assert not list(out.iterdir())
    run = trainer(tiny_data, out).fit()
    assert run.metrics["epochs"] == 2 and (out / "metrics.json").exists()


def start_at_once(out: Path, ready: Path, name: str) -> str:
    torch.set_num_threads(1)
    (ready / name).write_text("")
    while len(list(ready.iterdir())) < 2:
        time.sleep(0.001)
    try:
        torch.manual_seed(0)
        network = nn.Sequential(nn.Flatten(), nn.Linear(243, 3))
        cnnzoo.Trainer(
            network, make_data("memory"), CONFIG.replace(epochs=30), out=out, resume="auto", show=False
        ).fit()
    except FileError as error:
        return str(error)
    return ""


def test_two_processes_start_one_run_at_one_moment(tmp_path: Path) -> None:
    (tmp_path / "ready").mkdir()
    calls = [(tmp_path / "run", tmp_path / "ready", name) for name in "ab"]
    messages = sorted(outcome.result for outcome in run_together(start_at_once, calls))
    assert messages[0] == "" and ("is in use by process" in messages[1] or "has trained in" in messages[1]), messages
    assert (tmp_path / "run" / "metrics.json").exists() and not (tmp_path / "run" / ".lock").exists()


def test_a_lock_that_cannot_be_written_is_not_held(tmp_path: Path, tiny_data: ImageData) -> None:
    import resource

    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, limits[1]))
    try:
        with pytest.raises(FileError, match=r"\.lock cannot be written: File too large"):
            trainer(tiny_data, tmp_path).fit()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert trainer(tiny_data, tmp_path).fit().metrics["epochs"] == 2  # in the same process


@pytest.mark.parametrize("name", [".lock", "train.json", "checkpoint.safetensors", "model.safetensors"])
def test_links_out_of_a_run_folder_are_not_followed(tmp_path: Path, tiny_data: ImageData, name: str) -> None:
    out, other = tmp_path / "run", tmp_path / "other"
    trainer(tiny_data, out, At(2, interrupt)).fit()
    file = out / name
    other.write_bytes(file.read_bytes() if file.exists() else b"x")
    file.unlink(missing_ok=True)
    file.symlink_to(other)
    before = other.read_bytes()
    for again in (trainer(tiny_data, out), cnnzoo.Trainer(model(), tiny_data, CONFIG, out=out, overwrite=True)):
        with pytest.raises(FileError, match=r"is a link to .*other, out of the folder of the run; remove the link"):
            again.fit()
    assert other.read_bytes() == before


# --- signals and callbacks ---


def test_handlers_of_others_stay(tiny_data: ImageData) -> None:
    """Only the defaults of Python are replaced during a run, and restored after it."""
    calls: list[int] = []
    names = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = [signal.getsignal(name) for name in names]
    try:
        signal.signal(signal.SIGTERM, lambda number, frame: calls.append(number))
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # as in a job that a shell script starts with &
        own = [signal.getsignal(name) for name in names[:2]]
        with DeferredInterrupt() as deferred:
            assert [signal.getsignal(name) for name in names[:2]] == own
            os.kill(os.getpid(), signal.SIGTERM)
            os.kill(os.getpid(), signal.SIGINT)
            assert calls == [signal.SIGTERM] and not deferred.requested
            os.kill(os.getpid(), signal.SIGHUP)
            assert deferred.requested
        assert signal.getsignal(signal.SIGHUP) == before[2]
    finally:
        for name, handler in zip(names, before, strict=True):
            signal.signal(name, handler)


def test_a_closed_terminal_saves_as_ctrl_c_does(tmp_path: Path, tiny_data: ImageData) -> None:
    run = trainer(tiny_data, tmp_path, At(2, lambda: os.kill(os.getpid(), signal.SIGHUP))).fit()
    assert run.interrupted and load_checkpoint(tmp_path / "checkpoint.safetensors")[1]["step"] == 2


def closed_terminal() -> int:
    controller, terminal = os.openpty()
    os.close(controller)
    return terminal


def closed_pipe() -> int:
    read, write = os.pipe()
    os.close(read)
    return write


@pytest.mark.parametrize(
    ("open_file", "error"),
    [
        (closed_terminal, None),
        (closed_pipe, BrokenPipeError),
        (lambda: os.open("/dev/full", os.O_WRONLY), OSError),
    ],
)
def test_a_stream_that_cannot_be_written(open_file: Callable[[], int], error: type[OSError] | None) -> None:
    """What is only shown is dropped; of the results, only what nobody could read, since their terminal was closed."""
    for make, expected in ((display_stream, None), (result_stream, error)):
        file = os.fdopen(open_file(), "w")
        with redirect_stdout(file), redirect_stderr(file):
            stream = make()
            with nullcontext() if expected is None else pytest.raises(expected):
                print("text", file=stream, flush=True)
        if expected is None and error is not OSError:  # else the text remains in the buffer
            file.close()
        else:
            with pytest.raises(OSError):
                file.close()


class Failing:
    """Fails at the end of the run."""

    def on_end(self, trainer: cnnzoo.Trainer, run: cnnzoo.Run | None) -> None:
        raise RuntimeError("a callback that fails")


class Ending:
    is_ended = False

    def on_end(self, trainer: cnnzoo.Trainer, run: cnnzoo.Run | None) -> None:
        self.is_ended = True


def test_a_callback_that_fails_at_the_end_loses_nothing(tmp_path: Path, tiny_data: ImageData) -> None:
    """All is written before it is called, the other callbacks are called, and the first error is raised."""
    ending = Ending()
    with pytest.raises(RuntimeError, match="a callback that fails"):
        trainer(tiny_data, tmp_path, Failing(), ending).fit()
    assert ending.is_ended and not (tmp_path / "checkpoint.safetensors").exists()
    assert trainer(tiny_data, tmp_path).is_finished
    with pytest.raises(ZeroDivisionError):
        trainer(tiny_data, None, Failing(), ending, At(2, lambda: 1 / 0)).fit()


# --- worker processes ---


class Samples(torch.utils.data.Dataset):
    """Samples whose reading calls a function with the index."""

    def __init__(self, function: Callable[[int], None], shapes: int = 1) -> None:
        self.function, self.shapes, self.labels = function, shapes, torch.arange(12) % 3

    def __len__(self) -> int:
        return 12

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        self.function(index)
        return torch.zeros(1, 4 + index % self.shapes, 4, dtype=torch.uint8), index % 3


def die_at_7(index: int) -> None:
    if index == 7:
        os.kill(os.getpid(), signal.SIGKILL)


def fail_at_7(index: int) -> None:
    if index == 7:
        raise ValueError("no image\nat all")


@pytest.mark.parametrize(
    ("dataset", "message"),
    [
        (
            Samples(die_at_7),
            "a process that reads images ended .*exited unexpectedly.*; try fewer workers",
        ),
        (Samples(fail_at_7), r"^sample 7 of the data set cannot be read: ValueError: no image at all \(.*test_faults"),
        (Samples(int, shapes=2), r"sample \d+ is \(1, 4, 4\) and sample \d+ is \(1, 5, 4\); resize them to one size"),
    ],
    ids=["killed", "exception", "sizes"],
)
def test_what_goes_wrong_in_a_worker_is_one_sentence(dataset: Samples, message: str) -> None:
    loader = DatasetLoader(dataset, 3, torch.device("cpu"), 1)
    with pytest.raises(DataError, match=message) as caught:
        list(loader.batches(torch.arange(12).split(4), seed=0))
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 600
    loader.close()


def write_pid(index: int) -> None:
    Path(os.environ["PIDS"], str(os.getpid())).write_text("")
    time.sleep(0.05)


def read_and_die(method: str) -> None:
    multiprocessing.set_start_method(method, force=True)
    loader = DatasetLoader(Samples(write_pid), 3, torch.device("cpu"), 2)
    next(loader.batches(torch.arange(12).split(4), seed=0))
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["fork", "forkserver", "spawn"])
def test_workers_end_with_a_killed_main_process(tmp_path: Path, method: str) -> None:
    outcome = run_together(read_and_die, [(method,)], [{"PIDS": str(tmp_path)}])[0]
    assert outcome.code == -signal.SIGKILL, outcome.stderr
    workers = {int(file.name) for file in tmp_path.iterdir()}
    assert workers
    deadline = time.monotonic() + 20  # torch looks every 5 s whether the main process lives
    while workers and time.monotonic() < deadline:
        workers = {pid for pid in workers if os.path.exists(f"/proc/{pid}")}
        time.sleep(0.1)
    assert not workers
