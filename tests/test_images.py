"""Images on their way into a net: made to fit, cut, augmented, and read as they are needed."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import functional

import cnnzoo
from cnnzoo.data import Augmentation, ImageData, StreamData, make_loader, make_views
from cnnzoo.data.augment import augment
from cnnzoo.data.datasets import principal_components
from cnnzoo.errors import DataError, InputError

CPU = torch.device("cpu")


def noise(n: int, *shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randint(0, 256, (n, *shape), generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)


# --- made to fit ---


@pytest.mark.parametrize(("before", "size"), [((28, 28), (32, 32)), ((5, 9), (6, 20)), ((40, 20), (20, 30))])
def test_pad_puts_black_around(before: tuple[int, int], size: tuple[int, int]) -> None:
    images = noise(3, 2, *before).clamp(min=1)
    padded = resize_and_crop(images, size, "pad")
    factor = min(1, size[0] / before[0], size[1] / before[1])
    inner = [round(side * factor) for side in before]
    top, left = (size[0] - inner[0]) // 2, (size[1] - inner[1]) // 2
    assert padded.shape == (3, 2, *size)
    window = padded[..., top : top + inner[0], left : left + inner[1]]
    if factor == 1:
        assert torch.equal(window, images)
    assert (window > 0).all() and (padded > 0).sum() == window.numel()


def pil_scaled(image: torch.Tensor, side: int) -> torch.Tensor:
    """The shorter side scaled to ``side``, as torchvision does it with PIL."""
    return functional.pil_to_tensor(functional.resize(functional.to_pil_image(image), side))


@pytest.mark.parametrize("before", [(64, 64), (60, 90), (20, 20)])
def test_crops_are_those_of_torchvision(before: tuple[int, int]) -> None:
    """Scaled to cover 8/7 of the size, then corners and center: 32 for 28 as 256 for 224."""
    images = noise(2, 3, *before)
    ten, five, center = (make_views(images, (28, 28), kind) for kind in ("ten", "five", "center"))
    assert ten.shape == (2, 10, 3, 28, 28) and five.shape[1] == 5 and center.shape[1] == 1
    for image, crops in zip(images, ten, strict=True):
        box = functional.center_crop(pil_scaled(image, 32), [32, 32])
        expected = functional.ten_crop(box, [28, 28])  # corners, center, then the same mirrored
        for crop in expected:
            assert sum(torch.equal(crop, c) for c in crops) >= 1
    assert torch.equal(five, ten[:, :5]) and torch.equal(center, ten[:, :1])
    assert torch.equal(ten[:, 5:], five.flip(-1))


def test_flip_and_whole() -> None:
    images = noise(2, 1, 8, 8)
    assert torch.equal(make_views(images, (8, 8), "whole")[:, 0], images)
    both = make_views(images, (16, 16), "flip")
    assert both.shape[1] == 2 and torch.equal(both[:, 1], both[:, 0].flip(-1))


def test_crop_cuts_windows_where_it_is_told() -> None:
    images = noise(3, 1, 32, 32)
    place = torch.tensor([[0.0, 0.0], [0.999, 0.5], [0.5, 0.999]])
    cut = resize_and_crop(images, (28, 28), "crop", place)
    assert torch.equal(cut[0], images[0, :, :28, :28])
    assert torch.equal(cut[1], images[1, :, 4:, 2:30])
    assert torch.equal(cut[2], images[2, :, 2:30, 4:])
    assert torch.equal(resize_and_crop(images, (28, 28), "crop"), images[..., 2:30, 2:30])


# --- augmentation ---


def test_flip_shift_and_erase_image_by_image() -> None:
    images = noise(40, 2, 12, 10)
    what = Augmentation(flip=True, translate=3, random_erasing=0.5)
    draws = draw(what, 40, (2, 12, 10), seed=7)
    changed = augment(images, what, draws)
    assert 8 < draws.flip.sum() < 32 and set(draws.translate.unique().tolist()) == set(range(-3, 4))
    erased = 0
    for i, image in enumerate(images):
        if draws.flip[i]:
            image = image.flip(-1)
        expected = torch.zeros_like(image)
        down, right = draws.translate[i].tolist()
        for y in range(12):
            for x in range(10):
                if 0 <= y - down < 12 and 0 <= x - right < 10:
                    expected[:, y, x] = image[:, y - down, x - right]
        top, left, height, width = draws.box[i].tolist()
        for y in range(12):
            for x in range(10):
                if top <= (y + 0.5) / 12 < top + height and left <= (x + 0.5) / 10 < left + width:
                    expected[:, y, x] = draws.noise[i, :, y, x]
                    erased += 1
        assert torch.equal(changed[i], expected)
    assert 0.02 * 0.5 < erased / (40 * 120) < 0.33 * 0.7
    assert torch.equal(images, noise(40, 2, 12, 10))  # the stored ones are untouched


def test_what_is_drawn_depends_on_seed_and_place_alone() -> None:
    what = Augmentation(flip=True, translate=2, random_erasing=0.3, mixup=0.4, pca_lighting=0.1)
    images = noise(16, 3, 8, 8)
    whole = augment(images, what, draw(what, 16, (3, 8, 8), 5), partners=images.roll(-1, 0))
    for share in (slice(0, 5), slice(5, 16)):
        part = augment(images[share], what, draw(what, 16, (3, 8, 8), 5).at(share), partners=images.roll(-1, 0)[share])
        assert torch.equal(part, whole[share])
    other = augment(images, what, draw(what, 16, (3, 8, 8), 6), partners=images.roll(-1, 0))
    assert not torch.equal(whole, other)


def test_mixup_mixes_pairs() -> None:
    what = Augmentation(mixup=0.2)
    images, partners = noise(500, 1, 2, 2), noise(500, 1, 2, 2, seed=1)
    draws = draw(what, 500, (1, 2, 2), 0)
    share = draws.share[:, None, None, None]
    assert torch.equal(
        augment(images, what, draws, partners=partners), (images * share + partners * (1 - share)).round().byte()
    )
    # Beta(a, a): mean 1/2, variance 1 / (4 (2 a + 1))
    assert draws.share.mean().item() == pytest.approx(0.5, abs=0.06)
    assert draws.share.var().item() == pytest.approx(1 / (4 * 1.4), rel=0.15)


def test_color_noise_follows_the_principal_components() -> None:
    """Krizhevsky, Sutskever, Hinton 2012: eigenvalues times a draw, along the eigenvectors."""
    base = torch.rand(2000, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    tint = torch.tensor([1.0, 0.5, 0.25])[:, None, None]
    images = (base * tint * 255).byte()
    components = principal_components(images)
    pixels = images.double().permute(1, 0, 2, 3).reshape(3, -1) / 255
    covariance = torch.cov(pixels, correction=0)
    assert torch.allclose(components.double().norm(dim=1), torch.linalg.eigvalsh(covariance).abs(), atol=1e-6)
    what = Augmentation(pca_lighting=0.5)
    draws = draw(what, 2000, (3, 4, 4), 0)
    gray = torch.full_like(images, 128)
    moved = augment(gray, what, draws, components=components)[:, :, 0, 0].double() - 128
    assert torch.allclose(moved, (255 * draws.pca_lighting @ components).double(), atol=0.51)
    assert moved.std(0)[0] > moved.std(0)[1] > moved.std(0)[2] > 0  # along the tint


def test_nothing_is_done_where_nothing_is_asked() -> None:
    assert not Augmentation() and Augmentation(translate=1)


# --- data that is read as it is needed ---


class Drawn(Dataset):
    """Samples that are drawn at random, from torch's and Python's own state."""

    def __init__(self, n: int = 12, classes: int = 3) -> None:
        self.n, self.classes = n, classes

    def __len__(self) -> int:
        return self.n

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        image = torch.randint(0, 200, (1, 8, 8), dtype=torch.uint8)
        return image + random.randint(0, 50), index % self.classes


def test_random_samples_do_not_depend_on_workers_or_on_where_one_starts() -> None:
    lists = [torch.tensor([3, 1]), torch.tensor([7]), torch.tensor([0, 11, 5])]
    state, python = torch.get_rng_state(), random.getstate()
    alone = list(make_loader(Drawn(), 3, CPU, workers=0).batches(lists, 9))
    assert torch.equal(state, torch.get_rng_state()) and python == random.getstate()
    helped = list(make_loader(Drawn(), 3, CPU, workers=2).batches(lists, 9))
    rest = list(make_loader(Drawn(), 3, CPU, workers=0).batches(lists[1:], 9))
    for (x, y), (x2, y2) in [*zip(alone, helped, strict=True), *zip(alone[1:], rest, strict=True)]:
        assert torch.equal(x, x2) and torch.equal(y, y2)
    assert [y.tolist() for _, y in alone] == [[0, 1], [1], [0, 2, 2]]
    other = next(iter(make_loader(Drawn(), 3, CPU).batches(lists, 10)))
    assert not torch.equal(alone[0][0], other[0])


def test_batches_that_something_else_makes() -> None:
    batches = [(torch.rand(4, 1, 8, 8), torch.full((4,), i % 3)) for i in range(5)]
    feed = make_loader(batches, 3, CPU)
    assert [int(y[0]) for _, y in feed.batches([torch.tensor([i]) for i in range(3, 5)], 0)] == [0, 1]
    loader = DataLoader(Drawn(), batch_size=5, shuffle=True)
    first, again = (
        torch.cat([y for _, y in make_loader(loader, 3, CPU).batches([torch.tensor([i]) for i in range(3)], seed)])
        for seed in (4, 4)
    )
    assert torch.equal(first, again) and sorted(first.tolist()) == [0] * 4 + [1] * 4 + [2] * 4


@pytest.mark.parametrize(
    ("part", "says"),
    [
        (Drawn(classes=5), "labels run from 0 to 4, but there are 3 classes"),
        ([(torch.rand(2, 1, 8, 8), torch.tensor([0, 1, 2]))], r"not \(2, 1, 8, 8\) and \(3,\)"),
        ([torch.rand(2, 1, 8, 8)], "must give .images, labels. with images as tensors, not Tensor"),
        ([("cat.png", 1)], "not tuple"),
    ],
)
def test_odd_data_is_refused(part: object, says: str) -> None:
    with pytest.raises(DataError, match=says):
        list(
            make_loader(part, 3, CPU).batches([torch.arange(12)] if isinstance(part, Drawn) else [torch.tensor([0])], 0)
        )


def test_images_of_one_batch_must_be_of_one_size() -> None:
    class Odd(Drawn):
        def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
            return torch.zeros(1, 8, 8 + index, dtype=torch.uint8), 0

    with pytest.raises(DataError, match="images of one batch differ in shape"):
        list(make_loader(Odd(), 3, CPU).batches([torch.arange(3)], 0))


def test_stream_data_says_what_it_lacks() -> None:
    made = StreamData("drawn", Drawn(), Drawn(), ("a", "b", "c"))
    assert made.shape == (1, 8, 8) and made.dtype == torch.uint8 and 0.3 < made.mean[0] < 0.6 and made.std[0] > 0.1
    with pytest.raises(DataError, match="drawn, train: a generator has no length; give a Dataset"):
        StreamData("drawn", (x for x in range(3)), Drawn(), ("a",))
    with pytest.raises(DataError, match="drawn, test: there are no images"):
        StreamData("drawn", Drawn(), [], ("a",))
    batches = [(torch.rand(2, 1, 8, 8), torch.tensor([0, 1]))]
    with pytest.raises(InputError, match="gives batches, from which no samples can be picked"):
        StreamData("batches", batches, batches, ("a", "b")).only(torch.tensor([0]))
    assert len(made.hold_out(4).train) == 8


def folder_of_images(path: Path, n: int = 10) -> None:
    rng = np.random.default_rng(0)
    for name, bright in (("dark", 0), ("light", 120)):
        (path / name).mkdir(parents=True)
        for i in range(n):
            pixels = rng.integers(bright, bright + 100, (20 + i % 3, 24, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(path / name / f"{i:02}.png")


def test_a_folder_streams_what_it_would_hold(tmp_path: Path) -> None:
    folder_of_images(tmp_path)
    held = cnnzoo.load_data(f"folder:{tmp_path}", image_size=16)
    streamed = cnnzoo.load_data(f"folder:{tmp_path}", image_size=16, stream=True)
    assert isinstance(held, ImageData) and isinstance(streamed, StreamData)
    assert streamed.classes == held.classes and streamed.shape == held.shape and streamed.sha256
    assert streamed.mean == held.mean and torch.equal(streamed.color_components, held.color_components)
    for part in ("train", "test"):
        split = getattr(held, part)
        for i, (image, label) in enumerate(getattr(streamed, part)):
            assert torch.equal(image, split.images[i]) and label == split.labels[i]
            if i == len(split) - 1:
                break


def test_the_same_training_from_memory_and_from_files(tmp_path: Path) -> None:
    folder_of_images(tmp_path)
    config = cnnzoo.TrainConfig(epochs=2, batch_size=5, lr=0.05, precision="fp32", flip=True, translate=1, workers=1)
    states = []
    for stream in (False, True):
        data = cnnzoo.load_data(f"folder:{tmp_path}", image_size=28, stream=stream)
        model = cnnzoo.create("lenet", in_channels=3, num_classes=2, activation="relu", seed=0)
        run = cnnzoo.Trainer(model, data, config, show=False).fit()
        assert run.metrics["test_acc"] >= 0.5
        states.append(run.model.state_dict())
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])
