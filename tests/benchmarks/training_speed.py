"""Speed of the trainer against the textbook's, a loop written by hand, Lightning and Accelerate: wall clock, one run.

    pip install lightning accelerate pandas requests ipython matplotlib-inline && pip install --no-deps d2l==0.17.6
    python tests/benchmarks/training_speed.py                  # everything: minutes
    python tests/benchmarks/training_speed.py lenet-book alexnet-loop

Each pair does the same work alternately, several times; the table gives the median of each and the median of their
ratio. The textbook's trainer runs as printed: its loader with four workers, float32, its own counting of accuracy; only
its animation is left out. With ``-compiled``, our steps are compiled, and the first one does not count; its time is
printed.

Required: at least 3.5 times (AlexNet, on a machine with bf16 matrix units) and 4 times (LeNet, compiled) as fast as the
textbook; at most 2 % (AlexNet) and 5 % (LeNet) slower than a loop with the same settings; 1.3 times as fast as
Lightning and Accelerate on LeNet, compiled.
"""

from __future__ import annotations

import contextlib
import gzip
import io
import itertools
import os
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import nn

import cnnzoo
from cnnzoo.data import epoch_order
from cnnzoo.device import machine_info, reuse_memory
from cnnzoo.preprocessing import Preprocessing
from cnnzoo.train.precision import resolve_precision

DATA = cnnzoo.load_data("fashion_mnist")
PRECISION = resolve_precision("auto", torch.device("cpu"))


def first_images(images: int) -> Any:
    return DATA if images == len(DATA.train) else DATA.subset(torch.arange(images))


def config(name: str) -> cnnzoo.TrainConfig:
    """Returns the textbook's settings with the fastest precision of this machine, without evaluation between epochs."""
    book = cnnzoo.recipe(f"d2l/{name}")
    return book.replace(epochs=1, precision="auto", channels_last=True, eval_every=0)


# --- the same work, by each ---


def ours(name: str, images: int, settings: cnnzoo.TrainConfig) -> Callable[[], float]:
    data = first_images(images)

    def run() -> float:
        model, steps = cnnzoo.create(name, seed=0), _StepTimes()
        trainer = cnnzoo.Trainer(model, data, settings, callbacks=[steps], show=False)
        start = time.perf_counter()
        trainer.fit()
        first, last = steps.times[0], steps.times[-1]
        if not settings.compile:
            return last - start  # without the evaluation that follows
        print(f"{'':18}first step with compilation: {first - start:.1f} s", file=sys.stderr)
        return (last - first) * len(steps.times) / (len(steps.times) - 1)

    return run


class _StepTimes:
    """Records the time at the end of each step."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def on_step(self, trainer: cnnzoo.Trainer) -> None:
        self.times.append(time.perf_counter())


def book(name: str, images: int, settings: cnnzoo.TrainConfig) -> Callable[[], float]:
    from d2l import torch as d2l

    folder = tempfile.mkdtemp()
    raw = Path(folder) / "data" / "FashionMNIST" / "raw"
    raw.mkdir(parents=True)
    from cnnzoo.data.idx import IDX_FILES
    from cnnzoo.data.named import IDX_SOURCES

    for file in IDX_FILES:
        content = gzip.decompress((Path(IDX_SOURCES["fashion_mnist"].system_folders[0]) / f"{file}.gz").read_bytes())
        (raw / file).write_bytes(content)
    (Path(folder) / "work").mkdir()

    class NoAnimation:
        """Takes the place of the textbook's animation."""

        def __init__(self, **settings: Any) -> None: ...

        def add(self, *point: Any) -> None: ...

    d2l.Animator = NoAnimation

    def run() -> float:
        cwd = os.getcwd()
        os.chdir(Path(folder) / "work")
        try:
            resize = {"resize": 224} if name == "alexnet" else {}
            train, _ = d2l.load_data_fashion_mnist(settings.batch_size, **resize)
        finally:
            os.chdir(cwd)
        model = _textbook_model(name)

        class FirstBatches:
            """The batches of the first images."""

            def __len__(self) -> int:
                return -(-images // settings.batch_size)

            def __iter__(self) -> Iterator[Any]:
                return itertools.islice(iter(train), len(self))

        start = time.perf_counter()
        with contextlib.redirect_stdout(io.StringIO()):
            d2l.train_ch6(model, FirstBatches(), [], 1, settings.lr, torch.device("cpu"))
        return time.perf_counter() - start

    # the accuracy on an empty test set would divide by zero
    d2l.evaluate_accuracy_gpu = sys.modules["d2l.torch"].evaluate_accuracy_gpu = lambda net, data: 0.0
    return run


def _textbook_model(name: str) -> nn.Module:
    """Returns one Sequential, as the textbook prints it, of our layers, which have the same shapes and order."""
    model = cnnzoo.create(name, seed=0)
    return nn.Sequential(*model.features, *model.classifier)


def loop(name: str, images: int, settings: cnnzoo.TrainConfig) -> Callable[[], float]:
    """A loop written by hand, with the same batches, precision, memory format, optimizer and allocator."""
    data = first_images(images)
    size = cnnzoo.get_spec(name).input[1:]

    def run() -> float:
        model = cnnzoo.create(name, seed=0).to(memory_format=torch.channels_last)
        for module in model.modules():
            if isinstance(module, (nn.Conv2d, nn.Linear)):
                nn.init.xavier_uniform_(module.weight)
        optimizer = torch.optim.SGD(model.parameters(), lr=settings.lr, fused=True)
        loss_sum = correct = torch.zeros(())
        start = time.perf_counter()
        with reuse_memory():
            for chosen in epoch_order(images, 0, 0).split(settings.batch_size):
                x = (
                    Preprocessing(size, (0.0,), (1.0,))
                    .apply(data.train.images[chosen])
                    .to(memory_format=torch.channels_last)
                )
                y = data.train.labels[chosen]
                with torch.autocast("cpu", dtype=torch.bfloat16, enabled=PRECISION == "bf16"):
                    scores = model(x)
                loss = nn.functional.cross_entropy(scores.float(), y)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                with torch.no_grad():
                    loss_sum = loss_sum + loss * len(y)
                    correct = correct + (scores.argmax(1) == y).sum()
            float(loss_sum)
        return time.perf_counter() - start

    return run


class _Batches:
    """The same batches for the other trainers."""

    def __init__(self, images: int, settings: cnnzoo.TrainConfig, size: tuple[int, ...]) -> None:
        self.data, self.images, self.settings, self.size = first_images(images), images, settings, size

    def __len__(self) -> int:
        return -(-self.images // self.settings.batch_size)

    def __iter__(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        for chosen in epoch_order(self.images, 0, 0).split(self.settings.batch_size):
            x = Preprocessing(self.size, (0.0,), (1.0,)).apply(self.data.train.images[chosen])
            yield x.to(memory_format=torch.channels_last), self.data.train.labels[chosen]


def lightning(name: str, images: int, settings: cnnzoo.TrainConfig) -> Callable[[], float]:
    import logging

    import lightning as pl

    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)

    class Module(pl.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.net = cnnzoo.create(name, seed=0).to(memory_format=torch.channels_last)

        def training_step(self, batch: Any, index: int) -> torch.Tensor:
            return nn.functional.cross_entropy(self.net(batch[0]).float(), batch[1])

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.SGD(self.parameters(), lr=settings.lr, fused=True)

    batches = _Batches(images, settings, cnnzoo.get_spec(name).input[1:])

    def run() -> float:
        trainer = pl.Trainer(
            accelerator="cpu", max_epochs=1, precision="bf16-mixed" if PRECISION == "bf16" else "32-true", logger=False,
            enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
        )  # fmt: skip
        module = Module()
        start = time.perf_counter()
        trainer.fit(module, batches)
        return time.perf_counter() - start

    return run


def accelerate(name: str, images: int, settings: cnnzoo.TrainConfig) -> Callable[[], float]:
    from accelerate import Accelerator

    batches = _Batches(images, settings, cnnzoo.get_spec(name).input[1:])

    def run() -> float:
        accelerator = Accelerator(cpu=True, mixed_precision="bf16" if PRECISION == "bf16" else "no")
        net = cnnzoo.create(name, seed=0).to(memory_format=torch.channels_last)
        model, optimizer = accelerator.prepare(net, torch.optim.SGD(net.parameters(), lr=settings.lr, fused=True))
        start = time.perf_counter()
        for x, y in batches:
            optimizer.zero_grad()
            accelerator.backward(nn.functional.cross_entropy(model(x).float(), y))
            optimizer.step()
        return time.perf_counter() - start

    return run


# name -> (model, images, rounds, the other trainer, required speed relative to it)
PAIRS: dict[str, tuple[str, int, int, Callable[..., Callable[[], float]], float]] = {
    "lenet-book": ("lenet", 60_000, 7, book, 4.0),
    "lenet-loop": ("lenet", 60_000, 7, loop, 0.95),
    "lenet-lightning": ("lenet", 60_000, 7, lightning, 1.0),
    "lenet-accelerate": ("lenet", 60_000, 7, accelerate, 1.0),
    "lenet-book-compiled": ("lenet", 60_000, 5, book, 4.0),
    "lenet-lightning-compiled": ("lenet", 60_000, 5, lightning, 1.3),
    "lenet-accelerate-compiled": ("lenet", 60_000, 5, accelerate, 1.3),
    "alexnet-book": ("alexnet", 2_560, 3, book, 3.5),
    "alexnet-loop": ("alexnet", 2_560, 5, loop, 0.98),
}


def main() -> None:
    warnings.filterwarnings("ignore")
    print(", ".join(f"{key} {value}" for key, value in machine_info().items()))
    print(f"\n{'':18}{'images/s ours':>14}{'images/s theirs':>17}{'ratio':>8}{'required':>10}")
    for pair in sys.argv[1:] or PAIRS:
        name, images, rounds, other, required = PAIRS[pair]
        settings = config(name).replace(compile=pair.endswith("-compiled"))
        sides = ours(name, images, settings), other(name, images, settings)
        small = settings.replace(overfit_batches=2)
        ours(name, images, small)()  # warmup: kernels are chosen on first use
        seconds: list[list[float]] = [[], []]
        for number in range(rounds):
            for side in (0, 1) if number % 2 else (1, 0):
                seconds[side].append(sides[side]())
        rates = [images / statistics.median(one) for one in seconds]
        ratio = statistics.median(b / a for a, b in zip(*seconds, strict=True))
        print(f"{pair:18}{rates[0]:14,.0f}{rates[1]:17,.0f}{ratio:8.2f}{required:10.2f}", flush=True)


if __name__ == "__main__":
    main()
