"""The interactive page: its numbers against torch's; what Python puts into it, and refuses."""

from __future__ import annotations

import dataclasses
import itertools
from base64 import b64decode, b64encode
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from browser import needs_browser, open_chromium
from click.testing import CliRunner
from specs import random_network, random_spec

import cnnzoo
from cnnzoo.cli import main
from cnnzoo.live import choose_images
from cnnzoo.live.page import ACTIVATION_NAMES, KINDS, MAX_MACS, MAX_PARAMS, engine

pytestmark = needs_browser

SMALL = [name for name in cnnzoo.list_models() if cnnzoo.count(name).params.total < MAX_PARAMS]

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
    with open_chromium() as browser:
        yield browser


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
    for seed in range(5):
        compare_random(scripts, tmp_path, seed)


@pytest.mark.slow
def test_many_random_specs(scripts: Any, tmp_path: Path) -> None:
    kinds = set[str]().union(*(compare_random(scripts, tmp_path, seed) for seed in range(100, 400)))
    assert kinds == set(KINDS)


@pytest.mark.slow
@pytest.mark.parametrize("name", SMALL)
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


def test_python_knows_what_the_scripts_compute(scripts: Any) -> None:
    known = scripts.evaluate("[Object.keys(BUILDERS), Object.keys(ACTIVATIONS), MAX_PARAMS, MAX_MACS]")
    assert set(known[0]) == set(KINDS) and set(known[1]) == set(ACTIVATION_NAMES)
    assert known[2:] == [MAX_PARAMS, MAX_MACS]


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


def test_unknown_block_and_size(scripts: Any) -> None:
    def message(description: dict[str, Any]) -> str:
        code = "(description) => { try { new Network(description, null); } catch (error) { return error.message; } }"
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
    with pytest.raises(Exception, match="8,388,609 weights; networks of up to 8,388,608 run in this page"):
        scripts.evaluate(
            """(size) => {
              const entry = { dtype: "I8", shape: [size], data_offsets: [0, size] };
              const header = new TextEncoder().encode(JSON.stringify({ weight: entry }));
              const file = new Uint8Array(8 + header.length + size);
              new DataView(file.buffer).setBigUint64(0, BigInt(header.length), true);
              file.set(header, 8);
              readSafetensors(file.buffer);
            }""",
            MAX_PARAMS + 1,
        )


# --- Python and the command line ---


def test_test_images() -> None:
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


def test_errors(tmp_path: Path) -> None:
    path = tmp_path / "page.html"
    path.touch()
    for arguments, message in (
        (("lenet", path), "exists already; name another file, or pass overwrite=True"),
        (
            (cnnzoo.create("resnet18"),),
            "resnet18 has 11,689,512 parameters; a page runs networks of up to",
        ),
        ((torch.nn.Linear(2, 2),), "a page runs networks of cnnzoo, whose blocks are known, not Linear"),
        (("alexnett",), "unknown model 'alexnett'"),
        ((3,), "expected an nn.Module, a path or a name; got int"),
    ):
        with pytest.raises(cnnzoo.CnnzooError, match=message):
            cnnzoo.live(*arguments)
    with pytest.raises(cnnzoo.CnnzooError, match="alexnet has no weights, and classifies no images; leave out data="):
        cnnzoo.live("alexnet", data="fashion_mnist_sample")
    maps = cnnzoo.create(cnnzoo.Spec("maps", (1, 8, 8), (cnnzoo.blocks.Conv(2, 3),)))
    with pytest.raises(cnnzoo.CnnzooError, match=r"maps returns \(2, 6, 6\) for an image; a page needs one score"):
        cnnzoo.live(maps)
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
