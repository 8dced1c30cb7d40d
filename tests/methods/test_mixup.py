"""Mixup: what a step is given, that loss and inputs go together, and what it does to memorization."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from noisylabels_pl import ELR, SPL, Crust, GCELoss, Mixup, RobustLoss
from noisylabels_pl.callbacks import History, LabelQuality
from noisylabels_pl.functional import generalized_cross_entropy
from tests.core.combined import fit, same_weights
from tests.helpers import WithCriterion

Make = Callable[..., Any]


class Recomputes(WithCriterion):
    """Compares its loss with the mixture of the losses of both labels."""

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        x, y = batch
        logits = self(x)
        loss = self.criterion(logits, y)
        mixup = next(callback for callback in self.trainer.callbacks if isinstance(callback, Mixup))
        partners, coefficient = mixup._partners, mixup._coefficient
        own, other = (F.cross_entropy(logits, labels) for labels in (y, y[partners]))
        torch.testing.assert_close(loss, coefficient * own + (1 - coefficient) * other)
        self.seen = [*getattr(self, "seen", []), (coefficient, partners)]
        return loss


def test_the_loss_is_that_of_mixed_labels(digits: Make, make_trainer: Make) -> None:
    module = fit(digits, make_trainer, Mixup(alpha=2.0), module=Recomputes)
    coefficients = [coefficient for coefficient, _ in module.seen]
    assert len(set(coefficients)) == len(coefficients)
    assert min(coefficients) < 0.3
    assert max(coefficients) > 0.7
    for _, partners in module.seen:
        assert torch.equal(partners.sort().values, torch.arange(len(partners)))
    soft = F.one_hot(torch.tensor([0, 1]), 3).float()
    logits, mixed = torch.randn(2, 3), 0.3 * soft + 0.7 * soft.flip(0)
    losses = F.cross_entropy(logits, soft.argmax(1), reduction="none")
    other = F.cross_entropy(logits, soft.flip(0).argmax(1), reduction="none")
    torch.testing.assert_close(F.cross_entropy(logits, mixed, reduction="none"), 0.3 * losses + 0.7 * other)


@pytest.mark.parametrize("as_dict", [False, True])
def test_inputs_are_mixed_in_any_batch_and_the_dataset_keeps_its_own(make_trainer: Make, as_dict: bool) -> None:
    class Watches(WithCriterion):
        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            x, y = batch.values() if isinstance(batch, dict) else batch
            seen.append((x.clone(), y.clone()))
            return self.criterion(self(x), y)

    seen: list[tuple[Tensor, Tensor]] = []
    x, y = torch.rand(32, 64), torch.arange(32) % 10
    dataset: Any = TensorDataset(x, y)
    if as_dict:
        dataset = [{"x": x[i], "y": y[i]} for i in range(32)]
    original = x.clone()
    mixup = Mixup()
    make_trainer(mixup, max_epochs=1).fit(Watches(), DataLoader(dataset, batch_size=32))
    lam, partners = mixup._coefficient, mixup._partners
    torch.testing.assert_close(seen[0][0], lam * original + (1 - lam) * original[partners])
    assert torch.equal(seen[0][1], y)
    assert torch.equal(x, original)


def test_another_loss_is_mixed_in_the_same_way(digits: Make, make_trainer: Make) -> None:
    class WithGCE(WithCriterion):
        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            x, y = batch
            logits = self(x)
            loss = self.criterion(logits, y)
            own, other = (generalized_cross_entropy(logits, labels).mean() for labels in (y, y[mixup._partners]))
            torch.testing.assert_close(loss, mixup._coefficient * own + (1 - mixup._coefficient) * other)
            return loss

    mixup = Mixup()
    modules = [fit(digits, make_trainer, *order, module=WithGCE) for order in ([mixup, gce()], [gce(), mixup])]
    assert same_weights(modules)


def gce() -> RobustLoss:
    return RobustLoss(GCELoss())


def test_the_seed_chooses_the_mixtures(digits: Make, make_trainer: Make) -> None:
    first, again, other = (fit(digits, make_trainer, Mixup(seed=seed)) for seed in (0, 0, 1))
    assert same_weights([first, again])
    assert not same_weights([first, other])


def test_it_keeps_wrong_labels_from_being_memorized(digits: Make, classifier: Make, make_trainer: Make) -> None:
    rows = []
    for callbacks in ([], [Mixup(8.0)]):
        datamodule, history = digits(train_size=1000), History()
        quality = LabelQuality(datamodule.clean_targets, datamodule.labels.observed[datamodule.train_indices])
        make_trainer(*callbacks, quality, history, max_epochs=30).fit(classifier(), datamodule=datamodule)
        rows.append(history.rows[-1])
    assert rows[1]["train/memorized"] < rows[0]["train/memorized"]
    assert rows[1]["test/acc"] > rows[0]["test/acc"] + 0.03


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (lambda: SPL(0.2), "SPL judges each sample, but Mixup mixes samples; leave one of them out"),
        (ELR, "ELR keeps a record of each sample, but Mixup mixes samples"),
        (lambda: Crust(warmup_epochs=1), "cannot be combined: both mix samples"),
    ],
)
def test_what_cannot_be_combined_is_refused(digits: Make, make_trainer: Make, other: Make, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        fit(digits, make_trainer, Mixup(), other())


def test_inputs_that_cannot_be_mixed_are_refused(make_trainer: Make) -> None:
    loader = DataLoader(TensorDataset(torch.zeros(8, 64, dtype=torch.uint8), torch.arange(8)), batch_size=4)
    with pytest.raises(TypeError, match=r"Mixup mixes inputs, but a batch \(list\) has no floating-point tensor"):
        make_trainer(Mixup(), max_epochs=1).fit(WithCriterion(), loader)
    with pytest.raises(ValueError, match="alpha must be positive, got 0"):
        Mixup(alpha=0)
