"""Data sets by name: tables of files, data sets of the Hugging Face Hub, and those of users and plugins."""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from PIL import Image

import cnnzoo
from cnnzoo.cli import main
from cnnzoo.data import Data, ImageData, Split, StreamData
from cnnzoo.errors import DataError, InputError, UnknownNameError

# --- CSV ---


@pytest.fixture
def table(tmp_path: Path):
    """Writes ten images of each of two classes, and a table of them."""
    (tmp_path / "images").mkdir()
    for i in range(20):
        Image.new("L", (9, 7), 10 * i).save(tmp_path / "images" / f"{i:02}.png")

    def write(text: str | None = None, encoding: str = "utf-8") -> str:
        rows = "".join(f"images/{i:02}.png,{'dog' if i % 2 else 'cat'}\n" for i in range(20))
        (tmp_path / "t.csv").write_text("file,label\n" + rows if text is None else text, encoding)
        return f"csv:{tmp_path / 't.csv'}"

    return write


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_a_table(table, encoding: str) -> None:
    data = cnnzoo.load_data(table(encoding=encoding))
    assert data.classes == ("cat", "dog") and data.shape == (1, 7, 9)
    assert (len(data.train), len(data.test)) == (16, 4)
    assert data.test.images[:, 0, 0, 0].tolist() == [80, 180, 90, 190]
    streamed = cnnzoo.load_data(table(), stream=True, image_size=4, split=False)
    assert len(streamed.test) == 20 and streamed.shape == (1, 4, 4)


def test_a_table_with_columns_of_other_names_and_splits(table) -> None:
    rows = "".join(f"{i},{'ab'[i % 2]} ,images/{i:02}.png,{('train', 'Val', 'test')[i // 7]}\n" for i in range(20))
    data = cnnzoo.load_data(table("id,kind,path,split\n" + rows), image_column="path", label_column="kind")
    assert data.classes == ("a", "b") and [len(s) for s in (data.train, data.val, data.test)] == [7, 7, 6]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "t.csv has no column 'file': it is empty"),
        ("file,label\n", "t.csv has a header, but no rows"),
        ("images/00.png,cat\nimages/01.png,dog\n", "has no column 'file': its columns are 'images/00.png', 'cat'. The"),
        ("file;label\na.png;b\n", r"columns are 'file;label' \(separated by ';'; save the file with commas\)"),
        ("file,kind\na.png,b\n", r"has no column 'label': .*choose one with label_column= \(--label-column\)"),
        ("file,label,label\na.png,b,c\n", "has several columns called 'label'"),
        ("file,label\nimages/00.png,\n", "line 2: the column 'label' is empty"),
        ("file,label\n\nimages/00.png\n", "line 3: the column 'label' is empty"),
        ("file,label\nimages/00.png,a\n./images//00.png,b\n", "line 3: 'images/00.png' is listed already in line 2"),
        ("file,label,split\nimages/00.png,a,dev\n", "'split' has 'dev'; its values are train .training., val"),
        ("file,label,split\nimages/00.png,a,test\n", "has test images, but no training images"),
        ("file,label,split\nimages/00.png,a,train\nimages/01.png,A,test\n", "classes that train does not have: A"),
        ('file,label\nimages/00.png,"a\x1b"\n', "the name of the class .a.x1b. is blank, long or has control char"),
        ("file,label\nimages/00.png,a\nimages/01.png,b\n", "too few images of a, b to split off test images"),
    ],
)  # fmt: skip
def test_tables_that_are_refused(table, text: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        cnnzoo.load_data(table(text))


def test_missing_files_are_named(table, tmp_path: Path) -> None:
    name = table()
    for i in (3, 4):
        (tmp_path / "images" / f"{i:02}.png").unlink()
    with pytest.raises(DataError, match=r"2 of 20 .* 'images/04.png' \(no such file\), 'images/03.png' \(no such"):
        cnnzoo.load_data(name)
    with pytest.raises(DataError, match="t.csv is not UTF-8 text .invalid start byte at byte 11.; save it as UTF-8"):
        cnnzoo.load_data(table("file,label\n\xff", "latin-1"))
    for path, reason in ((tmp_path, "Is a directory"), (tmp_path / "none.csv", "No such file"), ("a\0b", "null byte")):
        with pytest.raises(DataError, match=f"cannot be read.*{reason}"):
            cnnzoo.load_data(f"csv:{path}")


# --- the Hub ---


def png(value: int) -> bytes:
    content = io.BytesIO()
    Image.new("L", (9, 7), value).save(content, "PNG")
    return content.getvalue()


@pytest.fixture
def hub(tmp_path: Path):
    """Writes a data set of parquet files."""
    datasets = pytest.importorskip("datasets")
    datasets.disable_progress_bars()

    def write(features: dict[str, object], **splits: dict[str, list[object]]) -> str:
        for split, columns in splits.items():
            table = datasets.Dataset.from_dict(columns, features=datasets.Features(features))
            table.to_parquet(str(tmp_path / f"{split}-00000-of-00001.parquet"))
        return f"hf:{tmp_path}"

    return write


def rows(n: int, first: int = 0) -> dict[str, list[object]]:
    images = [{"bytes": png(first + i), "path": None} for i in range(n)]
    return {"image": images, "label": [i % 2 for i in range(n)]}


def image_features() -> dict[str, object]:
    datasets = pytest.importorskip("datasets")
    return {"image": datasets.Image(), "label": datasets.ClassLabel(names=["dog", "cat"])}


def test_a_data_set_of_the_hub(hub) -> None:
    name = hub(image_features(), train=rows(10), validation=rows(4, 100), test=rows(6, 200))
    data = cnnzoo.load_data(name)
    assert data.classes == ("dog", "cat") and data.shape == (1, 7, 9)
    assert [len(split) for split in (data.train, data.val, data.test)] == [10, 4, 6]
    assert data.test.images[:, 0, 0, 0].tolist() == [200, 202, 204, 201, 203, 205]
    stream = cnnzoo.load_data(name, stream=True)
    assert isinstance(stream, StreamData) and stream.sha256 == cnnzoo.load_data(name, stream=True).sha256
    loader = torch.utils.data.DataLoader(stream.test, batch_size=6, num_workers=1)
    assert torch.equal(next(iter(loader))[0], data.test.images)
    held = stream.hold_out(4)
    assert len(held.train) == 6 and held.train[0][0].shape == (1, 7, 9)


def test_hub_data_that_is_refused(hub, monkeypatch: pytest.MonkeyPatch) -> None:
    datasets = pytest.importorskip("datasets")
    features = {**image_features(), "image2": datasets.Image(), "kind": datasets.Value("string")}
    broken = {**rows(10), "image2": rows(10)["image"], "kind": ["x", "y"] * 5}
    broken["image2"][3] = {"bytes": b"no image", "path": None}
    name = hub(features, train=broken)
    with pytest.raises(DataError, match=r"several columns of type Image: image, image2; choose one with image_column="):
        cnnzoo.load_data(name)
    with pytest.raises(DataError, match="has no column 'kind' of type Image; its columns are image, label, image2"):
        cnnzoo.load_data(name, image_column="kind")
    with pytest.raises(DataError, match=r"1 of 10 images cannot be read: 'train/3' \(it is damaged"):
        cnnzoo.load_data(name, image_column="image2")
    assert cnnzoo.load_data(name, image_column="image", label_column="kind").classes == ("x", "y")
    with pytest.raises(DataError, match="hf:/not/there cannot be loaded: .*NAME is user/name on the Hub or a folder"):
        cnnzoo.load_data("hf:/not/there")
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(DataError, match=r"needs the package datasets: pip install 'cnnzoo\[hf\]'"):
        cnnzoo.load_data(name)


def test_splits_of_the_hub_that_are_not_read(hub, monkeypatch: pytest.MonkeyPatch) -> None:
    unlabeled = {**rows(4), "label": [-1] * 4}
    name = hub(image_features(), train=rows(10), validation=rows(4), test=unlabeled)
    datasets = pytest.importorskip("datasets")
    loaded = datasets.load_dataset(name.removeprefix("hf:"))
    loaded["extra"] = loaded["train"]
    monkeypatch.setattr(datasets, "load_dataset", lambda *arguments: loaded)
    with (
        pytest.warns(UserWarning, match="the split 'extra' is not read"),
        pytest.warns(UserWarning, match="test: no row has a label, so that the split is not read"),
    ):
        data = cnnzoo.load_data(name)
    assert (len(data.train), len(data.test), data.val) == (10, 4, None)


# --- data sets of one's own ---


def stripes(*, n: int = 12, vertical: bool = True) -> ImageData:
    """Returns bright and dark images."""
    labels = torch.arange(n) % 2
    images = (labels * 200).to(torch.uint8).view(-1, 1, 1, 1).expand(-1, 1, 28, 28).clone()
    return ImageData("any name", Split(images, labels), Split(images, labels), ("dark", "bright"))


def test_register_data() -> None:
    assert cnnzoo.register_data("stripes")(stripes) is stripes
    data = cnnzoo.load_data("stripes", n=6)
    assert (data.name, len(data.train), dict(data.options)) == ("stripes", 6, {"n": 6})
    assert "stripes" in cnnzoo.list_data()
    with pytest.raises(InputError, match="data set 'stripes' does not take image_size=; its options: n=, vertical="):
        cnnzoo.load_data("stripes", image_size=3)
    with pytest.raises(UnknownNameError, match="unknown data set 'stripe'. Did you mean 'stripes'"):
        cnnzoo.load_data("stripe")
    with pytest.raises(InputError, match="data set 'mnist' is already registered by cnnzoo.data.named"):
        cnnzoo.register_data("mnist")(stripes)
    with pytest.raises(InputError, match="the name of a registered data set must be an identifier, not 'a:b'"):
        cnnzoo.register_data("a:b")(stripes)

    @cnnzoo.register_data("shards")
    def shards(url: str, **options: int) -> Data:
        return data if url == "x:y" and options == {"n": 3} else None  # type: ignore[return-value]

    assert cnnzoo.load_data("shards:x:y", n=3).name == "shards:x:y" and "shards:URL" in cnnzoo.list_data()
    with pytest.raises(DataError, match="'shards:z': its function must return ImageData or StreamData, not NoneType"):
        cnnzoo.load_data("shards:z")


def test_the_shell_trains_on_a_registered_data_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    cnnzoo.register_data("stripes")(stripes)
    arguments = ["train", "lenet", "--data", "stripes", "--set", "epochs=1", "--set", "batch_size=4", "--out", "r"]
    done = CliRunner().invoke(main, arguments)
    assert done.exit_code == 0, done.output
    assert "stripes" in (tmp_path / "r" / "train.json").read_text()


PLUGIN = """
import torch
from cnnzoo import register_data
from cnnzoo.data import ImageData, Split

@register_data("plug_data")
def plug_data(*, n=4):
    split = Split(torch.zeros(n, 1, 8, 8, dtype=torch.uint8), torch.arange(n) % 2)
    return ImageData("x", split, split, ("a", "b"))
"""


def test_data_sets_of_plugins(tmp_path: Path) -> None:
    (tmp_path / "plugged_data.py").write_text(PLUGIN)
    info = tmp_path / "plugged_data-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: plugged_data\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[cnnzoo.models]\nplugged_data = plugged_data\n")
    code = """import sys; sys.path.insert(0, sys.argv[1])
import cnnzoo; print(len(cnnzoo.load_data('plug_data', n=6).train))"""
    done = subprocess.run([sys.executable, "-c", code, tmp_path], capture_output=True, text=True, check=True)
    assert done.stdout == "6\n"
