"""The settings of a run: each does what its description says, and none breaks exact resuming."""

from __future__ import annotations

import dataclasses
import json
import resource
import signal
import subprocess
import sys
import types
from pathlib import Path
from typing import Any

import pytest
import torch
from processes import run_together
from runs import StopAt, parameters, plain_model
from torch import nn

import cnnzoo
from cnnzoo.data import ImageData, StreamData, epoch_order
from cnnzoo.errors import DataError, FileError, InputError, TrainingError, UnknownNameError
from cnnzoo.preprocessing import Preprocessing
from cnnzoo.serialization import load_tensors, weights_sha256
from cnnzoo.train import TensorBoard, evaluate, interval_95
from cnnzoo.train.checkpoint_file import load_checkpoint
from cnnzoo.train.distributed import DistributedContext

PLAIN = cnnzoo.TrainConfig(epochs=2, batch_size=20, lr=0.1, precision="fp32", channels_last=False)


def trained(data: Any, config: cnnzoo.TrainConfig, model: nn.Module | None = None, **more: Any) -> cnnzoo.Run:
    return cnnzoo.Trainer(model or plain_model(), data, config, show=False, **more).fit()


def steps_of(data: ImageData, config: cnnzoo.TrainConfig):
    """The batches of a run, as a plain loop would take them."""
    for epoch in range(config.epochs):
        for chosen in epoch_order(len(data.train), config.seed, epoch).split(config.batch_size):
            yield Preprocessing((8, 8), data.mean, data.std).apply(data.train.images[chosen]), data.train.labels[chosen]


# --- schedules ---


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"schedule": "constant"}, lambda t: 1.0),
        ({"schedule": "constant", "warmup": 2}, lambda t: min(1.0, t / 20)),
        ({"schedule": "one_cycle"}, lambda t: t / 30 if t < 30 else (101 - t) / 71),
        ({"schedule": "one_cycle", "warmup": 1}, lambda t: t / 10 if t < 10 else (101 - t) / 91),
        ({"schedule": "step", "milestones": [3, 7.5]}, lambda t: 1.0 if t <= 30 else 0.1 if t <= 75 else 0.01),
        ({"schedule": "step", "milestones": [5], "gamma": 0.5}, lambda t: 1.0 if t <= 50 else 0.5),
    ],
)
def test_schedules(changes: dict, expected) -> None:
    config = cnnzoo.TrainConfig(epochs=10, lr=1.0, **changes)
    rates = [config.learning_rate(step, 10) for step in range(100)]
    assert rates == pytest.approx([expected(step + 1) for step in range(100)])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"schedule": "step"}, "schedule='step' and milestones need each other"),
        ({"milestones": [3]}, "schedule='step' and milestones need each other"),
        ({"schedule": "step", "milestones": [5, 3]}, r"milestones must increase, not \[5.0, 3.0\]"),
        ({"milestones": 3}, "milestones must be a list of numbers of at least 0, not 3"),
        ({"milestones": ["x"]}, "milestones must be a list of numbers"),
        ({"freeze": "conv1"}, "freeze must be a list of strings, not 'conv1'"),
        ({"lr_multipliers": {"conv1": -1}}, "lr_multipliers must be an object of numbers of at least 0 by name"),
        ({"lr_multipliers": ["conv1"]}, "lr_multipliers must be an object"),
        ({"accumulation_steps": 300}, "a batch of 128 images cannot be split into 300 micro-batches"),
        ({"random_erasing": 1.5}, "random_erasing must be a number at least 0 and at most 1, not 1.5"),
        ({"ema": 1.0}, "ema must be a number at least 0 and less than 1, not 1.0"),
        ({"momentum": 1.0}, "momentum must be a number at least 0 and less than 1, not 1.0"),
        ({"crop_mode": "centre"}, "unknown crop_mode 'centre'. Did you mean 'center'"),
        ({"views": "tencrop"}, "unknown views 'tencrop'. Did you mean 'ten_crop'"),
        ({"schedule": "onecycle"}, "Did you mean 'one_cycle'"),
    ],
)
def test_settings_are_checked(changes: dict, message: str) -> None:
    with pytest.raises(cnnzoo.CnnzooError, match=message):
        cnnzoo.TrainConfig(**changes)


@pytest.mark.parametrize("changes", [{"patience": 2}, {"save_best": True}])
def test_test_images_select_nothing(tiny_data: ImageData, changes: dict) -> None:
    config = PLAIN.replace(**changes)
    with pytest.raises(InputError, match="patience and save_best need validation images.*val_size=5000, or give tiny"):
        cnnzoo.Trainer(plain_model(), tiny_data, config)
    cnnzoo.Trainer(plain_model(), dataclasses.replace(tiny_data, val=tiny_data.test), config)


# --- what a step does ---


def test_micro_batches_add_up_to_a_step(tiny_data: ImageData) -> None:
    whole, parts = (trained(tiny_data, PLAIN.replace(accumulation_steps=n)) for n in (1, 3))
    assert torch.allclose(parameters(whole.model), parameters(parts.model), atol=1e-6)
    for a, b in zip(whole.history, parts.history, strict=True):
        assert a["loss"] == pytest.approx(b["loss"], rel=1e-5) and a["train_acc"] == b["train_acc"]


def test_clipping_the_gradient(tiny_data: ImageData) -> None:
    run = trained(tiny_data, PLAIN.replace(clip_norm=0.1, momentum=0.9))
    model = plain_model()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    for x, y in steps_of(tiny_data, PLAIN):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x), y).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 0.1)
        optimizer.step()
    assert torch.allclose(parameters(run.model), parameters(model), atol=1e-6)


def test_the_moving_average_is_evaluated_and_saved(tmp_path: Path, tiny_data: ImageData) -> None:
    run = trained(tiny_data, PLAIN.replace(ema=0.8), out=tmp_path)
    model = plain_model()
    average = parameters(model)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for step, (x, y) in enumerate(steps_of(tiny_data, PLAIN)):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x), y).backward()
        optimizer.step()
        decay = min(0.8, (1 + step) / (10 + step))
        average = decay * average + (1 - decay) * parameters(model)
    assert torch.allclose(parameters(run.model), average, atol=1e-6)
    assert not torch.allclose(average, parameters(model), atol=1e-3)
    saved = load_tensors(tmp_path / "model.safetensors")
    assert weights_sha256(saved) == weights_sha256(run.model.state_dict())


def test_mixed_images_have_mixed_targets(tiny_data: ImageData) -> None:
    """Mixup changes the loss of an untrained network, and a network learns from mixed images."""
    run = trained(tiny_data, PLAIN.replace(mixup=0.4, lr=0.0, epochs=1))
    plain = trained(tiny_data, PLAIN.replace(lr=0.0, epochs=1))
    assert run.history[0]["loss"] != plain.history[0]["loss"]
    config = PLAIN.replace(mixup=0.4, epochs=8, lr=0.2)
    assert trained(tiny_data, config).metrics["test_acc"] > 0.9


def test_freezing_by_label_and_by_name(tiny_spec: cnnzoo.Spec, tiny_data: ImageData) -> None:
    model = cnnzoo.create(tiny_spec, seed=0)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    trained(tiny_data, PLAIN.replace(freeze=["conv1", "classifier.0.bias"]), model)
    same = {name for name, tensor in model.state_dict().items() if torch.equal(tensor, before[name])}
    conv1 = {name for name in before if name.startswith(("features.0.", "features.1."))}
    assert all(p.requires_grad for p in model.parameters())
    assert same == conv1 | {
        "classifier.0.bias"
    }  # the running statistics of a frozen normalization do not change either
    with pytest.raises(UnknownNameError, match="unknown label or parameter 'conv9'. Did you mean 'conv1'"):
        cnnzoo.Trainer(cnnzoo.create(tiny_spec), tiny_data, PLAIN.replace(freeze=["conv9"]))


def test_learning_rate_multipliers(tiny_spec: cnnzoo.Spec, tiny_data: ImageData) -> None:
    config = PLAIN.replace(epochs=1, batch_size=90, lr_multipliers={"*": 0.5, "conv*": 0.0})
    moved = {}
    for name, changes in (("scaled", config), ("plain", config.replace(lr_multipliers={}))):
        model = cnnzoo.create(tiny_spec, seed=0)
        before = {n: p.detach().clone() for n, p in model.named_parameters()}
        trained(tiny_data, changes, model)
        moved[name] = {n: p.detach() - before[n] for n, p in model.named_parameters()}
    assert not moved["scaled"]["features.0.weight"].any() and moved["plain"]["features.0.weight"].any()
    for key in ("classifier.0.weight", "classifier.3.bias"):
        assert torch.allclose(moved["scaled"][key], 0.5 * moved["plain"][key], atol=1e-6)
    with pytest.raises(UnknownNameError, match="unknown label or parameter 'convv'"):
        trained(tiny_data, PLAIN.replace(lr_multipliers={"convv": 1.0}), cnnzoo.create(tiny_spec))


@pytest.mark.parametrize("changes", [{"precision": "fp16"}, {"precision": "fp16", "clip_norm": 1.0}])
def test_half_precision_trains(tmp_path: Path, tiny_data: ImageData, changes: dict) -> None:
    config = PLAIN.replace(epochs=6, **changes)
    whole = trained(tiny_data, config, out=tmp_path / "whole")
    assert whole.metrics["test_acc"] > 0.8 and whole.metrics["precision"] == "fp16"
    cut = trained(tiny_data, config, out=tmp_path / "cut", callbacks=[StopAt(13)])
    assert cut.interrupted
    _, about = load_checkpoint(tmp_path / "cut" / "checkpoint.safetensors")
    assert about["scaler"]["scale"] > 1
    rest = cnnzoo.Trainer.resume(tmp_path / "cut", model=plain_model(), data=tiny_data, show=False).fit()
    assert weights_sha256(rest.model.state_dict()) == weights_sha256(whole.model.state_dict())


def test_deterministic_operators_are_required_and_the_setting_is_restored(tiny_data: ImageData) -> None:
    class Watch:
        def on_step(self, trainer) -> None:
            self.seen = torch.are_deterministic_algorithms_enabled()

    watch = Watch()
    trained(tiny_data, PLAIN.replace(deterministic=True), callbacks=[watch])
    assert watch.seen and not torch.are_deterministic_algorithms_enabled()


@pytest.mark.slow
def test_a_compiled_network_ends_close_by(tiny_data: ImageData) -> None:
    plain, compiled = (trained(tiny_data, PLAIN.replace(compile=value)) for value in (False, True))
    assert torch.allclose(parameters(plain.model), parameters(compiled.model), atol=1e-4)


# --- ends and results ---


def test_overfitting_a_few_batches(tiny_data: ImageData) -> None:
    noisy = ImageData("noise", tiny_data.train, tiny_data.test, tiny_data.classes)
    config = PLAIN.replace(epochs=60, overfit_batches=1, flip=True, random_erasing=1.0, momentum=0.9)
    run = trained(noisy, config)
    assert run.metrics["train_acc"] == 1.0 == run.metrics["test_acc"] and run.metrics["loss"] < 0.05


def test_patience_ends_a_run_and_the_best_weights_are_saved(tmp_path: Path, tiny_data: ImageData) -> None:
    class Spoil:
        """Negates the weights after each epoch."""

        def on_epoch(self, trainer, entry) -> None:
            if entry["epoch"] == 1:
                self.best = {k: v.clone() for k, v in trainer.model.state_dict().items()}
            for p in trainer.model.parameters():
                p.data.mul_(-1.0)

    spoil = Spoil()
    config = PLAIN.replace(epochs=20, lr=1e-6, val_size=30, patience=3, save_best=True)
    model = plain_model()
    trained(tiny_data, PLAIN.replace(epochs=8), model)  # accurate from the start
    run = trained(tiny_data, config, model, out=tmp_path, callbacks=[spoil])
    assert not run.interrupted and len(run.history) < 20
    results = [entry["val_acc"] for entry in run.history]
    best = results.index(max(results))
    assert best == len(results) - 4 and run.metrics["best_epoch"] == best + 1
    assert run.metrics["val_acc"] == max(results) and run.metrics["loss"] == run.history[best]["loss"]
    assert not (tmp_path / "checkpoint.safetensors").exists() and not (tmp_path / "best.safetensors").exists()
    weights = load_tensors(tmp_path / "model.safetensors")  # T7: the best, not the last
    assert weights_sha256(weights) == weights_sha256(run.model.state_dict())
    if best == 0:
        assert weights_sha256(weights) == weights_sha256(spoil.best)
    preprocessing = Preprocessing(8, tiny_data.mean, tiny_data.std)
    assert run.metrics["test_acc"] == cnnzoo.evaluate(run.model, tiny_data, preprocessing=preprocessing).top1


def test_the_best_weights_carry_their_preprocessing(
    tmp_path: Path, tiny_spec: cnnzoo.Spec, tiny_data: ImageData
) -> None:
    config = PLAIN.replace(val_size=30, save_best=True, normalize=False)
    run = trained(tiny_data, config, cnnzoo.create(tiny_spec, seed=0), out=tmp_path)
    best = cnnzoo.load(tmp_path).metadata
    assert best.label_names == tiny_data.classes and best.preprocessing == Preprocessing(8, [0], [1])
    accuracies = [entry["val_acc"] for entry in run.history]
    entry = run.history[accuracies.index(max(accuracies))]
    assert (best.provenance["steps"], best.provenance["loss"]) == (entry["step"], entry["loss"])


def test_classes_that_are_not_strings_are_written_as_strings(
    tmp_path: Path, tiny_spec: cnnzoo.Spec, tiny_data: ImageData
) -> None:
    data = dataclasses.replace(tiny_data, classes=(0, 1, 2))
    trained(data, PLAIN, cnnzoo.create(tiny_spec, seed=0), out=tmp_path)
    assert cnnzoo.load(tmp_path).metadata.label_names == ("0", "1", "2")


def test_a_callback_may_end_a_run(tmp_path: Path, tiny_data: ImageData) -> None:
    class Enough:
        def on_epoch(self, trainer, entry) -> None:
            trainer.stop()

        def on_eval(self, trainer, evaluation) -> None:
            self.seen = evaluation.top1

    enough = Enough()
    run = trained(tiny_data, PLAIN.replace(epochs=9, views="flip"), out=tmp_path, callbacks=[enough])
    assert len(run.history) == 1 and not run.interrupted and run.metrics["test_acc_flip"] == enough.seen
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert metrics["test_acc"] == metrics["evaluations"]["test"]["top1"] and metrics["test_acc_flip"] == enough.seen


def test_other_views_are_reported_beside_the_single_view(tmp_path: Path, tiny_data: ImageData) -> None:
    run = trained(tiny_data, PLAIN.replace(views="ten_crop", crop_mode="center", flip=True, epochs=4), out=tmp_path)
    assert {"test_acc", "test_acc_ten_crop"} <= set(run.metrics) and ", ten_crop 0." in str(run)
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert metrics["evaluations"]["test_ten_crop"]["views"] == "ten_crop" and metrics["evaluations"]["test"]["n"] == 30
    assert metrics["evaluations"]["test_ten_crop"]["top1"] == run.metrics["test_acc_ten_crop"]
    assert metrics["weights_sha256"] == weights_sha256(run.model.state_dict())


def test_views_average_probabilities(tiny_data: ImageData) -> None:
    model = plain_model()
    preprocessing = Preprocessing((8, 8), tiny_data.mean, tiny_data.std)
    evaluation = cnnzoo.evaluate(model, tiny_data, preprocessing=preprocessing, views="flip")
    both = preprocessing.views(tiny_data.test.images, "flip")
    p = torch.stack([model(preprocessing.normalize(both[:, i])).softmax(1) for i in (0, 1)]).mean(0)
    assert evaluation.top1 == (p.argmax(1) == tiny_data.test.labels).double().mean().item() and evaluation.n == 30
    assert evaluation.loss == pytest.approx(nn.functional.nll_loss(p.log(), tiny_data.test.labels).item(), rel=1e-5)
    with pytest.raises(UnknownNameError, match="unknown views 'tencrop'. Did you mean 'ten_crop'"):
        cnnzoo.evaluate(model, tiny_data, preprocessing=preprocessing, views="tencrop")


def test_three_figures_of_speed(tiny_data: ImageData) -> None:
    run = trained(tiny_data, PLAIN)
    for entry in run.history:
        assert 0 < entry["data_share"] < 1
        assert entry["wall_examples_per_sec"] < entry["examples_per_sec"]
        waiting = 1 - entry["wall_examples_per_sec"] / entry["examples_per_sec"]
        assert entry["data_share"] <= waiting + 1e-6


# --- data of other kinds ---


def test_training_on_ready_made_batches(tmp_path: Path, tiny_data: ImageData) -> None:
    x = Preprocessing((8, 8), tiny_data.mean, tiny_data.std).apply(tiny_data.train.images)
    batches = list(zip(x.split(20), tiny_data.train.labels.split(20), strict=True))
    test = [(Preprocessing((8, 8), tiny_data.mean, tiny_data.std).apply(tiny_data.test.images), tiny_data.test.labels)]
    data = StreamData("ready", batches, test, tiny_data.classes)
    whole = trained(data, PLAIN, out=tmp_path / "a")
    assert whole.history[-1]["step"] == 10 and whole.metrics["test_acc"] > 0.5
    assert json.loads((tmp_path / "a" / "metrics.json").read_text())["evaluations"]["test"]["n"] == 30
    # each of two processes evaluates all of them
    settings: dict = {"classes": data.classes, "preprocessing": None, "distributed": DistributedContext(0, 2)}
    assert evaluate(plain_model(), test, **settings).n == 30
    trained(data, PLAIN, out=tmp_path / "b", callbacks=[StopAt(7)])
    rest = cnnzoo.Trainer.resume(tmp_path / "b", model=plain_model(), data=data, show=False).fit()
    assert torch.equal(parameters(rest.model), parameters(whole.model))
    for changes, message in (
        ({"flip": True}, "used unchanged; augmentation and crop_mode='center' need uint8 images"),
        (
            {"accumulation_steps": 2},
            r"nor be split into micro-batches \(processes=1, accumulation_steps=2\)",
        ),
        ({"val_size": 3}, "yields batches, from which no samples can be selected"),
    ):
        with pytest.raises(InputError, match=message):
            cnnzoo.Trainer(plain_model(), data, PLAIN.replace(**changes))
    with pytest.raises(InputError, match="lenet expects images of 28x28 px, but ready has 8x8"):
        cnnzoo.Trainer(cnnzoo.create("lenet", num_classes=3), data, PLAIN)


# --- stopping, resuming, and what is refused ---


EVERYTHING = cnnzoo.TrainConfig(
    epochs=3, batch_size=32, accumulation_steps=2, lr=0.05, momentum=0.9, nesterov=True, weight_decay=1e-3,
    clip_norm=2.0, schedule="one_cycle", ema=0.9, label_smoothing=0.1, crop_mode="center", flip=True, translate=2,
    random_erasing=0.3, mixup=0.2, pca_lighting=0.1, views="flip", deterministic=True, checkpoint_every=4, seed=3,
    augment=["rotate:15", "color_jitter", "random_resized_crop:0.5"],
)  # fmt: skip
KILL_STEPS = (6, 11, 26)  # within the first epoch of 11 steps, at its end before its checkpoint, in the last epoch


def some_data() -> ImageData:
    return cnnzoo.load_data("fashion_mnist_sample").subset(torch.arange(350))


def train_with_everything(out: Path, kill_step: int | None) -> None:
    torch.set_num_threads(1)  # four of these run at once
    model = cnnzoo.create("lenet", activation="relu", dropout=0.3, norm="batch", seed=0)
    cnnzoo.Trainer(model, some_data(), EVERYTHING, out=out, callbacks=[StopAt(kill_step, signal.SIGKILL)]).fit()


def resume_all() -> None:
    torch.set_num_threads(1)
    for out in sys.argv[1:]:
        cnnzoo.Trainer.resume(out, data=some_data(), config=EVERYTHING).fit()


@pytest.fixture(scope="module")
def everything(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folders of a run that was left alone (whole), and of runs killed after a step and resumed (6, 11, 26)."""
    folder = tmp_path_factory.mktemp("everything")
    whole, *killed = run_together(
        train_with_everything, [(folder / "whole", None), *((folder / str(step), step) for step in KILL_STEPS)]
    )
    assert whole.code == 0, whole.stderr
    assert [outcome.code for outcome in killed] == [-signal.SIGKILL] * 3
    # in a new interpreter, with another hash seed
    code = f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r}); import test_training as t; t.resume_all()"
    command = [sys.executable, "-c", code, *(str(folder / str(step)) for step in KILL_STEPS)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.mark.parametrize("step", KILL_STEPS)
def test_with_everything_on_a_killed_run_ends_with_the_same_bytes(everything: Path, step: int) -> None:
    whole, cut = everything / "whole", everything / str(step)
    assert (whole / "model.safetensors").read_bytes() == (cut / "model.safetensors").read_bytes()
    a, b = (json.loads((run / "metrics.json").read_text())["evaluations"] for run in (whole, cut))
    assert a == b
    info = json.loads((cut / "train.json").read_text())
    assert [session["step"] for session in info["sessions"]] == [0, step // 4 * 4]


@pytest.mark.parametrize("epoch", [1, 2])
def test_killed_while_it_is_tested(tmp_path: Path, tiny_data: ImageData, epoch: int) -> None:
    class Kill(Exception):
        def on_eval(self, trainer, evaluation) -> None:
            if trainer.step == epoch * trainer.steps_per_epoch:
                raise self

    config = PLAIN.replace(checkpoint_every=1)
    whole = trained(tiny_data, config)
    with pytest.raises(Kill):
        trained(tiny_data, config, out=tmp_path, callbacks=[Kill()])
    again = cnnzoo.Trainer.resume(tmp_path, model=plain_model(), data=tiny_data, show=False).fit()
    assert torch.equal(parameters(again.model), parameters(whole.model))
    for key in ("epoch", "step", "loss", "train_acc", "test_acc"):
        assert [entry[key] for entry in again.history] == [entry[key] for entry in whole.history]
    assert json.loads((tmp_path / "metrics.json").read_text())["evaluations"]["test"]["n"] == 30


def test_a_checkpoint_within_an_epoch_holds_its_times(tmp_path: Path, tiny_data: ImageData) -> None:
    class Look:
        def on_step(self, trainer) -> None:
            if trainer.step == 4:
                self.seconds = load_checkpoint(tmp_path / "checkpoint.safetensors")[1]["seconds"]

    look = Look()
    run = trained(tiny_data, PLAIN.replace(checkpoint_every=3), out=tmp_path, callbacks=[look])
    steps, waited, wall = look.seconds
    assert 0 < steps < wall and 0 < waited < wall
    assert run.history[0]["wall_examples_per_sec"] < 60 / wall


def test_a_run_on_few_batches_resumes(tmp_path: Path, tiny_data: ImageData) -> None:
    config = PLAIN.replace(overfit_batches=2)
    whole = trained(tiny_data, config)
    trained(tiny_data, config, out=tmp_path, callbacks=[StopAt(3)])
    again = cnnzoo.Trainer.resume(tmp_path, model=plain_model(), data=tiny_data, show=False).fit()
    assert torch.equal(parameters(again.model), parameters(whole.model))


def test_an_untrainable_model_does_not_delete_the_existing_run(tmp_path: Path, tiny_data: ImageData) -> None:
    trained(tiny_data, PLAIN, out=tmp_path)
    for model, config, message in (
        (plain_model(), PLAIN.replace(freeze=["*"]), r"freeze=\['\*'\] leaves nothing to train"),
        (plain_model().to("meta"), PLAIN, "the model is on the meta device and has no weights"),
    ):
        with pytest.raises(InputError, match=message):
            trained(tiny_data, config, model, out=tmp_path, overwrite=True)
    assert (tmp_path / "metrics.json").exists()


def test_sigterm_saves_as_ctrl_c_does(tmp_path: Path, tiny_data: ImageData) -> None:
    run = trained(tiny_data, PLAIN, out=tmp_path, callbacks=[StopAt(3, signal.SIGTERM)])
    assert run.interrupted and (tmp_path / "checkpoint.safetensors").exists()


def test_the_moving_average_continues_after_a_stop(tmp_path: Path, tiny_data: ImageData) -> None:
    config = PLAIN.replace(ema=0.9, momentum=0.5)
    whole = trained(tiny_data, config)
    trainer = cnnzoo.Trainer(plain_model(), tiny_data, config, out=tmp_path, show=False, callbacks=[StopAt(4)])
    assert trainer.fit().interrupted
    again = trainer.fit()
    assert torch.equal(parameters(again.model), parameters(whole.model))


def test_a_head_for_other_classes_is_warned_about(
    tiny_spec: cnnzoo.Spec, tiny_data: ImageData, recwarn: pytest.WarningsRecorder
) -> None:
    model = trained(tiny_data, PLAIN, cnnzoo.create(tiny_spec, seed=0)).model
    trained(tiny_data, PLAIN, model)
    assert not recwarn
    others = dataclasses.replace(tiny_data, classes=("kind 0", "kind 1", "kind 2"))
    trained(others, PLAIN, model)
    (warning,) = recwarn
    assert "trained for other classes" in str(warning.message) and "of tiny (kind 0, kind 1," in str(warning.message)
    recwarn.clear()
    trained(others, PLAIN, model)
    assert not recwarn  # the model was trained for them since


def test_provenance_names_the_initial_weights(tmp_path: Path, tiny_spec: cnnzoo.Spec, tiny_data: ImageData) -> None:
    first = trained(tiny_data, PLAIN, cnnzoo.create(tiny_spec, seed=0)).model
    origin = first.metadata.provenance
    assert origin["kind"] == "trained" and "from" not in origin
    cnnzoo.save(first, tmp_path / "first")
    whole = trained(tiny_data, PLAIN, cnnzoo.load(tmp_path / "first"), out=tmp_path / "whole").model
    assert whole.metadata.provenance["from"] == origin
    trained(tiny_data, PLAIN, cnnzoo.load(tmp_path / "first"), out=tmp_path / "cut", callbacks=[StopAt(3)])
    resumed = cnnzoo.Trainer.resume(tmp_path / "cut", data=tiny_data, show=False).fit().model
    assert resumed.metadata.provenance == whole.metadata.provenance  # not "from" the weights of its own checkpoint
    cnnzoo.save(whole, tmp_path / "second")
    assert "Initial weights: Trained with" in (tmp_path / "second" / "README.md").read_text()

    with pytest.warns(UserWarning, match=r"draws new weights, .* are not used; config.replace\(init=None\) continues"):
        anew = trained(tiny_data, PLAIN.replace(init="xavier_uniform"), cnnzoo.load(tmp_path / "first")).model
    assert "from" not in anew.metadata.provenance


def test_a_changed_config_is_not_resumed(tmp_path: Path, tiny_data: ImageData) -> None:
    trained(tiny_data, PLAIN, out=tmp_path, callbacks=[StopAt(3)])
    settings: dict = {"model": plain_model(), "data": tiny_data}
    with pytest.raises(InputError, match="config= differs: lr was 0.1 and is 0.2, seed was 0 and is 1"):
        cnnzoo.Trainer.resume(tmp_path, config=PLAIN.replace(lr=0.2, seed=1), **settings)
    info = json.loads((tmp_path / "train.json").read_text())
    info["config"]["epochs"] = 5
    (tmp_path / "train.json").write_text(json.dumps(info))
    with pytest.raises(InputError, match="its train.json differs: epochs was 2 and is 5. Change that back"):
        cnnzoo.Trainer.resume(tmp_path, **settings)


def test_a_full_disk_is_one_clear_error_and_loses_nothing(tmp_path: Path, tiny_data: ImageData) -> None:
    """The kernel refuses to let a file grow past a limit, as it does on a full disk."""
    trained(tiny_data, PLAIN, out=tmp_path, callbacks=[StopAt(3)])
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    trainer = cnnzoo.Trainer.resume(tmp_path, model=plain_model(), data=tiny_data, show=False)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before["checkpoint.safetensors"]) // 2, limits[1]))
    try:
        with pytest.raises(FileError, match=r"checkpoint.safetensors cannot be written: File too large"):
            trainer.fit()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert (tmp_path / "checkpoint.safetensors").read_bytes() == before["checkpoint.safetensors"]
    assert {file.name for file in tmp_path.iterdir()} == set(before)
    rest = cnnzoo.Trainer.resume(tmp_path, model=plain_model(), data=tiny_data, show=False).fit()
    assert torch.equal(parameters(rest.model), parameters(trained(tiny_data, PLAIN).model))


def test_weights_that_are_not_finite_do_not_replace_a_good_checkpoint(tmp_path: Path, tiny_data: ImageData) -> None:
    class Spoil:
        def on_step(self, trainer) -> None:
            if trainer.step == 5:
                next(trainer.model.parameters()).data[0, 0] = float("inf")

    with pytest.raises(TrainingError, match="at step 5 .* weights became infinite or NaN .1.weight"):
        trained(tiny_data, PLAIN.replace(checkpoint_every=5), out=tmp_path, callbacks=[Spoil()])
    assert not (tmp_path / "checkpoint.safetensors").exists()


# --- seed sweeps, learning-rate search, records ---


def test_seed_sweep_gives_mean_and_interval(tmp_path: Path) -> None:
    data = cnnzoo.load_data("fashion_mnist_sample").subset(torch.arange(300))
    config = cnnzoo.TrainConfig(epochs=2, batch_size=50, lr=0.1, momentum=0.9)
    sweep = cnnzoo.seed_sweep("lenet", data, config, seeds=3, out=tmp_path, show=False, activation="relu")
    accuracies = [run.metrics["test_acc"] for run in sweep.runs]
    assert len(set(accuracies)) > 1 and sweep.mean() == pytest.approx(sum(accuracies) / 3)
    low, high = sweep.interval()
    deviation = torch.tensor(accuracies, dtype=torch.float64).std().item()
    assert (high - low) / 2 == pytest.approx(4.303 * deviation / 3**0.5)
    assert "mean" in str(sweep) and "95 %" in str(sweep)
    content = json.loads((tmp_path / "sweep.json").read_text())
    assert content["mean_test_acc"] == sweep.mean() and [run["seed"] for run in content["runs"]] == [0, 1, 2]
    alone = cnnzoo.seed_sweep("lenet", data, config, seeds=[2], show=False, activation="relu")
    assert alone.runs[0].metrics["test_acc"] == accuracies[2]
    with pytest.raises(FileError, match="holds a run already"):
        cnnzoo.seed_sweep("lenet", data, config, seeds=2, out=tmp_path)
    with pytest.raises(FileError, match=r"sweep.json exists already; name another folder"):
        cnnzoo.seed_sweep("lenet", data, config, seeds=[7], out=tmp_path)
    with pytest.raises(InputError, match="seeds must be a number of at least 1, or different seeds"):
        cnnzoo.seed_sweep("lenet", data, config, seeds=[1, 1])


def test_the_interval_is_students() -> None:
    assert interval_95([1.0, 3.0]) == pytest.approx((2 - 12.706, 2 + 12.706))
    assert interval_95([5.0]) == (-float("inf"), float("inf"))


def test_lr_find_leaves_the_module_alone(tmp_path: Path, tiny_data: ImageData) -> None:
    model = plain_model()
    before = parameters(model)
    result = cnnzoo.lr_find(model, tiny_data, PLAIN, low=1e-4, high=1e4, steps=100)
    assert torch.equal(parameters(model), before)
    assert 1e-3 < result.suggestion < 20 and result.rates[0] == 1e-4 and list(result.rates) == sorted(result.rates)
    assert result.losses[result.rates.index(result.suggestion)] > min(result.losses)
    assert str(result).startswith("the loss falls fastest at lr=")
    result.plot(tmp_path / "rates.png")
    assert (tmp_path / "rates.png").stat().st_size > 5000
    with pytest.raises(InputError, match="0 < low < high"):
        cnnzoo.lr_find(model, tiny_data, low=1.0, high=0.1)
    with pytest.raises(TrainingError, match=r"at lr=1e\+08 the loss diverges at once; pass a smaller low"):
        cnnzoo.lr_find(model, tiny_data, PLAIN, low=1e8, high=1e9)


def test_a_record_of_finished_runs(tmp_path: Path, tiny_data: ImageData) -> None:
    from cnnzoo.train import record

    trained(tiny_data, PLAIN, out=tmp_path / "a")
    trained(tiny_data, PLAIN.replace(seed=1), out=tmp_path / "b", callbacks=[StopAt(3)])
    cnnzoo.Trainer.resume(tmp_path / "b", model=plain_model(), data=tiny_data, show=False).fit()
    record([tmp_path / "a", tmp_path / "b"], tmp_path / "records" / "net.json")
    content = json.loads((tmp_path / "records" / "net.json").read_text())
    assert (tmp_path / "records" / "net.png").exists()
    assert content["sessions"][0]["machine"]["torch"] == torch.__version__ and len(content["sessions"]) == 1
    assert [run["seed"] for run in content["runs"]] == [0, 1] and len(content["runs"][0]["history"]) == 2
    assert "sessions" not in content["runs"][0]
    assert [session["step"] for session in content["runs"][1]["sessions"]] == [0, 3]
    assert content["test_acc"] == pytest.approx(sum(run["metrics"]["test_acc"] for run in content["runs"]) / 2)
    assert content["test_acc_95"][0] <= content["test_acc"] <= content["test_acc_95"][1]
    record([tmp_path / "b"], tmp_path / "b.json")  # the sessions of the first run stand at the top
    content = json.loads((tmp_path / "b.json").read_text())
    assert [session["step"] for session in content["sessions"]] == [0, 3] and "sessions" not in content["runs"][0]
    trained(tiny_data, PLAIN, out=tmp_path / "c", callbacks=[StopAt(3)])
    with pytest.raises(FileError, match=r"the run in .*c is not finished: there is no metrics.json in it"):
        record([tmp_path / "c"], tmp_path / "c.json")


# --- what is shown ---


def test_curves_grow_in_a_notebook(monkeypatch: pytest.MonkeyPatch, tiny_data: ImageData) -> None:
    shown: list[str] = []
    cell = types.SimpleNamespace(update=lambda html: shown.append(f"update {html}"))

    def display(html, display_id):
        shown.append(f"display {html}")
        return cell

    ipython = types.ModuleType("IPython")
    ipython.version_info = (9, 0)  # type: ignore[attr-defined]  # matplotlib reads it
    ipython.get_ipython = lambda: types.SimpleNamespace(kernel=object())  # type: ignore[attr-defined]
    module = types.ModuleType("IPython.display")
    module.display, module.HTML = display, str  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "IPython", ipython)
    monkeypatch.setitem(sys.modules, "IPython.display", module)
    cnnzoo.Trainer(plain_model(), tiny_data, PLAIN.replace(epochs=3)).fit()
    assert [text.partition(" ")[0] for text in shown] == ["display", "update", "update"]
    assert all("<svg" in text and f"epoch {i}/3: loss" in text for i, text in enumerate(shown, start=1))


def test_tensorboard_gets_each_epochs_figures(monkeypatch: pytest.MonkeyPatch, tiny_data: ImageData) -> None:
    written: list[tuple] = []

    class Writer:
        def __init__(self, folder: str) -> None:
            self.folder = folder

        def add_scalar(self, *arguments: object) -> None:
            written.append(arguments)

        def close(self) -> None:
            written.append(("closed",))

    module = types.ModuleType("torch.utils.tensorboard")
    module.SummaryWriter = Writer  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", module)
    run = trained(tiny_data, PLAIN, callbacks=[TensorBoard("logs")])
    assert ("test_acc", run.history[1]["test_acc"], 10) in written and written[-1] == ("closed",)
    with pytest.raises(InputError, match=r"TensorBoard needs a folder: name the run's \(out=\), or one of its own"):
        trained(tiny_data, PLAIN, callbacks=["tensorboard"])
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(InputError, match="tensorboard is not installed; pip install tensorboard"):
        TensorBoard("logs")


def test_a_registered_callback_is_part_of_the_config(
    tmp_path: Path, tiny_spec: cnnzoo.Spec, tiny_data: ImageData
) -> None:
    starts = []

    @cnnzoo.register_callback("counts_starts")
    class CountsStarts:
        def on_start(self, trainer) -> None:
            starts.append(self)

        def on_epoch(self, trainer, entry) -> None:
            entry["starts"] = len(starts)

    def trainer(**arguments):
        return cnnzoo.Trainer(cnnzoo.create(tiny_spec, seed=0), tiny_data, show=False, **arguments)

    config = PLAIN.replace(callbacks=["counts_starts"])
    assert trainer(config=PLAIN, callbacks=["counts_starts", "counts_starts"]).config == config
    trainer(config=config, callbacks=[StopAt(7)], out=tmp_path).fit()
    run = cnnzoo.Trainer.resume(tmp_path, data=tiny_data, show=False).fit()
    assert len(set(starts)) == 2 and [entry["starts"] for entry in run.history] == [1, 2]
    with pytest.raises(UnknownNameError, match="unknown callback 'count_starts'. Did you mean 'counts_starts'?"):
        PLAIN.replace(callbacks=["count_starts"])
    with pytest.raises(InputError, match=r"callbacks must be a list of names or objects, such as \['tensorboard'\]"):
        trainer(callbacks="tensorboard")


# --- recipes ---


def test_the_recipe_of_2012_is_the_papers(tiny_data: ImageData) -> None:
    config = cnnzoo.recipe("krizhevsky2012")
    assert (config.batch_size, config.momentum, config.weight_decay, config.lr) == (128, 0.9, 5e-4, 0.01)
    assert (config.pca_lighting, config.views, config.crop_mode, config.flip) == (0.1, "ten_crop", "center", True)
    rates = {round(config.learning_rate(step, 10), 10) for step in range(900)}
    assert rates == {0.01, 0.001, 0.0001, 0.00001}
    model = cnnzoo.create("alexnet_2012", width=0.05, num_classes=3, in_channels=1)
    data = tiny_data.subset(torch.arange(6))
    run = cnnzoo.Trainer(model, data, config.replace(epochs=1, schedule="constant", milestones=[]), show=False).fit()
    assert "test_acc_ten_crop" in run.metrics


# --- validation images, and failures during an evaluation ---


def test_validation_images_of_the_data(tmp_path: Path, tiny_data: ImageData) -> None:
    """I10: patience and save_best use them; the test images are used once, at the end."""
    seen: list[int] = []

    class Record:
        def on_eval(self, trainer, evaluation) -> None:
            seen.append(evaluation.n)

    data = dataclasses.replace(tiny_data, train=tiny_data.train[:60], val=tiny_data.train[60:80])
    run = trained(data, PLAIN.replace(save_best=True), out=tmp_path, callbacks=[Record()])
    assert seen == [20] * len(run.history) + [30]
    assert all("val_acc" in entry for entry in run.history) and "test_acc" not in run.history[0]
    assert (
        run.metrics["test_acc"]
        == cnnzoo.evaluate(run.model, tiny_data, preprocessing=Preprocessing(8, data.mean, data.std)).top1
    )
    with pytest.raises(InputError, match="tiny has validation images of its own; leave out val_size=10"):
        cnnzoo.Trainer(plain_model(), data, PLAIN.replace(val_size=10))


def test_a_failed_evaluation_loses_no_epoch(tmp_path: Path, tiny_data: ImageData) -> None:
    """I8: the epoch is saved before its evaluation, which a resumed run repeats."""

    class Samples(torch.utils.data.Dataset):
        broken = False

        def __init__(self, split) -> None:
            self.split = split

        def __len__(self) -> int:
            return len(self.split)

        def __getitem__(self, index: int):
            if self.broken and index == 3:
                raise DataError("3.png cannot be read as an image")
            return self.split[index]

    train, test = Samples(tiny_data.train), Samples(tiny_data.test)
    data = StreamData("samples", train, test, tiny_data.classes, sha256="x")
    config = PLAIN.replace(workers=0)
    whole = trained(data, config, out=tmp_path / "whole")

    class Break:
        def on_step(self, trainer) -> None:
            test.broken = trainer.step == 2 * trainer.steps_per_epoch  # before the evaluation of the second epoch

    with pytest.raises(DataError, match=r"3\.png cannot be read"):
        trained(data, config, out=tmp_path / "run", callbacks=[Break()])
    test.broken = False
    resumed = cnnzoo.Trainer.resume(tmp_path / "run", model=plain_model(), data=data, show=False)
    assert resumed.step == 2 * resumed.steps_per_epoch and len(resumed.history) == 1
    run = resumed.fit()
    assert [entry["test_acc"] for entry in run.history] == [entry["test_acc"] for entry in whole.history]
    assert torch.equal(parameters(run.model), parameters(whole.model))
