"""Any module trains: wrapped, converted, reparametrized, with another head, with parts frozen by hand."""

from __future__ import annotations

import dataclasses
import itertools
import multiprocessing
import os
import random
import signal
import sys
import warnings
from collections import OrderedDict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from processes import run_together
from runs import StopAt, plain_model
from torch import nn
from torch.nn.utils import parametrizations

import cnnzoo
from cnnzoo import device
from cnnzoo.data import ImageData, Split, StreamData, make_loader, resize
from cnnzoo.errors import ChangedModuleError, DataError, InputError, WeightsError
from cnnzoo.initializers import initialize
from cnnzoo.modules import unwrap
from cnnzoo.serialization import load_tensors
from cnnzoo.train.batches import TrainBatches, find_batch_of_one
from cnnzoo.train.distributed import DistributedContext
from cnnzoo.train.precision import resolve_precision
from cnnzoo.train.setup import RunSetup
from cnnzoo.train.step import distribute

QUICK = cnnzoo.TrainConfig(epochs=2, batch_size=20, lr=0.1, momentum=0.5, precision="fp32")


def trained(model: nn.Module, data: Any, config: cnnzoo.TrainConfig = QUICK, **more: Any) -> cnnzoo.Run:
    return cnnzoo.Trainer(model, data, config, show=False, **more).fit()


def state(model: nn.Module) -> torch.Tensor:
    return torch.cat([value.double().flatten() for value in model.state_dict().values()])


# --- wrappers ---


def distributed_data_parallel(model: nn.Module) -> nn.Module:
    return nn.parallel.DistributedDataParallel(model)


WRAPPERS: list[Callable[[nn.Module], nn.Module]] = [
    nn.DataParallel,
    torch.compile,
    lambda model: torch.compile(nn.DataParallel(model)),
    lambda model: nn.DataParallel(torch.compile(model)),
    torch.optim.swa_utils.AveragedModel,
]
WRAPPER_IDS = ["DataParallel", "compiled", "compiled DataParallel", "DataParallel of compiled", "AveragedModel"]


@pytest.mark.parametrize("wrap", WRAPPERS, ids=WRAPPER_IDS)
def test_wrapped_networks_are_unwrapped(
    wrap: Callable[[nn.Module], nn.Module], tmp_path: Path, tiny_spec: cnnzoo.Spec, tiny_data: ImageData
) -> None:
    """W4."""
    model = cnnzoo.create(tiny_spec, seed=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        wrapped = wrap(model)
        run = trained(wrapped, tiny_data, out=tmp_path / "run")
    inner = unwrap(wrapped)
    assert type(inner) is cnnzoo.CNN and run.model is inner
    assert torch.equal(state(cnnzoo.load(tmp_path / "run")), state(inner))
    torch.compiler.set_stance("force_eager")  # compiling is tested elsewhere
    try:
        assert cnnzoo.evaluate(wrapped, tiny_data).top1 == run.metrics["test_acc"]
        image = tiny_data.test.images[0]
        assert torch.equal(cnnzoo.predict(wrapped, image).probabilities, cnnzoo.predict(inner, image).probabilities)
    finally:
        torch.compiler.set_stance("default")
    assert torch.equal(state(cnnzoo.load(cnnzoo.save(wrapped, tmp_path / "saved"))), state(inner))
    assert cnnzoo.count(wrapped).params.total == cnnzoo.count(inner).params.total
    assert cnnzoo.diff(wrapped, inner).same
    if wrap is nn.DataParallel:  # a slow call
        assert cnnzoo.export(wrapped, tmp_path / "net.pt2").exists()


def test_what_replaces_a_wrapper_is_said(tiny_data: ImageData, monkeypatch: pytest.MonkeyPatch) -> None:
    def message(model: nn.Module, **changes: Any) -> str:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            cnnzoo.Trainer(model, tiny_data, QUICK.replace(**changes), show=False)
        return " | ".join(str(warning.message) for warning in caught)

    compiled = torch.compile(plain_model())
    assert message(compiled) == (
        "the module inside OptimizedModule is trained without OptimizedModule; compile=True in the config compiles it"
    )
    assert message(compiled, compile=True) == ""
    parallel = nn.DataParallel(plain_model())
    assert message(parallel) == ""
    monkeypatch.setattr(parallel, "device_ids", [0, 1])
    assert "DataParallel; torchrun --nproc-per-node N trains on N GPUs" in message(parallel)
    averaged = torch.optim.swa_utils.AveragedModel(plain_model())
    assert "AveragedModel; ema=0.999 in the config averages the weights" in message(averaged)


def train_in_a_group(folder: Path) -> dict[str, Any]:
    """Trains a module in DistributedDataParallel, and one that is sharded, in a process group of one."""
    from torch.distributed.fsdp import fully_shard

    torch.distributed.init_process_group("gloo", init_method=f"file://{folder / 'store'}", rank=0, world_size=1)
    data = cnnzoo.load_data("fashion_mnist_sample")
    data = ImageData("some", data.train[:40], data.test[:20], data.classes)
    wrapped = nn.parallel.DistributedDataParallel(cnnzoo.create("lenet", seed=0))
    run = trained(wrapped, data, out=folder / "run")
    same = torch.equal(state(cnnzoo.load(folder / "run")), state(run.model))
    accuracy = cnnzoo.evaluate(wrapped, data).top1
    mesh = torch.distributed.device_mesh.init_device_mesh("cpu", (1,))
    try:
        trained(fully_shard(plain_model(), mesh=mesh), data)  # type: ignore[arg-type]
    except InputError as error:
        sharded = str(error)
    torch.distributed.destroy_process_group()
    return {
        "same": same,
        "accuracy": (accuracy, run.metrics["test_acc"]),
        "sharded": sharded,
    }


def test_modules_of_a_process_group(tmp_path: Path) -> None:
    (outcome,) = run_together(train_in_a_group, [(tmp_path,)])
    assert outcome.code == 0, outcome.stderr
    assert outcome.result["same"] and len(set(outcome.result["accuracy"])) == 1
    assert (
        "is sharded over processes (DTensor), and each process of the Trainer has all weights; pass"
        in (outcome.result["sharded"])
    )


def test_only_networks_of_the_zoo_are_pushed(tiny_data: ImageData) -> None:
    for model in (nn.Linear(2, 2), torch.compile(nn.Linear(2, 2)), 3):
        with pytest.raises(InputError, match="push expects a cnnzoo network or its path, not (Linear|int)"):
            cnnzoo.push(model, "ann/net")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="diff compares networks of cnnzoo, whose blocks are known, not Linear"):
        cnnzoo.diff(nn.Linear(2, 2), "lenet")


# --- modules changed by hand ---


def replace_head(model: cnnzoo.CNN) -> None:
    model.classifier[-1] = nn.Sequential(nn.Linear(84, 8), nn.ReLU(), nn.Linear(8, 3))  # no Spec describes it


def add_weight_norm(model: cnnzoo.CNN) -> None:
    replace_head(model)
    for module in (*model.features, *model.classifier):
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            parametrizations.weight_norm(module)


def add_spectral_norm(model: cnnzoo.CNN) -> None:
    replace_head(model)
    parametrizations.spectral_norm(model.features[0])


@pytest.mark.parametrize("change", [replace_head, add_weight_norm, add_spectral_norm])
@pytest.mark.parametrize("precision", ["fp32", pytest.param("bf16", marks=pytest.mark.slow)])
def test_a_network_changed_by_hand_trains(change: Any, precision: str, tmp_path: Path, tiny_data: ImageData) -> None:
    """T5: and resumes with ``model=``; what cannot be stored is said once."""

    def changed() -> cnnzoo.CNN:
        torch.manual_seed(0)
        model = cnnzoo.create("lenet", activation="relu", seed=0)
        change(model)
        return model

    config = QUICK.replace(precision=precision, ema=0.5, epochs=3)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        whole = trained(changed(), tiny_data, config, out=tmp_path / "whole")
    (warning,) = [str(one.message) for one in caught]
    assert " changed by hand, so " in warning and "Trainer.resume needs model=" in warning
    assert "lenet: classifier.4 was changed" in warning or "lenet: features.0" in warning
    assert whole.metrics["test_acc"] == cnnzoo.evaluate(whole.model, tiny_data).top1 > 0.5
    assert cnnzoo.predict(whole.model, tiny_data.test.images[0]).label in tiny_data.classes
    assert torch.equal(
        torch.cat([value.double().flatten() for _, value in sorted(whole.model.state_dict().items())]),
        torch.cat(
            [v.double().flatten() for _, v in sorted(load_tensors(tmp_path / "whole/model.safetensors").items())]
        ),
    )

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert trained(changed(), tiny_data, config, out=tmp_path / "cut", callbacks=[StopAt(7)]).interrupted
    with pytest.raises(InputError, match="cannot be built from its files alone; pass model="):
        cnnzoo.Trainer.resume(tmp_path / "cut", data=tiny_data, show=False)
    again = cnnzoo.Trainer.resume(tmp_path / "cut", model=changed(), data=tiny_data, show=False).fit()
    assert torch.equal(state(again.model), state(whole.model))
    with pytest.raises(WeightsError, match="there is no description of a network"):
        cnnzoo.load(tmp_path / "cut")
    assert cnnzoo.report(tmp_path / "cut").exists()
    with pytest.raises(ChangedModuleError, match="changed by hand .*remove_parametrizations"):
        cnnzoo.save(again.model, tmp_path / "saved")
    assert not (tmp_path / "saved").exists()


def test_nothing_is_said_where_nothing_is_stored(tiny_data: ImageData, recwarn: pytest.WarningsRecorder) -> None:
    model = cnnzoo.create("lenet", seed=0)
    replace_head(model)
    trained(model, tiny_data)
    assert not recwarn
    model.metadata = cnnzoo.Metadata()  # of unknown classes
    with pytest.raises(InputError, match="has no preprocessing"):
        cnnzoo.evaluate(model, tiny_data)
    preprocessing = cnnzoo.Preprocessing((28, 28), tiny_data.mean, tiny_data.std)
    assert cnnzoo.evaluate(model, tiny_data, preprocessing=preprocessing).n == 30


@pytest.mark.filterwarnings("ignore:`torch.nn.utils.weight_norm`")
def test_weights_replaced_by_hand_are_a_change() -> None:
    model = cnnzoo.create("lenet")
    assert model.changed_modules() == []
    model.classifier[-1].weight = nn.Parameter(torch.zeros(5, 84))  # the settings of the layer still say 10
    nn.utils.weight_norm(model.features[0])  # type: ignore[no-untyped-call]  # renames the weight, and no module
    assert model.changed_modules() == ["features.0", "classifier.4"]


@pytest.mark.filterwarnings("ignore:`torch.nn.utils.weight_norm`")
def test_initializers_fill_what_a_weight_is_computed_from() -> None:
    layer = parametrizations.weight_norm(nn.Linear(4, 3))
    initialize(layer, "constant:0.5")
    assert torch.allclose(layer.weight, torch.full((3, 4), 0.5))
    with pytest.raises(InputError, match="cannot fill the weight of a Linear that a hook computes; use torch.nn.utils"):
        initialize(nn.utils.weight_norm(nn.Linear(4, 3)), "constant:0.5")  # type: ignore[no-untyped-call]


def test_a_converted_network_is_saved_with_its_spec(
    tmp_path: Path, tiny_spec: cnnzoo.Spec, tiny_data: ImageData, recwarn: pytest.WarningsRecorder
) -> None:
    model = nn.SyncBatchNorm.convert_sync_batchnorm(cnnzoo.create(tiny_spec, seed=0))
    run = trained(model, tiny_data, out=tmp_path / "run")
    assert not recwarn and any(isinstance(module, nn.SyncBatchNorm) for module in model.modules())
    loaded = cnnzoo.load(tmp_path / "run")
    assert torch.equal(state(loaded), state(run.model))
    assert cnnzoo.evaluate(loaded, tiny_data).top1 == run.metrics["test_acc"]
    plain = trained(cnnzoo.create(tiny_spec, seed=0), tiny_data)
    assert torch.equal(state(plain.model), state(model))  # one process: the same statistics


# --- parts frozen by hand ---


def small_net(affine: bool = True) -> nn.Module:
    torch.manual_seed(0)
    body = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4, affine=affine), nn.ReLU(), nn.Flatten())
    return nn.Sequential(OrderedDict(body=body, head=nn.Linear(144, 3)))


def freeze(model: nn.Module) -> nn.Module:
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    return model


@pytest.mark.parametrize(
    ("frozen", "affine", "named"),
    [("body", True, '["body"]'), ("body.1", True, '["body.1"]'), ("body", False, '["body"]')],
)
def test_norms_frozen_by_hand_are_named(frozen: str, affine: bool, named: str, tiny_data: ImageData) -> None:
    """T10."""
    model = small_net(affine)
    freeze(model.get_submodule(frozen))
    with pytest.warns(UserWarning) as caught:
        trainer = cnnzoo.Trainer(model, tiny_data, QUICK, show=False)
    (warning,) = [str(one.message) for one in caught]
    assert warning.startswith(f"Sequential: the parameters of {frozen} do not require gradients, but the running stat")
    assert warning.endswith(f"to freeze both, use freeze={named} in the config")
    trainer.fit()
    assert model.get_buffer("body.1.running_mean").any()  # they changed


def test_norms_frozen_by_the_config_are_not_warned_about(
    tiny_data: ImageData, recwarn: pytest.WarningsRecorder
) -> None:
    model = small_net()
    freeze(model.get_submodule("body"))
    trained(model, tiny_data, QUICK.replace(freeze=["body"]))
    assert not model.get_buffer("body.1.running_mean").any()
    freeze(model.get_submodule("body.0"))  # without statistics
    model.get_submodule("body.1").requires_grad_(True)
    trained(model, tiny_data)
    assert not recwarn


# --- batches of one image ---


def flat_norm() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.Linear(8, 3))


def pooled_norm() -> nn.Module:
    torch.manual_seed(0)
    pooled = nn.Sequential(nn.Conv2d(1, 4, 3), nn.AdaptiveAvgPool2d(1), nn.BatchNorm2d(4))
    return nn.Sequential(pooled, nn.Flatten(), nn.Linear(4, 3))


def spatial_norm() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(144, 3))


def branching_norm() -> nn.Module:
    """Cannot run on the meta device, since it reads a value."""

    class Branching(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = flat_norm()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.inner(x if float(x.sum()) > -1e9 else -x)

    return Branching()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"batch_size": 89}, "the last batch of an epoch of 90 images has 1; choose batch_size=90 or drop_last=True"),
        (
            {"batch_size": 40, "accumulation_steps": 10},
            "the last batch of an epoch of 90 images has 10, of which a process runs one alone (processes=1, "
            "accumulation_steps=10); choose batch_size=45 or drop_last=True",
        ),
        ({"batch_size": 1}, "a batch has 1; choose batch_size=2"),
        (
            {"batch_size": 30, "accumulation_steps": 30},
            "a batch has 30, of which a process runs one alone (processes=1, accumulation_steps=30); choose "
            "fewer accumulation_steps",
        ),
    ],
)
@pytest.mark.parametrize("build", [flat_norm, pooled_norm, branching_norm])
def test_batch_norm_of_one_image_is_known_before_the_first_step(
    build: Callable[[], nn.Module], changes: Any, message: str, tmp_path: Path, tiny_data: ImageData
) -> None:
    """T8: and leaves no trace."""
    model = build()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    with pytest.raises(InputError) as error:
        trained(model, tiny_data, QUICK.replace(**changes), out=tmp_path / "run")
    assert str(error.value).endswith(f"needs more than one value per channel, and {message}")
    assert not (tmp_path / "run").exists()
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


def test_one_image_is_enough_for_maps_and_for_frozen_norms(tiny_data: ImageData) -> None:
    config = QUICK.replace(batch_size=89, epochs=1)
    assert trained(spatial_norm(), tiny_data, config).history
    assert trained(flat_norm(), tiny_data, config.replace(freeze=["2"])).history
    with_trial = trained(flat_norm(), tiny_data, QUICK.replace(batch_size=89, drop_last=True))
    assert int(with_trial.model.get_buffer("2.num_batches_tracked")) == 2  # one per step, none of the trial


def test_the_hint_is_followed(tiny_data: ImageData) -> None:
    for changes in ({"batch_size": 90}, {"batch_size": 45, "accumulation_steps": 10}, {"batch_size": 2}):
        assert trained(flat_norm(), tiny_data, QUICK.replace(**changes, epochs=1)).history


@pytest.mark.parametrize("processes", [1, 2, 3])
@pytest.mark.parametrize("accumulation_steps", [1, 2, 3])
def test_batches_of_one_are_found(processes: int, accumulation_steps: int, tiny_data: ImageData) -> None:
    """For all sizes, what the batches of all processes are."""
    for n, batch_size, drop_last in itertools.product(range(1, 12), range(accumulation_steps, 8), (False, True)):
        config = QUICK.replace(batch_size=batch_size, accumulation_steps=accumulation_steps, drop_last=drop_last)
        if drop_last and n < batch_size:
            continue
        data = ImageData("some", tiny_data.train[:n], tiny_data.test, tiny_data.classes)
        sizes = []
        for rank in range(processes):
            batches = TrainBatches(
                data,
                config,
                preprocessing=None,
                color_components=None,
                device=torch.device("cpu"),
                distributed=DistributedContext(rank, processes),
            )
            sizes += [len(micro_batch.indices) for step in batches._plan(0, 0) for micro_batch in step]
        assert (find_batch_of_one(n, config, processes) is not None) == (min(sizes) == 1)


def test_the_last_images_of_an_epoch_are_left_out(tmp_path: Path, tiny_data: ImageData) -> None:
    seen: list[int] = []

    class Watch:
        def on_epoch(self, trainer: cnnzoo.Trainer, entry: Any) -> None:
            seen.append(trainer.step)

    config = QUICK.replace(batch_size=40, drop_last=True, epochs=3, schedule="cosine", mixup=0.2)
    trainer = cnnzoo.Trainer(plain_model(), tiny_data, config, callbacks=[Watch()], show=False)
    assert (trainer.steps_per_epoch, trainer.total_steps) == (2, 6)
    whole = trainer.fit()
    assert seen == [2, 4, 6]
    for step in (1, 2, 3, 5):
        folder = tmp_path / str(step)
        stopped = trained(plain_model(), tiny_data, config, out=folder, callbacks=[StopAt(step)])
        assert stopped.interrupted
        again = cnnzoo.Trainer.resume(folder, model=plain_model(), data=tiny_data, show=False).fit()
        assert torch.equal(state(again.model), state(whole.model))
    with pytest.raises(
        InputError, match="tiny has 90 training images, and drop_last=True leaves none of them with bat"
    ):
        cnnzoo.Trainer(plain_model(), tiny_data, QUICK.replace(batch_size=91, drop_last=True))
    images, labels = tiny_data.train.images, tiny_data.train.labels
    stream = StreamData("batches", [(images, labels)], [(images, labels)], tiny_data.classes)
    with pytest.raises(InputError, match="batches yields batches, which are used as they come; leave out drop_last"):
        cnnzoo.Trainer(plain_model(), stream, QUICK.replace(drop_last=True))


# --- devices ---


def test_an_apple_gpu_is_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    """T12, imitated."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    mps = device.resolve_device("auto")
    assert mps == torch.device("mps") and not device.has_float64(mps)
    assert resolve_precision("auto", mps) == "fp32"
    assert DistributedContext(0, 2).resolve_device("auto") == torch.device("cpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert device.resolve_device("auto") == torch.device("cuda")


def test_the_random_state_of_an_apple_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    seeds: list[object] = []
    monkeypatch.setattr(torch.mps, "manual_seed", seeds.append)
    monkeypatch.setattr(torch.mps, "get_rng_state", lambda: "state")
    monkeypatch.setattr(torch.mps, "set_rng_state", seeds.append)
    with device.forked_rng(torch.device("mps")):
        device.seed(torch.device("mps"), 7)
    assert seeds == [7, "state"]


def test_images_are_resized_on_the_cpu_where_there_is_no_float64(monkeypatch: pytest.MonkeyPatch) -> None:
    images = torch.randint(0, 256, (2, 3, 20, 30), dtype=torch.uint8)
    expected = resize(images, (12, 9))
    moved: list[str] = []

    class OnGpu(torch.Tensor):
        """A tensor that says when it is moved to the CPU, and does nothing else."""

        def cpu(self) -> torch.Tensor:  # type: ignore[override]
            moved.append("cpu")
            return self.as_subclass(torch.Tensor)

    module = sys.modules["cnnzoo.data.resize"]  # the attribute of cnnzoo.data is the function
    monkeypatch.setattr(module, "has_float64", lambda _: bool(moved))
    assert torch.equal(resize(images.as_subclass(OnGpu), (12, 9)), expected) and moved == ["cpu"]


def test_sync_batch_norm_has_the_tensors_of_batch_norm(tiny_data: ImageData, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nn.parallel, "DistributedDataParallel", lambda model, **_: model)  # needs processes and GPUs
    model = cnnzoo.create("lenet", norm="batch", num_classes=3)
    tensors = [id(tensor) for tensor in model.state_dict(keep_vars=True).values()]
    for converts, expected in ((False, nn.BatchNorm2d), (True, nn.SyncBatchNorm)):
        config = cnnzoo.TrainConfig(sync_batch_norm=converts)
        setup = RunSetup.of(model, tiny_data, config, {})
        network = distribute(dataclasses.replace(setup, distributed=DistributedContext(0, 2)))
        norms = [module for module in network.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
        assert {type(module) for module in norms} == {expected}
    assert tensors == [id(tensor) for tensor in model.state_dict(keep_vars=True).values()]
    assert model.changed_modules() == []


def test_sync_batch_norm_needs_gpus(
    tiny_spec: cnnzoo.Spec, tiny_data: ImageData, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = trained(cnnzoo.create(tiny_spec, seed=0), tiny_data, QUICK.replace(sync_batch_norm=True))
    plain = trained(cnnzoo.create(tiny_spec, seed=0), tiny_data)
    assert torch.equal(state(plain.model), state(run.model))  # one process
    monkeypatch.setenv("WORLD_SIZE", "2")
    converted = nn.SyncBatchNorm.convert_sync_batchnorm(cnnzoo.create(tiny_spec))
    for model, config in ((converted, QUICK), (cnnzoo.create(tiny_spec), QUICK.replace(sync_batch_norm=True))):
        with pytest.raises(
            InputError, match="SyncBatchNorm runs on GPUs only, and 2 processes train on cpu; leave out"
        ):
            cnnzoo.Trainer(model, tiny_data, config.replace(device="cpu"))


# --- worker processes ---


class RandomSamples(torch.utils.data.Dataset):
    """Samples with noise from all global random states; each call appends its process to a file."""

    def __init__(self, split: Split, log: Path) -> None:
        self.split, self.log = split, log

    def __len__(self) -> int:
        return len(self.split)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        with self.log.open("a") as file:
            file.write(f"{os.getpid()}\n")
        image, label = self.split[index]
        noise = int(torch.randint(20, ())) + random.randrange(20) + int(np.random.randint(20))
        return image // 2 + noise, label


def streams(data: ImageData, folder: Path) -> StreamData:
    folder.mkdir()
    train, test = (RandomSamples(split, folder / f"{split is data.train}") for split in (data.train, data.test))
    stream = StreamData("random", train, test, data.classes, sha256="x")
    train.log.unlink()  # of the images that mean and std were estimated from
    return stream


@pytest.fixture
def spawn() -> Iterator[None]:
    """Processes are started as on macOS and Windows."""
    before = torch.multiprocessing.get_start_method()
    torch.multiprocessing.set_start_method("spawn", force=True)
    yield
    torch.multiprocessing.set_start_method(before, force=True)


def processes(folder: Path) -> list[int]:
    """The number of processes that read training images, and test images."""
    return [len(set((folder / name).read_text().split())) for name in ("True", "False")]


STREAMED = QUICK.replace(epochs=3, flip=True, mixup=0.2)


def test_workers_stay_alive_and_change_no_sample(tmp_path: Path, tiny_data: ImageData) -> None:
    """T11: one set of workers for all epochs, one for all tests; a run is exact with any number, resumed anywhere."""
    data = streams(tiny_data, tmp_path / "none")
    before = np.random.get_state()[1].copy(), random.getstate()
    whole = trained(plain_model(), data, STREAMED.replace(workers=0))
    after = np.random.get_state()[1], random.getstate()
    assert (before[0] == after[0]).all() and before[1] == after[1]
    assert processes(tmp_path / "none") == [1, 1]
    several = trained(plain_model(), streams(tiny_data, tmp_path / "two"), STREAMED.replace(workers=2))
    assert processes(tmp_path / "two") == [2, 1]  # the test images are one batch
    assert torch.equal(state(several.model), state(whole.model))
    config = STREAMED.replace(workers=2, checkpoint_every=1)
    trained(plain_model(), streams(tiny_data, tmp_path / "a"), config, out=tmp_path / "cut", callbacks=[StopAt(8)])
    data = streams(tiny_data, tmp_path / "b")
    again = cnnzoo.Trainer.resume(tmp_path / "cut", model=plain_model(), data=data, show=False).fit()
    assert torch.equal(state(again.model), state(whole.model))
    assert not multiprocessing.active_children()  # none outlives its run


def test_spawned_workers(tmp_path: Path, tiny_data: ImageData, spawn: None) -> None:
    whole = trained(plain_model(), streams(tiny_data, tmp_path / "none"), STREAMED.replace(workers=0))
    several = trained(plain_model(), streams(tiny_data, tmp_path / "one"), STREAMED.replace(workers=1))
    assert processes(tmp_path / "one") == [1, 1]
    assert torch.equal(state(several.model), state(whole.model))


@pytest.mark.filterwarnings("ignore:Got pickle error")
def test_what_spawned_workers_cannot_get(tiny_data: ImageData, spawn: None) -> None:
    class Local(torch.utils.data.Dataset):
        def __len__(self) -> int:
            return 8

    batches = make_loader(Local(), 3, torch.device("cpu"), 1).batches(torch.arange(8).split(4), 0)
    with pytest.raises(
        DataError, match="cannot be sent to worker processes .*Local.*; define its class and .*workers=0"
    ):
        next(batches)


class Signals(torch.utils.data.Dataset):
    """Samples of which one sends a signal to its own process."""

    def __init__(self, number: int) -> None:
        self.number = number

    def __len__(self) -> int:
        return 8

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        if index == 5:
            os.kill(os.getpid(), self.number)
        return torch.zeros(1, 2, 2, dtype=torch.uint8), 0


def test_ctrl_c_is_left_to_the_main_process() -> None:
    loader = make_loader(Signals(signal.SIGINT), 1, torch.device("cpu"), 1)
    assert len(list(loader.batches(torch.arange(8).split(4), 0))) == 2
    loader.close()


def test_a_killed_worker_is_replaced() -> None:
    loader = make_loader(Signals(signal.SIGKILL), 1, torch.device("cpu"), 1)
    for _ in range(2):
        batches = loader.batches(torch.arange(8).split(4), 0)
        with pytest.raises(DataError, match=r"^a process that reads images ended .*; try fewer workers"):
            list(batches)
    assert len(list(loader.batches(torch.arange(4).split(2), 0))) == 2
    loader.close()


def test_iterations_of_one_loader_do_not_disturb_each_other(tiny_data: ImageData) -> None:
    class Samples(torch.utils.data.Dataset):
        def __len__(self) -> int:
            return 90

        def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
            return tiny_data.train[index]

    loader = make_loader(Samples(), 3, torch.device("cpu"), 2)
    order = torch.arange(90)

    def labels(batches: Iterator[Any]) -> list[int]:
        return torch.cat([y for _, y in batches]).tolist()

    outer = loader.batches(order.split(10), 0)
    first = [next(outer), next(outer)]
    assert labels(loader.batches(order.flip(0).split(30), 0)) == tiny_data.train.labels.flip(0).tolist()
    assert labels(iter([*first, *outer])) == tiny_data.train.labels.tolist()
    abandoned = loader.batches(order.split(10), 0)
    next(abandoned)
    abandoned.close()  # type: ignore[attr-defined]
    assert labels(loader.batches(order.split(30), 0)) == tiny_data.train.labels.tolist()
    loader.close()
    assert not multiprocessing.active_children()


def test_a_module_that_cannot_run_on_the_images_is_refused_by_its_shapes(tiny_data: ImageData) -> None:
    data = tiny_data
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3))
    gray = cnnzoo.Preprocessing(8, mean=[0.5], std=[0.5])
    message = r"Sequential cannot run on images \(C, H, W\) = \(1, 8, 8\): .* to have 3 channels"
    for use in (
        lambda: trained(model, data),
        lambda: cnnzoo.evaluate(model, data, preprocessing=gray),
        lambda: cnnzoo.predict(model, data.test.images[0], preprocessing=gray),
    ):
        with pytest.raises(InputError, match=message):
            use()


def test_bench_refuses_a_module_without_weights() -> None:
    with torch.device("meta"):
        model = nn.Sequential(nn.Flatten(), nn.Linear(64, 3))
    with pytest.raises(InputError, match="Sequential is on the meta device and has no weights"):
        cnnzoo.bench(model, preprocessing=cnnzoo.Preprocessing(8, mean=[0.5], std=[0.5]), seconds=0.1)


# --- state and random numbers of one's own ---


class Restless(nn.Module):
    """Has a buffer that no state dict holds and that each step changes, and draws from Python and NumPy."""

    def __init__(self) -> None:
        super().__init__()
        self.model = plain_model()
        self.register_buffer("steps", torch.zeros(()), persistent=False)
        self.register_buffer("table", torch.ones(3, dtype=torch.complex64), persistent=False)  # no file holds it

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.training:
            self.steps += 1
            x = x * random.uniform(0.5, 1.5) + np.random.rand()
        return self.model(x) / (1 + self.steps)


class Centered(nn.Module):
    """A loss that remembers the mean of the scores."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(3))

    def forward(self, scores: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        if torch.is_grad_enabled():
            self.mean = 0.9 * self.mean + scores.detach().mean(0)
        return nn.functional.cross_entropy(scores - self.mean, targets, reduction="none")


def test_a_run_with_state_of_its_own_resumes_exactly(tmp_path: Path, tiny_data: ImageData) -> None:
    """And leaves the random states of Python and NumPy as they were."""
    states = random.getstate(), repr(np.random.get_state())
    expected = trained(Restless(), tiny_data, loss=Centered()).model.state_dict()
    for step in (2, 5, 6):
        out = tmp_path / str(step)
        trained(Restless(), tiny_data, loss=Centered(), out=out, callbacks=[StopAt(step)])
        run = trained(Restless(), tiny_data, loss=Centered(), out=out, resume="auto")
        assert all(torch.equal(expected[name], tensor) for name, tensor in run.model.state_dict().items())
    assert (random.getstate(), repr(np.random.get_state())) == states


class ExtraState(nn.Linear):
    def get_extra_state(self) -> Any:
        return {"steps": 3}

    def set_extra_state(self, state: Any) -> None:
        pass


def with_buffer(tensor: torch.Tensor) -> nn.Module:
    model = plain_model()
    model.register_buffer("b", tensor)
    return model


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (
            lambda: nn.Sequential(nn.Flatten(), nn.LazyLinear(3)),
            "has lazy modules without weights; call it on an input",
        ),
        (lambda: torch.jit.script(plain_model()), "Sequential is a TorchScript module; train the module that"),
        (lambda: nn.Sequential(nn.Flatten(), ExtraState(64, 3)), "'1._extra_state' in the state dict is a dict, and"),
        (lambda: with_buffer(torch.eye(2).to_sparse()), "tensor 'b' is sparse, which cnnzoo does not store"),
        (lambda: with_buffer(torch.zeros(2, dtype=torch.uint16)), "tensor 'b' has the dtype torch.uint16, which"),
    ],
)
@pytest.mark.filterwarnings("ignore:.*torch.jit.script.*")
def test_what_cannot_be_saved_is_known_before_the_first_step(
    make: Callable[[], nn.Module], says: str, tmp_path: Path, tiny_data: ImageData
) -> None:
    with pytest.raises((InputError, WeightsError), match=says):
        trained(make(), tiny_data, out=tmp_path / "run")
    assert not [file for file in tmp_path.rglob("*") if file.is_file()]


def test_names_of_classes_that_cannot_be_stored(tmp_path: Path, tiny_data: ImageData) -> None:
    for name in ("a\nb", "a\u202eb", "a" * 1001, "\ud800"):
        data = dataclasses.replace(tiny_data, classes=(name, "b", "c"))
        with pytest.raises(InputError, match="label_names must be a list of printable strings of at most 1000"):
            cnnzoo.Trainer(plain_model(), data, QUICK, show=False)


class Figures:
    def __init__(self, value: object) -> None:
        self.value = value

    def on_epoch(self, trainer: cnnzoo.Trainer, entry: dict[str, Any]) -> None:
        entry["mine"] = self.value


def test_figures_of_callbacks_are_plain(tmp_path: Path, tiny_data: ImageData) -> None:
    run = trained(plain_model(), tiny_data, out=tmp_path / "run", callbacks=[Figures(torch.tensor(1.5))])
    assert run.history[0]["mine"] == 1.5
    with pytest.raises(InputError, match="a callback set 'mine' in the history to a set; a figure is a number"):
        trained(plain_model(), tiny_data, out=tmp_path / "other", callbacks=[Figures({1})])
