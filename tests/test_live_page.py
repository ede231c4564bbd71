"""The interactive page in use: by mouse, finger and keyboard, without a network connection."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from browser import needs_browser, open_chromium
from PIL import Image
from specs import random_network, random_spec

import cnnzoo

pytestmark = needs_browser


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with open_chromium() as browser:
        yield browser


@pytest.fixture(scope="module")
def lenet_page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = cnnzoo.live("lenet", tmp_path_factory.mktemp("live") / "lenet.html")
    assert isinstance(path, Path) and path.stat().st_size < 500_000
    return path


@pytest.fixture
def open_page(browser: Any) -> Iterator[Any]:
    """Opens a page without a network connection; the test fails if the page reports an error or asks for a file."""
    contexts, problems = [], []

    def open_(path: Path, address: str = "", **options: Any) -> Any:
        context = browser.new_context(offline=True, **options)
        contexts.append(context)
        page = context.new_page()
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on("console", lambda message: problems.append(message.text) if message.type != "log" else None)
        page.on("request", lambda request: problems.append(request.url) if not _is_local(request.url) else None)
        page.goto(path.as_uri() + address)
        return page

    yield open_
    for context in contexts:
        context.close()
    assert problems == []


def _is_local(url: str) -> bool:
    return url.startswith(("file:", "data:", "blob:"))


def state_of(page: Any) -> dict[str, Any]:
    state: dict[str, Any] = json.loads(page.locator("#state").text_content())
    return state


def wait_for_image(page: Any, image: int | str) -> dict[str, Any]:
    page.wait_for_function(
        "(image) => JSON.parse(document.getElementById('state').textContent).image === image", arg=image
    )
    return state_of(page)


def test_state(open_page: Any, lenet_page: Path) -> None:
    page = open_page(lenet_page, "#image=7")
    model = cnnzoo.create("lenet", pretrained=True)
    data = cnnzoo.load_data("fashion_mnist_sample")
    state = wait_for_image(page, 7)
    assert set(state) == {"image", "logits", "label", "blocks"}
    x = model.metadata.preprocessing.apply(data.test.images[7:8])
    with torch.inference_mode():
        logits, outs = model(x)[0], cnnzoo.features(model, [label for label, _ in model.spec.blocks()], x)
    assert torch.allclose(torch.tensor(state["logits"]), logits, rtol=1e-4, atol=1e-5)
    assert state["label"] == cnnzoo.predict(model, data.test.images[7]).label
    assert list(state["blocks"]) == list(outs)
    for label, block in state["blocks"].items():
        assert block["shape"] == list(outs[label].shape[1:])
        assert block["mean"] == pytest.approx(float(outs[label].mean()), rel=1e-4, abs=1e-6)
        assert block["max"] == pytest.approx(float(outs[label].max()), rel=1e-4)
    logits = page.evaluate("(x) => window.cnnzoo.run(new Float32Array(x))", x.flatten().tolist())
    assert logits == pytest.approx(state["logits"], rel=1e-5)
    page.evaluate("location.hash = '#image=3'")
    assert wait_for_image(page, 3)["logits"] != state["logits"]


def test_pad(open_page: Any, lenet_page: Path) -> None:
    page = open_page(lenet_page)
    before = wait_for_image(page, 0)
    page.get_by_role("button", name="Clear the pad").click()
    empty = wait_for_image(page, "drawn")
    box = page.locator("#pad").bounding_box()
    page.mouse.move(box["x"] + 60, box["y"] + 60)
    page.mouse.down()
    page.mouse.move(box["x"] + 150, box["y"] + 150, steps=5)
    page.mouse.up()
    drawn = state_of(page)
    assert len({json.dumps(state["logits"]) for state in (before, empty, drawn)}) == 3
    results = []
    for name in ("Swap light and dark", "Add random noise", "Shift left", "Shift down", "Rotate left"):
        page.get_by_role("button", name=name).click()
        results.append(json.dumps(state_of(page)["logits"]))
    page.locator("#pad").focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("i")
    assert len({*results, json.dumps(state_of(page)["logits"])}) == 6
    page.keyboard.press("Delete")
    assert state_of(page) == empty


def test_units(open_page: Any, lenet_page: Path) -> None:
    """A unit by mouse and keyboard: its number as torch computes it, step by step."""
    page = open_page(lenet_page, "#image=7")
    state = wait_for_image(page, 7)
    stage = page.locator('.block[data-label="conv2"] .stage')
    stage.focus()
    for key in ("Enter", "PageDown", "ArrowDown", "ArrowRight", "ArrowRight"):
        page.keyboard.press(key)
    text = page.locator("#inspector").inner_text()
    assert "Map 1, row 1, column 2" in text
    assert "14 \u00d7 14 px of the picture" in text
    model, data = cnnzoo.create("lenet", pretrained=True), cnnzoo.load_data("fashion_mnist_sample")
    x = model.metadata.preprocessing.apply(data.test.images[7:8])
    with torch.inference_mode():
        value = float(cnnzoo.features(model, "conv2", x)["conv2"][0, 1, 1, 2])
    assert page.evaluate("(v) => number(v)", value) in page.locator("#inspector h3 b").first.inner_text()
    assert page.locator(".numbers").count() == 3
    assert "(14 \u2212 5) / 1" in text and "2,416" in text and "240,000" in text
    assert 'Conv(16, kernel_size=5, activation="sigmoid")' in text
    page.get_by_role("button", name="Switch map 1 off").click()
    assert state_of(page)["blocks"]["conv2"]["mean"] < state["blocks"]["conv2"]["mean"]
    page.get_by_role("button", name="Switch map 1 on again").click()
    assert state_of(page) == state
    page.keyboard.press("Escape")
    page.keyboard.press("Escape")
    assert "How to read this page" in page.locator("#inspector").inner_text()
    stage.hover(position={"x": 10, "y": 10})
    assert "Map 0, row" in page.locator("#inspector").inner_text()


def test_every_block_can_be_inspected(open_page: Any, tmp_path: Path) -> None:
    """Also inside parallel paths, for blocks of all kinds."""
    for seed in (3, 5):
        model = random_network(random_spec(seed), seed)
        page = open_page(cnnzoo.live(model, tmp_path / f"{seed}.html"))
        wait_for_image(page, "drawn")
        page.evaluate(
            """() => {
              for (const block of active().network.all()) {
                select(block.label);
                const [c, height = 1, width = 1] = block.outShape;
                setUnit({ label: block.label, c: c - 1, y: height - 1, x: width >> 1 }, true);
              }
            }"""
        )
        assert page.locator("#inspector h3").first.inner_text()


def test_files(open_page: Any, lenet_page: Path, tmp_path: Path) -> None:
    """A picture gets the answer of ``predict``; a network runs; anything else is named in one sentence."""
    page = open_page(lenet_page)
    before = wait_for_image(page, 0)
    picture = tmp_path / "photo.png"
    pixels = torch.randint(0, 256, (50, 70, 3), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    Image.fromarray(pixels.numpy()).save(picture)
    page.set_input_files("#file", picture)
    state = wait_for_image(page, "drawn")
    model = cnnzoo.create("lenet", pretrained=True)
    with torch.inference_mode():
        logits = model(model.metadata.preprocessing(str(picture))[None])[0]
    assert torch.allclose(torch.tensor(state["logits"]), logits, rtol=1e-4, atol=1e-5)

    other = cnnzoo.save(cnnzoo.create("lenet5_1998", pretrained=True), tmp_path / "other.safetensors")
    content = other.read_bytes()
    bad = {
        "cut.safetensors": (content[:-100], "it ends before tensor"),
        "damaged.safetensors": (
            content[:-9] + bytes(1) + content[-8:],
            "damaged: its weights do not have the checksum",
        ),
        "text.safetensors": (b"no weights at all", "not a complete safetensors file"),
        "notes.txt": (b"hello", "neither a picture nor a .safetensors file"),
        "bad.png": (b"hello", "damaged, or of a format that your browser cannot read"),
    }
    for name, (wrong, message) in bad.items():
        (tmp_path / name).write_bytes(wrong)
        page.set_input_files("#file", tmp_path / name)
        page.wait_for_function(
            "(name) => document.getElementById('message').textContent.startsWith(name)", arg=f"{name}: "
        )
        assert message in page.locator("#message").inner_text()
    assert state_of(page) == state

    page.set_input_files("#file", other)
    page.get_by_role("button", name="lenet5_1998").wait_for()
    assert page.locator("#message").is_hidden()
    page.evaluate("location.hash = '#image=0'")
    state = wait_for_image(page, 0)
    assert next(iter(state["blocks"])) == "C1"
    page.get_by_role("button", name="lenet", exact=True).click()
    assert state_of(page) == before


def test_phone(open_page: Any, lenet_page: Path) -> None:
    page = open_page(lenet_page, viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True)
    wait_for_image(page, 0)
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    page.get_by_role("button", name="Test image 4").tap()
    wait_for_image(page, 4)
    page.locator('.block[data-label="conv1"] .stage').tap(position={"x": 20, "y": 20})
    assert "Map 0, row" in page.locator("#inspector").inner_text()
    page.get_by_role("button", name="Close the inspector").tap()
    assert page.locator("#inspector").is_hidden()


def test_other_weights(open_page: Any, tmp_path: Path) -> None:
    """Random weights, a slider over checkpoints, and another network beside."""
    early = cnnzoo.save(cnnzoo.create("lenet", seed=0), tmp_path / "epoch-1.safetensors")
    page = open_page(cnnzoo.live("lenet", tmp_path / "page.html", checkpoints=[early], beside="lenet5_1998"))
    trained = wait_for_image(page, 0)
    assert "Thin bars: lenet5_1998." in page.locator(".bars").inner_text()
    page.get_by_label("random weights").check()
    random = state_of(page)
    page.get_by_label("random weights").uncheck()
    assert state_of(page) == trained != random
    page.get_by_label("Point in the training").fill("0")
    assert "epoch-1" in page.locator(".training").inner_text()
    x = cnnzoo.transforms("lenet")(cnnzoo.load_data("fashion_mnist_sample").test.images[0])
    with torch.inference_mode():
        logits = cnnzoo.load(early).eval()(x[None])[0]
    assert torch.allclose(torch.tensor(state_of(page)["logits"]), logits, rtol=1e-4, atol=1e-5)


def test_worker(open_page: Any, tmp_path: Path) -> None:
    """A network that is not small runs beside the page, also while pictures change."""
    model = cnnzoo.create("squeezenet1_1(image_size=96, num_classes=4)", seed=0).eval()
    page = open_page(cnnzoo.live(model, tmp_path / "page.html"))
    wait_for_image(page, "drawn")
    assert page.evaluate("worker instanceof Worker")
    page.get_by_role("button", name="Swap light and dark").click()
    page.wait_for_function("app.entries[0].result.crop.data[0] === 255")
    with torch.inference_mode():
        assert torch.allclose(
            torch.tensor(state_of(page)["logits"]), model(torch.ones(1, 3, 96, 96))[0], rtol=1e-4, atol=1e-5
        )


def test_page_without_weights(open_page: Any, tmp_path: Path) -> None:
    page = open_page(cnnzoo.live("alexnet", tmp_path / "page.html"))
    assert page.get_by_role("img", name="lenet: conv1 6 maps").count() == 1
    page.get_by_role("button", name="conv2").click()
    text = page.locator("#inspector").inner_text()
    assert "614,656" in text and "44.3 %" in text and "51 \u00d7 51 px" in text
    page.locator('.block[data-label="conv2"] .stage').click(position={"x": 5, "y": 5})
    assert "px of the picture" in page.locator("#inspector").inner_text()


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (390, "dark")])
def test_accessibility(open_page: Any, lenet_page: Path, width: int, scheme: str) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    page = open_page(lenet_page, viewport={"width": width, "height": 844}, color_scheme=scheme)
    wait_for_image(page, 0)
    for _ in range(2):
        violations = axe.run(page).response["violations"]
        assert [(one["id"], [node["html"][:200] for node in one["nodes"]]) for one in violations] == []
        page.locator('.block[data-label="conv2"] .stage').click(position={"x": 10, "y": 10})
