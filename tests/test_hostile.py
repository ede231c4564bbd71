"""Hostile descriptions and files: what reading them may cost, and what the errors say (see ``hostile.py``)."""

from __future__ import annotations

import gc
import gzip
import json
import os
import struct
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner
from fuzz import Peak, png_of
from hostile import ANSI, CONV, DENSE, FLATTEN, LOGITS, MAX_BYTES, MAX_SECONDS, block, corpus, generate, spec_of

import cnnzoo
from cnnzoo.blocks import RBF, Conv, Flatten
from cnnzoo.cli import main
from cnnzoo.data.idx import read_idx
from cnnzoo.errors import CnnzooError, DataError, FileError, InputError, SpecError, WeightsError
from cnnzoo.files import read_json
from cnnzoo.knobs import parse_value
from cnnzoo.measure.tables import Table
from cnnzoo.network import CNN
from cnnzoo.serialization import iter_tensors
from cnnzoo.text import format_message, is_printable, parse_json
from cnnzoo.weights.description import build_from_description
from cnnzoo.weights.hub_errors import clean
from cnnzoo.weights.model_card import make_card

SLACK = 5.0  # factor of the CPU time: other tests run beside


def read(description: Any) -> tuple[CnnzooError | None, float, int]:
    """The error, if any, seconds of CPU time and bytes of memory of what ``load`` does with a description."""
    peak, start, error = Peak(), time.process_time(), None
    peak.reset()
    before = peak.read()
    try:
        with torch.device("meta"):
            build_from_description(description)
    except CnnzooError as refusal:
        error = refusal.with_traceback(None)
    return error, time.process_time() - start, peak.read() - before


def check(name: str, description: Any) -> None:
    error, seconds, memory = read(description)
    assert seconds < SLACK * MAX_SECONDS and memory < MAX_BYTES, f"{name}: {seconds:.2f} s, {memory:,} bytes"
    if error is not None:
        assert 0 < len(str(error)) <= 2000 and is_printable(str(error)), name


def test_small_hostile_descriptions_cost_little() -> None:
    cases = [(name, value) for name, value in corpus() if len(json.dumps(value)) < 20_000]
    assert len(cases) > 70
    for name, description in [*cases, *generate(20, seed=3)]:
        check(name, description)


@pytest.mark.slow
def test_hostile_descriptions_cost_little() -> None:
    for name, description in [*corpus(), *generate(300, seed=4)]:
        check(name, description)


@pytest.mark.slow
def test_memory_is_back_after_1000_hostile_descriptions() -> None:
    def resident() -> int:
        gc.collect()
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    for _, description in generate(300, seed=1):
        read(description)
    before = resident()
    for _, description in generate(1000, seed=2):
        read(description)
    assert resident() - before < 60_000_000
    for name, description in generate(1000, seed=2):
        check(name, description)


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        (spec_of(*[CONV] * 2501), "at most 2,500 blocks"),
        (spec_of(block("Parallel", paths=[[]] * 2501)), "2,500 paths and rows of tables"),
        (spec_of(*[block("Conv", out_channels=i + 1, kernel_size=1) for i in range(601)]), "more than 600 blocks"),
        (spec_of(block("AdaptiveAvgPool", output_size=2**24)), "more than the maximum of 2,147,483,648"),
        (spec_of({**CONV, "label": "x" * 201}), "label has at most 200 bytes"),
        (spec_of({**CONV, "label": ANSI}), "label must be a printable string"),
        (spec_of(CONV, name=ANSI), "must be usable as a folder's name"),
        (spec_of(CONV, name="é" * 101), "of at most 200 bytes"),
        (spec_of(CONV, name="\ud800"), "must be usable as a folder's name"),
    ],
)
def test_a_description_has_limits(spec: Any, says: str) -> None:
    with pytest.raises(SpecError, match=says), torch.device("meta"):
        CNN(cnnzoo.Spec.from_dict(spec))


def test_memory_is_limited_before_it_is_reserved() -> None:
    wide = block("Dense", out_features=2**24)
    spec = cnnzoo.Spec.from_dict(spec_of(FLATTEN, classifier=(wide, DENSE, wide, DENSE, wide, wide, LOGITS)))
    assert cnnzoo.count(spec).params.total > 2**40  # on the meta device
    with pytest.raises(SpecError, match="classifier would have more than 2,147,483,648 weights"):
        cnnzoo.create(spec)
    window = block("Subsample", kernel_size=4096, init="normal:0.1")
    with pytest.raises(SpecError, match="its initializer would draw 4,294,967,296 values"):
        cnnzoo.create(cnnzoo.Spec.from_dict(spec_of(window, input=(256, 4096, 4096))))


def test_a_wrong_image_size_is_still_explained() -> None:
    with pytest.raises(SpecError, match="needs images of at least 63 px"):
        cnnzoo.create("alexnet_owt", image_size=32)


# --- messages ---


def test_messages_are_printable_and_short() -> None:
    error = FileError(f"{ANSI}\n{'x' * 1_000_000} the end")
    assert len(str(error)) <= 2000 and is_printable(str(error)) and str(error).endswith("the end")
    assert "characters ...]" in str(error) and r"\x1b[31m" in str(error)
    assert format_message("a 犬 👩\u200d🚀") == "a 犬 👩\u200d🚀"
    assert format_message("\ud800\u202e") == r"\ud800\u202e"


def test_json_is_limited() -> None:
    for text, says in (
        (b"[" * 100_000, "is nested more than 200 deep"),
        ("[" * 201 + "]" * 201, "is nested more than 200 deep"),
        ("1" * 10_000, "is not valid JSON"),
        (b"\xff{}", "is not valid JSON"),
    ):
        with pytest.raises(ValueError, match=says):
            parse_json(text, 10**6)
    with pytest.raises(ValueError, match="has more than 10 bytes"):
        parse_json("[" * 11, 10)
    assert parse_json("[" * 200 + "]" * 200, 10**6)


def test_metadata_too_deep_to_be_read_are_not_saved(tmp_path: Path) -> None:
    model = cnnzoo.create("lenet")
    for _ in range(250):
        model.metadata = model.metadata.derive("mine")
    with pytest.raises(WeightsError, match="nested more than 200 deep"):
        cnnzoo.save(model, tmp_path / "m.safetensors")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", [ANSI, "a\nb", "\ud800", "\u202egpj", "x" * 1001])
def test_names_that_cannot_be_printed_are_refused(name: str) -> None:
    with pytest.raises(InputError, match="printable strings of at most 1000 characters"):
        cnnzoo.Metadata(label_names=["a", name])


def test_long_text_of_a_hub_is_cleaned_at_once() -> None:
    start = time.process_time()
    assert len(clean("x" * 1_000_000)) <= 1000 and "secret" not in clean("a secret" * 100_000, ["secret"])
    assert time.process_time() - start < SLACK * MAX_SECONDS


# --- buffers ---


def period_network() -> CNN:
    return cnnzoo.create(cnnzoo.Spec("p", (1, 4, 4), (Conv(2, 1), Flatten()), (RBF(("+-" * 16, "-+" * 16)),)), seed=0)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_buffers_that_are_not_stored_follow_the_weights(dtype: torch.dtype, tmp_path: Path) -> None:
    x = torch.rand(2, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    expected = period_network().eval()(x)
    cnnzoo.save(period_network().to(dtype), tmp_path / "m.safetensors")
    model = cnnzoo.load(tmp_path / "m.safetensors").eval()
    assert {t.dtype for t in (*model.parameters(), *model.buffers())} == {dtype}
    torch.testing.assert_close(model(x.to(dtype)).float(), expected, rtol=0.02, atol=0.1)
    single = cnnzoo.load(tmp_path / "m.safetensors", dtype=torch.float32)
    assert {t.dtype for t in (*single.parameters(), *single.buffers())} == {torch.float32}


def test_loading_does_not_depend_on_the_default_dtype_and_device(tmp_path: Path) -> None:
    cnnzoo.save(cnnzoo.create("lenet5_1998", seed=0), tmp_path / "m.safetensors")
    expected = cnnzoo.load(tmp_path / "m.safetensors")
    state = torch.get_rng_state()
    try:
        torch.set_default_dtype(torch.float64)
        with torch.device("meta"):
            model = cnnzoo.load(tmp_path / "m.safetensors")
    finally:
        torch.set_default_dtype(torch.float32)
    assert torch.equal(torch.get_rng_state(), state)
    buffers = dict(expected.named_buffers())
    assert all(torch.equal(value, buffers[name]) for name, value in model.named_buffers())
    assert {t.dtype for t in model.parameters()} == {torch.float32}


# --- files of data ---


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (
            gzip.compress(bytes([0, 0, 8, 3]) + struct.pack(">3I", 2**31, 1, 1) + bytes(10_000), mtime=0),
            "more than 100 times",
        ),
        (gzip.compress(bytes([0, 0, 8, 3]) + struct.pack(">3I", 2, 2, 2) + bytes(10**8), mtime=0), "but holds more"),
        (bytes([0, 0, 8, 3]) + struct.pack(">3I", 0, 28, 28), "it holds no images"),
        (bytes([0, 0, 8, 3]) + struct.pack(">3I", 2**32 - 1, 2**32 - 1, 2**32 - 1), "more than 100 times"),
        (bytes([0, 0, 8, 3]) + struct.pack(">3I", 2, 2, 2) + bytes(7), "= 8 bytes, but holds 7"),
    ],
    ids=["many, packed", "longer, packed", "none", "many", "shorter"],
)
def test_an_idx_file_is_bounded(content: bytes, says: str, tmp_path: Path) -> None:
    (tmp_path / "images").write_bytes(content)
    peak = Peak()
    peak.reset()
    before = peak.read()
    with pytest.raises(DataError, match=says):
        read_idx(tmp_path / "images", dims=3)
    assert peak.read() - before < 50_000_000


def test_an_image_that_would_take_gigabytes_is_refused(tmp_path: Path) -> None:
    preprocessing = cnnzoo.Preprocessing(8, [0.5], [0.25])
    (tmp_path / "x.png").write_bytes(png_of(5000, 5000, 1))
    peak = Peak()
    peak.reset()
    before = peak.read()
    with pytest.raises(DataError, match="it has 25,000,000 px in 2"):
        preprocessing(tmp_path / "x.png")
    assert peak.read() - before < 20_000_000
    with pytest.raises(InputError, match="more than the maximum of 16,777,216 px"):
        cnnzoo.Preprocessing(4096, [0.5], [0.25], crop_pct=0.9)


def test_a_file_cut_short_while_it_is_read_is_refused(tmp_path: Path) -> None:
    file = cnnzoo.save(cnnzoo.create("lenet", seed=0), tmp_path / "m.safetensors")
    tensors = iter_tensors(file, {})
    next(tensors)
    os.truncate(file, file.stat().st_size // 2)
    with pytest.raises(WeightsError, match="it became shorter while it was read"):
        list(tensors)


def test_only_regular_files_are_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "m.safetensors")
    os.mkfifo(tmp_path / "config.json")
    with pytest.raises(FileError, match="it is not a regular file"):
        cnnzoo.load(tmp_path / "m.safetensors")
    with pytest.raises(FileError, match="it is not a regular file"):
        read_json(tmp_path / "config.json")
    with pytest.raises(DataError, match="it is not a regular file"):
        cnnzoo.load_data(f"csv:{tmp_path / 'config.json'}")
    with pytest.raises(DataError, match="it is not a regular file"):
        read_idx(tmp_path / "config.json", dims=1)
    with pytest.raises(DataError, match="it is not a regular file"):
        cnnzoo.Preprocessing(8, [0.5], [0.25])(tmp_path / "m.safetensors")


@pytest.mark.parametrize("path", ["x" * 5000, "loop/x", "a\0b", "\ud800"], ids=["long", "loop", "null", "surrogate"])
def test_paths_that_cannot_exist(path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("loop").symlink_to("loop")
    model = cnnzoo.create("lenet", pretrained=True)
    calls = (
        lambda: cnnzoo.predict(model, path),
        lambda: cnnzoo.load_data("mnist", root=path, download=False),
        lambda: cnnzoo.load_data("cifar10", root=path, download=False),
        lambda: cnnzoo.load_data(f"folder:{path}"),
        lambda: cnnzoo.load(path),
        lambda: cnnzoo.save(model, path),
        lambda: cnnzoo.report(path),
        lambda: cnnzoo.Trainer.resume(path),
    )
    for call in calls:
        with pytest.raises(CnnzooError):
            call()
    result = CliRunner().invoke(main, ["train", path])
    assert result.exit_code == 1 and "error: " in result.output


# --- text for other programs ---


def test_formulas_are_neutralized_in_csv() -> None:
    rows = [["=1+1", 1], ["@SUM(A1)", 2], ["+cmd|' /C calc'!A0", -3], ["-12", "+3.5x"], ["a-b", 1.5]]
    assert Table("", ("name", "n"), rows).csv().splitlines()[1:] == [
        "'=1+1,1", "'@SUM(A1),2", "'+cmd|' /C calc'!A0,-3", "-12,+3.5x", "a-b,1.5",
    ]  # fmt: skip


def test_markup_is_escaped_in_a_model_card() -> None:
    model = cnnzoo.create("lenet", num_classes=2)
    model.metadata = cnnzoo.Metadata(
        ["<script>", "[x](javascript:y)"], provenance={"kind": "mine", "data": "**b**\n# heading \ud800"}
    )
    card = make_card(model, "0" * 64)
    assert "<script>" not in card and "[x](" not in card and "\n# heading" not in card
    assert card.encode()


def test_values_nested_without_end_are_text() -> None:
    assert parse_value("[" * 100_000) == "[" * 100_000
    with pytest.raises(SpecError, match="more than the maximum"):
        cnnzoo.get_spec("alexnet", width=1e308)
