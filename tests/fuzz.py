"""Damages every kind of file that cnnzoo reads, at random from a seed, and reads it.

python tests/fuzz.py --minutes 20 --seed 1
python tests/fuzz.py --cases 20000 --kinds weights,idx --seed 1
python tests/fuzz.py --only idx:17 --seed 1

Each file must be refused by a CnnzooError, whose message is at most 2,000 printable characters long, or be read to
exactly what it says: no other exception, at most a second of CPU time, and no more memory than the size of the files
and 50 MB (200 MB for Caffe models and ONNX files). What is printed per kind: cases, refused, read, failures, the
slowest case and the one with the most memory.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import io
import json
import os
import random
import shutil
import struct
import sys
import tempfile
import time
import warnings
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import caffe
import numpy as np
import onnx
import torch
from google.protobuf.message import DecodeError
from hostile import ANSI, NUMBERS, TEXTS, corpus, generate, good_description, mutate
from hub import LocalHub, _Handler
from PIL import Image

import cnnzoo
from cnnzoo.blocks import LRN, RBF, Conv, Dense, Flatten, Logits, MaxPool, Norm, Parallel, Subsample, TableConv
from cnnzoo.data import ImageData, Split
from cnnzoo.data.idx import IDX_FILES, read_idx_folder
from cnnzoo.files import read_json
from cnnzoo.serialization import load_tensors, read_header, weights_sha256
from cnnzoo.text import is_printable
from cnnzoo.weights.description import build_from_description

MAX_SECONDS = 1.0  # of CPU time for a case
MAX_MEMORY = 50_000_000  # bytes in addition to the files
MAX_MESSAGE = 2000  # characters

Files = dict[str, bytes]


# --- mutations ---


def flip(raw: bytes, rng: random.Random) -> bytes:
    """Flips some bits, anywhere or at the beginning."""
    changed = bytearray(raw)
    end = rng.choice((len(raw), min(len(raw), 200)))
    for _ in range(rng.choice((1, 1, 2, 8, 64)) if end else 0):
        changed[rng.randrange(end)] ^= 1 << rng.randrange(8)
    return bytes(changed)


def truncate(raw: bytes, rng: random.Random) -> bytes:
    """Cuts the file at any place or near an end, or adds bytes."""
    if rng.random() < 0.2 or not raw:
        return raw + rng.randbytes(rng.randrange(1, 100)) * rng.choice((1, 1, 1000))
    ends = rng.randrange(min(20, len(raw))), rng.randrange(len(raw)), max(0, len(raw) - rng.randrange(1, 20))
    return raw[: rng.choice(ends)]


def splice(raw: bytes, rng: random.Random) -> bytes:
    """Moves, repeats or overwrites a part of the file."""
    a, b, n = rng.randrange(len(raw) + 1), rng.randrange(len(raw) + 1), rng.choice((1, 4, 8, 50, 200))
    part = rng.choice((raw[b : b + n], bytes(n), b"\xff" * n, rng.randbytes(n)))
    return rng.choice((raw[:a] + part + raw[a:], raw[:a] + part + raw[a + n :], raw[:a] + raw[a + n :]))


def edit_text(raw: bytes, rng: random.Random) -> bytes:
    """Replaces, repeats or removes a line or a word of a text."""
    lines = raw.split(b"\n")
    i = rng.randrange(len(lines))
    words = lines[i].split(b",")
    hostile = rng.choice((*TEXTS, *map(str, NUMBERS), '"', "'", '"a\nb"', "../" * 20 + "etc/passwd"))
    words[rng.randrange(len(words))] = hostile.encode(errors=rng.choice(("surrogatepass", "replace")))
    changed = rng.choice(([b",".join(words)], [lines[i]] * rng.choice((2, 500)), []))
    return b"\n".join([*lines[:i], *changed, *lines[i + 1 :]])


def edit_json(raw: bytes, rng: random.Random) -> bytes:
    """Replaces values anywhere in a JSON text; it stays JSON, unless brackets are added."""
    value = json.loads(raw)
    for _ in range(rng.choice((1, 1, 1, 3))):
        mutate(value, rng)
    text = json.dumps(value)
    if rng.random() < 0.05:
        depth = rng.choice((10, 300, 100_000))
        text = text.replace(str(rng.randrange(10)), "[" * depth + "]" * depth, 1)
    return text.encode()


def edit_header(raw: bytes, rng: random.Random) -> bytes:
    """Replaces values in the header of a safetensors file, or in the metadata of cnnzoo in it."""
    (size,) = struct.unpack("<Q", raw[:8])
    header, data = json.loads(raw[8 : 8 + size]), raw[8 + size :]
    if rng.random() < 0.6:
        metadata = header["__metadata__"]
        metadata["cnnzoo"] = edit_json(metadata["cnnzoo"].encode(), rng).decode()
        text = json.dumps(header).encode()
    else:
        text = edit_json(json.dumps(header).encode(), rng)
    return struct.pack("<Q", len(text)) + text + data


def recompress(raw: bytes, rng: random.Random) -> bytes:
    """Damages what a gzipped file holds."""
    content = rng.choice((flip, truncate, splice))(gzip.decompress(raw), rng)
    return gzip.compress(content + bytes(rng.choice((0, 0, 10_000_000))), mtime=0)


BYTES = (flip, truncate, splice)


# --- networks and data of the files ---


def small_networks() -> Iterator[cnnzoo.CNN]:
    """Networks of a few hundred weights: a plain one, one of 1998, one with paths."""
    head = (Flatten(), Dense(12, activation="tanh"))
    paths = ((Conv(2, 3, padding=1, bias=False), Norm()), ())
    table = TableConv(((0, 1), (1,), (0, 1)), kernel_size=3)
    for name, features, classifier in (
        ("plain", (Conv(2, 3, activation="relu"), MaxPool(2)), (Flatten(), Logits(3))),
        ("period", (Conv(2, 3), Subsample(2), table, Conv(4, 1)), (*head, RBF(("+-" * 6, "-+" * 6, "++" * 6)))),
        ("paths", (Conv(2, 1), Parallel(paths, merge="add", activation="relu")), (*head, Logits(3))),
    ):
        model = cnnzoo.create(cnnzoo.Spec(name, (1, 8, 8), features, classifier), seed=0)
        model.metadata = model.metadata.replace(
            label_names=["a", "b", "c"], preprocessing=cnnzoo.Preprocessing(8, [0.5], [0.25])
        )
        yield model.eval()


def small_data() -> ImageData:
    """Images of 8 px of three classes."""
    images = torch.randint(256, (12, 1, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    split = Split(images, torch.arange(12) % 3)
    return ImageData("small", split, split, ("a", "b", "c"))


# --- kinds of files ---


class Kind:
    """Files of one kind.

    Args:
        folder: A folder for its originals.

    Attributes:
        name: The name.
        originals: Sets of undamaged files.
        maximum: Bytes that reading may take besides the files.
    """

    name: str
    originals: list[Files]
    maximum = MAX_MEMORY

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self.originals = list(self.make(folder))

    def make(self, folder: Path) -> Iterator[Files]:
        """Yields sets of undamaged files."""
        raise NotImplementedError

    def mutations(self, name: str) -> tuple[Callable[[bytes, random.Random], bytes], ...]:
        """The mutations of a file."""
        return (*BYTES, edit_json) if name.endswith(".json") else (*BYTES, edit_header, edit_header)

    def corpus(self) -> Iterator[Files]:
        """Yields files that once failed."""
        return iter(())

    def damage(self, rng: random.Random) -> Files:
        """Returns files of which one is damaged, or exchanged with that of another original."""
        files = dict(rng.choice(self.originals))
        name = rng.choice(sorted(files))
        if rng.random() < 0.1:
            files[name] = rng.choice(self.originals).get(name, b"")
        else:
            files[name] = rng.choice(self.mutations(name))(files[name], rng)
        return files

    def read(self, folder: Path, files: Files) -> None:
        """Reads files that lie in a folder; raises AssertionError if the result is not exactly what they say."""
        raise NotImplementedError


def require_equal(state: Mapping[str, torch.Tensor], file: Path) -> None:
    description = read_header(file)[1] or json.loads((file.parent / "config.json").read_bytes())
    expected = description["cnnzoo"]["weights_sha256"]
    assert weights_sha256(state) == expected, "other weights than those of the checksum"


class Weights(Kind):
    name = "weights"

    def make(self, folder: Path) -> Iterator[Files]:
        for model in small_networks():
            yield {"m.safetensors": cnnzoo.save(model, folder / f"{model.spec.name}.safetensors").read_bytes()}

    def corpus(self) -> Iterator[Files]:
        raw = self.originals[0]["m.safetensors"]
        for length in (0, 1, 7, 2**22 + 1, 2**40, 2**63, 2**64 - 1):
            yield {"m.safetensors": struct.pack("<Q", length) + raw[8:]}
        yield {"m.safetensors": b""}

    def read(self, folder: Path, files: Files) -> None:
        model = cnnzoo.load(folder / "m.safetensors")
        require_equal(model.state_dict(), folder / "m.safetensors")
        with torch.no_grad():
            assert model.eval()(torch.zeros(2, *model.spec.input)).shape[0] == 2


class Folder(Kind):
    name = "folder"

    def make(self, folder: Path) -> Iterator[Files]:
        for model in small_networks():
            path = cnnzoo.save(model, folder / model.spec.name)
            yield {file.name: file.read_bytes() for file in path.iterdir() if file.name != "README.md"}

    def read(self, folder: Path, files: Files) -> None:
        cnnzoo.weights.read_spec(folder)
        require_equal(cnnzoo.load(folder).state_dict(), folder / "model.safetensors")


class Config(Kind):
    name = "config"

    def make(self, folder: Path) -> Iterator[Files]:
        for model in small_networks():
            path = cnnzoo.save(model, folder / model.spec.name)
            yield {"config.json": (path / "config.json").read_bytes()}

    def damage(self, rng: random.Random) -> Files:
        if rng.random() < 0.5:
            return super().damage(rng)
        ((_, description),) = generate(1, rng.randrange(10**9))
        return {"config.json": json.dumps(description).encode()}

    def corpus(self) -> Iterator[Files]:
        for _, description in corpus():
            yield {"config.json": json.dumps(description).encode()}

    def read(self, folder: Path, files: Files) -> None:
        with torch.device("meta"):
            model = build_from_description(json.loads(files["config.json"])) if len(files) > 1 else None
        spec = cnnzoo.weights.read_spec(folder)
        assert model is None or model.spec == spec
        assert cnnzoo.Spec.from_json(spec.to_json()) == spec
        said = json.loads(files["config.json"])["cnnzoo"]["spec"]
        for section in ("features", "classifier"):
            _require_values(said[section], spec.to_dict()[section])
        assert spec.name == said["name"] and list(spec.input) == said["input"]


def _require_values(said: Any, read: Any) -> None:
    """Raises AssertionError if a block lost a value: all but defaults are in the JSON of the Spec."""
    assert len(said) == len(read)
    for one, other in zip(said, read, strict=True):
        assert one["block"] == other["block"]
        assert all(one[key] == value for key, value in other.items() if key in one and key != "paths")


class Recipe(Kind):
    name = "recipe"

    def make(self, folder: Path) -> Iterator[Files]:
        for config in (cnnzoo.TrainConfig(), cnnzoo.recipe("d2l/lenet"), cnnzoo.recipe("d2l/alexnet")):
            yield {"recipe.json": json.dumps(config.to_dict()).encode()}
            yield {"recipe.json": json.dumps({"config": config.to_dict()}).encode()}

    def mutations(self, name: str) -> tuple[Callable[[bytes, random.Random], bytes], ...]:
        return (edit_json, edit_json, edit_json, *BYTES)

    def read(self, folder: Path, files: Files) -> None:
        config = cnnzoo.recipe(str(folder / "recipe.json"))
        said = json.loads(files["recipe.json"])
        for name, value in said.get("config", said).items():
            read = config.to_dict()[name]
            exact = float(value) if isinstance(read, float) else value  # 10**40 becomes 1e40
            assert read == exact, f"{name} is {read!r}, not {value!r}"


class Stop(Exception):
    """The end of a run, before its first step."""


class StopAtStart(cnnzoo.train.Callback):
    def on_start(self, trainer: Any) -> None:
        raise Stop


class RunFolder(Kind):
    name = "run"
    data = small_data()

    def make(self, folder: Path) -> Iterator[Files]:
        settings = {"epochs": 1, "batch_size": 4, "keep_checkpoint": True, "optimizer": "adam", "device": "cpu"}
        for number, model in enumerate(small_networks()):
            config = cnnzoo.TrainConfig(**settings, seed=number, workers=0)
            run = cnnzoo.Trainer(model.train(), self.data, config, out=folder / str(number), show=False).fit()
            assert run.path is not None
            names = [path.name for path in run.path.iterdir() if path.name != "curves.png"]
            files = {name: (run.path / name).read_bytes() for name in names}
            yield {name: raw for name, raw in files.items() if not name.startswith(".")}

    def mutations(self, name: str) -> tuple[Callable[[bytes, random.Random], bytes], ...]:
        if name.endswith(".jsonl"):
            return (*BYTES, edit_text)
        return super().mutations(name)

    def read(self, folder: Path, files: Files) -> None:
        cnnzoo.report(folder, out=folder / "report.html")
        for name in ("metrics.json", "model.safetensors"):  # as if it had been killed
            (folder / name).unlink(missing_ok=True)
        with suppress(Stop):
            cnnzoo.Trainer.resume(folder, data=self.data, callbacks=[StopAtStart()], show=False).fit()


class Idx(Kind):
    name = "idx"

    def make(self, folder: Path) -> Iterator[Files]:
        data = small_data()
        for suffix in (".gz", ""):
            files = {}
            for file in IDX_FILES:
                tensor = data.train.images.squeeze(1) if "images" in file else data.train.labels
                header = bytes([0, 0, 8, tensor.dim()]) + struct.pack(f">{tensor.dim()}I", *tensor.shape)
                content = header + tensor.to(torch.uint8).numpy().tobytes()
                files[file + suffix] = gzip.compress(content, mtime=0) if suffix else content
            yield files

    def mutations(self, name: str) -> tuple[Callable[[bytes, random.Random], bytes], ...]:
        return (*BYTES, recompress, recompress) if name.endswith(".gz") else BYTES

    def corpus(self) -> Iterator[Files]:
        for shape in ((0, 8, 8), (2**32 - 1, 2**32 - 1, 2**32 - 1), (2**31, 1, 1), (12, 0, 8), (200_000_000, 1, 1)):
            header = bytes([0, 0, 8, 3]) + struct.pack(">3I", *shape)
            yield {**self.originals[1], IDX_FILES[0]: header}
            yield {**self.originals[0], f"{IDX_FILES[0]}.gz": gzip.compress(header + bytes(20_000_000), 9)}

    def read(self, folder: Path, files: Files) -> None:
        data = read_idx_folder("fuzz", folder, ("a", "b", "c"))
        for split, prefix in ((data.train, "train"), (data.test, "t10k")):
            for tensor, kind in ((split.images, "images-idx3"), (split.labels, "labels-idx1")):
                name = f"{prefix}-{kind}-ubyte"
                raw = files[name] if name in files else gzip.decompress(files[f"{name}.gz"])
                assert raw.endswith(tensor.to(torch.uint8).numpy().tobytes()), "other bytes than those of the file"


def encode(image: Image.Image, format: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, format, **options)
    return file.getvalue()


def small_image(seed: int, mode: str = "RGB", side: int = 12) -> Image.Image:
    pixels = random.Random(seed).randbytes(side * side * len(Image.new(mode, (1, 1)).getbands()))
    return Image.frombytes(mode, (side, side), pixels)


def png_of(width: int, height: int, channels: int = 3) -> bytes:
    """A PNG of zeros of any size, which takes a thousandth of its pixels in bytes."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    compressor, row = zlib.compressobj(9), bytes(1 + width * channels)
    content = b"".join((*(compressor.compress(row) for _ in range(height)), compressor.flush()))
    header = struct.pack(">IIBBBBB", width, height, 8, {1: 0, 3: 2, 4: 6}[channels], 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", content) + chunk(b"IEND", b"")


class Images(Kind):
    name = "images"

    def make(self, folder: Path) -> Iterator[Files]:
        formats = {
            "png": ("PNG", {}), "jpg": ("JPEG", {}), "gif": ("GIF", {}), "bmp": ("BMP", {}), "webp": ("WEBP", {}),
            "tif": ("TIFF", {"compression": "tiff_lzw"}), "ppm": ("PPM", {}),
        }  # fmt: skip
        for suffix, (format, options) in formats.items():
            image = encode(small_image(1), format, **options)
            yield {f"{label}/{i}.{suffix}": image for label in "ab" for i in range(5)}
        gray = encode(small_image(2, "L"), "PNG")
        yield {f"{label}/{i}.png": gray for label in "ab" for i in range(5)}
        exif = Image.Exif()
        exif[0x0112] = 6
        rotated = encode(small_image(3), "JPEG", exif=exif)
        yield {f"{label}/{i}.jpg": rotated for label in "ab" for i in range(5)}

    def mutations(self, name: str) -> tuple[Callable[[bytes, random.Random], bytes], ...]:
        return BYTES

    def corpus(self) -> Iterator[Files]:
        for width, height in ((13_000, 13_000), (60_000, 100), (2**20, 100), (5000, 5000), (2000, 2000)):
            for channels in (1, 3, 4):
                yield {**self.originals[0], "a/0.png": png_of(width, height, channels)}
        yield {**self.originals[0], "a/0.png": b""}

    def read(self, folder: Path, files: Files) -> None:
        data = cnnzoo.load_data(f"folder:{folder}", image_size=8)
        images = data.train.images
        assert images.shape[1:] == (images.shape[1], 8, 8) and len(images) + len(data.test.images) == len(files)


class Table(Kind):
    name = "csv"

    def make(self, folder: Path) -> Iterator[Files]:
        image = encode(small_image(1), "PNG")
        rows = [(f"{i}.png", "abc"[i % 3], "train" if i < 9 else "test") for i in range(12)]
        text = io.StringIO()
        csv.writer(text).writerows([("file", "label", "split"), *rows])
        yield {"table.csv": text.getvalue().encode(), **{f"{i}.png": image for i in range(12)}}

    def damage(self, rng: random.Random) -> Files:
        files = dict(self.originals[0])
        files["table.csv"] = rng.choice((edit_text, edit_text, *BYTES))(files["table.csv"], rng)
        return files

    def corpus(self) -> Iterator[Files]:
        text = self.originals[0]["table.csv"]
        yield {**self.originals[0], "table.csv": text.replace(b"0.png", b"0\0.png")}
        for label in ("=1+1", ANSI, "a" * 200_000, "\u202egpj", "*b*|c"):
            yield {**self.originals[0], "table.csv": text.replace(b",a,", f",{label},".encode())}

    def read(self, folder: Path, files: Files) -> None:
        data = cnnzoo.load_data(f"csv:{folder / 'table.csv'}", image_size=8)
        rows = [row for row in csv.DictReader(io.StringIO(files["table.csv"].decode("utf-8-sig"), newline="")) if row]
        assert len(data.train.images) + len(data.test.images) + len(data.val.images if data.val else ()) == len(rows)
        labels = {(row["label"] or "").strip() for row in rows}
        assert labels == set(data.classes), f"classes {data.classes}, not {sorted(labels)}"


class HubAnswers(Kind):
    name = "hub"

    def make(self, folder: Path) -> Iterator[Files]:
        for model in small_networks():
            path = cnnzoo.save(model, folder / model.spec.name)
            yield {file.name: file.read_bytes() for file in path.iterdir() if file.name != "README.md"}

    def damage(self, rng: random.Random) -> Files:
        files = dict(rng.choice(self.originals)) if rng.random() < 0.5 else super().damage(rng)
        return {**files, ".seed": rng.randbytes(8)}

    def read(self, folder: Path, files: Files) -> None:
        served = {name: raw for name, raw in files.items() if name != ".seed"}
        canary = folder / "canary"
        canary.write_text("mine")
        with LocalHub() as hub:
            hub._server.RequestHandlerClass = type("Hostile", (_HostileHandler,), {"hub": hub})
            hub.add("ann/net", dict(served))
            _HostileHandler.rng = random.Random(files[".seed"]) if ".seed" in files else None
            cache = folder / "cache"
            model = cnnzoo.load("hf://ann/net", endpoint=hub.url, cache_dir=cache, token=False)
            (file,) = cache.rglob("model.safetensors")
            assert file.read_bytes() == served["model.safetensors"], "another file than that of the Hub"
            assert weights_sha256(model.state_dict()) == weights_sha256(load_tensors(file)), "other weights"
        assert canary.read_text() == "mine"


class _HostileHandler(_Handler):
    rng: random.Random | None = None

    def _send(self, status: int, body: bytes = b"", headers: dict[str, str] | None = None) -> None:
        rng, headers = _HostileHandler.rng, dict(headers or {})
        if rng is None:
            super()._send(status, body, headers)
            return
        action = rng.random()
        if action < 0.15 and body:
            try:
                body = edit_json(body, rng)
            except ValueError:
                body = rng.choice(BYTES)(body, rng)
        elif action < 0.3 and headers:
            name = rng.choice(sorted(headers))
            hostile = (
                "../../canary",
                "a" * 5000,
                "",
                "0" * 40,
                "\x1b[31m",
                '"',
                "-1",
                "99999999999",
                "http://127.0.0.1:1/",
            )
            headers[name] = rng.choice(hostile)
        elif action < 0.35:
            status = rng.choice((200, 204, 400, 401, 403, 404, 409, 410, 416))
        super()._send(status, body, headers)


class Descriptions(Kind):
    """Descriptions without files, which cost the least: what ``load`` and ``get_spec`` do first."""

    name = "description"

    def make(self, folder: Path) -> Iterator[Files]:
        yield {"d.json": json.dumps(good_description()).encode()}

    def damage(self, rng: random.Random) -> Files:
        ((_, description),) = generate(1, rng.randrange(10**9))
        return {"d.json": json.dumps(description).encode()}

    def read(self, folder: Path, files: Files) -> None:
        with torch.device("meta"):
            model = build_from_description(read_json(folder / "d.json"))
        assert cnnzoo.Spec.from_dict(model.spec.to_dict()) == model.spec


class CaffeModels(Kind):
    """Caffe models of both formats; what is loaded is compared with what Google's protobuf reads."""

    name = "caffemodel"
    maximum = 200_000_000

    def make(self, folder: Path) -> Iterator[Files]:
        for version in (1, 2):
            yield {"m.caffemodel": self.net().to_bytes(version, {"scale": 0.5, "mean_value": [1.0, 2.0, 3.0]})}

    @staticmethod
    def net() -> caffe.CaffeNet:
        net = caffe.CaffeNet()
        net.conv("conv1", 4, 3, pad=1)
        net.add("LRN", "norm1", local_size=3, alpha=1e-3)
        net.pool("pool1", kernel_size=2, stride=2)
        x = net.last
        paths = [net.conv("path/a", 2, 1, x), net.conv("path/b", 2, 3, x, pad=1)]
        net.add("Concat", "path/concat", *paths, channels=4)
        net.dense("fc", 4 * 16, 3, relu=False)
        net.add("Softmax", "prob")
        return net

    def mutations(self, name: str) -> tuple[Callable[[bytes, random.Random], bytes], ...]:
        return BYTES

    def corpus(self) -> Iterator[Files]:
        field = bytes([0xA2, 0x06])  # layer = 100
        for length in (2**21, 2**35, 2**63, 2**70):
            yield {"m.caffemodel": field + varint(length)}
        yield {"m.caffemodel": (field + bytes([2, 0x22, 0])) * 100_000}  # layers with an output without a name
        layer = b"\x12\x06Concat" + b"\x1a\x01a" * 60 + b"\x22\x01a"
        yield {"m.caffemodel": self.originals[1]["m.caffemodel"] + (field + varint(len(layer)) + layer) * 300}

    def load(self, model: cnnzoo.CNN, path: Path) -> None:
        cnnzoo.weights.formats.load_caffemodel(model, path)

    def weights(self, raw: bytes) -> list[torch.Tensor]:
        net = caffe.Net.FromString(raw)
        return [torch.tensor(blob.data) for layer in (*net.layers, *net.layer) for blob in layer.blobs]

    def read(self, folder: Path, files: Files) -> None:
        paths = ((Conv(2, 1, label="a"),), (Conv(2, 3, padding=1, label="b"),))
        features = (
            Conv(4, 3, padding=1), LRN(3, alpha=1e-3, k=1.0, mean=True), MaxPool(2), Parallel(paths, label="path"),
            Flatten(),
        )  # fmt: skip
        model = cnnzoo.CNN(cnnzoo.Spec("small", (3, 8, 8), features, (Logits(3, label="fc"),)))
        ((name, raw),) = files.items()
        self.load(model, folder / name)
        with torch.no_grad():
            model.features[0].weight.copy_(model.features[0].weight.flip(1))  # as it is in the file
        try:
            said = set(map(_bits, self.weights(raw)))
        except DecodeError:  # in a part that is not needed here: the weights are somewhere in the file
            assert all(tensor.numpy().tobytes() in raw for tensor in model.state_dict().values()), "other weights"
        else:
            assert said.issuperset(map(_bits, model.state_dict().values())), "other weights than those of the file"


def _bits(tensor: torch.Tensor) -> bytes:
    values = tensor.float().flatten()
    return torch.where(values.isnan(), torch.nan, values).numpy().tobytes()  # Python's floats change bits of NaN


def varint(number: int) -> bytes:
    octets = bytearray()
    while number >= 128:
        octets.append(number & 127 | 128)
        number >>= 7
    return bytes([*octets, number])


class OnnxModels(CaffeModels):
    """ONNX files; what is loaded is compared with what the package onnx reads."""

    name = "onnx"

    def make(self, folder: Path) -> Iterator[Files]:
        rng = np.random.default_rng(0)
        shapes = {"conv1": (4, 3, 3, 3), "path/a": (2, 4, 1, 1), "path/b": (2, 4, 3, 3), "fc": (3, 64)}
        arrays = {f"{name}_w_0": rng.normal(size=shape).astype("float32") for name, shape in shapes.items()}
        arrays |= {f"{name}_b_0": rng.normal(size=shape[0]).astype("float32") for name, shape in shapes.items()}
        node = onnx.helper.make_node
        nodes = [
            node("Conv", ["x", "conv1_w_0", "conv1_b_0"], ["1"], pads=[1, 1, 1, 1], kernel_shape=[3, 3]),
            node("Relu", ["1"], ["2"]),
            node("LRN", ["2"], ["3"], size=3, alpha=1e-3),
            node("MaxPool", ["3"], ["4"], kernel_shape=[2, 2], strides=[2, 2]),
            node("Conv", ["4", "path/a_w_0", "path/a_b_0"], ["5"], kernel_shape=[1, 1]),
            node("Relu", ["5"], ["6"]),
            node("Conv", ["4", "path/b_w_0", "path/b_b_0"], ["7"], pads=[1, 1, 1, 1], kernel_shape=[3, 3]),
            node("Relu", ["7"], ["8"]),
            node("Concat", ["6", "8"], ["9"], axis=1),
            node("Flatten", ["9"], ["10"]),
            node("Gemm", ["10", "fc_w_0", "fc_b_0"], ["y"], transB=1),
        ]
        values = [onnx.helper.make_tensor_value_info(name, 1, None) for name in "xy"]
        tensors = [onnx.numpy_helper.from_array(array, name) for name, array in arrays.items()]
        yield {
            "m.onnx": onnx.helper.make_model(
                onnx.helper.make_graph(nodes, "g", values[:1], values[1:], tensors)
            ).SerializeToString()
        }

    def corpus(self) -> Iterator[Files]:
        for length in (2**21, 2**35, 2**63):
            yield {"m.onnx": b"\x3a" + varint(length)}

    def load(self, model: cnnzoo.CNN, path: Path) -> None:
        cnnzoo.weights.formats.load_onnx(model, path, channel_order="bgr")

    def weights(self, raw: bytes) -> list[torch.Tensor]:
        tensors = onnx.ModelProto.FromString(raw).graph.initializer
        arrays = [onnx.numpy_helper.to_array(tensor) for tensor in tensors if tensor.data_type in (1, 10, 11)]
        return [torch.from_numpy(array.astype("float32").reshape(-1)) for array in arrays]


KINDS: dict[str, type[Kind]] = {
    kind.name: kind
    for kind in (
        Weights,
        Folder,
        Config,
        Descriptions,
        Recipe,
        RunFolder,
        Idx,
        Images,
        Table,
        HubAnswers,
        CaffeModels,
        OnnxModels,
    )
}


# --- running ---


@dataclass
class Result:
    """The figures of a kind."""

    cases: int = 0
    refused: int = 0
    read: int = 0
    failures: list[str] = field(default_factory=list)
    slowest: tuple[float, str] = (0.0, "")  # seconds of CPU time, case
    largest: tuple[int, str] = (0, "")  # bytes more than the files, case


class Peak:
    """The peak of the memory of this process since it was reset; 0 where the system does not know it."""

    def __init__(self) -> None:
        self._status, self._reset = Path("/proc/self/status"), Path("/proc/self/clear_refs")

    def reset(self) -> None:
        """Starts again from the present memory."""
        try:
            self._reset.write_text("5")
        except OSError:
            self._status = Path(os.devnull)

    def read(self) -> int:
        """Returns the peak in bytes."""
        lines = self._status.read_text().splitlines()
        return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM")), 0)


class Fuzzer:
    """Runs cases.

    Args:
        folder: A temporary folder.
        seed: The seed of all cases.
        kinds: The names of the kinds.
        slack: Factor of the budgets, for busy machines.
    """

    def __init__(self, folder: Path, seed: int, kinds: list[str], slack: float = 1.0) -> None:
        warnings.simplefilter("ignore")
        self._folder, self._seed, self._slack = folder, seed, slack
        self.kinds = {name: KINDS[name](folder / name) for name in kinds}
        self.results = {name: Result() for name in kinds}
        self._peak = Peak()
        for name, kind in self.kinds.items():  # imports, and what is computed once
            for files in kind.originals:
                if (error := self._read(kind, files)[0]) is not None:
                    raise AssertionError(f"undamaged files of the kind {name} are refused: {error}")

    def run_corpus(self) -> None:
        """Runs the cases that once failed."""
        for name, kind in self.kinds.items():
            for number, files in enumerate(kind.corpus()):
                self._run(name, f"{name}:corpus {number}", files)

    def run(self, name: str, number: int) -> None:
        """Runs the case of a number."""
        rng = random.Random(f"{self._seed}:{name}:{number}")
        self._run(name, f"{name}:{number} of seed {self._seed}", self.kinds[name].damage(rng))

    def _run(self, name: str, case: str, files: Files) -> None:
        result, kind = self.results[name], self.kinds[name]
        result.cases += 1
        seconds, memory = 0.0, 0
        for _ in range(3):  # a busy machine takes more CPU time
            try:
                error, seconds, memory = self._read(kind, files)
            except Exception as raw:
                place = raw.__traceback__
                while place and place.tb_next:
                    place = place.tb_next
                where = f"{place.tb_frame.f_code.co_filename}:{place.tb_lineno}" if place else ""
                result.failures.append(f"{case}: {type(raw).__name__}: {str(raw)[:300]} ({where})")
                return
            if seconds <= MAX_SECONDS * self._slack and memory <= kind.maximum * self._slack:
                break
        else:
            result.failures.append(f"{case}: {seconds:.2f} s, {memory:,} bytes")
        result.slowest, result.largest = max(result.slowest, (seconds, case)), max(result.largest, (memory, case))
        if error is None:
            result.read += 1
            return
        result.refused += 1
        message = str(error)
        if not message.strip() or len(message) > MAX_MESSAGE or not is_printable(message):
            result.failures.append(f"{case}: a message of {len(message)} characters: {message[:200]!r}")

    def _read(self, kind: Kind, files: Files) -> tuple[cnnzoo.CnnzooError | None, float, int]:
        """Returns the error, if any, seconds of CPU time, and bytes of memory besides the files."""
        folder = self._folder / "case"
        for name, content in files.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        try:
            with _quiet():
                self._peak.reset()
                before, start = self._peak.read(), time.process_time()
                error: cnnzoo.CnnzooError | None = None
                try:
                    kind.read(folder, files)
                except cnnzoo.CnnzooError as refusal:
                    error = refusal.with_traceback(None)
                seconds = time.process_time() - start
                memory = self._peak.read() - before - sum(map(len, files.values()))
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        return error, seconds, memory


@contextmanager
def _quiet() -> Iterator[None]:
    """Hides progress bars."""
    stderr, sys.stderr = sys.stderr, io.StringIO()
    try:
        yield
    finally:
        sys.stderr = stderr


def report(results: Mapping[str, Result]) -> str:
    """Returns the figures of all kinds as text."""
    lines = [f"{'kind':12} {'cases':>7} {'refused':>8} {'read':>7} {'failures':>9} {'slowest':>9} {'memory':>8}"]
    total = Result()
    for name, r in results.items():
        lines.append(
            f"{name:12} {r.cases:7,} {r.refused:8,} {r.read:7,} {len(r.failures):9,} {r.slowest[0]:7.2f} s "
            f"{r.largest[0] / 1e6:5.0f} MB"
        )
        total.cases, total.refused, total.read = total.cases + r.cases, total.refused + r.refused, total.read + r.read
        total.failures += r.failures
    lines.append(f"{'all':12} {total.cases:7,} {total.refused:8,} {total.read:7,} {len(total.failures):9,}")
    return "\n".join([*lines, *total.failures[:60]])


def main() -> int:
    """Runs the fuzzer from the command line; returns 1 if a case failed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=20.0, help="how long it runs")
    parser.add_argument("--cases", type=int, help="number of cases, instead of --minutes")
    parser.add_argument("--seed", type=int, default=1, help="seed of all cases")
    parser.add_argument("--kinds", default=",".join(KINDS), help="kinds of files, separated by commas")
    parser.add_argument("--slack", type=float, default=1.0, help="factor of the budgets, for busy machines")
    parser.add_argument("--only", help="a single case, kind:number")
    args = parser.parse_args()
    kinds = [args.only.split(":")[0]] if args.only else args.kinds.split(",")
    with tempfile.TemporaryDirectory() as temporary:
        os.environ["XDG_CACHE_HOME"] = str(Path(temporary) / "cache")
        fuzzer = Fuzzer(Path(temporary), args.seed, kinds, args.slack)
        if args.only:
            fuzzer.run(kinds[0], int(args.only.split(":")[1]))
        else:
            with suppress(KeyboardInterrupt):  # the figures so far
                fuzzer.run_corpus()
                end, number = time.monotonic() + 60 * args.minutes, 0
                while number * len(kinds) < args.cases if args.cases else time.monotonic() < end:
                    for kind in kinds:
                        fuzzer.run(kind, number)
                    number += 1
                    if number % 100 == 0:
                        failures = [text for result in fuzzer.results.values() for text in result.failures]
                        print(f"{number:,} cases of each kind, {len(failures)} failures", *failures[-3:], flush=True)
        print(report(fuzzer.results))
    return int(any(result.failures for result in fuzzer.results.values()))


if __name__ == "__main__":
    sys.exit(main())
