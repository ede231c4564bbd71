"""Data sets: search and download, checks, folders of images, and batches."""

from __future__ import annotations

import dataclasses
import functools
import gzip
import hashlib
import itertools
import os
import pickle
import signal
import struct
import sys
import threading
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import PIL
import pytest
import torch
from PIL import Image

import cnnzoo
from cnnzoo.data import ImageData, Split, StreamData, epoch_order, make_loader, resize
from cnnzoo.data.idx import IDX_FILES, read_idx, write_idx_folder
from cnnzoo.data.image_files import LocalFiles
from cnnzoo.data.loaders import TensorLoader
from cnnzoo.data.make_sample import draw_sample
from cnnzoo.data.named import IDX_SOURCES, SAMPLE_FOLDER
from cnnzoo.data.resize import INTERPOLATIONS
from cnnzoo.errors import DataError, InputError, UnknownNameError
from cnnzoo.preprocessing import Preprocessing

SAMPLE_SHA256 = "a44183f6f25b475ea31dbd02e3ddb07e4dddf8b8e2daa78dfb9e8fb69144e90c"


@pytest.fixture(autouse=True)
def no_data_sets(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Hides the data sets of this machine, except those that its packages installed."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("CNNZOO_DATA", raising=False)


# --- the bundled sample ---


def test_the_sample_ships() -> None:
    data = cnnzoo.load_data("fashion_mnist_sample")
    assert data.shape == (1, 28, 28) and len(data.classes) == 10 and data.classes[9] == "Ankle boot"
    assert torch.bincount(data.train.labels).tolist() == [600] * 10
    assert torch.bincount(data.test.labels).tolist() == [100] * 10
    assert data.sha256 == SAMPLE_SHA256
    assert sum(file.stat().st_size for file in SAMPLE_FOLDER.iterdir()) < 4_000_000
    assert "MIT License" in (SAMPLE_FOLDER / "LICENSE").read_text()


def test_the_sample_is_reproduced_from_the_full_set(tmp_path: Path) -> None:
    try:
        full = cnnzoo.load_data("fashion_mnist", download=False)
    except DataError as error:
        pytest.skip(str(error))
    assert (len(full.train), len(full.test)) == (60_000, 10_000)
    write_idx_folder(draw_sample(full), tmp_path, compresslevel=1)
    for file in IDX_FILES:  # decoded, since gzip differs between versions
        assert gzip.decompress((tmp_path / f"{file}.gz").read_bytes()) == gzip.decompress(
            (SAMPLE_FOLDER / f"{file}.gz").read_bytes()
        )


def test_mean_and_std() -> None:
    data = cnnzoo.load_data("fashion_mnist_sample")
    pixels = data.train.images.double() / 255
    assert data.mean[0] == pytest.approx(pixels.mean().item(), abs=1e-6)
    assert data.std[0] == pytest.approx(pixels.std(correction=0).item(), abs=1e-6)


# --- finding named sets ---


def idx_bytes(array: np.ndarray) -> bytes:
    return bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


def write_set(folder: Path, n: int = 12, suffix: str = ".gz") -> None:
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    for file in IDX_FILES:
        array = (
            rng.integers(0, 256, (n, 28, 28), dtype=np.uint8) if "images" in file else np.arange(n, dtype=np.uint8) % 10
        )
        content = idx_bytes(array)
        (folder / f"{file}{suffix}").write_bytes(gzip.compress(content) if suffix else content)


@pytest.mark.parametrize("suffix", [".gz", ""])
def test_search_in_root_environment_and_cache(tmp_path: Path, monkeypatch, suffix: str) -> None:
    write_set(tmp_path / "given", 11, suffix)
    write_set(tmp_path / "env" / "FashionMNIST" / "raw", 12, suffix)
    write_set(tmp_path / "cache" / "cnnzoo" / "mnist", 13, suffix)
    assert len(cnnzoo.load_data("fashion_mnist", tmp_path / "given").train) == 11
    monkeypatch.setenv("CNNZOO_DATA", str(tmp_path / "env"))
    assert len(cnnzoo.load_data("fashion_mnist").train) == 12
    assert len(cnnzoo.load_data("mnist").train) == 13


def test_error_names_every_searched_folder_and_the_remedies(tmp_path: Path, monkeypatch) -> None:
    import torchvision

    def no_network(self, *args, **kwargs):
        raise RuntimeError("Error downloading train-images-idx3-ubyte.gz:\n[Errno -2] Name or service not known")

    monkeypatch.setattr(torchvision.datasets.MNIST, "__init__", no_network)
    monkeypatch.setenv("CNNZOO_DATA", str(tmp_path / "env"))
    nowhere = {
        name: dataclasses.replace(source, system_folders=("/none/fashion-mnist",))
        for name, source in IDX_SOURCES.items()
    }
    monkeypatch.setattr("cnnzoo.data.named.IDX_SOURCES", nowhere)
    with pytest.raises(DataError) as error:
        cnnzoo.load_data("fashion_mnist", tmp_path / "root")
    text = str(error.value)
    for folder in ("root", "env", "cache/cnnzoo"):
        assert str(tmp_path / folder) in text
    assert "/none/fashion-mnist" in text
    assert "Name or service not known" in text
    assert "apt-get install dataset-fashion-mnist" in text and "CNNZOO_DATA" in text and "root=" in text
    with pytest.raises(DataError, match="download=False"):
        cnnzoo.load_data("mnist", download=False)
    with pytest.raises(DataError, match="cifar10 was not found.*download=False.*cifar-10-python.tar.gz"):
        cnnzoo.load_data("cifar10", download=False)


def test_torchvision_downloads_into_the_first_folder(tmp_path: Path, monkeypatch) -> None:
    """Runs the download code of torchvision on a mirror on this machine."""
    import torchvision

    mirror = tmp_path / "mirror"
    write_set(mirror)
    sums = [(f"{file}.gz", hashlib.md5((mirror / f"{file}.gz").read_bytes()).hexdigest()) for file in IDX_FILES]
    handler = functools.partial(SimpleHTTPRequestHandler, directory=str(mirror))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_address[1]}/"
        monkeypatch.setattr(torchvision.datasets.MNIST, "mirrors", [address])
        monkeypatch.setattr(torchvision.datasets.MNIST, "resources", sums)
        data = cnnzoo.load_data("mnist", tmp_path / "root")
        server.shutdown()
    assert len(data.train) == 12 and (tmp_path / "root" / "MNIST" / "raw").is_dir()
    assert len(cnnzoo.load_data("mnist", tmp_path / "root", download=False).train) == 12


def test_cifar10(tmp_path: Path, monkeypatch) -> None:
    from torchvision.datasets import CIFAR10

    folder = tmp_path / CIFAR10.base_folder
    folder.mkdir()
    rng = np.random.default_rng(0)

    def put(file: str, content: object) -> tuple[str, str]:
        (folder / file).write_bytes(pickle.dumps(content))
        return file, hashlib.md5((folder / file).read_bytes()).hexdigest()

    pixels = rng.integers(0, 256, (10, 3072), dtype=np.uint8)
    batch = {"data": pixels, "labels": list(range(10))}
    meta, md5 = put("batches.meta", {"label_names": [str(i) for i in range(10)]})
    monkeypatch.setattr(CIFAR10, "train_list", [put("data_batch_1", batch)])
    monkeypatch.setattr(CIFAR10, "test_list", [put("test_batch", batch)])
    monkeypatch.setattr(CIFAR10, "meta", {"filename": meta, "key": "label_names", "md5": md5})
    data = cnnzoo.load_data("cifar10", tmp_path)
    assert data.shape == (3, 32, 32) and data.classes[9] == "truck"
    assert data.train.images[4].flatten().tolist() == pixels[4].tolist()
    (folder / "data_batch_1").write_bytes(b"")
    with pytest.raises(DataError, match="is damaged"):
        cnnzoo.load_data("cifar10", tmp_path)


def test_unknown_data_set() -> None:
    with pytest.raises(UnknownNameError, match="unknown data set 'fashion'. Did you mean 'fashion_mnist'"):
        cnnzoo.load_data("fashion")
    with pytest.raises(InputError, match="'mnist' does not take image_size=; its options: root=, download=$"):
        cnnzoo.load_data("mnist", image_size=32)
    with pytest.raises(InputError, match="'fashion_mnist_sample' does not take root=, stram=; its options: none"):
        cnnzoo.load_data("fashion_mnist_sample", ".", stram=True)
    with pytest.raises(UnknownNameError, match="unknown data set 'mnist:x'"):
        cnnzoo.load_data("mnist:x")
    with pytest.raises(UnknownNameError, match="To load the folder of this name, write 'folder:/tmp'"):
        cnnzoo.load_data("/tmp")
    with pytest.raises(InputError, match="'folder' needs to be followed by PATH: folder:PATH"):
        cnnzoo.load_data("folder:")
    with pytest.raises(InputError, match="loaded by its name, a string, not int"):
        cnnzoo.load_data(3)  # type: ignore[arg-type]
    assert cnnzoo.load_data("fashion_mnist_sample", split=False).sha256 == SAMPLE_SHA256
    assert {"mnist", "folder:PATH"} <= set(cnnzoo.list_data())


# --- damaged files ---


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (gzip.compress(idx_bytes(np.zeros((12, 28, 28), np.uint8)), mtime=0)[:-9], "cannot be read"),
        (idx_bytes(np.zeros((12, 28, 28), np.uint8))[:-1], "declares 12 x 28 x 28 = 9,408 bytes, but holds 9,407"),
        (idx_bytes(np.zeros((12, 28, 28), np.uint8)) + b"x", "truncated or damaged"),
        (b"<html>not found</html>", "is not an IDX file of bytes of 3 dimensions; it starts with 3c68746d"),
        (b"", "is not an IDX file"),
        (idx_bytes(np.zeros((13, 28, 28), np.uint8)), "holds 13 images, but train-labels-idx1-ubyte 12 labels"),
        (b"\x1f\x8bgarbage", "cannot be read"),
    ],
)
def test_damaged_files(tmp_path: Path, content: bytes, message: str) -> None:
    write_set(tmp_path, suffix="")
    (tmp_path / IDX_FILES[0]).write_bytes(content)
    with pytest.raises(DataError) as error:
        cnnzoo.load_data("mnist", tmp_path, download=False)
    assert message in str(error.value) and IDX_FILES[0] in str(error.value)


def test_a_huge_declared_shape_allocates_nothing(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(bytes([0, 0, 8, 3]) + struct.pack(">3I", 2**31, 2**31, 2**31))
    with pytest.raises(DataError, match="more than 100 times its size of 16"):
        read_idx(tmp_path / "x", dims=3)


def images(*shape: int) -> torch.Tensor:
    return torch.zeros(shape, dtype=torch.uint8)


@pytest.mark.parametrize(
    ("train", "message"),
    [
        (Split(images(2, 1, 8, 8), torch.tensor([0, 7])), "labels range from 0 to 7, but there are 2 classes"),
        (Split(images(2, 1, 8, 8), torch.tensor([-1, 0])), "labels range from -1 to 0"),
        (Split(images(0, 1, 8, 8), torch.zeros(0, dtype=torch.int64)), "there are no images"),
        (Split(images(2, 8, 8), torch.tensor([0, 1])), "images must be uint8"),
        (Split(images(2, 1, 8, 8), torch.tensor([0])), r"labels must be int64 \(2,\)"),
        (Split(images(2, 3, 8, 8), torch.tensor([0, 1])), "train and test images must have the same shape"),
    ],
)
def test_data_is_checked(train: Split, message: str) -> None:
    good = Split(images(2, 1, 8, 8), torch.tensor([0, 1]))
    with pytest.raises(DataError, match=message):
        ImageData("d", train, good, ("a", "b"))


def test_held_out_images_leave_the_training_set(tiny_data: ImageData) -> None:
    data = tiny_data.hold_out(20, seed=3)
    assert (len(data.train), len(data.test)) == (70, 20)

    def contents(split: Split) -> set[bytes]:
        return {bytes(image.flatten().tolist()) for image in split.images}

    assert contents(data.train) | contents(data.test) == contents(tiny_data.train)
    assert data.sha256 == tiny_data.hold_out(20, seed=3).sha256 != tiny_data.hold_out(20, seed=4).sha256
    with pytest.raises(InputError, match="has 90 training images; 90 cannot be held out"):
        tiny_data.hold_out(90)


# --- batches ---


def test_a_split_is_a_dataset_of_pairs(tiny_data: ImageData) -> None:
    split = tiny_data.train
    image, label = split[4]
    assert torch.equal(image, split.images[4]) and (type(label), label) == (int, 1)
    assert torch.equal(split[torch.tensor(4)][0], image) and torch.equal(split[np.int64(4)][0], image)
    for several in (slice(3, 5), [3, 4], torch.tensor([3, 4])):
        assert torch.equal(split[several].images, split.images[3:5])
    batches = list(torch.utils.data.DataLoader(split, batch_size=32))
    assert torch.equal(torch.cat([images for images, _ in batches]), split.images)
    assert torch.equal(torch.cat([labels for _, labels in batches]), split.labels)
    assert isinstance(make_loader(split, 3, torch.device("cpu")), TensorLoader)


def test_validation_images(tiny_data: ImageData) -> None:
    data = dataclasses.replace(tiny_data, val=tiny_data.test)
    assert data.sha256 != tiny_data.sha256 == dataclasses.replace(data, val=None).sha256
    assert data.hold_out(20).val is None and data.subset(torch.arange(3)).val is None
    with pytest.raises(DataError, match="tiny, val: there are no images"):
        dataclasses.replace(tiny_data, val=tiny_data.test[:0])
    stream = StreamData("s", tiny_data.train, tiny_data.test, tiny_data.classes, val=tiny_data.test)
    assert stream.mean == tiny_data.mean and stream.hold_out(20).val is None
    with pytest.raises(DataError, match="s, val: there are no images"):
        dataclasses.replace(stream, val=[])


def pil_resize(images: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    return torch.stack(
        [
            torch.from_numpy(np.array(Image.fromarray(i[0].numpy()).resize((size[1], size[0]), Image.BILINEAR)))[None]
            for i in images
        ]
    )


@pytest.mark.parametrize("size", [(224, 224), (227, 227), (96, 96), (32, 32), (20, 20), (13, 9), (28, 50), (61, 30)])
def test_resize_equals_pil_bit_for_bit(size: tuple[int, int]) -> None:
    images = cnnzoo.load_data("fashion_mnist_sample").test.images[:64]
    assert torch.equal(resize(images, size), pil_resize(images, size))


@pytest.mark.skipif(int(PIL.__version__.split(".")[0]) < 13, reason="earlier Pillow always resizes the width first")
@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
@pytest.mark.parametrize("large", [True, False], ids=["PIL", "matrix product"])
def test_resize_equals_pil_in_either_order(interpolation: str, large: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """The order of the two directions is Pillow 13's, for random sizes that shrink, grow, or do both."""
    module = sys.modules["cnnzoo.data.resize"]  # the attribute of cnnzoo.data is the function
    monkeypatch.setattr(module, "_LARGE", 0 if large else 1 << 40)
    rng = np.random.default_rng(0)
    for before in rng.integers(1, 120, (60, 2)):
        pixels = rng.integers(0, 256, before, dtype=np.uint8)
        height, width = (int(side) for side in rng.integers(1, 150, 2))
        expected = Image.fromarray(pixels).resize((width, height), Image.Resampling[interpolation.upper()])
        actual = resize(torch.from_numpy(pixels)[None, None], (height, width), interpolation)
        assert torch.equal(actual[0, 0], torch.from_numpy(np.array(expected)))


def test_resize_from_large() -> None:
    images = torch.randint(0, 256, (2, 1, 256, 256), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    assert torch.equal(resize(images, (224, 224)), pil_resize(images, (224, 224)))


def test_preprocessing_normalizes() -> None:
    data = cnnzoo.load_data("fashion_mnist_sample")
    x = Preprocessing((28, 28), data.mean, data.std).apply(data.train.images)
    assert x.dtype == torch.float32 and abs(x.mean().item()) < 1e-4 and abs(x.std().item() - 1) < 1e-4


def test_order_is_a_function_of_seed_and_epoch() -> None:
    assert sorted(epoch_order(50, 0, 0).tolist()) == list(range(50))
    assert torch.equal(epoch_order(50, 0, 3), epoch_order(50, 0, 3))
    assert len({tuple(epoch_order(50, s, e).tolist()) for s in range(3) for e in range(3)}) == 9


class Failing(torch.utils.data.Dataset):
    """Samples of which one cannot be read."""

    def __init__(self, how: str) -> None:
        self.how = how

    def __len__(self) -> int:
        return 8

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        if index == 5 and self.how == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        if index == 5 and self.how == "error":
            raise KeyError("missing")
        if index == 5 and self.how == "file":
            raise DataError("a.jpg cannot be read as an image: the file is empty")
        return torch.zeros(1, 2, 2, dtype=torch.uint8), 0


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("error", r"^sample 5 of the data set cannot be read: KeyError: 'missing' \(.*test_data.py, line \d+\)$"),
        ("file", "^a.jpg cannot be read as an image: the file is empty$"),
        (
            "killed",
            "^a process that reads images ended .*try fewer workers, such as workers=0, or a small",
        ),
    ],
)
def test_errors_of_workers_are_one_sentence(how: str, message: str, workers: int) -> None:
    if how == "killed" and workers == 0:
        pytest.skip("that process is this one")
    batches = make_loader(Failing(how), 1, torch.device("cpu"), workers).batches(torch.arange(8).split(4), 0)
    with pytest.raises(DataError, match=message):
        list(batches)


@pytest.mark.parametrize("workers", [0, 2])
def test_the_plan_of_an_epoch_is_lazy(workers: int) -> None:
    planned: list[int] = []

    def plan() -> Iterator[torch.Tensor]:
        for i in itertools.count():
            planned.append(i)
            yield torch.tensor([i % 8])

    batches = make_loader(Failing(""), 1, torch.device("cpu"), workers).batches(plan(), 0)
    for _ in range(3):
        next(batches)
    assert len(planned) < 12
    batches.close()  # type: ignore[attr-defined]


def test_a_table_of_many_files_takes_little_memory() -> None:
    """1.3 million files, with names as long as those of ImageNet, in proportion."""
    n = 13_000
    names = (f"train/n{i % 10:08}/n{i % 10:08}_{i:05}.JPEG" for i in range(n))
    files = LocalFiles("/data", names, [i % 10 for i in range(n)])
    size = len(files._content) + sum(getattr(files, column).nbytes for column in files._columns)
    assert size + epoch_order(n, 0, 0).nbytes <= 60e6 * n / 1.3e6
    assert files.name(7_001) == "train/n00000001/n00000001_07001.JPEG"


def test_tensor_loader(tiny_data: ImageData) -> None:
    order = epoch_order(90, 0, 0)
    loader = make_loader(tiny_data.train, 3, torch.device("cpu"))
    batches = list(loader.batches(order.split(32), 0))
    assert [len(y) for _, y in batches] == [32, 32, 26]
    assert torch.equal(torch.cat([y for _, y in batches]), tiny_data.train.labels[order])
    assert torch.equal(torch.cat([x for x, _ in batches]), tiny_data.train.images[order])
