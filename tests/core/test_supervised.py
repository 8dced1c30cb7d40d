"""Plain training of regressors and classifiers, and what it logs."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import lightning as L
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from sklearn.metrics import r2_score
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from noisylabels_pl.core import Classifier, Regressor
from noisylabels_pl.data import LabelNoise, SyntheticRegression

MakeTrainer = Callable[..., L.Trainer]
Data = tuple[Tensor, Tensor]


def regression(rows: int, outputs: int, seed: int = 0) -> Data:
    """Linear but for noise; sorted, so that batches differ, and with outputs of different scales."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(rows, 5, generator=generator)
    weights = torch.randn(5, outputs, generator=torch.Generator().manual_seed(99))
    y = 3 + torch.arange(1.0, outputs + 1) * (x @ weights + 0.5 * torch.randn(rows, outputs, generator=generator))
    order = y[:, 0].argsort()
    return x[order], y[order]


def loader(data: Data, batch_size: int = 7) -> DataLoader[Any]:
    return DataLoader(TensorDataset(*data), batch_size)


def regressor(outputs: int, lr: float = 0.02, **options: Any) -> Regressor:
    torch.manual_seed(0)
    return Regressor(nn.Linear(5, outputs), outputs, partial(torch.optim.SGD, lr=lr), **options)


def expected_r2(module: Regressor, data: Data, name: str) -> dict[str, float]:
    """As scikit-learn computes it, on all samples at once."""
    with torch.no_grad():
        truth, predicted = data[1].numpy(), module(data[0]).numpy()
    values = {f"{name}/r2": float(r2_score(truth, predicted, multioutput="uniform_average"))}
    if truth.shape[1] > 1:
        each = r2_score(truth, predicted, multioutput="raw_values")
        values |= {f"{name}/r2_{i}": float(value) for i, value in enumerate(each)}
    return values


class Compare(L.Callback):
    """The logged metrics of each epoch beside those computed anew from the network and all samples."""

    def __init__(self, data: dict[str, Data]) -> None:
        self.data = data
        self.logged: list[dict[str, float]] = []
        self.expected: list[dict[str, float]] = []

    def on_validation_end(self, trainer: L.Trainer, pl_module: Any) -> None:
        metrics = trainer.callback_metrics
        self.logged.append({name: float(value) for name, value in metrics.items() if "/r2" in name})
        everything = [expected_r2(pl_module, data, name) for name, data in self.data.items()]
        self.expected.append({name: value for values in everything for name, value in values.items()})


@pytest.mark.parametrize("outputs", [1, 2, 4])
@pytest.mark.parametrize("names", [("val",), ("val", "test"), ("test", "val"), ("test",)])
def test_r2_is_that_of_scikit_learn_at_every_epoch(
    make_trainer: MakeTrainer, outputs: int, names: tuple[str, ...]
) -> None:
    data = {
        name: regression(rows, outputs, seed) for seed, (name, rows) in enumerate(zip(names, (45, 31), strict=False))
    }
    compare = Compare(data)
    trainer = make_trainer(compare, max_epochs=3)
    trainer.fit(regressor(outputs), loader(regression(60, outputs, 5)), {name: loader(data[name]) for name in names})
    assert len(compare.logged) == 3
    for logged, expected in zip(compare.logged, compare.expected, strict=True):
        assert logged == pytest.approx(expected, abs=1e-4)  # no name too many either
    values = [logged[f"{names[0]}/r2"] for logged in compare.logged]
    assert values[0] != pytest.approx(values[2], abs=1e-2)


def test_r2_is_not_the_mean_over_batches(make_trainer: MakeTrainer) -> None:
    data, module = regression(45, 2), regressor(2)
    (logged,) = make_trainer().validate(module, loader(data), verbose=False)
    with torch.no_grad():
        parts = [r2_score(y.numpy(), module(x).numpy()) for x, y in loader(data)]
    assert logged["val/r2"] == pytest.approx(expected_r2(module, data, "val")["val/r2"], abs=1e-4)
    assert abs(logged["val/r2"] - sum(parts) / len(parts)) > 0.5  # batches are sorted by target


def test_r2_is_not_weighted_by_variance(make_trainer: MakeTrainer) -> None:
    x, y = regression(45, 2)
    y = y * torch.tensor([1.0, 100.0])
    module = regressor(2)
    (logged,) = make_trainer().validate(module, loader((x, y)), verbose=False)
    with torch.no_grad():
        weighted = r2_score(y.numpy(), module(x).numpy(), multioutput="variance_weighted")
    assert logged["val/r2"] == pytest.approx((logged["val/r2_0"] + logged["val/r2_1"]) / 2, abs=1e-4)
    assert abs(logged["val/r2"] - weighted) > 0.05


def test_metrics_start_anew_at_every_call(make_trainer: MakeTrainer) -> None:
    module, trainer = regressor(2), make_trainer()
    first, other = regression(45, 2), regression(33, 2, 1)
    for data in (first, other, first):
        (logged,) = trainer.validate(module, loader(data), verbose=False)
        wanted = expected_r2(module, data, "val")
        assert {name: logged[name] for name in wanted} == pytest.approx(wanted, abs=1e-4)


@pytest.mark.parametrize("outputs", [1, 3])
def test_trainer_test(make_trainer: MakeTrainer, outputs: int) -> None:
    data, module = regression(45, outputs), regressor(outputs)
    (logged,) = make_trainer().test(module, loader(data), verbose=False)
    with torch.no_grad():
        loss = float((module(data[0]) - data[1]).square().mean())
    assert logged == pytest.approx(expected_r2(module, data, "test") | {"test/loss": loss}, rel=1e-4, abs=1e-4)


@pytest.mark.parametrize("outputs", [1, 3])
def test_mean_squared_error_by_default(make_trainer: MakeTrainer, outputs: int) -> None:
    train, val, module = regression(45, outputs), regression(31, outputs, 1), regressor(outputs, lr=0.1)
    weight = module.net.weight.detach().clone().requires_grad_()  # type: ignore[union-attr]
    bias = module.net.bias.detach().clone()  # type: ignore[union-attr]
    loss = (train[0] @ weight.T + bias - train[1]).square().mean()
    loss.backward()
    loss = loss.detach()
    trainer = make_trainer(max_epochs=1)
    trainer.fit(module, loader(train, 45), loader(val))
    torch.testing.assert_close(module.net.weight.detach(), (weight - 0.1 * weight.grad).detach())  # type: ignore[union-attr]
    assert float(trainer.callback_metrics["train/loss"]) == pytest.approx(float(loss), rel=1e-5)
    with torch.no_grad():
        wanted = float((module(val[0]) - val[1]).square().mean())
    assert float(trainer.callback_metrics["val/loss"]) == pytest.approx(wanted, rel=1e-5)


def test_train_loss_is_the_mean_over_samples(make_trainer: MakeTrainer) -> None:
    train, module = regression(45, 2), regressor(2, lr=0.0)
    trainer = make_trainer(max_epochs=1)
    trainer.fit(module, loader(train, 20), loader(train))  # 20, 20 and 5
    with torch.no_grad():
        wanted = float((module(train[0]) - train[1]).square().mean())
    assert float(trainer.callback_metrics["train/loss"]) == pytest.approx(wanted, rel=1e-5)


class Stops(L.Callback):
    """Ends a fit, one way or the other, at the third batch of an epoch."""

    def __init__(self, epoch: int, *, fails: bool) -> None:
        self.epoch, self.fails = epoch, fails
        self.losses: list[float] = []  # of that epoch

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        if trainer.current_epoch == self.epoch:
            self.losses.append(float(outputs["loss"]))
        if (trainer.current_epoch, batch_idx) == (self.epoch, 2):
            if self.fails:
                raise InterruptedError
            trainer.should_stop = True


def test_train_loss_of_an_epoch_that_ends_early(make_trainer: MakeTrainer) -> None:
    """Of its first steps, not of the epoch before; and a fit that failed leaves nothing to the next one."""
    train, module = regression(45, 2), regressor(2, lr=0.1)
    checkpoint = ModelCheckpoint(monitor="train/loss")
    stops = Stops(1, fails=False)
    trainer = make_trainer(stops, checkpoint, max_epochs=3, min_epochs=1, enable_checkpointing=True)
    trainer.fit(module, loader(train, 5))
    assert trainer.global_step == 9 + 3
    assert checkpoint.best_model_score is not None
    assert float(trainer.callback_metrics["train/loss"]) == pytest.approx(stops.losses[0])

    module = regressor(2, lr=0.0)
    with pytest.raises(InterruptedError):
        make_trainer(Stops(0, fails=True), max_epochs=1).fit(module, loader((train[0] + 9, train[1]), 5))
    trainer = make_trainer(max_epochs=1)
    trainer.fit(module, loader(train, 5))
    with torch.no_grad():
        wanted = float((module(train[0]) - train[1]).square().mean())
    assert float(trainer.callback_metrics["train/loss"]) == pytest.approx(wanted, rel=1e-5)


def test_a_step_by_hand() -> None:
    (x, y), module = regression(45, 2), regressor(2)
    torch.testing.assert_close(module.training_step((x, y), 0), (module(x) - y).square().mean())


def test_another_criterion(make_trainer: MakeTrainer) -> None:
    train, module = regression(45, 2), regressor(2, lr=0.0, criterion=nn.HuberLoss(delta=0.5))
    trainer = make_trainer(max_epochs=1)
    trainer.fit(module, loader(train, 45), loader(train))
    with torch.no_grad():
        gap = (module(train[0]) - train[1]).abs()
    wanted = torch.where(gap <= 0.5, gap.square() / 2, 0.5 * (gap - 0.25)).mean()
    for name in ("train/loss", "val/loss"):
        assert float(trainer.callback_metrics[name]) == pytest.approx(float(wanted), rel=1e-5)
    assert float(trainer.callback_metrics["val/r2"]) == pytest.approx(
        expected_r2(module, train, "val")["val/r2"], abs=1e-4
    )


def test_scheduler_steps_once_an_epoch(make_trainer: MakeTrainer) -> None:
    rates = []

    class Watch(L.Callback):
        def on_train_batch_start(self, trainer: L.Trainer, *_: Any) -> None:
            rates.append(trainer.optimizers[0].param_groups[0]["lr"])

    module = regressor(2, lr=0.08, scheduler=partial(torch.optim.lr_scheduler.StepLR, step_size=1, gamma=0.5))
    make_trainer(Watch(), max_epochs=3).fit(module, loader(regression(14, 2)), loader(regression(14, 2)))
    assert rates == pytest.approx([0.08] * 2 + [0.04] * 2 + [0.02] * 2)


def test_it_learns_and_takes_the_datamodules_batches(make_trainer: MakeTrainer) -> None:
    data = SyntheticRegression(
        num_samples=1000, unpredictable=0.0, noise=LabelNoise("signflip", rate=0.3), batch_size=64
    )
    data.setup()
    torch.manual_seed(0)
    module = Regressor(nn.Linear(512, 10), 10, partial(torch.optim.Adam, lr=1e-3))
    trainer = make_trainer(max_epochs=12)
    trainer.fit(module, datamodule=data)
    metrics = {name: float(value) for name, value in trainer.callback_metrics.items()}
    assert metrics["test/r2"] > 0.2
    assert metrics["val/r2"] < metrics["test/r2"]  # three in ten validation targets are wrong
    arrays = data.arrays
    x = (arrays.x_test - arrays.mean) / arrays.std
    wanted = expected_r2(module, (x, arrays.y_test), "test")
    assert {name: metrics[name] for name in wanted} == pytest.approx(wanted, abs=1e-4)
    x = (arrays.x_train[data.val_indices] - arrays.mean) / arrays.std
    wanted = expected_r2(module, (x, data.labels.observed[data.val_indices]), "val")
    assert {name: metrics[name] for name in wanted} == pytest.approx(wanted, abs=1e-4)


def test_metrics_survive_a_checkpoint(make_trainer: MakeTrainer, tmp_path: Any) -> None:
    train, val = regression(45, 2), regression(31, 2, 1)
    trainer, module = make_trainer(max_epochs=1), regressor(2)
    trainer.fit(module, loader(train), loader(val))
    trainer.save_checkpoint(tmp_path / "last.ckpt")
    compare = Compare({"val": val})
    again = make_trainer(compare, max_epochs=2)
    again.fit(regressor(2), loader(train), loader(val), ckpt_path=tmp_path / "last.ckpt")
    assert compare.logged[-1] == pytest.approx(compare.expected[-1], abs=1e-4)


def test_r2_of_targets_with_a_large_mean(make_trainer: MakeTrainer) -> None:
    x, y = regression(2000, 1)
    y = y + 2000  # such as years
    module = regressor(1)
    with torch.no_grad():
        module.net.bias[:] = 2003  # type: ignore[union-attr, index]
    (logged,) = make_trainer().validate(module, loader((x, y), 500), verbose=False)
    assert logged["val/r2"] == pytest.approx(expected_r2(module, (x, y), "val")["val/r2"], abs=0.01)


# --- Classifier -------------------------------------------------------------------------------------------------------


def classes(rows: int, seed: int = 0) -> Data:
    x, y = regression(rows, 4, seed)
    return x, ((y - 3) / torch.arange(1, 5)).argmax(1)


def classifier() -> Classifier:
    torch.manual_seed(0)
    return Classifier(nn.Linear(5, 4), 4, partial(torch.optim.SGD, lr=0.3))


def test_accuracy_is_a_direct_count(make_trainer: MakeTrainer) -> None:
    data = {"val": classes(45), "test": classes(31, 1)}
    logged, counted = [], []

    class Count(L.Callback):
        def on_validation_end(self, trainer: L.Trainer, pl_module: Any) -> None:
            metrics = trainer.callback_metrics
            logged.append({name: float(value) for name, value in metrics.items() if not name.endswith("loss")})
            with torch.no_grad():
                right = {name: (pl_module(x).argmax(1) == y).tolist() for name, (x, y) in data.items()}
            counted.append({f"{name}/acc": sum(hits) / len(hits) for name, hits in right.items()})

    trainer = make_trainer(Count(), max_epochs=4)
    module = classifier()
    trainer.fit(module, loader(classes(60, 5)), {name: loader(rows) for name, rows in data.items()})
    assert len(logged) == 4
    for one, other in zip(logged, counted, strict=True):
        assert one == pytest.approx(other)
    assert counted[0] != counted[-1]
    (tested,) = trainer.test(module, loader(data["test"]), verbose=False)
    assert tested["test/acc"] == pytest.approx(counted[-1]["test/acc"])


def test_cross_entropy_by_default(make_trainer: MakeTrainer) -> None:
    (x, y), module = classes(45), classifier()
    with torch.no_grad():
        wanted = -module(x).log_softmax(1)[torch.arange(45), y].mean()
    (logged,) = make_trainer().validate(module, loader((x, y)), verbose=False)
    assert logged["val/loss"] == pytest.approx(float(wanted), rel=1e-5)


def test_a_validation_loader_with_another_name(make_trainer: MakeTrainer) -> None:
    data = {"val": classes(45), "held_out": classes(31, 1)}
    module, trainer = classifier(), make_trainer(max_epochs=2)
    trainer.fit(module, loader(classes(60, 5)), {name: loader(rows) for name, rows in data.items()})
    x, y = data["held_out"]
    with torch.no_grad():
        accuracy = (module(x).argmax(1) == y).float().mean()
    assert float(trainer.callback_metrics["held_out/acc"]) == pytest.approx(float(accuracy))
