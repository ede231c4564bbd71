"""Does a training run resume exactly? cnnzoo, Lightning, Accelerate, Hugging Face Trainer and Keras, killed in epoch 2.

    pip install -e ".[loops]"
    python tests/benchmarks/resuming.py --write     # everything: minutes; writes docs/records/resuming.json
    python tests/benchmarks/resuming.py cnnzoo keras-batch

Each library trains LeNet with dropout for three epochs of 100 steps on the sample of Fashion-MNIST, and writes a
checkpoint every 10 steps. It does so twice undisturbed; a third run is killed (SIGKILL) before its 156th step and
resumed by the library's own means in a new process. The images of each step are recorded as the network sees them.
The result is page "Does it resume?" of the documentation.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from functools import cached_property, partial
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, TensorDataset

import cnnzoo
from cnnzoo.device import machine_info

RECORD = Path(__file__).parents[2] / "docs" / "records" / "resuming.json"
SEED, EPOCHS, BATCH_SIZE, LR, MOMENTUM = 0, 3, 60, 0.05, 0.9
CHECKPOINT_EVERY, STEPS_BEFORE_KILL = 10, 155

Result = tuple[dict[str, torch.Tensor], torch.Tensor]  # weights; logits of the test images (N, classes)


class Run:
    """One process of a training run.

    Args:
        folder: The folder of the run, where the library writes its checkpoints.
        log: The file to which the images of each step are written.
        steps: Number of steps after which the process kills itself; None: never.
    """

    def __init__(self, folder: Path, log: Path, steps: int | None = None) -> None:
        self.folder, self._log, self._steps, self._n = folder, log, steps, 0
        self.start = 0  # number of steps in the checkpoint that the run continues from
        self.data = cnnzoo.load_data("fashion_mnist_sample")
        self.preprocessing = cnnzoo.Preprocessing((28, 28), self.data.mean, self.data.std)
        self.images = self.preprocessing.apply(self.data.train.images)
        self.labels = self.data.train.labels
        self.steps_per_epoch = len(self.labels) // BATCH_SIZE

    @cached_property
    def _index(self) -> dict[bytes, int]:
        return {image.numpy().tobytes(): i for i, image in enumerate(self.data.train.images)}  # no image comes twice

    def watch(self, x: torch.Tensor) -> None:
        """Records which images the network is trained on in this step, or dies."""
        if self._n == self._steps:
            os.kill(os.getpid(), signal.SIGKILL)
        self._n += 1
        pixels = ((x * self.data.std[0] + self.data.mean[0]) * 255).round().to(torch.uint8)
        with self._log.open("a") as file:
            file.write(json.dumps([self._index[image.numpy().tobytes()] for image in pixels]) + "\n")

    def model(self) -> nn.Module:
        """Returns the network, which is watched."""
        spec = cnnzoo.get_spec("lenet", activation="relu", pooling="max")
        spec = cnnzoo.insert(spec, after="fc3", blocks=[cnnzoo.blocks.Dropout(0.5)])
        model = cnnzoo.create(spec, seed=SEED)
        model.register_forward_pre_hook(lambda module, args: self.watch(args[0]) if module.training else None)
        return model

    def dataset(self) -> TensorDataset:
        return TensorDataset(self.images, self.labels)

    def result(self, model: nn.Module) -> Result:
        """Returns what a trained network is compared by."""
        model.eval()
        with torch.no_grad():
            return dict(model.state_dict()), model(self.preprocessing.apply(self.data.test.images))


# --- the same training, by each library ---


def train_cnnzoo(run: Run) -> Result:
    config = cnnzoo.TrainConfig(
        epochs=EPOCHS, batch_size=BATCH_SIZE, lr=LR, momentum=MOMENTUM, seed=SEED, precision="fp32",
        checkpoint_every=CHECKPOINT_EVERY,
    )  # fmt: skip
    trainer = cnnzoo.Trainer(run.model(), run.data, config, out=run.folder / "run", resume="auto", show=False)
    run.start = trainer.step
    return run.result(trainer.fit().model)


def train_lightning(run: Run, *, stateful_loader: bool, keep_random_state: bool = False) -> Result:
    import lightning
    from lightning.pytorch.callbacks import ModelCheckpoint
    from torchdata.stateful_dataloader import StatefulDataLoader

    class Module(lightning.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.model, self.random_state = run.model(), None

        def training_step(self, batch: Any, index: int) -> torch.Tensor:
            return cross_entropy(self.model(batch[0]), batch[1])

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.SGD(self.parameters(), lr=LR, momentum=MOMENTUM)

        def on_train_start(self) -> None:
            run.start = self.trainer.global_step
            if self.random_state is not None:
                torch.set_rng_state(self.random_state)

        def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
            if keep_random_state:
                checkpoint["random_state"] = torch.get_rng_state()

        def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
            self.random_state = checkpoint.get("random_state")

    lightning.seed_everything(SEED)
    loader = (StatefulDataLoader if stateful_loader else DataLoader)(run.dataset(), BATCH_SIZE, shuffle=True)
    checkpoints = ModelCheckpoint(run.folder, every_n_train_steps=CHECKPOINT_EVERY, save_last=True)
    trainer = lightning.Trainer(
        accelerator="cpu", devices=1, max_epochs=EPOCHS, callbacks=[checkpoints], logger=False,
        enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
    last = run.folder / "last.ckpt"
    module = Module()
    trainer.fit(module, loader, ckpt_path=last if last.exists() else None)
    return run.result(module.model)


def train_accelerate(run: Run, *, stateful_loader: bool, own_generator: bool = False) -> Result:
    from accelerate import Accelerator
    from accelerate.utils import DataLoaderConfiguration, set_seed

    set_seed(SEED)
    loading = DataLoaderConfiguration(use_seedable_sampler=True, use_stateful_dataloader=stateful_loader)
    accelerator = Accelerator(cpu=True, dataloader_config=loading)
    model = run.model()
    optimizer = torch.optim.SGD(model.parameters(), lr=LR, momentum=MOMENTUM)
    generator = torch.Generator().manual_seed(SEED) if own_generator else None
    loader = DataLoader(run.dataset(), BATCH_SIZE, shuffle=True, generator=generator)
    model, optimizer, loader = accelerator.prepare(model, optimizer, loader)
    checkpoints = sorted(run.folder.glob("step_*"), key=lambda path: path.stat().st_mtime)
    if checkpoints:
        accelerator.load_state(checkpoints[-1])
        run.start = int(checkpoints[-1].name.removeprefix("step_"))
    step = run.start
    for epoch in range(step // run.steps_per_epoch, EPOCHS):
        loader.set_epoch(epoch)
        skip = 0 if stateful_loader else step % run.steps_per_epoch
        for images, labels in accelerator.skip_first_batches(loader, skip) if skip else loader:
            optimizer.zero_grad()
            accelerator.backward(cross_entropy(model(images), labels))
            optimizer.step()
            step += 1
            if step % CHECKPOINT_EVERY == 0:
                accelerator.save_state(run.folder / f"step_{step}")
    return run.result(accelerator.unwrap_model(model))


def train_transformers(run: Run) -> Result:
    from transformers import Trainer, TrainingArguments
    from transformers.trainer_utils import get_last_checkpoint

    class Network(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = run.model()

        def forward(self, images: torch.Tensor, labels: torch.Tensor) -> dict[str, torch.Tensor]:
            return {"loss": cross_entropy(self.model(images), labels)}

    arguments = TrainingArguments(
        run.folder, num_train_epochs=EPOCHS, per_device_train_batch_size=BATCH_SIZE, seed=SEED, use_cpu=True,
        optim="sgd", optim_args=f"momentum={MOMENTUM}", learning_rate=LR, lr_scheduler_type="constant", max_grad_norm=0,
        save_strategy="steps", save_steps=CHECKPOINT_EVERY, report_to="none", disable_tqdm=True,
    )  # fmt: skip
    samples = [{"images": x, "labels": y} for x, y in zip(run.images, run.labels, strict=True)]
    trainer = Trainer(network := Network(), arguments, train_dataset=samples)
    last = get_last_checkpoint(run.folder)
    run.start = int(last.rpartition("-")[2]) if last else 0
    trainer.train(resume_from_checkpoint=last is not None)
    return run.result(network.model)


def train_keras(run: Run, *, save_freq: int | str, seed_epochs: bool = False) -> Result:
    import keras
    from keras import layers

    class Network(keras.Model):
        def train_step(self, data: Any) -> Any:
            run.start = run.start or int(self.optimizer.iterations)
            run.watch(data[0].permute(0, 3, 1, 2))
            return super().train_step(data)

    class SeedEpochs(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
            keras.utils.set_random_seed(SEED + epoch)

    keras.utils.set_random_seed(SEED)
    x = image = keras.Input((28, 28, 1))
    for channels, padding in ((6, "same"), (16, "valid")):
        x = layers.Conv2D(channels, 5, padding=padding, activation="relu")(x)
        x = layers.MaxPooling2D(2)(x)
    x = layers.Dropout(0.5)(layers.Dense(120, activation="relu")(layers.Flatten()(x)))
    model = Network(image, layers.Dense(10)(layers.Dense(84, activation="relu")(x)))
    optimizer = keras.optimizers.SGD(LR, momentum=MOMENTUM)
    model.compile(optimizer, keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    callbacks = [keras.callbacks.BackupAndRestore(run.folder / "backup", save_freq=save_freq)]
    callbacks += [SeedEpochs()] if seed_epochs else []
    images = run.images.permute(0, 2, 3, 1).numpy()
    model.fit(images, run.labels.numpy(), BATCH_SIZE, EPOCHS, shuffle=True, callbacks=callbacks, verbose=0)
    weights = {str(i): torch.from_numpy(array) for i, array in enumerate(model.get_weights())}
    test_images = run.preprocessing.apply(run.data.test.images).permute(0, 2, 3, 1)
    return weights, torch.from_numpy(model.predict(test_images.numpy(), verbose=0))


@dataclass(frozen=True)
class Case:
    """A library with its settings for resuming."""

    library: str
    settings: str
    packages: tuple[str, ...]
    train: Callable[[Run], Result]


CASES = {
    "cnnzoo": Case("cnnzoo", '`Trainer(resume="auto")`', ("cnnzoo",), train_cnnzoo),
    "transformers": Case(
        "Hugging Face Trainer", "`resume_from_checkpoint=True`", ("transformers", "accelerate"), train_transformers
    ),
    "accelerate-skip": Case(
        "Accelerate", "`skip_first_batches`, `use_seedable_sampler`", ("accelerate",),
        partial(train_accelerate, stateful_loader=False),
    ),
    "accelerate-generator": Case(
        "Accelerate", "the same; `DataLoader(generator=...)`", ("accelerate",),
        partial(train_accelerate, stateful_loader=False, own_generator=True),
    ),
    "accelerate-stateful": Case(
        "Accelerate", "`use_stateful_dataloader`, `use_seedable_sampler`", ("accelerate", "torchdata"),
        partial(train_accelerate, stateful_loader=True),
    ),
    "lightning-plain": Case(
        "Lightning", "`ckpt_path`, `DataLoader`", ("lightning",), partial(train_lightning, stateful_loader=False)
    ),
    "lightning-stateful": Case(
        "Lightning", "`ckpt_path`, `StatefulDataLoader`", ("lightning", "torchdata"),
        partial(train_lightning, stateful_loader=True),
    ),
    "lightning-random": Case(
        "Lightning", "the same; torch's random state saved in hooks", ("lightning", "torchdata"),
        partial(train_lightning, stateful_loader=True, keep_random_state=True),
    ),
    "keras-batch": Case(
        "Keras", f"`BackupAndRestore(save_freq={CHECKPOINT_EVERY})`", ("keras",),
        partial(train_keras, save_freq=CHECKPOINT_EVERY),
    ),
    "keras-epoch": Case(
        "Keras", '`BackupAndRestore(save_freq="epoch")`', ("keras",), partial(train_keras, save_freq="epoch")
    ),
    "keras-seeded": Case(
        "Keras", "the same; a seed for each epoch, in a callback", ("keras",),
        partial(train_keras, save_freq="epoch", seed_epochs=True),
    ),
}  # fmt: skip


# --- processes ---


def run_process(name: str, folder: Path, log: Path, steps: int | None = None) -> dict[str, Any]:
    """Trains in a new process.

    Returns:
        The images of each step; of a process that was not killed, also the step that it continued from, weights, and
        test accuracy.
    """
    folder.mkdir(exist_ok=True)
    command = [sys.executable, __file__, name, "--folder", str(folder), "--log", str(log)]
    command += [] if steps is None else ["--kill", str(steps)]
    process = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "KERAS_BACKEND": "torch"})
    if process.returncode != (0 if steps is None else -signal.SIGKILL):
        raise RuntimeError(f"{name} ended with {process.returncode}:\n{process.stdout}\n{process.stderr}")
    outcome: dict[str, Any] = {"order": [json.loads(line) for line in log.read_text().splitlines()]}
    if steps is None:
        outcome |= json.loads(log.with_suffix(".json").read_text())
        outcome["weights"] = load_file(log.with_suffix(".safetensors"))
    return outcome


def train_here(name: str, run: Run, log: Path) -> None:
    """Trains in this process, and writes the results."""
    torch.set_num_threads(1)
    weights, logits = CASES[name].train(run)
    save_file({key: value.contiguous() for key, value in weights.items()}, log.with_suffix(".safetensors"))
    accuracy = (logits.argmax(dim=1) == run.data.test.labels).double().mean().item()
    log.with_suffix(".json").write_text(json.dumps({"start": run.start, "test_acc": accuracy}))


def has_same_bytes(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(a[key].numpy().tobytes() == b[key].numpy().tobytes() for key in a)


def measure(name: str) -> dict[str, Any]:
    """Trains undisturbed and disturbed, and returns how the results differ."""
    case = CASES[name]
    with tempfile.TemporaryDirectory() as temporary:
        path = Path(temporary)
        undisturbed, again = (run_process(name, path / label, path / f"{label}.jsonl") for label in ("a", "b"))
        killed = run_process(name, path / "c", path / "killed.jsonl", STEPS_BEFORE_KILL)
        resumed = run_process(name, path / "c", path / "resumed.jsonl")
    n = len(undisturbed["order"]) // EPOCHS  # steps of an epoch
    # what the final weights have seen: the steps in the checkpoint, then those of the second process
    second = killed["order"][n : resumed["start"]] + resumed["order"][:-n]
    third = resumed["order"][-n:]
    seen = Counter(i for step in second for i in step)
    weights = undisturbed["weights"], resumed["weights"]
    return {
        "library": case.library,
        "settings": case.settings,
        "versions": {package: version(package) for package in case.packages},
        "continued_from": resumed["start"],
        "seen_twice": sum(count > 1 for count in seen.values()),
        "never_seen": len({i for step in undisturbed["order"] for i in step}) - len(seen),
        "same_order": [second == undisturbed["order"][n : 2 * n], third == undisturbed["order"][2 * n :]],
        "largest_difference": max((weights[0][key] - weights[1][key]).abs().max().item() for key in weights[0]),
        "same_bytes": has_same_bytes(*weights),
        "repeatable": has_same_bytes(weights[0], again["weights"]),
        "test_acc": [undisturbed["test_acc"], resumed["test_acc"]],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", nargs="*", default=list(CASES), metavar="CASE", help=", ".join(CASES))
    parser.add_argument("--write", action="store_true", help="write docs/records/resuming.json")
    for option in ("--folder", "--log"):
        parser.add_argument(option, type=Path, help=argparse.SUPPRESS)  # of a process that trains
    parser.add_argument("--kill", type=int, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.folder is not None:
        train_here(args.cases[0], Run(args.folder, args.log, args.kill), args.log)
        return
    record: dict[str, Any] = {"date": date.today().isoformat(), "machine": machine_info(), "cases": {}, "missing": []}
    for name in args.cases:
        missing = [package for package in CASES[name].packages if find_spec(package) is None]
        if missing:
            print(f"{name}: not installed: {', '.join(missing)}", file=sys.stderr)
            record["missing"].append(name)
            continue
        record["cases"][name] = measure(name)
        print(name, json.dumps(record["cases"][name], indent=2), flush=True)
    if args.write:
        RECORD.write_text(json.dumps(record, indent=2, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
