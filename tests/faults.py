"""Makes every write of training runs fail, each in several ways, and starts the runs again.

python tests/faults.py --every 1 --seed 1

An audit hook sees each call by which a run opens, renames, removes or changes a file of its folder; ``os.fsync`` is
wrapped. A first run lists these moments. Then, for each moment and each fault, a new run meets the fault there:

- kill: SIGKILL before the call
- cut: the kernel kills the process within the write of the file, which stays as long as it is (RLIMIT_FSIZE, SIGXFSZ)
- full: files cannot grow further, from then on to the end of the process (RLIMIT_FSIZE)
- ENOSPC, EACCES, EIO: the call fails with this error

The process must end by the signal, with one clear sentence, or with the results of an undisturbed run. A checkpoint
that was complete must be there still. Then the same call again must end with the results of an undisturbed run: the
weights, the history, the metrics and the names of the files.
"""

from __future__ import annotations

import argparse
import errno
import os
import random
import resource
import shutil
import signal
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from kills import BEST, SGD, SPEC, Failure, Setting, make_data, results, run_life
from processes import Outcome, run_together

import cnnzoo
from cnnzoo.errors import CnnzooError
from cnnzoo.train.checkpoint_file import load_checkpoint

SETTINGS = {
    "one": Setting(SGD.replace(epochs=2, checkpoint_every=3, **BEST), source="val"),
    "two": Setting(SGD.replace(epochs=2, checkpoint_every=3, **BEST), 2, "val"),
}
FAULTS = {  # what can happen at a moment
    "write": ("kill", "cut", "full", "ENOSPC", "EACCES", "EIO"),
    "read": ("EACCES", "EIO"),
    "fsync": ("kill", "ENOSPC", "EIO"),
    "rename": ("kill", "ENOSPC", "EACCES", "EIO"),
    "remove": ("kill", "EACCES", "EIO"),
    "mkdir": ("kill", "ENOSPC", "EACCES"),
    "chmod": ("kill", "EACCES"),
}
EVENTS = {"os.rename": "rename", "os.remove": "remove", "os.mkdir": "mkdir", "os.chmod": "chmod"}
MAX_MESSAGE = 500  # characters
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT


class Moment(NamedTuple):
    """A call of a run that concerns a file of its folder.

    Attributes:
        kind: A key of ``FAULTS``.
        file: The name of the file.
        size: Its size in bytes, of a file that is renamed.
    """

    kind: str
    file: str
    size: int = 0


class Fault(NamedTuple):
    """What happens at a moment.

    Attributes:
        number: The number of the moment, counted from 0.
        kind: One of the values in ``FAULTS``.
        limit: Bytes that a file can have, for ``"cut"`` and ``"full"``.
    """

    number: int
    kind: str
    limit: int = 0


class Injector:
    """Lists the moments of this process, and lets a fault happen at one of them.

    Args:
        out: The folder of the run.
        fault: The fault, None for none.
    """

    def __init__(self, out: Path, fault: Fault | None) -> None:
        self.moments: list[Moment] = []
        self.is_active = True
        self._out, self._fault = str(out), fault
        self._fsync = os.fsync

    def __enter__(self) -> Injector:
        sys.addaudithook(self._hook)  # there is no way to remove it
        os.fsync = self._wrapped_fsync
        return self

    def __exit__(self, *exception: object) -> None:
        self.is_active, os.fsync = False, self._fsync

    def _hook(self, event: str, args: tuple[Any, ...]) -> None:
        if not self.is_active or (event != "open" and event not in EVENTS):
            return
        path, kind = args[0], EVENTS.get(event)
        if event == "open":
            kind = "write" if args[2] & _WRITING else "read"
        if isinstance(path, (str, os.PathLike)) and os.fspath(path).startswith(self._out):
            if kind == "mkdir" and os.path.isdir(path):
                return
            self._meet(kind, os.fspath(path))

    def _wrapped_fsync(self, file: int) -> None:
        if (path := os.readlink(f"/proc/self/fd/{file}")).startswith(self._out):
            self._meet("fsync", path)
        self._fsync(file)

    def _meet(self, kind: str, path: str) -> None:
        number = len(self.moments)
        name = os.path.relpath(path, self._out)
        if name.endswith(".part"):
            name = name.lstrip(".").rpartition(".part")[0].rpartition(".")[0]
        self.moments.append(Moment(kind, name, os.stat(path).st_size if kind == "rename" else 0))
        if self._fault is None or self._fault.number != number:
            return
        match self._fault.kind:
            case "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            case "cut" | "full" as fault:
                signal.signal(signal.SIGXFSZ, signal.SIG_DFL if fault == "cut" else signal.SIG_IGN)
                resource.setrlimit(resource.RLIMIT_FSIZE, (self._fault.limit, resource.RLIM_INFINITY))
            case name:
                code = getattr(errno, name)
                raise OSError(code, os.strerror(code), path)


def live(setting: Setting, out: Path, fault: Fault | None, report: Path) -> dict[str, Any]:
    """Starts or continues a run: always the same call.

    Returns:
        The moments of this process, warnings, and the message of an error of cnnzoo.
    """
    torch.set_num_threads(1)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    report.with_suffix(".pid").write_text(str(os.getpid()))
    result: dict[str, Any] = {"error": None}
    with Injector(out, fault) as injector, warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            model = cnnzoo.create(SPEC, seed=0)
            data = make_data(setting.source)
            cnnzoo.Trainer(model, data, setting.config, out=out, resume="auto", show=False).fit()
            if torch.distributed.is_initialized():
                torch.distributed.destroy_process_group()
        except CnnzooError as error:
            result["error"] = str(error)
    return {**result, "moments": injector.moments, "warnings": [str(warning.message) for warning in caught]}


def live_often(setting: Setting, folder: Path, faults: Sequence[Fault | None]) -> list[list[dict[str, Any]]]:
    """Lets each fault happen to a run and starts it again, all in one process; returns what each life returned."""
    folder.mkdir()
    lives = []
    for number, fault in enumerate(faults):
        out = folder / f"run-{number}"
        limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        first = live(setting, out, fault, folder / "report.txt")
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        lives.append([first, live(setting, out, None, folder / "report.txt")])
    return lives


# --- runs ---


class Faults:
    """Runs of one setting, and what became of them.

    Args:
        name: The name of the setting.
        folder: A folder for the runs.
        seed: Seed of where files are cut.

    Attributes:
        figures: Counts by name.
        moments: Those of an undisturbed run.
    """

    def __init__(self, name: str, folder: Path, seed: int) -> None:
        self.figures: Counter[str] = Counter()
        self._name, self._setting, self._folder, self._seed = name, SETTINGS[name], folder, seed
        out = folder / f"undisturbed-{name}"
        outcomes = self._live(out, None)
        for outcome in outcomes:
            if outcome.result is None or outcome.result["error"]:
                raise Failure(f"an undisturbed run ended with {outcome}")
        self.moments: list[Moment] = outcomes[0].result["moments"]
        self._expected = results(out)

    def faults(self) -> list[Fault]:
        """Returns every fault at every moment."""
        rng = random.Random(self._seed)
        faults = []
        for number, moment in enumerate(self.moments):
            later = (m.size for m in self.moments[number:] if m.kind == "rename" and m.file == moment.file)
            size = next(later, 40)
            faults += [Fault(number, kind, rng.randrange(max(size, 1))) for kind in FAULTS[moment.kind]]
        return faults

    def trial(self, fault: Fault) -> None:
        """Lets a fault happen to a run, starts it again, and compares its results.

        Raises:
            Failure: If something is lost, or a process ends with an error of its own.
        """
        out = self._folder / f"run-{self._name}"
        moment = self.moments[fault.number]
        try:
            outcomes = self._live(out, fault)
            self._check_end(fault, outcomes)
            self.check_checkpoint(fault, out)
            for outcome in self._live(out, None):
                if outcome.result is None or outcome.result["error"]:
                    raise Failure(f"the same call again ended with {outcome}")
            self.check_results(fault, out, outcomes[0].result)
        except Failure as failure:
            shutil.move(out, tempfile.mkdtemp(dir=self._folder))
            raise Failure(f"{self._name}, {fault} at {moment}: {failure}") from None
        shutil.rmtree(out)
        self.figures[f"{self._setting.processes} process{'es' * (self._setting.processes > 1)}: runs"] += 1
        self.figures[f"{fault.kind} at a {moment.kind}"] += 1

    def trials_together(self, faults: Sequence[Fault]) -> None:
        """Lets faults happen that kill no process, all in one, which starts each run again.

        Raises:
            Failure: As for ``trial``.
        """
        folder = self._folder / "together"
        environment = {"XDG_CACHE_HOME": str(self._folder / "cache")}
        (outcome,) = run_together(live_often, [(self._setting, folder, faults)], [environment])
        if outcome.result is None:
            raise Failure(f"an error of its own: {outcome.stderr}")
        for number, (fault, (first, second)) in enumerate(zip(faults, outcome.result, strict=True)):
            self._check_end(fault, [Outcome(0, first, "")])
            if second["error"]:
                raise Failure(f"the same call again after {fault} ended with {second}")
            self.check_results(fault, folder / f"run-{number}", first)

    def _live(self, out: Path, fault: Fault | None) -> list[Outcome]:
        faults = [fault, *[None] * (self._setting.processes - 1)]  # rank 0 writes
        return run_life(self._setting, out, faults, self._folder / "cache", live)[0]

    def _check_end(self, fault: Fault, outcomes: Sequence[Outcome]) -> None:
        """Raises Failure unless the processes ended by the signal, with a sentence, or without an error."""
        signals = {"kill": signal.SIGKILL, "cut": signal.SIGXFSZ}
        first, *others = outcomes
        if fault.kind in signals:
            if first.code != -signals[fault.kind]:
                raise Failure(f"the process was not killed: {first}")
            self.figures["ended by a signal"] += 1
        elif first.result is None:
            raise Failure(f"an error of its own: {first.stderr}")
        elif first.result["error"]:
            self.check_message(first.result["error"])
            self.figures["ended with a sentence"] += 1
        else:
            self.figures["went on"] += 1
        for other in others:
            if other.result is None:
                raise Failure(f"the other process ended with an error of its own: {other}")
            if other.result["error"]:
                self.check_message(other.result["error"])

    @staticmethod
    def check_message(message: str) -> None:
        """Raises Failure unless a message is one short line."""
        if "\n" in message or len(message) > MAX_MESSAGE:
            raise Failure(f"not one sentence: {message}")

    def check_checkpoint(self, fault: Fault, out: Path) -> None:
        """Raises Failure if a checkpoint that was complete before the fault is missing or damaged."""
        before = [m.kind for m in self.moments[: fault.number] if m.file == "checkpoint.safetensors"]
        file = out / "checkpoint.safetensors"
        if "rename" in before and not file.exists() and not (out / "metrics.json").exists():
            raise Failure("the checkpoint is lost")
        if file.exists():
            load_checkpoint(file)

    def check_results(self, fault: Fault, out: Path, first: dict[str, Any] | None) -> None:
        """Raises Failure if the results differ from those of an undisturbed run."""
        found = results(out)
        if first is not None and any("curves.png was not drawn" in text for text in first["warnings"]):
            found["files"] = sorted({*found["files"], "curves.png"})  # the run has finished without it
        for key, value in self._expected.items():
            if found[key] != value:
                raise Failure(f"other {key}: {found[key]} instead of {value}")


def run_faults(names: Sequence[str], every: int, seed: int, folder: Path) -> tuple[Counter[str], list[str]]:
    """Lets every n-th of all faults happen; returns figures and failures."""
    figures, failures = Counter[str](), list[str]()
    for name in names:
        faults = Faults(name, folder, seed)
        for fault in faults.faults()[seed % every :: every]:
            try:
                faults.trial(fault)
            except Failure as failure:
                failures.append(str(failure))
                print(f"FAILED {failure}", file=sys.stderr, flush=True)
        figures += faults.figures
    return figures, failures


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--every", type=int, default=1, help="only every n-th fault")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--setting", choices=SETTINGS, action="append")
    args = parser.parse_args()
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as temporary:
        figures, failures = run_faults(args.setting or list(SETTINGS), args.every, args.seed, Path(temporary))
    print("\n".join(f"{name}: {count}" for name, count in sorted(figures.items())))
    print(f"failures: {len(failures)}\nseconds: {time.perf_counter() - start:.0f}")
    raise SystemExit(len(failures) > 0)
