"""Compiled training steps."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from runs import StopAt, parameters
from torch import nn

import cnnzoo
from cnnzoo.data import ImageData
from cnnzoo.errors import InputError
from cnnzoo.train import compilation, describe_setup

COMPILED = cnnzoo.TrainConfig(epochs=2, batch_size=16, lr=0.1, device="cpu", precision="fp32", compile=True)


def make_model() -> nn.Module:
    torch.manual_seed(0)
    layers = nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Dropout(0.5), nn.Linear(4 * 36, 3)
    return nn.Sequential(*layers)


def trained(data: Any, config: cnnzoo.TrainConfig, **more: Any) -> cnnzoo.Run:
    return cnnzoo.Trainer(make_model(), data, config, show=False, **more).fit()


@pytest.mark.parametrize("changes", [{}, {"accumulation_steps": 2, "label_smoothing": 0.1, "ema": 0.9}], ids=str)
def test_forward_pass_and_loss_are_one_graph(
    tiny_data: ImageData, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any]
) -> None:
    batch_sizes: list[int] = []

    def backend(graph: torch.fx.GraphModule, inputs: list[Any]) -> Any:
        assert any("cross_entropy" in node.name for node in graph.graph.nodes)
        (batch_size,) = {len(x) for x in inputs if x.dtype == torch.int64 and x.dim() == 1}
        batch_sizes.append(batch_size)
        return graph.forward

    monkeypatch.setattr(compilation.torch, "compile", partial(torch.compile, backend=backend))
    torch._dynamo.reset()
    config = COMPILED.replace(**changes)
    run = trained(tiny_data, config)
    assert len(tiny_data.train) % 16 != 0  # the last batch is smaller, and not compiled
    assert batch_sizes == [16 // config.accumulation_steps]
    plain = trained(tiny_data, config.replace(compile=False))
    torch.testing.assert_close(parameters(run.model), parameters(plain.model))


def test_a_network_that_cannot_be_compiled_is_explained(
    tiny_data: ImageData, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def backend(graph: torch.fx.GraphModule, inputs: list[Any]) -> Any:
        raise RuntimeError("No working C++ compiler found")

    monkeypatch.setattr(compilation.torch, "compile", partial(torch.compile, backend=backend))
    torch._dynamo.reset()
    with pytest.raises(InputError, match=r"cannot compile the network: .*No working C\+\+ .*; set compile=False"):
        trained(tiny_data, COMPILED, out=tmp_path)
    assert trained(tiny_data, COMPILED.replace(compile=False), out=tmp_path, overwrite=True).metrics["epochs"] == 2
    monkeypatch.setattr(compilation, "_MIN_SECONDS", 0)
    torch._dynamo.reset()
    with pytest.warns(UserWarning, match=r"the network is not compiled, since .*No working C\+\+"):
        run = trained(tiny_data, COMPILED.replace(compile="auto"))
    plain = trained(tiny_data, COMPILED.replace(compile=False))
    assert torch.equal(parameters(run.model), parameters(plain.model))


def test_errors_of_the_network_itself_stay(tiny_data: ImageData, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compilation.torch, "compile", partial(torch.compile, backend="eager"))
    torch._dynamo.reset()

    def loss(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        return logits

    with pytest.raises(InputError, match="the loss returns"):
        trained(tiny_data, COMPILED, loss=loss)


def test_auto_compiles_long_runs(tiny_data: ImageData, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    data = cnnzoo.load_data("fashion_mnist_sample")

    def is_compiled(name: str, epochs: int) -> bool:
        config = cnnzoo.TrainConfig(epochs=epochs, compile="auto", device="cpu")
        trainer = cnnzoo.Trainer(cnnzoo.create(name), data, config, show=False)
        assert trainer.is_compiled == (", compiled steps\n" in describe_setup(trainer))
        return trainer.is_compiled

    assert [is_compiled("lenet", epochs) for epochs in (1, 10, 100_000)] == [False, False, True]
    assert is_compiled("alexnet", 10)
    with pytest.raises(InputError, match="compile must be True, False or 'auto', not 'always'"):
        cnnzoo.TrainConfig(compile="always")


@pytest.mark.slow
def test_a_compiled_run_resumes_with_the_same_bytes(tiny_data: ImageData, tmp_path: Path) -> None:
    whole = trained(tiny_data, COMPILED)
    trained(tiny_data, COMPILED, out=tmp_path, callbacks=[StopAt(3)])
    torch._dynamo.reset()
    run = cnnzoo.Trainer.resume(tmp_path, model=make_model(), data=tiny_data, show=False).fit()
    assert torch.equal(parameters(run.model), parameters(whole.model))


@pytest.mark.slow
def test_compiled_and_plain_steps_agree(tiny_data: ImageData) -> None:
    def without_dropout() -> nn.Module:  # compiled code draws other random numbers
        return nn.Sequential(*(layer for layer in make_model() if not isinstance(layer, nn.Dropout)))

    runs = [
        cnnzoo.Trainer(without_dropout(), tiny_data, COMPILED.replace(compile=compiled), show=False).fit()
        for compiled in (True, False)
    ]
    torch.testing.assert_close(parameters(runs[0].model), parameters(runs[1].model))
