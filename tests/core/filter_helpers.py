"""Networks, data and restatements that the tests of filters share."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from functools import partial
from typing import Any

import lightning as L
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from noisylabels_pl import indexed, per_sample_gradient_norms
from noisylabels_pl.callbacks import LabelQuality
from noisylabels_pl.functional import keep_mask, loss_layer_gradient_norm
from tests.helpers import Tutorial

Make = Callable[..., Any]
RATE, LR = 0.4, 0.1


class Plain(Tutorial):
    """Takes plain gradient steps, so that a loop can restate them, and records the inputs of each step."""

    def __init__(self, criterion: nn.Module | None = None, net: nn.Module | None = None) -> None:
        super().__init__()
        self.criterion = criterion or nn.CrossEntropyLoss()
        self.net = net or self.net
        self.seen: list[Tensor] = []

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        x, y = batch
        self.seen.append(x.clone())
        return self.criterion(self(x), y)

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=LR)


class Normalized(nn.Sequential):
    """With batch normalization, as most networks."""

    def __init__(self) -> None:
        super().__init__(nn.Flatten(), nn.Linear(64, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Linear(32, 10))


class RecordsPasses(Normalized):
    """Records the size and the modes of each forward pass."""

    def __init__(self) -> None:
        super().__init__()
        self.passes: list[Any] = []

    def forward(self, x: Tensor) -> Tensor:
        self.passes.append((len(x), self.training, torch.is_grad_enabled(), torch.is_autocast_enabled("cpu")))
        return super().forward(x)


def problem(task: str) -> tuple[Tensor, Tensor]:
    """Inputs and targets of 60 samples, for ``ce`` or ``mse``."""
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(60, 64, generator=generator)
    if task == "mse":
        return x, torch.randn(60, 10, generator=generator)
    return x, torch.randint(10, (60,), generator=generator)


def loader_of(data: tuple[Tensor, Tensor]) -> DataLoader[Any]:
    """Batches of 20 in the order of the data, without positions."""
    return DataLoader(TensorDataset(*data), batch_size=20)


def scores(net: nn.Module, score: str, x: Tensor, y: Tensor) -> Tensor:
    """A restatement of each method's scores: ``loss_layer``, ``loss`` or ``gradient``."""
    task = "mse" if y.is_floating_point() else "ce"
    loss: Any = F.mse_loss if task == "mse" else F.cross_entropy
    with torch.no_grad():
        if score == "loss_layer":
            return loss_layer_gradient_norm(net(x), y, task)
        if score == "loss":
            return loss(net(x), y, reduction="none").reshape(len(y), -1).mean(1)
    return per_sample_gradient_norms(net, loss, x, y)


def fit(module: L.LightningModule, callbacks: list[L.Callback], data: Any, make_trainer: Make, **options: Any) -> Any:
    """Fit on a loader or on tensors, and return the module."""
    trainer = make_trainer(*callbacks, **({"max_epochs": 3} | options))
    trainer.fit(module, loader_of(data) if isinstance(data, tuple) else data)
    return module


def step(net: nn.Module, loss: Tensor) -> None:
    """A plain gradient step."""
    net.zero_grad()
    loss.backward()
    with torch.no_grad():
        for parameter in net.parameters():
            parameter -= LR * parameter.grad


def assert_a_loop_restates(method: L.Callback, score: str, task: str, second_forward: bool, make_trainer: Make) -> None:
    """Training with the method equals a loop that scores, drops and steps."""
    torch.manual_seed(0)
    module = Plain(nn.MSELoss() if task == "mse" else None)
    net = deepcopy(module.net)
    x, y = problem(task)
    loader: Any = loader_of((x, y))
    loader = indexed(loader) if second_forward else loader  # masking needs no positions
    fit(module, [method], loader, make_trainer)
    loss: Any = F.mse_loss if task == "mse" else F.cross_entropy
    for _ in range(3):
        for rows in torch.arange(60).split(20):
            kept = rows[keep_mask(scores(net, score, x[rows], y[rows]), RATE)]
            assert len(kept) == 12
            step(net, loss(net(x[kept]), y[kept]))
    torch.testing.assert_close(module.net.state_dict(), net.state_dict(), rtol=1e-5, atol=1e-6)
    assert {len(x) for x in module.seen} == ({20, 12} if second_forward else {20})  # scored, then trained


def assert_peers_choose_for_each_other(
    twin: Callable[..., Any], score: str, task: str, second_forward: bool, make_trainer: Make
) -> None:
    """Training two networks equals a loop in which each steps on the samples that its peer scores lowest."""
    torch.manual_seed(0)
    x, y = problem(task)
    options: dict[str, Any] = {"forget_rate": RATE, "second_forward": second_forward, "ramp_epochs": 2}
    options["task"] = "regression" if task == "mse" else "classification"
    module = twin(lambda: nn.Linear(64, 10), 10, partial(torch.optim.SGD, lr=LR), **options)
    nets = deepcopy([module.net.first, module.net.second])
    fit(module, [], indexed(loader_of((x, y))), make_trainer)
    loss: Any = F.mse_loss if task == "mse" else F.cross_entropy
    for epoch in range(3):
        for rows in torch.arange(60).split(20):
            rate = RATE * min((epoch + 1) / 2, 1)
            kept = [rows[keep_mask(scores(net, score, x[rows], y[rows]), rate)] for net in nets]
            assert epoch or not torch.equal(*kept)
            for net, chosen in zip(nets, kept[::-1], strict=True):
                step(net, loss(net(x[chosen]), y[chosen]))
    for fitted, net in zip((module.net.first, module.net.second), nets, strict=True):
        torch.testing.assert_close(fitted.state_dict(), net.state_dict(), rtol=1e-5, atol=1e-6)


def assert_kept_samples_are_cleaner(method: L.Callback, digits: Make, classifier: Make, make_trainer: Make) -> None:
    """On digits with 40 % wrong labels, most of the kept labels are right."""
    datamodule = digits(train_size=1000)
    observed = datamodule.labels.observed[datamodule.train_indices]
    quality = LabelQuality(datamodule.clean_targets, observed)
    trainer = make_trainer(method, quality, max_epochs=10)
    trainer.fit(classifier(), datamodule=datamodule)
    metrics = trainer.callback_metrics
    pool = float((datamodule.clean_targets == observed).double().mean())
    assert metrics["selection/precision"] > 0.85 > pool + 0.2
    assert metrics["selection/recall"] == pytest.approx(float(metrics["selection/precision"]) * 0.6 / pool, abs=0.03)
