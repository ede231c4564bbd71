"""Optimizers, schedules, losses and metrics: the built-in ones against references, and those that others add."""

from __future__ import annotations

import copy
import dataclasses
import json
from pathlib import Path

import pytest
import torch
from runs import StopAt
from torch import nn
from torch.nn import functional

import cnnzoo
from cnnzoo.data import ImageData, Split, StreamData, balanced_order
from cnnzoo.errors import InputError, TrainingError, UnknownNameError
from cnnzoo.serialization import weights_sha256
from cnnzoo.train.ema import ModelEMA
from cnnzoo.train.imbalance import make_class_weights
from cnnzoo.train.losses import TrainLoss, find_loss, one_hot
from cnnzoo.train.muon import Muon, orthogonalize
from cnnzoo.train.optim import make_optimizer, parameter_groups
from cnnzoo.train.plain import join_tensors, split_tensors

QUICK = cnnzoo.TrainConfig(epochs=3, batch_size=20, lr=0.01, weight_decay=0.01, schedule="cosine", warmup=1)


def plain_model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 3))


def require_same_bytes(
    folder: Path, spec: cnnzoo.Spec, data: ImageData, config: cnnzoo.TrainConfig, **arguments
) -> None:
    """A run that is interrupted in its second epoch ends with the weights and the history of one that is not."""
    model = cnnzoo.create(spec, seed=0)
    whole = cnnzoo.Trainer(model, data, config, show=False, **arguments).fit()
    model = cnnzoo.create(spec, seed=0)
    part = cnnzoo.Trainer(model, data, config, out=folder, callbacks=[StopAt(7)], show=False, **arguments).fit()
    assert part.interrupted
    rest = cnnzoo.Trainer.resume(folder, data=data, show=False, **arguments).fit()
    assert weights_sha256(rest.model.state_dict()) == weights_sha256(whole.model.state_dict())
    results = [
        [{k: v for k, v in e.items() if "_sec" not in k and k not in ("data_share", "mfu")} for e in r.history]
        for r in (whole, rest)
    ]
    assert results[0] == results[1]


# --- optimizers ---


def test_biases_and_norms_have_no_weight_decay_whatever_their_shape() -> None:
    model = cnnzoo.create("lenet5_1998", seed=0)
    groups = parameter_groups(model, QUICK)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    decayed = {names[id(p)] for group in groups if group["weight_decay"] for p in group["params"]}
    assert decayed == {name for name in names.values() if name.endswith("weight")}
    assert {name for name, p in model.named_parameters() if p.dim() > 1 and name not in decayed}  # of shape (C, 1, 1)

    class LayerNorm2d(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight, self.bias = nn.Parameter(torch.ones(1, 4, 1, 1)), nn.Parameter(torch.zeros(1, 4, 1, 1))

    layer = nn.utils.parametrizations.weight_norm(nn.Linear(4, 4))
    nn.utils.parametrize.register_parametrization(layer, "bias", nn.Identity())
    layer.parametrizations.bias.original = nn.Parameter(torch.zeros(1, 4))
    model = nn.ModuleDict({"norm": LayerNorm2d(), "layer": layer, "attention": nn.MultiheadAttention(4, 1)})
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    decayed = {
        names[id(p)] for group in parameter_groups(model, QUICK) if group["weight_decay"] for p in group["params"]
    }
    assert decayed == {
        "layer.parametrizations.weight.original0",
        "layer.parametrizations.weight.original1",
        "attention.in_proj_weight",
        "attention.out_proj.weight",
    }


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adamw", "muon"])
def test_resume_of_each_optimizer_ends_with_the_same_bytes(
    tmp_path: Path, tiny_spec: cnnzoo.Spec, tiny_data: ImageData, optimizer: str
) -> None:
    config = QUICK.replace(optimizer=optimizer, momentum=0.9, init="kaiming_normal", lr_multipliers={"conv1": 0.5})
    require_same_bytes(tmp_path, tiny_spec, tiny_data, config)


def test_options_of_an_optimizer() -> None:
    config = cnnzoo.TrainConfig(optimizer="adam", optimizer_options={"betas": (0.8, 0.9), "eps": 1e-6})
    assert cnnzoo.TrainConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config
    optimizer = make_optimizer(plain_model(), config)
    assert all(list(group["betas"]) == [0.8, 0.9] and group["eps"] == 1e-6 for group in optimizer.param_groups)
    with pytest.raises(InputError, match="'sgd' has no option 'betas'; optimizer_options may set: none"):
        cnnzoo.TrainConfig(optimizer_options={"betas": [0.9, 0.95]})
    with pytest.raises(InputError, match="optimizer_options must be an object of numbers, strings or lists by name"):
        cnnzoo.TrainConfig(optimizer_options={"betas": {1, 2}})
    with pytest.raises(InputError, match=r"optimizer 'adam' cannot be built: Invalid beta"):
        make_optimizer(plain_model(), config.replace(optimizer_options={"betas": [2, 0.9]}))


def test_muon_is_what_torch_defines() -> None:
    """Its AdamW is torch's; hidden weights follow torch's Muon, which computes in bfloat16."""
    torch.manual_seed(0)
    hidden, other = nn.Parameter(torch.randn(12, 8, 3, 3)), nn.Parameter(torch.randn(7))
    matrix, reference = nn.Parameter(hidden.detach().flatten(1).clone()), nn.Parameter(other.detach().clone())
    groups = [{"params": [hidden], "is_hidden": True}, {"params": [other], "is_hidden": False}]
    ours = Muon(groups, lr=0.01, weight_decay=0.1, betas=(0.9, 0.99))
    adamw = torch.optim.AdamW([reference], lr=0.01, weight_decay=0.1, betas=(0.9, 0.99))
    theirs = [adamw]
    if hasattr(torch.optim, "Muon"):
        theirs.append(torch.optim.Muon([matrix], lr=0.01, weight_decay=0.1, adjust_lr_fn="match_rms_adamw"))
    before = matrix.detach().clone()
    for _ in range(5):
        hidden.grad, other.grad = torch.randn_like(hidden), torch.randn_like(other)
        matrix.grad, reference.grad = hidden.grad.flatten(1), other.grad.clone()
        for optimizer in (ours, *theirs):
            optimizer.step()
    torch.testing.assert_close(other, reference)
    if hasattr(torch.optim, "Muon"):
        change = (matrix - before).norm()
        assert (hidden.flatten(1) - matrix).norm() < 0.02 * change


@pytest.mark.parametrize("shape", [(5, 40), (40, 5), (16, 16)])
def test_orthogonal_updates(shape: tuple[int, int]) -> None:
    torch.manual_seed(0)
    matrix = torch.randn(shape)
    u, _, v = torch.linalg.svd(matrix, full_matrices=False)
    values = (u.T @ orthogonalize(matrix) @ v.T).diagonal()
    assert ((values > 0.3) & (values < 1.3)).all()  # of a random square matrix, the smallest value may be near 0


def test_muon_has_hidden_layers_only() -> None:
    model = cnnzoo.create("lenet5_1998", seed=0)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    groups = parameter_groups(model, QUICK)
    hidden = [names[id(p)] for group in groups if group["is_hidden"] for p in group["params"]]
    first, *_ = (name for name in names.values() if name.endswith("weight"))
    assert hidden and first not in hidden and all(model.get_parameter(name).flatten(1).shape[1] > 1 for name in hidden)
    with pytest.raises(InputError, match="no trainable weight between its first and its last layer; choose .*adamw"):
        make_optimizer(nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 2)), cnnzoo.TrainConfig(optimizer="muon"))


class Counting(torch.optim.SGD):
    """SGD whose state has a bit of everything."""

    def step(self, closure=None):
        for group in self.param_groups:
            group["calls"] = group.get("calls", 0) + 1
            for p in group["params"]:
                state = self.state[p]
                state["count"] = state.get("count", 0) + 1
                state["total"] = state.get("total", torch.zeros((), dtype=torch.float64)) + p.grad.double().sum()
                state["nested"] = {"last": [p.grad.clone(), (1.5, "a", None)], 3: True}
                p.data.add_(state["nested"]["last"][0], alpha=-1e-3 * group["calls"])
                p.data.add_(float(state["total"]) * 1e-3 / state["count"])


def test_any_state_of_an_optimizer_survives(tmp_path: Path, tiny_spec: cnnzoo.Spec, tiny_data: ImageData) -> None:
    @cnnzoo.register_optimizer("counting")
    def counting(groups, config):
        return Counting(groups, lr=config.lr)

    require_same_bytes(tmp_path, tiny_spec, tiny_data, QUICK.replace(optimizer="counting"))


def test_nested_values_survive() -> None:
    value = {"a": [1, (2.5, None)], 7: {"type": "x", "t": torch.ones(2)}, "b": {"c": torch.zeros(())}}
    tensors, plain = split_tensors(value, "v")
    assert sorted(tensors) == ["v.7.t", "v.b.c"]
    again = join_tensors(json.loads(json.dumps(plain)), tensors)
    assert repr(again) == repr(value)
    with pytest.raises(TrainingError, match=r"v\.f is a set, which a checkpoint cannot hold; it can hold tensors"):
        split_tensors({"f": {1, 2}}, "v")


def test_an_optimizer_must_keep_its_groups(tmp_path: Path, tiny_data: ImageData) -> None:
    def drops_a_group(groups, config):
        return torch.optim.SGD(groups[:1], lr=config.lr)

    with pytest.raises(InputError, match="drops_a_group must be built from the groups that it is called with"):
        cnnzoo.Trainer(plain_model(), tiny_data, QUICK, optimizer=drops_a_group, out=tmp_path / "a", show=False).fit()
    assert not (tmp_path / "a").exists()
    with pytest.raises(InputError, match="must return a torch.optim.Optimizer, not list"):
        make_optimizer(plain_model(), QUICK, lambda groups, config: groups)
    with pytest.raises(InputError, match="optimizer must be a registered name or a function, not int"):
        cnnzoo.Trainer(plain_model(), tiny_data, QUICK, optimizer=3)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="optimizer 'adamw' is already registered by cnnzoo"):
        cnnzoo.register_optimizer("adamw")(drops_a_group)


# --- schedules ---


def test_plateau_is_that_of_torch() -> None:
    config = cnnzoo.TrainConfig(lr=0.5, schedule="plateau", gamma=0.5, plateau_patience=1)
    generator = torch.Generator().manual_seed(0)
    for key, mode in (("val_acc", "max"), ("loss", "min")):
        optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.5)
        theirs = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, mode, factor=0.5, patience=1)
        history: list[dict[str, float]] = []
        for epoch in range(30):
            lr = config.learning_rate(5 * epoch + 2, 5, [*history, {"loss": 9.0, "val_acc": 9.0}])
            assert lr == optimizer.param_groups[0]["lr"]
            history.append({"loss": 1.0, key: round(torch.rand((), generator=generator).item(), 1) + 0.1})
            theirs.step(history[-1][key])
        assert 0 < lr < 0.1


def test_plateau_resumes(tmp_path: Path, tiny_spec: cnnzoo.Spec, tiny_data: ImageData) -> None:
    config = QUICK.replace(schedule="plateau", warmup=0, plateau_patience=0, epochs=6, val_size=30, lr=1e-4)
    require_same_bytes(tmp_path, tiny_spec, tiny_data, config)
    rates = [json.loads(line)["lr"] for line in (tmp_path / "history.jsonl").read_text().splitlines()]
    assert rates[0] == 1e-4 > rates[-1]
    with pytest.raises(
        InputError, match="'plateau' needs the validation accuracy of every epoch: set eval_every=1, not 2"
    ):
        config.replace(eval_every=2)


def test_a_schedule_of_ones_own(tmp_path: Path, tiny_spec: cnnzoo.Spec, tiny_data: ImageData) -> None:
    with pytest.raises(UnknownNameError, match="unknown schedule 'by_loss'"):
        QUICK.replace(schedule="by_loss")

    @cnnzoo.register_schedule("by_loss")
    def by_loss(config, progress):
        return config.lr / (1 + progress.epochs) * (progress.history[-1]["loss"] if progress.history else 1)

    config = QUICK.replace(schedule="by_loss", milestones=[1])  # a registered one may use them
    require_same_bytes(tmp_path, tiny_spec, tiny_data, config)
    assert config.learning_rate(10, 5, [{"loss": 9.0}, {"loss": 0.5}, {"loss": 7.0}]) == 0.01 / 3 * 0.5
    cnnzoo.register_schedule("nothing")(lambda config, progress: None)
    with pytest.raises(InputError, match=r"schedule 'nothing' must return a number of at least 0, not None \(step 7\)"):
        QUICK.replace(schedule="nothing").learning_rate(7, 5)


def test_a_schedule_that_is_passed_is_recorded(tmp_path: Path, tiny_spec: cnnzoo.Spec, tiny_data: ImageData) -> None:
    def wave(config, progress) -> float:
        return 0.01 * (1 + progress.step % 3)

    def trainer(*callbacks, **arguments):
        return cnnzoo.Trainer(
            cnnzoo.create(tiny_spec, seed=0), tiny_data, QUICK, callbacks=callbacks, show=False, **arguments
        )

    whole = trainer(schedule=wave).fit()
    assert whole.history[0]["lr"] == wave(QUICK, cnnzoo.train.Progress(whole.history[0]["step"] - 1, 5))
    trainer(StopAt(7), schedule=wave, out=tmp_path).fit()
    assert json.loads((tmp_path / "train.json").read_text())["functions"] == {"schedule": "wave"}
    with pytest.raises(InputError, match=r"was trained with schedule=wave, .*pass it again: .*, schedule=wave\)"):
        cnnzoo.Trainer.resume(tmp_path, data=tiny_data, show=False)
    with pytest.raises(InputError, match="was trained with schedule=wave"):
        trainer(out=tmp_path, resume="auto")
    run = cnnzoo.Trainer.resume(tmp_path, data=tiny_data, schedule=wave, show=False).fit()
    assert weights_sha256(run.model.state_dict()) == weights_sha256(whole.model.state_dict())
    with pytest.raises(InputError, match="schedule 'nothing' must return a number"):
        trainer(schedule=lambda_named("nothing")).fit()
    assert trainer(schedule="cosine").config.schedule == "cosine"


def lambda_named(name: str):
    def function(config, progress):
        return None

    function.__name__ = name
    return function


# --- losses ---


def soft_targets() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    logits, labels = torch.randn(6, 4), torch.randint(4, (6,))
    return logits, labels, 0.7 * one_hot(labels, 4) + 0.3 * one_hot(labels.roll(1), 4)


@pytest.mark.parametrize("name", ["cross_entropy", "focal:2", "focal:0", "focal:0.5", "bce"])
def test_losses_of_hard_and_soft_targets_agree(name: str) -> None:
    logits, labels, soft = soft_targets()
    loss = find_loss(name)
    assert loss(logits, labels).shape == (6,)
    torch.testing.assert_close(loss(logits, labels), loss(logits, one_hot(labels, 4)))
    mixed = 0.7 * loss(logits, labels) + 0.3 * loss(logits, labels.roll(1))
    torch.testing.assert_close(loss(logits, soft), mixed)  # each of them is linear in the targets
    certain = torch.full((2, 4), -80.0).fill_diagonal_(80.0).requires_grad_()
    loss(certain, torch.tensor([0, 2])).sum().backward()
    assert torch.isfinite(certain.grad).all()


def test_losses_against_their_definitions() -> None:
    logits, labels, soft = soft_targets()
    p = logits.softmax(1)[torch.arange(6), labels]
    torch.testing.assert_close(find_loss("focal")(logits, labels), -((1 - p) ** 2) * p.log())
    torch.testing.assert_close(
        find_loss("focal:0")(logits, labels), functional.cross_entropy(logits, labels, reduction="none")
    )
    reference = functional.binary_cross_entropy_with_logits(logits, soft)
    torch.testing.assert_close(TrainLoss(find_loss("bce"))(logits, soft), reference)


@pytest.mark.parametrize("name", ["focal:2", "bce"])
def test_other_losses_train_and_resume(tmp_path: Path, tiny_spec: cnnzoo.Spec, tiny_data: ImageData, name: str) -> None:
    config = QUICK.replace(loss=name, label_smoothing=0.1, mixup=0.2, optimizer="adamw")
    require_same_bytes(tmp_path, tiny_spec, tiny_data, config)


def test_label_smoothing_of_any_loss() -> None:
    logits, labels, soft = soft_targets()
    cross_entropy = find_loss("cross_entropy")
    for targets in (labels, soft):
        expected = functional.cross_entropy(logits, targets, label_smoothing=0.2)
        assert TrainLoss(cross_entropy, 0.2)(logits, targets) == expected
        torch.testing.assert_close(TrainLoss(lambda x, t: cross_entropy(x, t), 0.2)(logits, targets), expected)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("foca", "unknown loss 'foca'. Did you mean 'focal'"),
        ("focal:x", "loss 'focal:x': 'x' is not a valid number; write focal:2"),
        ("focal:-1", "'-1' is not a valid number"),
        ("bce:2", "loss 'bce' takes no number; write bce"),
    ],
)
def test_names_of_losses_are_checked(text: str, message: str) -> None:
    with pytest.raises(cnnzoo.CnnzooError, match=message):
        cnnzoo.TrainConfig(loss=text)


def test_functions_must_be_passed_again(tmp_path: Path, tiny_spec: cnnzoo.Spec, tiny_data: ImageData) -> None:
    def brier(logits, targets):
        return (logits.softmax(1) - one_hot(targets, 3)).square().sum(1)

    def lion(groups, config):
        return torch.optim.Adagrad(groups, lr=config.lr)

    def worst_recall(evaluation):
        return min(evaluation.recall)

    functions = {"loss": brier, "optimizer": lion, "metrics": [worst_recall, "macro_f1"]}
    require_same_bytes(tmp_path, tiny_spec, tiny_data, QUICK, **functions)
    recorded = json.loads((tmp_path / "train.json").read_text())
    assert recorded["functions"] == {"loss": "brier", "optimizer": "lion", "metrics": ["worst_recall"]}
    assert recorded["config"]["metrics"] == ["macro_f1"]
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert metrics["test_worst_recall"] == min(metrics["evaluations"]["test"]["recall"])

    out = tmp_path / "other"
    model = cnnzoo.create(tiny_spec, seed=0)
    cnnzoo.Trainer(model, tiny_data, QUICK, out=out, callbacks=[StopAt(7)], show=False, **functions).fit()
    line = r"pass it again: cnnzoo.Trainer.resume\('.*other', loss=brier, optimizer=lion, metrics=\[worst_recall\]\)"
    with pytest.raises(InputError, match=rf"was trained with loss=brier, which its files do not contain; {line}"):
        cnnzoo.Trainer.resume(out, data=tiny_data)
    with pytest.raises(InputError, match=rf"was trained with metrics=\[worst_recall\], .*{line}"):
        cnnzoo.Trainer.resume(out, data=tiny_data, loss=brier, optimizer=lion)
    with pytest.raises(
        InputError, match="can only continue with the config .* differs: optimizer was .sgd. and is .adam."
    ):
        cnnzoo.Trainer.resume(out, data=tiny_data, loss=brier, optimizer="adam")
    plain = tmp_path / "plain"
    model = cnnzoo.create(tiny_spec, seed=0)
    cnnzoo.Trainer(model, tiny_data, QUICK, out=plain, callbacks=[StopAt(7)], show=False).fit()
    assert "functions" not in json.loads((plain / "train.json").read_text())
    with pytest.raises(InputError, match="was started without loss=brier; resume it without"):
        cnnzoo.Trainer.resume(plain, data=tiny_data, loss=brier)


def test_a_loss_that_does_not_fit(tmp_path: Path, tiny_data: ImageData) -> None:
    def fit(loss) -> None:
        cnnzoo.Trainer(plain_model(), tiny_data, QUICK, loss=loss, out=tmp_path / "run", show=False).fit()

    with pytest.raises(InputError, match=r"the loss returns \(1, 3\) for 1 images; it must return one loss per image"):
        fit(lambda logits, targets: logits)
    with pytest.raises(InputError, match="the loss Bilinear has parameters, which would not be trained"):
        fit(nn.Bilinear(1, 1, 1))
    assert not (tmp_path / "run").exists()
    run = cnnzoo.Trainer(plain_model(), tiny_data, QUICK, loss=nn.CrossEntropyLoss(), show=False).fit()
    same = cnnzoo.Trainer(plain_model(), tiny_data, QUICK, show=False).fit()
    # on a busy machine, MKL may run a product with fewer threads, which changes the last digits
    torch.testing.assert_close(run.model.state_dict(), same.model.state_dict())


def test_losses_without_a_gradient(tiny_data: ImageData) -> None:
    def fit(loss) -> None:
        cnnzoo.Trainer(plain_model(), tiny_data, QUICK, loss=loss, show=False).fit()

    with pytest.raises(InputError, match=r"the loss returns values of torch.bool, without a gradient"):
        fit(lambda logits, targets: logits.argmax(1) != targets)
    with pytest.raises(TrainingError, match="the loss does not depend on a parameter that requires a gradient"):
        fit(lambda logits, targets: nn.functional.cross_entropy(logits.detach(), targets, reduction="none"))


class Sometimes(nn.Module):
    """Uses a layer in some steps only, as networks of stochastic depth do."""

    def __init__(self) -> None:
        super().__init__()
        self.model, self.extra = plain_model(), nn.Linear(64, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        scores = self.model(x)
        return scores + self.extra(x.flatten(1)) if torch.rand(()) < 0.5 else scores


def test_weights_that_are_used_in_some_steps(tiny_data: ImageData, monkeypatch: pytest.MonkeyPatch) -> None:
    """Momentum starts with their first gradient, as in torch's own loop over parameters."""

    def train() -> str:
        torch.manual_seed(0)
        run = cnnzoo.Trainer(Sometimes(), tiny_data, QUICK.replace(momentum=0.9), show=False).fit()
        return weights_sha256(run.model.state_dict())

    fused = train()
    monkeypatch.setattr("cnnzoo.train.optim._is_fused", lambda groups: False)
    assert fused == train()


class Embeds(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(2, 3, sparse=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.embedding((x.flatten(1) > 0).long()).sum(1)


class NeedsClosure(torch.optim.SGD):
    def step(self, closure) -> None:
        closure()


def test_gradients_and_optimizers_that_do_not_fit(tiny_data: ImageData) -> None:
    for name in ("sgd", "adamw"):
        with pytest.raises(TrainingError, match=r"does not take the gradients .* have: embedding.weight. Build embedd"):
            cnnzoo.Trainer(Embeds(), tiny_data, QUICK, optimizer=name, show=False).fit()
    with pytest.raises(InputError, match="needs a closure that computes the loss again"):
        cnnzoo.Trainer(
            plain_model(), tiny_data, QUICK, optimizer=lambda groups, config: NeedsClosure(groups, lr=1.0), show=False
        ).fit()
    complex_model = nn.Sequential(nn.Flatten(), Absolute())
    cnnzoo.Trainer(complex_model, tiny_data, QUICK, show=False).fit()


class Absolute(nn.Module):
    """Has complex weights, which fused optimizers do not take."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(64, 3, dtype=torch.complex64))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return (x.to(torch.complex64) @ self.weight).abs()


# --- metrics ---


def test_metrics_are_recorded(tmp_path: Path, tiny_data: ImageData) -> None:
    names = ("balanced_accuracy", "macro_f1", "recall")
    config = QUICK.replace(metrics=names, val_size=30)
    run = cnnzoo.Trainer(plain_model(), tiny_data, config, out=tmp_path, show=False).fit()
    assert all(f"val_{name}" in entry for entry in run.history for name in names)
    test = json.loads((tmp_path / "metrics.json").read_text())
    evaluation = test["evaluations"]["test"]
    assert (
        test["test_balanced_accuracy"] == evaluation["balanced_accuracy"]
        and test["test_recall"] == evaluation["recall"]
    )
    assert test["test_macro_f1"] == pytest.approx(sum(evaluation["f1"]) / 3)
    page = cnnzoo.report(tmp_path).read_text()
    assert "test macro f1" in page


def test_metrics_are_checked(tiny_data: ImageData) -> None:
    with pytest.raises(UnknownNameError, match="unknown metric 'macro_f2'. Did you mean 'macro_f1'"):
        cnnzoo.TrainConfig(metrics=["macro_f2"])
    with pytest.raises(InputError, match="metric 'acc' would be recorded under the name of the accuracy"):
        cnnzoo.register_metric("acc")(len)
    with pytest.raises(InputError, match=r"a function with a name of its own, not '<lambda>'"):
        cnnzoo.Trainer(plain_model(), tiny_data, QUICK, metrics=[lambda evaluation: 1])
    with pytest.raises(InputError, match=r"metrics must be a list of names or functions, such as \['macro_f1'\]"):
        cnnzoo.Trainer(plain_model(), tiny_data, QUICK, metrics="macro_f1")

    def undefined(evaluation):
        return float("nan")

    with pytest.raises(InputError, match="metric 'undefined' must return a finite number, .* or None .*, not nan"):
        cnnzoo.Trainer(plain_model(), tiny_data, QUICK, metrics=[undefined], show=False).fit()


# --- the average of the weights ---


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(64, 64), nn.Linear(64, 64)
        self.b.weight = self.a.weight
        self.head = nn.Linear(64, 3)

    def forward(self, x):
        return self.head(self.b(self.a(x.flatten(1)).relu()).relu())


def test_the_average_of_tied_weights_is_that_of_torch() -> None:
    torch.manual_seed(0)
    model = Tied()

    def average(averaged, current, n):
        return averaged.lerp(current, 1 - min(0.99, n.item() / (9 + n.item())))

    ours, theirs = ModelEMA(model, 0.99), torch.optim.swa_utils.AveragedModel(model, avg_fn=average)
    theirs.update_parameters(model)  # the first update copies the weights
    assert "b.weight" not in ours.values
    for step in range(5):
        for parameter in model.parameters():
            parameter.data.add_(torch.randn_like(parameter))
        ours.update(step)
        theirs.update_parameters(model)
        weights = copy.deepcopy(model.state_dict())
        with ours.applied():
            for name, value in theirs.module.state_dict().items():
                torch.testing.assert_close(model.state_dict()[name], value)
        assert all(torch.equal(value, weights[name]) for name, value in model.state_dict().items())


def test_tied_weights_train_as_without_the_average(tmp_path: Path, tiny_data: ImageData) -> None:
    def losses(**changes) -> list[float]:
        torch.manual_seed(0)
        run = cnnzoo.Trainer(Tied(), tiny_data, QUICK.replace(**changes), show=False).fit()
        return [entry["loss"] for entry in run.history]

    assert losses(ema=0.9) == losses()


# --- imbalance ---


def rare_data(n: int = 600, n_rare: int = 30, classes: tuple[str, ...] = ("frequent", "rare")) -> ImageData:
    """Noise, a little brighter in images of the rare class."""

    def split(labels: torch.Tensor, seed: int) -> Split:
        generator = torch.Generator().manual_seed(seed)
        noise = torch.randn(len(labels), 1, 8, 8, generator=generator) * 60 + 110 + 15 * labels.view(-1, 1, 1, 1)
        return Split(noise.clamp(0, 255).to(torch.uint8), labels)

    labels = (torch.arange(n) < n_rare).long()
    return ImageData("uneven", split(labels, 0), split(torch.arange(200) % 2, 1), classes)


@pytest.mark.parametrize(
    "change", [{"class_weights": "balanced"}, {"class_weights": [1, 19]}, {"balanced_sampling": True}]
)
def test_a_rare_class_is_learned(change: dict) -> None:
    def train(**changes) -> cnnzoo.train.Run:
        torch.manual_seed(0)
        model = nn.Sequential(nn.AvgPool2d(4), nn.Flatten(), nn.Linear(4, 2))
        config = cnnzoo.TrainConfig(epochs=4, lr=0.02, optimizer="adam", batch_size=50, metrics=["balanced_accuracy"])
        return cnnzoo.Trainer(model, rare_data(), config.replace(**changes), show=False).fit()

    before, after = train(), train(**change)
    assert "test_recall" not in before.history[0] and all(len(entry["test_recall"]) == 2 for entry in after.history)
    assert before.metrics["test_balanced_accuracy"] < 0.6 < after.metrics["test_balanced_accuracy"]
    assert after.metrics["test_recall"][1] > 0.5


def test_balanced_order() -> None:
    labels = torch.tensor([0] * 57 + [1] * 3 + [3] * 41)  # no image has label 2
    order = balanced_order(labels, 0, 5)
    assert len(order) == 101 and torch.equal(order, balanced_order(labels, 0, 5))
    assert not torch.equal(order, balanced_order(labels, 0, 6)) and not torch.equal(order, balanced_order(labels, 1, 5))
    counts = torch.bincount(order, minlength=101)
    by_label = [counts[labels == label] for label in (0, 1, 3)]
    assert sorted(int(part.sum()) for part in by_label) == [33, 34, 34]
    assert all(part.max() - part.min() <= 1 for part in by_label)


def test_balanced_sampling_resumes(tmp_path: Path, tiny_spec: cnnzoo.Spec, tiny_data: ImageData) -> None:
    data = dataclasses.replace(tiny_data, train=tiny_data.train[[*range(90)] + [0] * 8])
    config = QUICK.replace(balanced_sampling=True, class_weights="balanced", mixup=0.2)
    require_same_bytes(tmp_path, tiny_spec, data, config)


def test_class_weights() -> None:
    data = rare_data()
    balanced = make_class_weights(cnnzoo.TrainConfig(class_weights="balanced"), data)
    assert balanced is not None and balanced.tolist() == pytest.approx([600 / (2 * 570), 600 / (2 * 30)])
    config = cnnzoo.TrainConfig(class_weights=[1, 3])
    assert make_class_weights(config, data, torch.tensor([1, 0])).tolist() == [3, 1]
    logits, labels, _ = soft_targets()
    weights = torch.tensor([1.0, 2.0, 0.0, 4.0])
    expected = functional.cross_entropy(logits, labels, weights, reduction="sum") / 6
    torch.testing.assert_close(TrainLoss(find_loss("cross_entropy"), 0.0, weights)(logits, labels), expected)
    torch.testing.assert_close(
        TrainLoss(find_loss("cross_entropy"), 0.0, weights)(logits, one_hot(labels, 4)), expected
    )


class Labelless(torch.utils.data.Dataset):
    def __len__(self) -> int:
        return 6

    def __getitem__(self, i: int):
        return torch.zeros(1, 8, 8, dtype=torch.uint8), i % 2


class Labeled(Labelless):
    targets = (0, 1, 0, 1, 0, 1)


def test_what_cannot_be_balanced() -> None:
    def trainer(data, **changes) -> None:
        cnnzoo.Trainer(nn.Linear(1, 1), data, cnnzoo.TrainConfig(**changes))

    with pytest.raises(InputError, match="class_weights has 3 numbers, but uneven has 2 classes; .*: frequent, rare"):
        trainer(rare_data(), class_weights=[1, 2, 3])
    with pytest.raises(
        InputError, match="class_weights must be 'balanced' or a list of numbers .* or None, not 'even'"
    ):
        trainer(rare_data(), class_weights="even")
    for change in ({"class_weights": "balanced"}, {"balanced_sampling": True}):
        with pytest.raises(InputError, match="uneven has no training images of absent; class_weights='balanced' and"):
            trainer(rare_data(classes=("frequent", "rare", "absent")), **change)
        stream = StreamData("stream", Labelless(), Labelless(), ("a", "b"))
        with pytest.raises(InputError, match="labels of stream are not known .*give the Labelless an attribute labels"):
            trainer(stream, **change)
        batches = [(torch.zeros(2, 1, 8, 8), torch.zeros(2))]
        with pytest.raises(InputError, match="stream yields batches, whose labels are not known before they are read"):
            trainer(StreamData("stream", batches, batches, ("a", "b")), **change)
        trainer(StreamData("stream", Labeled(), Labeled(), ("a", "b")), **change, val_size=2)
