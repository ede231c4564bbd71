"""Crop modes, views, and data that is read on demand."""

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
from cnnzoo.data import ImageData, StreamData, make_loader
from cnnzoo.errors import DataError, InputError
from cnnzoo.preprocessing import Preprocessing

CPU = torch.device("cpu")


def noise(n: int, *shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randint(0, 256, (n, *shape), generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)


def make_preprocessing(size: tuple[int, int], channels: int, crop_mode: str = "squash") -> Preprocessing:
    return Preprocessing(size, (0.0,) * channels, (1.0,) * channels).with_crop_mode(crop_mode)


# --- crop modes and views ---


@pytest.mark.parametrize(("before", "size"), [((28, 28), (32, 32)), ((5, 9), (6, 20)), ((40, 20), (20, 30))])
def test_border_pads_with_black(before: tuple[int, int], size: tuple[int, int]) -> None:
    images = noise(3, 2, *before).clamp(min=1)
    padded = make_preprocessing(size, 2, "border").crop(images)
    factor = min(1, size[0] / before[0], size[1] / before[1])
    inner = [round(side * factor) for side in before]
    top, left = (size[0] - inner[0]) // 2, (size[1] - inner[1]) // 2
    assert padded.shape == (3, 2, *size)
    window = padded[..., top : top + inner[0], left : left + inner[1]]
    if factor == 1:
        assert torch.equal(window, images)
    assert (window > 0).all() and (padded > 0).sum() == window.numel()


def pil_scaled(image: torch.Tensor, side: int) -> torch.Tensor:
    """Returns an image resized by torchvision and PIL, its shorter side to ``side``."""
    return functional.pil_to_tensor(functional.resize(functional.to_pil_image(image), side))


@pytest.mark.parametrize("before", [(64, 64), (60, 90), (20, 20)])
def test_crops_equal_those_of_torchvision(before: tuple[int, int]) -> None:
    """Resizes to cover 8/7 of the size, then crops corners and center: 32 for 28, like 256 for 224."""
    images = noise(2, 3, *before)
    preprocessing = make_preprocessing((28, 28), 3)
    ten, five, center = (preprocessing.views(images, views) for views in ("ten_crop", "five_crop", "center"))
    assert ten.shape == (2, 10, 3, 28, 28) and five.shape[1] == 5 and center.shape[1] == 1
    for image, crops in zip(images, ten, strict=True):
        box = functional.center_crop(pil_scaled(image, 32), [32, 32])
        expected = functional.ten_crop(box, [28, 28])  # corners, center, then the same mirrored
        for crop in expected:
            assert sum(torch.equal(crop, c) for c in crops) >= 1
    assert torch.equal(five, ten[:, :5]) and torch.equal(center, ten[:, :1])
    assert torch.equal(ten[:, 5:], five.flip(-1))


def test_flip_and_single() -> None:
    images = noise(2, 1, 8, 8)
    assert torch.equal(make_preprocessing((8, 8), 1).views(images, "single")[:, 0], images)
    both = make_preprocessing((16, 16), 1).views(images, "flip")
    assert both.shape[1] == 2 and torch.equal(both[:, 1], both[:, 0].flip(-1))


def test_crop_positions() -> None:
    images = noise(3, 1, 32, 32)
    positions = torch.tensor([[0.0, 0.0], [0.999, 0.5], [0.5, 0.999]])
    center = make_preprocessing((28, 28), 1, "center")
    crops = center.crop(images, positions)
    assert torch.equal(crops[0], images[0, :, :28, :28])
    assert torch.equal(crops[1], images[1, :, 4:, 2:30])
    assert torch.equal(crops[2], images[2, :, 2:30, 4:])
    assert torch.equal(center.crop(images), images[..., 2:30, 2:30])


# --- data that is read on demand ---


class RandomDataset(Dataset):
    """Samples drawn from the global random state of torch and Python."""

    def __init__(self, n: int = 12, classes: int = 3) -> None:
        self.n, self.classes = n, classes

    def __len__(self) -> int:
        return self.n

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        image = torch.randint(0, 200, (1, 8, 8), dtype=torch.uint8)
        return image + random.randint(0, 50), index % self.classes


def test_random_samples_depend_neither_on_workers_nor_on_the_first_batch() -> None:
    indices = [torch.tensor([3, 1]), torch.tensor([7]), torch.tensor([0, 11, 5])]
    state, python = torch.get_rng_state(), random.getstate()
    in_process = list(make_loader(RandomDataset(), 3, CPU, workers=0).batches(indices, 9))
    assert torch.equal(state, torch.get_rng_state()) and python == random.getstate()
    in_workers = list(make_loader(RandomDataset(), 3, CPU, workers=2).batches(indices, 9))
    rest = list(make_loader(RandomDataset(), 3, CPU, workers=0).batches(indices[1:], 9))
    for (x, y), (x2, y2) in [*zip(in_process, in_workers, strict=True), *zip(in_process[1:], rest, strict=True)]:
        assert torch.equal(x, x2) and torch.equal(y, y2)
    assert [y.tolist() for _, y in in_process] == [[0, 1], [1], [0, 2, 2]]
    other = next(iter(make_loader(RandomDataset(), 3, CPU).batches(indices, 10)))
    assert not torch.equal(in_process[0][0], other[0])


def test_ready_made_batches() -> None:
    batches = [(torch.rand(4, 1, 8, 8), torch.full((4,), i % 3)) for i in range(5)]
    loader = make_loader(batches, 3, CPU)
    assert [int(y[0]) for _, y in loader.batches([torch.tensor([i]) for i in range(3, 5)], 0)] == [0, 1]
    data_loader = DataLoader(RandomDataset(), batch_size=5, shuffle=True)
    first, again = (
        torch.cat([y for _, y in make_loader(data_loader, 3, CPU).batches([torch.tensor([i]) for i in range(3)], seed)])
        for seed in (4, 4)
    )
    assert torch.equal(first, again) and sorted(first.tolist()) == [0] * 4 + [1] * 4 + [2] * 4


@pytest.mark.parametrize(
    ("split", "message"),
    [
        (RandomDataset(classes=5), "labels range from 0 to 4, but there are 3 classes"),
        ([(torch.rand(2, 1, 8, 8), torch.tensor([0, 1, 2]))], r"not \(2, 1, 8, 8\) and \(3,\)"),
        ([torch.rand(2, 1, 8, 8)], "must yield .images, labels. with images as tensors, not Tensor"),
        ([("cat.png", 1)], "not tuple"),
    ],
)
def test_invalid_samples_are_refused(split: object, message: str) -> None:
    with pytest.raises(DataError, match=message):
        list(make_loader(split, 3, CPU).batches([torch.arange(12 if isinstance(split, RandomDataset) else 1)], 0))


def test_images_of_one_batch_must_be_of_one_size() -> None:
    class Widening(RandomDataset):
        def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
            return torch.zeros(1, 8, 8 + index, dtype=torch.uint8), 0

    with pytest.raises(DataError, match="images of one batch differ in shape"):
        list(make_loader(Widening(), 3, CPU).batches([torch.arange(3)], 0))


def test_stream_data_is_checked() -> None:
    data = StreamData("random", RandomDataset(), RandomDataset(), ("a", "b", "c"))
    assert data.shape == (1, 8, 8) and data.dtype == torch.uint8 and 0.3 < data.mean[0] < 0.6 and data.std[0] > 0.1
    with pytest.raises(DataError, match="random, train: a generator has no length; give a Dataset"):
        StreamData("random", (x for x in range(3)), RandomDataset(), ("a",))
    with pytest.raises(DataError, match="random, test: there are no images"):
        StreamData("random", RandomDataset(), [], ("a",))
    batches = [(torch.rand(2, 1, 8, 8), torch.tensor([0, 1]))]
    with pytest.raises(InputError, match="yields batches, from which no samples can be selected"):
        StreamData("batches", batches, batches, ("a", "b")).subset(torch.tensor([0]))
    assert len(data.hold_out(4).train) == 8


def folder_of_images(path: Path, n: int = 10) -> None:
    rng = np.random.default_rng(0)
    for name, bright in (("dark", 0), ("light", 120)):
        (path / name).mkdir(parents=True)
        for i in range(n):
            pixels = rng.integers(bright, bright + 100, (20 + i % 3, 24, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(path / name / f"{i:02}.png")


def test_a_folder_on_demand_equals_one_in_memory(tmp_path: Path) -> None:
    folder_of_images(tmp_path)
    in_memory = cnnzoo.load_data(f"folder:{tmp_path}", image_size=16)
    streamed = cnnzoo.load_data(f"folder:{tmp_path}", image_size=16, stream=True)
    assert isinstance(in_memory, ImageData) and isinstance(streamed, StreamData)
    assert streamed.classes == in_memory.classes and streamed.shape == in_memory.shape and streamed.sha256
    assert streamed.mean == in_memory.mean and torch.equal(streamed.color_components, in_memory.color_components)
    for part in ("train", "test"):
        split = getattr(in_memory, part)
        for i, (image, label) in enumerate(getattr(streamed, part)):
            assert torch.equal(image, split.images[i]) and label == split.labels[i]
            if i == len(split) - 1:
                break


def test_training_from_memory_equals_training_from_files(tmp_path: Path) -> None:
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
