"""Augmentation: each image by image, the same for every split of a batch, and open to those of others."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from runs import StopAt, plain_model
from torch import nn
from torchvision.transforms import InterpolationMode, RandomResizedCrop, functional

import cnnzoo
from cnnzoo.data import AUGMENTATIONS, Augmentation, ImageBatch, ImageData, Split, StreamData, derive_seed
from cnnzoo.data.augment import AugmentedImages, FieldParams, augment, sample_params
from cnnzoo.data.color_jitter import adjust_brightness, adjust_contrast, adjust_saturation
from cnnzoo.data.mixing import sample_beta, sample_cutmix_boxes
from cnnzoo.data.statistics import compute_color_components
from cnnzoo.data.warp import sample_crop_boxes
from cnnzoo.errors import InputError, UnknownNameError
from cnnzoo.serialization import weights_sha256
from cnnzoo.train.batches import PreparedBatch, TrainBatches, make_preprocessing
from cnnzoo.train.distributed import DistributedContext

CPU = torch.device("cpu")
FIELDS = {"flip": True, "translate": 2, "random_erasing": 0.5, "mixup": 0.4, "pca_lighting": 0.1}
REGISTERED = ("rotate:40", "color_jitter:0.8", "random_resized_crop:0.3")


def noise(n: int, *shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randint(0, 256, (n, *shape), generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)


def smooth(n: int, *shape: int) -> torch.Tensor:
    """Images without jumps from pixel to pixel, so that rounding is the only difference between two ways to sample."""
    channels, height, width = shape
    y, x = torch.arange(height)[:, None], torch.arange(width)
    phases = torch.rand(n, channels, 1, 1, generator=torch.Generator().manual_seed(0)) * 6
    return (127 + 120 * torch.sin(y / 4 + phases) * torch.cos(x / 5 + 2 * phases)).to(torch.uint8)


def augmented(images: torch.Tensor, augmentation: Augmentation, *, step: int = 0, **more: Any) -> AugmentedImages:
    """Augments the images of a whole batch."""
    n = len(images)
    positions = torch.arange(n + augmentation.mixes) % n
    return augment(images[positions], augmentation, positions=positions, batch_size=n, seed=7, step=step, **more)


def generator(*name: str) -> torch.Generator:
    """The stream of the fields, or of a registered augmentation, in the first step of ``augmented``."""
    return torch.Generator().manual_seed(derive_seed("augment", 7, 0, *name))


def params_of(augmentation: Augmentation, images: torch.Tensor) -> FieldParams:
    return sample_params(augmentation, len(images), images.shape[1:], generator())


# --- the fields ---


def test_flip_translation_and_erasing_image_by_image() -> None:
    images = noise(40, 2, 12, 10)
    augmentation = Augmentation(flip=True, translate=3, random_erasing=0.5)
    params = params_of(augmentation, images)
    changed = augmented(images, augmentation).images
    assert 8 < params.flip.sum() < 32 and set(params.translate.unique().tolist()) == set(range(-3, 4))
    assert params.noise is not None
    erased = 0
    for i, image in enumerate(images):
        if params.flip[i]:
            image = image.flip(-1)
        expected = torch.zeros_like(image)
        down, right = params.translate[i].tolist()
        for y in range(12):
            for x in range(10):
                if 0 <= y - down < 12 and 0 <= x - right < 10:
                    expected[:, y, x] = image[:, y - down, x - right]
        top, left, height, width = params.erase_box[i].tolist()
        for y in range(12):
            for x in range(10):
                if top <= (y + 0.5) / 12 < top + height and left <= (x + 0.5) / 10 < left + width:
                    expected[:, y, x] = params.noise[0, :, y, x]
                    erased += 1
        assert torch.equal(changed[i], expected)
    assert 0.02 * 0.5 < erased / (40 * 120) < 0.33 * 0.7
    assert torch.equal(images, noise(40, 2, 12, 10))  # the stored images are unchanged


def test_mixup_mixes_pairs() -> None:
    augmentation = Augmentation(mixup=0.2)
    images = noise(500, 1, 2, 2)
    weights = params_of(augmentation, images).mixup_weight
    result = augmented(images, augmentation)
    own, other = weights[:, None, None, None], 1 - weights[:, None, None, None]
    assert torch.equal(result.images, (images * own + images.roll(-1, 0) * other).round().byte())
    assert result.weights is not None and torch.equal(result.weights, weights)
    # Beta(a, a): mean 1/2, variance 1 / (4 (2 a + 1))
    assert weights.mean().item() == pytest.approx(0.5, abs=0.06)
    assert weights.var().item() == pytest.approx(1 / (4 * 1.4), rel=0.15)


def test_color_noise_follows_the_principal_components() -> None:
    """Krizhevsky, Sutskever, Hinton 2012: random multiples of the eigenvalues, along the eigenvectors."""
    base = torch.rand(2000, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    tint = torch.tensor([1.0, 0.5, 0.25])[:, None, None]
    images = (base * tint * 255).byte()
    components = compute_color_components([images])
    pixels = images.double().permute(1, 0, 2, 3).reshape(3, -1) / 255
    covariance = torch.cov(pixels, correction=0)
    assert torch.allclose(components.double().norm(dim=1), torch.linalg.eigvalsh(covariance).abs(), atol=1e-6)
    augmentation = Augmentation(pca_lighting=0.5)
    gray = torch.full_like(images, 128)
    moved = augmented(gray, augmentation, color_components=components).images[:, :, 0, 0].double() - 128
    assert torch.allclose(moved, (255 * params_of(augmentation, gray).pca_lighting @ components).double(), atol=0.51)
    assert moved.std(0)[0] > moved.std(0)[1] > moved.std(0)[2] > 0  # along the tint


def test_an_augmentation_without_settings_is_false() -> None:
    assert not Augmentation() and Augmentation(translate=1) and Augmentation(augment=("rotate",))


# --- the registered augmentations ---


@pytest.mark.parametrize("shape", [(3, 24, 24), (1, 17, 30)])
def test_rotation_equals_that_of_torchvision(shape: tuple[int, int, int]) -> None:
    images = smooth(30, *shape)
    angles = (2 * torch.rand(30, generator=generator("rotate"), dtype=torch.float64) - 1) * 60
    assert angles.min() < -40 and angles.max() > 40
    changed = augmented(images, Augmentation(augment=("rotate:60",))).images
    for image, angle, result in zip(images, angles.tolist(), changed, strict=True):
        expected = functional.rotate(image, angle, InterpolationMode.BILINEAR)
        assert (result.int() - expected.int()).abs().max() <= 1
    assert (images > 0).all() and (changed == 0).any()  # black outside
    images = noise(4, *shape)
    assert torch.equal(augmented(images, Augmentation(augment=("rotate:0",))).images, images)


@pytest.mark.parametrize("shape", [(3, 24, 24), (1, 17, 30)])
def test_crops_equal_those_of_torchvision(shape: tuple[int, int, int]) -> None:
    images = smooth(30, *shape)
    boxes = sample_crop_boxes(30, shape[1:], 0.1, generator("random_resized_crop"))
    changed = augmented(images, Augmentation(augment=("random_resized_crop:0.1",))).images
    for image, box, result in zip(images, boxes.tolist(), changed, strict=True):
        expected = functional.resized_crop(image, *box, list(shape[1:]), antialias=True)
        assert (result.int() - expected.int()).abs().max() <= 1
    images = noise(4, 3, 20, 20)
    assert torch.equal(augmented(images, Augmentation(augment=("random_resized_crop:1",))).images, images)


@pytest.mark.parametrize(("size", "scale"), [((32, 32), 0.08), ((20, 40), 0.5), ((10, 100), 0.9), ((100, 10), 0.9)])
def test_boxes_of_crops_are_distributed_as_those_of_torchvision(size: tuple[int, int], scale: float) -> None:
    n, (height, width) = 3000, size
    boxes = sample_crop_boxes(n, size, scale, torch.Generator().manual_seed(0))
    assert (boxes[:, :2] >= 0).all() and (boxes[:, 2:] >= 1).all()
    assert (boxes[:, 0] + boxes[:, 2] <= height).all() and (boxes[:, 1] + boxes[:, 3] <= width).all()
    image = torch.zeros(1, height, width)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        theirs = torch.tensor([RandomResizedCrop.get_params(image, (scale, 1), (3 / 4, 4 / 3)) for _ in range(n)])
    tolerance = 4 * theirs.double().std(0) / math.sqrt(n) * math.sqrt(2) + 1e-9
    assert ((boxes.double().mean(0) - theirs.double().mean(0)).abs() <= tolerance).all()
    assert boxes.double().std(0) == pytest.approx(theirs.double().std(0), rel=0.08, abs=1e-9)


def test_color_jitter_equals_that_of_torchvision() -> None:
    images = noise(40, 3, 9, 8)
    factors = 1 + 0.8 * (2 * torch.rand(40, 3, generator=generator("color_jitter")) - 1)
    assert factors.min() < 0.4 and factors.max() > 1.6
    pairs = (
        (adjust_brightness, functional.adjust_brightness),
        (adjust_contrast, functional.adjust_contrast),
        (adjust_saturation, functional.adjust_saturation),
    )
    expected = images
    for i, (ours, theirs) in enumerate(pairs):
        expected = torch.stack([theirs(x, f) for x, f in zip(expected, factors[:, i].tolist(), strict=True)])
        alone = torch.stack([theirs(x, f) for x, f in zip(images, factors[:, i].tolist(), strict=True)])
        assert (ours(images, factors[:, i]).int() - alone.int()).abs().max() <= 1
        assert torch.equal(ours(images, torch.ones(40)), images)
    changed = augmented(images, Augmentation(augment=("color_jitter:0.8",))).images
    assert (changed.int() - expected.int()).abs().max() <= 1


def test_color_jitter_of_gray_images() -> None:
    images = noise(40, 1, 9, 8)
    factors = 1 + 0.4 * (2 * torch.rand(40, 3, generator=generator("color_jitter")) - 1)
    changed = augmented(images, Augmentation(augment=("color_jitter",))).images
    for image, (brightness, contrast, _), result in zip(images, factors.tolist(), changed, strict=True):
        expected = functional.adjust_contrast(functional.adjust_brightness(image, brightness), contrast)
        assert (result.int() - expected.int()).abs().max() <= 1


def test_cutmix_image_by_image() -> None:
    images = noise(60, 3, 12, 10)
    random = generator("cutmix")
    ratios = (1 - sample_beta(60, 1.0, random)).sqrt().tolist()
    rows = torch.randint(12, (60,), generator=random).tolist()
    columns = torch.randint(10, (60,), generator=random).tolist()
    result = augmented(images, Augmentation(augment=("cutmix",)))
    assert result.weights is not None
    for i, ratio in enumerate(ratios):  # rand_bbox of the authors' code
        cut_height, cut_width = int(12 * ratio), int(10 * ratio)
        top, bottom = (min(max(rows[i] + sign * (cut_height // 2), 0), 12) for sign in (-1, 1))
        left, right = (min(max(columns[i] + sign * (cut_width // 2), 0), 10) for sign in (-1, 1))
        expected = images[i].clone()
        expected[:, top:bottom, left:right] = images[(i + 1) % 60, :, top:bottom, left:right]
        assert torch.equal(result.images[i], expected)
        assert result.weights[i].item() == pytest.approx(1 - (bottom - top) * (right - left) / 120, abs=1e-6)
    assert 0.5 < result.weights.mean() < 0.9 and result.weights.min() < 0.5


def test_the_boxes_of_cutmix_follow_alpha() -> None:
    """With a small alpha, most lambdas are near 0 or 1."""
    for alpha, share in ((0.05, 0.33), (1.0, 0.001)):  # of Beta(a, a) below (2 / 64) ** 2: a box of no pixel
        boxes = sample_cutmix_boxes(3000, (64, 64), alpha, torch.Generator().manual_seed(0))
        is_empty = (boxes[:, 1] == boxes[:, 0]) | (boxes[:, 3] == boxes[:, 2])
        assert is_empty.double().mean().item() == pytest.approx(share, abs=0.03)


# --- the batches of a run ---


def make_data(kind: str = "memory", channels: int = 3) -> Any:
    split = Split(noise(22, channels, 12, 10), torch.arange(22) % 5)
    if kind == "memory":
        return ImageData("noise", split, split, tuple("abcde"))
    if kind == "stream":
        return StreamData("noise", Samples(split), Samples(split), tuple("abcde"))
    ready = list(zip(split.images.split(8), split.labels.split(8), strict=True))
    return StreamData("noise", ready, ready, tuple("abcde"))


class Samples(torch.utils.data.Dataset):
    def __init__(self, split: Split) -> None:
        self.split = split

    def __len__(self) -> int:
        return len(self.split)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        return self.split.images[index], int(self.split.labels[index])


BASE = cnnzoo.TrainConfig(batch_size=8, normalize=False, seed=5, workers=0, channels_last=False)


def batches_of(config: cnnzoo.TrainConfig, data: Any, rank: int = 0, size: int = 1) -> Iterator[list[PreparedBatch]]:
    """The batches of two epochs of three steps."""
    batches = TrainBatches(
        data,
        config,
        preprocessing=make_preprocessing(data, config, (8, 7) if config.crop_mode == "center" else data.shape[1:]),
        color_components=data.color_components if config.augmentation.pca_lighting else None,
        device=CPU,
        distributed=DistributedContext(rank, size),
    )
    for epoch in range(2):
        yield from batches.steps(3 * epoch)


def tensors_of(batches: list[PreparedBatch]) -> list[torch.Tensor]:
    """Images, labels and targets (if any) of the micro-batches that have images of their own."""
    kept = [batch for batch in batches if batch.weight]
    columns = [[b.x for b in kept], [b.labels for b in kept], [b.targets for b in kept if b.targets is not None]]
    return [torch.cat(column) for column in columns if column]


# values of the version before registered augmentations: a seed keeps its images
DIGESTS = {
    "flip": ({"flip": True}, "memory", "7f664099893b8e25"),
    "translate": ({"translate": 2}, "memory", "9e7cc4b32d2904aa"),
    "random_erasing": ({"random_erasing": 0.5}, "memory", "c6cbdeeeb628c642"),
    "mixup": ({"mixup": 0.4}, "memory", "8eb8171b98e710b0"),
    "pca_lighting": ({"pca_lighting": 0.1}, "memory", "badb5e8b7b0fd886"),
    "all": (FIELDS, "memory", "1f66654419ac094d"),
    "all, micro-batches": ({**FIELDS, "accumulation_steps": 4}, "memory", "1f66654419ac094d"),
    "all, stream": (FIELDS, "stream", "1f66654419ac094d"),
    "all, ready-made": (FIELDS, "ready", "6ffaf943298a6c0b"),
    "center": ({"crop_mode": "center"}, "memory", "9cc4b42bb62e0de8"),
    "all, center": ({**FIELDS, "crop_mode": "center"}, "memory", "a674191369b2070c"),
}


@pytest.mark.parametrize("name", DIGESTS)
def test_a_seed_keeps_its_images(name: str) -> None:
    changes, kind, expected = DIGESTS[name]
    digest = hashlib.sha256()
    for batches in batches_of(BASE.replace(**changes), make_data(kind)):
        for tensor in tensors_of(batches):
            integers = (tensor * 255 if tensor.dim() == 4 else tensor * 2**20).round().to(torch.int32)
            digest.update(integers.contiguous().numpy().tobytes())
    assert digest.hexdigest()[:16] == expected


@pytest.mark.parametrize(
    "changes",
    [
        {**FIELDS, "augment": REGISTERED, "crop_mode": "center"},
        {"flip": True, "translate": 2, "pca_lighting": 0.1, "augment": ("rotate:40", "cutmix", *REGISTERED[1:])},
    ],
)
def test_batches_do_not_depend_on_micro_batches_or_processes(changes: dict) -> None:
    config = BASE.replace(**changes)
    whole = [tensors_of(batches) for batches in batches_of(config, make_data())]
    assert len(whole[0]) == 3 and [len(images) for images, _, _ in whole] == [8, 8, 6] * 2
    assert all(torch.allclose(targets.sum(1), torch.ones(len(targets))) for _, _, targets in whole)
    streamed = batches_of(config.replace(accumulation_steps=4), make_data("stream"))
    shares = [batches_of(config.replace(accumulation_steps=2), make_data(), rank, 3) for rank in range(3)]
    ranks = zip(*shares, strict=True)
    for expected, parts, shards in zip(whole, streamed, ranks, strict=True):
        assert len(parts) == 4
        for other in (tensors_of(parts), tensors_of([batch for shard in shards for batch in shard])):
            assert all(torch.equal(a, b) for a, b in zip(expected, other, strict=True))


def test_mixed_targets_are_those_of_the_pairs() -> None:
    """CutMix of images of one value: the target is the share of the pixels of each class."""
    labels = torch.arange(20) % 5
    images = (labels * 50).byte()[:, None, None, None].expand(20, 1, 16, 16)
    data = ImageData("flat", Split(images, labels), Split(images, labels), tuple("abcde"))
    ready = StreamData("flat", [(images, labels)], [(images, labels)], tuple("abcde"))
    for source in (data, ready):
        config = BASE.replace(batch_size=20, augment=["cutmix:0.7"], accumulation_steps=1 if source is ready else 3)
        for batches in batches_of(config, source):
            x, own, targets = tensors_of(batches)
            values = (x * 255).round().long() // 50
            shares = nn.functional.one_hot(values, 5).double().mean((1, 2, 3))
            assert torch.allclose(targets.double(), shares, atol=1e-6)
            assert (targets.max(1).values < 1).float().mean() > 0.1  # some are mixed
            assert set(own.tolist()) == set(range(5))
            break


def test_each_augmentation_has_a_stream_of_its_own() -> None:
    images = noise(20, 3, 12, 12)

    def registered(*names: str, step: int = 0, **fields: Any) -> torch.Tensor:
        return augmented(images, Augmentation(augment=names, **fields), step=step).images

    jittered = registered("color_jitter")
    assert torch.equal(registered("random_resized_crop:1", "color_jitter"), jittered)
    flipped = augmented(images, Augmentation(flip=True, translate=2)).images
    assert torch.equal(registered("rotate:0", flip=True, translate=2), flipped)
    assert not torch.equal(registered("color_jitter", step=1), jittered)
    assert not torch.equal(registered("color_jitter", "rotate"), registered("rotate", "color_jitter"))  # in order


# --- names ---


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"augment": ["cutmx"]}, "unknown augmentation 'cutmx'. Did you mean 'cutmix'"),
        ({"augment": "cutmix"}, "augment must be a list of strings, not 'cutmix'"),
        (
            {"augment": ["rotate:200"]},
            "'rotate:200': '200' is not a number at least 0 and at most 180; write rotate:15",
        ),
        ({"augment": ["rotate:far"]}, "'far' is not a number at least 0 and at most 180; write rotate:15"),
        ({"augment": ["cutmix:0"]}, "'0' is not a number at least 0.01; write cutmix:1"),
        ({"augment": ["color_jitter:1.5"]}, "'1.5' is not a number at least 0 and at most 1; write color_jitter:0.4"),
        ({"augment": ["random_resized_crop:-1"]}, "not a number at least 0 .*; write random_resized_crop:0.08"),
        ({"augment": ["cutmix"], "mixup": 0.2}, "mixed once per batch, but mixup and cutmix mix them; choose one"),
        ({"augment": ["rotate:5", "rotate:9"]}, "augment names 'rotate' twice; remove one of .'rotate:5', 'rotate:9'."),
        ({"augment": ["cutmix", "rotate", "cutmix:2"], "overfit_batches": 1}, "augment names 'cutmix' twice"),
    ],
)
def test_names_and_numbers_are_checked(changes: dict, message: str) -> None:
    with pytest.raises(cnnzoo.CnnzooError, match=message):
        cnnzoo.TrainConfig(**changes)


def test_a_config_with_augmentations_is_json() -> None:
    config = cnnzoo.TrainConfig(augment=["rotate:10", "cutmix"])
    assert cnnzoo.TrainConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config
    assert config.augmentation.mixes and config.augmentation.augment == ("rotate:10", "cutmix")
    assert "augment was ['rotate:10', 'cutmix'] and is []" in config.diff(cnnzoo.TrainConfig())
    assert not config.replace(overfit_batches=1).augmentation


def invert(batch: ImageBatch, probability: float) -> torch.Tensor:
    is_inverted = batch.uniform() < probability
    return torch.where(is_inverted[:, None, None, None], 255 - batch.images, batch.images)


def half(batch: ImageBatch, rows: float) -> tuple[torch.Tensor, torch.Tensor]:
    """The upper half of each image, above the lower half of its partner."""
    middle = batch.images.shape[2] // 2
    images = torch.cat([batch.images[:, :, :middle], batch.partners[:, :, middle:]], dim=2)
    return images, torch.full((len(images),), 0.5, device=images.device)


def test_an_augmentation_of_ones_own() -> None:
    assert cnnzoo.register_augmentation("invert", default=0.5, minimum=0, maximum=1)(invert) is invert
    cnnzoo.register_augmentation("half", mixes=True)(half)
    assert {"invert", "half", "cutmix", "rotate"} <= set(AUGMENTATIONS)
    images = noise(50, 1, 6, 6)
    is_inverted = torch.rand(50, generator=generator("invert")) < 0.3
    changed = augmented(images, Augmentation(augment=("invert:0.3",))).images
    assert 5 < is_inverted.sum() < 25
    assert torch.equal(changed[is_inverted], 255 - images[is_inverted])
    assert torch.equal(changed[~is_inverted], images[~is_inverted])
    both = augmented(images, Augmentation(augment=("half", "invert:0.3")))
    assert both.weights is not None and (both.weights == 0.5).all()
    expected = torch.cat([images[:, :, :3], images.roll(-1, 0)[:, :, 3:]], dim=2)
    assert torch.equal(both.images[~is_inverted], expected[~is_inverted])
    with pytest.raises(InputError, match="'1.5' is not a number at least 0 and at most 1; write invert:0.5"):
        cnnzoo.TrainConfig(augment=["invert:1.5"])
    with pytest.raises(InputError, match="but half and cutmix mix them"):
        cnnzoo.TrainConfig(augment=["half", "cutmix"])
    with pytest.raises(InputError, match="'rotate' is already registered by cnnzoo.data.warp; choose another name"):
        cnnzoo.register_augmentation("rotate")(invert)
    with pytest.raises(InputError, match="name of a registered augmentation must be an identifier, not 'a:b'"):
        cnnzoo.register_augmentation("a:b")(invert)


@pytest.mark.parametrize(
    ("function", "mixes", "message"),
    [
        (lambda batch, number: batch.images.float(), False, r"must return images, uint8 \(4, 1, 6, 6\), not float32"),
        (lambda batch, number: batch.images[:2], False, r"not uint8 \(2, 1, 6, 6\)"),
        (lambda batch, number: None, False, "not NoneType"),
        (lambda batch, number: (batch.images, batch.uniform()), False, "not tuple"),
        (lambda batch, number: batch.images, True, r"return \(images, weights\) .* float \(4,\), not NoneType"),
        (lambda batch, number: (batch.images, batch.uniform(2)), True, r"float \(4,\), not float32 \(4, 2\)"),
        (lambda batch, number: batch.partners, False, "uses partners must be registered with mixes=True"),
        (lambda batch, number: batch.select(torch.rand(3)), False, "of 4 images must select from .* not from 3"),
    ],
)  # fmt: skip
def test_what_an_augmentation_returns_is_checked(function: Any, mixes: bool, message: str) -> None:
    cnnzoo.register_augmentation("mine", mixes=mixes)(function)
    with pytest.raises(InputError, match=message):
        augmented(noise(4, 1, 6, 6), Augmentation(augment=("mine",)))


# --- training ---


@pytest.mark.parametrize("step", [2, 7])
def test_a_resumed_run_ends_with_the_same_bytes(tmp_path: Path, tiny_data: ImageData, step: int) -> None:
    config = cnnzoo.TrainConfig(
        epochs=2, batch_size=20, lr=0.1, flip=True, translate=1, augment=["rotate:20", "cutmix", *REGISTERED[1:]]
    )
    whole = cnnzoo.Trainer(plain_model(), tiny_data, config, show=False).fit()
    stop = [StopAt(step)]
    cut = cnnzoo.Trainer(plain_model(), tiny_data, config, out=tmp_path, callbacks=stop, show=False).fit()
    assert cut.interrupted
    rest = cnnzoo.Trainer.resume(tmp_path, model=plain_model(), data=tiny_data, show=False).fit()
    assert weights_sha256(rest.model.state_dict()) == weights_sha256(whole.model.state_dict())
    assert json.loads((tmp_path / "train.json").read_text())["config"]["augment"] == list(config.augment)


def test_a_network_learns_from_cut_images(tiny_data: ImageData) -> None:
    config = cnnzoo.TrainConfig(epochs=10, batch_size=20, lr=0.2, augment=["cutmix"])
    assert cnnzoo.Trainer(plain_model(), tiny_data, config, show=False).fit().metrics["test_acc"] > 0.9


def test_images_of_floats_are_not_augmented(tiny_data: ImageData) -> None:
    ready = [(tiny_data.train.images.float(), tiny_data.train.labels)]
    data = StreamData("floats", ready, ready, tiny_data.classes)
    with pytest.raises(InputError, match="used unchanged; augmentation and crop_mode='center' need uint8 images"):
        cnnzoo.Trainer(plain_model(), data, cnnzoo.TrainConfig(augment=["rotate"]))


def test_an_unknown_name_in_a_file_lists_the_known_ones() -> None:
    with pytest.raises(UnknownNameError, match="Known: color_jitter, cutmix, random_resized_crop, rotate"):
        cnnzoo.TrainConfig.from_dict({"augment": ["from_a_script"]})
