"""The interactive page: its numbers against torch's, its contract for tests, and use by mouse, finger and keyboard."""

from __future__ import annotations

import dataclasses
import itertools
import json
from base64 import b64decode, b64encode
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner
from PIL import Image

import cnnzoo
from browser import needs_browser
from cnnzoo.cli import main
from cnnzoo.live import choose_images
from cnnzoo.live.page import KINDS, MAX_PARAMS, engine
from cnnzoo.serialization import save_tensors
from specs import random_network, random_spec

playwright = pytest.importorskip("playwright.sync_api")
pytestmark = needs_browser

RUN = """
([file, input]) => {
  const network = Network.read(fromBase64(file).buffer);
  const { logits, outputs } = network.run(new Float32Array(fromBase64(input).buffer));
  const encode = (out) => {
    const bytes = new Uint8Array(Float32Array.from(out).buffer);
    let text = "";
    for (let i = 0; i < bytes.length; i += 32768) text += String.fromCharCode(...bytes.subarray(i, i + 32768));
    return btoa(text);
  };
  return {
    logits,
    params: network.params,
    macs: network.macs,
    blocks: [...outputs].map(([label, out]) => [label, network.find(label).outShape, encode(out)]),
    code: network.blocks.map((block) => block.code),
  };
}
"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as running:
        browser = running.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def scripts(browser: Any) -> Any:
    """A page that holds the engine alone."""
    page = browser.new_page()
    page.set_content(f"<script>{engine()}</script>")
    return page


def run_in_browser(scripts: Any, file: Path, x: torch.Tensor) -> dict[str, Any]:
    arguments = [b64encode(content).decode() for content in (file.read_bytes(), x.numpy().tobytes())]
    result: dict[str, Any] = scripts.evaluate(RUN, arguments)
    return result


def require_equal(result: dict[str, Any], model: cnnzoo.CNN, x: torch.Tensor) -> None:
    """Every block has torch's shape and torch's numbers, to 1e-4 of the largest."""
    labels = [label for label, _ in model.spec.blocks()]
    assert {label for label, _, _ in result["blocks"]} == set(labels)
    with torch.inference_mode():
        expected = cnnzoo.features(model, labels, x)
    for label, shape, encoded in result["blocks"]:
        out = torch.frombuffer(bytearray(b64decode(encoded)), dtype=torch.float32)
        assert tuple(shape) == tuple(expected[label].shape[1:]), label
        reference = expected[label].flatten()
        error = float((out - reference).abs().max() / reference.abs().max().clamp(min=1e-6))
        assert error < 1e-4, (label, error)
    with torch.inference_mode():
        assert torch.allclose(torch.tensor(result["logits"], dtype=torch.float32), model(x)[0], rtol=1e-4, atol=1e-5)


def compare_random(scripts: Any, folder: Path, seed: int) -> set[str]:
    spec = random_spec(seed)
    model = random_network(spec, seed)
    x = torch.randn(1, *spec.input, generator=torch.Generator().manual_seed(seed))
    file = cnnzoo.save(model, folder / f"{seed}.safetensors")
    result = run_in_browser(scripts, file, x)
    require_equal(result, model, x)
    report = cnnzoo.count(model)
    assert result["params"] == report.params.total
    assert result["macs"] == report.macs
    return {type(block).__name__ for _, block in spec.blocks()}


def test_random_specs(scripts: Any, tmp_path: Path) -> None:
    for seed in range(8):
        compare_random(scripts, tmp_path, seed)


@pytest.mark.slow
def test_many_random_specs(scripts: Any, tmp_path: Path) -> None:
    kinds = set[str]().union(*(compare_random(scripts, tmp_path, seed) for seed in range(100, 400)))
    assert kinds == set(KINDS)


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in cnnzoo.list_models() if cnnzoo.count(name).params.total < MAX_PARAMS])
def test_registered_networks(scripts: Any, tmp_path: Path, name: str) -> None:
    model = random_network(cnnzoo.get_spec(name), 0)
    x = torch.randn(1, *model.spec.input, generator=torch.Generator().manual_seed(0))
    require_equal(run_in_browser(scripts, cnnzoo.save(model, tmp_path / "net.safetensors"), x), model, x)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_dtypes(scripts: Any, tmp_path: Path, dtype: torch.dtype) -> None:
    model = cnnzoo.create("lenet", pretrained=True, dtype=dtype)
    x = torch.randn(1, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    result = run_in_browser(scripts, cnnzoo.save(model, tmp_path / "net.safetensors"), x)
    require_equal(result, model.float(), x)


def test_shapes_and_costs_of_every_network(scripts: Any) -> None:
    """Without weights: shapes, parameters, MACs and receptive fields are those of ``count``."""
    specs = [cnnzoo.get_spec(name) for name in cnnzoo.list_models()]
    results = scripts.evaluate(
        """(specs) => specs.map((spec) => {
          const network = new Network({ cnnzoo: { spec } }, null);
          const rows = network.blocks.map((block) => [block.label, block.outShape, network.fieldSize(block)]);
          return [network.params, network.macs, rows];
        })""",
        [spec.to_dict() for spec in specs],
    )
    for spec, (params, macs, rows) in zip(specs, results, strict=True):
        report = cnnzoo.count(spec)
        assert (params, macs) == (report.params.total, report.macs)
        last = {layer.label.partition("/")[0]: layer for layer in report.layers}
        for label, shape, field in rows:
            layer = last[label]
            assert tuple(shape) == tuple(layer.out_shape[1:]), (spec.name, label)
            expected = layer.receptive_field
            assert field == list(expected if isinstance(expected, tuple) else (expected, expected)), (spec.name, label)


def test_lines_of_code(scripts: Any, tmp_path: Path) -> None:
    """The line of code of each block builds that block."""
    spec = random_spec(3)
    model = random_network(spec, 3)
    result = run_in_browser(scripts, cnnzoo.save(model, tmp_path / "net.safetensors"), torch.zeros(1, *spec.input))
    names = {kind: getattr(cnnzoo.blocks, kind) for kind in KINDS}
    blocks = [eval(code, names) for code in result["code"] if "items>" not in code]
    assert len(blocks) > 3
    rebuilt = {repr(block) for block in blocks}
    assert rebuilt <= {repr(block) for block in (*spec.features, *spec.classifier)}


def test_preprocessing(scripts: Any) -> None:
    """Pictures of any size become the input that ``Preprocessing.apply`` gives."""
    generator = torch.Generator().manual_seed(0)
    cases = []
    for number, (crop_mode, interpolation, channels) in enumerate(
        itertools.product(("squash", "center", "border"), ("bilinear", "bicubic"), (1, 3))
    ):
        height, width = ((13, 40), (57, 28), (28, 28), (9, 300), (90, 64))[number % 5]
        preprocessing = cnnzoo.Preprocessing(
            (28, 24), [0.3] * channels, [0.2] * channels, crop_mode, (1.0, 0.875)[number % 2], interpolation
        )
        if number % 3 == 0:
            preprocessing = preprocessing.replace(decoding=cnnzoo.data.Decoding(image_size=32))
        cases.append((preprocessing, torch.randint(0, 256, (1 + 2 * (number % 2), height, width), generator=generator)))
    for preprocessing, image in cases:
        config = preprocessing.to_dict()
        description = {"pretrained_cfg": config, "cnnzoo": {"decoding": config["decoding"]}}
        result = scripts.evaluate(
            """([description, channels, height, width, data]) => Array.from(
              new Preprocessing(description).apply({ channels, height, width, data: Uint8Array.from(data) }))""",
            [description, *image.shape, image.flatten().tolist()],
        )
        expected = preprocessing.apply(image.to(torch.uint8)[None])
        assert torch.equal(torch.tensor(result).view_as(expected), expected), preprocessing


# --- the page in use ---


@pytest.fixture(scope="module")
def lenet_page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = cnnzoo.live("lenet", tmp_path_factory.mktemp("live") / "lenet.html")
    assert isinstance(path, Path)
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
    page.wait_for_function("(image) => JSON.parse(document.getElementById('state').textContent).image === image", arg=image)
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


def test_test_images(lenet_page: Path) -> None:
    model, data = cnnzoo.create("lenet", pretrained=True), cnnzoo.load_data("fashion_mnist_sample")
    chosen = choose_images(model, data, "lenet")
    assert len(chosen.images) == 20 and len(chosen.wrong) == 5
    answers = [cnnzoo.predict(model, image).label for image in chosen.images]
    wrong = [i for i, (a, b) in enumerate(zip(answers, chosen.labels, strict=True)) if a != b]
    assert wrong == chosen.wrong
    assert torch.equal(chosen.images[:8], data.test.images[:8])
    by_class = data.test[data.test.labels.argsort(stable=True)]
    mixed = choose_images(model, dataclasses.replace(data, test=by_class), "lenet")
    assert len(set(mixed.labels)) == 10
    assert lenet_page.stat().st_size < 500_000


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
    assert "14 × 14 px of the picture" in text
    model, data = cnnzoo.create("lenet", pretrained=True), cnnzoo.load_data("fashion_mnist_sample")
    x = model.metadata.preprocessing.apply(data.test.images[7:8])
    with torch.inference_mode():
        value = float(cnnzoo.features(model, "conv2", x)["conv2"][0, 1, 1, 2])
    assert page.evaluate("(v) => number(v)", value) in page.locator("#inspector h3 b").first.inner_text()
    assert page.locator(".numbers").count() == 3
    assert "(14 − 5) / 1" in text and "2,416" in text and "240,000" in text
    assert "Conv(16, kernel_size=5, activation=\"sigmoid\")" in text
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
    for seed in (3, 5, 8):
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
        "damaged.safetensors": (content[:-9] + bytes(1) + content[-8:], "damaged: its weights do not have the checksum"),
        "text.safetensors": (b"no weights at all", "not a complete safetensors file"),
        "notes.txt": (b"hello", "neither a picture nor a .safetensors file"),
        "bad.png": (b"hello", "damaged, or of a format that your browser cannot read"),
    }
    for name, (wrong, message) in bad.items():
        (tmp_path / name).write_bytes(wrong)
        page.set_input_files("#file", tmp_path / name)
        page.wait_for_function("(name) => document.getElementById('message').textContent.startsWith(name)", arg=f"{name}: ")
        assert message in page.locator("#message").inner_text()
    assert state_of(page) == state

    page.set_input_files("#file", other)
    page.get_by_role("button", name="lenet5_1998").wait_for()
    assert page.locator("#message").is_hidden()
    page.evaluate("location.hash = '#image=0'")
    state = wait_for_image(page, 0)
    assert list(state["blocks"])[0] == "C1"
    page.get_by_role("button", name="lenet", exact=True).click()
    assert state_of(page) == before


def test_unknown_block_and_size(scripts: Any, tmp_path: Path) -> None:
    def message(description: dict[str, Any], tensors: str = "null") -> str:
        code = f"(description) => {{ try {{ new Network(description, {tensors}); return ''; }} catch (e) {{ return e.message; }} }}"
        return str(scripts.evaluate(code, description))

    spec = cnnzoo.get_spec("lenet").to_dict()
    blocks = spec["features"]
    for change, expected in (
        ({"block": "Swirl"}, "Block conv1 is a Swirl, a kind that this page does not know."),
        ({"activation": "mish"}, "Block conv1 has the activation mish, which this page does not know."),
        ({"norm": "spectral"}, "Block conv1 has the norm spectral, which this page does not know."),
        ({"kernel_size": 40}, "Block conv1 cannot take an input of (1, 28, 28): its output would be empty."),
    ):
        changed = {**spec, "features": [{**blocks[0], **change}, *blocks[1:]]}
        assert message({"cnnzoo": {"spec": changed}}) == expected
    file = tmp_path / "large.safetensors"
    save_tensors(file, {"weight": torch.zeros(MAX_PARAMS + 1, dtype=torch.int8)}, {})
    with pytest.raises(playwright.Error, match="8,388,609 weights; networks of up to 8,388,608 run in this page"):
        run_in_browser(scripts, file, torch.zeros(1))


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
        assert torch.allclose(torch.tensor(state_of(page)["logits"]), model(torch.ones(1, 3, 96, 96))[0], rtol=1e-4, atol=1e-5)


def test_page_without_weights(open_page: Any, tmp_path: Path) -> None:
    page = open_page(cnnzoo.live("alexnet", tmp_path / "page.html"))
    assert page.get_by_role("img", name="lenet: conv1 6 maps").count() == 1
    page.get_by_role("button", name="conv2").click()
    text = page.locator("#inspector").inner_text()
    assert "615K" not in text and "614,656" in text and "44.3 %" in text and "51 × 51 px" in text
    page.locator('.block[data-label="conv2"] .stage').click(position={"x": 5, "y": 5})
    assert "px of the picture" in page.locator("#inspector").inner_text()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_accessibility(open_page: Any, lenet_page: Path, scheme: str, width: int) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    page = open_page(lenet_page, viewport={"width": width, "height": 844}, color_scheme=scheme)
    wait_for_image(page, 0)
    for _ in range(2):
        violations = axe.run(page).response["violations"]
        assert [(one["id"], [node["html"][:200] for node in one["nodes"]]) for one in violations] == []
        page.locator('.block[data-label="conv2"] .stage').click(position={"x": 10, "y": 10})


# --- Python and the command line ---


def test_errors(tmp_path: Path) -> None:
    path = tmp_path / "page.html"
    path.touch()
    for arguments, message in (
        (("lenet", path), "exists already; name another file, or pass overwrite=True"),
        ((cnnzoo.create("resnet18", device="cpu"),), "resnet18 has 11,689,512 parameters; a page runs networks of up to"),
        ((torch.nn.Linear(2, 2),), "a page runs networks of cnnzoo, whose blocks are known, not Linear"),
        (("alexnett",), "unknown model 'alexnett'"),
        ((3,), "expected an nn.Module, a path or a name; got int"),
    ):
        with pytest.raises(cnnzoo.CnnzooError, match=message):
            cnnzoo.live(*arguments)
    with pytest.raises(cnnzoo.CnnzooError, match="alexnet has no weights, and classifies no images; leave out data="):
        cnnzoo.live("alexnet", data="fashion_mnist_sample")
    with pytest.raises(cnnzoo.CnnzooError, match="checkpoints must be the same network"):
        cnnzoo.live("lenet", checkpoints=["lenet5_1998"])


def test_notebook() -> None:
    page = cnnzoo.live("lenet")
    assert str(page).startswith("<!DOCTYPE html>")
    assert page._repr_html_().startswith("<iframe") and "&lt;!DOCTYPE html&gt;" in page._repr_html_()


def test_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    run = CliRunner().invoke(main, ["live", "lenet5_1998", "-o", "page.html", "--beside", "lenet"])
    assert (run.exit_code, run.output) == (0, "page.html\n")
    run = CliRunner().invoke(main, ["live", "lenet", "-o", "page.html"])
    assert run.exit_code == 1 and "page.html exists already" in run.output
    run = CliRunner().invoke(main, ["live", "lenet"])
    assert run.exit_code == 2 and "--out" in run.output
