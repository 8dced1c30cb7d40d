"""ELR+ against a loop that restates it, with each ingredient on and off."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from functools import partial
from itertools import pairwise
from typing import Any

import lightning as L
import numpy as np
import pytest
import torch
from torch import Tensor, nn

from noisylabels_pl import ELRPlus
from noisylabels_pl.callbacks import History, LabelQuality
from noisylabels_pl.nets import mlp

Make = Callable[..., Any]
SGD = partial(torch.optim.SGD, lr=0.1, momentum=0.9)


def make(**options: Any) -> ELRPlus:
    torch.manual_seed(0)
    return ELRPlus(partial(mlp, (1, 8, 8), 10, hidden=(32,)), 10, SGD, **options)


class Batches(L.Callback):
    """Records the batch of each step."""

    def __init__(self) -> None:
        self.seen: list[tuple[int, int, Tensor, Tensor, Tensor]] = []

    def on_train_batch_start(self, trainer: L.Trainer, module: Any, batch: Any, batch_idx: int) -> None:
        self.seen.append((trainer.current_epoch, batch_idx, batch.x, batch.y, batch.index))


def ramp(step: int, length: int) -> float:
    return float(np.exp(-5 * (1 - min(step, length) / length) ** 2))


def restated(
    nets: list[nn.Module],
    batches: Batches,
    samples: int,
    *,
    beta: float,
    two_networks: bool,
    weight_average: bool,
    mixup_alpha: float,
    ema_ramp: int,
    coef_ramp: int,
    refine_labels: bool,
) -> tuple[list[nn.Module], list[Tensor]]:
    """The public code's steps, for both networks in turn on each batch, with an optimizer for each."""
    averages = [deepcopy(net) for net in nets]
    teachers = averages if weight_average else nets
    optimizers = [SGD(net.parameters()) for net in nets]
    targets = [torch.zeros(samples, 10) for _ in nets]
    for step, (epoch, batch_idx, x, y, index) in enumerate(batches.seen):
        losses = []
        for number, net in enumerate(nets):
            teacher = teachers[1 - number] if two_networks else teachers[number]
            with torch.no_grad():
                targets[number][index] = beta * targets[number][index] + (1 - beta) * teacher(x).softmax(1)
            q, labels, inputs = targets[number][index], torch.eye(10)[y], x
            if mixup_alpha:
                rng = np.random.default_rng([0, epoch, batch_idx, 0, number])
                lam = rng.beta(mixup_alpha, mixup_alpha)
                lam, other = max(lam, 1 - lam), rng.permutation(len(y))
                inputs, labels, q = (lam * v + (1 - lam) * v[other] for v in (inputs, labels, q))
            logits = net(inputs)
            if refine_labels:
                labels = labels * q / (labels * q).sum(1, keepdim=True)
            inner = (logits.softmax(1).clamp(1e-4, 1 - 1e-4) * q).sum(1)
            lam_now = 3.0 * ramp(step + 1, coef_ramp) if coef_ramp else 3.0
            losses.append((-(labels * logits.log_softmax(1)).sum(1) + lam_now * (1 - inner).log()).mean())
        for optimizer, loss in zip(optimizers, losses, strict=True):
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        alpha = 0.9 * ramp(step + 2, ema_ramp)
        for average, net in zip(averages, nets, strict=True):
            for value, weight in zip(average.parameters(), net.parameters(), strict=True):
                value.data = alpha * value.data + (1 - alpha) * weight.data
    return averages, targets


@pytest.mark.parametrize("two_networks", [True, False])
@pytest.mark.parametrize("weight_average", [True, False])
@pytest.mark.parametrize("mixup_alpha", [1.0, 0.0])
@pytest.mark.parametrize("extras", [{}, {"refine_labels": True, "coef_ramp": 20}])
def test_it_equals_a_restatement(
    digits: Make,
    make_trainer: Make,
    two_networks: bool,
    weight_average: bool,
    mixup_alpha: float,
    extras: dict[str, Any],
) -> None:
    options = {"beta": 0.7, "ema_ramp": 30, "coef_ramp": 0, "refine_labels": False} | extras
    options |= {"two_networks": two_networks, "weight_average": weight_average, "mixup_alpha": mixup_alpha}
    module, batches, datamodule = make(ema_alpha=0.9, **options), Batches(), digits()
    nets = [deepcopy(module.net.first), deepcopy(module.net.second)][: 2 if options["two_networks"] else 1]
    second = deepcopy(module.net.second.state_dict())
    make_trainer(batches, max_epochs=2).fit(module, datamodule=datamodule)
    teachers, targets = restated(nets, batches, len(datamodule.train_indices), **options)
    for net, expected in zip((module.net.first, module.net.second), nets, strict=False):
        for name, value in expected.state_dict().items():
            torch.testing.assert_close(net.state_dict()[name], value, rtol=1e-3, atol=1e-5)
    for table, expected_targets in zip(module.targets, targets, strict=False):
        torch.testing.assert_close(table.rows, expected_targets, rtol=1e-3, atol=1e-5)
    if options["weight_average"]:
        torch.testing.assert_close(module.teachers[0].state_dict(), teachers[0].state_dict(), rtol=1e-3, atol=1e-5)
    if not options["two_networks"]:
        for name, value in second.items():
            assert torch.equal(module.net.second.state_dict()[name], value)
        x = batches.seen[0][2]
        assert torch.equal(module(x), module.net.first(x))


def test_teachers_wait_for_accumulated_gradients(digits: Make, make_trainer: Make) -> None:
    class Sums(L.Callback):
        def on_train_batch_end(self, trainer: L.Trainer, module: Any, *_: Any) -> None:
            sums.append(float(sum(p.double().sum() for p in module.teachers[0].parameters())))

    sums: list[float] = []
    make_trainer(Sums(), max_epochs=1, accumulate_grad_batches=3).fit(make(ema_ramp=0), datamodule=digits())
    changed = [a != b for a, b in pairwise(sums)]
    # Nine batches; teachers follow after the third, sixth and ninth, before callbacks save a checkpoint.
    assert changed == [False, True, False, False, True, False, False, True]


def test_it_keeps_wrong_labels_from_being_memorized(digits: Make, make_trainer: Make) -> None:
    datamodule, history = digits(train_size=1000), History()
    quality = LabelQuality(datamodule.clean_targets, datamodule.labels.observed[datamodule.train_indices])
    torch.manual_seed(0)
    module = ELRPlus(partial(mlp, (1, 8, 8), 10), 10, partial(torch.optim.SGD, lr=0.1), ema_ramp=500)
    make_trainer(quality, history, max_epochs=30).fit(module, datamodule=datamodule)
    assert history.rows[-1]["train/memorized"] < 0.15
    assert history.rows[-1]["test/acc"] > 0.93
    assert not [name for name, value in module.named_parameters() if "teachers" in name and value.requires_grad]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"lam": -1.0}, "lam must not be negative, got -1.0"),
        ({"mixup_alpha": -1.0}, "mixup_alpha must not be negative, got -1.0"),
        ({"ema_ramp": -1}, "ema_ramp must not be negative, got -1"),
        ({"coef_ramp": -1}, "coef_ramp must not be negative, got -1"),
        ({"beta": 1.0}, r"beta must lie in \[0, 1\), got 1.0"),
        ({"ema_alpha": 1.0}, r"ema_alpha must lie in \[0, 1\), got 1.0"),
    ],
)
def test_wrong_options(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make(**options)
