"""What commands import before they print or train, and what ships so that they need not: counts and recipes."""

from __future__ import annotations

import os
import runpy
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from torch import nn

import cnnzoo
from cnnzoo import measure
from cnnzoo.blocks import Activation, Block, Conv, Parallel, build, build_blocks, register_activation
from cnnzoo.cli import main
from cnnzoo.errors import SpecError
from cnnzoo.quantities import Quantities, compute_figures
from cnnzoo.registry import get_entry
from cnnzoo.stored_counts import key_of, stored_figures, stored_report
from cnnzoo.stored_recipes import stored_recipes

ROOT = Path(__file__).parent.parent
SMALL = ("lenet", "lenet5_1998", "alexnet", "nin_d2l", "squeezenet1_1", "resnet18_d2l")


# --- imports ---

COMMANDS = """
import sys
from click.testing import CliRunner
from cnnzoo.cli import main
for code, words in (
    (0, "--help"), (0, "train --help"), (0, "list"), (0, "list --json"), (1, "list nosuch"), (0, "recipes"),
    (0, "recipes quick"),
    (0, "summary resnet152"), (0, "summary alexnet --depth 1 --columns block,kernel --sort MACs"),
    (0, "compare alexnet lenet"), (0, "compare alexnet lenet vgg16 --baseline vgg16 --json"), (0, "timeline"),
    (0, "verify"), (0, "verify lenet"), (1, "summary nosuch"), (2, "nosuch"), (2, "train"), (2, "train lenet --lr 3"),
    (1, "train nosuch"), (2, "train --resume r --set lr=1"), (2, "summary lenet --num-classes 3"),
    (1, "summary lenet --columns x"), (2, "compare lenet vgg11 --set lr=3"), (2, "export lenet"),
):
    done = CliRunner().invoke(main, words.split())
    modules = {"torch", "numpy", "matplotlib"} & set(sys.modules)
    print(done.exit_code == code and not modules, words, modules, done.output[:0 if done.exit_code == code else 900])
"""


def test_what_prints_needs_no_torch() -> None:
    done = subprocess.run([sys.executable, "-c", COMMANDS], capture_output=True, text=True, check=True)
    lines = done.stdout.splitlines()
    assert len(lines) == 24 and [line for line in lines if not line.startswith("True")] == []


def test_completion_needs_no_torch() -> None:
    code = "import sys; sys.argv = ['cnnzoo']; from cnnzoo.cli import main; main(prog_name='cnnzoo')"
    environment = {**os.environ, "_CNNZOO_COMPLETE": "bash_complete", "COMP_WORDS": "cnnzoo comp", "COMP_CWORD": "1"}
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-c", code], capture_output=True, text=True, env=environment, check=False
    )
    assert done.stdout == "plain,compare\n" and "| torch\n" not in done.stderr


FIRST_STEP = """
import sys
import cnnzoo
from cnnzoo.cli import main

@cnnzoo.register_callback("first_step")
class FirstStep:
    def on_step(self, trainer):
        heavy = ("torch.utils.flop_counter", "torchvision", "matplotlib", "jinja2")
        print([name for name in heavy if name in sys.modules])
        raise SystemExit(0)

main(["train", "lenet", "--set", 'callbacks=["first_step"]'])
"""


def test_training_imports_little_before_the_first_step(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", FIRST_STEP], capture_output=True, text=True, cwd=tmp_path, env=environment, check=True
    )
    assert done.stdout == "[]\n"


# --- shapes ---


def compare_shapes(name: str, monkeypatch: pytest.MonkeyPatch) -> int:
    """Builds a network, and checks the shapes of an empty batch on the CPU against the meta device."""
    run, n = build._run_empty_batch, 0

    def check(block, modules, shape):
        nonlocal n
        out, x = run(block, modules, shape), torch.empty(2, *shape, device="meta")
        for module in modules:
            assert module.training and all(p.is_meta for p in (*module.parameters(), *module.buffers()))
            x = module.eval()(x)
            module.train()
        if out is not None:
            n += 1
            assert out.shape == (0, *x.shape[1:])
        return out

    monkeypatch.setattr(build, "_run_empty_batch", check)
    monkeypatch.setattr(build, "_memo", build._Memo())
    with torch.device("meta"):
        cnnzoo.CNN(cnnzoo.get_spec(name))
    return n


@pytest.mark.parametrize("name", ["lenet5_1998", "alexnet_2012", "googlenet_d2l", "densenet_d2l", "resnet18"])
def test_an_empty_batch_has_the_shapes_of_the_meta_device(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert compare_shapes(name, monkeypatch) > 5


@pytest.mark.slow
def test_an_empty_batch_has_the_shapes_of_the_meta_device_for_all(monkeypatch: pytest.MonkeyPatch) -> None:
    assert min(compare_shapes(name, monkeypatch) for name in cnnzoo.list_models()) > 5


class _Mine(Block):
    def build(self, shape):
        return [nn.PixelUnshuffle(2)]  # of an empty batch, its output has the shape of its input


def test_blocks_and_modules_of_others_run_on_the_meta_device() -> None:
    register_activation("unshuffle", lambda: nn.PixelUnshuffle(2))
    for block in (_Mine(), Parallel(((_Mine(),),)), Activation("unshuffle")):
        assert build_blocks([block], (3, 6, 6), "features")[0].shape == (12, 3, 3)


def test_an_initial_value_that_cannot_be_set_names_its_block() -> None:
    block = Conv(2, 3, label="c", bias_init=1e299)
    with pytest.raises(SpecError, match="^p: block 'c' .* cannot take .*: value cannot be converted"):
        cnnzoo.create(cnnzoo.Spec("p", (1, 3, 3), (block,)))


# --- what ships ---


def test_every_network_has_a_stored_count() -> None:
    for name in cnnzoo.list_models():
        report = stored_report(cnnzoo.get_spec(name))
        assert report is not None, f"{name} has no stored count: python docs/make_stored.py"
        assert (report.name, report.params.bytes) == (name, 4 * report.params.total)
        for published in get_entry(name).published:
            if published.quantity:
                spec = cnnzoo.get_spec(name, **published.knobs)
                figure = published.quantity + (f" of {', '.join(published.blocks)}" if published.blocks else "")
                assert figure in stored_figures(spec)


def counted(name: str) -> cnnzoo.CountReport:
    spec = cnnzoo.get_spec(name)
    with torch.device("meta"):
        return measure.count(cnnzoo.CNN(spec), (1, *spec.input), name=name)


@pytest.mark.parametrize("name", SMALL)
def test_stored_counts_are_those_of_the_counter(name: str) -> None:
    spec = cnnzoo.get_spec(name)
    assert stored_report(spec) == counted(name), "python docs/make_stored.py"
    quantities = Quantities(spec)
    for quantity in ("parameters", "macs"):
        assert stored_figures(spec)[quantity] == quantities.total(quantity)


@pytest.mark.slow
def test_all_stored_counts_and_figures_are_those_of_the_counter() -> None:
    for name in cnnzoo.list_models():
        assert stored_report(cnnzoo.get_spec(name)) == counted(name)
    figures = compute_figures()
    assert figures and all(
        stored_figures(spec)[figure] == value
        for name in cnnzoo.list_models()
        for spec in [cnnzoo.get_spec(name)]
        for figure, value in figures[key_of(spec)].items()
    )


def test_another_network_is_counted_anew() -> None:
    assert stored_report(cnnzoo.get_spec("lenet", num_classes=11)) is None
    assert cnnzoo.count("lenet", num_classes=11).params.total == 61_706 + 85
    assert cnnzoo.count("lenet", (2, 1, 28, 28)).macs == 2 * 416_520
    assert cnnzoo.count("lenet", (1, 1, 28, 28), name="mine") == cnnzoo.count("lenet", name="mine")
    torch.set_default_dtype(torch.float64)
    try:
        assert cnnzoo.count("lenet").params.dtypes == ("float64",)
    finally:
        torch.set_default_dtype(torch.float32)


def test_stored_recipes_are_those_of_the_library() -> None:
    current = runpy.run_path(str(ROOT / "docs" / "make_stored.py"))["current_recipes"]()
    assert stored_recipes() == current, "python docs/make_stored.py"
    assert list(current.values) == cnnzoo.list_recipes()


def test_verify_prints_one_network_after_the_other(monkeypatch: pytest.MonkeyPatch) -> None:
    printed: list[str] = []
    monkeypatch.setattr("click.echo", lambda text="", **_: printed.append(str(text)))
    monkeypatch.setattr(import_module("cnnzoo.verify"), "list_models", lambda: ["lenet", "nosuch"])
    CliRunner().invoke(main, ["verify"])
    assert printed[0].startswith("lenet: figures in") and "unknown model 'nosuch'" in printed[-1]
