"""The interactive page: its numbers against torch's, its contract for tests, and use by mouse, finger and keyboard."""

from __future__ import annotations

import json
from base64 import b64decode, b64encode
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

import cnnzoo
from browser import needs_browser
from cnnzoo.live.page import engine
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
    fields: network.blocks.map((block) => network.fieldSize(block)),
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
    for seed in range(12):
        compare_random(scripts, tmp_path, seed)


@pytest.mark.slow
def test_many_random_specs(scripts: Any, tmp_path: Path) -> None:
    kinds = set[str]().union(*(compare_random(scripts, tmp_path, seed) for seed in range(100, 400)))
    from cnnzoo.live.page import KINDS

    assert kinds == set(KINDS)
