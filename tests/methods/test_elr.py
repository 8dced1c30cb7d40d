"""ELR: its targets through a fit, and what it does to memorization on real digits."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from typing import Any

import lightning as L
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from noisylabels_pl import ELR, indexed
from noisylabels_pl.callbacks import History, LabelQuality
from tests.helpers import WithCriterion, foreign_loader

Make = Callable[..., Any]


def fit(digits: Make, classifier: Make, make_trainer: Make, *callbacks: L.Callback, **options: Any) -> History:
    datamodule, history = digits(train_size=1000), History()
    quality = LabelQuality(datamodule.clean_targets, datamodule.labels.observed[datamodule.train_indices])
    trainer = make_trainer(*callbacks, quality, history, **({"max_epochs": 30} | options))
    trainer.fit(classifier(), datamodule=datamodule)
    return history


def test_it_keeps_wrong_labels_from_being_memorized(digits: Make, classifier: Make, make_trainer: Make) -> None:
    plain = fit(digits, classifier, make_trainer).rows[-1]
    regularized = fit(digits, classifier, make_trainer, ELR(lam=3.0, beta=0.7)).rows[-1]
    assert regularized["train/memorized"] < 0.5 * plain["train/memorized"]
    assert regularized["test/acc"] > plain["test/acc"] + 0.05
    assert regularized["train/loss"] < 0  # as in the paper: the penalty has no lower bound but the clamp's


def test_targets_say_which_labels_are_wrong(digits: Make, classifier: Make, make_trainer: Make) -> None:
    method, datamodule = ELR(lam=3.0, beta=0.7), digits(train_size=1000)
    make_trainer(method, max_epochs=30).fit(classifier(), datamodule=datamodule)
    targets: Tensor = method.targets.rows
    torch.testing.assert_close(targets.sum(1), torch.full((len(targets),), 1 - 0.7**30))
    right = targets.argmax(1) == datamodule.clean_targets
    observed = datamodule.labels.observed[datamodule.train_indices] == datamodule.clean_targets
    assert right.double().mean() > observed.double().mean() + 0.2


def test_without_a_penalty_it_is_cross_entropy(digits: Make, classifier: Make, make_trainer: Make) -> None:
    histories = [fit(digits, classifier, make_trainer, *callbacks, max_epochs=3) for callbacks in ([ELR(lam=0.0)], [])]
    for name in ("train/loss", "test/acc"):
        assert histories[0].column(name) == pytest.approx(histories[1].column(name), rel=1e-4)


def test_a_forward_pass_whose_step_is_skipped_leaves_no_trace(make_trainer: Make) -> None:
    class Skips(WithCriterion):
        """Returns no loss where that is NaN, as a GradScaler skips the step."""

        num_skipped = 0

        def training_step(self, batch: Any, batch_idx: int) -> Any:
            x, y = batch
            scale = float("nan") if (self.current_epoch, batch_idx) == (1, 0) else 1.0
            loss = self.criterion(scale * self(x), y)
            if loss.isfinite():
                return loss
            self.num_skipped += 1
            return None

    method, module = ELR(), Skips()
    loader = indexed(DataLoader(TensorDataset(torch.randn(60, 64), torch.arange(60) % 10), 20, shuffle=True))
    make_trainer(method, max_epochs=3).fit(module, loader)
    assert module.num_skipped == 1
    assert method.targets.rows is not None
    totals = method.targets.rows.sum(1)
    torch.testing.assert_close(totals.sort().values[[0, 19, 20, -1]], 1 - 0.7 ** torch.tensor([2.0, 2, 3, 3]))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"lam": -1.0}, "lam must not be negative, got -1.0"),
        ({"lam": float("nan")}, r"lam must be a number in \[0, inf\), got nan"),
        ({"beta": float("nan")}, r"beta must lie in \[0, 1\), got nan"),
        ({"beta": 1.0}, r"beta must lie in \[0, 1\), got 1.0"),
        ({"penalty": "l2"}, "penalty must be one of log, kl, got 'l2'"),
    ],
)
def test_wrong_options(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ELR(**options)


def test_the_callback_is_the_released_loss(digits: Make, make_trainer: Make) -> None:
    torch.manual_seed(0)
    module, lam, beta = WithCriterion(), 3.0, 0.7
    module.net[-1].weight.data *= 20  # sure from the start, so that both ends of the clamp matter
    restated = deepcopy(module)
    make_trainer(ELR(lam=lam, beta=beta), max_epochs=3).fit(module, indexed(foreign_loader(digits()), as_batches=True))
    optimizer, targets = restated.configure_optimizers(), torch.zeros(300, 10)
    got, expected, clamped = [], [], torch.zeros(2)
    for recorded, loss, _ in module.losses:
        (x, y), rows = recorded, recorded.index
        logits = restated(x)
        p = logits.softmax(1)
        clamped += torch.stack([(p < 1e-4).sum(), (p > 1 - 1e-4).sum()])
        p = p.clamp(1e-4, 1 - 1e-4)
        seen = p.detach()
        targets[rows] = beta * targets[rows] + (1 - beta) * seen / seen.sum(1, keepdim=True)
        reg = (1 - (p * targets[rows]).sum(1)).log().mean()
        total = F.cross_entropy(logits, y) + lam * reg
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        got.append(loss)
        expected.append(total.detach())
    visits = torch.cat([recorded.index for recorded, _, _ in module.losses]).bincount()
    assert (visits == 3).all()
    assert (clamped > 5).all()
    torch.testing.assert_close(torch.stack(got), torch.stack(expected), rtol=1e-6, atol=1e-6)
