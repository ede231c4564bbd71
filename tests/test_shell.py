"""The command line on a terminal and in scripts: lists, colors, help, completion, files, faults of the machine."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import re
import struct
import subprocess
import sys
import termios
import threading
from collections.abc import Callable, Sequence
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import pytest
import torch
from click.shell_completion import ShellComplete
from click.testing import CliRunner, Result

import cnnzoo
from cnnzoo.cli import completion, main
from cnnzoo.data.registry import DATA
from cnnzoo.errors import is_out_of_memory
from cnnzoo.preprocessing import CROP_MODES, VIEWS
from cnnzoo.registry import MODELS
from cnnzoo.train.precision import PRECISIONS

COMMANDS = main.commands


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    monkeypatch.chdir(tmp_path)

    def invoke(*arguments: str) -> Result:
        return CliRunner().invoke(main, arguments)

    return invoke


def on_terminal(*arguments: str, columns: int = 100) -> str:
    """Returns what a command prints on a pseudo-terminal."""
    controller, terminal = os.openpty()
    with os.fdopen(terminal, "w") as file, os.fdopen(controller, "rb") as output:
        fcntl.ioctl(file, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
        parts: list[bytes] = []

        def read() -> None:
            try:
                while part := os.read(output.fileno(), 1 << 16):
                    parts.append(part)
            except OSError:  # the terminal was closed
                pass

        reader = threading.Thread(target=read)
        reader.start()
        with redirect_stdout(file), redirect_stderr(file), pytest.raises(SystemExit):
            main(arguments, prog_name="cnnzoo")
        file.close()
        reader.join()
    return b"".join(parts).decode().replace("\r\n", "\n")


# --- lists ---


def test_list_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    text = on_terminal("list", "alexnet*")
    assert re.search(r"alexnet_2012 +2012 +3x227x227 +61.0 M +724 M +AlexNet as printed in 2012\n", text)
    assert re.search(r"alexnet  +1x1?x?224x224 +46.8 M +938 M", text) and "\x1b" not in text
    assert on_terminal("recipes").count("\n") > 12 and "AlexNet as trained in Dive into Deep" in on_terminal("recipes")


def test_lists_in_a_pipe_have_bare_names(run: Callable[..., Result]) -> None:
    assert run("list").stdout.split() == cnnzoo.list_models()
    assert run("recipes").stdout.split() == cnnzoo.list_recipes()
    models = {model["name"]: model for model in json.loads(run("list", "--json").stdout)}
    assert list(models) == cnnzoo.list_models()
    assert models["alexnet_owt"] == {
        "name": "alexnet_owt", "year": 2014, "input": [3, 224, 224], "params": 61_100_840, "macs": 714_188_480,
        "shipped": False,
        "text": 'AlexNet of torchvision: one tower ("One weird trick for parallelizing convolutional neural networks", '
        "2014)",
    }  # fmt: skip
    assert models["lenet"]["shipped"] and all(model["text"] for model in models.values())
    recipes = json.loads(run("recipes", "--json").stdout)
    assert list(recipes) == cnnzoo.list_recipes() and recipes["d2l/lenet"]["lr"] == 0.9
    assert all(recipe["purpose"] for recipe in recipes.values())


def test_an_unknown_pattern_names_the_nearest(run: Callable[..., Result]) -> None:
    done = run("list", "alxnet*")
    assert done.exit_code == 1 and done.stdout == "" and "Did you mean 'alexnet'" in done.stderr


def test_a_model_that_cannot_be_built_is_listed_with_the_reason(run: Callable[..., Result]) -> None:
    @cnnzoo.register(year=1999)
    def broken_model():
        """Never built."""
        return 3

    try:
        (model,) = json.loads(run("list", "broken*", "--json").stdout)
    finally:
        del MODELS["broken_model"]
    assert (model["year"], model["macs"]) == (1999, None)
    assert model["text"] == "cannot be built (model 'broken_model': its function must return a Spec, not int)"


# --- colors ---


def test_colors_are_for_terminals(run: Callable[..., Result], monkeypatch: pytest.MonkeyPatch) -> None:
    shown = on_terminal("diff", "lenet", "lenet5_1998", columns=160)
    assert "\x1b[33mconv1 → C1\x1b[0m" in shown and "\x1b[32mC5\x1b[0m" in shown
    assert "\x1b[32magrees\x1b[0m" in on_terminal("verify", "lenet")
    assert "\x1b[31merror:\x1b[0m unknown model" in on_terminal("summary", "nosuch")
    fits = on_terminal("summary", "lenet", "--train", "--memory", "1 GB")
    assert "1 GB: \x1b[32mfits\x1b[0m; the largest" in fits
    plain = [run("diff", "lenet", "lenet5_1998"), run("verify", "lenet"), run("summary", "nosuch")]
    assert not any("\x1b" in done.output for done in plain)
    monkeypatch.setenv("NO_COLOR", "1")
    for words in (("diff", "lenet", "lenet5_1998"), ("summary", "nosuch"), ("verify", "lenet")):
        assert "\x1b" not in on_terminal(*words)


def test_colors_change_no_layout() -> None:
    difference = cnnzoo.diff("lenet", "lenet5_1998")
    for width in (40, 60, 100):
        assert re.sub(r"\x1b\[\d+m", "", difference.text(width, color=True)) == difference.text(width)


# --- help and completion ---


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_examples_that_parse(name: str, run: Callable[..., Result]) -> None:
    text = run(name, "--help").stdout
    lines = text.partition("Examples:\n")[2].replace("\\\n", " ").splitlines()
    assert len(lines) >= 2
    for line in lines:
        words = re.findall(r"\"[^\"]*\"|'[^']*'|\S+", line.partition(" > ")[0])
        program, command, *arguments = [word.strip("\"'") for word in words]
        assert (program, command) == ("cnnzoo", name)
        COMMANDS[name].make_context(name, arguments)  # exits, or raises, if they are wrong


def complete(line: str, incomplete: str = "") -> list[tuple[str, str]]:
    items = ShellComplete(main, {}, "cnnzoo", "_CNNZOO_COMPLETE").get_completions(line.split(), incomplete)
    return [(item.value, item.type) for item in items]


@pytest.mark.parametrize(
    ("line", "incomplete", "expected"),
    [
        ("summary", "alexnet_", ["alexnet_2012", "alexnet_owt"]),
        ("compare alexnet", "lenet5", ["lenet5_1998"]),
        ("verify", "zf", ["zfnet", "zfnet512"]),
        ("train lenet --recipe", "quick/d", ["quick/deep"]),
        ("recipes", "krizh", ["krizhevsky2012"]),
        ("train lenet --data", "f", ["fashion_mnist", "fashion_mnist_sample", "folder:"]),
        ("train lenet --set", "ep", ["epochs=5"]),
        ("evaluate lenet --views", "f", ["flip", "five_crop"]),
        ("evaluate lenet --crop-mode", "", ["squash", "center", "border"]),
        ("bench lenet --device", "c", ["cpu", "cuda"]),
        ("bench lenet --precision", "", ["fp32", "bf16"]),
        ("summary lenet --train --optimizer", "adam", ["adam", "adamw"]),
    ],
)
def test_completion(line: str, incomplete: str, expected: list[str]) -> None:
    assert complete(line, incomplete) == [(value, "plain") for value in expected]


def test_completion_of_files() -> None:
    assert complete("evaluate", "runs/") == [("runs/", "file")] == complete("train", "runs/")
    assert complete("draw lenet -o", "l") == [("l", "file")]
    assert complete("report", "ru") == [("ru", "dir")] == complete("train --resume", "ru")


def test_completed_names_are_those_of_the_library() -> None:
    assert tuple(VIEWS) == completion.VIEWS and completion.CROP_MODES == CROP_MODES
    assert completion.PRECISIONS == PRECISIONS
    builtin = {name for name, function in DATA.items() if function.__module__.startswith("cnnzoo.")}
    assert {name.rstrip(":") for name in completion.DATA_SETS} == builtin
    from cnnzoo.measure.memory import STATES

    assert set(completion.OPTIMIZERS) == set(STATES)


# --- files ---


@pytest.mark.parametrize(
    ("words", "file"),
    [
        ("draw lenet -o p.svg", "p.svg"),
        ("timeline resnet* -o p.svg", "p.svg"),
        ("summary lenet --html p.html", "p.html"),
    ],
)
def test_files_are_named_and_not_replaced(run: Callable[..., Result], words: str, file: str) -> None:
    done = run(*words.split())
    assert done.exit_code == 0, done.output
    assert done.stdout.startswith(f"{file}: ") or f"wrote {file}\n" in done.stderr
    before = Path(file).read_bytes()
    Path(file).write_bytes(b"mine")
    done = run(*words.split())
    assert done.exit_code == 1 and Path(file).read_bytes() == b"mine"
    assert f"error: {file} exists already; name another file, or pass overwrite=True (--overwrite)" in done.stderr
    assert run(*words.split(), "--overwrite").exit_code == 0 and len(Path(file).read_bytes()) == len(before)


def test_a_record_is_not_replaced(run: Callable[..., Result]) -> None:
    words = ("train", "lenet", "--set", "epochs=1", "--set", "overfit_batches=1", "--out", "r", "--record", "kept")
    Path("kept.png").write_text("mine")
    done = run(*words)
    assert done.exit_code == 1 and "kept.png exists already" in done.stderr and not Path("r/metrics.json").exists()
    Path("kept.png").unlink()
    done = run(*words, "--json")
    assert done.exit_code == 0, done.stderr
    assert "wrote r/\nwrote kept.json\nwrote kept.png\n" in done.stderr and json.loads(done.stdout)["epochs"] == 1
    Path("kept.json").write_text("mine")
    done = run(*words)  # the same command can always be run again
    assert done.exit_code == 0 and "kept kept.json and kept.png, which existed already" in done.stderr
    assert Path("kept.json").read_text() == "mine"
    assert run(*words, "--overwrite").exit_code == 0 and Path("kept.json").read_text() != "mine"


# --- faults of the machine ---

MESSAGES = (
    "[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to allocate "
    "411041792 bytes. Error code 12 (Cannot allocate memory)",
    "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 79.1 GiB",
)


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (MemoryError(), "out of memory: none is left. A smaller batch"),
        (MemoryError("Unable to allocate 7.45 GiB"), "out of memory: Unable to allocate 7.45 GiB. A"),
        (RuntimeError(MESSAGES[0]), "out of memory: DefaultCPUAllocator: can't allocate memory: you tried to allocate"),
        (torch.OutOfMemoryError(MESSAGES[1]), "out of memory: CUDA out of memory. Tried to allocate 2.00 GiB"),
        (ImportError("libtorch_cpu.so: failed to map segment from shared object"), "out of memory: libtorch_cpu"),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), "out of memory: [Errno 12] Cannot allocate memory"),
        (OSError(errno.ENOSPC, "No space left on device"), "the output cannot be written: No space left on device"),
        (PermissionError(errno.EACCES, "Permission denied", "a.json"), "a.json: Permission denied"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
def test_faults_are_one_line(
    run: Callable[..., Result], monkeypatch: pytest.MonkeyPatch, error: Exception, message: str
) -> None:
    def fail(*arguments: object, **options: object) -> None:
        raise error

    monkeypatch.setattr(cnnzoo.api, "list_models", fail)
    done = run("list")
    assert done.exit_code == 1 and done.stderr.startswith(f"error: {message}") and done.stderr.count("\n") == 1


def test_faults_of_the_program_are_shown(run: Callable[..., Result], monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: object, **options: object) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr(cnnzoo.api, "list_models", fail)
    assert isinstance(run("list").exception, RuntimeError) and not is_out_of_memory(RuntimeError("a bug"))


def test_a_forward_pass_without_memory_is_no_wrong_input() -> None:
    class Large(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            raise RuntimeError(MESSAGES[0])

    preprocessing = cnnzoo.Preprocessing((8, 8), (0.0,), (1.0,))
    with pytest.raises(RuntimeError, match="can't allocate memory") as raised:
        cnnzoo.predict(Large(), torch.zeros(1, 8, 8, dtype=torch.uint8), preprocessing=preprocessing)
    assert not isinstance(raised.value, cnnzoo.CnnzooError)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="this system has no full device")
@pytest.mark.parametrize("words", [["--help"], ["summary", "--help"], ["list"]], ids=" ".join)
def test_a_full_disk_and_a_closed_pipe(words: Sequence[str]) -> None:
    command = [sys.executable, "-m", "cnnzoo", *words]
    with open("/dev/full", "w") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert (done.returncode, done.stderr) == (1, "error: the output cannot be written: No space left on device\n")
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "w") as pipe:
        done = subprocess.run(command, stdout=pipe, stderr=subprocess.PIPE, text=True, check=False)
    assert (done.returncode, done.stderr) == (1, "")
