"""Kills training runs at random moments, from a seed, and starts them again until they end.

python tests/kills.py --kills 200 --seed 1

A run is one process, or two that train together, of which one or both are killed with SIGKILL: after a random hook,
forward pass or access to a file (which may be left half written), or after a random time. Some runs are also stopped
with SIGTERM or by an error. Each must end, by the same call again and without an error of its own, with the weights,
the history and the metrics of a run of the same config that nothing has disturbed.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import random
import shutil
import signal
import socket
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from processes import Outcome, run_together

import cnnzoo
from cnnzoo.blocks import AvgPool, Conv, Dense, Dropout, Flatten, Logits
from cnnzoo.data import Data, ImageData, Split, StreamData
from cnnzoo.serialization import load_tensors, read_header, weights_sha256
from cnnzoo.train.metrics import THROUGHPUT

TIMEOUT = 20  # seconds for a process, most of which need one second
MAX_LIVES = 5  # of a run, before one that nothing disturbs
CLASSES = ("left", "middle", "right")


class Setting(NamedTuple):
    """What a run trains on, and how.

    Attributes:
        config: The config.
        processes: Number of processes that train together.
        source: ``"memory"``, ``"val"`` (in memory, with validation images) or ``"stream"``.
        first_epochs: Epochs after which the run is finished, and then extended; 0 trains all at once.
    """

    config: cnnzoo.TrainConfig
    processes: int = 1
    source: str = "memory"
    first_epochs: int = 0


CONFIG = cnnzoo.TrainConfig(epochs=3, batch_size=16, lr=0.05, precision="fp32", workers=0, log_every=4)  # 5 steps each
SGD = CONFIG.replace(momentum=0.9, nesterov=True, weight_decay=0.01)
ADAMW = CONFIG.replace(optimizer="adamw", lr=0.01, weight_decay=0.1)
MUON = CONFIG.replace(optimizer="muon", lr=0.02)
BEST = {"ema": 0.9, "save_best": True, "metrics": ["macro_f1", "recall"]}

SETTINGS = {
    "sgd": Setting(SGD.replace(schedule="cosine", warmup=0.5, flip=True, translate=2, random_erasing=0.5)),
    "adamw": Setting(ADAMW.replace(ema=0.9, clip_norm=0.5, mixup=0.4, checkpoint_every=1, init="xavier_uniform")),
    "muon": Setting(
        MUON.replace(
            augment=["rotate:20", "random_resized_crop:0.5", "color_jitter", "cutmix"], checkpoint_every=2, val_size=9
        )
    ),
    "plateau": Setting(
        SGD.replace(schedule="plateau", plateau_patience=0, gamma=0.5, epochs=5, views="flip", checkpoint_every=3,
                    val_size=15, save_best=True, lr_multipliers={"conv*": 0.5}, balanced_sampling=True)
    ),
    "accumulation": Setting(
        ADAMW.replace(accumulation_steps=3, class_weights="balanced", augment=["cutmix"], checkpoint_every=4, **BEST),
        source="val",
    ),
    "stream": Setting(SGD.replace(pca_lighting=0.1, loss="focal:2", workers=2, checkpoint_every=5), source="stream"),
    "stream_muon": Setting(
        MUON.replace(workers=1, mixup=0.2, views="five_crop", val_size=11, balanced_sampling=True, checkpoint_every=6,
                     **BEST),
        source="stream",
    ),
    "patience": Setting(SGD.replace(epochs=8, patience=1, clip_norm=1, checkpoint_every=7, **BEST), source="val"),
    "bf16": Setting(
        SGD.replace(precision="bf16", label_smoothing=0.1, schedule="one_cycle", eval_every=2, views="ten_crop",
                    crop_mode="center", channels_last=False)
    ),
    "extended": Setting(
        SGD.replace(schedule="step", milestones=[1], epochs=4, keep_checkpoint=True, checkpoint_every=3, **BEST),
        source="val",
        first_epochs=2,
    ),
    "two_sgd": Setting(SGD.replace(augment=["rotate", "cutmix"], checkpoint_every=2, **BEST), 2, "val"),
    "two_adamw": Setting(
        ADAMW.replace(accumulation_steps=2, clip_norm=0.5, batch_size=15, views="flip", mixup=0.3, checkpoint_every=3),
        2,
    ),
    "two_stream": Setting(
        MUON.replace(workers=1, epochs=6, patience=1, val_size=13, checkpoint_every=4, ema=0.8), 2, "stream"
    ),
    "two_plateau": Setting(
        SGD.replace(schedule="plateau", plateau_patience=0, gamma=0.5, epochs=4, balanced_sampling=True,
                    checkpoint_every=5, val_size=15), 2,
    ),
}  # fmt: skip

SPEC = cnnzoo.Spec(
    "tiny",
    (3, 8, 8),
    (Conv(8, kernel_size=3, padding=1, norm="batch", activation="relu"), AvgPool(2), Flatten()),
    (Dense(16, activation="relu"), Dropout(0.3), Logits(3)),
)


class Samples(torch.utils.data.Dataset):
    """Images that are read on demand, each with noise of its own."""

    def __init__(self, split: Split) -> None:
        self._split, self.labels = split, split.labels

    def __len__(self) -> int:
        return len(self._split)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        image, label = self._split[index]
        return (image // 2) + torch.randint(0, 100, image.shape, dtype=torch.uint8), int(label)


def make_data(source: str) -> Data:
    """Returns noisy images of which a third is brighter, which tells their class; the first class is frequent."""

    def split(n: int, seed: int) -> Split:
        generator = torch.Generator().manual_seed(seed)
        labels = torch.randint(0, 4, (n,), generator=generator) % 3
        images = torch.randint(0, 200, (n, 3, 9, 9), generator=generator)
        for image, label in zip(images, labels.tolist(), strict=True):
            image[:, :, 3 * label : 3 * label + 3] += 50
        return Split(images.to(torch.uint8), labels)

    train, test, val = split(77, 0), split(61, 1), split(47, 2)
    if source == "stream":
        return StreamData("noise", Samples(train), Samples(test), CLASSES, (0.5,) * 3, (0.3,) * 3, sha256="noise")
    return ImageData("noise", train, test, CLASSES, val=val if source == "val" else None)


# --- one life of a run, in a process of its own ---


class Disturbance(NamedTuple):
    """What ends a process.

    Attributes:
        action: ``"kill"`` (SIGKILL), ``"stop"`` (SIGTERM) or ``"error"``.
        moment: ``"hook"``, ``"forward"``, ``"file"`` or ``"time"``.
        at: The number of the hook, forward pass or access, counted from 1; or the time in seconds.
        with_others: Whether the other process is killed too.
    """

    action: str
    moment: str
    at: float
    with_others: bool = False


PLACES = {  # functions on the stack -> where a run was
    "_save_checkpoint": "writing a checkpoint",
    "evaluate": "evaluation",
    "save_best": "writing the best weights",
    "finish": "writing the results",
    "_finish": "writing the results",
    "_train_step": "step",
    "_run_epoch": "between steps",
    "_end_epoch": "end of an epoch",
    "fit": "start of fit",
}


class Disturber:
    """Counts hooks, forward passes and accesses to files, and disturbs the process at one of them."""

    def __init__(self, disturbance: Disturbance | None, report: Path) -> None:
        self.counts: Counter[str] = Counter()
        self._disturbance, self._report = disturbance, report
        self._start = time.perf_counter()
        if disturbance is not None and disturbance.moment == "time":
            timer = threading.Timer(disturbance.at, self._disturb)
            timer.daemon = True
            timer.start()
        for module, name in ((os, "fsync"), (os, "replace"), (os, "unlink"), (tempfile, "mkstemp")):
            setattr(module, name, partial(self._access, getattr(module, name), name))

    def __getattr__(self, name: str) -> Any:
        """Returns each hook of a callback."""
        if not name.startswith("on_"):
            raise AttributeError(name)
        return lambda *args: self.count("hook")

    def __dir__(self) -> Sequence[str]:
        return [*super().__dir__(), "on_step"]

    def count(self, moment: str, file: int | None = None) -> None:
        """Counts a moment; an open file may be left half written."""
        self.counts[moment] += 1
        disturbance = self._disturbance
        if disturbance is not None and (disturbance.moment, disturbance.at) == (moment, self.counts[moment]):
            if file is not None and disturbance.action == "kill":
                os.ftruncate(file, os.fstat(file).st_size // 2)
            self._disturb()

    def _access(self, function: Callable[..., Any], name: str, *args: Any, **kwargs: Any) -> Any:
        self.count("file", args[0] if name == "fsync" else None)
        result = function(*args, **kwargs)
        self.count("file")
        return result

    def _disturb(self) -> None:
        assert self._disturbance is not None
        self._report.write_text(self._place())
        if self._disturbance.with_others:
            for file in set(self._report.parent.glob("*.pid")) - {self._report.with_suffix(".pid")}:
                with suppress(ProcessLookupError, ValueError):
                    os.kill(int(file.read_text()), signal.SIGKILL)
        if self._disturbance.action == "error":
            raise RuntimeError("a disturbance")
        os.kill(os.getpid(), signal.SIGKILL if self._disturbance.action == "kill" else signal.SIGTERM)

    def _place(self) -> str:
        frame = sys._current_frames().get(threading.main_thread().ident or 0)
        names = set()
        while frame is not None:
            names.add(frame.f_code.co_name)
            frame = frame.f_back
        return next((place for name, place in PLACES.items() if name in names), "before fit")

    def seconds(self) -> float:
        """Returns the age of this object."""
        return time.perf_counter() - self._start


def live(setting: Setting, out: Path, disturbance: Disturbance | None, report: Path) -> dict[str, Any]:
    """Starts or continues a run: always the same call.

    Returns:
        The number of moments of each kind, the seconds, and whether the run was interrupted.
    """
    torch.set_num_threads(1)
    multiprocessing.set_start_method("fork", force=True)  # for worker processes: the default on Linux before 3.14
    report.with_suffix(".pid").write_text(str(os.getpid()))
    disturber = Disturber(disturbance, report)
    model = cnnzoo.create(SPEC, seed=0)
    model.register_forward_hook(lambda *_: disturber.count("forward"))
    data = make_data(setting.source)
    trainer = cnnzoo.Trainer(
        model, data, setting.config, out=out, resume="auto", callbacks=[disturber], show=False
    )  # fmt: skip
    run = trainer.fit()
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
    return {**disturber.counts, "time": disturber.seconds(), "interrupted": run.interrupted}


# --- runs ---


class Failure(Exception):
    """A run that did not do what it must."""


def run_life(
    setting: Setting,
    out: Path,
    disturbances: Sequence[Any],
    cache: Path,
    function: Callable[..., dict[str, Any]] = live,
) -> tuple[list[Outcome], list[str | None]]:
    """Runs the processes of a run once, each with a disturbance or None.

    Returns:
        How each process ended, and where it was disturbed if it was.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    n = setting.processes
    ranks = {"WORLD_SIZE": str(n), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    environments = [
        {"XDG_CACHE_HOME": str(cache), **({**ranks, "RANK": str(rank), "LOCAL_RANK": str(rank)} if n > 1 else {})}
        for rank in range(n)
    ]
    reports = [out.with_name(f"{out.name}-{rank}.txt") for rank in range(n)]
    calls = [(setting, out, disturbances[rank], reports[rank]) for rank in range(n)]
    timeout = TIMEOUT if any(disturbances) else 5 * TIMEOUT  # the first one waits for imports
    outcomes = run_together(function, calls, environments, timeout)
    places = [report.read_text() if report.exists() else None for report in reports]
    for report in reports:
        report.unlink(missing_ok=True)
        report.with_suffix(".pid").unlink(missing_ok=True)
    return outcomes, places


def results(out: Path) -> dict[str, Any]:
    """Returns all that must be equal: weights, descriptions, history, metrics, names of the files."""
    weights = out / "model.safetensors"
    metrics = json.loads((out / "metrics.json").read_text())
    del metrics["sha256"]  # which depends on the times
    return {
        "weights": weights_sha256(load_tensors(weights)),
        "description": without_times(read_header(weights)[1]),
        "history": [without_times(json.loads(line)) for line in (out / "history.jsonl").read_text().splitlines()],
        "metrics": without_times(metrics),
        "config.json": without_times(json.loads((out / "config.json").read_text())),
        "files": sorted(file.name for file in out.iterdir() if file.name != ".lock"),
    }


def without_times(value: Any) -> Any:
    """Returns plain values without those that depend on the time."""
    if isinstance(value, dict):
        return {key: without_times(inner) for key, inner in value.items() if key not in THROUGHPUT}
    return [without_times(inner) for inner in value] if isinstance(value, list) else value


class Kills:
    """Runs that are killed, and what became of them.

    Args:
        folder: A folder for the runs.
        seed: Seed of all that is random.

    Attributes:
        figures: Counts by name.
    """

    def __init__(self, folder: Path, seed: int) -> None:
        self.figures: Counter[str] = Counter()
        self._folder, self._seed = folder, seed
        self._undisturbed: dict[str, tuple[dict[str, Any], list[dict[str, Any]]]] = {}

    def undisturbed(self, name: str) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        """Returns the results of a setting, and the moments of each process."""
        if name not in self._undisturbed:
            out = self._folder / f"undisturbed-{name}"
            setting = SETTINGS[name]
            outcomes, _ = run_life(setting, out, [None] * setting.processes, self._folder / "cache")
            for outcome in outcomes:
                if outcome.result is None:
                    raise Failure(f"an undisturbed run of {name} ended with code {outcome.code}: {outcome.stderr}")
            self._undisturbed[name] = results(out), [outcome.result for outcome in outcomes]
        return self._undisturbed[name]

    def trial(self, number: int) -> None:
        """Disturbs a run until it ends, and compares its results.

        Raises:
            Failure: If they differ, or a process hangs or ends with an error of its own.
        """
        rng = random.Random(f"{self._seed} {number}")
        processes = rng.choices((1, 2), (2, 1))[0]
        name = rng.choice([name for name, setting in SETTINGS.items() if setting.processes == processes])
        expected, moments = self.undisturbed(name)
        setting, out = SETTINGS[name], self._folder / f"run-{number}"
        self.figures["runs"] += 1
        self.figures[f"runs of {setting.processes} process{'es' * (setting.processes > 1)}"] += 1
        log = [name]
        try:
            for epochs in (*([setting.first_epochs] if setting.first_epochs else []), setting.config.epochs):
                config = setting.config.replace(epochs=epochs)
                self._run_to_the_end(setting._replace(config=config), out, moments, rng, log)
            found = results(out)
            for key in expected:
                if found[key] != expected[key]:
                    raise Failure(f"other {key}: {found[key]} instead of {expected[key]}")
        except Failure as failure:
            raise Failure(f"trial {number} of seed {self._seed} ({'; '.join(log)}): {failure}") from None
        shutil.rmtree(out)

    def _run_to_the_end(
        self, setting: Setting, out: Path, moments: Sequence[dict[str, Any]], rng: random.Random, log: list[str]
    ) -> None:
        n_disturbed = rng.randint(1, MAX_LIVES)
        for life in range(n_disturbed + 1):
            disturbances: list[Disturbance | None] = [None] * setting.processes
            if life < n_disturbed:
                rank = rng.randrange(setting.processes)
                action = rng.choices(("kill", "stop", "error"), (8, 1, setting.processes == 1))[0]
                with_others = setting.processes > 1 and action == "kill" and rng.random() < 0.4
                disturbances[rank] = draw(action, moments[rank], rng)._replace(with_others=with_others)
            log.append(" and ".join("none" if d is None else " ".join(map(str, d)) for d in disturbances))
            outcomes, places = run_life(setting, out, disturbances, self._folder / "cache")
            self.figures["processes started"] += setting.processes
            if self._count(setting, out, disturbances, outcomes, places):
                return
        raise Failure("it has not finished")

    def _count(
        self,
        setting: Setting,
        out: Path,
        disturbances: Sequence[Disturbance | None],
        outcomes: Sequence[Outcome],
        places: Sequence[str | None],
    ) -> bool:
        """Counts how the processes ended; returns whether the run has finished."""
        disturbed = [d for d, place in zip(disturbances, places, strict=True) if d and place]
        actions = {d.action for d in disturbed}
        is_for_all = any(d.with_others for d in disturbed)
        killed = [
            (is_for_all or place is not None) and outcome.code == -signal.SIGKILL
            for outcome, place in zip(outcomes, places, strict=True)
        ]
        if actions == {"kill"}:
            self.figures["kills"] += 1
            self.figures["kills without a checkpoint"] += not (out / "checkpoint.safetensors").exists()
            if setting.processes > 1:
                self.figures["kills of both processes" if all(killed) else "kills of one of two processes"] += 1
        for rank, (outcome, place) in enumerate(zip(outcomes, places, strict=True)):
            disturbance = disturbances[rank]
            if place is not None and disturbance is not None:
                verb = {"kill": "killed", "stop": "stopped", "error": "failed"}[disturbance.action]
                self.figures[f"{verb}: {place}"] += 1
                self.figures[f"{verb} at a {disturbance.moment}"] += 1
            if killed[rank] or (outcome.code == 0 and outcome.result is not None):
                continue
            if "error" in actions and "RuntimeError: a disturbance" in outcome.stderr:
                continue
            if "stop" in actions and outcome.code in (-signal.SIGTERM, -signal.SIGKILL):
                self.figures["stopped at once"] += 1
            elif actions and any(code < 0 for code, *_ in outcomes) and setting.processes > 1:
                # the other one is missing
                if outcome.code == -signal.SIGKILL:
                    self.figures[f"survivors that waited longer than {TIMEOUT} s"] += 1
                elif "torch/distributed" in outcome.stderr or "Gloo" in outcome.stderr or "gloo" in outcome.stderr:
                    self.figures["survivors that ended with an error of torch.distributed"] += 1
                else:
                    raise Failure(f"a survivor ended with {outcome.stderr}")
            elif outcome.code in (0, -signal.SIGKILL):
                raise Failure(f"a process took longer than {TIMEOUT} s")
            else:
                raise Failure(f"a process ended with code {outcome.code}: {outcome.stderr}")
        return all(outcome.result is not None and not outcome.result["interrupted"] for outcome in outcomes)


def draw(action: str, moments: dict[str, Any], rng: random.Random) -> Disturbance:
    """Returns a random disturbance of a process that has these moments if nothing disturbs it."""
    kinds = (
        ["hook"] if action == "error" else [kind for kind in ("hook", "forward", "file", "time") if moments.get(kind)]
    )
    moment = rng.choice(kinds)
    at = rng.uniform(0, 1.1 * moments["time"]) if moment == "time" else rng.randint(1, moments[moment])
    return Disturbance(action, moment, at)


def kill(kills: int, seed: int, folder: Path, *, stop_at_failure: bool = False) -> tuple[Counter[str], list[str]]:
    """Disturbs runs until so many kills are done; returns figures and failures."""
    trials, failures = Kills(folder, seed), []
    number = 0
    while trials.figures["kills"] < kills:
        try:
            trials.trial(number)
        except Failure as failure:
            failures.append(str(failure))
            print(f"FAILED {failure}", file=sys.stderr, flush=True)
            if stop_at_failure:
                break
        number += 1
    return trials.figures, failures


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--trial", type=int, help="repeat one run")
    args = parser.parse_args()
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as temporary:
        if args.trial is not None:
            Kills(Path(temporary), args.seed).trial(args.trial)
            print("the same")
        else:
            figures, failures = kill(args.kills, args.seed, Path(temporary))
            print("\n".join(f"{name}: {count}" for name, count in sorted(figures.items())))
            print(f"failures: {len(failures)}\nseconds: {time.perf_counter() - start:.0f}")
            raise SystemExit(len(failures) > 0)
