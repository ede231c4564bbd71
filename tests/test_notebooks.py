"""What notebooks display: the HTML of each value, and a notebook that is executed."""

from __future__ import annotations

import base64
import re
from html.parser import HTMLParser
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch import nn

import cnnzoo
from cnnzoo.data import ImageData, Split, StreamData
from cnnzoo.html_parts import picture
from cnnzoo.prediction import Prediction
from cnnzoo.train import Run, SeedSweep

EVIL = '<script>alert("1")</script>'
ESCAPED = "&lt;script&gt;"
HISTORY = [
    {"epoch": i, "loss": 1 / i, "train_acc": 0.5 + 0.1 * i, "test_acc": 0.4 + 0.1 * i, "val_acc": None}
    for i in (1, 2, 3)
]
METRICS = {
    "loss": 0.3333, "train_acc": 0.8, "test_acc": 0.7, "examples_per_sec": 10.0, "wall_examples_per_sec": 9.0,
    "data_share": 0.1, "device": "cpu",
}  # fmt: skip


class Page(HTMLParser):
    """The tags of a fragment with their attributes, its text, and whether each tag is closed."""

    def __init__(self, fragment: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text, self._open = "", []
        self.feed(fragment)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in ("img", "path", "polyline", "polygon"):
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += f" {data}"

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def display(value: Any) -> Page:
    """Returns what a notebook displays, which has no script, no style sheet, and colors for light and dark pages."""
    fragment = value._repr_html_()
    page = Page(fragment)
    assert not {"script", "style", "link", "iframe"} & {tag for tag, _ in page.tags}
    assert not any(name.startswith("on") for _, attributes in page.tags for name in attributes)
    for _, attributes in page.tags:  # text is in the color of the page
        assert not re.search(
            r"(?<!-)color:#?(000|fff|black|white)|background:(#fff|white)", attributes.get("style") or ""
        )
    assert not re.search(r"https?://", fragment)
    return page


def images(n: int, classes: tuple[str, ...], channels: int = 1) -> ImageData:
    labels = torch.arange(n) % len(classes)
    pixels = (torch.arange(n).view(-1, 1, 1, 1) % 256).to(torch.uint8).expand(n, channels, 9, 7)
    return ImageData("stripes", Split(pixels, labels), Split(pixels[:3], labels[:3]), classes)


def run(path: Path | None = None) -> Run:
    return Run(path, HISTORY, METRICS, False, nn.Identity())


def test_specs() -> None:
    page = display(cnnzoo.get_spec("lenet"))
    assert "lenet" in page.text and "1x28x28 to 10 classes, 8 blocks" in page.text
    assert "Conv(6, 5, padding=2, activation='sigmoid')" in page.text and not page.all("details")
    page = display(cnnzoo.get_spec("googlenet"))
    assert page.all("details") and "Parallel of 4 branches, concat" in page.text and "inception3a/3x3" in page.text
    assert "? classes, 1 blocks" in display(cnnzoo.Spec("x", (1, 4, 4), (cnnzoo.blocks.Flatten(),))).text


def test_networks() -> None:
    model = cnnzoo.create("lenet", pretrained=True)
    model.features[0].requires_grad_(False)
    text = display(model).text
    for part in ("61,706, 156 of them frozen", "trained on fashion_mnist", "Ankle boot", "eval, float32 on cpu", "fc3"):
        assert part in text
    assert "weights new" in display(cnnzoo.create("lenet")).text


def test_predictions(tmp_path: Path) -> None:
    model = cnnzoo.create("lenet", pretrained=True)
    data = cnnzoo.load_data("fashion_mnist_sample")
    file = tmp_path / "a <b>.png"
    Image.fromarray(data.test.images[0, 0].numpy()).save(file)
    prediction = cnnzoo.predict(model, file)
    page = display(prediction)
    (image,) = page.all("img")
    assert (image["width"], image["height"]) == ("160", "160") and "pixelated" in str(image["style"])
    shares = [style for a in page.all("div") if "background" in (style := str(a.get("style")))]
    assert len(shares) == 5 and f"width:{prediction.top()[0][1]:.2%}" in shares[0]
    assert "a <b>.png" in page.text and prediction.label in page.text
    file.unlink()
    assert not display(prediction).all("img")
    evil = Prediction(torch.tensor([0.9, 0.1]), [EVIL, "b"])
    assert ESCAPED in evil._repr_html_() and EVIL in display(evil).text
    for given in (data.test.images[0], Image.fromarray(data.test.images[0, 0].numpy())):
        assert display(cnnzoo.predict(model, given)).all("img")


def test_evaluations_and_reports() -> None:
    evaluation = cnnzoo.train.Evaluation(0.5, None, 1.0, torch.eye(2).long(), 2, label_names=[EVIL, "b"])
    assert display(evaluation).text.index("top-1 0.5000") < display(evaluation).text.index("Confusion matrix")
    report = cnnzoo.count(nn.Sequential(nn.Linear(3, 3)), (1, 3), name=EVIL)
    comparison = cnnzoo.compare(report, "lenet", "alexnet")
    values = (evaluation, report, comparison, cnnzoo.diff("lenet", "lenet_caffe"), report.training_memory())
    for value in values:
        assert display(value).all("table")
    assert all(ESCAPED in value._repr_html_() for value in (evaluation, report, comparison))


def test_data() -> None:
    page = display(images(100, ("a", "b", EVIL)))
    assert "100 training, 3 test; 1x9x7, uint8" in page.text and "3 classes" in page.text
    assert len(page.all("img")) == 39 and all(image["alt"] in ("a", "b", EVIL) for image in page.all("img"))
    assert len(display(images(100, tuple(map(str, range(60))), 3)).all("img")) == 40
    many = images(5, ("a", "b"), 2)
    assert len(display(many).all("img")) == 5
    stream = StreamData("s", many.train, many.test, many.classes)
    assert len(display(stream).all("img")) == 5
    floats = [(torch.rand(4, 1, 8, 8), torch.zeros(4).long())]
    assert not display(StreamData("s", floats, floats, ("a", "b"))).all("img")


def test_runs_and_configs() -> None:
    page = display(run(Path("runs") / EVIL))
    assert len(page.all("svg")) == 2 and "test acc 0.700" in page.text
    assert len(page.all("polyline")) == 3 and not page.all("polygon")  # loss, test and train accuracy
    labels = [svg["aria-label"] for svg in page.all("svg")]
    assert labels == [
        "Training loss by epoch: training from 1 to 0.3333",
        "Accuracy by epoch: test from 0.5 to 0.7; training from 0.6 to 0.8",
    ]
    sweep = display(SeedSweep("lenet", (0, 1), (run(), run())))
    assert len(sweep.all("polygon")) == 3 and "2 seeds" in sweep.text
    assert not display(Run(None, [], {}, True, nn.Identity())).all("svg")
    page = display(cnnzoo.TrainConfig(lr=0.5, lr_multipliers={EVIL: 0.1}))
    assert "2 of" in page.text and len(page.all("table")) == 2 and len(page.all("details")) == 1
    assert len(display(cnnzoo.TrainConfig()).all("table")) == 1


def test_a_picture_is_small_and_sharp() -> None:
    def opened(fragment: str) -> Image.Image:
        return Image.open(BytesIO(base64.b64decode(fragment.split("base64,")[1].split('"')[0])))

    small = torch.tensor([[[0, 255], [7, 9]]], dtype=torch.uint8)
    image = opened(picture(small, 50))
    assert image.size == (2, 2) and image.tobytes() == bytes([0, 255, 7, 9])
    large = picture(torch.zeros(3, 500, 1000, dtype=torch.uint8), 50, "x")
    assert opened(large).size == (100, 50) and 'width="50" height="25"' in large and "pixelated" not in large


CELLS = """
import cnnzoo, torch
data = cnnzoo.load_data("fashion_mnist_sample")
--
data
--
config = cnnzoo.TrainConfig(epochs=2, batch_size=500, val_size=5000)
run = cnnzoo.Trainer(cnnzoo.create("lenet", seed=0), data, config).fit()
--
run
--
cnnzoo.predict(run.model, data.test.images[0])
"""


def test_a_notebook() -> None:
    """Curves appear while a network is trained, without matplotlib; values are displayed as HTML."""
    nbclient, nbformat = pytest.importorskip("nbclient"), pytest.importorskip("nbformat")
    pytest.importorskip("ipykernel")
    cells = [nbformat.v4.new_code_cell(cell.strip()) for cell in CELLS.split("--\n")]
    notebook = nbformat.v4.new_notebook(cells=cells)
    nbclient.NotebookClient(notebook, timeout=120, kernel_name="python3").execute()
    outputs = [[(output.output_type, output.get("data", {})) for output in cell.outputs] for cell in notebook.cells]
    assert outputs[0] == []
    kinds, displayed = zip(*(output for cell in outputs for output in cell), strict=True)
    assert kinds == ("execute_result", "display_data", "execute_result", "execute_result")
    for data, tag in zip(displayed, ("img", "svg", "svg", "img"), strict=True):
        assert f"<{tag} " in data["text/html"]
    assert "lenet epoch 2/2: loss" in displayed[1]["text/html"]
