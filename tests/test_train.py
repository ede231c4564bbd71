"""The trainer: it learns, resumes to the same bytes, stops on request, and refuses what cannot be trained."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
from pathlib import Path

import pytest
import safetensors.torch
import torch
from processes import run_together
from runs import StopAt, plain_model
from torch import nn

import cnnzoo
from cnnzoo.data import ImageData
from cnnzoo.errors import FileError, InputError, TrainingError, UnknownNameError, WeightsError
from cnnzoo.initializers import initialize
from cnnzoo.preprocessing import Preprocessing
from cnnzoo.serialization import load_tensors, weights_sha256
from cnnzoo.train import list_recipes

QUICK = cnnzoo.TrainConfig(
    epochs=3, batch_size=20, lr=0.05, momentum=0.9, weight_decay=0.01, schedule="cosine", warmup=1
)


# --- config and recipes ---


def test_a_config_survives_json() -> None:
    for name in list_recipes():
        config = cnnzoo.recipe(name)
        assert cnnzoo.TrainConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


def test_every_field_has_a_description() -> None:
    assert all(cnnzoo.TrainConfig.describe(name) for name in cnnzoo.TrainConfig().to_dict())


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"learning_rate": 1}, "unknown field of TrainConfig 'learning_rate'"),
        ({"epoch": 3}, "Did you mean 'epochs'"),
        ({"epochs": 2.5}, "epochs must be an integer of at least 1, not 2.5 (number of epochs)"),
        ({"epochs": 0}, "epochs must be an integer of at least 1, not 0"),
        ({"epochs": True}, "epochs must be an integer of at least 1, not True"),
        ({"lr": "fast"}, "lr must be a number"),
        ({"lr": float("nan")}, "lr must be a number"),
        ({"optimizer": "adamv"}, "unknown optimizer 'adamv'. Did you mean"),
        ({"precision": "fp8"}, "unknown precision 'fp8'"),
        ({"init": "he"}, "unknown initializer 'he'"),
        ({"nesterov": True}, "nesterov needs momentum above 0"),
        ({"label_smoothing": 1.0}, "label_smoothing must be a number at least 0 and less than 1, not 1.0"),
        ({"lr": 10**400}, "lr must be a number at least 0, not 1000"),
        ({"seed": 2**63}, "seed must be an integer of at least 0, not 9223372036854775808"),
        ({"self": 1}, "unknown field of TrainConfig 'self'"),
        ({"channels_last": 1}, "channels_last must be True or False, not 1"),
    ],
)
def test_a_config_is_checked(changes: dict, text: str) -> None:
    with pytest.raises(cnnzoo.CnnzooError) as error:
        cnnzoo.TrainConfig().replace(**changes)
    assert text in str(error.value)


def test_recipes_by_name_and_from_a_file(tmp_path: Path) -> None:
    assert cnnzoo.recipe("d2l/alexnet").lr == 0.01 and cnnzoo.recipe("d2l/alexnet").batch_size == 128
    (tmp_path / "mine.json").write_text('{"lr": 0.5, "epochs": 2}')
    assert cnnzoo.recipe(str(tmp_path / "mine.json")) == cnnzoo.TrainConfig(lr=0.5, epochs=2)
    (tmp_path / "mine.json").write_text('{"lrr": 0.5}')
    with pytest.raises(UnknownNameError, match="'lrr'. Did you mean 'lr'"):
        cnnzoo.recipe(str(tmp_path / "mine.json"))
    with pytest.raises(FileError, match="nothing.json cannot be read"):
        cnnzoo.recipe("nothing.json")
    with pytest.raises(UnknownNameError, match="unknown recipe 'd2l/alexnt'. Did you mean 'd2l/alexnet'"):
        cnnzoo.recipe("d2l/alexnt")


def test_the_learning_rate_is_a_function_of_the_step() -> None:
    config = cnnzoo.TrainConfig(epochs=10, lr=1.0, schedule="cosine", warmup=2)
    rates = [config.learning_rate(step, 10) for step in range(100)]
    assert rates[0] == pytest.approx(1 / 20) and max(rates) == pytest.approx(1.0) and rates.index(max(rates)) == 19
    assert rates[:20] == sorted(rates[:20]) and rates[20:] == sorted(rates[20:], reverse=True)
    assert 0 < rates[-1] < 0.001
    assert {cnnzoo.TrainConfig(lr=0.3).learning_rate(step, 10) for step in range(100)} == {0.3}


# --- learning ---


def test_it_learns_and_leaves_a_run(tmp_path: Path, tiny_spec: cnnzoo.Spec, tiny_data: ImageData, capsys) -> None:
    model = cnnzoo.create(tiny_spec, seed=0)
    state = torch.get_rng_state()
    run = cnnzoo.Trainer(model, tiny_data, QUICK.replace(epochs=6), out=tmp_path / "run").fit()
    assert torch.equal(state, torch.get_rng_state())
    assert run.metrics["test_acc"] > 0.9 and not run.interrupted and run.model is model
    names = {file.name for file in run.path.iterdir()}
    assert names == {
        "config.json", "model.safetensors", "train.json", "history.jsonl", "metrics.json", "curves.png",
    }  # fmt: skip
    lines = [json.loads(line) for line in (run.path / "history.jsonl").read_text().splitlines()]
    assert lines == list(run.history) and [line["epoch"] for line in lines] == [1, 2, 3, 4, 5, 6]
    assert lines[-1]["loss"] < lines[0]["loss"]
    shown = capsys.readouterr()
    assert "tiny epoch 6/6: loss " in shown.err and "test acc " in shown.err and shown.out == ""
    first, second = str(run).splitlines()
    assert first.startswith("loss 0.") and ", train acc " in first and ", test acc " in first
    assert "examples/sec on cpu, " in second and second.endswith(" % of it waiting for data")
    loaded = cnnzoo.load(run.path).eval()
    x = torch.randn(2, 1, 8, 8)
    assert torch.equal(loaded(x), model.eval()(x))
    assert loaded.metadata.label_names == ("left", "middle", "right")
    assert loaded.metadata.preprocessing.mean == tiny_data.mean
    assert loaded.metadata.provenance["kind"] == "trained"
    assert loaded.metadata.provenance["test_acc"] == run.metrics["test_acc"]
    assert cnnzoo.evaluate(run.path, tiny_data).top1 == run.metrics["test_acc"]


def test_any_module_trains_without_a_folder_or_with_one(tmp_path: Path, tiny_data: ImageData) -> None:
    run = cnnzoo.Trainer(plain_model(), tiny_data, QUICK, show=False).fit()
    assert run.path is None and run.metrics["train_acc"] > 0.6
    model = plain_model()
    cnnzoo.Trainer(model, tiny_data, QUICK.replace(epochs=1), out=tmp_path, show=False).fit()
    again = plain_model()
    again.load_state_dict(safetensors.torch.load_file(tmp_path / "model.safetensors"))
    assert weights_sha256(again.state_dict()) == weights_sha256(model.state_dict())
    with pytest.raises(WeightsError, match="no description of a network under .*read its tensors"):
        cnnzoo.load(tmp_path)


@pytest.mark.parametrize("change", [{"optimizer": "adamw"}, {"label_smoothing": 0.1}, {"precision": "bf16"}])
def test_other_settings_train(tiny_data: ImageData, change: dict) -> None:
    config = QUICK.replace(momentum=0.0, lr=0.01 if "optimizer" in change else 0.1, epochs=6, **change)
    assert cnnzoo.Trainer(plain_model(), tiny_data, config, show=False).fit().metrics["test_acc"] > 0.8


def test_the_plain_loop_gives_the_same_weights(tiny_data: ImageData) -> None:
    """The loop of the textbook, on the same batches."""
    from cnnzoo.data import epoch_order

    config = cnnzoo.TrainConfig(epochs=2, batch_size=20, lr=0.1, precision="fp32", channels_last=False)
    run = cnnzoo.Trainer(plain_model(), tiny_data, config, show=False).fit()
    model = plain_model()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for epoch in range(2):
        for chosen in epoch_order(90, 0, epoch).split(20):
            x = Preprocessing((8, 8), tiny_data.mean, tiny_data.std).apply(tiny_data.train.images[chosen])
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(x), tiny_data.train.labels[chosen]).backward()
            optimizer.step()
    for ours, theirs in zip(run.model.parameters(), model.parameters(), strict=True):
        assert torch.equal(ours, theirs)


def test_images_are_resized_to_the_network(tiny_data: ImageData) -> None:
    model = cnnzoo.create("lenet", num_classes=3, activation="relu", image_size=16)
    cnnzoo.Trainer(model, tiny_data, QUICK, show=False).fit()


def test_initial_weights_of_the_config(tiny_data: ImageData) -> None:
    model = plain_model()
    initialize(model, "constant:0.25")
    assert {v for m in (model[1], model[3]) for v in m.weight.unique().tolist()} == {0.25}
    config = QUICK.replace(epochs=1, lr=0.0, weight_decay=0.0, init="xavier_uniform")
    a, b = (cnnzoo.Trainer(plain_model(), tiny_data, config, show=False).fit().model.state_dict() for _ in range(2))
    assert weights_sha256(a) == weights_sha256(b) != weights_sha256(plain_model().state_dict())


def test_held_out_images_are_evaluated_each_epoch_and_test_images_at_the_end(tiny_data: ImageData) -> None:
    run = cnnzoo.Trainer(plain_model(), tiny_data, QUICK.replace(val_size=30), show=False).fit()
    assert [("val_acc" in entry, "test_acc" in entry) for entry in run.history] == [
        (True, False), (True, False), (True, True),
    ]  # fmt: skip
    run = cnnzoo.Trainer(plain_model(), tiny_data, QUICK.replace(eval_every=0), show=False).fit()
    assert ["test_acc" in entry for entry in run.history] == [False, False, True]


def test_callbacks(tiny_data: ImageData) -> None:
    class Watch:
        def __init__(self) -> None:
            self.seen: list[str] = []

        def on_start(self, trainer) -> None:
            self.seen.append(f"start {trainer.step}")

        def on_epoch(self, trainer, entry) -> None:
            self.seen.append(f"epoch {entry['epoch']} at {trainer.step}")

        def on_end(self, trainer, run) -> None:
            self.seen.append(f"end {run.interrupted}")

    watch = Watch()
    cnnzoo.Trainer(plain_model(), tiny_data, QUICK, callbacks=[watch], show=False).fit()
    assert watch.seen == ["start 0", "epoch 1 at 5", "epoch 2 at 10", "epoch 3 at 15", "end False"]


# --- evaluation ---


def test_evaluate_counts_each_image_once(tiny_data: ImageData) -> None:
    model = plain_model()
    model[2].eval()
    modes = [m.training for m in model.modules()]
    preprocessing = Preprocessing((8, 8), tiny_data.mean, tiny_data.std)
    result = cnnzoo.evaluate(model, tiny_data, preprocessing=preprocessing, batch_size=7)
    scores = model(preprocessing.apply(tiny_data.test.images))
    given = scores.argmax(1)
    assert result.n == 30 == result.confusion.sum() and result.top5 is None
    assert result.top1 == (given == tiny_data.test.labels).double().mean().item()
    assert result.loss == pytest.approx(nn.functional.cross_entropy(scores, tiny_data.test.labels).item(), rel=1e-5)
    for true, guess in zip(tiny_data.test.labels.tolist(), given.tolist(), strict=True):
        assert result.confusion[true, guess] > 0
    assert modes == [m.training for m in model.modules()]
    assert str(result).startswith("top-1 0.")


def test_evaluate_refuses_what_does_not_fit(tiny_data: ImageData) -> None:
    with pytest.raises(InputError, match=r"data must be an ImageData or StreamData, not int"):
        cnnzoo.evaluate(cnnzoo.create("lenet"), 3)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="on the meta device and has no weights"):
        cnnzoo.evaluate(cnnzoo.create("lenet", device="meta"), tiny_data)
    gray = Preprocessing(28, [0.5], [0.25])
    with pytest.raises(InputError, match="batch_size must be an integer from 1"):
        cnnzoo.evaluate(cnnzoo.create("lenet", num_classes=3), tiny_data, preprocessing=gray, batch_size=0)
    with pytest.raises(InputError, match="lenet has 10 classes, but tiny has 3"):
        cnnzoo.evaluate(cnnzoo.create("lenet"), tiny_data, preprocessing=gray)
    with pytest.raises(InputError, match="lenet has no preprocessing: how an image becomes its input is not known"):
        cnnzoo.evaluate(cnnzoo.create("lenet", num_classes=3), tiny_data)
    with pytest.raises(InputError, match="lenet expects images with 2 channels, but tiny has 1"):
        cnnzoo.evaluate(cnnzoo.create("lenet"), tiny_data, preprocessing=Preprocessing(28, [0, 0], [1, 1]))
    with pytest.raises(InputError, match=r"Sequential returns \(7, 3\) for 7 images, and there are 2 classes; it must"):
        few = {"train": tiny_data.train[[0]], "test": tiny_data.test[[0] * 7]}
        two = dataclasses.replace(tiny_data, classes=("a", "b"), **few)
        cnnzoo.evaluate(plain_model(), two, preprocessing=Preprocessing(8, [0.5], [0.25]))


# --- stopping and resuming ---


@pytest.mark.parametrize("stop", [1, 5, 7, 14])
@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_ctrl_c_saves_and_resume_ends_with_the_same_bytes(
    tmp_path: Path, tiny_spec: cnnzoo.Spec, tiny_data: ImageData, stop: int, optimizer: str
) -> None:
    config = QUICK.replace(init="kaiming_normal", optimizer=optimizer)
    whole = cnnzoo.Trainer(cnnzoo.create(tiny_spec, seed=0), tiny_data, config, out=tmp_path / "a", show=False).fit()
    handler = signal.getsignal(signal.SIGINT)
    part = cnnzoo.Trainer(
        cnnzoo.create(tiny_spec, seed=0), tiny_data, config, out=tmp_path / "b", show=False, callbacks=[StopAt(stop)]
    ).fit()
    assert part.interrupted and signal.getsignal(signal.SIGINT) is handler
    assert (tmp_path / "b" / "checkpoint.safetensors").exists() and (tmp_path / "b" / "model.safetensors").exists()
    assert len(part.history) == stop // 5
    rest = cnnzoo.Trainer.resume(tmp_path / "b", data=tiny_data, show=False).fit()
    assert not rest.interrupted and not (tmp_path / "b" / "checkpoint.safetensors").exists()
    assert weights_sha256(rest.model.state_dict()) == weights_sha256(whole.model.state_dict())
    keys = ("epoch", "step", "lr", "loss", "train_acc", "test_acc")
    assert [[e[k] for k in keys] for e in rest.history] == [[e[k] for k in keys] for e in whole.history]
    a, b = ((tmp_path / n / "model.safetensors").read_bytes() for n in "ab")
    assert a == b


def test_fit_again_continues_and_then_changes_nothing(
    tmp_path: Path, tiny_spec: cnnzoo.Spec, tiny_data: ImageData
) -> None:
    config = QUICK.replace(init="kaiming_normal")
    whole = cnnzoo.Trainer(cnnzoo.create(tiny_spec, seed=0), tiny_data, config, show=False).fit()
    trainer = cnnzoo.Trainer(
        cnnzoo.create(tiny_spec, seed=0), tiny_data, config, out=tmp_path, show=False, callbacks=[StopAt(7)]
    )
    assert trainer.fit().interrupted
    for _ in range(2):
        run = trainer.fit()
        assert not run.interrupted and len(run.history) == 3
        assert weights_sha256(run.model.state_dict()) == weights_sha256(whole.model.state_dict())
    assert len((tmp_path / "history.jsonl").read_text().splitlines()) == 3


def train_lenet(out: Path, kill_step: int | None) -> None:
    torch.set_num_threads(1)  # two of these run at once
    data = cnnzoo.load_data("fashion_mnist_sample")
    config = cnnzoo.TrainConfig(epochs=1, batch_size=200, lr=0.01, optimizer="adamw", checkpoint_every=10)
    model = cnnzoo.create("lenet", dropout=0.3, seed=0)
    cnnzoo.Trainer(model, data, config, out=out, callbacks=[StopAt(kill_step, signal.SIGKILL)]).fit()


def command_line(*arguments: str) -> None:
    from cnnzoo.cli import main

    torch.set_num_threads(1)
    main(arguments, standalone_mode=False)


def test_killed_and_resumed_by_the_command_line(tmp_path: Path) -> None:
    whole, cut = run_together(train_lenet, [(tmp_path / "whole", None), (tmp_path / "cut", 23)])
    assert whole.code == 0, whole.stderr
    assert cut.code == -signal.SIGKILL
    (resumed,) = run_together(command_line, [("train", "--resume", str(tmp_path / "cut"))])
    assert resumed.code == 0, resumed.stderr
    a, b = (load_tensors(tmp_path / name / "model.safetensors") for name in ("whole", "cut"))
    assert weights_sha256(a) == weights_sha256(b)


def test_resume_refuses(tmp_path: Path, tiny_spec: cnnzoo.Spec, tiny_data: ImageData) -> None:
    with pytest.raises(FileError, match="holds no run"):
        cnnzoo.Trainer.resume(tmp_path)
    out = tmp_path / "run"
    model = cnnzoo.create(tiny_spec)
    cnnzoo.Trainer(model, tiny_data, QUICK, out=out, show=False, callbacks=[StopAt(3)]).fit()
    with pytest.raises(UnknownNameError, match="unknown data set 'tiny'"):
        cnnzoo.Trainer.resume(out)
    with pytest.raises(InputError, match="is not the data of the run in .*: its checksum differs"):
        cnnzoo.Trainer.resume(out, data=tiny_data.hold_out(3))
    from cnnzoo.train import Trainer

    with pytest.raises(InputError, match="cannot be built from its files alone; pass model="):
        Trainer.resume(out, data=tiny_data)
    cnnzoo.Trainer.resume(out, data=tiny_data, show=False).fit()
    with pytest.raises(FileError, match="no checkpoint: it is finished"):
        cnnzoo.Trainer.resume(out, data=tiny_data)


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("train.json", "{}", "is not that of a run: it lacks name and sha256 of the data"),
        ("train.json", "[]", "must hold a JSON object, not a list"),
        ("train.json", '{"data": {"name": 5, "sha256": ""}}', "is not that of a run"),
        ("train.json", "{", "is not valid JSON"),
        ("checkpoint.safetensors", "", "is not a complete safetensors file"),
    ],
)
def test_resume_from_damaged_files(tmp_path: Path, tiny_data: ImageData, file: str, content: str, message: str) -> None:
    cnnzoo.Trainer(plain_model(), tiny_data, QUICK, out=tmp_path, show=False, callbacks=[StopAt(3)]).fit()
    (tmp_path / file).write_text(content)
    with pytest.raises(cnnzoo.CnnzooError, match=message):
        cnnzoo.Trainer.resume(tmp_path, model=plain_model(), data=tiny_data)


def test_resume_from_weights_instead_of_a_checkpoint(tmp_path: Path, tiny_data: ImageData) -> None:
    cnnzoo.Trainer(plain_model(), tiny_data, QUICK, out=tmp_path, show=False).fit()
    (tmp_path / "model.safetensors").rename(tmp_path / "checkpoint.safetensors")
    with pytest.raises(FileError, match="is not the checkpoint of a run"):
        cnnzoo.Trainer.resume(tmp_path, model=plain_model(), data=tiny_data)


def test_stopped_before_the_first_step(tmp_path: Path, tiny_spec: cnnzoo.Spec, tiny_data: ImageData) -> None:
    class StopAtOnce:
        def on_start(self, trainer) -> None:
            os.kill(os.getpid(), signal.SIGINT)

    model = cnnzoo.create(tiny_spec, seed=0)
    run = cnnzoo.Trainer(model, tiny_data, QUICK, out=tmp_path, show=False, callbacks=[StopAtOnce()]).fit()
    assert run.interrupted and str(run) == "stopped before the end of the first epoch"
    whole = cnnzoo.Trainer(cnnzoo.create(tiny_spec, seed=0), tiny_data, QUICK, show=False).fit()
    rest = cnnzoo.Trainer.resume(tmp_path, data=tiny_data, show=False).fit()
    assert weights_sha256(rest.model.state_dict()) == weights_sha256(whole.model.state_dict())


# --- what goes wrong ---


def test_scores_that_do_not_fit_the_classes(tmp_path: Path, tiny_data: ImageData) -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 2))
    with pytest.raises(
        InputError, match=r"Sequential returns \(1, 2\) for 1 image, and there are 3 classes; it must return one score"
    ):
        cnnzoo.Trainer(model, tiny_data, QUICK, out=tmp_path / "run", show=False).fit()
    assert not (tmp_path / "run").exists()
    more = nn.Sequential(nn.Flatten(), nn.Linear(64, 20))
    with pytest.raises(InputError, match=r"returns \(1, 20\) for 1 image, and there are 3 classes"):
        cnnzoo.Trainer(more, tiny_data, QUICK, show=False).fit()


def test_batch_norm_of_a_last_batch_of_one(tiny_data: ImageData) -> None:
    """Of ready-made batches, whose size is not known before."""
    model = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(64), nn.Linear(64, 3))
    images, labels = tiny_data.train.images.float(), tiny_data.train.labels
    batches = [(images[:89], labels[:89]), (images[89:], labels[89:])]
    stream = cnnzoo.StreamData("batches", batches, batches[:1], tiny_data.classes)
    with pytest.raises(
        TrainingError, match="and a batch has 1 image; leave it out, such as with drop_last=True of its"
    ):
        cnnzoo.Trainer(model, stream, QUICK, show=False).fit()


def test_a_folder_that_holds_a_run_is_refused(tmp_path: Path, tiny_data: ImageData) -> None:
    cnnzoo.Trainer(plain_model(), tiny_data, QUICK, out=tmp_path / "run", show=False).fit()
    before = (tmp_path / "run" / "model.safetensors").read_bytes()
    with pytest.raises(FileError, match="holds a run already .*resume it, .*or pass overwrite=True"):
        cnnzoo.Trainer(plain_model(), tiny_data, QUICK, out=tmp_path / "run")
    assert (tmp_path / "run" / "model.safetensors").read_bytes() == before
    cnnzoo.Trainer(
        plain_model(), tiny_data, QUICK.replace(epochs=1), out=tmp_path / "run", overwrite=True, show=False
    ).fit()
    assert len((tmp_path / "run" / "history.jsonl").read_text().splitlines()) == 1


def test_an_unwritable_out_is_refused_before_training(tmp_path: Path, tiny_data: ImageData) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(FileError, match="is a file; name a folder"):
        cnnzoo.Trainer(plain_model(), tiny_data, QUICK, out=tmp_path / "file", show=False)
    with pytest.raises(FileError, match="cannot be written"):
        cnnzoo.Trainer(plain_model(), tiny_data, QUICK, out=tmp_path / "file" / "run", show=False).fit()
    with pytest.raises(FileError, match="cannot be written"):
        cnnzoo.Trainer(plain_model(), tiny_data, QUICK, out="/proc/none/run", show=False).fit()
    assert [file.name for file in tmp_path.iterdir()] == ["file"]


def test_a_loss_that_is_not_finite_stops_the_run(tmp_path: Path, tiny_data: ImageData) -> None:
    config = QUICK.replace(lr=1e30, warmup=0, log_every=2, precision="fp32")
    with pytest.raises(TrainingError) as error:
        cnnzoo.Trainer(plain_model(), tiny_data, config, out=tmp_path / "run", show=False).fit()
    text = str(error.value)
    assert "the loss became nan within the 2 steps before step" in text or "the loss became inf" in text
    assert "learning rate 1e+30" in text or "learning rate 9" in text
    assert "no checkpoint was written yet" in text and "Try a lower lr" in text
    assert not (tmp_path / "run" / "model.safetensors").exists()


def test_arguments_of_the_wrong_type(tiny_data: ImageData) -> None:
    for arguments, text in (
        (("lenet", tiny_data), r"model must be an nn.Module, not str; cnnzoo.create\('lenet'\) builds one"),
        (
            (plain_model(), "mnist"),
            r"data must be an ImageData or StreamData, not str; cnnzoo.load_data",
        ),
        (
            (plain_model(), tiny_data, "quick"),
            r"config must be a TrainConfig, not str; cnnzoo.recipe\('quick'\) returns one",
        ),
        ((plain_model(), tiny_data, QUICK.replace(device="meta")), "nothing can be trained on the meta device"),
        ((plain_model(), tiny_data, {"lr": 1}), "config must be a TrainConfig, not dict"),
        ((plain_model().requires_grad_(False), tiny_data), "there is nothing to train"),
        ((plain_model().to("meta"), tiny_data), "on the meta device and has no weights"),
    ):
        with pytest.raises(InputError, match=text):
            cnnzoo.Trainer(*arguments)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_other_types_of_weights_train(tiny_data: ImageData, dtype: torch.dtype) -> None:
    run = cnnzoo.Trainer(plain_model().to(dtype), tiny_data, QUICK, show=False).fit()
    assert {p.dtype for p in run.model.parameters()} == {dtype} and run.metrics["train_acc"] > 0.5


def test_data_that_does_not_fit_the_model(tiny_data: ImageData) -> None:
    with pytest.raises(
        InputError, match="lenet expects images with 3 channels, but tiny has 1; build it with in_channels=1"
    ):
        cnnzoo.Trainer(cnnzoo.create("lenet", in_channels=3, num_classes=3), tiny_data)
    with pytest.raises(InputError, match="lenet has 10 classes, but tiny has 3; build it with num_classes=3"):
        cnnzoo.Trainer(cnnzoo.create("lenet"), tiny_data)


# --- comparing with training ---


def test_compare_trains_both(tmp_path: Path, tiny_spec: cnnzoo.Spec, tiny_data: ImageData) -> None:
    out = tmp_path / "runs"
    wide = cnnzoo.edit(tiny_spec, "conv1", norm=None)
    made = cnnzoo.compare(tiny_spec, wide, train=tiny_data, recipe=QUICK, settings={"epochs": 2}, out=out)
    assert [result["epochs"] for result in made.results] == [2, 2]
    assert {p.name for p in out.iterdir()} == {"tiny", "tiny-2", "compare.json", "compare.png"}
    assert json.loads((out / "compare.json").read_text())["results"][0]["test_acc"] == made.results[0]["test_acc"]
    x = torch.randn(2, 1, 8, 8)
    for name in ("tiny", "tiny-2"):
        assert cnnzoo.load(out / name).eval()(x).shape == (2, 3)
    with pytest.raises(FileError, match="holds a run already"):
        cnnzoo.compare(tiny_spec, wide, train=tiny_data, recipe=QUICK, out=out)
    with pytest.raises(InputError, match="compare trains names, Specs and modules, and a CountReport has no weights"):
        cnnzoo.compare(tiny_spec, cnnzoo.count("lenet"), train=tiny_data)
