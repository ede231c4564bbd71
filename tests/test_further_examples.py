"""The examples on everyday tasks: fine-tuning, transfer, the Hub, several processes, plugins, export."""

from __future__ import annotations

import json
import re
import runpy
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from hub import OWNER, TOKEN, LocalHub
from scripts import EXAMPLES, run_example
from torchvision.transforms.functional import to_pil_image

import cnnzoo


def numbers(name: str, out: str) -> list[float]:
    """Returns the numbers in the line that begins with a name."""
    (line,) = re.findall(rf"^{re.escape(name)}  +(.*)$", out, flags=re.MULTILINE)
    return [float(word) for word in line.split()]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*draws new weights")  # the network from scratch, which keeps the architecture only
def test_finetune_folder(tmp_path: Path) -> None:
    out = run_example("finetune_folder.py", cwd=tmp_path)
    assert "50 training images, 500 test images: bags, dresses, shoes, tops, trousers" in out
    assert "classifier.4 is new, for 5 classes instead of 10" in out
    (scratch,), (frozen,), (slow,) = (
        numbers(method, out)
        for method in ("from scratch", "frozen features", "features at a tenth of the learning rate")
    )
    assert min(frozen, slow) > 0.9 and min(frozen, slow) > scratch + 0.05
    runs = tmp_path / "runs" / "finetune"
    saved = cnnzoo.load(runs / "lenet.safetensors").features.state_dict()
    for method, unchanged in (("frozen-features", True), ("features-at-a-tenth-of-the-learning-rate", False)):
        trained = cnnzoo.load(runs / method).features.state_dict()
        assert all(bool((trained[key] == saved[key]).all()) for key in saved) == unchanged
    assert re.search(r"images/test/bags/\d+\.png\nbags +\d\d\.\d\d%", out)

    # a folder and weights of the user
    shutil.rmtree(runs / "images" / "train" / "bags")
    shutil.rmtree(runs / "images" / "test" / "bags")
    weights = str(runs / "lenet.safetensors")
    out = run_example("finetune_folder.py", str(runs / "images"), "--weights", weights, "--epochs", "1", cwd=tmp_path)
    assert "40 training images, 400 test images: dresses, shoes, tops, trousers" in out


@pytest.mark.slow
def test_transfer(tmp_path: Path) -> None:
    out = run_example("transfer.py", "--epochs", "1", cwd=tmp_path)
    assert "classifier.4 is new, for 2 classes instead of 10; features.0 takes 1 channel instead of 3" in out
    difference = re.search(r"three equal channels: largest difference (\S+)", out)
    assert difference and float(difference[1]) < 1e-5
    before, after = map(float, re.findall(r"accuracy (0\.\d{3}|1\.000)", out))
    assert after > 0.95 and after > before
    gray = cnnzoo.load(tmp_path / "runs" / "transfer" / "gray")
    assert gray.spec.input == (1, 28, 28) and gray.metadata.label_names == ("no shoe", "shoe")


def test_push_and_pull(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = EXAMPLES / "push_and_pull.py"
    twice = f"import runpy; [(runpy.run_path({str(script)!r}, run_name='__main__'), print('~~~')) for _ in range(2)]"
    with LocalHub() as hub:
        # a process of its own: the Hub's client reads these when it is imported
        for name, value in {"HF_ENDPOINT": hub.url, "HF_TOKEN": TOKEN, "HF_HOME": str(tmp_path / "hf")}.items():
            monkeypatch.setenv(name, value)
        command = [sys.executable, "-c", twice, f"{OWNER}/garments"]
        process = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert process.returncode == 0, process.stderr
    out, again, _ = process.stdout.split("~~~\n")
    repo = hub.repos[f"{OWNER}/garments"]
    commit = repo.branches["main"]
    assert repo.private and repo.tags == {"v1": commit}
    assert f"pushed {OWNER}/garments, commit {commit}, tag v1" in out
    assert re.search(r"^ +[\d,]{7} bytes  model\.safetensors$", out, flags=re.MULTILINE)
    assert "# lenet" in out and "| parameters | 61,706 |" in out
    assert f"bit-identical scores: True; source: hf://{OWNER}/garments@{commit}" in out
    assert "classifier.4 is new, for 5 classes instead of 10" in out
    assert again == out  # files that the repository has already are not uploaded again


@pytest.mark.slow
def test_two_processes(tmp_path: Path) -> None:
    out = run_example("two_processes.py", "--epochs", "1", cwd=tmp_path)
    (one, none), (two, little), (other, much) = (
        numbers(name, out) for name in ("one process", "two processes", "one process, another seed")
    )
    assert none == 0 and little < 1e-4 and much > 0.1
    assert two == pytest.approx(one, abs=0.003) and min(one, two, other) > 0.5
    for name, processes in (("one process", 1), ("two processes", 2)):
        metrics = json.loads((tmp_path / "runs" / "processes" / name / "metrics.json").read_text())
        assert metrics["processes"] == processes
        printed = numbers(name, out)[0]  # evaluated in bf16 if the machine has it, not in float32
        assert metrics["test_acc"] == pytest.approx(printed, abs=0.005)


@pytest.mark.parametrize(("package", "loops"), [("accelerate", ["accelerate"]), ("lightning", ["fabric", "lightning"])])
@pytest.mark.filterwarnings("default")  # the packages' own
def test_loops_of_others(tmp_path: Path, package: str, loops: list[str]) -> None:
    pytest.importorskip(package, reason=f"{package} is not installed")
    out = run_example("accelerate_and_lightning.py", "torch", *loops, "--epochs", "1", cwd=tmp_path)
    plain, none = numbers("torch", out)
    assert none == 0 and plain > 0.5
    sample = cnnzoo.load_data("fashion_mnist_sample")
    for loop in loops:
        accuracy, difference = numbers(loop, out)
        assert difference < 1e-4 and accuracy == pytest.approx(plain, abs=0.003)
        saved = cnnzoo.load(tmp_path / "runs" / "loops" / f"{loop}.safetensors")
        assert cnnzoo.evaluate(saved, sample).top1 == pytest.approx(accuracy, abs=0.003)
        assert cnnzoo.predict(saved, sample.test.images[0]).label in sample.classes


@pytest.mark.slow
def test_own_models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Installed, the package's model is registered in a new process; its file is loaded without the package."""
    pytest.importorskip("setuptools", minversion="77", reason="the package is built offline")
    source, site = tmp_path / "own_models", tmp_path / "site"
    shutil.copytree(EXAMPLES / "own_models", source, ignore=shutil.ignore_patterns("*.egg-info", "build"))
    install = [sys.executable, "-m", "pip", "install", "-q", "--no-build-isolation", "--no-deps", "--no-index"]
    process = subprocess.run([*install, "--target", str(site), str(source)], capture_output=True, text=True)
    assert process.returncode == 0, process.stderr
    script = tmp_path / "script.py"
    script.write_text(
        "import cnnzoo\n"
        "assert 'cifar10_quick' in cnnzoo.list_models()\n"
        "model = cnnzoo.create('cifar10_quick', seed=0)\n"
        "cnnzoo.create('cifar10_quick', num_classes=5, norm='batch', width=0.5)\n"
        "print(cnnzoo.count(model).params.total, cnnzoo.count(model).input_size)\n"
        f"cnnzoo.save(model, {str(tmp_path / 'own.safetensors')!r})\n"
    )
    with monkeypatch.context() as patched:
        patched.setenv("PYTHONPATH", str(site), prepend=":")
        process = subprocess.run([sys.executable, str(script)], capture_output=True, text=True)
        assert process.returncode == 0, process.stderr
    parameters = (3 * 25 + 1) * 32 + (32 * 25 + 1) * (32 + 64) + (64 * 4 * 4 + 1) * 64 + (64 + 1) * 10  # by hand
    assert process.stdout == f"{parameters} (1, 3, 32, 32)\n"
    assert "cifar10_quick" not in cnnzoo.list_models()
    assert cnnzoo.load(tmp_path / "own.safetensors").spec.name == "cifar10_quick"


def test_export_onnx(tmp_path: Path) -> None:
    pytest.importorskip("onnxscript", reason='pip install "cnnzoo[onnx]"')
    pytest.importorskip("onnxruntime", reason='pip install "cnnzoo[onnx]"')
    out = run_example("export_onnx.py", cwd=tmp_path)
    assert "same class for 100.00%" in out
    assert float(out.split()[-1]) < 1e-3
    torch_accuracy, onnx_accuracy = re.findall(r"(\d\d\.\d\d)% of 1,000 test images correct", out)
    assert torch_accuracy == onnx_accuracy and float(torch_accuracy) > 90
    assert "images ['batch', 1, 28, 28] -> scores ['batch', 10]" in out
    assert (tmp_path / "runs" / "lenet.onnx").stat().st_size < 300_000


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # of its event loop
def test_serving_with_fastapi(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for package in ("fastapi", "multipart", "uvicorn", "httpx"):
        pytest.importorskip(package)
    from fastapi.testclient import TestClient

    model = cnnzoo.create("lenet", pretrained=True)
    cnnzoo.save(model, tmp_path / "lenet.safetensors")
    image = cnnzoo.load_data("fashion_mnist_sample").test.images[0]
    to_pil_image(image).save(tmp_path / "shoe.png")
    make_app = runpy.run_path(str(EXAMPLES / "serve_fastapi.py"))["make_app"]
    client = TestClient(make_app(str(tmp_path / "lenet.safetensors")))
    answer = client.post("/predict", files={"image": (tmp_path / "shoe.png").read_bytes()})
    assert answer.json() == dict(cnnzoo.predict(model, tmp_path / "shoe.png").top())
    refused = client.post("/predict", files={"image": b"no picture"})
    assert refused.status_code == 422 and "cannot identify image" in refused.json()["detail"]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # of its event loop
def test_serving_with_gradio(tmp_path: Path) -> None:
    pytest.importorskip("gradio")
    cnnzoo.save(cnnzoo.create("lenet", pretrained=True), tmp_path / "lenet.safetensors")
    to_pil_image(cnnzoo.load_data("fashion_mnist_sample").test.images[0]).save(tmp_path / "shoe.png")
    make_page = runpy.run_path(str(EXAMPLES / "serve_gradio.py"))["make_page"]
    scores = make_page(str(tmp_path / "lenet.safetensors")).fn(str(tmp_path / "shoe.png"))
    assert scores == dict(cnnzoo.predict(cnnzoo.load(tmp_path / "lenet.safetensors"), tmp_path / "shoe.png").top())


# --- looking inside ---


def test_lenet5_codes(tmp_path: Path) -> None:
    out = run_example("lenet5_codes.py", "--images", "300", "--epochs", "1", cwd=tmp_path)
    assert "##.....  .##....  ##...##  ##...##  ##...##\n" in out  # of 5 to 9
    assert len(re.findall(r"is taken for .+, distance \d+\.\d\d$", out, flags=re.MULTILINE)) == 10
    assert (tmp_path / "lenet5_codes.png").stat().st_size > 10_000


def test_zeiler_fergus(tmp_path: Path) -> None:
    """The patches grow with the receptive fields."""
    arguments = ["--epochs", "1", "--width", "0.25", "--images", "300", "--maps", "3", "--layers", "conv1", "conv3"]
    out = run_example("zeiler_fergus.py", *arguments, "--out", "sheets", cwd=tmp_path)
    assert re.findall(r"^(conv\d): patches of (\d+) px, maps \d+, \d+, \d+$", out, flags=re.MULTILINE) == [
        ("conv1", "5"),
        ("conv3", "27"),
    ]
    assert sorted(file.name for file in (tmp_path / "sheets").iterdir()) == ["conv1.png", "conv3.png", "mistakes.png"]


@pytest.mark.filterwarnings("default")  # Captum's own
def test_explain_with_captum(tmp_path: Path) -> None:
    """The sums are the difference of the scores; torchvision's network is refused for its shared ReLU."""
    pytest.importorskip("captum", reason="captum is not installed")
    out = run_example("explain_with_captum.py", "--images", "500", "--epochs", "1", cwd=tmp_path)
    difference, deep_lift, gradients = (
        float(x) for x in re.findall(r"(?:scores|sum): *(-?[\d.]+)$", out, re.MULTILINE)
    )
    assert deep_lift == pytest.approx(difference, abs=2e-4)
    assert gradients == pytest.approx(difference, abs=0.02)
    assert float(re.search(r"occlusion, largest difference: (.+)", out)[1]) < 1e-5
    assert "DeepLift on torchvision's resnet18: A Module ReLU(inplace=True) was detected" in out
