"""Folders of images: classes, splits, the scan, and what is refused."""

from __future__ import annotations

import os
import re
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import functional

import cnnzoo
from cnnzoo.data import Data, Decoding, ImageFiles, Split
from cnnzoo.data import scan as scan_module
from cnnzoo.data.folder import image_suffixes, list_image_files
from cnnzoo.data.image_files import LocalFiles
from cnnzoo.errors import DataError, InputError


def write_images(folder: Path, n: int = 10, size: tuple[int, int] = (9, 7), mode: str = "RGB") -> None:
    for value, name in enumerate(("cat", "dog")):
        (folder / name).mkdir(parents=True)
        for i in range(n):
            Image.new(mode, size, (40 * value + i,) * (3 if mode == "RGB" else 1)).save(folder / name / f"{i:02}.png")


def load(folder: Path, **options: object) -> Data:
    return cnnzoo.load_data(f"folder:{folder}", **options)


def counts(data: Data) -> tuple[int, int, int | None]:
    return len(data.train), len(data.test), None if data.val is None else len(data.val)


# --- classes and files ---


def test_a_folder_without_a_split(tmp_path: Path) -> None:
    write_images(tmp_path)
    data = load(tmp_path)
    assert data.classes == ("cat", "dog") and data.shape == (3, 7, 9)
    assert counts(data) == (16, 4, None)
    assert data.test.images[:, 0, 0, 0].tolist() == [4, 9, 44, 49]
    assert isinstance(data.test.files, LocalFiles) and data.test.files.path(3) == tmp_path / "dog" / "09.png"
    assert data.test[[3]].files.name(0) == "dog/09.png"


def test_what_is_not_read_is_named(tmp_path: Path) -> None:
    write_images(tmp_path)
    (tmp_path / "cat" / "notes.txt").write_text("no image")
    (tmp_path / "cat" / "Thumbs.db").write_text("no image")
    (tmp_path / "README").write_text("a file beside the classes")
    (tmp_path / "empty").mkdir()
    Image.new("RGB", (9, 7)).save(tmp_path / "loose.png")
    with pytest.warns(
        UserWarning, match="not read: 1 .txt files, 1 empty folders, 1 images outside of the class folders"
    ):
        assert counts(load(tmp_path)) == (16, 4, None)


@pytest.mark.parametrize("suffix", [".heic", ".xyz"])
def test_a_class_without_readable_images_is_refused(tmp_path: Path, suffix: str) -> None:
    write_images(tmp_path)
    (tmp_path / "horse").mkdir()
    for i in range(3):
        (tmp_path / "horse" / f"{i}{suffix}").write_bytes(b"x")
    with pytest.raises(DataError, match=rf"horse holds no image that Pillow can read, but 3 \{suffix} files; the suf"):
        load(tmp_path)


def test_suffixes(tmp_path: Path) -> None:
    write_images(tmp_path)
    for suffix in (".jfif", ".JPE", ".pbm", ".pnm", ".avif", ".jp2"):
        if suffix.lower() in image_suffixes():
            Image.new("1" if suffix == ".pbm" else "RGB", (9, 7)).save(
                tmp_path / "cat" / f"a{suffix}", {".JPE": "JPEG", ".pnm": "PPM"}.get(suffix)
            )
    assert {".jfif", ".jpe", ".pbm", ".pnm", ".webp"} <= set(image_suffixes()) and ".heic" not in image_suffixes()
    assert sum(counts(load(tmp_path))[:2]) == 20 + len(list((tmp_path / "cat").glob("a.*")))


def test_links(tmp_path: Path) -> None:
    write_images(tmp_path / "set")
    (tmp_path / "elsewhere").mkdir()
    Image.new("RGB", (9, 7)).save(tmp_path / "elsewhere" / "a.png")
    (tmp_path / "set" / "cat" / "linked").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "set" / "cat" / "loop").symlink_to(tmp_path / "set")
    (tmp_path / "elsewhere" / "loop").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "set" / "cow").symlink_to(tmp_path / "set" / "dog")
    data = load(tmp_path / "set")
    assert data.classes == ("cat", "cow", "dog") and sum(counts(data)[:2]) == 31
    (tmp_path / "set" / "dog" / "self.png").symlink_to("self.png")
    (tmp_path / "set" / "cat" / "gone.png").symlink_to(tmp_path / "gone.png")
    with pytest.raises(
        DataError, match=r"3 of 34 images cannot be read: 'cat/gone.png' \(it is a link to a file that does not exist\)"
    ):
        load(tmp_path / "set")


def test_hidden_files_are_ignored(tmp_path: Path) -> None:
    write_images(tmp_path)
    (tmp_path / "cat" / "._00.png").write_bytes(b"not an image")
    (tmp_path / "cat" / ".ipynb_checkpoints").mkdir()
    Image.new("RGB", (9, 7)).save(tmp_path / "cat" / ".ipynb_checkpoints" / "0.png")
    (tmp_path / "dog" / "folder.png").mkdir()
    assert len(load(tmp_path).train) == 16


def test_folders_that_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="does not exist"):
        cnnzoo.load_data("folder:/not/there")
    for path in ("x" * 5000, "a\0b"):
        with pytest.raises(DataError, match="does not exist"):
            cnnzoo.load_data(f"folder:{path}")
    with pytest.raises(
        DataError, match="holds no images in subfolders; it needs one subfolder per class with files su"
    ):
        load(tmp_path)
    Image.new("RGB", (9, 7)).save(tmp_path / "a.png")
    with pytest.raises(DataError, match=r"subfolders \(1 images lie directly in it\)"):
        load(tmp_path)
    with pytest.raises(DataError, match="is a file; folder:PATH names a folder"):
        load(tmp_path / "a.png")
    (tmp_path / "a.png").unlink()
    write_images(tmp_path, 3)
    with pytest.raises(DataError, match="too few images of cat, dog to split off test images"):
        load(tmp_path)
    (tmp_path / "dog").rename(tmp_path / ".dog")
    with pytest.raises(DataError, match="has only one class, 'cat', and a classifier needs at least two"):
        load(tmp_path)
    assert counts(load(tmp_path, split=False)) == (3, 3, None)  # to be evaluated


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (b"caf\xe9", r"the name of the class 'caf\\udce9' is not valid UTF-8; rename it"),
        (b"a\x1b[2Jb", r"the name of the class 'a\\x1b\[2Jb' is blank, long or has control characters"),
        ("a\u202eb".encode(), r"the name of the class 'a\\u202eb' is blank, long or has control characters"),
        (b"  ", "the name of the class '  ' is blank, long or has control characters"),
    ],
)
def test_class_names_that_are_refused(tmp_path: Path, name: bytes, message: str) -> None:
    write_images(tmp_path)
    os.rename(tmp_path / "cat", os.fsencode(tmp_path) + b"/" + name)
    with pytest.raises(DataError, match=message):
        load(tmp_path)


def test_file_names_need_not_be_text(tmp_path: Path) -> None:
    write_images(tmp_path)
    os.rename(tmp_path / "cat" / "00.png", os.fsencode(tmp_path) + b"/cat/\xe9.png")
    for stream in (False, True):
        assert counts(load(tmp_path, stream=stream)) == (16, 4, None)


@pytest.fixture
def as_nobody(tmp_path: Path) -> Iterator[None]:
    """Gives up the rights of root, who can read everything."""
    if os.geteuid() == 0:
        for folder in [tmp_path, *tmp_path.parents][:-2]:
            folder.chmod(0o755)
        os.seteuid(65534)
        yield
        os.seteuid(0)
    else:
        yield


def test_postscript_is_not_run(tmp_path: Path) -> None:
    """Pillow gives it to Ghostscript, whatever the name of the file is."""
    write_images(tmp_path)
    (tmp_path / "cat" / "x.png").write_bytes(
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n"
    )
    with pytest.raises(DataError, match=r"'cat/x.png' \(it is PostScript, a program that Ghostscript would run\)"):
        load(tmp_path)


def test_unreadable_files_and_folders(tmp_path: Path, as_nobody: None) -> None:
    euid = os.geteuid()
    os.seteuid(os.getuid())
    write_images(tmp_path)
    (tmp_path / "cat" / "03.png").chmod(0)
    os.seteuid(euid)
    with pytest.raises(DataError, match=r"1 of 20 images cannot be read: 'cat/03.png' \(Permission denied\)"):
        load(tmp_path)
    os.seteuid(os.getuid())
    (tmp_path / "cat").chmod(0)
    os.seteuid(euid)
    try:
        with pytest.raises(DataError, match="folder .*cat.* cannot be read: Permission denied"):
            load(tmp_path)
    finally:
        os.seteuid(os.getuid())
        (tmp_path / "cat").chmod(0o755)
        os.seteuid(euid)


# --- splits ---


def test_a_folder_with_a_split_and_gray_images(tmp_path: Path) -> None:
    write_images(tmp_path / "train", 3, mode="L")
    write_images(tmp_path / "test", 2, mode="L")
    data = load(tmp_path)
    assert data.shape == (1, 7, 9) and counts(data) == (6, 4, None)
    assert counts(load(tmp_path, split=False)) == (6, 4, None)


def test_names_of_split_folders(tmp_path: Path) -> None:
    write_images(tmp_path / "a" / "Train", 3)
    write_images(tmp_path / "a" / "Validation", 2)
    for split in (True, False):  # the layout of ImageNet: the validation images are the test images
        data = load(tmp_path / "a", split=split)
        assert data.classes == ("cat", "dog") and counts(data) == (6, 4, None)
    write_images(tmp_path / "a" / "testing", 1)
    assert counts(load(tmp_path / "a")) == (6, 2, 4)
    write_images(tmp_path / "a" / "val", 2)
    with pytest.raises(DataError, match="has Validation/ and val/, which are both val; keep one"):
        load(tmp_path / "a")
    write_images(tmp_path / "b" / "train", 10)
    assert counts(load(tmp_path / "b")) == (16, 4, None)
    assert counts(load(tmp_path / "b", split=False)) == (20, 20, None)


@pytest.mark.parametrize("stream", [False, True])
def test_train_val_and_test_are_what_they_are(tmp_path: Path, stream: bool) -> None:
    for n, name in enumerate(("train", "val", "test"), 1):
        write_images(tmp_path / name, n)
    data = load(tmp_path, stream=stream)
    assert counts(data) == (2, 6, 4)
    assert data.val[2][1] == 1 and data.sha256


def test_only_test_images(tmp_path: Path) -> None:
    write_images(tmp_path / "test", 3)
    with pytest.raises(DataError, match="has test images, but no training images; add them as train. To evaluate"):
        load(tmp_path)
    data = load(tmp_path, split=False)
    assert counts(data) == (6, 6, None) and data.train is data.test
    assert counts(load(tmp_path / "test", split=False)) == (6, 6, None)
    write_images(tmp_path / "val", 2)
    assert counts(load(tmp_path, split=False)) == (6, 6, 4)


def test_folders_that_would_not_be_read_are_named(tmp_path: Path) -> None:
    write_images(tmp_path / "train")
    write_images(tmp_path / "dev", 2)
    (tmp_path / "docs").mkdir()
    with pytest.raises(
        DataError, match=r"has train/, and other folders with images that are not read: dev/. The folders of splits are"
    ):
        load(tmp_path)


def test_a_class_called_train(tmp_path: Path) -> None:
    write_images(tmp_path)
    (tmp_path / "cat").rename(tmp_path / "train")
    assert load(tmp_path).classes == ("dog", "train")


def test_classes_of_splits_are_matched_by_name(tmp_path: Path) -> None:
    write_images(tmp_path / "train")
    write_images(tmp_path / "test")
    (tmp_path / "test" / "cat").rename(tmp_path / ".cat")
    data = load(tmp_path)  # some of the classes
    assert data.classes == ("cat", "dog") and set(data.test.labels.tolist()) == {1}
    (tmp_path / "test" / "dog").rename(tmp_path / "test" / "Dog")
    with pytest.raises(
        DataError, match="test has classes that train does not have: Dog. The classes of train are cat, dog; classes"
    ):
        load(tmp_path)


# --- sizes and decoding ---


def test_a_folder_of_different_sizes(tmp_path: Path) -> None:
    write_images(tmp_path)
    Image.new("RGB", (40, 20)).save(tmp_path / "cat" / "wide.jpg")
    message = r"differ in size \(7x9: 'cat/00.png', 20x40: 'cat/wide.jpg', ...\); give image_size="
    for stream in (None, True, False):
        with pytest.raises(DataError, match=message):
            load(tmp_path, stream=stream)
    assert load(tmp_path, image_size=12).shape == (3, 12, 12)
    assert len(load(tmp_path, split=False).test) == 21  # the network says how they are decoded


def test_odd_images_and_sizes(tmp_path: Path) -> None:
    write_images(tmp_path, mode="L")
    for mode in ("RGBA", "P", "LA", "1", "CMYK"):
        suffix = "tif" if mode == "CMYK" else "png"
        Image.new(mode, (9, 7)).save(tmp_path / "cat" / f"{mode}.{suffix}")
    assert load(tmp_path).shape == (3, 7, 9)
    for size in (0, -1, 2.5, "28", True):
        with pytest.raises(InputError, match="image_size must be an integer from 1 to 4096 or None, not"):
            load(tmp_path, image_size=size)


def test_rotation_and_transparency(tmp_path: Path) -> None:
    write_images(tmp_path, size=(7, 9))
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (9, 7)).save(tmp_path / "cat" / "on_its_side.jpg", exif=exif)
    logo = Image.new("RGBA", (7, 9), (0, 0, 0, 0))
    logo.save(tmp_path / "cat" / "00.png")
    assert load(tmp_path).shape == (3, 9, 7)
    assert int(load(tmp_path).train.images[0].min()) == 255
    data = load(tmp_path, background=0, image_size=5)
    assert int(data.train.images[0].max()) == 0 and data.decoding == Decoding(5, background=0)


def photo(width: int, height: int, seed: int = 0) -> Image.Image:
    """Returns noise of all scales, weaker the finer, as in photographs."""
    rng, image = np.random.default_rng(seed), np.zeros((height, width, 3))
    for k in range(1, 10):
        noise = rng.normal(size=(2**k + 1, 2**k + 1, 3)).astype("float32") / 2**k
        channels = [Image.fromarray(noise[..., c]).resize((width, height), Image.Resampling.BICUBIC) for c in range(3)]
        image += np.stack([np.asarray(channel) for channel in channels], axis=-1)
    return Image.fromarray((128 + 55 / image.std() * (image - image.mean())).clip(0, 255).astype("uint8"))


@pytest.mark.parametrize("size", [(100, 75), (75, 100), (64, 64), (800, 450), (31, 200), (5, 9), (64, 65)])
@pytest.mark.parametrize("channels", [1, 3])
def test_decoding_equals_torchvision(tmp_path: Path, size: tuple[int, int], channels: int) -> None:
    image = photo(*size)
    image.save(tmp_path / "a.png")
    image = image.convert("L") if channels == 1 else image
    expected = functional.pil_to_tensor(functional.center_crop(functional.resize(image, 64), [64, 64]))
    assert torch.equal(Decoding(64, scaled=False).decode(tmp_path / "a.png", channels), expected)
    difference = Decoding(64).decode(tmp_path / "a.png", channels).int() - expected.int()
    assert difference.abs().max() <= 1


@pytest.mark.parametrize("size", [(1000, 750), (384, 386), (800, 600), (2000, 400)])
def test_scaled_jpeg_files_differ_little(tmp_path: Path, size: tuple[int, int]) -> None:
    photo(*size).save(tmp_path / "a.jpg", quality=90)
    exact, scaled = (Decoding(128, scaled=scaled).decode(tmp_path / "a.jpg", 3).float() for scaled in (False, True))
    assert 0 < (exact - scaled).abs().mean() < 1
    assert torch.equal(Decoding(128).decode((tmp_path / "a.jpg").read_bytes(), 3).float(), scaled)


@pytest.mark.parametrize("size", [(60_000, 1), (1, 60_000), (60_000, 2)])
def test_very_long_images_take_little_memory(size: tuple[int, int]) -> None:
    image = Image.new("L", size)
    image.putpixel((size[0] // 2, size[1] // 2), 255)
    for scaled in (True, False):
        assert int(Decoding(64, scaled=scaled).decode(image, 1)[0, 32, 32]) > 50


# --- the scan ---


@pytest.mark.parametrize("dtype", ["uint16", "int32", "float32"])
def test_images_of_more_than_8_bits_are_refused(tmp_path: Path, dtype: str) -> None:
    write_images(tmp_path, mode="L")
    Image.fromarray(np.full((7, 9), 3000, dtype)).save(tmp_path / "cat" / "deep.tif")
    with pytest.raises(
        DataError, match=r"'cat/deep.tif' \(its values have more than 8 bits \(mode .*convert it to 8 bi"
    ):
        load(tmp_path)


def damage(folder: Path) -> None:
    (folder / "cat" / "00.png").write_bytes(b"")
    content = (folder / "cat" / "01.png").read_bytes()
    (folder / "cat" / "01.png").write_bytes(content[: len(content) // 2])
    (folder / "cat" / "02.png").write_bytes(b"<html>not found</html>")
    photo(64, 64).save(folder / "dog" / "03.jpg")
    content = (folder / "dog" / "03.jpg").read_bytes()
    (folder / "dog" / "03.jpg").write_bytes(content[: len(content) // 2])


@pytest.mark.parametrize("stream", [False, True])
def test_all_bad_files_are_named_at_once(tmp_path: Path, stream: bool) -> None:
    write_images(tmp_path, size=(64, 64))
    damage(tmp_path)
    with pytest.raises(DataError) as error:
        load(tmp_path, stream=stream)
    text = str(error.value)
    assert "4 of 21 images cannot be read" in text and "skip_bad=True (--skip-bad)" in text
    assert "'cat/00.png' (the file is empty)" in text and "'cat/01.png' (" in text and "'dog/03.jpg' (image fi" in text
    assert "'cat/02.png' (it is damaged, or of a format that Pillow cannot read)" in text
    with pytest.warns(UserWarning, match="4 of 21 images cannot be read: .*; they are left out"):
        data = load(tmp_path, stream=stream, skip_bad=True)
    assert data.skipped == ("cat/00.png", "cat/01.png", "cat/02.png", "dog/03.jpg")
    assert counts(data) == (13, 4, None) and data.hold_out(2).skipped == data.skipped


def test_long_lists_of_bad_files_are_cut_and_counted(tmp_path: Path) -> None:
    write_images(tmp_path, 20)
    for file in tmp_path.glob("*/*.png"):
        file.write_bytes(b"")
    with pytest.raises(DataError, match="40 of 40 images cannot be read: 'cat/00.png' .*and 30 more") as error:
        load(tmp_path)
    assert len(str(error.value)) < 2000 and "cat/12" not in str(error.value)
    with (
        pytest.warns(UserWarning, match="they are left out"),
        pytest.raises(DataError, match="no train and no test image can be read"),
    ):
        load(tmp_path, skip_bad=True)


def test_bombs_and_pipes_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_images(tmp_path)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    Image.new("1", (40, 30)).save(tmp_path / "cat" / "bomb.png")
    os.mkfifo(tmp_path / "cat" / "pipe.png")
    with pytest.raises(DataError) as error:
        load(tmp_path)
    assert "'cat/bomb.png' (it has more than 1,000 px (PIL.Image.MAX_IMAGE_PIXELS))" in str(error.value)
    assert "'cat/pipe.png' (it is not a regular file)" in str(error.value)


def scan_cache() -> Path:
    [file] = (Path(os.environ["XDG_CACHE_HOME"]) / "cnnzoo" / "scans").iterdir()
    return file


@pytest.fixture
def checked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the images that are decoded by a scan."""
    names: list[str] = []
    check = scan_module._check

    def counting(images: ImageFiles, i: int) -> object:
        names.append(images.name(i))
        return check(images, i)

    monkeypatch.setattr(scan_module, "_check", counting)
    return names


def test_the_scan_is_remembered(tmp_path: Path, checked: list[str]) -> None:
    write_images(tmp_path)
    first = load(tmp_path, stream=True)
    assert len(checked) == 20
    assert load(tmp_path, stream=True).sha256 == first.sha256 and len(checked) == 20
    assert load(tmp_path, stream=True, image_size=5).sha256 != first.sha256
    # another file of the same size and time
    file = tmp_path / "cat" / "03.png"
    times, content = os.stat(file), (tmp_path / "dog" / "03.png").read_bytes()
    assert len(content) == times.st_size
    file.write_bytes(content)
    os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert load(tmp_path, stream=True).sha256 != first.sha256 and checked[20:] == ["cat/03.png"]
    # a file under another label
    (tmp_path / "cow").mkdir()
    for i in range(5):
        (tmp_path / "cat" / f"0{i}.png").rename(tmp_path / "cow" / f"0{i}.png")
    assert load(tmp_path, stream=True).classes == ("cat", "cow", "dog")


@pytest.mark.parametrize("damage", ["text", "cut", "missing_table", "folder"])
def test_a_damaged_cache_is_replaced(tmp_path: Path, checked: list[str], damage: str) -> None:
    write_images(tmp_path)
    sha256 = load(tmp_path, stream=True).sha256
    file = scan_cache()
    content = file.read_bytes()
    if damage == "missing_table":
        with sqlite3.connect(file) as db:
            db.execute("DROP TABLE images")
        db.close()
    elif damage == "folder":
        file.unlink()
        file.mkdir()
    else:
        file.write_bytes(b"x" * 5000 if damage == "text" else content[:5000] + b"\xff" * 3000)
    for _ in range(2):
        assert load(tmp_path, stream=True).sha256 == sha256
    assert len(checked) == (60 if damage == "folder" else 40)


def test_without_a_cache(tmp_path: Path, checked: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    write_images(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", "/dev/null")
    assert load(tmp_path).sha256 == load(tmp_path).sha256 and len(checked) == 40


def test_an_interrupted_scan_goes_on(tmp_path: Path, checked: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    write_images(tmp_path)
    monkeypatch.setattr(scan_module, "_CHUNK", 4)
    check = scan_module._check

    def interrupt(images: ImageFiles, i: int) -> object:
        if images.name(i) == "dog/01.png":
            raise KeyboardInterrupt
        return check(images, i)

    with monkeypatch.context() as context:
        context.setattr(scan_module, "_check", interrupt)
        with pytest.raises(KeyboardInterrupt):
            load(tmp_path)
    before = set(checked)
    checked.clear()
    assert len(load(tmp_path).train) == 16
    assert len(before) >= 8 and len(checked) <= 12 and {"dog/01.png"} <= set(checked)


def test_a_bar_appears_when_a_scan_takes_long(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    write_images(tmp_path)
    load(tmp_path)
    assert capfd.readouterr() == ("", "")
    monkeypatch.setattr("cnnzoo.progress_bar._BAR_AFTER", -1.0)
    load(tmp_path)
    out, err = capfd.readouterr()
    assert out == "" and re.search(r"checking images.*20/20", err.replace("\n", " "))


# --- Datasets of files ---


def test_image_files_are_compact_and_can_be_selected(tmp_path: Path) -> None:
    write_images(tmp_path)
    names = [f"cat/{i:02}.png" for i in range(10)]
    files = LocalFiles(tmp_path, names, list(range(10)))
    assert files.labels.dtype == torch.int16 and [files.name(i) for i in range(10)] == names
    some = files[torch.tensor([7, 2])]
    assert [some.name(i) for i in range(2)] == ["cat/07.png", "cat/02.png"] and some.labels.tolist() == [7, 2]
    image, label = some[1]
    assert image.shape == (3, 7, 9) and label == 2
    gray = some.with_decoding(Decoding(5), 1, lambda image: 255 - image)
    assert gray[1][0].shape == (1, 5, 5) and int(gray[1][0].max()) == 253 and some.channels == 3
    assert some[0:1].name(0) == "cat/07.png" and len(files[[1, 2, 3]]) == 3


def test_list_image_files(tmp_path: Path) -> None:
    write_images(tmp_path, 2)
    (tmp_path / "notes.txt").write_text("")
    assert [str(path.relative_to(tmp_path)) for path in list_image_files(tmp_path)] == [
        "cat/00.png", "cat/01.png", "dog/00.png", "dog/01.png",
    ]  # fmt: skip
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "a.heic").write_text("")
    with pytest.raises(DataError, match=r"empty holds no images \(1 .heic files\); the suffixes are .png"):
        list_image_files(tmp_path / "empty")


def test_in_memory_and_on_demand_are_equal(tmp_path: Path) -> None:
    write_images(tmp_path)
    memory, stream = load(tmp_path, image_size=5), load(tmp_path, image_size=5, stream=True)
    assert isinstance(memory.train, Split) and isinstance(stream.train, ImageFiles)
    for i in range(16):
        assert torch.equal(memory.train[i][0], stream.train[i][0]) and memory.train[i][1] == stream.train[i][1]
    held = stream.hold_out(4)
    assert isinstance(held.train, ImageFiles) and (len(held.train), len(held.test)) == (12, 4)


def test_links_that_cannot_be_followed(tmp_path: Path) -> None:
    """A class would vanish with its link."""
    write_images(tmp_path)
    for target, reason in (("gone", "No such file or directory"), ("cow", "Too many levels of symbolic links")):
        (tmp_path / "cow").symlink_to(target)
        with pytest.raises(
            DataError, match=f"cow is a link that cannot be followed: {reason}; repair it, or remove it"
        ):
            load(tmp_path)
        (tmp_path / "cow").unlink()
    (tmp_path / "cat" / "more").symlink_to(tmp_path / "gone")
    with pytest.raises(DataError, match="cat/more is a link that cannot be followed"):
        load(tmp_path)


@pytest.mark.parametrize("stream", [False, True])
def test_an_image_that_was_replaced_is_other_data(tmp_path: Path, stream: bool) -> None:
    """The scan, which is remembered by size, times and inode, notices content of the same size and time."""
    write_images(tmp_path)
    before = load(tmp_path, stream=stream).sha256
    assert load(tmp_path, stream=stream).sha256 == before
    file = tmp_path / "cat" / "03.png"
    times, size = (file.stat().st_atime_ns, file.stat().st_mtime_ns), file.stat().st_size
    content = file.read_bytes()
    Image.new("RGB", (9, 7), (1, 2, 3)).save(file)
    other = file.read_bytes()
    file.write_bytes(other + b"\0" * max(0, size - len(other)))
    os.utime(file, ns=times)
    assert file.stat().st_mtime_ns == times[1] and content != file.read_bytes()
    assert load(tmp_path, stream=stream).sha256 != before
