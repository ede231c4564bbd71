"""The memory of a training step: what real steps allocate, frozen layers, batch sizes, the shell."""

import json
import sys
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from torch import nn

import cnnzoo
from cnnzoo.cli import main
from cnnzoo.errors import CnnzooError, FileError
from cnnzoo.measure.memory import STATES, parse_bytes
from cnnzoo.train.optim import OPTIMIZERS

sys.path.insert(0, str(Path(__file__).parent / "benchmarks"))
from training_memory import compare, make_optimizer


class Residual(nn.Module):
    """A network with what makes a simple sum wrong: a sum of branches, a concatenation, functional calls."""

    def __init__(self) -> None:
        super().__init__()
        layers = [
            layer
            for channels in (3, *[32] * 7)
            for layer in (nn.Conv2d(channels, 32, 3, padding=1, bias=False), nn.BatchNorm2d(32), nn.ReLU())
        ]
        self.stem = nn.Sequential(*layers)
        self.left, self.right = nn.Conv2d(32, 32, 3, padding=1), nn.Conv2d(32, 32, 1)
        self.pool, self.drop = nn.MaxPool2d(4), nn.Dropout(0.5)
        self.head = nn.Sequential(nn.Linear(64 * 8 * 8, 256), nn.ReLU(), nn.Linear(256, 10))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        x = torch.cat([torch.relu(self.left(x)) + x, self.right(x)], 1)
        return self.head(self.drop(self.pool(x)).flatten(1))


@pytest.mark.parametrize(
    ("optimizer", "frozen"),
    [
        ("sgd", ()),
        ("momentum", ("head",)),
        ("adamw", ("stem", "left")),
    ],
)
def test_a_real_step_allocates_what_is_computed(optimizer: str, frozen: tuple[str, ...]) -> None:
    torch.manual_seed(0)
    model = Residual()
    for name in frozen:
        model.get_submodule(name).requires_grad_(False)
    computed, measured = compare(model, 8, (3, 32, 32), optimizer)
    assert computed == pytest.approx(measured, rel=0.05)


def test_a_real_step_in_low_precision_allocates_what_is_computed() -> None:
    # dense, since convolutions in bf16 need workspaces on most CPUs
    model = nn.Sequential(nn.Flatten(), nn.Linear(768, 256), nn.ReLU(), nn.Linear(256, 10))
    computed, measured = compare(model, 64, (3, 16, 16), "adamw", "bf16")
    assert computed == pytest.approx(measured, rel=0.02)


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", ["sgd", "momentum", "adamw"])
@pytest.mark.parametrize("name", ["alexnet", "vgg16", "resnet50", "densenet121"])
def test_large_networks_allocate_what_is_computed(name: str, optimizer: str) -> None:
    models = pytest.importorskip("torchvision").models
    computed, measured = compare(getattr(models, name)(), 4, (3, 224, 224), optimizer)
    assert computed == pytest.approx(measured, rel=0.05)


@pytest.mark.parametrize("frozen", [("stem",), ("head",), ("stem", "left", "right"), ("stem.0", "head.2")])
def test_frozen_layers_as_if_counted_frozen(frozen: tuple[str, ...]) -> None:
    model = Residual()
    report = cnnzoo.count(model, (2, 3, 32, 32))
    for name in frozen:
        model.get_submodule(name).requires_grad_(False)
    expected = cnnzoo.count(model, (2, 3, 32, 32)).training_memory("adamw", batch_size=8)
    memory = report.training_memory("adamw", batch_size=8, frozen=frozen)
    assert memory.optimizer == expected.optimizer == 2 * memory.largest["gradients"]
    assert memory.total == pytest.approx(expected.total, rel=0.01)
    assert memory.total < report.training_memory("adamw", batch_size=8).total


def test_the_terms_add_up_to_the_largest_moment() -> None:
    report = cnnzoo.count("alexnet")
    memory = report.training_memory("adamw", batch_size=128)
    terms = (memory.parameters, memory.gradients, memory.optimizer, memory.activations, memory.temporaries)
    assert sum(terms) == memory.total
    assert memory.parameters == memory.largest["gradients"] == 4 * report.params.total
    assert memory.optimizer == 8 * report.params.total
    images, logits = 128 * 224 * 224 * 4, 128 * 10 * 4
    assert memory.largest["activations"] == 128 * report.saved_bytes + logits
    assert (memory.moments[-1].name, memory.moments[-1].activations) == ("update", images)
    assert all(min(m.gradients, m.activations, m.temporaries) >= 0 for m in memory.moments)
    assert report.training_memory("adamw").total < memory.total < 128 * report.training_memory("adamw").total


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_every_registered_network_has_a_sound_step(precision: str) -> None:
    for name in cnnzoo.list_models():
        report = cnnzoo.count(name)
        memory = report.training_memory("momentum", 32, precision)
        assert all(min(m.gradients, m.activations, m.temporaries) >= 0 for m in memory.moments), name
        last = memory.moments[-1]
        assert (last.gradients, last.temporaries) == (memory.optimizer, 32 * 4 * report.layers[-1].out_shape[1]), name


def test_half_precision_weights_need_half() -> None:
    report = cnnzoo.count(Residual().bfloat16(), (2, 3, 32, 32))
    full = cnnzoo.count(Residual(), (2, 3, 32, 32)).training_memory("adamw")
    assert report.training_memory("adamw").optimizer * 2 == full.optimizer
    assert report.training_memory("adamw").total == report.training_memory("adamw", precision="bf16").total
    assert report.training_memory("adamw").total == pytest.approx(full.total / 2, rel=0.05)  # indices keep their size


@pytest.mark.parametrize("options", [{}, {"optimizer": "adamw", "precision": "bf16", "frozen": "conv*"}])
def test_the_largest_batch_size_is_the_last_that_fits(options: dict[str, str]) -> None:
    report = cnnzoo.count("lenet")
    size = report.max_batch_size("50 MB", **options)
    assert report.training_memory(batch_size=size, **options).total <= 50e6
    assert report.training_memory(batch_size=size + 1, **options).total > 50e6
    assert report.max_batch_size(1000, **options) == 0


@pytest.mark.parametrize("name", STATES)
def test_optimizers_keep_that_many_values(name: str) -> None:
    assert name in OPTIMIZERS or name == "momentum"
    parameter = nn.Parameter(torch.ones(50))
    parameter.grad = torch.ones(50)
    optimizer = torch.optim.Adam([parameter]) if name == "adam" else make_optimizer(name, [parameter])
    optimizer.step()
    values = [value for value in optimizer.state[parameter].values() if isinstance(value, torch.Tensor)]
    assert sum(value.numel() for value in values if value.numel() > 1) == 50 * STATES[name]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"optimizer": "muon"}, "such as optimizer=2"),
        ({"optimizer": -1}, "optimizer must be a whole number, at least 0, not -1"),
        ({"batch_size": 0}, "batch_size must be a whole number, at least 1, not 0"),
        ({"batch_size": 1.5}, "batch_size must be a whole number, at least 1, not 1.5"),
        ({"precision": "half"}, "unknown precision 'half'"),
        ({"frozen": ["conv*", "fc9"]}, "unknown label or layer with parameters 'fc9'"),
    ],
)
def test_wrong_arguments(options: dict[str, object], message: str) -> None:
    with pytest.raises(CnnzooError, match="(?s)" + message.replace("*", r"\*")):
        cnnzoo.count("lenet").training_memory(**options)  # type: ignore[arg-type]


def test_numbers_of_bytes() -> None:
    texts = ("8 GB", "8GB", "8 gib", "1.5 MB", "100", "2T", "512 MiB")
    assert [parse_bytes(text) for text in texts] == [8 * 10**9, 8 * 10**9, 2**33, 1500000, 100, 2 * 10**12, 2**29]
    assert parse_bytes(1000) == parse_bytes(1e3) == 1000  # type: ignore[arg-type]
    for wrong in ("", "GB", "8 XB", "-8 GB", "0", 0, None, float("nan"), "8 GB 2"):
        with pytest.raises(CnnzooError, match="such as '8 GB' or '24 GiB'"):
            parse_bytes(wrong)  # type: ignore[arg-type]


def test_table_and_picture(tmp_path: Path) -> None:
    memory = cnnzoo.count("lenet").training_memory("momentum", batch_size=256)
    text = str(memory)
    assert "lenet, batch size 256, momentum, fp32" in text and f"{memory.total:,} bytes" in text
    assert f"peak: {memory.peak.name}" in text
    memory.plot(tmp_path / "memory.svg", "8 MB")
    picture = (tmp_path / "memory.svg").read_text()
    assert memory.peak.name in picture and "8.00 MB" in picture and "optimizer" in picture
    assert "<svg" in memory.to_page() and memory.to_html() in memory.to_page()
    assert memory.to_html() in memory._repr_html_()
    with pytest.raises(FileError, match="cannot be written"):
        memory.plot(tmp_path / "absent" / "memory.svg")


def test_shell(tmp_path: Path) -> None:
    def run(*arguments: str) -> tuple[int, str]:
        result = CliRunner().invoke(main, ["summary", "lenet", *arguments])
        return result.exit_code, result.output

    report = cnnzoo.count("lenet")
    memory = report.training_memory("adamw", batch_size=64, precision="bf16", frozen="conv*")
    options = ("--optimizer", "adamw", "--precision", "bf16", "--freeze", "conv*", "--memory", "5MB")
    page = tmp_path / "page.html"
    code, text = run("--train", "--batch-size", "64", *options, "--html", str(page))
    largest = report.max_batch_size("5MB", "adamw", "bf16", "conv*")
    assert (code, f"5MB: fits; the largest batch size is {largest:,}" in text) == (0, True)
    assert str(report) in text and str(memory) in text
    assert memory.to_html() in page.read_text() and "conv1" in page.read_text()
    _, text = run("--train", "--json", *options, "--batch-size", "1000000")
    values = json.loads(text)
    assert values["macs"] == report.macs
    assert (values["training_memory"]["fits"], values["training_memory"]["max_batch_size"]) == (False, largest)
    assert values["training_memory"]["parameters"] == 4 * report.params.total
    assert run("--memory", "5MB") == (2, run("--memory", "5MB")[1]) and "give --train too" in run("--memory", "5MB")[1]
    assert "--freeze is about the memory" in run("--freeze", "conv1")[1]
    assert run("--train", "--memory", "much")[0] == 1
