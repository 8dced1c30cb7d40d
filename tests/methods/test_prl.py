"""PRL: what is dropped, and that the rest is what is trained on."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from functools import partial
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from lightning.pytorch.callbacks import EMAWeightAveraging, ModelCheckpoint
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from noisylabels_pl import PRL, CoPRL, Crust, GCELoss, RobustLoss, indexed, per_sample_gradient_norms
from noisylabels_pl.callbacks import LabelQuality
from noisylabels_pl.functional import keep_mask, loss_layer_gradient_norm
from tests.contract.methods import assert_same, record
from tests.helpers import Tutorial, WithCriterion, foreign_loader
from tests.processes import run_on_two_ranks

Make = Callable[..., Any]
RATE, LR = 0.4, 0.1


class Plain(Tutorial):
    """Plain gradient steps, so that a loop can restate them; keeps what its step was given."""

    def __init__(self, criterion: nn.Module | None = None, net: nn.Module | None = None) -> None:
        super().__init__()
        self.criterion = criterion or nn.CrossEntropyLoss()
        self.net = net or self.net
        self.seen: list[Tensor] = []

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        x, y = batch
        self.seen.append(x)
        return self.criterion(self(x), y)

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=LR)


def problem(task: str) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(60, 64, generator=generator)
    if task == "mse":
        return x, torch.randn(60, 10, generator=generator)
    return x, torch.randint(10, (60,), generator=generator)


def scores(net: nn.Module, score: str, x: Tensor, y: Tensor) -> Tensor:
    task = "mse" if y.is_floating_point() else "ce"
    loss: Any = F.mse_loss if task == "mse" else F.cross_entropy
    with torch.no_grad():
        if score == "loss_layer":
            return loss_layer_gradient_norm(net(x), y, task)
        if score == "loss":
            return loss(net(x), y, reduction="none").reshape(len(y), -1).mean(1)
    return per_sample_gradient_norms(net, loss, x, y)


def fit(module: L.LightningModule, callbacks: list[L.Callback], data: Any, make_trainer: Make, **options: Any) -> Any:
    trainer = make_trainer(*callbacks, **({"max_epochs": 3} | options))
    loader = DataLoader(TensorDataset(*data), batch_size=20) if isinstance(data, tuple) else data
    trainer.fit(module, loader)
    return module


@pytest.mark.parametrize("second_forward", [False, True])
@pytest.mark.parametrize("score", ["loss_layer", "gradient", "loss"])
@pytest.mark.parametrize("task", ["ce", "mse"])
def test_a_loop_that_restates_it(task: str, score: str, second_forward: bool, make_trainer: Make) -> None:
    torch.manual_seed(0)
    module = Plain(nn.MSELoss() if task == "mse" else None)
    net = deepcopy(module.net)
    x, y = problem(task)
    loader: Any = DataLoader(TensorDataset(x, y), batch_size=20)
    loader = indexed(loader) if second_forward else loader  # masking does without positions
    fit(module, [PRL(RATE, score=score, second_forward=second_forward)], loader, make_trainer)
    loss: Any = F.mse_loss if task == "mse" else F.cross_entropy
    for _ in range(3):
        for rows in torch.arange(60).split(20):
            kept = rows[keep_mask(scores(net, score, x[rows], y[rows]), RATE)]
            assert len(kept) == 12
            net.zero_grad()
            loss(net(x[kept]), y[kept]).backward()
            with torch.no_grad():
                for parameter in net.parameters():
                    parameter -= LR * parameter.grad
    torch.testing.assert_close(module.net.state_dict(), net.state_dict(), rtol=1e-5, atol=1e-6)
    assert {len(x) for x in module.seen} == {12 if second_forward else 20}


def test_with_squared_errors_it_chooses_as_self_paced_learning_does(make_trainer: Make) -> None:
    fitted = []
    for score in ("loss_layer", "loss"):
        torch.manual_seed(0)
        fitted.append(fit(Plain(nn.MSELoss()), [PRL(RATE, score=score)], problem("mse"), make_trainer))
    assert_same(fitted[0].state_dict(), fitted[1].state_dict())


def test_a_rate_of_1_is_min_sgd(make_trainer: Make) -> None:
    torch.manual_seed(0)
    module = Plain()
    x, y = problem("ce")
    net = deepcopy(module.net)
    fit(module, [PRL(1.0, score="loss")], (x[:20], y[:20]), make_trainer, max_epochs=1)
    losses = F.cross_entropy(net(x[:20]), y[:20], reduction="none")
    losses.min().backward()
    for after, before in zip(module.net.parameters(), net.parameters(), strict=True):
        torch.testing.assert_close(after, before - LR * before.grad)


@pytest.mark.parametrize(("schedule", "kept"), [("paper", [18, 16, 14, 12, 12]), ("released", [20, 17, 14, 12, 12])])
def test_the_ramp(schedule: str, kept: list[int], digits: Make, classifier: Make, make_trainer: Make) -> None:
    class Counts(L.Callback):
        def on_train_batch_end(self, trainer: L.Trainer, pl_module: Any, outputs: Any, batch: Any, *_: Any) -> None:
            counted[trainer.current_epoch] = int(batch.kept[0].sum())

    counted: dict[int, int] = {}
    method = PRL(0.4, ramp_epochs=4, schedule=schedule)
    datamodule = digits(batch_size=20, val_fraction=0, train_size=200)
    make_trainer(method, Counts(), max_epochs=5).fit(classifier(), datamodule=datamodule)
    assert list(counted.values()) == kept


@pytest.mark.parametrize("score", ["loss_layer", "gradient", "loss"])
def test_what_is_kept_is_cleaner_than_the_rest(score: str, digits: Make, classifier: Make, make_trainer: Make) -> None:
    datamodule = digits(train_size=1000)
    observed = datamodule.labels.observed[datamodule.train_indices]
    quality = LabelQuality(datamodule.clean_targets, observed)
    trainer = make_trainer(PRL(0.4, score=score, ramp_epochs=2), quality, max_epochs=10)
    trainer.fit(classifier(), datamodule=datamodule)
    metrics = trainer.callback_metrics
    pool = float((datamodule.clean_targets == observed).double().mean())
    assert metrics["selection/precision"] > 0.85 > pool + 0.2
    assert metrics["selection/recall"] == pytest.approx(float(metrics["selection/precision"]) * 0.6 / pool, abs=0.03)


def test_the_precision_of_a_second_forward_pass_is_that_of_the_kept(
    digits: Make, classifier: Make, make_trainer: Make
) -> None:
    class Counts(L.Callback):
        def on_train_batch_end(self, trainer: L.Trainer, pl_module: Any, outputs: Any, batch: Any, *_: Any) -> None:
            assert batch.kept[0].all()
            assert len(batch.x) == len(batch.y) == len(batch.index) == len(batch.kept[0])
            visited.append(batch.index)

    visited: list[Tensor] = []
    datamodule = digits()
    observed = datamodule.labels.observed[datamodule.train_indices]
    quality, method = LabelQuality(datamodule.clean_targets, observed), PRL(0.4, second_forward=True)
    trainer = make_trainer(method, quality, Counts(), max_epochs=1)
    trainer.fit(classifier(), datamodule=datamodule)
    index = torch.cat(visited)
    right = (datamodule.clean_targets == observed)[index]
    assert float(trainer.callback_metrics["selection/precision"]) == pytest.approx(float(right.float().mean()))
    assert len(index) == sum(int(0.6 * size + 1e-9) for size in [32] * 8 + [14])


class Normalized(nn.Sequential):
    """With batch normalization, as most networks."""

    def __init__(self) -> None:
        super().__init__(nn.Flatten(), nn.Linear(64, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Linear(32, 10))


class Counts(Normalized):
    """Keeps how each of its forward passes was run."""

    def __init__(self) -> None:
        super().__init__()
        self.passes: list[Any] = []

    def forward(self, x: Tensor) -> Tensor:
        self.passes.append((len(x), self.training, torch.is_grad_enabled(), torch.is_autocast_enabled("cpu")))
        return super().forward(x)


@pytest.mark.parametrize("train_mode", [True, False])
@pytest.mark.parametrize("bf16", [True, False])
def test_the_pass_that_scores(train_mode: bool, bf16: bool, make_trainer: Make) -> None:
    """Batch normalization takes its statistics from the kept samples in the second pass."""
    loader = indexed(DataLoader(TensorDataset(*problem("ce")), batch_size=20))
    options: dict[str, Any] = {"train_mode": train_mode, "bf16_scoring": bf16, "second_forward": True}
    module = fit(Plain(net=Counts()), [PRL(0.4, **options)], loader, make_trainer, max_epochs=1)
    assert module.net.passes == [(20, train_mode, False, bf16), (12, True, True, False)] * 3
    assert int(module.net[2].num_batches_tracked) == (6 if train_mode else 3)

    pair = CoPRL(Counts, 10, partial(torch.optim.SGD, lr=LR), forget_rate=0.4, ramp_epochs=0, **options)
    fit(pair, [], loader, make_trainer, max_epochs=1)
    for net in (pair.net.first, pair.net.second):
        assert net.passes == [(20, train_mode, False, bf16), (12, True, True, False)] * 3


@pytest.mark.parametrize(("rate", "scope", "second"), [(0.3, "rank", []), (0.4, "rank", [3]), (0.4, "global", [])])
def test_by_itself_it_passes_twice_where_that_is_faster(
    rate: float, scope: str, second: list[int], make_trainer: Make
) -> None:
    """A ramp over four epochs passes a third in the last one."""
    loader = indexed(DataLoader(TensorDataset(*problem("ce")), batch_size=20))
    options: dict[str, Any] = {"ramp_epochs": 4, "second_forward": "auto", "scope": scope}
    module = fit(Plain(net=Counts()), [PRL(rate, **options)], loader, make_trainer, max_epochs=4)
    pair = CoPRL(Counts, 10, partial(torch.optim.SGD, lr=LR), forget_rate=rate, **options)
    fit(pair, [], loader, make_trainer, max_epochs=4)
    for net in (module.net, pair.net.first, pair.net.second):
        sizes = [size for size, *_ in net.passes]
        assert sizes == [size for epoch in range(4) for size in ([20, 12] if epoch in second else [20]) * 3]


def test_by_itself_it_leaves_batch_normalization_two_samples(make_trainer: Make) -> None:
    x, y = problem("ce")
    loader = indexed(DataLoader(TensorDataset(x[:22], y[:22]), batch_size=20))  # 20 and 2
    module = fit(Plain(net=Counts()), [PRL(0.4, second_forward="auto")], loader, make_trainer, max_epochs=1)
    pair = CoPRL(Counts, 10, partial(torch.optim.SGD, lr=LR), forget_rate=0.4, ramp_epochs=0)
    fit(pair, [], loader, make_trainer, max_epochs=1)
    for net in (module.net, pair.net.first, pair.net.second):
        assert [size for size, *_ in net.passes] == [20, 12, 2]


def test_by_itself_it_takes_gradients_of_all_parameters_once(make_trainer: Make) -> None:
    module = Plain()
    fit(module, [PRL(0.9, score="gradient", second_forward="auto")], problem("ce"), make_trainer)
    assert {len(x) for x in module.seen} == {20}


def test_batch_normalization_has_no_per_sample_gradients(make_trainer: Make) -> None:
    module = Plain(net=Normalized())
    with pytest.raises(ValueError, match=r"layer 'net\.2' is a BatchNorm1d.*convert_batchnorm=true"):
        fit(module, [PRL(0.4, score="gradient")], problem("ce"), make_trainer)
    convert = PRL(0.4, score="gradient", convert_batchnorm=True)
    with pytest.raises(ValueError, match="weight averaging has copied the module before PRL could convert"):
        fit(module, [EMAWeightAveraging(), convert], problem("ce"), make_trainer)
    fit(module, [convert, EMAWeightAveraging()], problem("ce"), make_trainer)
    assert isinstance(module.net[2], nn.GroupNorm)
    assert module.net[2].weight.requires_grad
    assert not torch.equal(module.net[2].weight, torch.ones(32))  # the optimizer knows the new parameters


def test_lengths_of_gradients_under_mixed_precision(make_trainer: Make) -> None:
    class Spy(PRL):
        def gradient_norms(self, losses: Tensor) -> Tensor:
            found.append(super().gradient_norms(losses))
            return found[-1]

    found: list[Tensor] = []
    torch.manual_seed(0)
    module = Plain()
    net = deepcopy(module.net)
    x, y = problem("ce")
    callbacks: list[L.Callback] = [Spy(0.4, score="gradient")]
    fit(module, callbacks, (x[:20], y[:20]), make_trainer, max_epochs=1, precision="bf16-mixed")
    full = per_sample_gradient_norms(net, F.cross_entropy, x[:20], y[:20])
    assert found[0].dtype == torch.float32
    torch.testing.assert_close(found[0], full, rtol=0.02, atol=0)
    assert torch.equal(keep_mask(found[0], 0.4), keep_mask(full, 0.4))


def test_dropped_losses_do_no_harm_however_large(make_trainer: Make) -> None:
    x, y = problem("mse")
    y[3] = 1e30  # whose square is infinite
    module = fit(Plain(nn.MSELoss()), [PRL(0.1)], (x, y), make_trainer)
    assert all(parameter.isfinite().all() for parameter in module.parameters())


def test_a_robust_loss_inside(make_trainer: Make) -> None:
    """The score of PRL(L) stays that of cross-entropy: wrong labels have small gradients of a robust loss."""
    fitted = []
    for order in (1, -1):
        torch.manual_seed(0)
        fitted.append(fit(Plain(), [PRL(0.4), RobustLoss(GCELoss())][::order], problem("ce"), make_trainer))
    assert_same(fitted[0].state_dict(), fitted[1].state_dict())
    torch.manual_seed(0)
    net, (x, y) = Plain().net, problem("ce")
    kept = keep_mask(loss_layer_gradient_norm(net(x[:20]), y[:20]), 0.4)
    module = fit(
        Plain(net=deepcopy(net)), [PRL(0.4), RobustLoss(GCELoss())], (x[:20], y[:20]), make_trainer, max_epochs=1
    )
    GCELoss()(net(x[:20][kept]), y[:20][kept]).backward()
    for after, before in zip(module.net.parameters(), net.parameters(), strict=True):
        torch.testing.assert_close(after, before - LR * before.grad, rtol=1e-5, atol=1e-6)


def test_refusals(make_trainer: Make, digits: Make) -> None:
    for options, message in (
        ({"forget_rate": 1.2}, r"forget_rate must be a number in \[0, 1\], got 1.2"),
        ({"forget_rate": None}, "forget_rate is not known, .* give one: method.forget_rate=0.2"),
        ({"score": "gradients"}, "score must be one of loss_layer, gradient, loss, got 'gradients'"),
        ({"scope": "all"}, "scope must be one of rank, global"),
        ({"schedule": "linear"}, "schedule must be one of paper, released"),
        ({"ramp_epochs": -1}, "ramp_epochs must not be negative"),
        ({"second_forward": True, "scope": "global"}, "scope='global' may leave a process without samples"),
        ({"convert_batchnorm": True}, "convert_batchnorm=True is for score='gradient', got 'loss_layer'"),
    ):
        with pytest.raises(ValueError, match=message):
            PRL(**({"forget_rate": 0.2} | options))  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="forget_rate"):
        PRL()  # type: ignore[call-arg]
    x, y = problem("mse")
    with pytest.raises(TypeError, match=r"no closed form .* BCEWithLogitsLoss .* score='gradient'"):
        fit(Plain(nn.BCEWithLogitsLoss()), [PRL(0.2)], (x, (y > 0).float()), make_trainer)
    fit(Plain(nn.BCEWithLogitsLoss()), [PRL(0.2, score="gradient")], (x, (y > 0).float()), make_trainer)
    with pytest.raises(ValueError, match=r"PRL and Crust cannot be combined: PRL judges each sample, but Crust mixes"):
        fit(WithCriterion(), [PRL(0.2), Crust()], indexed(foreign_loader(digits())), make_trainer)
    with pytest.raises(TypeError, match="without sample positions"):
        fit(Plain(), [PRL(0.2, second_forward=True)], problem("ce"), make_trainer)


def test_a_resume_in_the_middle_of_an_epoch_keeps_the_ramp(
    digits: Make, classifier: Make, make_trainer: Make, tmp_path: Path
) -> None:
    class Counts(L.Callback):
        def on_train_batch_end(self, trainer: L.Trainer, pl_module: Any, outputs: Any, batch: Any, *_: Any) -> None:
            counted.append((trainer.current_epoch, int(batch.kept[0].sum())))

    datamodule = digits(batch_size=20, val_fraction=0, train_size=200)
    observed = datamodule.labels.observed[datamodule.train_indices]
    saved = ModelCheckpoint(tmp_path, every_n_train_steps=13, save_top_k=-1, filename="{step}")
    options: dict[str, Any] = {"max_epochs": 2, "enable_checkpointing": True}
    for checkpoint in (None, tmp_path / "step=13.ckpt"):
        counted: list[tuple[int, int]] = []
        quality = LabelQuality(datamodule.clean_targets, observed)
        trainer = make_trainer(PRL(0.4, ramp_epochs=4), quality, Counts(), *[saved][: checkpoint is None], **options)
        trainer.fit(classifier(), datamodule=datamodule, ckpt_path=checkpoint)
    assert counted == [(1, 16)] * 7
    assert "selection/precision" not in trainer.callback_metrics  # of a part of an epoch


# --- gradients of somebody else's module ---


def test_two_criteria_in_one_step(make_trainer: Make) -> None:
    """Each call of the criterion has gradients of its own, whichever forward passes came before it."""

    class Spy(PRL):
        def gradient_norms(self, losses: Tensor) -> Tensor:
            found.append(super().gradient_norms(losses))
            return found[-1]

    class Heads(Plain):
        def __init__(self) -> None:
            super().__init__(net=nn.Sequential(nn.Linear(64, 16), nn.ReLU()))
            self.a, self.b = nn.Linear(16, 10), nn.Linear(16, 10)

        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            x, y = batch
            hidden = self.net(x)
            loss = self.criterion(self.a(hidden), y) + 0.4 * self.criterion(self.b(hidden), y)
            with torch.no_grad():
                self.criterion(self.a(hidden), y)  # for a log
            return loss

    found: list[Tensor] = []
    torch.manual_seed(0)
    module = Heads()
    before = deepcopy(module)
    x, y = (values[:20] for values in problem("ce"))
    fit(module, [Spy(0.4, score="gradient")], (x, y), make_trainer, max_epochs=1)
    assert len(found) == 2
    for head, norms in zip((before.a, before.b), found, strict=True):
        net = nn.Sequential(before.net, head)
        torch.testing.assert_close(norms, per_sample_gradient_norms(net, F.cross_entropy, x, y))


# --- two networks ---


@pytest.mark.parametrize("second_forward", [False, True])
@pytest.mark.parametrize("score", ["loss_layer", "loss"])
@pytest.mark.parametrize("task", ["ce", "mse"])
def test_peers_choose_for_each_other(task: str, score: str, second_forward: bool, make_trainer: Make) -> None:
    torch.manual_seed(0)
    x, y = problem(task)
    options: dict[str, Any] = {"forget_rate": RATE, "score": score, "second_forward": second_forward, "ramp_epochs": 2}
    options["task"] = "regression" if task == "mse" else "classification"
    module = CoPRL(lambda: nn.Linear(64, 10), 10, partial(torch.optim.SGD, lr=LR), **options)
    nets = deepcopy([module.net.first, module.net.second])
    loader = indexed(DataLoader(TensorDataset(x, y), batch_size=20))
    fit(module, [], loader, make_trainer)
    loss: Any = F.mse_loss if task == "mse" else F.cross_entropy
    for epoch in range(3):
        for rows in torch.arange(60).split(20):
            rate = RATE * min((epoch + 1) / 2, 1)
            kept = [rows[keep_mask(scores(net, score, x[rows], y[rows]), rate)] for net in nets]
            assert epoch or not torch.equal(*kept)
            for net, chosen in zip(nets, kept[::-1], strict=True):
                net.zero_grad()
                loss(net(x[chosen]), y[chosen]).backward()
                with torch.no_grad():
                    for parameter in net.parameters():
                        parameter -= LR * parameter.grad
    for fitted, net in zip((module.net.first, module.net.second), nets, strict=True):
        torch.testing.assert_close(fitted.state_dict(), net.state_dict(), rtol=1e-5, atol=1e-6)


def test_two_networks_refuse_what_one_does() -> None:
    for options, message in (
        ({"forget_rate": -0.1}, "forget_rate must be a number in"),
        ({"score": "gradient"}, "score must be one of loss_layer, loss"),
        ({"second_forward": True, "scope": "global"}, "may leave a process without samples"),
        ({"second_forward": "yes"}, "second_forward must be true, false or auto, got 'yes'"),
        (
            {"second_forward": False, "bf16_scoring": True},
            "of the pass that second_forward adds, but second_forward is False",
        ),
    ):
        with pytest.raises(ValueError, match=message):
            CoPRL(lambda: nn.Linear(2, 2), 2, torch.optim.Adam, **({"forget_rate": 0.2} | options))


# --- several processes ---


@pytest.mark.processes
@pytest.mark.parametrize("method", ["prl_l", "prl_g", "co_prl_l"])
def test_the_global_scope_equals_one_process(method: str, tmp_path: Path) -> None:
    """So do the lengths of gradients under DDP, then."""
    overrides = ("method.scope=global", "data.batch_size=32", "trainer.max_epochs=3")
    two, _ = run_on_two_ranks(record, method, tmp_path / "two", "trainer=ddp_cpu", *overrides, folder=tmp_path)
    one = record(method, tmp_path / "one", *overrides)
    torch.testing.assert_close(two["weights"], one["weights"], rtol=1e-3, atol=1e-5)
    for name in ("selection/precision", "selection/recall"):
        assert two["history"][name] == pytest.approx(one["history"][name], abs=1e-6)
