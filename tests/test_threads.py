"""Threads and process state: what others use is never changed."""

from __future__ import annotations

import copy
import io
import os
import random
import re
import signal
import threading
import warnings
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

import cnnzoo
from cnnzoo import Preprocessing, StreamData
from cnnzoo.data import ImageData, Split
from cnnzoo.module_copy import copy_module, in_eval_mode
from cnnzoo.progress_bar import track

CLASSES = tuple("abcdefghij")


def network(name: str = "lenet", **knobs: Any) -> cnnzoo.CNN:
    """A network in train mode, as ``create`` returns it, that can be used at once."""
    model = cnnzoo.create(name, seed=0, **knobs)
    channels, height, width = model.spec.input
    preprocessing = Preprocessing((height, width), mean=[0.5] * channels, std=[0.25] * channels)
    model.metadata = model.metadata.replace(preprocessing=preprocessing)
    return model


def network_state(model: nn.Module) -> Any:
    return (
        {name: tensor.clone() for name, tensor in model.state_dict().items()},
        [(module.training, len(module._forward_hooks), len(module._forward_pre_hooks)) for module in model.modules()],
        [(p.dtype, p.device, p.requires_grad, p.grad is None, id(p)) for p in model.parameters()],
    )


def require_unchanged(model: nn.Module, before: Any) -> None:
    after = network_state(model)
    assert all(torch.equal(before[0][name], tensor) for name, tensor in after[0].items())
    assert after[1:] == before[1:]


def process_state() -> dict[str, Any]:
    umask = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("Umask")]
    return {
        "torch": torch.get_rng_state().tolist(),
        "python": random.getstate(),
        "numpy": repr(np.random.get_state()),
        "dtype": torch.get_default_dtype(),
        "device": torch.get_default_device(),
        "threads": torch.get_num_threads(),
        "grad": torch.is_grad_enabled(),
        "onednn": torch._C._get_mkldnn_enabled(),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "filters": list(warnings.filters),
        "umask": umask,
        "folder": Path.cwd(),
    }


def in_threads(work: Callable[[int], None], n: int = 8) -> list[BaseException]:
    """Runs ``work(i)`` in ``n`` threads, and returns what they raised."""
    errors: list[BaseException] = []

    def run(i: int) -> None:
        try:
            work(i)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(i,)) for i in range(n)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return errors


def predict_in_threads(model: cnnzoo.CNN, calls: int) -> None:
    """Requires that 8 threads predict exactly what one predicts, and change nothing."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(256, (16, *model.spec.input), generator=generator, dtype=torch.uint8)
    before, state = network_state(model), process_state()
    expected = [cnnzoo.predict(model, image).probabilities for image in images]
    different = []

    def work(thread: int) -> None:
        for i in range(thread, calls, 8):
            if not torch.equal(cnnzoo.predict(model, images[i % 16]).probabilities, expected[i % 16]):
                different.append(i)

    assert in_threads(work) == [] and different == []
    require_unchanged(model, before)
    assert process_state() == state


def test_predictions_in_threads() -> None:
    """Nobody called ``eval()``: dropout would draw, and batch norm would move its statistics."""
    predict_in_threads(network(norm="batch", dropout=0.5), calls=64)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "knobs"), [("resnet18", {"image_size": 64}), ("lenet5_1998", {})])
def test_many_predictions_in_threads(name: str, knobs: dict[str, Any]) -> None:
    predict_in_threads(network(name, **knobs), calls=1600)


def test_different_functions_in_threads() -> None:
    """Of one network; and networks built meanwhile have the weights of their seed."""
    model = network(norm="batch", dropout=0.5)
    images = torch.randint(256, (20, 1, 28, 28), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    data = ImageData("d", Split(images, torch.arange(20) % 10), Split(images, torch.arange(20) % 10), CLASSES)
    state = process_state()

    def results(i: int) -> Any:
        x = torch.zeros(2, 1, 28, 28)
        return (
            lambda: cnnzoo.predict(model, images[0]).probabilities.tolist(),
            lambda: cnnzoo.evaluate(model, data).loss,
            lambda: cnnzoo.count(model).macs,
            lambda: cnnzoo.count(model, meta=False).macs,
            lambda: cnnzoo.features(model, ["conv2"], x)["conv2"].tolist(),
            lambda: [p.tolist() for p in cnnzoo.create("lenet", seed=i % 6, width=0.2).parameters()],
        )[i % 6]()

    before = network_state(model)
    expected = [results(i) for i in range(6)]
    different: list[int] = []
    errors = in_threads(lambda i: different.extend([i] * (results(i) != expected[i % 6])), n=12)
    assert errors == [] and different == []
    require_unchanged(model, before)
    assert process_state() == state


def test_filters_of_warnings_belong_to_the_process() -> None:
    """Two threads in ``catch_warnings`` at once can leave the filters of one of them in place for good."""
    package = Path(cnnzoo.__file__).parent
    users = [path.relative_to(package).as_posix() for path in package.rglob("*.py") if "catch_warn" in path.read_text()]
    assert users == ["cli/group.py"]  # whose process is its own


class RandomImages(Dataset[Any]):
    """Draws from every global random state."""

    labels = tuple(i % 10 for i in range(20))

    def __len__(self) -> int:
        return 20

    def __getitem__(self, i: int) -> Any:
        return torch.rand(1, 28, 28) + random.random() + np.random.rand(), i % 10


class RandomModule(nn.Module):
    """Draws from every global random state, and has hooks, a cache and a function that refers to it."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.bn, self.calls = nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), [0]
        self.norm = lambda x: self.bn(x)
        self.preprocessing = None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.calls.append(1)
        return self.norm(self.conv(x)).mean((2, 3)) + torch.rand(2) * random.random() * np.random.rand()


def test_process_state_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of public functions, one after the other; rich, which draws when it is imported, included."""
    monkeypatch.setattr(threading, "active_count", lambda: 1)  # pytest -n has a thread of its own
    model, module = network(norm="batch", dropout=0.5), RandomModule()
    images = torch.randint(256, (40, 1, 28, 28), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    data = ImageData("d", Split(images, torch.arange(40) % 10), Split(images, torch.arange(40) % 10), CLASSES)
    stream = StreamData("s", RandomImages(), RandomImages(), classes=CLASSES)
    loader = DataLoader(RandomImages(), batch_size=8, shuffle=True)
    batches = StreamData("b", loader, loader, classes=CLASSES)
    config = cnnzoo.TrainConfig(epochs=1, batch_size=20)
    calls: dict[str, Callable[[], object]] = {
        "create": lambda: cnnzoo.create("lenet", seed=3),
        "pretrained": lambda: cnnzoo.create("lenet", pretrained=True),
        "summary": lambda: cnnzoo.summary(model),
        "count": lambda: cnnzoo.count(module, (2, 1, 9, 9)),
        "count with values": lambda: cnnzoo.count(module, (2, 1, 9, 9), meta=False),
        "bench": lambda: cnnzoo.measure.bench([("m", model, (2, 1, 28, 28))], train=True, seconds=0.01),
        "predict": lambda: cnnzoo.predict(model, [images[0]]),
        "evaluate": lambda: cnnzoo.evaluate(model, data, views="ten_crop"),
        "evaluate samples": lambda: cnnzoo.evaluate(model, stream, workers=0),
        "evaluate batches": lambda: cnnzoo.evaluate(model, batches, workers=0),
        "features": lambda: cnnzoo.features(model, ["conv1"], torch.zeros(2, 1, 28, 28)),
        "save": lambda: cnnzoo.save(model, tmp_path / "m"),
        "load": lambda: cnnzoo.load(tmp_path / "m"),
        "train": lambda: cnnzoo.Trainer(cnnzoo.create(model.spec, seed=0), data, config, show=False).fit(),
        "find": lambda: cnnzoo.lr_find(model, data, config, steps=10),
    }
    networks = [network_state(model), network_state(module)]
    for name, call in calls.items():
        before = process_state()
        call()
        after = process_state()
        assert (name, [key for key in before if before[key] != after[key]]) == (name, [])
    require_unchanged(model, networks[0])
    require_unchanged(module, networks[1])
    assert module.calls == [0]


def test_weights_of_a_seed_do_not_depend_on_the_random_state() -> None:
    """Drawn from a generator of their own, with the numbers of ``torch.manual_seed``."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(7)
        expected = cnnzoo.create("lenet5_1998").state_dict()
    state = cnnzoo.create("lenet5_1998", seed=7).state_dict()
    assert all(torch.equal(expected[name], tensor) for name, tensor in state.items())


@pytest.mark.parametrize("mode", ["eval", "train"])
def test_copies_compute_the_same_and_share_weights(mode: str) -> None:
    """Hooks, methods and functions that refer to the module refer to the copy."""
    model = RandomModule()
    model.conv = nn.utils.parametrizations.spectral_norm(nn.utils.parametrizations.weight_norm(nn.Conv2d(1, 2, 3)))
    seen: list[nn.Module] = []
    model.bn.register_forward_hook(lambda module, args, out: seen.append(module) or model.calls.append(2))
    model.train(mode == "train")
    before = network_state(model)
    twin = in_eval_mode(model)
    assert (twin is model) == (mode == "eval")
    x = torch.randn(4, 1, 9, 9)
    torch.manual_seed(0), random.seed(0), np.random.seed(0)
    scores = twin(x)
    require_unchanged(model, before)
    assert seen == [twin.bn] and all(a is b for a, b in zip(twin.parameters(), model.parameters(), strict=True))
    torch.manual_seed(0), random.seed(0), np.random.seed(0)
    assert torch.equal(model.eval()(x), scores)


def test_copies_without_hooks_of_the_user() -> None:
    """Those of torch compute weights, and stay."""
    model = nn.Sequential(nn.utils.spectral_norm(nn.Conv2d(1, 2, 3)), nn.ReLU())
    model.register_forward_hook(lambda *args: pytest.fail("called"))
    twin = copy_module(model, user_hooks=False)
    assert len(twin[0]._forward_pre_hooks) == 1 and len(twin._forward_hooks) == 0
    twin(torch.zeros(1, 1, 5, 5))


class Merging(nn.Module):
    """Merges weights in eval mode, in a layer inside, as LoRA layers do."""

    def __init__(self) -> None:
        super().__init__()
        self.fc, self.merged = nn.Linear(4, 2), False

    def train(self, mode: bool = True) -> Merging:
        if mode == self.merged:
            self.fc.weight.data += -1 if mode else 1
            self.merged = not mode
        return super().train(mode)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(x)


def test_a_module_that_changes_weights_in_eval_mode() -> None:
    model = Merging()
    before = network_state(model)
    twin = in_eval_mode(model)
    require_unchanged(model, before)
    assert torch.equal(twin.fc.weight, model.fc.weight + 1) and not model.merged


def test_hooks_of_the_user_see_no_tensors_without_values() -> None:
    """Neither the count of FLOPs nor the check of batch norm runs them."""
    model = cnnzoo.create("lenet", norm="batch", seed=0)
    devices: list[str] = []
    model.features[0].register_forward_hook(lambda module, args, out: devices.append(out.device.type))
    split = Split(torch.zeros(65, 1, 28, 28, dtype=torch.uint8), torch.arange(65) % 10)
    run = cnnzoo.Trainer(
        model, ImageData("d", split, split, CLASSES), cnnzoo.TrainConfig(epochs=1, batch_size=13), show=False
    ).fit()
    assert "mfu" in run.history[0] and set(devices) == {"cpu"}


def test_a_state_dict_of_some_weights_keeps_the_provenance_of_the_others() -> None:
    model = cnnzoo.create("lenet", pretrained=True)
    old = model.metadata.provenance
    model.load_state_dict(model.state_dict())
    model.load_state_dict({}, strict=False)
    assert model.metadata.provenance == old  # nothing has changed
    model.load_state_dict({"features.0.bias": torch.zeros(6)}, strict=False)
    assert model.metadata.provenance == {"kind": "state_dict", "from": old}
    model.load_state_dict(cnnzoo.create("lenet", seed=0).state_dict())
    assert model.metadata.provenance == {"kind": "state_dict"}


def test_values_have_a_hash() -> None:
    """Equal ones have the same, whatever lists or mappings they hold."""
    config = cnnzoo.TrainConfig(lr_multipliers={"conv1": 0.1}, class_weights=[1.0, 2.0])
    metadata = cnnzoo.create("lenet", pretrained=True).metadata
    comparison, difference = cnnzoo.compare("lenet", "lenet5_1998"), cnnzoo.diff("lenet", "lenet5_1998")
    for value in (config, metadata, comparison, difference, cnnzoo.verify("lenet"), cnnzoo.timeline("lenet*")):
        other = copy.deepcopy(value)
        assert other == value and len({other, value}) == 1


def test_ctrl_c_ends_the_search_for_a_learning_rate() -> None:
    """Instead of a suggestion from the first steps."""
    model, passes = cnnzoo.create("lenet", seed=0), []

    def hook(*args: object) -> None:
        passes.append(1)
        if len(passes) == 5:
            signal.raise_signal(signal.SIGINT)

    model.register_forward_hook(hook)
    split = Split(torch.zeros(40, 1, 28, 28, dtype=torch.uint8), torch.arange(40) % 10)
    with pytest.raises(KeyboardInterrupt):
        cnnzoo.lr_find(model, ImageData("d", split, split, CLASSES), cnnzoo.TrainConfig(batch_size=20), steps=20)
    assert len(passes) < 10


@pytest.mark.parametrize("thread", [False, True])
def test_progress_bar_of_the_main_thread(
    thread: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Threads would draw over each other's bars."""
    monkeypatch.setattr("cnnzoo.progress_bar._BAR_AFTER", -1.0)
    model = network()
    images = torch.zeros(40, 1, 28, 28, dtype=torch.uint8)
    split = Split(images, torch.arange(40) % 10)

    def work(i: int) -> None:
        cnnzoo.evaluate(model, ImageData("d", split, split, CLASSES), batch_size=20)
        cnnzoo.predict(model, list(images[:3]))

    errors = in_threads(work, 2) if thread else [work(0)]
    shown = capsys.readouterr().err.replace("\n", " ")
    assert errors == ([] if thread else [None])
    for pattern in (r"evaluating .* 2/2", r"classifying .* 3/3"):
        assert bool(re.search(pattern, shown)) != thread


def test_a_bar_leaves_standard_output_to_its_file(monkeypatch: pytest.MonkeyPatch) -> None:
    """As with ``cnnzoo predict MODEL photos > results.txt`` on a terminal."""
    monkeypatch.setattr("cnnzoo.progress_bar._BAR_AFTER", -1.0)
    controller, terminal = os.openpty()
    with os.fdopen(terminal, "w") as stderr, redirect_stderr(stderr), redirect_stdout(io.StringIO()) as stdout:
        for i in track(range(3), "classifying"):
            print(i)
    assert stdout.getvalue() == "0\n1\n2\n" and b"classifying" in os.read(controller, 4096)
    os.close(controller)
