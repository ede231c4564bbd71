"""One preparation of images: training, evaluation and prediction see the same tensors, of every picture."""

from __future__ import annotations

import copy
import io
import json
import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from PIL import Image
from torch import nn

import cnnzoo
from cnnzoo.blocks import AdaptiveAvgPool, Conv, Flatten, Logits
from cnnzoo.data import Data, Decoding, ImageData, Split, StreamData, epoch_order
from cnnzoo.errors import InputError, UnknownNameError
from cnnzoo.metadata import Metadata, checksum_tensors, match_labels
from cnnzoo.preprocessing import CROP_MODES, VIEWS, Preprocessing

MODES = ("RGB", "L", "RGBA", "LA", "P", "1", "CMYK")
CONFIG = cnnzoo.TrainConfig(
    epochs=1, batch_size=100, lr=1e-3, precision="fp32", workers=2, device="cpu", channels_last=False
)


def random_picture(rng: np.random.Generator, gray: bool) -> tuple[Image.Image, str, dict]:
    """Returns a picture of a random size, mode and orientation, the suffix of its format, and options of its file."""
    height, width = (int(side) for side in rng.integers(9, 120, 2))
    pixels = rng.integers(0, 256, (max(height // 8, 1), max(width // 8, 1), 4), dtype=np.uint8)
    image = Image.fromarray(pixels, "RGBA").resize((width, height), Image.Resampling.BICUBIC)
    mode = str(rng.choice(("L", "LA", "1") if gray else MODES))
    image = image.convert(mode) if mode not in ("P", "CMYK") else image.convert("RGB").convert(mode)
    suffixes = {"CMYK": ["jpg", "tif"], "L": ["png", "jpg"], "RGB": ["png", "jpg", "webp"]}
    suffix = str(rng.choice(suffixes.get(mode, ["png"])))
    options: dict = {"transparency": 0} if mode == "P" else {}
    if suffix in ("jpg", "webp", "png") and rng.random() < 0.5:
        exif = Image.Exif()
        exif[0x0112] = int(rng.integers(1, 9))
        options["exif"] = exif
    return image, suffix, options


def write_folder(
    root: Path, seed: int, *, gray: bool = False, n: int = 6, classes: tuple[str, ...] = ("a", "b")
) -> None:
    rng = np.random.default_rng(seed)
    for split in ("train", "test"):
        for name in classes:
            (root / split / name).mkdir(parents=True)
            for i in range(n):
                image, suffix, options = random_picture(rng, gray)
                image.save(root / split / name / f"{i}.{suffix}", **options)


def make_spec(channels: int, classes: int, size: int = 20) -> cnnzoo.Spec:
    blocks = (Conv(4, kernel_size=3, padding=1), AdaptiveAvgPool(1), Flatten())
    return cnnzoo.Spec("small", (channels, size, size), blocks, (Logits(classes),))


class Recorder:
    """Records the inputs of a module, image by image."""

    def __init__(self, model: nn.Module) -> None:
        self._model = model

    def record(self, function: Callable[[], object]) -> torch.Tensor:
        inputs: list[torch.Tensor] = []
        handle = self._model.register_forward_pre_hook(lambda _, args: inputs.append(args[0].detach().clone()))
        function()
        handle.remove()
        return torch.cat([x for x in inputs if not x.is_meta])  # those of a count


def files_of(split: object) -> list[str]:
    files = split.files if isinstance(split, Split) else split
    return [str(files.path(i)) for i in range(len(files))]  # type: ignore[attr-defined]


def write_table(root: Path) -> Path:
    rows = [
        f"{path.relative_to(root)},{path.parent.name},{path.parent.parent.name}" for path in sorted(root.rglob("*.*"))
    ]
    (root / "table.csv").write_text("file,label,split\n" + "\n".join(rows) + "\n")
    return root / "table.csv"


LOADERS: dict[str, Callable[[Path, int], Data]] = {
    "memory": lambda root, size: cnnzoo.load_data(f"folder:{root}", image_size=size, stream=False),
    "stream": lambda root, size: cnnzoo.load_data(f"folder:{root}", image_size=size, stream=True),
    "csv": lambda root, size: cnnzoo.load_data(f"csv:{write_table(root)}", image_size=size),
    "not scaled": lambda root, size: cnnzoo.load_data(f"folder:{root}", image_size=size, scaled=False, background=0),
}


@pytest.mark.parametrize("crop_mode", CROP_MODES)
@pytest.mark.parametrize("loader", LOADERS)
@pytest.mark.parametrize(
    "gray", [pytest.param(False, id="color"), pytest.param(True, id="gray", marks=pytest.mark.slow)]
)
def test_training_evaluation_and_prediction_see_the_same_tensors(
    tmp_path: Path, loader: str, crop_mode: str, gray: bool
) -> None:
    seed = CROP_MODES.index(crop_mode) + 10 * list(LOADERS).index(loader)
    write_folder(tmp_path / "data", seed, gray=gray)
    data = LOADERS[loader](tmp_path / "data", 24)
    assert data.shape[0] == (1 if gray else 3)
    model = cnnzoo.create(make_spec(data.shape[0], 2), seed=0)
    trainer = cnnzoo.Trainer(model, data, CONFIG.replace(crop_mode=crop_mode), out=tmp_path / "run", show=False)
    inputs = Recorder(model).record(trainer.fit)
    n = len(data.train)
    trained = inputs[1 : 1 + n]  # after the check of the number of scores
    tested = inputs[1 + n :]
    loaded = cnnzoo.load(tmp_path / "run")
    assert loaded.metadata.preprocessing == trainer.preprocessing == model.metadata.preprocessing

    def predict(files: list[str]) -> torch.Tensor:
        return Recorder(loaded).record(lambda: cnnzoo.predict(loaded, files))

    order = epoch_order(n, CONFIG.seed, 0)
    train_files = files_of(data.train)
    if crop_mode != "center":  # whose crops are random in training
        assert torch.equal(trained, predict([train_files[i] for i in order]))
    predicted = predict(files_of(data.test))
    assert torch.equal(tested, predicted)
    # the folder may be loaded in any other way: the files are decoded as the weights say
    others = (
        cnnzoo.load_data(f"folder:{tmp_path / 'data'}", image_size=40),
        cnnzoo.load_data(f"folder:{tmp_path / 'data'}", split=False),  # of different sizes
    )
    for other in (data, *others):
        evaluated = Recorder(loaded).record(lambda: cnnzoo.evaluate(loaded, other))  # noqa: B023
        assert torch.equal(evaluated, predicted)
    transform = cnnzoo.transforms(tmp_path / "run")
    assert torch.equal(torch.stack([transform(file) for file in files_of(data.test)]), predicted)


@pytest.mark.parametrize("fine_tune", [False, True])
def test_weights_of_torchvision(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fine_tune: bool) -> None:
    """Their preparation is that of torchvision, until training replaces it (I2)."""
    twin = torchvision.models.squeezenet1_1()
    enum = torchvision.models.SqueezeNet1_1_Weights.IMAGENET1K_V1
    monkeypatch.setattr(type(enum), "get_state_dict", lambda *_, **__: twin.state_dict())
    write_folder(tmp_path, 0, classes=("goldfish", "tench"), n=3)
    data = cnnzoo.load_data(f"folder:{tmp_path}", image_size=32)
    model = cnnzoo.create("squeezenet1_1", pretrained="torchvision")
    files = files_of(data.test)
    if fine_tune:
        with pytest.warns(UserWarning, match="classifier.1 is new"):
            model = cnnzoo.create("squeezenet1_1", pretrained="torchvision", num_classes=2, image_size=32)
        cnnzoo.Trainer(model, data, CONFIG, show=False).fit()
        assert model.metadata.preprocessing.decoding == data.decoding
        assert model.metadata.preprocessing.crop_pct == 1 and model.metadata.provenance["from"]["kind"] == "adapted"
    evaluated = Recorder(model).record(lambda: cnnzoo.evaluate(model, data))
    predicted = Recorder(model).record(lambda: cnnzoo.predict(model, files))
    assert torch.equal(evaluated, predicted)
    if not fine_tune:
        for file, x in zip(files, evaluated, strict=True):
            with Image.open(file) as image:
                if image.mode == "RGB" and image.getexif().get(0x0112, 1) == 1:
                    torch.testing.assert_close(x, enum.transforms()(image), rtol=0, atol=1e-5)


# --- the value ---


def test_json_both_ways() -> None:
    whole = Preprocessing((32, 24), [0.1, 0.2, 0.3], [1, 2, 3], "border", 0.9, "bicubic", Decoding(64, 0, False))
    for value in (whole, Preprocessing(28, [0.5], [0.25])):
        text = json.dumps(value.to_dict())
        assert Preprocessing.from_dict(json.loads(text)) == value
        metadata = Metadata(("a", "b"), value, {"kind": "mine", "n": 1})
        assert Metadata.from_dict(json.loads(json.dumps(metadata.to_dict()))) == metadata
    assert Metadata.from_dict(Metadata().to_dict()) == Metadata()
    assert Preprocessing(28, [0.5], [0.25]).to_dict() == {
        "input_size": [1, 28, 28], "mean": [0.5], "std": [0.25], "crop_mode": "squash", "crop_pct": 1.0,
        "interpolation": "bilinear", "decoding": {"image_size": None, "background": 255, "scaled": True},
    }  # fmt: skip
    assert hash(whole) == hash(whole.replace())
    with pytest.raises(AttributeError):
        whole.size = (1, 1)  # type: ignore[misc]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"size": 0}, r"size must be an integer from 1 to 4096 or a pair of them, not 0"),
        ({"size": (1, 2, 3)}, "size must be an integer from 1"),
        ({"size": 2.5}, "size must be an integer from 1"),
        ({"mean": [0.5, 0.5]}, r"mean and std need one number per channel, not \[0.5, 0.5\] and \[0.25\]"),
        ({"mean": [], "std": []}, "mean and std need one number per channel"),
        ({"std": [0.0]}, "std must be a list of numbers of at least 1e-06, not"),
        ({"mean": ["x"]}, "mean must be a list of numbers, not"),
        ({"crop_mode": "centre"}, "unknown crop_mode 'centre'. Did you mean 'center'"),
        ({"crop_pct": 0.001}, "crop_pct must be a number at least 0.05 and at most 1, not 0.001"),
        ({"interpolation": "cubic"}, "unknown interpolation 'cubic'. Did you mean 'bicubic'"),
        ({"decoding": {}}, "decoding must be a Decoding, not"),
    ],
)
def test_values_are_checked(changes: dict, message: str) -> None:
    with pytest.raises((InputError, UnknownNameError), match=message):
        Preprocessing(**{"size": 28, "mean": [0.5], "std": [0.25], **changes})


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"input_size": 3}, r"input_size must be a list \[channels, height, width\], not 3"),
        ({"input_size": [3, 8, 8]}, "need one number for each of 3 channels"),
        ({"decoding": {"image_size": "x"}}, "image_size must be an integer from 1 to 4096 or None, not 'x'"),
        ({"decoding": {"zoom": 2}}, "decoding must be an object with the fields image_size, background, scaled, not"),
    ],
)
def test_json_is_checked(data: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Preprocessing.from_dict({**Preprocessing(8, [0.5], [0.25]).to_dict(), **data})


def test_metadata_are_checked() -> None:
    for changes, message in (
        ({"label_names": "abc"}, "printable strings of at most 1000 characters, one per class, or None, not 'abc'"),
        ({"label_names": [1, 2]}, "label_names must be a list of printable strings"),
        ({"preprocessing": {}}, "preprocessing must be a Preprocessing or None"),
        ({"provenance": {"x": 1}}, "provenance must be a mapping with the key 'kind' or None"),
    ):
        with pytest.raises(InputError, match=message):
            Metadata(**changes)  # type: ignore[arg-type]
    model = cnnzoo.create("lenet")
    with pytest.raises(InputError, match="lenet has 10 classes, and label_names has 2"):
        model.metadata = Metadata(("a", "b"))
    with pytest.raises(InputError, match="metadata must be a cnnzoo.Metadata, not dict"):
        model.metadata = {}  # type: ignore[assignment]


def test_text_of_a_preprocessing() -> None:
    assert str(Preprocessing(28, [0.286], [0.353])) == (
        "gray; resized to 28x28 px; values in [0, 1], normalized with mean 0.286 and standard deviation 0.353"
    )
    color = Preprocessing(224, [0.5] * 3, [0.2] * 3, "center", 0.875, "bicubic", Decoding(256))
    assert str(color).startswith(
        "RGB; shorter side resized to 256 px, central square kept; resized to cover 256x256 px (bicubic); "
        "center-cropped to 224x224 px; values in [0, 1]"
    )


# --- tensors and pictures ---


@pytest.mark.parametrize("crop_mode", CROP_MODES)
@pytest.mark.parametrize("views", VIEWS)
def test_batches_equal_single_images(crop_mode: str, views: str) -> None:
    images = torch.randint(0, 256, (5, 3, 40, 33), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    preprocessing = Preprocessing((24, 20), [0.5] * 3, [0.2] * 3, decoding=Decoding(30)).with_crop_mode(crop_mode)
    batch = preprocessing.views(images, views)
    assert batch.shape == (5, VIEWS[views], 3, 24, 20)
    assert torch.equal(batch, torch.cat([preprocessing.views(image[None], views) for image in images]))
    assert torch.equal(preprocessing.apply(images), preprocessing.apply(list(images)))
    assert torch.equal(preprocessing(images[0]), preprocessing.apply(images)[0])


def test_tensors_equal_pictures() -> None:
    """Also the conversion to gray, and the square that is cut out; at full size, which is not decoded faster."""
    rng = np.random.default_rng(0)
    for channels in (1, 3):
        for decoding in (Decoding(), Decoding(24, scaled=False)):
            preprocessing = Preprocessing(20, [0.5] * channels, [0.2] * channels, decoding=decoding)
            for shape in ((60, 41, 3), (30, 77, 3), (24, 24, 3), (50, 50)):
                picture = Image.fromarray(rng.integers(0, 256, shape, dtype=np.uint8))
                tensor = torchvision.transforms.functional.pil_to_tensor(picture)
                assert torch.equal(preprocessing(picture), preprocessing(tensor))


def test_a_long_image_takes_little_memory() -> None:
    for channels, decoding in ((1, Decoding()), (3, Decoding(224))):
        preprocessing = Preprocessing(224, [0] * channels, [1] * channels, "center", 0.875, decoding=decoding)
        assert preprocessing(torch.zeros(channels, 1, 60_000, dtype=torch.uint8)).shape == (channels, 224, 224)
        assert preprocessing(Image.new("L", (1, 60_000))).shape == (channels, 224, 224)


def test_a_picture_of_the_caller_is_not_changed() -> None:
    file = io.BytesIO()
    Image.new("RGB", (400, 300), "red").save(file, "JPEG")
    picture = Image.open(file)
    assert Preprocessing(8, [0.5] * 3, [0.2] * 3, decoding=Decoding(32))(picture).shape == (3, 8, 8)
    assert picture.size == (400, 300) and picture.mode == "RGB"


# --- any module; nothing is guessed ---


def test_any_module(tmp_path: Path, tiny_data: ImageData) -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 3))
    preprocessing = Preprocessing(8, tiny_data.mean, tiny_data.std)
    image = tiny_data.test.images[0]
    for function in (
        lambda: cnnzoo.evaluate(model, tiny_data),
        lambda: cnnzoo.predict(model, image),
        lambda: cnnzoo.bench(model, seconds=0.01),
        lambda: cnnzoo.transforms(model),
    ):
        with pytest.raises(InputError, match="Sequential has no preprocessing: how an image becomes its input is not"):
            function()
    with pytest.raises(InputError, match=r"the input of Sequential is not known; give compare\(..., input_size="):
        cnnzoo.compare(model, "lenet")
    assert cnnzoo.transforms(model, preprocessing=preprocessing) == preprocessing
    assert cnnzoo.evaluate(model, tiny_data, preprocessing=preprocessing).n == 30
    prediction = cnnzoo.predict(model, image, preprocessing=preprocessing)
    assert prediction.classes == ["0", "1", "2"] and prediction.file is None
    assert cnnzoo.bench(model, preprocessing=preprocessing, seconds=0.01).timings[0].name == "Sequential"
    counts = cnnzoo.compare(model, "lenet", preprocessing=preprocessing)
    assert counts.reports[0].input_size == (1, 1, 8, 8) and counts.reports[0].params.total == 195
    model.metadata = Metadata(("x", "y", "z"), preprocessing)  # type: ignore[assignment]
    assert cnnzoo.transforms(model) == preprocessing and cnnzoo.predict(model, image).label in "xyz"
    assert cnnzoo.predict(torch.compile(model, backend="eager"), image).classes == ("x", "y", "z")
    with pytest.raises(InputError, match="preprocessing must be a cnnzoo.Preprocessing, not dict"):
        cnnzoo.evaluate(model, tiny_data, preprocessing={})  # type: ignore[arg-type]


def test_compare_trains_copies_of_any_modules(tiny_data: ImageData) -> None:
    """Also T15: the caller's networks stay as they are."""
    ours, theirs = cnnzoo.create(make_spec(1, 3, 8), seed=0), nn.Sequential(nn.Flatten(), nn.Linear(64, 3))
    before = [checksum_tensors(list(model.parameters())) for model in (ours, theirs)]
    comparison = cnnzoo.compare(ours, theirs, train=tiny_data, recipe=CONFIG)
    assert all("test_acc" in result for result in comparison.results)
    assert before == [checksum_tensors(list(model.parameters())) for model in (ours, theirs)]
    assert ours.metadata.provenance == {"kind": "random"}


def test_after_a_loop_of_ones_own(tiny_data: ImageData) -> None:
    """S2: what the loop did to the images is not known, and not guessed."""
    model = cnnzoo.create(make_spec(1, 3, 8), seed=0)
    preprocessing = Preprocessing(8, [0.0], [1.0])
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    loss = nn.functional.cross_entropy(model(preprocessing.apply(tiny_data.train.images)), tiny_data.train.labels)
    loss.backward()
    optimizer.step()
    for function in (cnnzoo.evaluate, lambda model, data: cnnzoo.predict(model, data.test.images[0])):
        with pytest.raises(InputError, match="small has no preprocessing"):
            function(model, tiny_data)
    assert cnnzoo.evaluate(model, tiny_data, preprocessing=preprocessing).n == 30


def test_float32_unless_asked(tiny_data: ImageData) -> None:
    """S4: the probabilities of evaluate are those of predict."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 3))
    dtypes = []
    model.register_forward_hook(lambda *args: dtypes.append(args[2].dtype))
    preprocessing = Preprocessing(8, tiny_data.mean, tiny_data.std)
    cnnzoo.evaluate(model, tiny_data, preprocessing=preprocessing)
    cnnzoo.evaluate(model, tiny_data, preprocessing=preprocessing, precision="bf16")
    assert dtypes == [torch.float32, torch.bfloat16]


def test_the_final_test_of_a_run_is_that_of_evaluate(tmp_path: Path, tiny_data: ImageData) -> None:
    config = CONFIG.replace(precision="bf16", epochs=2, batch_size=30, lr=0.05, views="flip")
    run = cnnzoo.Trainer(cnnzoo.create(make_spec(1, 3, 8), seed=0), tiny_data, config, out=tmp_path, show=False).fit()
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    evaluation = cnnzoo.evaluate(tmp_path, tiny_data)
    assert metrics["evaluations"]["test"] == evaluation.to_dict() and run.metrics["test_acc"] == evaluation.top1
    assert metrics["evaluations"]["test_flip"] == cnnzoo.evaluate(tmp_path, tiny_data, views="flip").to_dict()


def test_floats_are_used_unchanged(tiny_data: ImageData) -> None:
    images = [(split.images.float() / 255, split.labels) for split in (tiny_data.train, tiny_data.test)]
    data = StreamData("floats", *([batch] for batch in images), tiny_data.classes)
    model = cnnzoo.create(make_spec(1, 3, 8), seed=0)
    cnnzoo.Trainer(model, data, CONFIG, show=False).fit()
    assert model.metadata.preprocessing is None and model.metadata.label_names == tiny_data.classes
    assert cnnzoo.evaluate(model, data).n == 30
    with pytest.raises(InputError, match="small has no preprocessing"):  # how the floats were made is not known
        cnnzoo.predict(model, tiny_data.test.images[0])
    with pytest.raises(InputError, match="views='flip' needs images of uint8; images of floats are used unchanged"):
        cnnzoo.evaluate(model, data, views="flip")


# --- classes by name ---


def one_hot_model(classes: tuple[str, ...], answers: torch.Tensor) -> nn.Module:
    """Returns a module that answers ``answers[first pixel]``."""

    class Answers(nn.Module):
        metadata = Metadata(classes, Preprocessing(2, [0.0], [1 / 255]))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return nn.functional.one_hot(answers[x[:, 0, 0, 0].round().long()], len(classes)).float() * 10

    return Answers()


def labeled_data(name: str, classes: tuple[str, ...], pixels: list[int], labels: list[int]) -> ImageData:
    images = torch.tensor(pixels, dtype=torch.uint8)[:, None, None, None].expand(-1, 1, 2, 2)
    split = Split(images.contiguous(), torch.tensor(labels))
    return ImageData(name, split, split, classes)


def test_classes_in_another_order_and_some_of_them() -> None:
    """I4: pixel 0 is a cat, 1 a dog, 2 a fox."""
    model = one_hot_model(("cat", "dog", "fox", "gnu", "hen", "owl"), torch.tensor([0, 1, 2]))
    permuted = labeled_data("permuted", ("fox", "dog", "cat", "owl", "hen", "gnu"), [0, 1, 2, 2], [2, 1, 0, 0])
    evaluation = cnnzoo.evaluate(model, permuted)
    assert evaluation.top1 == 1 and evaluation.label_names == ("cat", "dog", "fox", "gnu", "hen", "owl")
    assert evaluation.support == (1, 1, 2, 0, 0, 0) and evaluation.balanced_accuracy == 1
    partial = labeled_data("partial", ("dog", "cat"), [0, 1, 2], [1, 0, 0])
    evaluation = cnnzoo.evaluate(model, partial)
    assert evaluation.top1 == pytest.approx(2 / 3) and evaluation.confusion[1, 2] == 1  # a dog as a fox
    unknown = labeled_data("unknown", ("cat", "Dog"), [0, 1], [0, 1])
    with pytest.raises(UnknownNameError) as error:
        cnnzoo.evaluate(model, unknown)
    assert str(error.value).startswith(
        "unknown has classes that Answers does not know: Dog. Answers has cat, dog, fox, gnu, hen, owl; unknown has "
        "cat, Dog. Classes are matched by name: rename those of the data, or set model.metadata"
    )


def test_labels_that_cannot_be_matched() -> None:
    names = tuple(f"class {i}" for i in range(5000))
    assert match_labels("net", names, names, "data") is None
    with pytest.raises(UnknownNameError, match=r"class 11 and 4,988 more; data has x") as error:
        match_labels("net", names, ("x",), "data")
    assert len(str(error.value)) < 1000
    with pytest.raises(UnknownNameError, match="does not know: a"):  # two classes of that name
        match_labels("net", ("a", "a", "b"), ("a", "b"), "data")


def test_fine_tuning_keeps_the_order_of_the_classes(tmp_path: Path, tiny_data: ImageData) -> None:
    """The last layer is that of the network: its classes keep their places, and the labels of the data follow."""
    spec, config = make_spec(1, 3, 8), CONFIG.replace(epochs=8, batch_size=10, lr=0.1)
    model = cnnzoo.create(spec, seed=0)
    cnnzoo.Trainer(model, tiny_data, config, out=tmp_path / "a", show=False).fit()
    order = torch.tensor([2, 0, 1])  # "right", "left", "middle"
    inverse = order.argsort()
    permuted = ImageData(
        "permuted",
        *(Split(split.images, inverse[split.labels]) for split in (tiny_data.train, tiny_data.test)),
        tuple(tiny_data.classes[i] for i in order),
    )
    assert cnnzoo.evaluate(model, permuted).top1 == cnnzoo.evaluate(model, tiny_data).top1
    results = []
    for data in (tiny_data, permuted):
        again = cnnzoo.load(tmp_path / "a")
        cnnzoo.Trainer(again, data, config.replace(epochs=1), show=False).fit()
        assert again.metadata.label_names == tiny_data.classes
        results.append(checksum_tensors(list(again.parameters())))
    assert results[0] == results[1]


@pytest.mark.filterwarnings("error")
def test_gray_and_color_are_converted() -> None:
    """I12: as predict converts them, with one warning."""
    model = one_hot_model(("cat", "dog"), torch.arange(256) % 2)
    images = torch.randint(0, 256, (20, 3, 2, 2), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    pictures = [torchvision.transforms.functional.to_pil_image(image) for image in images]
    labels = torch.tensor([cnnzoo.predict(model, picture).label == "dog" for picture in pictures]).long()
    color = ImageData("color", Split(images, labels), Split(images, labels), ("cat", "dog"))
    with pytest.warns(
        UserWarning, match="Answers expects gray images; the RGB images of color are converted"
    ) as caught:
        assert cnnzoo.evaluate(model, color, batch_size=3).top1 == 1
    assert len(caught) == 1


# --- provenance (S3) ---


def kind(model: cnnzoo.CNN) -> list[str]:
    return [origin["kind"] for origin in model.metadata.origins()]


def test_provenance_is_true(tmp_path: Path, tiny_data: ImageData) -> None:
    spec = make_spec(1, 3, 8)
    model = cnnzoo.create(spec, seed=0)
    x = torch.randn(4, 1, 8, 8)
    model(x)
    assert kind(model) == ["random"]

    def train_by_hand(model: cnnzoo.CNN) -> None:
        optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
        model(x).sum().backward()
        optimizer.step()

    train_by_hand(model)
    assert kind(model) == ["changed", "random"] and kind(model) == ["changed", "random"]  # once
    cnnzoo.save(model, tmp_path / "by_hand")
    assert "have changed since" in (tmp_path / "by_hand" / "README.md").read_text()
    assert kind(cnnzoo.load(tmp_path / "by_hand")) == ["changed", "random"]

    other = cnnzoo.create(spec, seed=1)
    other.load_state_dict(model.state_dict())
    assert kind(other) == ["state_dict"]
    cnnzoo.save(other, tmp_path / "loaded")
    assert (
        "Loaded from a state dict; how these weights were trained is not known"
        in (tmp_path / "loaded" / "README.md").read_text()
    )
    wrapped = nn.ModuleDict({"net": cnnzoo.create(spec, seed=1)})
    wrapped.load_state_dict({f"net.{key}": value for key, value in model.state_dict().items()})
    assert kind(wrapped["net"]) == ["state_dict"]

    cnnzoo.Trainer(other, tiny_data, CONFIG, out=tmp_path / "run", show=False).fit()
    assert kind(other) == ["trained", "state_dict"]
    loaded = cnnzoo.load(tmp_path / "run")
    assert kind(loaded) == ["trained", "state_dict"]
    with torch.no_grad():
        next(iter(loaded.parameters())).data[0] += 1  # .data has no version counter
    cnnzoo.save(loaded, tmp_path / "edited")
    assert kind(cnnzoo.load(tmp_path / "edited")) == ["changed", "trained", "state_dict"]
    with pytest.warns(UserWarning, match="is new"):
        adapted = cnnzoo.create(tmp_path / "run", num_classes=5)
    assert kind(adapted) == ["adapted", "trained", "state_dict"]


def test_what_does_not_change_weights(tmp_path: Path, tiny_spec: cnnzoo.Spec) -> None:
    model = cnnzoo.create(tiny_spec, seed=0)
    model.train()(torch.randn(4, 1, 8, 8))  # moves the statistics of batch norm: they were never trained
    model.to(memory_format=torch.channels_last)
    for same in (
        model,
        copy.deepcopy(model),
        pickle.loads(pickle.dumps(model)),
        cnnzoo.create(tiny_spec, device="meta"),
    ):
        assert kind(same) == ["random"]
    cnnzoo.save(model, tmp_path / "m")
    for dtype in (None, torch.float64, torch.bfloat16):
        assert kind(cnnzoo.load(tmp_path / "m", dtype=dtype)) == ["random"]
        assert kind(cnnzoo.create(tmp_path / "m", dtype=dtype)) == ["random"]
    model.metadata = model.metadata.replace(provenance={"kind": "elsewhere"})
    model.train()(torch.randn(4, 1, 8, 8))
    assert kind(model) == ["changed", "elsewhere"]  # the statistics were trained


# --- channels (W1) ---


def test_three_channels_to_four() -> None:
    """Existing filters stay: red differs from green as before; a fourth channel of any values changes nothing."""
    model = cnnzoo.create(make_spec(3, 2), seed=0)
    model.metadata = Metadata(("a", "b"), Preprocessing(20, [0.1, 0.2, 0.3], [0.4, 0.5, 0.6]))
    with pytest.warns(UserWarning, match="takes 4 channels instead of 3; the first 3 keep their filters, the others"):
        four = cnnzoo.weights.adapt(model, make_spec(4, 2))
    x = torch.rand(2, 4, 20, 20)
    assert torch.equal(four.features[0].weight[:, :3], model.features[0].weight)
    torch.testing.assert_close(four(x), model(x[:, :3]))
    preprocessing = four.metadata.preprocessing
    assert preprocessing.mean == pytest.approx([0.1, 0.2, 0.3, 0.2])
    assert preprocessing.std == pytest.approx([0.4, 0.5, 0.6, 0.5])
    with pytest.warns(UserWarning, match="the others start at the mean of the others"):
        mean = cnnzoo.weights.adapt(model, make_spec(4, 2), new_channels="mean")
    torch.testing.assert_close(mean.features[0].weight[:, 3], model.features[0].weight.mean(1))
    with pytest.warns(UserWarning, match="takes 3 channels instead of 4; the first 3 keep their filters"):
        three = cnnzoo.weights.adapt(four, make_spec(3, 2))
    assert torch.equal(three.features[0].weight, model.features[0].weight)
    with pytest.raises(InputError, match="new_channels= is for trained weights; pass pretrained=, or a saved network"):
        cnnzoo.create("lenet", new_channels="mean")
    with pytest.raises(UnknownNameError, match="unknown new_channels 'zeros'. Did you mean 'zero'"):
        cnnzoo.weights.adapt(model, make_spec(4, 2), new_channels="zeros")


def test_one_channel_and_three() -> None:
    gray = cnnzoo.create(make_spec(1, 2), seed=0)
    gray.metadata = Metadata(preprocessing=Preprocessing(20, [0.3], [0.4]))
    with pytest.warns(UserWarning, match="takes 3 channels instead of 1"):
        color = cnnzoo.weights.adapt(gray, make_spec(3, 2))
    x = torch.rand(2, 1, 20, 20)
    torch.testing.assert_close(color(x.expand(-1, 3, -1, -1)), gray(x))
    assert color.metadata.preprocessing.mean == (0.3,) * 3 and color.metadata.preprocessing.std == (0.4,) * 3
    color.metadata = Metadata(preprocessing=Preprocessing(20, [0.1, 0.2, 0.3], [0.4, 0.5, 0.6]))
    with pytest.warns(UserWarning, match="takes 1 channel instead of 3"):
        again = cnnzoo.weights.adapt(color, make_spec(1, 2))
    torch.testing.assert_close(again(x), gray(x))
    assert again.metadata.preprocessing.mean == pytest.approx([0.2])
