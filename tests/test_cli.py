"""The command line as a shell sees it: output, errors on standard error, exit codes."""

from __future__ import annotations

import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner, Result
from PIL import Image

import cnnzoo
from cnnzoo.cli import main
from cnnzoo.data import load_data
from cnnzoo.registry import MODELS
from cnnzoo.train import RecipeRecord


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)

    def invoke(*arguments: str) -> Result:
        return CliRunner().invoke(main, arguments)

    return invoke


@pytest.fixture
def few_models() -> None:
    """What a command does for all models is tested for these; the tests of the models do it for every one."""
    for name in set(MODELS) - {"alexnet", "alexnet_2012", "caffenet", "lenet", "lenet5_1998", "resnet50"}:
        del MODELS[name]


FAST = ("--set", "epochs=1", "--set", "batch_size=500", "--set", "checkpoint_every=4")


def test_list(run) -> None:
    assert run("list", "alex*").stdout.splitlines()[0] == "alexnet"
    assert [model["name"] for model in json.loads(run("list", "--json").stdout)] == cnnzoo.list_models()


def test_summary(run) -> None:
    done = run("summary", "lenet", "-k", "in_channels=3", "-k", "activation=relu")
    assert done.exit_code == 0 and "lenet at 1x3x28x28" in done.stdout and "ReLU" in done.stdout
    assert json.loads(run("summary", "alexnet", "--json").stdout)["params"]["total"] == 46_764_746


def test_compare(run) -> None:
    done = run("compare", "alexnet", "lenet")
    assert done.exit_code == 0
    for text in ("alexnet at 1x1x224x224", "lenet at 1x1x28x28", "758x", "2,252x", "46M against 0.6M"):
        assert text in done.stdout
    assert json.loads(run("compare", "alexnet", "lenet", "--json").stdout)["baseline"] == "lenet"


def test_compare_trains(run, tmp_path: Path) -> None:
    done = run("compare", "lenet", "lenet", "--train", "--set", "epochs=1", "--out", "out")
    assert done.exit_code == 0, done.stderr
    assert "training on 6,000 images of fashion_mnist_sample, recipe 'quick'" in done.stdout
    assert "lenet-2: recipe quick/saturating: 4 of 4 activations saturate (Sigmoid)" in done.stderr
    assert "test accuracy" in done.stdout and "examples/sec, training step" in done.stdout
    assert {p.name for p in Path("out").iterdir()} == {"lenet", "lenet-2", "compare.json", "compare.png"}
    again = run("compare", "lenet", "lenet", "--train", "--set", "epochs=2", "--out", "out")
    assert again.exit_code == 1 and "epochs was 1 and is 2" in again.stderr and "--overwrite" in again.stderr


def test_verify(run, few_models: None) -> None:
    done = run("verify", "lenet")
    assert done.exit_code == 0 and "contradicts" in done.stdout and "ten times too large" in done.stdout
    found = json.loads(run("verify", "--json").stdout)
    assert len(found["published"]) >= 60 and {d["model"] for d in found["deviations"]} >= {
        "alexnet",
        "lenet",
        "caffenet",
    }


def test_timeline(run, few_models: None) -> None:
    done = run("timeline", "-o", "t.png", "--json")
    points = {point["name"]: point for point in json.loads(done.stdout)}
    assert Path("t.png").stat().st_size > 10_000
    assert points["alexnet_2012"] | {"macs": 0} == {
        "name": "alexnet_2012", "family": "alexnet", "year": 2012, "params": 60_965_224, "macs": 0, "accuracy": 59.3,
    }  # fmt: skip
    assert points["resnet50"]["accuracy"] == 76.13 and points["lenet5_1998"]["accuracy"] is None
    assert "alexnet" not in points  # a teaching net is no publication
    assert "2015   resnet50" in run("timeline", "resnet*").stdout
    assert run("timeline", "lenet").exit_code == 1
    alone = run("timeline", "lenet5*", "-o", "l.png")
    assert alone.exit_code == 1 and "no ImageNet accuracy was published for lenet5_1998" in alone.stderr


def test_diff(run) -> None:
    done = run("diff", "alexnet_2012", "alexnet_owt")
    assert done.exit_code == 0 and "groups 2 → 1" in done.stdout and "+135,616" in done.stdout
    found = json.loads(run("diff", "lenet", "lenet", "--json").stdout)
    assert found == {"a": "lenet", "b": "lenet", "changes": [], "same": 8}
    assert run("diff", "lenet", "lenett").exit_code == 1
    assert run("diff", "lenet").exit_code == 2


def test_train_evaluate_and_resume(run) -> None:
    done = run("train", "lenet", *FAST, "--out", "r")
    assert done.exit_code == 0, done.stderr
    assert done.stdout.startswith("loss ") and "examples/sec on cpu" in done.stdout
    assert "lenet epoch 1/1: loss" in done.stderr
    found = run("evaluate", "r", "--json")
    values = json.loads(found.stdout)
    assert values["n"] == 1000 == sum(map(sum, values["confusion"])) and len(values["f1"]) == 10
    lines = run("evaluate", "r").stdout.splitlines()
    assert lines[0].startswith("top-1 0.") and max(map(len, lines)) <= 100
    assert "Most frequent confusions" in lines
    assert "it is finished" in run("train", "--resume", "r").stderr
    metrics = json.loads(run("train", "lenet", *FAST, "--out", "r", "--overwrite", "--json").stdout)
    assert metrics["epochs"] == 1 and len(metrics["history"]) == 1


def test_train_prints_its_setup_and_what_to_type_next(run) -> None:
    done = run("train", "lenet(activation=relu)", *FAST)
    lines = done.stderr.splitlines()
    precision = cnnzoo.Trainer(cnnzoo.create("lenet"), load_data("fashion_mnist_sample")).precision
    assert lines[:8] == [
        "data     fashion_mnist_sample: 6,000 training, 1,000 test images, 10 classes",
        "images   1x28x28, normalized by mean 0.286, std 0.354",
        "network  lenet, 61,706 parameters; weights: new",
        "recipe   quick/rectifying: 4 activations (ReLU), 5 layers with weights",
        "training 1 epoch of 12 steps, batch_size 500, adamw, lr 0.003, cosine",
        f"device   cpu, {precision}, steps not compiled",
        "writes   runs/lenet-activation-relu/",
        "",
    ]
    assert done.stdout.splitlines()[-5:] == [
        "runs/lenet-activation-relu/: model.safetensors, metrics.json, history.jsonl, curves.png, train.json",
        "  cnnzoo report runs/lenet-activation-relu                    # a page about the run",
        "  cnnzoo evaluate runs/lenet-activation-relu                  # accuracy per class",
        "  cnnzoo predict runs/lenet-activation-relu IMAGE             # classify a file",
        "  cnnzoo train runs/lenet-activation-relu --data folder:PATH  # fine-tune on other images",
    ]
    info = json.loads(Path("runs/lenet-activation-relu/train.json").read_text())
    assert info["recipe"]["name"] == "quick/rectifying"
    quiet = run("train", "lenet", *FAST, "--json", "--out", "q")
    assert "recipe" not in quiet.stderr and json.loads(quiet.stdout)["epochs"] == 1


def write_pets(folder: Path) -> None:
    for name in ("cat", "dog"):
        (folder / name).mkdir(parents=True)
        for i in range(10):
            Image.new("L", (30 + i, 40), 10 * i).save(folder / name / f"{i}.png")


@pytest.mark.filterwarnings("default:lenet. classifier.4 is new")
def test_train_continues_from_saved_weights(run, tmp_path: Path) -> None:
    """The head is new for other classes, the other weights are not; without --out, a folder of its own."""
    write_pets(tmp_path / "my pets")
    cnnzoo.save(cnnzoo.create("lenet", pretrained=True), "runs/shirts")
    still = ("--data", "folder:my pets", "--image-size", "28", "--set", "epochs=1", "--set", "lr=0")
    done = run("train", "runs/shirts", *still, "--freeze", "conv*", "--set", 'lr_multipliers={"fc3": 0.1}')
    assert done.exit_code == 0, done.stderr
    assert "warning: lenet: classifier.4 is new, for 2 classes instead of 10" in done.stderr
    assert "61,026 parameters (2,572 frozen); weights: adapted; trained on fashion_mnist" in done.stderr
    assert "recipe   quick/saturating: 4 of 4 activations saturate (Sigmoid); keeps trained weights" in done.stderr
    assert "cnnzoo evaluate runs/shirts-finetuned --data 'folder:my pets'" in done.stdout
    before, after = cnnzoo.load("runs/shirts"), cnnzoo.load("runs/shirts-finetuned")
    assert torch.equal(before.features[0].weight, after.features[0].weight)
    assert torch.equal(before.classifier[2].weight, after.classifier[2].weight)
    info = json.loads(Path("runs/shirts-finetuned/train.json").read_text())
    assert info["config"]["init"] is None and info["config"]["freeze"] == ["conv*"]
    assert info["initial_provenance"]["kind"] == "adapted"
    done = run("train", "lenet", "--pretrained", *still, "--seeds", "2")
    assert done.exit_code == 0, done.stderr
    assert "weights: adapted; trained on fashion_mnist" in done.stderr and "2 seeds" in done.stderr
    one = cnnzoo.load("runs/lenet-finetuned/seed-1")
    assert torch.equal(before.features[0].weight, one.features[0].weight)
    for source in ("runs/shirts", "runs/shirts/model.safetensors"):
        done = run("train", source, "--out", "./runs/shirts", "--overwrite")
        assert done.exit_code == 2 and "is the run that the weights are read from: name another folder" in done.stderr


def test_train_with_seeds_and_a_record(run, tmp_path: Path) -> None:
    done = run("train", "lenet", *FAST, "--seeds", "2", "--out", "r", "--record", "kept/lenet.json")
    assert done.exit_code == 0, done.stderr
    assert "lenet, 2 seeds" in done.stdout and "95 %" in done.stdout
    record = json.loads((tmp_path / "kept" / "lenet.json").read_text())
    assert [one["seed"] for one in record["runs"]] == [0, 1] and (tmp_path / "kept" / "lenet.png").exists()
    assert record["runs"][0]["metrics"]["evaluations"]["test"]["n"] == 1000


def test_train_finds_a_rate(run, tmp_path: Path) -> None:
    done = run("train", "lenet", *FAST, "--find-lr")
    assert done.exit_code == 0 and done.stdout.startswith("the loss falls fastest at lr=")
    assert list(tmp_path.iterdir()) == []


def test_evaluate_with_crops(run) -> None:
    run("train", "lenet", *FAST, "--out", "r")
    assert (
        run("evaluate", "r", "--views", "ten_crop").stdout.splitlines()[0].endswith("on 1,000 images, views ten_crop")
    )
    done = run("evaluate", "r", "--views", "ten_crops")
    assert done.exit_code == 2 and "'ten_crops' is not one of 'single', 'flip', " in done.stderr


def test_recipes(run) -> None:
    assert "d2l/alexnet" in run("recipes").stdout.splitlines()
    assert "learning rate; its peak if there is a schedule" in run("recipes", "quick").stdout
    assert json.loads(run("recipes", "quick/saturating", "--json").stdout)["lr"] == 0.01


def test_a_run_on_a_folder_is_resumed(run, tmp_path: Path) -> None:
    write_pets(tmp_path / "pets")
    data = load_data(f"folder:{tmp_path / 'pets'}", image_size=28)

    class Stop:
        def on_step(self, trainer) -> None:
            os.kill(os.getpid(), signal.SIGINT)

    model = cnnzoo.create("lenet", num_classes=2)
    cnnzoo.Trainer(model, data, cnnzoo.TrainConfig(epochs=2), out="r", callbacks=[Stop()], show=False).fit()
    assert json.loads(Path("r/train.json").read_text())["data"]["options"] == {"image_size": 28}
    shutil.copytree("r", "s")
    done = run("train", "--resume", "r", "--image-size", "28")
    assert done.exit_code == 2 and "--resume loads the data of the run as it was loaded; give --data" in done.stderr
    done = run("train", "--resume", "r", "--data", "folder:pets")
    assert done.exit_code == 1 and "the images differ in size" in done.stderr
    for again in (("r", "--data", "folder:pets", "--image-size", "28"), ("s",)):
        done = run("train", "--resume", *again)
        assert done.exit_code == 0, done.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["summary", "lenet", "-k", "meta=false"], 1, "unknown knob of lenet 'meta'"),
        (["summary", "lenet", "-k", "activation=[1]"], 1, "unknown activation [1]"),
        (["summary", "lenet", "-k", "name=x"], 1, "unknown knob of lenet 'name'"),
        (["summary", "x" * 5000], 1, "unknown model"),
        (["draw", "lenet", "-o", "."], 1, "its name must end in the format"),
        (["bench", "lenet", "--seconds", "-1"], 1, "seconds must be above 0"),
        (["bench", "lenet", "--device", "meta"], 1, "nothing runs on the meta device"),
        (["compare", "lenet", "alexnet", "--set", "lr=1"], 2, "--set is for training"),
        (["summary", "alexnett"], 1, "error: unknown model 'alexnett'. Did you mean 'alexnet'"),
        (["summary", "alexnet", "-k", "in_chans=3"], 1, "Did you mean 'in_channels'"),
        (["summary", "alexnet", "-k", "image_size=64"], 1, "alexnet needs images of at least 65 px"),
        (
            ["summary", "alexnet", "-k", "num_classes=0"],
            1,
            "num_classes must be an integer from 1 to 16777216, not 0",
        ),
        (["summary", "alexnet", "-k", "num_classes"], 2, "'num_classes' is not of the form NAME=VALUE"),
        (["compare", "lenet"], 1, "at least two networks"),
        (["compare", "lenet", "lenet(relu)"], 1, "write each knob once, as knob=value, separated by commas"),
        (
            ["bench", "lenet", "-k", "activation=relu"],
            2,
            "'-k': write knobs behind the name of each network, such as",
        ),
        (["compare", "lenet", "alexnet", "--lr", "0.1"], 2, "No such option '--lr': write --set lr=0.1"),
        (["summary", "lenet", "--num-classes", "5"], 2, "No such option '--num-classes': write -k num_classes=5"),
        (["train", "lenet", "--epochs", "3"], 2, "No such option '--epochs': write --set epochs=3"),
        (["train", "lenet", "--batch-size=32"], 2, "No such option '--batch-size': write --set batch_size=32"),
        (["train", "lenet", "--flip", "--overwrite"], 2, "No such option '--flip': write --set flip=VALUE"),
        (["train", "lenet", "--freeze", "a*", "--set", 'freeze=["b*"]'], 2, "--freeze and --set freeze= set the same"),
        (["train", "lenet", "--freeze", "convs"], 1, "unknown label or parameter 'convs'"),
        (["train", "nin", "--pretrained"], 1, "there are no shipped weights of nin, only of lenet"),
        (["train", "lenet", "--pretrained", "imagenet"], 1, "unknown source of pretrained weights 'imagenet'. Known: "),
        (["train", "runs/none"], 1, "'runs/none' does not exist here"),
        (["train", "lenet(activation=relu)", "-k", "activation=tanh"], 1, "set the same; set activation once"),
        (["train", "--resume", "r", "--pretrained"], 2, "--pretrained and --freeze"),
        (["train", "lenet", "--set", "epoch=3"], 1, "Did you mean 'epochs'"),
        (["train", "lenet", "--recipe", "quik"], 1, "unknown recipe 'quik'. Did you mean 'quick'"),
        (["train", "lenet", "--data", "nothing"], 1, "unknown data set 'nothing'"),
        (["train", "lenet", "--data", "folder:/none"], 1, "folder /none does not exist"),
        (["train", "lenet", "--out", "/proc/none/run"], 1, "/proc/none/run"),
        (["train"], 2, "give either the NAME of a model, or --resume RUN"),
        (["train", "lenet", "--resume", "r"], 2, "give either the NAME"),
        (["train", "--resume", "r", "--set", "lr=1"], 2, "--resume continues a run with its own settings"),
        (["train", "--resume", "r", "--seeds", "3"], 2, "--resume continues a run with its own settings"),
        (["train", "lenet", "--seeds", "0"], 2, "0 is not in the range x>=1"),
        (["train", "lenet", "--set", "patience=3"], 1, "set val_size too"),
        (["train", "--resume", "none"], 1, "none holds no run"),
        (["evaluate", "none"], 1, "none does not exist"),
        (["nothing"], 2, "No such command 'nothing'"),
    ],
)
def test_what_goes_wrong(run, tmp_path: Path, arguments: list[str], code: int, says: str) -> None:
    done = run(*arguments)
    assert done.exit_code == code
    assert says in " ".join(done.stderr.split()) and "Traceback" not in done.stderr
    assert done.stdout == "" and list(tmp_path.iterdir()) == []


def test_ctrl_c_in_a_shell(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "cnnzoo", "train", "lenet", "--set", "epochs=500", "--out", "r"]
    process = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 120
    while not (tmp_path / "r" / "checkpoint.safetensors").exists():
        assert time.monotonic() < deadline and process.poll() is None, process.communicate()
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert out.startswith("loss ") and "continue with: cnnzoo train --resume r" in err and "Traceback" not in err
    assert cnnzoo.load(tmp_path / "r").metadata.provenance["kind"] == "trained"


def test_a_closed_terminal_ends_training_as_ctrl_c_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    controller, terminal = os.openpty()
    file = os.fdopen(terminal, "w")

    def close_terminal(self: RecipeRecord, trainer: cnnzoo.Trainer) -> None:
        os.close(controller)
        signal.raise_signal(signal.SIGHUP)

    monkeypatch.setattr(RecipeRecord, "on_step", close_terminal)
    with redirect_stdout(file), redirect_stderr(file), pytest.raises(SystemExit) as end:
        main(["train", "lenet", "--out", str(tmp_path / "r")])
    file.close()  # nothing is left that could not be written
    assert end.value.code == 130 and (tmp_path / "r" / "checkpoint.safetensors").exists()


def test_training_goes_on_without_standard_error(tmp_path: Path) -> None:
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "w") as stderr, redirect_stderr(stderr), redirect_stdout(io.StringIO()) as stdout:
        main(["train", "lenet", *FAST, "--out", str(tmp_path / "r")], standalone_mode=False)
    assert stdout.getvalue().startswith("loss ") and (tmp_path / "r" / "metrics.json").exists()
