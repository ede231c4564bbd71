from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path
from typing import Any

# pytest -n: the processes share the cores. OpenMP reads this once, when torch is imported.
if "PYTEST_XDIST_WORKER_COUNT" in os.environ:
    os.environ.setdefault(
        "OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // int(os.environ["PYTEST_XDIST_WORKER_COUNT"])))
    )

os.environ["COLUMNS"] = "100"  # tables do not depend on the terminal of the tests

# The Hub's client reads these once, when it is imported: no test may reach the real one, or the user's cache.
os.environ.update(HF_ENDPOINT="http://127.0.0.1:9", HF_HUB_DISABLE_XET="1", HF_HUB_DISABLE_TELEMETRY="1")
os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"
for _name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HF_HUB_OFFLINE", "HF_HUB_CACHE"):
    os.environ.pop(_name, None)
_hf_home = tempfile.TemporaryDirectory(prefix="cnnzoo-tests-")  # removed when the process ends
os.environ["HF_HOME"] = _hf_home.name

import pytest  # noqa: E402
import torch  # noqa: E402

import cnnzoo  # noqa: E402
from cnnzoo.blocks import (  # noqa: E402
    ACTIVATIONS,
    BLOCKS,
    NORMS,
    AvgPool,
    Conv,
    Dense,
    Dropout,
    Flatten,
    Logits,
    Parallel,
)
from cnnzoo.data import AUGMENTATIONS, ImageData, Split  # noqa: E402
from cnnzoo.data.registry import DATA  # noqa: E402
from cnnzoo.explain import METHODS  # noqa: E402
from cnnzoo.initializers import INITIALIZERS  # noqa: E402
from cnnzoo.registry import MODELS  # noqa: E402
from cnnzoo.train import LOSSES, METRICS, OPTIMIZERS, SCHEDULES  # noqa: E402

GOLDEN = Path(__file__).parent / "golden"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update-golden", action="store_true", help="write the golden files; review their difference")
    parser.addoption("--share", metavar="K/N", default="1/1", help="run every N-th test, from the K-th on")


@pytest.hookimpl(trylast=True)  # after the selection by -m and -k
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    first, step = map(int, config.getoption("--share").split("/"))
    chosen = items[first - 1 :: step]
    config.hook.pytest_deselected(items=[item for item in items if item not in set(chosen)])
    items[:] = chosen


@pytest.fixture
def golden(request: pytest.FixtureRequest):
    """Compares a value with the golden file of that name."""

    def check(name: str, value: Any) -> None:
        path = GOLDEN / f"{name}.json"
        if request.config.getoption("--update-golden"):
            path.parent.mkdir(exist_ok=True)
            path.write_text(json.dumps(value, indent=1) + "\n")
        assert path.exists(), f"no golden file {path.name}: run pytest --update-golden and look at what it wrote"
        assert json.loads(json.dumps(value)) == json.loads(path.read_text())

    return check


@pytest.fixture(autouse=True)
def _own_cache(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """No test reads or writes the user's cache."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))


@pytest.fixture
def tiny_spec() -> cnnzoo.Spec:
    """A net of everything: norm, dropout, branches, on 1x8x8 images of three classes."""
    return cnnzoo.Spec(
        "tiny",
        (1, 8, 8),
        (
            Conv(4, kernel_size=3, padding=1, norm="batch"),
            Parallel(((), (Conv(4, kernel_size=3, padding=1),)), merge="add", activation="relu"),
            AvgPool(2),
            Flatten(),
        ),
        (Dense(16), Dropout(0.5), Logits(3)),
    )


@pytest.fixture
def tiny_data() -> ImageData:
    """Images whose brightest third tells their class."""

    def split(n: int, seed: int) -> Split:
        generator = torch.Generator().manual_seed(seed)
        labels = torch.arange(n) % 3
        images = torch.randint(0, 100, (n, 1, 8, 8), generator=generator)
        for i, label in enumerate(labels.tolist()):
            images[i, :, :, 3 * label : 3 * label + 2] += 150
        return Split(images.to(torch.uint8), labels)

    return ImageData("tiny", split(90, 0), split(30, 1), ("left", "middle", "right"))


@pytest.fixture(autouse=True)
def _restore_registries():
    """No test leaves another default dtype, or names of its own in a registry."""
    registries = (
        BLOCKS, ACTIVATIONS, NORMS, INITIALIZERS, MODELS, DATA, AUGMENTATIONS, OPTIMIZERS, SCHEDULES, LOSSES, METRICS,
        METHODS,
    )  # fmt: skip
    before = [(dict(registry), dict(registry._modules)) for registry in registries]
    yield
    for registry, (values, modules) in zip(registries, before, strict=True):
        registry._values, registry._modules = values, modules
    assert torch.get_default_dtype() == torch.float32
